import Authentication
import DequeModule
import Logging
import Pooling
import Reactor
import Settings
import Wire

/// A connection to a PostgreSQL server.
///
///     login ──► idle ◄──► linked ──► preparing ──► idle
///                 │                    ▲   │
///                 └──── check ─────────┘   └──► (closed)
///
/// - login: connecting and authenticating (`ServerLogin`), then `connect_query`.
/// - idle: nobody's; in its pool's list.
/// - linked: a client's requests go to it and its replies to the client.
/// - preparing: the proxy's own queries run (server_check_query, ROLLBACK, server_reset_query), or a client that has
///   left is waited out, or a cancel request for it is on its way. Nobody's until that is over.
/// - leaving: free, and promised to another reactor at the end of this turn (`Pool.part`).
///
/// It is released by a client when ReadyForQuery says idle, no request is outstanding, and the client is not in the
/// middle of a message (`releaseIfFree`).
final class ServerSession: Connection {
    enum State { case login, idle, linked, preparing, leaving, closed }

    /// What the proxy asks for itself; each is one Query whose replies nobody sees.
    enum OwnQuery {
        case settings([ParameterChange])
        case connectQuery, check, rollback, reset, deallocate

        /// The reason for closing when it fails; nil if failing does not matter.
        var failure: String? {
            switch self {
            case .settings: nil
            case .connectQuery: "exec_on_connect query failed"
            case .check: "test query failed"
            case .rollback: "rollback failed"
            case .reset, .deallocate: "reset query failed"
            }
        }
    }

    /// What a request has changed in the proxy's books, kept until its reply tells whether it holds.
    enum Effect {
        /// A Parse that went to the server. `name` is the client's, nil for a Parse ahead of a Bind.
        case parse(PreparedStatement, name: [UInt8]?)
        /// A Parse answered here.
        case named([UInt8])
        /// A Close answered here.
        case closed([UInt8], PreparedStatement)
        /// A Close of a statement that made room for another: if the server never looks at it, it has one that is not
        /// in the books.
        case evicted
        /// A request that is bound to fail, and the ErrorResponse that the client gets.
        case error([UInt8])
    }

    let id: UInt64
    private(set) var pool: Pool
    var worker: Worker { self.pool.worker }
    let host: HostAddress
    let address: SocketAddress
    let createdAt: MonotonicTime
    let connectTime: Int64
    var poolIndex = -1

    private(set) var state = State.login
    var client: ClientSession?
    var framer: MessageFramer
    var requests = OutstandingRequests()
    var effects = Deque<Effect>()
    var ownQueries = Deque<OwnQuery>()
    /// The ErrorResponse to the own query under way.
    var ownError: ErrorFields?
    /// As of the last ReadyForQuery.
    var transaction = TransactionStatus.idle
    var parameters = ParameterSet.empty
    /// Settings that no server reports may differ from `parameters`: somebody used SET or RESET.
    var areExtrasUncertain = false
    var statements: ServerStatements
    /// Whose unnamed statement the server has: the number a client gave it; 0 when none or unknown.
    var unnamedStatement: UInt64 = 0
    /// After "cached plan must not change result type": prepare everything anew.
    var mustDeallocate = false
    /// The session's settings or objects were changed by a client that has gone (session mode).
    var mustReset = false
    var backendKey: [UInt8] = []
    var login: ServerLogin?
    /// A cancel request has come while the client's settings were being set: it is about what follows.
    private var cancelsWhenSet = false
    /// The pool's generation when this was begun; an older one is obsolete.
    var generation: UInt64 = 0
    /// Cancel requests on their way to this backend.
    private var cancels = 0
    /// Why the connection closes as soon as it is free.
    private(set) var retireReason: String?
    private(set) var idleSince: MonotonicTime = 0
    private var hasBeenUsed = false
    private var isChecked = true
    /// The server has said FATAL: what follows is the end.
    var lastWords: ErrorFields?
    /// The walsender connection of one client, which is told nothing else.
    private(set) var replication: Replication?
    var isDedicated: Bool { self.replication != nil }
    var requestTime: MonotonicTime = 0

