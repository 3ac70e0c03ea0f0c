import Authentication
import TestSupport
import Testing

@testable import Sessions
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
