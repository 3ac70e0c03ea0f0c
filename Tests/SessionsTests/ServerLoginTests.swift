import Authentication
import TestSupport
import Testing
import Wire

@testable import Sessions

@Suite("Server login")
struct ServerLoginTests {
    private typealias Server = FakeServer

    // MARK: Startup packet

    @Test("the startup packet has user, database and the settings in order")
    func startupPacket() {
        let scene = ServerLoginScene(user: "app")
        let settings = [StartupParameter(name: "client_encoding", value: "UTF8")]
        let expected = MessageWriter.bytes {
            $0.startup(parameters: [
                StartupParameter(name: "user", value: "app"), StartupParameter(name: "database", value: "shop"),
                StartupParameter(name: "client_encoding", value: "UTF8"),
            ])
        }
        #expect(scene.begin(database: "shop", settings: settings) == .send(expected))
    }

    @Test("a server that speaks before it has been spoken to is refused")
    func earlyServer() {
        let scene = ServerLoginScene()
        scene.receive(Server.ok)
        #expect(scene.said == ["failed: bad packet from server during login"])
    }

    // MARK: Messages in and out of order

    /// What a server sends at once, what is known of the password, and what the login says to it.
    struct Row: Sendable, CustomTestStringConvertible {
        let name: String
        let messages: [[UInt8]]
        var secret: Secret?
        let said: [String]

        var testDescription: String { self.name }

        init(_ name: String, _ messages: [[UInt8]], secret: Secret? = nil, _ said: String...) {
            self.name = name
            self.messages = messages
            self.secret = secret
            self.said = said
        }
    }

    private static let plain = Secret.plain(SecretBytes(bytes("pw")))
    private static let md5 = Secret(parsing: "md50123456789abcdef0123456789abcdef")
    private static let scram = Secret(
        parsing: "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
            + ":wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=")
    private static let wayOut = "give the user a plain-text password in auth_file or the database's entry"
    private static func none(_ method: String) -> String {
        "failed: wrong password type: the server asks for a password (\(method)), and there is none for user \"app\"; "
            + Self.wayOut
    }
    private static func unfit(_ method: String, _ secret: String) -> String {
        "failed: wrong password type: the server asks for \(method), which the \(secret) secret of user \"app\" cannot answer; "
            + Self.wayOut
    }

