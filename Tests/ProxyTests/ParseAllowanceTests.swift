import Testing

@testable import Proxy

@Suite struct ParseAllowanceTests {
    private var allowance = ParseAllowance()

    /// How long a client may parse, 1 ms for each text, from a moment on.
    private mutating func parse(_ debt: inout ParseAllowance.Debt, at now: Int64, texts: Int = 10_000) -> Int {
        var parsed = 0
        while parsed < texts, self.allowance.allows(&debt, now: now) {
            self.allowance.spend(1_000, &debt)
            parsed += 1
        }
        return parsed
    }

    @Test mutating func eachClientLeavesSomethingForTheNext() {
        var (hog, second, third) = (ParseAllowance.Debt(), ParseAllowance.Debt(), ParseAllowance.Debt())
        let now: Int64 = 1_000_000_000
        #expect(self.parse(&hog, at: now) == 125)
        #expect(self.parse(&hog, at: now) == 0)
        #expect(self.parse(&second, at: now) == 63)
        #expect(self.parse(&third, at: now) == 31)
    }

    @Test mutating func aQuarterOfTheTimeIsForIt() {
        var hog = ParseAllowance.Debt()
        var parsed = 0
        let start: Int64 = 1_000_000_000
        for tick in 0..<10_000 { parsed += self.parse(&hog, at: start + Int64(tick) * 1_000) }
        #expect((2_500...2_750).contains(parsed), "10 s: \(parsed) ms")
        // Another one finds half of the rest at any time.
        var newcomer = ParseAllowance.Debt()
        #expect(self.parse(&newcomer, at: start + 10_000_000) >= 60)
    }

    @Test mutating func shortTextsLoseNothingToRounding() {
        var client = ParseAllowance.Debt()
        _ = self.parse(&client, at: 1_000_000_000)
        for step in 1...40_000 { _ = self.allowance.allows(&client, now: 1_000_000_000 + Int64(step) * 3) }
        #expect(self.parse(&client, at: 1_000_120_000) > 0)
    }
}
