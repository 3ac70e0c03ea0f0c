import Testing

@testable import SQL

@Suite struct SettingResetsTests {
    private func commands(_ text: String) -> [SettingResets.Command] {
        let bytes = Array(text.utf8)
        return SettingResets(bytes.span, standardConformingStrings: true).commands
    }

    private func mayBe(_ text: String) -> Bool {
        let bytes = Array(text.utf8)
        return SettingResets.mayBeIn(bytes.span)
            && (SettingResets.mayBegin(bytes.span, at: 0, before: bytes.count)
                || SettingResets.mayHaveSeveral(bytes.span, from: 0, to: bytes.count))
    }

    @Test(arguments: [
        ("RESET timezone", "timezone"), ("reset \"TimeZone\";", "timezone"), ("RESET my.Own", "my.own"),
        ("RESET TIME ZONE", "timezone"), ("/* x */ RESET/**/a -- y", "a"), ("RESET role", "role"),
        (";; RESET a", "a"), ("RESET SESSION AUTHORIZATION", "session_authorization"),
    ])
    func reset(_ text: String, _ name: String) {
        #expect(self.mayBe(text))
        #expect(self.commands(text) == [.reset(name)])
    }

    @Test(arguments: [
        ("SET TIME ZONE LOCAL", "timezone"), ("SET SESSION a = default", "a"), ("SET a.b TO DEFAULT", "a.b"),
        ("SET NAMES DEFAULT", "client_encoding"), ("SET NAMES", "client_encoding"),
        ("SET SESSION AUTHORIZATION DEFAULT", "session_authorization"),
    ])
    func setDefault(_ text: String, _ name: String) {
        #expect(self.mayBe(text))
        #expect(self.commands(text) == [.setDefault(name, isLocal: false)])
    }

    @Test(arguments: [
        ("SET a = 'default'", "a"), ("SET a = 1, default", "a"),
        ("SET TIME ZONE 'UTC'", "timezone"), ("SET NAMES 'x'", "client_encoding"), ("SET SCHEMA 'x'", "search_path"),
        ("SET SESSION AUTHORIZATION x", "session_authorization"), ("set \"a\" to b", "a"), ("SET ROLE x", "role"),
    ])
    func set(_ text: String, _ name: String) { #expect(self.commands(text) == [.set(name, isLocal: false)]) }

    @Test func local() {
        #expect(self.commands("SET LOCAL a = default_value") == [.set("a", isLocal: true)])
        #expect(self.commands("SET LOCAL TIME ZONE LOCAL") == [.setDefault("timezone", isLocal: true)])
    }

    @Test(arguments: [
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "SET TRANSACTION READ WRITE", "SET XML OPTION DOCUMENT",
    ])
    func other(_ text: String) { #expect(self.commands(text) == [.other]) }

    @Test(arguments: [
        "SELECT 1", "RESET", "SELECT 'RESET a;'; SELECT $$; RESET ALL$$", "DISCARD PLANS", "SELECT reset; SELECT 1",
        "INSERT INTO a VALUES (DEFAULT)", "", "SET CONSTRAINTS ALL DEFERRED",
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END",
    ])
    func none(_ text: String) { #expect(self.commands(text).isEmpty) }

    @Test(arguments: ["SELECT 1", "SELECT 1;", " \n", "INSERT INTO a VALUES (DEFAULT)", "BEGIN", "SET a = 1", "COMMIT"])
    func notEvenLookedAt(_ text: String) { #expect(!self.mayBe(text)) }

    @Test func severalStatements() {
        let text =
            "SELECT 1 AS atomic; RESET a;; CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2); DISCARD ALL; "
            + "SET LOCAL b TO DEFAULT; SET c = 1; RESET ALL; SELECT 'x"
        #expect(
            self.commands(text) == [
                .reset("a"), .discardAll, .setDefault("b", isLocal: true), .set("c", isLocal: false), .resetAll,
            ])
    }
}
