import Authentication
import TestSupport
import Testing
import Wire

@testable import Sessions
@testable import Settings

@Suite("auth_query") struct AuthQueryTests {
    // MARK: Whom to ask

    private func settings(_ change: (inout Settings) -> Void = { _ in }) -> Settings {
        var settings = Settings()
        settings.general.authUser = "asker"
        settings.general.authQuery = "Q"
        for name in ["shop", "crm"] { settings.databases[name] = DatabaseSettings(name: name) }
        change(&settings)
        return settings
    }

    /// `database/asker/query`, or "nobody".
    private func asked(_ settings: Settings, _ database: String = "shop") -> String {
        AuthQuestion(user: "u", database: database, settings: settings).map {
            "\($0.database)/\($0.asker)/\($0.query)"
        } ?? "nobody"
    }

    @Test func theDatabaseThatTheClientWantsIsAsked() {
        #expect(self.asked(self.settings()) == "shop/asker/Q")
        #expect(AuthQuestion(user: "u", database: "shop", settings: self.settings())?.user == "u")
    }

    @Test func withoutAnAskerNobodyIsAsked() {
        let settings = self.settings { $0.general.authUser = nil }
        for name in ["shop", "none", "pgbouncer"] { #expect(self.asked(settings, name) == "nobody") }
    }

    @Test func aDatabaseMayHaveItsOwnKeys() {
        let settings = self.settings {
            $0.general.authUser = nil
            $0.databases["shop"]?.authUser = "own"
            $0.databases["shop"]?.authQuery = "OWN"
            $0.databases["shop"]?.authDbname = "crm"
        }
        #expect(self.asked(settings) == "crm/own/OWN")
        #expect(self.asked(settings, "crm") == "nobody")
    }

    @Test func oneDatabaseMayBeAskedForAll() {
        let settings = self.settings { $0.general.authDbname = "crm" }
        for name in ["shop", "crm", "none", "pgbouncer"] { #expect(self.asked(settings, name) == "crm/asker/Q") }
    }

    @Test func forADatabaseThatDoesNotExistAnotherIsAsked() {
        #expect(self.asked(self.settings(), "none") == "crm/asker/Q")
        let some = self.settings {
            $0.general.authUser = nil
            $0.databases["shop"]?.authUser = "own"
        }
        #expect(self.asked(some, "none") == "shop/own/Q")
    }

    @Test func noServerTellsWhoMayUseTheConsole() { #expect(self.asked(self.settings(), "pgbouncer") == "nobody") }

    @Test func theFallbackIsAskedUnderTheNameWanted() {
        let settings = self.settings { $0.fallbackDatabase = DatabaseSettings(name: "*") }
        #expect(self.asked(settings, "other") == "other/asker/Q")
    }

    // MARK: The request

    @Test func theUserIsAParameter() throws {
        let user = "o'neil\\"
        let request = AuthQueryReply.request(AuthQuestion(database: "", asker: "", query: "SELECT $1", user: user))
        var framer = MessageFramer()
        var types: [UInt8] = []
        var at = 0
        while case .message(let type, let range) = framer.next(request.span, at: at, gather: Frontend.all) {
            types.append(type)
            at = range.upperBound
        }
        #expect(at == request.count)
        #expect(types == [Frontend.parse, Frontend.bind, Frontend.execute, Frontend.sync])
        let parameter = [0, 0, 0, 1, 0, 0, 0, UInt8(user.utf8.count)] + bytes(user) + [0, 0]
        #expect(request.contains(parameter))
        #expect(!request.prefix(20).contains(bytes("neil")))
    }

    // MARK: Replies

    private static func row(_ values: [String?]) -> [UInt8] {
        var body: [UInt8] = [0, UInt8(values.count)]
        for value in values {
            let data = value.map { bytes($0) }
            let length = data.map { Int32($0.count) } ?? -1
            body += (0..<4).map { UInt8(truncatingIfNeeded: length >> (24 - 8 * $0)) } + (data ?? [])
        }
        return message("D", body)
    }

    private func reply(_ messages: [[UInt8]]) -> Result<AuthAnswer, AuthQueryFailure>? {
        var reply = AuthQueryReply(user: "app")
        for message in [message("1"), message("2")] + messages {
            if let end = reply.received(message[0], message.span) { return end }
        }
        return reply.received(Backend.readyForQuery, message("Z", bytes("I")).span)
    }

    private static let verifierText =
        "SCRAM-SHA-256$4096:c2FsdHNhbHRzYWx0c2E=$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
        + ":wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="

    @Test(
        arguments: [
            ("plain", "plain password"), (Self.verifierText, "SCRAM secret"),
            ("md5" + String(repeating: "0a", count: 16), "MD5 secret"), (nil, "none"), ("", "none"),
        ] as [(String?, String)])
    func forms(value: String?, form: String) throws {
        let answer = try #require(self.reply([Self.row(["app", value]), message("C")])).get()
        #expect(answer.isKnown)
        #expect(answer.secret?.description ?? "none" == form)
    }

    @Test func noRowIsAnUnknownUser() throws {
        let answer = try #require(self.reply([message("C")])).get()
        #expect(!answer.isKnown)
        #expect(answer.secret == nil)
    }

    @Test(arguments: [
        ([Self.row(["app"])], "expected 2 columns from auth_query, not 1"),
        ([Self.row(["app", "x", "y"])], "expected 2 columns from auth_query, not 3"),
        ([Self.row([])], "expected 2 columns from auth_query, not 0"),
        ([message("D", [0, 2, 0])], "expected 2 columns from auth_query, not 0"),
        ([Self.row(["app", "x"]), Self.row(["app", "y"])], "it has more than one row"),
        ([Self.row(["App", "x"])], "its first column is not the user that was asked for"),
        ([Self.row([nil, "x"])], "its first column is not the user that was asked for"),
        ([message("E", bytes("SERROR\0C42P01\0Mno table\0\0"))], "no table (SQLSTATE 42P01)"),
        ([Self.row(["app", "x"]), message("E", bytes("SERROR\0C57014\0Mlate\0\0"))], "late (SQLSTATE 57014)"),
        ([message("H", [0, 0, 0])], "it is a COPY"),
    ])
    func failures(messages: [[UInt8]], reason: String) {
        #expect(self.reply(messages) == .failure(AuthQueryFailure(reason: reason)))
    }

    @Test func clientsAreNotToldWhy() {
        let refused = AuthQueryFailure(reason: "secret table").forClients
        #expect(refused == ServerError(message: "bouncer config error", sqlState: "28000"))
        let lost = AuthQueryFailure(reason: "host db7", isConnectionFailure: true).forClients
        #expect(lost == ServerError(message: "authentication is not possible now", sqlState: "57P03"))
    }

    // MARK: Logins

    @Test(
        "a user without a usable password fails as a wrong password does",
        arguments: [AuthType.plain, .md5, .scramSHA256])
    func withoutPassword(authType: AuthType) throws {
        let wrong = ClientScene(authType, .scram(try verifier("secret", iterations: 2)))
        let expired = ClientScene(authType, nil)
        expired.account.isKnownToServer = true
        expired.account.prefersSCRAM = true
        for scene in [wrong, expired] { try scene.logIn(password: "x") }
        #expect(expired.said == wrong.said)
    }

    @Test("trust wants a user that is known, even without a password")
    func trust() {
        for (isKnown, said) in [(true, "authenticated"), (false, "refused 28000: \"trust\" authentication failed")] {
            let scene = ClientScene(.trust, nil)
            scene.account.isKnownToServer = isKnown
            scene.receive(FakeClient.startup())
            #expect(scene.said == [said])
        }
    }
}
