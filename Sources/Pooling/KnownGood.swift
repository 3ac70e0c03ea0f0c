/// Ids of statements that servers have accepted in one generation of the catalogue.
public struct KnownGood: Sendable {
    private var generation: UInt64 = 0
    private var ids: Set<UInt64> = []

    public init() {}

    /// Statements nobody uses any more are in here too; forgetting all of them now and then costs a round trip.
    private static let most = 50_000

    /// Returns whether it is new.
    @discardableResult
    public mutating func insert(_ id: UInt64, _ generation: UInt64) -> Bool {
        guard generation >= self.generation else { return false }
        if generation > self.generation || self.ids.count >= Self.most { self.ids.removeAll() }
        self.generation = generation
        return self.ids.insert(id).inserted
    }

    public func contains(_ id: UInt64, _ generation: UInt64) -> Bool {
        generation == self.generation && self.ids.contains(id)
    }
}
