import Synchronization

/// Counts what may have changed the meaning of statements in a database of the servers: DDL, and errors that tell of it.
/// What was prepared before is not known to be good.
///
/// One for all pools of a database, on all reactors. Numbers grow over all databases of the process, so that those of two
/// databases can be compared after a reload has put one in the other's place.
public final class CatalogueGeneration: Sendable {
    /// The database's name on the server.
    public let database: String
    private let value: Atomic<UInt64>
    private static let last = Atomic<UInt64>(0)

    public init(database: String) {
        self.database = database
        self.value = Atomic(Self.last.add(1, ordering: .relaxed).newValue)
    }

    /// The number now; at least 1.
    public var current: UInt64 { self.value.load(ordering: .acquiring) }

    /// The catalogue may have changed.
    public func advance() {
        let next = Self.last.add(1, ordering: .relaxed).newValue
        // Whoever has taken a later number may have been here first.
        self.value.max(next, ordering: .acquiringAndReleasing)
    }
}

/// The generations of the process's databases, as long as somebody has them.
public final class CatalogueGenerations: Sendable {
    private let table = Mutex(InternTable<CatalogueGeneration>())

    public init() {}

    public func generation(of database: String) -> CatalogueGeneration {
        var hasher = Hasher()
        hasher.combine(database)
        let hash = UInt32(truncatingIfNeeded: hasher.finalize())
        return self.table.withLock { table in
            if let known = table.find(hash, where: { $0.database == database }) { return known }
            let generation = CatalogueGeneration(database: database)
            table.insert(hash, generation)
            return generation
        }
    }
}
