public import Authentication
import Settings
public import Wire

/// Finds out who a client is: startup packet, then the exchange that `auth_type` and the user's secret call for. Takes
/// bytes and keys, says what to do; `ClientLogin` does it.
///
///     startup ──SSLRequest, GSSENCRequest, (TLS handshake)──► startup
///        │ ──CancelRequest──► refused
///        ▼
///     identifying ──trust, any, cert────────────────────────────────────► authenticated
///        ├──► password ──► (checking: keys, on another thread) ─────────────►│
///        ├──► passing ──► (trying: at the server, by PAM, by LDAP) ─────────►│
///        ├──► md5 ──────────────────────────────────────────────────────────►│
///        └──► sasl ──► (preparing: verifier, on another thread) ──► scram ──►│
///
/// Everything else ends in `refused`. Whether the user exists is not told: an unknown one goes through the same exchange
/// as a known one, and fails at its end with the same words.
public struct ClientAuthentication: ~Copyable {
    /// What TLS there is between the client and us.
    public enum Encryption: Sendable, Equatable {
        /// None, and none to be had: it is switched off, or this is a Unix socket.
        case unavailable
        /// None yet; the client may ask for it, or must.
        case offered(isRequired: Bool)
        case established(TLSPeer)
    }

    /// What TLS tells of the client.
    public struct TLSPeer: Sendable, Equatable {
        /// The client's certificate.
        public enum Certificate: Sendable, Equatable {
            case none
            /// It is valid, and has no name that one could log in by, for this reason.
            case nameless(String)
            /// It is valid, and says this name.
            case verified(name: String)
        }

        public var certificate = Certificate.none
        /// The digest of our own certificate, for SCRAM's channel binding.
        public var serverEndPoint: [UInt8]?

        public init(certificate: Certificate = .none, serverEndPoint: [UInt8]? = nil) {
            self.certificate = certificate
            self.serverEndPoint = serverEndPoint
        }
    }

    /// What the session does next.
    public enum Action: Sendable, Equatable {
        /// Nothing before so many bytes are there.
        case wait(needed: Int)
        /// Nothing before another event; bytes sent ahead stay where they are.
        case hold
        case send([UInt8])
        /// Send the bytes, begin TLS with those of the client that were not used, and call `secured`. Without
        /// SSLRequest the client has to name the protocol in the handshake.
        case startTLS(send: [UInt8], isDirect: Bool)
        /// Send the bytes, look up the account and call `identified`.
        case identify(StartupMessage, send: [UInt8])
        /// CancelRequest: pass it on and close.
        case cancel(key: [UInt8])
        /// Run the derivation on another thread and call `derived`.
        case derive(SCRAMDerivation)
        /// Ask about the password and call `tried`, where it is the server that was asked, or `judged`.
        case ask(Judge, SecretBytes)
        /// Look up the verifier of the derivation's password, or make it on another thread, and call `prepared`.
        case prepare(SCRAMDerivation)
        /// The client is who it says: send the bytes. The keys log in to a server that has the same SCRAM secret.
        case authenticated(send: [UInt8], keys: SCRAMKeys?)
        /// Tell the client and close; `detail` is for the log.
        case refuse(ServerError, detail: String?)
        /// Close without a word, for this reason.
        case drop(String)
        /// The client has sent Terminate.
        case terminate
    }

    /// What was made of the bytes at the front: how many are used up, and what to do.
    public struct Step: Sendable, Equatable {
        public let used: Int
        public let action: Action
    }

    /// Who else may know whether a password is right.
    public enum Judge: Sendable, Equatable {
        case server
        case pam
        indirect case directory(LDAPOptions)
    }

    private enum State {
        case startup
        case identifying
        case password(Secret?)
        case md5(Secret?, salt: [UInt8])
        case checking(SCRAMVerifier)
        /// A password that somebody else is to judge.
        case passing(Judge)
        case trying(Judge)
        indirect case sasl(Account)
        case preparing(SASLInitialResponse)
        case scram
        case authenticated
        case refused
    }

    /// The longest message before login is over: a SCRAM message, or a password of 65,535 bytes.
    public static let messageLimit = 66_000

