import Pooling
import Reactor
import SQL
import Sessions
import Wire

// Prepared statements in transaction and statement mode. A client's names are its own; on servers each statement has
// the proxy's name for it, and is prepared there when it is needed. Errors are the server's own wherever it can make
// them, because only then the transaction fails as well.
extension ClientSession {
    /// The longest Parse of the unnamed statement that is kept for its client; a longer one can be bound in the same
    /// transaction only.
    private static let unnamedParseLimit = 64 << 10
    /// Names of a portal and a statement in a Bind together.
    private static let namesLimit = 64 << 10

    /// Parse, Bind, Describe or Close, with a server connection at hand.
    func namedRequest(
        _ type: UInt8, _ bytes: Span<UInt8>, _ range: Range<Int>, length: Int, _ server: ServerSession, run: inout Int
    ) -> Verdict {
        let message = bytes.extracting(range)
        switch type {
        case Frontend.bind: return self.bind(bytes, range, length: length, server, run: &run)
        case Frontend.parse: return self.parse(bytes, range, length: length, server, run: &run)
        default: break
        }
        guard range.count == length else { return self.gather(length, Self.namesLimit) }
        guard let target = MessageTarget(message) else { return self.malformed(bytes, run..<range.lowerBound) }
        if target.kind == MessageTarget.portal {
            if type == Frontend.close {
                server.requests.append(.close)
            } else if self.boundPortals.isEmpty || !self.describePortal(message.extracting(target.name), server) {
                server.requests.append(.describe)
            }
            return .pass
        }
        if type == Frontend.close { return self.close(message, target, bytes, range, server, run: &run) }
        let name = message.extracting(target.name)
        if !name.isEmpty && server.areNamesInDoubt { return self.awaitReplies() }
        guard var known = self.statements.find(name), !name.isEmpty else {
            return self.unknown(name, .describe, bytes, range, server, run: &run)
        }
        self.pass(bytes, run..<range.lowerBound)
        run = range.lowerBound
        switch self.prepare(&known, name, bytes, range.lowerBound, server) {
        case .ready: break
        case .awaits: return self.awaitReplies()
        case .changed:
            self.sendResultTypeChanged(server)
            return .drop
        }
        if known.statement.hasFixedColumns {
            server.effects.append(.described(known.statement, name: name.copy(0..<name.count)))
        }
        server.requests.append(.describe, hasEffect: known.statement.hasFixedColumns)
        self.worker.send(to: server) { $0.describe(statement: known.statement.serverName) }
        return .replaced(upTo: range.upperBound)
    }

    /// Whether a name holds, and what the server has under it, depends on how requests before the last Sync end: with an
    /// error among them the server skips some. This one is looked at when they have been answered. The socket is read from
    /// on, up to a limit, so that a client that leaves is noticed.
    func awaitReplies() -> Verdict {
        self.isAwaitingReplies = true
        return .wait
    }

    /// Replies have come: what has waited for them is looked at again.
    @inline(__always)
    func repliesCame() {
        if self.isAwaitingReplies { self.lookAgain() }
    }

    @inline(never)
    private func lookAgain() {
        if let server = self.server, server.restoring != .nothing { return }
        self.isAwaitingReplies = false
        self.proceed()
        if !self.isAwaitingReplies { self.readOn() }
    }

    private func gather(_ length: Int, _ limit: Int) -> Verdict {
        guard length <= limit else {
            self.fail(
                ServerError(
                    message: "message of \(length) bytes is too long for a prepared statement in transaction pooling "
                        + "(limit \(limit)); use pool_mode=session or max_prepared_statements=0",
                    sqlState: SQLState.programLimitExceeded))
            return .end
        }
        return .gather(length)
    }

    private func malformed(_ bytes: Span<UInt8>, _ before: Range<Int>) -> Verdict {
        self.pass(bytes, before)
        self.fail(ServerError(message: "bad packet", sqlState: SQLState.protocolViolation))
        return .end
    }

    // MARK: Parse

