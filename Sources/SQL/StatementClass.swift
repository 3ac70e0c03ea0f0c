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
    /// What it does to the catalogue.
    public let ddl: DDL
    /// Shows what is in tables or catalogues, or calls a function that may do so.
    public let readsData: Bool
    /// Takes or gives back locks, of tables or advisory ones, that are to keep others out: a replica's are its own.
    public let takesLock: Bool
    /// A replica cannot run it, or says something else than the primary, even in a READ ONLY transaction.
    public let needsPrimary: Bool
    /// Takes the snapshot of its transaction, whose modes cannot be changed any more behind it.
    public let takesSnapshot: Bool
    /// How it ends the transaction that is open when it comes.
    public let ending: TransactionEnding
    /// Of kind `read`, and yet it may write: it runs queries that nobody sees. A replica refuses what is a write.
    public let mayHideWrite: Bool
    /// Names something that DDL can make another: a relation, function, operator or type that is not PostgreSQL's for
    /// certain.
    public let dependsOnCatalogue: Bool
    /// What it has to do with settings of the session.
    public let settings: SettingsUse
    /// libpg_query does not understand it (a newer syntax, or an error).
    public let isUnparsed: Bool
    /// It is about settings, so perhaps about the router's (`RouterCommand`): SET, RESET, SHOW, or a call of set_config() or
    /// current_setting(), wherever it stands.
    public let namesSettings: Bool
    /// What its statements do to settings beside that, in their order.
    public let settingsEffects: [SettingsEffect]

    /// What a statement does to definitions: of functions, views, tables, types …
    public enum DDL: UInt8, Sendable, Comparable {
        case none
        /// Takes some away. What is judged by them is judged too strictly then, if at all.
        case drops
        /// Runs code that may change them: DO, CALL, what is not understood.
        case possible
        /// CREATE, ALTER and so on.
        case certain

        public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
    }

    /// What a statement has to do with settings of its session.
    public enum SettingsUse: UInt8, Sendable, Comparable {
        case none
        /// SHOW, current_setting.
        case shows
        /// SET, set_config.
        case changes

        public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
    }

    public init(
        kind: Kind, reason: String, transaction: TransactionCommand? = nil, bindsTransaction: Bool = false,
        ddl: DDL = .none, readsData: Bool = false, mayHideWrite: Bool = false,
        dependsOnCatalogue: Bool = false, settings: SettingsUse = .none, takesLock: Bool = false,
        needsPrimary: Bool = false, takesSnapshot: Bool = true, ending: TransactionEnding = .none,
        isUnparsed: Bool = false, namesSettings: Bool = false, settingsEffects: [SettingsEffect] = []
    ) {
        self.kind = kind
        self.reason = reason
        self.transaction = transaction
        self.bindsTransaction = bindsTransaction
        self.ddl = ddl
        self.readsData = readsData
        self.takesLock = takesLock
        self.needsPrimary = needsPrimary || takesLock || kind == .write
        self.takesSnapshot = takesSnapshot
        self.ending = ending
        self.mayHideWrite = mayHideWrite
        self.dependsOnCatalogue = dependsOnCatalogue
        self.settings = settings
        self.isUnparsed = isUnparsed
        self.namesSettings = namesSettings
        self.settingsEffects = settingsEffects
    }

    /// A statement longer than `classify_limit`, which nobody has looked at.
    public static let tooLong = StatementClass(
        kind: .write, reason: "longer than classify_limit", bindsTransaction: true, ddl: .possible)

    /// A statement with names that cannot be compared with the catalogue's, or that cannot be read at all.
    public static let foreignText = StatementClass(
        kind: .write, reason: "has other characters than ASCII in an encoding that is not UTF-8",
        bindsTransaction: true, ddl: .possible, readsData: true, dependsOnCatalogue: true)

    /// What it counts as from DDL that may have changed what it names until the catalogue has been read again.
    public var behindDDL: StatementClass {
        StatementClass(
            kind: .write, reason: "may use what DDL has just changed", transaction: self.transaction,
            bindsTransaction: self.bindsTransaction, ddl: self.ddl, readsData: true, mayHideWrite: self.mayHideWrite,
            dependsOnCatalogue: true, settings: self.settings, takesLock: self.takesLock,
            takesSnapshot: self.takesSnapshot, ending: self.ending, isUnparsed: self.isUnparsed,
            namesSettings: self.namesSettings, settingsEffects: self.settingsEffects)
    }

    /// A statement of a new shape for which there is no time now; a later one like it is looked at.
    public static let notParsed = StatementClass(
        kind: .write, reason: "one of too many new statements at a time", bindsTransaction: true,
        ddl: .possible, isUnparsed: true, namesSettings: true)
}

/// What a statement does to all settings of the session.
public enum SettingsEffect: Sendable, Equatable {
    /// RESET ALL.
    case resetAll
    case savepoint(String)
    case rollback(to: String)
    case release(String)
}

/// A statement that begins, ends or describes a transaction.
public enum TransactionCommand: Sendable, Equatable {
    /// BEGIN, or START TRANSACTION, whose tag is another.
    case begin(TransactionModes, isStart: Bool = false)
    /// SET TRANSACTION (not SET SESSION CHARACTERISTICS, not SET TRANSACTION SNAPSHOT).
    case set(TransactionModes)
    /// COMMIT, END; not COMMIT PREPARED.
    case commit(chain: Bool)
    /// ROLLBACK, ABORT; not ROLLBACK TO, not ROLLBACK PREPARED.
    case rollback(chain: Bool)

    public var isRollback: Bool {
        if case .rollback = self { return true }
        return false
    }
}

/// What becomes of the transaction that is open when a request comes.
public enum TransactionEnding: Sendable, Equatable {
    /// It is not ended.
    case none
    /// COMMIT or ROLLBACK is the last statement; chained, if another transaction like it begins.
    case last(isChained: Bool)
    /// Others come behind the first COMMIT or ROLLBACK: in a text behind so many of its statements, in a batch of the
    /// extended protocol from that byte on.
    case before(rest: Int)
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
