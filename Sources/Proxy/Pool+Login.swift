import Authentication
import Logging
import Pooling
import Reactor
import Routing
import Services
import Sessions
import Settings
import Synchronization
import Wire

// How connections come: within the limits, several at once. When a login fails the next place is tried at once; when all
// have failed there is a pause (`LoginBackoff`), and those who wait hear the reason when waiting has become useless
// (`Pool+Outage`).
extension Pool {
    /// The most logins of one shard at a time: a cold pool warms in a few round trips, and a server is not stormed. As long
    /// as they fail one will do.
    var mostLogins: Int { self.backoff.isFailing || self.failures.count > 0 ? 1 : 8 }

    func connectIfNeeded() {
        self.connectForReplication()
        let clients = self.queued + (self.welcome == nil ? min(self.welcomeQueue.count, 1) : 0)
        guard clients > 0 else { return }
        // The connection that they were waiting for may be gone since the server has refused another.
        if let error = self.refusal { return self.refuse(queue: error) }
        while self.loggingIn - self.slowLogins < min(clients, self.mostLogins), self.hasRoom {
            guard self.loggingIn - self.slowLogins < clients - self.coming, self.mayConnect(), self.connect() else {
                return
            }
        }
    }

    private var hasRoom: Bool {
        let limit = self.limit
        return limit <= 0 || self.shared.servers.count < limit
    }

    /// Connections that the proxy's own queries run on; as many of those who wait will have one soon.
    var coming: Int { self.servers.count(where: \.isComing) }

    func mayConnect() -> Bool {
        if self.isPaused || self.isRemoved { return false }
        if self.worker.shared.isShuttingDown.load(ordering: .relaxed) && !self.isAwaited { return false }
        if self.backoff.nextTry > self.worker.now {
            self.retry(after: self.backoff.nextTry - self.worker.now)
            return false
        }
        return true
    }

    /// Looks at the queue again later.
    func retry(after delay: Microseconds) {
        if let retry = self.retry {
            if retry.deadline > self.worker.now + delay { retry.restart(after: delay) }
        } else {
            self.retry = Timer(loop: self.worker.loop, after: delay) { [unowned self] _ in self.pump() }
        }
    }

    /// Connections this pool may have now. The reserve opens when the oldest client has waited long enough.
    var limit: Int {
        let rules = self.rules
        guard rules.size > 0 else { return 0 }
        guard rules.reserve > 0, rules.reserveTimeout < .max, let oldest = self.queue.first?.client.waitingSince else {
            return rules.size
        }
        let due = oldest + rules.reserveTimeout
        if self.worker.now >= due { return rules.size + rules.reserve }
        self.retry(after: due - self.worker.now)
        return rules.size
    }

    /// A statement that a server of this pool has accepted needs no server to be prepared by another client.
    ///
    /// - Parameter generation: the catalogue's when the server got it.
    func accepted(_ statement: PreparedStatement, generation: UInt64) {
        guard !statement.isOwn, generation > 0, self.knownGood.insert(statement.id, generation) else { return }
        let key = self.shared.key
        let id = statement.id
        self.worker.tellOthers { _ = $0.pools[key]?.knownGood.insert(id, generation) }
    }

    func hasAccepted(_ statement: PreparedStatement) -> Bool {
        self.knownGood.contains(statement.id, self.catalogue.current)
    }

    /// Begins one login if the limits allow it.
    ///
    /// - Parameter size: how many connections the pool may have then; its limit if nil.
    func connect(_ replication: ServerSession.Replication? = nil, size: Int? = nil) -> Bool {
        guard self.shared.servers.take(limit: size ?? self.limit) else { return false }
        let settings = self.worker.configuration.settings
        guard
            self.shared.database.servers.take(
                limit: settings.effectiveMaxDbConnections(database: self.database))
        else {
            self.shared.servers.give()
            self.worker.evictIdle(reason: "evicted for max_db_connections", but: self) {
                $0.shared.database === self.shared.database
            }
            return false
        }
        guard self.shared.user.servers.take(limit: settings.effectiveMaxUserConnections(user: self.shared.key.user))
        else {
            self.shared.database.servers.give()
            self.shared.servers.give()
            self.worker.evictIdle(reason: "evicted for max_user_connections", but: self) {
                $0.shared.user === self.shared.user
            }
            return false
        }
        self.loggingIn += 1
        self.worker.resolve(self.nextHost(), for: self, replication)
        return true
    }

