import SQL
import Testing

@Suite struct ClassifierTests {
    // MARK: Limits and the cache

    @Test func aTextOverTheLimitIsNotLookedAt() {
        var subject = Subject(textLimit: 8)
        #expect(subject("SELECT 1").statementClass.kind == .read)
        let result = subject("SELECT 12")
        #expect(result.statementClass === StatementClass.tooLong)
        #expect(!result.isMiss)
        #expect(subject.classifier.count == 1)
    }

    @Test func withoutTimeOnlyKnownShapesAreTold() {
        var classifier = Classifier(catalogue: Catalogue())
        func classify(_ text: String, mayParse: Bool) -> StatementClass {
            let bytes = Array(text.utf8)
            return classifier.classify(bytes.span, standardConformingStrings: true, mayParse: mayParse).statementClass
        }
        #expect(classify("SELECT 1", mayParse: false) === StatementClass.notParsed)
        #expect(classify("SELECT 1", mayParse: true).kind == .read, "it is not remembered")
        #expect(classify("SELECT 2", mayParse: false).kind == .read)
    }

    @Test func aShapeIsParsedOnce() {
        var subject = Subject()
        let first = subject("SELECT * FROM t WHERE a = 1")
        let second = subject("SELECT * FROM t /* again */ WHERE a = 27;")
        #expect(first.isMiss)
        #expect(!second.isMiss)
        #expect(first.statementClass === second.statementClass)
        #expect(subject.classifier.count == 1)
    }

