/// Text that may be a stranger's, made fit for a line of the log or for an administrator's terminal.
public enum HarmlessText {
    /// For the log: nothing breaks the line, talks to a terminal, changes the order of what is read, or cannot be seen.
    ///
    /// Control characters become `\n`, `\t` or `\x1b`, others `\u{202e}`. What is longer than the limit is cut.
    /// - Parameter limit: in bytes.
    public static func line(_ text: String, limit: Int = .max) -> String {
        Self.escaped(text, limit: limit) { scalar in
            Self.isDisruptive(scalar) || scalar.properties.generalCategory == .format
                || scalar.properties.isDefaultIgnorableCodePoint
        }
    }

    /// For a table: as for the log, but what cannot be seen stays, as it may be part of a name.
    public static func cell(_ text: String) -> String {
        if text.utf8.allSatisfy({ 0x20..<0x7F ~= $0 }) { return text }
        return Self.escaped(text, limit: .max, Self.isDisruptive)
    }

    /// Whether it breaks lines, talks to a terminal, or changes the order in which those around it are shown.
    static func isDisruptive(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.properties.generalCategory {
        case .control, .lineSeparator, .paragraphSeparator: true
        default: scalar.properties.isBidiControl
        }
    }

    static func escape(_ scalar: Unicode.Scalar) -> String {
        switch scalar {
        case "\n": return "\\n"
        case "\r": return "\\r"
        case "\t": return "\\t"
        default:
            let digits = String(scalar.value, radix: 16)
            guard scalar.value > 0xFF else { return "\\x" + (digits.count < 2 ? "0" : "") + digits }
            return "\\u{\(digits)}"
        }
    }

    private static func escaped(_ text: String, limit: Int, _ isHarmful: (Unicode.Scalar) -> Bool) -> String {
        var result = ""
        for scalar in text.unicodeScalars {
            if result.utf8.count >= limit {
                result += "…"
                break
            }
            if 0x20..<0x7F ~= scalar.value || !isHarmful(scalar) {
                result.unicodeScalars.append(scalar)
            } else {
                result += Self.escape(scalar)
            }
        }
        return result
    }
}
