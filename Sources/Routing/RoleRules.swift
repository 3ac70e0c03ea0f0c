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
        /// `pg_postmaster_start_time()` as text, to the microsecond: tells whether two addresses are one server.
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
        /// A number of its own, never given to another.
        public var id: Int
        public var isUp: Bool
        /// Nil if it never answered. Of a server that is down: its last answer.
        public var answer: Answer?

        public init(id: Int, isUp: Bool, answer: Answer?) {
            self.id = id
            self.isUp = isUp
            self.answer = answer
        }
    }

    /// The server that takes writes, up or down; nil if none is known.
    public private(set) var primary: Int?
    /// The highest timeline that was seen on any server of this cluster.
    public private(set) var highestTimeline: UInt32 = 0
    /// The cluster's system identifier; nil if none is known.
    public private(set) var systemIdentifier: UInt64?
    /// Fenced servers, and the timeline each was fenced on.
    private var fenced: [Int: UInt32] = [:]

    public init() {}

    /// The role of each member, in their order.
    public mutating func roles(of members: [Member]) -> [Node.Role] {
        self.settleSystemIdentifier(members)
        let own = members.filter { member in
            guard let answer = member.answer else { return false }
            return !self.isForeign(answer)
        }
        for member in own { self.highestTimeline = max(self.highestTimeline, member.answer?.timeline ?? 0) }
        self.choosePrimary(own)
        let primaryAnswer = members.first { $0.id == self.primary }?.answer
        var stillFenced: [Int: UInt32] = [:]
        let roles = members.map { member -> Node.Role in
            guard let answer = member.answer else { return .unknown }
            if self.isForeign(answer) { return .foreign }
            if answer.isInRecovery { return .replica }
            // Two addresses of one server: one is as good as the other.
            if member.id == self.primary || (primaryAnswer.map { Self.isSame($0, answer) } ?? false) { return .primary }
            // One that is down and on the newest timeline may come back as anything.
            guard member.isUp || answer.timeline < self.highestTimeline || self.fenced[member.id] != nil else {
                return .unknown
            }
            stillFenced[member.id] = answer.timeline
            return .fenced
        }
        self.fenced = stillFenced
        return roles
    }

    private func isForeign(_ answer: Answer) -> Bool {
        guard let own = self.systemIdentifier, let other = answer.systemIdentifier else { return false }
        return own != other
    }

    private static func isSame(_ a: Answer, _ b: Answer) -> Bool {
        !a.startTime.isEmpty && a.startTime == b.startTime && a.systemIdentifier == b.systemIdentifier
            && a.isInRecovery == b.isInRecovery
    }

    /// The first known identifier holds as long as some server has it; among several at the start the most frequent.
    private mutating func settleSystemIdentifier(_ members: [Member]) {
        let told = members.compactMap { $0.answer?.systemIdentifier }
        if let known = self.systemIdentifier, told.isEmpty || told.contains(known) { return }
        var most: (identifier: UInt64, count: Int)?
        for identifier in told {
            let count = told.count { $0 == identifier }
            if count > most?.count ?? 0 { most = (identifier, count) }
        }
        guard let most else { return }
        if self.systemIdentifier != nil {
            // All servers were made anew: another cluster, whose timelines have nothing to do with the old ones'.
            self.highestTimeline = 0
            self.fenced = [:]
            self.primary = nil
        }
        self.systemIdentifier = most.identifier
    }

    private mutating func choosePrimary(_ own: [Member]) {
        let candidates = own.filter { member in
            guard let answer = member.answer, !answer.isInRecovery, answer.timeline >= self.highestTimeline else {
                return false
            }
            if let fencedOn = self.fenced[member.id] { return answer.timeline > fencedOn }
            return true
        }
        let running = candidates.filter(\.isUp)
        if running.contains(where: { $0.id == self.primary }) { return }
        if let first = running.first {
            self.primary = first.id
        } else if !candidates.contains(where: { $0.id == self.primary }) {
            self.primary = nil
        }
    }
}
