import Testing

@testable import Settings

/// What is said about routing when a file is read: where, what, and the way out.
@Suite struct RoutingTests {
    /// What is said about a routed database, and the general settings after it.
    private static func remarks(_ database: String, _ general: String = "check_user = watch") -> [String] {
        load(
            """
            [databases]
            \(database)
            [martlet]
            auth_file = x
            pool_mode = transaction
            \(general)
            """
        ).diagnostics.map(\.description)
    }

    @Test(arguments: [
        "shop = host=pg1,pg2,pg3 routing=split",
        "shop = host=pg1,pg2 port=5432,5433 routing=replica weights=1,0 primary_reads=never",
        "shop = host=pg1,pg1 port=5432,5433 routing=split",
        "shop = host=pg1 routing=primary",
        "* = host=pg1,pg2 routing=split check_dbname=postgres",
        "* = host=pg1,pg2 dbname=shop routing=split",
        "shop = host=pg1,pg2 routing=primary pool_mode=session",
        "shop = host=pg1,pg2 routing=split read_after_write_window=2",
        "shop = postgresql://app@pg1,pg2:5433/shop?routing=split&transaction_routing=promote",
    ])
    func nothingToSay(entry: String) {
        #expect(Self.remarks(entry) == [])
    }

    @Test(
        arguments: [
            (
                "host=pg1,pg2,PG1 routing=split",
                #"database "shop" lists PG1:5432 twice: name each server once; weights gives one a larger share of the"#
                    + " reads"
            ),
            (
                "host=pg1,pg2 routing=split pool_mode=session",
                #"warning: database "shop": with pool_mode=session all statements go to the primary; routing=split needs"#
                    + " pool_mode=transaction to use the replicas"
            ),
            (
                "host=pg1,pg2 routing=split read_after_write=off read_after_write_window=2",
                #"warning: database "shop": read_after_write_window has no effect with read_after_write=off; use"#
                    + " read_after_write=window"
            ),
            (
                "host=pg1 routing=split",
                #"note: database "shop": routing=split with one host: list the primary and its replicas, as in"#
                    + " host=pg1,pg2, unless the name has the addresses of all"
            ),
            (
                "host=pg1,pg2 routing=split load_balance_hosts=disable",
                #"note: database "shop": load_balance_hosts has no effect with routing; load_balance and weights have"#
            ),
            (
                "host=pg1,pg2 check_user=watch weights=1,2 max_replica_lag=5",
                #"note: database "shop": without effect while routing=off: max_replica_lag, weights, check_user"#
            ),
            (
                "host=pg1,pg2 routing=splitt",
                #"database "shop": routing must be one of off, split, primary, replica, not "splitt"; did you mean"#
                    + #" "split"?"#
            ),
            (
                "host=pg1,pg2 routing=split read_after_write=lns",
                #"database "shop": read_after_write must be one of lsn, window, off, not "lns"; did you mean "lsn"?"#
            ),
            (
                "host=pg1,pg2 routing=split check_interval=0",
                #"database "shop": check_interval must be at least 0.001 s, not 0"#
            ),
            (
                "host=pg1,pg2 routing=split replica_lag=1",
                #"unknown key "replica_lag" of database "shop"; did you mean "replica_wait"?"#
            ),
        ])
    func aRemark(entry: String, expected: String) {
        #expect(Self.remarks("shop = \(entry)") == ["martlet.ini:2: \(expected)"])
    }

    @Test(arguments: [
        ("shop = host=pg1,pg2 routing=split", ""), ("shop = host=pg1,pg2", "routing = split"),
        ("shop = host=pg1,pg2", "routing = split\ncheck_user ="),
    ])
    func somebodyHasToWatch(entry: String, general: String) {
        #expect(
            Self.remarks(entry, general) == [
                #"martlet.ini:2: database "shop": routing=split needs check_user, the role that watches the servers: any"#
                    + " that may log in will do, a member of pg_monitor is better"
            ])
    }

    @Test(arguments: [
        ("shop = host=pg1,pg2 routing=split check_user=me", ""),
        ("shop = host=pg1,pg2 routing=split user=me", ""),
        ("shop = host=pg1,pg2", "routing = split\ncheck_user = me"),
        ("shop = host=pg1,pg2 routing=off", "routing = split"),
    ])
    func whoWatches(entry: String, general: String) {
        #expect(Self.remarks(entry, general) == [])
    }

    @Test func aGeneralSettingHoldsForEachDatabase() {
        #expect(
            Self.remarks(
                "a = host=pg1,pg2\nb = host=pg1,pg2 read_after_write=lsn",
                "routing = split\ncheck_user = me\nread_after_write = off\nread_after_write_window = 1"
            ) == [
                #"martlet.ini:2: warning: database "a": read_after_write_window has no effect with read_after_write=off;"#
                    + " use read_after_write=window"
            ])
    }

    @Test func aServerOnTheCommandLineCanBeRouted() throws {
        let (settings, diagnostics) = Settings.forURL("postgresql://app@pg1,pg2/shop?routing=split")
        #expect(settings?.database(named: "shop")?.routing == .split)
        #expect(diagnostics == [])
        let (wrong, remarks) = Settings.forURL("postgresql://app@pg1,pg1/shop?routing=split")
        #expect(wrong == nil)
        #expect(remarks.map(\.severity) == [.error])
    }

    @Test func whatWouldLeaveADatabaseWithoutPrimaryIsNotSetAtRunTime() throws {
        var settings = try #require(load("[databases]\nshop = host=pg1,pg2").settings)
        #expect(throws: SettingsError.self) { try settings.set("routing", to: "split") }
        #expect(settings.general.routing == .off)
        try settings.set("check_user", to: "watch")
        try settings.set("routing", to: "split")
        #expect(settings.general.routing == .split)
        #expect(throws: SettingsError.self) { try settings.set("check_user", to: "") }
        #expect(settings.general.checkUser == "watch")
    }
}
