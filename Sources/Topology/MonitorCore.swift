import Logging
import Routing
import Synchronization

/// What the threads of one monitor share. It lives until the last of them has ended.
final class MonitorCore: Sendable {
    let settings: ClusterSettings
    let cluster: Cluster
    private let logger: Logger
    private let changed: @Sendable (Cluster.Change) -> Void
    private let state: Mutex<ClusterState>
    private let isStoppedFlag = Atomic<Bool>(false)
    /// Ends the waiting of the threads that look up names, and of the one that reads catalogues.
    private let helpers = Mutex<[Waker]>([])

    init(
        settings: ClusterSettings, cluster: Cluster, logger: Logger,
        changed: @escaping @Sendable (Cluster.Change) -> Void
    ) {
        self.settings = settings
        self.cluster = cluster
        self.logger = logger
        self.changed = changed
        self.state = Mutex(ClusterState(settings: settings, cluster: cluster))
    }

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
        if effects.primaryChanged { self.wakeHelpers() }
        if effects.nodesChanged { self.changed(.nodes) }
        if effects.progressed, self.cluster.waiters.load(ordering: .relaxed) > 0 { self.changed(.progress) }
        return result
    }

    func log(_ level: Logger.Level, _ text: String) {
        if !self.isStopped { self.logger.log(level: level, "\(text)") }
    }

    /// A waker of a thread other than those of the nodes.
    func addHelper() -> Waker {
        let waker = Waker()
        self.helpers.withLock { $0.append(waker) }
        return waker
    }

    func wakeHelpers() {
        for waker in self.helpers.withLock({ $0 }) { waker.wake() }
    }

    /// Where and as whom a node's database is to be reached.
    func target(_ node: Node, dbname: String) -> MonitorConnection.Target {
        MonitorConnection.Target(
            host: node.host, address: node.address, port: node.port, user: self.settings.user,
            password: self.settings.password, dbname: dbname, tls: self.settings.tlsParameters)
    }

    func setAddresses(_ addresses: [String?], host: String, port: Int, index: Int) {
        let added = self.update {
            $0.setAddresses(addresses, host: host, port: port, index: index, now: monotonicNow())
        }
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
