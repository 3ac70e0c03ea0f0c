import Reactor
import Routing
import SQL
import Sessions
import Settings
import Wire

/// What routing knows of one client.
///
///     none ──BEGIN──► held ──first statement──► (on the primary: the server knows)
///      ▲               │  └────a read──────────► replica ──what needs the primary──► held ──► (on the primary)
///      │               └──no server to be had──► failed
///      └──────────────── ROLLBACK, COMMIT ─────────┘
///
/// BEGIN is answered here and held back, because the first statement tells where the transaction belongs. COMMIT AND CHAIN
/// and ROLLBACK AND CHAIN stay where they are, but lead from failed to held. What the server says at the end of a request
/// is the truth: where it differs, what follows is passed on to that server and never run again elsewhere.
final class ClientRoute {
    enum Transaction {
        case none
        /// BEGIN was answered, and no server knows of it.
        case held(TransactionModes)
        /// Runs on a replica. A promotable one may go on on the primary.
        case replica(TransactionModes, isPromotable: Bool)
        /// Nothing of it has happened, and it has failed: the client is to end it.
        case failed
    }

    enum Binding: Int {
        case none
        /// Settings, cursors, portals and the like; or nobody knows what.
        case state
        /// There may be a savepoint.
        case savepoint
    }

    /// What of a client's request comes behind the COMMIT or ROLLBACK that ends a replica's transaction.
    struct Rest {
        /// A request of its own, as soon as the first part is over.
        let bytes: [UInt8]
        /// Its last message is the one that ReadyForQuery answers; else there is more of it to come.
        let isWhole: Bool
        /// The first part has had an error: the rest is not looked at, as PostgreSQL would not either.
        var hasFailed = false
    }

    enum Commands {
        case none
        /// Those at its beginning; what comes behind them is looked at by itself.
        case leading
        /// Those among others. The batch begins a transaction, or not; `isUnseen`, if what comes behind a Flush may have
        /// more.
        case among(inTransaction: Bool, isUnseen: Bool)
    }

    /// What a portal does.
    struct Bound {
        enum Statement {
            case command(RouterCommand)
            case other(StatementClass)
        }
        let portal: [UInt8]
        let statement: Statement
    }

    let router: Router
    /// `martlet.route` and the others.
    var settings = RouterSettings()
    let causality = Causality()
    /// The time that its new statements have taken.
    var parsing = ParseAllowance.Debt()
    var transaction = Transaction.none
    /// The session is SERIALIZABLE by default, which no standby allows.
    var isSerializable = false

    /// It has set the isolation level of its transactions to something else than READ COMMITTED, or nobody knows to what.
    var hasSetIsolation = false
    /// Its transaction on a replica is READ COMMITTED if it has not named an isolation level.
    var isReadCommitted = false

    /// A batch has been decided; its messages follow up to Sync.
    var isInBatch = false
    /// Messages of that batch which are answered here.
    var commands = Commands.none
    /// What was bound last in a batch with commands.
    var bound: Bound?
    /// In a database whose statements are not looked at: the client has prepared something for the router.
    var hasPreparedCommand = false
    /// What the batch was up to its Flush, as long as it has run nothing.
    private(set) var openBatch: BatchReader?
    /// That Flush has been passed on: what comes now has not been looked at.
    var isFlushed = false
    /// The request is the ROLLBACK of what has been written since the last COMMIT.
    var endsByRollback = false
    /// A connection has been chosen for the request that waits.
    var isChosen = false
    /// What that request is, if it has to wait: it has been looked at when it came, and is not looked at again.
    var chosen: RequestSummary?
    /// `canKeep` of that request.
    var canKeepChosen = false
    /// The chosen connection, or the linked one, is a replica's.
    var isOnReplica = false
    /// A request that may write is outstanding, or part of the open transaction.
    var hasWritten = false
    /// What a request that is outstanding, or the open transaction, does to the catalogue.
    var ddl = StatementClass.DDL.none
    /// It has set something since it came or since DISCARD ALL: SHOW is to be asked where that may have been.
    var hasOwnSettings = false
    /// What the primary shows here is more than replicas have: none may show its client less afterwards.
    var isNewestRead = false
    /// A read that is on the primary only until a replica has caught up. It is not noted: a client that goes on reading
    /// would never leave.
    var isKept = false
    /// A replica has refused it, or it has been let down too often.
    var isPrimaryForced = false
    /// Its transaction on the primary is READ ONLY by its own wish.
    var isReadOnly = false
    /// What binds its transaction to the replica that runs it.
    var binding = Binding.none
    /// Its transaction has taken its snapshot on a replica.
    var hasSnapshot = false
    /// The modes of the transaction that the request chains to the one that it ends.
    var chained: TransactionModes?

