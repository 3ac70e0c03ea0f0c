import Authentication
import Logging
import Pooling
import Reactor
import Routing
import Services
import Sessions
import Settings
import Synchronization
import Wire

/// Logs a client in.
///
///     authentication ──► admission ──► welcome ──► (ready)
///                            └──► (console)
///
/// - authentication: carries out what `ClientAuthentication` decides.
/// - admission: `ClientAdmission` tells where the client goes, the limits whether there is room for it.
/// - welcome: the client waits for the pool's parameters, then hears of its session's.
final class ClientLogin {
    unowned let client: ClientSession
    var authentication: ClientAuthentication

    /// What `auth_query` was asked, and its answer.
    var question: AuthQuestion?
    var queriedSecret: Secret?
    /// The password was tried at the server, and was right.
    var hasPassed = false

    var user: String? { self.authentication.message?.user }
    var database: String? { self.authentication.message?.database }

    /// Goes with this login: who is asked about it later need not be asked any more.
    lazy var presence = SlowLogins.Presence()

    /// When the login is given up.
    var deadline = MonotonicTime.max
    /// The startup packet's settings, while a server is asked about them.
    var asked: ParameterSet?
    /// What it was told then that a server has by itself.
    var askedDefaults: ParameterSet?

    /// Counts this login among those of the client's address.
    private var place: LoginPlaces.Place?

    init(_ client: ClientSession) {
        self.client = client
        let configuration = client.worker.configuration
        if client.isUnix || configuration.tls.clients == nil {
            self.authentication = ClientAuthentication(encryption: .unavailable)
        } else {
            let isRequired = configuration.settings.general.clientTlsSslmode.requiresTLS
            self.authentication = ClientAuthentication(encryption: .offered(isRequired: isRequired))
        }
    }

    /// False if too many clients of this address are logging in.
    func takePlace() -> Bool {
        let limit = self.configuration.settings.general.maxLoginsPerAddress
        guard limit > 0, !self.client.isUnix,
            let address = NetworkAddress(Socket.peerAddress(self.client.descriptor).host)
        else { return true }
        self.place = self.worker.shared.loginPlaces.take(address, limit: limit)
        return self.place != nil
    }

    var worker: Worker { self.client.worker }
    /// To be reached into, for to copy settings is to count a reference to each of their texts.
    private var configuration: Configuration { self.worker.configuration }
    private var isCurrent: Bool { self.client.login === self }

    // MARK: Authentication

    func received(_ bytes: Span<UInt8>) -> Int {
        var cursor = 0
        while self.isCurrent && cursor < bytes.count {
            let step = self.authentication.received(bytes.extracting(cursor..<bytes.count))
            cursor += step.used
            self.carryOut(step.action)
            if step.used == 0 { break }
        }
        return cursor
    }

    func carryOut(_ action: ClientAuthentication.Action) {
        switch action {
        case .wait(let needed): self.client.holdLimit = max(needed, 512)
        case .hold: return
        case .send(let bytes): self.client.send(bytes)
        case .startTLS(let bytes, let isDirect): self.startTLS(bytes, isDirect: isDirect)
        case .identify(let message, let answer):
            if !answer.isEmpty { self.client.send(answer) }
            // The console is where one looks for the reason.
            if self.worker.shared.isShortOfMemory.load(ordering: .relaxed),
                message.database != Settings.consoleDatabase
            {
                return self.client.fail(
                    ServerError(message: "no more connections allowed (max_memory)", sqlState: SQLState.outOfMemory))
            }
            if let error = message.replicationError { return self.client.fail(error) }
            self.lookUpAccount(of: message)
        case .cancel(let key):
            self.worker.cancel(key)
            self.client.over("cancel request", isOrderly: false, tellsClient: false)
        case .derive(let derivation): self.derive(derivation)
        case .ask(.server, let password): self.tryAtServer(password)
        case .ask(.pam, let password): self.askPAM(password)
        case .ask(.directory(let options), let password): self.askDirectory(options, password)
        case .prepare(let derivation): self.prepare(derivation)
        case .authenticated(let bytes, let keys):
            if !bytes.isEmpty { self.client.send(bytes) }
            self.admit(keys: keys)
        case .refuse(let error, let detail):
            if let detail { self.worker.log(.warning, self.client.prefix, detail) }
            if error.sqlState == SQLState.invalidPassword { self.forgetAnswer() }
            self.client.fail(error)
        case .drop(let reason): self.client.over(reason, isOrderly: false, tellsClient: false)
        case .terminate: self.client.terminated()
        }
    }

