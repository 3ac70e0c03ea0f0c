import Testing

@testable import Authentication

func address(_ text: String) throws -> NetworkAddress { try #require(NetworkAddress(text)) }

func network(_ text: String, _ prefix: Int) throws -> Network {
    try #require(Network(address(text), prefix: prefix))
}

struct NetworkAddressTests {
    @Test(arguments: [
        ("10.0.0.1", [10, 0, 0, 1]), ("0.0.0.0", [0, 0, 0, 0]), ("255.255.255.255", [255, 255, 255, 255]),
        ("::", [UInt8](repeating: 0, count: 16)), ("::1", [UInt8](repeating: 0, count: 15) + [1]),
        ("2001:db8::ff00:42:8329", [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0xff, 0, 0, 0x42, 0x83, 0x29]),
        ("1:2:3:4:5:6:7:8", [0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7, 0, 8]),
        ("fe80::", [0xfe, 0x80] + [UInt8](repeating: 0, count: 14)),
        ("64:ff9b::1.2.3.4", [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]),
        // The same host, whichever family its socket has.
        ("::ffff:10.0.0.1", [10, 0, 0, 1]), ("::FFFF:0a00:0001", [10, 0, 0, 1]),
    ])
    func reads(text: String, bytes: [UInt8]) { #expect(NetworkAddress(text)?.bytes == bytes) }

    @Test(arguments: [
        "", "10", "10.0.0", "10.0.0.0.1", "10.0.0.256", "10.0.0.-1", "10.0.0.+1", "010.0.0.1", "10.0.0.1 ", "10..0.1",
        "localhost", ":", ":::", "1::2::3", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7:8::", "12345::", "g::",
        "::1%lo", "1.2.3.4::", "::1.2.3", "::+1", "1:2:3:4::5:6:7:8:",
    ])
    func refuses(text: String) { #expect(NetworkAddress(text) == nil) }

    @Test(arguments: [
        ("10.1.2.3", 8, "10.255.0.0", true), ("10.1.2.3", 8, "11.1.2.3", false), ("10.1.2.3", 32, "10.1.2.3", true),
        ("10.1.2.3", 32, "10.1.2.2", false), ("10.1.2.3", 0, "1.2.3.4", true), ("10.1.2.3", 0, "::1", false),
        ("192.168.1.128", 25, "192.168.1.200", true), ("192.168.1.128", 25, "192.168.1.100", false),
        ("fd00::", 8, "fdff::1", true), ("fd00::", 8, "fe00::1", false), ("::1", 128, "::1", true),
        ("2001:db8::", 33, "2001:db8:7fff::", true), ("2001:db8::", 33, "2001:db8:8000::", false),
        ("::", 0, "127.0.0.1", false), ("::", 0, "abcd::", true),
    ])
    func contains(base: String, prefix: Int, text: String, isInside: Bool) throws {
        let network = try network(base, prefix)
        #expect(network.contains(try address(text)) == isInside)
    }

    @Test func masksNeedNotBePrefixes() throws {
        let network = try #require(Network(address("10.0.0.7"), mask: address("255.0.0.255")))
        #expect(network.contains(try address("10.9.8.7")))
        #expect(!network.contains(try address("10.9.8.6")))
    }

    @Test func boundsOfPrefixes() throws {
        let own = try address("10.0.0.1")
        #expect(Network(own, prefix: -1) == nil)
        #expect(Network(own, prefix: 33) == nil)
        #expect(Network(own, mask: try address("ffff::")) == nil)
    }
}
