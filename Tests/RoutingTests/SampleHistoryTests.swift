import Testing

@testable import Routing

@Suite struct SampleHistoryTests {
    private typealias Standing = SampleHistory.Standing

    /// Samples 1, 2, 3 … of these positions, one a second from second 1 on.
    /// All of it is flushed.
    private func history(_ positions: UInt64...) -> SampleHistory {
        var history = SampleHistory()
        for (index, position) in positions.enumerated() {
            history.completed(
                generation: UInt64(index + 1), position: position, flushed: position, time: Int64(index + 1) * 1_000_000
            )
        }
        return history
    }

    @Test func nothingIsKnownWithoutSamples() {
        #expect(SampleHistory().standing(at: 100, now: 0) == Standing(caughtUp: nil, lag: .max, lagBytes: 0))
        #expect(SampleHistory().newest == nil)
    }

    @Test(
        arguments: [
            (99, nil, Int64.max, 201), (100, 1, 3_000_000, 200), (199, 1, 3_000_000, 101), (200, 2, 2_000_000, 100),
            (299, 2, 2_000_000, 1), (300, 3, 0, 0), (10_000, 3, 0, 0),
        ] as [(UInt64, UInt64?, Int64, UInt64)])
    func replicaStandsAtTheNewestSampleItHasReached(
        position: UInt64, caughtUp: UInt64?, lag: Int64, bytes: UInt64
    ) {
        let standing = self.history(100, 200, 300).standing(at: position, now: 4_000_000)
        #expect(standing == Standing(caughtUp: caughtUp, lag: lag, lagBytes: bytes))
    }

    @Test func lagDoesNotGrowOnAnIdlePrimary() {
        let history = self.history(100, 200, 200, 200)
        #expect(history.samples.count == 2)
        #expect(history.standing(at: 200, now: 60_000_000) == Standing(caughtUp: 4, lag: 0, lagBytes: 0))
    }

    @Test func lagCountsFromTheLastMomentThatThePositionWasThePrimarys() {
        // The primary stood at 100 until second 3 at least; a replica at 100 in second 5 is 2 seconds behind.
        #expect(self.history(100, 100, 100, 200).standing(at: 100, now: 5_000_000).lag == 2_000_000)
    }

    /// An open transaction on a quiet primary: what it writes is not flushed, so no replica can have it.
    @Test func whatIsNotFlushedIsNoLag() {
        var history = self.history(100, 200)
        for second in 3...60 as ClosedRange<Int64> {
            history.completed(
                generation: UInt64(second), position: 700 + UInt64(second), flushed: 200, time: second * 1_000_000)
        }
        // Of the writes it lacks the newest.
        #expect(history.standing(at: 200, now: 61_000_000) == Standing(caughtUp: 2, lag: 0, lagBytes: 0))
        #expect(history.standing(at: 150, now: 61_000_000) == Standing(caughtUp: 1, lag: 60_000_000, lagBytes: 50))
        // It is committed, and a replica that has nothing of it is late from then on.
        history.completed(generation: 61, position: 800, flushed: 800, time: 61_000_000)
        #expect(history.standing(at: 200, now: 62_000_000) == Standing(caughtUp: 2, lag: 2_000_000, lagBytes: 600))
        #expect(history.standing(at: 800, now: 62_000_000) == Standing(caughtUp: 61, lag: 0, lagBytes: 0))
    }

    /// Whole pages are flushed: the last record in them is there in part, and no replica can replay it.
    @Test func recordThatIsFlushedInPartIsNoLag() {
        var history = self.history(100, 200)
        for second in 3...9 as ClosedRange<Int64> {
            history.completed(
                generation: UInt64(second), position: 700, flushed: 512, endsRecord: false, time: second * 1_000_000)
        }
        #expect(history.standing(at: 200, now: 10_000_000) == Standing(caughtUp: 2, lag: 0, lagBytes: 0))
        #expect(history.standing(at: 199, now: 10_000_000).lag == 9_000_000)
        // The record whose end was seen is flushed as a whole, more pages behind it.
        history.completed(generation: 10, position: 1100, flushed: 1024, endsRecord: false, time: 10_000_000)
        #expect(history.standing(at: 700, now: 11_000_000) == Standing(caughtUp: 9, lag: 0, lagBytes: 0))
        #expect(history.standing(at: 512, now: 11_000_000).lag == 2_000_000)
        // The last record ends with the page.
        history.completed(generation: 11, position: 1536, flushed: 1536, endsRecord: false, time: 11_000_000)
        #expect(history.standing(at: 1100, now: 12_000_000).lag == 2_000_000)
        #expect(history.standing(at: 1536, now: 12_000_000).lag == 0)
    }

