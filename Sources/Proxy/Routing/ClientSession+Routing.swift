import Pooling
import Reactor
import Routing
import SQL
import Sessions
import Settings
import Synchronization
import Topology
import Wire

// Where a request of a routed client goes. A request is a Query, or a batch of the extended protocol up to its Sync: it
// is looked at as a whole, before its first message is passed on.
extension ClientSession {
    /// The messages that a request begins with.
    private static let beginning: MessageTypeSet = [
        Frontend.query, Frontend.functionCall, Frontend.parse, Frontend.bind, Frontend.describe, Frontend.execute,
        Frontend.close,
    ]

    /// Looks at a message of a routed client. Nil: it goes on as it would without routing, to the server that is linked.
    @inline(__always)
    func routed(
        _ type: UInt8, _ bytes: Span<UInt8>, _ range: Range<Int>, length: Int, run: inout Int, _ route: ClientRoute
    ) -> Verdict? {
        if route.isInBatch {
            if let open = route.openBatch {
                if route.isFlushed {
                    let verdict = self.continueBatch(open, type, bytes, range, length: length, run: &run, route)
                    if verdict != nil || !route.isInBatch { return verdict }
                } else {
                    // Looked at already, with what comes before the Flush.
                    route.isFlushed = type == Frontend.flush
                }
            } else if type == Frontend.sync || type == Frontend.query || type == Frontend.functionCall {
                let isLeading = if case .leading = route.commands { true } else { false }
                route.endBatch()
                if !isLeading || type == Frontend.sync { return nil }
                return self.routedAnew(type, bytes, range, length: length, run: &run, route)
            }
            return self.inBatch(type, bytes, range, length: length, run: &run, route)
        }
        return self.routedAnew(type, bytes, range, length: length, run: &run, route)
    }

    /// A message of a batch that has been decided.
    @inline(__always)
    private func inBatch(
        _ type: UInt8, _ bytes: Span<UInt8>, _ range: Range<Int>, length: Int, run: inout Int, _ route: ClientRoute
    ) -> Verdict? {
        switch route.commands {
        case .none: return nil
        case .among: return self.answerCommand(type, bytes, range, length: length, run: &run, route)
        case .leading:
            if let verdict = self.answerCommand(type, bytes, range, length: length, run: &run, route) { return verdict }
            if type == Frontend.flush { return nil }
            // The others begin.
            route.endBatch()
            return self.routedAnew(type, bytes, range, length: length, run: &run, route)
        }
    }

    /// The same for a message that nothing has been decided about.
    @inline(never)
    private func routedAnew(
        _ type: UInt8, _ bytes: Span<UInt8>, _ range: Range<Int>, length: Int, run: inout Int, _ route: ClientRoute
    ) -> Verdict? {
        // Whatever comes behind a request that may be sent again comes behind it then, too.
        if self.server?.isOnTrial ?? false { return self.awaitReplies() }
        guard Self.beginning.contains(type) else { return nil }
        var summary = RequestSummary()
        if route.isChosen, let chosen = route.chosen {
            summary = chosen
        } else {
            switch self.summarize(type, bytes, range, length: length, route, &summary) {
            case .whole: break
            case .partial(let needed): return .gather(needed)
            case .malformed:
                self.pass(bytes, run..<range.lowerBound)
                self.fail(ServerError(message: "bad packet", sqlState: SQLState.protocolViolation))
                return .end
            }
        }
        let whole = range.lowerBound..<max(range.upperBound, range.lowerBound + summary.end)
        if summary.asksForPosition { return self.askForPosition(type, bytes, whole, run: &run, route) }
        if let command = summary.command, let verdict = self.carryOut(command, bytes, whole, route) { return verdict }
        // What they see and do depends on how the requests before have ended.
        if summary.hasCommands, let server = self.server, !server.requests.isQuiet { return self.awaitReplies() }
        // In a transaction that has failed a server says so of what comes before its end.
        if summary.hasCommands, self.server?.transaction == .failed,
            summary.beginsWithCommand || summary.ending == .none
        {
            summary.hasCommands = false
        }
        if summary.hasCommands && summary.beginsWithCommand {
            route.isInBatch = true
            route.commands = .leading
            if let verdict = self.answerCommand(type, bytes, range, length: length, run: &run, route) { return verdict }
            route.endBatch()
        }
        if let server = self.server, route.isChosen, route.isOnReplica, self.isOutdated(server, summary, route) {
            // While it waited for the connection, another one of its client has written, or the replica was started
            // again and knows less than before.
            route.unchoose()
            server.releaseIfFree()
        }
        if let server = self.server {
            if route.isChosen {
                route.chosen = nil
                self.commence(summary, type, bytes, whole, server, route)
                return nil
            }
            if let verdict = self.routeLinked(summary, type, bytes, whole, server, &run, route) { return verdict }
            if self.server != nil { return nil }
        }
        return self.routeUnlinked(summary, type, bytes, whole, route)
    }

