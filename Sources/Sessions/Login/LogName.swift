/// Names that clients choose, for log lines.
public enum LogName {
    /// The name; in double quotes if it could be taken for something else in the line (`alice@10.0.0.7:1 login attempt`),
    /// as nobody can end those from within: a double quote inside is doubled. The log escapes control characters.
    public static func text(_ name: String?) -> String? {
        guard let name else { return nil }
        let isPlain = name.unicodeScalars.allSatisfy { scalar in
            scalar.properties.isAlphabetic || scalar.properties.numericType != nil
                || "_-.$+*".unicodeScalars.contains(scalar)
        }
        if isPlain && !name.isEmpty { return name }
        var quoted = String.UnicodeScalarView()
        // Not by characters: a double quote with an accent is another one.
        for scalar in name.unicodeScalars { quoted += scalar == "\"" ? [scalar, scalar] : [scalar] }
        return "\"\(String(quoted))\""
    }
}
