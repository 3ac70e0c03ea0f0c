import Proxy
import Settings
import Testing

@testable import Admin

@Suite struct ConsoleCommandTests {
    @Test(
        arguments: [
            ("SHOW POOLS", .show(.pools)),
            ("show pools;", .show(.pools)),
            ("  sHoW\tPools ;; \n", .show(.pools)),
            ("SELECT pools", .show(.pools)),
            ("SHOW \"pools\"", .show(.pools)),
            ("SHOW POOLS -- by pgadmin", .show(.pools)),
            ("/* a /* nested */ one */ SHOW/**/POOLS", .show(.pools)),
            ("SHOW active_sockets", .show(.activeSockets)),
            ("SHOW max_client_conn", .showSetting("max_client_conn")),
            ("SHOW DateStyle", .showSetting("datestyle")),
            ("SET verbose=2", .set(key: "verbose", value: "2")),
            ("set Verbose TO '2'", .set(key: "verbose", value: "2")),
            ("SET server_lifetime = 1.5", .set(key: "server_lifetime", value: "1.5")),
            ("SET server_check_query = ''", .set(key: "server_check_query", value: "")),
            ("SET server_check_query='it''s; -- one'", .set(key: "server_check_query", value: "it's; -- one")),
            ("SET pool_size = -1", .set(key: "pool_size", value: "-1")),
            ("SET logfile = /var/log/martlet.log", .set(key: "logfile", value: "/var/log/martlet.log")),
            ("RELOAD;", .reload),
            ("PAUSE", .pause(database: nil)),
            ("PAUSE Shop", .pause(database: "Shop")),
            ("PAUSE my-db.2", .pause(database: "my-db.2")),
            ("PAUSE \"a \"\"b\"\" c\"", .pause(database: "a \"b\" c")),
            ("PAUSE größe", .pause(database: "größe")),
            ("RESUME shop", .resume(database: "shop")),
            ("DISABLE shop", .disable(database: "shop")),
            ("ENABLE shop", .enable(database: "shop")),
            ("RECONNECT", .reconnect(database: nil)),
            ("KILL shop", .kill(database: "shop")),
            ("KILL_CLIENT 42", .killClient(id: "42")),
            ("KILL_CLIENT", .killClient(id: "")),
            ("WAIT_CLOSE shop", .waitClose(database: "shop")),
            ("SHOW NODES", .show(.nodes)),
            ("show routes;", .show(.routes)),
            ("SHUTDOWN", .shutdown(.immediate)),
            ("SHUTDOWN WAIT_FOR_SERVERS", .shutdown(.waitForServers)),
            ("shutdown wait_for_clients;", .shutdown(.waitForClients)),
            ("", .empty),
            (";", .empty),
            ("-- ping", .empty),
        ] as [(String, ConsoleCommand)])
    func parses(query: String, command: ConsoleCommand) throws {
        #expect(try ConsoleCommand(parsing: Array(query.utf8)) == command)
    }

    /// What follows is SQL, which the console passes on as it is.
    @Test(
        arguments: [
            ("EXPLAIN ROUTE SELECT 1", nil, " SELECT 1"),
            ("explain  Route\n\tSELECT 'a;b', \"x\" -- why\n;", nil, "\n\tSELECT 'a;b', \"x\" -- why\n;"),
            ("EXPLAIN ROUTE (SELECT 1)", nil, " (SELECT 1)"),
            ("EXPLAIN ROUTE FOR shop INSERT INTO t VALUES ($1)", "shop", " INSERT INTO t VALUES ($1)"),
            ("EXPLAIN ROUTE for my-db.2 SELECT 1", "my-db.2", " SELECT 1"),
            ("EXPLAIN ROUTE FOR \"a \"\"b\"\" c\"SELECT 1", "a \"b\" c", "SELECT 1"),
            ("EXPLAIN ROUTE FOR größe SELECT 1", "größe", " SELECT 1"),
            ("EXPLAIN ROUTE FORTUNE", nil, " FORTUNE"),
            ("EXPLAIN ROUTE EXPLAIN ROUTE FOR shop SELECT 1", nil, " EXPLAIN ROUTE FOR shop SELECT 1"),
        ] as [(String, String?, String)])
    func explainRoute(query: String, database: String?, statement: String) throws {
        let command = try ConsoleCommand(parsing: Array(query.utf8))
        #expect(command == .explainRoute(Array(statement.utf8), database: database))
    }

