import Pooling
import Reactor
import Routing
import SQL
import Settings
import Wire

// Commands to the router: SET, RESET and SHOW of martlet.*, and transaction commands that are answered here. No server
// sees them; the answer is the one that a server would give.
extension ClientSession {
    /// Replaces a request that asks for the position by one that a server understands.
    func askForPosition(_ type: UInt8, _ bytes: Span<UInt8>, _ whole: Range<Int>, _ route: ClientRoute) -> Verdict {
        route.replay = Self.replacingText(type, bytes.extracting(whole), Self.positionQuery)
        return .consumed(upTo: whole.upperBound)
    }

    /// Carries out a command that is the whole request.
    ///
    /// - Parameter runs: false when it is only prepared.
    func carryOut(
        _ command: RouterCommand, runs: Bool, _ type: UInt8, _ bytes: Span<UInt8>, _ whole: Range<Int>,
        _ route: ClientRoute
    ) -> Verdict {
        do {
            switch command {
            case .set where !runs, .reset where !runs: self.answer(type, bytes, whole, tag: "SET", route: route)
            case .set(let name, let value):
                try self.set(name, value, route)
                self.answer(type, bytes, whole, tag: "SET", route: route)
            case .reset(let name):
                try self.set(name, nil, route)
                self.answer(type, bytes, whole, tag: "RESET", route: route)
            case .show(let name):
                let value = try self.show(name, route)
                self.answer(
                    type, bytes, whole, tag: "SHOW", row: (column: "martlet.\(name)", value: value), route: route)
            }
            return .consumed(upTo: whole.upperBound)
        } catch {
            return self.refuse(error, type)
        }
    }

    /// `SHOW martlet.lsn`: what a replica must have replayed to show all that this client has written.
    private static let positionQuery = Array("SELECT pg_current_wal_insert_lsn()::text AS \"martlet.lsn\"".utf8)

    /// The same request with another text.
    private static func replacingText(_ type: UInt8, _ request: Span<UInt8>, _ text: [UInt8]) -> [UInt8] {
        if type == Frontend.query { return MessageWriter.bytes { $0.query(text) } }
        var result: [UInt8] = []
        var cursor = 0
        while let header = MessageFramer.header(request, at: cursor), cursor + header.length < request.count {
            let message = request.extracting(cursor..<(cursor + header.length + 1))
            if header.type == Frontend.parse, let parse = ParseMessage(message),
                case .show(name: "lsn")? = RouterCommand(message.extracting(parse.query))
            {
                let tail = text + [0] + message.copy((parse.query.upperBound + 1)..<message.count)
                result += MessageWriter.bytes { $0.parse(statement: message.copy(parse.statement), tail: tail) }
            } else {
                result.append(message)
            }
            cursor += header.length + 1
        }
        return result
    }

    // MARK: Settings

    /// Changes a setting; nil sets it back.
    func set(_ name: String, _ value: String?, _ route: ClientRoute) throws(ServerError) {
        switch name {
        case "route":
            route.override = try value.map { text throws(ServerError) in
                try Self.choice(RouteOverride.self, name, text)
            }
            if route.override == .auto { route.override = nil }
        case "read_after_write":
            route.readAfterWrite = try value.map { text throws(ServerError) in
                try Self.choice(ReadAfterWrite.self, name, text)
            }
        case "session_key":
            guard (value ?? "").utf8.count <= 256 else {
                throw ServerError(
                    message: "martlet.session_key is longer than 256 bytes", sqlState: SQLState.invalidParameterValue)
            }
            route.sessionKey = value?.isEmpty ?? true ? nil : value
            self.joinCausality(route)
        case "min_lsn":
            guard let value, !value.isEmpty else {
                route.causality.minimumPosition = 0
                return
            }
            guard let position = WALPosition.parse(value) else {
                throw ServerError(
                    message: "invalid value for parameter \"martlet.min_lsn\": \"\(value)\" (as in SHOW martlet.lsn)",
                    sqlState: SQLState.invalidParameterValue)
            }
            // Blocks and segments are taken to have the usual size; of others a position behind a page's header is one
            // that replicas reach with the next record.
            route.causality.minimumPosition = WALPosition.withoutPageHeader(
                position, blockSize: 8192, segmentSize: 16 << 20)
        default: throw Self.unknownSetting(name)
        }
    }

