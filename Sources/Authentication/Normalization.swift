/// Unicode normalisation form KC (UAX #15), which the standard library does not offer.
///
/// Good for characters of Unicode 3.2, which are all that SASLprep lets through.
enum Normalization {
    /// Returns `text` in normalisation form KC.
    static func compatibilityComposed(_ text: [UInt32]) -> [UInt32] {
        var decomposed: [UInt32] = []
        for value in text { Self.decompose(value, into: &decomposed) }
        var characters = decomposed.map(ClassifiedCharacter.init)
        Self.sortMarks(&characters)
        return Self.compose(characters)
    }

    /// A code point and its canonical combining class: 0 for a starter, more for a mark.
    private struct ClassifiedCharacter {
        let value: UInt32
        let combiningClass: UInt8

        init(_ value: UInt32) {
            self.value = value
            self.combiningClass = Unicode.Scalar(value)?.properties.canonicalCombiningClass.rawValue ?? 0
        }
    }

    /// How a character decomposes by one step.
    struct Decomposition {
        let parts: [UInt32]
        /// Whether the two parts compose to the character again.
        let composes: Bool
    }

    private struct Pair: Hashable {
        let first: UInt32
        let second: UInt32
    }

    /// The steps by character, read from `decompositionText` at first use.
    private static let decompositions: [UInt32: Decomposition] = {
        var result: [UInt32: Decomposition] = [:]
        for item in Self.decompositionText.split(whereSeparator: \.isWhitespace) {
            guard let separator = item.firstIndex(where: { $0 == "=" || $0 == "~" || $0 == "+" }) else { continue }
            let sources = item[..<separator].split(separator: "-").compactMap { UInt32($0, radix: 16) }
            let parts = item[item.index(after: separator)...].split(separator: ".").compactMap { UInt32($0, radix: 16) }
            guard let first = sources.first, let last = sources.last, first <= last, !parts.isEmpty else { continue }
            for source in first...last {
                // In a run (+) the target goes up along with the source.
                let shift = item[separator] == "+" ? source - first : 0
                result[source] = Decomposition(parts: parts.map { $0 + shift }, composes: item[separator] == "=")
            }
        }
        return result
    }()

    /// The characters by the two parts that they are composed of.
    private static let compositions: [Pair: UInt32] = {
        var result: [Pair: UInt32] = [:]
        for (character, step) in Self.decompositions where step.composes && step.parts.count == 2 {
            result[Pair(first: step.parts[0], second: step.parts[1])] = character
        }
        return result
    }()

    private static func decompose(_ value: UInt32, into result: inout [UInt32]) {
        if let parts = Hangul.decompose(value) {
            result += parts
        } else if let step = Self.decompositions[value] {
            for part in step.parts { Self.decompose(part, into: &result) }
        } else {
            result.append(value)
        }
    }

    /// Puts each run of combining marks in the order of their classes, equal ones as they came.
    private static func sortMarks(_ text: inout [ClassifiedCharacter]) {
        var start = 0
        while start < text.count {
            var end = start
            while end < text.count, text[end].combiningClass > 0 { end += 1 }
            if end - start > 1 { text[start..<end].sort { $0.combiningClass < $1.combiningClass } }
            start = end + 1
        }
    }

    private static func compose(_ text: [ClassifiedCharacter]) -> [UInt32] {
        var result: [UInt32] = []
        // Where the last starter is, and the class of what was kept behind it.
        var starter: Int?
        var lastClass: UInt8 = 0
        for character in text {
            // Blocked if something of the same or a higher class stands between; a starter must follow at once.
            if let index = starter,
                index == result.count - 1 || (lastClass != 0 && lastClass < character.combiningClass),
                let composed = Self.composition(result[index], character.value)
            {
                result[index] = composed
                continue
            }
            if character.combiningClass == 0 { starter = result.count }
            lastClass = character.combiningClass
            result.append(character.value)
        }
        return result
    }

    private static func composition(_ first: UInt32, _ second: UInt32) -> UInt32? {
        Hangul.compose(first, second) ?? Self.compositions[Pair(first: first, second: second)]
    }
}

/// Korean syllables, which follow from their parts by arithmetic (Unicode Standard, chapter 3.12).
private enum Hangul {
    private static let syllables: UInt32 = 0xAC00
    private static let leading: UInt32 = 0x1100
    private static let vowel: UInt32 = 0x1161
    private static let trailing: UInt32 = 0x11A7
    private static let vowelCount: UInt32 = 21
    private static let trailingCount: UInt32 = 28
    private static let leadingCount: UInt32 = 19
    private static let syllableCount = leadingCount * vowelCount * trailingCount

    static func decompose(_ value: UInt32) -> [UInt32]? {
        guard Self.syllables..<(Self.syllables + Self.syllableCount) ~= value else { return nil }
        let index = value - Self.syllables
        let parts = [
            Self.leading + index / (Self.vowelCount * Self.trailingCount),
            Self.vowel + index / Self.trailingCount % Self.vowelCount,
        ]
        let tail = index % Self.trailingCount
        return tail == 0 ? parts : parts + [Self.trailing + tail]
    }

    static func compose(_ first: UInt32, _ second: UInt32) -> UInt32? {
        if Self.leading..<(Self.leading + Self.leadingCount) ~= first,
            Self.vowel..<(Self.vowel + Self.vowelCount) ~= second
        {
            return Self.syllables
                + ((first - Self.leading) * Self.vowelCount + second - Self.vowel) * Self.trailingCount
        }
        if Self.syllables..<(Self.syllables + Self.syllableCount) ~= first,
            (first - Self.syllables).isMultiple(of: Self.trailingCount),
            (Self.trailing + 1)..<(Self.trailing + Self.trailingCount) ~= second
        {
            return first + second - Self.trailing
        }
        return nil
    }
}
