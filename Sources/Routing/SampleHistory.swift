/// The samples of the current primary's positions, newest last: tells how far a replica has caught up, in samples, in
/// time and in bytes.
///
/// What the primary has *inserted* into its log tells which writes a replica has: it covers all of them, also those whose
/// commit did not wait for the disk. How late a replica is tells what the primary has *flushed*: nothing else is sent. An
/// open transaction on a quiet primary leaves some log unflushed for as long as it is open, and of what is flushed in
/// whole pages the last record may be there in part, so that no replica can replay it.
///
/// Bounded to `capacity` samples. The last seconds are kept whole; of older ones so many that a lag can be told to about
/// a percent, for a week.
public struct SampleHistory: Sendable {
    /// The positions of the primary at one time.
    struct Sample: Sendable, Equatable {
        var generation: UInt64
        var position: UInt64
        /// The end of the last record that is known to be flushed; at most `position`.
        var flushed: UInt64
        /// When it was begun, monotonic microseconds.
        var time: Int64
    }

    /// Where a replica stands.
    public struct Standing: Sendable, Equatable {
        /// The newest sample that the replica has caught up to; nil if it has reached none that is still known.
        public var caughtUp: UInt64?
        /// Microseconds; 0 when it has all that was flushed at the newest sample, `.max` when it has reached none.
        public var lag: Int64
        /// Bytes behind what was flushed at the newest sample.
        public var lagBytes: UInt64
    }

    /// At most so many samples are kept.
    public static let capacity = 4096
    /// What is older is forgotten, microseconds.
    private static let oldest: Int64 = 7 * 86_400 * 1_000_000

    /// Rising in generation and time, and in at least one of the positions; falling in none.
    private(set) var samples: [Sample] = []
    /// The timeline of the samples; 0 while there is no primary.
    public private(set) var timeline: UInt32 = 0

    /// A history without samples.
    public init() {}

    /// The generation of the newest sample that was completed; nil if there is none.
    public var newest: UInt64? { self.samples.last?.generation }

    /// How old the newest sample is, microseconds; `.max` if there is none.
    public func age(now: Int64) -> Int64 { self.samples.last.map { max(0, now - $0.time) } ?? .max }

    /// Forgets all samples: the primary is another, or its timeline.
    public mutating func clear(timeline: UInt32) {
        self.samples = []
        self.timeline = timeline
    }

    /// The primary has told its positions.
    ///
    /// - Parameters:
    ///   - generation: the sample's number, handed out before the primary was asked.
    ///   - position: of what is inserted, without the page's header (`WALPosition.withoutPageHeader`).
    ///   - flushed: of what is flushed, in the same way.
    ///   - endsRecord: false if that may be in the middle of a record.
    ///   - time: when the sample was begun, monotonic microseconds.
    /// - Returns: false if a position is before that of an older sample. The primary has lost what it had written
    ///   (a crash with `synchronous_commit` off); older samples say nothing any more and were forgotten.
    @discardableResult
    public mutating func completed(
        generation: UInt64, position: UInt64, flushed: UInt64, endsRecord: Bool = true, time: Int64
    ) -> Bool {
        let flushed = min(flushed, position)
        var sample = Sample(generation: generation, position: position, flushed: flushed, time: time)
        guard let last = self.samples.last else {
            self.samples = [sample]
            return true
        }
        guard generation > last.generation, time >= last.time else { return true }
        guard position >= last.position, flushed >= last.flushed else {
            self.samples = [sample]
            return false
        }
        if !endsRecord && flushed < position {
            // What is inserted always ends with a record.
            let known = self.newest(reaching: { $0.position <= flushed })?.position ?? 0
            sample.flushed = max(last.flushed, known)
        }
        if sample.position == last.position && sample.flushed == last.flushed {
            // Nothing was written in between: who has reached one has reached both.
            self.samples[self.samples.count - 1] = sample
        } else {
            if self.samples.count >= Self.capacity { self.thin(now: time) }
            self.samples.append(sample)
        }
        return true
    }

    /// Where a replica stands that has replayed up to `position` of this history's timeline.
    public func standing(at position: UInt64, now: Int64) -> Standing {
        let caughtUp = self.newest(reaching: { $0.position <= position })?.generation
        guard let newest = self.samples.last else { return Standing(caughtUp: nil, lag: .max, lagBytes: 0) }
        if position >= newest.flushed { return Standing(caughtUp: caughtUp, lag: 0, lagBytes: 0) }
        let current = self.newest(reaching: { $0.flushed <= position })
        return Standing(
            caughtUp: caughtUp, lag: current.map { max(0, now - $0.time) } ?? .max, lagBytes: newest.flushed - position)
    }

    /// The newest sample that holds; all before it hold as well, none behind it does.
    private func newest(reaching holds: (Sample) -> Bool) -> Sample? {
        var low = 0
        var high = self.samples.count
        while low < high {
            let middle = (low + high) / 2
            if holds(self.samples[middle]) { low = middle + 1 } else { high = middle }
        }
        return low > 0 ? self.samples[low - 1] : nil
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
