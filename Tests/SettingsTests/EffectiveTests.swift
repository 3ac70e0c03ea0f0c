import Testing

@testable import Settings

@Suite struct EffectiveTests {
    private static let settings =
        load(
            """
            [pgbouncer]
            default_pool_size = 20
            reserve_pool_size = 1
            min_pool_size = 4
            query_wait_timeout = 100
            query_timeout = 10
            max_user_connections = 7
            [databases]
            plain =
            own = pool_size=10 reserve_pool_size=2 pool_mode=transaction query_wait_timeout=50 server_lifetime=1 \
            max_db_connections=3 max_db_client_connections=30
            small = pool_size=2
            unlimited = pool_size=0 min_pool_size=9
            [users]
            u = pool_size=5 reserve_pool_size=3 pool_mode=statement query_wait_timeout=25 query_timeout=0 \
            max_user_connections=1 max_user_client_connections=2 idle_transaction_timeout=3 transaction_timeout=4 \
            client_idle_timeout=5
            """
        ).settings ?? Settings()

    @Test(
        arguments: [
            ("plain", "x", 20, 4, 1, PoolMode.session, 100),
            ("own", "x", 10, 4, 2, .transaction, 50),
            ("own", "u", 5, 4, 3, .statement, 25),
            ("small", "x", 2, 2, 1, .session, 100),
            ("unlimited", "x", 0, 9, 1, .session, 100),
        ] as [(String, String, Int, Int, Int, PoolMode, Microseconds)])
    func theUserGoesBeforeTheDatabaseAndThatBeforeTheGeneralSettings(
        name: String, user: String, size: Int, least: Int, reserve: Int, mode: PoolMode, waiting: Microseconds
    ) throws {
        let database = try #require(Self.settings.database(named: name))
        #expect(Self.settings.effectivePoolSize(database: database, user: user) == size)
        #expect(Self.settings.effectiveMinPoolSize(database: database, user: user) == least)
        #expect(Self.settings.effectiveReservePoolSize(database: database, user: user) == reserve)
        #expect(Self.settings.effectivePoolMode(database: database, user: user) == mode)
        #expect(Self.settings.effectiveQueryWaitTimeout(database: database, user: user) == waiting * 1_000_000)
    }

    @Test func limitsAndTimeoutsOfAUser() {
        #expect(Self.settings.effectiveMaxUserConnections(user: "x") == 7)
        #expect(Self.settings.effectiveMaxUserConnections(user: "u") == 1)
        #expect(Self.settings.effectiveMaxUserClientConnections(user: "x") == 0)
        #expect(Self.settings.effectiveMaxUserClientConnections(user: "u") == 2)
        #expect(Self.settings.effectiveQueryTimeout(user: "x") == 10_000_000)
        #expect(Self.settings.effectiveQueryTimeout(user: "u") == 0)
        #expect(Self.settings.effectiveIdleTransactionTimeout(user: "u") == 3_000_000)
        #expect(Self.settings.effectiveTransactionTimeout(user: "u") == 4_000_000)
        #expect(Self.settings.effectiveClientIdleTimeout(user: "u") == 5_000_000)
        #expect(Self.settings.effectiveClientIdleTimeout(user: "x") == 0)
    }

    @Test func limitsOfADatabase() throws {
        let own = try #require(Self.settings.database(named: "own"))
        let plain = try #require(Self.settings.database(named: "plain"))
        #expect(Self.settings.effectiveMaxDbConnections(database: own) == 3)
        #expect(Self.settings.effectiveMaxDbClientConnections(database: own) == 30)
        #expect(Self.settings.effectiveServerLifetime(database: own) == 1_000_000)
        #expect(Self.settings.effectiveMaxDbConnections(database: plain) == 0)
        #expect(Self.settings.effectiveServerLifetime(database: plain) == 3_600_000_000)
    }
}
