/// What there is to say about routing that no key tells by itself. A file with these errors could be read, but all of its
/// clients would wait for a primary in vain.
extension Settings {
    /// One sentence about a database, for a `Diagnostic`.
    struct Remark: Equatable {
        var severity: Diagnostic.Severity
        var message: String
    }

    /// The remarks on how a database is routed, the worst first.
    func routingRemarks(on database: DatabaseSettings) -> [Remark] {
        let mode = database.routing ?? self.general.routing
        let subject = "database \(quoted(database.name))"
        let found =
            mode == .off
            ? [Self.idleKeys(of: database)]
            : [
                self.lackOfUser(database, mode), Self.repeatedHost(database), self.sessionPooling(database, mode),
                self.idleWindow(database), Self.lackOfReplicas(database, mode), Self.idleBalancing(database),
            ]
        return found.compactMap { $0 }.map { Remark(severity: $0.severity, message: "\(subject)\($0.message)") }
    }

    /// The first routing error of any database: what a change of a setting at run time must not bring about.
    var routingError: String? {
        (self.databases.values.sorted { $0.name < $1.name } + [self.fallbackDatabase].compactMap { $0 })
            .lazy.flatMap { self.routingRemarks(on: $0) }.first { $0.severity == .error }?.message
    }

    // Each gives a remark that reads on from the name of the database, or nil.

    /// libpq would take the name of the operating system's user, which hardly ever is a role of the server.
    private func lackOfUser(_ database: DatabaseSettings, _ mode: RoutingMode) -> Remark? {
        guard database.checkUser == nil, self.general.checkUser == nil, database.user == nil else { return nil }
        return Remark(
            severity: .error,
            message: ": routing=\(mode.rawValue) needs check_user, the role that watches the servers: any that may log"
                + " in will do, a member of pg_monitor is better")
    }

    private static func repeatedHost(_ database: DatabaseSettings) -> Remark? {
        var seen: Set<HostAddress> = []
        let again = database.hosts.first { host in
            !seen.insert(HostAddress(host: host.host.lowercased(), port: host.port)).inserted
        }
        return again.map {
            Remark(
                severity: .error,
                message: " lists \($0) twice: name each server once; weights gives one a larger share of the reads")
        }
    }

    /// A session may do anything later, so it has to be where it can.
    private func sessionPooling(_ database: DatabaseSettings, _ mode: RoutingMode) -> Remark? {
        guard mode == .split, (database.poolMode ?? self.general.poolMode) == .session else { return nil }
        return Remark(
            severity: .warning,
            message: ": with pool_mode=session all statements go to the primary; routing=split needs"
                + " pool_mode=transaction to use the replicas")
    }

    private func idleWindow(_ database: DatabaseSettings) -> Remark? {
        guard (database.readAfterWrite ?? self.general.readAfterWrite) == .off,
            (database.readAfterWriteWindow ?? self.general.readAfterWriteWindow) > 0
        else { return nil }
        return Remark(
            severity: .warning,
            message: ": read_after_write_window has no effect with read_after_write=off; use read_after_write=window")
    }

    private static func lackOfReplicas(_ database: DatabaseSettings, _ mode: RoutingMode) -> Remark? {
        guard mode != .primary, database.hosts.count == 1 else { return nil }
        return Remark(
            severity: .note,
            message: ": routing=\(mode.rawValue) with one host: list the primary and its replicas, as in"
                + " host=pg1,pg2, unless the name has the addresses of all")
    }

    private static func idleBalancing(_ database: DatabaseSettings) -> Remark? {
        guard database.loadBalanceHosts == .disable else { return nil }
        return Remark(
            severity: .note, message: ": load_balance_hosts has no effect with routing; load_balance and weights have")
    }

    private static func idleKeys(of database: DatabaseSettings) -> Remark? {
        let names = DatabaseSettings.routingKeys.filter { $0.name != "routing" && $0.print(database) != nil }
            .map(\.name)
        guard !names.isEmpty else { return nil }
        return Remark(
            severity: .note,
            message: ": without effect while routing=off: \(names.joined(separator: ", "))")
    }
}
