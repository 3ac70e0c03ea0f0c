import SQL
import Testing

@Suite struct RouterCommandTests {
    private static func command(_ text: String) -> RouterCommand? {
        let bytes = Array(text.utf8)
        return RouterCommand(bytes.span)
    }

    private static func set(_ name: String, _ value: String?, isLocal: Bool = false) -> RouterCommand.Statement {
        .set(name: name, value: value.map { .text($0) }, isLocal: isLocal)
    }

    @Test(
        arguments: [
            ("SET martlet.route = 'primary'", set("route", "primary")),
            ("set martlet.route to replica", set("route", "replica")),
            ("SET SESSION martlet.route TO 'auto';", set("route", "auto")),
            ("SET LOCAL martlet.route = 'auto'", set("route", "auto", isLocal: true)),
            ("  /* a */ SeT\nMARTLET . Route=Primary -- b\n ; ;", set("route", "primary")),
            ("SET martlet.session_key = 'it''s'", set("session_key", "it's")),
            ("SET martlet.session_key = ''", set("session_key", "")),
            ("SET martlet.session_key = 'default'", set("session_key", "default")),
            ("SET martlet.session_key = \"A b\"", set("session_key", "A b")),
            ("SET martlet.\"session_key\" = $$a'b$$", set("session_key", "a'b")),
            ("SET \"martlet.session_key\" = $q$a$b$q$", set("session_key", "a$b")),
            ("SET \"martlet\".session_key = E'a\\'\\x41\\101\\u0041\\n'", set("session_key", "a'AAA\n")),
            ("SET martlet.session_key = U&'\\0041\\+000042\\\\'", set("session_key", "AB\\")),
            ("SET martlet.session_key = 'a' -- b\n 'c''d'", set("session_key", "ac'd")),
            ("SET martlet.replica_wait = -1.5", set("replica_wait", "-1.5")),
            ("SET martlet.min_lsn = '0/16B3748'", set("min_lsn", "0/16B3748")),
            ("SET martlet.a.b = 1", set("a.b", "1")),
            ("SET martlet.route = DEFAULT", set("route", nil)), ("SET martlet.route TO default", set("route", nil)),
            ("RESET martlet.route", .reset(name: "route")), ("reset Martlet.Route;", .reset(name: "route")),
            ("SHOW martlet.lsn", .show(name: "lsn")), ("show/**/martlet.LSN ;", .show(name: "lsn")),
            (
                "SELECT set_config('martlet.Route', $1, true), pg_catalog.current_setting(E'martlet.lsn'::text) AS x",
                .select([
                    .init(
                        .set(value: .parameter(1), isLocal: .text("true")), name: .text("route"), column: "set_config"),
                    .init(.current(missingOK: .text("false")), name: .text("lsn"), column: "x"),
                ])
            ),
            (
                "select CURRENT_SETTING($2, NULL)",
                .select([.init(.current(missingOK: .null), name: .parameter(2), column: "current_setting")])
            ),
        ] as [(String, RouterCommand.Statement)])
    func understood(text: String, expected: RouterCommand.Statement) {
        #expect(Self.command(text)?.only == expected)
    }

    @Test func severalStatements() {
        let both = "SET martlet.route = 'a' ; RESET martlet.route;"
        #expect(Self.command(both)?.content == .statements([Self.set("route", "a"), .reset(name: "route")], rest: nil))
        let front = "SET martlet.route = 'a'; SELECT 1; SELECT 2"
        #expect(Self.command(front)?.content == .statements([Self.set("route", "a")], rest: 25))
    }

    /// None of the router's business.
    @Test(
        arguments: [
            "", ";", "SELECT 1", "SET", "SET x = 1", "SET martlet = 1", "SET martlet.", "SET martlet..route = 1",
            "SET martletx.route = 1", "SETx martlet.route = 1", "RESET ALL", "RESET martlet", "SHOW ALL",
            "SHOW martlet",
            "SET TIME ZONE 'UTC'", "SHOW", "RESET", "SET SESSION SESSION martlet.route = 1",
            "SELECT * FROM martlet.orders", "SELECT 'SET martlet.route'",
            "SELECT set_config('a.martlet', 'martlet.a', false)",
            "SELECT set_config('search_path', 'martlet.a', false), current_setting('x') FROM martlet.a",
        ])
    func anothers(text: String) {
        #expect(Self.command(text) == nil)
    }

    /// Only a server could do that, and none can.
    @Test(
        arguments: [
            "SET martlet.route", "SET martlet.route =", "SET martlet.route = 'a', 'b'",
            "SELECT 1; SET martlet.route = 'a'", "SET martlet.route FROM CURRENT", "SET martlet.route = 'open",
            "SET martlet.route = 'a' 'b'", "SET martlet.route = - x", "SET martlet.route == 'a'",
            "SET martlet.route = $1", "SET martlet.route = E'\\u00'", "RESET martlet.route x",
            "SELECT set_config('martlet.route', 'a', false) FROM t", "SELECT 1, current_setting('martlet.route')",
            "SELECT current_setting('martlet.route'), current_setting('search_path')",
            "CREATE RULE a AS ON INSERT TO b DO (SELECT 1; SELECT set_config('martlet.route', 'a', false))",
            "ALTER DATABASE a SET martlet.route = 'a'", "SELECT set_config('martlet.route', 'a' || 'b', false)",
        ])
    func refused(text: String) {
        guard case .refused? = Self.command(text)?.content else {
            Issue.record("\(text) is not refused")
            return
        }
    }

    @Test func namesMayBeParameters() throws {
        let command = try #require(Self.command("SELECT set_config($1, $2, $3), current_setting($4, true)"))
        #expect(command.dependsOnParameters && command.parameterTypes == [25, 25, 16, 25])
        #expect(command.bound(to: ["a", "b", "t", "c"]) == nil)
        let bound = try #require(command.bound(to: ["martlet.Route", "b", "\u{1}", "Martlet.lsn"]))
        guard case .select(let calls)? = bound.only else { throw Failure() }
        #expect(calls.map(\.name) == [.text("route"), .text("lsn")])
        if case .set(.text("b"), let isLocal) = calls[0].function { #expect(isLocal.isTrue == true) }
        guard case .refused? = command.bound(to: ["martlet.route", "b", "t", "c"])?.content else { throw Failure() }
        let hidden = try #require(Self.command("SELECT a, current_setting($1) FROM b"))
        #expect(hidden.bound(to: ["c"]) == nil)
        guard case .refused? = hidden.bound(to: ["martlet.c"])?.content else { throw Failure() }
    }

    private struct Failure: Error {}

    @Test func noTextTraps() {
        let text = Array("SELECT set_config('martlet.a', $$x$$, E'\\x41' ); SET martlet.\"b\" = U&'\\0041'".utf8)
        for length in 0...text.count {
            let bytes = Array(text[0..<length])
            _ = RouterCommand(bytes.span)
            for byte in [0, 0x27, 0x24, 0xFF] as [UInt8] {
                var changed = text
                if length < changed.count { changed[length] = byte }
                _ = RouterCommand(changed.span)
            }
        }
    }
}
