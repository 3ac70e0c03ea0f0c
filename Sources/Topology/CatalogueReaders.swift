import Logging
import Routing
import SQL
import Synchronization

/// Reads the catalogues of all routed databases from their primaries: a few threads with one connection each, however many
/// databases there are.
final class CatalogueReaders: Sendable {
    /// Those of the process.
    static let ofProcess = CatalogueReaders()

    /// A catalogue: whose servers', and as whom.
    private struct Key: Hashable {
        let core: ObjectIdentifier
        let login: ClusterSettings.Login

        init(_ login: ClusterSettings.Login, _ core: MonitorCore) {
            self.core = ObjectIdentifier(core)
            self.login = login
        }
    }

    /// A database whose catalogue somebody wants.
    private struct Entry: Sendable {
        let core: MonitorCore
        let changed: @Sendable (Catalogue, UInt64) -> Void
        let revision: CatalogueRevision
        /// The revision that `changed` was told last.
        var told: UInt64 = 0
        /// What has been done to the catalogue since a reading has begun.
        var ddl = StatementClass.DDL.none
        /// When a reading has found it changed.
        var changedAt: Int64 = 0
        /// Until then code that runs is not believed to have changed it.
        var trustsCodeUntil: Int64 = 0
        /// Ends the waiting of the reading that is under way; nil while there is none.
        var reading: Waker?
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
        var retryInterval = CatalogueReaders.retryInterval

        init(
            _ core: MonitorCore, _ revision: CatalogueRevision, changed: @escaping @Sendable (Catalogue, UInt64) -> Void
        ) {
            self.core = core
            self.revision = revision
            self.changed = changed
            self.due = 0
        }

        /// When it is to be read next, from this primary.
        func time(_ primary: Node) -> Int64 { self.primary == ObjectIdentifier(primary) ? self.due : 0 }
    }

    private struct State {
        var entries: [Key: Entry] = [:]
        /// One for each thread that runs.
        var wakers: [Waker] = []
    }
    private let state = Mutex(State())

    /// Threads, and so readings at a time.
    private static let mostThreads = 4
    /// Between two readings without a reason, microseconds.
    private static let interval: Int64 = 300_000_000
    /// After a reading that failed, microseconds.
    private static let retryInterval: Int64 = 2_000_000
    /// From a refresh to its first reading, so that much DDL in a row is one reading, microseconds.
    private static let firstDelay: Int64 = 20_000
    /// From a refresh to its second reading, microseconds.
    private static let secondDelay: Int64 = 1_100_000
    /// How long after a change no code is trusted, microseconds: a reading that was under way may have found already what the
    /// code has changed.
    private static let doubt: Int64 = 2_000_000
    /// How long code is trusted that has turned out to change nothing, microseconds: some clients call procedures without a
    /// pause, and all others' reads would stay on the primary.
    private static let trust: Int64 = 60_000_000
    /// From one reading to the next at least so long, and so many times as long as the last one has taken, microseconds.
    private static let shortestInterval: Int64 = 500_000
    private static let restFactor: Int64 = 3
    /// Longest time that a reading may take, microseconds.
    private static let timeout: Int64 = 30_000_000

    /// Wants a catalogue, told to `changed` from now on. It is read at once.
    func watch(
        _ login: ClusterSettings.Login, _ core: MonitorCore, changed: @escaping @Sendable (Catalogue, UInt64) -> Void
    ) -> CatalogueRevision {
        let (revision, needsThread) = self.state.withLock { state in
            let old = state.entries[Key(login, core)]
            var entry = Entry(core, old?.revision ?? CatalogueRevision(), changed: changed)
            // A reading that is under way counts for whoever wants it now.
            entry.reading = old?.reading
            state.entries[Key(login, core)] = entry
            return (entry.revision, state.wakers.count < min(Self.mostThreads, state.entries.count))
        }
        if needsThread { self.addThread(core) }
        self.wake()
        return revision
    }

    /// DDL has been carried out, as far as can be seen.
    func refresh(_ login: ClusterSettings.Login, _ core: MonitorCore, after ddl: StatementClass.DDL) {
        let now = monotonicNow()
        let key = Key(login, core)
        let isLater = self.state.withLock { state in
            guard var entry = state.entries[key] else { return false }
            switch ddl {
            case .none: return false
            case .drops: break
            case .possible: if now >= entry.trustsCodeUntil { entry.revision.advance() }
            case .certain: entry.revision.advance()
            }
            entry.ddl = max(entry.ddl, ddl)
            entry.dueAgain = now + Self.secondDelay
            let due = max(now + Self.firstDelay, entry.earliest)
            let isLater = entry.due > due
            if isLater { entry.due = due }
            state.entries[key] = entry
            return isLater
        }
        if isLater { self.wake() }
    }