    static let table: [Row] = [
        Row("trust", [Server.ok, Server.ready], "succeeded"),
        Row(
            "all that may come",
            [
                Server.notice, Server.ok, Server.status("TimeZone", "UTC"), Server.notice, Server.key,
                Server.status("a", "b"), Server.ready,
            ], "succeeded"),
        Row("password, then ok", [Server.cleartext, Server.ok, Server.ready], secret: plain, "send", "succeeded"),
        Row("MD5, then ok", [Server.md5, Server.ok, Server.ready], secret: plain, "send", "succeeded"),
        Row("protocol 3.0 confirmed", [message("v", [0, 3, 0, 0, 0, 0, 0, 0]), Server.ok, Server.ready], "succeeded"),

        Row("ready at once", [Server.ready], "failed: server goes on without authentication"),
        Row("parameter before ok", [Server.status("a", "b")], "failed: server goes on without authentication"),
        Row("key before ok", [Server.key], "failed: server goes on without authentication"),
        Row(
            "ready behind the request for a password", [Server.cleartext, Server.ready], secret: plain,
            "send", "failed: server goes on without authentication"),
        Row(
            "ready behind the request for SCRAM", [Server.sasl, Server.ready], secret: plain,
            "send", "failed: server goes on without authentication"),
        Row("ok twice", [Server.ok, Server.ok], "failed: unexpected authentication request after AuthenticationOk"),
        Row(
            "password asked for behind ok", [Server.ok, Server.cleartext], secret: plain,
            "failed: unexpected authentication request after AuthenticationOk"),
        Row(
            "password asked for twice", [Server.cleartext, Server.cleartext], secret: plain,
            "send", "failed: server asks for authentication twice"),
        Row(
            "MD5, then in clear text", [Server.md5, Server.cleartext], secret: plain,
            "send", "failed: server asks for authentication twice"),
        Row(
            "password, then SCRAM", [Server.cleartext, Server.sasl], secret: plain,
            "send", "failed: server asks for authentication twice"),

        Row("no password", [Server.cleartext], none("the password in clear text")),
        Row("no password for MD5", [Server.md5], none("MD5")),
        Row("no password for SCRAM", [Server.sasl], none("SCRAM")),
        Row("an MD5 secret for SCRAM", [Server.sasl], secret: md5, unfit("SCRAM", "MD5")),
        Row(
            "an MD5 secret in clear text", [Server.cleartext], secret: md5, unfit("the password in clear text", "MD5")),
        Row("a SCRAM secret for MD5", [Server.md5], secret: scram, unfit("MD5", "SCRAM")),
        Row(
            "a SCRAM secret for SCRAM, without a client's login", [Server.sasl], secret: scram,
            "failed: wrong password type: the SCRAM secret of user \"app\" can log in to the server only when a client has "
                + "done so by SCRAM here; use auth_type = scram-sha-256, or " + wayOut),

        Row(
            "Kerberos", [authentication(2)],
            "failed: server asks for an authentication method that is not supported (2)"),
        Row("GSS", [authentication(7)], "failed: server asks for an authentication method that is not supported (7)"),
        Row("no kind of authentication", [message("R")], "failed: bad authentication request"),
        Row("MD5 with a salt of 3 bytes", [authentication(5, [1, 2, 3])], "failed: bad authentication request"),
        Row("mechanisms without an end", [authentication(10, bytes("SCRAM"))], "failed: bad authentication request"),
        Row("rows", [message("D", [0, 0])], "failed: unknown pkt from server during login"),
        Row("unknown type", [message("!")], "failed: unknown pkt from server during login"),
        Row("parameter without a value", [Server.ok, message("S", bytes("name\0"))], "failed: bad ParameterStatus"),
        Row("key without a secret", [Server.ok, message("K", [0, 0, 0, 1])], "failed: bad BackendKeyData"),
        Row(
            "key of 300 bytes", [Server.ok, message("K", [UInt8](repeating: 1, count: 300))],
            "failed: bad BackendKeyData"),
        Row("ready in a transaction", [Server.ok, message("Z", bytes("T"))], "failed: bad ReadyForQuery"),
        Row("ready without a status", [Server.ok, message("Z")], "failed: bad ReadyForQuery"),
        Row("protocol 2", [message("v", [0, 2, 0, 0, 0, 0, 0, 0])], "failed: server does not speak protocol 3.0"),
        Row("negotiation of nothing", [message("v")], "failed: server does not speak protocol 3.0"),
        Row("length of 3", [bytes("R\0\0\0\u{3}")], "failed: bad packet from server during login"),
        Row("length of 2 GB", [[0x52, 0x7F, 0xFF, 0xFF, 0xFF]], "failed: bad packet from server during login"),
        Row("length of 4 GB", [[0x52, 0xFF, 0xFF, 0xFF, 0xFF]], "failed: bad packet from server during login"),
        Row("a web server", [bytes("HTTP/1.1 400 Bad Request\r\n\r\n")], "failed: bad packet from server during login"),
        Row("zeros", [[UInt8](repeating: 0, count: 100)], "failed: bad packet from server during login"),
        Row(
            "half a message of an unknown type", [bytes("!\0\0\0\u{9}ab")],
            "failed: bad packet from server during login"),
        Row("half a message", [Array(Server.md5.dropLast())], "wait 13"),
        Row("half a header", [[0x52, 0, 0]], "wait 5"),
    ]

    @Test("messages and answers", arguments: table)
    func answers(row: Row) {
        let scene = ServerLoginScene.begun(secret: row.secret)
        scene.receive(row.messages.flatMap { $0 })
        #expect(scene.said == row.said)
    }

    @Test("parameters and key are handed over as they came")
    func outcome() {
        let scene = ServerLoginScene.begun()
        let rest = scene.receive(
            Server.ok + Server.status("b", "1") + Server.key + Server.status("a", "\u{e4}") + Server.ready
                + Server.notice)
        let parameters = [
            ParameterStatus(name: "b", value: bytes("1")), ParameterStatus(name: "a", value: bytes("\u{e4}")),
        ]
        #expect(scene.outcome == .init(parameters: parameters, backendKey: [0, 0, 0, 9, 1, 2, 3, 4]))
        #expect(rest == Server.notice, "what comes behind ReadyForQuery is not the login's")
    }

