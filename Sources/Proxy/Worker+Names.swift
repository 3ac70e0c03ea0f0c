import Logging
import Reactor
import Services
import Settings

// Names of servers: where they lead may change while there are connections.
extension Worker {
    /// Asks for the addresses of all names that connections have been made to. The resolver knows whether it is time to ask
    /// anew (`dns_max_ttl`). Called once a second.
    func askForNames() {
        var names: Set<String> = []
        for pool in self.pools.values where !pool.servers.isEmpty { names.formUnion(pool.names) }
        for connection in self.ownConnections.values where connection.host.isName { names.insert(connection.host.host) }
        let mailbox = self.mailbox
        for name in names {
            self.services.resolver.resolve(name) { answer in
                // No answer says nothing: connections that work are kept.
                guard case .success(let addresses) = answer, !addresses.isEmpty else { return }
                mailbox.post { $0.nameLeads(name, to: addresses) }
            }
        }
    }

    /// Connections to an address that a name does not have any more are closed as they become free. The addresses carry
    /// port 0.
    private func nameLeads(_ name: String, to addresses: [SocketAddress]) {
        for pool in self.pools.values where pool.names.contains(name) { pool.nameLeads(name, to: addresses) }
        let isObsolete = self.ownConnections.values.contains {
            $0.host.host == name && !addresses.contains($0.address.with(port: 0))
        }
        if isObsolete {
            self.authQueries.renew { $0.host.host == name && !addresses.contains($0.address.with(port: 0)) }
        }
    }

    /// A connection to a server has failed: perhaps its name leads elsewhere now.
    func suspectName(_ host: HostAddress) {
        if host.isName { self.services.resolver.expire(host.host) }
    }
}

extension HostAddress {
    /// Whether it is looked up, and is not an address itself.
    var isName: Bool { self.kind == .tcp && SocketAddress(ip: self.host, port: 0) == nil }
}

extension Pool {
    /// The hosts that are names.
    func findNames() -> Set<String> {
        guard self.load == nil else { return [] }
        return Set(self.database.hosts.filter(\.isName).map(\.host))
    }

    func nameLeads(_ name: String, to addresses: [SocketAddress]) {
        var closed = 0
        for server in self.servers
        where server.host.host == name && !server.isRetiring && !addresses.contains(server.address.with(port: 0)) {
            server.retire("obsolete connection")
            closed += 1
        }
        guard closed > 0 else { return }
        self.worker.log(.info, self.prefix, "\(name) has other addresses: \(closed) connections are obsolete")
    }
}
