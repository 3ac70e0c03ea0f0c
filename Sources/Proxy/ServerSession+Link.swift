import DequeModule
import Logging
import Pooling
import Reactor
import Routing
import Sessions
import Settings
import Wire

// How a connection becomes a client's and is given back: the client's settings first, then its requests, then whatever
// has to be put in order before the next one.
extension ServerSession {
    /// Becomes this client's.
    func link(_ client: ClientSession) {
        self.state = .linked
        self.client = client
        self.pool.load?.inFlight += 1
        self.hasBeenUsed = true
        self.setDeadline(.max)
        client.linked(self)
        if self.isDedicated { return }
        if self.mustForgetStatements { self.forgetStatements() }
        self.isParsingUncertain = false
        self.mayMakeRelation = false
        self.meaning = .settled
        if !client.hasSettings(of: self) || self.areExtrasUncertain { self.adjustSettings(to: client) }
    }

    /// Is nobody's any more.
    func detachClient() {
        guard self.client != nil else { return }
        self.client = nil
        self.restoring = .nothing
        self.insistence = nil
        self.cancelsWhenSet = false
        if self.resetting != nil { self.resetting = nil }
        if case .passed(let type) = self.pieces { self.pieces = .dropped(type) }
        // It may have been kept from being read for the client's sake.
        if self.isReadingPaused { self.resumeReading() }
        self.endTrial()
        self.pool.load?.inFlight -= 1
    }

    /// Asks the server for the client's settings, ahead of the client's requests.
    func adjustSettings(to client: ClientSession) {
        client.follow(self)
        guard let wanted = client.parameters else { return }
        if self.areExtrasUncertain {
            // Only what the server reports is known; the rest is set back, or set again.
            let noted = self.parameters
            let extras = noted.parameters.filter { !$0.isReported }
            self.parameters = self.worker.parameters.withoutExtras(noted)
            let resets = extras.filter { wanted[$0.key] == nil }.map { ParameterChange.reset($0.name) }
            let changes = self.changes(for: client, wanted) + resets
            // Until the server has answered nothing is certain.
            if changes.isEmpty { self.areExtrasUncertain = false } else { self.parameters = noted }
            return self.set(changes, for: client)
        }
        self.set(self.changes(for: client, wanted), for: client)
    }

    func set(_ changes: [ParameterChange], for client: ClientSession) {
        guard !changes.isEmpty, let wanted = client.parameters else { return }
        client.settingsPending()
        self.run(.settings(changes), ParameterChange.statement(changes, client: wanted))
    }

    /// Sends one of the proxy's own queries.
    func run(_ own: OwnQuery, _ text: String) {
        self.ownQueries.append(own)
        self.requests.append(.query, .own)
        self.unnamedStatement = 0
        self.send(MessageWriter.bytes { $0.query(text) })
    }

    /// The client's side of the pair has nothing more to say for now: releases the connection if nothing is owed.
    func releaseIfFree() {
        guard self.isGivenBack, self.isAtBorder, let client = self.client else { return }
        client.unlinked()
        self.detachClient()
        self.settle()
    }

    /// Whether its client keeps the connection no longer than to the end of the messages that are under way.
    @inline(__always)
    var isGivenBack: Bool {
        guard self.state == .linked, self.transaction == .idle, self.requests.isQuiet, let client = self.client else {
            return false
        }
        return !client.isInMessage && self.pool.mode != .session && !self.isDedicated
    }

    /// The client's login has shown that its settings hold, and nothing else was asked for.
    func releaseAfterLogin(of client: ClientSession) {
        client.unlinked()
        self.detachClient()
        self.settle()
    }

    /// Without a client and without obligations: cleans up, waits for cancels, and goes back to the pool.
    func settle() {
        self.state = .preparing
        if let lastWords { return self.end("server closed the connection: \(lastWords.message)") }
        // Replies may come that nobody can be given.
        if self.requests.isUncertain { return self.end("unclear state after a failed COPY") }
        if self.cancels > 0 { return self.armPreparing() }
        if self.mustForgetStatements {
            self.armPreparing()
            return self.forgetStatements()
        }
        if self.mustReset || (self.pool.rules.resetsAlways && self.hasBeenUsed) {
            self.mustReset = false
            self.hasBeenUsed = false
            let query = self.pool.settings.serverResetQuery
            if !query.isEmpty {
                self.armPreparing()
                // Whatever it is that the query resets; DISCARD ALL is known to leave nothing.
                self.areExtrasUncertain = true
                return self.run(.reset, query)
            }
        }
        if let reason = self.retireReason { return self.end(reason) }
        if self.isExpired { return self.end("server lifetime over") }
        if self.isDedicated { return self.end("replication client was closed") }
        self.setDeadline(.max)
        self.pool.give(self)
    }

