public import Sessions
public import Settings

// What the console (target Admin) and the proxy know of each other. The proxy is below the console, so both
// directions are protocols and plain values: `ConsoleHost` is the running proxy as the control plane sees it,
// `ConsoleService` is the console as a client session sees it. Nothing here is on the path of a query.

/// The console as a client session uses it once somebody has logged in to the database `pgbouncer`.
public protocol ConsoleService: Sendable {
    /// ParameterStatus values to send after AuthenticationOk, in this order.
    var welcomeParameters: [(name: String, value: String)] { get }

    /// FATAL ErrorResponse for a client that sends a message of the extended protocol; the session closes after it.
    var extendedProtocolError: [UInt8] { get }

    /// Carries out one simple Query.
    ///
    /// - Parameters:
    ///   - query: the text of the Query message, without its closing NUL; need not be valid UTF-8.
    ///   - client: who asks, as log lines begin.
    /// - Returns: the whole answer as protocol bytes, ReadyForQuery included.
    ///
    /// Some commands (PAUSE, WAIT_CLOSE) take as long as they take. Cancelling the task is how the session tells that
    /// its client has sent a CancelRequest or has left; the answer is then an error with SQLSTATE 57014.
    func execute(_ query: [UInt8], as role: ConsoleRole, client: String, host: any ConsoleHost) async -> [UInt8]
}

/// The running proxy as the control plane (console, signals) sees it. All counts are over all reactors.
///
/// `database` is nil for "all of them". A name that is not known throws `ConsoleError.noSuchDatabase`.
public protocol ConsoleHost: Sendable {
    func clients() async -> [ClientStatus]
    func servers() async -> [ServerStatus]
    func pools() async -> [PoolStatus]
    func databases() async -> [DatabaseStatus]
    func users() async -> [UserStatus]
    /// Totals since start by database name; a pool that has gone keeps its share in here.
    func statistics() async -> [String: StatisticsCounters]
    func counts() async -> ProxyCounts
    /// Servers of the routed databases.
    func nodes() async -> [NodeStatus]
    func routes() async -> [RouteStatus]
    /// Where a statement would go.
    ///
    /// - Parameter database: nil for the only one that is routed.
    func explainRoute(_ statement: [UInt8], database: String?) async throws(ConsoleError) -> RouteExplanation
    func dnsHosts() async -> [DNSHostStatus]
    func memory() async -> [MemoryStatus]
    func state() async -> ProxyState

    /// The settings in force.
    func settings() async -> Settings
    /// Reads the configuration again, validates it, and applies all of it or nothing.
    ///
    /// - Returns: one line for each change, fit for the log.
    func reload() async throws(ReloadError) -> [String]
    /// Changes one setting of `[pgbouncer]` until the next reload.
    ///
    /// - Returns: why it does not take effect yet, nil if it does.
    func set(key: String, value: String) async throws(ConsoleError) -> String?

    /// Stops handing out server connections; returns when those in use have been released and closed.
    ///
    /// Cancelling the task undoes the pause and throws `ConsoleError.cancelled`; RESUME throws `ConsoleError.resumed`.
    func pause(database: String?) async throws(ConsoleError)
    func resume(database: String?) async throws(ConsoleError)
    func disable(database: String) async throws(ConsoleError)
    func enable(database: String) async throws(ConsoleError)
    /// Marks every server connection to be closed once it is released.
    func reconnect(database: String?) async throws(ConsoleError)
    /// Forgets what keeps an old primary of a routed database from being the primary: timelines, and who was fenced.
    func forget(database: String) async throws(ConsoleError)
    /// Drops clients and server connections at once and leaves the database paused.
    func kill(database: String?) async throws(ConsoleError)
    /// Drops one client ("admin forced disconnect"); `id` as in SHOW CLIENTS.
    func killClient(id: UInt64) async throws(ConsoleError)
    /// Returns when no server connection is left that has been marked to be closed.
    func waitClose(database: String?) async throws(ConsoleError)
    /// Starts to shut down and returns at once; the process ends when the mode's condition holds.
    func shutdown(_ mode: ShutdownMode) async throws(ConsoleError)
}

