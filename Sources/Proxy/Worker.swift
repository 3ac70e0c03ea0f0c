import Authentication
import Dispatch
import Logging
import Pooling
import Reactor
import Routing
import Services
import Sessions
import Settings
import Synchronization
import Wire

/// One reactor: an event loop and everything that lives on it. All of it is touched by the loop's thread only; other
/// threads and reactors leave messages in `mailbox`.
final class Worker {
    let index: Int
    let loop: EventLoop
    let shared: SharedState
    let reactors: [ReactorHandle]
    let services: Services
    let logger: Logger
    let console: any ConsoleService
    unowned let proxy: Proxy
    private(set) var configuration: Configuration
    private(set) var socketOptions = SocketOptions()
    /// Made by `ownParameters(_:)`, until the next reload.
    private var ownParameters: [PoolMode: [UInt8]] = [:]

    private(set) var pools: [PoolKey: Pool] = [:]
    private var groups: [ClientGroup.Key: ClientGroup] = [:]
    private var statistics: [String: DatabaseStatistics] = [:]
    /// Routers of the databases that are routed, by name.
    private(set) var routers: [String: Router] = [:]
    private(set) var clients: [UInt64: ClientSession] = [:]
    private var cancelKeys: [UInt64: ClientSession] = [:]
    var listeners: [(listener: Listener, socket: ListeningSocket)] = []
    private var cancels: [CancelConnection] = []
    let parameters = ParameterTable()
    var statements: StatementCache
    /// The group of a client that has none yet: its counters are nobody's.
    private(set) lazy var nobody = ClientGroup(
        key: ClientGroup.Key(database: "", user: ""),
        pool: Pool(worker: self, shared: self.shared.unnamedPool, database: DatabaseSettings(name: "")),
        router: nil, sharedUser: SharedUser(name: ""), statistics: DatabaseStatistics(),
        settings: self.configuration.settings)
    /// Used on the first reactor only.
    private(set) lazy var authQueries = AuthQueries(worker: self)
    private(set) lazy var passwordTrials = PasswordTrials(worker: self)
    /// Connections beside the pools, by their ids.
    var ownConnections: [UInt64: OwnConnection] = [:]
    /// Connections whose login waits for keys.
    var derivingConnections: [UInt64: ServerConnection] = [:]
    /// For messages that go out at once: keeps its memory from one to the next.
    private var writer = MessageWriter()
    private var addressIndex: UInt = 0
    private var unnamedStatements: UInt64

    var now: MonotonicTime { self.loop.now }

    /// Sends messages that are written now, without an allocation.
    func send(to connection: Connection, _ write: (inout MessageWriter) -> Void) {
        self.writer.removeAll()
        write(&self.writer)
        connection.send(self.writer.bytes)
    }

    var mailbox: Mailbox<Worker> { self.reactors[self.index].mailbox }

    /// Called on the reactor's own thread.
    init(index: Int, proxy: Proxy, configuration: Configuration) throws(SystemError) {
        self.index = index
        self.proxy = proxy
        self.loop = try proxy.makeLoop(index)
        self.shared = proxy.shared
        self.reactors = proxy.reactors
        self.services = proxy.services
        self.logger = proxy.logger
        self.console = proxy.console
        self.configuration = configuration
        self.statements = StatementCache(registry: proxy.statements)
        self.unnamedStatements = UInt64(index) << 48
        self.applySocketOptions()
        self.mailbox.open(on: self.loop, owner: self)
        self.maintainEverySecond()
    }

    private func maintainEverySecond() {
        _ = Timer(loop: self.loop, after: 1_000_000) { [unowned self] timer in
            for pool in self.pools.values { pool.maintain() }
            self.askForNames()
            self.removeUnusedPools()
            timer.restart(after: 1_000_000)
        }
    }

