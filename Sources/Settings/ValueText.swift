/// The notations of values in the configuration file.
enum ValueText {
    /// A whole number within `bounds`, decimal or hexadecimal with `0x`.
    static func integer(_ text: String, _ bounds: ClosedRange<Int>) throws(InvalidValue) -> Int {
        guard !text.isEmpty else { throw InvalidValue("needs a value") }
        let isHexadecimal = text.hasPrefix("0x") || text.hasPrefix("0X")
        let digits = isHexadecimal ? text.dropFirst(2) : text[...]
        let magnitude = digits.first == "-" && !isHexadecimal ? digits.dropFirst() : digits
        guard !magnitude.isEmpty, magnitude.allSatisfy({ $0.isASCII && $0.isHexDigit }),
            isHexadecimal || magnitude.allSatisfy({ $0.isWholeNumber })
        else {
            throw InvalidValue("must be a whole number, not \(quoted(text))")
        }
        // In C's notation 010 is eight; who writes it may mean either.
        guard isHexadecimal || magnitude.count == 1 || magnitude.first != "0" else {
            throw InvalidValue("must be written without leading zeros, not \(quoted(text))")
        }
        guard let value = Int(digits, radix: isHexadecimal ? 16 : 10), bounds.contains(value) else {
            throw InvalidValue("must be from \(bounds.lowerBound) to \(bounds.upperBound), not \(text.prefix(40))")
        }
        return value
    }

    /// A number of bytes: `65536`, `64kB`, `512MB`, `2 GB`; units in PostgreSQL's words, each 1024 of the one before.
    static func size(_ text: String) throws(InvalidValue) -> Int {
        let units = ["", "kB", "MB", "GB", "TB"]
        let number = text.prefix { $0.isASCII && $0.isNumber }
        let unit = Self.trimmed(text.dropFirst(number.count))
        guard let count = Int(number), let power = units.firstIndex(of: unit == "B" ? "" : unit) else {
            throw InvalidValue(
                text.isEmpty
                    ? "needs a value"
                    : "must be a number of bytes, or one with a unit (kB, MB, GB, TB), not \(quoted(text))")
        }
        let (bytes, overflow) = count.multipliedReportingOverflow(by: 1 << (10 * power))
        guard !overflow else { throw InvalidValue("is too large: \(text.prefix(40))") }
        return bytes
    }

    /// A file mode: octal with a leading 0, up to 0777.
    static func fileMode(_ text: String) throws(InvalidValue) -> Int {
        guard !text.isEmpty else { throw InvalidValue("needs a value") }
        let isOctal = text.hasPrefix("0") && text.utf8.count <= 8
        guard isOctal, text.utf8.allSatisfy({ (0x30...0x37).contains($0) }), let value = Int(text, radix: 8),
            value <= 0o777
        else {
            throw InvalidValue("must be an octal number from 0 to 0777 with a leading 0, not \(quoted(text))")
        }
        return value
    }

    /// 0 or 1, as PgBouncer has it, or a word. A number other than 0 is true, as in PgBouncer.
    static func flag(_ text: String) throws(InvalidValue) -> Bool {
        switch text.lowercased() {
        case "1", "on", "true", "yes": return true
        case "0", "off", "false", "no": return false
        case "": throw InvalidValue("needs a value")
        default:
            guard text.utf8.count < 10, text.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else {
                throw InvalidValue("must be 0 or 1, not \(quoted(text))")
            }
            return text.contains { $0 != "0" }
        }
    }

    /// The items between commas, without blanks around them and without empty ones.
    static func list(_ text: String) -> [String] {
        text.split(separator: ",").map { Self.trimmed($0) }.filter { !$0.isEmpty }
    }

    /// The case whose word `text` is, in any mixture of upper and lower case.
    static func choice<Choice: RawRepresentable<String> & CaseIterable & Hashable>(
        _ text: String
    ) throws(InvalidValue) -> Choice {
        guard let choice = Choice.allCases.first(where: { $0.rawValue == text.lowercased() }) else {
            throw Self.wrongWord(text, among: Choice.allCases.map(\.rawValue))
        }
        return choice
    }

    /// The one of `words` that `text` is, in any mixture of upper and lower case.
    static func word(_ text: String, among words: [String]) throws(InvalidValue) -> String {
        guard words.contains(text.lowercased()) else { throw Self.wrongWord(text, among: words) }
        return text.lowercased()
    }

    private static func wrongWord(_ text: String, among words: [String]) -> InvalidValue {
        guard !text.isEmpty else { return InvalidValue("needs a value") }
        return InvalidValue(
            "must be one of \(words.joined(separator: ", ")), not \(quoted(text))"
                + NearestName.suggestion(for: text, in: words))
    }

    /// A text without the blanks at both ends.
    static func trimmed(_ text: some StringProtocol) -> String {
        let start = text.drop { Self.isBlank($0) }
        guard let last = start.lastIndex(where: { !Self.isBlank($0) }) else { return "" }
        return String(start[...last])
    }

    /// True for the white space of C's `isspace`.
    static func isBlank(_ character: Character) -> Bool {
        switch character {
        case " ", "\t", "\n", "\r", "\r\n", "\u{0B}", "\u{0C}": true
        default: false
        }
    }
}
