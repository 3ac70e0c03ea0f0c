import Logging
import Pooling
import Reactor
import Routing
import Sessions
import Settings
import Synchronization
import Wire

/// A client's connection.
///
///     startup ──► login ──► ready: unlinked ──► waiting ──► linked ──► unlinked
///                   │                 └───────(idle connection)─┘
///                   └──► console
///
/// - startup, login: `ClientLogin` reads the startup packet, authenticates, and waits for the pool's parameters.
/// - unlinked: nothing is asked for, or only what can be answered here.
/// - waiting: a request needs a server connection; it stays held, unread, until there is one.
/// - linked: requests stream to the server connection (`ClientSession+Requests`), replies come back from it.
/// - console: `ConsoleSession` answers.
final class ClientSession: Connection {
    let worker: Worker
    let id: UInt64
    let isUnix: Bool
    let connectTime: Int64

    /// Who logs in; nil when that is done.
    var login: ClientLogin?
    var console: ConsoleSession?
    /// What this client shares with others of its user and database; nobody's before admission.
    private(set) var group: ClientGroup
    private(set) var cancelKey: UInt64?
    /// Protocol 3.2: the secret is longer than 4 bytes.
    private(set) var longSecret: [UInt8] = []

    var server: ServerSession?
    var framer: MessageFramer
    /// The message that streams now goes nowhere.
    var dropsMessage = false
    /// When the last piece came of a message that streams to the server connection; nil when none does.
    var lastPiece: MonotonicTime?
    /// The session's settings; nil before login is over.
    var parameters: ParameterSet? {
        get { self.followed?.current(self.worker.parameters) }
        set { self.followed = newValue.map { FollowedParameters($0) } }
    }
    var followed: FollowedParameters?
    /// The values that the session has of those that nobody has set in it: those of its server.
    var defaults = ParameterSet.empty
    /// The settings of the startup packet.
    var startupSettings = ParameterSet.empty
    /// Some of them the server has not by itself: they are set again behind a RESET.
    var hasRestorable = false
    var preparedResets: PreparedResets?
    /// The settings came from the startup packet and no server has accepted them yet: requests wait for that.
    var areSettingsProven = false
    var isAwaitingSettings = false
    /// The next request depends on how those before end (`awaitReplies`).
    var isAwaitingReplies = false

    var statements = ClientStatements()
    /// The unnamed statement's Parse behind its name, and the number that tells whether a server has just that one.
    var unnamedParse: [UInt8] = []
    var unnamedStatement: UInt64 = 0
    var boundPortals = BoundPortals()
    /// Statements prepared in a batch that is not over, when the settings were not known for sure.
    var unsettledStatements: [[UInt8]] = []
    /// When an error last made what it has prepared doubtful.
    var distrustedAt: MonotonicTime = 0
    /// Portals of a DEALLOCATE or DISCARD.
    var boundDeallocations: [BoundDeallocation] = []

    /// Requests that are to be looked at again, in front of what comes next.
    var replay: [UInt8] = []
    /// Where in the bytes that are looked at the request begins that its server keeps (`ServerSession.keptRequest`): below 0
    /// when these came later.
    var keptStart = 0
    /// So many bytes of what comes next stand in `replay` already.
    var repeatedInput = 0

    var cancelled = CancelledRequest.none
    /// Where its requests go; nil in a database that is not routed.
    var route: ClientRoute?
    /// What is known of it beside that; nil as a rule.
    var unrouted: UnroutedClient?
    /// Walsender protocol: a connection of its own, passed through.
    var isReplication = false

    /// Its request could not be sent where it was to go, and is about to be looked at again.
    var isGoingElsewhere = false
    private(set) var isWaiting = false
    /// Counts how often it has begun to wait or has ended it: a place in a queue is its own only as long as it has this number.
    private(set) var wait: UInt32 = 0
    /// The pool in whose queue this is; a reload may have given its group another one meanwhile.
    var waitsIn: Pool?
    /// Too many requests are outstanding for more to be read.
    private(set) var isThrottled = false
    private(set) var waitingSince: MonotonicTime = 0
    private var isNotified = false
    var requestTime: MonotonicTime = 0
    private var transactionTime: MonotonicTime = 0
    /// A transaction has begun at that time, whatever server it runs on.
    private var isTransactionTimed = false
    private var idleSince: MonotonicTime = 0
    private var isOver = false

    init(worker: Worker, id: UInt64, socket: consuming Socket, isUnix: Bool) {
        self.worker = worker
        self.id = id
        self.isUnix = isUnix
        self.connectTime = wallClockNow()
        self.group = worker.nobody
        self.framer = MessageFramer(maximumLength: worker.configuration.settings.general.maxPacketSize)
        super.init(loop: worker.loop, socket: socket)
    }

