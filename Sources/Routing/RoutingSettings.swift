public import Settings

/// How one database's statements are routed: its own settings over the general ones. Plain values only, since each
/// statement asks for them.
public struct RoutingSettings: Sendable, Equatable {
    public let routing: RoutingMode
    public let readAfterWrite: ReadAfterWrite
    /// Microseconds.
    public let window: Microseconds
    public let scope: ReadAfterWriteScope
    public let replicaWait: Microseconds
    public let loadBalance: LoadBalance
    public let primaryReads: PrimaryReads
    public let transactionRouting: TransactionRouting
    public let failoverWait: Microseconds
    /// Bytes; a longer request is not looked at.
    public let classifyLimit: Int
    /// A statement that a replica refuses is run on the primary.
    public let rerunsRefused: Bool
    /// A read that fails with its replica is tried once more elsewhere.
    public let retriesReads: Bool

    public init(database: DatabaseSettings, general: GeneralSettings) {
        self.routing = database.routing ?? general.routing
        self.readAfterWrite = database.readAfterWrite ?? general.readAfterWrite
        let window = database.readAfterWriteWindow ?? general.readAfterWriteWindow
        self.window = window == 0 && self.readAfterWrite == .window ? 1_000_000 : window
        self.scope = database.readAfterWriteScope ?? general.readAfterWriteScope
        self.replicaWait = database.replicaWait ?? general.replicaWait
        self.loadBalance = database.loadBalance ?? general.loadBalance
        self.primaryReads = database.primaryReads ?? general.primaryReads
        self.transactionRouting = database.transactionRouting ?? general.transactionRouting
        self.failoverWait = database.failoverWait ?? general.failoverWait
        self.classifyLimit = general.classifyLimit
        self.rerunsRefused = general.rerunRefused
        self.retriesReads = general.retryReads
    }
}
