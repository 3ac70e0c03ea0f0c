import Pooling
import Testing

extension LoginBackoff {
    fileprivate mutating func refused(now: Int64, longest: Int64) {
        self.failed(began: now, now: now, longest: longest, isRefusal: true)
    }
}

@Suite struct LoginBackoffTests {
    private static let second: Int64 = 1_000_000

    @Test func aNewPoolMayTryAtOnce() {
        let backoff = LoginBackoff()
        #expect(!backoff.isFailing)
        #expect(backoff.nextTry < 0)
    }

    @Test func pausesDoubleUpToTheLongest() {
        var backoff = LoginBackoff()
        var now: Int64 = 7
        var pauses: [Int64] = []
        for _ in 0..<10 {
            backoff.refused(now: now, longest: 15 * Self.second)
            pauses.append(backoff.nextTry - now)
            now = backoff.nextTry
        }
        #expect(pauses.map { $0 / 1000 } == [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 15_000, 15_000])
        #expect(backoff.isFailing)
    }

    @Test func triesThatFailTogetherCountOnce() {
        var backoff = LoginBackoff()
        for offset in 0..<20 { backoff.refused(now: 1000 + Int64(offset), longest: 15 * Self.second) }
        #expect(backoff.nextTry == 1000 + 100_000)
    }

    @Test func aTryAtTheVeryMomentCounts() {
        var backoff = LoginBackoff()
        backoff.refused(now: 0, longest: 15 * Self.second)
        backoff.refused(now: 100_000, longest: 15 * Self.second)
        #expect(backoff.nextTry == 300_000)
    }

    @Test func successBeginsAnew() {
        var backoff = LoginBackoff()
        backoff.refused(now: 0, longest: 15 * Self.second)
        backoff.refused(now: Self.second, longest: 15 * Self.second)
        backoff.reset()
        #expect(backoff == LoginBackoff())
        backoff.refused(now: 2 * Self.second, longest: 15 * Self.second)
        #expect(backoff.nextTry == 2 * Self.second + 100_000)
    }

    @Test(arguments: [0, 1, 1000, 99_999] as [Int64])
    func aShorterLongestIsKeptTo(longest: Int64) {
        var backoff = LoginBackoff()
        for now in [0, 200_000, 400_000] as [Int64] {
            backoff.refused(now: now, longest: longest)
            #expect(backoff.nextTry == now + max(longest, 1))
            #expect(backoff.isFailing)
        }
    }

    @Test func aShorterSettingHoldsFromTheNextFailureOn() {
        var backoff = LoginBackoff()
        var now: Int64 = 0
        for _ in 0..<8 {
            backoff.refused(now: now, longest: 15 * Self.second)
            now = backoff.nextTry
        }
        backoff.refused(now: now, longest: Self.second)
        #expect(backoff.nextTry == now + Self.second)
    }

    @Test func theLongestSettingDoesNotOverflow() {
        // What the settings allow at most: about 31 years.
        let longest: Int64 = 1_000_000_000_000_000
        var backoff = LoginBackoff()
        var now: Int64 = 0
        for _ in 0..<60 {
            backoff.refused(now: now, longest: longest)
            now = backoff.nextTry
        }
        #expect(now > longest)
    }

    @Test func whileAServerIsAwayNoPauseIsLongerThanASecond() {
        var backoff = LoginBackoff()
        var now: Int64 = 7
        var pauses: [Int64] = []
        for _ in 0..<8 {
            backoff.failed(began: now, now: now, longest: 15 * Self.second, isRefusal: false)
            pauses.append(backoff.nextTry - now)
            now = backoff.nextTry
        }
        #expect(pauses.map { $0 / 1000 } == [100, 200, 400, 800, 1000, 1000, 1000, 1000])
    }

    /// It has been away, answers, and refuses; then it is away again.
    @Test func thePauseIsThatOfTheLastFailure() {
        var backoff = LoginBackoff()
        var now: Int64 = 0
        for _ in 0..<8 {
            backoff.refused(now: now, longest: 15 * Self.second)
            now = backoff.nextTry
        }
        backoff.failed(began: now, now: now, longest: 15 * Self.second, isRefusal: false)
        #expect(backoff.nextTry == now + Self.second)
        now = backoff.nextTry
        backoff.refused(now: now, longest: 15 * Self.second)
        #expect(backoff.nextTry == now + 2 * Self.second)
    }

    @Test func anOutageBeginsWithTheFirstTryThatFails() {
        var backoff = LoginBackoff()
        #expect(backoff.failingSince == nil)
        backoff.failed(began: 5, now: 15 * Self.second, longest: 15 * Self.second, isRefusal: false)
        backoff.failed(began: 16 * Self.second, now: 17 * Self.second, longest: 15 * Self.second, isRefusal: true)
        #expect(backoff.failingSince == 5)
        backoff.reset()
        #expect(backoff.failingSince == nil && !backoff.isFailing)
    }
}
