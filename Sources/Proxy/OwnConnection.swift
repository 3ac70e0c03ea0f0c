import Authentication
import Reactor
import Routing
import Services
import Sessions
import Settings
import Wire

/// A connection to a server that belongs to no pool: it logs in, and a subclass does the rest. No client's settings,
/// transaction or statement ever comes near it.
class OwnConnection: ServerConnection {
    /// Who logs in, and by what.
    struct Credentials {
        var user: String
        var secret: Secret?
        var isPasswordTrial = false
    }

    let database: DatabaseSettings
    private let credentials: Credentials
    private(set) var isReady = false

    /// Begins to connect.
    init(
        _ worker: Worker, host: HostAddress, address: SocketAddress, database: DatabaseSettings,
        credentials: Credentials
    ) throws(SystemError) {
        self.database = database
        self.credentials = credentials
        super.init(
            worker, host: host, address: address,
            socket: try Socket.connecting(to: address, options: worker.socketOptions))
        worker.ownConnections[self.id] = self
    }

    // MARK: For the subclass

    /// The login is over.
    func ready() {}

    /// The connection has ended otherwise than by `depart`. Called once.
    func ended(_ error: ServerError) {}

    // MARK: Login

    final override func access() -> Access? {
        Access(
            database: self.database, user: self.credentials.user, secret: self.credentials.secret,
            isPasswordTrial: self.credentials.isPasswordTrial,
            settings: [
                StartupParameter(name: "client_encoding", value: "UTF8"),
                StartupParameter(name: "application_name", value: "martlet"),
            ])
    }

    final override func loggedIn(_ outcome: ServerLogin.Outcome) {
        self.isReady = true
        self.ready()
    }

    final override func loginFailed(_ error: ServerError) { self.fail(error) }

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
        self.services.resolver.resolve(host.host) { [host] answer in
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
