import DequeModule
import Logging
import Pooling
import Reactor
import SQL
import Settings
import Wire

// From the server to the client: each message belongs to the oldest outstanding request, whose disposition says what
// becomes of it. Runs of messages that go to the client are passed on as one range.
//
// A message that arrives in pieces has its lot decided when it begins, and keeps it to its last byte (`pieces`). It
// answers its request when it ends: until then the request is outstanding, so nothing else gets in between.
extension ServerSession {
    /// Messages that end a request, change state, or are the server's own; all others share the fate of the request
    /// they belong to, unseen.
    private static let looked: MessageTypeSet = [
        UInt8(ascii: "1"), UInt8(ascii: "2"), UInt8(ascii: "3"), UInt8(ascii: "C"), UInt8(ascii: "E"),
        UInt8(ascii: "G"),
        UInt8(ascii: "I"), UInt8(ascii: "K"), UInt8(ascii: "R"), UInt8(ascii: "S"), UInt8(ascii: "T"),
        UInt8(ascii: "Z"),
        UInt8(ascii: "n"), UInt8(ascii: "s"), UInt8(ascii: "t"),
    ]

    /// Of those, the ones whose content is read. A longer one than this passes unread.
    private static let read: MessageTypeSet = [
        UInt8(ascii: "C"), UInt8(ascii: "E"), UInt8(ascii: "S"), UInt8(ascii: "T"), UInt8(ascii: "Z"),
        UInt8(ascii: "t"),
    ]
    private static let readLimit = 256 * 1024

    func relay(_ bytes: Span<UInt8>) -> Int {
        let looked = Self.looked
        let read = Self.read
        var cursor = 0
        // What from here to the cursor goes to the client.
        var run = 0
        while cursor < bytes.count {
            if self.isOnTrial && self.framer.remaining == 0 && self.requests.head?.disposition != .own {
                switch self.sight(bytes, from: cursor) {
                case .good: self.trialPassed()
                case .failed(let error):
                    self.pass(bytes, run..<cursor)
                    run = cursor
                    self.trialFailed(error)
                case .undecided(let needed):
                    self.pass(bytes, run..<cursor)
                    self.holdLimit = max(needed, 512)
                    if self.isDescribing { self.describedOnTrial(bytes, from: cursor) }
                    return cursor
                }
            }
            let passes = self.passes
            if self.framer.remaining == 0 {
                let skipped = self.framer.skip(bytes, at: cursor, until: looked)
                if skipped > cursor && self.isUnasked && !self.isHarmless(bytes, from: cursor, to: skipped) {
                    self.endDirty()
                    return bytes.count
                }
                if !passes {
                    self.pass(bytes, run..<cursor)
                    run = skipped
                }
                cursor = skipped
            }
            switch self.framer.next(bytes, at: cursor, gather: read, gatherLimit: Self.readLimit) {
            case .message(let type, let range):
                if looked.contains(type) {
                    self.message(type, bytes, range, &run)
                    if self.state == .closed { return bytes.count }
                } else if !passes {
                    run = range.upperBound
                }
                cursor = range.upperBound
            case .start(let type, _, let range):
                // Too long to be looked at whole, or nothing to look at.
                guard self.begins(type) else { return bytes.count }
                if !self.pieces.isPassed {
                    self.pass(bytes, run..<cursor)
                    run = range.upperBound
                }
                cursor = range.upperBound
            case .middle(let range, let last):
                if !self.pieces.isPassed {
                    self.pass(bytes, run..<cursor)
                    run = range.upperBound
                }
                cursor = range.upperBound
                if last { self.ended(bytes, &run, cursor) }
            case .incomplete(let needed):
                self.pass(bytes, run..<cursor)
                self.holdLimit = max(needed, 512)
                self.checkCongestion()
                self.readEnded(atBorder: false)
                return cursor
            case .end: break
            case .invalid:
                self.end("bad packet from server")
                return bytes.count
            }
        }
        self.pass(bytes, run..<cursor)
        self.checkCongestion()
        self.readEnded(atBorder: self.framer.remaining == 0)
        return cursor
    }

    /// All that has come was looked at. At the end of a message the connection may change hands; in its middle the rest
    /// belongs to nobody who comes now. That rest may keep us waiting for what the client has to say first: a server sends
    /// what fills its buffer, and the end of it with the answer to a Sync or Flush.
    private func readEnded(atBorder isBorder: Bool) {
        switch self.due {
        case .ready where isBorder:
            self.due = .nothing
            self.ready()
        case .loggedIn where isBorder:
            self.due = .nothing
            self.pool.loginSucceeded(self)
        case .nothing, .ready, .loggedIn:
            self.client?.repliesCame()
            if self.requests.isUnsynced && self.requests.isEmpty { self.client?.batchPauses() }
        }
    }

