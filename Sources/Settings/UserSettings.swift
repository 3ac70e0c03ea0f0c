/// One entry of the section [users]: what differs for one user from the database's and the general settings.
///
/// A nil means that those hold; `Settings` has a method for each effective value.
public struct UserSettings: Sendable, Equatable {
    /// The user's name.
    public var name: String
    public var poolMode: PoolMode?
    public var poolSize: Int?
    public var reservePoolSize: Int?
    public var maxUserConnections: Int?
    public var maxUserClientConnections: Int?
    public var queryTimeout: Microseconds?
    public var queryWaitTimeout: Microseconds?
    public var idleTransactionTimeout: Microseconds?
    public var transactionTimeout: Microseconds?
    public var clientIdleTimeout: Microseconds?

    /// Makes an entry with nothing but a name.
    public init(name: String) {
        self.name = name
    }
}

extension UserSettings {
    /// The keys of a value in [users].
    static let keys: [SettingKey<Self>] = [
        .optionalChoice("pool_mode", \.poolMode),
        .optionalInteger("pool_size", \.poolSize),
        .optionalInteger("reserve_pool_size", \.reservePoolSize),
        .optionalInteger("max_user_connections", \.maxUserConnections),
        .optionalInteger("max_user_client_connections", \.maxUserClientConnections),
        .optionalTime("query_timeout", \.queryTimeout),
        .optionalTime("query_wait_timeout", \.queryWaitTimeout),
        .optionalTime("idle_transaction_timeout", \.idleTransactionTimeout),
        .optionalTime("transaction_timeout", \.transactionTimeout),
        .optionalTime("client_idle_timeout", \.clientIdleTimeout),
    ]

    /// The keys by name.
    static let keysByName = Dictionary(keys.map { ($0.name, $0) }) { first, _ in first }
}
