import Pooling
import Routing
import SQL
import Wire

/// What is known of the statements that a request speaks of.
protocol StatementBook {
    /// What a text is.
    func classify(_ text: Span<UInt8>) -> Classifier.Result

    /// What the client has prepared under a name; the empty one is the unnamed statement's.
    func prepared(_ name: Span<UInt8>) -> RequestSummary.Statement?
}

/// What one request asks for as a whole: a Query, or a batch of the extended protocol up to its Sync.
struct RequestSummary {
    /// The strictest class among its statements, transaction commands left out.
    private(set) var kind = StatementClass.Kind.read
    /// The class that says why.
    private(set) var strictest: StatementClass?
    /// The class of the only statement, when there is just one that runs.
    private(set) var only: StatementClass?
    private(set) var override: RouteOverride?
    /// The only statement is one for the router. It may be prepared only, and not run.
    private(set) var command: RouterCommand?
    /// It prepares or runs `SHOW martlet.lsn`, which becomes a query.
    private(set) var asksForPosition = false
    /// The first statement is a BEGIN with others behind it.
    private(set) var begin: TransactionModes?
    /// COMMIT or ROLLBACK among others.
    private(set) var hasEnd = false
    /// One of its statements ties what follows in the transaction to the server that runs it.
    private(set) var hasBindingStatement = false
    /// A portal is left that the transaction may go on with, if the Sync does not end it.
    private(set) var keepsPortal = false
    private(set) var changesCatalogue = false
    /// One of its statements shows what is in tables.
    private(set) var readsData = false
    private(set) var takesAdvisoryLock = false
    /// Statements that run.
    private(set) var statements = 0
    /// Where it ends in the bytes.
    private(set) var end = 0
    private var unnamed: Statement?
    /// It is prepared in this batch.
    private var isUnnamedHere = false
    /// Statements with names that are prepared in it.
    private var named: [(name: [UInt8], statement: Statement)] = []
    private var bound: Statement?
    private var parses = 0
    private(set) var binds = 0
    /// What was bound last, and whether it was prepared in this batch, too.
    private var portal: [UInt8] = []
    private var isPreparedHere = false
    /// Runs what was bound in a batch before this one.
    private var runsEarlierPortal = false
    /// It ends with a Flush in the place of Sync, and has run nothing.
    private(set) var isOpen = false

    /// What is known of a prepared statement's text.
    struct Statement {
        let statementClass: StatementClass
        let override: RouteOverride?
        let command: RouterCommand?

        init(_ result: borrowing Classifier.Result, _ text: Span<UInt8>) {
            self.statementClass = result.statementClass
            self.override = result.override
            // A text that is a command may be one that the parser does not understand.
            self.command = result.statementClass.kind == .read ? nil : RouterCommand(text)
        }
    }

    /// What a look at the bytes has brought.
    enum Progress {
        case whole
        /// More of it has to come.
        case partial
        case malformed
    }

    /// A request that is not looked at.
    static let tooLong: RequestSummary = {
        var summary = RequestSummary()
        summary.add(.tooLong)
        summary.statements = 1
        return summary
    }()

    /// A request that may do anything.
    static let unknown: RequestSummary = {
        var summary = RequestSummary()
        summary.add(StatementClass(kind: .write, reason: "a function call of the protocol, which may write"))
        summary.statements = 1
        return summary
    }()

    private mutating func add(_ statementClass: StatementClass) {
        if self.strictest == nil || statementClass.kind > self.kind {
            self.kind = max(self.kind, statementClass.kind)
            self.strictest = statementClass
        }
        if statementClass.bindsTransaction { self.hasBindingStatement = true }
        if statementClass.changesCatalogue { self.changesCatalogue = true }
        if statementClass.readsData { self.readsData = true }
        if statementClass.takesAdvisoryLock { self.takesAdvisoryLock = true }
    }

    // MARK: Query

    init() {}

    /// The summary of a simple Query's text.
    init(query text: Span<UInt8>, end: Int, _ book: some StatementBook) {
        let result = book.classify(text)
        self.override = result.override
        self.statements = 1
        self.end = end
        self.only = result.statementClass
        if result.statementClass.transaction == nil { self.add(result.statementClass) }
        if result.statementClass.kind != .read { self.command = RouterCommand(text) }
        self.asksForPosition = self.command == .show(name: "lsn")
    }

    // MARK: Batch

    /// The same, for what comes behind a Flush.
    func continued() -> RequestSummary {
        var rest = self
        rest.end = 0
        rest.isOpen = false
        return rest
    }

    /// Looks at more of a batch.
    ///
    /// - Parameter bytes: what has come, from the batch's first message on.
    mutating func scan(_ bytes: Span<UInt8>, _ book: some StatementBook) -> Progress {
        while true {
            guard let header = MessageFramer.header(bytes, at: self.end) else { return .partial }
            let length = header.length + 1
            guard length >= MessageFramer.headerLength else { return .malformed }
            guard length <= bytes.count - self.end else {
                // Only the beginning of a Bind has to be seen, but the request is kept whole for another try.
                return .partial
            }
            let message = bytes.extracting(self.end..<(self.end + length))
            switch header.type {
            case Frontend.parse: guard self.parse(message, book) else { return .malformed }
            case Frontend.bind: guard self.bind(message, book) else { return .malformed }
            case Frontend.execute: guard self.execute(message) else { return .malformed }
            case Frontend.describe, Frontend.close:
                guard let target = MessageTarget(message) else { return .malformed }
                if header.type == Frontend.describe && target.kind == MessageTarget.statement && !target.name.isEmpty,
                    let statement = book.prepared(message.extracting(target.name))
                {
                    self.add(statement.statementClass)
                }
            case Frontend.sync:
                self.end += length
                self.finish()
                return .whole
            case Frontend.flush where self.binds == 0:
                // Drivers that ask what a statement is before they bind it; the Sync comes with the rest.
                self.end += length
                self.isOpen = true
                return .whole
            default:
                // Flush: answers are wanted before the batch is known. A Query in the middle, COPY data, anything else.
                self.add(Self.interrupted)
                self.end += length
                self.statements += 1
                self.finish()
                return .whole
            }
            self.end += length
        }
    }

