import Authentication
import Reactor
import Settings
import Wire

/// A connection on which `auth_query` is asked, and nothing else: no client's settings, transaction or statement ever
/// comes near it.
///
///     connecting ──(TLS)──► login ──► ready ──► (closed)
final class AuthQueryConnection: Connection {
    /// The longest reply message; a secret has at most 65,535 bytes.
    private static let messageLimit = 128 << 10

    private unowned let line: AuthQueryLine
    private let worker: Worker
    private let database: DatabaseSettings
    private let host: HostAddress
    private let isUnix: Bool
    private let asker: String
    private let secret: Secret?
    /// Until it is known whether there is TLS.
    private var encryption: ServerEncryption?
    private var login: ServerLogin?
    private var framer = MessageFramer(maximumLength: AuthQueryConnection.messageLimit)
    private(set) var isReady = false

    init(
        _ line: AuthQueryLine, database: DatabaseSettings, host: HostAddress, isUnix: Bool, asker: String,
        socket: consuming Socket
    ) {
        self.line = line
        self.worker = line.worker
        self.database = database
        self.host = host
        self.isUnix = isUnix
        self.asker = asker
        let isOwnUser = database.user == asker
        self.secret =
            if isOwnUser, let password = database.password {
                Secret(parsing: password) as Secret?
            } else {
                line.worker.configuration.secrets[asker]
            }
        super.init(loop: line.worker.loop, connecting: socket)
    }

    // MARK: Login

    override func connected() {
        let settings = self.worker.configuration.settings
        let encryption = ServerEncryption(
            mode: settings.effectiveServerSSLMode(database: self.database),
            negotiation: settings.general.serverTlsSslnegotiation)
        self.encryption = encryption
        self.carryOut(encryption.begin(isUnix: self.isUnix), encryption)
    }

    private func carryOut(_ step: ServerEncryption.Step, _ encryption: ServerEncryption) {
        switch step {
        case .plain: self.startLogin()
        case .request: self.send(MessageWriter.bytes { $0.sslRequest() })
        case .handshake:
            guard let context = self.worker.configuration.tls.servers else { return self.fail("TLS is switched off") }
            self.startTLS(context, server: encryption.serverName(self.host))
        case .failed(let reason): self.fail(reason)
        }
    }

    override func secured() { self.startLogin() }

    private func startLogin() {
        self.encryption = nil
        self.login = ServerLogin(
            user: self.asker, secret: self.secret, keys: nil, serverEndPoint: self.tlsDetails?.serverEndPoint,
            allowsMD5: self.worker.configuration.settings.general.authAllowMd5)
        let settings = [
            StartupParameter(name: "client_encoding", value: "UTF8"),
            StartupParameter(name: "application_name", value: "martlet"),
        ]
        if let action = self.login?.begin(database: self.database.serverDatabase, settings: settings) {
            self.carryOut(action)
        }
    }

    override func received(_ bytes: Span<UInt8>) -> Int {
        if let encryption = self.encryption {
            self.carryOut(encryption.answered(bytes), encryption)
            return bytes.count
        }
        var cursor = 0
        while self.isOpen, let step = self.login?.received(bytes.extracting(cursor..<bytes.count)) {
            cursor += step.used
            self.carryOut(step.action)
            if step.used == 0 { return cursor }
        }
        return self.isOpen ? self.readReplies(bytes, from: cursor) : bytes.count
    }

    private func carryOut(_ action: ServerLogin.Action) {
        switch action {
        case .none, .hold: return
        case .wait(let needed): self.holdLimit = max(needed, 1024)
        case .send(let bytes): self.send(bytes)
        case .derive(let derivation): self.derive(derivation)
        case .succeeded:
            self.login = nil
            self.isReady = true
            self.line.ready(self)
        case .failed(let error): self.fail(error.message)
        }
    }

    private func derive(_ derivation: SCRAMDerivation) {
        let mailbox = self.worker.mailbox
        let key = self.line.key
        self.worker.derivations.run(derivation) { keys in
            mailbox.post { worker in
                // Another one may have taken this one's place meanwhile; its login refuses keys it has not asked for.
                guard let connection = worker.authQueries.connection(of: key) else { return }
                connection.derived(keys)
                connection.redeliver()
            }
        }
    }

    private func derived(_ keys: SCRAMKeys?) {
        if let action = self.login?.derived(keys) { self.carryOut(action) }
    }

    // MARK: Replies

    private func readReplies(_ bytes: Span<UInt8>, from start: Int) -> Int {
        var cursor = start
        while self.isOpen {
            switch self.framer.next(bytes, at: cursor, gather: Backend.all) {
            case .message(let type, let range):
                cursor = range.upperBound
                self.line.received(type, bytes.extracting(range), on: self)
            case .incomplete(let needed):
                self.holdLimit = max(needed, 1024)
                return cursor
            case .end: return cursor
            case .start, .middle, .invalid:
                self.fail("bad packet from server")
                return bytes.count
            }
        }
        return bytes.count
    }

    // MARK: The end

    override func disconnected(_ reason: Disconnect) {
        let what =
            switch reason {
            case .connectFailed: "connect failed"
            case .endOfFile, .failed: "server connection lost"
            case .tlsFailed: "TLS failed"
            }
        self.line.lost(self, "\(what): \(reason.description)")
    }

    override func timedOut() { self.line.timedOut(self) }

    func fail(_ reason: String) {
        self.close()
        self.line.lost(self, reason)
    }
}
