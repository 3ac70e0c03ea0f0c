public import Settings

/// When a pool may try to log in to its server again after a failure.
///
/// The pause begins at 100 ms and doubles up to `server_login_retry`, so that a server that was restarted is back in
/// use within a second, and one that is down for long is not hammered.
public struct LoginBackoff: Sendable, Equatable {
    private static let shortest: Microseconds = 100_000

    private var pause: Microseconds = 0
    /// The earliest moment for the next try; in the past when there is none to wait for.
    public private(set) var nextTry: Microseconds = .min

    public init() {}

    /// Whether the last try has failed.
    public var isFailing: Bool { self.pause > 0 }

    /// A try has failed. Several tries of one moment count once.
    public mutating func failed(now: Microseconds, longest: Microseconds) {
        guard now >= self.nextTry else { return }
        let next = self.pause == 0 ? Self.shortest : self.pause * 2
        self.pause = max(1, min(next, longest))
        self.nextTry = now + self.pause
    }

    /// A login has succeeded.
    public mutating func succeeded() {
        self.pause = 0
        self.nextTry = .min
    }
}
