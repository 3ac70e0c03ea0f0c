import Testing

@testable import Authentication

/// SCRAM-SHA-256-PLUS: the exchange is bound to the server's certificate.
@Suite("SCRAM channel binding")
struct ChannelBindingTests {
    private static let both = "SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"
    private static let plainOnly = "SCRAM-SHA-256\0\0"

    struct Row: Sendable, CustomTestStringConvertible {
        let name: String
        /// The digest that each side sees; nil without TLS.
        let client: [UInt8]?
        let server: [UInt8]?
        /// What reaches the client of the server's offer.
        let offer: String
        /// The mechanism and header that the client chooses.
        let mechanism: String
        let header: String
        let isLetIn: Bool
        var testDescription: String { self.name }
    }

    static let table: [Row] = [
        Row(
            name: "no TLS", client: nil, server: nil, offer: plainOnly, mechanism: "SCRAM-SHA-256", header: "n,,",
            isLetIn: true),
        Row(
            name: "TLS on both sides", client: [1, 2], server: [1, 2], offer: both, mechanism: "SCRAM-SHA-256-PLUS",
            header: "p=tls-server-end-point,,", isLetIn: true),
        Row(
            name: "somebody in between with a certificate of his own", client: [1, 2], server: [1, 3], offer: both,
            mechanism: "SCRAM-SHA-256-PLUS", header: "p=tls-server-end-point,,", isLetIn: false),
        Row(
            name: "somebody in between who also takes the offer away", client: [1, 2], server: [1, 3],
            offer: plainOnly, mechanism: "SCRAM-SHA-256", header: "y,,", isLetIn: false),
        Row(
            name: "a server that has no channel binding", client: [1, 2], server: nil, offer: plainOnly,
            mechanism: "SCRAM-SHA-256", header: "y,,", isLetIn: true),
        Row(
            name: "a client that cannot bind", client: nil, server: [1, 2], offer: both, mechanism: "SCRAM-SHA-256",
            header: "n,,", isLetIn: true),
    ]

    @Test(arguments: table)
    func exchange(row: Row) throws {
        var client = SCRAMClient(password: SecretBytes(bytes("pencil")), serverEndPoint: row.client)
        var server = SCRAMServer(verifier: try RFC7677.verifier(), serverEndPoint: row.server)
        guard case .sendInitial(let mechanism, let first) = client.begin(mechanisms: bytes(row.offer)) else {
            Issue.record("no first message")
            return
        }
        #expect(mechanism == row.mechanism)
        #expect(text(first).hasPrefix(row.header + "n=,r="))
        guard case .send(let serverFirst) = server.initialResponse(mechanism: bytes(mechanism), message: first) else {
            #expect(!row.isLetIn)
            return
        }
        guard case .derive(let derivation) = client.serverFirst(serverFirst),
            case .send(let final) = client.derived(try derivation.run())
        else {
            Issue.record("no final message")
            return
        }
        switch server.response(final) {
        case .success(let serverFinal, _):
            #expect(row.isLetIn)
            #expect(client.serverFinal(serverFinal) == .complete)
        case .failure(let error):
            #expect(!row.isLetIn)
            #expect(error.isProtocolViolation)
        case .send: Issue.record("a third challenge")
        }
    }

    @Test(
        "first messages that do not fit the mechanism",
        arguments: [
            ("SCRAM-SHA-256-PLUS", "n,,n=,r=abc"), ("SCRAM-SHA-256-PLUS", "y,,n=,r=abc"),
            ("SCRAM-SHA-256-PLUS", "p=tls-unique,,n=,r=abc"), ("SCRAM-SHA-256-PLUS", "p=tls-server-end-point"),
            ("SCRAM-SHA-256-PLUS", "p=tls-server-end-point,"), ("SCRAM-SHA-256-PLUS", "p=tls-server-end-point,,"),
            ("SCRAM-SHA-256-PLUS", "p=tls-server-end-pointx,,n=,r=abc"), ("SCRAM-SHA-256-PLUS", "p=,,n=,r=abc"),
            ("SCRAM-SHA-256-PLUS", "p=tls-server-end-point,a=x,n=,r=abc"),
            ("SCRAM-SHA-256", "p=tls-server-end-point,,n=,r=abc"), ("SCRAM-SHA-256", "y,,n=,r=abc"),
        ])
    func badFirst(mechanism: String, message: String) throws {
        var server = SCRAMServer(verifier: try RFC7677.verifier(), serverEndPoint: [1, 2, 3])
        let error = server.initialResponse(mechanism: bytes(mechanism), message: bytes(message)).error
        #expect(error?.isProtocolViolation == true)
    }

    @Test("a server with nothing to bind to does not take the mechanism that it has not offered")
    func notOffered() throws {
        var server = SCRAMServer(verifier: try RFC7677.verifier())
        let first = bytes("p=tls-server-end-point,,n=,r=abc")
        #expect(server.initialResponse(mechanism: bytes("SCRAM-SHA-256-PLUS"), message: first).error != nil)
    }
}