    private func startTLS(_ bytes: [UInt8], isDirect: Bool) {
        guard let context = self.worker.configuration.tls.clients else {
            // Switched off while this client was coming in.
            return self.client.over("SSL is not available", isOrderly: false, tellsClient: false)
        }
        if !bytes.isEmpty { self.client.send(bytes) }
        self.client.startTLS(context, requiresProtocolName: isDirect)
    }

    /// The TLS handshake is over.
    func secured() {
        guard let details = self.client.tlsDetails else { return }
        let certificate: ClientAuthentication.TLSPeer.Certificate =
            switch details.peerCertificate {
            case .none: .none
            case .nameless(let reason): .nameless(reason)
            case .verified(let name): .verified(name: name)
            }
        self.authentication.secured(
            ClientAuthentication.TLSPeer(certificate: certificate, serverEndPoint: details.serverEndPoint))
    }

    /// All is known of the user that there is to know.
    func identified(_ account: ClientAuthentication.Account) {
        if account.isMissed {
            self.worker.log(.info, self.client.prefix, "no such user: \(LogName.text(self.user) ?? "")")
        }
        self.carryOut(self.authentication.identified(account))
    }

    /// Whether there is TLS between the client and us.
    var isEncrypted: Bool { self.client.isSecured }

    /// User `pgbouncer` on the Unix socket, run by the same operating system user.
    func isTrustedPeer(_ user: String) -> Bool {
        guard user == Settings.consoleDatabase, self.client.isUnix,
            let peer = Socket.peerCredentials(self.client.descriptor)
        else { return false }
        return peer.uid == self.worker.proxy.userID
    }

    /// Checks a password in clear text against a SCRAM verifier: costly, so elsewhere. Only the right one is worth
    /// remembering: wrong ones are without number.
    private func derive(_ derivation: SCRAMDerivation) {
        let derivations = self.worker.services.derivations
        self.run(derivation) { login, keys in
            let action = login.authentication.derived(keys)
            if let keys, case .authenticated = action { derivations.remember(keys, of: derivation) }
            login.carryOut(action)
        }
    }

    private func prepare(_ derivation: SCRAMDerivation) {
        let derivations = self.worker.services.derivations
        let user = self.user ?? ""
        if let known = derivations.verifier(of: user, derivation) {
            return self.carryOut(self.authentication.prepared(known))
        }
        self.run(derivation) { login, keys in
            let verifier = keys.flatMap { try? SCRAMVerifier($0) }
            login.carryOut(
                login.authentication.prepared(verifier.map { derivations.remember($0, of: user, derivation) }))
        }
    }

    /// Runs a derivation on another thread and goes on with its result.
    private func run(_ derivation: SCRAMDerivation, _ then: @escaping @Sendable (ClientLogin, SCRAMKeys?) -> Void) {
        self.worker.services.derivations.run(derivation, remembers: false, self.later(then))
    }

    /// What another thread calls with its result: goes on here, if the client is still there.
    func later<Result: Sendable>(
        _ then: @escaping @Sendable (ClientLogin, Result) -> Void
    ) -> @Sendable (Result) -> Void {
        let id = self.client.id
        let mailbox = self.worker.mailbox
        return { result in
            mailbox.post { worker in
                guard let client = worker.clients[id], let login = client.login else { return }
                then(login, result)
                client.redeliver()
            }
        }
    }

    // MARK: Admission

    /// The client is who it says. Whether it may come in is another question.
    private func admit(keys: SCRAMKeys?) {
        guard let message = self.authentication.message, self.isCurrent else { return }
        let isTrustedPeer = self.isTrustedPeer(message.user)
        let configuration = self.configuration
        let admission = ClientAdmission(message, configuration.settings.general, isTrustedPeer: isTrustedPeer) {
            configuration.hasDatabase(named: $0)
        }
        switch admission {
        case .console(let role): self.openConsole(message.user, role)
        case .refused(let error): self.client.fail(error)
        case .database: self.enter(message, keys)
        }
    }

