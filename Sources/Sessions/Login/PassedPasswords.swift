public import Authentication
import Synchronization

/// Passwords that were right at the server a moment ago (`auth_passthrough`), as SCRAM keys: they need not be tried again.
public final class PassedPasswords: Sendable {
    private struct Key: Hashable {
        let database: String
        let user: String
    }

    /// Entries kept; beyond it everything is forgotten, which costs another try.
    private static let limit = 10_000

    private let known = Mutex<[Key: (keys: SCRAMKeys, expires: Int64)]>([:])

    public init() {}

    /// - Parameter now: monotonic microseconds, as in `remember`.
    public func keys(database: String, user: String, now: Int64) -> SCRAMKeys? {
        self.known.withLock { known in
            guard let entry = known[Key(database: database, user: user)], entry.expires > now else { return nil }
            return entry.keys
        }
    }

    public func remember(_ keys: SCRAMKeys, database: String, user: String, until expires: Int64) {
        self.known.withLock { known in
            if known.count >= Self.limit { known.removeAll() }
            known[Key(database: database, user: user)] = (keys, expires)
        }
    }

    public func forgetAll() { self.known.withLock { $0.removeAll() } }
}