    private var state = State.startup
    private var encryption: Encryption
    /// The exchange, in `scram`.
    private var exchange: SCRAMServer?
    private var encryptionRequests = 0
    /// The startup packet, once it is there.
    public private(set) var message: StartupMessage?
    /// The settings in the startup packet's `options`.
    public private(set) var options: [StartupParameter] = []
    /// The version that is spoken.
    public private(set) var version = ProtocolVersion.v30

    private var user: String { self.message?.user ?? "" }

    public init(encryption: Encryption = .unavailable) { self.encryption = encryption }

    /// Bytes have arrived; `bytes` begins at a packet or message and is not empty.
    public mutating func received(_ bytes: Span<UInt8>) -> Step {
        switch self.state {
        case .startup: return self.startup(bytes)
        case .password, .md5, .sasl, .scram, .passing: return self.answer(bytes)
        case .identifying, .checking, .trying, .preparing, .authenticated: return Step(used: 0, action: .hold)
        case .refused: return Step(used: bytes.count, action: .hold)
        }
    }

    // MARK: Startup packet

    private mutating func startup(_ bytes: Span<UInt8>) -> Step {
        switch StartupPacket.parse(bytes) {
        case .incomplete(let needed): return Step(used: 0, action: .wait(needed: needed))
        case .invalid(let error): return Step(used: bytes.count, action: self.refuse(error.message, error.sqlState))
        case .directTLS:
            if case .offered = self.encryption { return Step(used: 0, action: .startTLS(send: [], isDirect: true)) }
            // No TLS here: a TLS client understands nothing else than the end.
            self.state = .refused
            return Step(used: bytes.count, action: .drop("SSL is not available"))
        case .packet(let packet, let length):
            switch packet {
            case .sslRequest, .gssEncRequest:
                let action = self.encryptionRequest(isTLS: packet == .sslRequest, isAlone: bytes.count == length)
                return Step(used: length, action: action)
            case .cancel(let key):
                self.state = .refused
                return Step(used: bytes.count, action: .cancel(key: key))
            case .startup(let message): return Step(used: length, action: self.begin(message))
            }
        }
    }

    private mutating func encryptionRequest(isTLS: Bool, isAlone: Bool) -> Action {
        // What comes in the same packet was sent before the answer was known: somebody between us and the client may
        // have put it there (CVE-2021-23214 and its kin).
        guard isAlone else {
            return self.refuse("received unencrypted data after SSL request", SQLState.protocolViolation)
        }
        self.encryptionRequests += 1
        guard self.encryptionRequests <= 2 else {
            return self.refuse("too many requests for encryption", SQLState.protocolViolation)
        }
        switch self.encryption {
        case .established: return self.refuse("request for encryption inside TLS", SQLState.protocolViolation)
        case .offered where isTLS: return .startTLS(send: [UInt8(ascii: "S")], isDirect: false)
        case .offered, .unavailable: return .send([UInt8(ascii: "N")])
        }
    }

    /// The TLS handshake is over.
    public mutating func secured(_ peer: TLSPeer) { self.encryption = .established(peer) }

    private mutating func begin(_ message: StartupMessage) -> Action {
        if case .offered(isRequired: true) = self.encryption {
            return self.refuse("SSL required", SQLState.protocolViolation)
        }
        let negotiation = ProtocolNegotiation(requested: message.version, extensions: message.extensions)
        self.message = message
        self.version = negotiation.version
        self.state = .identifying
        guard negotiation.answerNeeded else { return .identify(message, send: []) }
        return .identify(message, send: MessageWriter.bytes { $0.negotiateProtocolVersion(negotiation) })
    }

    /// The account has been looked up.
    public mutating func identified(_ account: Account) -> Action {
        guard case .identifying = self.state, let message = self.message else { return self.badPacket() }
        do {
            if let options = message.options { self.options = try StartupOptions.parse(options.span) }
        } catch {
            return self.refuse(error.message, error.sqlState)
        }
        let isConsole = message.database == Settings.consoleDatabase
        if account.isShuttingDown && !isConsole {
            return self.refuse("pooler is shutting down", SQLState.adminShutdown)
        }
        if isConsole && account.isTrustedPeer { return self.admit() }
        return self.authenticate(account, isConsole: isConsole)
    }

