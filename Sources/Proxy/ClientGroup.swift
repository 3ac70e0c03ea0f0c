import Reactor
import Settings

/// The clients of one user in one database on one reactor: what they have in common, kept once.
final class ClientGroup {
    struct Key: Hashable {
        let database: String
        let user: String
    }

    let key: Key
    let sharedDatabase: SharedDatabase
    let sharedUser: SharedUser
    let statistics: DatabaseStatistics
    private(set) var pool: Pool
    /// Clients that have been admitted and have not left.
    var clients = 0
    private(set) var timeouts = Timeouts()

    /// Microseconds; 0 is never.
    struct Timeouts {
        var queryWait: Microseconds = 0
        var queryWaitNotify: Microseconds = 0
        var query: Microseconds = 0
        var idleTransaction: Microseconds = 0
        var transaction: Microseconds = 0
        var clientIdle: Microseconds = 0
        /// Whether anything has to be timed while a client has a server connection.
        var whileLinked: Bool { self.query > 0 || self.idleTransaction > 0 || self.transaction > 0 }
    }

    init(key: Key, pool: Pool, sharedUser: SharedUser, statistics: DatabaseStatistics, settings: Settings) {
        self.key = key
        self.pool = pool
        self.sharedDatabase = pool.shared.database
        self.sharedUser = sharedUser
        self.statistics = statistics
        self.apply(settings, pool: pool)
    }

    /// Takes over changed settings.
    func apply(_ settings: Settings, pool: Pool) {
        self.pool = pool
        let user = self.key.user
        self.timeouts = Timeouts(
            queryWait: settings.effectiveQueryWaitTimeout(database: pool.database, user: user),
            queryWaitNotify: settings.general.queryWaitNotify,
            query: settings.effectiveQueryTimeout(user: user),
            idleTransaction: settings.effectiveIdleTransactionTimeout(user: user),
            transaction: settings.effectiveTransactionTimeout(user: user),
            clientIdle: settings.effectiveClientIdleTimeout(user: user))
    }
}

/// A database's counters on one reactor.
final class DatabaseStatistics {
    var counters = StatisticsCounters()
}
