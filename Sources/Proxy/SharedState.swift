import Authentication
import Pooling
import Sessions
import Synchronization

// What all reactors share: counts that limits are checked against, and marks that tell who waits and who has something
// to give. Atomics only; everything else belongs to one reactor.

/// Names a pool: which database, as which user on the server, on which of its servers.
struct PoolKey: Hashable, Sendable {
    let database: String
    let user: String
    /// A node of a routed database; empty without routing, where a pool's connections go to all hosts in turn.
    var node = ""
}

/// A count with a limit. A limit of 0 is none.
struct LimitedCount: ~Copyable, Sendable {
    private let value = Atomic<Int>(0)

    var count: Int { self.value.load(ordering: .relaxed) }

    /// Adds one unless the limit is reached.
    func take(limit: Int) -> Bool {
        var seen = self.value.load(ordering: .relaxed)
        while limit <= 0 || seen < limit {
            let (done, original) = self.value.weakCompareExchange(
                expected: seen, desired: seen + 1, ordering: .acquiringAndReleasing)
            if done { return true }
            seen = original
        }
        return false
    }

    func give() { self.value.subtract(1, ordering: .acquiringAndReleasing) }
}

/// A database (an entry of `[databases]`, or one made by `*`) over all reactors.
final class SharedDatabase: Sendable {
    let name: String
    let servers = LimitedCount()
    let clients = LimitedCount()
    let isPaused = Atomic<Bool>(false)
    let isDisabled = Atomic<Bool>(false)

    init(name: String) { self.name = name }

    /// Whether somebody is still there, though it may have left the configuration.
    var isInUse: Bool { self.clients.count > 0 || self.servers.count > 0 }

    /// It has left the configuration: one of the same name that comes later is another one.
    func forgetCommands() {
        self.isPaused.store(false, ordering: .relaxed)
        self.isDisabled.store(false, ordering: .relaxed)
    }
}

/// A user over all reactors and databases.
final class SharedUser: Sendable {
    let name: String
    let servers = LimitedCount()
    let clients = LimitedCount()

    init(name: String) { self.name = name }
}

/// A pool over all reactors: how many connections it has, and which reactors' shards wait or have one idle.
final class SharedPool: Sendable {
    let key: PoolKey
    let database: SharedDatabase
    let user: SharedUser
    /// Server connections, those still logging in included.
    let servers = LimitedCount()
    /// Those of them that no waiting client will get: they close as soon as they are free, or are a replication client's.
    let unavailable = Atomic<Int>(0)
    /// One bit for each reactor whose shard has waiting clients.
    let waiting = Atomic<UInt64>(0)
    /// One bit for each reactor whose shard has replication clients that wait for room for a connection of their own.
    let replicationWaiting = Atomic<UInt64>(0)
    /// One bit for each reactor whose shard has idle connections.
    let idle = Atomic<UInt64>(0)
    /// Counts what makes connections obsolete: RECONNECT, PAUSE, changed settings.
    let generation = Atomic<UInt64>(0)
    /// What the first server connection reported; nil before there was one.
    let welcome = Mutex<ParameterSet?>(nil)
    /// What clients' logins have brought for logins at the server; the same for all nodes of a routed database.
    let credentials: PassedCredentials
    /// For each reactor, what the others see of its queue.
    let queues: [QueueNotice]

    /// A reactor's bit in `waiting` and `idle`.
    static func bit(_ reactor: Int) -> UInt64 { 1 << UInt64(reactor) }

    init(
        key: PoolKey, database: SharedDatabase, user: SharedUser, credentials: PassedCredentials, reactors: Int
    ) {
        self.key = key
        self.credentials = credentials
        self.database = database
        self.user = user
        self.queues = (0..<reactors).map { _ in QueueNotice() }
    }
}

/// What clients of one user and database have shown at their logins, for logins at the server.
final class PassedCredentials: Sendable {
    struct State: Sendable, Equatable {
        /// For a server that has the same verifier.
        var scramKeys: SCRAMKeys?
        /// What `auth_query` has told of a user that the auth_file lacks.
        var secret: Secret?
    }
    let state = Mutex(State())
}

/// What the other reactors see of one reactor's waiting clients. It says how things are whenever they change; whoever sends
/// it a connection takes one client away until then, so that not everything goes to one who is slow to say thanks.
/// An object of its own, so that a reactor writes to its own cache line.
final class QueueNotice: Sendable {
    /// Since when the one waits who has waited for longest; `.max` without one. Now, once a connection is on its way to it.
    let since = Atomic<Int64>(.max)
    /// Clients to whom no connection is on its way. Below 0 when two have sent one to the same client.
    let clients = Atomic<Int>(0)
    private let padding = InlineArray<5, Int64>(repeating: 0)
}