    /// A connection that a replication client has for itself.
    struct Replication: Sendable {
        /// The startup packet's `replication`.
        let mode: String
        /// The client's `id`.
        let client: UInt64
        /// The client's settings; a walsender for physical replication understands no SET.
        let parameters: [StartupParameter]
    }

    init(
        pool: Pool, host: HostAddress, address: SocketAddress, replication: Replication?, socket: consuming Socket
    ) {
        let worker = pool.worker
        self.id = worker.shared.nextID()
        self.pool = pool
        self.host = host
        self.address = address
        self.replication = replication
        self.createdAt = worker.now
        self.connectTime = wallClockNow()
        self.framer = MessageFramer(maximumLength: worker.configuration.settings.general.maxPacketSize)
        self.statements = ServerStatements(limit: worker.configuration.settings.general.maxPreparedStatements)
        super.init(loop: worker.loop, connecting: socket)
    }

    var prefix: String {
        "S-0x\(String(self.id, radix: 16)): \(self.pool.shared.key.database)/\(self.pool.shared.key.user)@\(self.host.description)"
    }

    // MARK: Login

    func beginLogin() {
        let timeout = self.pool.settings.serverConnectTimeout
        if timeout > 0 { self.setDeadline(self.now + timeout) }
        self.start()
    }

    override func received(_ bytes: Span<UInt8>) -> Int {
        self.login == nil ? self.relay(bytes) : self.receivedInLogin(bytes)
    }

    override func connected() {
        self.lastWords = nil
        self.startLogin()
    }

    /// The login has ended well.
    func loggedIn() {
        self.login = nil
        if self.pool.settings.logConnections {
            let local = Socket.localAddress(self.descriptor)
            self.worker.log(.info, self.prefix, "new connection to server (from \(local.description))")
        }
        // The deadline of the login stays for connect_query.
        self.state = .preparing
        if let query = self.pool.database.connectQuery, !query.isEmpty {
            self.run(.connectQuery, query)
        } else {
            self.pool.loginSucceeded(self)
        }
    }

    /// The login has failed; the pool is told.
    func loginFailed(_ error: ServerError) {
        guard self.state == .login else { return }
        self.state = .closed
        self.login = nil
        self.close()
        self.pool.loginClosed(self, error)
    }

    // MARK: In the pool

    func becomeLeaving() {
        self.state = .leaving
        self.setDeadline(.max)
    }

    func becomeIdle() {
        self.state = .idle
        self.idleSince = self.now
        self.isChecked = self.hasBeenUsed
        self.armIdleDeadline()
    }

    private func armIdleDeadline() {
        let rules = self.pool.rules
        var due = MonotonicTime.max
        if rules.idleTimeout < .max { due = self.idleSince + rules.idleTimeout }
        if rules.lifetime > 0 { due = min(due, self.createdAt + rules.lifetime) }
        self.setDeadline(due)
    }

    /// Idle for so long that it is asked whether it is still there before a client gets it.
    var needsCheck: Bool {
        let delay = self.pool.rules.checkDelay
        guard self.state == .idle, delay < .max else { return false }
        return self.now - self.idleSince > delay || delay == 0
    }

    /// Runs server_check_query; the pool gets the connection back when it has succeeded.
    func check() {
        self.state = .preparing
        self.armPreparing()
        self.run(.check, self.pool.settings.serverCheckQuery ?? "")
    }

    /// Older than `server_lifetime`.
    private var isExpired: Bool { self.now - self.createdAt >= self.pool.rules.lifetime }

    /// Closes the connection: at once when idle, else when it is free.
    func retire(_ reason: String) {
        switch self.state {
        case .idle: self.end(reason)
        case .login, .preparing, .leaving: self.retireReason = reason
        case .linked:
            self.retireReason = reason
            if self.pool.settings.serverFastClose, self.pool.mode == .session, let client = self.client,
                self.transaction == .idle, self.requests.isQuiet
            {
                client.fail(ServerError(message: "database configuration changed", sqlState: SQLState.adminShutdown))
            }
        case .closed: return
        }
    }

    var isRetiring: Bool { self.retireReason != nil }