    /// DISCARD ALL.
    func resetRoute() {
        guard let route = self.route else { return }
        route.override = nil
        route.readAfterWrite = nil
        route.sessionKey = nil
        route.hasOwnSettings = false
        route.causality.minimumPosition = 0
        self.joinCausality(route)
    }

    /// Which writes count for this client beside its own.
    func joinCausality(_ route: ClientRoute) {
        route.router.shared.causalities.join(
            &route.causality, route.router.settings.scope, user: self.group.key.user, key: route.sessionKey)
    }

    /// The same when the configuration is another.
    func rejoinCausality(_ route: ClientRoute) {
        let before = route.causality.database
        self.joinCausality(route)
        // Its servers are those of another entry, too: what it has written and read until now is known to nobody there.
        if route.causality.database !== before {
            route.causality.wrote(generation: route.router.generation, now: self.now)
        }
    }

    private func show(_ name: String, _ route: ClientRoute) throws(ServerError) -> String {
        switch name {
        case "route": (route.override ?? .auto).rawValue
        case "read_after_write": (route.readAfterWrite ?? route.router.settings.readAfterWrite).rawValue
        case "session_key": route.sessionKey ?? ""
        case "min_lsn": WALPosition.text(route.causality.minimumPosition)
        default: throw Self.unknownSetting(name)
        }
    }

    private static func unknownSetting(_ name: String) -> ServerError {
        ServerError(
            message: "unrecognized configuration parameter \"martlet.\(name)\" "
                + "(there are martlet.route, read_after_write, session_key, min_lsn, lsn)",
            sqlState: SQLState.undefinedObject)
    }

    private static func choice<Choice: RawRepresentable & CaseIterable>(
        _ type: Choice.Type, _ name: String, _ text: String
    ) throws(ServerError) -> Choice where Choice.RawValue == String {
        if let choice = Choice(rawValue: text.lowercased()) { return choice }
        let words = Choice.allCases.map(\.rawValue).joined(separator: ", ")
        throw ServerError(
            message: "invalid value for parameter \"martlet.\(name)\": \"\(text)\" (one of \(words))",
            sqlState: SQLState.invalidParameterValue)
    }

    // MARK: Answers

    /// Answers a request of one statement as a server would.
    ///
    /// - Parameter row: the only column and its value, for a statement that returns one row.
    func answer(
        _ type: UInt8, _ bytes: Span<UInt8>, _ whole: Range<Int>, tag: String,
        row: (column: String, value: String)? = nil, route: ClientRoute
    ) {
        let status = self.server?.transaction ?? route.status
        let request = bytes.extracting(whole)
        var writer = MessageWriter()
        if type == Frontend.query {
            if let row { writer.rowDescription([.text(row.column)]) }
            if let row { writer.dataRow([row.value]) }
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
                self.notePrepared(message)
                writer.parseComplete()
            case Frontend.bind: writer.bindComplete()
            case Frontend.describe:
                if MessageTarget(message)?.kind == MessageTarget.statement { writer.noParameters() }
                if let row { writer.rowDescription([.text(row.column)]) } else { writer.noData() }
            case Frontend.execute:
                if let row { writer.dataRow([row.value]) }
                writer.commandComplete(tag)
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

    /// A statement that was answered here can be bound again.
    private func notePrepared(_ message: Span<UInt8>) {
        guard let parse = ParseMessage(message) else { return }
        if parse.statement.isEmpty {
            self.unnamedParse = message.copy(parse.tail)
            self.unnamedStatement = self.worker.nextUnnamedStatement()
        } else {
            guard self.hasRoom(for: message.count) else { return }
            let statement = self.worker.statements.statement(
                message.extracting(parse.tail), self.parameters?.parsing ?? .none)
            _ = self.statements.add(
                message.extracting(parse.statement),
                ClientStatement(statement, generation: self.pool.catalogue.current))
        }
    }
}
