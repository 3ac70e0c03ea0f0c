public import Logging
public import Routing
public import SQL
import Settings

/// Watches the servers of one cluster: each from a thread of its own, so that one that hangs delays nobody.
public final class ClusterMonitor: Sendable {
    public let settings: ClusterSettings
    /// What is known; published while the monitor runs.
    public let cluster: Cluster
    let core: MonitorCore
    private let catalogues: CatalogueWatcher

    /// A monitor that does nothing yet.
    ///
    /// - Parameter changed: called from the monitor's threads, never from within a call to the cluster and never with a
    ///   lock held.
    public init(
        settings: ClusterSettings, logger: Logger, changed: @escaping @Sendable (Cluster.Change) -> Void
    ) {
        self.settings = settings
        self.cluster = Cluster(samples: .ofProcess)
        self.core = MonitorCore(settings: settings, cluster: self.cluster, logger: logger, changed: changed)
        self.catalogues = CatalogueWatcher(core: self.core)
    }

    deinit { self.stop() }

    /// Starts the threads. To be called once.
    public func start() {
        let core = self.core
        self.cluster.onNeed(
            wake: { core.update { $0.needed() } },
            suspected: { node in
                core.update { $0.suspect(node, now: monotonicNow()) }
                core.wakeHelpers()
            })
        let names = Set(self.settings.hosts.indices.filter { self.settings.hosts[$0].isName })
        core.update { $0.begin(unresolved: names, now: monotonicNow()) }
        for (index, host) in self.settings.hosts.enumerated() {
            guard names.contains(index) else {
                let address = host.kind == .tcp ? host.host : nil
                core.setAddresses([address], host: host.host, port: host.port, index: index)
                continue
            }
            let waker = core.addHelper()
            let watcher = { @Sendable in
                NameWatcher(core: core, host: host.host, port: host.port, index: index, waker: waker).run()
            }
            if !startMonitorThread("martlet-names", watcher) {
                core.log(.error, "there is no thread left to look up \"\(host.host)\"")
            }
        }
        self.catalogues.start()
    }

    /// Lets the threads end; returns at once. `changed` is not called any more afterwards, but a call that is under way
    /// on another thread goes on.
    public func stop() { self.core.stop() }

    /// Reads the catalogue of a database from the primary, now, after each `refreshCatalogue`, and every few minutes.
    ///
    /// - Parameter changed: called from a thread of the monitor with each catalogue that differs from the last one;
    ///   the lists of patterns in it are empty.
    public func watchCatalogue(of database: String, changed: @escaping @Sendable (Catalogue) -> Void) {
        self.catalogues.watch(database, changed: changed)
    }

    /// DDL has passed through: the catalogue of this database is read anew soon.
    public func refreshCatalogue(of database: String) { self.catalogues.refresh(database) }

    /// The catalogue of this database is of no interest any more.
    public func forgetCatalogue(of database: String) { self.catalogues.forget(database) }
}
