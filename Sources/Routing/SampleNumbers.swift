import Synchronization

/// Numbers for samples of primaries' positions, in the order in which the samples are begun.
///
/// All clusters of a process have theirs from one place: what a client needs goes on to hold when its database gets other
/// servers, whose monitor may be older or newer than the one before.
public final class SampleNumbers: Sendable {
    /// Those of the process.
    public static let ofProcess = SampleNumbers()

    private let value = Atomic<UInt64>(0)

    /// Numbers from 1 on.
    public init() {}

    /// The number of the sample that was begun last, by whichever cluster; 0 if there was none.
    public var last: UInt64 { self.value.load(ordering: .acquiring) }

    /// A number for a sample that is about to be begun.
    public func next() -> UInt64 { self.value.add(1, ordering: .sequentiallyConsistent).newValue }
}
