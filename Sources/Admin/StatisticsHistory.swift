public import Proxy
public import Settings

/// What the averages of SHOW STATS and the `stats:` log line are computed from: the totals at the last two ticks of
/// `stats_period`.
///
/// Whoever owns the clock calls `record` each `stats_period`. Averages are over the time since the tick before the
/// last one, so that they are never over a moment only.
public actor StatisticsHistory {
    private struct Snapshot {
        var time: Microseconds
        var totals: [String: StatisticsCounters]
    }

    private var older: Snapshot
    private var newer: Snapshot

    /// - Parameter start: when counting began, by the same clock as `record`; microseconds.
    public init(start: Microseconds) {
        self.newer = Snapshot(time: start, totals: [:])
        self.older = self.newer
    }

    /// Takes the totals at a tick.
    ///
    /// - Parameter time: of a clock that does not jump, microseconds.
    /// - Returns: the line to log when `log_stats` is on: averages over the period that has just ended.
    @discardableResult
    public func record(_ totals: [String: StatisticsCounters], at time: Microseconds) -> String {
        self.older = self.newer
        self.newer = Snapshot(time: time, totals: totals)
        let period = StatisticsAverages(
            since: Self.sum(self.older.totals), until: Self.sum(totals), elapsed: time - self.older.time)
        return period.logLine
    }

    /// Averages of each database up to now.
    func averages(_ totals: [String: StatisticsCounters], at time: Microseconds) -> [String: StatisticsAverages] {
        let older = self.older
        var averages: [String: StatisticsAverages] = [:]
        for (database, counters) in totals {
            averages[database] = StatisticsAverages(
                since: older.totals[database] ?? StatisticsCounters(), until: counters, elapsed: time - older.time)
        }
        return averages
    }

    /// Averages over all databases up to now.
    func overallAverages(_ totals: [String: StatisticsCounters], at time: Microseconds) -> StatisticsAverages {
        StatisticsAverages(
            since: Self.sum(self.older.totals), until: Self.sum(totals), elapsed: time - self.older.time)
    }

    static func sum(_ totals: [String: StatisticsCounters]) -> StatisticsCounters {
        totals.values.reduce(into: StatisticsCounters()) { $0 += $1 }
    }
}

/// Averages over a span of time: counts and bytes per second; times in microseconds for each transaction, query or
/// wait.
struct StatisticsAverages: Equatable {
    private(set) var serverAssignmentCount: UInt64 = 0
    private(set) var transactionCount: UInt64 = 0
    private(set) var queryCount: UInt64 = 0
    private(set) var received: UInt64 = 0
    private(set) var sent: UInt64 = 0
    private(set) var transactionTime: UInt64 = 0
    private(set) var queryTime: UInt64 = 0
    private(set) var waitTime: UInt64 = 0
    private(set) var clientParseCount: UInt64 = 0
    private(set) var serverParseCount: UInt64 = 0
    private(set) var bindCount: UInt64 = 0
    private(set) var clientLoginCount: UInt64 = 0

    init(since earlier: StatisticsCounters, until later: StatisticsCounters, elapsed: Microseconds) {
        guard elapsed > 0 else { return }
        let difference = later - earlier
        func perSecond(_ count: UInt64) -> UInt64 {
            // Full width, since bytes × 1,000,000 overflow at 18 TB; a quotient that does not fit can't be a rate.
            let product = count.multipliedFullWidth(by: 1_000_000)
            let divisor = UInt64(elapsed)
            return product.high < divisor ? divisor.dividingFullWidth(product).quotient : .max
        }
        func mean(_ time: UInt64, of count: UInt64) -> UInt64 { count == 0 ? 0 : time / count }
        self.serverAssignmentCount = perSecond(difference.serverAssignmentCount)
        self.transactionCount = perSecond(difference.transactionCount)
        self.queryCount = perSecond(difference.queryCount)
        self.received = perSecond(difference.received)
        self.sent = perSecond(difference.sent)
        self.transactionTime = mean(difference.transactionTime, of: difference.transactionCount)
        self.queryTime = mean(difference.queryTime, of: difference.queryCount)
        self.waitTime = mean(difference.waitTime, of: difference.serverAssignmentCount)
        self.clientParseCount = perSecond(difference.clientParseCount)
        self.serverParseCount = perSecond(difference.serverParseCount)
        self.bindCount = perSecond(difference.bindCount)
        self.clientLoginCount = perSecond(difference.clientLoginCount)
    }

    /// In PgBouncer's words, since people cut it up by them.
    var logLine: String {
        "stats: \(self.transactionCount) xacts/s, \(self.queryCount) queries/s, "
            + "\(self.clientParseCount) client parses/s, \(self.serverParseCount) server parses/s, "
            + "\(self.bindCount) binds/s, \(self.clientLoginCount) client logins/s, "
            + "in \(self.received) B/s, out \(self.sent) B/s, "
            + "xact \(self.transactionTime) us, query \(self.queryTime) us, wait \(self.waitTime) us"
    }
}