    /// The proxy's own queries may not take for ever.
    func armPreparing() { self.setDeadline(self.now + self.preparingTime) }
    var preparingTime: MonotonicTime { max(self.pool.settings.cancelWaitTimeout, 1_000_000) }

    /// The client is gone. `isOrderly`: it said so behind its last request, which it wants carried out.
    func clientLeft(isOrderly: Bool) {
        guard let client = self.client else { return }
        let isInMessage = client.isInMessage
        self.detachClient()
        guard self.state == .linked else { return }
        self.state = .preparing
        if self.isDedicated { return self.end("replication client was closed") }
        if self.pool.mode == .session { self.mustReset = true }
        let isOwnBusiness = self.requests.head.map { $0.disposition == .own } ?? true
        if self.requests.isQuiet && !isInMessage { return self.tidy() }
        if !isInMessage && !self.requests.isUnsynced && !self.requests.isCopyingIn
            && (isOrderly || (isOwnBusiness && self.requests.count == 1))
        {
            // What it asked for is finished first, however long it takes; the replies go nowhere.
            let timeout = client.group.timeouts.query
            return self.setDeadline(timeout > 0 ? self.now + timeout : .max)
        }
        // Something runs for nobody, or a message was cut off in the middle.
        self.cancelRunning()
        self.end("client disconnect while server was not ready")
    }

    /// No client, nothing outstanding. A client that has left in the middle of a transaction may have left more than
    /// the transaction: session-level locks, settings and objects outlive ROLLBACK. The next client gets none of it.
    func tidy() {
        if self.heldInput > 0 {
            // The beginning of a message is here, and nobody comes before its end.
            self.due = .ready
            return self.armPreparing()
        }
        if self.transaction == .idle { return self.settle() }
        // DISCARD ALL takes what connect_query has made as well.
        if self.pool.database.connectQuery?.isEmpty == false {
            return self.end("client disconnect in the middle of a transaction")
        }
        self.armPreparing()
        self.run(.rollback, "ROLLBACK")
        self.run(.reset, "DISCARD ALL")
    }

    /// No message of the server's is under way.
    private var isAtBorder: Bool { self.framer.remaining == 0 && self.heldInput == 0 }

    /// Nothing is owed, and no message is under way: what is said to the client here and now stands between two messages.
    var isQuiet: Bool { self.requests.isQuiet && self.isAtBorder }

    /// All that was asked for has been answered to the last byte. A batch may be without its Sync yet.
    var hasAnswered: Bool { self.requests.isEmpty && self.framer.remaining == 0 && !self.isOnTrial }

    /// What is sent now has a transaction of its own, unless it begins one.
    var runsAlone: Bool { self.transaction == .idle && self.requests.isQuiet }

    /// Nothing is owed but what the server says to its client's settings.
    var owesSettingsOnly: Bool {
        self.requests.count == self.ownQueries.count
            && self.ownQueries.allSatisfy { if case .settings = $0 { true } else { false } }
    }

    /// ReadyForQuery has come.
    func ready() {
        switch self.state {
        case .linked:
            if let login = self.client?.login { return login.settingsHold(on: self) }
            if self.lastWords != nil { return self.readyAtLast() }
            self.client?.repliesCame()
            self.releaseIfFree()
        case .preparing: if self.requests.isQuiet { self.tidy() }
        case .login, .idle, .leaving, .closed: return
        }
    }

    /// The same of a server that says nothing more: it is released before its client goes on.
    private func readyAtLast() {
        let client = self.client
        self.releaseIfFree()
        client?.repliesCame()
        self.releaseIfFree()
    }

    /// Nobody's, and nothing is owed: what the server says now, it says unasked.
    var isFree: Bool { self.state == .idle || self.state == .leaving }

