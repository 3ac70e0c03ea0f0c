import Synchronization

/// Counts the changes of a database's catalogue that have been seen. Any thread.
public final class CatalogueRevision: Sendable {
    private let number = Atomic<UInt64>(1)

    init() {}

    /// The number of the newest: what was read of a lower one is out of date.
    public var value: UInt64 { self.number.load(ordering: .acquiring) }

    func advance() { self.number.add(1, ordering: .acquiringAndReleasing) }
}
