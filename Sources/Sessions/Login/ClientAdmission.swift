public import Settings
public import Wire

/// Where a client goes that has shown who it is.
public enum ClientAdmission {
    case console(ConsoleRole)
    case database
    case refused(ServerError)

    /// Decides by the settings alone; the limits on the number of clients come after.
    ///
    /// - Parameters:
    ///   - isKnown: whether there is a database of this name.
    ///   - isTrustedPeer: user `pgbouncer` on the Unix socket, run by the proxy's own operating system user.
    public init(
        _ message: StartupMessage, _ general: GeneralSettings, isTrustedPeer: Bool, isKnown: (String) -> Bool
    ) {
        if message.database == Settings.consoleDatabase {
            self = Self.console(message.user, general, isTrustedPeer: isTrustedPeer)
        } else if isKnown(message.database) {
            self = .database
        } else {
            self = .refused(
                ServerError(
                    message: "no such database: \(message.database)", sqlState: SQLState.invalidCatalogName))
        }
    }

    private static func console(_ user: String, _ general: GeneralSettings, isTrustedPeer: Bool) -> ClientAdmission {
        if isTrustedPeer || general.adminUsers.contains(user) { return .console(.admin) }
        if general.statsUsers.contains(user) { return .console(.stats) }
        return .refused(ServerError(message: "not allowed", sqlState: SQLState.insufficientPrivilege))
    }
}

extension StartupMessage {
    /// `replication` for the server's startup packet; nil when no replication is wanted.
    public var replicationMode: String? {
        if self.replication == "database" { return "database" }
        return self.replication.flatMap { Bool(postgreSQL: $0) } ?? false ? "true" : nil
    }

    /// `replication` is neither a boolean nor "database".
    public var replicationError: ServerError? {
        guard let value = self.replication, value != "database", Bool(postgreSQL: value) == nil else { return nil }
        return ServerError(
            message: "invalid value for parameter \"replication\": \"\(value)\"",
            sqlState: SQLState.invalidParameterValue)
    }

    /// The session's settings: `options` first, as in PostgreSQL parameters of their own come behind.
    ///
    /// - Parameters:
    ///   - options: the settings in `options`.
    ///   - ignored: `ignore_startup_parameters`.
    ///   - peer: the client's address, if it is to be told to servers (`application_name_add_host`).
    public func settings(options: [StartupParameter], ignored: [String], peer: String?) -> [StartupParameter] {
        let ignored = ignored.isEmpty ? [] : Set(ignored.map { $0.lowercased() })
        func isLeftOut(_ setting: StartupParameter) -> Bool {
            let name = setting.name.lowercased()
            return ignored.contains(name) || name.hasPrefix("martlet.")
        }
        var settings = options.isEmpty ? self.parameters : options + self.parameters
        if settings.contains(where: isLeftOut) { settings.removeAll(where: isLeftOut) }
        if let peer {
            let name = settings.last { $0.name.lowercased() == "application_name" }?.text ?? "app"
            settings.append(StartupParameter(name: "application_name", value: "\(name) - \(peer)"))
        }
        return settings
    }
}
