import CPQ
import Glibc
import Routing

/// A connection to a server by libpq, never waited for longer than a deadline. Belongs to one thread.
final class MonitorConnection {
    /// Where and as whom.
    struct Target: Sendable {
        var host: String
        /// In numbers, so that libpq looks no name up: that cannot be interrupted. Nil for a Unix socket.
        var address: String?
        var port: Int
        var user: String?
        /// Nil: libpq looks into the password file.
        var password: String?
        var dbname: String
        /// libpq's parameters of TLS.
        var tls: [(name: String, value: String)]

        init(_ node: Node, _ login: ClusterSettings.Login, _ tls: ClusterSettings.TLS) {
            self.host = node.host
            self.address = node.address
            self.port = node.port
            self.user = login.user
            self.password = login.password
            self.dbname = login.dbname
            self.tls = tls.parameters
        }
    }

    enum Failure: Error {
        /// The connection could not be made or has broken, or the server has ended it.
        case lost(String)
        /// No answer in time.
        case timedOut
        /// The server has refused the login or the query; the SQLSTATE, if it tells one, and what it says.
        case refused(state: String, message: String)
        /// The monitor is being stopped.
        case stopped

        /// A server says no: it lives and serves others. Not one that is starting, stopping, or in trouble itself
        /// (operator intervention but for a dropped database and a session that was idle for too long, system and
        /// internal errors).
        var provesLife: Bool {
            guard case .refused(let state, _) = self else { return false }
            return !["57", "58", "XX", "08"].contains(state.prefix(2)) || state == "57P04" || state == "57P05"
        }

        /// The one who logs in is at fault, or the database: another may do better.
        var isOfLogin: Bool {
            guard case .refused(let state, _) = self else { return false }
            return state.isEmpty || ["28", "3D", "42", "55"].contains(state.prefix(2)) || state == "57P04"
        }

        /// The user or the password is wrong.
        var isOfUser: Bool {
            guard case .refused(let state, _) = self else { return false }
            return state.isEmpty || state.hasPrefix("28")
        }

        /// For the log.
        func reason(allowed: Int64) -> String {
            switch self {
            case .stopped: "the monitor stops"
            case .lost(let text): text
            case .timedOut: "no answer for \(ClusterState.seconds(allowed)) s"
            case .refused(let state, let message): state.isEmpty ? message : "\(message) (\(state))"
            }
        }
    }

    private let handle: OpaquePointer
    private let waker: Waker
    private let isStopped: () -> Bool

    /// Connects. Times are monotonic microseconds.
    init(to target: Target, waker: Waker, deadline: Int64, isStopped: @escaping () -> Bool) throws(Failure) {
        let parameters: [(String, String?)] =
            [
                ("host", target.host), ("hostaddr", target.address), ("port", String(target.port)),
                ("user", target.user),
                ("password", target.password), ("dbname", target.dbname), ("application_name", "martlet"),
                ("client_encoding", "UTF8"), ("target_session_attrs", "any"),
                // A look-up of Kerberos tickets may block.
                ("gssencmode", "disable"),
            ] + target.tls.map { ($0.name, $0.value) }
        guard let handle = Self.begin(parameters) else { throw .lost("out of memory") }
        self.handle = handle
        self.waker = waker
        self.isStopped = isStopped
        // Notices go nowhere.
        PQsetNoticeReceiver(handle, { _, _ in }, nil)
        // So that a refusal comes with its SQLSTATE.
        PQsetErrorVerbosity(handle, PQERRORS_VERBOSE)
        guard PQstatus(handle) != CONNECTION_BAD else { throw .lost(self.reason) }
        var state = PGRES_POLLING_WRITING
        while state != PGRES_POLLING_OK {
            switch state {
            case PGRES_POLLING_WRITING: try self.wait(POLLOUT, until: deadline)
            case PGRES_POLLING_READING: try self.wait(POLLIN, until: deadline)
            default: throw self.refusal ?? .lost(self.reason)
            }
            state = PQconnectPoll(handle)
        }
        PQsetnonblocking(handle, 1)
    }

    deinit { PQfinish(self.handle) }

    private static func begin(_ parameters: [(String, String?)]) -> OpaquePointer? {
        let given = parameters.compactMap { name, value in value.map { (name, $0) } }
        let names = given.map { strdup($0.0) } + [nil]
        let values = given.map { strdup($0.1) } + [nil]
        defer { for text in names + values { free(text) } }
        return names.map { UnsafePointer($0) }.withUnsafeBufferPointer { names in
            values.map { UnsafePointer($0) }.withUnsafeBufferPointer { values in
                PQconnectStartParams(names.baseAddress, values.baseAddress, 0)
            }
        }
    }

