import Authentication
import DequeModule
import Logging
import Pooling
import Reactor
import Routing
import Sessions
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
    /// The only server of this pool, in a routed database.
    private(set) var load: NodeLoad?
    /// The entry of `[databases]`.
    private(set) var database: DatabaseSettings
    private(set) var mode: PoolMode = .session
    /// The settings that every transaction asks about, as plain numbers: to reach into `Settings` is to copy it.
    private(set) var rules = Rules()

    struct Rules {
        var size = 0
        var reserve = 0
        /// Microseconds; 0 is for ever.
        var queryWaitTimeout: Microseconds = 0
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
        /// Prepared statements of a server connection: how many, and how many bytes of them; those of a client, too.
        var statementLimit = 0
        var statementMemory = 0
    }
    /// Prepared statements are followed from connection to connection.
    private(set) var tracksStatements = false
    /// What tells that statements of this database may mean something else than before.
    private(set) var catalogue: CatalogueGeneration

    /// All connections of this shard, in no order.
    private(set) var servers: [ServerSession] = []
    /// Connections ready to be used; the last one was used last.
    var idle = Deque<ServerSession>()
    /// Clients in the order of their arrival. The place of one that left the queue early is still in here, and given up.
    var queue = Deque<Place>()
    var queued = 0
    /// The client that asks for a connection just now: whoever it is that asks goes on with it.
    private(set) var acquiring: ClientSession?

    /// A client's place in the queue.
    struct Place {
        let client: ClientSession
        /// The number of the client's wait: it may wait again, here or elsewhere, while this place has not been swept.
        let wait: UInt32

        var isGivenUp: Bool { self.client.wait != self.wait }
    }
    /// Connections whose login is under way.
    var loggingIn = 0
    /// Of them, those that have taken so long that another place may be tried meanwhile.
    var slowLogins = 0
    var backoff = LoginBackoff()
    var failures = Failures()
    /// What the last failed login said, for clients that would wait in vain.
    var loginError: ServerError?
    /// The database has left the configuration.
    var isRemoved = false

    /// Settings as the newest server connection has reported them, on any reactor, before anybody changes one; nil until there
    /// has been one.
    private(set) var welcome: ParameterSet?
    /// Where `welcome` is from.
    private var sharedWelcome: ParameterSet?
    /// Clients that have authenticated and wait for `welcome`.
    var welcomeQueue = LoginQueue()
    /// Replication clients that wait for their connection to be made.
    var replicationQueue = LoginQueue()
    /// Settings that clients have begun with and that a server has taken.
    var provenSettings: [ObjectIdentifier: ProvenSettings] = [:]
    /// Settings that a replica has not taken lately.
    var refusedSettings: [ObjectIdentifier: RefusedSettings] = [:]
    /// Statements that a server of this pool has accepted since the catalogue has changed last.
    var knownGood = KnownGood()
    /// Which host is next, and which of its addresses.
    var hostIndex = 0
    var addressIndex: UInt
    /// The most addresses that one of the hosts has.
    var mostAddresses = 1
    /// The hosts that are names.
    private(set) var names: Set<String> = []
    /// What the other reactors see of `queue`.
    private let notice: QueueNotice
    /// Looks at the queue again when a back-off ends or the reserve opens.
    var retry: Timer?
    private var givingDepth = 0
    /// Its node took writes when it was looked at last.
    var wasPrimary = false
    var unusedSince: MonotonicTime = .max

    init(worker: Worker, shared: SharedPool, database: DatabaseSettings, load: NodeLoad? = nil) {
        self.worker = worker
        self.shared = shared
        self.notice = shared.queues[worker.index]
        self.load = load
        // Not all pools begin with the same one.
        self.addressIndex = worker.nextAddressIndex()
        self.wasPrimary = load?.node.role == .primary
        self.database = database
        self.catalogue = worker.shared.catalogues.generation(of: database.serverDatabase)
        self.apply(worker.configuration.settings, database: database)
    }

    /// Takes over changed settings.
    func apply(_ settings: Settings, database: DatabaseSettings, needsOtherTLS: Bool = false) {
        // With routing the list of nodes tells whose connections have to go.
        let changed = database.needsOtherServerConnections(than: self.database, sameServer: self.load != nil)
        self.isRemoved = false
        self.database = database
        self.mostAddresses = 1
        self.names = self.findNames()
        let mode = settings.effectivePoolMode(database: database, user: self.shared.key.user)
        if self.mode == .session && mode != .session {
            // What a client has done to its session must not reach the next one.
            for server in self.servers { server.mustReset = true }
        }
        self.mode = mode
        let general = settings.general
        let never = { (time: Microseconds) in time > 0 ? time : .max }
        self.rules = Rules(
            size: settings.effectivePoolSize(database: database, user: self.shared.key.user),
            reserve: settings.effectiveReservePoolSize(database: database, user: self.shared.key.user),
            queryWaitTimeout: settings.effectiveQueryWaitTimeout(database: database, user: self.shared.key.user),
            reserveTimeout: never(general.reservePoolTimeout), idleTimeout: never(general.serverIdleTimeout),
            lifetime: settings.effectiveServerLifetime(database: database),
            checkDelay: general.serverCheckQuery == nil ? .max : general.serverCheckDelay,
            isRoundRobin: general.serverRoundRobin,
            resetsAlways: general.serverResetQueryAlways && !general.serverResetQuery.isEmpty,
            disablesSimpleQueries: general.disablePqexec, logsErrors: general.verbose > 1,
            // Clients that have statements keep them when it is switched off.
            statementLimit: general.maxPreparedStatements > 0 ? general.maxPreparedStatements : 1,
            statementMemory: general.maxPreparedStatementMemory)
        if self.catalogue.database != database.serverDatabase {
            self.catalogue = self.worker.shared.catalogues.generation(of: database.serverDatabase)
        }
        self.tracksStatements = self.mode != .session && general.maxPreparedStatements > 0
        for server in self.servers { server.statementLimitsChanged() }
        if changed {
            self.provenSettings = [:]
            self.forgetWelcome()
            self.retire("database configuration changed")
        } else if needsOtherTLS {
            self.retire("obsolete connection")
        }
        // A corrected password, certificate or address: whatever it is that has changed, it is tried now.
        self.tryAgain()
    }

    var settings: GeneralSettings { self.worker.configuration.settings.general }
    var isPaused: Bool {
        self.shared.database.isPaused.load(ordering: .relaxed) || self.worker.shared.isPaused.load(ordering: .relaxed)
    }

    /// The same server is watched by another monitor from now on.
    func adopt(_ load: NodeLoad) {
        guard let old = self.load, old !== load else { return }
        let clients = self.queued + self.servers.count { $0.client != nil }
        old.inFlight -= clients
        load.inFlight += clients
        self.load = load
    }

    // MARK: Clients

    /// Links a connection to a client, or puts the client into the queue. True if linked. A client that is neither linked
    /// nor waiting has failed, or is closed, or is still open: then this node is no place for it any more, and it looks
    /// for another. It is for the caller to go on with it, who is in the middle of its request.
    func acquire(_ client: ClientSession) -> Bool {
        if self.queued == 0 && !self.isPaused, let server = self.takeIdle(for: 1) {
            server.link(client)
            return true
        }
        if let error = self.refusal {
            // Another reactor's login may have failed since this node was chosen.
            let goesElsewhere =
                self.load?.node.role == .replica && client.login == nil
                && self.refusal(of: client, mayWait: true) != nil
            if !goesElsewhere { client.fail(error) }
            return false
        }
        self.enqueue(client)
        self.acquiring = client
        self.pump()
        self.acquiring = nil
        return client.server != nil
    }

    func enqueue(_ client: ClientSession) {
        client.beginWaiting(in: self)
        self.queue.append(Place(client: client, wait: client.wait))
        self.queued += 1
        if self.queued == 1 {
            self.announceWaiting()
        } else {
            self.notice.clients.store(self.queued, ordering: .relaxed)
        }
    }

    /// A client leaves the queue without having been served.
    func leaveQueue(_ client: ClientSession) {
        guard client.isWaiting else { return }
        client.endWaiting()
        self.queued -= 1
        if self.queue.first?.client === client || self.queued == 0 { self.dropLeavers() }
        // Places in the middle stay; a queue that is mostly given up is swept.
        if self.queue.count > 2 * self.queued + 64 { self.queue = Deque(self.queue.filter { !$0.isGivenUp }) }
    }

    func dropLeavers() {
        self.skipGivenUp()
        self.announceWaiting()
    }

    /// The first place in the queue, if there is one, is that of a client that waits.
    private func skipGivenUp() {
        while let first = self.queue.first, first.isGivenUp { self.queue.removeFirst() }
    }

    func dequeue() -> ClientSession? {
        while let place = self.queue.popFirst() {
            guard !place.isGivenUp else { continue }
            self.queued -= 1
            place.client.endWaiting()
            self.skipGivenUp()
            self.announceWaiting()
            return place.client
        }
        return nil
    }

    func announceWaiting() {
        self.notice.since.store(self.queue.first?.client.waitingSince ?? .max, ordering: .relaxed)
        self.notice.clients.store(self.queued, ordering: .relaxed)
        let bit = SharedPool.bit(self.worker.index)
        let isMarked = self.shared.waiting.load(ordering: .relaxed) & bit != 0
        if (self.queued > 0) != isMarked {
            if self.queued > 0 {
                self.shared.waiting.bitwiseOr(bit, ordering: .sequentiallyConsistent)
            } else {
                self.shared.waiting.bitwiseAnd(~bit, ordering: .sequentiallyConsistent)
            }
        }
    }

    /// All that wait for a connection, those in the middle of their login too.
    var waitingClients: Int { self.queued + self.welcomeQueue.count + self.replicationQueue.count }
    var isAwaited: Bool { self.waitingClients > 0 }
    var oldestWaiting: MonotonicTime? { self.queue.first { !$0.isGivenUp }?.client.waitingSince }

    /// A client that has authenticated needs `welcome`. True if it is known; else the client is told later.
    func awaitWelcome(_ client: ClientSession) -> Bool {
        self.lookForWelcome()
        if self.welcome != nil { return true }
        if let error = self.refusal {
            client.fail(error)
            return false
        }
        client.awaitLogin(in: self)
        self.welcomeQueue.append(LoginQueue.Place(client: client, replication: nil))
        self.pump()
        return false
    }

    /// Takes over what another reactor's connection has reported.
    func lookForWelcome() {
        guard let known = self.shared.welcome.withLock({ $0 }), known !== self.sharedWelcome else { return }
        self.sharedWelcome = known
        self.welcome = self.worker.parameters.intern(known)
    }

    /// What a server connection has by itself. Clients that come from now on begin with it.
    func defaultsKnown(_ defaults: ParameterSet) {
        let isNew = self.shared.welcome.withLock { known in
            if let known, known === defaults || known.parameters == defaults.parameters { return false }
            known = defaults
            return true
        }
        guard isNew else { return }
        let key = self.shared.key
        self.worker.tellOthers { $0.pools[key]?.welcomeKnown() }
        self.lookForWelcome()
    }

    /// The next server connection may report something else: clients wait for it before they hear anything.
    func forgetWelcome() {
        self.welcome = nil
        self.sharedWelcome = nil
        self.shared.welcome.withLock { $0 = nil }
    }

    /// A server connection somewhere has reported its settings: clients that waited for them can go on.
    func welcomeKnown() {
        self.lookForWelcome()
        guard self.welcome != nil else { return }
        for client in self.welcomeQueue.takeAll() { client.welcomed() }
    }

    /// A client that has been waiting in the middle of its login is gone.
    func loginLeft(_ client: ClientSession) {
        if client.isReplication {
            self.replicationQueue.left()
            self.announceReplication()
        } else {
            self.welcomeQueue.left()
        }
    }

    // MARK: Connections

    /// Takes a connection that can be used at once. Those that have to be checked before are checked, as many as there are
    /// clients that wait for one.
    func takeIdle(for clients: Int) -> ServerSession? {
        while let server = self.rules.isRoundRobin ? self.idle.popFirst() : self.idle.popLast() {
            if server.isOpen && server.needsCheck(after: self.rules.checkDelay) {
                guard self.check(server, for: clients) else { return nil }
                continue
            }
            if self.idle.isEmpty { self.announceIdle() }
            if server.isOpen { return server }
        }
        return nil
    }

    /// Checks a connection; false if enough are being checked, and it stays idle.
    @inline(never)
    private func check(_ server: ServerSession, for clients: Int) -> Bool {
        if self.coming >= clients {
            if self.rules.isRoundRobin { self.idle.prepend(server) } else { self.idle.append(server) }
            return false
        }
        if self.idle.isEmpty { self.announceIdle() }
        server.check()
        return true
    }

    func announceIdle() {
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
        if self.isRoomWanted { return server.end("evicted for pool_size") }
        if self.queued > 0 {
            // A client that fails at once gives its connection back from inside `redeliver`: a long queue of such
            // clients is worked off from the loop, not from an ever deeper stack.
            if self.isSomebodyElseFirst || self.givingDepth >= 16 { return self.part(with: server) }
            self.givingDepth += 1
            defer { self.givingDepth -= 1 }
            if let client = self.dequeue() {
                server.link(client)
                client.proceed()
                return
            }
        }
        if self.isSomebodyElseWaiting { return self.part(with: server) }
        self.putIdle(server)
    }

    func putIdle(_ server: ServerSession) {
        server.becomeIdle()
        self.idle.append(server)
        if self.idle.count == 1 {
            self.announceIdle()
            // Somebody may have begun to wait elsewhere before the mark was set.
            if self.isSomebodyElseWaiting { self.worker.loop.later { self.donateIdle() } }
        }
    }

    /// Serves the queue: idle connections first, then new ones, then other reactors' idle ones.
    func pump() {
        while self.queued > 0 && !self.isPaused {
            guard let server = self.takeIdle(for: self.queued) else { break }
            guard let client = self.dequeue() else {
                self.idle.append(server)
                self.announceIdle()
                break
            }
            server.link(client)
            if client !== self.acquiring { client.proceed() }
        }
        self.connectIfNeeded()
        if self.queued > 0 && !self.isPaused { self.askOthers() }
    }

    func add(_ server: ServerSession) {
        server.poolIndex = self.servers.count
        self.servers.append(server)
    }

    func remove(_ server: ServerSession) {
        let index = server.poolIndex
        guard index >= 0, index < self.servers.count, self.servers[index] === server else { return }
        self.servers.swapAt(index, self.servers.count - 1)
        self.servers[index].poolIndex = index
        self.servers.removeLast()
        server.poolIndex = -1
    }
}
