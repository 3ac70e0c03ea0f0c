public import Settings
public import Synchronization

/// What a client has written and read, as far as it says which replicas are too old for it.
///
/// - A write is covered by every sample that was begun after it, so with a number above the generation in hand when the
///   write was over (`Cluster.samples`): a replica may serve the client when it has caught up to such a one.
/// - A read from a node demands the same of all other nodes, and of that one if it was started again since: what a client
///   sees never goes back.
public struct Causality: Sendable {
    /// The oldest sample that a replica must have caught up to because of writes; 0 is any state.
    private var needed: UInt64 = 0
    private var writtenAt: Int64 = .min
    /// The same because of reads, for every node but `readNode`.
    private var neededElsewhere: UInt64 = 0
    private var readNode: ObjectIdentifier?
    /// The position that the client has asked for (`SET martlet.min_lsn`); 0 is none.
    public var minimumPosition: UInt64 = 0
    /// What it has in common with others: of its user, database or session key.
    public var shared: SharedCausality?

    public init() {}

    /// A write is over: its reply is on its way to the client.
    ///
    /// - Parameter generation: the sample in hand, which may have been taken before the write.
    public mutating func wrote(generation: UInt64, now: Int64) {
        self.needed = generation + 1
        self.writtenAt = now
        self.shared?.wrote(needed: generation + 1, now: now)
    }

    /// A read from a node is over.
    public mutating func read(from node: Node, generation: UInt64) {
        self.neededElsewhere = generation + 1
        self.readNode = ObjectIdentifier(node)
        if let shared = self.shared, shared.sharesReads { shared.read(from: node, needed: generation + 1) }
    }

    /// Why a node may not serve the client.
    public enum Obstacle: Sendable { case write, read }

    /// Whether a write lies so short a time back that reads stay on the primary.
    public func isWithinWindow(_ window: Microseconds, now: Int64) -> Bool {
        guard window > 0 else { return false }
        let last = max(self.writtenAt, self.shared?.writtenAt.load(ordering: .relaxed) ?? .min)
        return last != .min && now - last < window
    }

    /// Why a replica may not serve the client now; nil if it may.
    public func obstacle(_ node: Node, mode: ReadAfterWrite) -> Obstacle? {
        if self.minimumPosition > 0 && node.position.load(ordering: .relaxed) < self.minimumPosition { return .write }
        guard mode == .lsn else { return nil }
        let caughtUp = node.caughtUp.load(ordering: .acquiring)
        if caughtUp < self.needed { return .write }
        if let shared = self.shared {
            if caughtUp < shared.needed.load(ordering: .acquiring) { return .write }
            if shared.sharesReads && !shared.mayRead(from: node, caughtUp: caughtUp) { return .read }
        }
        guard caughtUp < self.neededElsewhere else { return nil }
        let isSame = self.readNode == ObjectIdentifier(node)
        return isSame && self.neededElsewhere > node.knownSince.load(ordering: .acquiring) ? nil : .read
    }
}

/// Writes that several connections have in common, perhaps on several reactors.
public final class SharedCausality: Sendable {
    /// The oldest sample that a replica must have caught up to; 0 is any state.
    public let needed = Atomic<UInt64>(0)
    /// When the last write was over (monotonic microseconds); `.min` is never.
    public let writtenAt = Atomic<Int64>(.min)
    /// Connections with one session key are one client: their reads count as well.
    let sharesReads: Bool

    private struct Read {
        var needed: UInt64 = 0
        var node: ObjectIdentifier?
    }
    private let lastRead = Mutex(Read())

    /// - Parameter needed: what the first read needs, when nobody knows whether there were writes before.
    public init(sharesReads: Bool, needed: UInt64 = 0) {
        self.sharesReads = sharesReads
        self.needed.store(needed, ordering: .relaxed)
    }

    /// Needs all that another one needs.
    public func take(over other: SharedCausality) {
        self.wrote(
            needed: other.needed.load(ordering: .acquiring), now: other.writtenAt.load(ordering: .relaxed))
        // What was read was read from one of its nodes, or is known to none of the new ones.
        let read = other.lastRead.withLock { $0.needed }
        if read > 0 { self.lastRead.withLock { $0 = Read(needed: max($0.needed, read), node: nil) } }
    }

    func wrote(needed: UInt64, now: Int64) {
        self.needed.max(needed, ordering: .acquiringAndReleasing)
        self.writtenAt.max(now, ordering: .relaxed)
    }

    func read(from node: Node, needed: UInt64) {
        self.lastRead.withLock { read in
            // Two connections of one client may read from two nodes at once: no node is exempt then.
            let isSame = read.needed == 0 || read.node == ObjectIdentifier(node)
            read.node = isSame || needed > read.needed ? ObjectIdentifier(node) : nil
            read.needed = Swift.max(read.needed, needed)
        }
    }

    func mayRead(from node: Node, caughtUp: UInt64) -> Bool {
        self.lastRead.withLock { read in
            if caughtUp >= read.needed { return true }
            return read.node == ObjectIdentifier(node) && read.needed > node.knownSince.load(ordering: .acquiring)
        }
    }
}
