/// An IPv4 or IPv6 address, as rules about clients name it.
public struct NetworkAddress: Sendable, Hashable {
    /// In network order: 4 bytes, or 16. An IPv4 address that is written as an IPv6 one (`::ffff:10.0.0.1`) has 4.
    public let bytes: [UInt8]

    /// Reads an address in numbers; nil for anything else, also for an address with a zone (`fe80::1%eth0`).
    public init?(_ text: String) {
        guard let bytes = Self.v4(text) ?? Self.v6(text) else { return nil }
        let isMapped = bytes.count == 16 && bytes[..<12].elementsEqual([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF])
        self.bytes = isMapped ? Array(bytes[12...]) : bytes
    }

    private static func v4(_ text: String) -> [UInt8]? {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 4 else { return nil }
        let bytes = parts.compactMap { part -> UInt8? in
            // Some programs read a number with a leading zero as octal: whom it means is not clear.
            guard part.utf8.allSatisfy({ UInt8(ascii: "0")...UInt8(ascii: "9") ~= $0 }),
                part.count == 1 || part.first != "0"
            else { return nil }
            return UInt8(part)
        }
        return bytes.count == 4 ? bytes : nil
    }

    private static func v6(_ text: String) -> [UInt8]? {
        let halves = Self.halves(text)
        guard let front = Self.groups(halves.front, mayEndInV4: halves.behind == nil) else { return nil }
        guard let behind = halves.behind else { return front.count == 16 ? front : nil }
        guard let back = Self.groups(behind, mayEndInV4: true), front.count + back.count <= 14 else { return nil }
        return front + [UInt8](repeating: 0, count: 16 - front.count - back.count) + back
    }

    /// What stands before and behind the first `::`.
    private static func halves(_ text: String) -> (front: Substring, behind: Substring?) {
        var index = text.startIndex
        while index < text.endIndex {
            if text[index...].hasPrefix("::") { return (text[..<index], text[text.index(index, offsetBy: 2)...]) }
            index = text.index(after: index)
        }
        return (text[...], nil)
    }

    /// The bytes of groups with colons between them, the last of which may be an IPv4 address.
    private static func groups(_ text: Substring, mayEndInV4: Bool) -> [UInt8]? {
        if text.isEmpty { return [] }
        var bytes: [UInt8] = []
        let groups = text.split(separator: ":", omittingEmptySubsequences: false)
        for (index, group) in groups.enumerated() {
            if mayEndInV4, index == groups.count - 1, let last = Self.v4(String(group)) {
                bytes += last
                continue
            }
            guard 1...4 ~= group.utf8.count, group.allSatisfy({ $0.isHexDigit }), let value = UInt16(group, radix: 16)
            else { return nil }
            bytes += [UInt8(value >> 8), UInt8(value & 0xFF)]
        }
        return bytes.count <= 16 ? bytes : nil
    }
}

/// The addresses that agree with one in the bits of a mask.
public struct Network: Sendable, Hashable {
    public let address: NetworkAddress
    /// As long as the address.
    public let mask: [UInt8]

    /// - Parameter prefix: how many bits count.
    /// - Returns: nil if there are not so many.
    public init?(_ address: NetworkAddress, prefix: Int) {
        guard 0...(address.bytes.count * 8) ~= prefix else { return nil }
        self.address = address
        self.mask = address.bytes.indices.map { index in
            let bits = min(8, max(0, prefix - index * 8))
            return bits == 0 ? 0 : UInt8(truncatingIfNeeded: 0xFF << (8 - bits))
        }
    }

    /// - Parameter mask: an address whose bits tell which count; nil is the result if it is of the other family.
    public init?(_ address: NetworkAddress, mask: NetworkAddress) {
        guard address.bytes.count == mask.bytes.count else { return nil }
        self.address = address
        self.mask = mask.bytes
    }

    public func contains(_ other: NetworkAddress) -> Bool {
        guard other.bytes.count == self.mask.count else { return false }
        return self.mask.indices.allSatisfy { (self.address.bytes[$0] ^ other.bytes[$0]) & self.mask[$0] == 0 }
    }
}
