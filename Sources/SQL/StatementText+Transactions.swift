extension StatementText {
    /// What ends a transaction, as far as it can be told by the text alone.
    public enum TransactionEnd: Sendable, Equatable {
        /// COMMIT or ROLLBACK; chained, if another transaction begins.
        case end(isChained: Bool)
        /// No statement at all.
        case empty
    }

    /// Whether a text is one COMMIT or ROLLBACK, or empty; nil if it is anything else.
    ///
    /// - Parameter text: SQL without its NUL.
    public static func transactionEnd(
        _ text: Span<UInt8>, standardConformingStrings: Bool
    ) -> TransactionEnd? {
        var lexer = Lexer(standardConformingStrings: standardConformingStrings)
        var token = Self.behindSemicolons(text, &lexer)
        if token.kind == .end { return .empty }
        guard Self.is(token, oneOf: ["commit", "end", "rollback", "abort"], text) else { return nil }
        token = lexer.next(text)
        if Self.is(token, oneOf: ["work", "transaction"], text) { token = lexer.next(text) }
        var isChained = false
        if Self.is(token, oneOf: ["and"], text) {
            token = lexer.next(text)
            isChained = true
            if Self.is(token, oneOf: ["no"], text) {
                token = lexer.next(text)
                isChained = false
            }
            guard Self.is(token, oneOf: ["chain"], text) else { return nil }
            token = lexer.next(text)
        }
        guard token.kind != .end else { return .end(isChained: isChained) }
        guard Self.isSemicolon(token, text), Self.behindSemicolons(text, &lexer).kind == .end else { return nil }
        return .end(isChained: isChained)
    }

    /// Whether the first statement of a text begins a transaction. Only the beginning of the text has to be there.
    ///
    /// - Parameter text: SQL without its NUL.
    public static func beginsTransaction(_ text: Span<UInt8>, standardConformingStrings: Bool) -> Bool {
        var lexer = Lexer(standardConformingStrings: standardConformingStrings)
        let first = Self.behindSemicolons(text, &lexer)
        if Self.is(first, oneOf: ["begin"], text) { return true }
        guard Self.is(first, oneOf: ["start"], text) else { return false }
        return Self.is(lexer.next(text), oneOf: ["transaction"], text)
    }

    /// The first token that is no semicolon.
    private static func behindSemicolons(_ text: Span<UInt8>, _ lexer: inout Lexer) -> Lexer.Token {
        var token = lexer.next(text)
        while Self.isSemicolon(token, text) { token = lexer.next(text) }
        return token
    }

    private static func isSemicolon(_ token: Lexer.Token, _ text: Span<UInt8>) -> Bool {
        token.kind == .byte && text[token.start] == UInt8(ascii: ";")
    }

    private static func `is`(_ token: Lexer.Token, oneOf words: [String], _ text: Span<UInt8>) -> Bool {
        token.kind == .word
            && words.contains {
                $0.utf8.count == token.end - token.start && text.hasWord($0, at: token.start, before: token.end)
            }
    }
}
