import Authentication
import Settings
import TestSupport
import Testing
import Wire

@testable import Sessions

/// Who gets in: every method, form of secret and kind of password.
@Suite("Client authentication")
struct ClientAuthenticationTests {
    /// A password that needs SASLprep and quoting.
    private static let password = "secret \u{e4} 'quoted'"
    private static let wrong = "28P01: password authentication failed for user \"app\""
    private static let saslWrong = "28P01: SASL authentication failed"

    private func secret(_ form: String) throws -> Secret? {
        switch form {
        case "plain": .plain(SecretBytes(bytes(Self.password)))
        case "md5": try md5Secret("app", Self.password)
        case "scram": .scram(try verifier(Self.password, iterations: 2))
        case "empty": .plain(SecretBytes([]))
        default: nil
        }
    }

    @Test(
        "method and secret: what is asked for, and whether the right password gets in",
        arguments: [
            (AuthType.plain, "plain", ["cleartext"], true), (.plain, "md5", ["cleartext"], true),
            (.plain, "scram", ["cleartext"], true), (.plain, "empty", ["cleartext"], false),
            (.plain, "unknown", ["cleartext"], false),
            (.md5, "plain", ["md5"], true), (.md5, "md5", ["md5"], true), (.md5, "empty", ["md5"], false),
            // A SCRAM secret makes md5 ask for SCRAM.
            (.md5, "scram", ["sasl", "continue", "final"], true), (.md5, "unknown", ["md5"], false),
            (.scramSHA256, "plain", ["sasl", "continue", "final"], true),
            (.scramSHA256, "scram", ["sasl", "continue", "final"], true),
            // No verifier can be made of an MD5 secret.
            (.scramSHA256, "md5", ["sasl", "continue"], false), (.scramSHA256, "empty", ["sasl", "continue"], false),
            (.scramSHA256, "unknown", ["sasl", "continue"], false),
        ] as [(AuthType, String, [String], Bool)])
    func methods(authType: AuthType, form: String, said: [String], works: Bool) throws {
        let refusal = "refused " + (authType == .scramSHA256 ? Self.saslWrong : Self.wrong)
        let scene = ClientScene(authType, try self.secret(form))
        try scene.logIn(password: Self.password)
        #expect(scene.said == said + [works ? "authenticated" : refusal])
    }

    @Test(
        "wrong passwords never get in",
        arguments: [AuthType.plain, .md5, .scramSHA256], ["plain", "md5", "scram", "empty", "unknown"])
    func wrongPasswords(authType: AuthType, form: String) throws {
        for password in ["", "wrong", Self.password + " ", String(Self.password.dropLast()), "md5"] {
            let scene = ClientScene(authType, try self.secret(form))
            try scene.logIn(password: password)
            #expect(scene.said.last?.hasPrefix("refused 28P01: ") == true, "\(password)")
        }
    }

    @Test("the stored secret is not a password", arguments: [AuthType.plain, .md5, .scramSHA256])
    func storedSecret(authType: AuthType) throws {
        guard case .md5(let digits) = try md5Secret("app", Self.password) else { return }
        let text = "md5" + String(decoding: digits.span.copy(0..<digits.count), as: UTF8.self)
        let scene = ClientScene(authType, .md5(digits))
        try scene.logIn(password: text)
        #expect(!scene.isAuthenticated)
    }

    // MARK: Unknown users

    @Test(
        "an unknown user cannot be told from a wrong password",
        arguments: [AuthType.plain, .md5, .scramSHA256], ["plain", "md5", "scram"])
    func unknownUser(authType: AuthType, form: String) throws {
        let known = ClientScene(authType, try self.secret(form))
        // Among users whose secrets are of that form.
        known.account.prefersSCRAM = form == "scram"
        let unknown = ClientScene(authType, nil)
        unknown.account.prefersSCRAM = form == "scram"
        try known.logIn(password: "wrong")
        try unknown.logIn(password: "wrong")
        #expect(known.said == unknown.said)
        #expect(known.detail == nil && unknown.detail == nil)
        // Salt and iterations aside, what is sent has the same form.
        #expect(known.sent.map(\.first) == unknown.sent.map(\.first))
    }

    @Test("an unknown user's salt is its own and stays the same")
    func mockSalt() {
        func serverFirst(_ user: String) -> String {
            let scene = ClientScene()
            scene.receive(FakeClient.startup(user: user) + FakeClient.sasl("n,,n=,r=abc"))
            return String(decoding: scene.saslData, as: UTF8.self).split(separator: ",")[1...].joined(separator: ",")
        }
        #expect(serverFirst("a") == serverFirst("a"))
        #expect(serverFirst("a") != serverFirst("b"))
        #expect(serverFirst("a").hasSuffix(",i=2"))
    }

