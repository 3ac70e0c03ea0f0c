import Testing

@testable import SQL

/// What stands behind the names of a statement: the queries of views, policies, operators, casts.
@Suite struct DefinitionTests {
    private static let put = Catalogue.Function(name: "put", schema: "public", volatility: .volatile)
    private static let sum = Catalogue.Function(name: "sum", schema: "public", volatility: .stable)
    private static let nextval = Catalogue.Function(name: "nextval", schema: "pg_catalog", volatility: .volatile)
    private static let random = Catalogue.Function(name: "random", schema: "pg_catalog", volatility: .volatile)

    private static var catalogue: Catalogue {
        var catalogue = Catalogue(functions: ["put": .volatile, "sum": .stable], unloggedRelations: ["cache"])
        catalogue.isKnown = true
        catalogue.definitions = [
            "hidden": Catalogue.Definition(functions: [self.put]),
            "numbers": Catalogue.Definition(functions: [self.nextval]),
            "plain": Catalogue.Definition(functions: [self.random, self.sum]),
            "nested": Catalogue.Definition(relations: ["plain", "hidden"]),
            // Each uses the other, which only names of several schemas can do.
            "round": Catalogue.Definition(relations: ["about"]), "about": Catalogue.Definition(relations: ["round"]),
            "cached": Catalogue.Definition(relations: ["cache"]),
            "counted": Catalogue.Definition(relations: ["ids"]),
            "backends": Catalogue.Definition(relations: ["pg_stat_activity"]),
        ]
        catalogue.properties[.sequence] = ["ids"]
        catalogue.operators = ["#+#": [self.put], "@@@": [self.sum]]
        catalogue.types = ["checked": [self.put]]
        catalogue.rowFunctions = ["put", "sum"]
        return catalogue
    }

    private func expect(
        _ text: String, _ kind: StatementClass.Kind, _ reason: String, _ catalogue: Catalogue = Self.catalogue,
        _ location: SourceLocation = #_sourceLocation
    ) {
        var subject = Subject(catalogue)
        let found = subject(text).statementClass
        #expect(found.kind == kind, sourceLocation: location)
        #expect(found.reason == reason, sourceLocation: location)
    }

    @Test func views() {
        self.expect("SELECT * FROM hidden", .write, "reads hidden, which calls put, which is VOLATILE")
        self.expect("SELECT * FROM app.hidden", .write, "reads hidden, which calls put, which is VOLATILE")
        self.expect("TABLE numbers", .write, "reads numbers, which calls nextval, which changes a sequence")
        self.expect("COPY nested TO STDOUT", .write, "reads nested, which calls put, which is VOLATILE")
        self.expect("SELECT 1 IN (SELECT a FROM nested)", .write, "reads nested, which calls put, which is VOLATILE")
        self.expect("SELECT * FROM plain", .read, "only reads")
        self.expect("SELECT * FROM round", .read, "only reads")
        self.expect(
            "SELECT * FROM cached", .primary,
            "reads cached, which uses cache, which is not logged and so empty on replicas")
        self.expect(
            "SELECT last_value FROM ids", .primary,
            "reads ids, a sequence, which is ahead of the truth on a replica")
        self.expect(
            "SELECT * FROM counted", .primary,
            "reads counted, which reads ids, a sequence, which is ahead of the truth on a replica")
        self.expect(
            "SELECT * FROM backends", .primary,
            "reads backends, which reads pg_stat_activity, which tells about its own node")
    }

    @Test func namesOfOtherThings() {
        self.expect("SELECT hidden FROM t", .read, "only reads")
        self.expect("SELECT hidden.a FROM t AS hidden", .read, "only reads")
        self.expect("WITH hidden AS (SELECT 1) SELECT * FROM hidden", .read, "only reads")
        self.expect("SELECT * FROM information_schema.hidden", .read, "only reads")
        self.expect("SELECT put FROM t", .read, "only reads")
    }

