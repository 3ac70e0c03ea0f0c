import DequeModule
import Logging
import Reactor
import Sessions
import Settings
import Wire

/// Questions to one database as one `auth_user`, over one connection of their own; several may be on their way at once.
///
/// When the connection is lost, what is unanswered is asked once more elsewhere: at the next host, or at the same one if
/// there is no other. When that fails too everybody who waits is told.
final class AuthQueryLine {
    struct Key: Hashable, Sendable {
        let database: String
        let asker: String
    }

    typealias Result = Swift.Result<AuthAnswer, AuthQueryFailure>
    typealias Completion = @Sendable (Result) -> Void

    /// Questions sent and not answered.
    private static let mostUnderWay = 64
    /// Questions not answered, sent or not; more are refused.
    private static let mostOpen = 10_000
    /// How long an unused connection is kept, in microseconds.
    private static let idleTime: MonotonicTime = 60_000_000

    let key: Key
    let worker: Worker
    private unowned let queries: AuthQueries
    private(set) var connection: AuthQueryConnection?
    /// A host is being found.
    private var isResolving = false
    private var waiting = Deque<AuthQuestion>()
    private var sent = Deque<AuthQuestion>()
    private var reply: AuthQueryReply?
    /// Who wants to know.
    private var completions: [AuthQuestion: [Completion]] = [:]
    /// The connection was made for other settings: it answers what it has been asked, and goes.
    private var isObsolete = false
    /// Connections that have failed since there was an answer.
    private var failures = 0
    /// The database does not let the asker in, or does not exist: another one of the same server is asked, as roles are the
    /// same in all. Whoever logs in then hears from the server itself what is wrong with the database.
    private var isAskingElsewhere = false

    init(_ key: Key, queries: AuthQueries) {
        self.key = key
        self.queries = queries
        self.worker = queries.worker
    }

    /// Nothing is asked, and there is no connection.
    var isUnused: Bool { self.connection == nil && !self.isResolving && self.completions.isEmpty }

    func ask(_ question: AuthQuestion, _ completion: @escaping Completion) {
        if self.completions[question] != nil {
            // Asked already.
            self.completions[question]?.append(completion)
            return
        }
        guard self.completions.count < Self.mostOpen else {
            return completion(.failure(AuthQueryFailure(reason: "too many logins wait", isConnectionFailure: true)))
        }
        self.completions[question] = [completion]
        self.waiting.append(question)
        self.pump()
    }

    func pump() {
        guard let connection = self.connection else { return self.connect() }
        guard connection.isReady, !self.isObsolete else { return }
        while self.sent.count < Self.mostUnderWay, let question = self.waiting.popFirst() {
            if self.sent.isEmpty { self.await(question, on: connection) }
            self.sent.append(question)
            connection.send(AuthQueryReply.request(question))
        }
    }

    private func await(_ question: AuthQuestion, on connection: AuthQueryConnection) {
        self.reply = AuthQueryReply(user: question.user)
        connection.setDeadline(self.worker.now + self.worker.ownPatience)
    }

    // MARK: Connecting

    private func connect() {
        guard !self.isResolving, !self.waiting.isEmpty, !self.worker.isPaused(self.key.database) else { return }
        guard let database = self.worker.configuration.settings.database(named: self.key.database),
            self.key.database != Settings.consoleDatabase
        else {
            return self.failAll(AuthQueryFailure(reason: "there is no database \"\(self.key.database)\" to ask"))
        }
        self.isResolving = true
        let key = self.key
        self.worker.findServer(of: database, attempt: self.failures) { worker, host, address in
            worker.authQueries.line(key)?.connect(database, host, address)
        }
    }

    private func connect(
        _ database: DatabaseSettings, _ host: HostAddress, _ address: Swift.Result<SocketAddress, ServerError>
    ) {
        self.isResolving = false
        var database = database
        if self.isAskingElsewhere { database.dbname = Self.elsewhere }
        do {
            let connection = try AuthQueryConnection(
                self, host: host, address: address.get(), database: database, asker: self.key.asker)
            self.connection = connection
            self.isObsolete = false
            connection.setDeadline(self.worker.now + self.worker.ownPatience)
            connection.start()
        } catch {
            self.failed((error as? ServerError)?.message ?? "\(error)")
        }
    }

