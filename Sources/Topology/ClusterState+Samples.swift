import Logging
import Routing
import Synchronization

extension ClusterState {
    // MARK: Samples

    mutating func sampleCompleted(_ work: Work, _ answer: ServerProbe.Answer, _ now: Int64) {
        guard let generation = work.generation, work.epoch == self.epoch, !answer.isInRecovery,
            answer.timeline == self.history.timeline, let position = answer.position
        else { return }
        let previous = self.history.newest
        guard
            self.history.completed(
                generation: generation, position: position, flushed: answer.flushed ?? position,
                endsRecord: answer.flushedEndsRecord, time: work.begun)
        else {
            self.log(.warning, "the primary's position went back: it has lost unflushed log in a crash")
            self.startEpoch(now)
            return
        }
        if previous == nil { self.effects.progressed = true }
        if let index = self.sampledIndex { self.entries[index].node.lag.store(0, ordering: .relaxed) }
        for index in self.entries.indices where self.entries[index].node.role == .replica {
            self.compare(index, primary: position, begun: work.begun)
            let hadCaughtUp = self.entries[index].node.caughtUp.load(ordering: .relaxed) >= previous ?? 0
            // A position told earlier may be far enough already: nothing was written since.
            self.measure(index, now)
            guard self.entries[index].isUp, hadCaughtUp,
                self.entries[index].node.caughtUp.load(ordering: .relaxed) < generation
            else { continue }
            self.entries[index].pollDelay = 0
            self.effects.wake.append(self.entries[index].waker)
        }
    }

    /// A replica cannot have replayed more than its primary had written later. One that has is on another timeline,
    /// even if it does not show that (without `pg_monitor`, or after the primary has lost log in a crash).
    mutating func compare(_ index: Int, primary position: UInt64, begun: Int64) {
        let entry = self.entries[index]
        guard let replayed = entry.position, entry.positionTime <= begun, replayed > position, !entry.isAhead,
            self.isOnTimeline(index)
        else { return }
        self.entries[index].isAhead = true
        entry.node.caughtUp.store(0, ordering: .sequentiallyConsistent)
        self.log(
            .error,
            "node \(entry.node.description) has replayed \(replayed - position) bytes more than the primary has "
                + "written: it follows or has followed another server, and takes no reads until it is restarted")
    }

    /// Compares a replica's position with the samples.
    mutating func measure(_ index: Int, _ now: Int64) {
        let node = self.entries[index].node
        guard let position = self.entries[index].position else {
            // It is being connected to anew; the verdict on its lag waits for that.
            node.lag.store(.max, ordering: .relaxed)
            return
        }
        guard self.isOnTimeline(index), !self.entries[index].isAhead else {
            node.lag.store(.max, ordering: .relaxed)
            self.limit(index, lag: .max, lagBytes: 0)
            return
        }
        let standing = self.history.standing(at: position, now: now)
        if let caughtUp = standing.caughtUp, caughtUp > node.caughtUp.load(ordering: .relaxed) {
            node.caughtUp.store(caughtUp, ordering: .sequentiallyConsistent)
            self.effects.progressed = true
        }
        // A primary that refuses to be asked may write without being seen.
        let unseen = self.sampledIndex.flatMap { self.entries[$0].refusal }.map { _ in self.history.age(now: now) } ?? 0
        let lag = max(standing.lag, unseen)
        node.lagBytes.store(standing.lagBytes, ordering: .relaxed)
        self.isLate(index, by: lag, lagBytes: standing.lagBytes, now)
    }

    /// A replica refuses to be asked: it may have stood still since it was asked last.
    mutating func guessLag(_ index: Int, _ now: Int64) {
        guard self.entries[index].node.role == .replica, let (lag, time) = self.entries[index].measured else { return }
        self.isLate(
            index, by: lag + (now - time), lagBytes: self.entries[index].node.lagBytes.load(ordering: .relaxed), now,
            isMeasured: false)
    }

    private mutating func isLate(
        _ index: Int, by lag: Int64, lagBytes: UInt64, _ now: Int64, isMeasured: Bool = true
    ) {
        self.entries[index].node.lag.store(lag, ordering: .relaxed)
        if isMeasured { self.entries[index].measured = lag == .max ? nil : (lag, now) }
        self.limit(index, lag: lag, lagBytes: lagBytes)
    }

    /// Whether a replica is on the timeline of the primary; yes if no primary was seen yet.
    func isOnTimeline(_ index: Int) -> Bool {
        self.history.timeline == 0 || self.entries[index].answer?.timeline == self.history.timeline
    }

    mutating func polled(_ index: Int, _ now: Int64) {
        let delay = self.entries[index].pollDelay
        self.entries[index].lastPoll = now
        self.entries[index].pollDelay = min(max(Self.firstPollDelay, delay * 2), self.sampleInterval(now))
    }

    /// The primary is another, or its timeline, or what it had: samples start anew, generations go on.
    mutating func startEpoch(_ now: Int64) {
        self.epoch += 1
        self.lastSample = nil
        for index in self.entries.indices {
            let node = self.entries[index].node
            node.caughtUp.store(0, ordering: .sequentiallyConsistent)
            node.lag.store(.max, ordering: .relaxed)
            self.entries[index].limit.reset()
            self.entries[index].measured = nil
            self.entries[index].isAhead = false
            self.entries[index].pollDelay = 0
        }
        self.sampled = self.rules.primary
        let timeline = self.primaryIndex.flatMap { self.entries[$0].answer?.timeline } ?? 0
        self.history.clear(timeline: timeline)
        self.needed()
    }
}
