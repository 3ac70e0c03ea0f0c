import Pooling
import Reactor
import Routing
import SQL
import Sessions
import Settings
import Wire

// Which transactions may run on a replica, and which may leave it again.
extension ClientSession {
    // MARK: At their beginning

    /// Whether a transaction that begins with this request may run on a replica.
    ///
    /// Not if the request begins a second one, or ends it and goes on: on the primary it does not matter what it is.
    func mayUseReplica(
        _ modes: TransactionModes, _ summary: RequestSummary, _ override: RouteOverride?, _ route: ClientRoute
    ) -> Bool {
        if modes.needPrimary || (modes.isolation == nil && self.isSerializable(route)) { return false }
        if summary.changesModes || (route.isInHeldTransaction && summary.opens != nil) { return false }
        switch summary.ending {
        case .none, .last(isChained: false): break
        case .last(isChained: true), .before: return false
        }
        if override == .replica { return true }
        guard route.router.settings.transactionRouting != .primary else { return false }
        if modes.readOnly ?? self.parameters?.isReadOnlyByDefault ?? false { return !summary.mustLeaveReplica }
        return self.isPromotable(modes, route) && summary.isRead && !summary.bindsTransaction
            && summary.transaction == nil
    }

    /// Only under READ COMMITTED does each statement take a new snapshot anyway.
    func isPromotable(_ modes: TransactionModes, _ route: ClientRoute) -> Bool {
        guard route.router.settings.transactionRouting == .promote, modes.readOnly == nil else { return false }
        if self.parameters?.isReadOnlyByDefault ?? false { return false }
        return Self.takesNewSnapshots(modes, isDefault: self.isReadCommittedByDefault(route))
    }

    /// - Parameter isDefault: READ COMMITTED is what a transaction has that names no isolation level.
    private static func takesNewSnapshots(_ modes: TransactionModes, isDefault: Bool) -> Bool {
        switch modes.isolation {
        case .readCommitted, .readUncommitted: true
        case nil: isDefault
        case .repeatableRead, .serializable: false
        }
    }

    func isSerializable(_ route: ClientRoute) -> Bool {
        route.isSerializable || self.parameters?.defaultIsolation == .serializable
    }

    /// Whether a transaction that names no isolation level is certain to be READ COMMITTED.
    func isReadCommittedByDefault(_ route: ClientRoute) -> Bool {
        if route.hasSetIsolation || self.isSerializable(route) { return false }
        // What its startup packet says every server is told.
        if let isolation = self.parameters?.defaultIsolation { return isolation == .readCommitted }
        return route.router.isReadCommittedByDefault
    }

    /// A request is passed on that changes settings: perhaps the isolation level of transactions that name none. Whether the
    /// server that they run on has heard of that, nobody knows in transaction pooling.
    func noteIsolation(_ summary: RequestSummary, _ request: Span<UInt8>, _ route: ClientRoute) {
        guard summary.settings == .changes,
            request.mentions("default_transaction_isolation") || request.mentions("characteristics")
        else { return }
        let isLow = request.mentions("read committed") || request.mentions("read uncommitted")
        route.hasSetIsolation =
            !isLow || request.mentions("repeatable read") || request.mentions("serializable")
    }

    /// Takes note of whether the transaction on the primary is READ ONLY.
    func noteModes(_ begins: TransactionModes?, _ summary: RequestSummary, _ route: ClientRoute) {
        var modes = begins
        switch summary.transaction {
        case .begin(let own, _)?, .set(let own)?: modes = own
        case .commit?, .rollback?, nil: break
        }
        if let readOnly = modes?.readOnly { route.isReadOnly = readOnly }
    }

    // MARK: Answered here

