import Proxy
import Settings

/// One command of the console, parsed.
///
/// Keywords are case-insensitive. Names may be quoted as in SQL; unlike in SQL an unquoted name keeps its case, as in
/// PgBouncer.
enum ConsoleCommand: Equatable {
    /// Nothing but white space, comments and semicolons.
    case empty
    /// SHOW x, and SELECT x, which some monitoring tools send.
    case show(Show)
    /// SHOW of a setting: of `[pgbouncer]`, or one that drivers ask any server for.
    case showSetting(String)
    case set(key: String, value: String)
    case reload
    case pause(database: String?)
    case resume(database: String?)
    case disable(database: String)
    case enable(database: String)
    case reconnect(database: String?)
    case forget(database: String)
    case kill(database: String?)
    case killClient(id: String)
    case waitClose(database: String?)
    case shutdown(ShutdownMode)
    /// EXPLAIN ROUTE [FOR database] statement.
    case explainRoute([UInt8], database: String?)

    /// The tables.
    enum Show: String, CaseIterable {
        case activeSockets = "active_sockets"
        case clients
        case config
        case databases
        case dnsHosts = "dns_hosts"
        case dnsZones = "dns_zones"
        case help
        case lists
        case mem
        case nodes
        case peerPools = "peer_pools"
        case peers
        case pools
        case routes
        case servers
        case sockets
        case state
        case stats
        case statsAverages = "stats_averages"
        case statsTotals = "stats_totals"
        case totals
        case users
        case version
    }

    /// A command that can't be understood.
    struct SyntaxError: Error, Equatable {
        enum Reason: Equatable {
            case invalid
            /// DISABLE and ENABLE have no form for all databases.
            case databaseRequired
            /// EXPLAIN ROUTE of nothing.
            case statementRequired
            /// More than one command in a query.
            case several
        }
        var reason = Reason.invalid
        /// The command that was perhaps meant.
        var nearest: String?
    }

    private enum Keyword: String, CaseIterable {
        case disable, enable, forget, kill
        case killClient = "kill_client"
        case pause, reconnect, reload, resume, select, set, show, shutdown
        case waitClose = "wait_close"
    }

    /// Parses the text of one Query.
    init(parsing query: [UInt8]) throws(SyntaxError) {
        if let explain = try Self.parseExplain(query) {
            self = explain
            return
        }
        var tokens = try ConsoleToken.tokens(of: query)
        while tokens.last == .semicolon { tokens.removeLast() }
        while tokens.first == .semicolon { tokens.removeFirst() }
        guard let first = tokens.first else {
            self = .empty
            return
        }
        if tokens.contains(.semicolon) { throw SyntaxError(reason: .several) }
        guard case .word(let name) = first else { throw SyntaxError() }
        guard let keyword = Keyword(rawValue: name.lowercased()) else {
            let nearest = NearestName.find(name.lowercased(), in: Keyword.allCases.map(\.rawValue) + ["explain"])
            throw SyntaxError(nearest: nearest?.uppercased())
        }
        self = try Self.parse(keyword, arguments: Array(tokens.dropFirst()))
    }

    /// What the log is told of a command that could not be understood: the words at its front that the console knows. What
    /// stands behind them may be a password.
    static func wordsForLog(_ query: [UInt8]) -> String {
        var rest = query[...]
        var words: [String] = []
        while !rest.allSatisfy({ $0 <= UInt8(ascii: " ") || $0 == UInt8(ascii: ";") }) {
            let word = Self.word(&rest)
            guard words.count < 4, Self.vocabulary.contains(word.lowercased()) else {
                words.append("…")
                break
            }
            words.append(word)
        }
        return words.joined(separator: " ")
    }

    private static let vocabulary = Set(
        Keyword.allCases.map(\.rawValue) + Show.allCases.map(\.rawValue) + Settings.names
            + ["explain", "route", "for", "to", "=", "wait_for_servers", "wait_for_clients"])

