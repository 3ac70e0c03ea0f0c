import Glibc
import Testing

@testable import Reactor

@Suite(.onEachLoop) struct ListenerTests {
    private func connectTo(_ address: SocketAddress) -> Int32 {
        let fd = socket(address.family, Int32(SOCK_STREAM.rawValue), 0)
        _ = address.withSockaddr { connect(fd, $0, $1) }
        return fd
    }

    @Test func accepts() throws {
        let scene = try Scene()
        let address = try #require(SocketAddress(ip: "127.0.0.1", port: 0))
        let socket = try ListeningSocket(address, ListenOptions())
        defer { socket.close() }
        var count = 0
        let listener = Listener(loop: scene.loop, socket) { _ in
            count += 1
        } failed: {
            Issue.record($0)
        }
        // More than one turn takes.
        let clients = (0..<100).map { _ in Peer(self.connectTo(socket.address)) }
        scene.when("all are accepted", { count == 100 }, then: { listener.stop() })
        scene.run()
        withExtendedLifetime(clients) {}
    }

    /// No system call for each connection.
    @Test(arguments: [false, true])
    func acceptedHaveTheListenersOptions(keepAlive: Bool) throws {
        let scene = try Scene()
        let address = try #require(SocketAddress(ip: "127.0.0.1", port: 0))
        let socket = try ListeningSocket(address, ListenOptions())
        defer { socket.close() }
        var found: [Bool]?
        let listener = Listener(loop: scene.loop, socket) { accepted in
            found = [
                self.isSet(accepted.descriptor, Int32(IPPROTO_TCP), TCP_NODELAY),
                self.isSet(accepted.descriptor, SOL_SOCKET, SO_KEEPALIVE),
            ]
        } failed: {
            Issue.record($0)
        }
        var options = SocketOptions()
        // What an earlier setting has left behind goes.
        options.keepAlive = !keepAlive
        listener.setOptions(options)
        options.keepAlive = keepAlive
        listener.setOptions(options)
        let client = Peer(self.connectTo(socket.address))
        scene.when("it is accepted", { found != nil }, then: { listener.stop() })
        scene.run()
        #expect(found == [true, keepAlive])
        // The descriptor may belong to something else by now.
        options.keepAlive = !keepAlive
        listener.setOptions(options)
        #expect(self.isSet(socket.fd, SOL_SOCKET, SO_KEEPALIVE) == keepAlive)
        withExtendedLifetime(client) {}
    }

    private func isSet(_ fd: Int32, _ level: Int32, _ option: Int32) -> Bool {
        var value: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        return getsockopt(fd, level, option, &value, &length) == 0 && value != 0
    }

    @Test func stopWithinAccepted() throws {
        let scene = try Scene()
        let address = try #require(SocketAddress(ip: "127.0.0.1", port: 0))
        let socket = try ListeningSocket(address, ListenOptions())
        defer { socket.close() }
        var count = 0
        var listener: Listener?
        listener = Listener(loop: scene.loop, socket) { _ in
            count += 1
            listener?.stop()
        } failed: {
            Issue.record($0)
        }
        let clients = (0..<3).map { _ in Peer(self.connectTo(socket.address)) }
        scene.when("one is accepted") { count > 0 }
        var turns = 0
        scene.when("the loop has turned") {
            turns += 1
            return turns > 10
        }
        scene.run()
        #expect(count == 1)
        withExtendedLifetime(clients) {}
    }

    /// Who has connected before is handed on, the closure is called when the last of them has been, and who connects
    /// then is refused at once: nothing in the kernel goes on to accept.
    @Test(arguments: [false, true])
    func finish(drains: Bool) throws {
        let scene = try Scene()
        let address = try #require(SocketAddress(ip: "127.0.0.1", port: 0))
        let socket = try ListeningSocket(address, ListenOptions())
        var count = 0
        var isOver = false
        let listener = Listener(loop: scene.loop, socket) { _ in
            #expect(!isOver)
            count += 1
        } failed: {
            Issue.record($0)
        }
        var clients = [Peer(self.connectTo(socket.address))]
        scene.when("the first is accepted", { count == 1 }) {
            clients += (0..<50).map { _ in Peer(self.connectTo(socket.address)) }
            listener.finish(drains: drains) {
                isOver = true
                socket.close()
            }
        }
        scene.when("it is over") { isOver }
        scene.run()
        #expect(!drains || count == 51)
        let late = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        let code = socket.address.withSockaddr { connect(late, $0, $1) == 0 ? 0 : errno }
        #expect(code == ECONNREFUSED)
        close(late)
        withExtendedLifetime(clients) {}
    }

