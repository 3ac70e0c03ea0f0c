import TestSupport
import Testing

@testable import SQL

@Suite struct StatementTextTests {
    @Test(
        arguments: [
            ("SELECT 1; COMMIT; SELECT 2", 2, "SELECT 1; COMMIT;"), (";; COMMIT ;; SELECT 2", 1, ";; COMMIT ;"),
            ("SELECT ';'; COMMIT;", 1, "SELECT ';';"), ("/* ; */ COMMIT -- ;\n; BEGIN", 1, "/* ; */ COMMIT -- ;\n;"),
            ("SELECT $a$;$a$, \";\"; COMMIT; BEGIN", 2, "SELECT $a$;$a$, \";\"; COMMIT;"),
            (
                "CREATE RULE r AS ON INSERT TO a DO (SELECT 1; SELECT 2); COMMIT; BEGIN", 2,
                "CREATE RULE r AS ON INSERT TO a DO (SELECT 1; SELECT 2); COMMIT;"
            ),
            ("SELECT 1; COMMIT", 2, nil), ("SELECT 'x; COMMIT; SELECT 1", 1, nil),
            ("CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; END; COMMIT; SELECT 2", 2, nil),
        ] as [(String, Int, String?)])
    func aTextIsDividedBehindAStatement(text: String, count: Int, expected: String?) {
        let all = Array(text.utf8)
        let end = StatementText.end(of: count, in: all.span, standardConformingStrings: true)
        #expect(end.map { String(decoding: all[..<$0], as: UTF8.self) } == expected)
    }

    @Test func backslashesAreReadAsTheSessionHasThem() {
        let text = Array(#"SELECT 'a\'; COMMIT; SELECT 2 --'; COMMIT"#.utf8)
        #expect(StatementText.end(of: 1, in: text.span, standardConformingStrings: true) == 12)
        #expect(StatementText.end(of: 1, in: text.span, standardConformingStrings: false) == 34)
    }
}
