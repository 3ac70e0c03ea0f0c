import Authentication
import TestSupport
import Testing
import Wire

@testable import Sessions

/// Logins by SCRAM; the server's side is a real one.
@Suite("Server login by SCRAM")
struct ServerLoginSCRAMTests {
    private typealias Server = FakeServer

    private static let plain = Secret.plain(SecretBytes(bytes("pw")))

    /// The messages of a server that has this secret, up to its last word, which is `skipping` the final message or not.
    private func exchange(_ scene: ServerLoginScene, _ verifier: SCRAMVerifier) throws -> [UInt8]? {
        var server = SCRAMServer(verifier: verifier)
        scene.receive(Server.sasl)
        let first = scene.scramMessage(isFirst: true)
        guard
            case .send(let serverFirst) = server.initialResponse(
                mechanism: bytes("SCRAM-SHA-256").span, message: first.span)
        else { return nil }
        scene.receive(authentication(11, serverFirst))
        try scene.derive()
        guard scene.error == nil else { return nil }
        let final = scene.scramMessage(isFirst: false)
        guard case .success(let serverFinal, _) = server.response(final.span) else { return nil }
        return authentication(12, serverFinal)
    }

    @Test("with a password: keys are derived, both sides prove themselves")
    func password() throws {
        let scene = ServerLoginScene.begun(secret: Self.plain)
        let final = try #require(try self.exchange(scene, verifier("pw")))
        scene.receive(final + Server.ok + Server.ready)
        #expect(scene.said == ["send", "derive", "send", "succeeded"])
    }

    @Test("with keys from a client's login: nothing is derived")
    func takenOverKeys() throws {
        let scene = ServerLoginScene.begun(secret: .scram(try verifier("pw")), keys: try keys("pw"))
        let final = try #require(try self.exchange(scene, verifier("pw")))
        scene.receive(final + Server.ok + Server.ready)
        #expect(scene.said == ["send", "send", "succeeded"])
    }

