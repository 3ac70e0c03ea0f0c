import Logging
import Routing
import SQL
import Synchronization

/// Reads the catalogues of a cluster's databases from its primary, one after the other on one thread.
final class CatalogueWatcher: Sendable {
    /// A database whose catalogue somebody wants.
    private struct Entry: Sendable {
        let changed: @Sendable (Catalogue) -> Void
        /// When it is to be read, monotonic microseconds.
        var due: Int64
        /// Once more then: the transaction of the DDL may have been committed only after the first reading.
        var dueAgain: Int64?
        /// Not before then, whoever asks: a client can have as much DDL as it likes, or what looks like it.
        var earliest: Int64 = 0
        /// The primary it was read from.
        var primary: ObjectIdentifier?
        var last: Catalogue?
        var lastError: String?
        /// After a reading that fails now: longer each time, since the database may be one that does not exist.
        var retryInterval = CatalogueWatcher.retryInterval
    }

    private let core: MonitorCore
    private let waker: Waker
    private let entries = Mutex<[String: Entry]>([:])

    /// Between two readings without a reason, microseconds.
    private static let interval: Int64 = 300_000_000
    /// After a reading that failed, microseconds.
    private static let retryInterval: Int64 = 2_000_000
    /// From a refresh to its first reading, so that much DDL in a row is one reading, microseconds.
    private static let firstDelay: Int64 = 100_000
    /// From a refresh to its second reading, microseconds.
    private static let secondDelay: Int64 = 1_100_000
    /// From one reading to the next at least so long, and so many times as long as the last one has taken, microseconds.
    private static let shortestInterval: Int64 = 500_000
    private static let restFactor: Int64 = 10
    /// Longest time that a reading may take, microseconds.
    private static let timeout: Int64 = 30_000_000

    init(core: MonitorCore) {
        self.core = core
        self.waker = core.addHelper()
    }

    func watch(_ database: String, changed: @escaping @Sendable (Catalogue) -> Void) {
        self.entries.withLock { $0[database] = Entry(changed: changed, due: 0) }
        self.waker.wake()
    }

    func refresh(_ database: String) {
        let now = monotonicNow()
        let isLater = self.entries.withLock { entries in
            guard var entry = entries[database] else { return false }
            entry.dueAgain = now + Self.secondDelay
            let due = max(now + Self.firstDelay, entry.earliest)
            let isLater = entry.due > due
            if isLater { entry.due = due }
            entries[database] = entry
            return isLater
        }
        if isLater { self.waker.wake() }
    }

    func forget(_ database: String) { _ = self.entries.withLock { $0.removeValue(forKey: database) } }

    func start() {
        if !startMonitorThread("martlet-catalog", { self.run() }) {
            self.core.log(.error, "there is no thread left to read catalogues: users' functions go to the primary")
        }
    }

    private func run() {
        while !self.core.isStopped {
            let now = monotonicNow()
            let primary = self.core.cluster.primary
            var next = now + Self.retryInterval
            if let primary {
                let times = self.entries.withLock { entries in
                    entries.map { name, entry in
                        (name: name, time: entry.primary == ObjectIdentifier(primary) ? entry.due : 0)
                    }
                }
                next = times.lazy.map(\.time).min() ?? .max
                for (name, time) in times where time <= now && !self.core.isStopped { self.read(name, from: primary) }
            }
            if next > now { self.waker.wait(until: min(next, now + Self.interval)) }
        }
    }

    /// Reads one database's catalogue and tells it if it has changed.
    private func read(_ database: String, from primary: Node) {
        let begun = monotonicNow()
        var catalogue: Catalogue?
        var failure: String?
        do throws(MonitorConnection.Failure) {
            let core = self.core
            let deadline = begun + Self.timeout
            let connection = try MonitorConnection(
                to: core.target(primary, dbname: database), waker: self.waker,
                deadline: min(deadline, begun + core.settings.checkTimeout), isStopped: { core.isStopped })
            catalogue = try CatalogueQuery.read(from: connection, deadline: deadline)
            if catalogue == nil {
                failure = "more than \(CatalogueQuery.maximumRows) functions, sequences and uses of them by views"
            }
        } catch {
            switch error {
            case .stopped: return
            case .lost(let reason): failure = reason
            case .timedOut: failure = "no answer in time"
            case .refused(let state, let message): failure = "\(message) (\(state))"
            }
        }
        let now = monotonicNow()
        let (changed, isNewError) = self.entries.withLock { entries in
            guard var entry = entries[database] else { return (nil as (@Sendable (Catalogue) -> Void)?, false) }
            let isRead = failure == nil
            entry.primary = ObjectIdentifier(primary)
            entry.due = now + (isRead ? Self.interval : entry.retryInterval)
            entry.retryInterval = isRead ? Self.retryInterval : min(entry.retryInterval * 2, Self.interval)
            entry.earliest = now + min(max(Self.shortestInterval, Self.restFactor * (now - begun)), Self.timeout)
            if let again = entry.dueAgain {
                if again > begun {
                    entry.due = min(entry.due, max(again, entry.earliest))
                } else if isRead {
                    entry.dueAgain = nil
                }
            }
            let isNewError = failure != nil && failure != entry.lastError
            entry.lastError = failure
            var changed: (@Sendable (Catalogue) -> Void)?
            if let catalogue, catalogue != entry.last {
                entry.last = catalogue
                changed = entry.changed
            }
            entries[database] = entry
            return (changed, isNewError)
        }
        if isNewError, let failure {
            self.core.log(
                .warning,
                "the catalogue of database \(database) cannot be read, users' functions not known go to the primary: "
                    + failure)
        }
        if let changed, let catalogue, !self.core.isStopped { changed(catalogue) }
    }
}
