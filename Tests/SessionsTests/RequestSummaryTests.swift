import Routing
import SQL
import TestSupport
import Testing
import Wire

@testable import Sessions

/// Statements prepared earlier, and a classifier that knows no functions but the built-in ones.
private final class Book: StatementBook {
    private var classifier = Classifier(catalogue: Catalogue())
    private let prepared: [String: String]

    init(_ prepared: [String: String]) { self.prepared = prepared }

    func statement(_ text: Span<UInt8>) -> RequestSummary.Statement {
        let result = self.classifier.classify(text, standardConformingStrings: true)
        return RequestSummary.Statement(result, text, standardConformingStrings: true)
    }

    func prepared(_ name: Span<UInt8>) -> RequestSummary.Statement? {
        guard let text = self.prepared[name.text(0..<name.count)] else { return nil }
        let bytes = bytes(text)
        return self.statement(bytes.span)
    }
}

@Suite struct RequestSummaryTests {
    private typealias Summary = RequestSummary

    // MARK: Messages

    private static func name(_ text: String) -> [UInt8] { bytes(text) + [0] }
    private static func parse(_ sql: String, _ statement: String = "") -> [UInt8] {
        message("P", Self.name(statement) + Self.name(sql) + [0, 0])
    }
    private static func bind(_ statement: String = "", portal: String = "") -> [UInt8] {
        message("B", Self.name(portal) + Self.name(statement) + [0, 0, 0, 0, 0, 0])
    }
    private static func describe(_ kind: Character = "S", _ statement: String = "") -> [UInt8] {
        message("D", [kind.asciiValue ?? 0] + Self.name(statement))
    }
    private static func close(_ statement: String = "") -> [UInt8] { message("C", bytes("S") + Self.name(statement)) }
    private static func execute(rows: UInt8 = 0) -> [UInt8] { message("E", [0] + [0, 0, 0, rows]) }
    private static let sync = message("S")
    private static let flush = message("H")

    /// Parse, Bind, Describe and Execute of one statement.
    private static func run(_ sql: String) -> [UInt8] {
        Self.parse(sql) + Self.bind() + Self.describe("P") + Self.execute()
    }

    private static func summary(_ messages: [UInt8]..., prepared: [String: String] = [:]) -> Summary? {
        let batch = BatchReader()
        let bytes = messages.flatMap { $0 }
        guard case .whole = batch.scan(bytes.span, Book(prepared)) else { return nil }
        return batch.summary
    }

    private static func query(_ sql: String) -> Summary {
        let bytes = bytes(sql)
        var summary = Summary()
        summary.read(query: Book([:]).statement(bytes.span), end: bytes.count + 6)
        return summary
    }

    // MARK: Query

    @Test(
        arguments: [
            ("SELECT 1", .read), ("SELECT 1; SELECT 2", .read), ("SELECT 1; DELETE FROM a", .write),
            ("COPY (SELECT 1) TO STDOUT", .read), ("COPY a FROM STDIN", .write), ("SHOW port", .primary),
            ("SELECT nonsense FROM FROM", .write), ("", .read),
        ] as [(String, StatementClass.Kind)])
    func aTextHasItsClass(sql: String, kind: StatementClass.Kind) {
        let summary = Self.query(sql)
        #expect(summary.kind == kind || (kind == .write && summary.kind != .read))
        #expect(summary.statements == 1)
        #expect(summary.end == sql.utf8.count + 6)
    }

    @Test func transactionCommandsHaveNoClass() {
        let begin = Self.query("BEGIN READ ONLY")
        #expect(begin.kind == .read && !begin.mayWrite)
        #expect(begin.transaction == .begin(TransactionModes(readOnly: true)))
        #expect(Self.query("ROLLBACK").transaction == .rollback(chain: false))
        #expect(Self.query("COMMIT AND CHAIN").transaction == .commit(chain: true))
        #expect(Self.query("BEGIN; SELECT 1").transaction == nil)
    }

