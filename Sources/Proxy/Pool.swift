import Authentication
import DequeModule
import Logging
import Pooling
import Reactor
import Settings
import Synchronization
import Wire

/// One reactor's shard of a pool: its idle connections and its waiting clients.
///
/// Limits hold over all shards (`SharedPool`); connections move between shards (`Pool+Donation`). A connection is in
/// exactly one of these places: logging in, idle, being made ready (checked, cleaned, held back by a cancel), or
/// linked to a client.
final class Pool {
    let worker: Worker
    let shared: SharedPool
    /// The entry of `[databases]`.
    private(set) var database: DatabaseSettings
    private(set) var mode: PoolMode = .session
    /// The settings that every transaction asks about, as plain numbers: to reach into `Settings` is to copy it.
    private(set) var rules = Rules()

    struct Rules {
        var size = 0
        var reserve = 0
        /// Microseconds; `.max` is never.
        var reserveTimeout: Microseconds = .max
        var idleTimeout: Microseconds = .max
        var lifetime: Microseconds = .max
        /// `.max` without a check query.
        var checkDelay: Microseconds = .max
        var isRoundRobin = false
        var resetsAlways = false
        var disablesSimpleQueries = false
        var logsErrors = false
    }
    /// Prepared statements are followed from connection to connection.
    private(set) var tracksStatements = false

    /// All connections of this shard, in no order.
    private(set) var servers: [ServerSession] = []
    /// Connections ready to be used; the last one was used last.
    private var idle = Deque<ServerSession>()
    /// Clients in the order of their arrival. One that left the queue early is still in here, marked.
    private var queue = Deque<ClientSession>()
    private var queued = 0
    /// Connections whose login is under way.
    private(set) var loggingIn = 0
    private(set) var backoff = LoginBackoff()
    /// What the last failed login said, for clients that would wait in vain.
    private(set) var loginError: ServerError?

    /// Settings as a fresh server connection reports them, on any reactor; nil until there has been one.
    private(set) var welcome: ParameterSet?
    /// Clients that have authenticated and wait for `welcome`.
    private var welcomeQueue: [ClientSession] = []
    /// Statements that a server of this pool has accepted.
    private var knownGood: Set<UInt64> = []
    /// Which host is next.
    private var hostIndex = 0
    /// Looks at the queue again when a back-off ends or the reserve opens.
    private var retry: Timer?
    private var unusedSince: MonotonicTime = .max

    /// The most logins of one shard at a time: a cold pool warms in a few round trips, and a server is not stormed.
    private static let parallelLogins = 8

    init(worker: Worker, shared: SharedPool, database: DatabaseSettings) {
        self.worker = worker
        self.shared = shared
        self.database = database
        self.apply(worker.configuration.settings, database: database)
    }

    /// Takes over changed settings.
    func apply(_ settings: Settings, database: DatabaseSettings) {
        let changed = database.needsOtherServerConnections(than: self.database)
        self.database = database
        self.mode = settings.effectivePoolMode(database: database, user: self.shared.key.user)
        let general = settings.general
        let never = { (time: Microseconds) in time > 0 ? time : .max }
        self.rules = Rules(
            size: settings.effectivePoolSize(database: database, user: self.shared.key.user),
            reserve: settings.effectiveReservePoolSize(database: database, user: self.shared.key.user),
            reserveTimeout: never(general.reservePoolTimeout), idleTimeout: never(general.serverIdleTimeout),
            lifetime: settings.effectiveServerLifetime(database: database),
            checkDelay: general.serverCheckQuery == nil ? .max : general.serverCheckDelay,
            isRoundRobin: general.serverRoundRobin,
            resetsAlways: general.serverResetQueryAlways && !general.serverResetQuery.isEmpty,
            disablesSimpleQueries: general.disablePqexec, logsErrors: general.verbose > 1)
        self.tracksStatements = self.mode != .session && settings.general.maxPreparedStatements > 0
        if changed {
            self.welcome = nil
            self.shared.welcome.withLock { $0 = nil }
            self.backoff.succeeded()
            self.loginError = nil
            self.retire("database configuration changed")
        }
        self.pump()
    }

    var settings: GeneralSettings { self.worker.configuration.settings.general }
    var isPaused: Bool {
        self.shared.database.isPaused.load(ordering: .relaxed) || self.worker.shared.isPaused.load(ordering: .relaxed)
    }

    // MARK: Clients

