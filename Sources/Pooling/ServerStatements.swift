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
        /// Towards the more recently used one; in a free place the next free one. -1 is none.
        var newer: Int32
        /// Towards the less recently used one. -1 is none.
        var older: Int32
    }

    /// The greatest number of statements (`max_prepared_statements`), at least 1.
    ///
    /// After it has been lowered, `evictExcess` tells which ones have to go.
    public var limit: Int {
        didSet { self.limit = max(1, self.limit) }
    }

    private var nodes: [Node] = []
    private var index = HashIndex()
    private var newest: Int32 = -1
    private var oldest: Int32 = -1
    private var free: Int32 = -1

    /// - Parameter limit: the greatest number of statements, brought to at least 1.
    public init(limit: Int) {
        self.limit = max(1, limit)
    }

    /// Number of statements.
    public var count: Int { self.index.count }

    /// Whether a statement is prepared; it then counts as just used.
    public mutating func use(_ statement: PreparedStatement) -> Bool {
        guard let position = self.position(statement) else { return false }
        if self.newest != Int32(position) {
            self.unlink(position)
            self.linkNewest(position)
        }
        return true
    }

    /// Whether a statement is prepared; its turn does not change.
    public func contains(_ statement: PreparedStatement) -> Bool {
        self.position(statement) != nil
    }

    /// Adds a statement as the one just used.
    ///
    /// - Returns: the statement that has to be closed on the server to make room, if any.
    public mutating func insert(_ statement: PreparedStatement) -> PreparedStatement? {
        if self.use(statement) { return nil }
        // Room is made first, so that the new statement takes the place of the old one.
        let evicted = self.count >= self.limit ? self.removeOldest() : nil
        let position: Int
        if self.free >= 0 {
            position = Int(self.free)
            self.free = self.nodes[position].newer
            self.nodes[position].statement = statement
            self.nodes[position].id = statement.id
        } else {
            position = self.nodes.count
            self.nodes.append(Node(statement: statement, id: statement.id, newer: -1, older: -1))
        }
        self.index.insert(Self.hash(statement), position)
        self.linkNewest(position)
        return evicted
    }

    /// Takes away the least recently used statement while there are more than `limit`, one with each call.
    public mutating func evictExcess() -> PreparedStatement? {
        self.count > self.limit ? self.removeOldest() : nil
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
        self.nodes[position] = Node(statement: nil, id: 0, newer: self.free, older: -1)
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
