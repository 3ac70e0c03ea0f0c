/// A key and its value out of a connection string.
struct Assignment: Equatable {
    var key: String
    var value: String
}

/// Connection strings in keyword notation: `host=pg1 port=5432 password='two words'`.
///
/// Blanks separate the pairs. In single quotes two quotes stand for one and a backslash for itself, as in PgBouncer.
/// libpq's `\'` for a quote is understood too, where PgBouncer would see an error: before anything but a blank, the end
/// and another quote.
struct ConnectionString {
    private var rest: Substring
    private var lastKey: String?

    /// Reads a whole connection string. An error never quotes a value.
    static func parse(_ text: String) throws(InvalidValue) -> [Assignment] {
        var parser = Self(rest: text[...])
        var assignments: [Assignment] = []
        while let assignment = try parser.next() {
            assignments.append(assignment)
        }
        return assignments
    }

    /// Writes an assignment so that `parse` reads it again.
    static func print(_ assignment: Assignment) -> String {
        let value = assignment.value
        let isPlain =
            !value.isEmpty && value.first != "'" && !value.contains { ValueText.isBlank($0) }
        return isPlain
            ? "\(assignment.key)=\(value)"
            : "\(assignment.key)='\(value.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "''"))'"
    }

    private mutating func next() throws(InvalidValue) -> Assignment? {
        self.skipBlanks()
        guard !self.rest.isEmpty else { return nil }
        let key = String(self.rest.prefix { $0 != "=" && !ValueText.isBlank($0) })
        self.rest = self.rest.dropFirst(key.count)
        self.skipBlanks()
        guard self.rest.first == "=" else {
            // The word may be the rest of a password with a blank in it, so it is not shown.
            let place = self.lastKey.map { "behind the value of \(quoted($0))" } ?? "in its first word"
            throw InvalidValue("lacks a \"=\" \(place); a value with blanks needs single quotes")
        }
        guard !key.isEmpty else { throw InvalidValue("lacks a key before a \"=\"") }
        self.rest = self.rest.dropFirst()
        self.skipBlanks()
        self.lastKey = key
        return Assignment(key: key, value: try self.value(of: key))
    }

    private mutating func value(of key: String) throws(InvalidValue) -> String {
        guard self.rest.first == "'" else {
            let value = self.rest.prefix { !ValueText.isBlank($0) }
            self.rest = self.rest.dropFirst(value.count)
            guard !value.isEmpty else { throw InvalidValue("lacks the value of \(quoted(key))") }
            return String(value)
        }
        self.rest = self.rest.dropFirst()
        var value = ""
        while let character = self.rest.popFirst() {
            let following = self.rest.first
            if character == "'" {
                guard following == "'" else {
                    guard following.map({ ValueText.isBlank($0) }) ?? true else {
                        throw InvalidValue("has text directly behind the quoted value of \(quoted(key))")
                    }
                    return value
                }
                value.append("'")
                self.rest = self.rest.dropFirst()
            } else if character == "\\", following == "'", self.isQuoteInsideTheValue {
                value.append("'")
                self.rest = self.rest.dropFirst()
            } else {
                value.append(character)
            }
        }
        throw InvalidValue("lacks the closing quote of the value of \(quoted(key))")
    }

    /// True when the quote that comes next can neither end the value nor be one of two.
    private var isQuoteInsideTheValue: Bool {
        self.rest.dropFirst().first.map { $0 != "'" && !ValueText.isBlank($0) } ?? false
    }

    private mutating func skipBlanks() {
        self.rest = self.rest.drop { ValueText.isBlank($0) }
    }
}

extension [SettingKey<DatabaseSettings>] {
    /// The keys that differ from an empty entry, as a connection string without secrets.
    func connectionString(of database: DatabaseSettings) -> String {
        let plain = DatabaseSettings(name: database.name)
        return self.compactMap { key in
            guard let value = key.show(database), key.print(database) != key.print(plain) else { return nil }
            return ConnectionString.print(Assignment(key: key.name, value: value))
        }.joined(separator: " ")
    }
}