/// How to shut down.
public enum ShutdownMode: Sendable, Equatable {
    /// SHUTDOWN, SIGQUIT: at once.
    case immediate
    /// SHUTDOWN WAIT_FOR_SERVERS, SIGINT: pause, and end when server connections are released.
    case waitForServers
    /// SHUTDOWN WAIT_FOR_CLIENTS, SIGTERM: no new clients, and end when the last one has left.
    case waitForClients
}

/// An error that a console command answers with.
public struct ConsoleError: Error, Sendable, Equatable {
    public var message: String
    /// SQLSTATE; PgBouncer's console uses 08P01 for nearly everything.
    public var sqlState: String

    public init(_ message: String, sqlState: String = "08P01") {
        self.message = message
        self.sqlState = sqlState
    }

    public static func noSuchDatabase(_ name: String) -> ConsoleError { ConsoleError("no such database: \(name)") }
    public static let clientNotFound = ConsoleError("client not found")
    public static let shuttingDown = ConsoleError("shutdown in progress", sqlState: "57P01")
    public static let resumed = ConsoleError("resumed before all server connections were released")
    public static let cancelled = ConsoleError("canceling statement due to user request", sqlState: "57014")
}

/// A reload that changed nothing because the configuration has errors.
public struct ReloadError: Error, Sendable, Equatable {
    /// One line for each error, fit for the log: `martlet.ini:12: …`.
    public var messages: [String]

    public init(messages: [String]) {
        self.messages = messages
    }
}

/// A client's state as SHOW CLIENTS prints it.
public enum ClientState: String, Sendable, Equatable {
    /// Has a server connection.
    case active
    /// Logged in, nothing asked for.
    case idle
    case waiting
    /// Not yet logged in; only in SHOW SOCKETS.
    case login
    case activeCancelRequest = "active_cancel_req"
    case waitingCancelRequest = "waiting_cancel_req"
}

/// A server connection's state as SHOW SERVERS prints it.
public enum ServerState: String, Sendable, Equatable {
    case active
    case idle
    /// Idle for longer than `server_check_delay`, or just released: to be checked before it is used.
    case used
    /// Running `server_reset_query` or `server_check_query`.
    case tested
    /// Connecting or logging in.
    case login = "new"
    /// Carries a cancel request.
    case activeCancel = "active_cancel"
    /// Waits for cancel requests on their way to it.
    case beingCanceled = "being_canceled"
}

/// A client connection for SHOW CLIENTS and SHOW SOCKETS.
public typealias ClientStatus = ConnectionStatus<ClientState>
/// A server connection for SHOW SERVERS and SHOW SOCKETS.
public typealias ServerStatus = ConnectionStatus<ServerState>

/// One connection at one moment.
public struct ConnectionStatus<State: Sendable & Equatable>: Sendable, Equatable {
    /// Sequential over the life of the process and over clients and servers; log lines show it in hexadecimal as
    /// `C-0x…`.
    public var id: UInt64
    public var state: State
    public var user: String
    public var database: String
    /// `none`, `logical` or `physical`.
    public var replication = "none"
    /// The other side: an address, or `unix`.
    public var address = ""
    public var port = 0
    public var localAddress = ""
    public var localPort = 0
    /// Microseconds since 1970.
    public var connectTime: Microseconds = 0
    /// When the last request was received, microseconds since 1970.
    public var requestTime: Microseconds = 0
    /// How long the client has been waiting for a server connection; 0 when it is not.
    public var wait: Microseconds = 0
    public var closeNeeded = false
    /// `id` of the other half of the pair.
    public var link: UInt64?
    /// Process id of the server's backend, or of a client on a Unix socket; else 0.
    public var remotePID: Int32 = 0
    /// Version and cipher, or empty.
    public var tls = ""
    public var applicationName = ""
    public var preparedStatements = 0
    /// Bytes received that wait for the rest of their message.
    public var gathered = 0
    /// Bytes still to come of a message that streams through.
    public var streaming = 0
    /// Bytes that the socket has not taken yet.
    public var unsent = 0

