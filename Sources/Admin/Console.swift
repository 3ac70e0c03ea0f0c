import Glibc
public import Logging
public import Proxy
public import Sessions
public import Settings
import Wire

/// The console: what answers in the database `pgbouncer`.
///
/// Commands, columns, types, tags and the texts of errors are PgBouncer's (its manual, "Admin console"), because
/// tools rely on them. What can't be understood gets a hint at the nearest command besides.
public struct Console: ConsoleService {
    private let history: StatisticsHistory
    /// Names the client while one of its commands is carried out.
    private var logger: Logger
    private let settingsChanged: @Sendable (Settings) -> Void

    /// - Parameters:
    ///   - history: fed by the owner of the clock, for the averages of SHOW STATS.
    ///   - logger: gets a line for each command that changes something, and for each error.
    ///   - settingsChanged: called after each reload and SET, for settings of the process itself, such as `logfile`.
    public init(
        history: StatisticsHistory, logger: Logger, settingsChanged: @escaping @Sendable (Settings) -> Void = { _ in }
    ) {
        self.history = history
        self.logger = logger
        self.settingsChanged = settingsChanged
    }

    public var welcomeParameters: [(name: String, value: String)] {
        [
            ("server_version", "\(Version.number)/bouncer"), ("client_encoding", "UTF8"), ("server_encoding", "UTF8"),
            ("DateStyle", "ISO"), ("TimeZone", "GMT"), ("standard_conforming_strings", "on"), ("is_superuser", "on"),
        ]
    }

    public var extendedProtocolError: [UInt8] {
        MessageWriter.bytes {
            $0.errorResponse(
                severity: "FATAL", sqlState: SQLState.protocolViolation,
                message: "extended query protocol not supported by admin console",
                hint: "Use the simple query protocol (JDBC: preferQueryMode=simple; pgx: QueryExecModeSimpleProtocol).")
        }
    }

    public func execute(
        _ query: [UInt8], as role: ConsoleRole, client: String, host: any ConsoleHost
    ) async -> [UInt8] {
        var console = self
        console.logger[metadataKey: "connection"] = "\(client)"
        return await console.execute(query, as: role, host: host)
    }

    private func execute(_ query: [UInt8], as role: ConsoleRole, host: any ConsoleHost) async -> [UInt8] {
        var answer = MessageWriter()
        do {
            let command = try ConsoleCommand(parsing: query)
            try await self.execute(command, as: role, host: host, answer: &answer)
            // The connection of SHUTDOWN stays silent until it is closed with the process: that is how scripts wait
            // for it.
            if command == .shutdown(.immediate) { return [] }
        } catch let error as ConsoleCommand.SyntaxError {
            self.answer(error, to: query, &answer)
        } catch let error as ConsoleError {
            self.logger.error("\(error.message)")
            answer.errorResponse(severity: "ERROR", sqlState: error.sqlState, message: error.message)
        } catch let error as ReloadError {
            self.logger.error("RELOAD failed, the settings in force stay")
            for message in error.messages { self.logger.error("\(message)") }
            answer.errorResponse(
                severity: "ERROR", sqlState: SQLState.configurationFileError,
                message: "RELOAD failed, see logs for additional details",
                detail: error.messages.isEmpty ? nil : error.messages.joined(separator: "\n"))
        } catch {
            self.logger.error("\(error)")
            answer.errorResponse(severity: "ERROR", sqlState: SQLState.internalError, message: "\(error)")
        }
        answer.readyForQuery(.idle)
        return answer.bytes
    }

    private func answer(_ error: ConsoleCommand.SyntaxError, to query: [UInt8], _ answer: inout MessageWriter) {
        let text = String(decoding: query.prefix(500), as: UTF8.self)
        let message: String
        var hint = error.nearest.map { "Perhaps you meant \"\($0)\"." }
        switch error.reason {
        case .invalid: message = "invalid command '\(text)', use SHOW HELP;"
        case .databaseRequired: message = "a database is required"
        case .statementRequired: message = "EXPLAIN ROUTE needs a statement"
        case .several:
            message = "invalid command '\(text)', use SHOW HELP;"
            hint = "The console takes one command at a time."
        }
        switch error.reason {
        case .invalid, .several:
            self.logger.error("invalid command '\(ConsoleCommand.wordsForLog(query))', use SHOW HELP;")
        case .databaseRequired, .statementRequired: self.logger.error("\(message)")
        }
        answer.errorResponse(severity: "ERROR", sqlState: SQLState.protocolViolation, message: message, hint: hint)
    }

