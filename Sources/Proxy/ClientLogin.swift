import Authentication
import Logging
import Pooling
import Reactor
import Settings
import Synchronization
import Wire

/// Logs a client in.
///
///     startup ──SSLRequest, GSSENCRequest──► startup
///        │ ──CancelRequest──► (closed)
///        ▼
///     password, md5, scram ──► admission ──► welcome ──► (ready)
///        ▲     │
///        │     ▼
///       deriving (SCRAM keys, on another thread)
///
/// Whether the database and the user exist is told after authentication only, and an unknown user goes through the same
/// exchange as a known one, so that nobody can probe for names.
final class ClientLogin {
    private enum Step {
        case startup
        case password
        case md5(salt: [UInt8])
        case scram
        case deriving
        case welcome
    }

    private unowned let client: ClientSession
    private var step = Step.startup
    private var scram: SCRAMServer?
    private var message: StartupMessage?
    private var options: [StartupParameter] = []
    private var negotiation: ProtocolNegotiation?
    private var encryptionRequests = 0
    /// The user's secret, nil if there is none.
    private var secret: Secret?

    var user: String? { self.message?.user }
    var database: String? { self.message?.database }

    /// The longest message before login is over: a SCRAM message, or a password of 65,535 bytes.
    private static let messageLimit = 66_000

    init(_ client: ClientSession) { self.client = client }

    private var worker: Worker { self.client.worker }
    private var settings: Settings { self.worker.configuration.settings }
    private var isCurrent: Bool { self.client.login === self }

    func received(_ bytes: Span<UInt8>) -> Int {
        var cursor = 0
        while self.isCurrent && cursor < bytes.count {
            let rest = bytes.extracting(cursor..<bytes.count)
            let taken: Int
            switch self.step {
            case .startup: taken = self.startup(rest)
            case .password, .md5, .scram: taken = self.answer(rest)
            // What a client sends ahead waits.
            case .deriving, .welcome: taken = 0
            }
            if taken == 0 { return cursor }
            cursor += taken
        }
        return cursor
    }

    // MARK: Startup packet

    /// Returns how many bytes were used.
    private func startup(_ bytes: Span<UInt8>) -> Int {
        switch StartupPacket.parse(bytes) {
        case .incomplete(let needed):
            self.client.holdLimit = max(needed, 512)
            return 0
        case .invalid(let error):
            self.refuse(error.message, error.sqlState)
            return bytes.count
        case .directTLS:
            // No TLS here: a TLS client understands nothing else than the end.
            self.client.over("SSL is not available", isOrderly: false, tellsClient: false)
            return bytes.count
        case .packet(let packet, let length):
            switch packet {
            case .sslRequest, .gssEncRequest:
                // What comes in the same packet was sent before the answer was known: somebody between us and the
                // client may have put it there (CVE-2021-23214 and its kin).
                guard bytes.count == length else {
                    self.refuse("received unencrypted data after SSL request", SQLState.protocolViolation)
                    return bytes.count
                }
                self.encryptionRequests += 1
                guard self.encryptionRequests <= 2 else {
                    self.refuse("too many requests for encryption", SQLState.protocolViolation)
                    return bytes.count
                }
                self.client.send([UInt8(ascii: "N")])
            case .cancel(let key):
                self.worker.cancel(key)
                self.client.over("cancel request", isOrderly: false, tellsClient: false)
            case .startup(let message): self.begin(message)
            }
            return length
        }
    }

    private func begin(_ message: StartupMessage) {
        self.message = message
        self.negotiation = ProtocolNegotiation(requested: message.version, extensions: message.extensions)
        if let negotiation = self.negotiation, negotiation.answerNeeded {
            self.client.send(MessageWriter.bytes { $0.negotiateProtocolVersion(negotiation) })
        }
        do {
            if let options = message.options { self.options = try StartupOptions.parse(options.span) }
        } catch {
            return self.refuse(error.message, error.sqlState)
        }
        if self.worker.shared.isShuttingDown.load(ordering: .relaxed) && message.database != Settings.consoleDatabase {
            return self.refuse("pooler is shutting down", SQLState.adminShutdown)
        }
        self.authenticate(message)
    }

    // MARK: Authentication

