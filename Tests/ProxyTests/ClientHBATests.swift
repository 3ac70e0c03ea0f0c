import Authentication
import Testing

@testable import Proxy
@testable import Settings

struct ClientHBATests {
    private static let read: @Sendable (String) -> Result<[UInt8], any Error> = { _ in .success([]) }
    private static let maps = IdentMaps.parse(
        Array("staff joe app\nstaff ann all".utf8).span, file: "ident", read: Self.read
    ).maps

    private func scene(_ line: String?, _ secret: Secret?) throws -> ClientScene {
        let scene = ClientScene(.hba, secret)
        scene.account.identMaps = Self.maps
        if let line {
            let (hba, problems) = HBA.parse(
                Array(line.utf8).span, file: "hba", identMaps: Self.maps, read: Self.read)
            #expect(problems.isEmpty)
            scene.account.rule = try #require(hba).rules.first
        }
        return scene
    }

    @Test(
        "the rule's method is asked for",
        arguments: [
            ("trust", "authenticated"), ("password", "cleartext"), ("md5", "md5"), ("scram-sha-256", "sasl"),
            ("ldap ldapserver=a ldapprefix=b", "cleartext"), ("reject", "refused 28000: login rejected"),
        ])
    func methods(method: String, said: String) throws {
        let scene = try self.scene("host all all all \(method)", .plain(SecretBytes(bytes("secret"))))
        scene.receive(FakeClient.startup())
        #expect(scene.said == [said])
    }

    @Test("without a rule nobody gets in; the log tells why, the client is not told")
    func noRule() throws {
        let scene = try self.scene(nil, .plain(SecretBytes(bytes("secret"))))
        scene.receive(FakeClient.startup())
        #expect(scene.said == ["refused 28000: login rejected"])
        #expect(scene.detail == "no rule in auth_hba_file is about this client")
    }

    @Test("passwords are checked as without rules", arguments: ["password", "md5", "scram-sha-256"], [true, false])
    func passwords(method: String, isKnown: Bool) throws {
        for password in ["secret", "wrong"] {
            let scene = try self.scene(
                "host all all all \(method)", isKnown ? .plain(SecretBytes(bytes("secret"))) : nil)
            try scene.logIn(password: password)
            #expect(scene.isAuthenticated == (isKnown && password == "secret"))
        }
    }

    @Test("the directory of the rule is asked, not that of auth_ldap_options")
    func directory() throws {
        let scene = try self.scene("host all all all ldap ldapserver=a ldapprefix=b", nil)
        scene.account.ldap = LDAPOptions.parse("ldapserver=x ldapprefix=y").options
        scene.isRightToJudge = true
        try scene.logIn(password: "secret")
        #expect(scene.isAuthenticated)
        #expect(scene.judge == .directory(try #require(scene.account.rule?.ldap)))
    }

    private static let rejected = "refused 28000: unix socket login rejected"

    @Test(
        "peer",
        arguments: [
            ("", "app", "authenticated"), ("", "joe", Self.rejected), ("", nil, Self.rejected),
            ("map=staff", "joe", "authenticated"), ("map=staff", "ann", "authenticated"),
            ("map=staff", "app", Self.rejected), ("map=staff", nil, Self.rejected),
        ] as [(String, String?, String)])
    func peer(option: String, systemUser: String?, said: String) throws {
        let scene = try self.scene("local all all peer \(option)", .plain(SecretBytes(bytes("x"))))
        scene.account.systemUser = systemUser
        scene.receive(FakeClient.startup())
        #expect(scene.said == [said])
    }

    @Test("a peer must be a user that is known, and hears the same if it is not")
    func unknownPeer() throws {
        let scene = try self.scene("local all all peer", nil)
        scene.account.systemUser = "app"
        scene.receive(FakeClient.startup())
        #expect(scene.said == [Self.rejected])
        #expect(scene.detail == "no such user")
    }
}

struct ConfigurationFilesTests {
    private func load(
        _ files: [String: String], _ type: AuthType = .hba
    ) -> (configuration: Configuration?, problems: [String]) {
        var settings = Settings()
        settings.general.authType = type
        settings.general.authFile = "users"
        settings.general.authHbaFile = "hba"
        settings.general.authIdentFile = "ident"
        return Configuration.load(settings) { path in
            files[path].map { .success(Array($0.utf8)) } ?? .failure(FileError("No such file or directory"))
        }
    }

    private static let good = [
        "users": #""app" "x""#, "hba": "local all all peer map=m\nhost all @names all md5", "ident": "m joe app",
        "names": "app",
    ]

    @Test func allFilesAreRead() throws {
        let (configuration, problems) = self.load(Self.good)
        #expect(problems.isEmpty)
        #expect(try #require(configuration).hba.rules.count == 2)
        #expect(configuration?.secrets.keys.sorted() == ["app"])
    }

    @Test(
        arguments: [
            ("users", nil, "auth_file: cannot read users: No such file or directory"),
            ("hba", nil, "auth_hba_file: cannot read hba: No such file or directory"),
            ("ident", nil, "auth_ident_file: cannot read ident: No such file or directory"),
            ("names", nil, "hba:2: cannot read names: No such file or directory"),
            (
                "hba", "host all +x all md5",
                "hba:1: +x: membership in a role is not known here, name the users or an @file"
            ),
            ("ident", "m joe", "ident:1: a line has a map, a system name and a user"),
            ("ident", "other joe app", "hba:1: map=m: there is no such map in auth_ident_file"),
            ("users", "", "auth_file: users names no user: nobody could log in"),
            ("users", "app x", "users:1: user in double quotes expected"),
            ("hba", "# none", "auth_hba_file: hba has no rules: nobody could log in"),
        ] as [(String, String?, String)])
    func errors(file: String, text: String?, problem: String) {
        var files = Self.good
        files[file] = text
        let (configuration, problems) = self.load(files)
        #expect(configuration == nil)
        #expect(problems == [problem])
    }

    @Test func withoutHBANoRulesAreRead() {
        let (configuration, problems) = self.load(["users": "\"app\" \"secret\""], .md5)
        #expect(configuration?.hba == HBA())
        #expect(problems.isEmpty)
    }
}
