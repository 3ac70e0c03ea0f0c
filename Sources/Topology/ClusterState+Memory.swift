import Logging
import Routing
import Settings
import Synchronization

extension ClusterState {
    // MARK: What is known for longer than the servers are watched

    /// The hosts are those of the settings now: what is known of servers there goes on to hold.
    mutating func recallPlaces() {
        self.sight.databases = self.settings.databases
        self.seePlaces()
        self.heard = 0
        guard self.told == nil, let memory = self.known.recall(self.sight) else { return }
        self.rules.recall(memory)
        self.sight.memory = self.rules.memory
    }

    /// Where the servers listen now.
    mutating func seePlaces() {
        let addresses = self.entries.compactMap { entry in
            entry.node.address.map { HostAddress(host: $0, port: entry.node.port).description }
        }
        self.sight.places = Set(self.settings.hosts.map(\.description)).union(addresses)
        let names = Set(self.entries.map(\.node.name))
        self.sight.starts = self.sight.starts.filter { names.contains($0.key) }
    }

    /// A server has said when it was started.
    mutating func sees(_ node: Node, startedAt time: String) {
        guard !time.isEmpty, self.sight.starts[node.name] != time else { return }
        self.sight.starts[node.name] = time
    }

    /// Finds out which cluster it is, and takes over what is known of it.
    mutating func recognize(_ members: [RoleRules.Member]) {
        let before = self.rules.systemIdentifier
        if self.rules.settleSystemIdentifier(members) {
            self.sight.memory = self.rules.memory
            if let before {
                self.log(
                    .warning,
                    "the servers \(self.hostList) are of another cluster than before: their system identifier is "
                        + "\(self.rules.systemIdentifier ?? 0), not \(before); what was known of roles and timelines is "
                        + "forgotten")
            }
            if let memory = self.known.recall(self.sight) { self.rules.recall(memory) }
        }
        let version = self.known.version.load(ordering: .acquiring)
        guard version != self.heard else { return }
        self.heard = version
        self.rules.learn(highestTimeline: self.known.highestTimeline(of: self.sight))
    }

    /// Tells others what is seen here, when that has changed.
    mutating func tellOthers() {
        // Of servers that have said nothing yet nothing is known.
        guard !self.sight.starts.isEmpty else { return }
        self.sight.memory = self.rules.memory
        guard self.sight != self.told else { return }
        self.told = self.sight
        self.known.tell(self.sight)
    }

    /// Forgets what keeps a server from being the primary, and what servers have said that are down.
    mutating func forget(_ now: Int64) {
        self.known.forget(self.sight)
        self.rules.forget()
        self.told = nil
        for index in self.entries.indices where !self.entries[index].isUp { self.entries[index].answer = nil }
        self.log(
            .warning, "what was known of roles and timelines of \(self.hostList) is forgotten, as the console wishes")
        for index in self.entries.indices { self.hurry(index, now) }
        self.decide(now)
        self.publish(now)
    }

    private var hostList: String { self.settings.hosts.map(\.description).joined(separator: ", ") }

    // MARK: Servers that live but let nobody ask

    /// A server has refused to be asked, in its own words: so it lives, and what it said last goes on to hold.
    mutating func refused(_ id: Int, reason: String, now: Int64) {
        guard let index = self.index(of: id) else { return }
        guard self.entries[index].answer != nil else {
            if !self.entries[index].isDownLogged {
                self.entries[index].isDownLogged = true
                self.log(
                    .error,
                    "node \(self.entries[index].node.description) refuses the checks (check_user, check_password, "
                        + "check_dbname): \(reason); nobody knows what it is, so it takes nothing")
            }
            self.failed(id, reason: reason, now: now)
            self.entries[index].node.setRefusal(reason)
            return
        }
        self.forgetPosition(index)
        self.entries[index].lastCheck = now
        self.entries[index].urgentAt = nil
        self.entries[index].wasTried = true
        if !self.entries[index].isUp {
            self.entries[index].node.upSince.store(now, ordering: .relaxed)
            self.entries[index].isUp = true
        }
        var told = self.entries[index].refusal?.told ?? []
        // Reasons that come and go in turn are not told each time.
        if told.count < 4, told.insert(reason).inserted { self.tellRefusal(index, reason) }
        self.entries[index].refusal = (reason, told)
        self.entries[index].node.setRefusal(reason)
        self.decide(now)
        self.guessLag(index, now)
        if self.entries[index].node.name == self.sampled {
            for other in self.entries.indices where self.entries[other].node.role == .replica && other != index {
                self.measure(other, now)
            }
        }
        self.publish(now)
    }

    private mutating func tellRefusal(_ index: Int, _ reason: String) {
        let node = self.entries[index].node
        self.log(
            .warning,
            "node \(node.description) refuses the checks (check_user, check_password, check_dbname): \(reason). It lives "
                + "and goes on as \(node.role); how late replicas are is not known meanwhile, so reads leave those concerned "
                + "after max_replica_lag")
    }

    /// What the settings say now does not work there; the connection of before goes on.
    mutating func refusedChange(_ id: Int, reason: String) {
        guard let index = self.index(of: id), self.entries[index].refusedChange != reason else { return }
        self.entries[index].refusedChange = reason
        self.log(
            .warning,
            "node \(self.entries[index].node.description) refuses what is new of check_user, check_password or "
                + "check_dbname, or of TLS: \(reason); the connection of before goes on until that works")
    }

    /// It has answered.
    mutating func accepted(_ index: Int) {
        guard self.entries[index].refusal != nil || self.entries[index].node.refusal != nil else { return }
        self.entries[index].refusal = nil
        self.entries[index].node.setRefusal(nil)
        self.log(.notice, "node \(self.entries[index].node.description) lets itself be checked again")
    }
}
