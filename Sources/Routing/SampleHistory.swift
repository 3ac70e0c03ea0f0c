/// The samples of the current primary's position, newest last: tells how far a replica has caught up, in samples, in
/// time and in bytes.
///
/// Bounded to `capacity` samples. The last seconds are kept whole; of older ones so many that a lag can be told to about
/// a percent, for a week.
public struct SampleHistory: Sendable {
    /// One position of the primary.
    struct Sample: Sendable, Equatable {
        var generation: UInt64
        var position: UInt64
        /// When it was begun, monotonic microseconds.
        var time: Int64
    }

    /// Where a replica stands.
    public struct Standing: Sendable, Equatable {
        /// The newest sample that the replica has caught up to; nil if it has reached none that is still known.
        public var caughtUp: UInt64?
        /// Microseconds; 0 when it has caught up to the newest sample, `.max` when it has reached none.
        public var lag: Int64
        /// Bytes behind the newest sample.
        public var lagBytes: UInt64
    }

    /// At most so many samples are kept.
    public static let capacity = 4096
    /// What is older is forgotten, microseconds.
    private static let oldest: Int64 = 7 * 86_400 * 1_000_000

    /// Rising in each of generation, position and time.
    private(set) var samples: [Sample] = []
    /// The timeline of the samples; 0 while there is no primary.
    public private(set) var timeline: UInt32 = 0

    /// A history without samples.
    public init() {}

    /// The generation of the newest sample that was completed; nil if there is none.
    public var newest: UInt64? { self.samples.last?.generation }

    /// Forgets all samples: the primary is another, or its timeline.
    public mutating func clear(timeline: UInt32) {
        self.samples = []
        self.timeline = timeline
    }

    /// The primary has told its position.
    ///
    /// - Parameters:
    ///   - generation: the sample's number, handed out before the primary was asked.
    ///   - position: without the page's header (`WALPosition.withoutPageHeader`).
    ///   - time: when the sample was begun, monotonic microseconds.
    /// - Returns: false if the position is before that of an older sample. The primary has lost what it had written
    ///   (a crash with `synchronous_commit` off); older samples say nothing any more and were forgotten.
    @discardableResult
    public mutating func completed(generation: UInt64, position: UInt64, time: Int64) -> Bool {
        let sample = Sample(generation: generation, position: position, time: time)
        guard let last = self.samples.last else {
            self.samples = [sample]
            return true
        }
        guard generation > last.generation, time >= last.time else { return true }
        if position == last.position {
            // Nothing was written in between: who has reached one has reached both.
            self.samples[self.samples.count - 1] = sample
        } else if position > last.position {
            if self.samples.count >= Self.capacity { self.thin(now: time) }
            self.samples.append(sample)
        } else {
            self.samples = [sample]
            return false
        }
        return true
    }

    /// Where a replica stands that has replayed up to `position` of this history's timeline.
    public func standing(at position: UInt64, now: Int64) -> Standing {
        guard let newest = self.samples.last else { return Standing(caughtUp: nil, lag: .max, lagBytes: 0) }
        if position >= newest.position { return Standing(caughtUp: newest.generation, lag: 0, lagBytes: 0) }
        let lagBytes = newest.position - position
        // The number of samples it has reached.
        var low = 0
        var high = self.samples.count
        while low < high {
            let middle = (low + high) / 2
            if self.samples[middle].position <= position { low = middle + 1 } else { high = middle }
        }
        guard low > 0 else { return Standing(caughtUp: nil, lag: .max, lagBytes: lagBytes) }
        let reached = self.samples[low - 1]
        return Standing(caughtUp: reached.generation, lag: max(0, now - reached.time), lagBytes: lagBytes)
    }

    /// Keeps of older samples only so many that two neighbours lie at least 1/256 of their age apart.
    private mutating func thin(now: Int64) {
        var kept: [Sample] = []
        kept.reserveCapacity(Self.capacity)
        for sample in self.samples.reversed() {
            let age = now - sample.time
            guard age < Self.oldest else { break }
            if let next = kept.last, next.time - sample.time < age / 256 { continue }
            kept.append(sample)
        }
        // Samples that were taken much faster than the interval, or a clock that stood: the newer half, then.
        if kept.count >= Self.capacity { kept.removeLast(Self.capacity / 2) }
        self.samples = kept.reversed()
    }
}