    @Test("keys of another salt or count of iterations do not fit", arguments: [("other", 1), ("salt", 2)])
    func unfitKeys(salt: String, iterations: Int) throws {
        let scene = ServerLoginScene.begun(keys: try keys("pw", salt: salt, iterations: iterations))
        #expect(try self.exchange(scene, verifier("pw")) == nil)
        #expect(
            scene.said.last
                == "failed: SASL authentication failed: SCRAM keys do not fit: the server has another SCRAM secret for this user"
        )
    }

    @Test("a server that does not know the secret is not believed")
    func falseServer() throws {
        let scene = ServerLoginScene.begun(secret: Self.plain)
        let final = try #require(try self.exchange(scene, verifier("pw")))
        var forged = final
        // Another digit of base64, whichever the right one is.
        let digit = forged.count - 5
        forged[digit] = forged[digit] == UInt8(ascii: "A") ? UInt8(ascii: "B") : UInt8(ascii: "A")
        scene.receive(forged + Server.ok)
        #expect(
            scene.said.last
                == "failed: SASL authentication failed: server's SCRAM signature is wrong: it does not know the user's secret"
        )
    }

    @Test("a wrong password: the server's e= is told")
    func refusedInExchange() throws {
        let scene = ServerLoginScene.begun(secret: Self.plain)
        #expect(try self.exchange(scene, verifier("other")) == nil)
        scene.receive(authentication(12, bytes("e=invalid-proof")))
        #expect(
            scene.said.last
                == "failed: SASL authentication failed: server refused SCRAM authentication: invalid-proof")
    }

    /// How far the exchange has come when something else arrives.
    enum Point: CaseIterable { case first, deriving, final, verified }

    private func scene(at point: Point) throws -> ServerLoginScene {
        let scene = ServerLoginScene.begun(secret: Self.plain)
        if point == .first {
            scene.receive(Server.sasl)
            return scene
        }
        if point == .deriving {
            scene.receive(Server.sasl)
            let nonce = scene.scramMessage(isFirst: true).dropFirst(8)
            scene.receive(authentication(11, bytes("r=") + nonce + bytes("xyz,s=c2FsdA==,i=1")))
            return scene
        }
        let final = try #require(try self.exchange(scene, verifier("pw")))
        if point == .verified { scene.receive(final) }
        return scene
    }

    @Test(
        "what does not belong to the exchange ends it",
        arguments: Point.allCases, [("ok", 0), ("password", 3), ("MD5", 5), ("SASL", 10), ("GSS", 7), ("ready", 0)])
    func outOfPlace(point: Point, request: (name: String, kind: UInt8)) throws {
        // AuthenticationOk behind the server's proof is how it ends well; while keys are derived nothing is looked at.
        if point == .deriving || (point == .verified && request.name == "ok") { return }
        let scene = try self.scene(at: point)
        let rest: [UInt8] =
            switch request.name {
            case "MD5": [1, 2, 3, 4]
            case "SASL": bytes("SCRAM-SHA-256\0\0")
            default: []
            }
        scene.receive(request.name == "ready" ? Server.ready : authentication(request.kind, rest))
        #expect(scene.error?.sqlState == SQLState.invalidAuthorization)
    }

    @Test("AuthenticationOk before the server's proof is not believed")
    func skippedProof() throws {
        let scene = try self.scene(at: .final)
        scene.receive(Server.ok + Server.ready)
        #expect(scene.said.last == "failed: server skipped the end of SCRAM authentication")
    }

    @Test("while keys are derived, messages stay where they are")
    func deriving() throws {
        let scene = try self.scene(at: .deriving)
        let next = Server.ok + Server.ready
        #expect(scene.receive(next) == next)
        #expect(scene.said.last == "hold")
        try scene.derive()
    }

    @Test("keys that cannot be derived")
    func noKeys() throws {
        let scene = try self.scene(at: .deriving)
        scene.derived(nil)
        #expect(scene.said.last == "failed: key derivation failed")
    }

    @Test("keys that nothing asked for", arguments: [Point.first, .final, .verified])
    func unexpectedKeys(point: Point) throws {
        let scene = try self.scene(at: point)
        scene.derived(try keys("pw"))
        #expect(scene.said.last == "failed: keys that nothing asked for")
    }

    @Test(
        "server-first messages that are refused before anything is computed",
        arguments: [
            "r=NONCExyz,s=c2FsdA==,i=0", "r=NONCExyz,s=c2FsdA==,i=-1", "r=NONCExyz,s=c2FsdA==,i=1000001",
            "r=NONCExyz,s=c2FsdA==,i=99999999", "r=NONCExyz,s=c2FsdA==,i=4294967297", "r=NONCExyz,s=c2FsdA==,i=x",
            "r=NONCExyz,s=c2FsdA==,i=", "r=NONCExyz,s=c2FsdA==", "r=NONCE,s=c2FsdA==,i=1", "r=other,s=c2FsdA==,i=1",
            "r=NONCExyz,s=,i=1", "r=NONCExyz,s=!!,i=1", "s=c2FsdA==,i=1", "m=x,r=NONCExyz,s=c2FsdA==,i=1", "",
        ])
    func badServerFirst(text: String) {
        let scene = ServerLoginScene.begun(secret: Self.plain)
        scene.receive(Server.sasl)
        let nonce = String(decoding: scene.scramMessage(isFirst: true).dropFirst(8), as: UTF8.self)
        scene.receive(authentication(11, bytes(text.replacing("NONCE", with: nonce))))
        #expect(scene.said.last?.hasPrefix("failed: SASL authentication failed: ") == true)
        #expect(scene.sent.count == 1)
    }

    @Test(
        "mechanisms that are not served",
        arguments: ["SCRAM-SHA-256-PLUS\0\0", "SCRAM-SHA-1\0OAUTHBEARER\0\0", "\0", "scram-sha-256\0\0"])
    func mechanisms(list: String) {
        let scene = ServerLoginScene.begun(secret: Self.plain)
        scene.receive(authentication(10, bytes(list)))
        #expect(
            scene.said == [
                "failed: SASL authentication failed: server offers no SASL mechanism that is supported (SCRAM-SHA-256)"
            ])
    }

    @Test("a spoiled exchange never succeeds by accident and never traps")
    func mutations() throws {
        var generator = SeededGenerator(seed: 7)
        let secret = try verifier("pw")
        for _ in 0..<2_000 {
            let scene = ServerLoginScene.begun(secret: Self.plain)
            var server = SCRAMServer(verifier: secret)
            scene.receive(Server.sasl)
            let first = scene.scramMessage(isFirst: true)
            guard
                case .send(let serverFirst) = server.initialResponse(
                    mechanism: bytes("SCRAM-SHA-256").span, message: first.span)
            else { continue }
            scene.receive(generator.mutated(authentication(11, serverFirst)))
            // A count of iterations that was made longer is not run.
            if case .derive(let derivation) = scene.last, derivation.iterations < 100 { try scene.derive() }
            scene.receive(generator.mutated(Server.ok + Server.ready))
            #expect(scene.outcome == nil)
        }
    }

    @Test("a login's messages spoiled in any way never trap")
    func spoiledMessages() {
        var generator = SeededGenerator(seed: 8)
        let conversation =
            Server.md5 + Server.ok + Server.status("a", "b") + Server.key + Server.notice
            + Server.error("28P01", "no") + Server.ready
        for _ in 0..<5_000 {
            let scene = ServerLoginScene.begun(secret: Self.plain)
            scene.receive(generator.mutated(conversation))
        }
    }
}