    var pool: Pool { self.group.pool }
    var encoding: ClientEncoding { self.parameters?.encoding ?? .utf8 }
    var hasStandardStrings: Bool { self.parameters?.hasStandardStrings ?? true }
    /// Whether admission is over.
    var hasGroup: Bool { self.group !== self.worker.nobody }
    var isLoggedIn: Bool { self.hasGroup && self.login == nil }

    var prefix: String {
        let key = self.hasGroup ? self.group.key : nil
        let database = self.login?.database ?? key?.database ?? self.console.map { _ in "pgbouncer" }
        let user = self.login?.user ?? key?.user ?? self.console?.user
        return "C-0x\(String(self.id, radix: 16)): \(LogName.text(database) ?? "(nodb)")/"
            + "\(LogName.text(user) ?? "(nouser)")@\(self.peer)"
    }

    private var peer: String {
        self.isUnix
            ? "unix:\(self.worker.configuration.settings.general.listenPort)"
            : Socket.peerAddress(self.descriptor).description
    }

    // MARK: Login

    func begin() {
        let login = ClientLogin(self)
        self.login = login
        let timeout = self.worker.configuration.settings.general.clientLoginTimeout
        if timeout > 0 { login.deadline = self.now + timeout }
        self.setDeadline(login.deadline)
        self.start()
        if !login.takePlace() {
            self.fail(
                ServerError(
                    message: "too many logins under way (max_logins_per_address)",
                    sqlState: SQLState.tooManyConnections))
        }
    }

    /// Authentication is over and the group known; a group is joined once.
    func join(_ group: ClientGroup) {
        self.group = group
        group.clients += 1
    }

    /// The pool's parameters are known: the login can end.
    func welcomed() { self.login?.finish() }

    func loggedIn() {
        self.login = nil
        self.idleSince = self.now
        self.armIdle()
    }

    func makeCancelKey(isLong: Bool, random: [UInt8]) -> UInt64 {
        let key = self.worker.makeCancelKey(for: self)
        self.cancelKey = key
        self.longSecret = isLong ? random : []
        return key
    }

    // MARK: Bytes

    override func secured() { self.login?.secured() }

    override func received(_ bytes: Span<UInt8>) -> Int {
        if let login = self.login { return login.received(bytes) }
        let consumed = self.console?.received(bytes) ?? self.relayAll(bytes)
        // Who has said goodbye behind what is held is not waited for: its requests are carried out.
        if consumed < bytes.count, self.isAwaitingReplies, Self.endsInTerminate(bytes) { self.pauseReading() }
        if self.isCongested || self.server?.isCongested ?? false { self.pauseReading() }
        if let server = self.server, server.requests.count > Self.mostRequests {
            self.isThrottled = true
            self.pauseReading()
        }
        return consumed
    }

    private static func endsInTerminate(_ bytes: Span<UInt8>) -> Bool {
        bytes.count >= 5
            && bytes.extracting((bytes.count - 5)..<bytes.count).equals(0..<5, "X\u{0}\u{0}\u{0}\u{4}")
    }

    override func drained() {
        self.server?.resumeReading()
        self.readOn()
    }

    /// Reads again what this client sends, unless it has to read its answers first: a client that only writes makes
    /// nobody hold more than a buffer's worth for it.
    func readOn() {
        guard !self.isOver, !self.isCongested else { return }
        if let server = self.server {
            if server.isCongested || self.isThrottled && server.requests.count > Self.mostRequests / 2 { return }
        }
        self.isThrottled = false
        self.resumeReading()
    }

    // MARK: Waiting

    /// Outstanding requests above which no more are read: each is noted until it is answered.
    private static let mostRequests = 4096

    /// - Parameter until: when a request that no pool has been found for looks again.
    func beginWaiting(in pool: Pool?, until: MonotonicTime = .max) {
        self.waitsIn = pool
        pool?.load?.inFlight += 1
        self.isWaiting = true
        self.wait &+= 1
        self.isNotified = false
        self.waitingSince = self.now
        if self.route?.waitingSince == nil { self.route?.waitingSince = self.now }
        let timeouts = self.group.timeouts
        var due = until
        if timeouts.queryWait > 0 { due = min(due, self.requestWaitingSince + timeouts.queryWait) }
        if timeouts.queryWaitNotify > 0 { due = min(due, self.now + timeouts.queryWaitNotify) }
        self.setDeadline(min(due, self.login?.deadline ?? .max))
    }

