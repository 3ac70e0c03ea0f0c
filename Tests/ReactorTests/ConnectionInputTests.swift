import Glibc
import Testing

@testable import Reactor

@Suite(.onEachLoop) struct ConnectionInputTests {
    @Test(arguments: Transport.allCases)
    func bytesArrive(_ transport: Transport) throws {
        let scene = try Scene()
        let (connection, peer) = try connectionPair(scene, transport)
        peer.write([1, 2, 3])
        scene.when("they are there", { connection.input == [1, 2, 3] }, then: { peer.write([4]) })
        scene.when("so are more", { connection.input == [1, 2, 3, 4] }, then: { peer.close() })
        scene.when("the end is told") { connection.end == .endOfFile }
        scene.run()
        #expect(connection.endCount == 1)
        #expect(connection.isClosed)
        #expect(connection.heldInput == 0)
    }

    @Test func whatIsNotConsumedIsPresentedAgain() throws {
        let scene = try Scene()
        let (connection, peer) = try connectionPair(scene, .unix)
        // Messages of four bytes.
        connection.consume = { $0.count / 4 * 4 }
        peer.write([1, 2, 3, 4, 5, 6])
        scene.when("the rest is held", { connection.heldInput == 2 }, then: { peer.write([7]) })
        scene.when("more is held", { connection.heldInput == 3 }, then: { peer.write([8, 9]) })
        scene.when("one is held", { connection.heldInput == 1 }, then: { peer.write([10, 11, 12]) })
        scene.when("nothing is held") { connection.heldInput == 0 && connection.input.count == 12 }
        scene.run()
        #expect(connection.input == Array(1...12))
        #expect(connection.shown == [Array(1...6), Array(5...7), Array(5...9), Array(9...12)])
        connection.close()
    }

    @Test func aLongMessageIsGathered() throws {
        let scene = try Scene()
        let (connection, peer) = try connectionPair(scene, .unix)
        let message = pattern(1_000_000)
        connection.consume = {
            connection.holdLimit = message.count
            return $0.count < message.count ? 0 : message.count
        }
        var sent = 0
        scene.when("it is there") {
            if sent < message.count { sent += max(0, peer.write(Array(message[sent...].prefix(50_000)))) }
            return connection.input == message
        }
        scene.run()
        #expect(connection.heldInput == 0)
        connection.close()
    }

    @Test(arguments: Transport.allCases)
    func readingStopsAtTheHoldLimit(_ transport: Transport) throws {
        let scene = try Scene()
        let (connection, peer) = try connectionPair(scene, transport)
        connection.consume = { _ in 0 }
        connection.holdLimit = 1000
        peer.write(pattern(600))
        scene.when("600 are held", { connection.heldInput == 600 }, then: { peer.write(pattern(600)) })
        scene.when("1200 are held", { connection.heldInput == 1200 }, then: { peer.write(pattern(600)) })
        var turns = 0
        scene.when(
            "nothing is read for a while",
            {
                turns += 1
                return turns > 20
            },
            then: {
                #expect(connection.heldInput == 1200)
                #expect(connection.shown.count == 2)
                connection.consume = { $0.count }
                connection.redeliver()
                #expect(connection.heldInput == 0)
            })
        scene.when("the rest is read") { connection.input.count == 1800 }
        scene.run()
        connection.close()
    }

    /// The loop reads 64 KB at a time: what is held goes beyond the limit by no more than that.
    @Test func heldInputIsBounded() throws {
        let scene = try Scene()
        let (connection, peer) = try connectionPair(scene, .tcp)
        connection.consume = { _ in 0 }
        var turns = 0
        scene.when("the peer has pushed for a while") {
            peer.write(pattern(100_000))
            turns += 1
            return turns > 30
        }
        scene.run()
        #expect(connection.heldInput >= connection.holdLimit)
        // One read, or what the kernel receives at once.
        #expect(connection.heldInput < connection.holdLimit + 33 * URing.bufferSize)
        connection.close()
    }

    @Test func redeliverWithinReceivedTakesEffectAfterIt() throws {
        let scene = try Scene()
        let (connection, peer) = try connectionPair(scene, .unix)
        // The first time, the session has to wait; what it waits for comes before it has returned.
        var calls = 0
        connection.consume = { bytes in
            calls += 1
            if calls % 2 == 1 {
                connection.redeliver()
                return 1
            }
            return bytes.count
        }
        peer.write([1, 2, 3])
        scene.when("all is consumed", { connection.input.count == 3 }, then: { connection.consume = { _ in 0 } })
        scene.when("again, from what is held", { peer.write([4]) == 1 })
        scene.when(
            "it is held", { connection.heldInput == 1 },
            then: {
                calls = 0
                connection.consume = { bytes in
                    calls += 1
                    if calls == 1 {
                        connection.redeliver()
                        return 0
                    }
                    return bytes.count
                }
                connection.redeliver()
            })
        scene.when("that is consumed, too") { connection.input == [1, 2, 3, 4] }
        scene.run()
        #expect(connection.heldInput == 0)
        connection.close()
    }

