import Authentication
import Logging
import Pooling
import Reactor
import Routing
import Settings
import Synchronization
import Wire

// How connections come: within the limits, several at once, with a pause after failures.
extension Pool {
    func connectIfNeeded() {
        let wanted = min(self.queued + (self.welcome == nil ? min(self.welcomeQueue.count, 1) : 0), Self.parallelLogins)
        while self.loggingIn < wanted {
            guard self.mayConnect(), self.connect() else { return }
        }
    }

    func mayConnect() -> Bool {
        if self.isPaused { return false }
        if self.worker.shared.isShuttingDown.load(ordering: .relaxed) && self.queued == 0 { return false }
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
    func accepted(_ statement: PreparedStatement) {
        // Statements nobody uses any more are in here too; forgetting all of them now and then costs a round trip.
        if self.knownGood.count >= 50_000 { self.knownGood.removeAll() }
        guard self.knownGood.insert(statement.id).inserted else { return }
        let key = self.shared.key
        let id = statement.id
        self.worker.tellOthers { $0.pools[key]?.knownGood.insert(id) }
    }

    func hasAccepted(_ statement: PreparedStatement) -> Bool { self.knownGood.contains(statement.id) }

    /// A replication client gets a connection of its own, at once or not at all.
    func connect(for replication: ServerSession.Replication, _ client: ClientSession) {
        if self.isPaused || !self.connect(replication) {
            client.fail(
                ServerError(
                    message: "no server connection available for replication", sqlState: SQLState.tooManyConnections))
        }
    }

    /// Begins one login if the limits allow it.
    func connect(_ replication: ServerSession.Replication? = nil) -> Bool {
        guard self.shared.servers.take(limit: self.limit) else { return false }
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
        if self.database.loadBalanceHosts == .roundRobin { self.hostIndex = (self.hostIndex + 1) % hosts.count }
        return host
    }

    /// The host's addresses are known: connects to one of them.
    func connect(_ host: HostAddress, _ addresses: Resolver.Answer, _ replication: ServerSession.Replication?) {
        let options = self.worker.socketOptions
        switch addresses {
        case .failure(let error):
            self.loginFailed(
                ServerError(message: "server DNS lookup failed: \(error.description)", sqlState: "08006"), replication)
        case .success(let list):
            guard let address = list.isEmpty ? nil : list[self.worker.nextAddressIndex(list.count)] else {
                return self.loginFailed(
                    ServerError(message: "server DNS lookup failed: \(host.host) has no address", sqlState: "08006"),
                    replication)
            }
            do {
                let socket = try Socket.connecting(to: address, options: options)
                let server = ServerSession(
                    pool: self, host: host, address: address, replication: replication, socket: socket)
                server.generation = self.shared.generation.load(ordering: .relaxed)
                self.add(server)
                server.beginLogin()
            } catch {
                self.loginFailed(
                    ServerError(message: "connect failed: \(host.description): \(error.reason)", sqlState: "08006"),
                    replication)
            }
        }
    }

    /// A login has ended well; the connection is ready.
    func loginSucceeded(_ server: ServerSession) {
        self.loggingIn -= 1
        self.backoff.succeeded()
        self.loginError = nil
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
        if self.shared.welcome.withLock({ $0 == nil }) {
            self.shared.welcome.withLock { $0 = server.parameters }
            let key = self.shared.key
            self.worker.tellOthers { $0.pools[key]?.welcomeKnown() }
        }
        self.welcomeKnown()
        self.give(server)
        self.pump()
    }

    /// A login has failed. Clients that wait for their own login are told; others too if the server has refused us
    /// and they have no other connection to wait for.
    func loginFailed(_ error: ServerError, _ replication: ServerSession.Replication?) {
        self.loggingIn -= 1
        self.releaseCounts()
        self.worker.log(.warning, self.prefix, error.message)
        if let replication {
            // It says nothing about ordinary logins.
            self.worker.clients[replication.client]?.fail(error.forClients)
            return self.pump()
        }
        if self.database.loadBalanceHosts == .disable { self.hostIndex += 1 }
        self.backoff.failed(now: self.worker.now, longest: self.settings.serverLoginRetry)
        if error.isRefusal { self.loginError = error }
        if let load = self.load, !error.isRefusal { return self.nodeFailed(load) }
        let waiting = self.welcomeQueue
        self.welcomeQueue = []
        for client in waiting { client.fail(error.forClients) }
        if error.isRefusal && self.shared.servers.count == 0 {
            while let client = self.dequeue() { client.fail(error.forClients) }
        }
        self.pump()
    }

    /// Connections to a node of a routed database fail: clients that wait for one find another node, or wait for it
    /// together with all others.
    private func nodeFailed(_ load: NodeLoad) {
        guard let router = self.worker.routers[self.shared.key.database] else { return self.pump() }
        router.suspect(load, until: self.backoff.nextTry)
        if self.shared.servers.count == 0 { self.sendAway() }
        self.pump()
    }

    /// Clients that wait here look for another node.
    func sendAway() {
        let welcomed = self.welcomeQueue
        self.welcomeQueue = []
        for client in welcomed {
            client.waitsIn = nil
            client.login?.awaitWelcome()
        }
        var clients: [ClientSession] = []
        while let client = self.dequeue() { clients.append(client) }
        for client in clients {
            client.route?.isChosen = false
            client.proceed()
        }
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
        self.releaseCounts()
        self.pump()
    }

    /// A login that did not end well: the connection goes, then the failure is told.
    func loginClosed(_ server: ServerSession, _ error: ServerError) {
        self.remove(server)
        self.loginFailed(error, server.replication)
    }
}
