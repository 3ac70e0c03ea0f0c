import Authentication
import DequeModule
import Logging
import Pooling
import Reactor
import Routing
import Sessions
import Settings
import Synchronization
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
final class ServerSession: ServerConnection {
    enum State { case login, idle, linked, preparing, leaving, closed }

    /// What the proxy asks for itself; each is one Query whose replies nobody sees.
    enum OwnQuery {
        case settings([ParameterChange])
        /// BEGIN, long after its client was told that it has begun.
        case begin
        /// A query that is bound to fail, because the transaction has failed with something that was answered here.
        case abort
        case connectQuery, check, rollback, reset, deallocate
        /// Whether a replica has what it was seen to have (`positionProof`).
        case proof
        /// The startup packet's settings, behind a command of the client's that has taken them away.
        case restore(session: [ParameterChange], local: [ParameterChange], tries: Int)

        /// The client's requests behind it count on it: a cancel of theirs must not hit it.
        var comesFirst: Bool {
            switch self {
            case .settings, .begin, .abort, .restore: true
            case .connectQuery, .check, .rollback, .reset, .deallocate, .proof: false
            }
        }

        /// It makes the connection ready for a client whose request comes behind it.
        var comesAhead: Bool {
            switch self {
            case .deallocate, .settings, .begin: true
            case .connectQuery, .check, .rollback, .reset, .abort, .restore, .proof: false
            }
        }