    /// Waits in the middle of its login, for a server connection to be made.
    func awaitLogin(in pool: Pool) {
        self.waitsIn = pool
        self.waitingSince = self.now
    }

    func endWaiting() {
        self.isWaiting = false
        self.wait &+= 1
        self.waitsIn?.load?.inFlight -= 1
        self.waitsIn = nil
        self.group.statistics.counters.waitTime &+= UInt64(self.now - self.waitingSince)
    }

    /// With routing a request may wait several times, for one server after the other.
    private var requestWaitingSince: MonotonicTime { self.route?.waitingSince ?? self.waitingSince }

    /// Waits for a node, not for a connection.
    var isHeld: Bool { self.isWaiting && self.waitsIn == nil }

    /// Leaves the queue, whichever it is.
    func stopWaiting() {
        if let pool = self.waitsIn { pool.leaveQueue(self) } else { self.route?.router.release(self) }
    }

    /// The request that waited has been answered here.
    func waitingIsOver() {
        self.idleSince = self.now
        self.armIdle()
    }

    private func waitTimedOut() {
        let timeouts = self.group.timeouts
        let now = self.now
        if timeouts.queryWait > 0 && now >= self.requestWaitingSince + timeouts.queryWait {
            return self.fail(ServerError(message: "query_wait_timeout", sqlState: SQLState.protocolViolation))
        }
        if !self.isNotified && timeouts.queryWaitNotify > 0 && now >= self.waitingSince + timeouts.queryWaitNotify {
            self.isNotified = true
            self.send(
                MessageWriter.bytes {
                    $0.noticeResponse(
                        severity: "NOTICE", sqlState: SQLState.warning,
                        message: "No server connection available in postgres backend, client being queued")
                })
        }
        if self.isHeld, let route = self.route {
            // It has waited long enough for what it has been waiting for.
            route.router.release(self)
            return self.proceed()
        }
        let due = timeouts.queryWait > 0 ? self.requestWaitingSince + timeouts.queryWait : .max
        self.setDeadline(min(due, self.login?.deadline ?? .max))
    }

    // MARK: Linked

    func linked(_ server: ServerSession) {
        self.server = server
        self.group.statistics.counters.serverAssignmentCount &+= 1
        if !self.isTransactionTimed { self.transactionTime = self.now }
        self.setDeadline(self.login?.deadline ?? .max)
    }

    /// The server connection has been released.
    func unlinked() {
        self.server = nil
        // Nothing of a batch that has begun had to be sent: what follows is looked at as a request of its own.
        if let route = self.route, route.isInBatch {
            route.isInBatch = false
            route.closeBatch()
        }
        self.readOn()
        self.idleSince = self.now
        self.armIdle()
    }

    /// ReadyForQuery has been sent without a server's word: it may be in a transaction of which no server knows.
    func answeredHere() {
        guard self.server == nil else { return }
        self.requestTime = self.now
        self.idleSince = self.now
        let isInTransaction = self.statusHere != .idle
        if isInTransaction && !self.isTransactionTimed { self.transactionTime = self.now }
        self.isTransactionTimed = isInTransaction
        self.armIdle()
    }

    private func armIdle() {
        let timeouts = self.group.timeouts
        var due = MonotonicTime.max
        if self.statusHere == .idle {
            if timeouts.clientIdle > 0 { due = self.idleSince + timeouts.clientIdle }
        } else {
            if timeouts.transaction > 0 { due = self.transactionTime + timeouts.transaction }
            if timeouts.idleTransaction > 0 { due = min(due, self.requestTime + timeouts.idleTransaction) }
        }
        self.setDeadline(due)
    }

    /// A request begins, with nothing outstanding before it.
    func queryBegins() {
        self.requestTime = self.now
        if self.server?.transaction == .idle && !self.isTransactionTimed { self.transactionTime = self.now }
        if self.group.timeouts.whileLinked { self.armLinked(isRunning: true) }
    }

    /// A message begins to stream to the server connection, which it holds up to its end.
    func messageBegins() {
        guard self.group.timeouts.message > 0 else { return }
        self.lastPiece = self.now
        self.armLinked(isRunning: true)
    }

    private func armLinked(isRunning: Bool) {
        let timeouts = self.group.timeouts
        var due = MonotonicTime.max
        if let lastPiece = self.lastPiece, timeouts.message > 0 {
            // A client that is not read from cannot go on.
            due = (self.isReadingPaused ? self.now : lastPiece) + timeouts.message
        }
        if isRunning && timeouts.query > 0 { due = min(due, self.requestTime + timeouts.query) }
        let isInTransaction = isRunning || self.isInTransaction
        if isInTransaction && timeouts.transaction > 0 { due = min(due, self.transactionTime + timeouts.transaction) }
        if !isRunning && isInTransaction && timeouts.idleTransaction > 0 {
            due = min(due, self.requestTime + timeouts.idleTransaction)
        }
        self.setDeadline(due)
    }

