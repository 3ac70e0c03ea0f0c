import Routing
public import Settings

// What the console shows of routed databases.

/// A server of a routed database, for SHOW NODES.
public struct NodeStatus: Sendable, Equatable {
    public var database: String
    public var host: String
    public var port: Int
    /// In numbers; empty for a Unix socket.
    public var address = ""
    /// `unknown`, `primary`, `replica`, `fenced` or `foreign`.
    public var role = ""
    /// `up`, `down`, or `lagging` for a replica that takes no reads.
    public var state = ""
    public var timeline: UInt32 = 0
    /// Position in the write-ahead log: written (primary) or replayed (replica).
    public var position: UInt64 = 0
    /// Time behind the primary; nil when it is not known, and for a primary.
    public var lag: Microseconds?
    public var lagBytes: UInt64 = 0
    /// The newest sample of the primary's position that a replica has replayed.
    public var caughtUp: UInt64 = 0
    public var weight = 1
    /// Clients that are linked to it or wait for a connection to it.
    public var inFlight = 0
    /// Moving average of the time that it takes to answer; 0 before the first answer.
    public var latency: Microseconds = 0
    /// Why it cannot be checked although it lives; empty if it can.
    public var error = ""

    public init(database: String, host: String, port: Int) {
        self.database = database
        self.host = host
        self.port = port
    }
}

/// Where the requests of a routed database went, since start, for SHOW ROUTES.
public struct RouteStatus: Sendable, Equatable {
    public var database: String
    public var mode: RoutingMode
    public var replicaReads: UInt64 = 0
    /// Requests that went to the primary, by why: `own_write`, `earlier_read`, `lag`, `no_replica`, `transaction`,
    /// `statement`, `override`, `balance`.
    public var kept: [(reason: String, count: UInt64)] = []
    /// Of those, the ones that may write.
    public var writes: UInt64 = 0
    /// Statements that a replica refused and the primary ran.
    public var reruns: UInt64 = 0
    /// Reads that failed with their replica and were tried again.
    public var retries: UInt64 = 0
    /// Transactions that went from a replica to the primary.
    public var promotions: UInt64 = 0
    /// Texts that the parser does not understand.
    public var unparsed: UInt64 = 0
    /// Texts that nobody has looked at, because too many new ones came at a time.
    public var notParsed: UInt64 = 0

    /// The reasons, in the order of the columns.
    public static let reasons = ReadDecision.Reason.allCases.map(\.word)

    public init(database: String, mode: RoutingMode) {
        self.database = database
        self.mode = mode
    }

    public static func == (left: Self, right: Self) -> Bool {
        left.database == right.database && left.mode == right.mode && left.replicaReads == right.replicaReads
            && left.writes == right.writes && left.reruns == right.reruns && left.retries == right.retries
            && left.promotions == right.promotions && left.unparsed == right.unparsed
            && left.notParsed == right.notParsed
            && left.kept.elementsEqual(right.kept) { $0.reason == $1.reason && $0.count == $1.count }
    }
}

/// What EXPLAIN ROUTE tells of a statement.
public struct RouteExplanation: Sendable, Equatable {
    /// `read`, `primary` or `write`.
    public var statementClass: String
    /// Why it has that class.
    public var reason: String
    /// The node it would go to now, from a client that has written nothing; empty when there is none, and when it goes to
    /// no server.
    public var node: String
    /// Why that one.
    public var because: String

    public init(statementClass: String, reason: String, node: String, because: String) {
        self.statementClass = statementClass
        self.reason = reason
        self.node = node
        self.because = because
    }
}
