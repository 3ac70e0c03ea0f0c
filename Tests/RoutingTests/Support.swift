import Routing
import Settings
import Synchronization

/// A node as the control plane would have published it.
func node(
    _ name: String, _ role: Node.Role = .replica, caughtUp: UInt64 = 0, takesReads: Bool? = nil, isUp: Bool = true,
    index: Int = 0
) -> Node {
    let node = Node(host: name, port: 5432, address: nil, index: index)
    node.setRole(role)
    node.isUp.store(isUp, ordering: .relaxed)
    node.takesReads.store(takesReads ?? (role == .replica && isUp), ordering: .relaxed)
    node.caughtUp.store(caughtUp, ordering: .relaxed)
    return node
}

/// A balancer of these nodes.
func balancer(_ nodes: [Node], _ method: LoadBalance = .roundRobin, weights: [Int] = [], seed: UInt64 = 1) -> Balancer {
    var balancer = Balancer(method: method, seed: seed)
    balancer.setNodes(nodes, weights: weights)
    return balancer
}

func settings(_ change: (inout DatabaseSettings) -> Void = { _ in }) -> RoutingSettings {
    var database = DatabaseSettings(name: "app")
    database.routing = .split
    change(&database)
    return RoutingSettings(database: database, general: GeneralSettings())
}
