import Pooling
import Reactor
import Routing
import SQL
import Sessions
import Settings
import Wire

// Commands to the router: SET, RESET and SHOW of martlet.*, set_config() and current_setting() of them. No server sees
// them; the answer is the one that a server would give. A Query is answered as a whole, messages of a batch one by one,
// each in its turn.
extension ClientSession {
    // MARK: The position

    /// Replaces a request that asks for the position by one that a server understands.
    func askForPosition(
        _ type: UInt8, _ bytes: Span<UInt8>, _ whole: Range<Int>, run: inout Int, _ route: ClientRoute
    ) -> Verdict {
        if let server = self.server, server.transaction == .inTransaction, route.isOnReplica,
            let node = server.pool.load?.node, route.causality.obstacle(node, mode: .lsn) == .write
        {
            route.router.needSamples()
            guard server.requests.isQuiet || type != Frontend.query else { return self.awaitReplies() }
            if type == Frontend.query { return self.refuseQuery(Self.unknownPosition, route) }
            return self.failInBatch(Self.unknownPosition, bytes, whole.lowerBound, run: &run, server)
        }
        self.replay = self.withPosition(type, bytes.extracting(whole))
        return .consumed(upTo: whole.upperBound)
    }

    private static let unknownPosition = ServerError(
        message:
            "this transaction runs on a replica that has not replayed all that its client has written: ask for "
            + "martlet.lsn outside of it",
        sqlState: SQLState.objectNotInPrerequisiteState)

