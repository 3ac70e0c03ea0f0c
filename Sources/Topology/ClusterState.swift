import Logging
import Routing
import Settings
import Synchronization

/// What the threads of a monitor know together, and who is asked what and when. Takes answers and times in; its numbers
/// go straight into the nodes, all else out as `Effects`. Guarded by its owner's lock.
struct ClusterState {
    /// A question to a node.
    struct Work: Equatable {
        /// All about it, not only its position.
        var isCheck: Bool
        /// The sample that is begun with it; nil for a node that is not the primary.
        var generation: UInt64?
        /// When it was begun, monotonic microseconds.
        var begun: Int64
        /// At the time it was begun: `ClusterState.epoch`.
        var epoch: Int
    }

    /// What a node's thread does next.
    enum Step: Equatable {
        /// The node is of no interest any more.
        case end
        case ask(Work)
        case wait(until: Int64)
    }

    /// What is to be done after the lock has been given back.
    struct Effects {
        var wake: [Waker] = []
        var lines: [(level: Logger.Level, text: String)] = []
        var nodesChanged = false
        var progressed = false
        var primaryChanged = false
    }

    /// A node and what only the monitor knows of it.
    struct Entry {
        let id: Int
        let node: Node
        let waker: Waker
        var answer: RoleRules.Answer?
        /// It has answered or failed at least once.
        var wasTried = false
        var isUp = false
        var isDownLogged = false
        var isUpLogged = false
        var limit: LagLimit
        /// Replay position; nil when it is not known now.
        var position: UInt64?
        /// When it was told.
        var positionTime: Int64 = 0
        /// It has not answered since the connection to it is new.
        var isNew = true
        /// It has replayed what the primary has not written: it has followed another server.
        var isAhead = false
        /// How late it was when that was found out last, and when.
        var measured: (lag: Int64, time: Int64)?
        /// It lives, but lets nobody ask: what it said last goes on to hold. `told` are the reasons that were logged.
        var refusal: (reason: String, told: Set<String>)?
        /// Why the login of the settings is not used; nil if it is.
        var refusedChange: String?
        /// When the last check ended.
        var lastCheck: Int64?
        /// A check is to be made then, whatever the interval says.
        var urgentAt: Int64?
        /// When its position was asked for last, and how long after that it is asked again while it has not caught up.
        var lastPoll: Int64 = 0
        var pollDelay: Int64 = 0
    }

    var settings: ClusterSettings
    let cluster: Cluster
    /// In the order of the host list.
    var entries: [Entry] = []
    var rules = RoleRules()
    let known: KnownClusters
    /// What is told to others of this cluster; its memory is that of the rules.
    var sight = KnownClusters.Cluster()
    /// What was told last, and the version of what others have told that was looked at last.
    var told: KnownClusters.Cluster?
    var heard: UInt64 = 0
    var history = SampleHistory()
    /// The node whose samples the history holds.
    var sampled: String?
    /// When the last sample was begun; nil: none of this primary.
    var lastSample: Int64?
    /// Rises when the primary or its timeline changes: what was asked before tells nothing about the new one.
    var epoch = 0
    /// Until then roles are not decided before each node was tried; nil when that is over.
    var settleBy: Int64?
    /// Hosts whose names have not been looked up yet.
    var unresolved: Set<HostAddress> = []
    /// Hosts whose names are looked up again and again.
    var watchedNames: Set<HostAddress> = []
    private var lastID = 0
    var effects = Effects()
    var isPrivilegeTold = false

    /// While there is no primary, nodes are checked so often: a promotion is to be seen at once. Microseconds.
    static let searchInterval: Int64 = 250_000
    /// Suspicions are followed at most so often, microseconds.
    static let suspicionInterval: Int64 = 100_000
    /// The first pause between two questions to a replica that has not caught up yet, microseconds.
    static let firstPollDelay: Int64 = 1_000

    init(settings: ClusterSettings, cluster: Cluster, known: KnownClusters) {
        self.settings = settings
        self.cluster = cluster
        self.known = known
    }

    /// Between samples while nobody needs them. Never so long that one interval alone would look like too much lag.
    var idleInterval: Int64 {
        let most = min(self.settings.checkInterval, 1_000_000)
        guard self.settings.maxReplicaLag > 0 else { return most }
        return min(most, max(self.settings.sampleInterval, self.settings.maxReplicaLag / 4))
    }

    func sampleInterval(_ now: Int64) -> Int64 {
        let isNeeded = now - self.cluster.neededAt.load(ordering: .relaxed) < Cluster.needTime
        return isNeeded ? min(self.settings.sampleInterval, self.idleInterval) : self.idleInterval
    }

    func index(of id: Int) -> Int? { self.entries.firstIndex { $0.id == id } }

    var primaryIndex: Int? { self.rules.primary.flatMap { name in self.entries.firstIndex { $0.node.name == name } } }
    var sampledIndex: Int? { self.sampled.flatMap { name in self.entries.firstIndex { $0.node.name == name } } }

    /// Whether there is a primary that answers.
    var hasPrimary: Bool { self.primaryIndex.map { self.entries[$0].isUp } ?? false }

    mutating func newID() -> Int {
        self.lastID += 1
        return self.lastID
    }

    // MARK: What comes next

