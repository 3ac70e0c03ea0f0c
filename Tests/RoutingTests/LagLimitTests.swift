import Routing
import Testing

@Suite struct LagLimitTests {
    @Test func replicaGoesOutAboveTheLimitAndComesBackAt80Percent() {
        var limit = LagLimit(time: 10_000_000, bytes: 0)
        var told: [Bool] = []
        for lag in [0, 10_000_000, 10_000_001, 9_000_000, 8_000_001, 8_000_000, 9_999_999, 11_000_000] as [Int64] {
            limit.measured(lag: lag, lagBytes: 1 << 60)
            told.append(limit.allowsReads)
        }
        #expect(told == [true, true, false, false, false, true, true, false])
    }

    @Test func bytesCountByThemselves() {
        var limit = LagLimit(time: 0, bytes: 1000)
        var told: [Bool] = []
        for bytes in [1000, 1001, 801, 800] as [UInt64] {
            limit.measured(lag: 100_000_000, lagBytes: bytes)
            told.append(limit.allowsReads)
        }
        #expect(told == [true, false, false, true])
    }

    @Test func eitherLimitKeepsAReplicaOut() {
        var limit = LagLimit(time: 10, bytes: 10)
        limit.measured(lag: 0, lagBytes: 11)
        #expect(limit.verdict == .over)
        limit.measured(lag: 11, lagBytes: 0)
        #expect(limit.verdict == .over)
        limit.measured(lag: 8, lagBytes: 8)
        #expect(limit.verdict == .within)
    }

    @Test func unknownLagTakesNoReadsIfThereIsALimit() {
        var limit = LagLimit(time: 10, bytes: 0)
        #expect(!limit.allowsReads)
        limit.measured(lag: .max, lagBytes: 0)
        #expect(!limit.allowsReads)
        limit.measured(lag: 5, lagBytes: 0)
        #expect(limit.allowsReads)
        limit.measured(lag: .max, lagBytes: 0)
        #expect(limit.verdict == .unknown)
        limit.measured(lag: 11, lagBytes: 0)
        limit.measured(lag: .max, lagBytes: 0)
        #expect(limit.verdict == .over)
        limit.reset()
        #expect(limit.verdict == .unknown)
    }

    @Test func withoutLimitsEveryLagWillDo() {
        var limit = LagLimit(time: 0, bytes: 0)
        #expect(limit.allowsReads)
        limit.measured(lag: .max, lagBytes: 0)
        #expect(limit.allowsReads)
        limit.measured(lag: .max - 1, lagBytes: .max)
        #expect(limit.allowsReads)
    }
}