    private func parse(
        _ bytes: Span<UInt8>, _ range: Range<Int>, length: Int, _ server: ServerSession, run: inout Int
    ) -> Verdict {
        guard length > MessageFramer.headerLength else { return self.malformed(bytes, run..<range.lowerBound) }
        guard range.count > MessageFramer.headerLength else { return .gather(MessageFramer.headerLength + 1) }
        let isUnnamed = bytes[range.lowerBound + MessageFramer.headerLength] == 0
        if !isUnnamed && server.requests.isCopyingIn {
            // The server ends the session, which is PostgreSQL's answer.
            server.requests.append(.parse)
            return .pass
        }
        // Whether the transaction has failed is seen when what stands before the last Sync has been answered.
        if !isUnnamed && (server.requests.hasEarlierSync || server.isDeallocating) { return self.awaitReplies() }
        if !isUnnamed && server.meaning != .settled {
            self.pass(bytes, run..<range.lowerBound)
            run = range.lowerBound
            if self.awaitsMeaning(server) { return self.awaitReplies() }
        }
        if range.count < length {
            if !isUnnamed {
                if self.hasRoom(for: length) { return .gather(length) }
                return self.refuseParse(length, bytes, range, server, run: &run)
            }
            if length <= Self.unnamedParseLimit { return .gather(length) }
            // Passed on unread; whoever binds it later on another connection is told that it does not exist.
            self.unnamedParse.removeAll()
            server.meaning = .inDoubt
            server.isParsingUncertain = true
            server.mayMakeRelation = true
            self.noteUnnamed(server)
            return .pass
        }
        let message = bytes.extracting(range)
        guard let parse = ParseMessage(message) else { return self.malformed(bytes, run..<range.lowerBound) }
        if isUnnamed {
            self.group.statistics.counters.clientParseCount &+= 1
            self.unnamedParse.removeAll(keepingCapacity: true)
            if length <= Self.unnamedParseLimit {
                self.unnamedParse.append(message, parse.tail)
            } else {
                server.mayMakeRelation = true
            }
            let runsAlone = server.runsAlone
            self.noteUnnamed(server)
            let changesMeaning = SessionCommands.mayChangeMeaning(message, parse.query)
            if changesMeaning && server.meaning == .settled { server.meaning = .inDoubt }
            if changesMeaning || self.mayHaveNames(server)
                || !runsAlone
                    && SessionCommands.mentionsSetConfig(
                        message, from: parse.query.lowerBound, to: parse.query.upperBound)
            {
                self.noteCommands(message.extracting(parse.query), server)
            }
            return .pass
        }
        self.group.statistics.counters.clientParseCount &+= 1
        let name = message.extracting(parse.statement)
        if self.statements.find(name) != nil {
            self.pass(bytes, run..<range.lowerBound)
            // The server finds what is wrong with the text, if anything, before it sees that the name is in use.
            let taken = self.sendEmptyStatement(0, server)
            let tail = message.copy(parse.tail)
            server.effects.append(
                .error(
                    MessageWriter.bytes {
                        $0.errorResponse(
                            severity: "ERROR", sqlState: SQLState.duplicatePreparedStatement,
                            message: "prepared statement \"\(message.text(parse.statement))\" already exists")
                    }))
            server.requests.append(.parse, .substitute, hasEffect: true)
            server.send(MessageWriter.bytes { $0.parse(statement: taken, tail: tail) })
            return .replaced(upTo: range.upperBound)
        }
        guard self.hasRoom(for: length) else { return self.refuseParse(length, bytes, range, server, run: &run) }
        // What began the batch was not looked at as long as there were no names.
        if !self.mayHaveNames(server) && server.requests.isUnsynced {
            let tail = self.unnamedParse
            self.noteCommands(tail.span.extracting(0..<self.unnamedTextLength), server)
        }
        let statement = self.statement(message.extracting(parse.tail), server)
        self.pass(bytes, run..<range.lowerBound)
        let copy = message.copy(parse.statement)
        if server.isParsingUncertain { self.unsettledStatements.append(copy) }
        let generation = server.pool.catalogue.current
        _ = self.statements.add(name, ClientStatement(statement, generation: generation, at: self.now))
        let presence = server.statements.use(statement, from: generation)
        if case .prepared = presence, server.transaction != .failed {
            if server.hasAnswered {
                self.send(ServerSession.parseComplete)
            } else {
                server.effects.append(.named(copy))
                server.requests.append(.parse, .answer, hasEffect: true)
            }
        } else {
            self.sendParse(statement, server, .forward, isThere: presence != .missing, name: copy)
        }
        return .replaced(upTo: range.upperBound)
    }

    /// The statement that a text is for this client, as things are now.
    private func statement(_ tail: Span<UInt8>, _ server: ServerSession?) -> PreparedStatement {
        let settings = self.parameters?.parsing ?? .none
        // Somebody has changed, in this transaction, what no server tells about.
        if server?.isParsingUncertain ?? false { return self.worker.statements.ownStatement(tail, settings) }
        return self.worker.statements.statement(tail, settings)
    }

    /// Whether one more named statement, with a Parse of that many bytes, is within `max_prepared_statement_memory`.
    func hasRoom(for length: Int) -> Bool {
        self.statements.size + PreparedStatement.size(tailLength: length) <= self.pool.rules.statementMemory
    }

