import Pooling
import Reactor
import Settings
import Wire

// What the control plane asks of a reactor.
extension Worker {
    func poolStatuses() -> [PoolStatus] {
        var statuses = self.pools.mapValues { $0.status() }
        for client in self.clients.values where client.isHeld {
            statuses[client.pool.shared.key]?.addHeld(since: client.route?.heldSince ?? client.waitingSince, self.now)
        }
        for client in self.clients.values where client.isLoggedIn && !client.isWaiting && client.console == nil {
            statuses[client.pool.shared.key]?.clientsActive += 1
        }
        return Array(statuses.values)
    }

    func counts() -> ProxyCounts {
        var counts = ProxyCounts()
        counts.clients = self.clients.count
        counts.clientsInLogin = self.clients.values.filter { $0.login != nil }.count
        counts.consoleClients = self.clients.values.filter { $0.console != nil }.count
        counts.servers = self.pools.values.reduce(0) { $0 + $1.servers.count }
        return counts
    }

    /// Server connections, those under way included.
    func serverCount(where matches: (Pool) -> Bool) -> Int {
        self.pools.values.filter(matches).reduce(0) { $0 + $1.servers.count }
    }

    /// KILL: clients and server connections go at once.
    func killClients(of database: String?) {
        for client in self.clients.values where client.isLoggedIn && client.console == nil {
            if database == nil || client.group.key.database == database {
                client.fail(ServerError(message: "database removed", sqlState: "57P01"))
            }
        }
        for pool in self.pools.values where database == nil || pool.shared.key.database == database {
            pool.closeAll("database removed")
        }
    }

    /// Nobody new will come: connections that nobody waits for are not needed.
    func closeUnused() {
        for client in self.clients.values where client.login != nil && client.console == nil {
            client.fail(ServerError(message: "pooler is shutting down", sqlState: "57P01"))
        }
    }

    /// Databases with `min_pool_size` and a user of their own are warmed without waiting for a client.
    func openConfiguredPools() {
        let settings = self.configuration.settings
        for database in settings.databases.values {
            guard let user = database.user, settings.effectiveMinPoolSize(database: database, user: user) > 0,
                let group = self.group(database: database.name, user: user)
            else { continue }
            group.pool.maintain()
        }
    }
}

extension PoolStatus {
    /// Counts a client that waits for a node and is in no pool's queue.
    fileprivate mutating func addHeld(since: MonotonicTime, _ now: MonotonicTime) {
        self.clientsWaiting += 1
        self.maxWait = max(self.maxWait, now - since)
    }
}

extension ServerSession {
    /// For SHOW SERVERS.
    func details() -> ServerStatus {
        var status = ServerStatus(
            id: self.id, state: self.status, user: self.pool.shared.key.user, database: self.pool.shared.key.database)
        status.replication = self.replication.map { $0.mode == "database" ? "logical" : "physical" } ?? "none"
        if self.address.isUnix {
            status.address = "unix"
            status.localAddress = "unix"
            status.port = self.host.port
            status.localPort = self.host.port
        } else {
            let local = Socket.localAddress(self.descriptor)
            status.address = self.address.host
            status.port = Int(self.address.port)
            status.localAddress = local.host
            status.localPort = Int(local.port)
        }
        let wall = wallClockNow()
        status.connectTime = self.connectTime
        let last = max(self.client?.requestTime ?? 0, self.idleSince)
        status.requestTime = last > 0 ? wall - (self.now - last) : self.connectTime
        status.closeNeeded = self.isRetiring
        status.link = self.client?.id
        status.remotePID =
            self.backendKey.count >= 4
            ? self.backendKey[..<4].reduce(0 as Int32) { $0 << 8 | Int32($1) } : 0
        status.tls = self.tlsDetails?.summary ?? ""
        status.applicationName = self.parameters["application_name"]?.text ?? ""
        status.preparedStatements = self.statements.count
        status.gathered = self.heldInput
        status.streaming = self.framer.remaining
        status.unsent = self.pendingOutput
        return status
    }
}
