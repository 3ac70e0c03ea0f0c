import SQL
import Wire

/// Reads a batch of the extended protocol, message by message, up to its Sync: makes its summary.
///
/// A router has one for all its clients, which reads one batch after the other without an allocation; a batch of which
/// more has to come keeps it (`Router.reader`).
public final class BatchReader {
    /// What the batch is, as far as it has been read.
    public private(set) var summary = RequestSummary()
    private var unnamed: RequestSummary.Statement?
    /// It is prepared in this batch.
    private var isUnnamedHere = false
    /// Statements with names that are prepared in it.
    private var named: [(name: [UInt8], statement: RequestSummary.Statement)] = []
    private var bound: RequestSummary.Statement?
    /// Portals with statements that were bound before the last one.
    private var otherPortals: [(name: [UInt8], statement: RequestSummary.Statement?)] = []
    /// Where the first COMMIT or ROLLBACK ends.
    private var firstEnd = 0
    private var parses = 0
    private var binds = 0
    /// What was bound last, and whether it was prepared in this batch, too.
    private var portal: [UInt8] = []
    private var isPreparedHere = false
    /// What was bound last is for the router.
    private var isCommandBound = false

    /// What a look at the bytes has brought.
    public enum Progress {
        case whole
        /// More of it has to come.
        case partial
        case malformed
    }

    public init() {}

    /// The same batch, for what comes behind its Flush.
    public init(continuing batch: BatchReader) {
        if !batch.summary.isInterrupted {
            self.summary = batch.summary
            self.summary.end = 0
            self.summary.isOpen = false
            self.summary.openBatch = nil
        }
        self.otherPortals = batch.otherPortals
        self.unnamed = batch.unnamed
        self.isUnnamedHere = batch.isUnnamedHere
        self.named = batch.named
        self.bound = batch.bound
        self.parses = batch.parses
        self.binds = batch.binds
        self.portal = batch.portal
        self.isPreparedHere = batch.isPreparedHere
        self.isCommandBound = batch.isCommandBound
        self.summary.hasCommands = false
        self.summary.beginsWithCommand = false
        self.summary.asksForPosition = false
        self.summary.isHintMistaken = false
        self.summary.settingsEffects = nil
        self.summary.rollsBack = false
    }

    /// Forgets the batch: the next one can be read.
    public func restart() {
        self.summary = RequestSummary()
        self.unnamed = nil
        self.isUnnamedHere = false
        if !self.named.isEmpty { self.named.removeAll(keepingCapacity: true) }
        self.bound = nil
        if !self.otherPortals.isEmpty { self.otherPortals.removeAll(keepingCapacity: true) }
        self.parses = 0
        self.binds = 0
        if !self.portal.isEmpty { self.portal.removeAll(keepingCapacity: true) }
        self.isPreparedHere = false
        self.isCommandBound = false
    }

    /// Gives away what the batch is, which is not read any further.
    public func handOver(_ summary: inout RequestSummary) { swap(&self.summary, &summary) }

    /// Looks at more of a batch.
    ///
    /// - Parameter bytes: what has come, from the batch's first message on.
    public func scan(_ bytes: Span<UInt8>, _ book: some StatementBook) -> Progress {
        while true {
            guard let header = MessageFramer.header(bytes, at: self.summary.end) else { return .partial }
            let length = header.length + 1
            guard length >= MessageFramer.headerLength else { return .malformed }
            guard length <= bytes.count - self.summary.end else {
                // Only the beginning of a Bind has to be seen, but the request is kept whole for another try.
                return .partial
            }
            let message = bytes.extracting(self.summary.end..<(self.summary.end + length))
            switch header.type {
            case Frontend.parse: guard self.parse(message, book) else { return .malformed }
            case Frontend.bind: guard self.bind(message, book) else { return .malformed }
            case Frontend.execute:
                guard self.execute(message, upTo: self.summary.end + length) else { return .malformed }
            case Frontend.describe, Frontend.close:
                guard let target = MessageTarget(message) else { return .malformed }
                if header.type == Frontend.describe { self.describe(message, target, book) }
            case Frontend.sync:
                self.summary.end += length
                self.finish()
                return .whole
            case Frontend.flush where self.binds == 0:
                // Drivers that ask what a statement is before they bind it; the Sync comes with the rest.
                self.summary.end += length
                self.summary.isOpen = true
                return .whole
            default:
                // Flush: answers are wanted before the batch is known. A Query in the middle, COPY data, anything else.
                self.summary.add(Self.interrupted)
                self.summary.isInterrupted = true
                self.summary.transaction = nil
                self.goesOn()
                self.summary.end += length
                self.summary.statements += 1
                self.finish()
                return .whole
            }
            self.summary.end += length
        }
    }

    private static let interrupted = StatementClass(
        kind: .write, reason: "in a batch with a Flush or Query before its Sync", bindsTransaction: true,
        ddl: .possible)

    private func parse(_ message: Span<UInt8>, _ book: some StatementBook) -> Bool {
        guard let parse = ParseMessage(message) else { return false }
        let statement = book.statement(message.extracting(parse.query))
        if let override = statement.override { self.summary.override = override }
        if statement.isHintMistaken { self.summary.isHintMistaken = true }
        let command = statement.preparedCommand
        if command?.positionColumn != nil { self.summary.asksForPosition = true }
        if command == nil { self.parses += 1 }
        if parse.statement.isEmpty {
            self.unnamed = statement
            self.isUnnamedHere = true
        } else {
            self.named.append((message.copy(parse.statement), statement))
        }
        if command != nil { return self.isForRouter() }
        self.summary.needsServer = true
        if statement.statementClass.transaction == nil { self.summary.add(statement.statementClass) }
        return true
    }

