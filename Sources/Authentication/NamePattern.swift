/// A regular expression for names, searched anywhere in them unless it is anchored by `^` and `$`.
///
/// The syntax is that of Swift's `Regex` (of Perl's kind); for what ident maps and rules use it means what PostgreSQL's
/// does.
struct NamePattern: Sendable, Equatable {
    let text: String
    /// Parts in parentheses.
    let captures: Int

    init(_ text: String) throws(RuleError) {
        self.text = text
        do {
            let match = try Self.regex(text)
            self.captures = match.captures
        } catch {
            throw RuleError("is not a regular expression: \(text)")
        }
    }

    // A compiled Regex belongs to one thread, so it is made anew for each login that gets here: some microseconds.
    private static func regex(_ text: String) throws -> (regex: Regex<AnyRegexOutput>, captures: Int) {
        let regex = try Regex(text).matchingSemantics(.unicodeScalar)
        return (regex, text.isEmpty ? 0 : Self.captureCount(text))
    }

    /// Parentheses that capture: not escaped, not in brackets, not `(?…`.
    private static func captureCount(_ text: String) -> Int {
        var count = 0
        var isEscaped = false
        var isInBrackets = false
        let characters = Array(text.unicodeScalars)
        for (index, character) in characters.enumerated() {
            if isEscaped {
                isEscaped = false
                continue
            }
            switch character {
            case "\\": isEscaped = true
            case "[": isInBrackets = true
            case "]": isInBrackets = false
            case "(" where !isInBrackets:
                if index + 1 >= characters.count || characters[index + 1] != "?" { count += 1 }
            default: break
            }
        }
        return count
    }

    /// Nil if the name does not match; else the first part in parentheses, empty if there is none.
    func firstCapture(in name: String) -> String? {
        guard let regex = try? Self.regex(self.text).regex, let match = try? regex.firstMatch(in: name) else {
            return nil
        }
        guard match.output.count > 1 else { return "" }
        return match.output[1].substring.map { String($0) } ?? ""
    }

    func matches(_ name: String) -> Bool { self.firstCapture(in: name) != nil }
}