    private func authenticate(_ message: StartupMessage) {
        let general = self.settings.general
        if message.database == Settings.consoleDatabase && self.isSameUser(message.user) { return self.admit() }
        let forced = self.settings.database(named: message.database)?.user
        self.secret = self.worker.configuration.secrets[message.user]
        switch general.authType {
        case .any where message.database == Settings.consoleDatabase: return self.admit()
        case .any where forced != nil: return self.admit()
        case .any: return self.refuse("bouncer config error", SQLState.invalidAuthorization)
        case .trust:
            // As in PgBouncer the user has to be in the auth_file, so that there is a password for the server.
            guard self.secret != nil || self.worker.configuration.settings.general.authFile == nil || forced != nil else {
                return self.refuse("no such user", SQLState.invalidPassword)
            }
            return self.admit()
        case .plain: self.ask(.password) { $0.authenticationCleartextPassword() }
        case .md5:
            // A user whose secret is a SCRAM verifier can only be asked for SCRAM.
            if case .scram? = self.secret { return self.askSCRAM() }
            let salt = SecureRandom.bytes(MD5Password.saltLength)
            self.ask(.md5(salt: salt)) { $0.authenticationMD5Password(salt: salt) }
        case .scramSHA256: self.askSCRAM()
        case .cert, .hba, .ldap, .pam:
            self.refuse("bouncer config error", SQLState.invalidAuthorization)
        }
    }

    private func ask(_ step: Step, _ write: (inout MessageWriter) -> Void) {
        self.step = step
        self.client.send(MessageWriter.bytes(write))
    }

    private func askSCRAM() {
        self.ask(.scram) { $0.authenticationSASL(mechanisms: SCRAMServer.mechanisms) }
    }

    /// User `pgbouncer` on the Unix socket, run by the same operating system user.
    private func isSameUser(_ user: String) -> Bool {
        guard user == Settings.consoleDatabase, self.client.isUnix,
            let peer = Socket.peerCredentials(self.client.descriptor)
        else { return false }
        return peer.uid == self.worker.proxy.userID
    }

    /// A PasswordMessage, SASLInitialResponse or SASLResponse. Returns how many bytes were used.
    private func answer(_ bytes: Span<UInt8>) -> Int {
        var framer = MessageFramer(maximumLength: Self.messageLimit)
        switch framer.next(bytes, at: 0, gather: [Frontend.password]) {
        case .incomplete(let needed):
            self.client.holdLimit = max(needed, 512)
            return 0
        case .message(Frontend.password, let range):
            self.password(bytes.extracting(range))
            return range.upperBound
        case .message(Frontend.terminate, _):
            self.client.terminated()
            return bytes.count
        case .message, .start, .middle, .end, .invalid:
            self.refuse("bad packet", SQLState.protocolViolation)
            return bytes.count
        }
    }

    private func password(_ message: Span<UInt8>) {
        switch self.step {
        case .password: self.checkPlain(message)
        case .md5(let salt): self.checkMD5(message, salt)
        case .scram: self.continueSCRAM(message)
        case .startup, .deriving, .welcome: self.refuse("bad packet", SQLState.protocolViolation)
        }
    }

    private func checkPlain(_ message: Span<UInt8>) {
        guard let password = PasswordMessage.password(message) else { return self.wrongPassword() }
        let user = Array((self.user ?? "").utf8)
        guard let secret = self.secret, let result = try? secret.check(password: password.span, user: user.span) else {
            return self.wrongPassword()
        }
        switch result {
        case .matches(let matches): matches ? self.admit() : self.wrongPassword()
        case .derive(let derivation, let verifier):
            self.derive(derivation) { login, keys in
                if let keys, (try? verifier.matches(keys)) == true {
                    login.admit(keys: keys)
                } else {
                    login.wrongPassword()
                }
            }
        }
    }

    private func checkMD5(_ message: Span<UInt8>, _ salt: [UInt8]) {
        guard let response = PasswordMessage.password(message) else { return self.wrongPassword() }
        let user = Array((self.user ?? "").utf8)
        let isRight = try? MD5Password.verify(
            response: response.span, user: user.span, secret: self.secret, salt: salt.span)
        isRight == true ? self.admit() : self.wrongPassword()
    }

    // MARK: SCRAM

    private func continueSCRAM(_ message: Span<UInt8>) {
        guard self.scram == nil else {
            let body = message.extracting(MessageFramer.headerLength..<message.count)
            guard let action = self.scram?.response(body) else { return }
            return self.carryOut(action)
        }
        guard let initial = SASLInitialResponse(message) else {
            return self.refuse("malformed SASL message", SQLState.protocolViolation)
        }
        let iterations = self.settings.general.scramIterations
        switch self.secret?.scramLogin(iterations: iterations) ?? .impossible {
        case .verifier(let verifier): self.beginSCRAM(verifier, initial)
        case .impossible:
            // Goes through the exchange all the same, and fails at its end.
            let user = Array((self.user ?? "").utf8)
            guard
                let mock = try? SCRAMVerifier.mock(
                    user: user.span, processSecret: self.worker.proxy.processSecret, iterations: iterations)
            else { return self.wrongPassword() }
            self.beginSCRAM(mock, initial)
        case .derive(let derivation):
            let password = derivation.password
            let derivations = self.worker.derivations
            if let known = derivations.verifier(password, iterations: iterations) {
                return self.beginSCRAM(known, initial)
            }
            self.derive(derivation) { login, keys in
                guard let keys, let verifier = try? SCRAMVerifier(keys) else { return login.wrongPassword() }
                derivations.remember(verifier, of: password, iterations: iterations)
                login.step = .scram
                login.beginSCRAM(verifier, initial)
            }
        }
    }

