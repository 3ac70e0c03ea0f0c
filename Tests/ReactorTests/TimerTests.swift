import Glibc
import Testing

@testable import Reactor

@Suite(.onEachLoop) struct TimerTests {
    @Test func neverEarlyAndSoonAfter() throws {
        let scene = try Scene()
        var late: [Int64] = []
        for delay in [0, 1, 999, 1000, 1001, 5_500, 20_000, 50_000] as [Int64] {
            let due = scene.loop.now + delay
            _ = Timer(loop: scene.loop, after: delay) { timer in
                late.append(monotonicNow() - due)
                timer.cancel()
            }
        }
        scene.when("all have fired") { late.count == 8 }
        scene.run()
        #expect(late.allSatisfy { $0 >= 0 && $0 < 500_000 }, "\(late)")
    }

    @Test func inTheOrderOfTheirTimes() throws {
        let scene = try Scene()
        var fired: [Int64] = []
        for delay in [9, 3, 7, 1, 5, 2, 8, 4, 6] as [Int64] {
            _ = Timer(loop: scene.loop, after: delay * 2000) { timer in
                fired.append(delay)
                timer.cancel()
            }
        }
        scene.when("all have fired") { fired.count == 9 }
        scene.run()
        #expect(fired == [1, 2, 3, 4, 5, 6, 7, 8, 9])
    }

    @Test func movedLaterAndEarlier() throws {
        let scene = try Scene()
        let start = scene.loop.now
        var later: Int64?
        var earlier: Int64?
        let first = Timer(loop: scene.loop, after: 5_000) { _ in later = monotonicNow() - start }
        let second = Timer(loop: scene.loop, after: 30_000_000) { _ in earlier = monotonicNow() - start }
        first.restart(after: 40_000)
        second.restart(after: 10_000)
        scene.when("both have fired") { later != nil && earlier != nil }
        scene.run()
        #expect(try #require(later) >= 40_000)
        #expect(try #require(earlier) >= 10_000)
        #expect(try #require(earlier) < 5_000_000)
    }

    @Test func setManyTimesFiresOnce() throws {
        let scene = try Scene()
        var count = 0
        let timer = Timer(loop: scene.loop, after: 1_000) { _ in count += 1 }
        for delay in [20_000, 3_000, 9_000, 2_000, 15_000, 4_000, 4_000] as [Int64] { timer.restart(after: delay) }
        let end = scene.loop.now + 60_000
        scene.when("time has passed") { monotonicNow() > end }
        scene.run()
        #expect(count == 1)
    }

    @Test func cancelledBeforeAndWithinItsAction() throws {
        let scene = try Scene()
        var fired: [String] = []
        let before = Timer(loop: scene.loop, after: 2_000) { _ in fired.append("before") }
        before.cancel()
        _ = Timer(loop: scene.loop, after: 2_000) { timer in
            fired.append("within")
            timer.cancel()
            timer.restart(after: 1_000)
        }
        // Two that are due at the same moment: the first to fire cancels the other.
        var pair: [Timer] = []
        for _ in 0..<2 {
            pair.append(
                Timer(loop: scene.loop, after: 3_000) { _ in
                    fired.append("one of two")
                    for timer in pair { timer.cancel() }
                })
        }
        let end = scene.loop.now + 30_000
        scene.when("time has passed") { monotonicNow() > end }
        scene.run()
        #expect(fired == ["within", "one of two"])
    }

    @Test func repeats() throws {
        let scene = try Scene()
        var times: [Int64] = []
        _ = Timer(loop: scene.loop, after: 2_000) { timer in
            times.append(monotonicNow())
            timer.restart(after: 2_000)
        }
        scene.when("it has fired five times") { times.count >= 5 }
        scene.run()
        #expect(zip(times, times.dropFirst()).allSatisfy { $1 - $0 >= 1_000 })
    }

    @Test func restartedWithNoDelayLeavesTimeForSockets() throws {
        let scene = try Scene()
        let (connection, peer) = try connectionPair(scene, .unix)
        _ = Timer(loop: scene.loop, after: 0) { timer in timer.restart(after: 0) }
        scene.when("the loop turns", { true }, then: { peer.write([1]) })
        scene.when("the socket is read") { connection.input == [1] }
        scene.run()
        connection.close()
    }

    /// A short and a long deadline in turns, as a query's and an idle client's: the long ones are left behind in the
    /// heap when the short one overtakes them.
    @Test func staleEntriesDoNotPileUp() throws {
        let scene = try Scene()
        var most = 0
        var rounds = 0
        let source = Timer(loop: scene.loop, after: 3_600_000_000) { _ in }
        for index in 0..<100_000 as Range<Int64> {
            source.restart(after: 3_600_000_000 - index)
            most = max(most, scene.loop.timerCount)
        }
        for _ in 0..<10_000 { Timer(loop: scene.loop, after: 3_600_000_000) { _ in }.cancel() }
        most = max(most, scene.loop.timerCount)
        source.restart(after: 1_000)
        scene.when("the last one is kept") {
            rounds += 1
            return scene.loop.timerCount < 100 && rounds > 3
        }
        scene.run()
        #expect(most < 200)
    }

    /// A crowd that is thrown out together, say.
    @Test func deadlinesThatComeTogetherLetSocketsBeRead() throws {
        let scene = try Scene()
        let (connection, peer) = try connectionPair(scene, .tcp)
        var fired = 0
        var firedWhenRead: Int?
        connection.consume = { bytes in
            firedWhenRead = fired
            return bytes.count
        }
        let timers = (0..<1000).map { _ in
            Timer(loop: scene.loop, after: 1_000) { _ in
                if fired == 0 { #expect(peer.write([1]) == 1) }
                fired += 1
            }
        }
        scene.when("all have fired") { fired == timers.count && connection.input == [1] }
        scene.run()
        #expect(try #require(firedWhenRead) <= 2 * EventLoop.deadlinesPerTurn)
        connection.close()
    }

    @Test func aDeadlineOfAConnection() throws {
        let scene = try Scene()
        let (ours, theirs) = try socketPair(.unix)
        let peer = Peer(theirs)
        let connection = Recorder(loop: scene.loop, socket: Socket(ours))
        var timeouts = 0
        connection.onTimeout = { timeouts += 1 }
        // Set before the connection is watched.
        connection.setDeadline(scene.loop.now + 3_000)
        connection.start()
        scene.when("it has timed out", { timeouts == 1 }, then: { connection.setDeadline(.max) })
        scene.run()
        #expect(connection.deadline == .max)
        connection.close()
        peer.close()
    }
}
