import Logging
import Pooling
import Reactor
import Routing
import SQL
import Sessions
import Settings
import Wire

// The safety net. A request that goes to a replica is on trial until its answer begins: if the replica refuses it, or is
// lost, nobody has seen anything, and it is carried out elsewhere. So is one with a statement that may be outdated: if it
// is, the request is carried out anew, behind another Parse.
extension ServerSession {
    /// Keeps the request that is about to be passed on to a replica.
    func keep(_ request: Span<UInt8>) {
        self.keptRequest.removeAll(keepingCapacity: true)
        self.keptRequest.append(request)
    }

    /// What runs next is not kept.
    func forgetRequest() { if !self.keptRequest.isEmpty { self.keptRequest.removeAll(keepingCapacity: true) } }

    /// The request is no business of the safety net any more.
    func endTrial() {
        self.trial = .none
        if self.olderStatement != nil { self.olderStatement = nil }
    }

    private var isTrialRepeatable: Bool {
        if case .replica(isRepeatable: true, _) = self.trial { true } else { false }
    }

    private var doesTrialBegin: Bool { if case .replica(_, begins: true) = self.trial { true } else { false } }

    /// What the bytes at hand say about the request on trial.
    enum Sight {
        /// Not yet whether its answer is good: more bytes are needed.
        case undecided(needed: Int)
        /// The answer begins.
        case good
        /// The server refuses or cannot.
        case failed(ErrorFields)
    }

    /// Messages that come before it is known whether a request succeeds.
    private static let preliminary: MessageTypeSet = [
        Backend.parseComplete, Backend.bindComplete, Backend.closeComplete, Backend.parameterDescription,
        Backend.rowDescription, Backend.noData, Backend.noticeResponse, Backend.notificationResponse,
        Backend.parameterStatus,
    ]
    /// Messages that show that a statement is not outdated: Bind or Describe has succeeded.
    private static let timely: MessageTypeSet = [Backend.bindComplete, Backend.rowDescription, Backend.noData]
    /// Beyond it the answer is taken for good.
    private static let sightLimit = 128 * 1024

    func sight(_ bytes: Span<UInt8>, from start: Int) -> Sight {
        var cursor = start
        // Rows that nobody has seen yet: a server sends those of a small answer together with its end, be it an error.
        var hasRows = false
        var isBegun = !self.doesTrialBegin
        var isTimely = false
        while cursor - start < Self.sightLimit {
            guard let header = MessageFramer.header(bytes, at: cursor) else {
                return hasRows ? .good : .undecided(needed: cursor - start + MessageFramer.headerLength)
            }
            if header.type == Backend.dataRow {
                hasRows = true
                cursor += max(header.length + 1, MessageFramer.headerLength)
                continue
            }
            if Self.timely.contains(header.type) {
                isTimely = true
                if case .older = self.trial { return .good }
            }
            if Self.preliminary.contains(header.type) {
                cursor += max(header.length + 1, MessageFramer.headerLength)
                continue
            }
            if header.type == Backend.commandComplete && !isBegun && !hasRows {
                isBegun = true
                cursor += max(header.length + 1, MessageFramer.headerLength)
                continue
            }
            guard header.type == Backend.errorResponse else { return .good }
            let end = cursor + header.length + 1
            guard end - start <= Self.sightLimit else { return .good }
            guard end <= bytes.count else { return .undecided(needed: end - start) }
            let fields = ErrorFields(bytes.extracting(cursor..<end))
            if !isTimely && self.isOlderStatementsFault(fields) { return .failed(fields) }
            return self.isReplicasFault(fields) ? .failed(fields) : .good
        }
        return .good
    }

    /// Whether the error may come of a statement that was prepared before something was changed. Nothing has run then.
    private func isOlderStatementsFault(_ fields: ErrorFields) -> Bool {
        self.olderStatement != nil && self.mayComeOfOutdated(fields, isRunning: false)
    }

    /// Whether another server may do what this one could not.
    func isReplicasFault(_ fields: ErrorFields) -> Bool {
        guard case .replica = self.trial, let client = self.client, let route = client.route else { return false }
        let settings = route.router.settings
        switch Refusal(fields.sqlState) {
        case .statement: return settings.rerunsRefused
        case .passing: return self.mayRetry(route)
        case .conflict: return self.isTrialRepeatable && settings.retriesReads && route.retries <= 1
        case .none: return false
        }
    }

