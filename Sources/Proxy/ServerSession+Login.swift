import Authentication
import Pooling
import Routing
import Sessions
import Settings
import Synchronization
import Wire

extension ServerSession {
    /// How a connection of its pool logs in.
    var poolsAccess: Access {
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
        return Access(database: database, user: user, secret: secret, keys: passed.scramKeys, settings: settings)
    }

    /// Takes over what the server has told of its session. False if the connection ends with that.
    func takeOver(_ outcome: ServerLogin.Outcome) -> Bool {
        self.backendKey = outcome.backendKey
        // Which node of a routed database it is makes no difference to a client's settings.
        let reported =
            self.pool.load == nil ? outcome.parameters : outcome.parameters.filter { !Self.isNodesOwn($0.name) }
        do {
            self.parameters = try self.worker.parameters.reported(reported)
            return true
        } catch {
            self.loginFailed(
                ServerError(
                    message: "invalid server parameter: \(error.message)", sqlState: error.sqlState, isRefusal: true))
            return false
        }
    }

    /// A query that fails when a replica has less than was seen of it.
    ///
    /// What reads may trust in is asked on the monitor's connection. A server that was started again, or another one behind
    /// the same address, may have an older state, and for a moment the monitor does not know.
    var positionProof: String? {
        guard let node = self.pool.load?.node, node.role == .replica, !self.isDedicated,
            node.knownSince.load(ordering: .acquiring) < .max
        else { return nil }
        let position = WALPosition.text(node.position.load(ordering: .relaxed))
        return "SELECT 1/(pg_catalog.pg_last_wal_replay_lsn() OPERATOR(pg_catalog.>=) '\(position)')::pg_catalog.int4"
    }

    /// Whether a setting tells the node and not the session.
    static func isNodesOwn(_ name: String) -> Bool { name == "in_hot_standby" }
}
