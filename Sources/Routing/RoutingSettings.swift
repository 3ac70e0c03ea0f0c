public import Settings

/// How one database's statements are routed: its own settings over the general ones. Plain values only, since each
/// statement asks for them.
public struct RoutingSettings: Sendable, Equatable {
    public let routing: RoutingMode
    public let readAfterWrite: ReadAfterWrite
    /// `read_after_write_window`; 0 when there is none.
    private let leastWindow: Microseconds
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
        self.leastWindow = database.readAfterWriteWindow ?? general.readAfterWriteWindow
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
    /// How long after a write a client's reads stay on the primary at least, by the mode that holds for the client: the
    /// database's own, or one that it has asked for.
    public func window(_ mode: ReadAfterWrite) -> Microseconds {
        switch mode {
        case .off: 0
        case .lsn: self.leastWindow
        case .window: self.leastWindow == 0 ? 1_000_000 : self.leastWindow
        }
    }
}
