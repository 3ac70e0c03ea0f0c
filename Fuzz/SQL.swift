@testable import SQL

extension FuzzTarget {
    /// A statement: its shape, and its class.
    static let sql = FuzzTarget(name: "sql") { bytes in
        let text = Array(bytes.prefix(8192))
        for conforming in [true, false] {
            let (shape, tokens) = try scan(text, conforming)
            var classifier = Classifier(catalogue: Catalogue())
            let found = classifier.classify(text.span, standardConformingStrings: conforming)
            try expect(!found.statementClass.reason.isEmpty, "a class without reason")
            // From the cache it is the same.
            let again = classifier.classify(text.span, standardConformingStrings: conforming)
            try expect(same(again.statementClass, found.statementClass), "another class the second time")
            try expect(again.override == found.override, "another route the second time")
            try checkSpaced(text, tokens, shape, conforming)
            if conforming { try checkMeaning(text, found.statementClass) }
        }
    }

    private static func same(_ one: StatementClass, _ other: StatementClass) -> Bool {
        one.kind == other.kind && one.reason == other.reason && one.transaction == other.transaction
            && one.bindsTransaction == other.bindsTransaction && one.ddl == other.ddl
    }

    /// Tokens follow each other and end; the shape keeps within its room.
    private static func scan(_ text: [UInt8], _ conforming: Bool) throws -> (shape: [UInt8], tokens: [Lexer.Token]) {
        var lexer = Lexer(standardConformingStrings: conforming)
        var tokens: [Lexer.Token] = []
        while true {
            let token = lexer.next(text.span)
            try expect(token.start >= tokens.last?.end ?? 0, "tokens that overlap, at \(token.start)")
            try expect(token.end <= text.count, "a token that ends behind the text")
            if token.kind == .end { break }
            try expect(token.end > token.start, "an empty token at \(token.start)")
            tokens.append(token)
        }
        var buffer = [UInt8](repeating: 0xEE, count: ShapeWriter.capacity(for: text.span))
        let (count, _, _) = ShapeWriter.write(
            text.span, standardConformingStrings: conforming, into: buffer.mutableSpan)
        try expect(count <= buffer.count, "a shape of \(count) bytes for \(text.count)")
        return (Array(buffer[..<count]), tokens)
    }

    /// White space and comments between the tokens change nothing.
    private static func checkSpaced(
        _ text: [UInt8], _ tokens: [Lexer.Token], _ shape: [UInt8], _ conforming: Bool
    ) throws {
        let fillers = [" ", "/* ' /* \" */ $$ */", "\t", "-- it's\n", "\n"].map { Array($0.utf8) }
        var spaced: [UInt8] = []
        for (number, token) in tokens.enumerated() {
            let filler = fillers[number % fillers.count]
            // A minus in front of a comment would begin it.
            if spaced.last == UInt8(ascii: "-") { spaced.append(0x20) }
            spaced += Self.divides(filler, tokens, number, text) ? filler : [0x20]
            spaced += text[token.start..<token.end]
            // What never ends must stay last.
            if token.kind == .unterminated { break }
        }
        let other = try scan(spaced, conforming).shape
        try expect(other == shape, "shape \(shown(shape)), with spaces \(shown(other)) of \(shown(spaced))")
    }

    /// Whether the filler may stand in front of a token: a line's end joins two literals to one.
    private static func divides(_ filler: [UInt8], _ tokens: [Lexer.Token], _ number: Int, _ text: [UInt8]) -> Bool {
        guard number > 0, tokens[number - 1].kind == .string, text[tokens[number].start] == UInt8(ascii: "'") else {
            return true
        }
        return !filler.contains(UInt8(ascii: "\n"))
    }

    /// A shape is never taken for more harmless than its text.
    private static func checkMeaning(_ text: [UInt8], _ found: StatementClass) throws {
        // In an invalid encoding, or nested too deeply, the text itself is not looked at.
        guard !NestingDepth.exceedsLimit(text.span), let tree = ParseTree(text.span) else { return }
        let kinds = tree.map { StatementVerdict(of: $0, Catalogue()).kind }
        let strictest = kinds.max() ?? .read
        try expect(found.kind >= strictest, "\(found.kind) (\(found.reason)), but the text itself is \(strictest)")
        // The other way round a read would lose its replica, which is no harm but a bug. Only of EXPLAIN (ANALYZE 'off')
        // the shape cannot know.
        let mayBeStricter = found.isUnparsed || kinds.count > 1 || found.reason.contains("EXPLAIN ANALYZE")
        try expect(
            found.kind == strictest || mayBeStricter,
            "\(found.kind) (\(found.reason)), but the text itself is only \(strictest)")
    }
}
