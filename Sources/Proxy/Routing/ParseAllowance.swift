import Reactor

/// How much time one reactor spends on parsing new texts of one database.
///
/// A statement of 200 bytes takes some 40 µs, a text of 64 KB up to 100 ms, in which nobody else is served. So what is
/// bounded is the time itself: a quarter of it, and of that a client gets no more than it leaves to the others. Who sends
/// nothing but new statements takes half of what is at hand, and the next one finds the other half.
struct ParseAllowance {
    /// Microseconds at once.
    private static let most: MonotonicTime = 250_000
    /// One of so many microseconds.
    private static let share: MonotonicTime = 4

    private var left = ParseAllowance.most
    private var time: MonotonicTime = 0

    /// What one client has taken of it lately.
    struct Debt {
        fileprivate var spent: MonotonicTime = 0
        fileprivate var time: MonotonicTime = 0
    }

    /// Whether a client may have a new text parsed.
    mutating func allows(_ debt: inout Debt, now: MonotonicTime) -> Bool {
        self.left = min(self.left + Self.passed(since: &self.time, now), Self.most)
        debt.spent = max(debt.spent - Self.passed(since: &debt.time, now), 0)
        return debt.spent < self.left
    }

    private static func passed(since time: inout MonotonicTime, _ now: MonotonicTime) -> MonotonicTime {
        // What is less than the share's measure counts the next time.
        let passed = max(now - time, 0) / Self.share
        time = passed > 2 * Self.most ? now : time + passed * Self.share
        return passed
    }

    mutating func spend(_ time: MonotonicTime, _ debt: inout Debt) {
        // Never nothing, however coarse the clock is.
        self.left -= max(time, 1)
        debt.spent += max(time, 1)
    }
}
