import Routing
import Settings
import Synchronization

/// What clients have in common that must see each other's writes, over all reactors. One for each database of a cluster,
/// whichever entries of `[databases]` lead to it.
final class SharedCausalities: Sendable {
    private struct State {
        var users: Members
        var keys: Members
    }

    /// Of the database as a whole.
    private let database: SharedCausality
    private let state: Mutex<State>
    private let samples: SampleNumbers

    init(samples: SampleNumbers) {
        self.samples = samples
        // Writes may have gone before that are not known here: every sample up to now may be too old.
        let needed = samples.last + 1
        self.database = SharedCausality(needed: needed)
        self.state = Mutex(State(users: Members(unknown: needed), keys: Members(unknown: needed)))
    }

    /// Tells a client's causality what it has in common with others.
    ///
    /// - Parameters:
    ///   - scope: whose writes count for it.
    ///   - key: its session key.
    func join(_ causality: Causality, _ scope: ReadAfterWriteScope, user: String, key: String?) {
        let newest = self.samples.last + 1
        let (own, users) = self.state.withLock { state in
            (key.map { state.keys.find($0, newest: newest) }, state.users.find(user, newest: newest))
        }
        causality.join(key: own, user: users, database: self.database, scope: scope)
    }

    /// Session keys or users, by name.
    private struct Members {
        /// Names that are remembered beside those in use; of the oldest ones half is forgotten when there are more.
        private static let most = 100_000

        private var known: [String: SharedCausality] = [:]
        /// In the order of their first use, oldest first.
        private var order: [String] = []
        /// What a name needs that is not known: it may have written before the last ones were forgotten, not later.
        private var unknown: UInt64

        init(unknown: UInt64) { self.unknown = unknown }

        /// - Parameter newest: what shows all that has been written by now.
        mutating func find(_ name: String, newest: UInt64) -> SharedCausality {
            if let known = self.known[name] { return known }
            if self.order.count >= Self.most {
                self.forgetUnused()
                self.unknown = newest
            }
            let causality = SharedCausality(needed: self.unknown)
            self.known[name] = causality
            self.order.append(name)
            return causality
        }

        private mutating func forgetUnused() {
            // One that somebody has goes on to be his and that of the next one who comes with that name.
            let old = self.order.prefix(Self.most / 2)
            let unused = Set(old.filter { isKnownUniquelyReferenced(&self.known[$0]) })
            for name in unused { self.known[name] = nil }
            self.order = Array(self.order[old.endIndex...]) + old.filter { !unused.contains($0) }
        }
    }
}
