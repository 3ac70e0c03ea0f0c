import Synchronization
import Wire

/// The prepared statements of the whole process, by text, parameter types and settings.
///
/// Behind a lock: a reactor asks it only for what its own `StatementCache` lacks. A statement that no client and no
/// server connection holds any more is forgotten.
public final class StatementRegistry: Sendable {
    private struct State {
        var table = InternTable<PreparedStatement>()
        var lastID: UInt64 = 0
    }

    private let state = Mutex(State())
    private let effects: @Sendable (Span<UInt8>) -> PreparedStatement.Effects
    /// What all statements take, those of single clients too.
    public let memory = StatementMemory()

    /// - Parameter effects: what running a text does to its session.
    public init(effects: @escaping @Sendable (Span<UInt8>) -> PreparedStatement.Effects = { _ in [] }) {
        self.effects = effects
    }

    /// The statement of a Parse message; a new one when there is none.
    ///
    /// - Parameters:
    ///   - tail: the message behind the statement's name (`ParseMessage.tail`).
    ///   - settings: what the text is read with.
    public func statement(_ tail: Span<UInt8>, _ settings: ParsingSettings) -> PreparedStatement {
        self.statement(tail, settings, hash: contentHash(tail) ^ settings.hash)
    }

    func statement(_ tail: Span<UInt8>, _ settings: ParsingSettings, hash: UInt32) -> PreparedStatement {
        // A span cannot enter the lock's closure.
        let copy = tail.copy(0..<tail.count)
        let effects = self.effects(copy)
        return self.state.withLock { state in
            if let known = state.table.find(hash, where: { $0.tail == copy && $0.settings == settings }) {
                return known
            }
            state.lastID += 1
            let statement = PreparedStatement(
                id: state.lastID, tail: copy, settings: settings, isOwn: false, effects: effects,
                memory: self.memory)
            state.table.insert(hash, statement)
            return statement
        }
    }

    /// A statement of one client: it is never found again.
    func ownStatement(_ tail: [UInt8], _ settings: ParsingSettings) -> PreparedStatement {
        let id = self.state.withLock { state in
            state.lastID += 1
            return state.lastID
        }
        return PreparedStatement(
            id: id, tail: tail, settings: settings, isOwn: true, effects: self.effects(tail), memory: self.memory)
    }

    private func effects(_ tail: [UInt8]) -> PreparedStatement.Effects {
        let bytes = tail.span
        return self.effects(bytes.extracting(0..<(bytes.firstNUL(from: 0) ?? bytes.count)))
    }
}
