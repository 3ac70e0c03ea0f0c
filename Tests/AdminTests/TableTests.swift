import Admin
import Proxy
import Sessions
import Settings
import Testing

/// Columns, types and values of the SHOW commands. The columns are PgBouncer's; tools look them up by name and read
/// them by type.
@Suite struct TableTests {
    private static let socket = """
        type:s user:s database:s replication:s state:s addr:s port:i local_addr:s local_port:i connect_time:s \
        request_time:s wait:i wait_us:i close_needed:i ptr:s link:s remote_pid:i tls:s application_name:s \
        prepared_statements:i id:i
        """
    private static let buffers = """
        recv_pos:i pkt_pos:i pkt_remain:i send_pos:i send_remain:i pkt_avail:i send_avail:i
        """

    /// Name and type of each column: s text, i int4, q int8, N numeric.
    private static let tables: [(String, String)] = [
        ("CLIENTS", Self.socket),
        ("SERVERS", Self.socket),
        ("SOCKETS", "\(Self.socket) \(Self.buffers)"),
        ("ACTIVE_SOCKETS", "\(Self.socket) \(Self.buffers)"),
        (
            "POOLS",
            """
            database:s user:s cl_active:i cl_waiting:i cl_active_cancel_req:i cl_waiting_cancel_req:i \
            sv_active:i sv_active_cancel:i sv_being_canceled:i sv_idle:i sv_used:i sv_tested:i sv_login:i \
            maxwait:i maxwait_us:i pool_mode:s load_balance_hosts:s
            """
        ),
        ("PEER_POOLS", "peer_id:i cl_active_cancel_req:i cl_waiting_cancel_req:i sv_active_cancel:i sv_login:i"),
        (
            "DATABASES",
            """
            name:s host:s port:i database:s force_user:s pool_size:i min_pool_size:i reserve_pool_size:i \
            server_lifetime:i pool_mode:s load_balance_hosts:s max_connections:i current_connections:i \
            max_client_connections:i current_client_connections:i paused:i disabled:i reserve_pool:i
            """
        ),
        (
            "USERS",
            """
            name:s pool_size:s reserve_pool_size:s pool_mode:s max_user_connections:i current_connections:i \
            max_user_client_connections:i current_client_connections:i
            """
        ),
        ("PEERS", "peer_id:i host:s port:i pool_size:i"),
        ("LISTS", "list:s items:i"),
        ("MEM", "name:s size:i used:i free:i memtotal:i"),
        ("STATE", "key:s value:s"),
        ("CONFIG", "key:s value:s default:s changeable:s"),
        ("VERSION", "version:s"),
        ("DNS_HOSTS", "hostname:s ttl:q addrs:s"),
        ("DNS_ZONES", "zonename:s serial:q count:i"),
        (
            "STATS",
            """
            database:s total_server_assignment_count:N total_xact_count:N total_query_count:N total_received:N \
            total_sent:N total_xact_time:N total_query_time:N total_wait_time:N total_client_parse_count:N \
            total_server_parse_count:N total_bind_count:N total_client_login_count:N \
            avg_server_assignment_count:N avg_xact_count:N avg_query_count:N avg_recv:N avg_sent:N \
            avg_xact_time:N avg_query_time:N avg_wait_time:N avg_client_parse_count:N avg_server_parse_count:N \
            avg_bind_count:N avg_client_login_count:N total_requests:N
            """
        ),
        (
            "STATS_TOTALS",
            """
            database:s server_assignment_count:N xact_count:N query_count:N bytes_received:N bytes_sent:N \
            xact_time:N query_time:N wait_time:N client_parse_count:N server_parse_count:N bind_count:N \
            client_login_count:N
            """
        ),
        (
            "STATS_AVERAGES",
            """
            database:s server_assignment_count:N xact_count:N query_count:N bytes_received:N bytes_sent:N \
            xact_time:N query_time:N wait_time:N avg_client_parse_count:N avg_server_parse_count:N \
            avg_bind_count:N avg_client_login_count:N
            """
        ),
        ("TOTALS", "name:s value:N"),
    ]

    @Test(arguments: Self.tables)
    func columns(show: String, columns: String) async {
        let answer = await Answer.to("SHOW \(show)", as: .stats)
        let oids: [Substring: UInt32] = ["s": 25, "i": 23, "q": 20, "N": 1700]
        let expected = columns.split(separator: " ").map { $0.split(separator: ":") }
        #expect(answer.columns == expected.map { String($0[0]) })
        #expect(answer.typeOIDs == expected.compactMap { oids[$0[1]] })
        #expect(answer.types.hasPrefix("T") && answer.types.hasSuffix("CZ"))
        #expect(answer.tag == "SHOW")
    }

    @Test func help() async {
        let answer = await Answer.to("SHOW HELP")
        #expect(answer.types == "NCZ")
        #expect(answer.notices.first?.severity == "NOTICE")
        #expect(answer.notices.first?.detail?.contains("KILL_CLIENT") == true)
    }

