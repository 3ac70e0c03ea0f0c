extension DatabaseSettings {
    typealias Key = SettingKey<Self>

    /// The keys of a connection string in [databases], in the order of the documentation.
    static let keys: [Key] = addressing + connectionKeysOfTheSession + pooling + routingKeys

    /// The keys by name.
    static let keysByName: [String: Key] = Dictionary(keys.map { ($0.name, $0) }) { first, _ in first }

    /// Other names of keys.
    static let aliases = ["reserve_pool": "reserve_pool_size"]

    /// The keys whose change makes existing server connections useless.
    static let connectionKeys: [Key] = addressing.filter { !$0.isSecret } + connectionKeysOfTheSession

    private static let addressing: [Key] = [
        Key(
            name: "host",
            parse: { (text, root) throws(InvalidValue) in try root.setHosts(text) },
            print: { $0.hosts.contains { !$0.host.isEmpty } ? $0.hosts.map(\.host).joined(separator: ",") : nil }),
        Key(
            name: "port",
            parse: { (text, root) throws(InvalidValue) in try root.setPorts(text) },
            print: { root in
                let ports = root.hosts.map { String($0.port) }
                return Set(ports).count == 1 ? ports.first : ports.joined(separator: ",")
            }),
        Key(
            name: "dbname",
            parse: { (text, root) throws(InvalidValue) in
                guard !text.isEmpty else { throw InvalidValue("needs a value") }
                root.dbname = text
            },
            print: \.dbname),
        .optionalText("user", \.user),
        .optionalText("password", \.password).secret,
    ]

    private static let connectionKeysOfTheSession: [Key] = [
        .optionalText("connect_query", \.connectQuery),
        .optionalChoice("sslmode", \.sslmode),
        .choice("channel_binding", \.channelBinding),
        .optionalText("client_encoding", \.clientEncoding),
        .optionalText("datestyle", \.datestyle),
        .optionalText("timezone", \.timezone),
        .optionalText("application_name", \.applicationName),
        .optionalText("options", \.options),
    ]

    private static let pooling: [Key] = [
        .optionalText("auth_user", \.authUser),
        .optionalText("auth_query", \.authQuery),
        .optionalText("auth_dbname", \.authDbname),
        .optionalInteger("pool_size", \.poolSize),
        .optionalInteger("min_pool_size", \.minPoolSize),
        .optionalInteger("reserve_pool_size", \.reservePoolSize),
        .optionalChoice("pool_mode", \.poolMode),
        .optionalInteger("max_db_connections", \.maxDbConnections),
        .optionalInteger("max_db_client_connections", \.maxDbClientConnections),
        .choice("load_balance_hosts", \.loadBalanceHosts),
        .optionalTime("query_wait_timeout", \.queryWaitTimeout),
        .optionalTime("server_lifetime", \.serverLifetime),
    ]

    /// The keys that have an effect in a routed database only, and `routing` itself.
    static let routingKeys: [Key] = [
        .optionalChoice("routing", \.routing),
        .optionalChoice("read_after_write", \.readAfterWrite),
        .optionalTime("read_after_write_window", \.readAfterWriteWindow),
        .optionalChoice("read_after_write_scope", \.readAfterWriteScope),
        .optionalTime("replica_wait", \.replicaWait),
        .optionalTime("max_replica_lag", \.maxReplicaLag),
        .optionalInteger("max_replica_lag_bytes", \.maxReplicaLagBytes, 0...Int(Int64.max)),
        .optionalChoice("load_balance", \.loadBalance),
        Key(
            name: "weights",
            parse: { (text, root) throws(InvalidValue) in
                var weights: [Int] = []
                for weight in ValueText.list(text) {
                    weights.append(try ValueText.integer(weight, 0...1_000_000))
                }
                root.weights = weights
            },
            print: { $0.weights?.map { String($0) }.joined(separator: ",") }),
        .optionalChoice("primary_reads", \.primaryReads),
        .optionalChoice("transaction_routing", \.transactionRouting),
        .optionalList("read_functions", \.readFunctions),
        .optionalList("write_functions", \.writeFunctions),
        .optionalTime("check_interval", \.checkInterval, atLeast: 1000),
        .optionalTime("check_timeout", \.checkTimeout, atLeast: 1000),
        .optionalText("check_user", \.checkUser),
        .optionalText("check_password", \.checkPassword).secret,
        .optionalText("check_dbname", \.checkDbname),
        .optionalTime("failover_wait", \.failoverWait),
    ]
}

extension DatabaseSettings {
    /// Takes a list of hosts; the ports start at PostgreSQL's.
    private mutating func setHosts(_ text: String) throws(InvalidValue) {
        let hosts = text.split(separator: ",", omittingEmptySubsequences: false).map { ValueText.trimmed($0) }
        guard hosts.count == 1 || !hosts.contains("") else { throw InvalidValue("has an empty name in its list") }
        for host in hosts where host.contains(where: { ValueText.isBlank($0) || $0 == "=" }) {
            throw InvalidValue("is not a host name: \(quoted(host))")
        }
        for host in hosts where (HostAddress(host: host, port: 65535).socketPath?.utf8.count ?? 0) > 107 {
            throw InvalidValue("is too long a path for a Unix socket: \(quoted(host))")
        }
        self.hosts = hosts.map { HostAddress(host: $0) }
    }

    /// Takes one port for all hosts or one for each, as libpq does. The hosts must be there already.
    private mutating func setPorts(_ text: String) throws(InvalidValue) {
        var ports: [Int] = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            let part = ValueText.trimmed(part)
            ports.append(part.isEmpty ? 5432 : try ValueText.integer(part, 1...65535))
        }
        guard ports.count == 1 || ports.count == self.hosts.count else {
            throw InvalidValue("lists \(ports.count) ports for \(self.hosts.count) hosts")
        }
        for index in self.hosts.indices {
            self.hosts[index].port = ports.count == 1 ? ports[0] : ports[index]
        }
    }
}
