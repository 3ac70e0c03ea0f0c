import Logging
import Routing
import Synchronization

extension ClusterState {
    // MARK: Roles

    /// Gives each node its role by what all have said.
    mutating func decide(_ now: Int64) {
        guard self.isSettled(now) else { return }
        let before = self.rules.primary
        let roles = self.rules.roles(
            of: self.entries.map { RoleRules.Member(id: $0.id, isUp: $0.isUp, answer: $0.answer) })
        let timeline = self.primaryIndex.flatMap { self.entries[$0].answer?.timeline }
        if self.rules.primary != nil, self.rules.primary != self.sampled || timeline != self.history.timeline {
            // Before anybody can see the new roles: nothing of the old primary's samples holds for the new one.
            self.startEpoch(now)
        }
        for (index, role) in zip(self.entries.indices, roles) where self.entries[index].node.role != role {
            self.entries[index].node.setRole(role)
            self.effects.nodesChanged = true
            self.tellRole(index, role)
        }
        if self.rules.primary != before, let index = self.primaryIndex {
            self.effects.primaryChanged = true
            self.log(.notice, "primary is now \(self.entries[index].node.description) (timeline \(timeline ?? 0))")
        } else if self.rules.primary == nil, before != nil {
            let timeline = self.rules.highestTimeline
            self.log(.warning, "there is no primary: no node is out of recovery on timeline \(timeline)")
            // A replica may be on the new one's timeline already.
            for index in self.entries.indices where self.entries[index].isUp { self.hurry(index, now) }
        }
    }

    /// At the start roles are decided when each node has been tried, or after a while: a primary of old that answers
    /// first must not be taken for the primary.
    private mutating func isSettled(_ now: Int64) -> Bool {
        guard let limit = self.settleBy else { return true }
        guard now >= limit || (self.unresolved.isEmpty && self.entries.allSatisfy(\.wasTried)) else { return false }
        self.settleBy = nil
        // Those that wait for the roles.
        self.effects.wake += self.entries.map(\.waker)
        return true
    }

    private mutating func tellRole(_ index: Int, _ role: Node.Role) {
        // Of a node that is down it is told when it comes up.
        guard self.entries[index].isUpLogged, let answer = self.entries[index].answer else { return }
        let name = self.entries[index].node.description
        switch role {
        case .fenced, .foreign: self.log(.error, "node \(name) is \(self.reasonToKeepOff(answer, role))")
        case .replica: self.log(.notice, "node \(name) is a replica now")
        case .primary, .unknown: break
        }
    }

    /// Why a node takes nothing, and what to do about it.
    private func reasonToKeepOff(_ answer: RoleRules.Answer, _ role: Node.Role) -> String {
        guard role == .fenced else {
            return "of another cluster: its system identifier is \(answer.systemIdentifier ?? 0), not "
                + "\(self.rules.systemIdentifier ?? 0); it takes nothing: check the database's host list"
        }
        let other = self.primaryIndex.map { index in
            "the primary \(self.entries[index].node.description) is on timeline "
                + "\(self.entries[index].answer?.timeline ?? 0)"
        }
        return "fenced: out of recovery on timeline \(answer.timeline), "
            + (other ?? "the cluster has reached timeline \(self.rules.highestTimeline)")
            + "; writes to it would be lost: make it a replica again (pg_rewind)"
    }

    // MARK: Publishing

    /// Brings what the nodes show up to date: who is up, who takes reads.
    mutating func publish(_ now: Int64) {
        for index in self.entries.indices {
            let entry = self.entries[index]
            let node = entry.node
            let takesReads =
                entry.isUp && node.role == .replica && self.isOnTimeline(index) && !entry.isAhead
                && entry.limit.allowsReads
            if node.isUp.exchange(entry.isUp, ordering: .relaxed) != entry.isUp { self.effects.nodesChanged = true }
            if node.takesReads.exchange(takesReads, ordering: .relaxed) != takesReads {
                self.effects.nodesChanged = true
            }
            guard entry.isUp, !entry.isUpLogged, node.role != .unknown else { continue }
            self.entries[index].isUpLogged = true
            self.entries[index].isDownLogged = false
            self.tellUp(node, entry.answer)
        }
    }

