import Pooling
import Reactor
import Routing
import SQL
import Sessions
import Settings
import Wire

// What the router's settings are and do: martlet.route and the others.
extension ClientSession {
    /// What a statement for the router answers.
    struct CommandAnswer {
        let tag: String
        /// Columns and values of its only row; nil if it returns none.
        var row: [(column: String, value: String?)]?
        /// A NoticeResponse in front of it.
        var notice: [UInt8]?
    }

    /// Carries out a statement for the router.
    ///
    /// - Parameter warns: SET LOCAL outside a transaction is told to be of no use.
    func run(
        _ statement: RouterCommand.Statement, _ place: RouterSettings.Place, warns: Bool, _ route: ClientRoute
    ) throws(ServerError) -> CommandAnswer {
        switch statement {
        case .set(let name, let value, let isLocal):
            try self.set(name, value.flatMap(\.text), isLocal: isLocal, place, route)
            var answer = CommandAnswer(tag: "SET")
            if isLocal && place != .transaction && warns { answer.notice = Self.uselessLocal }
            return answer
        case .reset(let name):
            try self.set(name, nil, isLocal: false, place, route)
            return CommandAnswer(tag: "RESET")
        case .show(let name):
            return CommandAnswer(tag: "SHOW", row: [("martlet.\(name)", try self.show(name, route))])
        case .select(let calls):
            var row: [(column: String, value: String?)] = []
            for call in calls { row.append((call.column, try self.call(call, place, route))) }
            return CommandAnswer(tag: "SELECT 1", row: row)
        }
    }

    private static let uselessLocal = MessageWriter.bytes {
        $0.noticeResponse(
            severity: "WARNING", sqlState: SQLState.noActiveTransaction,
            message: "SET LOCAL can only be used in transaction blocks")
    }

    /// set_config() or current_setting().
    private func call(
        _ call: RouterCommand.Call, _ place: RouterSettings.Place, _ route: ClientRoute
    ) throws(ServerError) -> String? {
        guard let name = call.name.text else { return nil }
        switch call.function {
        case .set(let value, let isLocal):
            guard isLocal == .null || isLocal.isTrue != nil else { throw Self.noBoolean(isLocal) }
            try self.set(name, value.text, isLocal: isLocal.isTrue ?? false, place, route)
            return try self.show(name, route)
        case .current(let missingOK):
            if missingOK == .null { return nil }
            guard let isOK = missingOK.isTrue else { throw Self.noBoolean(missingOK) }
            if isOK && name != "lsn" && !Self.settingNames.contains(name) { return nil }
            return try self.show(name, route)
        }
    }

    private static func noBoolean(_ argument: RouterCommand.Argument) -> ServerError {
        ServerError(
            message: "invalid input syntax for type boolean: \"\(argument.text ?? "")\"",
            sqlState: SQLState.invalidTextRepresentation)
    }

    // MARK: Values

    private static let settingNames = ["route", "read_after_write", "session_key", "min_lsn"]

    /// The settings that a client comes with.
    func beginSettings(_ settings: [StartupParameter], _ route: ClientRoute) throws(ServerError) {
        for setting in settings { try self.set(setting.name, setting.text, isLocal: false, .alone, route) }
        route.settings.begin(with: route.settings.current)
    }

    /// Changes a setting; nil sets it back.
    private func set(
        _ name: String, _ value: String?, isLocal: Bool, _ place: RouterSettings.Place, _ route: ClientRoute
    ) throws(ServerError) {
        if route.settings.isTooDeep && place == .transaction {
            throw ServerError(
                message: "martlet.\(name) cannot be changed within so many savepoints",
                sqlState: SQLState.programLimitExceeded)
        }
        let field: (inout RouterSettings.Values, RouterSettings.Values) -> Void
        var values = RouterSettings.Values()
        switch name {
        case "route":
            if let value { values.route = try Self.choice(RouteOverride.self, name, value) }
            if values.route == .auto { values.route = nil }
            field = { $0.route = $1.route }
        case "read_after_write":
            if let value { values.readAfterWrite = try Self.choice(ReadAfterWrite.self, name, value) }
            field = { $0.readAfterWrite = $1.readAfterWrite }
        case "session_key":
            if let value, !value.isEmpty { values.sessionKey = try Self.sessionKey(value) }
            field = { $0.sessionKey = $1.sessionKey }
        case "min_lsn":
            if let value, !value.isEmpty { values.minimumPosition = try Self.minimumPosition(value) }
            field = { $0.minimumPosition = $1.minimumPosition }
        case "lsn":
            throw ServerError(
                message: "parameter \"martlet.lsn\" cannot be changed (see martlet.min_lsn)",
                sqlState: SQLState.cannotChangeParameterNow)
        default: throw Self.unknownSetting(name)
        }
        self.changeSettings(route) { settings in
            if value == nil {
                settings.reset(isLocal: isLocal, place, field)
            } else {
                settings.set(isLocal: isLocal, place) { field(&$0, values) }
            }
        }
    }

