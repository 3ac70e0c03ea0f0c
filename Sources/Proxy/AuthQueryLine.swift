import DequeModule
import Logging
import Reactor
import Routing
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
    /// How long a login or an answer may take without `server_connect_timeout`.
    private static let patience: MonotonicTime = 15_000_000

    let key: Key
    let worker: Worker
    private unowned let queries: AuthQueries
    private(set) var connection: AuthQueryConnection?
    /// A host's name is being looked up.
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

    private func pump() {
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
        connection.setDeadline(self.worker.now + self.timeout)
    }

    private var timeout: MonotonicTime {
        let timeout = self.worker.configuration.settings.general.serverConnectTimeout
        return timeout > 0 ? timeout : Self.patience
    }

    // MARK: Connecting

    private func connect() {
        guard !self.isResolving, !self.waiting.isEmpty else { return }
        guard let database = self.worker.configuration.settings.database(named: self.key.database),
            self.key.database != Settings.consoleDatabase
        else {
            return self.failAll(AuthQueryFailure(reason: "there is no database \"\(self.key.database)\" to ask"))
        }
        let (host, known) = self.nextHost(database)
        if let path = host.socketPath {
            return self.connect(database, host, SocketAddress(unix: path).map { .success([$0]) } ?? .success([]))
        }
        let port = UInt16(clamping: host.port)
        if let address = SocketAddress(ip: known ?? host.host, port: port) {
            return self.connect(database, host, .success([address]))
        }
        self.isResolving = true
        let mailbox = self.worker.mailbox
        let key = self.key
        self.worker.resolver.resolve(host.host) { answer in
            let addresses = answer.map { $0.map { $0.with(port: port) } }
            mailbox.post { worker in
                guard let line = worker.authQueries.line(key) else { return }
                line.isResolving = false
                line.connect(database, host, addresses)
            }
        }
    }

    /// Of a routed database the primary, which knows a new user at once; after a failure one host after the other.
    private func nextHost(_ database: DatabaseSettings) -> (host: HostAddress, address: String?) {
        if self.failures == 0, let node = self.worker.routers[database.name]?.home?.node {
            return (HostAddress(host: node.host, port: node.port), node.address)
        }
        let hosts = database.hosts
        return (hosts.isEmpty ? HostAddress(host: "") : hosts[self.failures % hosts.count], nil)
    }

    private func connect(_ database: DatabaseSettings, _ host: HostAddress, _ addresses: Resolver.Answer) {
        do {
            let list = try addresses.get()
            guard let address = list.isEmpty ? nil : list[self.failures % list.count] else {
                return self.failed("\(host.host) has no address")
            }
            let socket = try Socket.connecting(to: address, options: self.worker.socketOptions)
            let connection = AuthQueryConnection(
                self, database: database, host: host, isUnix: address.isUnix, asker: self.key.asker, socket: socket)
            self.connection = connection
            self.isObsolete = false
            connection.setDeadline(self.worker.now + self.timeout)
            connection.start()
        } catch {
            self.failed("\(error)")
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
            if type == Backend.errorResponse { connection.fail(ErrorFields(message).message) }
            return
        }
        if type == Backend.errorResponse, ErrorFields(message).isFatal {
            return connection.fail(ErrorFields(message).message)
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
            return self.leave(connection)
        }
        connection.fail(connection.isReady ? "no answer in time" : "connect timeout")
    }

    func lost(_ connection: AuthQueryConnection, _ reason: String) {
        guard connection === self.connection else { return }
        self.connection = nil
        self.failed(reason)
    }

    private func failed(_ reason: String) {
        while let question = self.sent.popLast() { self.waiting.prepend(question) }
        self.reply = nil
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
        guard let connection = self.connection else { return }
        self.isObsolete = true
        guard self.sent.isEmpty else { return }
        self.leave(connection)
        self.connect()
    }

    private func leave(_ connection: AuthQueryConnection) {
        self.connection = nil
        if connection.isReady { connection.send(MessageWriter.bytes { $0.terminate() }) }
        connection.closeAfterFlush()
    }
}