    @Test func redeliverWithNothingHeldDoesNothing() throws {
        let scene = try Scene()
        let (connection, peer) = try connectionPair(scene, .unix)
        connection.redeliver()
        #expect(connection.shown.isEmpty)
        connection.close()
        connection.redeliver()
        peer.close()
    }

    @Test(arguments: Transport.allCases)
    func pausedAndResumed(_ transport: Transport) throws {
        let scene = try Scene()
        let (connection, peer) = try connectionPair(scene, transport)
        connection.pauseReading()
        connection.pauseReading()
        peer.write([1, 2, 3])
        var turns = 0
        scene.when(
            "nothing is read for a while",
            {
                turns += 1
                return turns > 20
            },
            then: {
                #expect(connection.shown.isEmpty)
                connection.resumeReading()
            })
        scene.when("now it is") { connection.input == [1, 2, 3] }
        scene.run()
        connection.close()
    }

    /// Epoll reports a hang-up whatever it is asked for: the loop must not spin on it, and what the peer sent before is
    /// read when reading is resumed.
    @Test(arguments: Transport.allCases)
    func hangUpWhilePaused(_ transport: Transport) throws {
        let scene = try Scene()
        let (connection, peer) = try connectionPair(scene, transport)
        connection.pauseReading()
        peer.write([1, 2, 3])
        peer.close()
        var turns = 0
        let before = cpuTime()
        scene.when(
            "time passes",
            {
                turns += 1
                return turns > 100
            },
            then: {
                #expect(cpuTime() - before < 90_000)
                #expect(connection.end == nil)
                connection.resumeReading()
            })
        scene.when("all is told") { connection.end == .endOfFile }
        scene.run()
        #expect(connection.input == [1, 2, 3])
    }

    @Test func resetWhilePausedEndsAtOnce() throws {
        let scene = try Scene()
        let (connection, peer) = try connectionPair(scene, .tcp)
        connection.pauseReading()
        peer.reset()
        scene.when("it is told") { connection.end == .failed(ECONNRESET) }
        scene.run()
        #expect(connection.endCount == 1)
    }

    @Test func resetWhileReading() throws {
        let scene = try Scene()
        let (connection, peer) = try connectionPair(scene, .tcp)
        peer.reset()
        scene.when("it is told") { connection.end == .failed(ECONNRESET) }
        scene.run()
        #expect(connection.end?.description == "Connection reset by peer")
    }

    @Test(arguments: [false, true])
    func closedWithinReceived(isHeld: Bool) throws {
        let scene = try Scene()
        let (connection, peer) = try connectionPair(scene, .unix)
        var calls = 0
        connection.consume = { _ in
            calls += 1
            if isHeld && calls == 1 { return 0 }
            connection.send([9])
            connection.close()
            return 1
        }
        peer.write([1, 2, 3])
        scene.when(
            "it was called", { calls == 1 },
            then: {
                if isHeld {
                    #expect(connection.heldInput == 3)
                    peer.write([4, 5])
                }
            })
        scene.when("it is closed") { connection.isClosed }
        scene.when("the peer sees the end") {
            peer.read()
            return peer.end != nil
        }
        scene.run()
        #expect(connection.heldInput == 0)
        #expect(connection.pendingOutput == 0)
        #expect(connection.endCount == 0)
        #expect(connection.descriptor == -1)
        // All harmless now.
        connection.close()
        connection.closeAfterFlush()
        connection.send([1])
        connection.pauseReading()
        connection.resumeReading()
        connection.redeliver()
        #expect(calls == (isHeld ? 2 : 1))
    }

    @Test func theEndBehindHeldInput() throws {
        let scene = try Scene()
        let (connection, peer) = try connectionPair(scene, .unix)
        connection.consume = { _ in 0 }
        peer.write([1])
        scene.when("it is held", { connection.heldInput == 1 }, then: { peer.close() })
        scene.when("the end is told") { connection.end == .endOfFile }
        scene.run()
        #expect(connection.heldInput == 0)
    }
}

/// Microseconds of processor time of this thread.
private func cpuTime() -> Int64 {
    var time = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1000
}