    /// An own query has ended.
    ///
    /// Returns whether the connection has to be looked after: not if its pool has got it.
    func ownQueryEnded() -> Bool {
        guard let own = self.ownQueries.popFirst() else { return true }
        let error = self.ownError
        self.ownError = nil
        if case .settings(let changes) = own {
            self.settingsEnded(changes, error)
            return true
        }
        if case .restore(let session, let local, let tries) = own {
            self.restored(session, local, tries: tries, error)
            return true
        }
        if case .begin = own {
            if let error {
                if self.sendAway(error, isSettings: false) { return true }
                self.client?.fail(ServerError(message: error.message, sqlState: error.sqlState))
            }
            self.cancelDelayed()
            return self.client != nil
        }
        if case .abort = own { self.cancelDelayed() }
        if case .proof = own {
            if error?.sqlState == SQLState.divisionByZero {
                self.reject("another server than the one that is watched there, or it has lost what it had replayed")
                return false
            }
            self.runConnectQuery()
            return false
        }
        if case .connectQuery = own {
            if let error { self.worker.log(.warning, self.prefix, "connect_query failed: \(error.message)") }
            if self.state == .preparing && self.client == nil { self.due = .loggedIn }
            return false
        }
        if let error, own.comesAhead, self.sendAway(error, isSettings: false) { return true }
        if let error, let reason = own.failure {
            self.worker.log(.warning, self.prefix, "\(reason): \(error.message)")
            self.end(reason)
            return false
        }
        return true
    }

    func settingsEnded(_ changes: [ParameterChange], _ error: ErrorFields?) {
        let table = self.worker.parameters
        guard let client = self.client else {
            self.cancelsWhenSet = false
            // It has left meanwhile. All changes hold, or none.
            if error == nil {
                self.areExtrasUncertain = false
                self.parameters = table.applied(changes, client: self.parameters, server: self.parameters).server
                self.noteResets(changes)
            }
            return
        }
        if let error {
            if !self.sendAway(error, isSettings: true) {
                self.cancelsWhenSet = false
                client.settingsFailed(error)
            }
            return
        }
        let (ours, theirs) = table.applied(
            changes, client: client.parameters ?? self.parameters, server: self.parameters)
        self.areExtrasUncertain = false
        self.parameters = theirs
        self.noteResets(changes)
        client.settingsApplied(ours)
        // What waited for the settings runs now.
        if self.client === client { self.cancelDelayed() }
    }

    // MARK: Cancel

    /// The linked client wants what it runs to be cancelled.
    func cancelRequested() {
        if let own = self.ownQueries.first, own.comesFirst, self.requests.head?.disposition == .own {
            self.cancelsWhenSet = true
        } else if !self.requests.isEmpty {
            self.cancelRunning()
        }
    }

    /// A cancel of its client's has not ended the request that it is about: it goes with that request to another server.
    var hasCancelToCome: Bool { self.cancelsWhenSet || self.insistence != nil || self.cancels > 0 }

    /// What came ahead of the client's requests is over: a cancel that has come meanwhile is about what runs now.
    private func cancelDelayed() {
        guard self.cancelsWhenSet else { return }
        self.cancelsWhenSet = false
        guard self.client != nil else { return }
        self.cancelRequested()
        if !self.requests.isEmpty { self.insistOnCancel(of: self.requests.finished + 1, tries: Self.mostCancels) }
    }

    /// A server that is between two requests takes no notice of a cancel, and which of them it is at nobody knows: it is asked
    /// again as long as the request has not ended.
    private func insistOnCancel(of request: UInt64, tries: Int) {
        self.insistence = tries > 0 ? (request, tries) : nil
        self.setDeadline(tries > 0 ? self.now + Self.cancelPause : .max)
    }

    private static let mostCancels = 20
    private static let cancelPause: MonotonicTime = 50_000

    /// The time to ask again has come.
    func insistOnCancel() {
        guard let (request, tries) = self.insistence else { return }
        guard !self.requests.isEmpty, self.requests.finished + 1 == request else { return self.insistence = nil }
        self.cancelRunning()
        self.insistOnCancel(of: request, tries: tries - 1)
    }

    /// Asks the server to cancel what runs for the linked client.
    func cancelRunning() {
        guard !self.backendKey.isEmpty, self.state == .linked || self.state == .preparing else { return }
        self.cancels += 1
        let started = CancelConnection.start(
            worker: self.worker, address: self.address, key: self.backendKey, server: self)
        if !started { self.cancels -= 1 }
    }

    /// A cancel request has been delivered or given up.
    func cancelEnded() {
        self.cancels -= 1
        if self.state == .preparing && self.cancels == 0 && self.requests.isQuiet && self.client == nil { self.tidy() }
    }
}
