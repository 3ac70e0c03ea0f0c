import Logging
import Routing
import Settings
import Synchronization

/// What the threads of one monitor share. It lives until the last of them has ended.
final class MonitorCore: Sendable {
    let cluster: Cluster
    private let logger: Logger
    private let changed: @Sendable (Cluster.Change) -> Void
    private let state: Mutex<ClusterState>
    private let isStoppedFlag = Atomic<Bool>(false)
    /// Ends the waiting of the threads that look up names.
    private let helpers = Mutex<[ObjectIdentifier: Waker]>([:])

    init(
        settings: ClusterSettings, cluster: Cluster, known: KnownClusters, logger: Logger,
        changed: @escaping @Sendable (Cluster.Change) -> Void
    ) {
        self.cluster = cluster
        self.logger = logger
        self.changed = changed
        self.state = Mutex(ClusterState(settings: settings, cluster: cluster, known: known))
    }

    /// As they are now.
    var settings: ClusterSettings { self.state.withLock { $0.settings } }

    var isStopped: Bool { self.isStoppedFlag.load(ordering: .acquiring) }

    /// Changes the state, and does outside the lock what follows from that.
    func update<Result: Sendable>(_ body: @Sendable (inout ClusterState) -> Result) -> Result {
        let (result, effects) = self.state.withLock { state in
            let result = body(&state)
            let effects = state.effects
            state.effects = ClusterState.Effects()
            return (result, effects)
        }
        for waker in effects.wake { waker.wake() }
        guard !self.isStopped else { return result }
        for line in effects.lines { self.logger.log(level: line.level, "\(line.text)") }
        if effects.primaryChanged { CatalogueReaders.ofProcess.wake() }
        if effects.nodesChanged { self.changed(.nodes) }
        if effects.progressed, self.cluster.waiters.load(ordering: .relaxed) > 0 { self.changed(.progress) }
        return result
    }

    func log(_ level: Logger.Level, _ text: String) {
        if !self.isStopped { self.logger.log(level: level, "\(text)") }
    }

    /// A waker of a thread other than those of the nodes; it ends with `removeHelper`.
    func addHelper() -> Waker {
        let waker = Waker()
        self.helpers.withLock { $0[ObjectIdentifier(waker)] = waker }
        return waker
    }

    func removeHelper(_ waker: Waker) { _ = self.helpers.withLock { $0.removeValue(forKey: ObjectIdentifier(waker)) } }

    func wakeHelpers() {
        for waker in self.helpers.withLock({ Array($0.values) }) { waker.wake() }
    }

    /// Takes over settings, the first or others: what is known of the servers that stay goes on to hold.
    func apply(_ settings: ClusterSettings) {
        var addresses: [HostAddress: String?] = [:]
        for host in settings.hosts where !host.isName { addresses[host] = .some(host.kind == .tcp ? host.host : nil) }
        let known = addresses
        let (added, names) = self.update { $0.apply(settings, addresses: known, now: monotonicNow()) }
        self.watch(added)
        for host in names {
            let waker = self.addHelper()
            let watcher = { @Sendable in
                NameWatcher(core: self, host: host, waker: waker).run()
                self.removeHelper(waker)
            }
            if !startMonitorThread("martlet-names", watcher) {
                self.log(.error, "there is no thread left to look up \"\(host.host)\"")
            }
        }
        self.wakeHelpers()
    }

    func setAddresses(_ addresses: [String?], of host: HostAddress) {
        self.watch(self.update { $0.setAddresses(addresses, of: host, now: monotonicNow()) })
    }

    private func watch(_ added: [ClusterState.Addition]) {
        for (id, node, waker) in added {
            let watcher = { @Sendable in NodeWatcher(core: self, id: id, node: node, waker: waker).run() }
            if !startMonitorThread("martlet-node", watcher) {
                self.update { $0.failed(id, reason: "there is no thread left to watch it", now: monotonicNow()) }
            }
        }
    }

    func stop() {
        self.isStoppedFlag.store(true, ordering: .releasing)
        self.update { $0.removeAll() }
        self.wakeHelpers()
        // The cluster may live on; what it holds of this monitor would keep both alive.
        self.cluster.onNeed(wake: {}, suspected: { _ in })
    }
}
