/// A server's version as one number, as `server_version_num` gives it: 150018 for 15.18, 90624 for 9.6.24.
public struct ServerVersion: Sendable, Comparable {
    public let number: Int

    /// The version of that number.
    public init(number: Int) {
        self.number = number
    }

    /// Reads `server_version` ("15.18 (Debian 15.18-1)", "16beta1", "9.6.24"); nil when it does not begin with digits.
    public init?(_ text: String) {
        var parts: [Int] = []
        var digits = 0
        var value = 0
        var bytes = text.utf8.makeIterator()
        while true {
            let byte = bytes.next()
            if let byte, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte), digits < 4 {
                value = value * 10 + Int(byte - UInt8(ascii: "0"))
                digits += 1
                continue
            }
            guard digits > 0 else { break }
            parts.append(value)
            (digits, value) = (0, 0)
            guard byte == UInt8(ascii: "."), parts.count < 3 else { break }
        }
        guard let major = parts.first else { return nil }
        let minor = parts.count > 1 ? parts[1] : 0
        if major >= 10 {
            // Since version 10 the second part is the minor release.
            self.number = major * 10_000 + minor
        } else {
            self.number = major * 10_000 + minor * 100 + (parts.count > 2 ? parts[2] : 0)
        }
    }

    /// The major release: 15 for 15.18, 9 for 9.6.24.
    public var major: Int { self.number / 10_000 }

    public static func < (left: ServerVersion, right: ServerVersion) -> Bool {
        left.number < right.number
    }
}
