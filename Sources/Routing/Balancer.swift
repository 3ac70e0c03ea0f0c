public import Settings
import Synchronization

/// What one reactor knows of a node beside what the control plane publishes.
public final class NodeLoad {
    public let node: Node
    /// Its place among the balancer's nodes.
    public internal(set) var position: Int
    public internal(set) var weight: Int
    /// Clients that are linked to it or wait for a connection to it.
    public var inFlight = 0
    /// Moving average of the time to the end of an answer, microseconds; 0 before the first.
    public private(set) var latency: Double = 0
    /// A connection to it has failed: until then others are preferred.
    public var suspectUntil: Int64 = 0
    /// Requests that it is owed by its share of them: below 0 when it has had more. For `round_robin` in shares.
    var credit: Double = 0

    init(node: Node, position: Int, weight: Int) {
        self.node = node
        self.position = position
        self.weight = weight
    }

    /// An answer has come, that long after its request.
    public func answered(after time: Microseconds) {
        let time = Double(time)
        self.latency = self.latency == 0 ? time : self.latency * 0.9 + time * 0.1
    }
}

/// Spreads reads over the nodes that may take them.
public struct Balancer {
    /// How long the share of a node that has come back grows, microseconds.
    static let slowStart = 20_000_000.0

    /// The most that a node is owed, or owes, with `least_connections`, requests.
    static let mostCredit = 2.0

    public private(set) var loads: [NodeLoad] = []
    public var method: LoadBalance {
        didSet { if self.method != oldValue { for load in self.loads { load.credit = 0 } } }
    }
    private var random: UInt64
    /// Reads that could not go to every node because of what their client has read before.
    var confinements = 0

    /// - Parameter seed: any number.
    public init(method: LoadBalance, seed: UInt64) {
        self.method = method
        self.random = seed | 1
    }

    /// Takes over a list of nodes; those that stay keep what is known of them.
    ///
    /// - Parameter weights: of the hosts of the configuration; of one that is not in here it is 1.
    public mutating func setNodes(_ nodes: [Node], weights: [HostAddress: Int]) {
        self.loads = nodes.enumerated().map { position, node in
            let weight = weights[node.place] ?? 1
            if let known = self.loads.first(where: { $0.node === node }) {
                known.position = position
                known.weight = weight
                return known
            }
            return NodeLoad(node: node, position: position, weight: weight)
        }
    }

    /// Chooses one of the nodes that fit; nil when none does. A node of weight 0 is taken only if no other fits, and so
    /// is one whose last connection has failed.
    @inline(__always)
    public mutating func choose(now: Int64, where fits: (borrowing Node) -> Bool) -> NodeLoad? {
        self.choose(among: self.candidates(now: now, where: fits), now: now)
    }

    private mutating func choose(among candidates: Candidates, now: Int64) -> NodeLoad? {
        guard let only = candidates.first else { return nil }
        guard candidates.count > 1 else { return self.loads[only] }
        switch self.method {
        case .leastConnections: return self.leastConnections(candidates, now)
        case .roundRobin: return self.roundRobin(candidates, now)
        case .random: return self.weighted(candidates, now)
        case .latency:
            let (one, other) = (self.weighted(candidates, now), self.weighted(candidates, now))
            return one.latency <= other.latency ? one : other
        }
    }

    @inline(__always)
    private func candidates(now: Int64, where fits: (borrowing Node) -> Bool) -> Candidates {
        var candidates = Candidates()
        // Looked at in place: to take an object out of an array is to count a reference to it.
        let loads = self.loads.span
        for index in loads.indices where fits(loads[index].node) {
            let isSuspect = loads[index].suspectUntil > now
            candidates.add(index, share: isSuspect ? 0 : Self.share(loads[index], now: now))
        }
        return candidates
    }

    /// The nodes that fit, one bit each; of more than 64 the first 64.
    private struct Candidates {
        private var preferred: UInt64 = 0
        private var others: UInt64 = 0
        var bits: UInt64 { self.preferred != 0 ? self.preferred : self.others }
        var count: Int { self.bits.nonzeroBitCount }
        var first: Int? { self.bits == 0 ? nil : self.bits.trailingZeroBitCount }

        mutating func add(_ index: Int, share: Double) {
            guard index < 64 else { return }
            if share > 0 { self.preferred |= 1 << UInt64(index) } else { self.others |= 1 << UInt64(index) }
        }
        func contains(_ index: Int) -> Bool { index < 64 && self.bits & 1 << UInt64(index) != 0 }
    }

    /// The weight, less while a node that has come back warms up.
    private static func share(_ load: borrowing NodeLoad, now: Int64) -> Double {
        let since = load.node.upSince.load(ordering: .relaxed)
        let weight = Double(load.weight)
        guard since > 0 else { return weight }
        return weight * min(1, max(0.1, Double(now - since) / self.slowStart))
    }

    /// A share for arithmetic: when only nodes without any are left, they are equal.
    private static func positiveShare(_ load: borrowing NodeLoad, now: Int64) -> Double {
        let share = Self.share(load, now: now)
        return share > 0 ? share : 1
    }

    /// Takes the node with the least in flight for its share. What each is owed counts with it, so that the shares also
    /// hold while there is little or nothing in flight. It counts for a request or two only: a slow node must not be made
    /// to take its share.
    private func leastConnections(_ candidates: Candidates, _ now: Int64) -> NodeLoad {
        let loads = self.loads.span
        var best = candidates.first ?? 0
        var least = Double.infinity
        var total = 0.0
        for index in loads.indices where candidates.contains(index) {
            let share = Self.positiveShare(loads[index], now: now)
            total += share
            let value = (Double(loads[index].inFlight) - loads[index].credit) / share
            if value < least {
                least = value
                best = index
            }
        }
        for index in loads.indices where candidates.contains(index) {
            let credit = loads[index].credit + Self.positiveShare(loads[index], now: now) / total
            loads[index].credit = max(-Self.mostCredit, min(Self.mostCredit, index == best ? credit - 1 : credit))
        }
        return self.loads[best]
    }

    /// Each is credited its share; who is owed most pays for all.
    private func roundRobin(_ candidates: Candidates, _ now: Int64) -> NodeLoad {
        var best = self.loads[candidates.first ?? 0]
        var total = 0.0
        for (index, load) in self.loads.enumerated() where candidates.contains(index) {
            let share = Self.positiveShare(load, now: now)
            load.credit += share
            total += share
            if load.credit > best.credit { best = load }
        }
        best.credit -= total
        return best
    }

    private mutating func weighted(_ candidates: Candidates, _ now: Int64) -> NodeLoad {
        var total = 0.0
        for (index, load) in self.loads.enumerated() where candidates.contains(index) {
            total += Self.positiveShare(load, now: now)
        }
        var rest = self.nextRandom() * total
        var last = self.loads[candidates.first ?? 0]
        for (index, load) in self.loads.enumerated() where candidates.contains(index) {
            last = load
            rest -= Self.positiveShare(load, now: now)
            if rest < 0 { return load }
        }
        return last
    }

    /// 0 ..< 1 (xorshift64*).
    private mutating func nextRandom() -> Double {
        self.random ^= self.random >> 12
        self.random ^= self.random << 25
        self.random ^= self.random >> 27
        return Double((self.random &* 0x2545_F491_4F6C_DD1D) >> 11) / Double(1 << 53)
    }
}
