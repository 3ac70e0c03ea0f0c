public import Logging
public import Routing
public import SQL
public import Settings

/// How a cluster is found and watched; what two databases have to agree in to share one monitor.
public struct ClusterSettings: Hashable, Sendable {
    public var hosts: [HostAddress]
    /// Microseconds.
    public var checkInterval: Microseconds = 1_000_000
    public var checkTimeout: Microseconds = 2_000_000
    public var sampleInterval: Microseconds = 25_000
    public var user: String?
    public var password: String?
    public var dbname: String
    /// Microseconds; 0 is no limit.
    public var maxReplicaLag: Microseconds = 10_000_000
    /// Bytes of write-ahead log; 0 is no limit.
    public var maxReplicaLagBytes = 0

    public init(hosts: [HostAddress], dbname: String) {
        self.hosts = hosts
        self.dbname = dbname
    }
}

/// Watches the servers of one cluster: each from a thread of its own, so that one that hangs delays nobody.
public final class ClusterMonitor: Sendable {
    public let settings: ClusterSettings
    /// What is known; published while the monitor runs.
    public let cluster: Cluster

    /// A monitor that does nothing yet.
    ///
    /// - Parameter changed: called from the monitor's threads, never from within a call to the cluster.
    public init(
        settings: ClusterSettings, logger: Logger, changed: @escaping @Sendable (Cluster.Change) -> Void
    ) {
        self.settings = settings
        self.cluster = Cluster()
    }

    /// Starts the threads.
    public func start() {}

    /// Lets the threads end; returns at once. `changed` is not called any more afterwards.
    public func stop() {}

    /// Reads the catalogue of a database from the primary, now, after each `refreshCatalogue`, and every few minutes.
    ///
    /// - Parameter changed: called from a thread of the monitor with each catalogue that differs from the last one;
    ///   the lists of patterns in it are empty.
    public func watchCatalogue(of database: String, changed: @escaping @Sendable (Catalogue) -> Void) {}

    /// DDL has passed through: the catalogue of this database is read anew soon.
    public func refreshCatalogue(of database: String) {}

    /// The catalogue of this database is of no interest any more.
    public func forgetCatalogue(of database: String) {}
}
