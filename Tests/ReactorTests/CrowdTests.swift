import Glibc
import Testing

@testable import Reactor

/// Many connections at once, and input that is stopped and resumed while it flows: where operations under way can be
/// lost, doubled or mixed up.
@Suite(.onEachLoop) struct CrowdTests {
    @Test("more connections have input at once than there are buffers")
    func exhaustion() throws {
        let scene = try Scene()
        let pairs = try (0..<1_500).map { _ in try connectionPair(scene, .unix) }
        let bytes = pattern(3_000)
        scene.when("all are watched") {
            true
        } then: {
            for (_, peer) in pairs { peer.write(bytes) }
        }
        scene.when("everything has come") { pairs.allSatisfy { $0.0.input.count == bytes.count } }
        scene.run()
        #expect(pairs.allSatisfy { $0.0.input == bytes })
    }

    @Test("bytes stay in order however often reading is paused", arguments: Transport.allCases, [700, 30_000])
    func pauses(transport: Transport, piece: Int) throws {
        let scene = try Scene()
        let (connection, peer) = try connectionPair(scene, transport)
        let bytes = pattern(2_000_000)
        var written = 0
        var calls = 0
        var isPaused = false
        connection.consume = { shown in
            calls += 1
            if calls % 3 == 0 {
                connection.pauseReading()
                isPaused = true
            }
            // Some of it is held, and comes again.
            return calls % 5 == 0 ? shown.count / 2 : shown.count
        }
        scene.when("everything has come") {
            while written < bytes.count {
                let count = peer.write(Array(bytes[written..<min(written + piece, bytes.count)]))
                if count <= 0 { break }
                written += count
            }
            if isPaused {
                isPaused = false
                connection.resumeReading()
                // Within the same turn.
                connection.pauseReading()
                connection.resumeReading()
            }
            connection.redeliver()
            return connection.input.count == bytes.count
        }
        scene.run(seconds: 30)
        #expect(connection.input == bytes)
    }

    @Test("nothing is shown to a session that has paused reading", arguments: Transport.allCases)
    func paused(transport: Transport) throws {
        let scene = try Scene()
        let (connection, peer) = try connectionPair(scene, transport)
        let bytes = pattern(60_000)
        connection.consume = { shown in
            connection.pauseReading()
            return shown.count
        }
        var written = 0
        var ticks = 0
        scene.when("the peer has sent") {
            written += max(0, peer.write(Array(bytes[written...])))
            return written == bytes.count
        }
        scene.when("some turns have passed") {
            ticks += 1
            return ticks > 20
        } then: {
            #expect(connection.shown.count == 1)
        }
        scene.when("all is shown, piece by piece") {
            connection.resumeReading()
            return connection.input.count == bytes.count
        }
        scene.run()
        #expect(connection.input == bytes)
    }

    @Test("connections that end in the turn they begin disturb nobody who gets their descriptor")
    func descriptorsUsedAgain() throws {
        let scene = try Scene()
        var pairs: [(Recorder, Peer)] = []
        for _ in 0..<200 {
            let (short, other) = try connectionPair(scene, .unix)
            other.write([9])
            short.close()
            pairs.append(try connectionPair(scene, .unix))
        }
        for (_, peer) in pairs { peer.write([1, 2, 3]) }
        scene.when("everybody has got his bytes") { pairs.allSatisfy { $0.0.input.count == 3 } }
        scene.run()
        #expect(pairs.allSatisfy { $0.0.input == [1, 2, 3] && $0.0.end == nil })
    }

    @Test("the end behind bytes is told", arguments: Transport.allCases, [false, true])
    func end(transport: Transport, isReset: Bool) throws {
        let scene = try Scene()
        let pairs = try (0..<100).map { _ in try connectionPair(scene, transport) }
        scene.when("all are watched") {
            true
        } then: {
            for (_, peer) in pairs {
                peer.write([1, 2, 3])
                if isReset { peer.reset() } else { peer.close() }
            }
        }
        scene.when("all ends are told") { pairs.allSatisfy { $0.0.end != nil } }
        scene.run()
        #expect(pairs.allSatisfy { $0.0.endCount == 1 })
        if !isReset { #expect(pairs.allSatisfy { $0.0.input == [1, 2, 3] }) }
    }

    @Test("output of many connections, some of whose peers do not read, arrives whole")
    func slowReaders() throws {
        let scene = try Scene()
        let pairs = try (0..<30).map { _ in try connectionPair(scene, .tcp) }
        let bytes = pattern(50_000)
        var rounds = 0
        // A third reads nothing until the end; with these the sockets fill up.
        scene.when("all is sent") {
            rounds += 1
            for (connection, _) in pairs { connection.send(bytes) }
            for (index, pair) in pairs.enumerated() where index % 3 != 0 { pair.1.read() }
            return rounds == 20
        }
        scene.when("all is read") {
            for (_, peer) in pairs { peer.read() }
            return pairs.allSatisfy { $0.1.input.count == rounds * bytes.count }
        }
        scene.run(seconds: 30)
        for (connection, peer) in pairs {
            #expect(connection.pendingOutput == 0)
            #expect(
                stride(from: 0, to: peer.input.count, by: bytes.count).allSatisfy { start in
                    Array(peer.input[start..<start + bytes.count]) == bytes
                })
        }
    }
}