    /// Runs one or more statements; gives the rows of the last that has any, as text.
    func query(_ text: String, deadline: Int64) throws(Failure) -> [[String?]] {
        guard PQsendQuery(self.handle, text) == 1 else { throw .lost(self.reason) }
        var rows: [[String?]] = []
        var refusal: Failure?
        while true {
            try self.receive(until: deadline)
            guard let result = PQgetResult(self.handle) else { break }
            defer { PQclear(result) }
            switch PQresultStatus(result) {
            case PGRES_TUPLES_OK: rows = Self.rows(of: result)
            case PGRES_COMMAND_OK, PGRES_EMPTY_QUERY: break
            default:
                let state = PQresultErrorField(result, Int32(UInt8(ascii: "C"))).map { String(cString: $0) } ?? ""
                let message = PQresultErrorField(result, Int32(UInt8(ascii: "M"))).map { String(cString: $0) }
                refusal = .refused(state: state, message: message ?? self.reason)
            }
        }
        guard PQstatus(self.handle) == CONNECTION_OK else { throw .lost(self.reason) }
        if let refusal { throw refusal }
        return rows
    }

    /// Waits until `PQgetResult` does not block.
    private func receive(until deadline: Int64) throws(Failure) {
        while true {
            let unsent = PQflush(self.handle)
            guard unsent >= 0 else { throw .lost(self.reason) }
            guard PQconsumeInput(self.handle) == 1 else { throw .lost(self.reason) }
            if PQisBusy(self.handle) == 0 { return }
            try self.wait(unsent > 0 ? POLLIN | POLLOUT : POLLIN, until: deadline)
        }
    }

    private static func rows(of result: OpaquePointer) -> [[String?]] {
        let columns = PQnfields(result)
        return (0..<PQntuples(result)).map { row in
            (0..<columns).map { column in
                guard PQgetisnull(result, row, column) == 0 else { return nil }
                return PQgetvalue(result, row, column).map { String(cString: $0) }
            }
        }
    }

    private func wait(_ events: Int32, until deadline: Int64) throws(Failure) {
        while true {
            guard !self.isStopped() else { throw .stopped }
            guard monotonicNow() < deadline else { throw .timedOut }
            if self.waker.wait(for: PQsocket(self.handle), events: Int16(events), until: deadline) != 0 { return }
        }
    }

    /// Waits while there is nothing to ask: until the thread is woken or the time has come.
    ///
    /// - Throws: `lost` when the server has closed the connection.
    func idle(until deadline: Int64) throws(Failure) {
        guard self.waker.wait(for: PQsocket(self.handle), events: Int16(POLLIN), until: deadline) != 0 else { return }
        // Mostly the end: a server says nothing unasked but notices and changed parameters.
        guard PQconsumeInput(self.handle) == 1, PQstatus(self.handle) == CONNECTION_OK else { throw .lost(self.reason) }
        while let notification = PQnotifies(self.handle) { PQfreemem(notification) }
    }

    /// The server has refused the login; nil if something else went wrong.
    private var refusal: Failure? {
        // "FATAL:  28P01: password authentication failed …": the first word may be in any language.
        let text = self.reason
        if let start = Self.position(after: ":  ", in: text) {
            let rest = text[start...]
            let state = rest.prefix(5)
            if state.utf8.count == 5, rest.dropFirst(5).hasPrefix(": "),
                state.utf8.allSatisfy({ (48...57).contains($0) || (65...90).contains($0) })
            {
                return .refused(state: String(state), message: String(rest.dropFirst(7)))
            }
        }
        return PQconnectionNeedsPassword(self.handle) == 1 ? .refused(state: "", message: text) : nil
    }

    /// libpq's words in one line, without what the node's name says already.
    private var reason: String {
        let text = String(cString: PQerrorMessage(self.handle))
        let line = text.split(separator: "\n").first.map(String.init) ?? "connection lost"
        guard line.hasPrefix("connection to server"), let end = Self.position(after: " failed: ", in: line) else {
            return line
        }
        return String(line[end...])
    }

    private static func position(after part: String, in text: String) -> String.Index? {
        var start = text.startIndex
        while start < text.endIndex {
            if text[start...].hasPrefix(part) { return text.index(start, offsetBy: part.count) }
            start = text.index(after: start)
        }
        return nil
    }
}
