import TestSupport
import Testing

@testable import Authentication

@Suite("SCRAM client")
struct SCRAMClientTests {
    /// A client that has sent its first message: RFC 7677's nonce, but an empty user name.
    func started(keys: SCRAMKeys? = nil) -> SCRAMClient {
        var client =
            if let keys { SCRAMClient(keys: keys, nonce: RFC7677.clientNonce) } else {
                SCRAMClient(password: SecretBytes(bytes("pencil")), nonce: RFC7677.clientNonce)
            }
        _ = client.begin(mechanisms: bytes("SCRAM-SHA-256\0\0"))
        return client
    }

    func serverFirst(_ message: String) -> SCRAMClient.Action {
        var client = self.started()
        return client.serverFirst(bytes(message))
    }

    @Test("both sides come to an end, and the keys that the server's side learned log in again")
    func passThrough() throws {
        let verifier = try RFC7677.verifier()
        var client = SCRAMClient(password: SecretBytes(bytes("pencil")))
        var server = SCRAMServer(verifier: verifier)
        let final = try Exchange.clientFinal(&client, &server)
        guard case .success(let serverFinal, let keys) = server.response(final) else {
            Issue.record("refused")
            return
        }
        #expect(client.isComplete == false)
        #expect(client.serverFinal(serverFinal) == .complete)
        #expect(client.isComplete == true)
        #expect(keys == (try RFC7677.keys()))

        var next = SCRAMClient(keys: keys)
        var nextServer = SCRAMServer(verifier: verifier)
        let nextFinal = try Exchange.clientFinal(&next, &nextServer)
        guard case .success(let nextServerFinal, _) = nextServer.response(nextFinal) else {
            Issue.record("refused with keys")
            return
        }
        #expect(next.serverFinal(nextServerFinal) == .complete)
    }

    @Test("keys are not used for another salt or count of iterations")
    func foreignKeys() throws {
        let keys = try RFC7677.keys()
        let nonce = text(RFC7677.clientNonce)
        for message in ["r=\(nonce)x,s=AAAA,i=4096", "r=\(nonce)x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4097"] {
            var client = self.started(keys: keys)
            guard case .failure(.unusableSecret) = client.serverFirst(bytes(message)) else {
                Issue.record("taken: \(message)")
                continue
            }
        }
    }