    private mutating func authenticate(_ account: Account, isConsole: Bool) -> Action {
        switch account.authType {
        case .any:
            guard isConsole || account.hasForcedUser else {
                return self.refuse("bouncer config error", SQLState.invalidAuthorization)
            }
            return self.admit()
        case .trust:
            guard account.isKnown else {
                return self.refuse(
                    "\"trust\" authentication failed", SQLState.invalidAuthorization, detail: "no such user")
            }
            return self.admit()
        case .cert: return self.checkCertificate(account)
        case .hba: return self.authenticate(account, by: account.rule)
        case .plain:
            self.state =
                account.isPassedThrough
                ? .passing(.server) : .password(account.secret ?? self.mock(account).map { .scram($0) })
            return .send(MessageWriter.bytes { $0.authenticationCleartextPassword() })
        case .md5:
            // A user whose secret is a SCRAM verifier can only be asked for SCRAM.
            switch account.secret {
            case .scram: return self.askSCRAM(account)
            case nil where account.prefersSCRAM: return self.askSCRAM(account)
            case .plain, .md5, nil:
                guard account.allowsMD5 else { return self.askSCRAM(account) }
                let salt = account.md5Salt ?? SecureRandom.bytes(MD5Password.saltLength)
                self.state = .md5(account.secret, salt: salt)
                return .send(MessageWriter.bytes { $0.authenticationMD5Password(salt: salt) })
            }
        case .scramSHA256: return self.askSCRAM(account)
        case .pam:
            self.state = .passing(.pam)
            return .send(MessageWriter.bytes { $0.authenticationCleartextPassword() })
        case .ldap:
            guard let options = account.ldap else {
                return self.refuse("bouncer config error", SQLState.invalidAuthorization)
            }
            self.state = .passing(.directory(options))
            return .send(MessageWriter.bytes { $0.authenticationCleartextPassword() })
        }
    }

    private mutating func checkCertificate(_ account: Account) -> Action {
        let reason: String
        if case .established(let peer) = self.encryption {
            switch peer.certificate {
            case .none: reason = "TLS client certificate required"
            case .nameless(let problem): reason = "the certificate is for nobody: \(problem)"
            case .verified(let name):
                if !account.allows(name, as: self.user) {
                    reason = "the certificate is not for this user, but for \(LogName.text(name) ?? "nobody")"
                } else if !account.isKnown {
                    reason = "no such user"
                } else {
                    return self.admit()
                }
            }
        } else {
            reason = "TLS connection required"
        }
        return self.refuse("certificate authentication failed", SQLState.invalidAuthorization, detail: reason)
    }

    /// The digest that SCRAM binds to; nil without TLS.
    private var serverEndPoint: [UInt8]? {
        if case .established(let peer) = self.encryption { peer.serverEndPoint } else { nil }
    }

    // MARK: HBA

    private mutating func authenticate(_ account: Account, by rule: HBARule?) -> Action {
        guard let rule else {
            return self.refuse(
                "login rejected", SQLState.invalidAuthorization, detail: "no rule in auth_hba_file is about this client"
            )
        }
        var account = account
        switch rule.method {
        case .trust: account.authType = .trust
        case .md5: account.authType = .md5
        case .password: account.authType = .plain
        case .scramSHA256: account.authType = .scramSHA256
        case .cert: account.authType = .cert
        case .ldap:
            account.authType = .ldap
            account.ldap = rule.ldap
        case .peer: return self.checkPeer(account, rule)
        case .reject:
            return self.refuse(
                "login rejected", SQLState.invalidAuthorization, detail: "rejected by the rule at \(rule.place)")
        }
        return self.authenticate(account, isConsole: false)
    }

