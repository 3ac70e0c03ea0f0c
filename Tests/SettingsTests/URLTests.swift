import Testing

@testable import Settings

@Suite struct URLTests {
    @Test func aServerAndADatabase() throws {
        let settings = try #require(Settings.forURL("postgresql://app:secret@pg1:5433/shop?pool_size=7").settings)
        #expect(settings.general.listenAddr == ["127.0.0.1"])
        #expect(settings.general.listenPort == 6432)
        #expect(settings.general.listenSocketPath == "/tmp/.s.PGSQL.6432" && settings.general.unixSocketMode == 0o700)
        #expect(settings.general.adminUsers == [] && settings.general.statsUsers == [])
        #expect(settings.general.authType == .any)
        #expect(settings.general.poolMode == .transaction)
        for (name, isAutomatic) in [("shop", false), ("other", true)] {
            let database = try #require(settings.database(named: name))
            #expect(database.serverDatabase == name)
            #expect(database.isAutomatic == isAutomatic)
            #expect(database.user == "app" && database.password == "secret" && database.poolSize == 7)
            #expect(database.hosts == [HostAddress(host: "pg1", port: 5433)])
        }
    }

    @Test func whatTheURLLeavesOutIsTakenFromTheCaller() throws {
        let settings = try #require(
            Settings.forURL("postgresql:///", defaultUser: "me", defaultPassword: "pw").settings)
        let database = try #require(settings.database(named: "me"))
        #expect(database.user == "me" && database.password == "pw" && database.serverDatabase == "me")
        #expect(database.hosts == [HostAddress(host: "/var/run/postgresql")])
    }

    @Test(arguments: [
        ("shop", "the connection string must begin with postgresql://"),
        (
            "postgresql://u:secret@h/%",
            #"the connection URL has a "%" in its URL that is not followed"#
                + " by two hexadecimal digits other than 00"
        ),
        (
            "postgresql://u:secret@h/db?pool_siz=3",
            #"unknown key "pool_siz" of the connection URL; did you mean "pool_size"?"#
        ),
        (
            "postgresql://h/db?listen_port=x", #"the connection URL: listen_port must be a whole number, not "x""#
        ),
        (
            "postgresql://h/db?sslrootcert=system&sslmode=require",
            "the connection URL has sslrootcert=system, which needs sslmode=verify-full"
        ),
        (
            "postgresql://h/db?gssencmode=require",
            "the connection URL has gssencmode=require, which is not supported here"
        ),
        (
            "postgresql://h/db?target_session_attrs=primry",
            "the connection URL has target_session_attrs=primry, which must be any, read-write, read-only, primary, "
                + "standby or prefer-standby"
        ),
        (
            "postgresql://h/db?ssl_min_protocol_version=TLSv1.3&ssl_max_protocol_version=TLSv1.2",
            "the connection URL has an ssl_min_protocol_version above ssl_max_protocol_version"
        ),
        (
            "postgresql://h/db?ssl_min_protocol_version=3",
            "the connection URL has ssl_min_protocol_version=3, which must be TLSv1, TLSv1.1, TLSv1.2 or TLSv1.3"
        ),
    ])
    func mistakes(url: String, expected: String) {
        let (settings, diagnostics) = Settings.forURL(url)
        #expect(settings == nil)
        #expect(diagnostics.map(\.description) == [expected])
    }

    /// libpq's parameters, and what has been made of them: keys of the database and general ones.
    @Test(
        arguments: [
            ("sslmode=verify-full&sslrootcert=/ca", ["sslmode": "verify-full"], ["server_tls_ca_file": "/ca"]),
            ("sslmode=require&sslrootcert=/ca", ["sslmode": "verify-ca"], ["server_tls_ca_file": "/ca"]),
            ("sslmode=require", ["sslmode": "require"], ["server_tls_ca_file": ""]),
            ("sslrootcert=system", ["sslmode": "verify-full"], ["server_tls_ca_file": ""]),
            (
                "sslcert=/c&sslkey=/k&sslnegotiation=direct", [:],
                ["server_tls_cert_file": "/c", "server_tls_key_file": "/k", "server_tls_sslnegotiation": "direct"]
            ),
            ("channel_binding=require&sslmode=require", ["channel_binding": "require"], [:]),
            ("connect_timeout=7", [:], ["server_connect_timeout": "7"]),
            ("application_name=a%20b&fallback_application_name=c", ["application_name": "a b"], [:]),
            ("fallback_application_name=c", ["application_name": "c"], [:]),
            ("options=-c%20search_path%3Dapp&client_encoding=LATIN1", ["options": "-c search_path=app"], [:]),
            ("target_session_attrs=any", ["routing": nil], [:]),
            ("target_session_attrs=read-write", ["routing": "primary"], [:]),
            ("target_session_attrs=standby", ["routing": "replica"], [:]),
            ("target_session_attrs=primary&routing=split", ["routing": "split"], [:]),
            ("load_balance_hosts=random", ["load_balance_hosts": "round-robin"], [:]),
            ("load_balance_hosts=disable", ["load_balance_hosts": "disable"], [:]),
            (
                "keepalives=0&keepalives_idle=1&keepalives_interval=2&keepalives_count=3&tcp_user_timeout=4", [:],
                [
                    "tcp_keepalive": "0", "tcp_keepidle": "1", "tcp_keepintvl": "2", "tcp_keepcnt": "3",
                    "tcp_user_timeout": "4",
                ]
            ),
            ("ssl_min_protocol_version=TLSv1.3", [:], ["server_tls_protocols": "tlsv1.3"]),
            ("ssl_max_protocol_version=TLSv1.2", [:], ["server_tls_protocols": "tlsv1.2"]),
            ("ssl_min_protocol_version=TLSv1", [:], ["server_tls_protocols": "tlsv1.0,tlsv1.1,tlsv1.2,tlsv1.3"]),
            ("gssencmode=prefer&sslsni=1&sslcompression=0&krbsrvname=x", [:], [:]),
            // Our own.
            (
                "listen_port=7000&listen_addr=127.0.0.2&admin_users=me&max_client_conn=5&pool_mode=session",
                ["pool_mode": "session"],
                ["listen_port": "7000", "listen_addr": "127.0.0.2", "admin_users": "me", "max_client_conn": "5"]
            ),
        ] as [(String, [String: String?], [String: String])])
    func parameters(query: String, database: [String: String?], general: [String: String]) throws {
        let (found, diagnostics) = Settings.forURL("postgresql://h/db?\(query)")
        let settings = try #require(found, "\(diagnostics)")
        for name in ["db", "*"] {
            let entry = try #require(name == "db" ? settings.database(named: name) : settings.fallbackDatabase)
            for (key, value) in database { #expect(DatabaseSettings.keysByName[key]?.print(entry) == value, "\(key)") }
        }
        for (key, value) in general { #expect(settings.setting(key) == value, "\(key)") }
    }
}
