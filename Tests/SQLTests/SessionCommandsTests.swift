import Testing

@testable import SQL

@Suite struct SessionCommandsTests {
    private func commands(_ text: String, standardConformingStrings: Bool = true) -> SessionCommands {
        let bytes = Array(text.utf8)
        return SessionCommands(
            bytes.span, standardConformingStrings: standardConformingStrings,
            settings: ["search_path", "timezone", "role", "session_authorization"])
    }

    private func changesMeaning(_ text: String) -> Bool {
        let bytes = Array(text.utf8)
        return SessionCommands.mayChangeMeaning(bytes.span, 0..<bytes.count)
    }

    @Test(arguments: [
        ("DEALLOCATE a", ["a"]), ("deallocate Prepare A;", ["a"]), ("DEALLOCATE prepare", ["prepare"]),
        ("DEALLOCATE \"Prepare\"", ["Prepare"]), ("DEALLOCATE PREPARE PREPARE", ["prepare"]),
        ("/* x */ -- y\n DEALLOCATE/**/\"a \"\"b\"\"\"", ["a \"b\""]),
        ("SELECT 1; DEALLOCATE a;;DEALLOCATE b", ["a", "b"]), ("DEALLOCATE \"all\"", ["all"]),
        ("SELECT 'x; DEALLOCATE a'", []), ("SELECT $$; DEALLOCATE a;$$", []), ("DEALLOCATE a b", []),
        ("DEALLOCATE ALL", []), ("DEALLOCATE", []), ("DEALLOCATE 1", []), ("DEALLOCATE 'a'", []),
        ("SELECT deallocate FROM a", []), ("DEALLOCATE U&\"a\"", []), ("DEALLOCATE \"a", []),
        ("DEALLOCATE a\u{0001}", []),
        ("DEALLOCATE \(String(repeating: "n", count: 70))", [String(repeating: "n", count: 63)]),
    ])
    func deallocations(_ text: String, _ names: [String]) {
        let found = self.commands(text).deallocations
        #expect(found.map { String(decoding: $0.name, as: UTF8.self) } == names)
        let bytes = Array(text.utf8)
        for each in found where each.name.count < 63 {
            let written = String(decoding: bytes[each.range], as: UTF8.self).lowercased()
            #expect(written.contains(String(decoding: each.name, as: UTF8.self).lowercased().prefix(1)))
        }
    }

