/// A word of a console command.
enum ConsoleToken: Equatable {
    /// Letters, digits and what else occurs in database names and in plain values, so that `PAUSE my-db` needs no
    /// quotes.
    case word(String)
    /// `"…"`, with `""` for a quote.
    case quotedName(String)
    /// `'…'`, with `''` for a quote.
    case string(String)
    case equals
    case semicolon

    /// What may name a database.
    var name: String? {
        switch self {
        case .word(let name), .quotedName(let name): name
        case .string, .equals, .semicolon: nil
        }
    }

    /// What may be a setting's value.
    var text: String? {
        switch self {
        case .word(let text), .quotedName(let text), .string(let text): text
        case .equals, .semicolon: nil
        }
    }

    /// Cuts a query into words; comments (`-- …` and `/* … */`) are white space.
    static func tokens(of query: [UInt8]) throws(ConsoleCommand.SyntaxError) -> [ConsoleToken] {
        var tokens: [ConsoleToken] = []
        var rest = query[...]
        while let byte = rest.first {
            if Self.isSpace(byte) {
                rest = rest.dropFirst()
            } else if rest.starts(with: "--".utf8) {
                rest = rest.drop { $0 != UInt8(ascii: "\n") }
            } else if rest.starts(with: "/*".utf8) {
                rest = try Self.skipComment(rest)
            } else if byte == UInt8(ascii: ";") {
                tokens.append(.semicolon)
                rest = rest.dropFirst()
            } else if byte == UInt8(ascii: "=") {
                tokens.append(.equals)
                rest = rest.dropFirst()
            } else if byte == UInt8(ascii: "\"") {
                tokens.append(.quotedName(try Self.takeQuoted(&rest)))
            } else if byte == UInt8(ascii: "'") {
                tokens.append(.string(try Self.takeQuoted(&rest)))
            } else if Self.isWord(byte) {
                tokens.append(.word(Self.takeWord(&rest)))
            } else {
                throw ConsoleCommand.SyntaxError()
            }
        }
        return tokens
    }

    private static func isSpace(_ byte: UInt8) -> Bool {
        byte == UInt8(ascii: " ") || (0x09...0x0d).contains(byte)
    }

    private static func isWord(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), 0x80...0xff:
            true
        default: "_-.$@*+:%/,".utf8.contains(byte)
        }
    }

    private static func takeWord(_ rest: inout ArraySlice<UInt8>) -> String {
        var end = rest.startIndex
        while end < rest.endIndex, Self.isWord(rest[end]) {
            // A comment may follow a word without a space.
            if rest[end...].starts(with: "--".utf8) || rest[end...].starts(with: "/*".utf8) { break }
            end += 1
        }
        defer { rest = rest[end...] }
        return String(decoding: rest[..<end], as: UTF8.self)
    }

    /// Takes what begins with a quote up to its end; two quotes stand for one.
    static func takeQuoted(_ rest: inout ArraySlice<UInt8>) throws(ConsoleCommand.SyntaxError) -> String {
        guard let quote = rest.popFirst() else { throw ConsoleCommand.SyntaxError() }
        var text: [UInt8] = []
        while let byte = rest.popFirst() {
            if byte == quote {
                guard rest.first == quote else { return String(decoding: text, as: UTF8.self) }
                rest = rest.dropFirst()
            }
            text.append(byte)
        }
        throw ConsoleCommand.SyntaxError()
    }

    /// Comments nest, as in PostgreSQL.
    private static func skipComment(
        _ text: ArraySlice<UInt8>
    ) throws(ConsoleCommand.SyntaxError) -> ArraySlice<UInt8> {
        var rest = text
        var depth = 0
        repeat {
            if rest.starts(with: "/*".utf8) {
                depth += 1
                rest = rest.dropFirst(2)
            } else if rest.starts(with: "*/".utf8) {
                depth -= 1
                rest = rest.dropFirst(2)
            } else if rest.isEmpty {
                throw ConsoleCommand.SyntaxError()
            } else {
                rest = rest.dropFirst()
            }
        } while depth > 0
        return rest
    }
}
