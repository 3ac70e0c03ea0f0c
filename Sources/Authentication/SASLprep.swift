/// Prepares a password for SCRAM: RFC 4013 as PostgreSQL applies it, so that both come to the same keys.
enum SASLprep {
    /// Returns the prepared password, or the password itself where PostgreSQL takes it as it is: it is pure ASCII or
    /// not valid UTF-8, or it holds something that RFC 4013 prohibits.
    static func prepare(_ password: SecretBytes) -> SecretBytes {
        let bytes = [UInt8](copying: password.span)
        guard !bytes.allSatisfy({ $0 < 0x80 }), let text = String(validating: bytes, as: UTF8.self),
            let prepared = Self.prepare(text.unicodeScalars.map(\.value))
        else { return password }
        var utf8: [UInt8] = []
        for value in prepared {
            guard let scalar = Unicode.Scalar(value) else { return password }
            utf8 += UTF8.encode(scalar).map(Array.init) ?? []
        }
        return SecretBytes(utf8)
    }

    /// The four steps of RFC 3454, chapter 2; nil if the text is prohibited.
    private static func prepare(_ text: [UInt32]) -> [UInt32]? {
        let mapped = text.compactMap { value -> UInt32? in
            if Self.spaces.contains(value) { return 0x20 }
            return Self.mappedToNothing.contains(value) ? nil : value
        }
        guard !mapped.isEmpty else { return nil }
        // PostgreSQL looks for what is prohibited, and at the direction, before and not after normalisation.
        guard !mapped.contains(where: { Self.prohibited.contains($0) || Self.unassigned.contains($0) }) else {
            return nil
        }
        guard Self.hasOneDirection(mapped) else { return nil }
        return Normalization.compatibilityComposed(mapped)
    }

    /// RFC 3454, chapter 6: text with right-to-left characters has no left-to-right ones, and begins and ends with them.
    private static func hasOneDirection(_ text: [UInt32]) -> Bool {
        guard text.contains(where: Self.rightToLeft.contains) else { return true }
        guard let first = text.first, let last = text.last else { return true }
        return Self.rightToLeft.contains(first) && Self.rightToLeft.contains(last)
            && !text.contains(where: Self.leftToRight.contains)
    }
}

/// A set of code points, held as sorted ranges.
struct CodePointSet: Sendable {
    private let ranges: [ClosedRange<UInt32>]

    /// Reads hexadecimal numbers and ranges, in ascending order, separated by spaces: `A0 2000-200B`.
    init(_ text: String) {
        self.ranges = text.split(whereSeparator: \.isWhitespace).compactMap { item in
            let ends = item.split(separator: "-").compactMap { UInt32($0, radix: 16) }
            guard let first = ends.first, let last = ends.last, first <= last else { return nil }
            return first...last
        }
    }

    func contains(_ value: UInt32) -> Bool {
        var low = 0
        var high = self.ranges.count
        while low < high {
            let middle = (low + high) / 2
            if self.ranges[middle].upperBound < value { low = middle + 1 } else { high = middle }
        }
        return low < self.ranges.count && self.ranges[low].contains(value)
    }
}
