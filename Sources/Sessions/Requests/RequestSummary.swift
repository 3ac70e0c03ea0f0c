public import SQL
public import Wire

/// What is known of the statements that a request speaks of.
public protocol StatementBook {
    /// What a text is.
    func statement(_ text: Span<UInt8>) -> RequestSummary.Statement

    /// What the client has prepared under a name; the empty one is the unnamed statement's.
    func prepared(_ name: Span<UInt8>) -> RequestSummary.Statement?
}

/// What one request asks for as a whole: a Query, or a batch of the extended protocol up to its Sync (`BatchReader`).
///
/// Plain values, and three references that are nil as a rule, so that a copy counts none.
public struct RequestSummary {
    /// The strictest class among its statements, transaction commands left out.
    public private(set) var kind = StatementClass.Kind.read
    /// The transaction command that it is, and nothing else.
    public var transaction: TransactionCommand?
    public var override: RouteOverride?
    /// A comment for the router has words that mean nothing to it.
    public var isHintMistaken = false
    /// A Query that says something to the router.
    public var command: RouterCommand?
    /// A batch with messages that do. They are answered here, each in its turn, and count for nothing else.
    public var hasCommands = false
    /// Its first message does.
    public var beginsWithCommand = false
    /// It has others, too.
    public var needsServer = false
    /// It prepares or runs `SHOW martlet.lsn`, which becomes a query.
    public var asksForPosition = false
    /// What its statements do to the settings of the router beside commands, in their order; nil if they do nothing.
    public var settingsEffects: [SettingsEffect]?
    /// A ROLLBACK is among its statements.
    public var rollsBack = false
    /// The first statement is a BEGIN with others behind it.
    public var begin: TransactionModes?
    /// How it ends the transaction that is open.
    public var ending = TransactionEnding.none
    /// SET TRANSACTION, or a BEGIN within the transaction, whose modes count for it as well.
    public var changesModes = false
    /// One of its statements ties what follows in the transaction to the server that runs it.
    public private(set) var hasBindingStatement = false
    /// A portal is left that the transaction may go on with, if the Sync does not end it.
    public var keepsPortal = false
    public private(set) var ddl = StatementClass.DDL.none
    /// One of its statements shows what is in tables.
    public private(set) var readsData = false
    public private(set) var takesLock = false
    /// Even a READ ONLY transaction needs the primary for it: what writes, locks out others, or fails on replicas.
    public private(set) var mustLeaveReplica = false
    public private(set) var takesSnapshot = false
    /// One of its statements may write although it goes to a replica.
    public private(set) var mayHideWrite = false
    public private(set) var settings = StatementClass.SettingsUse.none
    /// Runs what was bound in a batch before this one.
    public var runsEarlierPortal = false
    /// It ends with a Flush in the place of Sync, and has run nothing.
    public var isOpen = false
    /// It ends with a Flush or Query in the place of Sync, and the rest of the batch is unknown.
    public var isInterrupted = false
    /// Its reader, which goes on behind that Flush.
    public var openBatch: BatchReader?
    /// Statements that run.
    public var statements = 0
    /// Where it ends in the bytes.
    public var end = 0

    /// What is known of a text, be it prepared or not.
    public struct Statement {
        public let statementClass: StatementClass
        public let override: RouteOverride?
        public let isHintMistaken: Bool
        public let command: RouterCommand?

        public init(_ result: borrowing Classifier.Result, _ text: Span<UInt8>, standardConformingStrings: Bool) {
            self.statementClass = result.statementClass
            self.override = result.override
            self.isHintMistaken = result.isHintMistaken
            self.command =
                result.statementClass.namesSettings
                ? RouterCommand(text, standardConformingStrings: standardConformingStrings) : nil
        }

        /// The command that it is once it is prepared, whatever its parameters; nil if a server has to know it.
        ///
        /// Several statements cannot be prepared together: a server says so.
        public var preparedCommand: RouterCommand? {
            guard let command = self.command, !command.dependsOnParameters else { return nil }
            if case .statements = command.content, command.only == nil { return nil }
            return command
        }

        /// The command that it is with the parameters of a Bind; nil if it is none.
        public func boundCommand(_ message: Span<UInt8>, _ prefix: BindPrefix) -> RouterCommand? {
            guard let command = self.command else { return nil }
            if case .statements = command.content, command.only == nil { return nil }
            guard let values = prefix.values(message) else { return command.dependsOnParameters ? nil : command }
            return command.bound(to: values)
        }
    }

    public init() {}

    private init(only statementClass: StatementClass) {
        self.add(statementClass)
        self.statements = 1
    }

    /// A request that is not looked at.
    public static var tooLong: RequestSummary { RequestSummary(only: .tooLong) }

    /// A request that may do anything.
    public static var unknown: RequestSummary { RequestSummary(only: Self.functionCall) }
    private static let functionCall = StatementClass(
        kind: .write, reason: "a function call of the protocol, which may write")

    /// Takes in a simple Query.
    ///
    /// - Parameters:
    ///   - query: its text.
    ///   - end: the message's length.
    public mutating func read(query: Statement, end: Int) {
        let statementClass = query.statementClass
        self.addSettingsEffects(of: statementClass)
        self.override = query.override
        self.isHintMistaken = query.isHintMistaken
        self.statements = 1
        self.end = end
        self.transaction = statementClass.transaction
        self.ending = statementClass.ending
        if self.transaction == nil { self.add(statementClass) }
        if case .set? = self.transaction { self.changesModes = true }
        if self.transaction?.isRollback ?? false { self.rollsBack = true }
        if let command = query.command {
            self.command = command
            self.asksForPosition = command.positionColumn != nil
        }
    }

    /// One of its statements is of this class.
    public mutating func add(_ statementClass: StatementClass) {
        self.kind = max(self.kind, statementClass.kind)
        if statementClass.bindsTransaction { self.hasBindingStatement = true }
        self.ddl = max(self.ddl, statementClass.ddl)
        if statementClass.readsData { self.readsData = true }
        if statementClass.takesLock { self.takesLock = true }
        if statementClass.needsPrimary { self.mustLeaveReplica = true }
        if statementClass.takesSnapshot { self.takesSnapshot = true }
        if statementClass.mayHideWrite { self.mayHideWrite = true }
        self.settings = max(self.settings, statementClass.settings)
    }

    /// A statement of this class runs.
    @inline(__always)
    mutating func addSettingsEffects(of statementClass: StatementClass) {
        if !statementClass.settingsEffects.isEmpty {
            self.settingsEffects = (self.settingsEffects ?? []) + statementClass.settingsEffects
        }
    }

    // MARK: What it means

    /// The modes of the transaction that it begins, alone or with others behind.
    public var opens: TransactionModes? {
        if case .begin(let modes, _)? = self.transaction { return modes }
        return self.begin
    }

    /// Some of its messages may be for the router, be they behind a Flush.
    public var mayHaveCommands: Bool { self.hasCommands || self.isInterrupted }

    /// What follows in its transaction needs the same server.
    public var bindsTransaction: Bool { self.hasBindingStatement || self.keepsPortal }

    /// A replica may run it, be it in a transaction or not.
    public var isRead: Bool { self.kind == .read }

    public var mayWrite: Bool { (self.kind == .write && self.statements > 0) || self.runsEarlierPortal }
}
