/// The statements that are prepared on one server connection, least recently used ones first to go.
///
/// It holds its statements, so that a statement stays the same one while some server has it. Using one costs a look-up
/// and a few stores, no allocation.
public struct ServerStatements: ~Copyable {
    private struct Node {
        /// Nil in a free place.
        var statement: PreparedStatement?
        /// The statement's id; compared instead of the object, whose count of references need not be touched.
        var id: UInt64
        /// The catalogue's generation when it was prepared; 0 if nobody knows, or it cannot be trusted.
        var generation: UInt64
        /// When it was prepared or, after that, known to be what its text means.
        var provenAt: Int64
        /// What the server has said of its parameters and columns.
        var description: StatementDescription
        /// Towards the more recently used one; in a free place the next free one. -1 is none.
        var newer: Int32
        /// Towards the less recently used one. -1 is none.
        var older: Int32
    }

    /// The greatest number of statements (`max_prepared_statements`), at least 1.
    ///
    /// After it has been lowered there may be more (`isOverLimit`).
    public var limit: Int {
        didSet { self.limit = max(1, self.limit) }
    }

    /// The most bytes that the statements may take (`max_prepared_statement_memory`); the last one used may take more.
    public var sizeLimit: Int
    /// Bytes that they take.
    public private(set) var size = 0

    private var nodes: [Node] = []
    private var index = HashIndex()
    private var newest: Int32 = -1
    private var oldest: Int32 = -1
    private var free: Int32 = -1

    /// - Parameters:
    ///   - limit: the greatest number of statements, brought to at least 1.
    ///   - sizeLimit: the most bytes that they may take.
    public init(limit: Int, sizeLimit: Int = .max) {
        self.limit = max(1, limit)
        self.sizeLimit = sizeLimit
    }

    /// Number of statements.
    public var count: Int { self.index.count }

    /// What the server has of a statement.
    public enum Presence: Equatable, Sendable {
        case missing
        /// It was prepared before the catalogue changed in a way that matters to who asks.
        case outdated
        /// `provenAt`: what was changed behind the proxy's back since then, the server has not seen yet.
        case prepared(description: StatementDescription, provenAt: Int64)
    }

    /// Whether a statement is prepared; it then counts as just used.
    ///
    /// - Parameter generation: the catalogue's, at least 1; what is older will not do.
    public mutating func use(_ statement: PreparedStatement, from generation: UInt64) -> Presence {
        guard let position = self.position(statement) else { return .missing }
        if self.newest != Int32(position) {
            self.unlink(position)
            self.linkNewest(position)
        }
        if self.nodes[position].generation < generation { return .outdated }
        return .prepared(
            description: self.nodes[position].description, provenAt: self.nodes[position].provenAt)
    }

    /// Whether a statement is prepared; its turn does not change.
    public func contains(_ statement: PreparedStatement) -> Bool {
        self.position(statement) != nil
    }

    /// The catalogue's generation when a statement was prepared; 0 when it is not there.
    public func generation(of statement: PreparedStatement) -> UInt64 {
        self.position(statement).map { self.nodes[$0].generation } ?? 0
    }

    /// The server has said what a statement returns.
    public mutating func describe(_ statement: PreparedStatement, as description: StatementDescription) {
        guard let position = self.position(statement) else { return }
        self.nodes[position].description.take(description)
    }

    /// What runs next shows whether the statement is still what its text means.
    public mutating func prove(_ statement: PreparedStatement, at time: Int64) {
        guard let position = self.position(statement) else { return }
        self.nodes[position].provenAt = time
    }

    /// A statement will not do for anybody any more.
    public mutating func distrust(_ statement: PreparedStatement) {
        guard let position = self.position(statement) else { return }
        self.nodes[position].generation = 0
    }

    /// What was prepared at that time or later was prepared with a catalogue that may never have been anybody else's.
    public mutating func distrust(since time: Int64) {
        for position in self.nodes.indices where self.nodes[position].provenAt >= time {
            self.nodes[position].generation = 0
        }
    }

    /// Takes away the least recently used statement if another one, of that size, would go over a limit; to be called
    /// until there is none.
    public mutating func makeRoom(for size: Int) -> PreparedStatement? {
        guard self.count > 0, self.count >= self.limit || self.size > self.sizeLimit - size else { return nil }
        return self.removeOldest()
    }

    /// Adds a statement as the one just used.
    ///
    /// - Parameter time: now, in microseconds of a clock that all reactors share.
    public mutating func insert(_ statement: PreparedStatement, generation: UInt64, at time: Int64 = 0) {
        self.remove(statement)
        let position: Int
        let node = Node(
            statement: statement, id: statement.id, generation: generation, provenAt: time,
            description: StatementDescription(), newer: -1,
            older: -1)
        if self.free >= 0 {
            position = Int(self.free)
            self.free = self.nodes[position].newer
            self.nodes[position] = node
        } else {
            position = self.nodes.count
            self.nodes.append(node)
        }
        self.size += statement.size
        self.index.insert(Self.hash(statement), position)
        self.linkNewest(position)
    }

    /// Whether there are more of them than the limits allow, because those were lowered.
    public var isOverLimit: Bool { self.count > self.limit || (self.size > self.sizeLimit && self.count > 1) }

    /// None of them will do for anybody any more.
    public mutating func distrust() {
        for position in self.nodes.indices { self.nodes[position].generation = 0 }
    }

    /// Forgets a statement: its Parse has failed, or it has to be prepared anew.
    ///
    /// - Returns: whether it was there.
    @discardableResult
    public mutating func remove(_ statement: PreparedStatement) -> Bool {
        guard let position = self.position(statement) else { return false }
        self.remove(at: position)
        return true
    }

    /// Forgets all statements (`DISCARD ALL`, `DEALLOCATE ALL`).
    public mutating func removeAll() {
        self.nodes = []
        self.size = 0
        self.index = HashIndex()
        (self.newest, self.oldest, self.free) = (-1, -1, -1)
    }

    private static func hash(_ statement: PreparedStatement) -> UInt32 {
        // Ids are given in sequence: spread over the table without further mixing.
        UInt32(truncatingIfNeeded: statement.id)
    }

    private func position(_ statement: PreparedStatement) -> Int? {
        self.index.find(Self.hash(statement)) { self.nodes[$0].id == statement.id }
    }

    private mutating func removeOldest() -> PreparedStatement? {
        guard self.oldest >= 0 else { return nil }
        let statement = self.nodes[Int(self.oldest)].statement
        self.remove(at: Int(self.oldest))
        return statement
    }

    private mutating func remove(at position: Int) {
        guard let statement = self.nodes[position].statement else { return }
        self.index.remove(Self.hash(statement), position)
        self.unlink(position)
        self.size -= statement.size
        self.nodes[position] = Node(
            statement: nil, id: 0, generation: 0, provenAt: 0, description: StatementDescription(), newer: self.free,
            older: -1)
        self.free = Int32(position)
    }

    private mutating func unlink(_ position: Int) {
        let (newer, older) = (self.nodes[position].newer, self.nodes[position].older)
        if newer >= 0 { self.nodes[Int(newer)].older = older } else { self.newest = older }
        if older >= 0 { self.nodes[Int(older)].newer = newer } else { self.oldest = newer }
    }

    private mutating func linkNewest(_ position: Int) {
        self.nodes[position].newer = -1
        self.nodes[position].older = self.newest
        if self.newest >= 0 {
            self.nodes[Int(self.newest)].newer = Int32(position)
        } else {
            self.oldest = Int32(position)
        }
        self.newest = Int32(position)
    }
}
