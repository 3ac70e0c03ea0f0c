extension Settings {
    /// Settings for a start without any file: `martlet postgresql://host/db`.
    ///
    /// Listens on 127.0.0.1:6432, and therefore trusts every client; pools transactions; passes each database name on to
    /// that server and logs in there as the URL's user. The console is for who has started it, on a Unix socket that
    /// nobody else can open: names that clients give over TCP prove nothing.
    /// - Parameters:
    ///   - url: libpq's notation and parameters, also our own keys of databases (`?pool_size=10`) and general ones
    ///     (`?listen_port=7000`).
    ///   - defaultUser: The server user when the URL has none; psql takes the name of the operating system's user.
    ///   - defaultPassword: The password when the URL has none, such as that of the environment.
    public static func forURL(
        _ url: String, defaultUser: String = "postgres", defaultPassword: String? = nil
    ) -> (settings: Settings?, diagnostics: [Diagnostic]) {
        var loader = SettingsLoader()
        guard ConnectionURL.matches(url) else {
            loader.report(.error, nil, "the connection string must begin with postgresql://")
            return (nil, loader.diagnostics)
        }
        var settings = Settings()
        settings.general.listenAddr = ["127.0.0.1"]
        settings.general.unixSocketMode = 0o700
        settings.general.authType = .any
        settings.general.poolMode = .transaction
        settings.general.maxClientConn = 1000
        loader.loadURL(url, &settings.general)
        loader.reportKeysWithoutEffect()
        guard !loader.diagnostics.contains(where: { $0.severity == .error }),
            var database = loader.settings.fallbackDatabase
        else {
            return (nil, loader.diagnostics)
        }
        database.user = database.user ?? defaultUser
        database.password = database.password ?? defaultPassword
        for index in database.hosts.indices where database.hosts[index].host.isEmpty {
            database.hosts[index].host = Self.defaultServerSocketDirectory
        }
        var named = database
        named.name = database.dbname ?? database.user ?? defaultUser
        named.dbname = named.name
        for remark in settings.routingRemarks(on: named) { loader.report(remark.severity, nil, remark.message) }
        guard !loader.diagnostics.contains(where: { $0.severity == .error }) else { return (nil, loader.diagnostics) }
        if named.name != Self.consoleDatabase {
            settings.databases[named.name] = named
        }
        database.dbname = nil
        settings.fallbackDatabase = database
        return (settings, loader.diagnostics)
    }

    /// Where Debian's PostgreSQL puts its Unix socket.
    private static let defaultServerSocketDirectory = "/var/run/postgresql"
}

extension SettingsLoader {
    /// Reads the URL that takes the place of a file: what is about the server into `*`, the rest into the general settings.
    mutating func loadURL(_ url: String, _ general: inout GeneralSettings) {
        let assignments: [Assignment]
        do {
            assignments = try LibpqParameters.translate(ConnectionURL.parse(url))
        } catch {
            return self.report(.error, nil, "the connection URL \(error.reason)")
        }
        let isGeneral = { (assignment: Assignment) in
            DatabaseSettings.keysByName[DatabaseSettings.aliases[assignment.key] ?? assignment.key] == nil
                && GeneralSettings.keysByName[assignment.key] != nil
        }
        for assignment in assignments.filter(isGeneral) {
            do throws(InvalidValue) {
                try GeneralSettings.keysByName[assignment.key]?.parse(assignment.value, &general)
            } catch {
                self.report(.error, nil, "the connection URL: \(assignment.key) \(error.reason)")
            }
        }
        self.loadDatabase(named: "*", from: assignments.filter { !isGeneral($0) }, "the connection URL", nil)
    }
}