    /// Forgets catalogues of a cluster; a reading of one that is under way ends.
    func forget(_ core: MonitorCore, where isForgotten: (ClusterSettings.Login) -> Bool) {
        let readings = self.state.withLock { state in
            let gone = state.entries.filter { $0.key.core == ObjectIdentifier(core) && isForgotten($0.key.login) }
            for key in gone.keys { state.entries[key] = nil }
            return gone.values.compactMap(\.reading)
        }
        for waker in readings { waker.wake() }
        self.wake()
    }

    /// Who is primary of some cluster has changed.
    func wake() {
        for waker in self.state.withLock({ $0.wakers }) { waker.wake() }
    }

    private func addThread(_ core: MonitorCore) {
        let waker = Waker()
        self.state.withLock { $0.wakers.append(waker) }
        guard !startMonitorThread("martlet-catalog", { self.run(waker) }) else { return }
        let isNobody = self.state.withLock { state in
            state.wakers.removeAll { $0 === waker }
            return state.wakers.isEmpty
        }
        if isNobody {
            core.log(.error, "there is no thread left to read catalogues: users' functions go to the primary")
        }
    }

    private enum Step {
        case read(Key, MonitorCore, Node)
        case wait(until: Int64)
        case end
    }

    private func run(_ waker: Waker) {
        while true {
            switch self.next(waker) {
            case .read(let key, let core, let primary): self.read(key, core, from: primary, waker)
            case .wait(let time): waker.wait(until: time)
            case .end: return
            }
        }
    }

    /// What a thread does now: read the one that has been due for longest, or wait.
    private func next(_ waker: Waker) -> Step {
        let now = monotonicNow()
        return self.state.withLock { state in
            guard !state.entries.isEmpty else {
                state.wakers.removeAll { $0 === waker }
                return .end
            }
            var wake = now + Self.interval
            var first: (key: Key, primary: Node)?
            for (key, entry) in state.entries where entry.reading == nil {
                guard let primary = entry.core.cluster.primary else {
                    wake = min(wake, now + Self.retryInterval)
                    continue
                }
                guard entry.time(primary) < wake else { continue }
                wake = entry.time(primary)
                first = (key, primary)
            }
            guard wake <= now, let (key, primary) = first, let core = state.entries[key]?.core else {
                return .wait(until: wake)
            }
            state.entries[key]?.reading = waker
            return .read(key, core, primary)
        }
    }

    /// Whether nobody wants what is being read any more.
    private func isGone(_ key: Key) -> Bool { self.state.withLock { $0.entries[key] == nil } }

    /// Reads one database's catalogue and tells it if it has changed.
    private func read(_ key: Key, _ core: MonitorCore, from primary: Node, _ waker: Waker) {
        let begun = monotonicNow()
        let (revision, ddl) = self.state.withLock { state in
            defer { state.entries[key]?.ddl = .none }
            return (state.entries[key]?.revision.value ?? 0, state.entries[key]?.ddl ?? .none)
        }
        var catalogue: Catalogue?
        var failure: String?
        do throws(MonitorConnection.Failure) {
            let settings = core.settings
            let deadline = begun + Self.timeout
            let connection = try MonitorConnection(
                to: MonitorConnection.Target(primary, key.login, settings.tls), waker: waker,
                deadline: min(deadline, begun + settings.checkTimeout), isStopped: { self.isGone(key) })
            catalogue = try CatalogueQuery.read(from: connection, deadline: deadline)
            if catalogue == nil {
                failure = "more than \(CatalogueQuery.maximumRows) functions, sequences and uses of them by views"
            }
        } catch {
            if case .stopped = error { return }
            failure = error.reason(allowed: Self.timeout)
        }
        let now = monotonicNow()
        let (changed, isNewError) = self.state.withLock { state in
            guard var entry = state.entries[key] else { return (nil as (@Sendable () -> Void)?, false) }
            entry.reading = nil
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
            if isRead && catalogue != entry.last {
                entry.changedAt = now
                entry.trustsCodeUntil = 0
            } else if isRead && ddl == .possible && now - entry.changedAt > Self.doubt {
                entry.trustsCodeUntil = now + Self.trust
            }
            // By what cannot be read any more nothing is judged behind DDL.
            let news = catalogue ?? (entry.told != revision ? Catalogue() : nil)
            var changed: (@Sendable () -> Void)?
            if let news, news != entry.last || entry.told != revision {
                entry.last = news
                entry.told = revision
                changed = { [tell = entry.changed] in tell(news, revision) }
            }
            state.entries[key] = entry
            return (changed, isNewError)
        }
        if isNewError, let failure {
            core.log(
                .warning,
                "the catalogue of database \(key.login.dbname) cannot be read, users' functions not known go to the primary: "
                    + failure)
        }
        if let changed, !core.isStopped { changed() }
    }
}
