/// A command to the router itself, which no server gets to see: `SET martlet.route = 'primary'`, `RESET martlet.route`,
/// `SHOW martlet.lsn`.
///
/// One word: what is known of every statement has room for one, and hardly any has.
public indirect enum RouterCommand: Sendable, Equatable {
    /// The name is without "martlet." and in lower case; the value as written, without quotes. `SET SESSION` and `TO`
    /// are understood too.
    case set(name: String, value: String)
    /// RESET, and SET … TO DEFAULT.
    case reset(name: String)
    case show(name: String)

    /// The command that a text is; nil for everything else. Cheap when it is none: most texts are decided by their
    /// first letters.
    ///
    /// - Parameter text: SQL without its NUL.
    public init?(_ text: Span<UInt8>) {
        var words = Words(text)
        if words.take("set") {
            _ = words.take("session")
            guard let name = words.setting(), words.take("=") || words.take("to"), let value = words.value(),
                words.isAtEnd
            else {
                return nil
            }
            self = value.isDefault ? .reset(name: name) : .set(name: name, value: value.text)
        } else if words.take("reset") {
            guard let name = words.setting(), words.isAtEnd else { return nil }
            self = .reset(name: name)
        } else if words.take("show") {
            guard let name = words.setting(), words.isAtEnd else { return nil }
            self = .show(name: name)
        } else {
            return nil
        }
    }

    /// Reads a text token by token.
    private struct Words: ~Escapable {
        private let text: Span<UInt8>
        private var lexer = Lexer(standardConformingStrings: true)
        private var token: Lexer.Token

        @_lifetime(copy text)
        init(_ text: Span<UInt8>) {
            self.text = text
            self.token = self.lexer.next(text)
        }

        private mutating func advance() { self.token = self.lexer.next(self.text) }

        /// Passes a word or an operator, given in lower case, if it is the next one.
        mutating func take(_ word: String) -> Bool {
            guard self.token.kind == .word || self.token.kind == .operator,
                self.token.end - self.token.start == word.utf8.count,
                self.text.hasWord(word, at: self.token.start, before: self.token.end)
            else { return false }
            self.advance()
            return true
        }

        /// A name behind "martlet.".
        mutating func setting() -> String? {
            guard self.take("martlet"), self.token.kind == .dot, self.token.end - self.token.start == 1 else {
                return nil
            }
            self.advance()
            guard self.token.kind == .word else { return nil }
            let name = self.string(self.token.start, self.token.end, lowercase: true)
            self.advance()
            return name
        }

        /// A word, a number with or without its sign or unit, or a plain literal.
        mutating func value() -> (text: String, isDefault: Bool)? {
            let first = self.token
            switch first.kind {
            case .word:
                self.advance()
                let text = self.string(first.start, first.end)
                return (text, text.lowercased() == "default")
            case .number:
                self.advance()
                return (self.string(first.start, first.end), false)
            case .operator where first.end - first.start == 1 && self.text[first.start] == UInt8(ascii: "-"):
                self.advance()
                guard self.token.kind == .number else { return nil }
                let number = self.string(self.token.start, self.token.end)
                self.advance()
                return ("-\(number)", false)
            case .string where self.text[first.start] == UInt8(ascii: "'"):
                self.advance()
                guard let text = self.literal(first) else { return nil }
                return (text, false)
            case .quotedIdentifier where self.text[first.start] == UInt8(ascii: "\""):
                self.advance()
                guard let text = self.literal(first) else { return nil }
                return (text, false)
            default:
                return nil
            }
        }

        /// Only semicolons are left.
        var isAtEnd: Bool {
            mutating get {
                while self.token.kind == .byte, self.text[self.token.start] == UInt8(ascii: ";") { self.advance() }
                return self.token.kind == .end
            }
        }

        /// What is between quotes, those doubled halved; nil for a literal that goes on in another line.
        private func literal(_ token: Lexer.Token) -> String? {
            let quote = self.text[token.start]
            var bytes: [UInt8] = []
            var index = token.start + 1
            while index < token.end - 1 {
                if self.text[index] == quote {
                    guard self.text.byte(index + 1) == quote else { return nil }
                    index += 1
                }
                bytes.append(self.text[index])
                index += 1
            }
            return String(decoding: bytes, as: UTF8.self)
        }

        private func string(_ start: Int, _ end: Int, lowercase: Bool = false) -> String {
            var bytes: [UInt8] = []
            for index in start..<end { bytes.append(lowercase ? self.text[index].lowercased : self.text[index]) }
            return String(decoding: bytes, as: UTF8.self)
        }
    }
}
