import Testing

@testable import Settings

@Suite struct ConsoleTests {
    @Test func configRowsAreInPgBouncersOrder() {
        let rows = Settings().configRows()
        let names = rows.map(\.key)
        #expect(names == names.sorted { Array($0.utf8).lexicographicallyPrecedes(Array($1.utf8)) })
        #expect(Set(names).count == names.count)
        #expect(names.first == "admin_users")
        #expect(names.last == "write_functions")
        #expect(rows.allSatisfy { $0.value == $0.defaultValue })
    }

    /// PgBouncer 1.26's keys; the list is the promise that its files run unchanged.
    @Test func everyKeyOfPgBouncerIsKnown() {
        let keys = """
            admin_users application_name_add_host auth_dbname auth_file auth_hba_file auth_ident_file auth_ldap_options
            auth_query auth_type auth_user autodb_idle_timeout cancel_wait_timeout client_idle_timeout
            client_login_timeout client_tls13_ciphers client_tls_ca_file client_tls_cert_file client_tls_ciphers
            client_tls_dheparams client_tls_ecdhcurve client_tls_key_file client_tls_protocols client_tls_sslmode
            conffile default_pool_size disable_pqexec dns_max_ttl dns_nxdomain_ttl dns_zone_check_period
            idle_transaction_timeout ignore_startup_parameters job_name listen_addr listen_backlog listen_port
            log_connections log_disconnections log_pooler_errors log_stats logfile login_notify_message max_client_conn
            max_db_client_connections max_db_connections max_packet_size max_prepared_statements
            max_user_client_connections max_user_connections min_pool_size peer_id pidfile pkt_buf pool_idle_timeout
            pool_mode query_timeout query_wait_notify query_wait_timeout reserve_pool_size reserve_pool_timeout
            resolv_conf sbuf_loopcnt scram_iterations server_check_delay server_check_query server_connect_timeout
            server_fast_close server_idle_timeout server_lifetime server_login_retry server_reset_query
            server_reset_query_always server_round_robin server_tls13_ciphers server_tls_ca_file server_tls_cert_file
            server_tls_ciphers server_tls_key_file server_tls_protocols server_tls_sslmode so_reuseport stats_period
            stats_users suspend_timeout syslog syslog_facility syslog_ident tcp_defer_accept tcp_keepalive tcp_keepcnt
            tcp_keepidle tcp_keepintvl tcp_socket_buffer tcp_user_timeout track_extra_parameters transaction_timeout
            unix_socket_dir unix_socket_group unix_socket_mode user verbose
            """
        for key in keys.split(whereSeparator: \.isWhitespace) {
            #expect(GeneralSettings.keysByName[String(key)] != nil, "\(key)")
        }
    }

    @Test(
        arguments: [
            ("pool_mode", "session"), ("query_wait_timeout", "120"), ("unix_socket_mode", "0777"), ("auth_file", nil),
            ("logfile", ""), ("server_check_query", "<empty>"), ("log_stats", "1"), ("max_packet_size", "2147483647"),
            ("track_extra_parameters", "IntervalStyle"), ("no_such_key", nil),
        ] as [(String, String?)])
    func valuesAsPgBouncerPrintsThem(key: String, expected: String?) {
        #expect(Settings().setting(key) == expected)
    }

    @Test(arguments: [
        ("listen_port", false), ("threads", false), ("pkt_buf", false), ("pool_mode", true), ("conffile", true),
        ("disable_pqexec", false), ("track_extra_parameters", false), ("user", false), ("peer_id", true),
    ])
    func whatCanBeChangedAtRunTime(key: String, expected: Bool) throws {
        let row = try #require(Settings().configRows().first { $0.key == key })
        #expect(row.isChangeable == expected)
    }

    @Test func passwordsAreNotShown() throws {
        var settings = Settings()
        try settings.set("check_password", to: "secret")
        #expect(settings.general.checkPassword == "secret")
        #expect(settings.setting("check_password") == "********")
        #expect(!settings.configRows().contains { $0.value == "secret" })
    }

    @Test func setChangesASetting() throws {
        var settings = Settings()
        try settings.set("query_timeout", to: "2.5")
        try settings.set("pool_mode", to: "TRANSACTION")
        #expect(settings.general.queryTimeout == 2_500_000)
        #expect(settings.setting("pool_mode") == "transaction")
    }

    @Test(arguments: [
        ("pool_mod", "x", #"unknown key "pool_mod"; did you mean "pool_mode"?"#),
        ("listen_port", "1", "listen_port cannot be changed at run time; change the file and restart"),
        ("default_pool_size", "-1", "default_pool_size must be from 0 to 2147483647, not -1"),
    ])
    func setRefuses(key: String, value: String, expected: String) {
        var settings = Settings()
        #expect(throws: SettingsError(expected)) { try settings.set(key, to: value) }
        #expect(settings == Settings())
    }
}
