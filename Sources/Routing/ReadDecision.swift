public import Settings
import Synchronization

/// Where a read goes, and why it is kept from the replicas.
public enum ReadDecision {
    case node(NodeLoad)
    case primary(Reason)

    /// Why a statement runs on the primary; what SHOW ROUTES counts.
    public enum Reason: Int, Sendable, CaseIterable {
        /// No replica has caught up to what the client, or somebody of its scope, has written.
        case ownWrite
        /// The client has read a newer state than the replica that is left has.
        case earlierRead
        /// There are replicas, but they are too far behind.
        case lag
        case noReplica
        case transaction
        /// The statement's class.
        case statement
        /// The client asked for it.
        case override
        /// `primary_reads=always`: it is the primary's turn.
        case balance
    }
}

extension Balancer {
    /// Finds a node for a read.
    ///
    /// - Parameters:
    ///   - insists: the client asked for a replica: one that has not caught up to its writes is better than the primary.
    ///   - avoided: nodes that have just failed this read, or would.
    /// - Returns: the decision, and whether there is a better node that has not caught up to what the client has read
    ///   (looked at now and then).
    public mutating func decide(
        _ causality: Causality, mode: ReadAfterWrite, settings: RoutingSettings, insists: Bool,
        avoided: [Node],
        now: Int64
    ) -> (ReadDecision, isConfined: Bool) {
        var obstacle: Causality.Obstacle?
        let decision = self.decide(causality, mode, settings, insists, avoided, now, &obstacle)
        guard obstacle == .read, case .node(let chosen) = decision else { return (decision, false) }
        self.confinements &+= 1
        guard self.confinements % 16 == 0 else { return (decision, false) }
        let free = self.choose(now: now) {
            !avoided.contains($0) && $0.role == .replica && $0.takesReads.load(ordering: .relaxed)
                && causality.obstacle($0, mode: mode) != .write
        }
        return (decision, free !== chosen)
    }

    private mutating func decide(
        _ causality: Causality, _ mode: ReadAfterWrite, _ settings: RoutingSettings, _ insists: Bool,
        _ avoided: [Node], _ now: Int64, _ obstacle: inout Causality.Obstacle?
    ) -> ReadDecision {
        if !insists && causality.isWithinWindow(settings.window(mode), now: now) {
            return .primary(.ownWrite)
        }
        let alwaysPrimary = settings.primaryReads == .always && !insists
        var isBehind = false
        var hasReplica = false
        var found: Causality.Obstacle?
        let chosen = self.choose(now: now) { node in
            guard !avoided.contains(node) else { return false }
            switch node.role {
            case .replica: break
            case .primary: return alwaysPrimary && node.isUp.load(ordering: .relaxed)
            case .unknown, .fenced, .foreign: return false
            }
            guard node.takesReads.load(ordering: .relaxed) else {
                if node.isUp.load(ordering: .relaxed) { isBehind = true }
                return false
            }
            hasReplica = true
            guard let its = causality.obstacle(node, mode: mode) else { return true }
            if found != .write { found = its }
            return false
        }
        obstacle = found
        if let chosen {
            return chosen.node.role == .primary ? .primary(.balance) : .node(chosen)
        }
        if insists && hasReplica {
            let any = self.choose(now: now) {
                !avoided.contains($0) && $0.role == .replica && $0.takesReads.load(ordering: .relaxed)
            }
            if let any { return .node(any) }
        }
        switch obstacle {
        case .write: return .primary(.ownWrite)
        case .read: return .primary(.earlierRead)
        case nil: return .primary(isBehind ? .lag : .noReplica)
        }
    }
}

extension [Node] {
    @inline(__always)
    fileprivate func contains(_ node: borrowing Node) -> Bool {
        if self.isEmpty { return false }
        let node = copy node
        return self.contains { $0 === node }
    }
}
