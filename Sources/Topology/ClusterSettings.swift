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
    /// Microseconds; 0 is no limit.
    public var maxReplicaLag: Microseconds = 10_000_000
    /// Bytes of write-ahead log; 0 is no limit.
    public var maxReplicaLagBytes = 0

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
