import Settings
import Testing
import Wire

@testable import Sessions

@Suite("Client admission")
struct ClientAdmissionTests {
    private func startup(
        user: String = "app", database: String = "shop", _ more: [String: String] = [:]
    ) throws -> StartupMessage {
        let scene = ClientScene()
        scene.looksUpAccount = false
        scene.receive(FakeClient.startup(user: user, database: database, more: more))
        return try #require(scene.startupMessage)
    }

    private func settings(_ authType: AuthType = .md5) -> Settings {
        var settings = Settings()
        settings.general.authType = authType
        settings.general.adminUsers = ["admin", "both"]
        settings.general.statsUsers = ["stats", "both"]
        settings.databases["shop"] = DatabaseSettings(name: "shop")
        return settings
    }

    private func words(_ admission: ClientAdmission) -> String {
        switch admission {
        case .console(let role): "console as \(role)"
        case .database: "database"
        case .refused(let error): "\(error.sqlState): \(error.message)"
        }
    }

    private func admission(
        _ message: StartupMessage, _ settings: Settings, isTrustedPeer: Bool = false
    ) -> ClientAdmission {
        ClientAdmission(message, settings.general, isTrustedPeer: isTrustedPeer) {
            settings.database(named: $0) != nil
        }
    }

    @Test(
        "who may use the console, and as what",
        arguments: [
            ("admin", AuthType.md5, false, "console as admin"), ("both", .md5, false, "console as admin"),
            ("stats", .md5, false, "console as stats"), ("app", .md5, false, "42501: not allowed"),
            ("pgbouncer", .md5, false, "42501: not allowed"), ("pgbouncer", .md5, true, "console as admin"),
            ("app", .trust, false, "42501: not allowed"), ("app", .any, false, "42501: not allowed"),
            ("admin", .any, false, "console as admin"),
            ("stats", .any, false, "console as stats"), ("ADMIN", .md5, false, "42501: not allowed"),
        ])
    func console(user: String, authType: AuthType, isTrusted: Bool, expected: String) throws {
        let message = try self.startup(user: user, database: "pgbouncer")
        let admission = self.admission(message, self.settings(authType), isTrustedPeer: isTrusted)
        #expect(self.words(admission) == expected)
    }

    @Test("an entry of [databases] or the one for all others, or none")
    func databases() throws {
        var settings = self.settings()
        let known = try self.startup()
        let unknown = try self.startup(database: "nosuch")
        #expect(self.words(self.admission(known, settings)) == "database")
        #expect(
            self.words(self.admission(unknown, settings))
                == "3D000: no such database: nosuch")
        settings.fallbackDatabase = DatabaseSettings(name: "*")
        #expect(self.words(self.admission(unknown, settings)) == "database")
    }

    @Test(
        "the startup packet's replication",
        arguments: [
            ("database", "database"), ("DATABASE", nil), ("true", "true"), ("on", "true"), ("1", "true"),
            ("yes", "true"), ("false", nil), ("off", nil), ("no", nil), ("0", nil), ("", nil),
        ] as [(String, String?)])
    func replication(value: String, mode: String?) throws {
        #expect(try self.startup(["replication": value]).replicationMode == mode)
        #expect(try self.startup().replicationMode == nil)
    }

    @Test("a replication that PostgreSQL refuses", arguments: ["DATABASE", "", "2", "o", "yes please"])
    func badReplication(value: String) throws {
        let error = try self.startup(["replication": value]).replicationError
        #expect(error?.message == "invalid value for parameter \"replication\": \"\(value)\"")
        #expect(try self.startup(["replication": "yes"]).replicationError == nil)
    }

    @Test("settings: options come first, what is to be ignored is left out in whatever case")
    func sessionSettings() throws {
        let message = try self.startup(["TimeZone": "UTC", "Extra_Float_Digits": "3"])
        let options = [
            StartupParameter(name: "timezone", value: "Mars"), StartupParameter(name: "search_path", value: "a"),
        ]
        let settings = message.settings(options: options, ignored: ["extra_float_digits", "SEARCH_PATH"], peer: nil)
        #expect(settings.map { "\($0.name)=\($0.text)" } == ["timezone=Mars", "TimeZone=UTC"])
    }

    @Test(
        "application_name with the client's address",
        arguments: [
            ([:], "app - 10.0.0.1:5"), (["application_name": "shop"], "shop - 10.0.0.1:5"),
            (["Application_Name": ""], " - 10.0.0.1:5"),
        ] as [([String: String], String)])
    func applicationName(parameters: [String: String], expected: String) throws {
        let settings = try self.startup(parameters).settings(options: [], ignored: [], peer: "10.0.0.1:5")
        #expect(settings.last == StartupParameter(name: "application_name", value: expected))
    }

    @Test("a setting in the client's own encoding is passed on byte for byte")
    func otherEncoding() throws {
        let name = [StartupParameter(name: "application_name", value: [0xE4, 0xFF])]
        #expect(try self.startup().settings(options: name, ignored: [], peer: nil) == name)
    }
}
