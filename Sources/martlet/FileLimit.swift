import Glibc
import Settings

/// The number of files (sockets) that the process may have open, and how many it will want.
struct FileLimit: Equatable {
    /// Room for log, pidfile, listening sockets, event loops, resolver, and connections that are being turned away.
    static let reserve = 64

    let clients: Int
    let servers: Int

    var needed: Int { self.clients + self.servers + Self.reserve }

    /// - Parameter settings: a pool of unlimited size counts as one connection for each client.
    init(_ settings: Settings) {
        self.clients = settings.general.maxClientConn
        var servers = 0
        for database in settings.databases.values {
            servers = min(servers + Self.servers(of: database, settings), self.clients * 4)
        }
        self.servers = servers
    }

    /// Users are known only once they log in, so this counts one for each database, or those in `[users]`.
    private static func servers(of database: DatabaseSettings, _ settings: Settings) -> Int {
        let limit = database.maxDbConnections ?? settings.general.maxDbConnections
        let users = database.user == nil ? max(1, settings.users.count) : 1
        let poolSize = database.poolSize ?? settings.general.defaultPoolSize
        guard poolSize > 0 else { return limit > 0 ? limit : settings.general.maxClientConn }
        let pools = users * (poolSize + (database.reservePoolSize ?? settings.general.reservePoolSize))
        return limit > 0 ? min(limit, pools) : pools
    }

    /// Raises the limit as far as is needed and allowed.
    ///
    /// - Returns: a warning when that is not far enough.
    func raise() -> String? {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return nil }
        let needed = rlim_t(self.needed)
        if limit.rlim_max < needed {
            // Root may; for anybody else this fails and the hard limit stays.
            var higher = rlimit(rlim_cur: needed, rlim_max: needed)
            if setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &higher) == 0 { return nil }
        }
        // The rest of the hard limit costs nothing, and a reload may want it.
        var raised = rlimit(rlim_cur: limit.rlim_max, rlim_max: limit.rlim_max)
        if setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &raised) == 0 { limit = raised }
        return self.warning(allowed: Int(clamping: limit.rlim_cur))
    }

    func warning(allowed: Int) -> String? {
        guard allowed < self.needed else { return nil }
        return "the limit of open files, \(allowed), is too low for max_client_conn = \(self.clients) and some "
            + "\(self.servers) server connections, which need \(self.needed): "
            + "raise it (LimitNOFILE= in the systemd unit, or ulimit -n), or lower max_client_conn"
    }
}
