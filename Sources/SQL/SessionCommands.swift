/// What a text does to the session that runs it, as far as a pooler has to know: `DEALLOCATE` of a statement, and commands
/// that may change a setting. Statements of a Query are looked at one by one; what functions do is not seen.
public struct SessionCommands: Sendable, Equatable {
    /// DEALLOCATE of one statement.
    public struct Deallocation: Sendable, Equatable {
        /// As PostgreSQL reads it: in lower case unless quoted, at most 63 bytes.
        public let name: [UInt8]
        /// Where the name stands, quotes included.
        public let range: Range<Int>
    }

    public private(set) var deallocations: [Deallocation] = []
    /// Whether all statements are deallocated, by DEALLOCATE ALL or DISCARD ALL.
    public private(set) var deallocatesAll = false
    /// Whether one of the settings that were asked about may be changed.
    public private(set) var changesSettings = false

    /// Whether there may be such commands in a text. One pass, without an allocation.
    public static func mayBeIn(_ text: Span<UInt8>) -> Bool {
        var index = 0
        while index &+ 3 <= text.count {
            switch text[index] | 0x20 {
            case UInt8(ascii: "s") where text.hasWord("set", at: index, before: text.count): return true
            case UInt8(ascii: "d")
            where text.hasWord("deallocate", at: index, before: text.count)
                || text.hasWord("discard", at: index, before: text.count):
                return true
            default: index &+= 1
            }
        }
        return false
    }

    /// Whether a text may change what texts mean that are prepared behind it: it is none of the usual statements, or begins
    /// like a call of `set_config`. What other functions do is not seen.
    public static func mayChangeMeaning(_ bytes: Span<UInt8>, _ text: Range<Int>) -> Bool {
        var start = text.lowerBound
        while start < text.upperBound, bytes[start] <= UInt8(ascii: " ") { start &+= 1 }
        guard start &+ 5 < text.upperBound else { return start < text.upperBound }
        switch (bytes[start] | 0x20, bytes[start &+ 1] | 0x20, bytes[start &+ 2] | 0x20) {
        case (UInt8(ascii: "s"), UInt8(ascii: "e"), UInt8(ascii: "l")):
            return Self.maySetConfig(bytes, at: start, before: text.upperBound)
        // INSERT, UPDATE, DELETE, WITH, VALUES, FETCH, BEGIN, START, SAVEPOINT, RELEASE.
        case (UInt8(ascii: "i"), UInt8(ascii: "n"), _), (UInt8(ascii: "u"), UInt8(ascii: "p"), _),
            (UInt8(ascii: "d"), UInt8(ascii: "e"), UInt8(ascii: "l")), (UInt8(ascii: "w"), UInt8(ascii: "i"), _),
            (UInt8(ascii: "v"), UInt8(ascii: "a"), _), (UInt8(ascii: "f"), UInt8(ascii: "e"), _),
            (UInt8(ascii: "b"), UInt8(ascii: "e"), _), (UInt8(ascii: "s"), UInt8(ascii: "t"), _),
            (UInt8(ascii: "s"), UInt8(ascii: "a"), _), (UInt8(ascii: "r"), UInt8(ascii: "e"), UInt8(ascii: "l")):
            return false
        default: return true
        }
    }

    /// Whether `set_config(` or `pg_catalog.set_config(` may stand behind a SELECT and a space.
    @inline(__always)
    private static func maySetConfig(_ bytes: Span<UInt8>, at select: Int, before end: Int) -> Bool {
        let name = select &+ 7
        guard name &+ 21 < end else { return false }
        switch bytes[name] | 0x20 {
        case UInt8(ascii: "s"): return bytes[name &+ 3] == UInt8(ascii: "_")
        case UInt8(ascii: "p"): return bytes[name &+ 10] == UInt8(ascii: ".") && bytes[name &+ 14] == UInt8(ascii: "_")
        default: return false
        }
    }

    /// Whether `set_config` stands anywhere in a text. A look at its underscores.
    ///
    /// - Parameter end: behind the text; a NUL there may be part of what is looked at.
    public static func mentionsSetConfig(_ bytes: Span<UInt8>, from start: Int, to end: Int) -> Bool {
        var start = start
        while let underscore = bytes.first(UInt8(ascii: "_"), from: start, to: end) {
            if underscore >= 3, bytes.hasWord("set", at: underscore &- 3, before: end),
                bytes.hasWord("config", at: underscore &+ 1, before: end)
            {
                return true
            }
            start = underscore &+ 1
        }
        return false
    }

    /// Whether a text may be one that is answered like a SELECT and makes a relation: CREATE TABLE AS, CREATE MATERIALIZED
    /// VIEW, SELECT INTO.
    public static func mayMakeRelation(_ text: Span<UInt8>) -> Bool {
        var word: Range<Int> = 0..<0
        var index = 0
        while index < text.count {
            guard Lexer.isTagPart(text[index]) else {
                index &+= 1
                continue
            }
            let before = word
            let start = index
            while index < text.count, Lexer.isTagPart(text[index]) { index &+= 1 }
            word = start..<index
            switch word.count {
            case 6 where text.hasWord("create", at: start, before: index): return true
            case 4 where text.hasWord("into", at: start, before: index):
                if !text.hasWord("insert", at: before.lowerBound, before: before.upperBound)
                    && !text.hasWord("merge", at: before.lowerBound, before: before.upperBound)
                {
                    return true
                }
            default: break
            }
        }
        return false
    }

