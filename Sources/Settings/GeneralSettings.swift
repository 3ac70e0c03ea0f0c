/// The section [pgbouncer], also called [martlet]. Each property is named after its key; what it holds in a fresh
/// value is the default. `Config/martlet.ini` says what each key does; a comment here adds what a program must know.
///
/// Times are in microseconds. A limit or a timeout of 0 means none, unless something else is said.
public struct GeneralSettings: Sendable, Equatable {
    // MARK: Where clients connect

    /// Addresses and names to listen on; `*` is all of them, none means Unix socket only.
    public var listenAddr: [String] = []
    /// 1 to 65535, for TCP and for the name of the Unix socket.
    public var listenPort = 6432
    /// Length of the kernel's queue of connections not accepted yet.
    public var listenBacklog = 128
    /// Directory of the Unix socket, `@name` for an abstract one, empty for none. Also the default of `host`.
    public var unixSocketDir = "/tmp"
    /// File mode of the Unix socket.
    public var unixSocketMode = 0o777
    /// Group of the Unix socket, or empty.
    public var unixSocketGroup = ""
    public var soReuseport = false
    public var tcpDeferAccept = true
    public var tcpKeepalive = true
    /// Probes before a connection is given up; 0 leaves it to the system.
    public var tcpKeepcnt = 0
    /// Seconds of silence before the first probe; 0 leaves it to the system.
    public var tcpKeepidle = 0
    /// Seconds between probes; 0 leaves it to the system.
    public var tcpKeepintvl = 0
    /// Bytes of the socket's buffers; 0 leaves it to the system.
    public var tcpSocketBuffer = 0
    /// Milliseconds that sent data may remain unacknowledged; 0 leaves it to the system.
    public var tcpUserTimeout = 0

    // MARK: Pooling

    public var poolMode = PoolMode.session
    /// Server connections of one database and user.
    public var defaultPoolSize = 20
    public var minPoolSize = 0
    public var reservePoolSize = 0
    /// How long a client waits before the reserve is used; 0 never uses it.
    public var reservePoolTimeout: Microseconds = 5_000_000
    /// True takes the server connection idle for longest, false the one used last.
    public var serverRoundRobin = false
    /// How long a pool without any connection is kept.
    public var poolIdleTimeout: Microseconds = 0
    /// How long an unused database made by `*` is kept.
    public var autodbIdleTimeout: Microseconds = 3_600_000_000

    // MARK: Limits

    public var maxClientConn = 100
    /// Bytes that the process may have resident before new clients are refused; 0 is no limit.
    public var maxMemory = 0
    public var maxDbConnections = 0
    public var maxDbClientConnections = 0
    public var maxUserConnections = 0
    public var maxUserClientConnections = 0
    /// The longest message in bytes, in either direction.
    public var maxPacketSize = 2_147_483_647
    /// Prepared statements kept on each server connection; 0 switches their tracking off.
    public var maxPreparedStatements = 200
    /// Bytes of a client's named statements, and of those kept on a server connection.
    public var maxPreparedStatementMemory = 32 << 20

    // MARK: Authentication

    public var authType = AuthType.md5
    public var authFile: String?
    /// Whether clients and servers may log in by an MD5 answer.
    public var authAllowMd5 = true
    /// Whether passwords of users that nothing is known of here are tried at the server.
    public var authPassthrough = false
    /// Clients of one address that may be logging in at a time.
    public var maxLoginsPerAddress = 0
    public var authHbaFile = ""
    public var authIdentFile: String?
    public var authUser: String?
    public var authQuery =
        "SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END FROM pg_authid"
        + " WHERE rolname=$1 AND rolcanlogin"
    public var authDbname: String?
    /// How long the answer of an `auth_query` is kept.
    public var authQueryTtl: Microseconds = 5_000_000
    public var authLdapOptions: String?
    /// The service that PAM is told: a file in /etc/pam.d.
    public var authPamService = "pgbouncer"
    /// Iterations for a SCRAM secret made from a plain password.
    public var scramIterations = 4096
    public var adminUsers: [String] = []
    public var statsUsers: [String] = []

    // MARK: TLS towards clients and servers

    public var clientTlsSslmode = SSLMode.disable
    public var clientTlsKeyFile = ""
    public var clientTlsCertFile = ""
    public var clientTlsCaFile = ""
    public var clientTlsProtocols = "secure"
    public var clientTlsCiphers = "default"
    public var clientTls13Ciphers: String?
    public var clientTlsDheparams = "auto"
    public var clientTlsEcdhcurve = "auto"
    public var serverTlsSslmode = SSLMode.prefer
    public var serverTlsSslnegotiation = SSLNegotiation.postgres
    public var serverTlsKeyFile = ""
    public var serverTlsCertFile = ""
    public var serverTlsCaFile = ""
    public var serverTlsProtocols = "secure"
    public var serverTlsCiphers = "default"
    public var serverTls13Ciphers: String?

    // MARK: Timeouts