    /// What comes behind the Flush of a batch, whose first part was looked at by itself and has run nothing.
    @inline(never)
    private func continueBatch(
        _ open: BatchReader, _ type: UInt8, _ bytes: Span<UInt8>, _ range: Range<Int>, length: Int,
        run: inout Int, _ route: ClientRoute
    ) -> Verdict? {
        guard type != Frontend.sync, let server = self.server else {
            route.endBatch()
            route.closeBatch()
            return nil
        }
        if type == Frontend.flush { return nil }
        let isQuery = type == Frontend.query || type == Frontend.functionCall
        if isQuery && server.transaction == .idle && !server.requests.isSkipping {
            // It has no Sync and is a request of its own; asyncpg does that when it has only prepared a statement.
            guard server.requests.isEmpty else { return self.awaitReplies() }
            self.pass(bytes, run..<range.lowerBound)
            run = range.lowerBound
            route.endBatch()
            route.closeBatch()
            server.leaveClient()
            return self.routed(type, bytes, range, length: length, run: &run, route)
        }
        var summary = RequestSummary()
        switch self.summarize(type, bytes, range, length: length, route, continuing: open, &summary) {
        case .whole: break
        case .partial(let needed): return .gather(needed)
        case .malformed:
            self.pass(bytes, run..<range.lowerBound)
            self.fail(ServerError(message: "bad packet", sqlState: SQLState.protocolViolation))
            return .end
        }
        if summary.asksForPosition {
            self.pass(bytes, run..<range.lowerBound)
            run = range.lowerBound
            let whole = range.lowerBound..<max(range.upperBound, range.lowerBound + summary.end)
            return self.askForPosition(type, bytes, whole, run: &run, route)
        }
        route.commands =
            summary.mayHaveCommands
            ? .among(inTransaction: summary.begin != nil || server.isBeginning, isUnseen: summary.isInterrupted) : .none
        guard route.isOnReplica else {
            // On the primary there is nothing to decide.
            let whole = range.lowerBound..<max(range.upperBound, range.lowerBound + summary.end)
            route.open(summary.openBatch)
            if isQuery { route.endBatch() }
            self.applySettingsEffects(summary, inTransaction: server.transaction != .idle, route)
            if summary.readsData && !(route.isKept && summary.isRead) { route.isNewestRead = true }
            route.note(summary)
            if whole.upperBound <= bytes.count { self.noteIsolation(summary, bytes.extracting(whole), route) }
            if summary.mayWrite && server.transaction == .idle { route.router.counters.writes &+= 1 }
            return nil
        }
        guard server.requests.isEmpty else { return self.awaitReplies() }
        let whole = range.lowerBound..<max(range.upperBound, range.lowerBound + summary.end)
        if !server.requests.isSkipping, let verdict = self.divided(summary, type, bytes, whole, server, route) {
            self.pass(bytes, run..<range.lowerBound)
            return verdict
        }
        route.open(summary.openBatch)
        let stay: Stay =
            switch route.transaction {
            case .replica(let modes, let isPromotable):
                self.stay(summary, modes, isPromotable: isPromotable, server, route)
            case .none, .held, .failed:
                summary.isRead && summary.transaction == nil && summary.begin == nil && summary.ending == .none
                    && !self.isOutdated(server, summary, route) ? .stays : .leaves
            }
        if case .stays = stay { return self.goOn(summary, isQuery: isQuery, bytes, whole, server, route) }
        if server.requests.isSkipping {
            if isQuery { route.endBatch() }
            return nil
        }
        // It goes on on the primary: only the replica's Sync is owed, and what is prepared is prepared anew.
        self.pass(bytes, run..<range.lowerBound)
        run = range.lowerBound
        route.endBatch()
        route.closeBatch()
        if case .replica(let modes, _) = route.transaction {
            if case .leaves = stay { route.router.counters.promotions &+= 1 }
            route.transaction = .held(modes)
        }
        server.leaveClient()
        if case .cannotLeave(let error) = stay { return self.refuse(error, type) }
        return self.routeUnlinked(summary, type, bytes, whole, route)
    }

