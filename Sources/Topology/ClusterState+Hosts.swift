import Logging
import Routing
import Settings
import Synchronization

extension ClusterState {
    /// A node that is new; it needs a thread.
    typealias Addition = (id: Int, node: Node, waker: Waker)

    // MARK: Settings

    /// Takes over settings, the first or others. Servers that are still listed keep what is known of them.
    ///
    /// - Parameters:
    ///   - addresses: the address of each host that is no name; nil inside for a Unix socket.
    /// - Returns: nodes that are new, and hosts whose names have to be looked up from now on.
    mutating func apply(
        _ settings: ClusterSettings, addresses: [HostAddress: String?], now: Int64
    ) -> (added: [Addition], names: [HostAddress]) {
        self.settings = settings
        let names = settings.hosts.filter { addresses[$0] == nil && self.watchedNames.insert($0).inserted }
        self.unresolved = self.unresolved.intersection(settings.hosts).union(names)
        for index in self.entries.indices {
            self.entries[index].limit.change(time: settings.maxReplicaLag, bytes: settings.maxReplicaLagBytes)
            self.entries[index].refusedChange = nil
        }
        for entry in self.entries where !settings.hosts.contains(entry.node.place) {
            self.leave(entry, because: "it is not listed any more")
        }
        self.entries.removeAll { !settings.hosts.contains($0.node.place) }
        var added: [Addition] = []
        for host in settings.hosts {
            guard let address = addresses[host] else { continue }
            added += self.replace([address], of: host)
        }
        self.recallPlaces()
        self.nodesAreOthers(now, isMore: !added.isEmpty || !names.isEmpty)
        // Whoever had a long time to wait looks at what the settings say now.
        self.effects.wake += self.entries.map(\.waker)
        return (added, names)
    }

    // MARK: Addresses

    /// A name was looked up: the nodes of this host.
    ///
    /// - Returns: the nodes that are new.
    mutating func setAddresses(_ addresses: [String?], of host: HostAddress, now: Int64) -> [Addition] {
        guard self.settings.hosts.contains(host) else { return [] }
        let wasUnresolved = self.unresolved.remove(host) != nil
        let before = self.entries.map(\.id)
        let added = self.replace(addresses, of: host)
        guard wasUnresolved || before != self.entries.map(\.id) else {
            self.decide(now)
            return []
        }
        self.seePlaces()
        self.nodesAreOthers(now, isMore: !added.isEmpty)
        return added
    }

    /// Whether a host's name is to be looked up further on.
    mutating func watches(name host: HostAddress) -> Bool {
        if self.settings.hosts.contains(host) { return true }
        self.watchedNames.remove(host)
        return false
    }

    /// A name cannot be looked up: roles do not wait for it.
    mutating func unresolvable(_ host: HostAddress, now: Int64) {
        guard self.unresolved.remove(host) != nil else { return }
        self.nodesAreOthers(now, isMore: false)
    }

    private mutating func replace(_ addresses: [String?], of host: HostAddress) -> [Addition] {
        let old = self.entries.filter { $0.node.place == host }
        var added: [Addition] = []
        let new = addresses.map { address in
            if let known = old.first(where: { $0.node.address == address }) { return known }
            let entry = Entry(
                id: self.newID(), node: Node(host: host.host, port: host.port, address: address), waker: Waker(),
                limit: LagLimit(time: self.settings.maxReplicaLag, bytes: self.settings.maxReplicaLagBytes))
            added.append((entry.id, entry.node, entry.waker))
            return entry
        }
        for entry in old where !new.contains(where: { $0.id == entry.id }) {
            self.leave(entry, because: "\(host.host) has other addresses now")
        }
        self.entries = self.settings.hosts.flatMap { place in
            place == host ? new : self.entries.filter { $0.node.place == place }
        }
        return added
    }

    private mutating func leave(_ entry: Entry, because reason: String) {
        entry.node.isUp.store(false, ordering: .relaxed)
        entry.node.takesReads.store(false, ordering: .relaxed)
        self.effects.wake.append(entry.waker)
        self.log(.notice, "node \(entry.node.description) is gone: \(reason)")
    }

    private mutating func nodesAreOthers(_ now: Int64, isMore: Bool) {
        if isMore && self.primaryIndex == nil {
            // Roles are decided when each node has been tried, or after a while: a primary of old that answers first must
            // not be taken for the primary.
            self.settleBy = now + min(self.settings.checkTimeout, 1_000_000)
        }
        self.cluster.setNodes(self.entries.map(\.node), unresolved: self.unresolved)
        self.effects.nodesChanged = true
        self.decide(now)
        self.publish(now)
    }

    /// All nodes go: the monitor stops.
    mutating func removeAll() {
        self.effects.wake += self.entries.map(\.waker)
        for entry in self.entries {
            // Nobody watches it any more: a client that is still there must not write to what was the primary once.
            entry.node.isUp.store(false, ordering: .relaxed)
            entry.node.takesReads.store(false, ordering: .relaxed)
        }
        self.entries = []
    }
}