    /// The tag of a transaction command that is answered here; takes note of what it does.
    func transactionTag(_ summary: RequestSummary, _ route: ClientRoute) -> String? {
        guard let command = summary.transaction else { return nil }
        switch (route.transaction, command) {
        case (.none, .begin(let modes, let isStart)):
            guard route.router.settings.routing == .split, self.pool.mode == .transaction,
                route.override == .replica
                    || (route.override == nil && route.router.settings.transactionRouting != .primary)
            else { return nil }
            route.transaction = .held(modes)
            route.hasSnapshot = false
            route.binding = .none
            return isStart ? "START TRANSACTION" : "BEGIN"
        case (.held(let modes), .set(let more)):
            // Behind a query the primary says that it is too late.
            guard !route.hasSnapshot else { return nil }
            route.transaction = .held(modes.merging(more))
            return "SET"
        case (.held, .commit(let isChained)):
            if !isChained { route.transaction = .none }
            self.settingsCommitted(route)
            return "COMMIT"
        case (.held, .rollback(let isChained)):
            if !isChained { route.transaction = .none }
            self.settingsRolledBack(route)
            return "ROLLBACK"
        case (.failed, .commit(let isChained)), (.failed, .rollback(let isChained)):
            // PostgreSQL has forgotten the modes of one that has failed.
            route.transaction = isChained ? .held(TransactionModes()) : .none
            route.hasSnapshot = false
            route.binding = .none
            self.settingsRolledBack(route)
            return "ROLLBACK"
        default: return nil
        }
    }

    /// The error of a batch, to be answered here, that prepares a statement under a name that is taken.
    func duplicateName(_ type: UInt8, _ bytes: Span<UInt8>, _ whole: Range<Int>) -> ServerError? {
        guard type != Frontend.query, !self.statements.isEmpty, self.pool.tracksStatements,
            whole.upperBound <= bytes.count
        else { return nil }
        var closed: Set<[UInt8]> = []
        var cursor = whole.lowerBound
        while let header = MessageFramer.header(bytes, at: cursor), cursor + header.length < whole.upperBound {
            let message = bytes.extracting(cursor..<(cursor + header.length + 1))
            if header.type == Frontend.close, let target = MessageTarget(message),
                target.kind == MessageTarget.statement
            {
                closed.insert(message.copy(target.name))
            }
            if header.type == Frontend.parse, let parse = ParseMessage(message), !parse.statement.isEmpty {
                let name = message.extracting(parse.statement)
                if self.statements.find(name) != nil, !closed.contains(message.copy(parse.statement)) {
                    return Self.duplicate(message.text(parse.statement))
                }
            }
            cursor += header.length + 1
        }
        return nil
    }

    static func duplicate(_ name: String) -> ServerError {
        ServerError(
            message: "prepared statement \"\(name)\" already exists", sqlState: SQLState.duplicatePreparedStatement)
    }

    // MARK: On a replica

    enum Stay {
        case stays, leaves
        /// It would have to, and is bound to the replica.
        case cannotLeave(ServerError)
    }

    /// Whether the replica that a request has already may not show it what is there: another connection whose writes count
    /// for this one has written since it was chosen, or has seen more. Whoever wants a replica takes it as it is.
    func isOutdated(_ server: ServerSession, _ summary: RequestSummary, _ route: ClientRoute) -> Bool {
        let settings = route.router.settings
        guard summary.isRead, settings.routing == .split, (summary.override ?? route.override) != .replica,
            let node = server.pool.load?.node
        else { return false }
        let mode = route.mode
        return !route.causality.mayStay(on: node, mode: mode, window: settings.window(mode), now: self.now)
    }

