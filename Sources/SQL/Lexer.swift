/// What PostgreSQL's lexer (src/backend/parser/scan.l) makes of a text, one token at a time, without a copy of it.
///
/// One linear pass, no allocation. White space and comments are passed over; what they say about the route is kept.
struct Lexer {
    struct Token {
        enum Kind {
            /// A keyword or an identifier without quotes.
            case word
            /// "name" or U&"name".
            case quotedIdentifier
            /// Any string or bit string literal with its continuation on other lines, quotes included.
            case string
            case number
            /// `$1`
            case parameter
            /// A run of operator characters; PostgreSQL may split it (`=-` is two operators), never join two of them. Also
            /// `:`, `::` and `:=`.
            case `operator`
            /// `.` and `..`
            case dot
            /// Any other single byte: `( ) [ ] , ;`, or one that is an error anywhere.
            case byte
            /// A literal, name or comment that never ends; the text's rest.
            case unterminated
            case end
        }

        let kind: Kind
        let start: Int
        let end: Int
    }

    /// Whether a backslash in a plain string stands for itself.
    let standardConformingStrings: Bool
    /// Where the next token, or what is in front of it, begins.
    private(set) var position = 0
    /// What the comments passed so far ask for; the first counts.
    private(set) var override: RouteOverride?
    /// One of them is for the router, and has words that mean nothing to it.
    private(set) var isHintMistaken = false

    /// - Parameter start: where the first token, or what is in front of it, begins.
    init(standardConformingStrings: Bool, from start: Int = 0) {
        self.standardConformingStrings = standardConformingStrings
        self.position = start
    }

    /// The next token; `end` again and again at the end.
    ///
    /// - Parameter text: the same at each call.
    @inline(__always)
    mutating func next(_ text: Span<UInt8>) -> Token {
        var start = self.position
        while start < text.count {
            let byte = text[start]
            if Self.isSpace(byte) {
                start &+= 1
            } else if byte == UInt8(ascii: "-"), text.byte(start &+ 1) == UInt8(ascii: "-") {
                start = self.lineComment(text, start)
            } else if byte == UInt8(ascii: "/"), text.byte(start &+ 1) == UInt8(ascii: "*") {
                guard let end = self.blockComment(text, start) else {
                    return self.token(.unterminated, start, text.count)
                }
                start = end
            } else {
                return self.token(text, start, byte)
            }
        }
        return self.token(.end, text.count, text.count)
    }

    @inline(__always)
    private mutating func token(_ kind: Token.Kind, _ start: Int, _ end: Int) -> Token {
        self.position = end
        return Token(kind: kind, start: start, end: end)
    }

    @inline(__always)
    private mutating func token(_ text: Span<UInt8>, _ start: Int, _ byte: UInt8) -> Token {
        if Self.isWordStart(byte) { return self.word(text, start) }
        if Self.isDigit(byte) { return self.token(.number, start, Self.numberEnd(text, start)) }
        switch byte {
        case UInt8(ascii: "'"):
            return self.string(text, start, quote: start, escapes: !self.standardConformingStrings)
        case UInt8(ascii: "\""):
            return self.quotedIdentifier(text, start, quote: start)
        case UInt8(ascii: "$"):
            return self.dollar(text, start)
        case UInt8(ascii: "."):
            let next = text.byte(start &+ 1)
            if Self.isDigit(next) { return self.token(.number, start, Self.numberEnd(text, start)) }
            return self.token(.dot, start, next == UInt8(ascii: ".") ? start &+ 2 : start &+ 1)
        case UInt8(ascii: ":"):
            let next = text.byte(start &+ 1)
            let isPair = next == UInt8(ascii: ":") || next == UInt8(ascii: "=")
            return self.token(.operator, start, isPair ? start &+ 2 : start &+ 1)
        default:
            guard Self.isOperator(byte) else { return self.token(.byte, start, start &+ 1) }
            return self.token(.operator, start, Self.operatorEnd(text, start))
        }
    }

    // MARK: Words and names

    @inline(__always)
    private mutating func word(_ text: Span<UInt8>, _ start: Int) -> Token {
        var end = start &+ 1
        while end < text.count, Self.isWordPart(text[end]) { end &+= 1 }
        // A single letter directly in front of a quote belongs to the literal.
        if end &- start == 1, end < text.count, text[end] == UInt8(ascii: "'") || text[end] == UInt8(ascii: "&") {
            if let token = self.prefixed(text, start) { return token }
        }
        return self.token(.word, start, end)
    }