        /// The reason for closing when it fails; nil if failing does not matter.
        var failure: String? {
            switch self {
            case .settings, .begin, .abort, .restore, .proof: nil
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
        case closed([UInt8], ClientStatement)
        /// A Close of a statement that made room for another: if the server never looks at it, it has it still.
        case evicted(PreparedStatement)
        /// A Describe. `name` is the client's; nil for the proxy's own.
        case described(PreparedStatement, name: [UInt8]?)
        /// What is answered here in the turn of a request that was never sent.
        case reply([UInt8])
        /// A request that is bound to fail, and the ErrorResponse that the client gets.
        case error([UInt8])
    }

    /// A message from the server of which the beginning has come and the end has not.
    enum Pieces {
        case none
        /// The linked client gets it, to its last byte.
        case passed(UInt8)
        /// Nobody gets it.
        case dropped(UInt8)

        /// The message's type; 0 when there is none.
        var type: UInt8 {
            switch self {
            case .none: 0
            case .passed(let type), .dropped(let type): type
            }
        }

        var isPassed: Bool {
            switch self {
            case .passed: true
            case .none, .dropped: false
            }
        }
    }

    /// What is known of the meaning of a text that is prepared now: SET and DDL change it, and tell so by their answers.
    enum Meaning: Equatable {
        case settled
        /// Such a command was perhaps sent in the batch that is open.
        case inDoubt
        /// A Flush has asked for the answers to the requests up to this one.
        case awaited(upTo: UInt64)
    }

    /// What is to be done when all of a read has been looked at.
    enum Due {
        case nothing
        /// ReadyForQuery has come (`ready`).
        case ready
        /// The login is over, and so is connect_query.
        case loggedIn
    }

    private(set) var pool: Pool
    let createdAt: MonotonicTime
    let connectTime: Int64
    var poolIndex = -1

    var state = State.login
    var client: ClientSession?
    var framer: MessageFramer
    var pieces = Pieces.none
    var due = Due.nothing
    var requests = OutstandingRequests()
    var effects = Deque<Effect>()
    var ownQueries = Deque<OwnQuery>()
    /// The ErrorResponse to the own query under way.
    var ownError: ErrorFields?
    /// As of the last ReadyForQuery.
    var transaction = TransactionStatus.idle
    /// The session's settings, as the server reports them and as clients have set them.
    var parameters: ParameterSet {
        get { self.followed.current(self.worker.parameters) }
        set { self.followed = FollowedParameters(newValue) }
    }
    private(set) var followed = FollowedParameters(.empty)
    /// The values that the session has of what nobody sets in it, as far as the server reports them.
    var defaults = ParameterSet.empty
    /// Settings that no server reports may differ from `parameters`: somebody used SET or RESET.
    var areExtrasUncertain = false
    var statements: ServerStatements
    /// Whose unnamed statement the server has: the number a client gave it; 0 when none or unknown.
    var unnamedStatement: UInt64 = 0
    /// The number of the Parse that made it, among the requests.
    var unnamedRequest: UInt64 = 0
    /// That was the proxy's own: the statement stays its client's, however it ends.
    var isUnnamedRestored = false
    /// The books do not say what the server has: it forgets all statements when it is free, and until then each is closed
    /// before it is prepared.
    var mustDeallocate = false
    /// Whether names of statements were the proxy's when the settings were looked at last.
    var tracksStatements = false
    /// The type of the last message that ends a request or begins its rows.
    var lastLooked: UInt8 = 0
    /// What the answer to a Describe says, as far as it has come.
    var description = StatementDescription()
    /// The proxy has asked what a statement returns, and its client's requests wait for that.
    var isDescribing = false
    /// Whether the batch that is open may have changed what texts mean.
    var meaning = Meaning.settled
    /// A setting that says what a text means may have been changed by a command, so that the client's settings do not tell
    /// what a statement is read with; until it is released.
    var isParsingUncertain = false
    /// A statement was perhaps bound that makes a relation and is answered like a SELECT; until it is released.
    var mayMakeRelation = false
    /// DDL was carried out in the transaction that is open; others see it when that ends.
    var hasChangedCatalogue = false
    /// Since when the transaction that is open may see another catalogue than others do.
    var catalogueOfItsOwn: MonotonicTime?
    /// Commands that go back to what the session began with; nil as a rule.
    var resetting: Resetting?
    /// What the client waits for while its settings are set again.
    var restoring = Restoring.nothing
    /// Queries under way that deallocate statements.
    var deallocations: [Deallocations] = []
    /// The session's settings or objects were changed by a client that has gone (session mode).
    var mustReset = false
    var backendKey: [UInt8] = []
    /// A cancel request has come while the client's settings were being set, or its transaction begun: it is about what
    /// follows.
    var cancelsWhenSet = false
    /// The request that such a cancel is about, until it has ended, and how often it is tried again.
    var insistence: (request: UInt64, tries: Int)?
    /// The pool's generation when this was begun; an older one is obsolete.
    var generation: UInt64 = 0
    /// Cancel requests on their way to this backend.
    var cancels = 0
    /// Why the connection closes as soon as it is free.
    private(set) var retireReason: String? {
        didSet { self.countUnavailable() }
    }
    /// It is among its pool's `unavailable`.
    var isUnavailable = false
    private(set) var idleSince: MonotonicTime = 0
    var hasBeenUsed = false
    /// The server has said FATAL: what follows is the end.
    var lastWords: ErrorFields?
    /// The walsender connection of one client, which is told nothing else.
    private(set) var replication: Replication?
    var isDedicated: Bool { self.replication != nil }
    var requestTime: MonotonicTime = 0
    var trial = Trial.none
    var isOnTrial: Bool { if case .none = self.trial { false } else { true } }
    /// What runs on a replica, on trial or not, and any other request on trial.
    var keptRequest: [UInt8] = []
    /// The statement that the request on trial needs first, where it was prepared before its client asked for it.
    var olderStatement: PreparedStatement?

    /// Whether the request that runs may still be carried out a second time (`ServerSession+Trial`).
    enum Trial {
        case none
        /// On a replica. `isRepeatable`: it has no effect, whatever its server is by now. `begins`: its first statement is a
        /// BEGIN, whose answer tells nothing.
        case replica(isRepeatable: Bool, begins: Bool)
        /// With a statement that may be outdated (`olderStatement`).
        case older
    }

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
        self.pool = pool
        self.replication = replication
        self.createdAt = worker.now
        self.connectTime = wallClockNow()
        self.framer = MessageFramer(maximumLength: worker.configuration.settings.general.maxPacketSize)
        self.statements = ServerStatements(
            limit: pool.rules.statementLimit, sizeLimit: pool.rules.statementMemory)
        self.tracksStatements = pool.tracksStatements
        super.init(worker, host: host, address: address, socket: socket)
        if replication != nil { self.countUnavailable() }
    }

    var prefix: String {
        "S-0x\(String(self.id, radix: 16)): \(self.pool.name)@\(self.host.description)"
    }

    // MARK: Login

    func beginLogin() {
        let timeout = self.pool.settings.serverConnectTimeout
        if timeout > 0 { self.setDeadline(self.now + timeout) }
        self.start()
    }

    override func receivedReplies(_ bytes: Span<UInt8>) -> Int { self.relay(bytes) }

    override func connected() {
        self.lastWords = nil
        super.connected()
    }

    override func access() -> Access? { self.poolsAccess }

    override func loggedIn(_ outcome: ServerLogin.Outcome) {
        guard self.takeOver(outcome) else { return }
        if self.pool.settings.logConnections {
            let local = Socket.localAddress(self.descriptor)
            self.worker.log(.info, self.prefix, "new connection to server (from \(local.description))")
        }
        // The deadline of the login stays for connect_query.
        self.state = .preparing
        if let proof = self.positionProof { self.run(.proof, proof) } else { self.runConnectQuery() }
    }