    private static let interrupted = StatementClass(
        kind: .write, reason: "in a batch with a Flush or Query before its Sync", bindsTransaction: true)

    private mutating func parse(_ message: Span<UInt8>, _ book: some StatementBook) -> Bool {
        guard let parse = ParseMessage(message) else { return false }
        let text = message.extracting(parse.query)
        let result = book.classify(text)
        let statement = Statement(result, text)
        if let override = statement.override { self.override = override }
        if statement.command == .show(name: "lsn") { self.asksForPosition = true }
        if self.statements == 0 { self.command = self.parses == 0 ? statement.command : nil }
        self.parses += 1
        if parse.statement.isEmpty {
            self.unnamed = statement
            self.isUnnamedHere = true
        } else {
            self.named.append((message.copy(parse.statement), statement))
        }
        if result.statementClass.transaction == nil { self.add(result.statementClass) }
        return true
    }

    private mutating func bind(_ message: Span<UInt8>, _ book: some StatementBook) -> Bool {
        guard case .prefix(let prefix) = BindPrefix.parse(message) else { return false }
        let name = message.extracting(prefix.statement)
        if name.isEmpty {
            if self.unnamed == nil { self.unnamed = book.prepared(name) }
            self.bound = self.unnamed
            self.isPreparedHere = self.isUnnamedHere
        } else if let (_, statement) = self.named.last(where: { $0.name.span.equals(name) }) {
            self.bound = statement
            self.isPreparedHere = true
        } else {
            self.bound = book.prepared(name)
            self.isPreparedHere = false
        }
        // An error wherever it runs, unless prepared statements are not followed: then it may be anything.
        if self.bound == nil { self.add(Self.unknownStatement) }
        if let override = self.bound?.override { self.override = override }
        self.binds += 1
        self.portal = message.copy(prefix.portal)
        // A portal with a name is there to be used again.
        if !prefix.portal.isEmpty { self.keepsPortal = true }
        if let bound = self.bound, bound.statementClass.transaction == nil { self.add(bound.statementClass) }
        return true
    }

    private mutating func execute(_ message: Span<UInt8>) -> Bool {
        guard let execute = ExecuteMessage(message) else { return false }
        // What is left of its rows is to be fetched later.
        if execute.maximumRows != 0 { self.keepsPortal = true }
        self.statements += 1
        if self.binds == 0 {
            self.runsEarlierPortal = true
        } else if !message.extracting(execute.portal).equals(self.portal.span) {
            // Of several that are bound, not the last one.
            self.bound = nil
            self.add(Self.unknownStatement)
        }
        let statementClass = self.bound?.statementClass
        self.only = self.statements == 1 ? statementClass : nil
        self.command = self.statements == 1 ? self.bound?.command : nil
        switch statementClass?.transaction {
        case nil: break
        case .begin(let modes) where self.statements == 1: self.begin = modes
        case .commit, .rollback: self.hasEnd = true
        case .begin, .set: self.add(Self.nested)
        }
        return true
    }

    private static let unknownStatement = StatementClass(
        kind: .write, reason: "a prepared statement that is not known, which may write", bindsTransaction: true)

    private static let nested = StatementClass(
        kind: .primary, reason: "a transaction command in the middle of a batch", bindsTransaction: true)

    private mutating func finish() {
        guard self.statements == 1 else { return }
        if self.transaction != nil && self.parses > (self.isPreparedHere ? 1 : 0) {
            // Others are prepared beside it, which is the server's business: all of it goes there.
            if case .set? = self.transaction { self.add(Self.nested) }
            self.only = nil
            return
        }
        // A single BEGIN, COMMIT or SET is no batch that begins with one.
        self.begin = nil
        self.hasEnd = false
    }

    // MARK: What it means

    /// The transaction command that it is, and nothing else.
    var transaction: TransactionCommand? { self.only?.transaction }

    /// What follows in its transaction needs the same server.
    var bindsTransaction: Bool { self.hasBindingStatement || self.keepsPortal }

    /// A replica may run it, be it in a transaction or not.
    var isRead: Bool { self.kind == .read }

    /// Even a READ ONLY transaction needs the primary for it: what may notify or lock others.
    var mustLeaveReplica: Bool { self.kind == .write || self.takesAdvisoryLock }

    var mayWrite: Bool { (self.kind == .write && self.statements > 0) || self.runsEarlierPortal }
}

/// The statements of one client.
struct ClientBook: StatementBook {
    let client: ClientSession
    let router: Router

    func classify(_ text: Span<UInt8>) -> Classifier.Result { self.router.classify(text, self.client) }

    func prepared(_ name: Span<UInt8>) -> RequestSummary.Statement? {
        if name.isEmpty {
            guard !self.client.unnamedParse.isEmpty else { return nil }
            let text = Array(self.client.unnamedParse.prefix { $0 != 0 })
            return RequestSummary.Statement(self.classify(text.span), text.span)
        }
        return self.client.statements.find(name).map { self.router.known($0, self.client) }
    }
}
