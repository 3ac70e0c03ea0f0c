/// Where the statements of a text are.
public enum StatementText {
    /// Where a text can be divided behind so many of its statements: the position behind the semicolon; nil if that cannot
    /// be told, because bodies of functions have semicolons, too.
    ///
    /// - Parameters:
    ///   - text: SQL without its NUL.
    ///   - standardConformingStrings: whether a backslash in a plain string literal stands for itself.
    public static func end(
        of count: Int, in text: Span<UInt8>, standardConformingStrings: Bool
    ) -> Int? {
        var lexer = Lexer(standardConformingStrings: standardConformingStrings)
        var statements = 0
        var depth = 0
        var isEmpty = true
        while true {
            let token = lexer.next(text)
            switch token.kind {
            case .end, .unterminated: return nil
            case .byte:
                switch text[token.start] {
                case UInt8(ascii: "("): depth += 1
                case UInt8(ascii: ")"): depth -= 1
                // Of an empty statement the parser makes nothing.
                case UInt8(ascii: ";") where depth == 0:
                    if !isEmpty { statements += 1 }
                    if statements == count { return token.end }
                    isEmpty = true
                    continue
                default: break
                }
            case .word:
                // BEGIN ATOMIC, the body of a function.
                if token.end - token.start == 6 && text.hasWord("atomic", at: token.start, before: token.end) {
                    return nil
                }
            case .quotedIdentifier, .string, .number, .parameter, .operator, .dot: break
            }
            isEmpty = false
        }
    }

    /// Whether a text is one statement, or cannot be divided.
    ///
    /// - Parameters: as of `end(of:in:standardConformingStrings:)`.
    public static func isOne(_ text: Span<UInt8>, standardConformingStrings: Bool) -> Bool {
        let end = Self.end(of: 1, in: text, standardConformingStrings: standardConformingStrings) ?? text.count
        var lexer = Lexer(standardConformingStrings: standardConformingStrings)
        let rest = text.extracting(end..<text.count)
        while true {
            let token = lexer.next(rest)
            if token.kind == .end { return true }
            guard token.kind == .byte, rest[token.start] == UInt8(ascii: ";") else { return false }
        }
    }
}
