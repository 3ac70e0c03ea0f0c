import Authentication
import Dispatch
import Logging
import Reactor
import Services
import Sessions
import Settings
import Synchronization
import Wire

/// Finds out what there is to know of a user who wants in, before anything is asked of the client: the HBA rule, then the
/// user's secret.
///
///     rules ──► (host name) ──► rules ──► (system user) ──► secret ──► identified
///
/// What stands in parentheses may take long, and is done on another thread and only when a rule needs it.
extension ClientLogin {
    func lookUpAccount(of message: StartupMessage) {
        let configuration = self.worker.configuration
        let general = configuration.settings.general
        var account = ClientAuthentication.Account(
            authType: general.authType, processSecret: self.worker.proxy.processSecret)
        account.hasForcedUser = configuration.forcesUser(inDatabase: message.database)
        account.prefersSCRAM = configuration.prefersSCRAM
        account.isTrustedPeer = self.isTrustedPeer(message.user)
        account.isShuttingDown = self.worker.shared.isTooLate(self.client.id)
        account.allowsMD5 = general.authAllowMd5
        account.scramIterations = general.scramIterations
        account.ldap = configuration.ldap
        let isConsole = message.database == Settings.consoleDatabase
        guard account.authType == .hba, !(isConsole && account.isTrustedPeer) else {
            return self.findSecret(message, account, configuration)
        }
        account.identMaps = configuration.hba.identMaps
        let client = HBAClient(
            address: self.client.isUnix ? nil : NetworkAddress(Socket.peerAddress(self.client.descriptor).host),
            isUnix: self.client.isUnix, isEncrypted: self.isEncrypted, database: message.database, user: message.user,
            isReplication: message.replicationMode == "true")
        self.applyRules(message, account, configuration, to: client)
    }

    private func applyRules(
        _ message: StartupMessage, _ account: ClientAuthentication.Account, _ configuration: Configuration,
        to client: HBAClient
    ) {
        switch configuration.hba.verdict(on: client, interfaces: Self.interfaces) {
        case .needsHostName:
            let address = Socket.peerAddress(self.client.descriptor)
            self.onAnotherThread {
                HostLookups.verifiedName(of: address)
            } then: { login, name in
                var client = client
                client.hostName = .known(name)
                login.applyRules(message, account, configuration, to: client)
            }
        case .none: self.identified(account)
        case .rule(let rule):
            var account = account
            account.rule = rule
            switch rule.method {
            // The directory alone judges, too.
            case .reject, .ldap: self.identified(account)
            case .peer: self.findSystemUser(message, account, configuration)
            case .trust, .md5, .password, .scramSHA256, .cert: self.findSecret(message, account, configuration)
            }
        }
    }

    private static func interfaces() -> [Network] {
        HostLookups.interfaces().compactMap { interface in
            guard let address = NetworkAddress(interface.address), let mask = NetworkAddress(interface.mask) else {
                return nil
            }
            return Network(address, mask: mask)
        }
    }

    /// Who is at the other end of the Unix socket.
    private func findSystemUser(
        _ message: StartupMessage, _ account: ClientAuthentication.Account, _ configuration: Configuration
    ) {
        guard let peer = Socket.peerCredentials(self.client.descriptor) else { return self.identified(account) }
        self.onAnotherThread {
            HostLookups.userName(peer.uid)
        } then: { login, name in
            var account = account
            account.systemUser = name
            login.findSecret(message, account, configuration)
        }
    }

    private func findSecret(
        _ message: StartupMessage, _ account: ClientAuthentication.Account, _ configuration: Configuration
    ) {
        var account = account
        // PAM or the directory alone judge: neither file nor server are asked.
        guard account.authType != .pam, account.authType != .ldap else { return self.identified(account) }
        account.secret = configuration.secrets[message.user]
        let isConsole = message.database == Settings.consoleDatabase
        guard account.secret == nil, account.authType != .any, !(isConsole && account.isTrustedPeer),
            let question = AuthQuestion(
                user: message.user, database: message.database, settings: configuration.settings)
        else {
            account.isPassedThrough = self.isPassedThrough(account, message, configuration)
            return self.identified(account)
        }
        if let error = self.disabled(question.database, for: message) { return self.client.fail(error) }
        self.question = question
        let known = account
        let completion = self.later { (login: ClientLogin, result: AuthQueryLine.Result) in
            login.answered(result, known)
        }
        self.worker.reactors[0].mailbox.post { $0.authQueries.ask(question, completion) }
    }

    /// DISABLE holds for questions about users as well.
    private func disabled(_ database: String, for message: StartupMessage) -> ServerError? {
        let isDisabled = self.worker.shared.knownDatabase(database)?.isDisabled.load(ordering: .relaxed)
        guard isDisabled == true else { return nil }
        let subject = database == message.database ? "database" : "authentication database"
        return ServerError(message: "\(subject) \"\(database)\" is disabled", sqlState: SQLState.connectionRejected)
    }

    private func answered(_ result: AuthQueryLine.Result, _ account: ClientAuthentication.Account) {
        switch result {
        case .failure(let failure): self.client.fail(failure.forClients)
        case .success(let answer):
            var account = account
            account.secret = answer.secret
            account.isKnownToServer = answer.isKnown
            account.prefersSCRAM = answer.prefersSCRAM
            if answer.secret == nil, let iterations = answer.iterations { account.scramIterations = iterations }
            self.queriedSecret = answer.secret
            if let message = self.authentication.message {
                account.isPassedThrough = self.isPassedThrough(account, message, self.worker.configuration)
            }
            self.identified(account)
        }
    }