    /// Links a connection to a client, or puts the client into the queue. True if linked.
    func acquire(_ client: ClientSession) -> Bool {
        if self.queued == 0 && !self.isPaused, let server = self.takeIdle() {
            server.link(client)
            return true
        }
        if let error = self.hopeless() {
            client.fail(error)
            return false
        }
        self.enqueue(client)
        self.pump()
        return client.server != nil
    }

    /// Why waiting would be in vain: the server refuses logins, there is no connection, and the next try is not due.
    private func hopeless() -> ServerError? {
        guard let error = self.loginError, self.shared.servers.count == 0, self.backoff.isFailing,
            self.worker.now < self.backoff.nextTry
        else { return nil }
        return error.whileRetrying
    }

    private func enqueue(_ client: ClientSession) {
        client.beginWaiting()
        self.queue.append(client)
        self.queued += 1
        if self.queued == 1 { self.announceWaiting() }
    }

    /// A client leaves the queue without having been served.
    func leaveQueue(_ client: ClientSession) {
        guard client.isWaiting else { return }
        client.endWaiting()
        self.queued -= 1
        if self.queue.first === client || self.queued == 0 { self.dropLeavers() }
        // Those who left from the middle stay behind as marks; a queue that is mostly marks is swept.
        if self.queue.count > 2 * self.queued + 64 { self.queue = Deque(self.queue.filter { $0.isWaiting }) }
    }

    private func dropLeavers() {
        while let first = self.queue.first, !first.isWaiting { self.queue.removeFirst() }
        self.announceWaiting()
    }

    private func dequeue() -> ClientSession? {
        while let client = self.queue.popFirst() {
            guard client.isWaiting else { continue }
            self.queued -= 1
            client.endWaiting()
            while let first = self.queue.first, !first.isWaiting { self.queue.removeFirst() }
            self.announceWaiting()
            return client
        }
        return nil
    }

    private func announceWaiting() {
        let index = self.worker.index
        let since = self.queue.first?.waitingSince ?? .max
        self.shared.oldest[index].since.store(since, ordering: .relaxed)
        let bit = SharedPool.bit(index)
        let isMarked = self.shared.waiting.load(ordering: .relaxed) & bit != 0
        if (self.queued > 0) != isMarked {
            if self.queued > 0 {
                self.shared.waiting.bitwiseOr(bit, ordering: .sequentiallyConsistent)
            } else {
                self.shared.waiting.bitwiseAnd(~bit, ordering: .sequentiallyConsistent)
            }
        }
    }

    var waitingClients: Int { self.queued }
    var oldestWaiting: MonotonicTime? { self.queue.first { $0.isWaiting }?.waitingSince }

    /// A client that has authenticated needs `welcome`. True if it is known; else the client is told later.
    func awaitWelcome(_ client: ClientSession) -> Bool {
        self.lookForWelcome()
        if self.welcome != nil { return true }
        if let error = self.hopeless() {
            client.fail(error)
            return false
        }
        self.welcomeQueue.append(client)
        self.pump()
        return false
    }

    /// Takes over what another reactor's connection has reported.
    private func lookForWelcome() {
        guard self.welcome == nil, let known = self.shared.welcome.withLock({ $0 }) else { return }
        self.welcome = self.worker.parameters.intern(known)
    }

    /// A server connection somewhere has reported its settings: clients that waited for them can go on.
    func welcomeKnown() {
        self.lookForWelcome()
        guard self.welcome != nil else { return }
        let welcomed = self.welcomeQueue
        self.welcomeQueue = []
        for client in welcomed { client.welcomed() }
    }

    func leaveWelcomeQueue(_ client: ClientSession) { self.welcomeQueue.removeAll { $0 === client } }
    var clientsAwaitingWelcome: Int { self.welcomeQueue.count }

    // MARK: Connections

    private func takeIdle() -> ServerSession? {
        while let server = self.rules.isRoundRobin ? self.idle.popFirst() : self.idle.popLast() {
            if self.idle.isEmpty { self.announceIdle() }
            guard server.isOpen else { continue }
            if server.needsCheck {
                server.check()
                continue
            }
            return server
        }
        return nil
    }

    private func announceIdle() {
        let bit = SharedPool.bit(self.worker.index)
        if self.idle.isEmpty {
            self.shared.idle.bitwiseAnd(~bit, ordering: .sequentiallyConsistent)
        } else {
            self.shared.idle.bitwiseOr(bit, ordering: .sequentiallyConsistent)
        }
    }

