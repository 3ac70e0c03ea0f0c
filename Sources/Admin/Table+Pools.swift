import Proxy
import Settings
import Wire

// SHOW POOLS, DATABASES, USERS, PEERS, PEER_POOLS and LISTS. The console's own database has its row where PgBouncer
// has one.

extension Table {
    /// - Parameter consoleClients: the pool of the console is shown while somebody uses it.
    static func pools(_ pools: [PoolStatus], consoleClients: Int, _ settings: Settings) -> Table {
        var table = Table([
            .text("database"), .text("user"), .int4("cl_active"), .int4("cl_waiting"), .int4("cl_active_cancel_req"),
            .int4("cl_waiting_cancel_req"), .int4("sv_active"), .int4("sv_active_cancel"), .int4("sv_being_canceled"),
            .int4("sv_idle"), .int4("sv_used"), .int4("sv_tested"), .int4("sv_login"), .int4("maxwait"),
            .int4("maxwait_us"), .text("pool_mode"), .text("load_balance_hosts"),
        ])
        for pool in pools.sorted(by: { ($0.database, $0.user) < ($1.database, $1.user) }) {
            let database = settings.database(named: pool.database)
            let mode = database.map { settings.effectivePoolMode(database: $0, user: pool.user) }
            table.add(pool.counts + [(mode ?? settings.general.poolMode).rawValue, database?.balancing])
        }
        if consoleClients > 0 {
            var pool = PoolStatus(database: Settings.consoleDatabase, user: Settings.consoleDatabase)
            pool.clientsActive = consoleClients
            table.add(pool.counts + [PoolMode.statement.rawValue, nil])
        }
        return table
    }

    static func databases(_ databases: [DatabaseStatus], consoleClients: Int, _ settings: Settings) -> Table {
        var table = Table([
            .text("name"), .text("host"), .int4("port"), .text("database"), .text("force_user"), .int4("pool_size"),
            .int4("min_pool_size"), .int4("reserve_pool_size"), .int4("server_lifetime"), .text("pool_mode"),
            .text("load_balance_hosts"), .int4("max_connections"), .int4("current_connections"),
            .int4("max_client_connections"), .int4("current_client_connections"), .int4("paused"), .int4("disabled"),
            // What reserve_pool_size was called up to PgBouncer 1.23; exporters still look for it.
            .int4("reserve_pool"),
        ])
        let general = settings.general
        for status in databases.sorted(by: { $0.settings.name < $1.settings.name }) {
            let database = status.settings
            let lifetime = database.serverLifetime ?? general.serverLifetime
            let reserve = database.reservePoolSize ?? general.reservePoolSize
            table.add([
                database.name,
                database.hosts.allSatisfy { $0.host.isEmpty } ? nil : database.hosts.map(\.host).joined(separator: ","),
                .int4(database.hosts.first?.port ?? 5432),
                database.serverDatabase,
                database.user,
                .int4(database.poolSize ?? general.defaultPoolSize),
                .int4(database.minPoolSize ?? general.minPoolSize),
                .int4(reserve),
                .int4(Int(lifetime / 1_000_000)),
                database.poolMode?.rawValue,
                database.balancing,
                .int4(database.maxDbConnections ?? general.maxDbConnections),
                .int4(status.serverConnections),
                .int4(database.maxDbClientConnections ?? general.maxDbClientConnections),
                .int4(status.clientConnections),
                .int4(status.isPaused),
                .int4(status.isDisabled),
                .int4(reserve),
            ])
        }
        table.add([
            Settings.consoleDatabase, nil, .int4(general.listenPort), Settings.consoleDatabase,
            Settings.consoleDatabase, "2", "0", "0", .int4(Int(general.serverLifetime / 1_000_000)),
            PoolMode.statement.rawValue, nil, "0", "0", "0", .int4(consoleClients), "0", "0", "0",
        ])
        return table
    }

    static func users(_ users: [UserStatus], _ settings: Settings) -> Table {
        var table = Table([
            .text("name"), .text("pool_size"), .text("reserve_pool_size"), .text("pool_mode"),
            .int4("max_user_connections"), .int4("current_connections"), .int4("max_user_client_connections"),
            .int4("current_client_connections"),
        ])
        for status in users.sorted(by: { $0.name < $1.name }) {
            let user = settings.users[status.name]
            table.add([
                status.name,
                Self.optionalSize(user?.poolSize),
                Self.optionalSize(user?.reservePoolSize),
                user?.poolMode?.rawValue,
                .int4(user?.maxUserConnections ?? settings.general.maxUserConnections),
                .int4(status.serverConnections),
                .int4(user?.maxUserClientConnections ?? settings.general.maxUserClientConnections),
                .int4(status.clientConnections),
            ])
        }
        return table
    }

    /// A text column that PgBouncer fills with a number of nine places, or nothing.
    private static func optionalSize(_ size: Int?) -> String {
        guard let size else { return "" }
        let digits = String(size)
        return String(repeating: " ", count: max(0, 9 - digits.count)) + digits
    }

    static func peers(_ settings: Settings) -> Table {
        var table = Table([.int4("peer_id"), .text("host"), .int4("port"), .int4("pool_size")])
        for peer in settings.peers.values.sorted(by: { $0.id < $1.id }) {
            table.add([
                .int4(peer.id), peer.address.host, .int4(peer.address.port),
                .int4(peer.poolSize ?? settings.general.defaultPoolSize),
            ])
        }
        return table
    }

    /// No rows: cancel requests are not passed on to peers yet.
    static func peerPools() -> Table {
        Table([
            .int4("peer_id"), .int4("cl_active_cancel_req"), .int4("cl_waiting_cancel_req"), .int4("sv_active_cancel"),
            .int4("sv_login"),
        ])
    }

    static func lists(_ counts: ProxyCounts, databases: Int, users: Int, pools: Int, peers: Int) -> Table {
        var table = Table([.text("list"), .int4("items")])
        let lists = [
            ("databases", databases), ("users", users), ("peers", peers), ("pools", pools), ("peer_pools", 0),
            ("free_clients", counts.freeClients), ("used_clients", counts.clients),
            ("login_clients", counts.clientsInLogin), ("free_servers", counts.freeServers),
            ("used_servers", counts.servers), ("dns_names", counts.dnsNames), ("dns_zones", 0),
            ("dns_queries", counts.dnsPending), ("dns_pending", counts.dnsPending),
        ]
        for (name, items) in lists { table.add([name, .int4(items)]) }
        return table
    }
}

extension PoolStatus {
    /// The columns up to `maxwait_us`.
    fileprivate var counts: [String?] {
        [
            self.database, self.user, .int4(self.clientsActive), .int4(self.clientsWaiting),
            .int4(self.clientsActiveCancelRequest), .int4(self.clientsWaitingCancelRequest), .int4(self.serversActive),
            .int4(self.serversActiveCancel), .int4(self.serversBeingCanceled), .int4(self.serversIdle),
            .int4(self.serversUsed), .int4(self.serversTested), .int4(self.serversLogin),
            .int4(Int(self.maxWait / 1_000_000)), .int4(Int(self.maxWait % 1_000_000)),
        ]
    }
}

extension DatabaseSettings {
    /// Only a list of hosts is balanced.
    fileprivate var balancing: String? { self.hosts.count > 1 ? self.loadBalanceHosts.rawValue : nil }
}
