import Authentication
import TestSupport
import Testing

@testable import Services

@Suite("Key derivations")
struct KeyDerivationsTests {
    private func derivation(_ password: String, salt: String = "salt") -> SCRAMDerivation {
        SCRAMDerivation(password: SecretBytes(bytes(password)), salt: bytes(salt), iterations: 1)
    }

    private func run(
        _ derivations: KeyDerivations, _ derivation: SCRAMDerivation, remembers: Bool
    ) async -> SCRAMKeys? {
        await withCheckedContinuation { continuation in
            derivations.run(derivation, remembers: remembers) { continuation.resume(returning: $0) }
        }
    }

    @Test("keys are derived elsewhere, and kept when that was asked for")
    func remembering() async throws {
        let derivations = KeyDerivations()
        let kept = self.derivation("kept")
        let wrong = self.derivation("wrong")
        #expect(await self.run(derivations, kept, remembers: true) == (try kept.run()))
        #expect(await self.run(derivations, wrong, remembers: false) == (try wrong.run()))
        #expect(derivations.known(kept) == (try kept.run()))
        #expect(derivations.known(wrong) == nil, "a client that has shown nothing fills no memory")
    }

    @Test("libcrypto refuses")
    func refused() async {
        let impossible = SCRAMDerivation(password: SecretBytes(bytes("x")), salt: bytes("s"), iterations: 0)
        #expect(await self.run(KeyDerivations(), impossible, remembers: true) == nil)
    }

    @Test("two users with one password have verifiers of their own")
    func samePassword() throws {
        let derivations = KeyDerivations()
        let derivation = self.derivation("pw")
        let first = derivations.remember(try verifier("pw", salt: "a"), of: "ann", derivation)
        #expect(derivations.verifier(of: "ann", derivation) == first)
        #expect(derivations.verifier(of: "bob", derivation) == nil)
    }

    @Test("logins at the same time agree on the verifier that was ready first")
    func firstWins() throws {
        let derivations = KeyDerivations()
        let first = try verifier("pw", salt: "a")
        let second = try verifier("pw", salt: "b")
        #expect(derivations.remember(first, of: "ann", self.derivation("pw", salt: "a")) == first)
        #expect(derivations.remember(second, of: "ann", self.derivation("pw", salt: "b")) == first)
        // Another password: the auth_file has changed.
        #expect(derivations.verifier(of: "ann", self.derivation("new")) == nil)
    }

    @Test func verifiersOfPlainPasswordsAreMadeAhead() async throws {
        let derivations = KeyDerivations()
        let password = SecretBytes(bytes("secret"))
        derivations.prepare(
            ["app": .plain(password), "md5": try md5Secret("md5", "x"), "none": .plain(SecretBytes([]))], iterations: 2)
        let wanted = SCRAMDerivation(password: password, salt: [], iterations: 2)
        let deadline = ContinuousClock.now + .seconds(20)
        while derivations.verifier(of: "app", wanted) == nil, ContinuousClock.now < deadline { await Task.yield() }
        #expect(derivations.verifier(of: "app", wanted) != nil)
        #expect(derivations.verifier(of: "other", wanted) == nil)
    }
}
