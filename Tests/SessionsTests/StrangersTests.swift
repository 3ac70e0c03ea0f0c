import Authentication
import Settings
import TestSupport
import Testing

@testable import Sessions

/// What those meet who have not shown who they are.
struct StrangersTests {
    // MARK: Places by address

    private func address(_ text: String) throws -> NetworkAddress { try #require(NetworkAddress(text)) }

    @Test func placesAreLimitedByAddress() throws {
        let places = LoginPlaces()
        let one = try self.address("10.0.0.1")
        var held = [places.take(one, limit: 2), places.take(one, limit: 2)]
        #expect(held.allSatisfy { $0 != nil })
        #expect(places.take(one, limit: 2) == nil)
        let other = places.take(try self.address("10.0.0.2"), limit: 2)
        #expect(other != nil)
        held.removeLast()
        #expect(places.take(one, limit: 2) != nil)
        held.removeAll()
        #expect(places.addresses == (other == nil ? 0 : 1))
    }

    @Test func allOfAnIPv6NetworkCountAsOne() throws {
        let places = LoginPlaces()
        let first = places.take(try self.address("2001:db8:0:1::1"), limit: 1)
        #expect(first != nil)
        #expect(places.take(try self.address("2001:db8:0:1:ffff::2"), limit: 1) == nil)
        #expect(places.take(try self.address("2001:db8:0:2::1"), limit: 1) != nil)
    }

    @Test func noAddressIsKeptThatHasNoPlace() throws {
        let places = LoginPlaces()
        for index in 0..<1000 { _ = places.take(try self.address("10.0.\(index / 256).\(index % 256)"), limit: 1) }
        #expect(places.addresses == 0)
    }

    // MARK: Names in the log

    @Test(arguments: [
        ("app", "app"), ("App_1.x-y$", "App_1.x-y$"), ("\u{fc}ml\u{e4}ut", "\u{fc}ml\u{e4}ut"), ("", #""""#),
        ("a b", #""a b""#), ("alice@10.0.0.7:1 login attempt", #""alice@10.0.0.7:1 login attempt""#),
        (#"a" b"#, #""a"" b""#), ("a\"\u{301}/b", "\"a\"\"\u{301}/b\""), ("a/b", #""a/b""#), ("a\nb", "\"a\nb\""),
        ("a\u{2028}b", "\"a\u{2028}b\""),
    ])
    func namesInTheLog(name: String, shown: String) { #expect(LogName.text(name) == shown) }

    // MARK: MD5 switched off

    @Test(
        "without MD5 clients are asked for SCRAM",
        arguments: [("plain", true), ("scram", true), ("md5", false), ("unknown", false)])
    func withoutMD5(form: String, works: Bool) throws {
        let secrets: [String: Secret] = [
            "plain": .plain(SecretBytes(bytes("secret"))), "scram": .scram(try verifier("secret", iterations: 2)),
            "md5": try md5Secret("app", "secret"),
        ]
        let scene = ClientScene(.md5, secrets[form])
        scene.account.allowsMD5 = false
        try scene.logIn(password: "secret")
        #expect(scene.said.first == "sasl")
        #expect(scene.isAuthenticated == works)
    }

    @Test("without MD5 a server that asks for it is left")
    func serverWithoutMD5() {
        for allowsMD5 in [true, false] {
            var login = ServerLogin(
                user: "app", secret: .plain(SecretBytes(bytes("secret"))), keys: nil, allowsMD5: allowsMD5)
            _ = login.begin(database: "shop", settings: [])
            let step = login.received(authentication(5, [1, 2, 3, 4]).span)
            if case .failed(let error) = step.action {
                #expect(!allowsMD5)
                #expect(error.message.contains("auth_allow_md5"))
            } else {
                #expect(allowsMD5)
            }
        }
    }

    // MARK: PAM

    @Test("PAM alone says whether a password is right, whatever the secret", arguments: [true, false])
    func askedByPAM(isRight: Bool) throws {
        let scene = ClientScene(.pam, .plain(SecretBytes(bytes("of the file"))))
        scene.isRightToJudge = isRight
        try scene.logIn(password: "secret")
        #expect(scene.asked == [SecretBytes(bytes("secret"))])
        #expect(scene.isAuthenticated == isRight)
        #expect(scene.keys == nil)
    }

    @Test("an empty password is not even asked about")
    func emptyForPAM() throws {
        let scene = ClientScene(.pam)
        scene.isRightToJudge = true
        try scene.logIn(password: "")
        #expect(scene.asked.isEmpty)
        #expect(!scene.isAuthenticated)
    }

    // MARK: LDAP

    private func options(_ text: String) throws -> LDAPOptions { try #require(LDAPOptions.parse(text).options) }

    @Test("a directory alone says whether a password is right, whatever the secret", arguments: [true, false])
    func askedByLDAP(isRight: Bool) throws {
        let options = try self.options("ldapserver=a ldapprefix=uid=")
        let scene = ClientScene(.ldap, .plain(SecretBytes(bytes("of the file"))))
        scene.account.ldap = options
        scene.isRightToJudge = isRight
        try scene.logIn(password: "secret")
        #expect(scene.asked == [SecretBytes(bytes("secret"))])
        #expect(scene.judge == .directory(options))
        #expect(scene.isAuthenticated == isRight)
        #expect(scene.keys == nil)
        if !isRight { #expect(scene.said.last == "refused 28000: LDAP authentication failed") }
    }

    @Test("a directory would agree to an empty password, and is not asked")
    func emptyForLDAP() throws {
        let scene = ClientScene(.ldap)
        scene.account.ldap = try self.options("ldapserver=a ldapbasedn=dc=x")
        scene.isRightToJudge = true
        try scene.logIn(password: "")
        #expect(scene.asked.isEmpty)
        #expect(scene.said.last == "refused 28P01: LDAP authentication failed")
    }

    @Test("what the directory says of one client counts once, and not where somebody else was asked")
    func judgedUnasked() throws {
        for authType in [AuthType.plain, .pam, .ldap, .scramSHA256, .hba] {
            var authentication = ClientAuthentication()
            _ = authentication.received(FakeClient.startup().span)
            var account = ClientScene(authType).account
            account.ldap = try self.options("ldapserver=a ldapprefix=uid=")
            account.isPassedThrough = true
            _ = authentication.identified(account)
            guard case .refuse = authentication.judged(true) else {
                Issue.record("\(authType): let in by a verdict that nobody asked for")
                continue
            }
        }
        var authentication = ClientAuthentication()
        _ = authentication.received(FakeClient.startup().span)
        var account = ClientScene(.plain).account
        account.isPassedThrough = true
        _ = authentication.identified(account)
        _ = authentication.received(message("p", bytes("x") + [0]).span)
        guard case .refuse = authentication.judged(true) else {
            Issue.record("let in by a verdict on what the server was asked about")
            return
        }
    }

    // MARK: Passwords tried at the server

    @Test("the password of a user without a secret is tried at the server", arguments: [true, false])
    func passedThrough(isRight: Bool) throws {
        let scene = ClientScene(.plain)
        scene.account.isPassedThrough = true
        scene.keysAtServer = isRight ? try keys("secret") : nil
        try scene.logIn(password: "secret")
        #expect(scene.tried == [SecretBytes(bytes("secret"))])
        #expect(scene.isAuthenticated == isRight)
        #expect(scene.keys == scene.keysAtServer)
        if !isRight {
            let wrong = ClientScene(.plain, .plain(SecretBytes(bytes("x"))))
            try wrong.logIn(password: "secret")
            #expect(scene.said == wrong.said)
        }
    }

    @Test func anEmptyPasswordIsNotTried() throws {
        let scene = ClientScene(.plain)
        scene.account.isPassedThrough = true
        scene.keysAtServer = try keys("secret")
        try scene.logIn(password: "")
        #expect(scene.tried.isEmpty)
        #expect(!scene.isAuthenticated)
    }

    @Test("a server that does not ask for SCRAM shows nothing, and is told nothing", arguments: [0, 3, 5] as [UInt8])
    func onlySCRAM(kind: UInt8) {
        var login = ServerLogin(
            user: "app", secret: .plain(SecretBytes(bytes("secret"))), keys: nil, onlySCRAM: true)
        _ = login.begin(database: "shop", settings: [])
        let step = login.received(authentication(kind, kind == 5 ? [1, 2, 3, 4] : []).span)
        guard case .failed(let error) = step.action else {
            Issue.record("it went on: \(step.action)")
            return
        }
        #expect(error.message.contains("does not ask for SCRAM"))
    }

    @Test func passwordsAreRememberedForATime() throws {
        let passed = PassedPasswords()
        let right = try keys("secret")
        passed.remember(right, database: "shop", user: "app", until: 100)
        #expect(passed.keys(database: "shop", user: "app", now: 99) == right)
        #expect(passed.keys(database: "shop", user: "app", now: 100) == nil)
        #expect(passed.keys(database: "crm", user: "app", now: 0) == nil)
        #expect(passed.keys(database: "shop", user: "joe", now: 0) == nil)
        passed.forgetAll()
        #expect(passed.keys(database: "shop", user: "app", now: 0) == nil)
    }

    // MARK: Time

    @Test("a password in clear text costs an unknown user the same work as a known one", arguments: [true, false])
    func clearText(prefersSCRAM: Bool) throws {
        let known = ClientScene(
            .plain, prefersSCRAM ? .scram(try verifier("secret", iterations: 2)) : try md5Secret("app", "secret"))
        let unknown = ClientScene(.plain, nil)
        for scene in [known, unknown] {
            scene.account.prefersSCRAM = prefersSCRAM
            try scene.logIn(password: "wrong")
        }
        #expect(known.derivations == (prefersSCRAM ? 1 : 0))
        #expect(unknown.derivations == known.derivations)
        #expect(unknown.said == known.said)
    }
}
