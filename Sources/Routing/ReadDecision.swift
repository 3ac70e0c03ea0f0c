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
    ///   - avoided: a node that has just failed this read.
    public mutating func decide(
        _ causality: Causality, mode: ReadAfterWrite, settings: RoutingSettings, insists: Bool, avoided: Node?,
        now: Int64
    ) -> ReadDecision {
        if !insists && mode != .off && causality.isWithinWindow(settings.window, now: now) {
            return .primary(.ownWrite)
        }
        let alwaysPrimary = settings.primaryReads == .always && !insists
        var obstacle: Causality.Obstacle?
        var isBehind = false
        var hasReplica = false
        let chosen = self.choose(now: now) { node in
            guard node !== avoided else { return false }
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
            guard let found = causality.obstacle(node, mode: mode) else { return true }
            if obstacle != .write { obstacle = found }
            return false
        }
        if let chosen {
            return chosen.node.role == .primary ? .primary(.balance) : .node(chosen)
        }
        if insists && hasReplica {
            let any = self.choose(now: now) {
                $0 !== avoided && $0.role == .replica && $0.takesReads.load(ordering: .relaxed)
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