    func nextHost() -> HostAddress {
        if let node = self.load?.node { return HostAddress(host: node.host, port: node.port) }
        let hosts = self.database.hosts
        guard !hosts.isEmpty else { return HostAddress(host: "") }
        let host = hosts[self.hostIndex % hosts.count]
        if self.database.loadBalanceHosts == .roundRobin { self.moveOn(hosts.count) }
        return host
    }

    /// To the next host; once round, to the next address of each.
    private func moveOn(_ hosts: Int) {
        self.hostIndex = (self.hostIndex + 1) % hosts
        if self.hostIndex == 0 { self.addressIndex &+= 1 }
    }

    /// The host's addresses are known: connects to one of them.
    func connect(_ host: HostAddress, _ addresses: Resolver.Answer, _ replication: ServerSession.Replication?) {
        let options = self.worker.socketOptions
        let began = self.worker.now
        switch addresses {
        case .failure(let error):
            self.loginFailed(
                ServerError(message: "server DNS lookup failed: \(error.description)", sqlState: "08006"), replication,
                began: began)
        case .success(let list):
            self.mostAddresses = max(self.mostAddresses, list.count)
            guard let address = list.isEmpty ? nil : list[Int(self.addressIndex % UInt(list.count))] else {
                return self.loginFailed(
                    ServerError(message: "server DNS lookup failed: \(host.host) has no address", sqlState: "08006"),
                    replication, began: began)
            }
            do {
                let socket = try Socket.connecting(to: address, options: options)
                let server = ServerSession(
                    pool: self, host: host, address: address, replication: replication, socket: socket)
                server.generation = self.shared.generation.load(ordering: .relaxed)
                self.add(server)
                server.beginLogin()
            } catch {
                self.worker.suspectName(host)
                self.loginFailed(
                    ServerError(message: "connect failed: \(host.description): \(error.reason)", sqlState: "08006"),
                    replication, began: began)
            }
        }
    }

    /// A login has ended well; the connection is ready.
    func loginSucceeded(_ server: ServerSession) {
        self.loginEnded()
        self.outageEnded()
        if let replication = server.replication {
            guard let client = self.worker.clients[replication.client], client.login != nil else {
                return server.end("replication client was closed")
            }
            client.login?.finish(server: server)
            guard !client.isClosed else { return server.end("replication client was closed") }
            server.link(client)
            client.proceed()
            return self.pump()
        }
        if server.generation != self.shared.generation.load(ordering: .relaxed) {
            // Made for settings that have changed, or before a RECONNECT.
            server.end("obsolete connection")
            return
        }
        server.noteDefaults()
        self.welcomeKnown()
        self.give(server)
        self.pump()
    }

    /// A login is over, well or not.
    func loginEnded() {
        self.loggingIn -= 1
        self.slowLogins = min(self.slowLogins, self.loggingIn)
    }

    var prefix: String { "S-pool: \(self.name)" }

    /// Database and user, for log lines.
    var name: String {
        "\(LogName.text(self.shared.key.database) ?? "")/\(LogName.text(self.shared.key.user) ?? "")"
    }

    func releaseCounts() {
        self.shared.servers.give()
        self.shared.database.servers.give()
        self.shared.user.servers.give()
        self.worker.connectionsFreed(by: self)
    }

    /// A connection that was open is closed.
    func closed(_ server: ServerSession) {
        self.remove(server)
        if let index = self.idle.firstIndex(where: { $0 === server }) {
            self.idle.remove(at: index)
            if self.idle.isEmpty { self.announceIdle() }
        }
        server.countAvailable()
        self.releaseCounts()
        self.pump()
    }

    /// A login is given up because its connection is not wanted any more, which says nothing about the server.
    func loginAbandoned(_ server: ServerSession, _ error: ServerError) {
        self.remove(server)
        server.countAvailable()
        self.loginEnded()
        self.releaseCounts()
        if let replication = server.replication { self.worker.clients[replication.client]?.fail(error) }
    }

    /// A login that did not end well: the connection goes, then the failure is told.
    func loginClosed(_ server: ServerSession, _ error: ServerError) {
        self.remove(server)
        server.countAvailable()
        if !error.isRefusal { self.worker.suspectName(server.host) }
        self.loginFailed(error, server.replication, began: server.createdAt)
    }
}