/// The process's shared state: pools, databases and users by name, and the counts that belong to none of them.
final class SharedState: Sendable {
    /// A pool's marks have one bit for each reactor.
    static let maximumReactors = 64

    let reactors: Int
    let clients = LimitedCount()
    /// Server connections that have gone from one reactor to another.
    let donations = Atomic<UInt64>(0)
    let loginPlaces = LoginPlaces()
    let passedPasswords = PassedPasswords()
    let catalogues = CatalogueGenerations()
    /// Numbers clients and server connections.
    private let lastID = Atomic<UInt64>(0)
    /// PAUSE without a database.
    let isPaused = Atomic<Bool>(false)
    /// The process's resident memory, in bytes, as it was measured last.
    let residentMemory = Atomic<Int>(0)
    /// More than `max_memory` is in use: no new clients.
    let isShortOfMemory = Atomic<Bool>(false)
    /// A shutdown has begun: no new clients.
    let isShuttingDown = Atomic<Bool>(false)
    /// The shutdown waits for server connections only: nobody gets one any more.
    let isClosingServers = Atomic<Bool>(false)
    /// Clients of the console.
    let consoleClients = LimitedCount()

    private struct Names {
        var pools: [PoolKey: SharedPool] = [:]
        var databases: [String: SharedDatabase] = [:]
        var users: [String: SharedUser] = [:]
        /// Shards of each pool.
        var shards: [PoolKey: Int] = [:]
    }
    private let names = Mutex(Names())

    /// A pool for clients that have not said yet which one they want; it never has a connection.
    let unnamedPool: SharedPool

    init(reactors: Int) {
        self.reactors = reactors
        self.unnamedPool = SharedPool(
            key: PoolKey(database: "", user: ""), database: SharedDatabase(name: ""), user: SharedUser(name: ""),
            credentials: PassedCredentials(), reactors: reactors)
    }

    /// The first client that has come too late for a shutdown; those before may still log in.
    let firstLateID = Atomic<UInt64>(.max)

    /// Whether a client has come after a shutdown had begun.
    func isTooLate(_ client: UInt64) -> Bool {
        self.isClosingServers.load(ordering: .relaxed) || client >= self.firstLateID.load(ordering: .relaxed)
    }

    func nextID() -> UInt64 { self.lastID.add(1, ordering: .relaxed).newValue }

    /// The database of this name, made when it is new.
    func database(_ name: String) -> SharedDatabase { self.names.withLock { Self.database(name, &$0) } }

    private static func database(_ name: String, _ names: inout Names) -> SharedDatabase {
        if let known = names.databases[name] { return known }
        let database = SharedDatabase(name: name)
        names.databases[name] = database
        return database
    }

    /// The user of this name, made when it is new.
    func user(_ name: String) -> SharedUser { self.names.withLock { Self.user(name, &$0) } }

    private static func user(_ name: String, _ names: inout Names) -> SharedUser {
        if let known = names.users[name] { return known }
        let user = SharedUser(name: name)
        names.users[name] = user
        return user
    }

    /// The pool of this name for one more shard, made when it is new.
    func addShard(of key: PoolKey) -> SharedPool {
        self.names.withLock { names in
            names.shards[key, default: 0] += 1
            if let known = names.pools[key] { return known }
            let sibling =
                key.node.isEmpty
                ? nil : names.pools.values.first { $0.key.database == key.database && $0.key.user == key.user }
            let pool = SharedPool(
                key: key, database: Self.database(key.database, &names), user: Self.user(key.user, &names),
                credentials: sibling?.credentials ?? PassedCredentials(), reactors: self.reactors)
            names.pools[key] = pool
            return pool
        }
    }

    /// A shard is gone; with the last one everything goes that only it has kept. A database that was paused or disabled
    /// stays so.
    func removeShard(of key: PoolKey) {
        self.names.withLock { names in
            let left = (names.shards[key] ?? 1) - 1
            names.shards[key] = left > 0 ? left : nil
            guard left <= 0 else { return }
            names.pools[key] = nil
            if let database = names.databases[key.database], database.clients.count == 0, database.servers.count == 0,
                !database.isPaused.load(ordering: .relaxed), !database.isDisabled.load(ordering: .relaxed),
                !names.pools.keys.contains(where: { $0.database == key.database })
            {
                names.databases[key.database] = nil
            }
        }
    }

    /// The database of this name if there has been a client for it.
    func knownDatabase(_ name: String) -> SharedDatabase? { self.names.withLock { $0.databases[name] } }
    var databases: [SharedDatabase] { self.names.withLock { Array($0.databases.values) } }
    var users: [SharedUser] { self.names.withLock { Array($0.users.values) } }
    var pools: [SharedPool] { self.names.withLock { Array($0.pools.values) } }
}