    @Test func commandsToTheRouterAreFound() {
        #expect(Self.query("SET martlet.route = 'primary'").command?.only != nil)
        #expect(Self.query("SHOW martlet.lsn").asksForPosition)
        #expect(!Self.query("SHOW martlet.route").asksForPosition)
        #expect(Self.query("SET work_mem = 1").command == nil)
    }

    @Test func aCommentOverrides() {
        #expect(Self.query("/* martlet: route=primary */ SELECT 1").override == .primary)
        #expect(Self.query("SELECT 1").override == nil)
    }

    // MARK: Batches

    @Test func aReadIsOne() throws {
        let batch = Self.run("SELECT 1") + Self.sync
        let summary = try #require(Self.summary(batch, Self.run("DELETE FROM behind")))
        #expect(summary.isRead && !summary.mayWrite && !summary.bindsTransaction && !summary.isOpen)
        #expect(summary.statements == 1)
        #expect(summary.end == batch.count, "up to its Sync")
    }

    @Test func theStrictestDecides() throws {
        let summary = try #require(
            Self.summary(Self.run("SELECT 1"), Self.run("DELETE FROM a"), Self.run("SELECT 2"), Self.sync))
        #expect(summary.kind == .write && summary.mayWrite)
        #expect(summary.statements == 3)
        #expect(summary.transaction == nil)
    }

    @Test func whatIsOnlyPreparedWritesNothingYet() throws {
        let summary = try #require(Self.summary(Self.parse("DELETE FROM a", "s"), Self.sync))
        #expect(summary.kind == .write && !summary.mayWrite)
        #expect(summary.statements == 0)
    }

    @Test func aBoundStatementIsTheOneThatWasPrepared() throws {
        let batch = Self.bind("s") + Self.execute() + Self.sync
        #expect(try #require(Self.summary(batch, prepared: ["s": "SELECT 1"])).isRead)
        #expect(try #require(Self.summary(batch, prepared: ["s": "DELETE FROM a"])).mayWrite)
        // None of that name: where prepared statements are not followed it may be anything.
        #expect(try #require(Self.summary(batch)).mayWrite)
        // A new one of that name comes first.
        #expect(
            try #require(
                Self.summary(Self.parse("DELETE FROM a", "s"), batch, prepared: ["s": "SELECT 1"])
            ).mayWrite)
    }

    @Test func theUnnamedStatementOfEarlierIsRemembered() throws {
        let batch = Self.bind() + Self.execute() + Self.sync
        #expect(try #require(Self.summary(batch, prepared: ["": "DELETE FROM a"])).mayWrite)
        #expect(try #require(Self.summary(Self.parse("SELECT 1"), batch, prepared: ["": "DELETE FROM a"])).isRead)
    }

    @Test func aDescribedStatementCounts() throws {
        let summary = try #require(
            Self.summary(Self.describe("S", "s"), Self.sync, prepared: ["s": "SELECT * FROM pg_stat_activity"]))
        #expect(summary.kind == .primary)
    }

    @Test func aCloseIsNoMatter() throws {
        let summary = try #require(Self.summary(Self.close("s"), Self.sync, prepared: ["s": "DELETE FROM a"]))
        #expect(summary.isRead && summary.statements == 0)
    }

    @Test func beginInFront() throws {
        let modes = TransactionModes(isolation: .repeatableRead)
        let alone = try #require(Self.summary(Self.run("BEGIN ISOLATION LEVEL REPEATABLE READ"), Self.sync))
        #expect(alone.transaction == .begin(modes))
        #expect(alone.begin == nil, "nothing behind it")
        let followed = try #require(
            Self.summary(Self.run("BEGIN ISOLATION LEVEL REPEATABLE READ"), Self.run("SELECT 1"), Self.sync))
        #expect(followed.begin == modes && followed.isRead && followed.ending == .none)
        #expect(followed.transaction == nil)
    }

    @Test func commitBehind() throws {
        let whole = try #require(
            Self.summary(Self.run("BEGIN"), Self.run("SELECT 1"), Self.run("COMMIT"), Self.sync))
        #expect(whole.begin == TransactionModes() && whole.ending == .last(isChained: false) && whole.isRead)
        let alone = try #require(Self.summary(Self.run("COMMIT"), Self.sync))
        #expect(alone.transaction == .commit(chain: false) && alone.ending == .last(isChained: false))
    }

    @Test func whatComesBehindTheEnd() throws {
        let first = Self.run("SELECT 1") + Self.run("ROLLBACK AND CHAIN")
        let chained = try #require(Self.summary(first, Self.sync))
        #expect(chained.ending == .last(isChained: true))
        for rest in [Self.run("SELECT 2"), Self.run("BEGIN"), Self.run("COMMIT") + Self.run("DELETE FROM a")] {
            let summary = try #require(Self.summary(first, rest, Self.sync))
            #expect(summary.ending == .before(rest: first.count) && !summary.isInterrupted)
        }
        let inQuery = try #require(Self.summary(first, message("Q", Self.name("SELECT 2"))))
        #expect(inQuery.ending == .before(rest: first.count) && inQuery.isInterrupted)
        #expect(Self.query("SELECT 1;; COMMIT; DELETE FROM a").ending == .before(rest: 2))
        #expect(Self.query("SELECT 1; COMMIT AND CHAIN").ending == .last(isChained: true))
        #expect(Self.query("SELECT 1; SAVEPOINT a").ending == .none)
    }

    @Test func aPortalThatIsNotTheLastIsTheOneThatRuns() throws {
        let summary = try #require(
            Self.summary(
                Self.parse("COMMIT", "c"), Self.bind("c", portal: "p"), Self.parse("SELECT 1"), Self.bind(),
                message("E", Self.name("p") + [0, 0, 0, 0]), Self.execute(), Self.sync))
        #expect(summary.isRead)
        guard case .before = summary.ending else {
            Issue.record("\(summary.ending)")
            return
        }
    }

    @Test func transactionsWithinTransactionsChangeItsModes() throws {
        #expect(Self.query("SET TRANSACTION READ ONLY").changesModes)
        #expect(try #require(Self.summary(Self.run("BEGIN"), Self.run("BEGIN READ ONLY"), Self.sync)).changesModes)
        #expect(!(try #require(Self.summary(Self.run("BEGIN"), Self.run("SELECT 1"), Self.sync)).changesModes))
    }

    @Test(
        arguments: [
            ("SELECT 1", false, true), ("SHOW work_mem", false, false), ("SAVEPOINT a", false, false),
            ("LOCK TABLE a IN SHARE MODE", true, false), ("LOCK TABLE a IN ACCESS SHARE MODE", false, false),
            ("NOTIFY a", true, false), ("SELECT pg_current_xact_id()", true, true),
            ("SELECT pg_advisory_lock(1)", true, true), ("SELECT * FROM pg_stat_activity", true, true),
            ("SELECT set_config('a.b', 'c', true)", false, true), ("DECLARE c CURSOR FOR SELECT 1", false, true),
            ("EXPLAIN DELETE FROM a", false, true), ("EXPLAIN SELECT * FROM pg_locks", false, true),
        ])
    func whatAReadOnlyTransactionNeedsThePrimaryFor(sql: String, mustLeave: Bool, takesSnapshot: Bool) {
        let summary = Self.query(sql)
        #expect(summary.mustLeaveReplica == mustLeave)
        #expect(summary.takesSnapshot == takesSnapshot)
    }

    @Test func beginInTheMiddleBindsAll() throws {
        let summary = try #require(Self.summary(Self.run("SELECT 1"), Self.run("BEGIN"), Self.sync))
        #expect(summary.kind == .primary && summary.bindsTransaction && summary.begin == nil)
    }

    @Test func portalsThatAreLeft() throws {
        let named = try #require(
            Self.summary(Self.parse("SELECT 1"), Self.bind(portal: "p"), Self.execute(), Self.sync))
        #expect(named.keepsPortal && named.bindsTransaction)
        let limited = try #require(
            Self.summary(Self.parse("SELECT 1"), Self.bind(), Self.execute(rows: 1), Self.sync))
        #expect(limited.isRead && limited.keepsPortal)
    }

    @Test func aFlushBeforeAnythingIsBoundLeavesItOpen() throws {
        let first = Self.parse("SELECT 1") + Self.describe() + Self.flush
        let rest = Self.bind() + Self.execute() + Self.sync
        let open = BatchReader()
        guard case .whole = open.scan((first + rest).span, Book([:])) else {
            Issue.record("the beginning is not whole")
            return
        }
        #expect(open.summary.isOpen && open.summary.isRead && open.summary.statements == 0)
        #expect(open.summary.end == first.count)
        let batch = BatchReader(continuing: open)
        guard case .whole = batch.scan(rest.span, Book([:])) else {
            Issue.record("the rest is not whole")
            return
        }
        #expect(!batch.summary.isOpen && batch.summary.isRead && batch.summary.statements == 1)
        #expect(batch.summary.end == rest.count)
        #expect(open.summary.isOpen, "it may be gone on with once more")
    }

    @Test func aReaderForgetsTheBatchBefore() {
        let reader = BatchReader()
        let first =
            Self.parse("BEGIN", "s") + Self.parse("DELETE FROM a") + Self.bind() + Self.execute(rows: 1) + Self.sync
        _ = reader.scan(first.span, Book([:]))
        for (rest, isRead) in [
            (Self.run("SELECT 1"), true), (Self.bind() + Self.execute(), false), (Self.bind("s"), false),
        ] {
            reader.restart()
            _ = reader.scan((rest + Self.sync).span, Book([:]))
            #expect(reader.summary.isRead == isRead)
            #expect(!reader.summary.keepsPortal && reader.summary.begin == nil && reader.summary.transaction == nil)
            #expect(reader.summary.end == rest.count + Self.sync.count)
        }
    }

    @Test func aFlushBehindABindKeepsItOnThePrimary() throws {
        let summary = try #require(Self.summary(Self.parse("SELECT 1"), Self.bind(), Self.flush))
        #expect(summary.mayWrite && summary.bindsTransaction && !summary.isOpen)
    }

    @Test func aTransactionCommandInFrontOfAFlushIsNotAlone() throws {
        let summary = try #require(Self.summary(Self.run("BEGIN READ ONLY"), Self.parse("SELECT 1"), Self.flush))
        #expect(summary.transaction == nil && summary.command == nil && summary.isInterrupted)
        #expect(summary.begin == TransactionModes(readOnly: true))
    }

    @Test func aQueryInTheMiddleKeepsItOnThePrimary() throws {
        let summary = try #require(Self.summary(Self.parse("SELECT 1"), message("Q", Self.name("SELECT 2"))))
        #expect(summary.mayWrite)
    }

    @Test func overridesAndCommandsInBatches() throws {
        let override = try #require(Self.summary(Self.run("/* martlet: route=replica */ SELECT 1"), Self.sync))
        #expect(override.override == .replica)
        let prepared = try #require(
            Self.summary(
                Self.bind("s"), Self.execute(), Self.sync, prepared: ["s": "/* martlet: route=primary */ SELECT 1"]))
        #expect(prepared.override == .primary)
        let command = try #require(Self.summary(Self.run("SET martlet.route = 'primary'"), Self.sync))
        #expect(command.hasCommands && command.beginsWithCommand && !command.needsServer && command.statements == 0)
        let first = try #require(
            Self.summary(Self.run("SET martlet.route = 'primary'"), Self.run("SELECT 1"), Self.sync))
        #expect(first.hasCommands && first.beginsWithCommand && first.needsServer && first.statements == 1)
        let second = try #require(
            Self.summary(Self.run("SELECT 1"), Self.run("SET martlet.route = 'primary'"), Self.sync))
        #expect(second.hasCommands && !second.beginsWithCommand && second.isRead, "it counts for nothing else")
        let held = try #require(Self.summary(Self.run("BEGIN"), Self.run("SET LOCAL martlet.route = 'x'"), Self.sync))
        #expect(held.transaction == nil && held.begin != nil, "BEGIN is not all that is answered")
        #expect(try #require(Self.summary(Self.run("SHOW martlet.lsn"), Self.sync)).asksForPosition)
    }

    // MARK: Bytes

    /// Whatever comes in whatever pieces: what is known at the end is the same.
    @Test func piecesMakeNoDifference() throws {
        let batch = Self.run("BEGIN") + Self.run("SELECT 1") + Self.run("INSERT INTO a VALUES (1)") + Self.sync
        let book = Book([:])
        for cut in 0..<batch.count {
            let reader = BatchReader()
            guard case .partial = reader.scan(batch.span.extracting(0..<cut), book) else {
                Issue.record("\(cut) bytes are not partial")
                continue
            }
            guard case .whole = reader.scan(batch.span, book) else {
                Issue.record("not whole behind \(cut) bytes")
                continue
            }
            let summary = reader.summary
            #expect(summary.mayWrite && summary.begin != nil && summary.statements == 3 && summary.end == batch.count)
        }
    }

    @Test func malformedMessagesAreFound() {
        let broken: [[UInt8]] = [
            message("P", bytes("no end")), message("B", []), message("E", []), message("D", []),
            message("C", bytes("S")),
            [UInt8(ascii: "P"), 0, 0, 0, 3],
        ]
        for bytes in broken {
            let progress = BatchReader().scan((bytes + Self.sync).span, Book([:]))
            guard case .malformed = progress else {
                Issue.record("\(bytes): \(progress)")
                continue
            }
        }
    }

    @Test func hostileBytesTrapNobody() {
        var generator = SeededGenerator(seed: 42)
        let batch = Self.run("BEGIN") + Self.parse("SELECT 1", "s") + Self.bind("s") + Self.execute() + Self.sync
        let book = Book(["s": "SELECT 1"])
        for _ in 0..<2000 {
            let reader = BatchReader()
            let bytes = generator.mutated(batch)
            _ = reader.scan(bytes.span, book)
            #expect(reader.summary.end <= bytes.count)
        }
    }
}

