/// Which server of a cluster is what, from what each has said: keeps two servers from being written to.
///
/// A server out of recovery is the primary if no server of the cluster was ever seen on a higher timeline; one on a
/// lower timeline is fenced, even while nobody is primary. Of two on the same timeline the one that was primary stays
/// so.
/// A fenced server stays fenced until it is in recovery again, or has been promoted to a timeline that nobody was on.
public struct RoleRules: Sendable {
    /// What a server said last.
    public struct Answer: Sendable, Equatable {
        public var isInRecovery: Bool
        /// 0 is unknown.
        public var timeline: UInt32
        /// `pg_control_system()`; nil if it may not be read.
        public var systemIdentifier: UInt64?
        /// `pg_postmaster_start_time()`, seconds since 1970 to the microsecond as text: tells whether two addresses are one server.
        public var startTime: String

        public init(isInRecovery: Bool, timeline: UInt32, systemIdentifier: UInt64?, startTime: String) {
            self.isInRecovery = isInRecovery
            self.timeline = timeline
            self.systemIdentifier = systemIdentifier
            self.startTime = startTime
        }
    }

    /// A server as the rules see it.
    public struct Member: Sendable {
        /// Its own, whoever watches it: what is known of it outlasts that.
        public var id: String
        public var isUp: Bool
        /// Nil if it never answered. Of a server that is down: its last answer.
        public var answer: Answer?

        public init(id: String, isUp: Bool, answer: Answer?) {
            self.id = id
            self.isUp = isUp
            self.answer = answer
        }
    }

    /// The server that takes writes, up or down; nil if none is known.
    public private(set) var primary: String?
    /// What holds for longer than these servers are watched.
    public private(set) var memory = ClusterMemory()

    /// The highest timeline that was seen on any server of this cluster.
    public var highestTimeline: UInt32 { self.memory.highestTimeline }
    /// The cluster's system identifier; nil if none is known.
    public var systemIdentifier: UInt64? { self.memory.systemIdentifier }

    public init() {}

    /// Takes over what is known of these servers already.
    public mutating func recall(_ memory: ClusterMemory) { self.memory.take(over: memory) }

    /// Another who watches servers of this cluster has seen this timeline.
    public mutating func learn(highestTimeline: UInt32) {
        self.memory.highestTimeline = max(self.memory.highestTimeline, highestTimeline)
    }

    /// Forgets all, who is primary included.
    public mutating func forget() { self = RoleRules() }

    /// The role of each member, in their order.
    public mutating func roles(of members: [Member]) -> [Node.Role] {
        self.settleSystemIdentifier(members)
        let own = members.filter { member in
            guard let answer = member.answer else { return false }
            return !self.isForeign(answer)
        }
        for member in own { self.learn(highestTimeline: member.answer?.timeline ?? 0) }
        self.choosePrimary(own)
        if let primary = self.primary { self.memory.primary = primary }
        let primaryAnswer = members.first { $0.id == self.primary }?.answer
        return members.map { member in
            // Of one that has not answered yet what was known goes on to hold.
            guard let answer = member.answer else { return .unknown }
            let role = self.role(of: member, answer, primaryAnswer)
            if role == .fenced {
                self.memory.fence(member.id, on: answer.timeline)
            } else {
                self.memory.free(member.id)
            }
            return role
        }
    }

    private func role(of member: Member, _ answer: Answer, _ primary: Answer?) -> Node.Role {
        if self.isForeign(answer) { return .foreign }
        if answer.isInRecovery { return .replica }
        // Two addresses of one server: one is as good as the other.
        if member.id == self.primary || (primary.map { Self.isSame($0, answer) } ?? false) { return .primary }
        // One that is down and on the newest timeline may come back as anything.
        let isKnown = answer.timeline < self.highestTimeline || self.memory.fenced[member.id] != nil
        return member.isUp || isKnown ? .fenced : .unknown
    }

    private func isForeign(_ answer: Answer) -> Bool {
        guard let own = self.systemIdentifier, let other = answer.systemIdentifier else { return false }
        return own != other
    }

    private static func isSame(_ a: Answer, _ b: Answer) -> Bool {
        !a.startTime.isEmpty && a.startTime == b.startTime && a.systemIdentifier == b.systemIdentifier
            && a.isInRecovery == b.isInRecovery
    }

    /// Finds out which cluster it is: the first known identifier holds as long as some server has it; among several at
    /// the start the most frequent.
    ///
    /// - Returns: whether it is another than before. What was known is forgotten then: the timelines of two clusters have
    ///   nothing to do with each other.
    @discardableResult
    public mutating func settleSystemIdentifier(_ members: [Member]) -> Bool {
        let told = members.compactMap { $0.answer?.systemIdentifier }
        if let known = self.systemIdentifier, told.isEmpty || told.contains(known) { return false }
        var most: (identifier: UInt64, count: Int)?
        for identifier in told {
            let count = told.count { $0 == identifier }
            if count > most?.count ?? 0 { most = (identifier, count) }
        }
        guard let most else { return false }
        if self.systemIdentifier != nil {
            self.memory = ClusterMemory()
            self.primary = nil
        }
        self.memory.systemIdentifier = most.identifier
        return true
    }

    private mutating func choosePrimary(_ own: [Member]) {
        let candidates = own.filter { member in
            guard let answer = member.answer, !answer.isInRecovery, answer.timeline >= self.highestTimeline else {
                return false
            }
            if let fencedOn = self.memory.fenced[member.id] { return answer.timeline > fencedOn }
            return true
        }
        let running = candidates.filter(\.isUp)
        if running.contains(where: { $0.id == self.primary }) { return }
        if let first = running.first(where: { $0.id == self.memory.primary }) ?? running.first {
            self.primary = first.id
        } else if !candidates.contains(where: { $0.id == self.primary }) {
            self.primary = nil
        }
    }
}