    private func refuseParse(
        _ length: Int, _ bytes: Span<UInt8>, _ range: Range<Int>, _ server: ServerSession, run: inout Int
    ) -> Verdict {
        self.pass(bytes, run..<range.lowerBound)
        run = range.lowerBound
        self.sendFailing(
            server, sqlState: SQLState.programLimitExceeded,
            "prepared statement of \(length) bytes does not fit beside the \(self.statements.size) bytes of this client's "
                + "others (max_prepared_statement_memory = \(self.pool.rules.statementMemory))")
        return .drop
    }

    /// Bytes of the unnamed statement's text; 0 if it was not kept.
    var unnamedTextLength: Int { self.unnamedParse.firstIndex(of: 0) ?? 0 }

    @inline(__always)
    func forgetUnnamed() {
        if !self.unnamedParse.isEmpty { self.unnamedParse.removeAll(keepingCapacity: true) }
        self.unnamedStatement = 0
    }

    private func noteUnnamed(_ server: ServerSession) {
        self.unnamedStatement = self.worker.nextUnnamedStatement()
        server.requests.append(.parse)
        server.has(unnamed: self.unnamedStatement, isRestored: false)
        self.group.statistics.counters.serverParseCount &+= 1
    }

    // MARK: Bind

    private func bind(
        _ bytes: Span<UInt8>, _ range: Range<Int>, length: Int, _ server: ServerSession, run: inout Int
    ) -> Verdict {
        let message = bytes.extracting(range)
        let prefix: BindPrefix
        switch BindPrefix.parse(message) {
        case .prefix(let found): prefix = found
        case .invalid: return self.malformed(bytes, run..<range.lowerBound)
        case .incomplete:
            guard range.count < Self.namesLimit else { return self.malformed(bytes, run..<range.lowerBound) }
            return .gather(min(length, range.count * 2 + 64))
        }
        let name = message.extracting(prefix.statement)
        if name.isEmpty ? server.isUnnamedInDoubt(self) : server.areNamesInDoubt {
            return self.awaitReplies()
        }
        if !self.boundPortals.isEmpty && server.transaction == .idle && server.requests.isQuiet {
            self.boundPortals.removeAll()
        }
        guard !name.isEmpty, var known = self.statements.find(name) else {
            self.noteBound(message.extracting(prefix.portal), name, nil)
            if !self.boundDeallocations.isEmpty || (name.isEmpty && Self.mayDeallocate(self.unnamedParse)),
                let verdict = self.bindDeallocation(prefix, self.unnamedParse, bytes, range, server, run: &run)
            {
                return verdict
            }
            self.group.statistics.counters.bindCount &+= 1
            return self.unknown(name, .bind, bytes, range, server, run: &run)
        }
        if !self.boundDeallocations.isEmpty || known.statement.effects.contains(.deallocates) {
            let tail = known.statement.effects.contains(.deallocates) ? known.statement.tail : []
            if let verdict = self.bindDeallocation(prefix, tail, bytes, range, server, run: &run) { return verdict }
            if !tail.isEmpty, case .one(_, let tail)? = self.boundDeallocations.last?.deallocation {
                known.statement = self.worker.statements.statement(tail.span, self.parameters?.parsing ?? .none)
            }
        }
        self.pass(bytes, run..<range.lowerBound)
        run = range.lowerBound
        switch self.prepare(&known, name, bytes, range.lowerBound, server) {
        case .ready: break
        case .awaits: return self.awaitReplies()
        case .changed:
            self.sendResultTypeChanged(server)
            return .drop
        }
        self.group.statistics.counters.bindCount &+= 1
        if !known.statement.effects.isEmpty {
            if known.statement.effects.contains(.changesParsing) { server.isParsingUncertain = true }
            if known.statement.effects.contains(.changesMeaning) { server.meaning = .inDoubt }
            if known.statement.effects.contains(.makesRelation) { server.mayMakeRelation = true }
        }
        self.noteBound(message.extracting(prefix.portal), name, known)
        server.requests.append(.bind)
        let portal = message.copy(prefix.portal)
        self.worker.send(to: server) {
            $0.bindPrefix(portal: portal, statement: known.statement.serverName, bodyLength: length - prefix.end)
        }
        return .replaced(upTo: range.lowerBound + prefix.end)
    }

    /// Notes a portal whose statement's columns the client has not been told of.
    @inline(__always)
    private func noteBound(_ portal: Span<UInt8>, _ name: Span<UInt8>, _ known: ClientStatement?) {
        var id: UInt64 = 0
        if let known, known.description.columns == 0, known.statement.hasFixedColumns { id = known.statement.id }
        // Those that need not be noted may take the place of one that was.
        if id != 0 || !self.boundPortals.isEmpty || !portal.isEmpty {
            self.boundPortals.bind(portal, name: name, id: id)
        }
    }

