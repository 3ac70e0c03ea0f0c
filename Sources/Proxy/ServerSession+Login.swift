import Authentication
import Pooling
import Reactor
import Sessions
import Settings
import Synchronization
import Wire

/// Carries out what `ServerLogin` decides.
extension ServerSession {
    // MARK: TLS

    /// The connection stands.
    func beginEncryption() {
        let settings = self.worker.configuration.settings
        let encryption = ServerEncryption(
            mode: settings.effectiveServerSSLMode(database: self.pool.database),
            negotiation: settings.general.serverTlsSslnegotiation)
        self.encryption = encryption
        self.carryOut(encryption.begin(isUnix: self.address.isUnix), encryption)
    }

    /// The server has answered SSLRequest.
    func encryptionAnswered(_ bytes: Span<UInt8>) -> Int {
        guard let encryption = self.encryption else { return 0 }
        self.carryOut(encryption.answered(bytes), encryption)
        return bytes.count
    }

    private func carryOut(_ step: ServerEncryption.Step, _ encryption: ServerEncryption) {
        switch step {
        case .plain:
            self.encryption = nil
            self.startLogin()
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

    // MARK: Login

    /// Nothing stands in the way any more: sends the startup packet.
    func startLogin() {
        let shared = self.pool.shared
        let database = self.pool.database
        let user = shared.key.user
        let passed = shared.credentials.state.withLock { $0 }
        let secret =
            if let password = database.password, database.user != nil {
                Secret(parsing: password) as Secret?
            } else {
                self.worker.configuration.secrets[user] ?? passed.secret
            }
        var settings = database.startupParameters.map { StartupParameter(name: $0.name, value: $0.value) }
        if let replication = self.replication {
            settings.append(StartupParameter(name: "replication", value: replication.mode))
            settings += replication.parameters
        }
        var login = ServerLogin(
            user: user, secret: secret, keys: passed.scramKeys, serverEndPoint: self.tlsDetails?.serverEndPoint,
            allowsMD5: self.worker.configuration.settings.general.authAllowMd5,
            channelBinding: database.channelBinding)
        let action = login.begin(database: database.serverDatabase, settings: settings)
        self.login = consume login
        self.carryOut(action)
    }

    /// Bytes have arrived before the login is over.
    func receivedInLogin(_ bytes: Span<UInt8>) -> Int {
        var cursor = 0
        while let step = self.login?.received(bytes.extracting(cursor..<bytes.count)) {
            cursor += step.used
            self.carryOut(step.action)
            if step.used == 0 { return cursor }
        }
        guard self.state != .closed else { return bytes.count }
        // What stands behind the server's ReadyForQuery belongs to nobody.
        return cursor + self.relay(bytes.extracting(cursor..<bytes.count))
    }

    private func carryOut(_ action: ServerLogin.Action) {
        switch action {
        case .none, .hold: return
        case .wait(let needed): self.holdLimit = max(needed, 1024)
        case .send(let bytes): self.send(bytes)
        case .derive(let derivation): self.derive(derivation)
        case .succeeded(let outcome):
            self.backendKey = outcome.backendKey
            // Which node of a routed database it is makes no difference to a client's settings.
            let reported =
                self.pool.load == nil
                ? outcome.parameters : outcome.parameters.filter { !Self.isNodesOwn($0.name) }
            do {
                self.parameters = try self.worker.parameters.reported(reported)
            } catch {
                return self.loginFailed(
                    ServerError(
                        message: "invalid server parameter: \(error.message)", sqlState: error.sqlState,
                        isRefusal: true))
            }
            self.loggedIn()
        case .failed(let error): self.loginFailed(error)
        }
    }

    /// Whether a setting tells the node and not the session.
    static func isNodesOwn(_ name: String) -> Bool { name == "in_hot_standby" }

    private func derive(_ derivation: SCRAMDerivation) {
        let worker = self.worker
        if let keys = worker.derivations.known(derivation) { return self.derived(keys) }
        let key = self.pool.shared.key
        let id = self.id
        let mailbox = worker.mailbox
        worker.derivations.run(derivation) { keys in
            mailbox.post { worker in
                guard let server = worker.pools[key]?.servers.first(where: { $0.id == id }) else { return }
                server.derived(keys)
                server.redeliver()
            }
        }
    }

    private func derived(_ keys: SCRAMKeys?) {
        if let action = self.login?.derived(keys) { self.carryOut(action) }
    }
}
