import Pooling
import Reactor
import Routing
import SQL
import Settings
import Wire

// Which transactions may run on a replica, and which may leave it again.
extension ClientSession {
    // MARK: At their beginning

    /// Whether a transaction that begins with this request may run on a replica.
    func mayUseReplica(
        _ modes: TransactionModes, _ summary: RequestSummary, _ route: ClientRoute, isReadOnlyByDefault: Bool
    ) -> Bool {
        if modes.isolation == .serializable || (modes.isolation == nil && self.isSerializable(route)) { return false }
        if modes.readOnly ?? isReadOnlyByDefault { return !summary.mustLeaveReplica }
        return self.isPromotable(modes, route) && summary.isRead && !summary.bindsTransaction
            && summary.transaction == nil
    }

    /// Only under READ COMMITTED does each statement take a new snapshot anyway.
    func isPromotable(_ modes: TransactionModes, _ route: ClientRoute) -> Bool {
        guard route.router.settings.transactionRouting == .promote, modes.readOnly == nil else { return false }
        if self.parameters?.isReadOnlyByDefault ?? false { return false }
        return self.takesNewSnapshots(modes, route)
    }

    private func takesNewSnapshots(_ modes: TransactionModes, _ route: ClientRoute) -> Bool {
        switch modes.isolation {
        case .readCommitted, .readUncommitted: true
        case nil: !self.isSerializable(route) && !route.router.hasOtherDefaultIsolation
        case .repeatableRead, .serializable: false
        }
    }

    func isSerializable(_ route: ClientRoute) -> Bool {
        route.isSerializable || self.parameters?.isSerializableByDefault ?? false
    }

    /// Takes note of whether the transaction on the primary is READ ONLY.
    func noteModes(_ begins: TransactionModes?, _ summary: RequestSummary, _ route: ClientRoute) {
        var modes = begins
        switch summary.transaction {
        case .begin(let own)?, .set(let own)?: modes = own
        case .commit?, .rollback?, nil: break
        }
        if let readOnly = modes?.readOnly { route.isReadOnly = readOnly }
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
        switch summary.transaction {
        case .commit?, .rollback?: return .stays
        case .begin?, .set?, nil: break
        }
        if server.transaction == .failed { return .stays }
        if isPromotable {
            let isPlain = summary.isRead && !summary.bindsTransaction && summary.begin == nil
            let stays = isPlain && summary.transaction == nil && !self.isOutdated(server, summary, route)
            return stays ? .stays : .leaves
        }
        // Each of its statements shows what is newest, as it would on one server; under another isolation level what is
        // shown was settled by the first one.
        if self.takesNewSnapshots(modes, route) && self.isOutdated(server, summary, route) {
            return route.isBound ? .cannotLeave(Self.outdated) : .leaves
        }
        // READ ONLY. Most of what needs the primary does no harm; but a lock taken here would lock nothing.
        guard summary.mustLeaveReplica, (summary.override ?? route.override) != .replica else { return .stays }
        if !route.isBound && self.takesNewSnapshots(modes, route) { return .leaves }
        return summary.takesAdvisoryLock ? .cannotLeave(Self.advisoryLock) : .stays
    }

    private static let advisoryLock = ServerError(
        message:
            "an advisory lock counts on the primary only, and this transaction runs on a replica, which it cannot leave "
            + "(it is not READ COMMITTED, or has a savepoint, cursor or SET); take the lock first, or "
            + "SET martlet.route = 'primary'",
        sqlState: SQLState.featureNotSupported)

    private static let outdated = ServerError(
        message:
            "another connection has written what this transaction has to see, its replica has not replayed it yet, and "
            + "a savepoint, cursor or SET binds the transaction to that replica; run it again",
        sqlState: SQLState.serializationFailure)
}