    @Test("the first message has an empty user name and no channel binding")
    func firstMessage() {
        var client = SCRAMClient(password: SecretBytes(bytes("x")), nonce: bytes("abc"))
        #expect(
            client.begin(mechanisms: bytes("SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"))
                == .sendInitial(mechanism: "SCRAM-SHA-256", message: bytes("n,,n=,r=abc")))
    }

    @Test(
        "mechanism lists without SCRAM-SHA-256",
        arguments: ["", "\0", "SCRAM-SHA-256-PLUS\0\0", "OAUTHBEARER\0\0", "SCRAM-SHA-25\0\0"])
    func mechanisms(list: String) {
        var client = SCRAMClient(password: SecretBytes(bytes("x")))
        guard case .failure(.unsupported) = client.begin(mechanisms: bytes(list)) else {
            Issue.record("taken")
            return
        }
    }

    @Test(
        "server-first messages that are taken",
        arguments: [
            ("NONCEx", "s=AAAA", "i=1"), ("NONCEx", "s=AAAA", "i=1000000"), ("NONCEx", "s=AAAA", "i=0004096"),
            ("NONCEx", "s=AAAA", "i=4096,x=1"),
        ])
    func goodServerFirst(nonce: String, salt: String, iterations: String) {
        let message = "r=\(nonce),\(salt),\(iterations)".replacing("NONCE", with: text(RFC7677.clientNonce))
        guard case .derive = self.serverFirst(message) else {
            Issue.record("refused: \(message)")
            return
        }
    }

    @Test(
        "server-first messages that are refused",
        arguments: [
            "", "r=NONCEx", "r=NONCEx,", "r=NONCEx,s=AAAA", "r=NONCEx,s=AAAA,", "r=NONCEx,s=AAAA,i=",
            "r=NONCEx,i=4096,s=AAAA",
            "s=AAAA,i=4096", "r=NONCE,s=AAAA,i=4096", "r=xNONCE,s=AAAA,i=4096", "r=,s=AAAA,i=4096",
            "r=NONC,s=AAAA,i=4096", "r=NONCEx,s=,i=4096", "r=NONCEx,s=AAA,i=4096", "r=NONCEx,s=A===,i=4096",
            "r=NONCEx,s=AAAA,i=0", "r=NONCEx,s=AAAA,i=-1", "r=NONCEx,s=AAAA,i=+1", "r=NONCEx,s=AAAA,i= 1",
            "r=NONCEx,s=AAAA,i=1000001", "r=NONCEx,s=AAAA,i=2147483647", "r=NONCEx,s=AAAA,i=4294967297",
            "r=NONCEx,s=AAAA,i=99999999999999999999999999", "r=NONCEx,s=AAAA,i=0x10", "r=NONCEx,s=AAAA,i=4096,",
            "r=NONCEx,s=AAAA,i=4096,m=1", "m=1,r=NONCEx,s=AAAA,i=4096", "r=NONCE x,s=AAAA,i=4096",
            "r=NONCEx,s=AAAA,i=4096\0", "e=other-error", "r=NONCE\u{e9},s=AAAA,i=4096",
        ])
    func badServerFirst(message: String) {
        let whole = message.replacing("NONCE", with: text(RFC7677.clientNonce))
        #expect(self.serverFirst(whole).error?.isProtocolViolation == true)
    }

    @Test("an over-long nonce or salt is refused")
    func lengths() {
        let nonce = text(RFC7677.clientNonce)
        #expect(self.serverFirst("r=\(nonce)\(String(repeating: "x", count: 1025)),s=AAAA,i=1").error != nil)
        #expect(self.serverFirst("r=\(nonce)x,s=\(String(repeating: "AAAA", count: 400)),i=1").error != nil)
        #expect(self.serverFirst("r=\(nonce)x,s=\(String(repeating: "AAAA", count: 100_000)),i=1").error != nil)
        #expect(self.serverFirst("r=\(nonce)x,s=\(String(repeating: "AAAA", count: 300)),i=1").error == nil)
    }

    @Test("RFC 7677's exchange, whose user name differs, fails at the signature only")
    func wrongSignature() throws {
        var client = self.started(keys: try RFC7677.keys())
        #expect(client.serverFirst(RFC7677.serverFirst).error == nil)
        #expect(client.serverFinal(RFC7677.serverFinal) == .failure(.serverNotVerified))
        #expect(client.isComplete == false)
    }

    @Test(
        "server-final messages that are refused",
        arguments: [
            ("e=invalid-proof", AuthenticationError.refusedByServer("invalid-proof")),
            ("e=a\u{1B}[2Jb", .refusedByServer("a?[2Jb")),
            ("v=AAAA", .serverNotVerified),
            ("v=", .serverNotVerified),
        ])
    func badServerFinal(message: String, error: AuthenticationError) throws {
        var client = self.started(keys: try RFC7677.keys())
        _ = client.serverFirst(RFC7677.serverFirst)
        #expect(client.serverFinal(bytes(message)) == .failure(error))
    }

    @Test("malformed server-final messages", arguments: ["", "v", "x=1", "v=A", "v=AAAA,", "m=1,v=AAAA", "v=AAAA\0"])
    func malformedServerFinal(message: String) throws {
        var client = self.started(keys: try RFC7677.keys())
        _ = client.serverFirst(RFC7677.serverFirst)
        #expect(client.serverFinal(bytes(message)).error?.isProtocolViolation == true)
    }

    @Test("a server that skips steps is not believed")
    func order() throws {
        var client = SCRAMClient(password: SecretBytes(bytes("x")))
        #expect(client.serverFinal(RFC7677.serverFinal).error?.isProtocolViolation == true)
        #expect(client.isComplete == false)

        var early = self.started()
        #expect(early.serverFinal(RFC7677.serverFinal).error?.isProtocolViolation == true)

        var underived = self.started()
        _ = underived.serverFirst(RFC7677.serverFirst)
        #expect(underived.serverFinal(RFC7677.serverFinal).error?.isProtocolViolation == true)
        #expect(underived.derived(try RFC7677.keys()).error?.isProtocolViolation == true)

        var twice = self.started()
        #expect(twice.begin(mechanisms: bytes("SCRAM-SHA-256\0\0")).error?.isProtocolViolation == true)
    }

    @Test("spoiled messages never trap and never complete")
    func fuzz() throws {
        let keys = try RFC7677.keys()
        var generator = SeededGenerator(seed: 3)
        for _ in 0..<3_000 {
            var client = self.started(keys: keys)
            _ = client.begin(mechanisms: generator.mutated(bytes("SCRAM-SHA-256\0\0")))
            client = self.started(keys: keys)
            if client.serverFirst(generator.mutated(RFC7677.serverFirst)).error == nil {
                _ = client.serverFinal(generator.mutated(RFC7677.serverFinal))
            }
            #expect(client.isComplete == false)
        }
    }
}
