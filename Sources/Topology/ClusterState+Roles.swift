import Logging
import Routing
import Synchronization

extension ClusterState {
    // MARK: Roles

    /// Gives each node its role by what all have said.
    mutating func decide(_ now: Int64) {
        guard self.isSettled(now) else { return }
        let before = self.rules.primary
        let members = self.entries.map { RoleRules.Member(id: $0.node.name, isUp: $0.isUp, answer: $0.answer) }
        self.recognize(members)
        let roles = self.rules.roles(of: members)
        self.tellOthers()
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

    /// Whether each node has been tried, or the time for that is over.
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
            + "; writes to it would be lost: make it a replica again (pg_rewind), or, if it is to be the primary, see "
            + "FORGET on the console"
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
}
