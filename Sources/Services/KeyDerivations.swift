package import Authentication
import Dispatch
import Synchronization

/// Runs SCRAM's costly key derivation (some milliseconds each) away from the event loops, and remembers results.
package final class KeyDerivations: Sendable {
    private let queue = DispatchQueue(label: "martlet.derivation", attributes: .concurrent)
    private let preparation = DispatchQueue(label: "martlet.preparation", qos: .utility)
    private let known = Mutex<[SCRAMDerivation: SCRAMKeys]>([:])
    /// Verifiers made from plain passwords, so that a user's salt stays the same from login to login.
    private let verifiers = Mutex<[VerifierKey: SCRAMVerifier]>([:])

    /// The user too: two users with the same password have different salts, or anybody could see that it is the same.
    private struct VerifierKey: Hashable {
        let user: String
        let password: SecretBytes
        let iterations: Int
    }

    /// Entries kept in each table; beyond it everything is forgotten, which costs time and nothing else.
    private static let limit = 10_000

    /// The keys, at once if they are known.
    package func known(_ derivation: SCRAMDerivation) -> SCRAMKeys? { self.known.withLock { $0[derivation] } }

    /// Derives keys on another thread; `completion` is called there, with nil if libcrypto refused.
    ///
    /// - Parameter remembers: whether the result is kept. Not for what a client asks for that has shown nothing yet: it
    ///   could fill the memory with wrong passwords.
    package func run(
        _ derivation: SCRAMDerivation, remembers: Bool = true, _ completion: @escaping @Sendable (SCRAMKeys?) -> Void
    ) {
        if let keys = self.known(derivation) { return completion(keys) }
        self.queue.async {
            let keys = try? derivation.run()
            if remembers, let keys { self.remember(keys, of: derivation) }
            completion(keys)
        }
    }

    package func remember(_ keys: SCRAMKeys, of derivation: SCRAMDerivation) {
        self.known.withLock { known in
            if known.count >= Self.limit { known.removeAll() }
            known[derivation] = keys
        }
    }

    /// Makes the verifiers of plain passwords ahead, one after the other on another thread: else a user's first login
    /// would take longer than one of somebody unknown, and tell that there is such a user.
    package func prepare(_ secrets: [String: Secret], iterations: Int) {
        self.preparation.async {
            for (user, secret) in secrets.prefix(Self.limit) {
                guard case .derive(let derivation) = secret.scramLogin(iterations: iterations),
                    self.verifier(of: user, derivation) == nil, let keys = try? derivation.run(),
                    let verifier = try? SCRAMVerifier(keys)
                else { continue }
                _ = self.remember(verifier, of: user, derivation)
            }
        }
    }

    /// The verifier of a user's plain password, if it has been made before; the derivation's salt does not matter.
    package func verifier(of user: String, _ derivation: SCRAMDerivation) -> SCRAMVerifier? {
        let key = VerifierKey(user: user, password: derivation.password, iterations: derivation.iterations)
        return self.verifiers.withLock { $0[key] }
    }

    /// Keeps a verifier and returns it, or the one that another login of the user has made meanwhile.
    package func remember(_ verifier: SCRAMVerifier, of user: String, _ derivation: SCRAMDerivation) -> SCRAMVerifier {
        let key = VerifierKey(user: user, password: derivation.password, iterations: derivation.iterations)
        return self.verifiers.withLock { verifiers in
            if let known = verifiers[key] { return known }
            if verifiers.count >= Self.limit { verifiers.removeAll() }
            verifiers[key] = verifier
            return verifier
        }
    }
}
