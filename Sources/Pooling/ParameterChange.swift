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
    /// - Parameters:
    ///   - changes: one at least.
    ///   - client: the client's settings, for its encoding.
    public static func statement(_ changes: [ParameterChange], client: ParameterSet) -> String {
        changes.map { $0.statement(encoding: client["client_encoding"]?.text ?? "UTF8") }.joined(separator: ";")
    }

    /// The text of a statement, one only, that makes the changes until the transaction ends. It is ASCII, as above.
    ///
    /// - Parameters:
    ///   - changes: one at least.
    ///   - client: the client's settings, for its encoding.
    public static func localStatement(_ changes: [ParameterChange], client: ParameterSet) -> String {
        let encoding = client["client_encoding"]?.text ?? "UTF8"
        let calls = changes.map { change in
            switch change {
            case .set(let parameter):
                "pg_catalog.set_config(\(self.literal(parameter.name)), "
                    + "\(self.value(parameter, encoding: encoding)), true)"
            case .reset(let name):
                "pg_catalog.set_config(\(self.literal(name)), (SELECT reset_val FROM pg_catalog.pg_settings "
                    + "WHERE pg_catalog.lower(name) = \(self.literal(name.lowercased()))), true)"
            }
        }
        return "SELECT " + calls.joined(separator: ", ")
    }

    /// The text of a statement, one only, that sets settings. It is ASCII, as above.
    ///
    /// - Parameters:
    ///   - parameters: one at least.
    ///   - isLocal: until the transaction ends.
    public static func statement(_ parameters: [Parameter], isLocal: Bool, client: ParameterSet) -> String {
        let encoding = client["client_encoding"]?.text ?? "UTF8"
        let calls = parameters.map { parameter in
            "pg_catalog.set_config(\(self.literal(parameter.name)), \(self.value(parameter, encoding: encoding)), "
                + "\(isLocal))"
        }
        return "SELECT " + calls.joined(separator: ", ")
    }

    /// A value as an expression.
    private static func value(_ parameter: Parameter, encoding: String) -> String {
        if parameter.value.allSatisfy({ $0 < 128 && $0 != 0 }) { return self.literal(parameter.text) }
        return "pg_catalog.convert_from(pg_catalog.decode('\(self.hex(parameter.value))', 'hex'), "
            + "\(self.literal(encoding)))"
    }

    private func statement(encoding: String) -> String {
        switch self {
        case .reset(let name):
            return "RESET " + name.split(separator: ".").map { "\"\($0)\"" }.joined(separator: ".")
        case .set(let parameter):
            let value = ParameterChange.value(parameter, encoding: encoding)
            if ParameterNames.scalar.contains(parameter.key) && parameter.value.allSatisfy({ $0 < 128 && $0 != 0 }) {
                return "SET \(parameter.name) = \(value)"
            }
            return "SELECT pg_catalog.set_config(\(ParameterChange.literal(parameter.name)), \(value), false)"
        }
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
