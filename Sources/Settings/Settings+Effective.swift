/// What holds for a pool or a client, when the general settings, the database and the user each may say something:
/// the user's word comes first, then the database's, then the general one, as in PgBouncer.
///
/// `user` is the name of the pool's user for limits of server connections, and the client's for limits of clients and
/// timeouts.
extension Settings {
    /// When server connections of this pool are released.
    public func effectivePoolMode(database: DatabaseSettings, user: String) -> PoolMode {
        self.users[user]?.poolMode ?? database.poolMode ?? self.general.poolMode
    }

    /// The most server connections of this pool, without the reserve; 0 is unlimited.
    public func effectivePoolSize(database: DatabaseSettings, user: String) -> Int {
        self.users[user]?.poolSize ?? database.poolSize ?? self.general.defaultPoolSize
    }

    /// The server connections that this pool keeps open, never more than its size.
    public func effectiveMinPoolSize(database: DatabaseSettings, user: String) -> Int {
        let least = database.minPoolSize ?? self.general.minPoolSize
        let size = self.effectivePoolSize(database: database, user: user)
        return size == 0 ? least : min(least, size)
    }

    /// The server connections of this pool's reserve; 0 is none.
    public func effectiveReservePoolSize(database: DatabaseSettings, user: String) -> Int {
        self.users[user]?.reservePoolSize ?? database.reservePoolSize ?? self.general.reservePoolSize
    }

    /// The most server connections of all pools of this database; 0 is unlimited.
    public func effectiveMaxDbConnections(database: DatabaseSettings) -> Int {
        database.maxDbConnections ?? self.general.maxDbConnections
    }

    /// The most clients of this database; 0 is unlimited.
    public func effectiveMaxDbClientConnections(database: DatabaseSettings) -> Int {
        database.maxDbClientConnections ?? self.general.maxDbClientConnections
    }

    /// The most server connections of all pools of this user; 0 is unlimited.
    public func effectiveMaxUserConnections(user: String) -> Int {
        self.users[user]?.maxUserConnections ?? self.general.maxUserConnections
    }

    /// The most clients of this user; 0 is unlimited.
    public func effectiveMaxUserClientConnections(user: String) -> Int {
        self.users[user]?.maxUserClientConnections ?? self.general.maxUserClientConnections
    }

    /// How much TLS server connections of this database need.
    public func effectiveServerSSLMode(database: DatabaseSettings) -> SSLMode {
        database.sslmode ?? self.general.serverTlsSslmode
    }

    /// How old a server connection of this database may become before it is closed when unused.
    public func effectiveServerLifetime(database: DatabaseSettings) -> Microseconds {
        database.serverLifetime ?? self.general.serverLifetime
    }

    /// How long a client waits for a server connection before it is disconnected; 0 is for ever.
    public func effectiveQueryWaitTimeout(database: DatabaseSettings, user: String) -> Microseconds {
        self.users[user]?.queryWaitTimeout ?? database.queryWaitTimeout ?? self.general.queryWaitTimeout
    }

    /// How long a query of this user may run; 0 is for ever.
    public func effectiveQueryTimeout(user: String) -> Microseconds {
        self.users[user]?.queryTimeout ?? self.general.queryTimeout
    }

    /// How long a client of this user may be idle inside a transaction; 0 is for ever.
    public func effectiveIdleTransactionTimeout(user: String) -> Microseconds {
        self.users[user]?.idleTransactionTimeout ?? self.general.idleTransactionTimeout
    }

    /// How long a transaction of this user may last; 0 is for ever.
    public func effectiveTransactionTimeout(user: String) -> Microseconds {
        self.users[user]?.transactionTimeout ?? self.general.transactionTimeout
    }

    /// How long a client of this user may be idle outside a transaction; 0 is for ever.
    public func effectiveClientIdleTimeout(user: String) -> Microseconds {
        self.users[user]?.clientIdleTimeout ?? self.general.clientIdleTimeout
    }
}
