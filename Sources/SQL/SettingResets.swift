import Glibc  // memchr: the texts of statements are long

/// Commands in a text that change settings, to tell which of them go back to what the session began with: RESET, SET … TO
/// DEFAULT, DISCARD ALL. What functions do is not seen.
public struct SettingResets: Sendable, Equatable {
    /// A command that is answered by SET, RESET or DISCARD ALL.
    public enum Command: Sendable, Equatable {
        /// RESET of a setting by its name in lower case.
        case reset(String)
        case resetAll
        case discardAll
        /// SET … TO DEFAULT. `isLocal`: to the end of the transaction.
        case setDefault(String, isLocal: Bool)
        /// SET of a setting to a value.
        case set(String, isLocal: Bool)
        /// SET of something else.
        case other

        /// How it is answered.
        public var tag: StaticString {
            switch self {
            case .reset, .resetAll: "RESET"
            case .discardAll: "DISCARD ALL"
            case .setDefault, .set, .other: "SET"
            }
        }
    }

    /// In the order of the text.
    public private(set) var commands: [Command] = []

    /// Whether any of them goes back.
    public var hasResets: Bool {
        self.commands.contains { command in
            switch command {
            case .reset, .resetAll, .discardAll, .setDefault: true
            case .set, .other: false
            }
        }
    }

    /// Whether a statement that begins here may be such a command, or something stands before it. A look at two letters.
    @inlinable @inline(__always)
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
        var last = end &- 1
        while last > start, bytes[last] <= UInt8(ascii: " ") || bytes[last] == UInt8(ascii: ";") { last &-= 1 }
        guard start < last else { return false }
        return unsafe bytes.extracting(start..<last).withUnsafeBytes { bytes in
            unsafe bytes.baseAddress.map { unsafe memchr($0, Int32(UInt8(ascii: ";")), bytes.count) != nil } ?? false
        }
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

    /// - Parameters:
    ///   - text: SQL without its NUL.
    ///   - standardConformingStrings: whether a backslash in a plain string stands for itself.
    public init(_ text: Span<UInt8>, standardConformingStrings: Bool) {
        var lexer = Lexer(standardConformingStrings: standardConformingStrings)
        var token = lexer.next(text)
        while token.kind != .end {
            if Self.isEnd(text, token) {
                token = lexer.next(text)
                continue
            }
            // Within the body of a function, or a rule, none of these commands may stand.
            let isCandidate = Self.isCandidate(text, token)
            var words: [String] = []
            while !Self.isEnd(text, token) {
                if isCandidate && words.count < Self.mostWords { words.append(Self.word(text, token)) }
                token = lexer.next(text)
            }
            if isCandidate, let command = Self.command(words) { self.commands.append(command) }
        }
    }

    /// A command that goes back has fewer.
    private static let mostWords = 16

    private static func isEnd(_ text: Span<UInt8>, _ token: Lexer.Token) -> Bool {
        token.kind == .end || token.kind == .byte && text[token.start] == UInt8(ascii: ";")
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

    /// What a command does, by its words; nil if it has another answer.
    private static func command(_ words: [String]) -> Command? {
        guard words.count > 1 else { return nil }
        var rest = words[1...]
        switch words[0] {
        case "discard": return rest == ["all"] ? .discardAll : nil
        case "reset":
            if rest == ["all"] { return .resetAll }
            if rest == ["time", "zone"] { return .reset("timezone") }
            if rest == ["session", "authorization"] { return .reset("session_authorization") }
            return .reset(rest.joined())
        default: break
        }
        let isLocal = rest.first == "local"
        if isLocal || rest.first == "session" && rest.dropFirst().first != "authorization" { rest = rest.dropFirst() }
        switch rest.first {
        case "constraints": return nil
        case "time" where rest.dropFirst().first == "zone":
            let value = rest.dropFirst(2)
            return value == ["default"] || value == ["local"]
                ? .setDefault("timezone", isLocal: isLocal) : .set("timezone", isLocal: isLocal)
        case "names":
            let value = rest.dropFirst()
            return value.isEmpty || value == ["default"]
                ? .setDefault("client_encoding", isLocal: isLocal) : .set("client_encoding", isLocal: isLocal)
        case "session" where rest.dropFirst().first == "authorization":
            return rest.dropFirst(2) == ["default"]
                ? .setDefault("session_authorization", isLocal: isLocal)
                : .set("session_authorization", isLocal: isLocal)
        case "schema": return .set("search_path", isLocal: isLocal)
        case "role": return .set("role", isLocal: isLocal)
        case "transaction", "characteristics", "xml", nil: return .other
        default: break
        }
        guard let sign = rest.firstIndex(where: { $0 == "=" || $0 == "to" }) else { return .other }
        let name = rest[..<sign].joined()
        return rest[(sign + 1)...] == ["default"]
            ? .setDefault(name, isLocal: isLocal) : .set(name, isLocal: isLocal)
    }
}

extension Span<UInt8> {
    /// Where a byte stands first, from one position to before another one.
    func first(_ byte: UInt8, from start: Int, to end: Int) -> Int? {
        unsafe self.withUnsafeBytes { bytes in
            guard let base = bytes.baseAddress, start < end, end <= bytes.count else { return nil }
            guard let found = unsafe memchr(base + start, Int32(byte), end - start) else { return nil }
            return unsafe UnsafeRawPointer(found) - base
        }
    }
}