    @Test func theCacheHoldsNoMoreThanItsLimit() {
        var subject = Subject(shapeLimit: 10)
        for number in 0..<1000 { #expect(subject("SELECT a\(number)").isMiss) }
        #expect(subject.classifier.count == 10)
        #expect(!subject("SELECT a999").isMiss)
        #expect(subject("SELECT a0").isMiss)
    }

    @Test func whatIsUsedStays() {
        var subject = Subject(shapeLimit: 10)
        _ = subject("SELECT favourite")
        for number in 0..<1000 {
            _ = subject("SELECT a\(number)")
            #expect(!subject("SELECT favourite").isMiss, "behind \(number) others")
        }
    }

    @Test func longShapesPushOutMore() {
        var subject = Subject(shapeLimit: 10)
        for number in 0..<10 { _ = subject("SELECT a\(number)") }
        // 10 shapes of 256 bytes on average are allowed.
        let long = "SELECT " + (0..<840).map { "c\($0 % 10)" }.joined(separator: ",")
        #expect(subject(long).isMiss)
        #expect(!subject(long).isMiss)
        #expect(subject.classifier.count < 10)
        let tooLong = "SELECT " + (0..<900).map { "c\($0 % 10)" }.joined(separator: ",")
        #expect(subject(tooLong).isMiss)
        #expect(subject(tooLong).isMiss)
    }

    /// Against a dictionary that forgets nothing: the class is right whatever was evicted in between.
    @Test func theCacheNeverMixesShapesUp() {
        var subject = Subject(Catalogue(functions: ["w": .volatile]), shapeLimit: 50)
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<5000 {
            let number = Int.random(in: 0..<120, using: &generator)
            let writes = number % 3 == 0
            let result = subject("SELECT \(writes ? "w" : "abs")(a\(number))")
            #expect(result.statementClass.kind == (writes ? .write : .read))
        }
        #expect(subject.classifier.count <= 50)
    }

    @Test func aRefusedStatementIsAWriteFromThenOn() {
        var subject = Subject()
        #expect(subject("SELECT * FROM v WHERE a = 1").statementClass.kind == .read)
        let text = Array("SELECT * FROM v WHERE a = 2".utf8)
        subject.classifier.refused(text.span, standardConformingStrings: true, reason: "cannot execute nextval()")
        let result = subject("SELECT * FROM v WHERE a = 3")
        #expect(result.statementClass.kind == .write)
        #expect(result.statementClass.reason == "a replica refused it: cannot execute nextval()")
        #expect(!result.isMiss)
        #expect(subject("SELECT * FROM v WHERE b = 1").statementClass.kind == .read)
        // Never seen before.
        let other = Array("SELECT * FROM w".utf8)
        subject.classifier.refused(other.span, standardConformingStrings: true, reason: "x")
        #expect(subject("SELECT * FROM w").statementClass.kind == .write)
    }

    @Test func anotherCatalogueForgetsAll() {
        var subject = Subject()
        #expect(subject("SELECT f()").statementClass.kind == .write)
        subject.classifier.catalogue = Catalogue()
        #expect(!subject("SELECT f()").isMiss)
        subject.classifier.catalogue = Catalogue(functions: ["f": .stable])
        #expect(subject.classifier.count == 0)
        #expect(subject("SELECT f()").statementClass.kind == .read)
    }

    // MARK: The catalogue

    @Test(
        arguments: [
            // The worse of a built-in function and a user's of the same name.
            ("abs(1)", .read), ("lower('a')", .write), ("pg_catalog.lower('a')", .read), ("upper('a')", .read),
            ("nextval('a')", .write),
            ("app.upper('a')", .read), ("app.abs('a')", .write),
            // Patterns
            ("get_x()", .read), ("app.get_x()", .read), ("set_x()", .write), ("get_and_set()", .write),
            ("app.any()", .read), ("other.any()", .write),
            ("any_()", .write), ("pg_sleep(1)", .write), ("a.audit_x()", .write), ("audit.y()", .write), ("y()", .read),
            ("get()", .write), ("x_y_z()", .read),
            ("x__z()", .read), ("x_z()", .write),
            // Patterns with a schema, calls without: any of that name makes it a write, all of them a read.
            ("hidden()", .write), ("plain.hidden()", .read), ("both()", .write), ("plain.both()", .read),
            ("each()", .read), ("some()", .write), ("app.some()", .read), ("nobody()", .write),
        ] as [(String, StatementClass.Kind)])
    func functionsAndPatterns(call: String, expected: StatementClass.Kind) {
        var catalogue = Catalogue(
            functions: [
                "lower": .volatile, "upper": .immutable, "nextval": .stable, "set_x": .volatile, "y": .stable,
                "hidden": .stable, "both": .stable, "each": .volatile, "some": .volatile,
            ],
            readFunctions: ["get_*", "app.any", "x_*_z", "app.some", "app.each"],
            writeFunctions: ["*_and_*", "pg_sleep", "audit_*", "audit.*"])
        catalogue.schemas = [
            "lower": ["public"], "upper": ["public"], "nextval": ["public"], "set_x": ["app"], "y": ["app"],
            "get_x": ["app"], "get_and_set": ["app"], "x_y_z": ["app"], "x__z": ["app"], "hidden": ["audit"],
            "both": ["app", "audit"], "each": ["app"], "some": ["app", "public"],
        ]
        var subject = Subject(catalogue)
        let found = subject("SELECT \(call)").statementClass
        #expect(found.kind == expected, "\(found.reason)")
    }

    // MARK: Transactions

    private typealias Modes = TransactionModes

    @Test(
        arguments: [
            ("BEGIN", .begin(Modes())), ("begin work", .begin(Modes())), ("BEGIN TRANSACTION;", .begin(Modes())),
            ("START TRANSACTION", .begin(Modes(), isStart: true)),
            ("BEGIN READ ONLY", .begin(Modes(readOnly: true))),
            ("START TRANSACTION READ WRITE", .begin(Modes(readOnly: false), isStart: true)),
            (
                "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE",
                .begin(Modes(isolation: .serializable, readOnly: true, deferrable: true))
            ),
            (
                "BEGIN DEFERRABLE, READ ONLY, ISOLATION LEVEL SERIALIZABLE",
                .begin(Modes(isolation: .serializable, readOnly: true, deferrable: true))
            ),
            (
                "BEGIN NOT DEFERRABLE ISOLATION LEVEL REPEATABLE READ",
                .begin(Modes(isolation: .repeatableRead, deferrable: false))
            ),
            ("BEGIN ISOLATION LEVEL READ COMMITTED", .begin(Modes(isolation: .readCommitted))),
            ("BEGIN ISOLATION LEVEL READ UNCOMMITTED", .begin(Modes(isolation: .readUncommitted))),
            ("BEGIN READ ONLY, READ WRITE", .begin(Modes(readOnly: false))),
            ("/* x */ BEGIN -- y", .begin(Modes())), ("SET TRANSACTION READ ONLY", .set(Modes(readOnly: true))),
            ("SET LOCAL TRANSACTION READ ONLY", .set(Modes(readOnly: true))),
            (
                "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ WRITE",
                .set(Modes(isolation: .repeatableRead, readOnly: false))
            ),
            ("SET TRANSACTION SNAPSHOT 'a'", nil), ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", nil),
            ("SET transaction_read_only = on", nil),
            ("COMMIT", .commit(chain: false)), ("END", .commit(chain: false)),
            ("COMMIT WORK AND CHAIN", .commit(chain: true)), ("COMMIT AND NO CHAIN", .commit(chain: false)),
            ("END TRANSACTION AND CHAIN", .commit(chain: true)), ("ROLLBACK", .rollback(chain: false)),
            ("ABORT", .rollback(chain: false)),
            ("ROLLBACK AND CHAIN", .rollback(chain: true)), ("ABORT WORK AND NO CHAIN", .rollback(chain: false)),
            ("ROLLBACK TO a", nil), ("SAVEPOINT a", nil),
            ("RELEASE a", nil), ("COMMIT PREPARED 'a'", nil), ("ROLLBACK PREPARED 'a'", nil),
            ("PREPARE TRANSACTION 'a'", nil), ("BEGIN; SELECT 1", nil),
            ("BEGIN; BEGIN", nil), ("SELECT 1", nil), ("BEGIN;;", .begin(Modes())),
        ] as [(String, TransactionCommand?)])
    func transactionCommands(text: String, expected: TransactionCommand?) {
        var subject = Subject()
        #expect(subject(text).statementClass.transaction == expected)
    }

    @Test func backslashesAreReadAsTheSessionHasThem() {
        var subject = Subject()
        let text = #"SELECT 'a\', nextval('b') --'"#
        #expect(subject(text, standardConformingStrings: true).statementClass.kind == .write)
        #expect(
            subject(#"SELECT 'a\' , nextval(''b'') --'"#, standardConformingStrings: false).statementClass.kind == .read
        )
    }
}