    /// E'', B'', X'', N'', U&'' and U&"".
    private mutating func prefixed(_ text: Span<UInt8>, _ start: Int) -> Token? {
        let next = text.byte(start &+ 1)
        switch text[start] | 0x20 {
        case UInt8(ascii: "e") where next == UInt8(ascii: "'"):
            return self.string(text, start, quote: start &+ 1, escapes: true)
        case UInt8(ascii: "n") where next == UInt8(ascii: "'"):
            return self.string(text, start, quote: start &+ 1, escapes: !self.standardConformingStrings)
        case UInt8(ascii: "b") where next == UInt8(ascii: "'"), UInt8(ascii: "x") where next == UInt8(ascii: "'"):
            return self.string(text, start, quote: start &+ 1, escapes: false, doubles: false)
        case UInt8(ascii: "u") where next == UInt8(ascii: "&") && text.byte(start &+ 2) == UInt8(ascii: "'"):
            return self.string(text, start, quote: start &+ 2, escapes: false)
        case UInt8(ascii: "u") where next == UInt8(ascii: "&") && text.byte(start &+ 2) == UInt8(ascii: "\""):
            return self.quotedIdentifier(text, start, quote: start &+ 2)
        default:
            return nil
        }
    }

    private mutating func quotedIdentifier(_ text: Span<UInt8>, _ start: Int, quote: Int) -> Token {
        var index = quote &+ 1
        while index < text.count {
            if text[index] == UInt8(ascii: "\"") {
                if text.byte(index &+ 1) != UInt8(ascii: "\"") {
                    return self.token(.quotedIdentifier, start, index &+ 1)
                }
                index &+= 1
            }
            index &+= 1
        }
        return self.token(.unterminated, start, text.count)
    }

    // MARK: Literals

    /// - Parameters:
    ///   - quote: where the opening quote stands.
    ///   - escapes: whether a backslash takes the next character's meaning away.
    ///   - doubles: whether two quotes are one; else each ends the literal.
    private mutating func string(
        _ text: Span<UInt8>, _ start: Int, quote: Int, escapes: Bool, doubles: Bool = true
    ) -> Token {
        var index = quote &+ 1
        while index < text.count {
            let byte = text[index]
            if byte == UInt8(ascii: "\\") && escapes {
                index &+= 2
            } else if byte != UInt8(ascii: "'") {
                index &+= 1
            } else if doubles && text.byte(index &+ 1) == UInt8(ascii: "'") {
                index &+= 2
            } else if let next = Self.continuation(text, index &+ 1) {
                index = next
            } else {
                return self.token(.string, start, index &+ 1)
            }
        }
        return self.token(.unterminated, start, text.count)
    }

    /// `$1`, or a literal between `$tag$` and `$tag$`.
    private mutating func dollar(_ text: Span<UInt8>, _ start: Int) -> Token {
        var index = start &+ 1
        if Self.isDigit(text.byte(index)) {
            while Self.isDigit(text.byte(index)) { index &+= 1 }
            return self.token(.parameter, start, index)
        }
        if Self.isWordStart(text.byte(index)) {
            while Self.isTagPart(text.byte(index)) { index &+= 1 }
        }
        guard text.byte(index) == UInt8(ascii: "$") else { return self.token(.byte, start, start &+ 1) }
        index &+= 1
        let length = index &- start
        // Linear: a comparison ends at the next dollar, from where the search goes on.
        while index &+ length <= text.count {
            var same = 0
            while same < length, text[index &+ same] == text[start &+ same] { same &+= 1 }
            if same == length { return self.token(.string, start, index &+ length) }
            index &+= max(same, 1)
        }
        return self.token(.unterminated, start, text.count)
    }

    // MARK: Comments

    private mutating func lineComment(_ text: Span<UInt8>, _ start: Int) -> Int {
        let end = Self.lineEnd(text, start)
        self.note(text, start &+ 2, end)
        return end
    }

    /// Behind a comment and those nested in it; nil if it does not end.
    private mutating func blockComment(_ text: Span<UInt8>, _ start: Int) -> Int? {
        var index = start &+ 2
        var depth = 1
        while index &+ 1 < text.count {
            if text[index] == UInt8(ascii: "*") && text[index &+ 1] == UInt8(ascii: "/") {
                index &+= 2
                depth &-= 1
                if depth == 0 {
                    self.note(text, start &+ 2, index &- 2)
                    return index
                }
            } else if text[index] == UInt8(ascii: "/") && text[index &+ 1] == UInt8(ascii: "*") {
                index &+= 2
                depth &+= 1
            } else {
                index &+= 1
            }
        }
        return nil
    }

    @inline(__always)
    private mutating func note(_ text: Span<UInt8>, _ start: Int, _ end: Int) {
        guard let hint = RouteOverride.hint(text, from: start, to: end) else { return }
        if self.override == nil { self.override = hint.override }
        if hint.isMistaken { self.isHintMistaken = true }
    }
}