    private mutating func checkPeer(_ account: Account, _ rule: HBARule) -> Action {
        let reason: String
        if let systemUser = account.systemUser {
            if !account.identMaps.allow(systemUser, as: self.user, map: rule.map) {
                reason = "system user \"\(systemUser)\" may not log in as this user by the rule at \(rule.place)"
            } else if !account.isKnown {
                reason = "no such user"
            } else {
                return self.admit()
            }
        } else {
            reason = "who is at the other end of the Unix socket cannot be found out"
        }
        return self.refuse("unix socket login rejected", SQLState.invalidAuthorization, detail: reason)
    }

    private mutating func askSCRAM(_ account: Account) -> Action {
        self.state = .sasl(account)
        let mechanisms = SCRAMServer.mechanisms(bindsChannel: self.serverEndPoint != nil)
        return .send(MessageWriter.bytes { $0.authenticationSASL(mechanisms: mechanisms) })
    }

    // MARK: Answers

    /// A PasswordMessage, SASLInitialResponse or SASLResponse. Nothing else is taken: a second StartupMessage would
    /// log in another user with this one's exchange.
    private mutating func answer(_ bytes: Span<UInt8>) -> Step {
        var framer = MessageFramer(maximumLength: Self.messageLimit)
        switch framer.next(bytes, at: 0, gather: [Frontend.password]) {
        case .incomplete(let needed): return Step(used: 0, action: .wait(needed: needed))
        case .message(Frontend.password, let range):
            return Step(used: range.upperBound, action: self.password(bytes.extracting(range)))
        case .message(Frontend.terminate, _):
            self.state = .refused
            return Step(used: bytes.count, action: .terminate)
        case .message, .start, .middle, .end, .invalid: return Step(used: bytes.count, action: self.badPacket())
        }
    }

    private mutating func password(_ message: Span<UInt8>) -> Action {
        switch self.state {
        case .password(let secret): return self.checkPlain(message, secret)
        case .md5(let secret, let salt): return self.checkMD5(message, secret, salt)
        case .passing(let judge):
            guard let password = PasswordMessage.password(message), !password.isEmpty else {
                // A directory would take it for nobody's, and agree.
                return self.wrongPassword(judge, SQLState.invalidPassword)
            }
            self.state = .trying(judge)
            return .ask(judge, SecretBytes(password))
        case .sasl(let account): return self.beginSCRAM(message, account)
        case .scram:
            return self.carryOut(
                self.exchange?.response(message.extracting(droppingFirst: MessageFramer.headerLength)))
        case .startup, .identifying, .checking, .trying, .preparing, .authenticated, .refused: return self.badPacket()
        }
    }

    private mutating func checkPlain(_ message: Span<UInt8>, _ secret: Secret?) -> Action {
        let user = Array(self.user.utf8)
        guard let password = PasswordMessage.password(message), let secret,
            let result = try? secret.check(password: password.span, user: user.span)
        else { return self.wrongPassword() }
        switch result {
        case .matches(let matches): return matches ? self.admit() : self.wrongPassword()
        case .derive(let derivation, let verifier):
            self.state = .checking(verifier)
            return .derive(derivation)
        }
    }

    private mutating func checkMD5(_ message: Span<UInt8>, _ secret: Secret?, _ salt: [UInt8]) -> Action {
        guard let response = PasswordMessage.password(message) else { return self.wrongPassword() }
        let user = Array(self.user.utf8)
        let isRight = try? MD5Password.verify(
            response: response.span, user: user.span, secret: secret, salt: salt.span)
        return isRight == true ? self.admit() : self.wrongPassword()
    }

    /// The derivation asked for has been run; nil if libcrypto refused.
    public mutating func derived(_ keys: SCRAMKeys?) -> Action {
        guard case .checking(let verifier) = self.state else { return self.badPacket() }
        guard let keys, (try? verifier.matches(keys)) == true else { return self.wrongPassword() }
        return self.admit(keys: keys)
    }

    /// The password has been tried at the server; nil if it is wrong there.
    public mutating func tried(_ keys: SCRAMKeys?) -> Action {
        guard case .trying(.server) = self.state else { return self.badPacket() }
        guard let keys else { return self.wrongPassword() }
        return self.admit(keys: keys)
    }