/// libpq's parameters (PostgreSQL's manual, "Parameter Key Words") in terms of our keys.
enum LibpqParameters {
    /// Other names of the same; times are seconds in both.
    private static let names = [
        "sslrootcert": "server_tls_ca_file", "sslcert": "server_tls_cert_file", "sslkey": "server_tls_key_file",
        "sslnegotiation": "server_tls_sslnegotiation", "connect_timeout": "server_connect_timeout",
        "keepalives": "tcp_keepalive", "keepalives_idle": "tcp_keepidle", "keepalives_interval": "tcp_keepintvl",
        "keepalives_count": "tcp_keepcnt", "fallback_application_name": "application_name",
    ]
    /// What holds here anyway, with the values that ask for no more; nil is any.
    private static let needless: [String: Set<String>?] = [
        "gssencmode": ["disable", "prefer"], "sslcompression": ["0"], "sslsni": ["1"], "sslcertmode": ["allow"],
        "min_protocol_version": ["3.0"], "max_protocol_version": nil, "passfile": [""], "krbsrvname": nil,
        "gsslib": nil,
    ]
    private static let versions = ["tlsv1", "tlsv1.1", "tlsv1.2", "tlsv1.3"]

    /// Translates what has another name or meaning here; an error names a parameter that cannot be heeded.
    static func translate(_ assignments: [Assignment]) throws(InvalidValue) -> [Assignment] {
        let given = Dictionary(assignments.map { ($0.key, $0.value) }) { $1 }
        var result: [Assignment] = []
        for assignment in assignments {
            let (key, value) = (assignment.key, assignment.value)
            switch key {
            case "ssl_min_protocol_version", "ssl_max_protocol_version": continue
            case "fallback_application_name" where given["application_name"] != nil: continue
            case "sslrootcert" where value == "system":
                guard given["sslmode"] == nil || given["sslmode"] == "verify-full" else {
                    throw InvalidValue("has sslrootcert=system, which needs sslmode=verify-full")
                }
                if given["sslmode"] == nil { result.append(Assignment(key: "sslmode", value: "verify-full")) }
            case "sslmode" where value == "require" && !["", "system"].contains(given["sslrootcert"] ?? ""):
                // As in libpq: who names an authority wants it to be asked.
                result.append(Assignment(key: key, value: "verify-ca"))
            case "target_session_attrs":
                if let mode = try self.routing(value), given["routing"] == nil {
                    result.append(Assignment(key: "routing", value: mode.rawValue))
                }
            case "load_balance_hosts" where value == "random":
                result.append(Assignment(key: key, value: LoadBalanceHosts.roundRobin.rawValue))
            default:
                if let values = self.needless[key] {
                    guard values?.contains(value) ?? true else {
                        throw InvalidValue("has \(key)=\(value), which is not supported here")
                    }
                    continue
                }
                result.append(Assignment(key: self.names[key] ?? key, value: value))
            }
        }
        if let protocols = try self.protocols(given["ssl_min_protocol_version"], given["ssl_max_protocol_version"]) {
            result.append(Assignment(key: "server_tls_protocols", value: protocols))
        }
        return result
    }

    /// Of a list of hosts the one that is meant is found by routing. Nil for any.
    private static func routing(_ attributes: String) throws(InvalidValue) -> RoutingMode? {
        switch attributes {
        case "any": return nil
        case "read-write", "primary": return .primary
        case "read-only", "standby", "prefer-standby": return .replica
        default:
            throw InvalidValue(
                "has target_session_attrs=\(attributes), which must be any, read-write, read-only, primary, standby or "
                    + "prefer-standby")
        }
    }

    private static func protocols(_ least: String?, _ most: String?) throws(InvalidValue) -> String? {
        guard least ?? "" != "" || most ?? "" != "" else { return nil }
        func index(_ text: String?, _ name: String, _ other: Int) throws(InvalidValue) -> Int {
            guard let text, !text.isEmpty else { return other }
            guard let found = self.versions.firstIndex(of: text.lowercased()) else {
                throw InvalidValue("has \(name)=\(text), which must be TLSv1, TLSv1.1, TLSv1.2 or TLSv1.3")
            }
            return found
        }
        // libpq's own default is TLSv1.2.
        let from = try index(least, "ssl_min_protocol_version", 2)
        let to = try index(most, "ssl_max_protocol_version", 3)
        guard from <= to else { throw InvalidValue("has an ssl_min_protocol_version above ssl_max_protocol_version") }
        return self.versions[from...to].map { $0 == "tlsv1" ? "tlsv1.0" : $0 }.joined(separator: ",")
    }
}