    public init(id: UInt64, state: State, user: String, database: String) {
        self.id = id
        self.state = state
        self.user = user
        self.database = database
    }
}

/// The numbers of one pool (database, user) for SHOW POOLS; the shards of a pool add up.
public struct PoolStatus: Sendable, Equatable {
    public var database: String
    public var user: String
    /// Clients that have a server connection, or nothing to ask.
    public var clientsActive = 0
    public var clientsWaiting = 0
    public var clientsActiveCancelRequest = 0
    public var clientsWaitingCancelRequest = 0
    public var serversActive = 0
    public var serversActiveCancel = 0
    public var serversBeingCanceled = 0
    public var serversIdle = 0
    public var serversUsed = 0
    public var serversTested = 0
    public var serversLogin = 0
    /// How long the client that has waited longest has been waiting; 0 without one.
    public var maxWait: Microseconds = 0

    public init(database: String, user: String) {
        self.database = database
        self.user = user
    }

    /// Adds another shard of the same pool.
    public static func += (pool: inout PoolStatus, shard: PoolStatus) {
        pool.clientsActive += shard.clientsActive
        pool.clientsWaiting += shard.clientsWaiting
        pool.clientsActiveCancelRequest += shard.clientsActiveCancelRequest
        pool.clientsWaitingCancelRequest += shard.clientsWaitingCancelRequest
        pool.serversActive += shard.serversActive
        pool.serversActiveCancel += shard.serversActiveCancel
        pool.serversBeingCanceled += shard.serversBeingCanceled
        pool.serversIdle += shard.serversIdle
        pool.serversUsed += shard.serversUsed
        pool.serversTested += shard.serversTested
        pool.serversLogin += shard.serversLogin
        pool.maxWait = max(pool.maxWait, shard.maxWait)
    }
}

/// A database for SHOW DATABASES: its settings (auto-databases of `*` under their own name) and what is going on.
public struct DatabaseStatus: Sendable, Equatable {
    public var settings: DatabaseSettings
    public var serverConnections = 0
    public var clientConnections = 0
    public var isPaused = false
    public var isDisabled = false

    public init(settings: DatabaseSettings) {
        self.settings = settings
    }
}

/// A user that has logged in or is configured, for SHOW USERS.
public struct UserStatus: Sendable, Equatable {
    public var name: String
    public var serverConnections = 0
    public var clientConnections = 0

    public init(name: String) {
        self.name = name
    }
}

/// What SHOW LISTS counts beside pools, databases and users.
public struct ProxyCounts: Sendable, Equatable {
    /// All client connections, those still logging in included.
    public var clients = 0
    public var clientsInLogin = 0
    /// Clients of the console among `clients`.
    public var consoleClients = 0
    /// All server connections.
    public var servers = 0
    /// Connection objects kept for reuse.
    public var freeClients = 0
    public var freeServers = 0
    /// Names in the resolver's cache.
    public var dnsNames = 0
    /// Look-ups under way.
    public var dnsPending = 0

    public init() {}

    public static func += (counts: inout ProxyCounts, other: ProxyCounts) {
        counts.clients += other.clients
        counts.clientsInLogin += other.clientsInLogin
        counts.consoleClients += other.consoleClients
        counts.servers += other.servers
        counts.freeClients += other.freeClients
        counts.freeServers += other.freeServers
        counts.dnsNames += other.dnsNames
        counts.dnsPending += other.dnsPending
    }
}

/// SHOW DNS_HOSTS.
public struct DNSHostStatus: Sendable, Equatable {
    public var name: String
    /// Until the name is looked up again.
    public var timeToLive: Microseconds
    public var addresses: [String]

