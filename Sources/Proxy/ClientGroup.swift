import Pooling
import Reactor
import Routing
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
    /// Its connections; in a routed database those of the node that stands for all (`Router.home`).
    private(set) var pool: Pool
    /// Nil in a database that is not routed.
    private(set) var router: Router?
    /// Pools of the nodes, in the order of the router's list.
    private var nodePools: [Pool?] = []
    private var nodesVersion = -1
    /// Clients that have been admitted and have not left.
    var clients = 0
    /// The database has left the configuration: no client begins another transaction.
    var isRemoved = false
    private(set) var timeouts = Timeouts()
    private(set) var limits = Limits()

    /// The most clients on all reactors, of its database and of its user; 0 is unlimited.
    struct Limits {
        var database = 0
        var user = 0
    }

    /// Microseconds; 0 is never.
    struct Timeouts {
        var queryWait: Microseconds = 0
        var queryWaitNotify: Microseconds = 0
        var query: Microseconds = 0
        var idleTransaction: Microseconds = 0
        var transaction: Microseconds = 0
        var clientIdle: Microseconds = 0
        var message: Microseconds = 0
        /// Whether anything has to be timed while a client has a server connection.
        var whileLinked: Bool { self.query > 0 || self.idleTransaction > 0 || self.transaction > 0 }
    }

    init(
        key: Key, pool: Pool, router: Router?, sharedUser: SharedUser, statistics: DatabaseStatistics,
        settings: Settings
    ) {
        self.key = key
        self.pool = pool
        self.sharedDatabase = pool.shared.database
        self.sharedUser = sharedUser
        self.statistics = statistics
        self.apply(settings, pool: pool, router: router)
    }

    /// The pool of a node.
    @inline(__always)
    func pool(of load: NodeLoad) -> Pool {
        let index = load.position
        if self.nodesVersion == self.router?.version, index < self.nodePools.count, let known = self.nodePools[index],
            known.load === load
        {
            return known
        }
        return self.findPool(of: load)
    }

    /// The same where it is not known yet, or its node is one of a list that there was before.
    @inline(never)
    private func findPool(of load: NodeLoad) -> Pool {
        guard let router = self.router else { return self.pool }
        if self.nodesVersion != router.version {
            self.nodePools = Array(repeating: nil, count: router.balancer.loads.count)
            self.nodesVersion = router.version
        }
        let index = load.position
        guard router.balancer.loads.indices.contains(index), router.balancer.loads[index] === load else {
            return self.pool
        }
        if let known = self.nodePools[index] { return known }
        let worker = self.pool.worker
        let pool = worker.pool(database: self.pool.database, user: self.pool.shared.key.user, load: load)
        self.nodePools[index] = pool
        return pool
    }

    /// The pools that exist for this group.
    var pools: [Pool] { self.router == nil ? [self.pool] : [self.pool] + self.nodePools.compactMap { $0 } }

    /// Whether a server has accepted a statement before.
    func hasAccepted(_ statement: PreparedStatement) -> Bool {
        if self.router == nil { return self.pool.hasAccepted(statement) }
        return self.nodePools.contains { $0?.hasAccepted(statement) ?? false }
    }

    /// A client has shown something new for logins at the server: refusals of what was known before count no more.
    func credentialsChanged() {
        let keys = self.pools.filter { $0.shared.credentials === self.pool.shared.credentials }.map(\.shared.key)
        for pool in self.pools { pool.tryAgain() }
        self.pool.worker.tellOthers { worker in for key in keys { worker.pools[key]?.tryAgain() } }
    }

    /// Takes over changed settings.
    func apply(_ settings: Settings, pool: Pool, router: Router?) {
        self.pool = pool
        if self.router !== router {
            self.router = router
            self.nodesVersion = -1
        }
        let user = self.key.user
        self.limits = Limits(
            database: settings.effectiveMaxDbClientConnections(database: pool.database),
            user: settings.effectiveMaxUserClientConnections(user: user))
        self.timeouts = Timeouts(
            queryWait: settings.effectiveQueryWaitTimeout(database: pool.database, user: user),
            queryWaitNotify: settings.general.queryWaitNotify,
            query: settings.effectiveQueryTimeout(user: user),
            idleTransaction: settings.effectiveIdleTransactionTimeout(user: user),
            transaction: settings.effectiveTransactionTimeout(user: user),
            clientIdle: settings.effectiveClientIdleTimeout(user: user),
            message: settings.general.clientMessageTimeout)
    }
}

/// A database's counters on one reactor.
final class DatabaseStatistics {
    var counters = StatisticsCounters()
}
