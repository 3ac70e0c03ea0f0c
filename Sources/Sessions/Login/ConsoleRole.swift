/// What a console client may do.
public enum ConsoleRole: Sendable, Equatable {
    /// Named in `admin_users`, or user `pgbouncer` of the same operating system user on a Unix socket: everything.
    case admin
    /// Named in `stats_users`: SHOW only.
    case stats
}
