import Testing

@testable import Settings

@Suite struct ChangesTests {
    private func reload(_ old: String, _ new: String) throws -> (settings: Settings, changes: [String]) {
        let result = Settings.reload(from: try #require(load(old).settings), to: try #require(load(new).settings))
        return (result.settings, result.changes.map(\.description))
    }

    @Test func nothingChanged() throws {
        let text = "[martlet]\nlisten_addr = *\n[databases]\na = host=x\n* =\n[users]\nu =\n[peers]\n1 = host=x"
        #expect(try self.reload(text, text).changes == [])
    }

    @Test func generalSettings() throws {
        let (settings, changes) = try self.reload(
            "[martlet]\npool_mode = session\nauth_file = x\ncheck_password = old",
            "[martlet]\npool_mode = statement\nquery_timeout = 0.5\ncheck_password = new")
        #expect(settings.general.poolMode == .statement)
        #expect(
            changes == [
                "auth_file changed from x to unset", "check_password changed",
                "pool_mode changed from session to statement", "query_timeout changed from 0 to 0.5",
            ])
    }

    @Test func whatNeedsARestartKeepsItsOldValue() throws {
        let (settings, changes) = try self.reload(
            "[martlet]\nlisten_port = 1\nthreads = 3\nunix_socket_mode = 0700\nlisten_addr = a,b",
            "[martlet]\nlisten_port = 2\nuser = x\nunix_socket_mode = 0777\nlisten_addr = c")
        #expect(settings.general.listenPort == 1)
        #expect(settings.general.threads == 3)
        #expect(settings.general.user == nil)
        #expect(settings.general.unixSocketMode == 0o700)
        #expect(settings.general.listenAddr == ["a", "b"])
        #expect(
            changes == [
                "listen_addr changed from a, b to c; it needs a restart",
                "listen_port changed from 1 to 2; it needs a restart",
                "threads changed from 3 to 0; it needs a restart",
                "unix_socket_mode changed from 0700 to 0777; it needs a restart",
                "user changed from unset to x; it needs a restart",
            ])
    }

    /// A key that needs a restart must survive being printed and read again, since that is how it is kept.
    @Test func everyKeyReadsWhatItPrints() throws {
        var general = GeneralSettings()
        general.user = "x"
        general.conffile = "y"
        general.listenAddr = ["a", "b"]
        general.serverCheckQuery = nil
        general.queryTimeout = 1
        for original in [GeneralSettings(), general] {
            var copy = GeneralSettings()
            for key in GeneralSettings.keys {
                try key.parse(key.print(original) ?? "", &copy)
            }
            #expect(copy == original)
        }
    }

    @Test func databasesUsersAndPeers() throws {
        let (settings, changes) = try self.reload(
            """
            [databases]
            gone = host=x
            same = host=x
            other = host=x password=old user=u
            [users]
            u = pool_size=1
            [peers]
            1 = host=x
            """,
            """
            [peers]
            1 = host=y
            [users]
            u = pool_mode=session
            [databases]
            * = host=z
            same = host=x
            other = host=y password=new user=u
            """)
        #expect(settings.databases.count == 2)
        #expect(
            changes == [
                #"database "*" added"#, #"database "gone" removed"#, #"database "other": host changed from x to y"#,
                #"database "other": password changed"#, #"user "u": pool_mode changed from unset to session"#,
                #"user "u": pool_size changed from 1 to unset"#, #"peer "1": host changed from x to y"#,
            ])
    }

    @Test(arguments: [
        ("host=x", "host=x", false), ("host=x", "host=y", true), ("host=x", "host=x port=1", true),
        ("host=x", "host=x dbname=z", true), ("user=x", "user=y", true), ("", "connect_query='SELECT 1'", true),
        ("", "application_name=x", true), ("", "pool_size=3", false), ("user=x password=a", "user=x password=b", false),
    ])
    func whichChangesNeedOtherServerConnections(old: String, new: String, expected: Bool) throws {
        let before = try #require(database(old))
        let after = try #require(database(new))
        #expect(after.needsOtherServerConnections(than: before) == expected)
    }
}