    @Test func operatorsCastsAndFields() {
        self.expect("SELECT 1 #+# 2", .write, "uses operator #+#, which calls put, which is VOLATILE")
        self.expect("SELECT 1 OPERATOR(app.#+#) 2", .write, "uses operator #+#, which calls put, which is VOLATILE")
        self.expect("SELECT 1 #+# ANY (SELECT 2)", .write, "uses operator #+#, which calls put, which is VOLATILE")
        self.expect(
            "SELECT a FROM t ORDER BY a USING #+#", .write, "uses operator #+#, which calls put, which is VOLATILE")
        self.expect("SELECT 1 @@@ 2", .read, "only reads")
        self.expect("SELECT a::checked FROM t", .write, "casts to checked, which calls put, which is VOLATILE")
        self.expect(
            "SELECT CAST(ARRAY[1] AS checked[])", .write, "casts to checked, which calls put, which is VOLATILE")
        self.expect("SELECT t.put FROM t", .write, "calls put, which is VOLATILE")
        self.expect("SELECT (t).put FROM t", .write, "calls put, which is VOLATILE")
        self.expect("SELECT t.sum FROM t", .read, "only reads")
    }

    @Test func patternsHoldBehindNames() {
        var catalogue = Self.catalogue
        catalogue.readFunctions = ["public.put", "nextval"]
        catalogue.writeFunctions = ["su*"]
        self.expect("SELECT * FROM hidden, numbers", .read, "only reads", catalogue)
        self.expect("SELECT * FROM plain", .write, "reads plain, which calls sum, one of write_functions", catalogue)
        self.expect("SELECT 1 @@@ 2", .write, "uses operator @@@, which calls sum, one of write_functions", catalogue)
    }

    /// One of another name than in the statement: which is called is known, so others of the name do not matter.
    @Test func overloadsAreTold() {
        var catalogue = Self.catalogue
        catalogue.functions["sum"] = .volatile
        self.expect("SELECT * FROM plain", .read, "only reads", catalogue)
        self.expect("SELECT sum(1)", .write, "calls sum, which is VOLATILE", catalogue)
    }

    @Test(arguments: [
        ("SELECT 1", false), ("SELECT version(), pg_catalog.now()", false), ("SHOW work_mem", false),
        ("SELECT to_regclass('t')", true), ("SELECT 't'::regclass", true), ("SELECT CAST('t' AS regclass[])", true),
        ("SELECT regtype 'a'", true), ("SELECT has_table_privilege('t', 'SELECT')", true), ("SELECT 1::text", false),
        ("SELECT pg_catalog.pg_get_viewdef(1)", true), ("SELECT obj_description(1)", true), ("SELECT 'a'::mood", true),
        ("SELECT pg_table_is_visible(1)", true), ("SELECT pg_relation_size('t')", true), ("SELECT lo_get(1)", true),
        ("SELECT enum_range(NULL::mood)", true), ("SELECT current_schemas(true)", true), ("LOCK t", true),
        ("EXPLAIN INSERT INTO t VALUES (1)", true), ("EXPLAIN SELECT a FROM t", true), ("PREPARE p AS TABLE t", true),
        ("DECLARE c CURSOR FOR SELECT a FROM t", true), ("SELECT table_to_xml('t', true, false, '')", true),
        ("WITH t AS (SELECT 1) SELECT * FROM t", false), ("SELECT a FROM t", true), ("TABLE t", true),
        ("COPY t TO STDOUT", true), ("SELECT sum(1)", false), ("SELECT app.sum(1)", true), ("SELECT unknown()", true),
        ("SELECT a FROM t FOR SHARE", true), ("SELECT 1 #+# 2", true), ("FETCH c", true),
        ("SELECT 1; SELECT a FROM t", true), ("SELECT pg_advisory_lock(a) FROM t", true),
    ])
    func whatShowsData(text: String, expected: Bool) {
        var subject = Subject(Self.catalogue)
        #expect(subject(text).statementClass.readsData == expected)
    }

    /// What is used in it may be anything.
    @Test(arguments: [
        ("SELECT 1", false), ("SELECT version()", false), ("SELECT 1 + 1", true), ("SELECT $1::int", true),
        ("SELECT a FROM t", true),
    ])
    func whatMayShowDataBeforeTheCatalogueIsKnown(text: String, expected: Bool) {
        var subject = Subject()
        #expect(subject(text).statementClass.readsData == expected)
    }