    private mutating func tellUp(_ node: Node, _ answer: RoleRules.Answer?) {
        guard let answer else { return }
        let name = node.description
        switch node.role {
        case .fenced, .foreign: self.log(.error, "node \(name) is \(self.reasonToKeepOff(answer, node.role))")
        case .replica, .primary, .unknown:
            let lag = node.lag.load(ordering: .relaxed)
            let tail = node.role == .replica && lag != .max ? ", lag \(Self.seconds(lag)) s" : ""
            self.log(.notice, "node \(name) is up: \(node.role), timeline \(answer.timeline)\(tail)")
        }
    }

    /// Holds a replica's lag against the limits, and tells when it goes over or comes back.
    mutating func limit(_ index: Int, lag: Int64, lagBytes: UInt64) {
        let before = self.entries[index].limit.verdict
        self.entries[index].limit.measured(lag: lag, lagBytes: lagBytes)
        let name = self.entries[index].node.description
        switch (before, self.entries[index].limit.verdict) {
        case (.within, .over), (.unknown, .over):
            let isTime = self.settings.maxReplicaLag > 0 && lag > self.settings.maxReplicaLag
            self.log(
                .warning,
                isTime
                    ? "node \(name): lag \(Self.seconds(lag)) s is over max_replica_lag "
                        + "\(Self.seconds(self.settings.maxReplicaLag)) s: takes no reads"
                    : "node \(name): lag of \(lagBytes) bytes is over max_replica_lag_bytes "
                        + "\(self.settings.maxReplicaLagBytes): takes no reads")
        case (.over, .within): self.log(.notice, "node \(name): lag \(Self.seconds(lag)) s: takes reads again")
        case (.unknown, _), (.within, _), (.over, _): break
        }
    }

    mutating func tellPrivilege() {
        guard !self.isPrivilegeTold else { return }
        self.isPrivilegeTold = true
        self.log(
            .notice,
            "the user of the checks may not see pg_stat_wal_receiver: after a failover it takes until a replica's next "
                + "restartpoint before it takes reads again; GRANT pg_monitor TO that user makes it a moment")
    }

    mutating func log(_ level: Logger.Level, _ text: String) { self.effects.lines.append((level, text)) }

    /// Microseconds as seconds, to a hundredth.
    static func seconds(_ time: Int64) -> String {
        let hundredths = (time + 5_000) / 10_000
        let rest = hundredths % 100
        return "\(hundredths / 100).\(rest < 10 ? "0" : "")\(rest)"
    }

    // MARK: Addresses

    /// A name was looked up, or an address is known from the file: the nodes of this place in the host list.
    ///
    /// - Returns: the entries that are new; each needs a thread.
    mutating func setAddresses(
        _ addresses: [String?], host: String, port: Int, index: Int, now: Int64
    ) -> [(id: Int, node: Node, waker: Waker)] {
        self.unresolved.remove(index)
        let old = self.entries.filter { $0.node.index == index }
        var added: [(id: Int, node: Node, waker: Waker)] = []
        let new = addresses.map { address in
            if let known = old.first(where: { $0.node.address == address }) { return known }
            let entry = Entry(
                id: self.newID(), node: Node(host: host, port: port, address: address, index: index), waker: Waker(),
                limit: LagLimit(time: self.settings.maxReplicaLag, bytes: self.settings.maxReplicaLagBytes))
            added.append((entry.id, entry.node, entry.waker))
            return entry
        }
        let gone = old.filter { entry in !new.contains { $0.id == entry.id } }
        guard !added.isEmpty || !gone.isEmpty else {
            self.decide(now)
            return []
        }
        for entry in gone {
            entry.node.isUp.store(false, ordering: .relaxed)
            entry.node.takesReads.store(false, ordering: .relaxed)
            self.effects.wake.append(entry.waker)
            self.log(.notice, "node \(entry.node.description) is gone: \(host) has other addresses now")
        }
        self.entries =
            self.entries.filter { $0.node.index < index } + new + self.entries.filter { $0.node.index > index }
        self.cluster.setNodes(self.entries.map(\.node))
        self.effects.nodesChanged = true
        self.decide(now)
        self.publish(now)
        return added
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
