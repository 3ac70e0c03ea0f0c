import Glibc
import Reactor
import Testing

@testable import Services

struct HostLookupsTests {
    @Test func ownAddresses() {
        let interfaces = HostLookups.interfaces()
        #expect(interfaces.contains { $0.address == "127.0.0.1" && $0.mask == "255.0.0.0" })
        #expect(interfaces.allSatisfy { SocketAddress(ip: $0.mask, port: 0) != nil })
    }

    @Test func rootHasAName() { #expect(HostLookups.userName(0) == "root") }

    @Test func anUnusedNumberHasNone() { #expect(HostLookups.userName(4_000_000_000) == nil) }

    @Test func theLoopbackAddressHasANameThatLeadsBack() throws {
        let address = try #require(SocketAddress(ip: "127.0.0.1", port: 5432))
        // As /etc/hosts has it.
        if let name = HostLookups.verifiedName(of: address) { #expect(name.contains("localhost")) }
        let documentation = try #require(SocketAddress(ip: "192.0.2.1", port: 5432))
        #expect(HostLookups.verifiedName(of: documentation) == nil)
        let unix = try #require(SocketAddress(unix: "/tmp/x"))
        #expect(HostLookups.verifiedName(of: unix) == nil)
    }
}