    /// The request waits for what its statement returns (`isDescribing`), and its trial for the request: the answer to the
    /// Describe is looked for in what is held back.
    func describedOnTrial(_ bytes: Span<UInt8>, from start: Int) {
        guard case .described(let statement, name: nil)? = self.effects.last else { return }
        var requests = self.requests
        var description = StatementDescription()
        var cursor = start
        while requests.takeAnswer() != nil {}
        while let header = MessageFramer.header(bytes, at: cursor), cursor + header.length < bytes.count {
            let message = bytes.extracting(cursor..<(cursor + header.length + 1))
            if requests.head?.kind == .describe {
                switch header.type {
                case Backend.parameterDescription: description.parameters(message)
                case Backend.rowDescription: description.columns(message)
                case Backend.noData: description.noColumns()
                default: break
                }
            }
            _ = requests.reply(header.type)
            while requests.takeAnswer() != nil {}
            cursor += header.length + 1
        }
        guard requests.isEmpty else { return }
        self.statements.describe(statement, as: description)
        self.isDescribing = false
        self.client?.repliesCame()
    }

    /// The request's answer begins: it is no business of the safety net any more.
    func trialPassed() {
        self.endTrial()
        if !self.requests.isEmpty { self.answerHere() }
    }

    /// The request on trial has failed here; its client takes it elsewhere. What the server still says goes nowhere.
    ///
    /// - Parameter isUnready: it was what comes ahead of the request that has failed.
    func trialFailed(_ error: ErrorFields?, isUnready: Bool = false) {
        guard self.isOnTrial, let client = self.client else { return }
        var reason = ClientSession.Repetition.replica(self.pool.load, error)
        if isUnready {
            reason = .unready(self.pool.load?.node)
        } else if let olderStatement, let error, self.isOlderStatementsFault(error) {
            self.statements.distrust(olderStatement)
            // Not of a value that does not fit: most of them are just wrong.
            if !error.sqlState.hasPrefix("22") && !error.sqlState.hasPrefix("42") {
                self.catalogueChanged()
                client.statements.distrust(before: self.pool.catalogue.current)
            }
            reason = .outdated(error)
        }
        // The client's alone from here on: this server may soon be another reactor's.
        let request = self.keptRequest
        self.keptRequest = []
        // Nothing of the request has been answered, so all effects are its own.
        for effect in self.effects.reversed() {
            switch effect {
            case .parse(_, let name?), .named(let name): client.statements.remove(name.span)
            case .closed(let name, let prepared): _ = client.statements.add(name.span, prepared)
            case .parse(_, nil), .evicted, .described, .error, .reply: break
            }
        }
        let isCancelled = self.hasCancelToCome
        self.detachClient()
        if self.state == .linked {
            self.state = .preparing
            self.armPreparing()
            if self.requests.isUnsynced {
                self.requests.append(.sync, .own)
                self.send(MessageWriter.bytes { $0.sync() })
            }
        }
        client.repeatRequest(request, because: reason, isCancelled: isCancelled)
    }

    /// Whether the request on trial may be carried out elsewhere although it may have been carried out here.
    func mayRetry(_ route: ClientRoute) -> Bool {
        self.isTrialRepeatable && route.retries == 0 && route.router.settings.retriesReads
    }

    /// The server hangs: the request on trial is tried elsewhere.
    func retry(_ reason: String) {
        guard let route = self.client?.route, self.mayRetry(route) else { return }
        self.trialFailed(nil)
        self.end(reason)
    }

    // MARK: What comes ahead of a request

    /// A replica has failed with what comes ahead of its client's request: the request, of which nothing has run, goes
    /// elsewhere. The connection is reset, for its own state may have been in the way. False if the request has to stay.
    func sendAway(_ error: ErrorFields, isSettings: Bool) -> Bool {
        guard self.canSendAway, let client = self.client else { return false }
        if isSettings, let wanted = client.parameters {
            self.pool.settingsRefused(wanted, ServerError(message: error.message, sqlState: error.sqlState))
        }
        if self.isOnTrial {
            self.trialFailed(error, isUnready: true)
            if !self.requests.isEmpty { self.cancelRunning() }
        } else {
            self.sendAway()
            self.state = .preparing
            self.armPreparing()
        }
        if self.parameters === self.defaults && !self.areExtrasUncertain { return true }
        // DISCARD ALL takes what connect_query has made as well.
        if self.pool.settings.serverResetQuery.isEmpty || self.pool.database.connectQuery?.isEmpty == false {
            self.end("could not be made ready for a client")
        } else {
            self.mustReset = true
        }
        return true
    }

    /// The same when the connection ends with that.
    func sendAwayAhead(_ error: ErrorFields) -> Bool {
        guard self.ownQueries.first?.comesAhead ?? false, self.sendAway(error, isSettings: false) else { return false }
        self.end("server closed the connection: \(error.message)")
        return true
    }

    /// The connection is lost, or closes: a request that waits for it to be ready goes elsewhere.
    func sendAway() {
        guard !self.isOnTrial, self.canSendAway, let client = self.client else { return }
        let isCancelled = self.hasCancelToCome
        self.detachClient()
        client.chooseAgain(but: self.pool.load?.node, isCancelled: isCancelled)
    }