    /// Whether the client's password is to be tried at the server: nothing is known of the user here, the server's user is
    /// the client's, and the password cannot be overheard.
    private func isPassedThrough(
        _ account: ClientAuthentication.Account, _ message: StartupMessage, _ configuration: Configuration
    ) -> Bool {
        let isConsole = message.database == Settings.consoleDatabase
        return configuration.settings.general.authPassthrough && account.secret == nil && !account.isKnownToServer
            && !account.hasForcedUser && !isConsole && (self.isEncrypted || self.client.isUnix)
    }

    /// The password fits what was remembered of an earlier login, or is tried at the server.
    func tryAtServer(_ password: SecretBytes) {
        guard let message = self.authentication.message else { return }
        let remembered = self.worker.shared.passedPasswords.keys(
            database: message.database, user: message.user, now: self.worker.now)
        guard let remembered else { return self.beginTrial(message, password) }
        let derivation = SCRAMDerivation(
            password: password, salt: remembered.salt, iterations: remembered.iterations)
        let completion = self.later { (login: ClientLogin, keys: SCRAMKeys?) in
            // A new password does not fit the old keys.
            guard let keys, keys == remembered else { return login.beginTrial(message, password) }
            login.carryOut(login.authentication.tried(keys))
        }
        self.worker.services.derivations.run(derivation, remembers: false, completion)
    }

    private func beginTrial(_ message: StartupMessage, _ password: SecretBytes) {
        let completion = self.later { (login: ClientLogin, result: Result<SCRAMKeys, ServerError>) in
            switch result {
            case .success(let keys):
                login.hasPassed = true
                login.carryOut(login.authentication.tried(keys))
            case .failure(let error)
            where error.sqlState == SQLState.invalidCatalogName || error.sqlState == SQLState.insufficientPrivilege:
                // The server looks at these when it knows who it is.
                login.client.fail(error)
            case .failure(let error) where error.sqlState.hasPrefix("28"):
                login.worker.log(.warning, login.client.prefix, "auth_passthrough: \(error.message)")
                login.carryOut(login.authentication.tried(nil))
            case .failure(let error):
                login.worker.log(.warning, login.client.prefix, "auth_passthrough: \(error.message)")
                login.client.fail(PasswordTrials.unavailable)
            }
        }
        let request = PasswordTrials.Request(
            database: message.database, user: message.user, password: password, completion: completion)
        self.worker.reactors[0].mailbox.post { $0.passwordTrials.add(request) }
    }

    /// Asks PAM about the password.
    func askPAM(_ password: SecretBytes) {
        guard let user = self.user else { return }
        let service = self.worker.configuration.settings.general.authPamService
        let host = self.client.isUnix ? nil : Socket.peerAddress(self.client.descriptor).host
        self.askSlowly("PAM", service, password) { _ in
            PAM.check(service: service, user: user, password: password.span, host: host)
        }
    }

    /// Asks a directory about the password.
    func askDirectory(_ options: LDAPOptions, _ password: SecretBytes) {
        guard let user = self.user else { return }
        let directories = self.worker.services.directories
        self.askSlowly("LDAP", options.servers.joined(separator: " "), password) { expires in
            directories.check(user: user, password: password, options, until: expires)
        }
    }

    /// The password is right if `ask` says so; then it also opens the server, if that has the same one.
    private func askSlowly(
        _ method: String, _ judge: String, _ password: SecretBytes,
        _ ask: @escaping @Sendable (_ until: MonotonicTime) -> PasswordVerdict
    ) {
        let completion = self.later { (login: ClientLogin, verdict: PasswordVerdict?) in
            switch verdict {
            case .right: login.queriedSecret = .plain(password)
            case .refused(let reason): login.worker.log(.warning, login.client.prefix, "\(method): \(reason)")
            case nil:
                login.worker.log(.warning, login.client.prefix, "\(method): too many logins wait for it")
                return login.client.fail(PasswordTrials.unavailable)
            }
            login.carryOut(login.authentication.judged(verdict == .right))
        }
        let patience = self.worker.configuration.settings.general.clientLoginTimeout
        let expires = patience > 0 ? self.worker.now + patience : .max
        self.worker.services.slowLogins.add(
            SlowLogins.Request(
                judge: "\(method) \(judge)", expires: expires, client: self.presence, ask: { ask(expires) },
                completion: completion))
    }

    /// The login has failed: the user may have a new password.
    func forgetAnswer() {
        guard let question = self.question else { return }
        self.worker.reactors[0].mailbox.post { $0.authQueries.forget(question) }
    }

    /// Runs what may block elsewhere and goes on here, if the client is still there.
    private func onAnotherThread<Result: Sendable>(
        _ work: @escaping @Sendable () -> Result, then: @escaping @Sendable (ClientLogin, Result) -> Void
    ) {
        let completion = self.later(then)
        Self.queue.async { completion(work()) }
    }

    private static let queue = DispatchQueue(label: "martlet.lookup", attributes: .concurrent)
}
