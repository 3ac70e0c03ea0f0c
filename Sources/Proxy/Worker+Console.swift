import Pooling
import Reactor
import Sessions
import Settings
import Synchronization
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
        // Also those that wait in the middle of their login.
        for client in self.clients.values where client.hasGroup {
            if database == nil || client.group.key.database == database {
                client.fail(.databaseRemoved)
            }
        }
        for pool in self.pools.values where database == nil || pool.shared.key.database == database {
            pool.closeAll("database removed")
        }
        self.renewOwnConnections(of: database)
    }

    // MARK: Connections beside the pools

    /// Connections to a database's server, or all, that belong to no pool: they count for PAUSE, which promises that the
    /// server can go.
    func ownConnectionCount(of database: String?) -> Int {
        self.ownConnections.values.count { database == nil || $0.database.name == database }
    }

    /// Closes those that are kept for the next question, as RECONNECT does with idle connections.
    func renewOwnConnections(of database: String?) {
        if self.index == 0 { self.authQueries.renew(database) }
    }

    /// What has been waiting for the end of a PAUSE goes on.
    func resumeOwnConnections() {
        guard self.index == 0 else { return }
        self.authQueries.resume()
        self.passwordTrials.next()
    }

    /// No connection to that database's server may be made now.
    func isPaused(_ database: String) -> Bool {
        self.shared.isPaused.load(ordering: .relaxed)
            || self.shared.knownDatabase(database)?.isPaused.load(ordering: .relaxed) ?? false
    }

    /// Nobody new will come. Who is just logging in may go on, but not for as long as it likes.
    func hurryLogins() {
        for client in self.clients.values where client.login != nil { client.hurryLogin() }
    }

    /// No server connection is given to anybody any more: who waits for one hears it, and goes.
    func closeWaiting() {
        for client in self.clients.values where client.isWaiting || (client.login != nil && client.hasGroup) {
            client.fail(.serverShuttingDown)
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
