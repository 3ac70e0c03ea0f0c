import Authentication
import Pooling
import Reactor
import Settings
import Synchronization
import Wire

/// Logs in to a server: startup packet, whatever authentication the server asks for, the session's parameters and
/// cancel key, until it is ready.
///
///     begin ──► authenticating ──AuthenticationOk──► starting ──ReadyForQuery──► done
///                 │  ▲
///                 ▼  │ keys derived, on another thread
///               deriving
///
/// Any error ends the connection; a server that asks for SCRAM must prove that it knows the secret before its
/// AuthenticationOk is believed.
final class ServerLogin {
    private unowned let server: ServerSession
    private var scram: SCRAMClient?
    private var isDeriving = false
    private var isAuthenticated = false
    private var statuses: [ParameterStatus] = []
    private let secret: Secret?
    private let user: String

    /// The longest message a server may send before it is ready.
    private static let messageLimit = 64 * 1024

    init(_ server: ServerSession) {
        self.server = server
        self.user = server.pool.shared.key.user
        let database = server.pool.database
        if let password = database.password, database.user != nil {
            self.secret = Secret(parsing: password)
        } else {
            self.secret = server.worker.configuration.secrets[self.user]
        }
    }

    func begin() {
        let pool = self.server.pool
        var parameters = [
            StartupParameter(name: "user", value: self.user),
            StartupParameter(name: "database", value: pool.database.serverDatabase),
        ]
        parameters += pool.database.startupParameters.map { StartupParameter(name: $0.name, value: $0.value) }
        if let replication = self.server.replication {
            parameters.append(StartupParameter(name: "replication", value: replication.mode))
            parameters += replication.parameters
        }
        self.server.send(MessageWriter.bytes { $0.startup(parameters: parameters) })
    }

    func received(_ bytes: Span<UInt8>) -> Int {
        var cursor = 0
        var framer = MessageFramer(maximumLength: Self.messageLimit)
        while self.server.login === self, !self.isDeriving {
            switch framer.next(bytes, at: cursor, gather: Self.all) {
            case .message(let type, let range):
                self.message(type, bytes.extracting(range))
                cursor = range.upperBound
            case .incomplete(let needed):
                self.server.holdLimit = max(needed, 1024)
                return cursor
            case .end: return cursor
            case .start, .middle, .invalid:
                self.fail("bad packet from server during login")
                return bytes.count
            }
        }
        return cursor
    }

    private static let all: MessageTypeSet = {
        var set = MessageTypeSet()
        for type in 0..<128 as Range<UInt8> { set.insert(type) }
        return set
    }()

    private func message(_ type: UInt8, _ message: Span<UInt8>) {
        switch type {
        case Backend.authentication:
            guard let request = AuthenticationRequest(message) else { return self.fail("bad authentication request") }
            self.authenticate(request)
        case Backend.errorResponse: self.server.loginFailed(ServerError(refusedBy: ErrorFields(message)))
        case Backend.noticeResponse, Backend.negotiateProtocolVersion: return
        case Backend.parameterStatus:
            if let status = ParameterStatus(message) { self.statuses.append(status) }
        case Backend.backendKeyData:
            if let data = BackendKeyData(message) { self.server.backendKey = data.key }
        case Backend.readyForQuery:
            guard self.isAuthenticated else { return self.fail("server is ready without authentication") }
            let table = self.server.worker.parameters
            self.server.parameters = table.reported(self.statuses)
            self.server.loggedIn()
        default: self.fail("unknown pkt from server during login")
        }
    }

    private func authenticate(_ request: AuthenticationRequest) {
        switch request {
        case .ok:
            if let isComplete = self.scramIsComplete, !isComplete {
                return self.fail("server skipped the end of SCRAM authentication")
            }
            self.isAuthenticated = true
        case .cleartextPassword:
            guard case .plain(let password)? = self.secret else { return self.missing("a plain-text password") }
            self.server.send(MessageWriter.bytes { $0.passwordMessage(password.span.copy(0..<password.count)) })
        case .md5Password(let salt):
            guard let secret = self.secret else { return self.missing("a password") }
            do {
                let user = Array(self.user.utf8)
                let response = try MD5Password.response(salt: salt.span, user: user.span, secret: secret)
                let bytes = response.span.copy(0..<response.count)
                self.server.send(MessageWriter.bytes { $0.passwordMessage(bytes) })
            } catch {
                self.missing("a plain-text or MD5 password")
            }
        case .sasl(let mechanisms):
            guard self.scramIsComplete == nil else { return self.fail("server began SCRAM authentication twice") }
            if case .plain(let password)? = self.secret {
                self.scram = SCRAMClient(password: password)
            } else if let keys = self.server.pool.shared.scramKeys.withLock({ $0 }) {
                self.scram = SCRAMClient(keys: keys)
            } else {
                return self.missing("a plain-text password, or a client's SCRAM login to take the keys from")
            }
            var names: [UInt8] = []
            for mechanism in mechanisms { names += Array(mechanism.utf8) + [0] }
            names.append(0)
            if let action = self.scram?.begin(mechanisms: names.span) { self.carryOut(action) }
        case .saslContinue(let data):
            guard let action = self.scram?.serverFirst(data.span) else { return self.fail("unexpected SASL message") }
            self.carryOut(action)
        case .saslFinal(let data):
            guard let action = self.scram?.serverFinal(data.span) else { return self.fail("unexpected SASL message") }
            self.carryOut(action)
        case .other(let kind): self.fail("server asks for an authentication method that is not supported (\(kind))")
        }
    }

    private var scramIsComplete: Bool? { self.scram?.isComplete }

    private func carryOut(_ action: SCRAMClient.Action) {
        switch action {
        case .sendInitial(let mechanism, let message):
            self.server.send(MessageWriter.bytes { $0.saslInitialResponse(mechanism: mechanism, message) })
        case .send(let message): self.server.send(MessageWriter.bytes { $0.saslResponse(message) })
        case .derive(let derivation): self.derive(derivation)
        case .complete: return
        case .failure(let error): self.fail("SASL authentication failed: \(error)")
        }
    }

    private func derive(_ derivation: SCRAMDerivation) {
        let worker = self.server.worker
        if let keys = worker.derivations.known(derivation) { return self.derived(keys) }
        self.isDeriving = true
        let key = self.server.pool.shared.key
        let id = self.server.id
        let mailbox = worker.mailbox
        worker.derivations.run(derivation) { keys in
            mailbox.post { worker in
                guard let server = worker.pools[key]?.servers.first(where: { $0.id == id }) else { return }
                server.login?.continueAfterDerivation(keys)
            }
        }
    }

    private func continueAfterDerivation(_ keys: SCRAMKeys?) {
        self.isDeriving = false
        guard let keys else { return self.fail("key derivation failed") }
        self.derived(keys)
        self.server.redeliver()
    }

    private func derived(_ keys: SCRAMKeys) {
        if let action = self.scram?.derived(keys) { self.carryOut(action) }
    }

    private func missing(_ what: String) {
        self.fail("server asks for a password, but there is not \(what) for user \"\(self.user)\" in auth_file or the database's entry")
    }

    private func fail(_ reason: String) {
        self.server.loginFailed(
            ServerError(
                message: "server login failed: \(reason)", sqlState: SQLState.invalidAuthorization, isRefusal: true))
    }
}