    /// Forgets pools that have had neither connections nor clients for `pool_idle_timeout`, or `autodb_idle_timeout`
    /// if their database was made by `*`.
    private func removeUnusedPools() {
        let general = self.configuration.settings.general
        var used: Set<PoolKey> = []
        for group in self.groups.values where group.clients > 0 {
            for pool in group.pools { used.insert(pool.shared.key) }
        }
        // With auth_type any there may be as many users as clients can think of.
        if self.groups.count > 1000 { self.groups = self.groups.filter { $0.value.clients > 0 } }
        // All at once: there may be as many pools as users.
        var discarded: [ObjectIdentifier: Pool] = [:]
        for (key, pool) in self.pools {
            let unused = pool.unusedTime(hasClients: used.contains(key))
            let timeout = pool.database.isAutomatic ? general.autodbIdleTimeout : general.poolIdleTimeout
            guard pool.isRemoved ? unused > 0 : timeout > 0 && unused >= timeout else { continue }
            discarded[ObjectIdentifier(pool)] = pool
            self.pools[key] = nil
            pool.discard()
        }
        guard !discarded.isEmpty else { return }
        self.groups = self.groups.filter { group in
            !group.value.pools.contains { discarded[ObjectIdentifier($0)] != nil }
        }
        let left = Set(self.groups.keys.map(\.database))
        for pool in discarded.values {
            let key = pool.shared.key
            if pool.database.isAutomatic && !left.contains(key.database) {
                self.statistics[key.database] = nil
                self.routers.removeValue(forKey: key.database)?.discard()
            }
            self.shared.removeShard(of: key)
        }
    }

    // MARK: Configuration

    func apply(_ configuration: Configuration) {
        let needsOtherTLS = configuration.needsOtherServerTLS(than: self.configuration)
        self.configuration = configuration
        self.ownParameters = [:]
        self.applySocketOptions()
        if self.index == 0 {
            self.authQueries.settingsChanged()
            self.shared.passedPasswords.forgetAll()
        }
        let settings = configuration.settings
        self.endClientsOfRemovedDatabases()
        for (key, pool) in self.pools {
            if let database = settings.database(named: key.database) {
                pool.apply(settings, database: database, needsOtherTLS: needsOtherTLS)
            } else {
                pool.databaseRemoved()
            }
        }
        for (name, router) in self.routers {
            guard let database = settings.database(named: name), self.router(database) != nil else {
                router.discard()
                self.routers[name] = nil
                continue
            }
        }
        for (key, group) in self.groups {
            guard let database = settings.database(named: key.database) else { continue }
            let router = self.router(database)
            group.apply(
                settings, pool: self.pool(database: database, user: database.user ?? key.user, router: router),
                router: router)
        }
        for pool in self.pools.values {
            guard let router = self.routers[pool.shared.key.database] else {
                if pool.load != nil { pool.retire("database configuration changed") }
                continue
            }
            if !router.keep(pool) { pool.retire("database configuration changed") }
        }
        for client in self.clients.values where client.hasGroup && !client.group.isRemoved {
            let router = client.group.router
            if client.route?.router !== router {
                client.changeRouter(router)
            } else if let route = client.route {
                client.rejoinCausality(route)
            }
        }
        if self.index == 0 { self.openConfiguredPools() }
    }

    /// Clients of a database that is not the one any more that they came for go: idle ones at once, others when their
    /// transaction has ended. Who comes from now on is a client of what the configuration says now.
    private func endClientsOfRemovedDatabases() {
        let settings = self.configuration.settings
        let removed = self.groups.filter { key, group in
            group.pool.database.isGone(by: settings.database(named: key.database))
        }
        guard !removed.isEmpty else { return }
        for (key, group) in removed {
            group.isRemoved = true
            self.groups[key] = nil
            if self.index == 0 { self.shared.knownDatabase(key.database)?.forgetCommands() }
        }
        for client in self.clients.values where client.hasGroup && client.group.isRemoved { client.endIfIdle() }
    }

