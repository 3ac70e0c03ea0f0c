import Authentication
import Settings
import TestSupport
import Testing
import Wire

@testable import Sessions

/// The first packet, and messages out of order or out of shape.
@Suite("Client startup")
struct ClientStartupTests {
    private static let known = Secret.plain(SecretBytes(bytes("pw")))
    private static let badPacket = "refused 08P01: bad packet"

    // MARK: First packets

    struct Row: Sendable, CustomTestStringConvertible {
        let name: String
        let bytes: [UInt8]
        let said: [String]

        var testDescription: String { self.name }

        init(_ name: String, _ bytes: [UInt8], _ said: String...) {
            self.name = name
            self.bytes = bytes
            self.said = said
        }
    }

    private static let behind = "refused 08P01: received unencrypted data after SSL request"
    private static let badLength = "refused 08P01: invalid length of startup packet"

    static let table: [Row] = [
        Row("StartupMessage", FakeClient.startup(), "authenticated"),
        Row("SSLRequest", FakeClient.sslRequest, "N"),
        Row("GSSENCRequest", FakeClient.gssEncRequest, "N"),
        Row("a startup packet behind SSLRequest", FakeClient.sslRequest + FakeClient.startup(), behind),
        Row("a startup packet behind GSSENCRequest", FakeClient.gssEncRequest + FakeClient.startup(), behind),
        Row("one byte behind SSLRequest", FakeClient.sslRequest + [0], behind),
        Row("a TLS handshake behind SSLRequest", FakeClient.sslRequest + [0x16, 3, 1], behind),
        Row("a TLS handshake", [0x16, 3, 1, 0, 0], "dropped: SSL is not available"),
        Row("CancelRequest", [0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 1, 2, 3, 4, 5], "cancel"),
        Row(
            "CancelRequest without a secret", [0, 0, 0, 12, 4, 210, 22, 46, 0, 0, 0, 1],
            "refused 08P01: invalid length of cancel request packet"),
        Row("half a packet", Array(FakeClient.startup().dropLast()), "wait \(FakeClient.startup().count)"),
        Row("one byte", [0], "wait 8"),
        Row(
            "protocol 2", [0, 0, 0, 8, 0, 2, 0, 0],
            "refused 0A000: unsupported frontend protocol 2.0: server supports 3.0 to 3.2"),
        Row(
            "protocol 4", [0, 0, 0, 8, 0, 4, 0, 0],
            "refused 0A000: unsupported frontend protocol 4.0: server supports 3.0 to 3.2"),
        Row("length of 0", [0, 0, 0, 0, 0, 3, 0, 0], badLength),
        Row("length of 7", [0, 0, 0, 7, 0, 3, 0], badLength),
        Row("length of 2 GB", [0x7F, 0xFF, 0xFF, 0xFF, 0, 3, 0, 0], badLength),
        Row("length of 4 GB", [0xFF, 0xFF, 0xFF, 0xFF, 0, 3, 0, 0], badLength),
        Row("a web browser", bytes("GET / HTTP/1.1\r\n\r\n"), badLength),
        Row("a Query", FakeClient.query, badLength),
        Row(
            "no user", [0, 0, 0, 9, 0, 3, 0, 0, 0],
            "refused 28000: no PostgreSQL user name specified in startup packet"),
        Row(
            "options without a value", FakeClient.startup(more: ["options": "-c work_mem"]),
            "refused 42601: -c work_mem requires a value"),
        Row(
            "options with an empty name", FakeClient.startup(more: ["options": "-c =1"]),
            "refused 42601: options contain a setting without a name"),
    ]

    @Test("first packets", arguments: table)
    func firstPackets(row: Row) {
        let scene = ClientScene(.trust, Self.known)
        scene.receive(row.bytes)
        #expect(scene.said == row.said)
    }

    @Test("encryption may be asked for twice, as libpq does, not for ever")
    func encryptionRequests() {
        let scene = ClientScene(.trust, Self.known)
        scene.receive(FakeClient.gssEncRequest)
        scene.receive(FakeClient.sslRequest)
        #expect(scene.said == ["N", "N"])
        scene.receive(FakeClient.sslRequest)
        #expect(scene.said.last == "refused 08P01: too many requests for encryption")
    }

    @Test("a login after a refused request for encryption")
    func plainAfterSSL() {
        let scene = ClientScene(.trust, Self.known)
        scene.receive(FakeClient.sslRequest)
        scene.receive(FakeClient.startup())
        #expect(scene.said == ["N", "authenticated"])
    }

    @Test("a cancel request hands its key over, of either protocol", arguments: [8, 36, 260])
    func cancelKey(length: Int) {
        let key = (0..<length).map { UInt8(truncatingIfNeeded: $0) }
        let scene = ClientScene()
        scene.receive(MessageWriter.bytes { $0.cancelRequest(key: key) })
        #expect(scene.last == .cancel(key: key))
    }

    // MARK: Protocol versions

