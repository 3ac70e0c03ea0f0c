import Proxy
import Testing

@testable import Admin

@Suite struct StatisticsTests {
    private static func counters(scale: UInt64) -> StatisticsCounters {
        var counters = StatisticsCounters()
        counters.serverAssignmentCount = 10 * scale
        counters.transactionCount = 20 * scale
        counters.queryCount = 40 * scale
        counters.received = 1000 * scale
        counters.sent = 2000 * scale
        counters.transactionTime = 60_000 * scale
        counters.queryTime = 80_000 * scale
        counters.waitTime = 500 * scale
        counters.clientParseCount = 5 * scale
        counters.serverParseCount = 6 * scale
        counters.bindCount = 7 * scale
        counters.clientLoginCount = 8 * scale
        return counters
    }

    @Test func countsAreAveragedPerSecondAndTimesPerEvent() {
        let averages = StatisticsAverages(
            since: Self.counters(scale: 1), until: Self.counters(scale: 21), elapsed: 10_000_000)
        #expect(
            averages.logLine
                == "stats: 40 xacts/s, 80 queries/s, 10 client parses/s, 12 server parses/s, 14 binds/s, "
                + "16 client logins/s, in 2000 B/s, out 4000 B/s, xact 3000 us, query 2000 us, wait 50 us")
        #expect(averages.serverAssignmentCount == 20)
    }

    @Test func nothingHappenedIsZero() {
        let same = Self.counters(scale: 3)
        #expect(
            StatisticsAverages(since: same, until: same, elapsed: 60_000_000)
                == StatisticsAverages(since: .init(), until: .init(), elapsed: 1))
    }

    @Test(arguments: [0, -5] as [Int64]) func noTimeHasPassed(elapsed: Int64) {
        let averages = StatisticsAverages(since: .init(), until: Self.counters(scale: 1), elapsed: elapsed)
        #expect(averages.queryCount == 0)
    }

    @Test func largeNumbersDoNotTrap() {
        var counters = StatisticsCounters()
        counters.received = .max
        counters.sent = 20_000_000_000_000
        let averages = StatisticsAverages(since: .init(), until: counters, elapsed: 1)
        #expect(averages.received == .max)
        #expect(averages.sent == .max)
        let slow = StatisticsAverages(since: .init(), until: counters, elapsed: 10_000_000)
        #expect(slow.sent == 2_000_000_000_000)
        // A counter that wrapped around.
        var wrapped = StatisticsCounters()
        wrapped.received = 9
        #expect(StatisticsAverages(since: counters, until: wrapped, elapsed: 1_000_000).received == 10)
    }

    @Test func averagesReachBackToTheTickBeforeTheLastOne() async {
        let history = StatisticsHistory(start: 0)
        await history.record(["shop": Self.counters(scale: 100)], at: 10_000_000)
        // One tick: since the start.
        var averages = await history.averages(["shop": Self.counters(scale: 200)], at: 20_000_000)
        #expect(averages["shop"]?.queryCount == 400)
        await history.record(["shop": Self.counters(scale: 200)], at: 20_000_000)
        await history.record(["shop": Self.counters(scale: 300)], at: 30_000_000)
        averages = await history.averages(["shop": Self.counters(scale: 350)], at: 35_000_000)
        // 150 more within 15 s, 40 queries each.
        #expect(averages["shop"]?.queryCount == 400)
    }

    @Test func databaseThatIsNewCountsFromZero() async {
        let history = StatisticsHistory(start: 0)
        await history.record([:], at: 10_000_000)
        await history.record([:], at: 20_000_000)
        let averages = await history.averages(["shop": Self.counters(scale: 10)], at: 20_000_000)
        #expect(averages["shop"]?.transactionCount == 20)
    }

    @Test func logLineIsOverAllDatabasesAndTheLastPeriod() async {
        let history = StatisticsHistory(start: 0)
        await history.record(["a": Self.counters(scale: 1)], at: 1_000_000)
        let line = await history.record(["a": Self.counters(scale: 2), "b": Self.counters(scale: 3)], at: 2_000_000)
        #expect(line.hasPrefix("stats: 80 xacts/s, 160 queries/s, "))
    }

    @Test func tables() async {
        let host = FakeHost { $0.statistics = ["shop": Self.counters(scale: 2), "a": Self.counters(scale: 1)] }
        let history = StatisticsHistory(start: Console.now - 1_000_000_000)
        let stats = await Answer.to("SHOW STATS", host, history: history)
        #expect(stats.rows.map { $0[0] } == ["a", "shop"])
        #expect(stats.firstRow["total_query_count"] == "40")
        #expect(stats.firstRow["total_received"] == "1000")
        #expect(stats.firstRow["total_wait_time"] == "500")
        #expect(stats.firstRow["avg_recv"] == "0" || stats.firstRow["avg_recv"] == "1")
        #expect(stats.firstRow["avg_query_time"] == "2000")
        #expect(stats.firstRow["avg_wait_time"] == "50")
        let totals = await Answer.to("SHOW STATS_TOTALS", host, history: history)
        #expect(
            totals.rows.last == [
                "shop", "20", "40", "80", "2000", "4000", "120000", "160000", "1000", "10", "12", "14", "16",
            ])
        let averages = await Answer.to("SHOW STATS_AVERAGES", host, history: history)
        #expect(averages.firstRow["xact_time"] == "3000")
        let overall = await Answer.to("SHOW TOTALS", host, history: history)
        #expect(overall.rows.count == 24)
        #expect(overall.rows[3] == ["total_client_bytes", "3000"])
        #expect(overall.rows[8] == ["total_ps_client_parse_count", "15"])
        #expect(overall.rows[18] == ["avg_query_time", "2000"])
    }
}
