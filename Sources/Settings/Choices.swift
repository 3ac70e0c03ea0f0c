// Settings whose value is one of a few words. The raw value is the word in the file; case does not matter there.

/// When a server connection goes back to its pool.
public enum PoolMode: String, Sendable, CaseIterable {
    /// When the client disconnects.
    case session
    /// When the transaction ends.
    case transaction
    /// When the statement ends; a transaction of several statements is refused.
    case statement
}

/// How clients prove who they are.
public enum AuthType: String, Sendable, CaseIterable {
    /// Everybody is let in, under whatever name; server logins use the database's `user`.
    case any
    /// Everybody is let in whose name is known.
    case trust
    /// The password in clear text.
    case plain
    /// An MD5 digest, or SCRAM for a user whose secret is a SCRAM one.
    case md5
    /// A TLS client certificate.
    case cert
    /// As the HBA file says.
    case hba
    /// A directory server.
    case ldap
    /// The operating system's modules.
    case pam
    /// SCRAM-SHA-256.
    case scramSHA256 = "scram-sha-256"
}

/// How much TLS is asked for, and what is verified; libpq's words.
public enum SSLMode: String, Sendable, CaseIterable {
    case disable
    case allow
    case prefer
    case require
    case verifyCA = "verify-ca"
    case verifyFull = "verify-full"

    /// Whether a connection without TLS is refused.
    public var requiresTLS: Bool {
        switch self {
        case .disable, .allow, .prefer: false
        case .require, .verifyCA, .verifyFull: true
        }
    }

    /// Whether the other side has to show a certificate that is verified.
    public var verifies: Bool {
        switch self {
        case .disable, .allow, .prefer, .require: false
        case .verifyCA, .verifyFull: true
        }
    }
}

/// How a TLS connection to a server begins; libpq's words.
public enum SSLNegotiation: String, Sendable, CaseIterable {
    /// By asking the server in clear text, whatever its version.
    case postgres
    /// At once, which PostgreSQL 17 and newer understand.
    case direct
}

/// Whether logins to servers by SCRAM are bound to the TLS connection; libpq's words.
public enum ChannelBinding: String, Sendable, CaseIterable {
    case disable
    /// Where the server offers it.
    case prefer
    /// Or not at all.
    case require
}

/// Which host of a list a new server connection goes to.
public enum LoadBalanceHosts: String, Sendable, CaseIterable {
    /// Always the same one, until a connection to it fails.
    case disable
    /// The next one in the list.
    case roundRobin = "round-robin"
}

/// The part of the system log that messages go to.
public enum SyslogFacility: String, Sendable, CaseIterable {
    case auth, authpriv, daemon, user
    case local0, local1, local2, local3, local4, local5, local6, local7
}

/// What the event loops are built on.
public enum EventLoopBackend: String, Sendable, CaseIterable {
    /// io_uring where it is allowed, else epoll.
    case auto
    case epoll
    case ioUring = "io_uring"
}

/// How the node of a statement is found.
public enum RoutingMode: String, Sendable, CaseIterable {
    /// As PgBouncer does: by the host list alone.
    case off
    /// By statement: reads to replicas, writes to the primary.
    case split
    case primary
    case replica
}

/// How a client is made to see its own writes.
public enum ReadAfterWrite: String, Sendable, CaseIterable {
    /// By the position in the write-ahead log.
    case lsn
    /// By time.
    case window
    case off
}

/// Whose writes a read must see.
public enum ReadAfterWriteScope: String, Sendable, CaseIterable {
    case client, user, database
}

/// How a replica is chosen among those that may take a read.
public enum LoadBalance: String, Sendable, CaseIterable {
    case leastConnections = "least_connections"
    case roundRobin = "round_robin"
    case random
    case latency
}

/// Whether the primary takes balanced reads too.
public enum PrimaryReads: String, Sendable, CaseIterable {
    /// When no replica may take them.
    case fallback
    case always
    case never
}

/// What an explicit transaction may do.
public enum TransactionRouting: String, Sendable, CaseIterable {
    /// Read-only ones may go to a replica.
    case readOnly = "read_only"
    /// All go to the primary.
    case primary
    /// Starts on a replica, goes on on the primary at the first write.
    case promote
}