    @Test("bytes that come one by one")
    func pieces() {
        let conversation =
            Server.cleartext + Server.ok + Server.status("a", "b") + Server.key + Server.notice + Server.ready
        let scene = ServerLoginScene.begun(secret: Self.plain)
        var rest: [UInt8] = []
        for byte in conversation { rest = scene.receive(rest + [byte]) }
        #expect(scene.outcome?.parameters.count == 1)
        #expect(scene.said.filter { !$0.hasPrefix("wait") } == ["send", "succeeded"])
    }

    // MARK: The server's refusal

    @Test(
        "an ErrorResponse is told in the server's words; only some states pass by themselves",
        arguments: [
            ("28P01", true), ("3D000", true), ("28000", true), ("XX000", true),
            ("57P03", false), ("53300", false), ("57P01", false), ("57P02", false),
        ])
    func refused(sqlState: String, isRefusal: Bool) {
        for before in [[], Server.ok, Server.cleartext, Server.sasl] {
            let scene = ServerLoginScene.begun(secret: Self.plain)
            scene.receive(before + Server.error(sqlState, "no way"))
            #expect(scene.error == ServerError(message: "no way", sqlState: sqlState, isRefusal: isRefusal))
        }
    }

    @Test("an ErrorResponse without any field")
    func emptyError() {
        let scene = ServerLoginScene.begun()
        scene.receive(message("E"))
        #expect(scene.error == ServerError(message: "", sqlState: SQLState.internalError, isRefusal: true))
    }

    @Test("nothing is taken after the end")
    func afterTheEnd() {
        let scene = ServerLoginScene.begun()
        scene.receive(Server.ready)
        #expect(scene.step(Server.ok).used == Server.ok.count)
        #expect(scene.step(Server.ok).action != .none)
    }

    // MARK: No end

    @Test(
        "messages without end are bounded",
        arguments: [
            message("N", [UInt8](repeating: 0x4D, count: 60_000)), FakeServer.notice,
            FakeServer.ok + message("S", bytes("a\0") + [UInt8](repeating: 0x62, count: 60_000) + [0]),
        ])
    func endless(repeated: [UInt8]) {
        let scene = ServerLoginScene.begun()
        var total = 0
        var next = repeated
        while scene.error == nil && total < 2 * ServerLogin.totalLimit {
            scene.receive(next)
            total += next.count
            if next.starts(with: Server.ok) { next.removeFirst(Server.ok.count) }
        }
        #expect(scene.said == ["failed: too much data from server during login"])
        #expect(total <= ServerLogin.totalLimit + repeated.count)
    }

    @Test("one message above the limit is not waited for")
    func longMessage() {
        let scene = ServerLoginScene.begun()
        scene.receive([UInt8(ascii: "N"), 0, 1, 0, 1])
        #expect(scene.said == ["failed: bad packet from server during login"])
    }

    // MARK: Passwords

    /// Whether the kind of secret can answer the kind of request.
    @Test(arguments: [
        ("plain", "cleartext", true), ("md5", "cleartext", false), ("scram", "cleartext", false),
        ("plain", "md5", true), ("md5", "md5", true), ("scram", "md5", false),
        ("plain", "scram", true), ("md5", "scram", false), ("scram", "scram", false),
    ])
    func secrets(form: String, request: String, works: Bool) throws {
        let secret: Secret =
            switch form {
            case "plain": Self.plain
            case "md5": try md5Secret("app", "pw")
            default: .scram(try verifier("pw"))
            }
        let scene = ServerLoginScene.begun(secret: secret)
        let question =
            switch request {
            case "cleartext": Server.cleartext
            case "md5": Server.md5
            default: Server.sasl
            }
        scene.receive(question)
        #expect((scene.error == nil) == works)
        guard works else { return }
        switch request {
        case "cleartext": #expect(scene.sent == [message("p", bytes("pw\0"))])
        case "md5": #expect(try isMD5Answer(scene.sent[0], user: "app", password: "pw", salt: [1, 2, 3, 4]))
        default: #expect(scene.scramMessage(isFirst: true).starts(with: bytes("n,,n=,r=")))
        }
    }
}