    /// The connection's login is over.
    func ready(_ connection: AuthQueryConnection) {
        guard connection === self.connection else { return }
        connection.setDeadline(self.worker.now + Self.idleTime)
        self.pump()
    }

    // MARK: Answers

    func received(_ type: UInt8, _ message: Span<UInt8>, on connection: AuthQueryConnection) {
        guard connection === self.connection else { return }
        guard let question = self.sent.first else {
            // Unasked a server tells notices and changed parameters, or why it leaves.
            if type == Backend.errorResponse { connection.fail(ServerError(refusedBy: ErrorFields(message))) }
            return
        }
        if type == Backend.errorResponse, ErrorFields(message).isFatal {
            return connection.fail(ServerError(refusedBy: ErrorFields(message)))
        }
        guard let result = self.reply?.received(type, message) else { return }
        self.sent.removeFirst()
        self.failures = 0
        if let next = self.sent.first {
            self.await(next, on: connection)
        } else {
            self.reply = nil
            connection.setDeadline(self.worker.now + Self.idleTime)
        }
        if case .failure(let failure) = result { self.log(failure) }
        self.complete(question, result)
        if self.isObsolete && self.sent.isEmpty { self.leave(connection) }
        if !self.waiting.isEmpty { self.pump() }
    }

    private func complete(_ question: AuthQuestion, _ result: Result) {
        let result = self.queries.answered(question, result, isKept: !self.isObsolete)
        for completion in self.completions.removeValue(forKey: question) ?? [] { completion(result) }
    }

    // MARK: Failure

    func timedOut(_ connection: AuthQueryConnection) {
        guard connection === self.connection else { return }
        if connection.isReady && self.sent.isEmpty {
            // Unused for long.
            self.isAskingElsewhere = false
            return self.leave(connection)
        }
        let reason = connection.isReady ? "no answer in time" : "connect timeout"
        connection.fail(ServerError(message: reason, sqlState: SQLState.connectionFailure))
    }

    /// The database that every server has.
    private static let elsewhere = "postgres"
    /// There is no such database, the asker may not connect to it, or nobody may.
    private static let refusalsOfDatabase = [
        SQLState.invalidCatalogName, SQLState.insufficientPrivilege, SQLState.objectNotInPrerequisiteState,
    ]

    func lost(_ connection: AuthQueryConnection, _ error: ServerError) {
        guard connection === self.connection else { return }
        self.connection = nil
        if !connection.isReady, !self.isAskingElsewhere, Self.refusalsOfDatabase.contains(error.sqlState) {
            self.worker.log(
                .warning, "auth_query: \(self.key.database)/\(self.key.asker)",
                "\(error.message): asking in database \"\(Self.elsewhere)\"")
            self.isAskingElsewhere = true
            return self.connect()
        }
        self.failed(error.message)
    }

    private func failed(_ reason: String) {
        while let question = self.sent.popLast() { self.waiting.prepend(question) }
        self.reply = nil
        // It may have come into being meanwhile.
        self.isAskingElsewhere = false
        guard !self.waiting.isEmpty else { return }
        self.failures += 1
        let hosts = self.worker.configuration.settings.database(named: self.key.database)?.hosts.count ?? 1
        guard self.failures < max(2, hosts) else {
            return self.failAll(AuthQueryFailure(reason: reason, isConnectionFailure: true))
        }
        self.connect()
    }

    private func failAll(_ failure: AuthQueryFailure) {
        self.failures = 0
        self.log(failure)
        self.waiting.removeAll()
        let completions = self.completions
        self.completions = [:]
        for completion in completions.values.joined() { completion(.failure(failure)) }
    }

    private func log(_ failure: AuthQueryFailure) {
        self.worker.log(
            .error, "auth_query: \(self.key.database)/\(self.key.asker)",
            failure.isConnectionFailure ? failure.reason : "the query failed: \(failure.reason)")
    }

    /// Settings have changed: the next question goes over a new connection.
    func renew() {
        self.isAskingElsewhere = false
        guard let connection = self.connection else { return }
        self.isObsolete = true
        guard self.sent.isEmpty else { return }
        self.leave(connection)
        self.connect()
    }

    private func leave(_ connection: AuthQueryConnection) {
        self.connection = nil
        connection.depart()
    }
}