    /// A message that is for the router, and no more than that.
    private func isForRouter() -> Bool {
        if !self.summary.hasCommands && !self.summary.needsServer { self.summary.beginsWithCommand = true }
        self.summary.hasCommands = true
        return true
    }

    private func describe(_ message: Span<UInt8>, _ target: MessageTarget, _ book: some StatementBook) {
        let name = message.extracting(target.name)
        if target.kind == MessageTarget.portal {
            if !self.isCommandBound { self.summary.needsServer = true }
            return
        }
        let here = name.isEmpty ? self.unnamed : self.named.last { $0.name.span.equals(name) }?.statement
        let statement = here ?? book.prepared(name)
        if statement?.preparedCommand != nil {
            _ = self.isForRouter()
        } else {
            self.summary.needsServer = true
            if let statement, !name.isEmpty { self.summary.add(statement.statementClass) }
        }
    }

    private func bind(_ message: Span<UInt8>, _ book: some StatementBook) -> Bool {
        guard case .prefix(let prefix) = BindPrefix.parse(message) else { return false }
        if self.binds > 0 {
            let last = self.portal
            if !last.span.equals(message.extracting(prefix.portal)) { self.otherPortals.append((last, self.bound)) }
        }
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
        self.isCommandBound = self.bound?.boundCommand(message, prefix) != nil
        if self.isCommandBound {
            if !self.portal.isEmpty || !prefix.portal.isEmpty { self.portal = message.copy(prefix.portal) }
            return self.isForRouter()
        }
        self.summary.needsServer = true
        if let bound = self.bound {
            if let override = bound.override { self.summary.override = override }
            if bound.statementClass.transaction == nil { self.summary.add(bound.statementClass) }
        } else {
            // An error wherever it runs, unless prepared statements are not followed: then it may be anything.
            self.summary.add(Self.unknownStatement)
        }
        self.binds += 1
        if !self.portal.isEmpty || !prefix.portal.isEmpty { self.portal = message.copy(prefix.portal) }
        // A portal with a name is there to be used again.
        if !prefix.portal.isEmpty { self.summary.keepsPortal = true }
        return true
    }

    /// - Parameter end: where the message ends in the batch.
    private func execute(_ message: Span<UInt8>, upTo end: Int) -> Bool {
        guard let execute = ExecuteMessage(message) else { return false }
        // What is left of its rows is to be fetched later.
        if execute.maximumRows != 0 { self.summary.keepsPortal = true }
        let name = message.extracting(execute.portal)
        if self.isCommandBound && self.isLast(name) { return self.isForRouter() }
        self.summary.needsServer = true
        self.summary.statements += 1
        let executed: StatementClass?
        if self.binds == 0 || self.isLast(name) {
            if self.binds == 0 { self.summary.runsEarlierPortal = true }
            executed = self.bound?.statementClass
        } else {
            // Of several that are bound, not the last one.
            executed = self.otherPortals.last { $0.name.span.equals(name) }?.statement?.statementClass
            if executed == nil { self.summary.add(Self.unknownStatement) }
        }
        let transaction = executed?.transaction
        self.summary.transaction = self.summary.statements == 1 ? transaction : nil
        if let executed { self.summary.addSettingsEffects(of: executed) }
        if transaction?.isRollback ?? false { self.summary.rollsBack = true }
        self.goesOn()
        switch transaction {
        case nil: break
        case .begin(let modes, _) where self.summary.statements == 1: self.summary.begin = modes
        case .commit(let isChained), .rollback(let isChained):
            guard case .none = self.summary.ending else { break }
            self.summary.ending = .last(isChained: isChained)
            self.firstEnd = end
        case .begin, .set:
            self.summary.add(Self.nested)
            self.summary.changesModes = true
        }
        return true
    }

    /// Whether a portal is the one that was bound last.
    private func isLast(_ portal: Span<UInt8>) -> Bool {
        if portal.isEmpty || self.portal.isEmpty { return portal.isEmpty && self.portal.isEmpty }
        let last = self.portal
        return portal.equals(last.span)
    }

    /// Another statement runs: behind the end of a transaction, if there was one.
    private func goesOn() {
        if case .last = self.summary.ending { self.summary.ending = .before(rest: self.firstEnd) }
    }

    private static let unknownStatement = StatementClass(
        kind: .write, reason: "a prepared statement that is not known, which may write", bindsTransaction: true,
        ddl: .possible)

    private static let nested = StatementClass(
        kind: .primary, reason: "a transaction command in the middle of a batch", bindsTransaction: true,
        takesSnapshot: false)

    private func finish() {
        guard self.summary.statements == 1 else { return }
        if self.summary.hasCommands {
            // What is said to the router there belongs to the transaction.
            if case .set? = self.summary.transaction { self.summary.add(Self.nested) }
            self.summary.transaction = nil
            return
        }
        if self.summary.transaction != nil && self.parses > (self.isPreparedHere ? 1 : 0) {
            // Others are prepared beside it, which is the server's business: all of it goes there.
            if case .set? = self.summary.transaction { self.summary.add(Self.nested) }
            self.summary.transaction = nil
        } else {
            // A single BEGIN is no batch that begins with one.
            self.summary.begin = nil
        }
    }
}