    private func beginSCRAM(_ verifier: SCRAMVerifier, _ initial: SASLInitialResponse) {
        self.scram = SCRAMServer(verifier: verifier)
        let mechanism = Array(initial.mechanism.utf8)
        let action: SCRAMServer.Action?
        if let data = initial.data {
            action = self.scram?.initialResponse(mechanism: mechanism.span, message: data.span)
        } else {
            action = self.scram?.initialResponse(mechanism: mechanism.span, message: nil)
        }
        if let action { self.carryOut(action) }
    }

    private func carryOut(_ action: SCRAMServer.Action) {
        switch action {
        case .send(let data): self.client.send(MessageWriter.bytes { $0.authenticationSASLContinue(data) })
        case .success(let final, let keys):
            self.client.send(MessageWriter.bytes { $0.authenticationSASLFinal(final) })
            self.admit(keys: keys)
        case .failure(let error):
            if error.isProtocolViolation {
                self.refuse("SASL authentication failed", SQLState.protocolViolation, detail: error.description)
            } else {
                self.refuse("SASL authentication failed", SQLState.invalidPassword)
            }
        }
    }

    /// Runs the costly derivation elsewhere and goes on with its result.
    private func derive(_ derivation: SCRAMDerivation, _ then: @escaping @Sendable (ClientLogin, SCRAMKeys?) -> Void) {
        self.step = .deriving
        let id = self.client.id
        let mailbox = self.worker.mailbox
        self.worker.derivations.run(derivation) { keys in
            mailbox.post { worker in
                guard let client = worker.clients[id], let login = client.login else { return }
                then(login, keys)
                client.redeliver()
            }
        }
    }

    // MARK: Refusal

    private func wrongPassword() {
        self.refuse("password authentication failed for user \"\(self.user ?? "")\"", SQLState.invalidPassword)
    }

    private func refuse(_ message: String, _ sqlState: String, detail: String? = nil) {
        if let detail { self.worker.log(.warning, self.client.prefix, detail) }
        self.client.fail(ServerError(message: message, sqlState: sqlState))
    }

    // MARK: Admission

    /// The client is who it says. Whether it may come in is another question.
    private func admit(keys: SCRAMKeys? = nil) {
        guard let message = self.message, self.isCurrent else { return }
        if message.database == Settings.consoleDatabase { return self.openConsole(message) }
        let general = self.settings.general
        guard let database = self.settings.database(named: message.database) else {
            return self.refuse("no such database: \(message.database)", SQLState.invalidCatalogName)
        }
        let shared = self.worker.shared.database(database.name)
        if shared.isDisabled.load(ordering: .relaxed) {
            return self.refuse("database \"\(database.name)\" is disabled", SQLState.connectionRejected)
        }
        if general.maxClientConn > 0 && self.worker.shared.clients.count > general.maxClientConn {
            return self.refuse("no more connections allowed (max_client_conn)", SQLState.tooManyConnections)
        }
        let group = self.worker.group(database: database, user: message.user)
        guard shared.clients.take(limit: self.settings.effectiveMaxDbClientConnections(database: database)) else {
            return self.refuse(
                "client connections exceeded (max_db_client_connections)", SQLState.tooManyConnections)
        }
        guard group.sharedUser.clients.take(limit: self.settings.effectiveMaxUserClientConnections(user: message.user))
        else {
            shared.clients.give()
            return self.refuse(
                "client connections exceeded (max_user_client_connections)", SQLState.tooManyConnections)
        }
        self.client.join(group)
        if let keys, database.user == nil { group.pool.shared.scramKeys.withLock { $0 = keys } }
        group.statistics.counters.clientLoginCount &+= 1
        if general.logConnections {
            self.worker.log(.info, self.client.prefix, "login attempt: db=\(database.name) user=\(message.user) tls=no")
        }
        self.client.send(MessageWriter.bytes { $0.authenticationOk() })
        self.step = .welcome
        if let replication = Self.replication(message.replication) {
            self.client.isReplication = true
            return group.pool.connect(
                for: ServerSession.Replication(
                    mode: replication, client: self.client.id,
                    parameters: self.startupParameters(message, general)), self.client)
        }
        if group.pool.awaitWelcome(self.client) { self.finish() }
    }

