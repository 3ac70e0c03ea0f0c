import Wire

/// What a client has prepared under a name.
public struct ClientStatement {
    public var statement: PreparedStatement
    /// The catalogue's generation when it did (`CatalogueGeneration`): what a server has read before is not what this
    /// client means.
    public var generation: UInt64
    /// When it did, in microseconds of a clock that all reactors share.
    public var preparedAt: Int64
    /// What the client was told of its parameters and columns.
    public var description = StatementDescription()

    public init(_ statement: PreparedStatement, generation: UInt64, at time: Int64 = 0) {
        self.statement = statement
        self.generation = generation
        self.preparedAt = time
    }
}

/// The prepared statements of one client, by the names the client gave them.
///
/// A look-up works on the bytes of the message and allocates nothing; without statements it is one empty pointer.
public struct ClientStatements: ~Copyable {
    private struct Entry {
        let name: [UInt8]
        let hash: UInt32
        var prepared: ClientStatement

        /// Bytes that it takes, the statement's own among them.
        var size: Int { self.prepared.statement.size + self.name.count }

        func hasName(_ bytes: Span<UInt8>) -> Bool {
            self.name.span.equals(bytes)
        }
    }

    private final class Storage {
        var entries: [Entry] = []
        var index = HashIndex()
        var size = 0
        var leastGeneration: UInt64 = 0
    }

    private var storage: Storage?

    public init() {}

    /// Number of names.
    public var count: Int { self.storage?.entries.count ?? 0 }
    public var isEmpty: Bool { self.storage == nil }
    /// Bytes of the statements and their names, those included that other clients have as well.
    public var size: Int { self.storage?.size ?? 0 }
    /// Nothing of an earlier generation of the catalogue will do for this client, whenever it prepared its statement: it
    /// has had an error that may come of that.
    public var leastGeneration: UInt64 { self.storage?.leastGeneration ?? 0 }

    /// Sets `leastGeneration`, for the statements that there are.
    public mutating func distrust(before generation: UInt64) {
        self.storage?.leastGeneration = generation
    }

    /// Gives a name to a statement.
    ///
    /// The empty name is the unnamed statement, which may be replaced at any time.
    ///
    /// - Returns: false when the name is in use, which is an error to the client (SQLSTATE 42P05).
    public mutating func add(_ name: Span<UInt8>, _ prepared: ClientStatement) -> Bool {
        self.add(name, prepared, hash: contentHash(name))
    }

    /// The statement of a name; nil when there is none, which is an error to the client (SQLSTATE 26000).
    public func find(_ name: Span<UInt8>) -> ClientStatement? {
        self.find(name, hash: contentHash(name))
    }

    /// Takes a name away.
    ///
    /// - Returns: the statement it had; nil when there is none, which Close does not mind.
    @discardableResult
    public mutating func remove(_ name: Span<UInt8>) -> ClientStatement? {
        self.remove(name, hash: contentHash(name))
    }

    /// Takes all names away (`DISCARD ALL`, `DEALLOCATE ALL`).
    public mutating func removeAll() {
        self.storage = nil
    }

    /// The client was told what a statement returns; nothing happens if its name is another's by now.
    public mutating func describe(
        _ name: Span<UInt8>, _ statement: PreparedStatement, as description: StatementDescription
    ) {
        guard let storage = self.storage, let position = self.position(name, hash: contentHash(name)),
            storage.entries[position].prepared.statement === statement
        else { return }
        storage.entries[position].prepared.description.take(description)
    }

    /// Another statement takes the place of the one that a name has; nothing else about it changes.
    public mutating func replace(_ name: Span<UInt8>, by statement: PreparedStatement) {
        guard let storage = self.storage, let position = self.position(name, hash: contentHash(name)) else { return }
        storage.entries[position].prepared.statement = statement
    }

    mutating func add(_ name: Span<UInt8>, _ prepared: ClientStatement, hash: UInt32) -> Bool {
        let storage = self.storage ?? Storage()
        self.storage = storage
        if let position = self.position(name, hash: hash) {
            guard name.isEmpty else { return false }
            storage.size -= storage.entries[position].size
            storage.entries[position].prepared = prepared
            storage.size += storage.entries[position].size
            return true
        }
        storage.index.insert(hash, storage.entries.count)
        let entry = Entry(name: name.copy(0..<name.count), hash: hash, prepared: prepared)
        storage.size += entry.size
        storage.entries.append(entry)
        return true
    }

    func find(_ name: Span<UInt8>, hash: UInt32) -> ClientStatement? {
        guard let storage = self.storage, let position = self.position(name, hash: hash) else { return nil }
        return storage.entries[position].prepared
    }

    mutating func remove(_ name: Span<UInt8>, hash: UInt32) -> ClientStatement? {
        guard let storage = self.storage, let position = self.position(name, hash: hash) else { return nil }
        let prepared = storage.entries[position].prepared
        storage.size -= storage.entries[position].size
        storage.index.remove(hash, position)
        // The last entry takes the free place.
        let last = storage.entries.removeLast()
        if position < storage.entries.count {
            storage.index.move(last.hash, from: storage.entries.count, to: position)
            storage.entries[position] = last
        } else if storage.entries.isEmpty {
            self.storage = nil
        }
        return prepared
    }

    private func position(_ name: Span<UInt8>, hash: UInt32) -> Int? {
        guard let storage = self.storage else { return nil }
        return storage.index.find(hash) { storage.entries[$0].hasName(name) }
    }
}