    /// All of a batch without its Sync has been answered: it holds the server connection from now on.
    func batchPauses() {
        guard self.group.timeouts.idleTransaction > 0 else { return }
        self.requestTime = self.now
        self.armLinked(isRunning: false)
    }

    /// The server connection is in a transaction, be it the implicit one of a batch that has no Sync yet.
    private var isInTransaction: Bool {
        self.server.map { $0.transaction != .idle || $0.requests.isUnsynced } ?? false
    }

    /// ReadyForQuery has been passed on.
    func queryEnded(_ transaction: TransactionStatus) {
        let now = self.now
        let statistics = self.group.statistics
        statistics.counters.queryCount &+= 1
        statistics.counters.queryTime &+= UInt64(now - self.requestTime)
        self.isTransactionTimed = transaction != .idle
        if transaction == .idle {
            statistics.counters.transactionCount &+= 1
            statistics.counters.transactionTime &+= UInt64(now - self.transactionTime)
        } else if self.pool.mode == .statement, let server = self.server {
            self.fail(
                ServerError(
                    message: "transaction blocks not allowed in statement pooling mode",
                    sqlState: SQLState.protocolViolation))
            _ = server
            return
        }
        self.requestTime = now
        if self.group.timeouts.whileLinked {
            let isRunning = !(self.server?.requests.isEmpty ?? true)
            self.armLinked(isRunning: isRunning)
        }
        if self.pool.mode == .session && transaction == .idle && self.group.timeouts.clientIdle > 0 {
            self.idleSince = now
            self.armIdle()
        }
        if transaction == .idle && self.group.isRemoved { self.endIfIdle() }
    }

    /// Its database has left the configuration: it goes, unless it is in the middle of something.
    func endIfIdle() {
        if let server = self.server, !server.isDedicated {
            guard server.transaction == .idle, server.requests.isQuiet, !self.isInMessage else { return }
        }
        self.fail(.databaseRemoved)
    }

    // MARK: Cancel

    /// A CancelRequest with this client's key has come.
    func cancelRequested(_ key: [UInt8]) {
        guard !self.isOver, key.count == 8 + self.longSecret.count,
            constantTimeEquals(Array(key[8...]), self.longSecret)
        else { return }
        if let console = self.console { return console.cancel() }
        if let server = self.server {
            server.cancelRequested()
        } else if self.isWaiting {
            self.stopWaiting()
            self.cancelHeldRequest()
        } else if self.isGoingElsewhere {
            self.isGoingElsewhere = false
            self.isAwaitingReplies = false
            self.cancelHeldRequest()
            if !self.isAwaitingReplies { self.readOn() }
        }
    }

    // MARK: The end

    /// Tells the client why and closes: FATAL, as a server does that ends a session.
    func fail(_ error: ServerError) {
        guard !self.isOver else { return }
        let settings = self.worker.configuration.settings.general
        if let login = self.login, let user = login.user, settings.logConnections {
            let database = LogName.text(login.database) ?? ""
            self.worker.log(.info, self.prefix, "login failed: db=\(database) user=\(LogName.text(user) ?? "")")
        }
        if settings.logPoolerErrors { self.worker.log(.warning, self.prefix, "pooler error: \(error.message)") }
        // In the middle of a message from the server nothing can be said, and behind its last words nothing more.
        if self.server.map({ !$0.pieces.isPassed && $0.lastWords == nil }) ?? true {
            self.send(
                MessageWriter.bytes {
                    $0.errorResponse(severity: "FATAL", sqlState: error.sqlState, message: error.message)
                })
        }
        self.over(error.message, isOrderly: false, tellsClient: true)
    }

    /// The server connection is gone.
    func lostServer(_ error: ServerError) {
        self.server = nil
        if let route = self.route { self.routedServerLost(route) }
        self.fail(error)
    }

    /// The server connection is gone and its own last words have been passed on.
    func endAfterServer(_ reason: String) {
        self.server = nil
        if let route = self.route { self.routedServerLost(route) }
        self.over(reason, isOrderly: false, tellsClient: true)
    }

    /// Terminate has come.
    func terminated() { self.over("client close request", isOrderly: true, tellsClient: false) }

