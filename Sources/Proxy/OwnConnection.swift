import Authentication
import Reactor
import Routing
import Sessions
import Settings
import Wire

/// A connection to a server that belongs to no pool: it logs in, and a subclass does the rest. No client's settings,
/// transaction or statement ever comes near it.
///
///     connecting ──(TLS)──► login ──► ready ──► (closed)
class OwnConnection: Connection {
    /// Who logs in, and by what.
    struct Credentials {
        var user: String
        var secret: Secret?
        var allowsMD5 = true
        var onlySCRAM = false
    }

    let id: UInt64
    let worker: Worker
    let host: HostAddress
    let address: SocketAddress
    let database: DatabaseSettings
    private let credentials: Credentials
    /// Until it is known whether there is TLS.
    private var encryption: ServerEncryption?
    private var login: ServerLogin?
    private(set) var isReady = false
    /// What the login derived from a password.
    private(set) var keys: SCRAMKeys?

    /// Begins to connect.
    init(
        _ worker: Worker, host: HostAddress, address: SocketAddress, database: DatabaseSettings,
        credentials: Credentials
    ) throws(SystemError) {
        self.id = worker.shared.nextID()
        self.worker = worker
        self.host = host
        self.address = address
        self.database = database
        self.credentials = credentials
        super.init(
            loop: worker.loop, connecting: try Socket.connecting(to: address, options: worker.socketOptions))
        worker.ownConnections[self.id] = self
    }

    // MARK: For the subclass

    /// The login is over.
    func ready() {}

    /// Bytes have come after the login. Returns how many were consumed, `start` included.
    func receivedReplies(_ bytes: Span<UInt8>, from start: Int) -> Int { bytes.count }

    /// The connection has ended otherwise than by `depart`. Called once.
    func ended(_ error: ServerError) {}

    // MARK: TLS

    final override func connected() {
        let settings = self.worker.configuration.settings
        let encryption = ServerEncryption(
            mode: settings.effectiveServerSSLMode(database: self.database),
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
                return self.failTLS("TLS is switched off")
            }
            self.startTLS(context, server: encryption.serverName(self.host))
        case .failed(let reason): self.failTLS(reason)
        }
    }

    private func failTLS(_ reason: String) {
        self.fail(ServerError(message: reason, sqlState: SQLState.connectionFailure))
    }

    final override func secured() { self.startLogin() }

    // MARK: Login

    private func startLogin() {
        self.encryption = nil
        self.login = ServerLogin(
            user: self.credentials.user, secret: self.credentials.secret, keys: nil,
            serverEndPoint: self.tlsDetails?.serverEndPoint, allowsMD5: self.credentials.allowsMD5,
            channelBinding: self.database.channelBinding, onlySCRAM: self.credentials.onlySCRAM)
        let settings = [
            StartupParameter(name: "client_encoding", value: "UTF8"),
            StartupParameter(name: "application_name", value: "martlet"),
        ]
        if let action = self.login?.begin(database: self.database.serverDatabase, settings: settings) {
            self.carryOut(action)
        }
    }

    final override func received(_ bytes: Span<UInt8>) -> Int {
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
        return self.isOpen ? self.receivedReplies(bytes, from: cursor) : bytes.count
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
            self.ready()
        case .failed(let error): self.fail(error)
        }
    }

    private func derive(_ derivation: SCRAMDerivation) {
        let mailbox = self.worker.mailbox
        let id = self.id
        // Passwords that are tried may be wrong ones: those are without number, and not worth remembering.
        self.worker.derivations.run(derivation, remembers: false) { keys in
            mailbox.post { worker in
                guard let connection = worker.ownConnections[id] else { return }
                connection.derived(keys)
                connection.redeliver()
            }
        }
    }

    private func derived(_ keys: SCRAMKeys?) {
        self.keys = keys
        if let action = self.login?.derived(keys) { self.carryOut(action) }
    }

    // MARK: The end

    final override func disconnected(_ reason: Disconnect) {
        let what =
            switch reason {
            case .connectFailed: "connect failed"
            case .endOfFile, .failed: "server connection lost"
            case .tlsFailed: "TLS startup failed"
            }
        self.end(ServerError(message: "\(what): \(reason.description)", sqlState: SQLState.connectionFailure))
    }

    /// Closes for a reason; `ended` is called.
    func fail(_ error: ServerError) {
        self.close()
        self.end(error)
    }

    /// Closes because there is nothing more to do.
    func depart() {
        self.worker.ownConnections[self.id] = nil
        if self.isReady { self.send(MessageWriter.bytes { $0.terminate() }) }
        self.closeAfterFlush()
    }

    private func end(_ error: ServerError) {
        guard self.worker.ownConnections.removeValue(forKey: self.id) != nil else { return }
        self.ended(error)
    }
}

extension Worker {
    /// How long a login or an answer on an own connection may take, in microseconds: `server_connect_timeout`, but not
    /// for ever.
    var ownPatience: MonotonicTime {
        let timeout = self.configuration.settings.general.serverConnectTimeout
        return timeout > 0 ? timeout : 15_000_000
    }

    /// Finds where to connect to: of a routed database the primary, which knows a new user at once; after a failure one
    /// host after the other.
    ///
    /// - Parameter attempt: 0 for the first one.
    func findServer(
        of database: DatabaseSettings, attempt: Int,
        _ then: @escaping @Sendable (Worker, HostAddress, Result<SocketAddress, ServerError>) -> Void
    ) {
        var host = database.hosts.isEmpty ? HostAddress(host: "") : database.hosts[attempt % database.hosts.count]
        var known: String?
        if attempt == 0, let node = self.routers[database.name]?.home?.node {
            host = HostAddress(host: node.host, port: node.port)
            known = node.address
        }
        if let path = host.socketPath {
            return then(self, host, Self.pick(SocketAddress(unix: path).map { [$0] } ?? [], attempt, host))
        }
        let port = UInt16(clamping: host.port)
        if let address = SocketAddress(ip: known ?? host.host, port: port) {
            return then(self, host, .success(address))
        }
        let mailbox = self.mailbox
        self.resolver.resolve(host.host) { [host] answer in
            mailbox.post { worker in
                switch answer {
                case .success(let list): then(worker, host, Self.pick(list.map { $0.with(port: port) }, attempt, host))
                case .failure(let error):
                    then(
                        worker, host,
                        .failure(
                            ServerError(
                                message: "server DNS lookup failed: \(error.description)",
                                sqlState: SQLState.connectionFailure)))
                }
            }
        }
    }

    private static func pick(
        _ list: [SocketAddress], _ attempt: Int, _ host: HostAddress
    ) -> Result<SocketAddress, ServerError> {
        guard !list.isEmpty else {
            return .failure(
                ServerError(message: "\(host.host) has no address", sqlState: SQLState.connectionFailure))
        }
        return .success(list[attempt % list.count])
    }
}
