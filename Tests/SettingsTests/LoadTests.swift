import Testing

@testable import Settings

@Suite struct LoadTests {
    @Test func aPgBouncerFile() throws {
        let (settings, diagnostics) = load(
            """
            [databases]
            forcedb = host=localhost port=300 user=baz password=foo client_encoding=UNICODE datestyle=ISO
            nondefault = pool_size=50 reserve_pool=10 pool_mode=Statement load_balance_hosts=disable
            * = host=testserver

            [users]
            user1 = pool_mode=transaction max_user_connections=10 query_timeout=1.5

            [pgbouncer]
            listen_addr = *, ::1
            listen_port = 6000
            auth_type = scram-sha-256
            auth_file = users.txt
            admin_users = user2, someadmin
            server_check_query = select 1
            unix_socket_mode = 0770
            max_client_conn = 1000
            """)
        let loaded = try #require(settings)
        #expect(diagnostics == [])
        #expect(loaded.general.listenAddr == ["*", "::1"])
        #expect(loaded.general.listenPort == 6000)
        #expect(loaded.general.authType == .scramSHA256)
        #expect(loaded.general.adminUsers == ["user2", "someadmin"])
        #expect(loaded.general.serverCheckQuery == "select 1")
        #expect(loaded.general.unixSocketMode == 0o770)
        #expect(loaded.general.conffile == "martlet.ini")
        #expect(loaded.databases.keys.sorted() == ["forcedb", "nondefault"])
        let forced = try #require(loaded.databases["forcedb"])
        #expect(forced.user == "baz" && forced.password == "foo" && forced.dbname == "forcedb")
        #expect(forced.hosts == [HostAddress(host: "localhost", port: 300)])
        #expect(
            forced.startupParameters.map { "\($0.name)=\($0.value)" } == ["client_encoding=UNICODE", "datestyle=ISO"])
        #expect(forced.source == SourceLine(file: "martlet.ini", line: 2))
        let other = try #require(loaded.databases["nondefault"])
        #expect(other.poolSize == 50 && other.reservePoolSize == 10 && other.poolMode == .statement)
        #expect(other.loadBalanceHosts == .disable)
        #expect(loaded.users["user1"]?.poolMode == .transaction)
        #expect(loaded.users["user1"]?.queryTimeout == 1_500_000)
    }

    @Test func martletIsAnotherNameOfTheSection() {
        #expect(load("[martlet]\npool_mode = transaction\nthreads = 2").settings?.general.poolMode == .transaction)
    }

    @Test func allErrorsAreToldAtOnce() {
        let text = """
            [pgbouncer]
            pool_mod = session
            listen_port = 70000
            max_client_conn =
            query_timeout = soon
            log_stats = perhaps
            [databases]
            pgbouncer = host=x
            [peers]
            x = host=y
            3 = port=1
            [users]
            u = pool_mode=fast
            """
        #expect(
            errors(text) == [
                #"martlet.ini:2: unknown key "pool_mod" in [pgbouncer]; did you mean "pool_mode"?"#,
                "martlet.ini:3: listen_port must be from 1 to 65535, not 70000",
                "martlet.ini:4: max_client_conn needs a value",
                "martlet.ini:5: query_timeout must be a time in seconds, or with one of the units us, ms, s, min, h, d,"
                    + #" not "soon""#,
                #"martlet.ini:6: log_stats must be 0 or 1, not "perhaps""#,
                #"martlet.ini:8: database name "pgbouncer" is reserved for the console"#,
                #"martlet.ini:10: a peer must be a number from 1 to 16383, not "x""#,
                "martlet.ini:11: peer 3: host needs a value",
                #"martlet.ini:13: user "u": pool_mode must be one of session, transaction, statement, not "fast""#,
            ])
        #expect(load(text).settings == nil)
    }

    @Test func theLastDuplicateCountsAndIsToldOf() {
        let (settings, diagnostics) = load(
            """
            [martlet]
            auth_file = x
            pool_mode = session
            [databases]
            a = host=x
            a = host=y pool_size=1 pool_size=2
            [pgbouncer]
            pool_mode = statement
            """)
        #expect(settings?.general.poolMode == .statement)
        #expect(settings?.databases["a"]?.hosts.first?.host == "y")
        #expect(settings?.databases["a"]?.poolSize == 2)
        #expect(
            diagnostics.map(\.description) == [
                #"martlet.ini:6: warning: database "a" replaces the one at martlet.ini:5"#,
                #"martlet.ini:6: warning: database "a" sets pool_size twice; the last one counts"#,
                #"martlet.ini:8: warning: key "pool_mode" replaces the one at martlet.ini:3"#,
            ])
    }

    @Test func keysWithoutEffectAreToldInOneLineForEachFile() {
        let (settings, diagnostics) = load(files: [
            "martlet.ini": """
            [martlet]
            auth_file = x
            pkt_buf = 8192
            routing = off
            job_name = x
            event_loop = epoll
            resolv_conf =
            %include b.ini
            """,
            "b.ini": """
            [databases]
            a = host=x sslmode=disable
            [peers]
            1 = host=x
            [martlet]
            sbuf_loopcnt = 9
            """,
        ])
        #expect(settings?.databases["a"] != nil)
        #expect(
            diagnostics.map(\.description) == [
                "martlet.ini: note: without effect in this version: pkt_buf, job_name",
                "b.ini: note: without effect in this version: [peers], sbuf_loopcnt",
            ])
    }

    @Test(arguments: [
        ("auth_type = hba", "auth_type = hba needs auth_hba_file"),
        ("auth_type = ldap", "auth_type = ldap needs auth_ldap_options"),
    ])
    func whatWouldBeLessSafeThanAskedForIsRefused(line: String, expected: String) {
        #expect(errors("[pgbouncer]\n\(line)") == ["martlet.ini:2: \(expected)"])
    }

    @Test func peersAreToldToHaveNoEffect() {
        let diagnostics = load("[martlet]\nauth_file = x\n[peers]\n1 = host=a port=5\n2 = host=b").diagnostics
        #expect(diagnostics.map(\.description) == ["martlet.ini: note: without effect in this version: [peers]"])
    }

    @Test(
        arguments: [
            ("client_tls_protocols = tlsv1.2,TLSv1.3", nil), ("server_tls_protocols = all:!tlsv1.0", nil),
            ("client_tls_dheparams = none", nil),
            (
                "client_tls_protocols = tlsv1.2, tlsv1.4",
                "martlet.ini:2: client_tls_protocols must be one of all, secure, legacy, tlsv1.0, tlsv1.1, tlsv1.2, tlsv1.3,"
                    + #" not "tlsv1.4"; did you mean "tlsv1.0"?"#
            ),
        ] as [(String, String?)])
    func keysOfLaterVersionsAreCheckedAlready(line: String, expected: String?) {
        #expect(errors("[martlet]\n\(line)").first == expected)
    }

    @Test(arguments: [
        (
            "[martlet]", "martlet.ini: warning: auth_type = md5 without auth_file: no client can log in"
        ),
        (
            "[martlet]\nauth_type = any\n[databases]\na = host=x",
            #"martlet.ini:4: warning: database "a" has no user, which auth_type = any needs"#
        ),
        (
            "[martlet]\nauth_file = x\n[databases]\na = password=x",
            #"martlet.ini:4: warning: database "a" has a password, but no user that it belongs to"#
        ),
        (
            "[martlet]\nauth_file = x\nunix_socket_dir =",
            "martlet.ini:3: warning: neither listen_addr nor unix_socket_dir is set: nothing to listen on but sockets"
                + " passed on by systemd"
        ),
    ])
    func whatIsAllowedButHardlyMeant(text: String, expected: String) {
        let (settings, diagnostics) = load(text)
        #expect(settings != nil)
        #expect(diagnostics.map(\.description) == [expected])
    }

    @Test func aDatabaseNeedsAHostWhenThereIsNoUnixSocketDirectory() {
        #expect(
            errors("[martlet]\nunix_socket_dir =\nlisten_addr = *\n[databases]\n* = dbname=x") == [
                #"martlet.ini:5: database "*" has no host, and unix_socket_dir is empty"#
            ])
    }

    @Test func aUnixSocketDirectoryIsBounded() {
        let directory = "/" + String(repeating: "d", count: 100)
        #expect(
            errors("[martlet]\nunix_socket_dir = \(directory)") == [
                "martlet.ini:2: unix_socket_dir is too long a path for a Unix socket"
            ])
    }

    @Test func minusOneLeavesADatabaseOrUserKeyUnset() {
        let text = """
            [databases]
            a = pool_size=5 query_wait_timeout=-1 min_pool_size=-1
            [users]
            u = pool_size=-1 query_timeout=-1
            """
        let settings = load(text).settings
        #expect(settings?.databases["a"]?.queryWaitTimeout == nil)
        #expect(settings?.databases["a"]?.minPoolSize == nil)
        #expect(settings?.users["u"] == UserSettings(name: "u"))
    }

    @Test func peers() {
        let settings = load("[peers]\n1 = host=/tmp/p1\n2 = host=b port=7 pool_size=3").settings
        #expect(settings?.peers[1]?.address == HostAddress(host: "/tmp/p1", port: 6432))
        #expect(settings?.peers[2]?.address == HostAddress(host: "b", port: 7))
        #expect(settings?.peers[2]?.poolSize == 3)
    }

    @Test func theFallbackStandsForAnyOtherName() {
        let settings = load("[databases]\na = dbname=b\n* = host=x pool_size=3").settings
        #expect(settings?.database(named: "a")?.serverDatabase == "b")
        #expect(settings?.database(named: "a")?.hosts == [HostAddress(host: "/tmp")])
        let automatic = settings?.database(named: "zoo")
        #expect(automatic?.isAutomatic == true)
        #expect(automatic?.name == "zoo" && automatic?.dbname == "zoo" && automatic?.poolSize == 3)
        #expect(load("[databases]\na =").settings?.database(named: "zoo") == nil)
        #expect(load("[databases]\n* = dbname=one").settings?.database(named: "zoo")?.dbname == "one")
    }

    @Test func passwordsAreInNoDescription() {
        let text =
            "[databases]\na = host=x password='top secret' check_password=topsecret dbname='it''s' pool_size=4"
            + "\n[martlet]\ncheck_password = secret too\nuser = me"
        let described = load(text).settings.map { "\($0) \(String(reflecting: $0.databases))" } ?? ""
        #expect(!described.contains("secret"))
        #expect(described.contains("a = host=x dbname=it's password=******** pool_size=4 check_password=********"))
        #expect(described.contains("check_password = ********; conffile = martlet.ini; user = me"))
    }

    @Test func theSameEntryOnAnotherLineIsNoChange() {
        #expect(load("[databases]\na = host=x").settings == load("\n\n[databases]\na = host=x").settings)
    }
}
