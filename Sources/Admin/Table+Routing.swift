import Proxy
import Settings
import Wire

// SHOW NODES, SHOW ROUTES and EXPLAIN ROUTE, which PgBouncer does not have.
extension Table {
    /// Times in microseconds, positions as PostgreSQL writes them.
    static func nodes(_ nodes: [NodeStatus]) -> Table {
        var table = Table([
            .text("database"), .text("host"), .int4("port"), .text("addr"), .text("role"), .text("state"),
            .int4("timeline"), .text("lsn"), .int8("lag_us"), .int8("lag_bytes"), .int8("caught_up"), .int4("weight"),
            .int4("in_flight"), .int8("latency_us"), .text("error"),
        ])
        for node in nodes {
            let high = String(node.position >> 32, radix: 16, uppercase: true)
            let low = String(node.position & 0xffff_ffff, radix: 16, uppercase: true)
            table.add([
                node.database, node.host, .int4(node.port), node.address, node.role, node.state,
                .int4(Int(node.timeline)), "\(high)/\(low)", node.lag.map { String($0) },
                String(Int64(clamping: node.lagBytes)), String(Int64(clamping: node.caughtUp)), .int4(node.weight),
                .int4(node.inFlight), String(node.latency), node.error,
            ])
        }
        return table
    }

    /// Counters since start.
    static func routes(_ routes: [RouteStatus], reasons: [String]) -> Table {
        var table = Table(
            [.text("database"), .text("routing"), .int8("replica_reads")] + reasons.map { .int8("primary_\($0)") }
                + [
                    .int8("writes"), .int8("reruns"), .int8("retries"), .int8("promotions"), .int8("unparsed"),
                    .int8("not_parsed"),
                ])
        for route in routes {
            let kept = reasons.map { reason in route.kept.first { $0.reason == reason }?.count ?? 0 }
            let numbers =
                [route.replicaReads] + kept
                + [route.writes, route.reruns, route.retries, route.promotions, route.unparsed, route.notParsed]
            table.add([route.database, route.mode.rawValue] + numbers.map { String(Int64(clamping: $0)) })
        }
        return table
    }

    static func explanation(_ explanation: RouteExplanation) -> Table {
        var table = Table([.text("class"), .text("reason"), .text("node"), .text("because")])
        table.add([explanation.statementClass, explanation.reason, explanation.node, explanation.because])
        return table
    }
}
