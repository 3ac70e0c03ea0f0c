extension GeneralSettings {
    typealias Key = SettingKey<Self>

    /// The table of keys, in the order in which the console shows them: PgBouncer's, by name.
    static let keys: [Key] =
        (clients + pooling + limits + authentication + tls + timeouts + servers + logging + process
        + routing).sorted { $0.name < $1.name }

    /// The table of keys by name.
    static let keysByName: [String: Key] = Dictionary(keys.map { ($0.name, $0) }) { first, _ in first }

    /// Other names of keys.
    static let aliases = ["service_name": "job_name"]

    private static let clients: [Key] = [
        .list("listen_addr", \.listenAddr).needsRestart,
        .integer("listen_port", \.listenPort, 1...65535).needsRestart,
        .integer("listen_backlog", \.listenBacklog, 1...Int(Int32.max)).needsRestart,
        .text("unix_socket_dir", \.unixSocketDir).needsRestart,
        .fileMode("unix_socket_mode", \.unixSocketMode).needsRestart,
        .text("unix_socket_group", \.unixSocketGroup).needsRestart,
        .flag("so_reuseport", \.soReuseport).needsRestart,
        .flag("tcp_defer_accept", \.tcpDeferAccept),
        .flag("tcp_keepalive", \.tcpKeepalive),
        .integer("tcp_keepcnt", \.tcpKeepcnt, 0...127),
        .integer("tcp_keepidle", \.tcpKeepidle, 0...32767),
        .integer("tcp_keepintvl", \.tcpKeepintvl, 0...32767),
        .integer("tcp_socket_buffer", \.tcpSocketBuffer),
        .integer("tcp_user_timeout", \.tcpUserTimeout),
    ]

    private static let pooling: [Key] = [
        .choice("pool_mode", \.poolMode),
        .integer("default_pool_size", \.defaultPoolSize),
        .integer("min_pool_size", \.minPoolSize),
        .integer("reserve_pool_size", \.reservePoolSize),
        .time("reserve_pool_timeout", \.reservePoolTimeout),
        .flag("server_round_robin", \.serverRoundRobin),
        .time("pool_idle_timeout", \.poolIdleTimeout),
        .time("autodb_idle_timeout", \.autodbIdleTimeout),
    ]

    private static let limits: [Key] = [
        .integer("max_client_conn", \.maxClientConn, 1...Int(Int32.max)),
        .size("max_memory", \.maxMemory),
        .integer("max_db_connections", \.maxDbConnections),
        .integer("max_db_client_connections", \.maxDbClientConnections),
        .integer("max_user_connections", \.maxUserConnections),
        .integer("max_user_client_connections", \.maxUserClientConnections),
        // Below a kilobyte not even a startup packet would pass.
        .integer("max_packet_size", \.maxPacketSize, 1024...Int(Int32.max)),
        .integer("max_prepared_statements", \.maxPreparedStatements),
        .integer("max_prepared_statement_memory", \.maxPreparedStatementMemory, 65_536...Int(Int32.max)),
    ]

    private static let authentication: [Key] = [
        .choice("auth_type", \.authType),
        .optionalText("auth_file", \.authFile),
        .flag("auth_allow_md5", \.authAllowMd5),
        .flag("auth_passthrough", \.authPassthrough),
        .integer("max_logins_per_address", \.maxLoginsPerAddress),
        .text("auth_hba_file", \.authHbaFile),
        .optionalText("auth_ident_file", \.authIdentFile),
        .optionalText("auth_user", \.authUser),
        .text("auth_query", \.authQuery),
        .time("auth_query_ttl", \.authQueryTtl),
        .optionalText("auth_dbname", \.authDbname),
        .optionalText("auth_ldap_options", \.authLdapOptions).secret,
        .text("auth_pam_service", \.authPamService),
        .integer("scram_iterations", \.scramIterations, 1...1_000_000),
        .list("admin_users", \.adminUsers),
        .list("stats_users", \.statsUsers),
    ]

    private static let tlsVersions = ["all", "secure", "legacy", "tlsv1.0", "tlsv1.1", "tlsv1.2", "tlsv1.3"]

    private static let tls: [Key] = [
        .choice("client_tls_sslmode", \.clientTlsSslmode),
        .text("client_tls_key_file", \.clientTlsKeyFile),
        .text("client_tls_cert_file", \.clientTlsCertFile),
        .text("client_tls_ca_file", \.clientTlsCaFile),
        .words("client_tls_protocols", \.clientTlsProtocols, among: tlsVersions),
        .text("client_tls_ciphers", \.clientTlsCiphers),
        .optionalText("client_tls13_ciphers", \.clientTls13Ciphers),
        .words("client_tls_dheparams", \.clientTlsDheparams, among: ["auto", "legacy", "none"]),
        .text("client_tls_ecdhcurve", \.clientTlsEcdhcurve),
        .choice("server_tls_sslmode", \.serverTlsSslmode),
        .choice("server_tls_sslnegotiation", \.serverTlsSslnegotiation),
        .text("server_tls_key_file", \.serverTlsKeyFile),
        .text("server_tls_cert_file", \.serverTlsCertFile),
        .text("server_tls_ca_file", \.serverTlsCaFile),
        .words("server_tls_protocols", \.serverTlsProtocols, among: tlsVersions),
        .text("server_tls_ciphers", \.serverTlsCiphers),
        .optionalText("server_tls13_ciphers", \.serverTls13Ciphers),
    ]

    /// True when certificates have to be read, or rules of TLS made, anew.
    public func needsOtherTLS(than other: Self) -> Bool {
        self.authType != other.authType || Self.tls.contains { $0.print(self) != $0.print(other) }
    }

    /// True when connections to servers made under `other` are not encrypted as these settings ask for.
    public func needsOtherServerTLS(than other: Self) -> Bool {
        Self.tls.contains { $0.name.hasPrefix("server_tls") && $0.print(self) != $0.print(other) }
    }

    private static let timeouts: [Key] = [
        .time("server_connect_timeout", \.serverConnectTimeout),
        .time("server_login_retry", \.serverLoginRetry),
        .time("server_outage_wait", \.serverOutageWait),
        .time("server_idle_timeout", \.serverIdleTimeout),
        .time("server_lifetime", \.serverLifetime),
        .time("server_check_delay", \.serverCheckDelay),
        .time("client_login_timeout", \.clientLoginTimeout),
        .time("client_idle_timeout", \.clientIdleTimeout),
        .time("idle_transaction_timeout", \.idleTransactionTimeout),
        .time("transaction_timeout", \.transactionTimeout),
        .time("query_timeout", \.queryTimeout),
        .time("query_wait_timeout", \.queryWaitTimeout),
        .time("query_wait_notify", \.queryWaitNotify),
        .time("client_message_timeout", \.clientMessageTimeout),
        .time("cancel_wait_timeout", \.cancelWaitTimeout),
        .time("suspend_timeout", \.suspendTimeout).withoutEffect,
    ]

    private static let servers: [Key] = [
        .text("server_reset_query", \.serverResetQuery),
        .flag("server_reset_query_always", \.serverResetQueryAlways),
        Key(
            name: "server_check_query",
            parse: { (text, root) throws(InvalidValue) in
                root.serverCheckQuery = text.isEmpty ? nil : text == "<empty>" ? "" : text
            },
            print: { $0.serverCheckQuery.map { $0.isEmpty ? "<empty>" : $0 } ?? "" }),
        .flag("server_fast_close", \.serverFastClose),
        .flag("disable_pqexec", \.disablePqexec).needsRestart,
        .list("track_extra_parameters", \.trackExtraParameters).needsRestart,
        .list("ignore_startup_parameters", \.ignoreStartupParameters),
        .flag("application_name_add_host", \.applicationNameAddHost),
        .text("login_notify_message", \.loginNotifyMessage),
        .time("dns_max_ttl", \.dnsMaxTtl),
        .time("dns_nxdomain_ttl", \.dnsNxdomainTtl),
        .time("dns_zone_check_period", \.dnsZoneCheckPeriod).withoutEffect,
        .text("resolv_conf", \.resolvConf).needsRestart.withoutEffect,
    ]

    private static let logging: [Key] = [
        .text("logfile", \.logfile),
        .flag("syslog", \.syslog),
        .text("syslog_ident", \.syslogIdent),
        .choice("syslog_facility", \.syslogFacility),
        .flag("log_connections", \.logConnections),
        .flag("log_disconnections", \.logDisconnections),
        .flag("log_pooler_errors", \.logPoolerErrors),
        .flag("log_stats", \.logStats),
        .time("stats_period", \.statsPeriod, atLeast: 1_000_000),
        .integer("verbose", \.verbose),
    ]

    private static let process: [Key] = [
        .text("pidfile", \.pidfile).needsRestart,
        .text("state_file", \.stateFile).needsRestart,
        .optionalText("user", \.user).needsRestart,
        .text("job_name", \.jobName).needsRestart.withoutEffect,
        .optionalText("conffile", \.conffile),
        .integer("peer_id", \.peerId, 0...PeerSettings.largestID).withoutEffect,
        .integer("pkt_buf", \.pktBuf).needsRestart.withoutEffect,
        .integer("sbuf_loopcnt", \.sbufLoopcnt).withoutEffect,
        .integer("threads", \.threads, 0...64).needsRestart,
        .choice("event_loop", \.eventLoop).needsRestart,
    ]

    private static let routing: [Key] = [
        .choice("routing", \.routing),
        .choice("read_after_write", \.readAfterWrite),
        .time("read_after_write_window", \.readAfterWriteWindow),
        .choice("read_after_write_scope", \.readAfterWriteScope),
        .time("replica_wait", \.replicaWait),
        .time("max_replica_lag", \.maxReplicaLag),
        .integer("max_replica_lag_bytes", \.maxReplicaLagBytes, 0...Int(Int64.max)),
        .choice("load_balance", \.loadBalance),
        .choice("primary_reads", \.primaryReads),
        .choice("transaction_routing", \.transactionRouting),
        .list("read_functions", \.readFunctions),
        .list("write_functions", \.writeFunctions),
        .time("check_interval", \.checkInterval, atLeast: 1000),
        .time("check_timeout", \.checkTimeout, atLeast: 1000),
        .optionalText("check_user", \.checkUser),
        .optionalText("check_password", \.checkPassword).secret,
        .optionalText("check_dbname", \.checkDbname),
        .time("failover_wait", \.failoverWait),
        .time("sample_interval", \.sampleInterval, atLeast: 1000),
        .integer("classify_limit", \.classifyLimit, 0...(1 << 20)),
        .flag("rerun_refused", \.rerunRefused),
        .flag("retry_reads", \.retryReads),
    ]
}