    private var canSendAway: Bool {
        guard let client = self.client, client.login == nil, client.route?.isOnReplica ?? false, self.pool.load != nil
        else { return false }
        return self.isOnTrial || client.isAwaitingSettings
    }

    /// The client goes on elsewhere; what it has begun here is rolled back.
    func leaveClient() {
        guard let client = self.client, self.state == .linked else { return }
        self.detachClient()
        client.server = nil
        self.state = .preparing
        let isUnsynced = self.requests.isUnsynced
        guard isUnsynced || self.transaction != .idle else { return self.settle() }
        self.armPreparing()
        if isUnsynced {
            self.requests.append(.sync, .own)
            self.send(MessageWriter.bytes { $0.sync() })
        }
        // Nothing but reads has run here: the transaction is all that is left.
        if self.transaction != .idle { self.run(.rollback, "ROLLBACK") }
    }

    /// A write was refused. If its client has not asked for that, the server may have become a replica.
    func refusedAsReadOnly() {
        guard let client = self.client, let route = client.route, let load = self.pool.load, !route.isOnReplica,
            !route.isReadOnly, !(client.parameters?.isReadOnlyByDefault ?? false)
        else { return }
        route.router.cluster.suspect(load.node)
    }

    /// Begins a transaction that the client believes to have begun long ago.
    ///
    /// - Parameter hasSnapshot: it has run a query elsewhere, behind which its modes cannot be changed any more.
    func begin(_ modes: TransactionModes, hasSnapshot: Bool) {
        self.run(.begin, hasSnapshot ? modes.begin + "; SELECT" : modes.begin)
    }

    /// Such a BEGIN is under way.
    var isBeginning: Bool { self.ownQueries.contains { if case .begin = $0 { true } else { false } } }

    /// A replica has refused what nobody can carry out elsewhere any more: the next one like it goes to the primary.
    func learnRefusal(_ fields: ErrorFields) {
        guard !self.keptRequest.isEmpty, let client = self.client, let route = client.route, route.isOnReplica,
            route.router.settings.rerunsRefused, case .statement? = Refusal(fields.sqlState)
        else { return }
        let request = self.keptRequest
        client.learn(fields, from: request.span, unanswered: self.requests.executesToSync, route)
    }
}

/// Why a replica has not carried out a statement, by its SQLSTATE.
enum Refusal {
    /// It cannot, and never will: read_only_sql_transaction, feature_not_supported, object_not_in_prerequisite_state.
    case statement
    /// It could not this time: a shutdown, a terminated backend.
    case passing
    /// It had to replay what the read stood in the way of. The next replica may be about to: then the primary is asked.
    case conflict

    init?(_ sqlState: String) {
        switch sqlState {
        case "25006", "0A000", "55000": self = .statement
        case "40001", "40P01": self = .conflict
        case "57P01", "57P02", "57P03", "57P04": self = .passing
        default: return nil
        }
    }
}

extension ClientSession {
    /// The function that reports "cached plan must not change result type", in whatever language.
    private static let outdatedPlan = "RevalidateCachedQuery"

    /// The function that finds a session SERIALIZABLE by default; who asks for it by words is refused by another one.
    private static let snapshot = "GetSerializableTransactionSnapshot"

    /// Takes note of why a replica has refused a statement.
    ///
    /// - Parameter unanswered: how many Executes of the request had not been answered then.
    func learn(_ error: ErrorFields, from request: Span<UInt8>, unanswered: Int, _ route: ClientRoute) {
        let routine = error.text(UInt8(ascii: "R"))
        if error.sqlState == SQLState.featureNotSupported && routine == Self.snapshot {
            route.isSerializable = true
        } else if routine == Self.outdatedPlan {
            // A table has changed, and the statement is the read that it was.
        } else if let text = RequestSummary.refusedText(request, unanswered: unanswered, self, route.router) {
            route.router.refused(text, self, reason: "a replica has refused it: \(error.message)")
        }
    }

    /// Why a request is carried out a second time.
    enum Repetition {
        /// A replica has failed with it, with an error or without a word.
        case replica(NodeLoad?, ErrorFields?)
        /// A replica's connection could not be made ready for it.
        case unready(Node?)
        /// Its statement was prepared before something was changed.
        case outdated(ErrorFields)
    }

    /// The connection that was chosen is none for the request, which has not been sent.
    ///
    /// - Parameter isCancelled: a cancel of it has come, and has not hit anything.
    func chooseAgain(but node: Node?, isCancelled: Bool) {
        self.server = nil
        self.isAwaitingSettings = false
        if let route = self.route {
            route.unchoose()
            if let node { route.avoided.append(node) }
        }
        self.goElsewhere(isCancelled: isCancelled)
    }

