import Pooling
import Reactor
import Routing
import SQL
import Sessions
import Settings
import Wire

/// What is known of a client beside its route: a transaction that was begun here, where nobody looks at its statements,
/// and what its last router knew of it. Nearly no client has one.
final class UnroutedClient {
    enum Transaction {
        case none
        /// BEGIN was answered, and no server knows of it. What comes next is run behind it.
        case held(TransactionModes, hasSnapshot: Bool)
        /// It was begun on a replica, and leaves it with what comes next.
        case leaving(TransactionModes, hasSnapshot: Bool)
        /// Nothing of it has happened, and it has failed: the client is to end it.
        case failed
    }

    var transaction = Transaction.none
    /// A portal of the batch that comes in is the end of the failed transaction; chained, if another one begins.
    var end: (portal: [UInt8], isChained: Bool)?
    /// `martlet.route` and the others, for the next router.
    var settings = RouterSettings()
    var isSerializable = false
    var hasSetIsolation = false

    init() {}

    init(_ route: ClientRoute) {
        switch route.transaction {
        case .held(let modes): self.transaction = .held(modes, hasSnapshot: route.hasSnapshot)
        case .failed: self.transaction = .failed
        case .replica(let modes, _):
            // What its client was told it may do, it may do.
            if ClientSession.canLeave(modes, route) {
                self.transaction = .leaving(modes, hasSnapshot: route.hasSnapshot)
            }
        // What runs on a server, the server knows.
        case .none: break
        }
        self.settings = route.settings
        // Nobody follows how its transaction ends.
        if route.status == .failed { self.settings.rollback() } else { self.settings.commit() }
        self.isSerializable = route.isSerializable
        self.hasSetIsolation = route.hasSetIsolation
    }

    /// What ReadyForQuery says of a client without a server connection.
    var status: TransactionStatus {
        switch self.transaction {
        case .none, .leaving: .idle
        case .held: .inTransaction
        case .failed: .failed
        }
    }
}

extension ClientSession {
    /// What ReadyForQuery says when there is no server connection.
    var statusHere: TransactionStatus {
        if let unrouted = self.unrouted, unrouted.status != .idle { return unrouted.status }
        return self.route?.status ?? .idle
    }

    // MARK: Routing comes and goes

    /// The configuration has changed: its database is routed from now on, or by another router, or not any more.
    func changeRouter(_ router: Router?) {
        // The pool that it waits for may be a replica's, which it was to have for a read only.
        if self.isHeld || self.isWaiting && self.login == nil { self.stopWaiting() }
        guard let router else {
            guard let route = self.route else { return }
            if route.rest != nil {
                // What is to be looked at behind the first part, nobody looks at any more.
                return self.fail(
                    ServerError(message: "database configuration changed", sqlState: SQLState.adminShutdown))
            }
            let unrouted = self.unrouted
            self.unrouted = UnroutedClient(route)
            if let unrouted, case .failed = unrouted.transaction { self.unrouted?.transaction = .failed }
            self.route = nil
            return self.proceed()
        }
        let route = ClientRoute(router: router)
        if let old = self.route {
            route.inherit(old)
        } else {
            if let unrouted = self.unrouted { self.takeOver(unrouted, route) }
            route.causality.minimumPosition = route.settings.current.minimumPosition
            // What it has set and changed meanwhile is known to nobody.
            route.hasOwnSettings = true
            route.hasPreparedCommand = !self.statements.isEmpty
            if let server = self.server {
                route.ddl = .possible
                route.isOnReplica = route.isInReplicaTransaction || server.pool.load?.node.role == .replica
            }
        }
        self.route = route
        self.joinCausality(route)
        // What it has written until now is known to nobody.
        route.causality.wrote(generation: router.generation, now: self.now)
        route.hasWritten = self.server != nil
        self.proceed()
    }

    private func takeOver(_ unrouted: UnroutedClient, _ route: ClientRoute) {
        route.settings = unrouted.settings
        route.isSerializable = unrouted.isSerializable
        route.hasSetIsolation = unrouted.hasSetIsolation
        unrouted.settings = RouterSettings()
        switch unrouted.transaction {
        case .held(let modes, let hasSnapshot):
            route.transaction = .held(modes)
            route.hasSnapshot = hasSnapshot
            self.unrouted = nil
        case .leaving(let modes, let hasSnapshot):
            if let server = self.server, server.transaction == .inTransaction {
                route.transaction = .replica(modes, isPromotable: self.isPromotable(modes, route))
                route.hasSnapshot = hasSnapshot
                // Else it could not leave.
                route.isReadCommitted = hasSnapshot || self.isReadCommittedByDefault(route)
            }
            self.unrouted = nil
        case .none: self.unrouted = nil
        // It is ended as it was begun.
        case .failed: break
        }
    }

