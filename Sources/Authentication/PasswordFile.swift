/// PgBouncer's `auth_file`: one `"user" "secret"` a line.
///
/// A double quote inside a value is doubled; a line that begins with `;` or `#` is a comment; what follows the secret is
/// ignored. Other than in PgBouncer a value ends on its own line, and a bad line does not hide those after it.
public enum PasswordFile {
    /// Longest value in bytes.
    public static let valueLimit = 65_535

    /// Reads a whole file.
    ///
    /// - Parameters:
    ///   - text: the contents, in UTF-8; passwords may hold any bytes but zero.
    ///   - file: its name for the diagnostics.
    /// - Returns: the secrets by user (of a user that appears twice, the last), and one `file:line: …` for each line that
    ///   is wrong, which keeps the file from being used, or doubtful; none of them contains a secret.
    public static func parse(
        _ text: Span<UInt8>, file: String
    ) -> (secrets: [String: Secret], errors: [String], doubts: [String]) {
        var secrets: [String: Secret] = [:]
        var errors: [String] = []
        var doubts: [String] = []
        var firstLines: [String: Int] = [:]
        var start = Self.startsWithByteOrderMark(text) ? 3 : 0
        var number = 0
        while start < text.count {
            var end = start
            while end < text.count, text[end] != UInt8(ascii: "\n") { end += 1 }
            number += 1
            do {
                if let entry = try Self.entry(text.extracting(start..<end)) {
                    if let first = firstLines[entry.user] {
                        doubts.append(
                            "\(file):\(number): user \"\(entry.user)\" is on line \(first) too; the last counts")
                    }
                    if let doubt = entry.doubt { doubts.append("\(file):\(number): \(doubt)") }
                    firstLines[entry.user] = number
                    secrets[entry.user] = entry.secret
                }
            } catch {
                errors.append("\(file):\(number): \(error.text)")
            }
            start = end + 1
        }
        return (secrets, errors, doubts)
    }

    /// The same for text.
    public static func parse(
        _ text: String, file: String
    ) -> (secrets: [String: Secret], errors: [String], doubts: [String]) {
        self.parse(Array(text.utf8).span, file: file)
    }

    private struct Entry {
        let user: String
        let secret: Secret
        let doubt: String?
    }

    private struct LineError: Error {
        let text: String
    }

    /// Reads one line; nil for an empty one and for a comment.
    private static func entry(_ line: Span<UInt8>) throws(LineError) -> Entry? {
        var cursor = 0
        Self.skipSpaces(line, &cursor)
        guard cursor < line.count, line[cursor] != UInt8(ascii: ";"), line[cursor] != UInt8(ascii: "#") else {
            return nil
        }
        let name = try Self.quoted(line, &cursor, what: "user")
        Self.skipSpaces(line, &cursor)
        let value = try Self.quoted(line, &cursor, what: "password")
        guard !name.isEmpty else { throw LineError(text: "user name is empty") }
        guard let user = String(validating: name, as: UTF8.self) else {
            throw LineError(text: "user name is not valid UTF-8")
        }
        let secret = Secret(parsing: value.span)
        // Nobody has such a password: it is a secret that was cut or mistyped, and would lock its user out.
        if case .plain = secret, value.starts(with: "SCRAM-SHA-256$".utf8) {
            throw LineError(text: "secret of user \"\(user)\" begins with SCRAM-SHA-256$ but is malformed")
        }
        let doubt = value.isEmpty ? "user \"\(user)\" has an empty password and cannot log in with it" : nil
        return Entry(user: user, secret: secret, doubt: doubt)
    }

    /// Reads a value in double quotes, where a doubled one stands for itself.
    private static func quoted(
        _ line: Span<UInt8>, _ cursor: inout Int, what: String
    ) throws(LineError) -> [UInt8] {
        guard cursor < line.count, line[cursor] == UInt8(ascii: "\"") else {
            throw LineError(text: "\(what) in double quotes expected")
        }
        cursor += 1
        var value: [UInt8] = []
        while cursor < line.count {
            let byte = line[cursor]
            cursor += 1
            if byte == UInt8(ascii: "\"") {
                guard cursor < line.count, line[cursor] == UInt8(ascii: "\"") else { return value }
                cursor += 1
            }
            guard byte != 0 else { throw LineError(text: "zero byte in \(what)") }
            guard value.count < Self.valueLimit else {
                throw LineError(text: "\(what) is longer than \(Self.valueLimit) bytes")
            }
            value.append(byte)
        }
        throw LineError(text: "\(what) has no closing double quote")
    }

    private static func skipSpaces(_ line: Span<UInt8>, _ cursor: inout Int) {
        while cursor < line.count, line[cursor] == UInt8(ascii: " ") || 0x09...0x0D ~= line[cursor] { cursor += 1 }
    }

    private static func startsWithByteOrderMark(_ text: Span<UInt8>) -> Bool {
        text.count >= 3 && text[0] == 0xEF && text[1] == 0xBB && text[2] == 0xBF
    }
}
