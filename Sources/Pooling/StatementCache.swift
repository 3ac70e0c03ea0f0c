import Wire

/// A reactor's own view of the registry, which needs no lock for what the reactor has seen before.
public struct StatementCache: ~Copyable {
    private let registry: StatementRegistry
    private var table = InternTable<PreparedStatement>()

    public init(registry: StatementRegistry) {
        self.registry = registry
    }

    /// The statement of a Parse message; a new one when there is none in the process.
    ///
    /// - Parameters:
    ///   - tail: the message behind the statement's name (`ParseMessage.tail`).
    ///   - settings: what the text is read with.
    public mutating func statement(_ tail: Span<UInt8>, _ settings: ParsingSettings) -> PreparedStatement {
        self.statement(tail, settings, hash: contentHash(tail) ^ settings.hash)
    }

    mutating func statement(_ tail: Span<UInt8>, _ settings: ParsingSettings, hash: UInt32) -> PreparedStatement {
        if let known = self.table.find(hash, where: { $0.hasTail(tail) && $0.settings == settings }) { return known }
        let statement = self.registry.statement(tail, settings, hash: hash)
        self.table.insert(hash, statement)
        return statement
    }

    /// A statement that nobody else gets: what its text is read with is not known for sure.
    public func ownStatement(_ tail: Span<UInt8>, _ settings: ParsingSettings) -> PreparedStatement {
        self.registry.ownStatement(tail.copy(0..<tail.count), settings)
    }

    /// The same with the text of another statement.
    public func ownStatement(like other: PreparedStatement, _ settings: ParsingSettings) -> PreparedStatement {
        self.registry.ownStatement(other.tail, settings)
    }
}