    private func enter(_ message: StartupMessage, _ keys: SCRAMKeys?) {
        let configuration = self.configuration
        guard let group = self.takePlace(in: message.database, message.user) else { return }
        self.client.join(group)
        if group.pool.database.user == nil {
            let areNew = group.pool.shared.credentials.state.withLock { credentials in
                let old = credentials
                if let keys { credentials.scramKeys = keys }
                credentials.secret = self.queriedSecret
                return credentials != old
            }
            // What the server has refused before may be right now.
            if areNew { group.credentialsChanged() }
            if let keys, self.hasPassed {
                self.worker.shared.passedPasswords.remember(
                    keys, database: message.database, user: message.user,
                    until: self.worker.now + configuration.settings.general.authQueryTtl)
            }
        }
        group.statistics.counters.clientLoginCount &+= 1
        if configuration.settings.general.logConnections {
            let tls = self.client.tlsDetails?.summary ?? "no"
            self.worker.log(
                .info, self.client.prefix,
                "login attempt: db=\(LogName.text(message.database) ?? "")"
                    + " user=\(LogName.text(message.user) ?? "") tls=\(tls)")
        }
        self.client.send(MessageWriter.bytes { $0.authenticationOk() })
        if let mode = message.replicationMode {
            self.client.isReplication = true
            return group.pool.connect(
                for: ServerSession.Replication(
                    mode: mode, client: self.client.id,
                    parameters: self.startupSettings(message)),
                self.client)
        }
        if let router = group.router {
            let route = ClientRoute(router: router)
            self.client.route = route
            self.client.joinCausality(route)
            do {
                try self.client.beginSettings(self.routeSettings(message), route)
            } catch {
                return self.client.fail(error)
            }
        }
        self.awaitWelcome()
    }

    /// Waits for the settings that greet a client of this database.
    func awaitWelcome() { if self.client.pool.awaitWelcome(self.client) { self.finish() } }

    /// `martlet.…` among the startup parameters, without that word.
    private func routeSettings(_ message: StartupMessage) -> [StartupParameter] {
        (self.authentication.options + message.parameters).compactMap { parameter in
            let name = parameter.name.lowercased()
            guard name.hasPrefix("martlet.") else { return nil }
            return StartupParameter(name: String(name.dropFirst("martlet.".count)), value: parameter.value)
        }
    }

    /// Counts the client where limits are; nil, and the client told, when one is reached.
    private func takePlace(in database: String, _ user: String) -> ClientGroup? {
        if self.worker.shared.knownDatabase(database)?.isDisabled.load(ordering: .relaxed) == true {
            return self.refuse("database \"\(database)\" is disabled", SQLState.connectionRejected)
        }
        let limit = self.configuration.settings.general.maxClientConn
        if limit > 0 && self.worker.shared.clients.count > limit {
            return self.refuse("no more connections allowed (max_client_conn)", SQLState.tooManyConnections)
        }
        guard let group = self.worker.group(database: database, user: user) else {
            return self.refuse("no such database: \(database)", SQLState.invalidCatalogName)
        }
        guard group.sharedDatabase.clients.take(limit: group.limits.database) else {
            return self.refuse("client connections exceeded (max_db_client_connections)", SQLState.tooManyConnections)
        }
        guard group.sharedUser.clients.take(limit: group.limits.user) else {
            group.sharedDatabase.clients.give()
            return self.refuse("client connections exceeded (max_user_client_connections)", SQLState.tooManyConnections)
        }
        return group
    }

    private func refuse(_ message: String, _ sqlState: String) -> ClientGroup? {
        self.client.fail(ServerError(message: message, sqlState: sqlState))
        return nil
    }

