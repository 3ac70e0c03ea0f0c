import Routing
import Settings
import Synchronization

/// A node as the control plane would have published it.
func node(
    _ name: String, _ role: Node.Role = .replica, caughtUp: UInt64 = 0, takesReads: Bool? = nil, isUp: Bool = true
) -> Node {
    let node = Node(host: name, port: 5432, address: nil)
    node.setRole(role)
    node.isUp.store(isUp, ordering: .relaxed)
    node.takesReads.store(takesReads ?? (role == .replica && isUp), ordering: .relaxed)
    node.caughtUp.store(caughtUp, ordering: .relaxed)
    return node
}

/// A balancer of these nodes, with a weight for each or none.
func balancer(_ nodes: [Node], _ method: LoadBalance = .roundRobin, weights: [Int] = [], seed: UInt64 = 1) -> Balancer {
    var balancer = Balancer(method: method, seed: seed)
    balancer.setNodes(nodes, weights: given(weights, to: nodes))
    return balancer
}

func given(_ weights: [Int], to nodes: [Node]) -> [HostAddress: Int] {
    Dictionary(uniqueKeysWithValues: zip(nodes.map(\.place), weights))
}

func settings(_ change: (inout DatabaseSettings) -> Void = { _ in }) -> RoutingSettings {
    var database = DatabaseSettings(name: "app")
    database.routing = .split
    change(&database)
    return RoutingSettings(database: database, general: GeneralSettings())
}