    override func disconnected(_ reason: Disconnect) {
        self.over("client \(reason.description)", isOrderly: false, tellsClient: false)
    }

    /// Ends the session, however it came about.
    func over(_ reason: String, isOrderly: Bool, tellsClient: Bool) {
        guard !self.isOver else { return }
        self.isOver = true
        let settings = self.worker.configuration.settings.general
        if settings.logDisconnections && (self.login == nil || tellsClient) {
            let age = (wallClockNow() - self.connectTime) / 1_000_000
            self.worker.log(.info, self.prefix, "closing because: \(reason) (age=\(age)s)")
        }
        self.setDeadline(.max)
        if tellsClient { self.closeAfterFlush() } else { self.close() }
        if self.isWaiting { self.stopWaiting() }
        self.login = nil
        self.waitsIn?.loginLeft(self)
        self.waitsIn = nil
        self.console?.abandoned()
        if let server = self.server {
            server.clientLeft(isOrderly: isOrderly)
            self.server = nil
        }
        self.worker.removed(self)
        if self.hasGroup {
            self.group.clients -= 1
            self.group.sharedDatabase.clients.give()
            self.group.sharedUser.clients.give()
        }
    }

    /// A shutdown waits for this login to end.
    func hurryLogin() {
        let due = min(self.deadline, self.now + 5_000_000)
        self.login?.deadline = due
        self.setDeadline(due)
    }

    override func timedOut() {
        if let login = self.login, !self.isWaiting || self.now >= login.deadline {
            if self.worker.shared.isShuttingDown.load(ordering: .relaxed) {
                return self.fail(
                    ServerError(message: "pooler is shutting down", sqlState: SQLState.adminShutdown))
            }
            return self.fail(ServerError(message: "client_login_timeout", sqlState: SQLState.connectionFailure))
        }
        if self.isWaiting { return self.waitTimedOut() }
        let timeouts = self.group.timeouts
        let now = self.now
        guard let server = self.server else { return self.idleTimedOut(now) }
        let isRunning = !server.requests.isEmpty
        if let lastPiece = self.lastPiece, timeouts.message > 0, !self.isReadingPaused,
            now >= lastPiece + timeouts.message
        {
            return self.fail(
                ServerError(message: "client_message_timeout", sqlState: SQLState.protocolViolation))
        }
        if timeouts.transaction > 0 && now >= self.transactionTime + timeouts.transaction
            && (isRunning || self.isInTransaction)
        {
            return self.failRunning("transaction timeout", SQLState.transactionTimeout)
        }
        if isRunning && timeouts.query > 0 && now >= self.requestTime + timeouts.query {
            return self.failRunning("query timeout", SQLState.queryCanceled)
        }
        if !isRunning && self.isInTransaction && timeouts.idleTransaction > 0
            && now >= self.requestTime + timeouts.idleTransaction
        {
            return self.fail(
                ServerError(message: "idle transaction timeout", sqlState: SQLState.idleInTransactionTimeout))
        }
        if !isRunning && !self.isInTransaction && self.lastPiece == nil { return self.idleTimedOut(now) }
        // Settings have changed since the deadline was set.
        self.armLinked(isRunning: isRunning)
    }

    private func idleTimedOut(_ now: MonotonicTime) {
        let timeouts = self.group.timeouts
        if self.statusHere != .idle {
            if timeouts.transaction > 0 && now >= self.transactionTime + timeouts.transaction {
                return self.fail(
                    ServerError(message: "transaction timeout", sqlState: SQLState.transactionTimeout))
            }
            if timeouts.idleTransaction > 0 && now >= self.requestTime + timeouts.idleTransaction {
                return self.fail(
                    ServerError(message: "idle transaction timeout", sqlState: SQLState.idleInTransactionTimeout))
            }
            return self.armIdle()
        }
        let timeout = timeouts.clientIdle
        guard timeout > 0 else { return }
        if now >= self.idleSince + timeout {
            self.fail(ServerError(message: "client_idle_timeout", sqlState: SQLState.idleSessionTimeout))
        } else {
            self.armIdle()
        }
    }

    /// What runs is cancelled at the server when the client is thrown out: `clientLeft` sees to it.
    private func failRunning(_ message: String, _ sqlState: String) {
        self.fail(ServerError(message: message, sqlState: sqlState))
    }
}

/// Compares without telling by its time where the difference is.
private func constantTimeEquals(_ a: [UInt8], _ b: [UInt8]) -> Bool {
    guard a.count == b.count else { return false }
    var difference: UInt8 = 0
    for (x, y) in zip(a, b) { difference |= x ^ y }
    return difference == 0
}
