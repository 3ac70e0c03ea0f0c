import Glibc  // memchr: the texts of statements are long

/// Commands in a text that set settings back to what the session began with: RESET, SET … TO DEFAULT, DISCARD ALL. What
/// functions do is not seen.
public struct SettingResets: Sendable, Equatable {
    public enum Target: Sendable, Equatable {
        /// By its name in lower case.
        case one(String)
        /// RESET ALL.
        case all
        /// DISCARD ALL.
        case discarded
    }

    public struct Command: Sendable, Equatable {
        public let target: Target
        /// SET LOCAL: to the end of the transaction.
        public let isLocal: Bool
        /// How many statements stand before it.
        public let number: Int
        /// Where it ends, its semicolon included.
        public let end: Int
        public let hasSemicolon: Bool
    }

    public private(set) var commands: [Command] = []
    /// How many statements the text has.
    public private(set) var statements = 0

    /// Whether a statement that begins here may be such a command, or something stands before it. A look at two letters.
    public static func mayBegin(_ bytes: Span<UInt8>, at start: Int, before end: Int) -> Bool {
        guard start &+ 2 < end else { return false }
        switch bytes[start] | 0x20 {
        // SET; SELECT ends here.
        case UInt8(ascii: "s"): return bytes[start &+ 2] | 0x20 == UInt8(ascii: "t")
        case UInt8(ascii: "r"), UInt8(ascii: "d"), UInt8(ascii: "/"), UInt8(ascii: "-"), UInt8(ascii: ";"): return true
        default: return bytes[start] <= UInt8(ascii: " ")
        }
    }

    /// Whether there may be another statement behind the first one: a semicolon, and more than white space behind it.
    ///
    /// - Parameter end: behind the text; a NUL there may be part of what is looked at.
    public static func mayHaveSeveral(_ bytes: Span<UInt8>, from start: Int, to end: Int) -> Bool {
        let semicolon: Int? = unsafe bytes.withUnsafeBytes { bytes in
            guard let base = bytes.baseAddress, start < end, end <= bytes.count else { return nil }
            guard let found = unsafe memchr(base + start, Int32(UInt8(ascii: ";")), end - start) else { return nil }
            return unsafe UnsafeRawPointer(found) - base
        }
        guard var index = semicolon else { return false }
        while index < end, bytes[index] <= UInt8(ascii: " ") || bytes[index] == UInt8(ascii: ";") { index &+= 1 }
        return index < end
    }

    /// Whether there may be such commands in a text. One pass, without an allocation.
    public static func mayBeIn(_ text: Span<UInt8>) -> Bool {
        var start = 0
        while start &+ 5 <= text.count {
            switch text[start] | 0x20 {
            case UInt8(ascii: "r") where text.hasWord("reset", at: start, before: text.count): return true
            case UInt8(ascii: "d")
            where text.hasWord("discard", at: start, before: text.count)
                || text.hasWord("default", at: start, before: text.count):
                return true
            case UInt8(ascii: "n") where text.hasWord("names", at: start, before: text.count): return true
            case UInt8(ascii: "l") where text.hasWord("local", at: start, before: text.count): return true
            default: start &+= 1
            }
        }
        return false
    }

    /// Nil if it cannot be told where statements end.
    ///
    /// - Parameters:
    ///   - text: SQL without its NUL.
    ///   - standardConformingStrings: whether a backslash in a plain string stands for itself.
    public init?(_ text: Span<UInt8>, standardConformingStrings: Bool) {
        var lexer = Lexer(standardConformingStrings: standardConformingStrings)
        var token = lexer.next(text)
        while token.kind != .end {
            if Self.isByte(";", text, token) {
                token = lexer.next(text)
                continue
            }
            let isCandidate = Self.isCandidate(text, token)
            var words: [String] = []
            var depth = 0
            while token.kind != .end {
                if depth == 0 && Self.isByte(";", text, token) { break }
                if Self.isByte("(", text, token) { depth += 1 }
                if Self.isByte(")", text, token) { depth -= 1 }
                // The body of a function has semicolons, too.
                if token.kind == .unterminated || Self.word(text, token) == "atomic" { return nil }
                if isCandidate && words.count < Self.mostWords { words.append(Self.word(text, token)) }
                token = lexer.next(text)
            }
            let hasSemicolon = token.kind != .end
            let end = hasSemicolon ? token.end : text.count
            if isCandidate, let (target, isLocal) = Self.command(words) {
                self.commands.append(
                    Command(
                        target: target, isLocal: isLocal, number: self.statements, end: end,
                        hasSemicolon: hasSemicolon))
            }
            self.statements += 1
            if hasSemicolon { token = lexer.next(text) }
        }
    }

    /// A command of this kind has fewer.
    private static let mostWords = 16

    private static func isByte(_ byte: Unicode.Scalar, _ text: Span<UInt8>, _ token: Lexer.Token) -> Bool {
        token.kind == .byte && text[token.start] == UInt8(ascii: byte)
    }

    private static func isCandidate(_ text: Span<UInt8>, _ token: Lexer.Token) -> Bool {
        guard token.kind == .word else { return false }
        return switch token.end - token.start {
        case 3: text.hasWord("set", at: token.start, before: token.end)
        case 5: text.hasWord("reset", at: token.start, before: token.end)
        case 7: text.hasWord("discard", at: token.start, before: token.end)
        default: false
        }
    }

    /// A token as text: names in lower case, as names of settings are compared without regard to case.
    private static func word(_ text: Span<UInt8>, _ token: Lexer.Token) -> String {
        var bytes: [UInt8] = []
        switch token.kind {
        case .quotedIdentifier:
            for index in (token.start + 1)..<max(token.start + 1, token.end - 1) {
                bytes.append(text[index].lowercased)
            }
        case .word, .operator, .dot, .byte:
            for index in token.start..<token.end { bytes.append(text[index].lowercased) }
        // What is in there is no name.
        case .string, .number, .parameter, .unterminated, .end: return "'"
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// What a command sets back, by its words.
    private static func command(_ words: [String]) -> (Target, isLocal: Bool)? {
        guard words.count > 1, words.count < self.mostWords else { return nil }
        var rest = words[1...]
        switch words[0] {
        case "discard": return rest == ["all"] ? (.discarded, false) : nil
        case "reset":
            if rest == ["all"] { return (.all, false) }
            if rest == ["time", "zone"] { return (.one("timezone"), false) }
            if rest.count > 1 && (rest.first == "session" || rest.first == "transaction") { return nil }
            return (.one(rest.joined()), false)
        default: break
        }
        let isLocal = rest.first == "local"
        if isLocal || rest.first == "session" { rest = rest.dropFirst() }
        if rest == ["time", "zone", "default"] || rest == ["time", "zone", "local"] {
            return (.one("timezone"), isLocal)
        }
        if rest == ["names"] || rest == ["names", "default"] { return (.one("client_encoding"), isLocal) }
        guard rest.count > 2, rest.last == "default", let sign = rest.dropLast().last, sign == "=" || sign == "to"
        else {
            return nil
        }
        return (.one(rest.dropLast(2).joined()), isLocal)
    }
}
