public import Settings
public import Synchronization

/// A primary and its replicas, as all threads see them.
///
/// The control plane (`ClusterMonitor` in Topology) writes; reactors read, and say what they need by `needSamples` and
/// `suspect`.
public final class Cluster: Sendable {
    /// Something that sessions wait for may be otherwise now.
    public enum Change: Sendable {
        /// Roles, health, the list of nodes, or who takes reads.
        case nodes
        /// A replica has caught up to a newer sample; told only while `waiters` is not 0.
        case progress
    }

    /// Where the numbers of samples come from. A sample's number is handed out *before* the primary is asked for its
    /// position; so a write that was finished when the last number was g is covered by every sample above g.
    public let samples: SampleNumbers
    /// Sessions that wait for a replica to catch up.
    public let waiters = Atomic<Int>(0)
    /// Monotonic microseconds when somebody last needed samples soon.
    public let neededAt = Atomic<Int64>(0)

    private struct State {
        var nodes: [Node] = []
        var unresolved: Set<HostAddress> = []
        var wake: (@Sendable () -> Void)?
        var suspected: (@Sendable (Node) -> Void)?
    }
    private let state = Mutex(State())

    /// A cluster without nodes.
    public init(samples: SampleNumbers) { self.samples = samples }

    /// The number of the sample that was begun last.
    public var generation: UInt64 { self.samples.last }

    /// The nodes, in the order of the file. Changes when a host name's addresses change, or the file.
    public var nodes: [Node] { self.state.withLock { $0.nodes } }

    /// The node that takes writes.
    public var primary: Node? { self.nodes.first { $0.role == .primary && $0.isUp.load(ordering: .relaxed) } }

    /// Hosts whose names are being looked up for the first time: which nodes they are is not known yet.
    public var unresolved: Set<HostAddress> { self.state.withLock { $0.unresolved } }

    /// For the control plane.
    public func setNodes(_ nodes: [Node], unresolved: Set<HostAddress> = []) {
        self.state.withLock {
            $0.nodes = nodes
            $0.unresolved = unresolved
        }
    }

    /// For the control plane: `wake` is called (from any thread; must not block) when samples are needed soon after a
    /// time in which they were not, `suspected` when a node seems to be in trouble and should be looked at at once.
    public func onNeed(wake: @escaping @Sendable () -> Void, suspected: @escaping @Sendable (Node) -> Void) {
        self.state.withLock {
            $0.wake = wake
            $0.suspected = suspected
        }
    }

    /// A client is kept from the replicas by a write of its own: samples are taken every `sampleInterval` for a while.
    public func needSamples(now: Int64) {
        let last = self.neededAt.load(ordering: .relaxed)
        // Once in a few milliseconds is often enough to say it.
        guard now - last > 5_000 else { return }
        self.neededAt.store(now, ordering: .relaxed)
        if now - last > Self.needTime { self.state.withLock { $0.wake }?() }
    }

    /// How long samples are taken often after somebody has needed them, microseconds.
    public static let needTime: Int64 = 500_000

    /// A connection to the node has failed, or a "primary" has refused a write (25006).
    public func suspect(_ node: Node) { self.state.withLock { $0.suspected }?(node) }
}