    /// ParameterStatus messages in the pooler's own name, as PgBouncer has them.
    func ownParameters(_ mode: PoolMode) -> [UInt8] {
        if let known = self.ownParameters[mode] { return known }
        let limit = self.configuration.settings.general.maxPreparedStatements
        let bytes = MessageWriter.bytes { writer in
            writer.parameterStatus(name: "pgbouncer.version", value: "1.26.1")
            writer.parameterStatus(name: "pgbouncer.pool_mode", value: mode.rawValue)
            writer.parameterStatus(name: "pgbouncer.max_prepared_statements", value: String(limit))
        }
        self.ownParameters[mode] = bytes
        return bytes
    }

    private func applySocketOptions() {
        let general = self.configuration.settings.general
        self.socketOptions.keepAlive = general.tcpKeepalive
        self.socketOptions.keepAliveCount = general.tcpKeepcnt
        self.socketOptions.keepAliveIdle = general.tcpKeepidle
        self.socketOptions.keepAliveInterval = general.tcpKeepintvl
        self.socketOptions.userTimeout = general.tcpUserTimeout
        self.socketOptions.bufferSize = general.tcpSocketBuffer
        for (listener, _) in self.listeners { listener.setOptions(self.socketOptions) }
    }

    // MARK: Pools

    /// The router of a database; nil if it is not routed.
    func router(_ database: DatabaseSettings) -> Router? {
        let general = self.configuration.settings.general
        let settings = RoutingSettings(database: database, general: general)
        guard settings.routing != .off else { return nil }
        let shared = self.proxy.routers.router(database, self.configuration)
        let entry = Router.Entry(database, general)
        if let known = self.routers[database.name] {
            known.apply(settings, shared, entry)
            return known
        }
        let router = Router(worker: self, shared: shared, settings: settings, entry: entry)
        self.routers[database.name] = router
        return router
    }

    /// The pool that a group of clients has at first.
    private func pool(database: DatabaseSettings, user: String, router: Router?) -> Pool {
        self.pool(database: database, user: user, load: router?.home)
    }

    /// Roles, health or the list of nodes are others.
    func nodesChanged(of router: Router) {
        for group in self.groups.values where group.router === router {
            let settings = self.configuration.settings
            guard let home = router.home else { continue }
            group.apply(
                settings,
                pool: self.pool(database: group.pool.database, user: group.pool.shared.key.user, load: home),
                router: router)
        }
        for pool in self.pools.values where pool.shared.key.database == router.database { pool.nodeChanged(router) }
    }

    /// This reactor's shard of the pool.
    func pool(database: DatabaseSettings, user: String, load: NodeLoad? = nil) -> Pool {
        let key = PoolKey(database: database.name, user: user, node: load?.node.description ?? "")
        if let known = self.pools[key] {
            if let load { known.adopt(load) }
            return known
        }
        let pool = Pool(worker: self, shared: self.shared.addShard(of: key), database: database, load: load)
        self.pools[key] = pool
        return pool
    }

    func statistics(of database: String) -> DatabaseStatistics {
        if let known = self.statistics[database] { return known }
        let statistics = DatabaseStatistics()
        self.statistics[database] = statistics
        return statistics
    }

    var allStatistics: [String: StatisticsCounters] { self.statistics.mapValues(\.counters) }

    /// What a client of this user in this database shares with others of its kind.
    func group(database name: String, user: String) -> ClientGroup? {
        let key = ClientGroup.Key(database: name, user: user)
        if let known = self.groups[key] { return known }
        guard let database = self.configuration.settings.database(named: name) else { return nil }
        let router = self.router(database)
        let group = ClientGroup(
            key: key, pool: self.pool(database: database, user: database.user ?? user, router: router), router: router,
            sharedUser: self.shared.user(user), statistics: self.statistics(of: database.name),
            settings: self.configuration.settings)
        self.groups[key] = group
        return group
    }