    /// The request under way is the first part of one; nil if it is one.
    var rest: Rest?
    /// Times that this request has been tried elsewhere.
    var retries = 0
    /// Nodes that have just failed with its request, or could not be made ready for it.
    var avoided: [Node] = []
    /// `transaction` as it was before the request that is on trial.
    var transactionBeforeTrial = Transaction.none
    /// Since when the request has been waiting for a node; nil when it is not.
    var heldSince: MonotonicTime?
    /// Since when it has been waiting for whatever, a node or a connection, one after the other; nil when it has not.
    var waitingSince: MonotonicTime?
    /// A batch that has been looked at while the rest of it is still to come.
    var scan: BatchReader?

    init(router: Router) { self.router = router }

    /// Takes over what another router knew of its client. Its choices are made anew; what has been said to the client and to
    /// servers holds.
    func inherit(_ old: ClientRoute) {
        self.settings = old.settings
        self.causality.minimumPosition = old.causality.minimumPosition
        self.parsing = old.parsing
        self.hasOwnSettings = old.hasOwnSettings
        self.isSerializable = old.isSerializable
        self.hasSetIsolation = old.hasSetIsolation
        self.hasPreparedCommand = old.hasPreparedCommand
        // Its transaction.
        self.transaction = old.transaction
        self.transactionBeforeTrial = old.transactionBeforeTrial
        self.binding = old.binding
        self.hasSnapshot = old.hasSnapshot
        self.isReadCommitted = old.isReadCommitted
        self.chained = old.chained
        self.isOnReplica = old.isOnReplica
        self.isReadOnly = old.isReadOnly
        self.ddl = old.ddl
        // Its request.
        self.isInBatch = old.isInBatch
        self.commands = old.commands
        self.bound = old.bound
        self.openBatch = old.openBatch
        self.isFlushed = old.isFlushed
        self.rest = old.rest
        self.retries = old.retries
        self.isPrimaryForced = old.isPrimaryForced
        self.heldSince = old.heldSince
        self.waitingSince = old.waitingSince
    }

    /// The connection that was chosen is none for the request, which is looked at again.
    func unchoose() {
        self.isChosen = false
        self.chosen = nil
    }

    /// A batch has been decided: it is kept if it has been looked at up to a Flush only.
    func open(_ batch: BatchReader?) {
        self.openBatch = batch
        self.isFlushed = false
    }

    /// The rest of a batch needs no look of its own.
    func closeBatch() { self.openBatch = nil }

    /// Takes note of what a request may do on the primary.
    func note(_ summary: RequestSummary) {
        // What a replica has refused looks like a read, and is none; so may a view be of which nothing is known yet.
        if summary.mayWrite || summary.mayHideWrite || self.isPrimaryForced
            || (!self.router.knowsCatalogue && summary.readsData)
        {
            self.hasWritten = true
        }
        self.ddl = max(self.ddl, summary.ddl)
        if summary.settings == .changes { self.hasOwnSettings = true }
    }

    /// How it sees its own writes.
    var mode: ReadAfterWrite { self.settings.current.readAfterWrite ?? self.router.settings.readAfterWrite }

    /// `SET martlet.route`.
    var override: RouteOverride? { self.settings.current.route }

    /// Its batch is over.
    func endBatch() {
        self.isInBatch = false
        self.commands = .none
        if self.bound != nil { self.bound = nil }
    }

    /// Nobody has looked at what comes in its batch, which has run something before a Flush.
    var isBehindFlush: Bool {
        if case .among(_, isUnseen: true) = self.commands { return true }
        return false
    }

    /// Whether a request that runs on a replica can be carried out elsewhere after it has been sent.
    func keeps(_ summary: RequestSummary) -> Bool { self.canKeep(summary) && self.keepsRequests }

    /// The same, as far as it is the request's affair.
    func canKeep(_ summary: RequestSummary) -> Bool { !summary.isOpen && summary.end > 0 }

    private var keepsRequests: Bool {
        let settings = self.router.settings
        return settings.routing == .split && (settings.rerunsRefused || settings.retriesReads)
    }

    /// The request that waits for its connection to a replica to be ready must not be sent before.
    var mustAwaitReplica: Bool {
        self.isChosen && self.isOnReplica && !(self.canKeepChosen && self.keepsRequests)
    }

    var heldModes: TransactionModes? { if case .held(let modes) = self.transaction { modes } else { nil } }

    var isInHeldTransaction: Bool {
        if case .held = self.transaction { return true }
        return false
    }

    var isInReplicaTransaction: Bool {
        if case .replica = self.transaction { return true }
        return false
    }

    /// Its batch goes to a server as a whole: none of the messages up to its end has to be looked at.
    var isInDecidedBatch: Bool {
        guard self.isInBatch, self.openBatch == nil, case .none = self.commands else { return false }
        return true
    }

    /// What ReadyForQuery says of a client without a server connection.
    var status: TransactionStatus {
        switch self.transaction {
        case .none, .replica: .idle
        case .held: .inTransaction
        case .failed: .failed
        }
    }
}