    private static func sessionKey(_ value: String) throws(ServerError) -> String {
        guard value.utf8.count <= 256 else {
            throw ServerError(
                message: "martlet.session_key is longer than 256 bytes", sqlState: SQLState.invalidParameterValue)
        }
        return value
    }

    private static func minimumPosition(_ value: String) throws(ServerError) -> UInt64 {
        guard let position = WALPosition.parse(value) else {
            throw ServerError(
                message: "invalid value for parameter \"martlet.min_lsn\": \"\(value)\" (as in SHOW martlet.lsn)",
                sqlState: SQLState.invalidParameterValue)
        }
        // Blocks and segments are taken to have the usual size; of others a position behind a page's header is one that
        // replicas reach with the next record.
        return WALPosition.withoutPageHeader(position, blockSize: 8192, segmentSize: 16 << 20)
    }

    private func show(_ name: String, _ route: ClientRoute) throws(ServerError) -> String {
        let values = route.settings.current
        switch name {
        case "route": return (values.route ?? .auto).rawValue
        case "read_after_write": return route.mode.rawValue
        case "session_key": return values.sessionKey ?? ""
        case "min_lsn": return WALPosition.text(values.minimumPosition)
        case "lsn":
            throw ServerError(
                message: "martlet.lsn must be asked for by itself", sqlState: SQLState.featureNotSupported)
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

    // MARK: Comments

    /// A comment begins with `martlet:`, and nobody knows what it wants.
    func warnOfHint(_ server: ServerSession, _ route: ClientRoute) {
        // Not in the middle of a message, and once for a request.
        guard server.framer.remaining == 0, route.retries == 0 else { return }
        self.send(Self.mistakenHint)
    }

    private static let mistakenHint = MessageWriter.bytes {
        $0.noticeResponse(
            severity: "WARNING", sqlState: SQLState.warning,
            message: "a comment that begins with \"martlet:\" has words that mean nothing to Martlet",
            hint: "There is route=primary, route=replica and route=auto.")
    }

    // MARK: What follows from a change

    /// Changes settings, and does what follows from it.
    @inline(never)
    private func changeSettings(_ route: ClientRoute, _ change: (inout RouterSettings) -> Void) {
        let before = route.settings.current
        change(&route.settings)
        let now = route.settings.current
        guard now != before else { return }
        route.causality.minimumPosition = now.minimumPosition
        if now.sessionKey != before.sessionKey { self.joinCausality(route) }
    }

    /// DISCARD ALL.
    func resetRoute() {
        guard let route = self.route else { return }
        route.hasOwnSettings = false
        route.hasSetIsolation = false
        self.changeSettings(route) { $0.resetAll(.alone) }
    }

    /// A request is passed on that does something to settings: RESET ALL, and what ends or divides a transaction.
    @inline(__always)
    func applySettingsEffects(_ summary: RequestSummary, inTransaction: Bool, _ route: ClientRoute) {
        guard summary.rollsBack || summary.settingsEffects != nil else { return }
        // With commands in the same batch each has its turn.
        if summary.mayHaveCommands { return }
        self.applySettingsEffects(
            summary.settingsEffects ?? [], rollsBack: summary.rollsBack, inTransaction: inTransaction, route)
    }

    func applySettingsEffects(
        _ effects: [SettingsEffect], rollsBack: Bool, inTransaction: Bool, _ route: ClientRoute
    ) {
        guard rollsBack || !effects.isEmpty else { return }
        self.changeSettings(route) { settings in
            if rollsBack { settings.rollback() }
            for effect in effects { settings.apply(effect, inTransaction ? .transaction : .request) }
        }
    }

    /// COMMIT has been carried out.
    func settingsCommitted(_ route: ClientRoute) {
        if route.settings.isOpen { self.changeSettings(route) { $0.commit() } }
    }

    /// A transaction that no server knows of is over.
    func settingsRolledBack(_ route: ClientRoute) {
        if route.settings.isOpen { self.changeSettings(route) { $0.rollback() } }
    }

    /// A request has been answered; what follows is ReadyForQuery.
    @inline(__always)
    func settingsRequestEnded(_ status: TransactionStatus, _ route: ClientRoute) {
        if route.settings.isOpen { self.changeSettings(route) { $0.requestEnded(status) } }
    }

    /// Which writes count for this client beside its own.
    func joinCausality(_ route: ClientRoute) {
        route.router.shared.causalities.join(
            route.causality, route.router.settings.scope, user: self.group.key.user,
            key: route.settings.current.sessionKey)
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
}
