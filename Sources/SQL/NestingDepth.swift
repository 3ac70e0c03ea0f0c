/// How deep the tree of a text may be.
///
/// PostgreSQL's parser keeps its stack on the heap, but to write, read and free the tree libpg_query and protobuf-c
/// call themselves for each level, with up to 5 KB of the thread's stack.
struct NestingDepth {
    /// Levels; deeper texts are not parsed. Whatever they consist of, they need less than 2 MB of stack.
    static let limit = 400

    /// What is between two brackets, as numbers of levels.
    private struct Level {
        /// Behind the opening bracket.
        let start: Int
        /// Where each element of a list begins.
        var element: Int
        /// Where each operand of AND and OR, and each branch of CASE, begins.
        var operand: Int
    }

    private var outer: [Level] = []
    private var level = Level(start: 0, element: 0, operand: 0)
    private var depth = 0

    /// Whether the tree of a text could have more levels than the limit.
    ///
    /// The estimate is never too low. Each token may be a level, until a comma ends the element of a list or a word ends the
    /// operand in front of it. JOIN, CASE, NOT and BETWEEN still hold behind such a word, UNION and its kin behind a comma, too.
    static func exceedsLimit(_ text: Span<UInt8>) -> Bool {
        var nesting = NestingDepth()
        var lexer = Lexer(standardConformingStrings: true)
        var isBehindDot = false
        while nesting.depth <= Self.limit {
            let token = lexer.next(text)
            switch token.kind {
            case .end: return false
            case .dot: break
            case .byte: nesting.byte(text[token.start])
            // A name with dots is a list, and what is behind a dot is never a keyword.
            case .word where isBehindDot: break
            case .word: nesting.word(text, token)
            case .quotedIdentifier, .string, .number, .parameter, .operator, .unterminated: nesting.depth += 1
            }
            isBehindDot = token.kind == .dot
        }
        return true
    }

    private mutating func byte(_ byte: UInt8) {
        switch byte {
        case UInt8(ascii: "("), UInt8(ascii: "["):
            self.depth += 1
            self.outer.append(self.level)
            self.level = Level(start: self.depth, element: self.depth, operand: self.depth)
        case UInt8(ascii: ")"), UInt8(ascii: "]"):
            self.depth = self.level.start
            if let level = self.outer.popLast() { self.level = level }
        case UInt8(ascii: ","):
            self.depth = self.level.element
            self.level.operand = self.level.element
        case UInt8(ascii: ";") where self.outer.isEmpty:
            self = NestingDepth()
        default:
            self.depth += 1
        }
    }

    private mutating func word(_ text: Span<UInt8>, _ token: Lexer.Token) {
        func matches(_ words: String...) -> Bool {
            words.contains {
                $0.utf8.count == token.end - token.start && text.hasWord($0, at: token.start, before: token.end)
            }
        }
        self.depth += 1
        guard token.end - token.start <= 9 else { return }
        if matches("and", "or", "when", "then", "else", "on", "where") {
            self.depth = self.level.operand
        } else if matches("join") {
            self.level.operand += 1
            self.depth = self.level.operand
        } else if matches("case", "not", "between") {
            self.level.operand += 1
        } else if matches("union", "intersect", "except") {
            self.level.element += 1
            self.level.operand = self.level.element
            self.depth = self.level.element
        }
    }
}