    private func execute(
        _ command: ConsoleCommand, as role: ConsoleRole, host: any ConsoleHost, answer: inout MessageWriter
    ) async throws {
        switch command {
        case .empty:
            answer.emptyQueryResponse()
        case .show(.help):
            Self.writeHelp(to: &answer)
        case .show(let show):
            await self.table(show, host: host).write(to: &answer)
        case .showSetting(let key):
            try await self.table(ofSetting: key, host: host).write(to: &answer)
        case .set(let key, _) where FakeSetting.value(of: key) != nil:
            answer.noticeResponse(severity: "NOTICE", sqlState: SQLState.successfulCompletion, message: "SET ignored")
            answer.commandComplete("SET")
        case .set(let key, let value):
            try self.requireAdmin(role)
            do throws(ConsoleError) {
                if let reason = try await host.set(key: key, value: value) {
                    answer.noticeResponse(severity: "NOTICE", sqlState: SQLState.successfulCompletion, message: reason)
                }
            } catch {
                // What was mistyped may be a password, or stand where one belongs: the log is not told.
                self.logger.error("SET \(Settings.names.contains(key) ? "\(key) " : "")failed")
                return answer.errorResponse(severity: "ERROR", sqlState: error.sqlState, message: error.message)
            }
            self.settingsChanged(await host.settings())
            let shown = Settings.isSecret(key) ? "********" : value
            self.logger.info("SET \(key)=\(shown) command issued")
            answer.commandComplete("SET \(key)=\(shown)")
        case .reload:
            try self.requireAdmin(role)
            self.logger.info("RELOAD command issued")
            for change in try await self.reload(host) {
                answer.noticeResponse(severity: "NOTICE", sqlState: SQLState.successfulCompletion, message: change)
            }
            answer.commandComplete("RELOAD")
        case .explainRoute(let statement, let database):
            Table.explanation(try await host.explainRoute(statement, database: database)).write(to: &answer)
        case .shutdown(let mode):
            try self.requireAdmin(role)
            self.logger.info("SHUTDOWN\(mode.argument) command issued")
            try await host.shutdown(mode)
            answer.commandComplete("SHUTDOWN")
        case .killClient(let id):
            try self.requireAdmin(role)
            guard let number = Self.clientID(id) else { throw ConsoleError("invalid client pointer supplied") }
            self.logger.info("KILL_CLIENT \(number) command issued")
            try await host.killClient(id: number)
            answer.commandComplete("KILL_CLIENT")
        case .pause(let database):
            try await self.control("PAUSE", "pause", database, role) {
                try await self.requireNotPaused(host)
                try await host.pause(database: database)
            }
            answer.commandComplete("PAUSE")
        case .resume(let database):
            try await self.control("RESUME", "resume", database, role) {
                try await self.requirePaused(database, host)
                try await host.resume(database: database)
            }
            answer.commandComplete("RESUME")
        case .disable(let database):
            try await self.control("DISABLE", "disable", database, role) { try await host.disable(database: database) }
            answer.commandComplete("DISABLE")
        case .enable(let database):
            try await self.control("ENABLE", "enable", database, role) { try await host.enable(database: database) }
            answer.commandComplete("ENABLE")
        case .reconnect(let database):
            try await self.control("RECONNECT", "reconnect", database, role) {
                try await host.reconnect(database: database)
            }
            answer.commandComplete("RECONNECT")
        case .forget(let database):
            try await self.control("FORGET", "forget", database, role) { try await host.forget(database: database) }
            answer.commandComplete("FORGET")
        case .kill(let database):
            try await self.control("KILL", "kill", database, role) {
                try await self.requireNotPaused(host)
                try await host.kill(database: database)
            }
            answer.commandComplete("KILL")
        case .waitClose(let database):
            try await self.control("WAIT_CLOSE", "wait in", database, role) {
                try await host.waitClose(database: database)
            }
            answer.commandComplete("WAIT_CLOSE")
        }
    }
}

// MARK: - Control

extension Console {
    /// Reads the configuration again and logs what has changed; for RELOAD and SIGHUP alike.
    ///
    /// - Returns: the lines logged.
    @discardableResult
    public func reload(_ host: any ConsoleHost) async throws(ReloadError) -> [String] {
        let changes = try await host.reload()
        self.settingsChanged(await host.settings())
        for change in changes { self.logger.info("\(change)") }
        if changes.isEmpty { self.logger.info("RELOAD: nothing has changed") }
        return changes
    }

