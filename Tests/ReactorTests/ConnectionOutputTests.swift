import Glibc
import Testing

@testable import Reactor

@Suite(.onEachLoop) struct ConnectionOutputTests {
    @Test(arguments: Transport.allCases, [1, 1024, 16 * 1024, 100_000, 5_000_000])
    func everythingArrivesInOrder(_ transport: Transport, count: Int) throws {
        let scene = try Scene()
        let (connection, peer) = try connectionPair(scene, transport)
        let bytes = pattern(count)
        // A small piece, a large one that goes past the queue, a small one.
        connection.send([1, 2, 3])
        connection.send(bytes.span)
        connection.send([4])
        scene.when("all is there") {
            peer.read(200_000)
            return peer.input.count >= count + 4
        }
        scene.run()
        #expect(peer.input == [1, 2, 3] + bytes + [4])
        #expect(connection.pendingOutput == 0)
        connection.close()
    }

    @Test func whatOneCallbackSendsLeavesTogether() throws {
        let scene = try Scene()
        let (connection, peer) = try connectionPair(scene, .unix)
        connection.consume = { bytes in
            for byte in bytes { connection.send([byte]) }
            peer.read()
            #expect(peer.input.isEmpty)
            return bytes.count
        }
        peer.write([1, 2, 3])
        scene.when("it is sent") {
            peer.read()
            return peer.input == [1, 2, 3]
        }
        scene.run()
        connection.close()
    }

    /// A peer that reads slowly: the producer stops when the connection is congested and goes on when it has drained,
    /// so that memory stays bounded.
    @Test(arguments: Transport.allCases)
    func backpressure(_ transport: Transport) throws {
        let scene = try Scene()
        let (connection, peer) = try connectionPair(scene, transport)
        let total = 20_000_000
        let chunk = pattern(10_000)
        var produced = 0
        var most = 0
        let produce = {
            while produced < total && !connection.isCongested {
                connection.send(chunk)
                produced += chunk.count
                most = max(most, connection.pendingOutput)
            }
        }
        connection.onDrained = {
            #expect(connection.pendingOutput <= Connection.lowWater)
            produce()
        }
        scene.when("it has begun", { true }, then: { produce() })
        scene.when("all is there") {
            peer.read(1_000_000)
            return peer.input.count == total
        }
        scene.run(seconds: 30)
        #expect(most <= Connection.highWater + chunk.count)
        #expect(connection.drainedCount > 1)
        #expect(peer.input.suffix(10_000) == chunk[...])
        connection.close()
    }

    /// Congested within a callback, and the socket takes all of it when the callback has returned: whoever has stopped
    /// producing must still be told.
    @Test(arguments: [0, 20_000])
    func drainedIsCalledWhenTheSocketTakesAllAtOnce(large: Int) throws {
        let scene = try Scene()
        let (connection, peer) = try connectionPair(scene, .tcp)
        scene.when(
            "it is congested", { true },
            then: {
                for _ in 0..<10 { connection.send(pattern(10_000)) }
                #expect(connection.isCongested)
                // A large piece sends what is queued before itself.
                if large > 0 { connection.send(pattern(large)) }
                #expect(connection.drainedCount == 0)
            })
        scene.when("it has drained") { connection.drainedCount == 1 }
        scene.when("all is there") {
            peer.read()
            return peer.input.count == 100_000 + large
        }
        scene.run()
        #expect(connection.drainedCount == 1)
        connection.close()
    }

    @Test func closedByItsOwnDrained() throws {
        let scene = try Scene()
        let (connection, peer) = try connectionPair(scene, .unix)
        connection.onDrained = { connection.close() }
        connection.send(pattern(1_000_000))
        peer.write([1])
        scene.when("it is closed") {
            peer.read()
            return connection.isClosed
        }
        scene.run()
        #expect(connection.drainedCount == 1)
    }

    /// Both sides paused, and the peer gone: the producer is told that it need not wait, and the reason is the kernel's.
    @Test func resetWhileCongestedAndPaused() throws {
        let scene = try Scene()
        let (connection, peer) = try connectionPair(scene, .tcp)
        connection.pauseReading()
        connection.send(pattern(10_000_000))
        scene.when("it is congested", { connection.isCongested }, then: { peer.reset() })
        scene.when("it is told") { connection.end != nil }
        scene.run()
        #expect(connection.end == .failed(ECONNRESET) || connection.end == .failed(EPIPE))
        #expect(connection.pendingOutput == 0)
    }

