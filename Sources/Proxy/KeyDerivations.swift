import Authentication
import Dispatch
import Synchronization

/// Runs SCRAM's costly key derivation (some milliseconds each) away from the event loops, and remembers results.
final class KeyDerivations: Sendable {
    private let queue = DispatchQueue(label: "martlet.derivation", attributes: .concurrent)
    private let known = Mutex<[SCRAMDerivation: SCRAMKeys]>([:])
    /// Verifiers made from plain passwords, so that a user's salt stays the same from login to login.
    private let verifiers = Mutex<[VerifierKey: SCRAMVerifier]>([:])

    private struct VerifierKey: Hashable {
        let password: SecretBytes
        let iterations: Int
    }

    /// Entries kept in each table; beyond it everything is forgotten, which costs time and nothing else.
    private static let limit = 10_000

    /// The keys, at once if they are known.
    func known(_ derivation: SCRAMDerivation) -> SCRAMKeys? { self.known.withLock { $0[derivation] } }

    /// Derives keys on another thread; `completion` is called there, with nil if libcrypto refused.
    func run(_ derivation: SCRAMDerivation, _ completion: @escaping @Sendable (SCRAMKeys?) -> Void) {
        if let keys = self.known(derivation) { return completion(keys) }
        self.queue.async {
            let keys = try? derivation.run()
            if let keys {
                self.known.withLock { known in
                    if known.count >= Self.limit { known.removeAll() }
                    known[derivation] = keys
                }
            }
            completion(keys)
        }
    }

    /// The verifier of a plain password, if it has been made before.
    func verifier(_ password: SecretBytes, iterations: Int) -> SCRAMVerifier? {
        self.verifiers.withLock { $0[VerifierKey(password: password, iterations: iterations)] }
    }

    func remember(_ verifier: SCRAMVerifier, of password: SecretBytes, iterations: Int) {
        self.verifiers.withLock { verifiers in
            if verifiers.count >= Self.limit { verifiers.removeAll() }
            verifiers[VerifierKey(password: password, iterations: iterations)] = verifier
        }
    }
}