    /// - Parameters:
    ///   - text: SQL without its NUL.
    ///   - standardConformingStrings: whether a backslash in a plain string stands for itself.
    ///   - settings: names in lower case, those that a change of is asked about.
    public init(_ text: Span<UInt8>, standardConformingStrings: Bool, settings: Set<String>) {
        guard Self.mayBeIn(text) else { return }
        var lexer = Lexer(standardConformingStrings: standardConformingStrings)
        var token = lexer.next(text)
        while token.kind != .end {
            let first = token
            token = lexer.next(text)
            if Self.endsStatement(text, first) { continue }
            if first.kind == .word {
                let length = first.end - first.start
                if length == 10, text.hasWord("deallocate", at: first.start, before: first.end) {
                    self.deallocate(text, &lexer, &token)
                } else if length == 7, text.hasWord("discard", at: first.start, before: first.end) {
                    if Self.is("all", text, token) { self.deallocatesAll = true }
                } else if length == 3 && text.hasWord("set", at: first.start, before: first.end)
                    || length == 5 && text.hasWord("reset", at: first.start, before: first.end)
                {
                    while !Self.endsStatement(text, token) {
                        self.note(text, token, settings, orOneOf: Self.otherNames)
                        token = lexer.next(text)
                    }
                } else if length == 2, text.hasWord("do", at: first.start, before: first.end) {
                    // The block is a string; it is enough if it says both.
                    while !Self.endsStatement(text, token) {
                        if token.kind == .string {
                            self.look(text.extracting(token.start..<token.end), settings, orOneOf: Self.otherNames)
                        }
                        token = lexer.next(text)
                    }
                }
            }
            while !Self.endsStatement(text, token) {
                let isFunction = Self.is("set_config", text, token)
                token = lexer.next(text)
                if isFunction, token.kind == .byte, text[token.start] == UInt8(ascii: "(") {
                    token = lexer.next(text)
                    // A name that is not written out may be any.
                    if token.kind == .string {
                        self.look(text.extracting(token.start..<token.end), settings)
                    } else {
                        self.changesSettings = true
                    }
                }
            }
            if token.kind != .end { token = lexer.next(text) }
        }
    }

    /// Behind SET and RESET, what stands for one of the settings or all of them.
    private static let otherNames: Set<String> = [
        "all", "authorization", "names", "schema", "time", "xml",
    ]

    private static func endsStatement(_ text: Span<UInt8>, _ token: Lexer.Token) -> Bool {
        token.kind == .end || token.kind == .byte && text[token.start] == UInt8(ascii: ";")
    }

    private static func `is`(_ word: String, _ text: Span<UInt8>, _ token: Lexer.Token) -> Bool {
        switch token.kind {
        case .word:
            token.end - token.start == word.utf8.count && text.hasWord(word, at: token.start, before: token.end)
        case .quotedIdentifier:
            token.end - token.start == word.utf8.count + 2
                && text.hasWord(word, at: token.start + 1, before: token.end - 1)
        default: false
        }
    }

    // MARK: DEALLOCATE

    private mutating func deallocate(_ text: Span<UInt8>, _ lexer: inout Lexer, _ token: inout Lexer.Token) {
        var name = token
        token = lexer.next(text)
        // PREPARE is a noise word, unless it is the name.
        if Self.is("prepare", text, name), name.kind == .word, !Self.endsStatement(text, token) {
            name = token
            token = lexer.next(text)
        }
        guard Self.endsStatement(text, token), let bytes = Self.identifier(text, name) else { return }
        if name.kind == .word && bytes == Array("all".utf8) {
            self.deallocatesAll = true
            return
        }
        self.deallocations.append(Deallocation(name: bytes, range: name.start..<name.end))
    }

    /// An identifier as PostgreSQL reads it; nil for any other token, and for one written with escapes of Unicode.
    private static func identifier(_ text: Span<UInt8>, _ token: Lexer.Token) -> [UInt8]? {
        var bytes: [UInt8] = []
        switch token.kind {
        case .word:
            for index in token.start..<token.end { bytes.append(text[index].lowercased) }
        case .quotedIdentifier where text[token.start] == UInt8(ascii: "\""):
            var index = token.start + 1
            while index < token.end - 1 {
                bytes.append(text[index])
                index += text[index] == UInt8(ascii: "\"") ? 2 : 1
            }
        default: return nil
        }
        return bytes.count <= 63 ? bytes : Array(bytes.prefix(63))
    }

    // MARK: Settings

    private mutating func note(
        _ text: Span<UInt8>, _ token: Lexer.Token, _ settings: Set<String>, orOneOf others: Set<String> = []
    ) {
        switch token.kind {
        case .word, .quotedIdentifier, .string:
            self.look(text.extracting(token.start..<token.end), settings, orOneOf: others)
        case .unterminated: self.changesSettings = true
        case .number, .parameter, .operator, .dot, .byte, .end: break
        }
    }

    /// Looks for names in a text, whatever is around them.
    private mutating func look(_ text: Span<UInt8>, _ settings: Set<String>, orOneOf others: Set<String> = []) {
        guard !self.changesSettings else { return }
        var index = 0
        while index < text.count {
            guard Lexer.isTagPart(text[index]) else {
                index += 1
                continue
            }
            var word: [UInt8] = []
            while index < text.count, Lexer.isTagPart(text[index]) {
                if word.count < 64 { word.append(text[index].lowercased) }
                index += 1
            }
            let name = String(decoding: word, as: UTF8.self)
            if settings.contains(name) || others.contains(name) {
                self.changesSettings = true
                return
            }
        }
    }
}