    /// The console is a database like others where clients are counted; `admin_users` get in above the limits, so that
    /// somebody can look what is going on.
    private func openConsole(_ user: String, _ role: ConsoleRole) {
        let settings = self.configuration.settings
        let isLimited = role != .admin
        let consoleLimit = isLimited ? settings.general.maxDbClientConnections : 0
        guard self.worker.shared.consoleClients.take(limit: consoleLimit) else {
            _ = self.refuse("client connections exceeded (max_db_client_connections)", SQLState.tooManyConnections)
            return
        }
        let sharedUser = self.worker.shared.user(user)
        let userLimit = isLimited ? settings.effectiveMaxUserClientConnections(user: user) : 0
        guard sharedUser.clients.take(limit: userLimit) else {
            self.worker.shared.consoleClients.give()
            _ = self.refuse("client connections exceeded (max_user_client_connections)", SQLState.tooManyConnections)
            return
        }
        self.client.console = ConsoleSession(self.client, user: sharedUser, role: role)
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
        let client = self.client
        client.login = nil
        client.redeliver()
    }

    private func cancelKey() -> (processID: UInt32, secret: [UInt8]) {
        let isLong = self.authentication.version.hasVariableSecrets
        let more = isLong ? SecureRandom.bytes(28) : []
        let key = self.client.makeCancelKey(isLong: isLong, random: more)
        let secret = (0..<4).map { UInt8(truncatingIfNeeded: key >> UInt64(24 - 8 * $0)) }
        return (UInt32(truncatingIfNeeded: key >> 32), secret + more)
    }

    // MARK: Welcome

    /// The pool's parameters are known: tells the client its session's, and that it may begin.
    func finish(server: ServerSession? = nil) {
        guard let message = self.authentication.message,
            let defaults = server?.parameters ?? self.client.pool.welcome
        else { return }
        // A replication client's settings went into its own server connection's startup packet.
        let startup = server == nil ? self.startupSettings(message) : []
        let beginning: ParameterTable.Beginning
        do {
            beginning = try self.worker.parameters.beginning(startup, defaults: defaults)
        } catch {
            return self.client.fail(ServerError(message: error.message, sqlState: error.sqlState))
        }
        self.client.parameters = beginning.settings
        self.client.defaults = defaults
        self.client.startupSettings = beginning.own
        if server == nil { self.client.noteRestorable() }
        self.client.areSettingsProven = beginning.settings === defaults
        if server == nil && self.askAboutSettings(defaults) { return }
        self.greet(isReplication: server != nil)
    }

    /// Tells the client its session's settings, and that it may begin.
    func greet(isReplication: Bool) {
        guard let parameters = self.client.parameters else { return }
        let key = self.cancelKey()
        var bytes = MessageWriter(capacity: parameters.statusMessages.count + 192)
        bytes.raw(parameters.statusMessages)
        if let router = self.client.route?.router {
            // Which of its servers a client talks to is not its business; the database as a whole takes writes or not.
            bytes.parameterStatus(
                name: "in_hot_standby", value: router.settings.routing == .replica ? "on" : "off")
        }
        bytes.raw(self.worker.ownParameters(self.client.pool.mode))
        bytes.backendKeyData(processID: key.processID, secret: key.secret)
        let notice = self.configuration.settings.general.loginNotifyMessage
        if !notice.isEmpty {
            bytes.noticeResponse(severity: "NOTICE", sqlState: SQLState.warning, message: notice)
        }
        bytes.readyForQuery(.idle)
        self.client.send(bytes.bytes)
        let client = self.client
        client.loggedIn()
        // A replication client's requests wait until it has been linked to its connection.
        if !isReplication { client.redeliver() }
    }

    private func startupSettings(_ message: StartupMessage) -> [StartupParameter] {
        let configuration = self.configuration
        var peer: String?
        if configuration.settings.general.applicationNameAddHost {
            peer =
                self.client.isUnix
                ? "unix(\(configuration.settings.general.listenPort))"
                : Socket.peerAddress(self.client.descriptor).description
        }
        var ignored = configuration.settings.general.ignoreStartupParameters
        // It would end connections that are idle because this client has given them back.
        if self.client.pool.mode != .session { ignored.append("idle_session_timeout") }
        return message.settings(options: self.authentication.options, ignored: ignored, peer: peer)
    }
}