    @Test func finishOfOneThatHasBeenStopped() throws {
        let scene = try Scene()
        let address = try #require(SocketAddress(ip: "127.0.0.1", port: 0))
        let socket = try ListeningSocket(address, ListenOptions())
        defer { socket.close() }
        let listener = Listener(loop: scene.loop, socket) { _ in
        } failed: {
            Issue.record($0)
        }
        var count = 0
        scene.when("at once") {
            listener.finish(drains: true) { count += 1 }
            return true
        }
        scene.when("it is over", { count == 1 }) { listener.finish(drains: true) { count += 1 } }
        scene.when("again", { count == 2 })
        scene.run()
    }

    /// A file that belongs to the service manager stays.
    @Test func anInheritedUnixSocketKeepsItsFile() throws {
        let directory = try TemporaryDirectory()
        let address = try #require(SocketAddress(unix: directory.path + "/s"))
        let first = try ListeningSocket(address, ListenOptions())
        ListeningSocket(inherited: dup(first.fd)).close()
        #expect(access(directory.path + "/s", F_OK) == 0)
        first.close()
        #expect(access(directory.path + "/s", F_OK) != 0)
    }

    /// As with an exhausted file table: the event stays, and `accept` fails each time. Here because the socket does
    /// not listen at all.
    @Test func failureIsToldAndTriedAgainAfterAMoment() throws {
        let scene = try Scene()
        let (ours, theirs) = try socketPair(.unix)
        let peer = Peer(theirs)
        peer.write([1])
        defer { close(ours) }
        var errors: [SystemError] = []
        let listener = Listener(loop: scene.loop, ListeningSocket(inherited: ours)) { _ in
        } failed: {
            errors.append($0)
        }
        let start = monotonicNow()
        scene.when("it was tried three times", { errors.count >= 3 }, then: { listener.stop() })
        scene.run()
        #expect(monotonicNow() - start >= 200_000)
        #expect(errors.allSatisfy { $0.call == "accept" && $0.code == EINVAL })
    }

    @Test func anAddressInUse() throws {
        let address = try #require(SocketAddress(ip: "127.0.0.1", port: 0))
        let first = try ListeningSocket(address, ListenOptions())
        defer { first.close() }
        let error = #expect(throws: SystemError.self) { _ = try ListeningSocket(first.address, ListenOptions()) }
        #expect(error?.code == EADDRINUSE)
        #expect(error?.description == "listen on \(first.address.description): Address already in use")
    }

    // MARK: Unix sockets

    @Test func aStaleFileIsReplaced() throws {
        let directory = try TemporaryDirectory()
        let address = try #require(SocketAddress(unix: directory.path + "/s"))
        let first = try ListeningSocket(address, ListenOptions())
        close(first.fd)
        var options = ListenOptions()
        options.unixMode = 0o600
        let second = try ListeningSocket(address, options)
        var status = stat()
        #expect(stat(directory.path + "/s", &status) == 0)
        #expect(status.st_mode & 0o777 == 0o600)
        second.close()
    }

    @Test func aLiveOneIsNot() throws {
        let directory = try TemporaryDirectory()
        let address = try #require(SocketAddress(unix: directory.path + "/s"))
        var options = ListenOptions()
        options.backlog = 0
        let first = try ListeningSocket(address, options)
        // Also when its queue is full, and connecting to it says EAGAIN.
        let clients = (0..<3).map { _ -> Peer in
            let peer = Peer(socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | O_NONBLOCK, 0))
            _ = address.withSockaddr { connect(peer.fd, $0, $1) }
            return peer
        }
        let error = #expect(throws: SystemError.self) { _ = try ListeningSocket(address, ListenOptions()) }
        #expect(error?.code == EADDRINUSE)
        withExtendedLifetime(clients) {}
        first.close()
    }

    @Test func anotherFileIsNotRemoved() throws {
        let directory = try TemporaryDirectory()
        let path = directory.path + "/s"
        close(open(path, O_CREAT | O_WRONLY, 0o600))
        let address = try #require(SocketAddress(unix: path))
        #expect(throws: SystemError.self) { _ = try ListeningSocket(address, ListenOptions()) }
        #expect(access(path, F_OK) == 0)
    }

    @Test func anAbstractName() throws {
        let scene = try Scene()
        let address = try #require(SocketAddress(unix: "@martlet-test-\(getpid())"))
        let socket = try ListeningSocket(address, ListenOptions())
        defer { socket.close() }
        var count = 0
        let listener = Listener(loop: scene.loop, socket) { _ in
            count += 1
        } failed: {
            Issue.record($0)
        }
        let client = Peer(self.connectTo(address))
        scene.when("it is accepted", { count == 1 }, then: { listener.stop() })
        scene.run()
        withExtendedLifetime(client) {}
        #expect(socket.address == address)
    }

    @Test func anUnknownGroup() throws {
        let directory = try TemporaryDirectory()
        let address = try #require(SocketAddress(unix: directory.path + "/s"))
        var options = ListenOptions()
        options.unixGroup = "no such group"
        let error = #expect(throws: SystemError.self) { _ = try ListeningSocket(address, options) }
        #expect(error?.call == "unix_socket_group \"no such group\"")
    }
}
