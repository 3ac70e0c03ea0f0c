import Synchronization
import Wire

/// A statement that clients have prepared: its text and parameter types, what the text was read with, and the name it
/// has on every server.
///
/// There is one object for each (text, parameter types, settings) as long as a client or a server connection holds it,
/// and one for each client where nobody knows the settings (`StatementCache.ownStatement`).
public final class PreparedStatement: Sendable {
    /// Never given twice in a process.
    public let id: UInt64
    /// The Parse message behind the statement's name: the text, its NUL, and the parameter types with their count.
    public let tail: [UInt8]
    /// The name on a server.
    public let serverName: [UInt8]
    /// What the text was read with.
    public let settings: ParsingSettings
    /// Whether it is one client's only.
    public let isOwn: Bool
    /// What running it does to its session.
    public let effects: Effects
    /// Whether it returns the same columns whenever it runs: not FETCH and EXECUTE.
    public let hasFixedColumns: Bool
    private let memory: StatementMemory

    /// What a statement does to its session, as far as its text shows it.
    public struct Effects: OptionSet, Sendable {
        public let rawValue: UInt8
        public init(rawValue: UInt8) { self.rawValue = rawValue }

        /// It may change `ParsingSettings`.
        public static let changesParsing = Effects(rawValue: 1)
        /// It takes names of statements away.
        public static let deallocates = Effects(rawValue: 2)
        /// What is prepared behind it may mean something else than before it: it sets something, or is DDL.
        public static let changesMeaning = Effects(rawValue: 4)
        /// It is answered like a SELECT and makes a relation.
        public static let makesRelation = Effects(rawValue: 8)
    }

    init(
        id: UInt64, tail: [UInt8], settings: ParsingSettings, isOwn: Bool, effects: Effects,
        memory: StatementMemory
    ) {
        self.id = id
        self.tail = tail
        self.textLength = tail.firstIndex(of: 0) ?? tail.count
        self.serverName = Array("martlet_\(id)".utf8)
        self.settings = settings
        self.isOwn = isOwn
        self.effects = effects
        self.hasFixedColumns = !Self.begins(tail, with: "fetch") && !Self.begins(tail, with: "execute")
        self.memory = memory
        memory.add(statements: 1, bytes: self.size)
    }

    deinit { self.memory.add(statements: -1, bytes: -self.size) }

    /// Bytes that it takes in memory, about.
    public var size: Int { Self.size(tailLength: self.tail.count) }
    /// The same for a statement that there is not yet.
    public static func size(tailLength: Int) -> Int { tailLength + 256 }

    /// Whether a text begins with a word, given in lower case.
    private static func begins(_ tail: [UInt8], with word: StaticString) -> Bool {
        var text = tail[...]
        while let first = text.first, first == UInt8(ascii: " ") || (9...13).contains(first) { text.removeFirst() }
        let word = Array(word.description.utf8)
        return text.count > word.count && zip(text, word).allSatisfy { $0 | 0x20 == $1 }
    }

    /// The statement's text as it came.
    public var textBytes: [UInt8] { Array(self.tail.prefix(self.textLength)) }
    /// Bytes of the text, at the beginning of `tail`.
    public let textLength: Int

    /// The statement's text for people; what is not valid UTF-8 is replaced by U+FFFD.
    public var text: String {
        String(decoding: self.tail.prefix { $0 != 0 }, as: UTF8.self)
    }

    /// Whether the tail is these bytes.
    func hasTail(_ bytes: Span<UInt8>) -> Bool {
        let tail = self.tail
        return tail.span.equals(bytes)
    }
}

/// How many prepared statements there are in the process, and the bytes that they take.
public final class StatementMemory: Sendable {
    private let statementCount = Atomic<Int>(0)
    private let byteCount = Atomic<Int>(0)

    public var statements: Int { self.statementCount.load(ordering: .relaxed) }
    public var bytes: Int { self.byteCount.load(ordering: .relaxed) }

    func add(statements: Int, bytes: Int) {
        self.statementCount.add(statements, ordering: .relaxed)
        self.byteCount.add(bytes, ordering: .relaxed)
    }
}