    /// Describe of a portal: what the client is told of its columns holds for the statement. False if it has been told
    /// before, or if the statement is none of its own.
    @inline(never)
    private func describePortal(_ portal: Span<UInt8>, _ server: ServerSession) -> Bool {
        guard let (name, id) = self.boundPortals.statement(of: portal), let known = self.statements.find(name.span),
            known.statement.id == id
        else { return false }
        server.effects.append(.described(known.statement, name: name))
        server.requests.append(.describe, hasEffect: true)
        return true
    }

    /// Bind or Describe of the unnamed statement, or of a name that this client has not given. The server says the
    /// error itself; what it must not do is find somebody else's statement under that name.
    private func unknown(
        _ name: Span<UInt8>, _ kind: RequestKind, _ bytes: Span<UInt8>, _ range: Range<Int>, _ server: ServerSession,
        run: inout Int
    ) -> Verdict {
        if name.isEmpty {
            if server.unnamedStatement != self.unnamedStatement || self.unnamedStatement == 0 {
                self.pass(bytes, run..<range.lowerBound)
                self.restoreUnnamed(server)
                server.requests.append(kind)
                return .replaced(upTo: range.lowerBound)
            }
        } else if Self.isOurs(name) {
            self.pass(bytes, run..<range.lowerBound)
            run = range.lowerBound
            self.sendFailing(
                server, sqlState: SQLState.invalidStatementName,
                "prepared statement \"\(name.text(0..<name.count))\" does not exist")
            // The message itself goes nowhere.
            return .drop
        }
        server.requests.append(kind)
        return .pass
    }

    /// The server's unnamed statement is another one: it gets this client's, or none.
    private func restoreUnnamed(_ server: ServerSession) {
        if self.unnamedParse.isEmpty {
            server.requests.append(.close, .swallow)
            server.send(MessageWriter.bytes { $0.close(statement: []) })
            server.unnamedStatement = 0
        } else {
            server.requests.append(.parse, .swallow)
            server.send(MessageWriter.bytes { $0.parse(statement: [], tail: self.unnamedParse) })
            server.has(unnamed: self.unnamedStatement, isRestored: true)
            self.group.statistics.counters.serverParseCount &+= 1
        }
    }

    /// Whether a client's name could be one that the proxy gives.
    private static func isOurs(_ name: Span<UInt8>) -> Bool {
        name.count >= 8 && name.extracting(0..<8).equals(0..<8, "martlet_")
    }

    // MARK: Close

    private func close(
        _ message: Span<UInt8>, _ target: MessageTarget, _ bytes: Span<UInt8>, _ range: Range<Int>,
        _ server: ServerSession, run: inout Int
    ) -> Verdict {
        let name = message.extracting(target.name)
        if !name.isEmpty && server.areNamesInDoubt { return self.awaitReplies() }
        if name.isEmpty || server.requests.isCopyingIn {
            if name.isEmpty {
                self.forgetUnnamed()
                server.unnamedStatement = 0
            }
            server.requests.append(.close)
            return .pass
        }
        let removed = self.statements.remove(name)
        if server.hasAnswered {
            self.pass(bytes, run..<range.lowerBound)
            run = range.lowerBound
            self.send(ServerSession.closeComplete)
        } else {
            if let removed { server.effects.append(.closed(message.copy(target.name), removed)) }
            server.requests.append(.close, .answer, hasEffect: removed != nil)
        }
        return .drop
    }

    // MARK: Without a server connection

    /// Parse of a statement that a server of this pool has accepted before, and Close: answered here. Nil if a server
    /// connection is needed.
    func answerUnlinkedStatement(_ type: UInt8, _ message: Span<UInt8>) -> Verdict? {
        if type == Frontend.close {
            guard let target = MessageTarget(message), target.kind == MessageTarget.statement else { return nil }
            let name = message.extracting(target.name)
            if name.isEmpty {
                self.forgetUnnamed()
            } else {
                self.statements.remove(name)
            }
            self.send(ServerSession.closeComplete)
            return .drop
        }
        guard let parse = ParseMessage(message), !parse.statement.isEmpty, self.route?.status != .failed else {
            return nil
        }
        let name = message.extracting(parse.statement)
        guard self.statements.find(name) == nil, self.hasRoom(for: message.count) else { return nil }
        let statement = self.statement(message.extracting(parse.tail), nil)
        guard self.group.hasAccepted(statement) else { return nil }
        let prepared = ClientStatement(statement, generation: self.pool.catalogue.current, at: self.now)
        _ = self.statements.add(name, prepared)
        self.group.statistics.counters.clientParseCount &+= 1
        self.send(ServerSession.parseComplete)
        return .drop
    }
}