    @Test(
        arguments: [
            ("EXPLAIN SELECT 1", .invalid, "EXPLAIN ROUTE"), ("EXPLAIN", .invalid, "EXPLAIN ROUTE"),
            ("EXPLAN ROUTE SELECT 1", .invalid, "EXPLAIN"), ("EXPLAIN ROUTE FOR \"shop SELECT 1", .invalid, nil),
            ("EXPLAIN ROUTE FOR", .databaseRequired, nil), ("EXPLAIN ROUTE", .statementRequired, nil),
            ("EXPLAIN ROUTE ; ", .statementRequired, nil), ("EXPLAIN ROUTE FOR shop", .statementRequired, nil),
            ("EXPLAIN ROUTE FOR shop;", .statementRequired, nil), ("EXPLAIN ROUTE FOR \"\" ;", .statementRequired, nil),
        ] as [(String, ConsoleCommand.SyntaxError.Reason, String?)])
    func refusesToExplain(query: String, reason: ConsoleCommand.SyntaxError.Reason, nearest: String?) {
        #expect(throws: ConsoleCommand.SyntaxError(reason: reason, nearest: nearest)) {
            try ConsoleCommand(parsing: Array(query.utf8))
        }
    }

    @Test(
        arguments: [
            ("SHOW", nil),
            ("SHOW POOLS now", nil),
            ("SHOW 'pools'", nil),
            ("SHWO POOLS", "SHOW"),
            ("RELAOD", "RELOAD"),
            ("RELOAD shop", nil),
            ("INSERT INTO t VALUES (1)", nil),
            ("BEGIN", nil),
            ("SUSPEND", nil),
            ("SELECT (1)", nil),
            ("SELECT version()", nil),
            ("SET", nil),
            ("SET verbose", nil),
            ("SET = 1", nil),
            ("SET verbose 1", nil),
            ("SET \"\" = 1", nil),
            ("SET 'verbose' = 1", nil),
            ("PAUSE a b", nil),
            ("PAUSE 'a'", nil),
            ("PAUSE \"a", nil),
            ("/* open", nil),
            ("'", nil),
            ("\"show\" pools", nil),
            ("SHUTDOWN WAIT_FOR_CLIENT", "SHUTDOWN WAIT_FOR_CLIENTS"),
            ("SHUTDOWN now", nil),
            ("\u{0}", nil),
            ("(", nil),
        ] as [(String, String?)])
    func refuses(query: String, nearest: String?) {
        #expect(throws: ConsoleCommand.SyntaxError(nearest: nearest)) { try ConsoleCommand(parsing: Array(query.utf8)) }
    }

    @Test(arguments: ["SHOW POOLS; SHOW STATS", "SHOW POOLS;;RELOAD;", "; PAUSE ; RESUME"])
    func refusesSeveralCommands(query: String) {
        #expect(throws: ConsoleCommand.SyntaxError(reason: .several)) { try ConsoleCommand(parsing: Array(query.utf8)) }
    }

    @Test(arguments: ["DISABLE", "ENABLE;"])
    func needsADatabase(query: String) {
        #expect(throws: ConsoleCommand.SyntaxError(reason: .databaseRequired)) {
            try ConsoleCommand(parsing: Array(query.utf8))
        }
    }

    @Test func bytesThatAreNotUTF8DoNotTrap() throws {
        #expect(throws: ConsoleCommand.SyntaxError.self) { try ConsoleCommand(parsing: [0xff, 0xfe, 0x00]) }
        let command = try ConsoleCommand(parsing: Array("PAUSE ".utf8) + [0xff])
        #expect(command == .pause(database: "\u{fffd}"))
    }

    @Test func randomBytesDoNotTrap() {
        var state: UInt64 = 0x9e37_79b9_7f4a_7c15
        let alphabet = Array("SHOWPAUSEset'\"-/*; =\n\u{e9}x1_".utf8)
        for _ in 0..<2000 {
            var query: [UInt8] = []
            for _ in 0..<(state % 40) {
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                query.append(alphabet[Int(state >> 33) % alphabet.count])
            }
            _ = try? ConsoleCommand(parsing: query)
            state = state &* 6_364_136_223_846_793_005 &+ 1
        }
    }
}

@Suite struct NearestNameTests {
    @Test(
        arguments: [
            ("pols", "pools"), ("polls", "pools"), ("opols", "pools"), ("client", "clients"), ("stat", "stats"),
            ("database", "databases"), ("x", nil), ("", nil), ("nonsense", nil),
            (String(repeating: "p", count: 1000), nil),
        ] as [(String, String?)])
    func finds(name: String, nearest: String?) {
        let candidates = ["pools", "clients", "databases", "stats", "stats_totals", "state"]
        #expect(NearestName.find(name, in: candidates) == nearest)
    }

    @Test(
        "of what is not understood the log is told the words that the console knows",
        arguments: [
            ("SET", "SET"), ("SET check_password", "SET check_password"),
            ("SET check_password 'secret' x", "SET check_password …"),
            ("SET check_password = secret more", "SET check_password = …"), ("SET chek_password 'secret'", "SET …"),
            ("SETcheck_password=secret", "…"), ("set query_timeout;reload", "set …"), ("secret", "…"),
            ("ALTER USER app PASSWORD 'secret'", "…"), ("SHOW secret", "SHOW …"), ("RELOAD secret", "RELOAD …"),
            ("EXPLAIN SELECT 'secret'", "EXPLAIN SELECT …"), ("", ""), (" ; ", ""),
            ("SHUTDOWN WAIT_FOR_X", "SHUTDOWN …"),
        ])
    func wordsForLog(query: String, expected: String) {
        #expect(ConsoleCommand.wordsForLog(Array(query.utf8)) == expected)
    }
}
