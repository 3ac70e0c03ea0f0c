import Synchronization
import Wire

/// The prepared statements of the whole process, by text and parameter types.
///
/// Behind a lock: a reactor asks it only for what its own `StatementCache` lacks. A statement that no client and no
/// server connection holds any more is forgotten.
public final class StatementRegistry: Sendable {
    private struct State {
        var table = InternTable<PreparedStatement>()
        var lastID: UInt64 = 0
    }

    private let state = Mutex(State())

    public init() {}

    /// The statement of a Parse message; a new one when there is none.
    ///
    /// - Parameter tail: the message behind the statement's name (`ParseMessage.tail`).
    public func statement(_ tail: Span<UInt8>) -> PreparedStatement {
        self.statement(tail, hash: contentHash(tail))
    }

    func statement(_ tail: Span<UInt8>, hash: UInt32) -> PreparedStatement {
        // A span cannot enter the lock's closure.
        let copy = tail.copy(0..<tail.count)
        return self.state.withLock { state in
            if let known = state.table.find(hash, where: { $0.tail == copy }) { return known }
            state.lastID += 1
            let statement = PreparedStatement(id: state.lastID, tail: copy)
            state.table.insert(hash, statement)
            return statement
        }
    }
}

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