    @Test(
        "versions are negotiated down to 3.2, once, before anything else",
        arguments: [
            (0, [:], nil, 0), (1, [:], nil, 1), (2, [:], nil, 2), (3, [:], 2, 2), (9999, [:], 2, 2),
            (0, ["_pq_.x": "1"], 0, 0), (2, ["_pq_.x": "1", "_pq_.y": ""], 2, 2),
        ] as [(UInt16, [String: String], UInt16?, UInt16)])
    func versions(asked: UInt16, extensions: [String: String], told: UInt16?, spoken: UInt16) {
        let scene = ClientScene(.scramSHA256, Self.known)
        scene.receive(FakeClient.startup(version: ProtocolVersion(major: 3, minor: asked), more: extensions))
        #expect(scene.version == ProtocolVersion(major: 3, minor: spoken))
        #expect(scene.said == (told == nil ? ["sasl"] : ["negotiation", "sasl"]))
        guard let told else { return }
        let answer = scene.negotiation
        #expect(answer?.version == ProtocolVersion(major: 3, minor: told))
        #expect(answer?.unknownExtensions == extensions.keys.sorted())
        #expect(scene.startupMessage?.parameters.isEmpty == true, "extensions are no settings")
    }

    @Test("settings in options are read")
    func options() {
        let scene = ClientScene(.trust, Self.known)
        scene.receive(FakeClient.startup(more: ["options": "-c work_mem=1MB --search-path=a\\ b", "TimeZone": "UTC"]))
        #expect(
            scene.options == [
                StartupParameter(name: "work_mem", value: "1MB"), StartupParameter(name: "search_path", value: "a b"),
            ])
        #expect(scene.startupMessage?.parameters == [StartupParameter(name: "TimeZone", value: "UTC")])
    }

    // MARK: Out of order

    /// Where the exchange stands when something else arrives.
    enum Point: CaseIterable { case password, md5, sasl, scram }

    private func scene(at point: Point) -> ClientScene {
        let authType: AuthType =
            switch point {
            case .password: .plain
            case .md5: .md5
            case .sasl, .scram: .scramSHA256
            }
        let scene = ClientScene(authType, Self.known)
        scene.receive(FakeClient.startup())
        if point == .scram { scene.receive(FakeClient.sasl("n,,n=,r=abc")) }
        return scene
    }

    @Test(
        "nothing but an answer is taken in the middle: no second user, no request, no request for encryption",
        arguments: Point.allCases,
        [
            FakeClient.startup(user: "postgres"), FakeClient.query, FakeClient.sslRequest, message("S"),
            message("d", [1]), [0x70, 0, 0, 0, 3], [0x70, 0xFF, 0xFF, 0xFF, 0xFF], [0x70, 0, 2, 0, 0],
            [0x51, 0, 0, 0, 100, 0x53], [0x16, 3, 1, 2, 0],
        ])
    func outOfPlace(point: Point, rest: [UInt8]) {
        let scene = self.scene(at: point)
        scene.receive(rest)
        #expect(scene.said.last == Self.badPacket)
        #expect(scene.startupMessage?.user == "app")
        // And a right answer comes too late.
        #expect(scene.step(message("p", bytes("pw\0"))) == .init(used: 8, action: .hold))
    }

    @Test("Terminate in the middle", arguments: Point.allCases)
    func terminate(point: Point) {
        let scene = self.scene(at: point)
        scene.receive(FakeClient.terminate + FakeClient.query)
        #expect(scene.said.last == "terminated")
    }

    @Test("a message in pieces is waited for, up to a password of 65,535 bytes")
    func pieces() {
        let scene = self.scene(at: .password)
        let password = message("p", [UInt8](repeating: 0x61, count: 65_535) + [0])
        #expect(scene.step(Array(password.prefix(3))) == .init(used: 0, action: .wait(needed: 5)))
        #expect(scene.step(Array(password.dropLast())) == .init(used: 0, action: .wait(needed: password.count)))
        scene.receive(password)
        #expect(scene.said.last?.hasPrefix("refused 28P01") == true)
    }

    @Test("a conversation byte by byte comes to the same")
    func byteByByte() {
        let scene = ClientScene(.plain, Self.known)
        var rest: [UInt8] = []
        for byte in FakeClient.startup() + message("p", bytes("pw\0")) { rest = scene.receive(rest + [byte]) }
        #expect(scene.said.filter { !$0.hasPrefix("wait") } == ["cleartext", "authenticated"])
    }

    @Test("requests sent ahead wait for the end of the login")
    func sentAhead() {
        let scene = ClientScene(.plain, Self.known)
        scene.receive(FakeClient.startup())
        #expect(scene.receive(message("p", bytes("pw\0")) + FakeClient.query) == FakeClient.query)
        #expect(scene.isAuthenticated)
        #expect(scene.step(FakeClient.query) == .init(used: 0, action: .hold))
    }

    @Test("what is sent while an answer is awaited from elsewhere stays where it is")
    func holding() throws {
        let identifying = ClientScene(.trust, Self.known)
        identifying.looksUpAccount = false
        let checking = ClientScene(.plain, .scram(try verifier("pw")))
        checking.runsDerivations = false
        let preparing = ClientScene(.scramSHA256, Self.known)
        preparing.runsDerivations = false
        for scene in [identifying, checking, preparing] { scene.receive(FakeClient.startup()) }
        checking.receive(message("p", bytes("pw\0")))
        preparing.receive(FakeClient.sasl("n,,n=,r=abc"))
        for scene in [identifying, checking, preparing] {
            #expect(scene.step(FakeClient.query) == .init(used: 0, action: .hold))
        }
        identifying.identified()
        checking.derived(try keys("pw"))
        #expect(identifying.isAuthenticated && checking.isAuthenticated)
        preparing.prepared(try verifier("pw"))
        #expect(preparing.said.last == "continue")
    }

    @Test("events that nothing asked for refuse the client", arguments: Point.allCases)
    func unexpectedEvents(point: Point) throws {
        let events: [(ClientScene) throws -> Void] = [
            { $0.identified() }, { $0.derived(try keys("pw")) }, { $0.prepared(try verifier("pw")) },
        ]
        for event in events {
            let scene = self.scene(at: point)
            try event(scene)
            #expect(scene.said.last == Self.badPacket)
        }
    }

    // MARK: Out of shape

    @Test(
        "SASLInitialResponses that are refused",
        arguments: [
            message("p"), message("p", bytes("SCRAM-SHA-256")), message("p", bytes("SCRAM-SHA-256\0")),
            message("p", bytes("SCRAM-SHA-256\0") + [0, 0, 0, 100] + bytes("n,,n=,r=abc")),
            message("p", bytes("SCRAM-SHA-256\0") + [0x7F, 0xFF, 0xFF, 0xFF] + bytes("n,,n=,r=abc")),
            message("p", bytes("SCRAM-SHA-256\0") + [0xFF, 0xFF, 0xFF, 0xFE]),
            message("p", bytes("SCRAM-SHA-256\0") + [0xFF, 0xFF, 0xFF, 0xFF, 0]),
            FakeClient.sasl("n,,n=,r=abc", mechanism: "SCRAM-SHA-256-PLUS"), FakeClient.sasl(""),
            FakeClient.sasl("n,,n=,r="), FakeClient.sasl("n,,n=,r=\u{1}"), FakeClient.sasl("n,,n=,r=a\0b"),
            FakeClient.sasl("n,,n=,r=" + String(repeating: "x", count: 5_000)),
        ])
    func badInitial(response: [UInt8]) {
        let scene = self.scene(at: .sasl)
        scene.receive(response)
        #expect(scene.said.last?.hasPrefix("refused 08P01: ") == true)
    }

    @Test("a SASLInitialResponse without a message: an empty challenge, then the exchange")
    func noInitialMessage() {
        let scene = self.scene(at: .sasl)
        scene.receive(message("p", bytes("SCRAM-SHA-256\0") + [0xFF, 0xFF, 0xFF, 0xFF]))
        #expect(scene.said.last == "continue" && scene.saslData.isEmpty)
        scene.receive(message("p", bytes("n,,n=,r=abc")))
        #expect(scene.said.last == "continue" && scene.saslData.starts(with: bytes("r=abc")))
    }

    @Test(
        "client-final messages that are refused",
        arguments: [
            "", "c=biws", "c=biws,r=NONCE", "c=biws,r=NONCE,p=", "c=biws,r=NONCE,p=AAAA", "c=biws,r=NONCE,p=!!!!",
            "c=biws,p=AAAA", "r=NONCE,p=AAAA", "c=eSws,r=NONCE,p=AAAA", "c=biws,r=other,p=AAAA",
            "c=biws,r=NONCE,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "c=biws,r=,p=AAAA",
        ])
    func badFinal(text: String) {
        let scene = self.scene(at: .scram)
        let nonce = String(decoding: scene.saslData, as: UTF8.self).split(separator: ",")[0].dropFirst(2)
        scene.receive(message("p", bytes(text.replacing("NONCE", with: nonce))))
        #expect(scene.said.last?.contains("SASL authentication failed") == true)
    }

    @Test("a password message without its end, or with bytes behind it", arguments: ["pw", "", "pw\0\0", "pw\0x\0"])
    func badPassword(text: String) {
        for point in [Point.password, .md5] {
            let scene = self.scene(at: point)
            scene.receive(message("p", bytes(text)))
            #expect(scene.said.last?.hasPrefix("refused 28P01: ") == true)
        }
    }

    @Test("a spoiled conversation never gets in and never traps", arguments: [AuthType.plain, .md5, .scramSHA256])
    func mutations(authType: AuthType) {
        var generator = SeededGenerator(seed: 11)
        for _ in 0..<3_000 {
            let scene = ClientScene(authType, .plain(SecretBytes(bytes("long enough that chance does not find it"))))
            var rest = generator.mutated(FakeClient.startup(more: ["options": "-c a=b", "_pq_.x": "1"]))
            rest += generator.mutated(FakeClient.sasl("n,,n=,r=abc"))
            rest += generator.mutated(message("p", bytes("c=biws,r=abc,p=AAAA\0")))
            scene.receive(rest)
            #expect(!scene.isAuthenticated)
        }
    }
}
