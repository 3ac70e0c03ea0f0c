import TestSupport
import Testing

@testable import Authentication

@Suite("SCRAM server")
struct SCRAMServerTests {
    let verifier: SCRAMVerifier

    init() throws { self.verifier = try RFC7677.verifier() }

    /// The nonces of RFC 7677, so that its messages fit.
    func server() -> SCRAMServer { SCRAMServer(verifier: self.verifier, nonce: RFC7677.serverNonce) }

    func first(_ message: [UInt8]) -> SCRAMServer.Action {
        var server = self.server()
        return server.initialResponse(mechanism: RFC7677.mechanism, message: message)
    }

    func final(_ message: [UInt8], first: [UInt8] = RFC7677.clientFirst) -> SCRAMServer.Action {
        var server = self.server()
        guard case .send = server.initialResponse(mechanism: RFC7677.mechanism, message: first) else {
            return .failure(.unexpectedMessage("first message refused"))
        }
        return server.response(message)
    }

    @Test("RFC 7677's exchange")
    func vectors() throws {
        var server = self.server()
        #expect(
            server.initialResponse(mechanism: RFC7677.mechanism, message: RFC7677.clientFirst)
                == .send(RFC7677.serverFirst))
        #expect(
            server.response(RFC7677.clientFinal)
                == .success(serverFinal: RFC7677.serverFinal, keys: try RFC7677.keys()))
    }

    @Test("initial response without a message: an empty challenge, then the exchange")
    func noInitialMessage() throws {
        var server = self.server()
        #expect(server.initialResponse(mechanism: RFC7677.mechanism, message: nil) == .send([]))
        #expect(server.response(RFC7677.clientFirst) == .send(RFC7677.serverFirst))
        #expect(server.response(RFC7677.clientFinal).error == nil)
    }

    @Test(
        "first messages that are taken",
        arguments: [
            "n,,n=,r=abc", "y,,n=,r=abc", "n,,n=user,r=abc,x=1", "n,,n=user,r=abc,x=,y=2", "n,,n=a=2Cb=3D,r=abc",
            "n,,n=\u{e9}\u{1F600},r=abc", "n,,n=other user,r=!#$~",
        ])
    func goodFirst(message: String) {
        #expect(self.first(bytes(message)).error == nil)
    }

    @Test(
        "first messages that are refused",
        arguments: [
            "", "n", "n,", "n,,", ",,", "x,,n=,r=abc", "p=tls-server-end-point,,n=,r=abc", "p,,n=,r=abc",
            "n,a=admin,n=,r=abc", "n=user,r=abc", "n,,r=abc", "n,,n=user", "n,,n=user,", "n,,n=user,r=", "n,,n=user,r",
            "n,,n=user,x=1,r=abc", "n,,m=1,n=user,r=abc", "n,,n=user,m=1,r=abc", "n,,n=user,r=abc,m=1",
            "n,,n=user,r=abc,", "n,,n=user,r=abc,x", "n,,n=user,r=abc,=1", "n,,n=user,r=abc,1=1", "n,,n=user,r=a c",
            "n,,n=user,r=a\u{7F}c", "n,,n=user,r=a\u{e9}c", "n,,n=user,r=a\tc", "n,,n=us\0er,r=abc",
            "n,,n=user,r=abc\0",
            "n, ,n=user,r=abc", "N,,n=user,r=abc",
        ])
    func badFirst(message: String) throws {
        let error = try #require(self.first(bytes(message)).error)
        #expect(error.isProtocolViolation)
    }

    @Test("nonce and message lengths are bounded")
    func lengths() {
        func message(nonce count: Int) -> [UInt8] { bytes("n,,n=,r=" + String(repeating: "x", count: count)) }
        let longest = SCRAMMessage.nonceLimit - RFC7677.serverNonce.count
        #expect(self.first(message(nonce: longest)).error == nil)
        #expect(self.first(message(nonce: longest + 1)).error != nil)
        #expect(self.first(message(nonce: SCRAMMessage.nonceLimit + 1)).error != nil)
        #expect(self.first(message(nonce: 1_000_000)).error != nil)
        #expect(self.first(bytes("n,,n=\(String(repeating: "u", count: 2000)),r=abc")).error == nil)
        #expect(self.first(bytes("n,,n=\(String(repeating: "u", count: 2100)),r=abc")).error != nil)
    }

    @Test("the longest nonce that is taken goes through the whole exchange")
    func longestNonce() throws {
        let nonce = Array(repeating: UInt8(ascii: "x"), count: SCRAMMessage.nonceLimit - SecureRandom.nonce().count)
        var client = SCRAMClient(keys: try RFC7677.keys(), nonce: nonce)
        var server = SCRAMServer(verifier: self.verifier)
        let final = try Exchange.clientFinal(&client, &server)
        #expect(server.response(final).error == nil)
    }

    @Test(
        "final messages that are refused",
        arguments: [
            "", "c=biws", "c=biws,", "c=biws,p=AAAA", "r=NONCE,p=PROOF", "c=biws,p=PROOF", "c=biws,p=PROOF,r=NONCE",
            "c=biws,r=NONCE", "c=biws,r=NONCE,", "c=biws,r=,p=PROOF", "c=biws,r=NONCEx,p=PROOF",
            "c=biws,r=rOprNGfwEbeRWgbNEkqO,p=PROOF", "c=eSws,r=NONCE,p=PROOF", "c=,r=NONCE,p=PROOF",
            "c=biw,r=NONCE,p=PROOF", "c=biwsbiws,r=NONCE,p=PROOF", "c=cD10bHMtdW5pcXVlLCw=,r=NONCE,p=PROOF",
            "c=biws,r=NONCE,p=", "c=biws,r=NONCE,p=AAAA", "c=biws,r=NONCE,p=PROOFAAAA", "c=biws,r=NONCE,p=PROOF,",
            "c=biws,r=NONCE,p=PROOF,x=1", "c=biws,r=NONCE,p=PROOF\0", "c=biws,r=NONCE,m=1,p=PROOF",
            "c=biws,m=1,r=NONCE,p=PROOF", "c=biws,r=NONCE,p=====", "c=biws,r=NONCE,p=PR OOF",
            "x=1,c=biws,r=NONCE,p=PROOF",
            "c=biws,c=biws,r=NONCE,p=PROOF", "c=biws,r=NONCE,p=PROOF,p=PROOF",
        ])
    func badFinal(message: String) throws {
        let nonce = text(RFC7677.clientNonce + RFC7677.serverNonce)
        let whole = message.replacing("NONCE", with: nonce)
            .replacing("PROOF", with: "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
        let error = try #require(self.final(bytes(whole)).error)
        #expect(error.isProtocolViolation)
    }

    @Test("c= repeats the header that was sent: n,, and y,, are not exchangeable")
    func channelBindingHeader() {
        let first = bytes("y,,n=user,r=rOprNGfwEbeRWgbNEkqO")
        #expect(self.final(RFC7677.clientFinal, first: first).error?.isProtocolViolation == true)
        // With the right header the proof, made for n,,, is what is wrong.
        let final = bytes(text(RFC7677.clientFinal).replacing("c=biws", with: "c=eSws"))
        #expect(self.final(final, first: first).error == .wrongPassword)
    }

    @Test("an extension in front of the proof is signed, so the old proof is wrong")
    func signedExtension() {
        let final = bytes(text(RFC7677.clientFinal).replacing(",p=", with: ",x=1,p="))
        #expect(self.final(final).error == .wrongPassword)
    }

    @Test("a wrong password")
    func wrongPassword() {
        let proof = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p="
        #expect(
            self.final(bytes(proof + "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVR=")).error
                == .malformedMessage("malformed proof"))
        #expect(self.final(bytes(proof + "eHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")).error == .wrongPassword)
        #expect(self.final(bytes(proof + String(repeating: "A", count: 43) + "=")).error == .wrongPassword)
    }

    @Test(
        "mechanisms other than SCRAM-SHA-256",
        arguments: ["", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1", "scram-sha-256", "SCRAM-SHA-256\0"])
    func mechanism(name: String) {
        var server = self.server()
        let error = server.initialResponse(mechanism: bytes(name), message: RFC7677.clientFirst).error
        #expect(error == .unsupported("client selected an invalid SASL authentication mechanism"))
    }

    @Test("messages out of order fail, and nothing succeeds after a failure")
    func order() {
        var server = self.server()
        #expect(server.response(RFC7677.clientFinal).error?.isProtocolViolation == true)
        #expect(
            server.initialResponse(mechanism: RFC7677.mechanism, message: RFC7677.clientFirst).error != nil)
        #expect(server.response(RFC7677.clientFinal).error != nil)

        var twice = self.server()
        _ = twice.initialResponse(mechanism: RFC7677.mechanism, message: RFC7677.clientFirst)
        #expect(
            twice.initialResponse(mechanism: RFC7677.mechanism, message: RFC7677.clientFirst).error != nil)
        #expect(twice.response(RFC7677.clientFinal).error != nil)

        var replayed = self.server()
        _ = replayed.initialResponse(mechanism: RFC7677.mechanism, message: RFC7677.clientFirst)
        #expect(replayed.response(RFC7677.clientFinal).error == nil)
        #expect(replayed.response(RFC7677.clientFinal).error != nil)
    }

    @Test("nonces differ from one exchange to the next")
    func freshNonce() {
        var seen: Set<[UInt8]> = []
        for _ in 0..<100 {
            var server = SCRAMServer(verifier: self.verifier)
            if case .send(let message) = server.initialResponse(
                mechanism: RFC7677.mechanism, message: RFC7677.clientFirst)
            {
                seen.insert(message)
            }
        }
        #expect(seen.count == 100)
    }

    @Test("an unknown user goes through the exchange and fails like a wrong password")
    func mock() throws {
        let secret = SecretBytes(bytes("made at start"))
        let mock = try SCRAMVerifier.mock(user: bytes("nobody").span, processSecret: secret)
        #expect(mock == (try SCRAMVerifier.mock(user: bytes("nobody").span, processSecret: secret)))
        #expect(mock != (try SCRAMVerifier.mock(user: bytes("nobody2").span, processSecret: secret)))
        #expect(mock.salt != (try SCRAMVerifier.mock(user: bytes("nobody").span, processSecret: SecretBytes([1]))).salt)
        #expect(mock.salt.count == SCRAMVerifier.saltLength)
        #expect(mock.iterations == 4096)

        var client = SCRAMClient(password: SecretBytes(bytes("pencil")))
        var server = SCRAMServer(verifier: mock)
        let final = try Exchange.clientFinal(&client, &server)
        #expect(server.response(final) == .failure(.wrongPassword))
    }

    @Test("spoiled messages never trap and never succeed")
    func fuzz() {
        var generator = SeededGenerator(seed: 2)
        for _ in 0..<5_000 {
            _ = self.first(generator.mutated(RFC7677.clientFirst))
            let final = generator.mutated(RFC7677.clientFinal)
            if final != RFC7677.clientFinal { #expect(self.final(final).error != nil) }
        }
    }

    @Test("every prefix of the messages is refused")
    func truncated() {
        for count in 0..<RFC7677.clientFinal.count {
            #expect(self.final(Array(RFC7677.clientFinal.prefix(count))).error != nil)
        }
        for count in 0..<RFC7677.clientFirst.count - RFC7677.clientNonce.count {
            #expect(self.first(Array(RFC7677.clientFirst.prefix(count))).error != nil)
        }
    }
}

/// Our two sides against each other.
enum Exchange {
    struct Failed: Error {}

    /// Plays up to the client's final message.
    static func clientFinal(_ client: inout SCRAMClient, _ server: inout SCRAMServer) throws -> [UInt8] {
        guard case .sendInitial(let mechanism, let first) = client.begin(mechanisms: bytes("SCRAM-SHA-256\0\0")),
            case .send(let serverFirst) = server.initialResponse(
                mechanism: bytes(mechanism), message: first)
        else { throw Failed() }
        var action = client.serverFirst(serverFirst)
        if case .derive(let derivation) = action { action = client.derived(try derivation.run()) }
        guard case .send(let final) = action else { throw Failed() }
        return final
    }
}
