/// Base64 of RFC 4648, chapter 4, as SCRAM uses it: padded, no line breaks, one form for each value.
enum Base64 {
    static func encode(_ bytes: Span<UInt8>) -> [UInt8] {
        var result = [UInt8](repeating: UInt8(ascii: "="), count: (bytes.count + 2) / 3 * 4)
        let characters = Self.characters.utf8Span.span
        var group: UInt32 = 0
        var bits = 0
        var position = 0
        for index in bytes.indices {
            group = group << 8 | UInt32(bytes[index])
            bits += 8
            while bits >= 6 {
                bits -= 6
                result[position] = characters[Int(group >> UInt32(bits) & 0x3F)]
                position += 1
            }
        }
        if bits > 0 { result[position] = characters[Int(group << UInt32(6 - bits) & 0x3F)] }
        return result
    }

    /// Returns nil for anything but the one form that `encode` gives.
    static func decode(_ text: ArraySlice<UInt8>) -> [UInt8]? {
        guard text.count.isMultiple(of: 4) else { return nil }
        var digits = text
        while digits.last == UInt8(ascii: "="), text.count - digits.count < 2 { digits.removeLast() }
        var result: [UInt8] = []
        result.reserveCapacity(text.count / 4 * 3)
        var group: UInt32 = 0
        var bits = 0
        for digit in digits {
            guard let sextet = Self.sextet(digit) else { return nil }
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