    /// A connection is ready for the next client: somebody who waits here, somebody who waits elsewhere, or nobody.
    func give(_ server: ServerSession) {
        if self.isPaused { return server.end("pause mode") }
        if let reason = server.retireReason { return server.end(reason) }
        if self.queued > 0 {
            if self.isSomebodyElseFirst { return self.part(with: server) }
            if let client = self.dequeue() {
                server.link(client)
                client.redeliver()
                return
            }
        }
        if self.isSomebodyElseWaiting { return self.part(with: server) }
        self.putIdle(server)
    }

    private var isSomebodyElseWaiting: Bool {
        self.shared.waiting.load(ordering: .sequentiallyConsistent) & ~SharedPool.bit(self.worker.index) != 0
    }

    private func putIdle(_ server: ServerSession) {
        server.becomeIdle()
        self.idle.append(server)
        if self.idle.count == 1 {
            self.announceIdle()
            // Somebody may have begun to wait elsewhere before the mark was set.
            if self.isSomebodyElseWaiting { self.worker.loop.later { self.donateIdle() } }
        }
    }

    /// Another reactor's client has been waiting for much longer than the first one here.
    private var isSomebodyElseFirst: Bool {
        let mask = self.shared.waiting.load(ordering: .relaxed) & ~SharedPool.bit(self.worker.index)
        guard mask != 0, let own = self.queue.first?.waitingSince else { return false }
        let now = self.worker.now
        for index in 0..<self.shared.oldest.count where mask & SharedPool.bit(index) != 0 {
            let since = self.shared.oldest[index].since.load(ordering: .relaxed)
            // Some slack, so that shards with equal queues do not pass connections back and forth.
            if since != .max && now - since > 2 * (now - own) + 1_000 { return true }
        }
        return false
    }

    /// Serves the queue: idle connections first, then new ones, then other reactors' idle ones.
    func pump() {
        while self.queued > 0 && !self.isPaused {
            guard let server = self.takeIdle() else { break }
            guard let client = self.dequeue() else {
                self.idle.append(server)
                break
            }
            server.link(client)
            client.redeliver()
        }
        self.connectIfNeeded()
        if self.queued > 0 && !self.isPaused { self.askOthers() }
    }

    // MARK: Logging in

    private func connectIfNeeded() {
        let wanted = min(self.queued + (self.welcome == nil ? min(self.welcomeQueue.count, 1) : 0), Self.parallelLogins)
        while self.loggingIn < wanted {
            guard self.mayConnect(), self.connect() else { return }
        }
    }

    private func mayConnect() -> Bool {
        if self.isPaused && self.welcomeQueue.isEmpty { return false }
        if self.worker.shared.isShuttingDown.load(ordering: .relaxed) && self.queued == 0 { return false }
        if self.backoff.nextTry > self.worker.now {
            self.retry(after: self.backoff.nextTry - self.worker.now)
            return false
        }
        return true
    }

    /// Looks at the queue again later.
    private func retry(after delay: Microseconds) {
        if let retry = self.retry {
            if retry.deadline > self.worker.now + delay { retry.restart(after: delay) }
        } else {
            self.retry = Timer(loop: self.worker.loop, after: delay) { [unowned self] _ in self.pump() }
        }
    }