    /// What the commands have in common that take a database.
    private func control(
        _ command: String, _ verb: String, _ database: String?, _ role: ConsoleRole, _ action: () async throws -> Void
    ) async throws {
        try self.requireAdmin(role)
        if database == Settings.consoleDatabase {
            throw ConsoleError("cannot \(verb) admin db: \(Settings.consoleDatabase)")
        }
        self.logger.info("\(command)\(database.map { " '\($0)'" } ?? "") command issued")
        try await action()
    }

    private func requireAdmin(_ role: ConsoleRole) throws {
        guard role == .admin else {
            throw ConsoleError("admin access needed")
        }
    }

    private func requireNotPaused(_ host: any ConsoleHost) async throws {
        if await host.state().isPaused { throw ConsoleError("already suspended/paused") }
    }

    private func requirePaused(_ database: String?, _ host: any ConsoleHost) async throws {
        guard let database else {
            let state = await host.state()
            if state.shutdown != nil { throw ConsoleError("pooler is shutting down") }
            if !state.isPaused { throw ConsoleError("pooler is not paused") }
            return
        }
        guard let status = await host.databases().first(where: { $0.settings.name == database }) else {
            throw ConsoleError.noSuchDatabase(database)
        }
        if !status.isPaused { throw ConsoleError("database \(database) is not paused") }
    }

    /// The column `id` of SHOW CLIENTS, or the column `ptr`.
    private static func clientID(_ text: String) -> UInt64? {
        text.hasPrefix("0x") ? UInt64(text.dropFirst(2), radix: 16) : UInt64(text)
    }
}

// MARK: - SHOW

extension Console {
    private func table(_ show: ConsoleCommand.Show, host: any ConsoleHost) async -> Table {
        switch show {
        case .clients: return .clients(await host.clients())
        case .servers: return .servers(await host.servers())
        case .sockets: return .sockets(await host.clients(), await host.servers(), activeOnly: false)
        case .activeSockets: return .sockets(await host.clients(), await host.servers(), activeOnly: true)
        case .pools:
            return .pools(await host.pools(), consoleClients: await host.counts().consoleClients, await host.settings())
        case .databases:
            return .databases(
                await host.databases(), consoleClients: await host.counts().consoleClients, await host.settings())
        case .nodes: return .nodes(await host.nodes())
        case .routes:
            let routes = await host.routes()
            return .routes(routes, reasons: RouteStatus.reasons)
        case .users: return .users(await host.users(), await host.settings())
        case .peers: return .peers(await host.settings())
        case .peerPools: return .peerPools()
        case .lists: return await self.lists(host)
        case .stats:
            let totals = await host.statistics()
            return .stats(totals, averages: await self.history.averages(totals, at: Self.now))
        case .statsTotals: return .statsTotals(await host.statistics())
        case .statsAverages: return .statsAverages(await self.history.averages(await host.statistics(), at: Self.now))
        case .totals:
            let totals = await host.statistics()
            let average = await self.history.overallAverages(totals, at: Self.now)
            return .totals(StatisticsHistory.sum(totals), average: average)
        case .config: return .config(await host.settings())
        case .mem: return .memory(await host.memory())
        case .state: return .state(await host.state())
        case .dnsHosts: return .dnsHosts(await host.dnsHosts())
        case .dnsZones: return .dnsZones()
        case .version, .help: return .single("version", Version.text)
        }
    }

    private func lists(_ host: any ConsoleHost) async -> Table {
        // The console's own database and pool count, as they do in SHOW DATABASES and SHOW POOLS.
        let counts = await host.counts()
        return .lists(
            counts, databases: await host.databases().count + 1, users: await host.users().count,
            pools: await host.pools().count + (counts.consoleClients > 0 ? 1 : 0),
            peers: await host.settings().peers.count)
    }

    private func table(ofSetting key: String, host: any ConsoleHost) async throws -> Table {
        if let value = FakeSetting.value(of: key) { return .single(key, value) }
        if let row = await host.settings().configRows().first(where: { $0.key == key }) {
            return .single(key, row.value)
        }
        let nearest = NearestName.find(key, in: ConsoleCommand.Show.allCases.map(\.rawValue))
        throw ConsoleCommand.SyntaxError(nearest: nearest.map { "SHOW \($0.uppercased())" })
    }

    /// Microseconds by the monotonic clock, which `StatisticsHistory` is fed with too.
    public static var now: Microseconds {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Microseconds(time.tv_sec) * 1_000_000 + Microseconds(time.tv_nsec) / 1000
    }
}

extension ShutdownMode {
    fileprivate var argument: String {
        switch self {
        case .immediate: ""
        case .waitForServers: " WAIT_FOR_SERVERS"
        case .waitForClients: " WAIT_FOR_CLIENTS"
        }
    }
}
