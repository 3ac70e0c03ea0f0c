import Testing

@testable import SQL

@Suite struct SettingResetsTests {
    private func resets(_ text: String) -> SettingResets? {
        let bytes = Array(text.utf8)
        return SettingResets(bytes.span, standardConformingStrings: true)
    }

    private func mayBe(_ text: String) -> Bool {
        let bytes = Array(text.utf8)
        return SettingResets.mayBeIn(bytes.span)
            && (SettingResets.mayBegin(bytes.span, at: 0, before: bytes.count)
                || SettingResets.mayHaveSeveral(bytes.span, from: 0, to: bytes.count))
    }

    @Test(arguments: [
        ("RESET timezone", "timezone"), ("reset \"TimeZone\";", "timezone"), ("RESET my.Own", "my.own"),
        ("RESET TIME ZONE", "timezone"), ("SET TIME ZONE LOCAL", "timezone"), ("SET LOCAL a TO DEFAULT", "a"),
        ("SET SESSION a = default", "a"), ("SET a.b TO DEFAULT", "a.b"), ("SET NAMES DEFAULT", "client_encoding"),
        ("SET NAMES", "client_encoding"), ("/* x */ RESET/**/a -- y", "a"), ("RESET role", "role"),
        (";; RESET a", "a"),
    ])
    func one(_ text: String, _ name: String) {
        #expect(self.mayBe(text))
        #expect(self.resets(text)?.commands.map(\.target) == [.one(name)])
    }

    @Test(arguments: [
        "SELECT 1", "SET a = 'default'", "SET a = default_value", "RESET SESSION AUTHORIZATION", "RESET",
        "SELECT 'RESET a;'; SELECT $$; RESET ALL$$", "DISCARD PLANS", "SET a = 1, default", "SELECT reset; SELECT 1",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "INSERT INTO a VALUES (DEFAULT)", "",
    ])
    func none(_ text: String) { #expect(self.resets(text)?.commands.isEmpty ?? true) }

    @Test(arguments: ["SELECT 1", "SELECT 1;", " \n", "INSERT INTO a VALUES (DEFAULT)", "BEGIN", "SET a = 1", "COMMIT"])
    func notEvenLookedAt(_ text: String) { #expect(!self.mayBe(text)) }

    @Test func severalStatements() {
        let text = "SELECT 1; RESET a;; CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2); DISCARD ALL; RESET ALL"
        let found = self.resets(text)
        #expect(found?.statements == 5)
        #expect(found?.commands.map(\.target) == [.one("a"), .discarded, .all])
        #expect(found?.commands.map(\.number) == [1, 3, 4])
        #expect(found?.commands.map(\.hasSemicolon) == [true, true, false])
        #expect(found?.commands.first?.end == 18)
        #expect(found?.commands.last?.end == text.utf8.count)
    }

    @Test(arguments: ["CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; END; RESET ALL", "RESET ALL; SELECT 'x"])
    func whereStatementsEndIsNotKnown(_ text: String) { #expect(self.resets(text) == nil) }
}
