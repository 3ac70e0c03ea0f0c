public import Settings

/// When a pool may try to log in to its server again after a failure, and how long the failures have lasted.
///
/// The pause begins at 100 ms and doubles. Up to `server_login_retry` while the server answers and refuses the login, which
/// it will do again. Up to a second while it cannot be reached: a server that is back is in use within a second, however
/// long it was away.
public struct LoginBackoff: Sendable, Equatable {
    private static let shortest: Microseconds = 100_000
    private static let longestWhileAway: Microseconds = 1_000_000

    private var pause: Microseconds = 0
    /// The earliest moment for the next try; in the past when there is none to wait for.
    public private(set) var nextTry: Microseconds = .min
    /// When the first of the tries began that have all failed; nil when the last one has succeeded.
    public private(set) var failingSince: Microseconds?

    public init() {}

    /// Whether the last try has failed.
    public var isFailing: Bool { self.failingSince != nil }

    /// A try has failed. Several tries of one moment count once.
    ///
    /// - Parameters:
    ///   - began: when the try began.
    ///   - longest: `server_login_retry`.
    ///   - isRefusal: the server has answered, and has refused.
    public mutating func failed(began: Microseconds, now: Microseconds, longest: Microseconds, isRefusal: Bool) {
        self.failingSince = self.failingSince ?? began
        guard now >= self.nextTry else { return }
        let next = self.pause == 0 ? Self.shortest : self.pause * 2
        self.pause = max(1, min(next, isRefusal ? longest : min(longest, Self.longestWhileAway)))
        self.nextTry = now + self.pause
    }

    /// A login has succeeded, or something has changed that makes another try worthwhile.
    public mutating func reset() { self = LoginBackoff() }
}