    /// Connections this pool may have now. The reserve opens when the oldest client has waited long enough.
    private var limit: Int {
        let rules = self.rules
        guard rules.size > 0 else { return 0 }
        guard rules.reserve > 0, rules.reserveTimeout < .max, let oldest = self.queue.first?.waitingSince else {
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
        if !self.connect(replication) {
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

    private func nextHost() -> HostAddress {
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
                self.add(server)
                server.beginLogin()
            } catch {
                self.loginFailed(
                    ServerError(message: "connect failed: \(host.description): \(error.reason)", sqlState: "08006"),
                    replication)
            }
        }
    }

    private func add(_ server: ServerSession) {
        server.poolIndex = self.servers.count
        self.servers.append(server)
    }

    private func remove(_ server: ServerSession) {
        let index = server.poolIndex
        guard index < self.servers.count, self.servers[index] === server else { return }
        self.servers.swapAt(index, self.servers.count - 1)
        self.servers[index].poolIndex = index
        self.servers.removeLast()
        server.poolIndex = -1
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
            server.link(client)
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
        if let replication { self.worker.clients[replication.client]?.fail(error.forClients) }
        if self.database.loadBalanceHosts == .disable { self.hostIndex += 1 }
        self.backoff.failed(now: self.worker.now, longest: self.settings.serverLoginRetry)
        if error.isRefusal { self.loginError = error }
        let waiting = self.welcomeQueue
        self.welcomeQueue = []
        for client in waiting { client.fail(error.forClients) }
        if error.isRefusal && self.shared.servers.count == 0 {
            while let client = self.dequeue() { client.fail(error.forClients) }
        }
        self.pump()
    }

    private var prefix: String { "S-pool: \(self.shared.key.database)/\(self.shared.key.user)" }

    private func releaseCounts() {
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

    // MARK: Closing

    /// Marks all connections to be closed when they are free, idle ones at once.
    func retire(_ reason: String) {
        for server in self.servers { server.retire(reason) }
    }

    /// Closes every connection now.
    func closeAll(_ reason: String) {
        for server in self.servers { server.end(reason) }
    }

    /// Closes the connection idle for longest. False when none is idle.
    func evictOldestIdle(_ reason: String) -> Bool {
        guard let oldest = self.idle.min(by: { $0.idleSince < $1.idleSince }) else { return false }
        oldest.end(reason)
        return true
    }

    /// Since when the connection idle for longest has been idle.
    var oldestIdle: MonotonicTime? { self.idle.map(\.idleSince).min() }

    func fail(queue error: ServerError) {
        while let client = self.dequeue() { client.fail(error) }
        let waiting = self.welcomeQueue
        self.welcomeQueue = []
        for client in waiting { client.fail(error) }
    }

    // MARK: Donation

    /// Gives a connection to another reactor as soon as this turn's callbacks are over: it cannot leave the loop in the
    /// middle of its own.
    private func part(with server: ServerSession) {
        self.worker.loop.later {
            guard server.isOpen, server.pool === self else { return }
            if self.isPaused { return server.end("pause mode") }
            if let reason = server.retireReason { return server.end(reason) }
            if self.donate(server) { return }
            if let client = self.dequeue() {
                server.link(client)
                client.redeliver()
            } else {
                self.putIdle(server)
            }
        }
    }

    /// Gives a connection to the reactor whose client has been waiting for longest. False when there is none, or the
    /// connection cannot leave.
    private func donate(_ server: ServerSession) -> Bool {
        let mask = self.shared.waiting.load(ordering: .sequentiallyConsistent) & ~SharedPool.bit(self.worker.index)
        guard mask != 0 else { return false }
        var target: Int?
        var earliest = Int64.max
        for index in 0..<self.shared.oldest.count where mask & SharedPool.bit(index) != 0 {
            let since = self.shared.oldest[index].since.load(ordering: .relaxed)
            if target == nil || since < earliest {
                target = index
                earliest = since
            }
        }
        guard let target, server.leave() else { return false }
        self.remove(server)
        self.worker.donate(server, to: target, pool: self.shared.key)
        return true
    }

    /// Gives an idle connection away because another reactor asks for one.
    func donateIdle() {
        guard self.queued == 0, let server = self.takeIdle() else { return }
        if !self.donate(server) {
            self.idle.append(server)
            self.announceIdle()
        }
    }

    /// Asks reactors that have an idle connection for one.
    private func askOthers() {
        let mask = self.shared.idle.load(ordering: .sequentiallyConsistent) & ~SharedPool.bit(self.worker.index)
        guard mask != 0 else { return }
        for index in 0..<self.shared.oldest.count where mask & SharedPool.bit(index) != 0 {
            self.worker.ask(index, forIdleOf: self.shared.key)
        }
    }

    /// A connection has arrived from another reactor.
    func accept(_ server: ServerSession) {
        server.joined(self)
        self.add(server)
        self.give(server)
    }

    // MARK: Upkeep, once a second

    /// Nothing is here and nobody is coming: no connection, no login, no waiting client.
    var isEmpty: Bool {
        self.servers.isEmpty && self.loggingIn == 0 && self.queued == 0 && self.welcomeQueue.isEmpty
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
        let least = self.worker.configuration.settings.effectiveMinPoolSize(
            database: self.database, user: self.shared.key.user)
        if least > 0 && self.worker.index == 0 {
            while self.shared.servers.count < least, self.loggingIn < Self.parallelLogins, self.mayConnect(),
                self.connect()
            {}
        }
        if self.queued > 0 || !self.welcomeQueue.isEmpty { self.pump() }
    }

    /// Numbers for the console.
    func status() -> PoolStatus {
        var status = PoolStatus(database: self.shared.key.database, user: self.shared.key.user)
        status.clientsWaiting = self.queued + self.welcomeQueue.count
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