    /// `martlet.lsn`: what a replica must have replayed to show all that this client has written. A transaction on a
    /// replica that has done so shows what it has read, too.
    private static func positionQuery(_ column: String) -> [UInt8] {
        let quoted = column.split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\"\"")
        return Array(
            ("SELECT (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END)"
                + "::text AS \"\(quoted)\"").utf8)
    }

    /// The same request with other texts.
    private func withPosition(_ type: UInt8, _ request: Span<UInt8>) -> [UInt8] {
        func column(_ text: Span<UInt8>) -> String? {
            RouterCommand(text, standardConformingStrings: self.hasStandardStrings)?.positionColumn
        }
        if type == Frontend.query {
            let found = QueryMessage.text(request).flatMap { column(request.extracting($0)) }
            return MessageWriter.bytes { $0.query(Self.positionQuery(found ?? "martlet.lsn")) }
        }
        var result: [UInt8] = []
        var cursor = 0
        while let header = MessageFramer.header(request, at: cursor), cursor + header.length < request.count {
            let message = request.extracting(cursor..<(cursor + header.length + 1))
            if header.type == Frontend.parse, let parse = ParseMessage(message),
                let column = column(message.extracting(parse.query))
            {
                let types = message.copy((parse.query.upperBound + 1)..<message.count)
                let tail = Self.positionQuery(column) + [0] + types
                result += MessageWriter.bytes { $0.parse(statement: message.copy(parse.statement), tail: tail) }
            } else {
                result.append(message)
            }
            cursor += header.length + 1
        }
        return result
    }

    // MARK: A Query

    /// Carries out a Query that says something to the router.
    func carryOut(
        _ command: RouterCommand, _ bytes: Span<UInt8>, _ whole: Range<Int>, _ route: ClientRoute
    ) -> Verdict? {
        // A name that is a parameter is an error here, which the server says.
        if case .suspected = command.content { return nil }
        if let server = self.server, !server.requests.isQuiet { return self.awaitReplies() }
        var writer = MessageWriter()
        var rest: Int?
        do throws(ServerError) {
            if self.isFailed(route) { throw Self.failedTransaction }
            switch command.content {
            case .suspected: break
            case .refused(let reason):
                throw ServerError(message: reason, sqlState: SQLState.featureNotSupported)
            case .statements(let statements, let start):
                rest = start
                let isOne = statements.count == 1 && start == nil
                let place: RouterSettings.Place = self.isInTransaction(route) ? .transaction : .request
                for statement in statements {
                    let answer = try self.run(statement, place, warns: isOne, route)
                    if let notice = answer.notice { writer.append(notice) }
                    if let row = answer.row {
                        writer.rowDescription(row.map { .text($0.column) })
                        writer.dataRow(row.map(\.value))
                    }
                    writer.commandComplete(answer.tag)
                }
            }
        } catch {
            self.send(writer.bytes)
            return self.refuseQuery(error, route)
        }
        if let rest {
            let message = bytes.extracting(whole)
            if let text = QueryMessage.text(message) {
                self.send(writer.bytes)
                let start = text.lowerBound + rest
                self.replay = MessageWriter.bytes { $0.query(message.copy(start..<text.upperBound)) }
                return .consumed(upTo: whole.upperBound)
            }
        }
        let status = self.server?.transaction ?? route.status
        writer.readyForQuery(status)
        self.send(writer.bytes)
        self.settingsRequestEnded(status, route)
        self.answeredHere()
        return .consumed(upTo: whole.upperBound)
    }

    /// An error in the place of a Query's answer. A transaction has failed with it, on the server as well.
    private func refuseQuery(_ error: ServerError, _ route: ClientRoute) -> Verdict {
        guard let server = self.server, server.transaction != .idle else {
            return self.refuse(error, Frontend.query)
        }
        if server.transaction == .inTransaction { server.run(.abort, "ROLLBACK TO martlet_none") }
        route.settings.noteError()
        self.send(
            MessageWriter.bytes {
                $0.errorResponse(severity: "ERROR", sqlState: error.sqlState, message: error.message)
                $0.readyForQuery(.failed)
            })
        return .drop
    }

    static let failedTransaction = ServerError(
        message: "current transaction is aborted, commands ignored until end of transaction block",
        sqlState: SQLState.inFailedTransaction)

    private func isFailed(_ route: ClientRoute) -> Bool {
        if let server = self.server { return server.transaction == .failed }
        return route.status == .failed
    }

    private func isInTransaction(_ route: ClientRoute) -> Bool {
        (self.server?.transaction ?? route.status) != .idle
    }

    // MARK: Messages of a batch

    /// Answers a message of a batch that is for the router; nil if it is for a server.
    func answerCommand(
        _ type: UInt8, _ bytes: Span<UInt8>, _ range: Range<Int>, length: Int, run: inout Int, _ route: ClientRoute
    ) -> Verdict? {
        guard range.count == length, self.mayBeCommand(bytes.extracting(range), route),
            let found = self.commandMessage(type, bytes.extracting(range), route)
        else { return nil }
        // The server looks at nothing up to the Sync.
        if let server = self.server {
            if server.requests.isSkipping { return nil }
        } else if self.isFailed(route) {
            return self.refuse(Self.failedTransaction, type)
        }
        do throws(ServerError) {
            let reply = try self.reply(to: found, bytes.extracting(range), route)
            guard let server = self.server, !server.requests.isEmpty || server.isOnTrial else {
                self.send(reply.bytes)
                return .drop
            }
            if case .parse(let parse, _) = found, !parse.statement.isEmpty {
                // It is undone when the server skips what comes before.
                server.effects.append(.named(bytes.extracting(range).copy(parse.statement)))
            } else {
                server.effects.append(.reply(reply.bytes))
            }
            server.requests.append(reply.kind, .answer, hasEffect: true)
            return .drop
        } catch {
            guard let server = self.server else { return self.refuse(error, type) }
            return self.failInBatch(error, bytes, range.lowerBound, run: &run, server)
        }
    }

    /// An error in the place of a message that goes nowhere: the batch fails with it, on the server as well.
    private func failInBatch(
        _ error: ServerError, _ bytes: Span<UInt8>, _ start: Int, run: inout Int, _ server: ServerSession
    ) -> Verdict {
        self.pass(bytes, run..<start)
        run = start
        self.sendFailing(server, sqlState: error.sqlState, error.message)
        return .drop
    }

    /// Whether a message is to be looked at for commands: in a database whose statements are not looked at otherwise only
    /// when it may have one, or when the client has begun with them.
    private func mayBeCommand(_ message: Span<UInt8>, _ route: ClientRoute) -> Bool {
        if route.router.settings.routing == .split { return true }
        return message.count <= Self.longestCommand
            && (route.hasPreparedCommand || route.settings.areUsed || RouterCommand.isPossible(in: message))
    }

    /// Bytes, in a database whose statements are not looked at otherwise.
    private static let longestCommand = 4096

    /// The same for the first message of a request there.
    func lookForCommand(
        _ type: UInt8, _ bytes: Span<UInt8>, _ range: Range<Int>, length: Int, _ route: ClientRoute,
        _ summary: inout RequestSummary
    ) {
        let message = bytes.extracting(range)
        guard range.count == length, self.mayBeCommand(message, route) else { return }
        if type == Frontend.query {
            guard let text = QueryMessage.text(message) else { return }
            var found = RequestSummary()
            found.read(query: route.router.statement(message.extracting(text), self), end: length)
            summary.command = found.command
            summary.asksForPosition = found.asksForPosition
            summary.settingsEffects = found.settingsEffects
            summary.rollsBack = found.rollsBack
            summary.ending = found.ending
            return
        }
        guard let found = self.commandMessage(type, message, route) else { return }
        summary.hasCommands = true
        summary.beginsWithCommand = true
        if case .parse(_, let command) = found { summary.asksForPosition = command.positionColumn != nil }
    }

    private enum CommandMessage {
        case parse(ParseMessage, RouterCommand)
        case bind(BindPrefix, RouterCommand)
        case describeStatement(RouterCommand)
        case describePortal(RouterCommand)
        case execute(RouterCommand)
    }

    /// What of a batch a message for the router is; nil if it is for a server.
    private func commandMessage(_ type: UInt8, _ message: Span<UInt8>, _ route: ClientRoute) -> CommandMessage? {
        let book = ClientBook(client: self, router: route.router)
        switch type {
        case Frontend.parse:
            guard let parse = ParseMessage(message) else { return nil }
            if let command = book.statement(message.extracting(parse.query)).preparedCommand,
                command.positionColumn == nil || route.router.settings.routing != .split || route.isBehindFlush
            {
                return .parse(parse, command)
            }
            // Where names are not followed, the last one that was noted is not the last one any more.
            if parse.statement.isEmpty && !self.pool.tracksStatements { self.forgetUnnamed() }
            return nil
        case Frontend.bind:
            guard case .prefix(let prefix) = BindPrefix.parse(message) else { return nil }
            let statement = book.prepared(message.extracting(prefix.statement))
            if let command = statement?.boundCommand(message, prefix) { return .bind(prefix, command) }
            route.bound = statement.map {
                ClientRoute.Bound(portal: message.copy(prefix.portal), statement: .other($0.statementClass))
            }
            return nil
        case Frontend.describe:
            guard let target = MessageTarget(message) else { return nil }
            let name = message.extracting(target.name)
            if target.kind == MessageTarget.statement {
                return book.prepared(name)?.preparedCommand.map { .describeStatement($0) }
            }
            guard case .command(let command)? = self.bound(name, route) else { return nil }
            return .describePortal(command)
        case Frontend.execute:
            guard let execute = ExecuteMessage(message) else { return nil }
            switch self.bound(message.extracting(execute.portal), route) {
            case .command(let command)?: return .execute(command)
            case .other(let statementClass)?:
                // Between commands of the batch, each in its turn.
                if case .among(let inTransaction, _) = route.commands {
                    self.applySettingsEffects(
                        statementClass.settingsEffects, rollsBack: statementClass.transaction?.isRollback ?? false,
                        inTransaction: inTransaction, route)
                }
                return nil
            case nil: return nil
            }
        default: return nil
        }
    }

    private func bound(_ portal: Span<UInt8>, _ route: ClientRoute) -> ClientRoute.Bound.Statement? {
        guard let bound = route.bound, portal.equals(bound.portal.span) else { return nil }
        return bound.statement
    }

    private func reply(
        to found: CommandMessage, _ message: Span<UInt8>, _ route: ClientRoute
    ) throws(ServerError) -> (kind: RequestKind, bytes: [UInt8]) {
        var writer = MessageWriter()
        switch found {
        case .parse(let parse, let command):
            _ = try Self.statement(command)
            try self.notePrepared(parse, message)
            route.hasPreparedCommand = true
            writer.parseComplete()
            return (.parse, writer.bytes)
        case .bind(let prefix, let command):
            _ = try Self.statement(command)
            route.bound = ClientRoute.Bound(portal: message.copy(prefix.portal), statement: .command(command))
            writer.bindComplete()
            return (.bind, writer.bytes)
        case .describeStatement(let command):
            writer.parameterDescription(command.parameterTypes)
            Self.describe(try Self.statement(command), &writer)
            return (.describe, writer.bytes)
        case .describePortal(let command):
            Self.describe(try Self.statement(command), &writer)
            return (.describe, writer.bytes)
        case .execute(let command):
            var place: RouterSettings.Place = self.isInTransaction(route) ? .transaction : .request
            if case .among(inTransaction: true, _) = route.commands { place = .transaction }
            let answer = try self.run(try Self.statement(command), place, warns: true, route)
            if let notice = answer.notice { writer.append(notice) }
            if let row = answer.row { writer.dataRow(row.map(\.value)) }
            writer.commandComplete(answer.tag)
            return (.execute, writer.bytes)
        }
    }

    /// The statement of a command that was prepared.
    private static func statement(_ command: RouterCommand) throws(ServerError) -> RouterCommand.Statement {
        if let statement = command.only { return statement }
        guard case .refused(let reason) = command.content else {
            throw ServerError(message: "not a command to Martlet", sqlState: SQLState.featureNotSupported)
        }
        throw ServerError(message: reason, sqlState: SQLState.featureNotSupported)
    }

    private static func describe(_ statement: RouterCommand.Statement, _ writer: inout MessageWriter) {
        switch statement {
        case .set, .reset: writer.noData()
        case .show(let name): writer.rowDescription([.text("martlet.\(name)")])
        case .select(let calls): writer.rowDescription(calls.map { .text($0.column) })
        }
    }

    /// A statement that was answered here can be bound again.
    func notePrepared(_ parse: ParseMessage, _ message: Span<UInt8>) throws(ServerError) {
        if parse.statement.isEmpty {
            self.unnamedParse = message.copy(parse.tail)
            self.unnamedStatement = self.worker.nextUnnamedStatement()
            return
        }
        let name = message.extracting(parse.statement)
        // Where names are not followed, nobody knows whether it has been closed.
        if !self.pool.tracksStatements { self.statements.remove(name) }
        guard self.hasRoom(for: message.count) else {
            throw ServerError(
                message: "too many prepared statements", sqlState: SQLState.programLimitExceeded)
        }
        let statement = self.worker.statements.statement(
            message.extracting(parse.tail), self.parameters?.parsing ?? .none)
        let prepared = ClientStatement(statement, generation: self.pool.catalogue.current, at: self.now)
        guard self.statements.add(name, prepared) else {
            throw Self.duplicate(message.text(parse.statement))
        }
    }

    // MARK: Answers

    /// Answers a transaction command, which returns no row, as a server would.
    func answer(_ type: UInt8, _ bytes: Span<UInt8>, _ whole: Range<Int>, tag: String, route: ClientRoute) {
        let status = self.server?.transaction ?? route.status
        defer {
            self.settingsRequestEnded(status, route)
            self.answeredHere()
        }
        let request = bytes.extracting(whole)
        var writer = MessageWriter()
        if type == Frontend.query {
            writer.commandComplete(tag)
            if self.isOver(route) { writer.readyForQuery(status) }
            self.send(writer.bytes)
            return
        }
        var cursor = 0
        while let header = MessageFramer.header(request, at: cursor), cursor + header.length < request.count {
            let message = request.extracting(cursor..<(cursor + header.length + 1))
            switch header.type {
            case Frontend.parse:
                if let parse = ParseMessage(message) { try? self.notePrepared(parse, message) }
                writer.parseComplete()
            case Frontend.bind: writer.bindComplete()
            case Frontend.describe:
                if MessageTarget(message)?.kind == MessageTarget.statement { writer.noParameters() }
                writer.noData()
            case Frontend.execute: writer.commandComplete(tag)
            case Frontend.close:
                if let target = MessageTarget(message), target.kind == MessageTarget.statement {
                    self.forget(message.extracting(target.name))
                }
                writer.closeComplete()
            case Frontend.sync: if self.isOver(route) { writer.readyForQuery(status) }
            default: break
            }
            cursor += header.length + 1
        }
        self.send(writer.bytes)
    }

    /// Whether a request that is answered here is one, and not the first part of one.
    private func isOver(_ route: ClientRoute) -> Bool { route.rest.map { self.partEnded($0, route) } ?? true }

    /// Close, answered here.
    private func forget(_ name: Span<UInt8>) {
        if name.isEmpty { self.forgetUnnamed() } else { self.statements.remove(name) }
    }
}