    /// What is here is looked at again; not from within the callback of the server that has failed.
    private func goElsewhere(isCancelled: Bool) {
        self.isGoingElsewhere = true
        self.worker.loop.later { [self] in
            guard !self.isClosed, self.isGoingElsewhere else { return }
            self.isGoingElsewhere = false
            // What came behind the request may have waited for its answer.
            self.isAwaitingReplies = false
            if isCancelled { self.cancelHeldRequest() } else { self.proceed() }
            if !self.isAwaitingReplies { self.readOn() }
        }
    }

    /// A request whose answer has not begun, and that a server could not carry out.
    ///
    /// - Parameter isCancelled: a cancel of it has come, and has not hit anything.
    func repeatRequest(_ request: [UInt8], because reason: Repetition, isCancelled: Bool) {
        self.server = nil
        if let route = self.route { self.routeAgain(request, route, because: reason) }
        if case .outdated(let error) = reason {
            self.worker.log(
                .debug, self.prefix, "statement is outdated (\(error.sqlState) \(error.message)): prepared anew")
        }
        // What has not been taken of it yet stands in front of what comes next.
        let untaken = request.count - min(max(-self.keptStart, 0), request.count)
        let again = min(untaken, self.replay.count)
        self.replay.removeFirst(again)
        self.repeatedInput = untaken - again
        self.replay.insert(contentsOf: request, at: 0)
        self.goElsewhere(isCancelled: isCancelled)
    }

    private func routeAgain(_ request: [UInt8], _ route: ClientRoute, because reason: Repetition) {
        route.endBatch()
        route.closeBatch()
        route.unchoose()
        route.scan = nil
        route.transaction = route.transactionBeforeTrial
        if case .unready(let node?) = reason { route.avoided.append(node) }
        guard case .replica(let load, let error) = reason else { return }
        route.retries += 1
        switch error.flatMap({ Refusal($0.sqlState) }) {
        case .statement:
            route.isPrimaryForced = true
            route.router.counters.reruns &+= 1
            // The answer had not begun: it was the first statement, but for a BEGIN.
            if let error { self.learn(error, from: request.span, unanswered: .max, route) }
        case .passing, .conflict, nil:
            if let load { route.avoided.append(load.node) }
            route.router.counters.retries &+= 1
            if route.retries > 1 { route.isPrimaryForced = true }
        }
        let kind = error == nil ? "lost" : "failed (\(error?.sqlState ?? "") \(error?.message ?? ""))"
        self.worker.log(.debug, self.prefix, "request \(kind) on replica \(load?.node.description ?? ""): tried again")
    }
}

extension RequestSummary {
    /// The text of a request's statement that was taken for a read and has failed.
    ///
    /// - Parameter unanswered: how many Executes had not been answered then; of more than there are the first one has failed.
    static func refusedText(
        _ request: Span<UInt8>, unanswered: Int, _ client: ClientSession, _ router: Router
    ) -> [UInt8]? {
        var texts: [(name: [UInt8], text: [UInt8])] = []
        // The unnamed statement of before, unless the request makes another one.
        let unnamed = Self.parsesUnnamed(request) ? [] : Array(client.unnamedParse.prefix { $0 != 0 })
        var bound: [(portal: [UInt8], text: [UInt8])] = []
        var executed: [[UInt8]] = []
        var cursor = 0
        while let header = MessageFramer.header(request, at: cursor), cursor + header.length < request.count {
            let message = request.extracting(cursor..<(cursor + header.length + 1))
            switch header.type {
            case Frontend.query: if let text = QueryMessage.text(message) { executed.append(message.copy(text)) }
            case Frontend.parse:
                guard let parse = ParseMessage(message) else { return nil }
                texts.append((message.copy(parse.statement), message.copy(parse.query)))
            case Frontend.bind:
                guard case .prefix(let prefix) = BindPrefix.parse(message) else { return nil }
                let name = message.extracting(prefix.statement)
                let text =
                    texts.last { $0.name.span.equals(name) }?.text
                    ?? client.statements.find(name)?.statement.textBytes ?? unnamed
                bound.append((message.copy(prefix.portal), text))
            case Frontend.execute:
                guard let execute = ExecuteMessage(message) else { return nil }
                let portal = message.extracting(execute.portal)
                executed.append(bound.last { $0.portal.span.equals(portal) }?.text ?? [])
            default: break
            }
            cursor += header.length + 1
        }
        return executed.dropFirst(max(executed.count - unanswered, 0)).first {
            router.isTakenForRead($0, client)
        }
    }

    private static func parsesUnnamed(_ request: Span<UInt8>) -> Bool {
        var cursor = 0
        while let header = MessageFramer.header(request, at: cursor), cursor + header.length < request.count {
            if header.type == Frontend.parse, cursor + MessageFramer.headerLength < request.count,
                request[cursor + MessageFramer.headerLength] == 0
            {
                return true
            }
            cursor += header.length + 1
        }
        return false
    }
}