    /// The rest of a batch stays on the replica that has its beginning.
    private func goOn(
        _ summary: RequestSummary, isQuery: Bool, _ bytes: Span<UInt8>, _ whole: Range<Int>, _ server: ServerSession,
        _ route: ClientRoute
    ) -> Verdict? {
        if isQuery { route.endBatch() }
        self.applySettingsEffects(summary, inTransaction: server.transaction != .idle, route)
        if summary.statements > 0 && server.transaction == .idle { route.router.counters.replicaReads &+= 1 }
        if !server.requests.isSkipping {
            self.runsOnReplica(summary, bytes, whole, server, route, route.transaction, isFirst: false)
        }
        return nil
    }

    // MARK: Looking

    private enum Look {
        case whole
        /// It cannot be judged before that many bytes of it are there.
        case partial(Int)
        case malformed
    }

    /// Finds out what a request is as a whole.
    ///
    /// - Parameter open: the batch that it goes on with, behind its Flush.
    private func summarize(
        _ type: UInt8, _ bytes: Span<UInt8>, _ range: Range<Int>, length: Int, _ route: ClientRoute,
        continuing open: BatchReader? = nil, _ summary: inout RequestSummary
    ) -> Look {
        let router = route.router
        let limit = router.settings.classifyLimit
        if router.settings.routing != .split || type == Frontend.functionCall {
            summary = .unknown
            if type != Frontend.functionCall {
                self.lookForCommand(type, bytes, range, length: length, route, &summary)
            }
            return .whole
        }
        if type == Frontend.query {
            guard length <= limit + MessageFramer.headerLength + 1 else {
                summary = .tooLong
                return .whole
            }
            guard range.count == length else { return .partial(length) }
            let message = bytes.extracting(range)
            guard let text = QueryMessage.text(message) else { return .malformed }
            summary.read(query: router.statement(message.extracting(text), self), end: length)
            return .whole
        }
        let batch = self.reader(open, route)
        let rest = bytes.extracting(range.lowerBound..<bytes.count)
        switch batch.scan(rest, ClientBook(client: self, router: router)) {
        case .whole:
            if batch.summary.end > limit {
                summary = .tooLong
            } else if batch.summary.isOpen || (batch.summary.isInterrupted && route.isInReplicaTransaction) {
                // In a transaction that may stay on its replica what comes behind any Flush matters.
                summary = batch.summary
                summary.openBatch = self.keep(batch, router)
            } else {
                batch.handOver(&summary)
            }
            return .whole
        case .malformed: return .malformed
        case .partial:
            if rest.count >= limit || length > limit {
                summary = .tooLong
                return .whole
            }
            route.scan = self.keep(batch, router)
            return .partial(limit)
        }
    }

    /// The reader of a batch: what has looked at its beginning, or the router's.
    private func reader(_ open: BatchReader?, _ route: ClientRoute) -> BatchReader {
        if let scan = route.scan {
            route.scan = nil
            return scan
        }
        if let open { return BatchReader(continuing: open) }
        let reader = route.router.reader
        reader.restart()
        return reader
    }

    /// A reader that is needed again; the router gets another one.
    private func keep(_ batch: BatchReader, _ router: Router) -> BatchReader {
        if batch === router.reader { router.reader = BatchReader() }
        return batch
    }

    // MARK: With a server connection

