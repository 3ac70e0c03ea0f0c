import Wire

/// The prepared statements of one client, by the names the client gave them.
///
/// A look-up works on the bytes of the message and allocates nothing; without statements it is one empty pointer.
public struct ClientStatements: ~Copyable {
    private struct Entry {
        let name: [UInt8]
        let hash: UInt32
        var statement: PreparedStatement

        func hasName(_ bytes: Span<UInt8>) -> Bool {
            self.name.span.equals(bytes)
        }
    }

    private final class Storage {
        var entries: [Entry] = []
        var index = HashIndex()
    }

    private var storage: Storage?

    public init() {}

    /// Number of names.
    public var count: Int { self.storage?.entries.count ?? 0 }

    /// Gives a name to a statement.
    ///
    /// The empty name is the unnamed statement, which may be replaced at any time.
    ///
    /// - Returns: false when the name is in use, which is an error to the client (SQLSTATE 42P05).
    public mutating func add(_ name: Span<UInt8>, _ statement: PreparedStatement) -> Bool {
        self.add(name, statement, hash: contentHash(name))
    }

    /// The statement of a name; nil when there is none, which is an error to the client (SQLSTATE 26000).
    public func find(_ name: Span<UInt8>) -> PreparedStatement? {
        self.find(name, hash: contentHash(name))
    }

    /// Takes a name away.
    ///
    /// - Returns: the statement it had; nil when there is none, which Close does not mind.
    @discardableResult
    public mutating func remove(_ name: Span<UInt8>) -> PreparedStatement? {
        self.remove(name, hash: contentHash(name))
    }

    /// Takes all names away (`DISCARD ALL`, `DEALLOCATE ALL`).
    public mutating func removeAll() {
        self.storage = nil
    }

    mutating func add(_ name: Span<UInt8>, _ statement: PreparedStatement, hash: UInt32) -> Bool {
        let storage = self.storage ?? Storage()
        self.storage = storage
        if let position = self.position(name, hash: hash) {
            guard name.isEmpty else { return false }
            storage.entries[position].statement = statement
            return true
        }
        storage.index.insert(hash, storage.entries.count)
        storage.entries.append(Entry(name: name.copy(0..<name.count), hash: hash, statement: statement))
        return true
    }

    func find(_ name: Span<UInt8>, hash: UInt32) -> PreparedStatement? {
        guard let storage = self.storage, let position = self.position(name, hash: hash) else { return nil }
        return storage.entries[position].statement
    }

    mutating func remove(_ name: Span<UInt8>, hash: UInt32) -> PreparedStatement? {
        guard let storage = self.storage, let position = self.position(name, hash: hash) else { return nil }
        let statement = storage.entries[position].statement
        storage.index.remove(hash, position)
        // The last entry takes the free place.
        let last = storage.entries.removeLast()
        if position < storage.entries.count {
            storage.index.move(last.hash, from: storage.entries.count, to: position)
            storage.entries[position] = last
        } else if storage.entries.isEmpty {
            self.storage = nil
        }
        return statement
    }

    private func position(_ name: Span<UInt8>, hash: UInt32) -> Int? {
        guard let storage = self.storage else { return nil }
        return storage.index.find(hash) { storage.entries[$0].hasName(name) }
    }
}
