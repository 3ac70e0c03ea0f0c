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

    @Test(
        arguments: [
            ("SELECT 1", true), (";; SELECT ';' ;; -- a\n;", true), ("SELECT 1; SELECT 2", false), (" LOCK t;x", false),
        ])
    func oneStatementIsOne(text: String, expected: Bool) {
        #expect(StatementText.isOne(Array(text.utf8).span, standardConformingStrings: true) == expected)
    }

    @Test func backslashesAreReadAsTheSessionHasThem() {
        let text = Array(#"SELECT 'a\'; COMMIT; SELECT 2 --'; COMMIT"#.utf8)
        #expect(StatementText.end(of: 1, in: text.span, standardConformingStrings: true) == 12)
        #expect(StatementText.end(of: 1, in: text.span, standardConformingStrings: false) == 34)
    }

    @Test(
        arguments: [
            ("COMMIT", .end(isChained: false)), (";; end WORK ;", .end(isChained: false)),
            ("/* a */ Rollback Transaction", .end(isChained: false)), ("ABORT AND NO CHAIN", .end(isChained: false)),
            ("COMMIT WORK AND CHAIN; --", .end(isChained: true)), ("", .empty), (" ; /* a */ ;", .empty),
            ("COMMIT; SELECT 1", nil), ("COMMIT PREPARED 'a'", nil), ("ROLLBACK TO a", nil), ("COMMIT AND", nil),
            ("\"commit\"", nil), ("COMMIT /* a", nil), ("BEGIN", nil), ("COMMITTED", nil),
        ] as [(String, StatementText.TransactionEnd?)])
    func theEndOfATransactionIsFound(text: String, expected: StatementText.TransactionEnd?) {
        let all = Array(text.utf8)
        #expect(StatementText.transactionEnd(all.span, standardConformingStrings: true) == expected)
    }

    @Test(
        arguments: [
            ("BEGIN", true), (";begin; INSERT INTO t VALUES ('x", true), ("-- a\nSTART /* b */ transaction", true),
            ("START", false), ("BEGINNING", false), ("SELECT 1; BEGIN", false), ("", false), ("COMMIT", false),
        ])
    func theBeginningOfATransactionIsFound(text: String, expected: Bool) {
        let all = Array(text.utf8)
        #expect(StatementText.beginsTransaction(all.span, standardConformingStrings: true) == expected)
    }
}