    public init(name: String, timeToLive: Microseconds, addresses: [String]) {
        self.name = name
        self.timeToLive = timeToLive
        self.addresses = addresses
    }
}

/// SHOW MEM: one kind of object or buffer.
public struct MemoryStatus: Sendable, Equatable {
    public var name: String
    /// Bytes of one.
    public var size: Int
    public var used: Int
    public var free: Int

    public init(name: String, size: Int, used: Int, free: Int) {
        self.name = name
        self.size = size
        self.used = used
        self.free = free
    }
}

/// SHOW STATE, and what the signals need to know.
public struct ProxyState: Sendable, Equatable {
    /// PAUSE without a database is in force.
    public var isPaused: Bool
    /// The shutdown under way.
    public var shutdown: ShutdownMode?
    /// What the reactors wait with: epoll or io_uring.
    public var eventLoop: String
    /// Server connections that have gone from one thread to another, whose clients had none and were waiting.
    public var donations: UInt64

    public init(
        isPaused: Bool = false, shutdown: ShutdownMode? = nil, eventLoop: String = "epoll", donations: UInt64 = 0
    ) {
        self.donations = donations
        self.eventLoop = eventLoop
        self.isPaused = isPaused
        self.shutdown = shutdown
    }
}

/// Counters of one database since start. Bytes, and times in microseconds. They wrap around rather than trap.
public struct StatisticsCounters: Sendable, Equatable {
    public var serverAssignmentCount: UInt64 = 0
    public var transactionCount: UInt64 = 0
    public var queryCount: UInt64 = 0
    /// Bytes from clients.
    public var received: UInt64 = 0
    /// Bytes to clients.
    public var sent: UInt64 = 0
    public var transactionTime: UInt64 = 0
    public var queryTime: UInt64 = 0
    public var waitTime: UInt64 = 0
    /// Parse messages that came from clients.
    public var clientParseCount: UInt64 = 0
    /// Parse messages that went to servers.
    public var serverParseCount: UInt64 = 0
    public var bindCount: UInt64 = 0
    public var clientLoginCount: UInt64 = 0

    public init() {}

    /// Adds the counters of another reactor or pool.
    public static func += (counters: inout StatisticsCounters, other: StatisticsCounters) {
        counters.serverAssignmentCount &+= other.serverAssignmentCount
        counters.transactionCount &+= other.transactionCount
        counters.queryCount &+= other.queryCount
        counters.received &+= other.received
        counters.sent &+= other.sent
        counters.transactionTime &+= other.transactionTime
        counters.queryTime &+= other.queryTime
        counters.waitTime &+= other.waitTime
        counters.clientParseCount &+= other.clientParseCount
        counters.serverParseCount &+= other.serverParseCount
        counters.bindCount &+= other.bindCount
        counters.clientLoginCount &+= other.clientLoginCount
    }

    /// What has been added since an earlier moment.
    public static func - (later: StatisticsCounters, earlier: StatisticsCounters) -> StatisticsCounters {
        var difference = StatisticsCounters()
        difference.serverAssignmentCount = later.serverAssignmentCount &- earlier.serverAssignmentCount
        difference.transactionCount = later.transactionCount &- earlier.transactionCount
        difference.queryCount = later.queryCount &- earlier.queryCount
        difference.received = later.received &- earlier.received
        difference.sent = later.sent &- earlier.sent
        difference.transactionTime = later.transactionTime &- earlier.transactionTime
        difference.queryTime = later.queryTime &- earlier.queryTime
        difference.waitTime = later.waitTime &- earlier.waitTime
        difference.clientParseCount = later.clientParseCount &- earlier.clientParseCount
        difference.serverParseCount = later.serverParseCount &- earlier.serverParseCount
        difference.bindCount = later.bindCount &- earlier.bindCount
        difference.clientLoginCount = later.clientLoginCount &- earlier.clientLoginCount
        return difference
    }
}
