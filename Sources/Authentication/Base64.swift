/// Base64 of RFC 4648, chapter 4, as SCRAM uses it: padded, no line breaks, one form for each value.
enum Base64 {
    static func encode(_ bytes: Span<UInt8>) -> [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(Self.length(of: bytes.count))
        Self.append(bytes, to: &result)
        return result
    }

    /// How many characters so many bytes become.
    static func length(of count: Int) -> Int { (count + 2) / 3 * 4 }

    /// Adds the bytes' base64.
    static func append(_ bytes: Span<UInt8>, to text: inout [UInt8]) {
        let characters = Self.characters.utf8Span.span
        var index = 0
        while index < bytes.count {
            let left = bytes.count - index
            var group = UInt32(bytes[index]) << 16
            if left > 1 { group |= UInt32(bytes[index + 1]) << 8 }
            if left > 2 { group |= UInt32(bytes[index + 2]) }
            text.append(characters[Int(group >> 18)])
            text.append(characters[Int(group >> 12 & 0x3F)])
            text.append(left > 1 ? characters[Int(group >> 6 & 0x3F)] : UInt8(ascii: "="))
            text.append(left > 2 ? characters[Int(group & 0x3F)] : UInt8(ascii: "="))
            index += 3
        }
    }

    /// Returns nil for anything but the one form that `encode` gives.
    static func decode(_ text: Span<UInt8>) -> [UInt8]? {
        guard text.count.isMultiple(of: 4) else { return nil }
        var digits = text.count
        while digits > 0, text[digits - 1] == UInt8(ascii: "="), text.count - digits < 2 { digits -= 1 }
        var result: [UInt8] = []
        result.reserveCapacity(text.count / 4 * 3)
        var group: UInt32 = 0
        var bits = 0
        for index in 0..<digits {
            guard let sextet = Self.sextet(text[index]) else { return nil }
            group = group << 6 | UInt32(sextet)
            bits += 6
            if bits >= 8 {
                bits -= 8
                result.append(UInt8(truncatingIfNeeded: group >> UInt32(bits)))
                group &= (1 << UInt32(bits)) - 1
            }
        }
        // What is left over of the last group is zero in the one form that counts.
        return group == 0 ? result : nil
    }

    static func decode(_ text: ArraySlice<UInt8>) -> [UInt8]? { Self.decode(text.span) }

    private static let characters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

    private static func sextet(_ character: UInt8) -> UInt8? {
        switch character {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"): character - UInt8(ascii: "A")
        case UInt8(ascii: "a")...UInt8(ascii: "z"): character - UInt8(ascii: "a") + 26
        case UInt8(ascii: "0")...UInt8(ascii: "9"): character - UInt8(ascii: "0") + 52
        case UInt8(ascii: "+"): 62
        case UInt8(ascii: "/"): 63
        default: nil
        }
    }
}