    /// Whether a transaction on a replica may go on there.
    func stay(
        _ summary: RequestSummary, _ modes: TransactionModes, isPromotable: Bool, _ server: ServerSession,
        _ route: ClientRoute
    ) -> Stay {
        if server.transaction == .failed { return .stays }
        switch summary.transaction {
        case .commit?, .rollback?: return .stays
        case .begin?, .set?, nil: break
        }
        let override = summary.override ?? route.override
        let takesNewSnapshots = Self.takesNewSnapshots(modes, isDefault: route.isReadCommitted)
        let canLeave = Self.canLeave(modes, route)
        if override == .primary {
            return canLeave ? .leaves : .cannotLeave(self.bound("route=primary is asked for"))
        }
        if route.causality.minimumPosition > 0, let node = server.pool.load?.node,
            override != .replica, route.causality.obstacle(node, mode: .off) != nil
        {
            return canLeave ? .leaves : .cannotLeave(self.bound("the replica has not replayed martlet.min_lsn"))
        }
        if isPromotable {
            let isPlain = summary.isRead && !summary.bindsTransaction && summary.begin == nil
            let stays = isPlain && summary.transaction == nil && !self.isOutdated(server, summary, route)
            return stays ? .stays : .leaves
        }
        // Each of its statements shows what is newest, as it would on one server; under another isolation level what is
        // shown was settled by the first one.
        if takesNewSnapshots && self.isOutdated(server, summary, route) {
            return canLeave ? .leaves : .cannotLeave(Self.outdated)
        }
        let isReadOnly = modes.readOnly ?? self.parameters?.isReadOnlyByDefault ?? false
        guard !isReadOnly || summary.mustLeaveReplica || summary.changesModes || summary.opens != nil,
            override != .replica
        else { return .stays }
        if canLeave { return .leaves }
        // What the replica refuses by itself, it may refuse. But a lock taken there would lock nothing.
        return summary.takesLock ? .cannotLeave(self.bound("a lock counts on the primary only")) : .stays
    }

    /// Whether a transaction may leave its replica: what has been seen so far, another server shows as well, or nothing has
    /// been seen.
    static func canLeave(_ modes: TransactionModes, _ route: ClientRoute) -> Bool {
        route.binding == .none
            && (!route.hasSnapshot || Self.takesNewSnapshots(modes, isDefault: route.isReadCommitted))
    }

    /// The error that says why a transaction cannot go on.
    private func bound(_ why: String) -> ServerError {
        ServerError(
            message:
                "\(why), and this transaction runs on a replica, which it cannot leave (it is not READ COMMITTED, or has a "
                + "savepoint, cursor or SET); ask for it first, or SET martlet.route = 'primary' before BEGIN",
            sqlState: SQLState.featureNotSupported)
    }

    /// COMMIT AND CHAIN or ROLLBACK AND CHAIN, on a replica.
    func noteChain(_ summary: RequestSummary, _ server: ServerSession, _ route: ClientRoute) {
        route.chained = nil
        guard summary.ending == .last(isChained: true), case .replica(let modes, _) = route.transaction else { return }
        // PostgreSQL has forgotten the modes of one that has failed, unless that was within a savepoint.
        let isForgotten = server.transaction == .failed && summary.transaction != nil && route.binding != .savepoint
        route.chained = isForgotten ? TransactionModes() : modes
    }

    /// ReadyForQuery of a replica says that a transaction goes on.
    func replicaTransactionGoesOn(_ status: TransactionStatus, _ route: ClientRoute) {
        guard route.router.settings.routing == .split else { return }
        if let modes = route.chained, status == .inTransaction, case .replica(let before, _) = route.transaction {
            route.hasSnapshot = false
            if route.binding == .savepoint { route.binding = .state }
            if modes != before {
                route.binding = .none
                route.transaction = .replica(modes, isPromotable: self.isPromotable(modes, route))
            }
        }
        if case .none = route.transaction {
            // Nobody knows what it is. It stays where it is, whatever comes: what the replica refuses is an error.
            route.transaction = .replica(TransactionModes(), isPromotable: false)
            route.binding = .state
        }
    }

    private static let outdated = ServerError(
        message:
            "another connection has written what this transaction has to see, its replica has not replayed it yet, and "
            + "a savepoint, cursor or SET binds the transaction to that replica; run it again",
        sqlState: SQLState.serializationFailure)
}
