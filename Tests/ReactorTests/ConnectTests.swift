import Glibc
import Testing

@testable import Reactor

@Suite(.onEachLoop) struct ConnectTests {
    @Test func connectedAndWhatWasSentBefore() throws {
        let scene = try Scene()
        let address = try #require(SocketAddress(ip: "127.0.0.1", port: 0))
        let listening = try ListeningSocket(address, ListenOptions())
        defer { listening.close() }
        let socket = try Socket.connecting(to: listening.address, options: SocketOptions())
        let connection = Recorder(loop: scene.loop, connecting: socket)
        connection.send([1, 2])
        #expect(!connection.isOpen)
        connection.start()
        var peer: Peer?
        scene.when(
            "it is connected", { connection.isConnected },
            then: {
                #expect(connection.isOpen)
                peer = acceptOne(listening.fd).map { Peer($0) }
                peer?.write([3])
            })
        scene.when("bytes go both ways") {
            peer?.read()
            return peer?.input == [1, 2] && connection.input == [3]
        }
        scene.run()
        #expect(Socket.peerAddress(connection.descriptor) == listening.address)
        connection.close()
    }

    @Test func refused() throws {
        let scene = try Scene()
        let address = try #require(SocketAddress(ip: "127.0.0.1", port: 0))
        let listening = try ListeningSocket(address, ListenOptions())
        listening.close()
        let socket = try Socket.connecting(to: listening.address, options: SocketOptions())
        let connection = Recorder(loop: scene.loop, connecting: socket)
        connection.send([1, 2])
        connection.start()
        scene.when("it is told") { connection.end == .connectFailed(ECONNREFUSED) }
        scene.run()
        #expect(connection.endCount == 1)
        #expect(!connection.isConnected)
        #expect(connection.pendingOutput == 0)
        #expect(connection.end?.description == "Connection refused")
    }

    @Test func closedWhileConnecting() throws {
        let scene = try Scene()
        let address = try #require(SocketAddress(ip: "127.0.0.1", port: 0))
        let listening = try ListeningSocket(address, ListenOptions())
        defer { listening.close() }
        for isAfterFlush in [false, true] {
            let socket = try Socket.connecting(to: listening.address, options: SocketOptions())
            let connection = Recorder(loop: scene.loop, connecting: socket)
            connection.start()
            if isAfterFlush { connection.closeAfterFlush() } else { connection.close() }
            #expect(connection.descriptor == -1)
        }
    }

    @Test func aUnixSocket() throws {
        let scene = try Scene()
        let directory = try TemporaryDirectory()
        let address = try #require(SocketAddress(unix: directory.path + "/.s.PGSQL.1"))
        #expect(throws: SystemError.self) { _ = try Socket.connecting(to: address, options: SocketOptions()) }
        let listening = try ListeningSocket(address, ListenOptions())
        let socket = try Socket.connecting(to: address, options: SocketOptions())
        let connection = Recorder(loop: scene.loop, connecting: socket)
        connection.start()
        scene.when("it is connected") { connection.isConnected }
        scene.run()
        connection.close()
        listening.close()
        #expect(access(directory.path + "/.s.PGSQL.1", F_OK) != 0)
    }
}

/// A directory that is removed with what is in it.
final class TemporaryDirectory {
    let path: String

    init() throws {
        var template = Array("/tmp/martlet-test-XXXXXX".utf8CString)
        self.path = String(cString: try #require(mkdtemp(&template)))
    }

    deinit {
        if let directory = opendir(self.path) {
            while let entry = readdir(directory) {
                let name = withUnsafePointer(to: &entry.pointee.d_name) {
                    $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
                }
                unlink(self.path + "/" + name)
            }
            closedir(directory)
        }
        rmdir(self.path)
    }
}