    /// What DDL may have changed; built-in functions too, since another schema may have one of that name.
    @Test(arguments: [
        ("SELECT 1", false), ("SHOW work_mem", false), ("BEGIN", false), ("SELECT pg_catalog.now()", false),
        ("SELECT a FROM pg_catalog.pg_class", false), ("SELECT a FROM t", true), ("SELECT f()", true),
        ("SELECT now()", true), ("SELECT 1 + 1", true), ("SELECT 'a'::mood", true), ("SELECT a FROM pg_class", true),
        ("EXPLAIN DELETE FROM t", true), ("DECLARE c CURSOR FOR TABLE t", true), ("SELECT a FROM t FOR UPDATE", true),
    ])
    func whatDependsOnTheCatalogue(text: String, expected: Bool) {
        var subject = Subject(Self.catalogue)
        let found = subject(text).statementClass
        #expect(found.dependsOnCatalogue == expected)
        #expect(found.behindDDL.kind == .write)
        #expect(found.behindDDL.bindsTransaction == found.bindsTransaction)
    }

    @Test(arguments: [
        ("SHOW work_mem", StatementClass.SettingsUse.shows), ("SHOW port", .none), ("SELECT 1", .none),
        ("SELECT current_setting('work_mem')", .shows), ("SET work_mem = 1", .changes), ("SET TimeZone = 'UTC'", .none),
        ("RESET ALL", .changes), ("SELECT set_config('a.b', '1', false)", .changes), ("DISCARD ALL", .changes),
        ("UPDATE pg_settings SET setting = 1", .changes), ("SET TRANSACTION READ ONLY", .none),
        ("SET LOCAL work_mem = 1", .changes), ("SELECT 1; SET work_mem = 1; SHOW work_mem", .changes),
    ])
    func whatHasToDoWithSettings(text: String, expected: StatementClass.SettingsUse) {
        var subject = Subject(Self.catalogue)
        #expect(subject(text).statementClass.settings == expected)
    }

    @Test func someReadsMayWriteAllTheSame() {
        var subject = Subject(Self.catalogue)
        #expect(subject("SELECT table_to_xml('t', true, false, '')").statementClass.mayHideWrite)
        #expect(!subject("SELECT table_to_xmlschema('t', true, false, '')").statementClass.mayHideWrite)
        #expect(!subject("SELECT a FROM t").statementClass.mayHideWrite)
    }

    /// Names are compared as UTF-8; in another encoding only those of ASCII characters can be.
    @Test func namesInOtherEncodings() {
        var subject = Subject(Self.catalogue)
        func kind(_ text: [UInt8], isUTF8: Bool) -> StatementClass.Kind {
            subject.classifier.classify(text.span, standardConformingStrings: true, isUTF8: isUTF8).statementClass.kind
        }
        let literal = Array("SELECT a FROM t WHERE b = '".utf8) + [0xFC] + Array("'".utf8)
        let name = Array("SELECT a FROM f".utf8) + [0xFC]
        let quoted = Array("SELECT \"".utf8) + [0xFC] + Array("\" FROM t".utf8)
        for isUTF8 in [true, false, true] {
            #expect(kind(literal, isUTF8: isUTF8) == .read)
            #expect(kind(Array("SELECT a FROM t".utf8), isUTF8: isUTF8) == .read)
        }
        #expect(kind(name, isUTF8: false) == .write)
        #expect(kind(quoted, isUTF8: false) == .write)
        #expect(kind(Array("SELECT a FROM fü".utf8), isUTF8: true) == .read)
        #expect(kind(Array("SELECT a FROM fü".utf8), isUTF8: false) == .write)
    }

    @Test(arguments: [
        ("SELECT pg_advisory_lock(1)", true), ("SELECT 1; SELECT pg_try_advisory_xact_lock(1, 2)", true),
        ("SELECT pg_advisory_unlock_all()", true), ("SELECT * FROM locking", true), ("SELECT 1", false),
        ("LOCK t", true), ("LOCK t IN ACCESS SHARE MODE", false), ("EXPLAIN ANALYZE SELECT pg_advisory_lock(1)", true),
        ("SELECT pg_try_lock()", false),
    ])
    func whatTakesLocks(text: String, expected: Bool) {
        var catalogue = Self.catalogue
        let lock = Catalogue.Function(name: "pg_advisory_lock", schema: "pg_catalog", volatility: .volatile)
        catalogue.definitions["locking"] = Catalogue.Definition(functions: [lock])
        var subject = Subject(catalogue)
        #expect(subject(text).statementClass.takesLock == expected)
    }
}
