import Routing
import Settings
import Synchronization

/// What clients of one database have in common that must see each other's writes, over all reactors.
final class SharedCausalities: Sendable {
    private struct State {
        let database: SharedCausality
        var users: [String: SharedCausality] = [:]
        var keys: [String: SharedCausality] = [:]
        /// Keys in the order of their first use, oldest first.
        var order: [String] = []
    }

    private let state: Mutex<State>
    private let samples: SampleNumbers

    /// Keys that are remembered beside those in use; of the oldest ones half is forgotten when there are more.
    private static let mostKeys = 100_000

    init(samples: SampleNumbers) {
        self.samples = samples
        self.state = Mutex(State(database: SharedCausality(sharesReads: false, needed: samples.last + 1)))
    }

    /// What a client has in common with others; nil when its writes are its own.
    func causality(_ scope: ReadAfterWriteScope, user: String, key: String?) -> SharedCausality? {
        self.state.withLock { state in
            if let key { return self.causality(key: key, &state) }
            switch scope {
            case .client: return nil
            case .database: return state.database
            case .user:
                if let known = state.users[user] { return known }
                let causality = self.make(sharesReads: false)
                state.users[user] = causality
                return causality
            }
        }
    }

    private func causality(key: String, _ state: inout State) -> SharedCausality {
        if let known = state.keys[key] { return known }
        if state.order.count >= Self.mostKeys {
            // A key that somebody has goes on to be his and that of the next one who comes with it.
            let old = state.order.prefix(Self.mostKeys / 2)
            let unused = Set(old.filter { isKnownUniquelyReferenced(&state.keys[$0]) })
            for key in unused { state.keys[key] = nil }
            state.order = Array(state.order[old.endIndex...]) + old.filter { !unused.contains($0) }
        }
        // The key may have been forgotten together with its writes.
        let causality = self.make(sharesReads: true)
        state.keys[key] = causality
        state.order.append(key)
        return causality
    }

    /// Writes may have gone before that are not known here: every sample up to now may be too old.
    private func make(sharesReads: Bool) -> SharedCausality {
        SharedCausality(sharesReads: sharesReads, needed: self.samples.last + 1)
    }
}