    /// Whether messages that complete nothing go to the client now.
    private var passes: Bool {
        guard self.client != nil else { return false }
        guard let head = self.requests.head else { return true }
        switch head.disposition {
        case .forward, .substitute, .answer: return true
        case .swallow, .own: return false
        }
    }

    private func pass(_ bytes: Span<UInt8>, _ range: Range<Int>) {
        guard !range.isEmpty, let client = self.client else { return }
        client.send(bytes.extracting(range))
        client.group.statistics.counters.sent &+= UInt64(range.count)
    }

    /// A client that does not read its results keeps this side from being read.
    private func checkCongestion() {
        if self.client?.isCongested ?? false { self.pauseReading() }
        if self.client?.isThrottled ?? false { self.client?.readOn() }
    }

    /// No request waits for what the server says now. Behind a failed COPY that is not known for sure.
    private var isUnasked: Bool { self.requests.isEmpty && !self.requests.isUncertain }

    /// The server has said something that nobody has asked for: what else it is about to say, nobody can tell.
    private func endDirty() {
        self.end(self.client == nil ? "idle server got dirty" : "unexpected message from server")
    }

    /// Unasked for, a server may send notices and notifications only.
    private func isHarmless(_ bytes: Span<UInt8>, from: Int, to: Int) -> Bool {
        var cursor = from
        var framer = MessageFramer(maximumLength: Int(Int32.max))
        while cursor < to {
            guard case .message(let type, let range) = framer.next(bytes, at: cursor, gather: []) else { return false }
            guard type == Backend.noticeResponse || type == Backend.notificationResponse else { return false }
            cursor = range.upperBound
        }
        return true
    }

    /// A message that was looked for. `run` is moved behind it when it does not go to the client.
    private func message(_ type: UInt8, _ bytes: Span<UInt8>, _ range: Range<Int>, _ run: inout Int) {
        switch type {
        case Backend.parameterStatus: return self.parameterStatus(bytes, range, &run)
        case Backend.errorResponse: return self.errorResponse(bytes, range, &run)
        case Backend.authentication, Backend.backendKeyData: return self.end("unknown pkt from server")
        case Backend.commandComplete: self.noteCommand(bytes.extracting(range))
        // The first half of the answer to a Describe of a statement.
        case Backend.parameterDescription: self.description.parameters(bytes.extracting(range))
        default: break
        }
        self.lastLooked = type
        let reply = self.requests.reply(type)
        if reply.completed == .describe {
            if reply.succeeded {
                self.noteDescription(type, bytes.extracting(range))
            } else if !self.description.isEmpty {
                self.description = StatementDescription()
            }
        }
        if reply.isUnsolicited && !self.requests.isUncertain { return self.endDirty() }
        if type == Backend.readyForQuery {
            guard let status = TransactionStatus(readyForQuery: bytes.extracting(range)) else {
                return self.end("bad packet from server")
            }
            self.transaction = status
            if let since = self.catalogueOfItsOwn, status == .idle { self.catalogueHolds(since: since) }
        }
        self.settle(reply, bytes, range, &run)
        if type == Backend.readyForQuery { self.readyForQuery(reply, bytes, range, &run) }
    }

    // MARK: Messages in pieces

    /// A message begins whose rest is still to come: decides what becomes of it, by its type alone. False if the
    /// connection has to be closed.
    private func begins(_ type: UInt8) -> Bool {
        switch type {
        case Backend.parameterStatus, Backend.readyForQuery, Backend.authentication, Backend.backendKeyData:
            self.end("bad packet from server")
            return false
        case Backend.noticeResponse, Backend.notificationResponse, Backend.errorResponse: break
        default:
            if self.isUnasked {
                self.endDirty()
                return false
            }
        }
        // The failure of a Parse that was sent ahead is the failure of the client's Bind.
        let isPassed =
            switch self.requests.head?.disposition {
            case nil, .forward?, .answer?: true
            case .swallow?: type == Backend.errorResponse
            case .substitute?: type != Backend.errorResponse
            case .own?: false
            }
        self.pieces = isPassed && self.client != nil ? .passed(type) : .dropped(type)
        return true
    }

