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
