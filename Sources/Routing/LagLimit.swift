/// Whether a replica's lag allows it to take reads: out above the limit, in again at 80 % of it, so that a replica at
/// the limit does not come and go.
public struct LagLimit: Sendable, Equatable {
    /// What the lag says.
    public enum Verdict: Sendable, Equatable {
        /// The replica has not caught up to any sample yet.
        case unknown
        case within
        case over
    }

    private var time: Int64
    private var bytes: UInt64
    /// What the last measurement said.
    public private(set) var verdict = Verdict.unknown

    /// - Parameters:
    ///   - time: microseconds; 0 is no limit.
    ///   - bytes: bytes of write-ahead log; 0 is no limit.
    public init(time: Int64, bytes: Int) {
        self.time = time
        self.bytes = UInt64(max(0, bytes))
    }

    /// Other limits hold from the next measurement on.
    public mutating func change(time: Int64, bytes: Int) {
        self.time = time
        self.bytes = UInt64(max(0, bytes))
    }

    /// Whether the replica may take reads. One of unknown lag may not, unless there is no limit.
    public var allowsReads: Bool { self.verdict == .within || (self.time == 0 && self.bytes == 0) }

    /// Takes in a measurement.
    ///
    /// - Parameters:
    ///   - lag: microseconds; `.max` is unknown.
    ///   - lagBytes: bytes.
    public mutating func measured(lag: Int64, lagBytes: UInt64) {
        guard lag != .max else {
            // One that has fallen behind all that is remembered is not forgiven for it.
            if self.verdict == .within { self.verdict = .unknown }
            return
        }
        let isOver = self.verdict == .over
        let isLate = self.time > 0 && lag > (isOver ? self.time - self.time / 5 : self.time)
        let isFar = self.bytes > 0 && lagBytes > (isOver ? self.bytes - self.bytes / 5 : self.bytes)
        self.verdict = isLate || isFar ? .over : .within
    }

    /// Forgets what was measured: the node was down, or the primary is another.
    public mutating func reset() { self.verdict = .unknown }
}