    /// Neither is more than the other thinks possible.
    @Test func samplesInWhichOnlyOnePositionMoves() {
        var history = SampleHistory()
        let positions: [(UInt64, UInt64)] = [(100, 50), (100, 70), (100, 100), (140, 100), (140, 150), (150, 150)]
        for (index, (position, flushed)) in positions.enumerated() {
            let isRising = history.completed(
                generation: UInt64(index + 1), position: position, flushed: flushed, time: Int64(index + 1) * 1_000_000)
            #expect(isRising)
        }
        #expect(history.standing(at: 60, now: 7_000_000) == Standing(caughtUp: nil, lag: 6_000_000, lagBytes: 90))
        #expect(history.standing(at: 100, now: 7_000_000) == Standing(caughtUp: 3, lag: 3_000_000, lagBytes: 50))
        #expect(history.standing(at: 140, now: 7_000_000) == Standing(caughtUp: 5, lag: 2_000_000, lagBytes: 10))
    }

    @Test func sampleThatComesLateIsLeftOut() {
        var history = self.history(100, 200)
        let isRising = history.completed(generation: 1, position: 150, flushed: 150, time: 3_000_000)
        #expect(isRising)
        #expect(history.standing(at: 150, now: 3_000_000).caughtUp == 1)
        #expect(history.newest == 2)
    }

    @Test func positionThatGoesBackForgetsWhatWasBefore() {
        var history = self.history(100, 200, 300)
        let isRising = history.completed(generation: 4, position: 250, flushed: 250, time: 4_000_000)
        #expect(!isRising)
        #expect(history.standing(at: 200, now: 4_000_000).caughtUp == nil)
        #expect(history.standing(at: 250, now: 4_000_000).caughtUp == 4)
    }

    @Test func newTimelineForgetsAllSamples() {
        var history = self.history(100, 200)
        history.clear(timeline: 2)
        #expect(history.timeline == 2)
        #expect(history.newest == nil)
        #expect(history.standing(at: 1000, now: 0).caughtUp == nil)
    }

    @Test func hoursOfSamplesTakeBoundedRoomAndTellLagToTwoPercent() {
        var history = SampleHistory()
        var generation: UInt64 = 0
        var now: Int64 = 1_000_000
        // Ten hours at 25 ms would be long for a test: the interval grows, as it does when nobody needs samples.
        for interval: Int64 in [25_000, 1_000_000, 25_000] {
            for _ in 0..<40_000 {
                now += interval
                generation += 1
                // A byte a microsecond: the position is the time.
                history.completed(generation: generation, position: UInt64(now), flushed: UInt64(now), time: now)
            }
        }
        #expect(history.samples.count <= SampleHistory.capacity)
        for lag: Int64 in [30_000, 100_000, 1_000_000, 60_000_000, 3_600_000_000, 36_000_000_000] {
            let told = history.standing(at: UInt64(now - lag), now: now).lag
            #expect(told >= lag && told <= lag + lag / 50 + 25_000, "\(lag) is told as \(told)")
        }
        let samples = history.samples
        #expect(zip(samples, samples.dropFirst()).allSatisfy { $0.generation < $1.generation })
        #expect(zip(samples, samples.dropFirst()).allSatisfy { $0.position < $1.position })
    }

    @Test func samplesWithoutTimeBetweenThemAreBoundedToo() {
        var history = SampleHistory()
        for number in 1...20_000 as ClosedRange<UInt64> {
            history.completed(generation: number, position: number, flushed: number, time: 5)
        }
        #expect(history.samples.count <= SampleHistory.capacity)
        #expect(history.standing(at: 20_000, now: 5).caughtUp == 20_000)
    }

    @Test func sampleIsForgottenAfterAWeek() {
        var history = self.history(100)
        let week: Int64 = 7 * 86_400 * 1_000_000
        for number in 2...5000 as ClosedRange<UInt64> {
            history.completed(
                generation: number, position: 100 + number, flushed: 100 + number,
                time: 2 * week + Int64(number) * 25_000)
        }
        #expect(history.standing(at: 101, now: 3 * week).caughtUp == nil)
    }
}