    /// The last byte of a message in pieces has come: what its type alone says is said now.
    private func ended(_ bytes: Span<UInt8>, _ run: inout Int, _ cursor: Int) {
        let type = self.pieces.type
        self.pieces = .none
        if Self.looked.contains(type) {
            self.lastLooked = type
            self.answered(type)
        }
        guard self.requests.head?.disposition == .answer else { return }
        self.pass(bytes, run..<cursor)
        run = cursor
        self.answerHere()
    }

    private func answered(_ type: UInt8) {
        if self.requests.isEmpty && self.isFree { return self.endDirty() }
        let finished = self.requests.finished
        let reply = self.requests.reply(type)
        if type == Backend.parameterDescription || reply.completed == .describe && reply.succeeded {
            self.description.unreadable(type)
        }
        if type == Backend.errorResponse {
            switch reply.disposition {
            case .own: self.ownError = Self.unreadError
            case .substitute: self.sendSubstitute()
            case .forward, .swallow, .answer: break
            }
            if reply.disposition != .own { self.client?.route?.rest?.hasFailed = true }
            if reply.completed != nil { self.requestsFailed(after: finished) }
        }
        self.undo(reply.failedEffects)
        if reply.succeeded { self.effectHolds() }
    }

    /// In the place of an ErrorResponse that is too long to be read.
    private static let unreadError = ErrorFields(
        MessageWriter.bytes {
            $0.errorResponse(
                severity: "ERROR", sqlState: SQLState.programLimitExceeded, message: "the server's error is too long")
        }.span)

    private func isPassed(_ reply: OutstandingRequests.Reply) -> Bool {
        guard self.client != nil else { return false }
        switch reply.disposition {
        case .forward, .answer: return true
        case .swallow, .own, .substitute: return false
        }
    }

    /// Passes a reply on or not, keeps the books of what it completes, and answers what is to be answered behind it.
    private func settle(
        _ reply: OutstandingRequests.Reply, _ bytes: Span<UInt8>, _ range: Range<Int>, _ run: inout Int
    ) {
        if !self.isPassed(reply) {
            self.pass(bytes, run..<range.lowerBound)
            run = range.upperBound
        }
        if reply.succeeded { self.effectHolds() }
        guard reply.completed != nil, self.requests.head?.disposition == .answer else { return }
        self.pass(bytes, run..<range.upperBound)
        run = range.upperBound
        self.answerHere()
    }

    /// Sends the answers whose turn has come.
    func answerHere() {
        while let answer = self.requests.takeAnswer() {
            let effect = answer.hasEffect ? self.effects.popFirst() : nil
            guard let client = self.client else { continue }
            if case .reply(let bytes) = effect {
                client.send(bytes)
                continue
            }
            client.send(answer.kind == .parse ? Self.parseComplete : Self.closeComplete)
        }
    }

    static let parseComplete = MessageWriter.bytes { $0.parseComplete() }
    static let closeComplete = MessageWriter.bytes { $0.closeComplete() }

    private func readyForQuery(
        _ reply: OutstandingRequests.Reply, _ bytes: Span<UInt8>, _ range: Range<Int>, _ run: inout Int
    ) {
        if reply.disposition == .own {
            if reply.completed == .sync || self.ownQueryEnded() && self.state == .preparing { self.due = .ready }
            return
        }
        if let client = self.client {
            if !client.unsettledStatements.isEmpty { client.settleStatements() }
            var end = range.upperBound
            if let route = client.route {
                client.routedRequestEnded(self.transaction, self, route)
                if let rest = route.rest, !client.partEnded(rest, route) { end = range.lowerBound }
            }
            if self.resetting != nil, self.restores(client, for: end == range.upperBound ? .ready : .rest) {
                end = range.lowerBound
            }
            self.pass(bytes, run..<end)
            run = range.upperBound
            client.queryEnded(self.transaction)
            if self.state == .closed { return }
        }
        self.due = .ready
    }

    // MARK: Errors