    /// What the thread of a node does now.
    mutating func next(_ id: Int, now: Int64) -> Step {
        if let limit = self.settleBy, now >= limit { self.decide(now) }
        guard let index = self.index(of: id) else { return .end }
        let entry = self.entries[index]
        let checkAt = self.checkTime(entry)
        var due = checkAt
        if entry.isUp, self.settleBy == nil { due = min(due, self.pollTime(entry, now)) }
        guard now >= due else { return .wait(until: min(due, self.settleBy ?? due)) }
        let isCheck = now >= checkAt
        var work = Work(isCheck: isCheck, generation: nil, begun: now, epoch: self.epoch)
        if entry.node.name == self.sampled {
            // Before the question is sent: whoever sees a smaller number has written before this sample.
            work.generation = self.cluster.samples.next()
            self.lastSample = now
        }
        if isCheck { self.entries[index].urgentAt = nil }
        return .ask(work)
    }

    private func checkTime(_ entry: Entry) -> Int64 {
        guard let last = entry.lastCheck else { return .min }
        let interval =
            self.hasPrimary
            ? self.settings.checkInterval : min(self.settings.checkInterval, Self.searchInterval)
        return min(last + interval, entry.urgentAt ?? .max)
    }

    /// When the node's position is to be asked for next, between checks.
    private func pollTime(_ entry: Entry, _ now: Int64) -> Int64 {
        // One that refuses to be asked is not asked faster than it is checked.
        guard entry.refusal == nil else { return .max }
        if entry.node.name == self.sampled { return self.lastSample.map { $0 + self.sampleInterval(now) } ?? .min }
        guard entry.node.role == .replica, let newest = self.history.newest,
            entry.node.caughtUp.load(ordering: .relaxed) < newest
        else { return .max }
        return entry.lastPoll + entry.pollDelay
    }

    // MARK: What nodes say

    /// A node has answered.
    mutating func answered(
        _ id: Int, _ work: Work, _ answer: ServerProbe.Answer, _ identity: ServerProbe.Identity, now: Int64
    ) {
        guard let index = self.index(of: id) else { return }
        let node = self.entries[index].node
        self.entries[index].answer = RoleRules.Answer(
            isInRecovery: answer.isInRecovery, timeline: answer.timeline, systemIdentifier: identity.systemIdentifier,
            startTime: identity.startTime)
        self.entries[index].position = answer.isInRecovery ? answer.position : nil
        self.entries[index].positionTime = now
        if self.entries[index].isNew {
            self.entries[index].isNew = false
            // A number that no sample has: what was read before needs no higher one, what is read from now on does.
            let samples = self.cluster.samples
            node.knownSince.store(samples.last == 0 ? 0 : samples.next(), ordering: .sequentiallyConsistent)
        }
        node.timeline.store(answer.timeline, ordering: .relaxed)
        if let position = answer.position { node.position.store(position, ordering: .relaxed) }
        if work.isCheck { self.entries[index].lastCheck = now }
        if !self.entries[index].isUp {
            if self.entries[index].wasTried { node.upSince.store(now, ordering: .relaxed) }
            self.entries[index].isUp = true
        }
        self.entries[index].wasTried = true
        self.accepted(index)
        if answer.isInRecovery, !identity.seesReceiver { self.tellPrivilege() }
        self.sees(node, startedAt: identity.startTime)
        self.decide(now)
        if node.name == self.sampled {
            self.sampleCompleted(work, answer, now)
        } else if self.entries[index].node.role == .replica {
            self.measure(index, now)
            self.polled(index, now)
        }
        self.publish(now)
    }

    /// A node has not answered, or not in time.
    mutating func failed(_ id: Int, reason: String, now: Int64) {
        guard let index = self.index(of: id) else { return }
        self.forgetPosition(index)
        self.entries[index].lastCheck = now
        self.entries[index].urgentAt = nil
        self.entries[index].wasTried = true
        self.entries[index].isUp = false
        self.entries[index].isUpLogged = false
        self.entries[index].limit.reset()
        self.entries[index].measured = nil
        self.entries[index].refusal = nil
        self.entries[index].node.setRefusal(nil)
        if !self.entries[index].isDownLogged {
            self.entries[index].isDownLogged = true
            self.log(.error, "node \(self.entries[index].node.description) is down: \(reason)")
        }
        self.decide(now)
        self.publish(now)
    }

    /// The connection to a node has broken: it is asked again at once, before it is called down.
    mutating func lost(_ id: Int, now: Int64) {
        guard let index = self.index(of: id) else { return }
        // A server that was started again may stand before what it had replayed.
        self.forgetPosition(index)
        self.entries[index].urgentAt = now
        self.publish(now)
    }

    mutating func forgetPosition(_ index: Int) {
        self.entries[index].position = nil
        self.entries[index].isAhead = false
        self.entries[index].isNew = true
        self.entries[index].node.knownSince.store(.max, ordering: .sequentiallyConsistent)
        self.entries[index].node.caughtUp.store(0, ordering: .sequentiallyConsistent)
        self.entries[index].node.lag.store(.max, ordering: .relaxed)
    }

    /// Somebody has seen a node fail.
    mutating func suspect(_ node: Node, now: Int64) {
        guard let index = self.entries.firstIndex(where: { $0.node === node }) else { return }
        let all = node.name == self.rules.primary
        for other in self.entries.indices where all || other == index {
            self.hurry(other, now)
        }
    }

    /// Has a node checked as soon as may be.
    mutating func hurry(_ index: Int, _ now: Int64) {
        guard self.entries[index].urgentAt == nil, let last = self.entries[index].lastCheck else { return }
        self.entries[index].urgentAt = max(now, last + Self.suspicionInterval)
        self.effects.wake.append(self.entries[index].waker)
    }

    /// Samples are needed often from now on.
    mutating func needed() {
        guard let index = self.sampledIndex else { return }
        self.effects.wake.append(self.entries[index].waker)
    }
}