    // MARK: Linked

    /// Becomes this client's.
    func link(_ client: ClientSession) {
        self.state = .linked
        self.client = client
        self.hasBeenUsed = true
        self.setDeadline(.max)
        client.linked(self)
        if self.isDedicated { return }
        if client.parameters !== self.parameters || self.areExtrasUncertain { self.adjustSettings(to: client) }
    }

    /// Asks the server for the client's settings, ahead of the client's requests.
    private func adjustSettings(to client: ClientSession) {
        guard let wanted = client.parameters else { return }
        if self.areExtrasUncertain {
            // Only what the server reports is known; the rest is set back, or set again.
            let extras = self.parameters.parameters.filter { !$0.isReported }
            self.parameters = self.worker.parameters.withoutExtras(self.parameters)
            self.areExtrasUncertain = false
            let changes = wanted.changes(from: self.parameters)
            let resets = extras.filter { wanted[$0.key] == nil }.map { ParameterChange.reset($0.name) }
            return self.set(changes + resets, for: client)
        }
        self.set(wanted.changes(from: self.parameters), for: client)
    }

    private func set(_ changes: [ParameterChange], for client: ClientSession) {
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
        guard self.state == .linked, let client = self.client, self.transaction == .idle, self.requests.isQuiet,
            !client.isInMessage, self.framer.remaining == 0
        else { return }
        if self.pool.mode == .session || self.isDedicated { return }
        client.unlinked()
        self.client = nil
        self.settle()
    }

