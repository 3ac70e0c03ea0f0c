import Pooling
import Reactor
import Routing
import Sessions
import Settings
import Synchronization

// How connections go: retired, evicted, or with the whole shard; and what the console wants to know.
extension Pool {
    /// Marks all connections to be closed when they are free, idle ones at once.
    func retire(_ reason: String) {
        // Those on their way between reactors, and logins under way, find out when they arrive.
        self.shared.generation.add(1, ordering: .relaxed)
        for server in self.servers { server.retire(reason) }
    }

    /// Closes every connection now.
    func closeAll(_ reason: String) {
        for server in self.servers { server.end(reason) }
    }

    /// Closes the connection idle for longest. False when none is idle.
    func evictOldestIdle(_ reason: String) -> Bool {
        guard let oldest = self.idle.first else { return false }
        oldest.end(reason)
        return true
    }

    /// Since when the connection idle for longest has been idle.
    var oldestIdle: MonotonicTime? { self.idle.first?.idleSince }

    func fail(queue error: ServerError) {
        while let client = self.dequeue() { client.fail(error) }
        for client in self.welcomeQueue.takeAll() + self.replicationQueue.takeAll() { client.fail(error) }
        self.announceReplication()
    }

    /// The database has left the configuration.
    func databaseRemoved() {
        guard !self.isRemoved else { return }
        self.isRemoved = true
        self.fail(queue: .databaseRemoved)
        self.retire("database removed")
    }

    // MARK: Nodes

    /// Something is new about the nodes of a routed database: connections that nobody may use go.
    func nodeChanged(_ router: Router) {
        guard router.keep(self), let load = self.load else {
            self.retire("the server has left the list of nodes")
            return self.sendAway()
        }
        let role = load.node.role
        // A monitor that has just been made knows no role yet; what is open here is the same transaction still.
        defer { if role != .unknown { self.wasPrimary = role == .primary } }
        if role == .fenced || role == .foreign {
            // What is written there is lost.
            self.closeAll("the server is \(role)")
            self.sendAway()
        } else if role == .replica && self.wasPrimary {
            // Transactions that began on the primary cannot go on here.
            self.closeAll("the server is not the primary any more")
            self.sendAway()
        } else if !load.node.isUp.load(ordering: .relaxed) {
            self.sendAway()
            for server in self.servers where server.isOnTrial { server.retry("the server does not answer") }
        }
    }

    // MARK: Upkeep, once a second

    /// Nothing is here and nobody is coming: no connection, no login, no waiting client.
    var isEmpty: Bool {
        self.servers.isEmpty && self.loggingIn == 0 && !self.isAwaited
    }

    /// How long this shard has been without connections and clients, as far as it was asked.
    func unusedTime(hasClients: Bool) -> Microseconds {
        guard self.isEmpty && !hasClients else {
            self.unusedSince = .max
            return 0
        }
        self.unusedSince = min(self.unusedSince, self.worker.now)
        return self.worker.now - self.unusedSince
    }

    /// The shard is taken out of its reactor.
    func discard() {
        self.retry?.cancel()
        self.retry = nil
    }

    func maintain() {
        let now = self.worker.now
        // A host that does not answer at all keeps nobody from the next one.
        let slow =
            self.loggingIn > 0 ? self.servers.count { $0.isLoggingIn && now - $0.createdAt > 1_000_000 } : 0
        self.slowLogins = min(slow, self.places - 1)
        self.endLongWaits()
        let least = self.worker.configuration.settings.effectiveMinPoolSize(
            database: self.database, user: self.shared.key.user)
        if least > 0 && !self.isRemoved {
            while self.shared.servers.count < least, self.loggingIn < self.mostLogins, self.mayConnect(),
                self.connect(size: least)
            {}
        }
        if self.isAwaited { self.pump() }
    }

    /// Numbers for the console.
    func status() -> PoolStatus {
        var status = PoolStatus(database: self.shared.key.database, user: self.shared.key.user)
        status.clientsWaiting = self.waitingClients
        status.serversLogin = self.loggingIn
        for server in self.servers {
            switch server.status {
            case .active: status.serversActive += 1
            case .idle: status.serversIdle += 1
            case .used: status.serversUsed += 1
            case .tested: status.serversTested += 1
            case .beingCanceled: status.serversBeingCanceled += 1
            case .activeCancel: status.serversActiveCancel += 1
            case .login: break
            }
        }
        if let oldest = self.oldestWaiting { status.maxWait = max(0, self.worker.now - oldest) }
        return status
    }
}