    @Test(arguments: ["DEALLOCATE ALL", "deallocate prepare all", "SELECT 1; DISCARD ALL", "DISCARD  all;"])
    func all(_ text: String) { #expect(self.commands(text).deallocatesAll) }

    @Test(arguments: [
        "DISCARD PLANS", "DEALLOCATE \"all\"", "SELECT 'DISCARD ALL'", "SELECT discard, all_of_it FROM a",
    ])
    func notAll(_ text: String) { #expect(!self.commands(text).deallocatesAll) }

    @Test(arguments: [
        "SET search_path = a", "SET LOCAL \"search_path\" TO a", "set Session TIME zone 'UTC'", "SET ROLE x",
        "RESET ROLE",
        "SET SCHEMA 'a'", "SET NAMES 'latin1'", "RESET ALL", "SET SESSION AUTHORIZATION x", "SET XML OPTION DOCUMENT",
        "BEGIN; SET LOCAL search_path = a; SELECT 1", "/* x */ SET search_path TO a",
        "SELECT set_config('search_path', $1, true)", "SELECT pg_catalog.set_config ( 'Search_Path' , 'a', false)",
        "SELECT set_config($1, $2, true)", "SELECT \"set_config\"(n, v, true) FROM t",
        "DO $$ BEGIN SET LOCAL search_path = a; END $$", "DO 'BEGIN PERFORM set_config(''role'', ''x'', true); END'",
        "SET search_path = 'unterminated",
    ])
    func changesSettings(_ text: String) { #expect(self.commands(text).changesSettings) }

    @Test(arguments: [
        "SET statement_timeout = 0", "SET LOCAL app.tenant = '5'", "UPDATE t SET search_path = 1", "SELECT 1",
        "SELECT set_config('app.tenant', 'search_path', true)", "SELECT 'SET search_path = a'", "RESET work_mem",
        "SELECT search_path, set FROM t", "INSERT INTO set_config VALUES (1)", "DO $$ BEGIN PERFORM f(); END $$", "",
        "SET martlet.route = 'primary'",
    ])
    func changesNone(_ text: String) { #expect(!self.commands(text).changesSettings) }

    @Test(arguments: [
        "SET a = 1", " \n set local a = 1", "RESET a", "ALTER TABLE t ADD b int", "CREATE TABLE t ()", "DROP TABLE t",
        "DO $$$$",
        "CALL p()", "COMMIT", "ROLLBACK TO a", "DISCARD ALL", "SELECT set_config('a', 'b', false)", "DEALLOCATE a",
        "select pg_catalog.set_config('a', 'b', true)", "/* x */ SELECT 1", "-- x\nSELECT 1", "SECURITY LABEL x",
    ])
    func mayChangeMeaning(_ text: String) {
        #expect(self.changesMeaning(text))
    }

    @Test(arguments: [
        "SELECT 1", "  SELECT a FROM b WHERE c = $1", "INSERT INTO t VALUES (1)", "update t set a = 1", "DELETE FROM t",
        "WITH a AS (SELECT 1) SELECT 1", "VALUES (1)", "FETCH 1 FROM c", "BEGIN READ ONLY", "START TRANSACTION",
        "SAVEPOINT a",
        "RELEASE SAVEPOINT a", "",
    ])
    func keepsMeaning(_ text: String) {
        #expect(!self.changesMeaning(text))
    }

    private func mentionsSetConfig(_ text: String) -> Bool {
        let bytes = Array(text.utf8)
        return SessionCommands.mentionsSetConfig(bytes.span, from: 0, to: bytes.count)
    }

    @Test(arguments: [
        "SELECT set_config('a', 'b', true)", "select a_b, Set_Config($1, $2, $3)", "_set_config", "set_config",
        "WITH a AS (SELECT\tpg_catalog.SET_CONFIG('a', 'b', true)) SELECT 1",
    ])
    func setConfig(_ text: String) { #expect(self.mentionsSetConfig(text)) }

    @Test(arguments: ["SELECT 1", "", "_", "set_", "_config", "SELECT a_b FROM set_conf", "SELECT set _config"])
    func noSetConfig(_ text: String) { #expect(!self.mentionsSetConfig(text)) }

    private func makesRelation(_ text: String) -> Bool {
        let bytes = Array(text.utf8)
        return SessionCommands.mayMakeRelation(bytes.span)
    }

    @Test(arguments: [
        "CREATE TABLE a AS SELECT 1", "/* x */ create materialized view a AS SELECT 1", "SELECT 1 INTO a",
        "WITH a AS (INSERT INTO b VALUES (1) RETURNING c) SELECT c INTO TEMP d FROM a",
    ])
    func relation(_ text: String) { #expect(self.makesRelation(text)) }

    @Test(arguments: [
        "SELECT 1", "", "INSERT INTO a SELECT 1", "insert  into a VALUES (1)",
        "WITH a AS (INSERT INTO b VALUES (1)) SELECT 1",
        "MERGE INTO a USING b ON c WHEN MATCHED THEN DELETE", "SELECT created, intoxicated FROM into_ WHERE a = $1",
    ])
    func noRelation(_ text: String) { #expect(!self.makesRelation(text)) }

    @Test func backslashInAString() {
        #expect(self.commands("SELECT '\\'; DEALLOCATE a; --'").deallocations.count == 1)
        #expect(self.commands("SELECT '\\'; DEALLOCATE a; --'", standardConformingStrings: false).deallocations.isEmpty)
    }
}