@Suite struct TransactionModesTests {
    @Test(
        arguments: [
            (TransactionModes(), "BEGIN"), (TransactionModes(readOnly: true), "BEGIN READ ONLY"),
            (TransactionModes(readOnly: false), "BEGIN READ WRITE"),
            (TransactionModes(isolation: .readUncommitted), "BEGIN ISOLATION LEVEL READ UNCOMMITTED"),
            (TransactionModes(isolation: .readCommitted), "BEGIN ISOLATION LEVEL READ COMMITTED"),
            (TransactionModes(deferrable: false), "BEGIN NOT DEFERRABLE"),
            (
                TransactionModes(isolation: .serializable, readOnly: true, deferrable: true),
                "BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE"
            ),
        ] as [(TransactionModes, String)])
    func beginSaysThem(modes: TransactionModes, text: String) {
        #expect(modes.begin == text)
        // And back.
        let bytes = bytes(text)
        var classifier = Classifier(catalogue: Catalogue())
        let result = classifier.classify(bytes.span, standardConformingStrings: true)
        #expect(result.statementClass.transaction == .begin(modes))
    }

    @Test func laterModesWin() {
        let first = TransactionModes(isolation: .repeatableRead, readOnly: false)
        #expect(
            first.merging(TransactionModes(readOnly: true))
                == TransactionModes(isolation: .repeatableRead, readOnly: true))
        #expect(first.merging(TransactionModes()) == first)
        #expect(TransactionModes().merging(first) == first)
    }
}
