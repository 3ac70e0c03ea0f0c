import CLinux
import Glibc
public import Settings

/// How a cluster is found and watched.
public struct ClusterSettings: Hashable, Sendable {
    /// As whom, and to which database.
    public struct Login: Hashable, Sendable {
        /// Nil: libpq takes the operating system's user.
        public var user: String?
        /// Nil: libpq looks into the password file.
        public var password: String?
        public var dbname: String

        public init(user: String? = nil, password: String? = nil, dbname: String) {
            self.user = user
            self.password = password
            self.dbname = dbname
        }
    }

    /// What is said of TLS.
    public struct TLS: Hashable, Sendable {
        public var mode = SSLMode.prefer
        public var channelBinding = ChannelBinding.prefer
        /// Files; empty for none. Without one of authorities libpq takes the user's own, if there is one.
        public var rootCert = ""
        public var cert = ""
        public var key = ""

        public init() {}

        /// In libpq's words.
        var parameters: [(name: String, value: String)] {
            [("sslmode", self.mode.rawValue), ("channel_binding", self.channelBinding.rawValue)]
                + [("sslrootcert", self.rootCert), ("sslcert", self.cert), ("sslkey", self.key)].filter {
                    !$0.1.isEmpty
                }
        }
    }

    public var hosts: [HostAddress]
    /// Microseconds.
    public var checkInterval: Microseconds = 1_000_000
    /// Microseconds.
    public var checkTimeout: Microseconds = 2_000_000
    /// Microseconds.
    public var sampleInterval: Microseconds = 25_000
    /// Between two look-ups of a host's name, microseconds.
    public var nameInterval: Microseconds = 15_000_000
    /// Any of these will do; a server that refuses one is asked by the next.
    public var logins: [Login]
    public var tls = TLS()
    /// Microseconds; 0 is no limit.
    public var maxReplicaLag: Microseconds = 10_000_000
    /// Bytes of write-ahead log; 0 is no limit.
    public var maxReplicaLagBytes = 0
    /// The entries of `[databases]` that lead there.
    public var databases: Set<String> = []

    public init(hosts: [HostAddress], logins: [Login]) {
        self.hosts = hosts
        self.logins = logins
    }

    /// Another database on the same servers.
    public mutating func add(_ other: ClusterSettings) {
        for login in other.logins where !self.logins.contains(login) { self.logins.append(login) }
        self.databases.formUnion(other.databases)
    }

    public init(hosts: [HostAddress], dbname: String) { self.init(hosts: hosts, logins: [Login(dbname: dbname)]) }
}

extension HostAddress {
    /// Whether the host has to be looked up: neither a Unix socket nor an address in numbers.
    var isName: Bool {
        guard self.kind == .tcp else { return false }
        var hints = addrinfo()
        hints.ai_flags = AI_NUMERICHOST
        var list: UnsafeMutablePointer<addrinfo>?
        defer { if let list { freeaddrinfo(list) } }
        return getaddrinfo(self.host, nil, &hints, &list) != 0
    }
}