    @Test func version() async {
        #expect(await Answer.to("SHOW VERSION").rows == [["Martlet \(Version.number)"]])
    }

    // MARK: Connections

    private static func client(_ id: UInt64, _ state: ClientState) -> ClientStatus {
        ClientStatus(id: id, state: state, user: "alice", database: "shop")
    }

    @Test func client() async {
        var client = Self.client(42, .waiting)
        client.address = "10.0.0.7"
        client.port = 51234
        client.connectTime = 1_700_000_000_000_000
        client.wait = 2_000_345
        client.link = 255
        client.applicationName = "größe"
        let row = await Answer.to("SHOW CLIENTS", FakeHost { $0.clients = [client] }).firstRow
        #expect(row["type"] == "C")
        #expect(row["state"] == "waiting")
        #expect(row["addr"] == "10.0.0.7")
        #expect(row["port"] == "51234")
        #expect(row["connect_time"]??.hasPrefix("2023-11-1") == true)
        #expect(row["request_time"] == "")
        #expect(row["wait"] == "2")
        #expect(row["wait_us"] == "345")
        #expect(row["close_needed"] == "0")
        #expect(row["ptr"] == "0x2a")
        #expect(row["link"] == "0xff")
        #expect(row["application_name"] == "größe")
        #expect(row["id"] == "42")
    }

    @Test func clientInLoginIsInSocketsOnly() async {
        var client = ClientStatus(id: 1, state: .login, user: "", database: "")
        client.gathered = 3
        let host = FakeHost { $0.clients = [client, Self.client(2, .idle)] }
        #expect(await Answer.to("SHOW CLIENTS", host).rows.count == 1)
        let sockets = await Answer.to("SHOW SOCKETS", host)
        #expect(sockets.rows.map { $0[4] } == ["cl_login", "cl_active"])
        #expect(sockets.firstRow["user"] == "(nouser)")
        #expect(sockets.firstRow["database"] == "(nodb)")
        #expect(sockets.firstRow["pkt_avail"] == "3")
        #expect(await Answer.to("SHOW ACTIVE_SOCKETS", host).rows.count == 1)
    }

    @Test(
        arguments: [
            (ServerState.active, "active", "sv_active"), (.idle, "idle", "sv_idle"), (.used, "used", "sv_used"),
            (.tested, "tested", "sv_tested"), (.login, "new", "sv_login"),
            (.activeCancel, "active_cancel", "sv_active_cancel"),
            (.beingCanceled, "being_canceled", "sv_being_canceled"),
        ])
    func serverStates(state: ServerState, inServers: String, inSockets: String) async {
        let host = FakeHost { $0.servers = [ServerStatus(id: 1, state: state, user: "u", database: "d")] }
        #expect(await Answer.to("SHOW SERVERS", host).firstRow["state"] == inServers)
        #expect(await Answer.to("SHOW SOCKETS", host).firstRow["state"] == inSockets)
    }

    @Test func idThatAnInt4CannotHoldIsAnInt8() async {
        let large = UInt64(Int32.max) + 1
        let answer = await Answer.to("SHOW CLIENTS", FakeHost { $0.clients = [Self.client(large, .idle)] })
        #expect(answer.typeOIDs.last == 20)
        #expect(answer.firstRow["id"] == "2147483648")
        let fits = await Answer.to("SHOW CLIENTS", FakeHost { $0.clients = [Self.client(large - 1, .idle)] })
        #expect(fits.typeOIDs.last == 23)
    }

    @Test func rowsAreInOrderOfArrival() async {
        let host = FakeHost { $0.clients = [3, 1, 2].map { Self.client($0, .idle) } }
        #expect(await Answer.to("SHOW CLIENTS", host).rows.map { $0.last } == ["1", "2", "3"])
    }

    // MARK: Pools, databases, users

