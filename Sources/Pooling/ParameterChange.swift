/// A change of a setting that a server connection needs.
public enum ParameterChange: Sendable, Equatable {
    case set(Parameter)
    /// Back to the value the connection began with.
    case reset(String)

    /// The text of a Query that makes the changes, all or none.
    ///
    /// It is ASCII whatever the values are: one that is not is converted from the client's encoding by the server. So
    /// neither the encoding the connection has at that moment, nor `standard_conforming_strings`, nor an encoding whose
    /// characters contain the bytes of a quote or backslash (SJIS, GBK, …) can change its meaning.
    ///
    /// Where it can be said with SET it is: SET takes no snapshot, so it works in a transaction that has yet to set its
    /// isolation level, and on a standby whatever the level is.
    ///
    /// - Parameters:
    ///   - changes: one at least.
    ///   - isLocal: until the transaction ends.
    ///   - client: the client's settings, for its encoding.
    public static func statement(_ changes: [ParameterChange], isLocal: Bool = false, client: ParameterSet) -> String {
        self.statements(changes, isLocal: isLocal, client: client).joined(separator: ";")
    }

    /// The same, a text for each change.
    public static func statements(_ changes: [ParameterChange], isLocal: Bool, client: ParameterSet) -> [String] {
        changes.map { $0.statement(isLocal: isLocal, encoding: client["client_encoding"]?.text ?? "UTF8") }
    }

    private func statement(isLocal: Bool, encoding: String) -> String {
        switch self {
        case .reset(let name):
            return isLocal ? "SET LOCAL \(Self.quoted(name)) TO DEFAULT" : "RESET \(Self.quoted(name))"
        case .set(let parameter):
            if let value = Self.constant(parameter) {
                return "SET \(isLocal ? "LOCAL " : "")\(Self.quoted(parameter.name)) = \(value)"
            }
            return "SELECT pg_catalog.set_config(\(Self.literal(parameter.name)), "
                + "\(Self.value(parameter, encoding: encoding)), \(isLocal))"
        }
    }

    /// A setting's name, each of its parts in quotes.
    private static func quoted(_ name: String) -> String {
        name.split(separator: ".").map { "\"\($0)\"" }.joined(separator: ".")
    }

    /// What stands behind `SET … =` for a value; nil if nothing does.
    private static func constant(_ parameter: Parameter) -> String? {
        guard parameter.value.allSatisfy({ $0 < 128 && $0 != 0 }) else { return nil }
        guard ParameterNames.lists.contains(parameter.key) else { return self.literal(parameter.text) }
        // A constant is one name of the list. PostgreSQL writes the list anew: it must come out as it is.
        let names = parameter.text.split(separator: ",", omittingEmptySubsequences: false).map { part in
            part.first == " " ? part.dropFirst() : part
        }
        guard names.joined(separator: ", ") == parameter.text, names.allSatisfy(self.isPlainName) else { return nil }
        return names.map { self.literal(String($0 == "\"$user\"" ? "$user" : $0)) }.joined(separator: ", ")
    }

    /// Whether PostgreSQL writes a name without quotes, or it is the one that it never does.
    private static func isPlainName(_ name: Substring) -> Bool {
        if name == "\"$user\"" { return true }
        guard let first = name.utf8.first,
            (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(first) || first == UInt8(ascii: "_")
        else { return false }
        return name.utf8.count < 64
            && name.utf8.allSatisfy { byte in
                (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte) || byte == UInt8(ascii: "_")
                    || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
            }
    }

    /// A value as an expression.
    private static func value(_ parameter: Parameter, encoding: String) -> String {
        if parameter.value.allSatisfy({ $0 < 128 && $0 != 0 }) { return self.literal(parameter.text) }
        return "pg_catalog.convert_from(pg_catalog.decode('\(self.hex(parameter.value))', 'hex'), "
            + "\(self.literal(encoding)))"
    }

    /// A text as a string constant of SQL. There is no limit to its length.
    static func literal(_ text: String) -> String {
        var literal = text.utf8.contains(UInt8(ascii: "\\")) ? "E'" : "'"
        for character in text.unicodeScalars {
            // In E'…' a backslash is doubled; there is none in the other form.
            if character == "'" || character == "\\" { literal.unicodeScalars.append(character) }
            literal.unicodeScalars.append(character)
        }
        return literal + "'"
    }

    private static func hex(_ bytes: [UInt8]) -> String {
        let digits = Array("0123456789abcdef".unicodeScalars)
        var text = ""
        for byte in bytes {
            text.unicodeScalars.append(digits[Int(byte >> 4)])
            text.unicodeScalars.append(digits[Int(byte & 15)])
        }
        return text
    }
}