    /// The last thing before it is its pool's.
    func runConnectQuery() {
        if let query = self.pool.database.connectQuery, !query.isEmpty {
            self.run(.connectQuery, query)
        } else {
            self.due = .loggedIn
        }
    }

    /// The login has failed; the pool is told.
    override func loginFailed(_ error: ServerError) {
        guard self.state == .login else { return }
        self.state = .closed
        self.close()
        self.pool.loginClosed(self, error)
    }

    /// The server has let us in, and is of no use.
    func reject(_ reason: String) {
        self.state = .closed
        self.close()
        self.pool.loginClosed(
            self, ServerError(message: "\(self.host.description): \(reason)", sqlState: SQLState.connectionFailure))
    }

    /// The server has reported a setting. False if that was one too many, and the end of the connection.
    func follow(_ status: ParameterStatus) -> Bool {
        do {
            try self.followed.note(status, self.worker.parameters)
            return true
        } catch {
            self.end("invalid server parameter: \(error.message)")
            return false
        }
    }

    // MARK: In the pool

    func becomeLeaving() {
        self.state = .leaving
        self.setDeadline(.max)
    }

    func becomeIdle() {
        self.state = .idle
        self.idleSince = self.now
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
    ///
    /// - Parameter delay: how long; `.max` is never.
    func needsCheck(after delay: Microseconds) -> Bool {
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
    var isExpired: Bool { self.now - self.createdAt >= self.pool.rules.lifetime }

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
    var isLoggingIn: Bool { self.state == .login }

    // MARK: From one reactor to another

    /// Arrived on a reactor where its pool is not any more.
    func discard() {
        let shared = self.pool.shared
        self.state = .closed
        self.close()
        self.countAvailable()
        shared.servers.give()
        shared.database.servers.give()
        shared.user.servers.give()
    }

    func joined(_ pool: Pool) {
        self.pool = pool
        self.moved(to: pool.worker)
        self.parameters = pool.worker.parameters.intern(self.parameters)
        self.defaults = pool.worker.parameters.intern(self.defaults)
        self.statementLimitsChanged()
    }

    // MARK: The end

    override func drained() { self.client?.readOn() }

    override func disconnected(_ reason: Disconnect) {
        switch self.state {
        case .login:
            let what =
                switch reason {
                case .connectFailed: "connect failed"
                case .tlsFailed: "TLS startup failed"
                case .endOfFile, .failed: "login failed: server closed the connection"
                }
            let error =
                self.lastWords.map { ServerError(refusedBy: $0) }
                ?? ServerError(
                    message: "\(what): \(self.host.description): \(reason.description)", sqlState: "08006",
                    isRefusal: reason.isTLSFailure)
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

    /// The server has let us in, and the pool still counts a login.
    private var isLoginUnfinished: Bool {
        if case .loggedIn = self.due { return true }
        guard self.state == .preparing else { return false }
        return switch self.ownQueries.first {
        case .connectQuery?, .proof?: true
        case .settings?, .begin?, .abort?, .check?, .rollback?, .reset?, .deallocate?, .restore?, nil: false
        }
    }

    /// Closes the connection; a linked client goes with it.
    func end(_ reason: String, clientError: String? = nil) {
        guard self.state != .closed else { return }
        if self.state == .login {
            self.state = .closed
            self.close()
            return self.pool.loginAbandoned(
                self, ServerError(message: reason, sqlState: SQLState.connectionFailure))
        }
        let wasLoggingIn = self.isLoginUnfinished
        self.state = .closed
        if self.pool.settings.logDisconnections {
            let age = (self.now - self.createdAt) / 1_000_000
            self.worker.log(.info, self.prefix, "closing because: \(reason) (age=\(age)s)")
        }
        if self.isOpen { self.send(MessageWriter.bytes { $0.terminate() }) }
        if wasLoggingIn {
            self.close()
            self.pool.loginClosed(self, ServerError(message: reason, sqlState: SQLState.connectionFailure))
            return
        }
        // A replica that is lost before its answer has begun: the client takes its request elsewhere.
        if self.isOnTrial, clientError != nil, let route = self.client?.route, self.mayRetry(route) {
            self.trialFailed(nil)
        } else if clientError != nil {
            self.sendAway()
        }
        let client = self.client
        let isInMessage = self.pieces.isPassed
        self.detachClient()
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
            self.end(self.cancels > 0 ? "cancel_wait_timeout" : "query timeout")
        case .linked: self.insistOnCancel()
        case .leaving, .closed: return
        }
    }

    /// For the console.
    var status: ServerState {
        switch self.state {
        case .login, .closed: .login
        case .idle: self.needsCheck(after: self.pool.rules.checkDelay) ? .used : .idle
        case .leaving: .idle
        case .linked: .active
        case .preparing: self.cancels > 0 ? .beingCanceled : .tested
        }
    }
}
