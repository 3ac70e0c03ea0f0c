public import Settings
public import Synchronization

/// What a client has written and read, as far as it says which replicas are too old for it.
///
/// - A write is covered by every sample that was begun after it, so with a number above the generation in hand when the
///   write was over (`Cluster.samples`): a replica may serve the client when it has caught up to such a one.
/// - A read from a node demands the same of all other nodes, and of that one if it was started again since: what a client
///   sees never goes back.
///
/// An object, because a copy of it for each read would count four references.
public final class Causality {
    /// The oldest sample that a replica must have caught up to because of writes; 0 is any state.
    private var needed: UInt64 = 0
    private var writtenAt: Int64 = .min
    /// The same because of reads, for every node but `readNode`.
    private var neededElsewhere: UInt64 = 0
    private var readNode: ObjectIdentifier?
    /// The position that the client has asked for (`SET martlet.min_lsn`); 0 is none.
    public var minimumPosition: UInt64 = 0
    /// What all connections with its session key have in common: they are one client.
    public private(set) var key: SharedCausality?
    /// What all clients of its user, and all of its database have in common. They are told of its writes in any case: who
    /// reads decides whether they count for it.
    public private(set) var user: SharedCausality?
    public private(set) var database: SharedCausality?
    /// The one of the two whose writes count for it beside its own.
    private var circle: SharedCausality?

    public init() {}

    /// What the client has in common with others from now on.
    ///
    /// - Parameter scope: whose writes count for it.
    public func join(
        key: SharedCausality?, user: SharedCausality?, database: SharedCausality?, scope: ReadAfterWriteScope
    ) {
        self.key = key
        self.user = user
        self.database = database
        self.circle =
            switch scope {
            case .client: nil
            case .user: user
            case .database: database
            }
    }

    /// A write is over: its reply is on its way to the client.
    ///
    /// - Parameter generation: the sample in hand, which may have been taken before the write.
    public func wrote(generation: UInt64, now: Int64) {
        self.needed = generation + 1
        self.writtenAt = now
        self.key?.wrote(needed: generation + 1, now: now)
        self.user?.wrote(needed: generation + 1, now: now)
        self.database?.wrote(needed: generation + 1, now: now)
    }

    /// A read from a node is over.
    public func read(from node: Node, generation: UInt64) {
        self.neededElsewhere = generation + 1
        self.readNode = ObjectIdentifier(node)
        self.key?.read(from: node, needed: generation + 1)
    }

    /// Why a node may not serve the client.
    public enum Obstacle: Sendable { case write, read }

    /// Whether a write lies so short a time back that reads stay on the primary.
    public func isWithinWindow(_ window: Microseconds, now: Int64) -> Bool {
        guard window > 0 else { return false }
        let key = self.key?.writtenAt.load(ordering: .relaxed) ?? .min
        let circle = self.circle?.writtenAt.load(ordering: .relaxed) ?? .min
        let last = max(self.writtenAt, key, circle)
        return last != .min && now - last < window
    }

    /// Whether a replica that was chosen for the client before may serve it still: meanwhile others may have written whose
    /// writes count for it.
    ///
    /// - Parameter window: what holds with the mode (`RoutingSettings.window`).
    public func mayStay(on node: Node, mode: ReadAfterWrite, window: Microseconds, now: Int64) -> Bool {
        !self.isWithinWindow(window, now: now) && self.obstacle(node, mode: mode) == nil
    }

    /// Why a replica may not serve the client now; nil if it may.
    @inline(__always)
    public func obstacle(_ node: Node, mode: ReadAfterWrite) -> Obstacle? {
        if self.minimumPosition > 0 && node.position.load(ordering: .relaxed) < self.minimumPosition { return .write }
        guard mode == .lsn else { return nil }
        let caughtUp = node.caughtUp.load(ordering: .acquiring)
        if caughtUp < self.needed { return .write }
        if let circle = self.circle, caughtUp < circle.needed.load(ordering: .acquiring) { return .write }
        if let key = self.key {
            if caughtUp < key.needed.load(ordering: .acquiring) { return .write }
            if !key.mayRead(from: node, caughtUp: caughtUp) { return .read }
        }
        guard caughtUp < self.neededElsewhere else { return nil }
        let isSame = self.readNode == ObjectIdentifier(node)
        return isSame && self.neededElsewhere > node.knownSince.load(ordering: .acquiring) ? nil : .read
    }
}

/// What several connections have in common, perhaps on several reactors: their writes, and under a session key what they
/// have read.
public final class SharedCausality: Sendable {
    /// The oldest sample that a replica must have caught up to because of writes; 0 is any state.
    public let needed: Atomic<UInt64>
    /// When the last write was over (monotonic microseconds, up to a millisecond later than it was); `.min` is never.
    public let writtenAt = Atomic<Int64>(.min)

    private struct Read {
        var needed: UInt64 = 0
        var node: ObjectIdentifier?
    }
    private let lastRead = Mutex(Read())
    /// `lastRead.needed`, for those that have caught up to it: no lock for them.
    private let neededElsewhere = Atomic<UInt64>(0)

    /// - Parameter needed: what the first read needs, when nobody knows whether there were writes before.
    public init(needed: UInt64 = 0) { self.needed = Atomic(needed) }

    func wrote(needed: UInt64, now: Int64) {
        // Everybody writes here: what says nothing new is not written, so that the threads do not wait for each other.
        if self.needed.load(ordering: .relaxed) < needed { self.needed.max(needed, ordering: .acquiringAndReleasing) }
        if self.writtenAt.load(ordering: .relaxed) < now { self.writtenAt.max(now + 1_000, ordering: .relaxed) }
    }

    func read(from node: Node, needed: UInt64) {
        self.lastRead.withLock { read in
            // Two connections of one client may read from two nodes at once: no node is exempt then.
            let isSame = read.needed == 0 || read.node == ObjectIdentifier(node)
            read.node = isSame || needed > read.needed ? ObjectIdentifier(node) : nil
            read.needed = Swift.max(read.needed, needed)
            self.neededElsewhere.store(read.needed, ordering: .releasing)
        }
    }

    func mayRead(from node: Node, caughtUp: UInt64) -> Bool {
        if caughtUp >= self.neededElsewhere.load(ordering: .acquiring) { return true }
        return self.lastRead.withLock { read in
            if caughtUp >= read.needed { return true }
            return read.node == ObjectIdentifier(node) && read.needed > node.knownSince.load(ordering: .acquiring)
        }
    }
}
