import SQL
import Testing

@Suite struct RouterCommandTests {
    private static func command(_ text: String) -> RouterCommand? {
        let bytes = Array(text.utf8)
        return RouterCommand(bytes.span)
    }

    @Test(
        arguments: [
            ("SET martlet.route = 'primary'", .set(name: "route", value: "primary")),
            ("set martlet.route to replica", .set(name: "route", value: "replica")),
            ("SET SESSION martlet.route TO 'auto';", .set(name: "route", value: "auto")),
            ("  /* a */ SeT\nMARTLET . Route=Primary -- b\n ; ;", .set(name: "route", value: "Primary")),
            ("SET martlet.session_key = 'user:42'", .set(name: "session_key", value: "user:42")),
            ("SET martlet.session_key = 'it''s'", .set(name: "session_key", value: "it's")),
            ("SET martlet.session_key = ''", .set(name: "session_key", value: "")),
            ("SET martlet.session_key = 'default'", .set(name: "session_key", value: "default")),
            ("SET martlet.session_key = \"A b\"", .set(name: "session_key", value: "A b")),
            ("SET martlet.replica_wait = 100", .set(name: "replica_wait", value: "100")),
            ("SET martlet.replica_wait = -1.5", .set(name: "replica_wait", value: "-1.5")),
            ("SET martlet.min_lsn = '0/16B3748'", .set(name: "min_lsn", value: "0/16B3748")),
            ("SET martlet.route = DEFAULT", .reset(name: "route")),
            ("SET martlet.route TO default", .reset(name: "route")),
            ("RESET martlet.route", .reset(name: "route")), ("reset Martlet.Route;", .reset(name: "route")),
            ("SHOW martlet.lsn", .show(name: "lsn")), ("show/**/martlet.LSN ;", .show(name: "lsn")),
        ] as [(String, RouterCommand)])
    func understood(text: String, expected: RouterCommand) {
        #expect(Self.command(text) == expected)
    }

    @Test(
        arguments: [
            "", ";", "SELECT 1", "SET", "SET x = 1", "SET LOCAL martlet.route = 'primary'", "SET martlet.route",
            "SET martlet.route =",
            "SET martlet.route = 'a', 'b'", "SET martlet.route = 'a'; SELECT 1", "SELECT 1; SET martlet.route = 'a'",
            "SET martlet = 1", "SET martlet.",
            "SET martlet.a.b = 1", "SET \"martlet\".route = 1", "SET martlet..route = 1", "SET martletx.route = 1",
            "SETx martlet.route = 1",
            "RESET ALL", "RESET martlet", "RESET martlet.route x", "SHOW ALL", "SHOW martlet",
            "SHOW martlet.lsn; SELECT 1", "SET martlet.route = E'a'",
            "SET martlet.route = 'open", "SET martlet.route = 'a' 'b'", "SET martlet.route = 'a'\n'b'",
            "SET martlet.route = - x", "SET martlet.route == 'a'",
            "SET SESSION SESSION martlet.route = 1", "SET TIME ZONE 'UTC'", "SHOW", "RESET", "SET martlet.route = $1",
        ])
    func notUnderstood(text: String) {
        #expect(Self.command(text) == nil)
    }

    @Test func noTextTraps() {
        let text = Array("SET SESSION martlet.route = 'pri''mary' -- x".utf8)
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
