/// Where the text of a Query or Parse message may run, and why.
///
/// A text of several statements has one class: the strictest of its statements'.
public final class StatementClass: Sendable {
    /// The strictest comes last.
    public enum Kind: UInt8, Sendable, Comparable {
        /// A replica may run it.
        case read
        /// Needs the primary, and changes nothing that another client can see: the node's own statistics, session
        /// commands (SET, SHOW, PREPARE, DECLARE …), locks.
        case primary
        /// May change data.
        case write

        public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
    }

    public let kind: Kind
    /// Why, in words for people: "calls nextval, which writes". One line, no full stop.
    public let reason: String
    /// The text is one transaction command and nothing else.
    public let transaction: TransactionCommand?
    /// Binds what follows in its transaction to the server that runs it: SAVEPOINT, DECLARE, SET LOCAL, LOCK, PREPARE …
    /// Always of kind `primary` or `write`.
    public let bindsTransaction: Bool
    /// Volatility of functions or persistence of tables may be another behind it: CREATE, ALTER, DROP, DO, CALL …
    public let changesCatalogue: Bool
    /// Shows what is in tables, or calls a function that may do so.
    public let readsData: Bool
    /// Takes or gives back advisory locks: a replica does that too, but its locks are its own.
    public let takesAdvisoryLock: Bool
    /// libpg_query does not understand it (a newer syntax, or an error).
    public let isUnparsed: Bool

    public init(
        kind: Kind, reason: String, transaction: TransactionCommand? = nil, bindsTransaction: Bool = false,
        changesCatalogue: Bool = false, readsData: Bool = false, takesAdvisoryLock: Bool = false,
        isUnparsed: Bool = false
    ) {
        self.kind = kind
        self.reason = reason
        self.transaction = transaction
        self.bindsTransaction = bindsTransaction
        self.changesCatalogue = changesCatalogue
        self.readsData = readsData
        self.takesAdvisoryLock = takesAdvisoryLock
        self.isUnparsed = isUnparsed
    }

    /// A statement longer than `classify_limit`, which nobody has looked at.
    public static let tooLong = StatementClass(
        kind: .write, reason: "longer than classify_limit", bindsTransaction: true)

    /// A statement of a new shape for which there is no time now; a later one like it is looked at.
    public static let notParsed = StatementClass(
        kind: .write, reason: "one of too many new statements at a time", bindsTransaction: true,
        changesCatalogue: true, isUnparsed: true)
}

/// A statement that begins, ends or describes a transaction.
public enum TransactionCommand: Sendable, Equatable {
    /// BEGIN, START TRANSACTION.
    case begin(TransactionModes)
    /// SET TRANSACTION (not SET SESSION CHARACTERISTICS, not SET TRANSACTION SNAPSHOT).
    case set(TransactionModes)
    /// COMMIT, END; not COMMIT PREPARED.
    case commit(chain: Bool)
    /// ROLLBACK, ABORT; not ROLLBACK TO, not ROLLBACK PREPARED.
    case rollback(chain: Bool)
}

/// The modes that BEGIN and SET TRANSACTION name; nil is not named.
public struct TransactionModes: Sendable, Equatable {
    public enum Isolation: Sendable { case readUncommitted, readCommitted, repeatableRead, serializable }
    public var isolation: Isolation?
    public var readOnly: Bool?
    public var deferrable: Bool?

    public init(isolation: Isolation? = nil, readOnly: Bool? = nil, deferrable: Bool? = nil) {
        self.isolation = isolation
        self.readOnly = readOnly
        self.deferrable = deferrable
    }
}