    /// A request behind others, or in a transaction. Nil: it goes to the server that is linked, or there is none any
    /// more.
    private func routeLinked(
        _ summary: RequestSummary, _ type: UInt8, _ bytes: Span<UInt8>, _ whole: Range<Int>, _ server: ServerSession,
        _ run: inout Int, _ route: ClientRoute
    ) -> Verdict? {
        // A transaction that has begun on a replica goes on as it would have, though the configuration is another now.
        guard route.isOnReplica, route.router.settings.routing != .replica || route.isInReplicaTransaction else {
            if server.transaction != .idle && summary.kind == .read && summary.transaction == nil {
                route.router.counters.kept[ReadDecision.Reason.transaction.rawValue] &+= 1
            }
            self.commence(summary, type, bytes, whole, server, route)
            return nil
        }
        guard server.isQuiet else { return self.awaitReplies() }
        self.pass(bytes, run..<whole.lowerBound)
        run = whole.lowerBound
        if let verdict = self.divided(summary, type, bytes, whole, server, route) { return verdict }
        guard case .replica(let modes, let isPromotable) = route.transaction, server.transaction != .idle else {
            // The transaction is over and the connection about to be released: this one may go elsewhere.
            server.releaseIfFree()
            if self.server != nil { self.commence(summary, type, bytes, whole, server, route) }
            return nil
        }
        switch self.stay(summary, modes, isPromotable: isPromotable, server, route) {
        case .stays:
            self.commence(summary, type, bytes, whole, server, route)
            return nil
        case .leaves:
            // A write, or something that only one server can go on with: from here on it is the primary's transaction.
            route.router.counters.promotions &+= 1
            route.transaction = .held(modes)
            server.leaveClient()
            return nil
        case .cannotLeave(let error):
            route.transaction = .held(modes)
            server.leaveClient()
            return self.refuse(error, type)
        }
    }

    // MARK: Without

    private func routeUnlinked(
        _ summary: RequestSummary, _ type: UInt8, _ bytes: Span<UInt8>, _ whole: Range<Int>, _ route: ClientRoute
    ) -> Verdict {
        if case .before = summary.ending, let verdict = self.divided(summary, type, bytes, whole, nil, route) {
            return verdict
        }
        if summary.transaction != nil, let error = self.duplicateName(type, bytes, whole) {
            return self.refuse(error, type)
        }
        if let tag = self.transactionTag(summary, route) {
            self.answer(type, bytes, whole, tag: tag, route: route)
            return .consumed(upTo: whole.upperBound)
        }
        if case .failed = route.transaction {
            return self.refuse(
                ServerError(
                    message: "current transaction is aborted, commands ignored until end of transaction block",
                    sqlState: SQLState.inFailedTransaction), type)
        }
        return self.routeChosen(summary, type, bytes, whole, route)
    }

    /// Chooses a node, and a connection to it.
    private func routeChosen(
        _ summary: RequestSummary, _ type: UInt8, _ bytes: Span<UInt8>, _ whole: Range<Int>, _ route: ClientRoute
    ) -> Verdict {
        switch self.choose(summary, route) {
        case .pool(let pool, let isReplica):
            route.isOnReplica = isReplica
            route.isChosen = true
            route.canKeepChosen = route.canKeep(summary)
            route.heldSince = nil
            guard pool.acquire(self) else {
                route.isChosen = self.isWaiting
                if self.isWaiting {
                    route.chosen = summary
                    return .wait
                }
                if self.isClosed { return .end }
                return self.routeChosen(summary, type, bytes, whole, route)
            }
            guard let server = self.server else { return .end }
            if self.isAwaitingSettings {
                route.chosen = summary
                self.queryBegins()
                return .wait
            }
            self.commence(summary, type, bytes, whole, server, route)
            return .pass
        case .hold(let until):
            if route.heldSince == nil { route.heldSince = self.now }
            route.router.hold(self, until: until)
            return .wait
        case .refuse(let error):
            // Who has sent the rest of its transaction already does not wait for what becomes of its beginning.
            if bytes.count > whole.upperBound { self.noteUnbegun(bytes.extracting(whole.lowerBound..<bytes.count)) }
            return self.refuse(error, type)
        }
    }

    private static let refusalPause: MonotonicTime = 500_000

    private enum Choice {
        case pool(Pool, isReplica: Bool)
        case hold(until: MonotonicTime)
        case refuse(ServerError)
    }

