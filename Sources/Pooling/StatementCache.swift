/// A reactor's own view of the registry, which needs no lock for what the reactor has seen before.
public struct StatementCache: ~Copyable {
    private let registry: StatementRegistry
    private var table = InternTable<PreparedStatement>()

    public init(registry: StatementRegistry) {
        self.registry = registry
    }

    /// The statement of a Parse message; a new one when there is none in the process.
    ///
    /// - Parameter tail: the message behind the statement's name (`ParseMessage.tail`).
    public mutating func statement(_ tail: Span<UInt8>) -> PreparedStatement {
        self.statement(tail, hash: contentHash(tail))
    }

    mutating func statement(_ tail: Span<UInt8>, hash: UInt32) -> PreparedStatement {
        if let known = self.table.find(hash, where: { $0.hasTail(tail) }) { return known }
        let statement = self.registry.statement(tail, hash: hash)
        self.table.insert(hash, statement)
        return statement
    }
}
