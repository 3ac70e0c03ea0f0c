import Authentication
import Settings
import TestSupport
import Testing
import Wire

@testable import Sessions

/// What TLS changes about a client's login.
@Suite("Client TLS")
struct ClientTLSTests {
    typealias Encryption = ClientAuthentication.Encryption
    typealias TLSPeer = ClientAuthentication.TLSPeer

    private static let plain = Secret.plain(SecretBytes(bytes("pw")))

    struct Row: Sendable, CustomTestStringConvertible {
        let name: String
        let encryption: Encryption
        let bytes: [UInt8]
        let said: [String]
        var testDescription: String { self.name }

        init(_ name: String, _ encryption: Encryption, _ bytes: [UInt8], _ said: String...) {
            self.name = name
            self.encryption = encryption
            self.bytes = bytes
            self.said = said
        }
    }

    static let table: [Row] = [
        Row("asked for", .offered(isRequired: false), FakeClient.sslRequest, "S", "TLS"),
        Row("asked for where it is required", .offered(isRequired: true), FakeClient.sslRequest, "S", "TLS"),
        Row("not asked for", .offered(isRequired: false), FakeClient.startup(), "authenticated"),
        Row(
            "not asked for where it is required", .offered(isRequired: true), FakeClient.startup(),
            "refused 08P01: SSL required"),
        Row("GSSENCRequest is answered no", .offered(isRequired: true), FakeClient.gssEncRequest, "N"),
        Row(
            "a cancel request needs none", .offered(isRequired: true),
            [0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 1, 2, 3, 4, 5], "cancel"),
        Row("a handshake at once", .offered(isRequired: true), [0x16], "direct TLS"),
        Row(
            "bytes behind SSLRequest (CVE-2021-23214)", .offered(isRequired: true), FakeClient.sslRequest + [0x16],
            "refused 08P01: received unencrypted data after SSL request"),
        Row(
            "SSLRequest inside TLS", .established(TLSPeer()), FakeClient.sslRequest,
            "refused 08P01: request for encryption inside TLS"),
        Row(
            "GSSENCRequest inside TLS", .established(TLSPeer()), FakeClient.gssEncRequest,
            "refused 08P01: request for encryption inside TLS"),
        Row("TLS inside TLS", .established(TLSPeer()), [0x16, 3, 1, 0, 0], "dropped: SSL is not available"),
    ]

    @Test(arguments: table)
    func firstPackets(row: Row) {
        let scene = ClientScene(.trust, Self.plain, encryption: row.encryption)
        scene.receive(row.bytes)
        #expect(scene.said == row.said)
    }

    @Test("after GSSENCRequest TLS may still be asked for, and then the login goes on inside it")
    func order() {
        let scene = ClientScene(.trust, Self.plain, encryption: .offered(isRequired: true))
        scene.receive(FakeClient.gssEncRequest)
        scene.receive(FakeClient.sslRequest)
        scene.secured(TLSPeer())
        scene.receive(FakeClient.startup())
        #expect(scene.said == ["N", "S", "TLS", "authenticated"])
    }

    @Test("a direct handshake uses none of the client's bytes")
    func directHandshake() {
        let scene = ClientScene(.trust, Self.plain, encryption: .offered(isRequired: false))
        #expect(scene.step([0x16, 3, 1]) == .init(used: 0, action: .startTLS(send: [], isDirect: true)))
    }

    // MARK: Certificates

    static let certificates: [(encryption: Encryption, isKnown: Bool, detail: String?)] = [
        (.established(TLSPeer(certificate: .verified(name: "app"))), true, nil),
        (.established(TLSPeer(certificate: .verified(name: "app"))), false, "no such user"),
        (
            .established(TLSPeer(certificate: .verified(name: "App"))), true,
            "the certificate is not for this user, but for App"
        ),
        (
            .established(TLSPeer(certificate: .nameless("its common name is empty"))), true,
            "the certificate is for nobody: its common name is empty"
        ),
        (.established(TLSPeer()), true, "TLS client certificate required"),
        (.unavailable, true, "TLS connection required"),
    ]

    @Test(arguments: certificates)
    func certificateLogin(encryption: Encryption, isKnown: Bool, detail: String?) {
        let scene = ClientScene(.cert, isKnown ? Self.plain : nil, encryption: encryption)
        scene.receive(FakeClient.startup(user: "app"))
        #expect(scene.said == [detail == nil ? "authenticated" : "refused 28000: certificate authentication failed"])
        #expect(scene.detail == detail)
    }

    // MARK: Channel binding

    @Test(
        "SCRAM-SHA-256-PLUS is offered where there is something to bind to", arguments: [nil, [1, 2, 3] as [UInt8]?])
    func mechanisms(endPoint: [UInt8]?) {
        let scene = ClientScene(
            .scramSHA256, Self.plain, encryption: .established(TLSPeer(serverEndPoint: endPoint)))
        scene.receive(FakeClient.startup())
        let offered = scene.sent.last.flatMap { AuthenticationRequest($0.span) }
        let names = endPoint == nil ? ["SCRAM-SHA-256"] : ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]
        #expect(offered == .sasl(mechanisms: names))
    }

    @Test("a client that thinks channel binding was not offered is refused: somebody has tampered with the offer")
    func downgrade() {
        let scene = ClientScene(.scramSHA256, Self.plain, encryption: .established(TLSPeer(serverEndPoint: [1])))
        scene.receive(FakeClient.startup())
        scene.receive(FakeClient.sasl("y,,n=,r=abc"))
        #expect(scene.said == ["sasl", "refused 08P01: SASL authentication failed"])
    }
}