    /// The value for the server's startup packet; nil when no replication is wanted.
    private static func replication(_ value: String?) -> String? {
        switch value?.lowercased() {
        case nil, "", "off", "false", "no", "0", "f", "n": nil
        case "database": "database"
        default: "true"
        }
    }

    private func openConsole(_ message: StartupMessage) {
        let general = self.settings.general
        let role: ConsoleRole
        if self.isSameUser(message.user) || general.adminUsers.contains(message.user) {
            role = .admin
        } else if general.statsUsers.contains(message.user) {
            role = .stats
        } else if general.authType == .any {
            role = .admin
        } else {
            return self.refuse("not allowed", SQLState.insufficientPrivilege)
        }
        let console = ConsoleSession(self.client, user: message.user, role: role)
        self.client.console = console
        self.client.setDeadline(.max)
        let key = self.cancelKey()
        self.client.send(
            MessageWriter.bytes { writer in
                writer.authenticationOk()
                for parameter in self.worker.console.welcomeParameters {
                    writer.parameterStatus(name: parameter.name, value: parameter.value)
                }
                writer.backendKeyData(processID: key.processID, secret: key.secret)
                writer.readyForQuery(.idle)
            })
        self.client.login = nil
    }

    private func cancelKey() -> (processID: UInt32, secret: [UInt8]) {
        let isLong = self.negotiation?.version.hasVariableSecrets ?? false
        let more = isLong ? SecureRandom.bytes(28) : []
        let key = self.client.makeCancelKey(isLong: isLong, random: more)
        let secret = (0..<4).map { UInt8(truncatingIfNeeded: key >> UInt64(24 - 8 * $0)) }
        return (UInt32(truncatingIfNeeded: key >> 32), secret + more)
    }

    // MARK: Welcome

    /// The pool's parameters are known: tells the client its session's, and that it may begin.
    func finish(server: ServerSession? = nil) {
        guard let message = self.message, let defaults = server?.parameters ?? self.client.pool.welcome else { return }
        let general = self.settings.general
        // A replication client's settings went into its own server connection's startup packet.
        let startup = server == nil ? self.startupParameters(message, general) : []
        let parameters: ParameterSet
        do {
            parameters = try self.worker.parameters.initial(startup, defaults: defaults)
        } catch {
            return self.refuse(error.message, error.sqlState)
        }
        self.client.parameters = parameters
        self.client.areSettingsProven = parameters === defaults
        let key = self.cancelKey()
        var bytes = MessageWriter()
        for parameter in parameters.parameters where parameter.isReported {
            bytes.parameterStatus(name: parameter.name, value: parameter.value)
        }
        let mode = self.client.pool.mode
        bytes.parameterStatus(name: "pgbouncer.version", value: "1.26.1")
        bytes.parameterStatus(name: "pgbouncer.pool_mode", value: mode.rawValue)
        bytes.parameterStatus(name: "pgbouncer.max_prepared_statements", value: String(general.maxPreparedStatements))
        bytes.backendKeyData(processID: key.processID, secret: key.secret)
        if !general.loginNotifyMessage.isEmpty {
            bytes.noticeResponse(severity: "NOTICE", sqlState: SQLState.warning, message: general.loginNotifyMessage)
        }
        bytes.readyForQuery(.idle)
        self.client.send(bytes.bytes)
        let client = self.client
        client.loggedIn()
        client.redeliver()
    }

    /// Settings of the startup packet: `options` first, as in PostgreSQL parameters of their own come behind.
    private func startupParameters(_ message: StartupMessage, _ general: GeneralSettings) -> [StartupParameter] {
        let ignored = Set(general.ignoreStartupParameters.map { $0.lowercased() })
        var startup = (self.options + message.parameters).filter { !ignored.contains($0.name.lowercased()) }
        if general.applicationNameAddHost {
            let name = startup.last { $0.name.lowercased() == "application_name" }?.text ?? "app"
            let peer = self.client.isUnix ? "unix(\(general.listenPort))" : Socket.peerAddress(self.client.descriptor).description
            startup.append(StartupParameter(name: "application_name", value: "\(name) - \(peer)"))
        }
        return startup
    }

    /// The client has gone in the middle.
    func abandoned() {
        if self.client.hasGroup { self.client.pool.leaveWelcomeQueue(self.client) }
    }
}
