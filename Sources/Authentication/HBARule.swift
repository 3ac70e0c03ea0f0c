/// One line of an HBA file: whom it is about, and how they have to show who they are.
public struct HBARule: Sendable, Equatable {
    /// How the client is connected.
    public enum Connection: String, Sendable, CaseIterable {
        /// On the Unix socket.
        case local
        /// By TCP, with TLS or without.
        case host
        case hostssl
        case hostnossl
        /// With encryption by GSSAPI, which no client has here.
        case hostgssenc
        case hostnogssenc
    }

    /// How the client has to show who it is.
    public enum Method: String, Sendable, CaseIterable {
        case trust
        case reject
        /// MD5, or SCRAM for a user whose secret is a SCRAM one.
        case md5
        /// The password in clear text; `plain` in PgBouncer's words.
        case password
        case scramSHA256 = "scram-sha-256"
        /// The name of the operating system user at the other end of the Unix socket.
        case peer
        /// A TLS client certificate.
        case cert
        /// The password in clear text, which a directory knows.
        case ldap
    }

    /// A word of the column of databases or users.
    enum Name: Sendable, Equatable {
        case all
        /// The database has the user's name.
        case sameUser
        /// A client that replicates all databases; nothing else matches one.
        case replication
        case name(String)
        case pattern(NamePattern)
    }

    enum Address: Sendable, Equatable {
        case all
        case network(Network)
        /// A host's name, or the end of one that begins with a dot.
        case name(String)
        /// One of the proxy's own addresses.
        case sameHost
        /// An address in a network that the proxy is connected to.
        case sameNet
    }

    let connection: Connection
    let databases: [Name]
    let users: [Name]
    /// Nil for `local`.
    let address: Address?
    public let method: Method
    /// The ident map, for `peer` and `cert`.
    public let map: String?
    /// How to ask the directory, for `ldap`.
    public let ldap: LDAPOptions?
    /// `file:line`.
    public let place: String
}

/// What rules look at in a client.
public struct HBAClient: Sendable {
    /// The host's name, as far as it has been asked for.
    public enum HostName: Sendable, Equatable {
        case notLookedUp
        /// Nil if it has none that belongs to its address.
        case known(String?)
    }

    /// Nil on the Unix socket.
    public var address: NetworkAddress?
    public var isUnix: Bool
    public var isEncrypted: Bool
    public var hostName = HostName.notLookedUp
    public var database: String
    public var user: String
    /// Replicates all databases, not one.
    public var isReplication: Bool

    public init(
        address: NetworkAddress?, isUnix: Bool, isEncrypted: Bool, database: String, user: String,
        isReplication: Bool = false
    ) {
        self.address = address
        self.isUnix = isUnix
        self.isEncrypted = isEncrypted
        self.database = database
        self.user = user
        self.isReplication = isReplication
    }
}

extension HBARule {
    /// Whether all but the address fits.
    func fits(_ client: HBAClient) -> Bool {
        let isConnected =
            switch self.connection {
            case .local: client.isUnix
            case .host, .hostnogssenc: !client.isUnix
            case .hostssl: !client.isUnix && client.isEncrypted
            case .hostnossl: !client.isUnix && !client.isEncrypted
            case .hostgssenc: false
            }
        return isConnected && self.databases.contains { Self.isDatabase($0, client) }
            && self.users.contains { Self.isUser($0, client.user) }
    }

    private static func isDatabase(_ name: Name, _ client: HBAClient) -> Bool {
        if client.isReplication { return name == .replication }
        return switch name {
        case .all: true
        case .sameUser: client.database == client.user
        case .replication: false
        case .name(let name): name == client.database
        case .pattern(let pattern): pattern.matches(client.database)
        }
    }

    private static func isUser(_ name: Name, _ user: String) -> Bool {
        switch name {
        case .all: true
        case .name(let name): name == user
        case .pattern(let pattern): pattern.matches(user)
        case .sameUser, .replication: false
        }
    }

    /// Whether the address fits; nil if the host's name has to be looked up first.
    func fitsAddress(of client: HBAClient, _ interfaces: () -> [Network]) -> Bool? {
        guard let rule = self.address else { return true }
        switch rule {
        case .all: return true
        case .network(let network): return client.address.map { network.contains($0) } ?? false
        case .sameHost:
            guard let address = client.address else { return false }
            return interfaces().contains { $0.address == address }
        case .sameNet:
            guard let address = client.address else { return false }
            return interfaces().contains { $0.contains(address) }
        case .name(let name):
            guard case .known(let known) = client.hostName else { return nil }
            return known.map { Self.isHost($0, name) } ?? false
        }
    }

    /// Case does not matter in host names; `.example.com` is every name that ends so.
    private static func isHost(_ name: String, _ rule: String) -> Bool {
        let name = name.lowercased()
        let rule = rule.lowercased()
        return rule.hasPrefix(".") ? name.hasSuffix(rule) && name != rule : name == rule
    }
}
