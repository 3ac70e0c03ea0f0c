import Reactor
import Routing
import SQL
import Settings
import Synchronization
import Wire

// Routed databases for the console.
extension Proxy {
    public func nodes() async -> [NodeStatus] {
        let loads = await self.gather { worker in
            worker.routers.mapValues { router in
                Dictionary(
                    router.balancer.loads.map {
                        ($0.node.name, NodeShare(inFlight: $0.inFlight, latency: $0.latency, weight: $0.weight))
                    }
                ) { first, _ in first }
            }
        }
        let settings = self.configuration.settings
        return self.routers.all.sorted { $0.database < $1.database }.flatMap { router in
            let hosts = settings.database(named: router.database)?.hosts ?? []
            return router.cluster.nodes.sorted(by: hosts).map { node in
                NodeStatus(node, in: router.database, loads.compactMap { $0[router.database]?[node.name] })
            }
        }
    }

    /// What one reactor knows of a node.
    struct NodeShare: Sendable {
        let inFlight: Int
        let latency: Double
        let weight: Int
    }

    public func routes() async -> [RouteStatus] {
        var totals: [String: (mode: RoutingMode, counters: RouteCounters)] = [:]
        let parts = await self.gather { worker in
            worker.routers.mapValues { router in
                // A sum of its own: an array that is read elsewhere would be copied when the next query is counted.
                var counters = RouteCounters()
                counters += router.counters
                return (mode: router.settings.routing, counters: counters)
            }
        }
        for (name, part) in parts.flatMap({ $0 }) {
            totals[name, default: (part.mode, RouteCounters())].counters += part.counters
        }
        return totals.sorted { $0.key < $1.key }.map { name, total in
            var status = RouteStatus(database: name, mode: total.mode)
            let counters = total.counters
            status.replicaReads = counters.replicaReads
            status.kept = ReadDecision.Reason.allCases.map { ($0.word, counters.kept[$0.rawValue]) }
            status.writes = counters.writes
            status.reruns = counters.reruns
            status.retries = counters.retries
            status.promotions = counters.promotions
            status.unparsed = counters.unparsed
            status.notParsed = counters.notParsed
            return status
        }
    }

    public func explainRoute(_ statement: [UInt8], database: String?) async throws(ConsoleError) -> RouteExplanation {
        let names = self.routers.all.map(\.database).sorted()
        guard let name = database ?? (names.count == 1 ? names.first : nil) else {
            throw ConsoleError(
                names.isEmpty
                    ? "no database is routed (routing=split)"
                    : "EXPLAIN ROUTE FOR <database> <statement>: one of \(names.joined(separator: ", "))",
                sqlState: SQLState.undefinedObject)
        }
        guard names.contains(name), let settings = self.configuration.settings.database(named: name) else {
            throw ConsoleError("database \"\(name)\" is not routed", sqlState: SQLState.undefinedObject)
        }
        let isSession = self.configuration.settings.effectivePoolMode(database: settings, user: "") == .session
        return await self.reactors[0].run { worker in
            guard let router = worker.router(settings) else {
                return RouteExplanation(statementClass: "", reason: "", node: "", because: "not routed any more")
            }
            return router.explain(statement, isSession: isSession, now: worker.now)
        }
    }
}

extension Router {
    /// What would become of a statement now, from a client that has neither written nor read anything yet.
    ///
    /// - Parameter isSession: the database's pool mode is session.
    func explain(_ statement: [UInt8], isSession: Bool, now: MonotonicTime) -> RouteExplanation {
        let result = self.classifier.classify(statement.span, standardConformingStrings: true)
        let isOutdated = self.isOutdated(result.statementClass)
        let statementClass = isOutdated ? result.statementClass.behindDDL : result.statementClass
        func explanation(_ node: NodeLoad?, _ because: String) -> RouteExplanation {
            RouteExplanation(
                statementClass: statementClass.kind.word, reason: statementClass.reason,
                node: node?.node.description ?? "", because: because)
        }
        func onPrimary(_ because: String) -> RouteExplanation {
            let primary = self.primary(now: now)
            return explanation(primary, primary == nil ? "\(because); there is no primary now" : because)
        }
        let isSplit = self.settings.routing == .split
        let isRead = statementClass.kind == .read && statementClass.transaction == nil
        if self.settings.routing == .primary { return onPrimary("routing=primary") }
        if isSplit, statementClass.namesSettings, let command = RouterCommand(statement.span),
            command.positionColumn == nil
        {
            switch command.content {
            case .statements: return explanation(nil, "a command to Martlet, which answers it itself")
            case .refused(let reason): return explanation(nil, "an error: \(reason)")
            case .suspected: break
            }
        }
        if isSplit && isSession { return onPrimary("pool_mode=session: a session stays on the primary") }
        if isSplit && result.override == .primary { return onPrimary(ReadDecision.Reason.override.text) }
        if isSplit && !isRead && result.override != .replica {
            if statementClass.transaction != nil && self.settings.transactionRouting != .primary {
                return explanation(nil, "its transaction goes where its first statement goes")
            }
            return onPrimary(ReadDecision.Reason.statement.text)
        }
        let insists = result.override == .replica || !isSplit
        let decision = self.decide(ClientRoute(router: self), insists: insists, now: now)
        switch decision {
        case .node(let load): return explanation(load, "a replica that is up and near enough")
        case .primary(let reason): return onPrimary(reason.text)
        }
    }
}

extension StatementClass.Kind {
    var word: String {
        switch self {
        case .read: "read"
        case .primary: "primary"
        case .write: "write"
        }
    }
}

extension ReadDecision.Reason {
    /// As a column's name.
    var word: String {
        switch self {
        case .ownWrite: "own_write"
        case .earlierRead: "earlier_read"
        case .lag: "lag"
        case .noReplica: "no_replica"
        case .transaction: "transaction"
        case .statement: "statement"
        case .override: "override"
        case .balance: "balance"
        }
    }

    /// For people.
    var text: String {
        switch self {
        case .ownWrite: "no replica has caught up to the client's own writes"
        case .earlierRead: "no other replica has caught up to what the client has read"
        case .lag: "every replica is further behind than max_replica_lag"
        case .noReplica: "no replica is up"
        case .transaction: "part of a transaction on the primary"
        case .statement: "only the primary may run it"
        case .override: "the client asked for the primary"
        case .balance: "primary_reads=always: the primary's turn"
        }
    }
}

extension NodeStatus {
    init(_ node: Node, in database: String, _ shares: [Proxy.NodeShare]) {
        self.init(database: database, host: node.host, port: node.port)
        let isUp = node.isUp.load(ordering: .relaxed)
        self.address = node.address ?? ""
        self.role = "\(node.role)"
        self.state =
            !isUp ? "down" : node.role == .replica && !node.takesReads.load(ordering: .relaxed) ? "lagging" : "up"
        self.timeline = node.timeline.load(ordering: .relaxed)
        self.position = node.position.load(ordering: .relaxed)
        let lag = node.lag.load(ordering: .relaxed)
        self.lag = node.role == .replica && lag != .max ? lag : nil
        self.lagBytes = node.lagBytes.load(ordering: .relaxed)
        self.caughtUp = node.caughtUp.load(ordering: .relaxed)
        self.weight = shares.first?.weight ?? 1
        self.inFlight = shares.reduce(0) { $0 + $1.inFlight }
        let latencies = shares.map(\.latency).filter { $0 > 0 }
        self.error = node.refusal ?? ""
        self.latency = latencies.isEmpty ? 0 : Int64(latencies.reduce(0, +) / Double(latencies.count))
    }
}
