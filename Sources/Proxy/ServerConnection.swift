import Authentication
import Reactor
import Services
import Sessions
import Settings
import Wire

/// A connection to a server up to the end of its login. What comes after is a subclass's business.
///
///     connecting ──(TLS)──► login ──► (the subclass's)
///
/// Carries out what `ServerEncryption` and `ServerLogin` decide.
class ServerConnection: Connection {
    /// How a server is logged in to.
    struct Access {
        var database: DatabaseSettings
        var user: String
        var secret: Secret?
        /// SCRAM keys that a client of this user has shown.
        var keys: SCRAMKeys?
        /// A client's password is tried. Only SCRAM shows whether it is right.
        var isPasswordTrial = false
        /// The startup packet's parameters besides the user and the database.
        var settings: [StartupParameter]
    }

    final let id: UInt64
    final private(set) var worker: Worker
    final let host: HostAddress
    final let address: SocketAddress
    /// How TLS is agreed upon, until it is.
    private var encryption: ServerEncryption?
    private var login: ServerLogin?

    /// Begins to connect.
    init(_ worker: Worker, host: HostAddress, address: SocketAddress, socket: consuming Socket) {
        self.id = worker.shared.nextID()
        self.worker = worker
        self.host = host
        self.address = address
        super.init(loop: worker.loop, connecting: socket)
    }

    /// It has been handed to another reactor.
    final func moved(to worker: Worker) { self.worker = worker }

    // MARK: For the subclass

    /// Asked when the connection stands, and once more behind TLS; nil closes it.
    func access() -> Access? { nil }

    /// The login is over.
    func loggedIn(_ outcome: ServerLogin.Outcome) {}

    /// There is no login: the connection is to be closed.
    func loginFailed(_ error: ServerError) {}

    /// Keys were derived from a password, perhaps a wrong one.
    func derived(_ keys: SCRAMKeys?) {}

    /// Bytes have come that are not the login's. Returns how many were consumed.
    func receivedReplies(_ bytes: Span<UInt8>) -> Int { bytes.count }

    // MARK: TLS

    override func connected() {
        guard let access = self.access() else { return self.close() }
        let settings = self.worker.configuration.settings
        let encryption = ServerEncryption(
            mode: settings.effectiveServerSSLMode(database: access.database),
            negotiation: settings.general.serverTlsSslnegotiation)
        self.encryption = encryption
        self.carryOut(encryption.begin(isUnix: self.address.isUnix), encryption)
    }

    private func carryOut(_ step: ServerEncryption.Step, _ encryption: ServerEncryption) {
        switch step {
        case .plain: self.startLogin()
        case .request: self.send(MessageWriter.bytes { $0.sslRequest() })
        case .handshake:
            guard let context = self.worker.configuration.tls.servers else {
                return self.encryptionFailed("TLS is switched off")
            }
            self.startTLS(context, server: encryption.serverName(self.host))
        case .failed(let reason): self.encryptionFailed(reason)
        }
    }

    private func encryptionFailed(_ reason: String) {
        self.loginFailed(
            ServerError(
                message: "\(reason): \(self.host.description)", sqlState: SQLState.connectionFailure, isRefusal: true))
    }

    final override func secured() { self.startLogin() }

    // MARK: Login

    private func startLogin() {
        self.encryption = nil
        guard let access = self.access() else { return self.close() }
        var login = ServerLogin(
            user: access.user, secret: access.secret, keys: access.keys,
            serverEndPoint: self.tlsDetails?.serverEndPoint,
            allowsMD5: self.worker.configuration.settings.general.authAllowMd5,
            channelBinding: access.database.channelBinding, onlySCRAM: access.isPasswordTrial)
        let action = login.begin(database: access.database.serverDatabase, settings: access.settings)
        self.login = consume login
        self.carryOut(action)
    }

    final override func received(_ bytes: Span<UInt8>) -> Int {
        if self.login != nil { return self.receivedInLogin(bytes) }
        guard let encryption = self.encryption else { return self.receivedReplies(bytes) }
        self.carryOut(encryption.answered(bytes), encryption)
        return bytes.count
    }

    private func receivedInLogin(_ bytes: Span<UInt8>) -> Int {
        var cursor = 0
        while self.isOpen, let step = self.login?.received(bytes.extracting(cursor..<bytes.count)) {
            cursor += step.used
            self.carryOut(step.action)
            if step.used == 0 { return cursor }
        }
        // What stands behind the server's ReadyForQuery is not the login's.
        return self.isOpen ? cursor + self.receivedReplies(bytes.extracting(cursor..<bytes.count)) : bytes.count
    }

    private func carryOut(_ action: ServerLogin.Action) {
        switch action {
        case .none, .hold: return
        case .wait(let needed): self.holdLimit = max(needed, 1024)
        case .send(let bytes): self.send(bytes)
        case .derive(let derivation): self.derive(derivation)
        case .succeeded(let outcome):
            self.login = nil
            self.loggedIn(outcome)
        case .failed(let error):
            self.login = nil
            self.loginFailed(error)
        }
    }

    private func derive(_ derivation: SCRAMDerivation) {
        let worker = self.worker
        // Passwords that are tried may be wrong ones: those are without number, and not worth remembering.
        let remembers = self.access().map { !$0.isPasswordTrial } ?? false
        if remembers, let keys = worker.services.derivations.known(derivation) { return self.goOn(with: keys) }
        let id = self.id
        let mailbox = worker.mailbox
        worker.derivingConnections[id] = self
        worker.services.derivations.run(derivation, remembers: remembers) { keys in
            mailbox.post { worker in
                guard let connection = worker.derivingConnections.removeValue(forKey: id), connection.isOpen else {
                    return
                }
                connection.goOn(with: keys)
                connection.redeliver()
            }
        }
    }

    private func goOn(with keys: SCRAMKeys?) {
        self.derived(keys)
        if let action = self.login?.derived(keys) { self.carryOut(action) }
    }
}
