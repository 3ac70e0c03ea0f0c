/// One entry of the section [databases]: where its servers are, and what differs from the general settings.
///
/// A nil means that the general setting holds; `Settings` has a method for each effective value.
public struct DatabaseSettings: Sendable {
    /// The name that clients ask for; `*` for the fallback.
    public var name: String
    /// True for a database that `*` stands for.
    public var isAutomatic = false
    /// The servers, at least one. An empty host stands for the general `unix_socket_dir`;
    /// `Settings.database(named:)` puts that in.
    public var hosts = [HostAddress(host: "")]
    /// The database's name on the server; nil only for `*`.
    public var dbname: String?
    /// The user of all server connections; nil uses the client's.
    public var user: String?
    /// The password of `user`; nil looks it up in the `auth_file`.
    public var password: String?
    public var authUser: String?
    public var authQuery: String?
    public var authDbname: String?

    public var poolSize: Int?
    public var minPoolSize: Int?
    public var reservePoolSize: Int?
    public var poolMode: PoolMode?
    public var maxDbConnections: Int?
    public var maxDbClientConnections: Int?
    public var loadBalanceHosts = LoadBalanceHosts.roundRobin
    public var queryWaitTimeout: Microseconds?
    public var serverLifetime: Microseconds?
    /// Run on each new server connection before its first client; an error is logged and ignored.
    public var connectQuery: String?

    public var clientEncoding: String?
    public var datestyle: String?
    public var timezone: String?
    public var applicationName: String?
    /// Options for the server's command line, as libpq's parameter of this name: `-c name=value`.
    public var options: String?
    /// How much TLS server connections of this database need.
    public var sslmode: SSLMode?
    public var channelBinding = ChannelBinding.prefer

    public var routing: RoutingMode?
    public var readAfterWrite: ReadAfterWrite?
    public var readAfterWriteWindow: Microseconds?
    public var readAfterWriteScope: ReadAfterWriteScope?
    public var replicaWait: Microseconds?
    public var maxReplicaLag: Microseconds?
    public var maxReplicaLagBytes: Int?
    public var loadBalance: LoadBalance?
    /// One for each host, or none.
    public var weights: [Int]?
    public var primaryReads: PrimaryReads?
    public var transactionRouting: TransactionRouting?
    public var readFunctions: [String]?
    public var writeFunctions: [String]?
    public var checkInterval: Microseconds?
    public var checkTimeout: Microseconds?
    public var checkUser: String?
    public var checkPassword: String?
    public var checkDbname: String?
    public var failoverWait: Microseconds?

    /// Where the entry stands, for messages; nil when it was made otherwise.
    public var source: SourceLine?

    /// Makes an entry with nothing but a name.
    public init(name: String) {
        self.name = name
        self.dbname = name == "*" ? nil : name
    }

    /// The database's name on the server.
    public var serverDatabase: String { self.dbname ?? self.name }

    /// The parameters for the startup packet of a server connection, by PostgreSQL's names.
    public var startupParameters: [(name: String, value: String)] {
        [
            ("client_encoding", self.clientEncoding), ("datestyle", self.datestyle), ("timezone", self.timezone),
            ("application_name", self.applicationName), ("options", self.options),
        ].compactMap { name, value in value.map { (name, $0) } }
    }

    /// True when clients of this entry are not clients of `other`, the entry of that name in a new configuration: it has
    /// been removed, or `*` stands for it now, or no longer, and leads elsewhere.
    public func isGone(by other: Self?) -> Bool {
        guard let other else { return true }
        return self.isAutomatic != other.isAutomatic && self.needsOtherServerConnections(than: other)
    }

    /// True when server connections made under `other` are not what this entry asks for and must be replaced.
    ///
    /// - Parameter sameServer: whoever asks has seen to it that they lead to a server of this entry.
    public func needsOtherServerConnections(than other: Self, sameServer: Bool = false) -> Bool {
        Self.connectionKeys.contains { key in
            !(sameServer && (key.name == "host" || key.name == "port")) && key.print(self) != key.print(other)
        }
    }
}

extension DatabaseSettings: Equatable {
    /// Compares everything but the place in the file: a line that has moved is no change.
    public static func == (left: Self, right: Self) -> Bool {
        left.name == right.name && left.isAutomatic == right.isAutomatic
            && Self.keys.allSatisfy { $0.print(left) == $0.print(right) }
    }
}

extension DatabaseSettings: CustomStringConvertible, CustomReflectable {
    /// The entry as a line of the configuration file, without passwords.
    public var description: String {
        "\(self.name) = \(Self.keys.connectionString(of: self))"
    }

    /// Without children, so that `dump` shows no password.
    public var customMirror: Mirror { Mirror(self, children: ["description": self.description]) }
}
