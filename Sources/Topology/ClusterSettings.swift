import CLinux
import Glibc
public import Settings

/// How a cluster is found and watched; what two databases have to agree in to share one monitor.
public struct ClusterSettings: Hashable, Sendable {
    public var hosts: [HostAddress]
    /// Microseconds.
    public var checkInterval: Microseconds = 1_000_000
    /// Microseconds.
    public var checkTimeout: Microseconds = 2_000_000
    /// Microseconds.
    public var sampleInterval: Microseconds = 25_000
    public var user: String?
    public var password: String?
    public var dbname: String
    public var sslmode = SSLMode.prefer
    public var channelBinding = ChannelBinding.prefer
    /// Files; empty for none. Without one of authorities libpq takes the user's own, if there is one.
    public var sslRootCert = ""
    public var sslCert = ""
    public var sslKey = ""
    /// Microseconds; 0 is no limit.
    public var maxReplicaLag: Microseconds = 10_000_000
    /// Bytes of write-ahead log; 0 is no limit.
    public var maxReplicaLagBytes = 0

    /// What is said of TLS in libpq's words.
    var tlsParameters: [(name: String, value: String)] {
        [("sslmode", self.sslmode.rawValue), ("channel_binding", self.channelBinding.rawValue)]
            + [("sslrootcert", self.sslRootCert), ("sslcert", self.sslCert), ("sslkey", self.sslKey)]
            .filter { !$0.1.isEmpty }
    }

    public init(hosts: [HostAddress], dbname: String) {
        self.hosts = hosts
        self.dbname = dbname
    }
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