    // MARK: A transaction that was begun here

    /// A transaction of which no server knows has failed.
    func transactionFailedHere() {
        if let route = self.route, route.router.settings.routing == .split {
            route.transaction = .failed
            return
        }
        self.route?.transaction = .none
        self.unrouted = self.unrouted ?? UnroutedClient()
        self.unrouted?.transaction = .failed
    }

    /// A request has failed before a server has heard of it. If it begins a transaction, that has begun and failed: on a
    /// server BEGIN waits for nothing, so it would be what comes behind it that fails. What its client has sent ahead must
    /// not be carried out by itself.
    func noteUnbegun(_ bytes: Span<UInt8>) {
        guard !self.isReplication, self.pool.mode != .statement, self.server == nil, self.statusHere == .idle,
            self.beginsTransaction(bytes)
        else { return }
        self.transactionFailedHere()
    }

    /// Whether the first statement that a request runs begins a transaction, as far as the request is here.
    private func beginsTransaction(_ bytes: Span<UInt8>) -> Bool {
        func isBegin(_ text: Span<UInt8>) -> Bool {
            StatementText.beginsTransaction(text, standardConformingStrings: self.hasStandardStrings)
        }
        var parsed: [(name: [UInt8], isBegin: Bool)] = []
        var bound: Bool?
        var cursor = 0
        while let header = MessageFramer.header(bytes, at: cursor) {
            let isWhole = header.length < bytes.count - cursor
            let message = bytes.extracting(cursor..<(isWhole ? cursor + header.length + 1 : bytes.count))
            switch header.type {
            case Frontend.query:
                let end = message.firstNUL(from: MessageFramer.headerLength) ?? message.count
                return isBegin(message.extracting(MessageFramer.headerLength..<end))
            case Frontend.parse:
                if let parse = ParseMessage(message) {
                    parsed.append(
                        (message.copy(parse.statement), isBegin(message.extracting(parse.query))))
                }
            case Frontend.bind:
                guard case .prefix(let prefix) = BindPrefix.parse(message) else { break }
                let name = message.extracting(prefix.statement)
                bound =
                    parsed.last { $0.name.span.equals(name) }?.isBegin
                    ?? self.preparedText(name).map { isBegin($0.span) } ?? false
            case Frontend.execute: return bound ?? false
            case Frontend.sync, Frontend.functionCall: return false
            default: break
            }
            guard isWhole else { break }
            cursor += header.length + 1
        }
        return bound ?? parsed.last?.isBegin ?? false
    }

    /// The client waits no more for its request, which has failed: so has the transaction that it belongs to.
    func heldTransactionFails() {
        if case .held? = self.unrouted?.transaction { self.unrouted?.transaction = .failed }
        if self.route?.isInHeldTransaction ?? false { self.route?.transaction = .failed }
    }

    /// Finds a server connection for a client without a router. Nil: there is one.
    func takeServer() -> Verdict? {
        if let server = self.server, server.pool !== self.pool, !server.requests.isUnsynced {
            // It was chosen when the configuration was another, for a read perhaps, and is a replica's.
            guard server.isQuiet else { return self.awaitReplies() }
            if server.transaction == .idle { server.releaseIfFree() }
        }
        if let unrouted = self.unrouted, case .leaving(let modes, let hasSnapshot) = unrouted.transaction {
            if let server = self.server {
                // In the middle of a batch.
                if server.requests.isUnsynced { return nil }
                guard server.isQuiet else { return self.awaitReplies() }
                if server.transaction == .failed { return nil }
                if server.transaction == .inTransaction {
                    unrouted.transaction = .held(modes, hasSnapshot: hasSnapshot)
                    server.leaveClient()
                }
            }
            if case .leaving = unrouted.transaction { unrouted.transaction = .none }
        }
        guard self.server == nil else { return nil }
        guard self.pool.acquire(self) else { return self.isWaiting ? .wait : .end }
        if self.isAwaitingSettings {
            self.queryBegins()
            return .wait
        }
        return nil
    }

    /// The server is about to hear of a transaction that was begun here.
    func carryOver(_ unrouted: UnroutedClient, _ server: ServerSession) {
        switch unrouted.transaction {
        case .none, .leaving: return
        case .held(let modes, let hasSnapshot): server.begin(modes, hasSnapshot: hasSnapshot)
        case .failed:
            server.begin(TransactionModes(), hasSnapshot: false)
            server.run(.abort, "ROLLBACK TO martlet_none")
        }
        unrouted.transaction = .none
    }

    // MARK: Failed

    /// Whether a transaction has failed that no server knows of, and no router looks for its end.
    private var isFailedUnrouted: Bool {
        if case .failed? = self.unrouted?.transaction { return true }
        guard let route = self.route, case .failed = route.transaction, route.router.settings.routing != .split else {
            return false
        }
        self.transactionFailedHere()
        return true
    }

