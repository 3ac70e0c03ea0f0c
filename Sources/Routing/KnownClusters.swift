public import Synchronization

/// What the process knows of all clusters that it has watched. Each monitor tells what it sees and hears what others see;
/// what is told goes into the state file, if there is one.
///
/// Two clusters can have one system identifier, when one was made from a copy of the other's data. So a cluster is known by
/// its servers: where they listen, or when they were started.
public final class KnownClusters: Sendable {
    /// A cluster, as it is known or as a monitor sees it.
    public struct Cluster: Sendable, Equatable {
        public var memory = ClusterMemory()
        /// Where its servers listen: `host:port`, by name and by address.
        public var places: Set<String> = []
        /// When each server was started, by its name: `pg_postmaster_start_time()` in seconds since 1970, as text.
        public var starts: [String: String] = [:]
        /// Entries of `[databases]` that have led there.
        public var databases: Set<String> = []

        public init() {}

        /// Whether these are servers of one cluster. An identifier that is not known may be any.
        public func isSame(as other: Cluster) -> Bool {
            if let own = self.memory.systemIdentifier, let its = other.memory.systemIdentifier, own != its {
                return false
            }
            guard self.places.isDisjoint(with: other.places) else { return true }
            return self.memory.systemIdentifier != nil
                && self.memory.systemIdentifier == other.memory.systemIdentifier
                && !Set(self.starts.values).isDisjoint(with: other.starts.values)
        }

        /// Adds what another knows or sees.
        mutating func take(over other: Cluster) {
            self.memory.take(over: other.memory)
            self.places.formUnion(other.places)
            self.starts.merge(other.starts) { _, new in new }
            self.databases.formUnion(other.databases)
        }
    }

    /// Of more clusters those are forgotten that nobody has watched for longest, and all of the places of one that has
    /// had more than so many.
    static let mostClusters = 1000
    static let mostPlaces = 256

    /// Rises whenever something is known that was not before.
    public let version = Atomic<UInt64>(0)

    private struct State {
        /// Those that were told of last stand at the end.
        var clusters: [Cluster] = []
        var changed: (@Sendable () -> Void)?
    }
    private let state = Mutex(State())

    /// - Parameter clusters: what is known already.
    public init(_ clusters: [Cluster] = []) { self.state.withLock { $0.clusters = clusters } }

    /// All, those that were told of last at the end.
    public var all: [Cluster] { self.state.withLock { $0.clusters } }

    /// What was known before this process.
    public func restore(_ clusters: [Cluster]) { self.state.withLock { $0.clusters = clusters } }

    /// `changed` is called after each change, from any thread; it must not block.
    public func onChange(_ changed: @escaping @Sendable () -> Void) { self.state.withLock { $0.changed = changed } }

    /// What is known of a cluster that somebody begins to watch; nil if nothing is.
    ///
    /// Servers that all have other names now are recognised by the database that leads there, if they have the same
    /// identifier.
    public func recall(_ seen: Cluster) -> ClusterMemory? {
        self.state.withLock { state in
            let known =
                state.clusters.last { $0.isSame(as: seen) }
                ?? state.clusters.last {
                    $0.memory.systemIdentifier != nil && $0.memory.systemIdentifier == seen.memory.systemIdentifier
                        && !$0.databases.isDisjoint(with: seen.databases)
                }
            return known?.memory
        }
    }

    /// The highest timeline that anybody has seen of this cluster.
    public func highestTimeline(of seen: Cluster) -> UInt32 {
        self.state.withLock { state in
            state.clusters.lazy.filter { $0.isSame(as: seen) }.map(\.memory.highestTimeline).max() ?? 0
        }
    }

    /// Takes in what a monitor sees of its servers. Of those it is the authority, of others it says nothing.
    public func tell(_ seen: Cluster) {
        let changed = self.state.withLock { state -> (@Sendable () -> Void)? in
            let before = state.clusters.last { $0.isSame(as: seen) }
            var cluster = seen
            for known in state.clusters.reversed() where known.isSame(as: seen) {
                var known = known
                // Servers that were fenced, and are none of those that are any more.
                for server in seen.starts.keys where seen.memory.fenced[server] == nil { known.memory.free(server) }
                let primary = seen.memory.highestTimeline >= known.memory.highestTimeline ? seen.memory.primary : nil
                known.take(over: cluster)
                known.memory.primary = primary ?? known.memory.primary
                for (server, timeline) in seen.memory.fenced { known.memory.fence(server, on: timeline) }
                cluster = known
            }
            if cluster.places.count > Self.mostPlaces { cluster.places = seen.places }
            if cluster.starts.count > Self.mostPlaces { cluster.starts = seen.starts }
            if cluster.databases.count > Self.mostPlaces { cluster.databases = seen.databases }
            state.clusters.removeAll { $0.isSame(as: seen) }
            state.clusters.append(cluster)
            if state.clusters.count > Self.mostClusters { state.clusters.removeFirst() }
            guard cluster != before else { return nil }
            self.version.add(1, ordering: .acquiringAndReleasing)
            return state.changed ?? {}
        }
        changed?()
    }

    /// Forgets a cluster.
    public func forget(_ seen: Cluster) {
        let changed = self.state.withLock { state in
            state.clusters.removeAll { $0.isSame(as: seen) }
            self.version.add(1, ordering: .acquiringAndReleasing)
            return state.changed
        }
        changed?()
    }
}
