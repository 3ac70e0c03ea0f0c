import CLinux
import Glibc
import Testing

@testable import Reactor

/// What has been asked of the kernel ends with the source it was asked for.
@Suite struct URingTests {
    /// A socket that an operation goes on with stays open for its peer, whoever has closed it here.
    @Test(.onEachLoop, arguments: Transport.allCases, [0, 1, 100_000])
    func aConnectionThatIsClosedAtOnceEndsForItsPeer(_ transport: Transport, _ count: Int) throws {
        let scene = try Scene()
        var peers: [Peer] = []
        for number in 0..<50 {
            let (connection, peer) = try connectionPair(scene, transport)
            peer.write(pattern(count))
            if number % 3 == 0 { shutdown(peer.fd, Int32(SHUT_WR)) }
            if number % 2 == 0 {
                connection.close()
            } else {
                scene.loop.later { connection.close() }
            }
            peers.append(peer)
        }
        scene.when("all peers see the end") {
            for peer in peers { peer.read() }
            return peers.allSatisfy { $0.end != nil }
        }
        scene.run()
    }

    @Test(.enabled(if: EventLoopKind.reasonAgainstIOURing() == nil))
    func aCancellationThatTheKernelRefusesIsGivenToItAgain() throws {
        let (ours, theirs) = try socketPair(.unix)
        let peer = Peer(theirs)
        var pipe: [Int32] = [-1, -1]
        try #require(Glibc.pipe(&pipe) == 0)
        let (reading, writing) = (pipe[0], pipe[1])
        defer {
            close(reading)
            close(writing)
        }

        let loop = try EventLoop()
        let ring = try URing()
        let source = EventSource(loop: loop, fd: ours)
        source.token = 1 << 32
        let other = EventSource(loop: loop, fd: reading)
        other.token = 2 << 32
        try #require(ring.receive(source))
        ring.wait(0)

        // The kernel takes a ring's operations of one thread only. What another one has queued stays in the queue, as
        // without memory, until there is no room any more. This thread does nothing until the other has ended.
        nonisolated(unsafe) let (theirRing, theirSource, theirOther) = (ring, source, other)
        try startThread("refused") {
            while theirRing.poll(theirOther, UInt32(MARTLET_EPOLLOUT), again: false) {}
            theirRing.cancel(theirSource, .receive)
            write(writing, [1], 1)
        }
        var entry = pollfd(fd: reading, events: Int16(POLLIN), revents: 0)
        var byte: UInt8 = 0
        try #require(poll(&entry, 1, 10_000) == 1 && read(reading, &byte, 1) == 1)

        close(ours)
        for _ in 0..<3 { ring.wait(0) }
        peer.read()
        #expect(peer.end == 0)
        var ended: Int32?
        while let completion = ring.next() { if completion.operation == .receive { ended = completion.result } }
        #expect(ended == -ECANCELED)
    }
}