    @Test func pools() async {
        var shop = PoolStatus(database: "shop", user: "alice")
        shop.clientsActive = 5
        shop.maxWait = 1_500_000
        var shard = shop
        shard.maxWait = 3_000_001
        shop += shard
        let host = FakeHost { content in
            content.pools = [shop, PoolStatus(database: "a", user: "bob")]
            content.counts.consoleClients = 2
            content.settings.databases["shop"] = DatabaseSettings(name: "shop")
            content.settings.databases["shop"]?.poolMode = .transaction
            content.settings.databases["shop"]?.hosts = [HostAddress(host: "pg1"), HostAddress(host: "pg2")]
        }
        let answer = await Answer.to("SHOW POOLS", host)
        #expect(answer.rows.map { $0[0] } == ["a", "shop", "pgbouncer"])
        #expect(
            answer.rows[1] == [
                "shop", "alice", "10", "0", "0", "0", "0", "0", "0", "0", "0", "0", "0", "3", "1", "transaction",
                "round-robin",
            ])
        #expect(answer.rows[0].suffix(2) == ["session", nil])
        #expect(answer.rows[2].prefix(3) == ["pgbouncer", "pgbouncer", "2"])
        #expect(answer.rows[2].suffix(2) == ["statement", nil])
    }

    @Test func databases() async {
        var settings = DatabaseSettings(name: "shop")
        settings.hosts = [HostAddress(host: "pg1", port: 5433), HostAddress(host: "pg2", port: 5433)]
        settings.dbname = "shop_prod"
        settings.user = "app"
        settings.poolSize = 7
        var status = DatabaseStatus(settings: settings)
        status.serverConnections = 3
        status.clientConnections = 9
        status.isPaused = true
        let answer = await Answer.to("SHOW DATABASES", FakeHost { $0.databases = [status] })
        #expect(
            answer.rows[0] == [
                "shop", "pg1,pg2", "5433", "shop_prod", "app", "7", "0", "0", "3600", nil, "round-robin", "0", "3", "0",
                "9", "1", "0", "0",
            ])
        #expect(
            answer.rows[1] == [
                "pgbouncer", nil, "6432", "pgbouncer", "pgbouncer", "2", "0", "0", "3600", "statement", nil, "0", "0",
                "0", "0", "0", "0", "0",
            ])
    }

    @Test func users() async {
        let host = FakeHost { content in
            content.users = [UserStatus(name: "bob"), UserStatus(name: "alice")]
            content.settings.users["bob"] = UserSettings(name: "bob")
            content.settings.users["bob"]?.poolSize = 12
            content.settings.users["bob"]?.poolMode = .statement
            content.settings.general.maxUserConnections = 50
        }
        let answer = await Answer.to("SHOW USERS", host)
        #expect(answer.rows[0] == ["alice", "", "", nil, "50", "0", "0", "0"])
        #expect(answer.rows[1] == ["bob", "       12", "", "statement", "50", "0", "0", "0"])
    }

    @Test func lists() async {
        let host = FakeHost { content in
            content.counts.clients = 4
            content.counts.servers = 3
            content.counts.clientsInLogin = 1
            content.pools = [PoolStatus(database: "a", user: "b")]
        }
        let answer = await Answer.to("SHOW LISTS", host)
        #expect(
            answer.rows.map { $0[0] } == [
                "databases", "users", "peers", "pools", "peer_pools", "free_clients", "used_clients", "login_clients",
                "free_servers", "used_servers", "dns_names", "dns_zones", "dns_queries", "dns_pending",
            ])
        #expect(answer.rows.map { $0[1] } == ["1", "0", "0", "1", "0", "0", "4", "1", "0", "3", "0", "0", "0", "0"])
    }

    // MARK: Process

    @Test func config() async {
        let answer = await Answer.to("SHOW CONFIG", FakeHost { $0.settings.general.maxClientConn = 77 })
        #expect(answer.rows.contains(["max_client_conn", "77", "100", "yes"]))
        #expect(answer.rows.contains(["listen_port", "6432", "6432", "no"]))
        #expect(answer.rows.contains { $0[0] == "max_user_connections" && $0[1].flatMap { Int($0) } != nil })
    }

    @Test func oneSetting() async {
        let answer = await Answer.to("SHOW default_pool_size")
        #expect(answer.columns == ["default_pool_size"])
        #expect(answer.rows == [["20"]])
        #expect(await Answer.to("SHOW auth_user").rows == [[nil]])
    }

    @Test(arguments: [(false, ["yes", "no", "no", "epoll", "0"]), (true, ["no", "yes", "no", "epoll", "0"])])
    func state(paused: Bool, values: [String]) async {
        let answer = await Answer.to("SHOW STATE", FakeHost { $0.state.isPaused = paused })
        #expect(answer.rows.map { $0[0] } == ["active", "paused", "suspended", "event_loop", "donations"])
        #expect(answer.rows.map { $0[1] } == values)
    }

    @Test func memory() async {
        let host = FakeHost {
            $0.memory = [
                MemoryStatus(name: "client", size: 600, used: 10, free: 2),
                MemoryStatus(name: "huge", size: .max, used: 10, free: 2),
            ]
        }
        let answer = await Answer.to("SHOW MEM", host)
        #expect(answer.rows[0] == ["client", "600", "10", "2", "7200"])
        #expect(answer.rows[1].last == "2147483647")
    }

    @Test func dnsHosts() async {
        let host = FakeHost {
            $0.dnsHosts = [
                DNSHostStatus(name: "pg2", timeToLive: -1, addresses: []),
                DNSHostStatus(name: "pg1", timeToLive: 14_900_000, addresses: ["10.0.0.1", "::1"]),
            ]
        }
        #expect(
            await Answer.to("SHOW DNS_HOSTS", host).rows == [["pg1", "14", "10.0.0.1,::1"], ["pg2", "0", ""]])
    }

    @Test func peers() async {
        let host = FakeHost { content in
            content.settings.peers[2] = PeerSettings(id: 2)
            content.settings.peers[2]?.address = HostAddress(host: "/tmp", port: 6433)
        }
        #expect(await Answer.to("SHOW PEERS", host).rows == [["2", "/tmp", "6433", "20"]])
        #expect(await Answer.to("SHOW PEER_POOLS", host).rows.isEmpty)
    }
}
