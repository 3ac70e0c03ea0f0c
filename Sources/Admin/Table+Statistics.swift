import Proxy
import Wire

// SHOW STATS and its relatives. The same twelve counters appear in four tables under different names.

extension Table {
    private static let counterNames = [
        "server_assignment_count", "xact_count", "query_count", "received", "sent", "xact_time", "query_time",
        "wait_time", "client_parse_count", "server_parse_count", "bind_count", "client_login_count",
    ]

    /// In STATS an average is `avg_recv`, while its total is `total_received`.
    private static let averageNames = Self.counterNames.map { $0 == "received" ? "avg_recv" : "avg_\($0)" }

    /// STATS_TOTALS has names without a prefix, and its bytes are called bytes.
    private static let plainNames = Self.counterNames.map {
        $0 == "received" || $0 == "sent" ? "bytes_\($0)" : $0
    }

    /// SHOW STATS.
    static func stats(
        _ totals: [String: StatisticsCounters], averages: [String: StatisticsAverages]
    ) -> Table {
        let names = Self.counterNames.map { "total_\($0)" } + Self.averageNames
        // The last column is total_query_count by its name up to PgBouncer 1.7, which Debian's exporter asks for.
        var table = Table([.text("database")] + names.map { .numeric($0) } + [.numeric("total_requests")])
        for (database, counters) in totals.sorted(by: { $0.key < $1.key }) {
            let average = averages[database]?.values ?? Array(repeating: 0, count: Self.counterNames.count)
            let values = counters.values + average + [counters.queryCount]
            table.add([database] + values.map { String($0) })
        }
        return table
    }

    /// SHOW STATS_TOTALS.
    static func statsTotals(_ totals: [String: StatisticsCounters]) -> Table {
        var table = Table([.text("database")] + Self.plainNames.map { .numeric($0) })
        for (database, counters) in totals.sorted(by: { $0.key < $1.key }) {
            table.add([database] + counters.values.map { String($0) })
        }
        return table
    }

    /// SHOW STATS_AVERAGES.
    static func statsAverages(_ averages: [String: StatisticsAverages]) -> Table {
        // Only the columns that SHOW STATS has as averages of prepared statements and logins carry the prefix here.
        let names = Self.plainNames.prefix(8) + Self.averageNames.suffix(4)
        var table = Table([.text("database")] + names.map { .numeric($0) })
        for (database, average) in averages.sorted(by: { $0.key < $1.key }) {
            table.add([database] + average.values.map { String($0) })
        }
        return table
    }

    /// SHOW TOTALS: one row for each counter, over all databases.
    static func totals(_ total: StatisticsCounters, average: StatisticsAverages) -> Table {
        let names = Self.counterNames.map { name in
            switch name {
            case "received": "client_bytes"
            case "sent": "server_bytes"
            case "client_parse_count", "server_parse_count", "bind_count": "ps_\(name)"
            default: name
            }
        }
        var table = Table([.text("name"), .numeric("value")])
        for (name, value) in zip(names, total.values) { table.add(["total_\(name)", String(value)]) }
        for (name, value) in zip(names, average.values) { table.add(["avg_\(name)", String(value)]) }
        return table
    }
}

extension StatisticsCounters {
    /// In the order of the columns.
    fileprivate var values: [UInt64] {
        [
            self.serverAssignmentCount, self.transactionCount, self.queryCount, self.received, self.sent,
            self.transactionTime, self.queryTime, self.waitTime, self.clientParseCount, self.serverParseCount,
            self.bindCount, self.clientLoginCount,
        ]
    }
}

extension StatisticsAverages {
    /// In the order of the columns.
    fileprivate var values: [UInt64] {
        [
            self.serverAssignmentCount, self.transactionCount, self.queryCount, self.received, self.sent,
            self.transactionTime, self.queryTime, self.waitTime, self.clientParseCount, self.serverParseCount,
            self.bindCount, self.clientLoginCount,
        ]
    }
}
