import Pooling
import Reactor
import Routing
import SQL
import Sessions
import Settings
import Topology
import Wire

// A request of a routed client whose place is decided: it begins, it ends, or it is refused.
extension ClientSession {
    // MARK: Its beginning

    /// The request is about to be passed to the server that is linked.
    func commence(
        _ summary: RequestSummary, _ type: UInt8, _ bytes: Span<UInt8>, _ whole: Range<Int>, _ server: ServerSession,
        _ route: ClientRoute
    ) {
        if route.isChosen && route.isOnReplica && summary.statements > 0 { route.router.counters.replicaReads &+= 1 }
        route.isChosen = false
        route.waitingSince = nil
        route.isInBatch = type != Frontend.query && type != Frontend.functionCall
        if route.openBatch != nil || summary.openBatch != nil { route.open(summary.openBatch) }
        route.endsByRollback =
            if case .rollback? = summary.transaction { server.requests.isEmpty } else { false }
        if summary.settings == .changes {
            route.hasOwnSettings = true
            if whole.upperBound <= bytes.count { self.noteIsolation(summary, bytes.extracting(whole), route) }
        }
        let before = route.transaction
        var begins: TransactionModes?
        switch before {
        case .held(let modes):
            begins = modes
            server.begin(modes, hasSnapshot: route.hasSnapshot)
            route.transaction = .none
        case .none: begins = summary.begin
        // A BEGIN within a transaction begins none.
        case .replica, .failed: break
        }
        let inTransaction = begins != nil || summary.ending != .none || server.transaction != .idle
        if summary.isHintMistaken { self.warnOfHint(server, route) }
        let mayHaveCommands =
            summary.mayHaveCommands || route.isInBatch && route.router.settings.routing != .split
        route.commands =
            mayHaveCommands ? .among(inTransaction: inTransaction, isUnseen: summary.isInterrupted) : .none
        self.applySettingsEffects(summary, inTransaction: inTransaction, route)
        guard route.isOnReplica else {
            if summary.readsData && !(route.isKept && summary.isRead) { route.isNewestRead = true }
            self.noteModes(begins, summary, route)
            route.note(summary)
            return
        }
        if begins != nil {
            route.isReadCommitted = self.isReadCommittedByDefault(route)
            route.binding = .none
            route.hasSnapshot = false
        }
        if let begins, summary.ending == .none || summary.begin == nil {
            route.transaction = .replica(begins, isPromotable: self.isPromotable(begins, route))
        }
        self.runsOnReplica(summary, bytes, whole, server, route, before, isFirst: begins != nil)
    }

    /// A request is about to run on a replica. It is kept until its answer begins, so that it can be carried out
    /// elsewhere, and until its end, so that others like it are.
    func runsOnReplica(
        _ summary: RequestSummary, _ bytes: Span<UInt8>, _ whole: Range<Int>, _ server: ServerSession,
        _ route: ClientRoute, _ before: ClientRoute.Transaction, isFirst: Bool
    ) {
        if summary.bindsTransaction && route.binding == .none { route.binding = .state }
        if summary.takesSnapshot && summary.statements > 0 { route.hasSnapshot = true }
        self.noteChain(summary, server, route)
        guard route.keeps(summary), whole.upperBound <= bytes.count else { return server.forgetRequest() }
        server.keep(bytes.extracting(whole))
        self.keptStart = whole.lowerBound
        // Run again it begins in the transaction in which it has begun now, or not at all.
        switch route.transaction {
        case .none:
            guard server.transaction == .idle else { return }
            route.transactionBeforeTrial = .none
        case .replica(let modes, let isPromotable):
            if isFirst {
                guard server.transaction == .idle else { return }
                route.transactionBeforeTrial = before
            } else {
                guard isPromotable, server.transaction == .inTransaction else { return }
                route.transactionBeforeTrial = .held(modes)
            }
        case .held, .failed: return
        }
        server.trial = .replica(isRepeatable: summary.isRead, begins: summary.begin != nil)
    }

    // MARK: Its end

    /// ReadyForQuery has come, and the client has not seen it yet: what it does next, on whatever connection, comes after.
    func routedRequestEnded(_ transaction: TransactionStatus, _ server: ServerSession, _ route: ClientRoute) {
        let router = route.router
        let generation = router.generation
        let now = self.now
        if let load = server.pool.load {
            load.answered(after: now - self.requestTime)
            if route.isOnReplica || route.isNewestRead { route.causality.read(from: load.node, generation: generation) }
        }
        route.retries = 0
        if !route.avoided.isEmpty { route.avoided = [] }
        route.isPrimaryForced = false
        self.settingsRequestEnded(transaction, route)
        guard transaction == .idle else {
            if route.isOnReplica { self.replicaTransactionGoesOn(transaction, route) }
            return
        }
        route.transaction = .none
        route.isReadOnly = false
        route.binding = .none
        route.hasSnapshot = false
        if route.endsByRollback {
            route.endsByRollback = false
            route.hasWritten = false
            route.ddl = .none
        }
        if route.hasWritten {
            route.causality.wrote(generation: generation, now: now)
            if server.requests.isEmpty { route.hasWritten = false }
        }
        self.catalogueChanged(route)
        if server.requests.isEmpty { route.ddl = .none }
    }

    /// Before the client hears of it, all that it and others ask for is judged as what it is: behind DDL.
    @inline(__always)
    private func catalogueChanged(_ route: ClientRoute) {
        guard route.ddl != .none else { return }
        self.worker.proxy.routers.catalogueChanged(route.router.shared, by: route.ddl)
    }

    /// A request outside of a transaction has failed, and nothing is outstanding behind it: its DDL is undone. Code may have
    /// committed before it failed.
    func routedRequestFailed(_ route: ClientRoute) {
        if route.ddl != .possible { route.ddl = .none }
    }

    /// COMMIT has been carried out, and perhaps another transaction begun.
    func routedCommit(_ route: ClientRoute) {
        self.catalogueChanged(route)
        if route.hasWritten { route.causality.wrote(generation: route.router.generation, now: self.now) }
        self.settingsCommitted(route)
    }

    /// The server connection is gone with a request that may have written.
    func routedServerLost(_ route: ClientRoute) {
        self.catalogueChanged(route)
        route.ddl = .none
        if route.hasWritten { route.causality.wrote(generation: route.router.generation, now: self.now) }
    }

    // MARK: Refusing

    /// Answers a request with an error, without a server.
    func refuse(_ error: ServerError, _ type: UInt8) -> Verdict {
        if let route = self.route {
            route.heldSince = nil
            route.waitingSince = nil
            route.retries = 0
            if !route.avoided.isEmpty { route.avoided = [] }
            route.isPrimaryForced = false
            if route.isInHeldTransaction { route.transaction = .failed }
            route.endBatch()
            route.settings.noteError()
        }
        self.send(
            MessageWriter.bytes {
                $0.errorResponse(severity: "ERROR", sqlState: error.sqlState, message: error.message)
            })
        self.cancelled = .first
        return self.skipCancelled(type)
    }
}