    /// Without a client and without obligations: cleans up, waits for cancels, and goes back to the pool.
    private func settle() {
        self.state = .preparing
        // Replies may come that nobody can be given.
        if self.requests.isUncertain { return self.end("unclear state after a failed COPY") }
        if self.cancels > 0 { return self.armPreparing() }
        if self.mustDeallocate {
            self.mustDeallocate = false
            self.statements.removeAll()
            self.armPreparing()
            return self.run(.deallocate, "DEALLOCATE ALL")
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
    private func armPreparing() {
        let timeout = max(self.pool.settings.cancelWaitTimeout, 1_000_000)
        self.setDeadline(self.now + timeout)
    }

    /// The client is gone. `isOrderly`: it said so behind its last request, which it wants carried out.
    func clientLeft(isOrderly: Bool) {
        guard let client = self.client else { return }
        let isInMessage = client.isInMessage
        self.client = nil
        guard self.state == .linked else { return }
        self.state = .preparing
        // It may have been kept from being read for the client's sake.
        self.resumeReading()
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

    /// No client, nothing outstanding: an open transaction is rolled back, then all is as at a release.
    private func tidy() {
        if self.transaction == .idle { return self.settle() }
        self.armPreparing()
        self.run(.rollback, "ROLLBACK")
    }

    /// ReadyForQuery has come.
    func ready() {
        switch self.state {
        case .linked: self.releaseIfFree()
        case .preparing: if self.requests.isQuiet { self.tidy() }
        case .login, .idle, .leaving, .closed: return
        }
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
        if case .connectQuery = own {
            if let error { self.worker.log(.warning, self.prefix, "connect_query failed: \(error.message)") }
            if self.state == .preparing && self.client == nil { self.pool.loginSucceeded(self) }
            return false
        }
        if let error, let reason = own.failure {
            self.worker.log(.warning, self.prefix, "\(reason): \(error.message)")
            self.end(reason)
            return false
        }
        return true
    }

    private func settingsEnded(_ changes: [ParameterChange], _ error: ErrorFields?) {
        let table = self.worker.parameters
        guard let client = self.client else {
            // It has left meanwhile. All changes hold, or none.
            if error == nil {
                self.parameters = table.applied(changes, client: self.parameters, server: self.parameters).server
            }
            return
        }
        if let error { return client.settingsFailed(error) }
        if self.cancelsWhenSet {
            self.cancelsWhenSet = false
            self.cancelRunning()
        }
        let (ours, theirs) = table.applied(
            changes, client: client.parameters ?? self.parameters, server: self.parameters)
        self.parameters = theirs
        client.settingsApplied(ours)
    }

    // MARK: Cancel

    /// The linked client wants what it runs to be cancelled.
    func cancelRequested() {
        if case .settings? = self.ownQueries.first, self.requests.head?.disposition == .own {
            self.cancelsWhenSet = true
        } else if !self.requests.isEmpty {
            self.cancelRunning()
        }
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

    // MARK: From one reactor to another

    /// Arrived on a reactor where its pool is not any more.
    func discard() {
        let shared = self.pool.shared
        self.state = .closed
        self.close()
        shared.servers.give()
        shared.database.servers.give()
        shared.user.servers.give()
    }

    func joined(_ pool: Pool) {
        self.pool = pool
        self.parameters = pool.worker.parameters.intern(self.parameters)
    }

    // MARK: The end

    override func drained() { self.client?.readOn() }

    override func disconnected(_ reason: Disconnect) {
        switch self.state {
        case .login:
            let what =
                switch reason {
                case .connectFailed: "connect failed"
                case .endOfFile, .failed: "login failed: server closed the connection"
                }
            let error =
                self.lastWords.map { ServerError(refusedBy: $0) }
                ?? ServerError(message: "\(what): \(self.host.description): \(reason.description)", sqlState: "08006")
            self.loginFailed(error)
        case .idle, .leaving: self.lost("server closed the connection")
        case .linked, .preparing: self.lost("server closed the connection unexpectedly (\(reason.description))")
        case .closed: return
        }
    }

    /// The server has gone by itself.
    private func lost(_ reason: String) {
        let words = self.lastWords.map { "\(reason): \($0.message)" } ?? reason
        self.end(words, clientError: "server connection to \(self.host.description) was lost: \(reason)")
    }

    /// Closes the connection; a linked client goes with it.
    func end(_ reason: String, clientError: String? = nil) {
        guard self.state != .closed else { return }
        if self.state == .login {
            return self.loginFailed(ServerError(message: reason, sqlState: SQLState.connectionFailure))
        }
        let wasPreparing = self.state == .preparing
        self.state = .closed
        if self.pool.settings.logDisconnections {
            let age = (self.now - self.createdAt) / 1_000_000
            self.worker.log(.info, self.prefix, "closing because: \(reason) (age=\(age)s)")
        }
        if self.isOpen { self.send(MessageWriter.bytes { $0.terminate() }) }
        if wasPreparing, case .connectQuery? = self.ownQueries.first {
            // Still counted as a login.
            self.close()
            self.pool.loginClosed(self, ServerError(message: reason, sqlState: SQLState.connectionFailure))
            return
        }
        let client = self.client
        self.client = nil
        let isInMessage = self.framer.remaining > 0
        self.flushAndClose()
        self.pool.closed(self)
        if let client {
            // The server's own words have been passed on already when it had any, and in the middle of a row there is
            // no place for ours.
            if self.lastWords != nil || isInMessage {
                client.endAfterServer(reason)
            } else {
                client.lostServer(
                    ServerError(message: clientError ?? reason, sqlState: SQLState.connectionFailure))
            }
        }
    }

    private func flushAndClose() {
        // Terminate is a courtesy: sent if the socket takes it now.
        if self.isOpen { self.closeAfterFlush() }
    }

    override func timedOut() {
        switch self.state {
        case .login: self.loginFailed(ServerError(message: "connect timeout", sqlState: SQLState.connectionFailure))
        case .idle:
            if self.isExpired {
                self.end("server lifetime over")
            } else if self.now - self.idleSince >= self.pool.rules.idleTimeout {
                self.end("server idle timeout")
            } else {
                self.armIdleDeadline()
            }
        case .preparing:
            self.cancelRunning()
            self.end(self.cancels > 0 ? "cancel_wait_timeout" : "query_timeout")
        case .linked, .leaving, .closed: return
        }
    }

    /// For the console.
    var status: ServerState {
        switch self.state {
        case .login, .closed: .login
        case .idle: self.needsCheck ? .used : .idle
        case .leaving: .idle
        case .linked: .active
        case .preparing: self.cancels > 0 ? .beingCanceled : .tested
        }
    }
}
