import Foundation
import Testing

@testable import SQL

/// Texts that were made to hurt: the answer is a class, in the time that a text of that length may take.
@Suite struct HostileTests {
    static let pieces = [
        "(", ")", "[", "]", "{", "NOT ", "-", "- ", "@", "a.", "SELECT(", "SELECT (SELECT ", "1+", "a||", "ARRAY[", "'",
        "\"", "$", "$a$", "/*", "*/", "--", "E'", "\\",
        "CASE WHEN a THEN ", "CASE ", "END ", "SELECT 1 UNION ", "UNION ", "a::int", "::int", "a JOIN b ON ",
        "a NATURAL JOIN ", " COLLATE b ", ";", ",", "((1),", "x IS NULL AND ",
        "WITH a AS (", "WITH RECURSIVE a AS (SELECT 1) ", "a BETWEEN 1 AND NOT ", "\0", "1.", "1e", "$1", "$1,", "a ",
        "f(a,", "1 IN (", "NOT(", "a.union+", "a.when + ", "a AND ",
        "EXPLAIN ", "a IS NULL ", "[1]", "a[1:", "ROW(", "GROUPING SETS (", "U&'", "U&\"", " UESCAPE '!'", "0x", "/*/*",
        "'\n'", "END+CASE WHEN a.end ", "BEGIN;",
    ]

    private static let deep: [(String, @Sendable (Int) -> String)] = [
        ("NOT", { String(repeating: "NOT ", count: $0) + "a" }), ("-", { String(repeating: "- ", count: $0) + "a" }),
        ("SELECT", { String(repeating: "(SELECT ", count: $0) + "1" + String(repeating: ")", count: $0) }),
        ("FROM", { String(repeating: "(SELECT * FROM ", count: $0) + "a" + String(repeating: " x)", count: $0) }),
        ("function", { String(repeating: "f(", count: $0) + "1" + String(repeating: ")", count: $0) }),
        ("ARRAY", { String(repeating: "ARRAY[", count: $0) + "1" + String(repeating: "]", count: $0) }),
        ("+", { "1" + String(repeating: "+a", count: $0) }), ("::", { "a" + String(repeating: "::int", count: $0) }),
        ("CASE", { String(repeating: "CASE WHEN a THEN ", count: $0) + "1" + String(repeating: " END", count: $0) }),
        ("BETWEEN", { String(repeating: "a BETWEEN 1 AND NOT ", count: $0) + "b" }),
        ("IN", { String(repeating: "a IN (", count: $0) + "1" + String(repeating: ")", count: $0) }),
        (
            "WITH",
            { String(repeating: "(WITH x AS (SELECT 1) SELECT ", count: $0) + "1" + String(repeating: ")", count: $0) }
        ),
        ("UNION", { "1" + String(repeating: " UNION SELECT 1", count: $0) }),
        ("EXISTS", { String(repeating: "EXISTS (SELECT WHERE ", count: $0) + "a" + String(repeating: ")", count: $0) }),
        ("ROW", { String(repeating: "ROW(1, ", count: $0) + "1" + String(repeating: ")", count: $0) }),
    ]

    /// Runs in a thread with a quarter of the stack that threads have by default.
    private static func withSmallStack<Value: Sendable>(_ body: @escaping @Sendable () -> Value) async -> Value {
        await withCheckedContinuation { continuation in
            let thread = Thread { continuation.resume(returning: body()) }
            thread.stackSize = 2 << 20
            thread.start()
        }
    }

    @Test(arguments: Self.pieces) func repeated(piece: String) async {
        let answered = await Self.withSmallStack {
            var subject = Subject()
            var answered = 0
            for (length, prefixes) in [
                (100, ["", "SELECT ", "SELECT a FROM b WHERE "]), (4096, ["", "SELECT ", "SELECT * FROM "]),
                (60 << 10, ["SELECT "]),
            ] {
                let count = length / piece.utf8.count + 1
                for prefix in prefixes {
                    for suffix in ["", " 1" + String(repeating: ")", count: count)] {
                        let text = prefix + String(repeating: piece, count: count) + suffix
                        if !subject(text).statementClass.reason.isEmpty { answered += 1 }
                    }
                }
            }
            return answered
        }
        #expect(answered == 14)
    }

    /// Trees just below the limit of depth, of all sorts, in a thread with little stack.
    @Test func deepTreesFitTheStack() async {
        let depths = await Self.withSmallStack {
            Self.deep.map { name, text in
                var subject = Subject()
                // The greatest depth that is understood, by bisection.
                var deepest = 1
                var tooDeep = 1000
                while tooDeep - deepest > 1 {
                    let depth = (deepest + tooDeep) / 2
                    if subject("SELECT " + text(depth)).statementClass.isUnparsed {
                        tooDeep = depth
                    } else {
                        deepest = depth
                    }
                }
                return (name, deepest)
            }
        }
        for (name, deepest) in depths {
            #expect(deepest >= 60, "\(name)")
            #expect(deepest <= NestingDepth.limit, "\(name)")
        }
    }

