import DequeModule
import Pooling
import Reactor
import Wire

// What the server has prepared, and what its answers say about that.
extension ServerSession {
    // MARK: Effects

    /// The request that was just completed has succeeded.
    func effectHolds() {
        guard let effect = self.effects.popFirst() else { return }
        switch effect {
        case .parse(let statement, _):
            self.pool.accepted(statement, generation: self.statements.generation(of: statement))
        case .described(let statement, let name):
            let description = self.description
            self.description = StatementDescription()
            self.statements.describe(statement, as: description)
            if let name {
                self.client?.statements.describe(name.span, statement, as: description)
            } else {
                self.isDescribing = false
            }
        case .named, .closed, .evicted, .reply, .error: break
        }
    }

    /// Takes back what failed requests, and those the server ignored after them, have changed in the books: the last
    /// one first.
    func undo(_ count: Int) {
        guard count > 0 else { return }
        var failed: [Effect] = []
        for _ in 0..<count {
            if let effect = self.effects.popFirst() { failed.append(effect) }
        }
        for effect in failed.reversed() {
            switch effect {
            case .parse(let statement, let name):
                self.statements.remove(statement)
                if let name { self.client?.statements.remove(name.span) }
            case .named(let name): self.client?.statements.remove(name.span)
            case .evicted(let statement):
                // There is room, for what took its place has been taken back before.
                self.statements.insert(statement, generation: 0)
            case .closed(let name, let prepared): _ = self.client?.statements.add(name.span, prepared)
            case .described(_, name: nil): self.isDescribing = false
            case .described, .error, .reply: break
            }
        }
    }

    /// RowDescription or NoData has completed the Describe of a statement by its name, or of a portal of one.
    func noteDescription(_ type: UInt8, _ message: Span<UInt8>) {
        if type == Backend.rowDescription {
            self.description.columns(message)
        } else {
            self.description.noColumns()
        }
    }

    // MARK: The catalogue

    /// DDL, or an error that comes of it: what anybody has prepared before is not known to be good.
    func catalogueChanged() { self.pool.catalogue.advance() }

    /// Tags of commands after which the same text may mean something else. An index changes no meaning.
    func noteDefinition(_ message: Span<UInt8>) {
        if CommandTag.ends(message, with: " INDEX") { return }
        self.hasChangedCatalogue = true
        self.mayHaveChangedCatalogue()
        self.catalogueChanged()
    }

    /// Something was carried out that may be DDL, or change what texts mean, without saying so.
    func mayHaveChangedCatalogue() {
        if self.catalogueOfItsOwn == nil { self.catalogueOfItsOwn = self.now }
    }

    /// A transaction is over in which there may have been DDL: what was prepared in it was prepared with a catalogue that
    /// others see only now, or never. Where there was DDL, they prepare anew from now on.
    func catalogueHolds(since time: MonotonicTime) {
        self.catalogueOfItsOwn = nil
        self.statements.distrust(since: time)
        guard self.hasChangedCatalogue else { return }
        self.hasChangedCatalogue = false
        self.catalogueChanged()
    }

    /// A request has failed. With an error that may come of what was prepared before a change of the catalogue, neither
    /// this client nor those that prepare anew get that again.
    func noteStatementError(_ kind: RequestKind, _ fields: ErrorFields) {
        guard kind == .bind || kind == .describe || kind == .execute, self.statements.count > 0 else { return }
        let state = fields.sqlState
        if Self.isOutdated(fields) { self.distrustStatements() }
        guard self.mayComeOfOutdated(fields, isRunning: kind == .execute), let client = self.client else { return }
        // Most wrong values are just that: they cost no more than this.
        let mayBeTheirs = state.hasPrefix("22") || state.hasPrefix("42")
        if mayBeTheirs && client.distrustedAt > 0 && self.now - client.distrustedAt < 1_000_000 { return }
        client.distrustedAt = self.now
        self.catalogueChanged()
        client.statements.distrust(before: self.pool.catalogue.current)
    }

    /// "cached plan must not change result type": the table behind it has changed.
    private static func isOutdated(_ fields: ErrorFields) -> Bool {
        fields.sqlState == SQLState.featureNotSupported && fields.text(UInt8(ascii: "R")) == Self.revalidation
    }

    /// Whether an error may come of a statement that was prepared before a change of the catalogue.
    func mayComeOfOutdated(_ fields: ErrorFields, isRunning: Bool) -> Bool {
        switch fields.sqlState.prefix(2) {
        case "XX": true
        case "0A": Self.isOutdated(fields)
        // Values and types that do not fit; what a statement finds when it runs is its own affair.
        case "22", "42": !isRunning
        default: false
        }
    }

    /// The function that reports "cached plan must not change result type", in whatever language.
    private static let revalidation = "RevalidateCachedQuery"

    /// The books and the server do not agree.
    func distrustStatements() {
        self.mustDeallocate = true
        self.statements.distrust()
    }

    // MARK: Limits

    /// Settings may have changed.
    func statementLimitsChanged() {
        self.statements.limit = self.pool.rules.statementLimit
        self.statements.sizeLimit = self.pool.rules.statementMemory
        guard self.tracksStatements != self.pool.tracksStatements else { return }
        // Names were the clients' own and are the proxy's from now on, or the other way round.
        self.tracksStatements = self.pool.tracksStatements
        self.distrustStatements()
    }

    /// Statements that the server should not have, or not so many of them.
    var mustForgetStatements: Bool { self.mustDeallocate || self.statements.isOverLimit }

    /// With no request under way.
    func forgetStatements() {
        self.mustDeallocate = false
        self.statements.removeAll()
        self.unnamedStatement = 0
        self.run(.deallocate, "DEALLOCATE ALL")
    }

    // MARK: Settings

    /// Changes settings within the transaction, without a Query, which would end a batch. Nobody sees the answers.
    func setInPassing(_ changes: [ParameterChange], _ client: ClientSession) {
        guard let parameters = client.parameters else { return }
        for text in ParameterChange.statements(changes, isLocal: true, client: parameters) { self.runInPassing(text) }
    }

    private func runInPassing(_ text: String) {
        let name = "martlet_in_passing"
        for kind in [RequestKind.close, .parse, .bind, .execute, .close, .close] {
            self.requests.append(kind, .swallow)
        }
        self.send(
            MessageWriter.bytes {
                // Where the last one has failed, it is there still.
                $0.close(statement: Array(name.utf8))
                $0.parse(statement: Array(name.utf8), tail: Array(text.utf8) + [0, 0, 0])
                // No formats, no values.
                $0.bindPrefix(portal: Array(name.utf8), statement: Array(name.utf8), bodyLength: 6)
                $0.raw([0, 0, 0, 0, 0, 0])
                $0.execute(portal: name)
                $0.close(portal: Array(name.utf8))
                $0.close(statement: Array(name.utf8))
            })
    }
}
