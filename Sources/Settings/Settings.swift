/// The whole configuration: PgBouncer's ini file, typed and checked.
///
/// A value and nothing else: reading files is up to the caller of `load`, and a reload makes a new value.
public struct Settings: Sendable, Equatable {
    /// The section [pgbouncer], also called [martlet].
    public var general = GeneralSettings()
    /// The section [databases] by name, without `*`.
    public var databases: [String: DatabaseSettings] = [:]
    /// The entry `*` of [databases]: what any other database name stands for.
    public var fallbackDatabase: DatabaseSettings?
    /// The section [users] by name.
    public var users: [String: UserSettings] = [:]
    /// The section [peers] by number.
    public var peers: [Int: PeerSettings] = [:]

    /// The database name of the console, which no entry of [databases] may have.
    public static let consoleDatabase = "pgbouncer"

    /// Makes settings that are all at their defaults, without databases.
    public init() {}

    /// The entry for the name that a client asks for: its own, or one made from `*`; nil when there is neither.
    ///
    /// An empty host is replaced by `unix_socket_dir`. One made from `*` has `isAutomatic` set.
    public func database(named name: String) -> DatabaseSettings? {
        guard var database = self.databases[name] ?? self.automaticDatabase(name) else { return nil }
        for index in database.hosts.indices where database.hosts[index].host.isEmpty {
            database.hosts[index].host = self.general.unixSocketDir
        }
        return database
    }

    /// One made from `*`.
    private func automaticDatabase(_ name: String) -> DatabaseSettings? {
        guard var database = self.fallbackDatabase else { return nil }
        database.name = name
        database.isAutomatic = true
        database.dbname = database.dbname ?? name
        return database
    }
}
