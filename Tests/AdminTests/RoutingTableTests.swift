import Admin
import Proxy
import Sessions
import Settings
import Testing

/// SHOW NODES, SHOW ROUTES and EXPLAIN ROUTE: what routing adds to the console.
@Suite struct RoutingTableTests {
    private static let text: UInt32 = 25
    private static let int4: UInt32 = 23
    private static let int8: UInt32 = 20

    // MARK: SHOW NODES

    @Test func nodesHaveTheirColumns() async {
        let answer = await Answer.to("SHOW NODES", as: .stats)
        #expect(
            answer.columns == [
                "database", "host", "port", "addr", "role", "state", "timeline", "lsn", "lag_us", "lag_bytes",
                "caught_up", "weight", "in_flight", "latency_us", "error",
            ])
        let (text, int4, int8) = (Self.text, Self.int4, Self.int8)
        #expect(
            answer.typeOIDs == [
                text, text, int4, text, text, text, int4, text, int8, int8, int8, int4, int4, int8, text,
            ])
        #expect(answer.types == "TCZ")
    }

    @Test func aPrimaryAndAReplica() async {
        var primary = NodeStatus(database: "shop", host: "pg1", port: 5432)
        primary.address = "10.0.0.1"
        primary.role = "primary"
        primary.state = "up"
        primary.timeline = 7
        primary.position = 0x16_B374_D848
        var replica = NodeStatus(database: "shop", host: "/run/pg2", port: 5433)
        replica.role = "replica"
        replica.state = "lagging"
        replica.timeline = 7
        replica.position = 0x16_0000_0028
        replica.lag = 12_100_000
        replica.lagBytes = 5000
        replica.caughtUp = 41
        replica.weight = 3
        replica.inFlight = 2
        replica.latency = 850
        replica.error = "password authentication failed (28P01)"
        let nodes = [primary, replica]
        let rows = await Answer.to("SHOW NODES", FakeHost { $0.nodes = nodes }).rows
        #expect(
            rows == [
                [
                    "shop", "pg1", "5432", "10.0.0.1", "primary", "up", "7", "16/B374D848", nil, "0", "0", "1", "0",
                    "0", "",
                ],
                [
                    "shop", "/run/pg2", "5433", "", "replica", "lagging", "7", "16/28", "12100000", "5000", "41", "3",
                    "2", "850", "password authentication failed (28P01)",
                ],
            ])
    }

    @Test func whatNoIntegerCanHoldIsTheLargest() async {
        var node = NodeStatus(database: "shop", host: "pg1", port: 5432)
        node.timeline = .max
        node.position = .max
        node.lagBytes = .max
        node.caughtUp = .max
        let row = await Answer.to("SHOW NODES", FakeHost { [node] in $0.nodes = [node] }).firstRow
        #expect(row["timeline"] == "2147483647")
        #expect(row["lsn"] == "FFFFFFFF/FFFFFFFF")
        #expect(row["lag_bytes"] == "9223372036854775807")
        #expect(row["caught_up"] == "9223372036854775807")
    }

    // MARK: SHOW ROUTES

    @Test func routesHaveAColumnForEachReason() async {
        let answer = await Answer.to("SHOW ROUTES", as: .stats)
        #expect(
            answer.columns == [
                "database", "routing", "replica_reads", "primary_own_write", "primary_earlier_read", "primary_lag",
                "primary_no_replica", "primary_transaction", "primary_statement", "primary_override",
                "primary_balance", "writes", "reruns", "retries", "promotions", "unparsed",
                "not_parsed",
            ])
        #expect(answer.typeOIDs == [Self.text, Self.text] + Array(repeating: Self.int8, count: 15))
    }

    @Test func countsAreUnderTheirReasons() async {
        var shop = RouteStatus(database: "shop", mode: .split)
        shop.replicaReads = 900
        shop.kept = [("lag", 4), ("own_write", 3), ("statement", 2)]
        shop.writes = 5
        shop.reruns = 6
        shop.retries = 7
        shop.promotions = 8
        shop.unparsed = .max
        shop.notParsed = 9
        let routes = [shop, RouteStatus(database: "zoo", mode: .replica)]
        let answer = await Answer.to("SHOW ROUTES", FakeHost { $0.routes = routes })
        #expect(
            answer.rows == [
                [
                    "shop", "split", "900", "3", "0", "4", "0", "0", "2", "0", "0", "5", "6", "7", "8",
                    "9223372036854775807", "9",
                ],
                ["zoo", "replica"] + Array(repeating: "0", count: 15),
            ])
    }

    // MARK: EXPLAIN ROUTE

    @Test(arguments: [
        ("EXPLAIN ROUTE SELECT nextval('n')", "explain -  SELECT nextval('n')"),
        ("EXPLAIN ROUTE FOR shop SELECT nextval('n')", "explain shop  SELECT nextval('n')"),
    ])
    func explain(query: String, call: String) async {
        let host = FakeHost {
            $0.explanation = RouteExplanation(
                statementClass: "write", reason: "calls nextval, which changes a sequence", node: "pg1:5432",
                because: "only the primary may run it")
        }
        let answer = await Answer.to(query, as: .stats, host)
        #expect(answer.types == "TDCZ")
        #expect(answer.columns == ["class", "reason", "node", "because"])
        #expect(
            answer.rows == [
                ["write", "calls nextval, which changes a sequence", "pg1:5432", "only the primary may run it"]
            ])
        #expect(await host.calls == [call])
    }

    @Test(arguments: [
        ("EXPLAIN ROUTE", "EXPLAIN ROUTE needs a statement", nil),
        ("EXPLAIN ROUTE FOR", "a database is required", nil),
        (
            "EXPLAIN SELECT 1", "invalid command 'EXPLAIN SELECT 1', use SHOW HELP;",
            "Perhaps you meant \"EXPLAIN ROUTE\"."
        ),
    ])
    func mistakes(query: String, message: String, hint: String?) async {
        let host = FakeHost()
        let answer = await Answer.to(query, host)
        #expect(answer.types == "EZ")
        #expect(answer.error == .init(severity: "ERROR", sqlState: "08P01", message: message, hint: hint))
        #expect(await host.calls.isEmpty)
    }

    @Test func helpNamesThem() async {
        let help = await Answer.to("SHOW HELP").notices.first?.detail ?? ""
        #expect(help.contains("SHOW NODES|ROUTES"))
        #expect(help.contains("EXPLAIN ROUTE [FOR <database>] <statement>"))
    }
}