    /// A count was given back: whoever waits for room looks again, here and on other reactors.
    func connectionsFreed(by pool: Pool) {
        let waiting =
            pool.shared.waiting.load(ordering: .relaxed) | pool.shared.replicationWaiting.load(ordering: .relaxed)
        if waiting & ~SharedPool.bit(self.index) != 0 {
            let key = pool.shared.key
            self.tellOthers { $0.pools[key]?.pump() }
        }
        let settings = self.configuration.settings
        let limits =
            settings.effectiveMaxDbConnections(database: pool.database)
            + settings.effectiveMaxUserConnections(user: pool.shared.key.user)
        guard limits > 0 else { return }
        let database = pool.shared.key.database
        let user = pool.shared.key.user
        for other in self.pools.values where other !== pool {
            if other.waitingClients > 0 { other.pump() }
        }
        self.tellOthers { worker in
            for pool in worker.pools.values where pool.waitingClients > 0 {
                if pool.shared.key.database == database || pool.shared.key.user == user { pool.pump() }
            }
        }
    }

    /// Closes one idle connection of another pool to make room: the one idle for longest on this reactor, or else
    /// one on another.
    func evictIdle(reason: String, but pool: Pool, where matches: (Pool) -> Bool) {
        let candidates = self.pools.values.filter { $0 !== pool && $0.oldestIdle != nil && matches($0) }
        if let oldest = candidates.min(by: { ($0.oldestIdle ?? .max) < ($1.oldestIdle ?? .max) }) {
            if oldest.evictOldestIdle(reason) { return }
        }
        let own = pool.shared.key
        let keys = self.shared.pools.filter { $0.key != own && $0.idle.load(ordering: .relaxed) != 0 }
            .filter {
                $0.database === pool.shared.database && reason.contains("db")
                    || $0.user === pool.shared.user && reason.contains("user")
            }
        guard let other = keys.first else { return }
        let mask = other.idle.load(ordering: .relaxed)
        let key = other.key
        for index in 0..<self.reactors.count where mask & SharedPool.bit(index) != 0 && index != self.index {
            self.reactors[index].mailbox.post { _ = $0.pools[key]?.evictOldestIdle(reason) }
            return
        }
    }

    func tellOthers(_ message: @escaping @Sendable (Worker) -> Void) {
        for reactor in self.reactors where reactor.index != self.index { reactor.mailbox.post(message) }
    }

    // MARK: Connections between reactors

    /// Carries a connection to another reactor. The connection has left this loop (`leave`), nothing here refers to it
    /// any more, and the message is the only reference: it is touched by one thread at a time.
    private struct Parcel: @unchecked Sendable { let server: ServerSession }

    func donate(_ server: ServerSession, to index: Int, pool key: PoolKey) {
        self.shared.donations.add(1, ordering: .relaxed)
        let parcel = Parcel(server: server)
        self.reactors[index].mailbox.post { worker in
            parcel.server.join(worker.loop)
            guard let pool = worker.pools[key] else { return parcel.server.discard() }
            pool.accept(parcel.server)
        }
    }

    func ask(_ index: Int, forIdleOf key: PoolKey) {
        self.reactors[index].mailbox.post { $0.pools[key]?.donateIdle() }
    }

    // MARK: Clients

    /// Gives a connection to the reactor with the fewest clients.
    func place(_ socket: consuming Socket, isUnix: Bool, hasInput: Bool) {
        var target = self.reactors[self.index]
        for reactor in self.reactors
        where reactor.clients.load(ordering: .relaxed) < target.clients.load(ordering: .relaxed) { target = reactor }
        target.clients.add(1, ordering: .relaxed)
        let fd = socket.take()
        if target.index == self.index {
            self.admit(Socket(fd), isUnix: isUnix, hasInput: hasInput)
        } else {
            target.mailbox.post { $0.admit(Socket(fd), isUnix: isUnix, hasInput: hasInput) }
        }
    }