    @Test("a malformed message says the same whether the user exists or not")
    func unknownUserAndMalformedMessages() throws {
        for text in ["", "n,,n=,r=", "p=tls-unique,,n=,r=abc", "n,,m=x,n=,r=abc"] {
            let known = ClientScene(.scramSHA256, try self.secret("scram"))
            let unknown = ClientScene(.scramSHA256, nil)
            for scene in [known, unknown] { scene.receive(FakeClient.startup() + FakeClient.sasl(text)) }
            #expect(known.said == unknown.said)
            #expect(known.detail == unknown.detail)
        }
    }

    // MARK: Without a password

    private static let noSuchUser = "refused 28000: \"trust\" authentication failed"
    private static let configurationError = "refused 28000: bouncer config error"

    @Test(
        "trust and any",
        arguments: [
            (AuthType.trust, true, false, "authenticated"), (.trust, false, false, noSuchUser),
            (.trust, false, true, noSuchUser),
            (.any, true, false, configurationError), (.any, false, true, "authenticated"),
        ])
    func noPassword(authType: AuthType, isKnown: Bool, hasForcedUser: Bool, said: String) throws {
        let scene = ClientScene(authType, isKnown ? try self.secret("plain") : nil)
        scene.account.hasForcedUser = hasForcedUser
        scene.receive(FakeClient.startup())
        #expect(scene.said == [said])
        #expect(scene.keys == nil)
    }

    @Test("LDAP without options is refused")
    func nobodyToAsk() throws {
        let scene = ClientScene(.ldap, try self.secret("plain"))
        scene.receive(FakeClient.startup())
        #expect(scene.said == [Self.configurationError])
    }

    // MARK: Console and shutdown

    @Test("the console's users authenticate as others do; the proxy's own operating system user need not")
    func console() throws {
        for (authType, isTrusted, said) in [
            (AuthType.scramSHA256, false, "sasl"), (.md5, false, "md5"), (.any, false, "authenticated"),
            (.scramSHA256, true, "authenticated"), (.pam, true, "authenticated"), (.ldap, true, "authenticated"),
        ] {
            let scene = ClientScene(authType)
            scene.account.isTrustedPeer = isTrusted
            scene.receive(FakeClient.startup(user: "pgbouncer", database: "pgbouncer"))
            #expect(scene.said == [said])
        }
    }

    @Test("trust on the operating system's word is for the console only")
    func trustedPeerElsewhere() {
        let scene = ClientScene(.scramSHA256)
        scene.account.isTrustedPeer = true
        scene.receive(FakeClient.startup(user: "pgbouncer", database: "shop"))
        #expect(scene.said == ["sasl"])
    }

    @Test("a shutdown lets nobody in but to the console")
    func shutdown() throws {
        for (database, said) in [("shop", "refused 57P01: pooler is shutting down"), ("pgbouncer", "authenticated")] {
            let scene = ClientScene(.trust, try self.secret("plain"))
            scene.account.isShuttingDown = true
            scene.receive(FakeClient.startup(database: database))
            #expect(scene.said == [said])
        }
    }

    // MARK: Keys

    @Test("keys are handed over when the client has shown them")
    func capturedKeys() throws {
        for authType in [AuthType.plain, .md5, .scramSHA256] {
            let scene = ClientScene(authType, try self.secret("scram"))
            try scene.logIn(password: Self.password)
            let taken = try #require(scene.keys)
            let derived = try keys(Self.password, iterations: 2)
            #expect(taken.clientKey == derived.clientKey && taken.serverKey == derived.serverKey)
            #expect(taken.salt == derived.salt && taken.iterations == derived.iterations)
        }
    }

    @Test("only a SCRAM secret or a plain password for SCRAM costs a derivation; unknown users cost none")
    func derivations() throws {
        for (authType, form, count) in [
            (AuthType.plain, "plain", 0), (.plain, "scram", 1), (.md5, "scram", 0), (.scramSHA256, "plain", 1),
            (.scramSHA256, "scram", 0), (.scramSHA256, "unknown", 0), (.plain, "unknown", 0),
        ] {
            let scene = ClientScene(authType, try self.secret(form))
            try scene.logIn(password: Self.password)
            #expect(scene.derivations == count, "\(authType) \(form)")
        }
    }

    @Test("libcrypto refuses to derive")
    func noKeys() throws {
        for (authType, form) in [(AuthType.plain, "scram"), (.scramSHA256, "plain")] {
            let scene = ClientScene(authType, try self.secret(form))
            scene.runsDerivations = false
            try scene.logIn(password: Self.password)
            if case .derive = scene.last { scene.derived(nil) } else { scene.prepared(nil) }
            #expect(scene.said.last == "refused " + Self.wrong)
        }
    }
}