    @Test func wideTreesAreUnderstood() {
        var subject = Subject()
        for text in [
            "SELECT " + (0..<5000).map { "a\($0) + 1" }.joined(separator: ", "),
            "SELECT * FROM t WHERE " + (0..<3000).map { "a\($0) = 1" }.joined(separator: " AND "),
            "SELECT * FROM t WHERE " + (0..<1500).map { "(a\($0) = 1 AND b IS NULL)" }.joined(separator: " OR "),
            "SELECT CASE " + (0..<2000).map { "WHEN a = \($0) THEN b\($0)" }.joined(separator: " ") + " END",
            "SELECT * FROM t0 "
                + (1..<100).map { "JOIN t\($0) ON t\($0).id = t\($0 - 1).id AND t\($0).x > 1" }.joined(separator: " "),
            (0..<300).map { "SELECT a\($0), b, c FROM t\($0)" }.joined(separator: " UNION ALL "),
            (0..<3000).map { "SELECT a\($0)" }.joined(separator: ";"),
        ] {
            #expect(text.utf8.count < 64 << 10)
            let found = subject(text).statementClass
            #expect(found.kind == .read, "\(text.prefix(40)): \(found.reason)")
        }
    }

    /// Statements with bytes changed, cut, and put together anew.
    @Test func mutatedStatements() {
        var subject = Subject()
        let seeds = [
            "SELECT a, 'it''s', E'\\'', $1 FROM \"t\" /* x */ WHERE b IN (1, 2, 3) -- y",
            "WITH x AS (INSERT INTO t VALUES (1, $$a$$) RETURNING *) SELECT f(x) FROM x FOR UPDATE",
            "COPY (SELECT U&'\\0061' UESCAPE '!') TO STDOUT",
            "BEGIN ISOLATION LEVEL SERIALIZABLE; SET LOCAL a = 'b'; EXPLAIN (ANALYZE off) SELECT 1::int[] || ARRAY[-1]",
        ].map { Array($0.utf8) }
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<5000 {
            var text = seeds.randomElement(using: &generator) ?? []
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                let place = Int.random(in: 0..<text.count, using: &generator)
                switch Int.random(in: 0..<4, using: &generator) {
                case 0: text[place] = UInt8.random(in: 0...255, using: &generator)
                case 1: text[place] = Array("'\"$\\/*-();,.:&".utf8).randomElement(using: &generator) ?? 0
                case 2: text.removeSubrange(place..<min(text.count, place + 3))
                default: text.insert(contentsOf: (seeds.randomElement(using: &generator) ?? []).prefix(7), at: place)
                }
                if text.isEmpty { text = [0x20] }
            }
            #expect(!subject(text).statementClass.reason.isEmpty)
        }
    }

    @Test func aNULIsNeverUnderstood() {
        var subject = Subject()
        for text in ["\0", "SELECT 1\0", "SELECT 1\0; DROP TABLE t", "SELECT\0 1"] {
            #expect(subject(text).statementClass.kind == .write)
        }
        #expect(subject("SELECT '\0'").statementClass.kind == .read)
    }

    @Test func invalidUTF8IsANameLikeAnyOther() {
        var subject = Subject()
        #expect(subject(Array("SELECT ".utf8) + [0xFF, 0xC0]).statementClass.kind == .read)
        #expect(subject(Array("SELECT ".utf8) + [0xFF, 0xC0] + Array("()".utf8)).statementClass.kind == .write)
    }

    /// Ten times the length costs about ten times the time, and no memory but the buffer: quadratic work would never end.
    @Test func hugeTextsTakeLinearTime() {
        var subject = Subject(textLimit: 20 << 20)
        let list = "SELECT * FROM t WHERE id IN (" + (0..<200_000).map { String($0) }.joined(separator: ",") + ")"
        for text in [
            list, String(repeating: "$a", count: 1 << 18),
            "$" + String(repeating: "a", count: 1 << 17) + String(repeating: "$a", count: 1 << 17),
            String(repeating: "'\n", count: 1 << 18),
            String(repeating: "/*", count: 1 << 18), String(repeating: "((((1),", count: 1 << 18),
            String(repeating: "1--\n", count: 1 << 17),
        ] {
            #expect(!subject(text).statementClass.reason.isEmpty)
        }
        #expect(subject(list).statementClass.kind == .read)
        #expect(subject(list + " AND f()").statementClass.kind == .write)
    }
}