    private func errorResponse(_ bytes: Span<UInt8>, _ range: Range<Int>, _ run: inout Int) {
        let head = self.requests.head
        let message = bytes.extracting(range)
        let fields = ErrorFields(message)
        if fields.isFatal { self.lastWords = fields }
        if fields.sqlState == SQLState.readOnlyTransaction { self.refusedAsReadOnly() }
        if head?.disposition != .own {
            self.learnRefusal(fields)
            self.client?.route?.rest?.hasFailed = true
            if self.resetting != nil { self.resetting?.rollBack(self.client?.parameters) }
        }
        if let kind = head?.kind { self.noteStatementError(kind, fields) }
        if head == nil && self.isFree {
            return self.end(
                fields.isFatal ? "server closed the connection: \(fields.message)" : "idle server got dirty")
        }
        if head == nil && fields.isFatal && self.isGivenBack, case .ready = self.due {
            // Its client has got all that it has asked for. `settle` sees to the end.
            self.pass(bytes, run..<range.lowerBound)
            run = range.upperBound
            return
        }
        if fields.sqlState == SQLState.duplicatePreparedStatement || fields.sqlState == SQLState.invalidStatementName,
            fields.message.contains("martlet_"), head?.disposition != .substitute
        {
            // Somebody has used DEALLOCATE or PREPARE on our names.
            self.distrustStatements()
        }
        if !self.description.isEmpty { self.description = StatementDescription() }
        let finished = self.requests.finished
        let reply = self.requests.reply(Backend.errorResponse)
        switch reply.disposition {
        case .own:
            self.pass(bytes, run..<range.lowerBound)
            run = range.upperBound
            // A FATAL here is the session's end, and the client's business as well, unless its request goes elsewhere.
            if fields.isFatal && self.isReplicasFault(fields) {
                self.trialFailed(fields)
            } else if fields.isFatal, let client = self.client, !self.sendAwayAhead(fields) {
                client.send(message)
            }
            self.ownError = fields
        case .substitute:
            self.pass(bytes, run..<range.lowerBound)
            run = range.upperBound
            // A Parse under a name that is in use may have other errors as well.
            if head?.kind == .parse && fields.sqlState != SQLState.duplicatePreparedStatement {
                self.client?.send(message)
            } else {
                self.sendSubstitute()
            }
        case .forward, .swallow, .answer:
            // The failure of a Parse that was sent ahead is the failure of the client's Bind.
            if self.client == nil {
                run = range.upperBound
            } else if reply.disposition != .forward {
                self.pass(bytes, run..<range.lowerBound)
                run = range.lowerBound
            }
        }
        if reply.completed != nil { self.requestsFailed(after: finished) }
        self.undo(reply.failedEffects)
        if self.transaction == .idle && self.requests.count <= 1, let client = self.client, let route = client.route {
            client.routedRequestFailed(route)
        }
        if reply.disposition != .own { self.client?.route?.settings.noteError() }
        if let client = self.client, self.pool.rules.logsErrors {
            self.worker.log(.debug, client.prefix, "server error: \(fields.sqlState) \(fields.message)")
        }
    }

    /// The client gets our words in the place of the server's.
    private func sendSubstitute() {
        if case .error(let substitute)? = self.effects.first { self.client?.send(substitute) }
    }

    // MARK: Session state

    private func parameterStatus(_ bytes: Span<UInt8>, _ range: Range<Int>, _ run: inout Int) {
        guard let status = ParameterStatus(bytes.extracting(range)) else { return self.end("bad packet from server") }
        if self.pool.load != nil && Self.isNodesOwn(status.name) {
            self.pass(bytes, run..<range.lowerBound)
            run = range.upperBound
            return
        }
        guard self.follow(status) else { return }
        let isOwn = self.requests.head?.disposition == .own
        if let client = self.client, !isOwn {
            // The client's own doing, or a change for all (a reload of the server): both are its business.
            client.parameterChanged(status)
        } else {
            self.pass(bytes, run..<range.lowerBound)
            run = range.upperBound
        }
        if !self.defaults.parameters.isEmpty && self.isUnasked(status) { self.defaultReported(status) }
    }

    /// The third letters of the tags that `noteCommand` looks for.
    private static let notedTags: MessageTypeSet = [
        UInt8(ascii: "M"), UInt8(ascii: "V"), UInt8(ascii: "E"), UInt8(ascii: "S"), UInt8(ascii: "A"),
        UInt8(ascii: "T"), UInt8(ascii: "O"), UInt8(ascii: "P"), 0,
    ]