    /// Answers a message of such a client as a server would: it may end its transaction, and nothing else. Nil: what the
    /// message asks for has nothing to do with transactions.
    func answerFailed(_ type: UInt8, _ bytes: Span<UInt8>, _ range: Range<Int>, length: Int) -> Verdict? {
        guard self.isFailedUnrouted, let unrouted = self.unrouted else { return nil }
        let message = bytes.extracting(range)
        // Longer than any of those that end one.
        guard range.count == length else { return Self.isLookedAt(type) ? self.refuseFailed(type) : nil }
        switch type {
        case Frontend.query:
            guard let text = QueryMessage.text(message),
                let end = StatementText.transactionEnd(
                    message.extracting(text), standardConformingStrings: self.hasStandardStrings)
            else { return self.refuseFailed(type) }
            var writer = MessageWriter()
            switch end {
            case .end(let isChained):
                self.transactionEnds(unrouted, isChained: isChained)
                writer.commandComplete("ROLLBACK")
            case .empty: writer.emptyQueryResponse()
            }
            self.send(writer.bytes)
            self.sendReady()
        case Frontend.parse:
            guard let parse = ParseMessage(message),
                case .end? = StatementText.transactionEnd(
                    message.extracting(parse.query), standardConformingStrings: self.hasStandardStrings)
            else { return self.refuseFailed(type) }
            do throws(ServerError) {
                try self.notePrepared(parse, message)
            } catch {
                return self.refuse(error, type)
            }
            self.send(ServerSession.parseComplete)
        case Frontend.bind:
            unrouted.end = nil
            guard case .prefix(let prefix) = BindPrefix.parse(message),
                let isChained = self.endPrepared(message.extracting(prefix.statement))
            else { return self.refuseFailed(type) }
            unrouted.end = (message.copy(prefix.portal), isChained)
            self.send(MessageWriter.bytes { $0.bindComplete() })
        case Frontend.describe:
            guard let target = MessageTarget(message) else { return self.refuseFailed(type) }
            let name = message.extracting(target.name)
            if target.kind == MessageTarget.statement {
                guard self.endPrepared(name) != nil else { return self.refuseFailed(type) }
                self.send(
                    MessageWriter.bytes {
                        $0.noParameters()
                        $0.noData()
                    })
            } else {
                guard let end = unrouted.end, name.equals(end.portal.span) else { return self.refuseFailed(type) }
                self.send(MessageWriter.bytes { $0.noData() })
            }
        case Frontend.execute:
            guard let execute = ExecuteMessage(message), let end = unrouted.end,
                message.extracting(execute.portal).equals(end.portal.span)
            else { return self.refuseFailed(type) }
            self.transactionEnds(unrouted, isChained: end.isChained)
            self.send(MessageWriter.bytes { $0.commandComplete("ROLLBACK") })
        case Frontend.functionCall: return self.refuseFailed(type)
        default: return nil
        }
        return .drop
    }

    private static func isLookedAt(_ type: UInt8) -> Bool {
        switch type {
        case Frontend.query, Frontend.parse, Frontend.bind, Frontend.describe, Frontend.execute, Frontend.functionCall:
            true
        default: false
        }
    }

    private func refuseFailed(_ type: UInt8) -> Verdict { self.refuse(Self.failedTransaction, type) }

    /// Whether a statement that was prepared ends a transaction, and begins another one behind it; nil if it does not.
    private func endPrepared(_ name: Span<UInt8>) -> Bool? {
        guard let text = self.preparedText(name),
            case .end(let isChained)? = StatementText.transactionEnd(
                text.span, standardConformingStrings: self.hasStandardStrings)
        else { return nil }
        return isChained
    }

    /// What its client has prepared under a name; the empty one is the unnamed statement's.
    private func preparedText(_ name: Span<UInt8>) -> [UInt8]? {
        guard name.isEmpty else { return self.statements.find(name)?.statement.textBytes }
        return self.unnamedParse.isEmpty ? nil : Array(self.unnamedParse.prefix { $0 != 0 })
    }

    /// The client has ended its failed transaction. PostgreSQL has forgotten its modes.
    private func transactionEnds(_ unrouted: UnroutedClient, isChained: Bool) {
        unrouted.end = nil
        unrouted.transaction = .none
        if let route = self.route {
            route.transaction = isChained ? .held(TransactionModes()) : .none
            route.hasSnapshot = false
            route.binding = .none
            self.settingsRolledBack(route)
            self.unrouted = nil
        } else if isChained {
            unrouted.transaction = .held(TransactionModes(), hasSnapshot: false)
        }
    }
}
