import Reactor
import Synchronization

// Whether somebody who waits for a connection has something to expect of this one.
extension ServerSession {
    /// No client that waits will get it.
    func countUnavailable() {
        guard !self.isUnavailable else { return }
        self.isUnavailable = true
        self.pool.shared.unavailable.add(1, ordering: .relaxed)
    }

    /// It is not counted among the pool's connections any more.
    func countAvailable() {
        guard self.isUnavailable else { return }
        self.isUnavailable = false
        self.pool.shared.unavailable.subtract(1, ordering: .relaxed)
    }

    /// It will be free for the next client when the proxy's own query has ended. After a second that is uncertain.
    var isComing: Bool {
        guard self.state == .preparing, self.client == nil, self.cancels == 0, !self.isRetiring else { return false }
        switch self.ownQueries.first {
        case .check, .rollback, .reset, .deallocate: return self.deadline - self.preparingTime + 1_000_000 > self.now
        case .settings, .begin, .abort, .connectQuery, .restore, .proof, nil: return false
        }
    }
}