    /// Commands that change more than the server reports.
    private func noteCommand(_ message: Span<UInt8>) {
        // A cheap look at the tag before the exact one: results of SELECT, UPDATE, … end here.
        guard message.count > 7, Self.notedTags.contains(message[7]) || message[5] == UInt8(ascii: "C") else {
            if self.lastLooked != Backend.rowDescription { self.noteCommandWithoutRows(message) }
            return
        }
        switch (message[5], message[7]) {
        case (UInt8(ascii: "C"), UInt8(ascii: "M")) where CommandTag.equals(message, "COMMIT"):
            if let client = self.client, let route = client.route { client.routedCommit(route) }
            if self.resetting != nil { self.resetting?.commit() }
        case (UInt8(ascii: "S"), UInt8(ascii: "V")) where CommandTag.equals(message, "SAVEPOINT"):
            self.client?.route?.binding = .savepoint
        case (UInt8(ascii: "P"), UInt8(ascii: "E")) where CommandTag.equals(message, "PREPARE TRANSACTION"):
            if let client = self.client, let route = client.route { client.settingsCommitted(route) }
        case (UInt8(ascii: "D"), UInt8(ascii: "S")) where CommandTag.equals(message, "DISCARD ALL"):
            self.discarded(all: true)
            if self.requests.head?.disposition != .own { self.settingsCommandCompleted(message) }
        case (UInt8(ascii: "D"), UInt8(ascii: "A")) where CommandTag.equals(message, "DEALLOCATE ALL"):
            self.discarded(all: false)
        case (UInt8(ascii: "D"), UInt8(ascii: "A")) where CommandTag.equals(message, "DEALLOCATE"):
            if !self.deallocations.isEmpty { self.deallocated() }
        case (UInt8(ascii: "A"), UInt8(ascii: "T")), (UInt8(ascii: "C"), UInt8(ascii: "E")),
            (UInt8(ascii: "D"), UInt8(ascii: "O")), (UInt8(ascii: "I"), UInt8(ascii: "P")):
            // ALTER, CREATE, DROP, IMPORT FOREIGN SCHEMA.
            self.noteDefinition(message)
        case (UInt8(ascii: "D"), 0), (UInt8(ascii: "C"), UInt8(ascii: "L")):
            // DO, CALL: nobody knows what was done.
            self.isParsingUncertain = true
            self.mayHaveChangedCatalogue()
        case (UInt8(ascii: "S"), UInt8(ascii: "T")) where CommandTag.equals(message, "SET"),
            (UInt8(ascii: "R"), UInt8(ascii: "S")) where CommandTag.equals(message, "RESET"):
            // What the server reports is followed; whether something else was changed cannot be seen.
            if self.requests.head?.disposition != .own {
                self.settingsCommandCompleted(message)
                self.areExtrasUncertain = true
                // The commands of a client that has named statements were looked at.
                if self.client?.statements.isEmpty ?? true { self.isParsingUncertain = true }
            }
        default: break
        }
    }

    /// The same for the others, where no description of rows stands right before the tag.
    @inline(never)
    private func noteCommandWithoutRows(_ message: Span<UInt8>) {
        if CommandTag.equals(message, "ROLLBACK") {
            if self.resetting != nil { self.resetting?.rollBack(self.client?.parameters) }
        } else if CommandTag.begins(message, with: "SELECT "), self.mayBeDefinition {
            // CREATE TABLE AS, SELECT INTO, CREATE MATERIALIZED VIEW.
            self.noteDefinition(message)
        }
    }

    /// Whether what says SELECT, without a description of rows right before it, returns none. A portal may have been
    /// described long before, or never: what it is, its text says then.
    private var mayBeDefinition: Bool {
        guard self.requests.head?.kind == .execute else { return self.requests.head?.kind == .query }
        if self.lastLooked == Backend.noData || self.mayMakeRelation { return true }
        guard self.lastLooked != Backend.portalSuspended, let client = self.client else { return false }
        let tail = client.unnamedParse
        return SessionCommands.mayMakeRelation(tail.span.extracting(0..<client.unnamedTextLength))
    }

    /// DISCARD ALL or DEALLOCATE ALL: no statement is left, on the server and for the client that asked.
    private func discarded(all: Bool) {
        // The books were emptied when it was sent: what has come into them since was prepared behind it.
        if self.requests.head?.disposition == .own, case .deallocate? = self.ownQueries.first { return }
        self.statements.removeAll()
        self.unnamedStatement = 0
        if all {
            if self.requests.head?.disposition != .own { self.client?.resetRoute() }
            self.areExtrasUncertain = false
            self.parameters = self.worker.parameters.withoutExtras(self.parameters)
        }
        if self.requests.head?.disposition != .own, let client = self.client {
            client.statements.removeAll()
            if client.preparedResets != nil { client.preparedResets = nil }
        }
    }
}