    private static func parse(
        _ keyword: Keyword, arguments: [ConsoleToken]
    ) throws(SyntaxError) -> ConsoleCommand {
        switch keyword {
        case .show, .select: return try Self.parseShow(arguments)
        case .set: return try Self.parseSet(arguments)
        case .shutdown: return try Self.parseShutdown(arguments)
        case .reload:
            guard arguments.isEmpty else { throw SyntaxError() }
            return .reload
        case .pause: return .pause(database: try Self.name(arguments))
        case .resume: return .resume(database: try Self.name(arguments))
        case .reconnect: return .reconnect(database: try Self.name(arguments))
        case .kill: return .kill(database: try Self.name(arguments))
        case .waitClose: return .waitClose(database: try Self.name(arguments))
        case .killClient: return .killClient(id: try Self.name(arguments) ?? "")
        case .disable: return .disable(database: try Self.requiredName(arguments))
        case .enable: return .enable(database: try Self.requiredName(arguments))
        case .forget: return .forget(database: try Self.requiredName(arguments))
        }
    }

    /// EXPLAIN ROUTE, whose statement is SQL and none of the console's business; nil for everything else.
    private static func parseExplain(_ query: [UInt8]) throws(SyntaxError) -> ConsoleCommand? {
        var rest = query[...]
        guard Self.word(&rest).lowercased() == "explain" else { return nil }
        guard Self.word(&rest).lowercased() == "route" else { throw SyntaxError(nearest: "EXPLAIN ROUTE") }
        var database: String?
        var statement = rest
        if Self.word(&rest).lowercased() == "for" {
            database = try Self.databaseName(&rest)
            statement = rest
        }
        guard statement.contains(where: { $0 > UInt8(ascii: " ") && $0 != UInt8(ascii: ";") }) else {
            throw SyntaxError(reason: .statementRequired)
        }
        return .explainRoute(Array(statement), database: database)
    }

    /// Takes what stands before the next white space.
    private static func word(_ rest: inout ArraySlice<UInt8>) -> String {
        rest = rest.drop { $0 <= UInt8(ascii: " ") }
        let word = rest.prefix { $0 > UInt8(ascii: " ") }
        rest = rest.dropFirst(word.count)
        return String(decoding: word, as: UTF8.self)
    }

    /// Takes a name, perhaps in quotes. What follows it need not be tokens of the console.
    private static func databaseName(_ rest: inout ArraySlice<UInt8>) throws(SyntaxError) -> String {
        rest = rest.drop { $0 <= UInt8(ascii: " ") }
        if rest.first == UInt8(ascii: "\"") { return try ConsoleToken.takeQuoted(&rest) }
        let name = Self.word(&rest)
        guard !name.isEmpty else { throw SyntaxError(reason: .databaseRequired) }
        return name
    }

    private static func name(_ arguments: [ConsoleToken]) throws(SyntaxError) -> String? {
        guard let argument = arguments.first else { return nil }
        guard arguments.count == 1, let name = argument.name else { throw SyntaxError() }
        return name
    }

    private static func requiredName(_ arguments: [ConsoleToken]) throws(SyntaxError) -> String {
        guard let name = try Self.name(arguments) else { throw SyntaxError(reason: .databaseRequired) }
        return name
    }

    private static func parseShow(_ arguments: [ConsoleToken]) throws(SyntaxError) -> ConsoleCommand {
        guard let name = try Self.name(arguments) else { throw SyntaxError() }
        if let table = Show(rawValue: name.lowercased()) { return .show(table) }
        return .showSetting(name.lowercased())
    }

    /// `SET key = value` or `SET key TO value`; the value is a word, a quoted name or a string.
    private static func parseSet(_ arguments: [ConsoleToken]) throws(SyntaxError) -> ConsoleCommand {
        guard arguments.count == 3, let key = arguments[0].name, !key.isEmpty, let value = arguments[2].text else {
            throw SyntaxError()
        }
        switch arguments[1] {
        case .equals: break
        case .word(let word) where word.lowercased() == "to": break
        default: throw SyntaxError()
        }
        return .set(key: key.lowercased(), value: value)
    }

    private static func parseShutdown(_ arguments: [ConsoleToken]) throws(SyntaxError) -> ConsoleCommand {
        guard let name = try Self.name(arguments) else { return .shutdown(.immediate) }
        switch name.lowercased() {
        case "wait_for_servers": return .shutdown(.waitForServers)
        case "wait_for_clients": return .shutdown(.waitForClients)
        default:
            let nearest = NearestName.find(name.lowercased(), in: ["wait_for_servers", "wait_for_clients"])
            throw SyntaxError(nearest: nearest.map { "SHUTDOWN \($0.uppercased())" })
        }
    }
}