    private func choose(_ summary: RequestSummary, _ route: ClientRoute) -> Choice {
        let router = route.router
        let settings = router.settings
        let override = summary.override ?? route.override
        route.isNewestRead = false
        route.isKept = false
        var reason = ReadDecision.Reason.statement
        var refusal: ServerError?
        if self.wantsReplica(summary, override, route, &reason) {
            let insists = override == .replica || settings.routing == .replica
            if let pool = self.poolForRead(route, insists: insists, &reason, &refusal) {
                return .pool(pool, isReplica: true)
            }
            if let until = self.replicaWait(reason, route) { return .hold(until: until) }
            if reason == .lag || reason == .noReplica, settings.primaryReads == .never {
                return .refuse(
                    ServerError(
                        message: "no replica of database \"\(router.database)\" can take reads now "
                            + "(primary_reads=never); " + (refusal?.message ?? "see SHOW NODES"),
                        sqlState: SQLState.cannotConnectNow))
            }
        }
        let now = self.now
        guard let primary = router.primary(now: now) else {
            let until = (route.heldSince ?? now) + settings.failoverWait
            // A replica that does not take it now may do so later.
            if now < until { return .hold(until: refusal == nil ? until : min(until, now + Self.refusalPause)) }
            return .refuse(
                ServerError(
                    message: "no primary server for database \"\(router.database)\" (waited failover_wait); "
                        + "see SHOW NODES",
                    sqlState: SQLState.cannotConnectNow))
        }
        switch reason {
        case .ownWrite, .earlierRead: route.isKept = true
        case .balance, .lag, .noReplica, .transaction, .override, .statement: break
        }
        router.counters.kept[reason.rawValue] &+= 1
        if summary.mayWrite { router.counters.writes &+= 1 }
        return .pool(self.group.pool(of: primary), isReplica: false)
    }

    /// Finds a node for a read, among those that take its client: its pool. What the others said, `refusal` tells. Nil if it
    /// is for the primary, for that `reason`.
    private func poolForRead(
        _ route: ClientRoute, insists: Bool, _ reason: inout ReadDecision.Reason, _ refusal: inout ServerError?
    ) -> Pool? {
        if let pool = self.poolForRead(route, insists: insists, mayWait: false, &reason, &refusal) { return pool }
        // Where nobody else takes it, it waits for one of the connections that there are.
        guard refusal != nil,
            route.router.settings.primaryReads == .never || route.router.primary(now: self.now) == nil
        else { return nil }
        return self.poolForRead(route, insists: insists, mayWait: true, &reason, &refusal)
    }

    private func poolForRead(
        _ route: ClientRoute, insists: Bool, mayWait: Bool, _ reason: inout ReadDecision.Reason,
        _ refusal: inout ServerError?
    ) -> Pool? {
        let now = self.now
        var avoided = route.avoided
        while true {
            switch route.router.decide(route, insists: insists, avoided: avoided, now: now) {
            case .primary(let why):
                reason = why
                return nil
            case .node(let load):
                let pool = self.group.pool(of: load)
                guard pool.mayRefuse, let error = pool.refusal(of: self, mayWait: mayWait) else { return pool }
                refusal = error
                avoided.append(load.node)
            }
        }
    }

    /// Whether a request may go to a replica; else `reason` says why not.
    private func wantsReplica(
        _ summary: RequestSummary, _ override: RouteOverride?, _ route: ClientRoute,
        _ reason: inout ReadDecision.Reason
    ) -> Bool {
        let settings = route.router.settings
        if settings.routing != .split {
            return settings.routing == .replica && !(route.heldModes?.needPrimary ?? false)
        }
        if override == .primary {
            reason = .override
            return false
        }
        if route.isPrimaryForced || self.pool.mode == .session { return false }
        if summary.settings == .shows && route.hasOwnSettings && override != .replica { return false }
        switch route.transaction {
        case .held(let modes):
            reason = .transaction
            return self.mayUseReplica(modes, summary, override, route)
        case .none, .replica, .failed: break
        }
        if let modes = summary.begin {
            reason = .transaction
            return self.mayUseReplica(modes, summary, override, route)
        }
        if let transaction = summary.transaction, case .begin = transaction {
            reason = .transaction
            return false
        }
        guard summary.ending == .none else { return false }
        if override == .replica && !summary.hasBindingStatement { return true }
        if self.isSerializable(route) { return false }
        return summary.isRead && summary.transaction == nil
    }

    /// Until when a read waits for a replica to catch up; nil if it has waited long enough or should not.
    private func replicaWait(_ reason: ReadDecision.Reason, _ route: ClientRoute) -> MonotonicTime? {
        guard reason == .ownWrite || reason == .earlierRead else { return nil }
        route.router.needSamples()
        let wait = route.router.settings.replicaWait
        guard wait > 0 else { return nil }
        let until = (route.heldSince ?? self.now) + wait
        return self.now < until ? until : nil
    }
}