    public var serverConnectTimeout: Microseconds = 15_000_000
    public var serverLoginRetry: Microseconds = 15_000_000
    public var serverOutageWait: Microseconds = 5_000_000
    public var serverIdleTimeout: Microseconds = 600_000_000
    /// Age at which an unused server connection is closed; 0 uses each connection once.
    public var serverLifetime: Microseconds = 3_600_000_000
    /// Idle time after which a server connection is checked before its next use; 0 checks always.
    public var serverCheckDelay: Microseconds = 30_000_000
    public var clientLoginTimeout: Microseconds = 60_000_000
    public var clientIdleTimeout: Microseconds = 0
    public var idleTransactionTimeout: Microseconds = 0
    public var transactionTimeout: Microseconds = 0
    public var queryTimeout: Microseconds = 0
    public var queryWaitTimeout: Microseconds = 120_000_000
    /// How long a client waits before it is told so by a notice.
    public var queryWaitNotify: Microseconds = 5_000_000
    /// How long a client that holds a server connection may pause in the middle of a message; 0 is for ever.
    public var clientMessageTimeout: Microseconds = 30_000_000
    public var cancelWaitTimeout: Microseconds = 10_000_000
    public var suspendTimeout: Microseconds = 10_000_000

    // MARK: Server connections between clients

    /// Empty for none.
    public var serverResetQuery = "DISCARD ALL"
    public var serverResetQueryAlways = false
    /// Nil checks nothing, an empty text sends an empty query (`<empty>` in the file).
    public var serverCheckQuery: String? = ""
    public var serverFastClose = false
    public var disablePqexec = false

    // MARK: Session parameters

    public var trackExtraParameters = ["IntervalStyle"]
    public var ignoreStartupParameters: [String] = []
    public var applicationNameAddHost = false
    /// Sent to each client after login, or empty.
    public var loginNotifyMessage = ""

    // MARK: Logging

    /// Empty for none.
    public var logfile = ""
    public var syslog = false
    public var syslogIdent = "pgbouncer"
    public var syslogFacility = SyslogFacility.daemon
    public var logConnections = true
    public var logDisconnections = true
    public var logPoolerErrors = true
    public var logStats = true
    /// Interval of the averages and of the line of statistics in the log; at least one second.
    public var statsPeriod: Microseconds = 60_000_000
    /// 0 to 3, as many as `-v` was given.
    public var verbose = 0

    // MARK: Name resolution

    public var dnsMaxTtl: Microseconds = 15_000_000
    public var dnsNxdomainTtl: Microseconds = 15_000_000
    public var dnsZoneCheckPeriod: Microseconds = 0
    public var resolvConf = ""

    // MARK: Process

    /// Empty for none.
    public var pidfile = ""
    /// Keeps what is known of routed clusters over a restart; empty for none.
    public var stateFile = ""
    /// Operating system user to become, or nil.
    public var user: String?
    public var jobName = "pgbouncer"
    /// The file these settings came from, which the next reload reads.
    public var conffile: String?
    /// Number of this process among its peers, 0 without peers.
    public var peerId = 0
    public var pktBuf = 4096
    public var sbufLoopcnt = 5
    /// Reactor threads; 0 is one for each core.
    public var threads = 0
    /// What the reactors wait with.
    public var eventLoop = EventLoopBackend.auto

    // MARK: Routing (defaults of the databases)

    public var routing = RoutingMode.off
    public var readAfterWrite = ReadAfterWrite.lsn
    public var readAfterWriteWindow: Microseconds = 0
    public var readAfterWriteScope = ReadAfterWriteScope.client
    /// How long a read waits for a replica to catch up before it goes to the primary.
    public var replicaWait: Microseconds = 0
    public var maxReplicaLag: Microseconds = 10_000_000
    /// Bytes of write-ahead log.
    public var maxReplicaLagBytes = 0
    public var loadBalance = LoadBalance.leastConnections
    public var primaryReads = PrimaryReads.fallback
    public var transactionRouting = TransactionRouting.readOnly
    /// Patterns of functions that only read, whatever the catalogue says.
    public var readFunctions: [String] = []
    /// Patterns of functions that write, whatever the catalogue says.
    public var writeFunctions: [String] = []
    public var checkInterval: Microseconds = 1_000_000
    public var checkTimeout: Microseconds = 2_000_000
    public var checkUser: String?
    public var checkPassword: String?
    public var checkDbname: String?
    /// How long writes wait for a primary before they fail.
    public var failoverWait: Microseconds = 10_000_000
    /// How often the primary's position is asked for while clients need it.
    public var sampleInterval: Microseconds = 25_000
    /// Bytes; a longer request goes to the primary unseen.
    public var classifyLimit = 64 << 10
    /// A statement that a replica refuses is run on the primary instead.
    public var rerunRefused = true
    /// A read that fails together with its replica is tried once more elsewhere.
    public var retryReads = true

    /// Makes settings that are all at their defaults.
    public init() {}

    /// The Unix socket to listen on, nil for none. An abstract one begins with `@`, which stands for the byte 0.
    public var listenSocketPath: String? {
        self.unixSocketDir.isEmpty ? nil : HostAddress(host: self.unixSocketDir, port: self.listenPort).socketPath
    }
}

extension GeneralSettings: CustomStringConvertible, CustomReflectable {
    /// The keys that are not at their defaults, without passwords.
    public var description: String {
        let defaults = Self()
        return Self.keys.filter { $0.print(self) != $0.print(defaults) }
            .map { "\($0.name) = \($0.show(self) ?? "")" }.joined(separator: "; ")
    }

    /// Without the properties, so that `dump` shows no password.
    public var customMirror: Mirror { Mirror(self, children: ["description": self.description]) }
}