    /// The kernel tells an error once: here to the write, so that the event that follows knows only of a hang-up.
    @Test func resetSeenByAWriteWhilePaused() throws {
        let scene = try Scene()
        let (connection, peer) = try connectionPair(scene, .tcp)
        connection.pauseReading()
        scene.when(
            "it is reset and written to", { true },
            then: {
                peer.reset()
                connection.send([1])
            })
        scene.when("it is told") { connection.end == .failed(ECONNRESET) }
        scene.run()
        #expect(connection.endCount == 1)
    }

    @Test func aWriteThatFailsIsReportedByTheRead() throws {
        let scene = try Scene()
        let (connection, peer) = try connectionPair(scene, .unix)
        peer.write([7])
        peer.close()
        connection.send([1])
        scene.when("the end is told") { connection.end == .endOfFile }
        scene.run()
        // The peer's last words first.
        #expect(connection.input == [7])
    }

    // MARK: closeAfterFlush

    @Test(arguments: Transport.allCases, [0, 100, 3_000_000])
    func closeAfterFlushDeliversEverything(_ transport: Transport, count: Int) throws {
        let scene = try Scene()
        let (connection, peer) = try connectionPair(scene, transport)
        // Never read by the connection: closed at once, the kernel would answer it with a reset, which takes what the
        // peer has not read yet with it.
        connection.pauseReading()
        peer.write(pattern(50_000))
        connection.send(pattern(count))
        connection.closeAfterFlush()
        #expect(connection.isClosed)
        #expect(!connection.isOpen)
        connection.send([1, 2, 3])
        var rounds = 0
        scene.when("the peer has read all and the end") {
            rounds += 1
            if rounds > 10 { peer.read(500_000) }
            return peer.end != nil
        }
        scene.when("and may even go on for a moment", { peer.write([1]) == 1 }, then: { peer.close() })
        scene.when("then the socket is closed") { connection.descriptor == -1 }
        scene.run()
        #expect(peer.end == 0)
        #expect(peer.input == pattern(count))
        #expect(connection.endCount == 0)
        #expect(connection.shown.isEmpty)
    }

    @Test func closeAfterFlushWithinReceived() throws {
        let scene = try Scene()
        let (connection, peer) = try connectionPair(scene, .tcp)
        connection.consume = { _ in
            connection.send([42])
            connection.closeAfterFlush()
            return 1
        }
        peer.write([1, 2, 3])
        scene.when("the peer has it") {
            peer.read()
            return peer.end != nil
        }
        scene.run()
        #expect(peer.input == [42])
        #expect(peer.end == 0)
        #expect(connection.shown.count == 1)
        #expect(connection.heldInput == 0)
    }

    @Test func aPeerThatStaysIsLeft() throws {
        let scene = try Scene()
        let (connection, peer) = try connectionPair(scene, .tcp)
        connection.closeAfterFlush()
        let start = connection.now
        scene.when("it is closed") { connection.descriptor == -1 }
        scene.run()
        #expect(monotonicNow() - start >= Connection.lingerTime)
        peer.close()
    }

    @Test func closeWhileFlushing() throws {
        let scene = try Scene()
        let (connection, peer) = try connectionPair(scene, .tcp)
        connection.send(pattern(20_000_000))
        connection.closeAfterFlush()
        #expect(connection.descriptor >= 0)
        connection.close()
        #expect(connection.descriptor == -1)
        #expect(connection.pendingOutput == 0)
        peer.close()
    }

    @Test func aPeerThatGoesWhileFlushing() throws {
        let scene = try Scene()
        let (connection, peer) = try connectionPair(scene, .tcp)
        connection.send(pattern(20_000_000))
        connection.closeAfterFlush()
        scene.when("it is flushing", { connection.pendingOutput > 0 }, then: { peer.reset() })
        scene.when("it is closed") { connection.descriptor == -1 }
        scene.run()
        #expect(connection.endCount == 0)
    }
}