    /// PAM or the directory has been asked.
    public mutating func judged(_ isRight: Bool) -> Action {
        guard case .trying(let judge) = self.state, judge != .server else { return self.badPacket() }
        return isRight ? self.admit() : self.wrongPassword(judge)
    }

    // MARK: SCRAM

    private mutating func beginSCRAM(_ message: Span<UInt8>, _ account: Account) -> Action {
        guard let initial = SASLInitialResponse(message) else {
            return self.refuse("malformed SASL message", SQLState.protocolViolation)
        }
        switch account.secret?.scramLogin(iterations: account.scramIterations) ?? .impossible {
        case .verifier(let verifier): return self.begin(verifier, initial)
        case .derive(let derivation):
            self.state = .preparing(initial)
            return .prepare(derivation)
        case .impossible:
            // Goes through the exchange all the same, and fails at its end.
            guard let mock = self.scramMock(account) else { return self.wrongPassword() }
            return self.begin(mock, initial)
        }
    }

    /// A secret that no password fits, and that takes as long to check as those of the others; nil if theirs take no time.
    private func mock(_ account: Account) -> SCRAMVerifier? {
        account.prefersSCRAM ? self.scramMock(account) : nil
    }

    private func scramMock(_ account: Account) -> SCRAMVerifier? {
        let user = Array(self.user.utf8)
        return try? SCRAMVerifier.mock(
            user: user.span, processSecret: account.processSecret, iterations: account.scramIterations)
    }

    /// The verifier asked for has been made; nil if libcrypto refused.
    public mutating func prepared(_ verifier: SCRAMVerifier?) -> Action {
        guard case .preparing(let initial) = self.state else { return self.badPacket() }
        guard let verifier else { return self.wrongPassword() }
        return self.begin(verifier, initial)
    }

    private mutating func begin(_ verifier: SCRAMVerifier, _ initial: SASLInitialResponse) -> Action {
        self.exchange = SCRAMServer(verifier: verifier, serverEndPoint: self.serverEndPoint)
        let mechanism = initial.mechanism.utf8.span
        guard let data = initial.data else {
            return self.carryOut(self.exchange?.initialResponse(mechanism: mechanism, message: nil))
        }
        return self.carryOut(self.exchange?.initialResponse(mechanism: mechanism, message: data.span))
    }

    private mutating func carryOut(_ action: SCRAMServer.Action?) -> Action {
        switch action {
        case .send(let data):
            self.state = .scram
            return .send(MessageWriter.bytes { $0.authenticationSASLContinue(data) })
        case .success(let final, let keys):
            return self.admit(sending: MessageWriter.bytes { $0.authenticationSASLFinal(final) }, keys: keys)
        case .failure(let error):
            guard error.isProtocolViolation else {
                return self.refuse("SASL authentication failed", SQLState.invalidPassword)
            }
            return self.refuse(
                "SASL authentication failed", SQLState.protocolViolation, detail: error.description)
        case nil: return self.badPacket()
        }
    }

    // MARK: The end

    private mutating func admit(sending bytes: [UInt8] = [], keys: SCRAMKeys? = nil) -> Action {
        self.state = .authenticated
        return .authenticated(send: bytes, keys: keys)
    }

    private mutating func wrongPassword(_ judge: Judge = .server, _ sqlState: String? = nil) -> Action {
        // PgBouncer's words, and PostgreSQL's SQLSTATE.
        let (message, usual) =
            switch judge {
            case .server: ("password authentication failed for user \"\(self.user)\"", SQLState.invalidPassword)
            case .pam: ("PAM authentication failed", SQLState.invalidAuthorization)
            case .directory: ("LDAP authentication failed", SQLState.invalidAuthorization)
            }
        return self.refuse(message, sqlState ?? usual)
    }

    private mutating func badPacket() -> Action { self.refuse("bad packet", SQLState.protocolViolation) }

    private mutating func refuse(_ message: String, _ sqlState: String, detail: String? = nil) -> Action {
        self.state = .refused
        return .refuse(ServerError(message: message, sqlState: sqlState), detail: detail)
    }
}