    private func admit(_ socket: consuming Socket, isUnix: Bool, hasInput: Bool) {
        if !isUnix { Socket.setOwnOptions(socket.descriptor, self.socketOptions) }
        let client = ClientSession(worker: self, id: self.shared.nextID(), socket: socket, isUnix: isUnix)
        self.clients[client.id] = client
        _ = self.shared.clients.take(limit: 0)
        client.begin()
        if hasInput { client.readAtOnce() }
    }

    /// A client session is over.
    func removed(_ client: ClientSession) {
        guard self.clients.removeValue(forKey: client.id) != nil else { return }
        self.shared.clients.give()
        self.reactors[self.index].clients.subtract(1, ordering: .relaxed)
        if let key = client.cancelKey { self.cancelKeys[key] = nil }
        if self.shared.isShuttingDown.load(ordering: .relaxed) { self.proxy.clientLeft() }
    }

    func nextUnnamedStatement() -> UInt64 {
        self.unnamedStatements += 1
        return self.unnamedStatements
    }

    // MARK: Cancel

    /// A key has the reactor's number in the six bits below the sign, since its upper half is shown as a process id.
    private static let reactorShift: UInt64 = 57

    /// A key that no other client has: the reactor's number, so that a request finds its way, and random bits.
    func makeCancelKey(for client: ClientSession) -> UInt64 {
        while true {
            let random = SecureRandom.bytes(8).reduce(0 as UInt64) { $0 << 8 | UInt64($1) }
            // The upper half is shown as a process id: positive, and not 0.
            let key = random & (1 << Self.reactorShift - 1) | UInt64(self.index) << Self.reactorShift
            if key >> 32 != 0 && self.cancelKeys[key] == nil {
                self.cancelKeys[key] = client
                return key
            }
        }
    }

    /// A CancelRequest has come; the key tells whose client it is about.
    func cancel(_ key: [UInt8]) {
        guard key.count >= 8 else { return }
        let number = key[..<8].reduce(0 as UInt64) { $0 << 8 | UInt64($1) }
        let index = Int(number >> Self.reactorShift)
        guard index < self.reactors.count else { return }
        if index == self.index {
            self.cancelKeys[number]?.cancelRequested(key)
        } else {
            self.reactors[index].mailbox.post { $0.cancelKeys[number]?.cancelRequested(key) }
        }
    }

    func add(_ cancel: CancelConnection) { self.cancels.append(cancel) }
    func removed(_ cancel: CancelConnection) { self.cancels.removeAll { $0 === cancel } }
    var cancelsUnderWay: Int { self.cancels.count }

    // MARK: Names

    /// Finds a host's addresses and goes on with the pool's login.
    func resolve(_ host: HostAddress, for pool: Pool, _ replication: ServerSession.Replication?) {
        if let path = host.socketPath {
            let address = SocketAddress(unix: path)
            return pool.connect(host, address.map { .success([$0]) } ?? .success([]), replication)
        }
        let port = UInt16(clamping: host.port)
        if let known = pool.load?.node.address, let address = SocketAddress(ip: known, port: port) {
            return pool.connect(host, .success([address]), replication)
        }
        if let address = SocketAddress(ip: host.host, port: port) {
            return pool.connect(host, .success([address]), replication)
        }
        let key = pool.shared.key
        let mailbox = self.mailbox
        self.services.resolver.resolve(host.host) { answer in
            let addresses = answer.map { $0.map { $0.with(port: port) } }
            mailbox.post { $0.pools[key]?.connect(host, addresses, replication) }
        }
    }

    /// Where a pool begins to take its hosts' addresses in turn.
    func nextAddressIndex() -> UInt {
        self.addressIndex &+= 1
        return self.addressIndex &+ UInt(self.index)
    }

    // MARK: Logging

    func log(_ level: Logger.Level, _ prefix: @autoclosure () -> String, _ message: @autoclosure () -> String) {
        guard level >= self.logger.logLevel else { return }
        let prefix = prefix()
        let text = message()
        self.logger.log(level: level, prefix.isEmpty ? "\(text)" : "\(prefix) \(text)")
    }
}
