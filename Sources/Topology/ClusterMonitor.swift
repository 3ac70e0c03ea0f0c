public import Logging
public import Routing
public import SQL
import Settings
import Synchronization

/// Watches the servers of one cluster: each from a thread of its own, so that one that hangs delays nobody.
public final class ClusterMonitor: Sendable {
    /// What is known; published while the monitor runs.
    public let cluster: Cluster
    let core: MonitorCore
    private let catalogues: CatalogueReaders

    /// A monitor that does nothing yet.
    ///
    /// - Parameters:
    ///   - known: what is known of clusters, and is to know what is seen here.
    ///   - changed: called from the monitor's threads, never from within a call to the cluster and never with a lock held.
    public init(
        settings: ClusterSettings, known: KnownClusters, logger: Logger,
        changed: @escaping @Sendable (Cluster.Change, Cluster) -> Void
    ) {
        let cluster = Cluster(samples: .ofProcess)
        self.cluster = cluster
        self.core = MonitorCore(
            settings: settings, cluster: cluster, known: known, logger: logger, changed: { changed($0, cluster) })
        self.catalogues = .ofProcess
    }

    deinit { self.stop() }

    /// As they are now.
    public var settings: ClusterSettings { self.core.settings }

    /// Starts the threads. To be called once.
    public func start() {
        let core = self.core
        self.cluster.onNeed(
            wake: { core.update { $0.needed() } },
            suspected: { node in
                core.update { $0.suspect(node, now: monotonicNow()) }
                core.wakeHelpers()
            })
        core.apply(core.settings)
    }

    /// Takes over other settings. Servers that are still listed keep their roles and all else that is known of them.
    public func apply(_ settings: ClusterSettings) { self.core.apply(settings) }

    /// Which cluster it is, as far as that is known.
    public var sight: KnownClusters.Cluster { self.core.update { $0.sight } }

    /// Forgets timelines and who was fenced, for good: roles follow from what the servers say now.
    public func forget() { self.core.update { $0.forget(monotonicNow()) } }

    /// Lets the threads end; returns at once. `changed` is not called any more afterwards, but a call that is under way
    /// on another thread goes on.
    public func stop() {
        self.core.stop()
        self.catalogues.forget(self.core) { _ in true }
    }

    /// Reads the catalogue of a database from the primary, now, after each `refreshCatalogue`, and every few minutes.
    ///
    /// - Parameter changed: called from a thread of the monitor with each catalogue that differs from the last one or is
    ///   of another revision; the lists of patterns in it are empty. One that could not be read behind DDL is unknown.
    /// - Returns: what the catalogue's revision is by now; that of the first reading is not 0.
    public func watchCatalogue(
        as login: ClusterSettings.Login, changed: @escaping @Sendable (Catalogue, UInt64) -> Void
    ) -> CatalogueRevision {
        self.catalogues.watch(login, self.core, changed: changed)
    }

    /// DDL has been carried out, as far as can be seen: what was read of this database's catalogue is out of date from now
    /// on, and it is read anew soon.
    public func refreshCatalogue(as login: ClusterSettings.Login, after ddl: StatementClass.DDL) {
        self.catalogues.refresh(login, self.core, after: ddl)
    }

    /// Other catalogues than these are of no interest any more.
    public func keepCatalogues(as logins: Set<ClusterSettings.Login>) {
        self.catalogues.forget(self.core) { !logins.contains($0) }
    }

    /// Tries what others settings have of new users and passwords at a server that answers now.
    ///
    /// - Parameter givesDatabase: the database to log in to must be there, too.
    /// - Returns: what the server says if it refuses all of them; nil if it takes one, or cannot be asked.
    public func refusal(of settings: ClusterSettings, givesDatabase: Bool) async -> String? {
        let before = self.settings.logins
        let logins = settings.logins.filter { login in
            givesDatabase
                ? !before.contains(login)
                : !before.contains { $0.user == login.user && $0.password == login.password }
        }
        let nodes = self.cluster.nodes.filter {
            $0.isUp.load(ordering: .relaxed) && settings.hosts.contains($0.place)
        }
        guard !logins.isEmpty, let node = nodes.first(where: { $0.role == .primary }) ?? nodes.first else { return nil }
        return await withCheckedContinuation { continuation in
            let trial = { @Sendable in
                continuation.resume(returning: Self.refusal(of: logins, settings, by: node, givesDatabase))
            }
            if !startMonitorThread("martlet-trial", trial) { continuation.resume(returning: nil) }
        }
    }

    private static func refusal(
        of logins: [ClusterSettings.Login], _ settings: ClusterSettings, by node: Node, _ givesDatabase: Bool
    ) -> String? {
        var refusal: String?
        let deadline = monotonicNow() + settings.checkTimeout
        for login in logins.prefix(8) {
            do throws(MonitorConnection.Failure) {
                _ = try MonitorConnection(
                    to: MonitorConnection.Target(node, login, settings.tls), waker: Waker(), deadline: deadline,
                    isStopped: { false })
                return nil
            } catch {
                guard error.isOfUser || (givesDatabase && error.isOfLogin) else { return nil }
                refusal = "\(node.description): \(error.reason(allowed: settings.checkTimeout))"
            }
        }
        return refusal
    }
}
