import Glibc
import Testing

@testable import Reactor

@Suite struct SocketAddressTests {
    @Test(arguments: [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1:6432"), ("0.0.0.0", "0.0.0.0", "0.0.0.0:6432"),
        ("::1", "::1", "[::1]:6432"), ("::", "::", "[::]:6432"), ("2001:DB8::0:1", "2001:db8::1", "[2001:db8::1]:6432"),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.1", "[::ffff:10.0.0.1]:6432"),
    ])
    func numeric(text: String, host: String, description: String) throws {
        let address = try #require(SocketAddress(ip: text, port: 6432))
        #expect(address.host == host)
        #expect(address.description == description)
        #expect(address.port == 6432)
        #expect(!address.isUnix)
        #expect(address.isIPv6 == text.contains(":"))
        #expect(address.with(port: 65535).port == 65535)
        #expect(address.with(port: 65535).with(port: 6432) == address)
    }

    @Test(arguments: ["", "localhost", "1.2.3", "1.2.3.4.5", "256.0.0.1", "1.2.3.4 ", ":::", "%lo", "*", "/tmp"])
    func whatIsNoNumericAddress(text: String) { #expect(SocketAddress(ip: text, port: 1) == nil) }

    @Test func anInterfaceByNameAndByNumber() throws {
        let index = if_nametoindex("lo")
        try #require(index != 0)
        let named = try #require(SocketAddress(ip: "fe80::1%lo", port: 1))
        #expect(named == SocketAddress(ip: "fe80::1%\(index)", port: 1))
        #expect(named != SocketAddress(ip: "fe80::1", port: 1))
        let scope = named.withSockaddr { address, _ in
            address.withMemoryRebound(to: sockaddr_in6.self, capacity: 1) { $0.pointee.sin6_scope_id }
        }
        #expect(scope == index)
    }

    /// Without its interface such an address means nothing; dropped silently, it would lead somewhere else.
    @Test func anInterfaceThatDoesNotExist() { #expect(SocketAddress(ip: "fe80::1%nosuchif", port: 1) == nil) }

    @Test func aPath() throws {
        let address = try #require(SocketAddress(unix: "/tmp/.s.PGSQL.6432"))
        #expect(address.isUnix)
        #expect(address.host == "/tmp/.s.PGSQL.6432")
        #expect(address.description == "/tmp/.s.PGSQL.6432")
        #expect(address.port == 0)
        #expect(address.with(port: 1) == address)
    }

    @Test func anAbstractName() throws {
        let address = try #require(SocketAddress(unix: "@martlet"))
        #expect(address.host == "@martlet")
        let (first, length) = address.withSockaddr { pointer, length in
            (UnsafeRawPointer(pointer).load(fromByteOffset: 2, as: UInt8.self), length)
        }
        #expect(first == 0)
        // An abstract name has no end mark: its length counts.
        #expect(length == 2 + 8)
    }

    @Test func theLongestPath() {
        #expect(SocketAddress(unix: "/" + String(repeating: "x", count: 106)) != nil)
        #expect(SocketAddress(unix: "/" + String(repeating: "x", count: 107)) == nil)
        #expect(SocketAddress(unix: "@" + String(repeating: "x", count: 107)) == nil)
        #expect(SocketAddress(unix: "") == nil)
    }

    @Test func theKernelsFormIsTheSame() throws {
        let wanted = try #require(SocketAddress(ip: "127.0.0.1", port: 0))
        let listening = try ListeningSocket(wanted, ListenOptions())
        defer { listening.close() }
        #expect(listening.address.port != 0)
        #expect(listening.address == wanted.with(port: listening.address.port))
        #expect(Socket.localAddress(listening.fd) == listening.address)
    }

    @Test func anUnnamedUnixPeer() throws {
        let (first, second) = try socketPair(.unix)
        defer {
            close(first)
            close(second)
        }
        #expect(Socket.peerAddress(first).description == "unix")
        let credentials = try #require(Socket.peerCredentials(first))
        #expect(credentials.pid == getpid())
        #expect(credentials.uid == getuid())
    }

    @Test func aDescriptorThatIsNoSocket() {
        #expect(Socket.localAddress(-1).host == "unknown")
        #expect(Socket.peerCredentials(-1) == nil)
    }
}
