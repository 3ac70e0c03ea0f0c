import Logging
import Routing
import Settings
import Synchronization
import Testing

@testable import Topology

@Suite struct ClusterStateTests {
    @Test func rolesAndFirstSampleAreThereAfterOneRound() {
        let scene = ClusterScene.healthy()
        #expect(scene.cluster.nodes.map(\.role) == [.primary, .replica, .replica])
        #expect(scene.cluster.primary === scene.node(1))
        #expect(scene.generation == 1)
        // The replicas' positions were known when the sample came: they are not asked again.
        #expect(scene.caughtUp(2) == 1 && scene.caughtUp(3) == 1)
        #expect(scene.takesReads(2) && scene.takesReads(3) && !scene.takesReads(1))
        #expect(scene.upSince(2) == 0)
    }

    @Test func rolesWaitUntilEachNodeWasTried() {
        let scene = ClusterScene(2)
        scene.ask(1, primary: 1000)
        #expect(scene.cluster.primary == nil)
        #expect(scene.isUp(1))
        scene.ask(2, primary: 2000, timeline: 2)
        #expect(scene.cluster.primary === scene.node(2))
        #expect(scene.node(1).role == .fenced)
    }

    @Test func rolesDoNotWaitForANodeThatHangs() {
        let scene = ClusterScene(2)
        scene.ask(1, primary: 1000)
        guard case .ask = scene.next(2) else {
            Issue.record("the second node is not asked")
            return
        }
        scene.pass(999)
        #expect(scene.cluster.primary == nil)
        scene.pass(1)
        _ = scene.next(1)
        #expect(scene.cluster.primary === scene.node(1))
    }

    @Test func numberIsHandedOutBeforeThePrimaryIsAsked() {
        let scene = ClusterScene.healthy()
        scene.pass(1000)
        guard case .ask(let work) = scene.next(1) else {
            Issue.record("no sample after a second")
            return
        }
        #expect(work.generation == 2)
        #expect(scene.generation == 2)
        // Nobody has caught up to it before it is completed.
        scene.ask(2, replica: 5000)
        #expect(scene.caughtUp(2) == 1)
        scene.answer(1, work, primary: 5000)
        #expect(scene.caughtUp(2) == 2)
        #expect(scene.caughtUp(3) == 1)
    }

    @Test func samplesAreTakenOftenOnlyWhileNeeded() {
        let scene = ClusterScene.healthy()
        #expect(scene.next(1) == .wait(until: scene.now + 1_000_000))
        scene.cluster.neededAt.store(scene.now, ordering: .relaxed)
        #expect(scene.next(1) == .wait(until: scene.now + 25_000))
        var samples = 0
        for _ in 0..<2000 {
            scene.pass(1)
            if scene.ask(1, primary: 1000) { samples += 1 }
        }
        // Half a second of 25 ms, then one a second.
        #expect((20...23).contains(samples))
    }

    @Test func replicaThatHasNotCaughtUpIsAskedAtOnceAndThenMoreAndMoreSeldom() {
        let scene = ClusterScene.healthy()
        scene.cluster.neededAt.store(scene.now + 100_000, ordering: .relaxed)
        scene.pass(25)
        scene.ask(1, primary: 2000)
        var asked: [Int64] = []
        for millisecond in 0..<120 as Range<Int64> {
            if scene.ask(2, replica: 1500) { asked.append(millisecond) }
            scene.pass(1)
        }
        #expect(asked == [0, 1, 3, 7, 15, 31, 56, 81, 106])
        #expect(scene.caughtUp(2) == 1)
        scene.pass(25)
        #expect(scene.ask(2, replica: 2000))
        #expect(scene.caughtUp(2) == 2)
        #expect(!scene.ask(2, replica: 2000))
    }

    @Test func progressIsToldWhenAReplicaCatchesUp() {
        let scene = ClusterScene.healthy()
        scene.pass(1000)
        scene.ask(1, primary: 2000)
        _ = scene.lines()
        scene.ask(2, replica: 1999)
        #expect(!scene.state.effects.progressed)
        scene.pass(10)
        scene.ask(2, replica: 2000)
        #expect(scene.state.effects.progressed)
    }

    @Test func failoverForgetsAllSamplesBeforeTheNewPrimaryIsSeen() {
        let scene = ClusterScene.healthy()
        scene.state.failed(1, reason: "Connection refused", now: scene.now)
        #expect(scene.cluster.primary == nil)
        #expect(scene.node(1).role == .primary)
        // Reads go on.
        #expect(scene.takesReads(2) && scene.takesReads(3))
        scene.pass(250)
        scene.ask(2, primary: 1500, timeline: 2)
        #expect(scene.cluster.primary === scene.node(2))
        #expect(scene.node(1).role == .fenced)
        #expect(scene.caughtUp(3) == 0)
        #expect(!scene.takesReads(3))
        scene.ask(2, primary: 1600, timeline: 2)
        #expect(scene.generation == 2)
        // On the old timeline it has caught up to nothing, however far it is.
        scene.ask(3, replica: 9000, timeline: 1)
        #expect(scene.caughtUp(3) == 0 && !scene.takesReads(3))
        scene.pass(1000)
        scene.ask(3, replica: 1600, timeline: 2)
        #expect(scene.caughtUp(3) == 2 && scene.takesReads(3))
    }

    @Test func sampleOfAPrimaryThatHasBeenReplacedIsDiscarded() {
        let scene = ClusterScene.healthy()
        scene.pass(1000)
        guard case .ask(let work) = scene.next(1) else {
            Issue.record("no sample after a second")
            return
        }
        scene.ask(2, primary: 1500, timeline: 2)
        scene.answer(1, work, primary: 9000)
        #expect(scene.node(1).role == .fenced)
        #expect(scene.state.history.newest == nil)
    }

    @Test func sampleOfAPrimaryThatIsInRecoveryNowIsDiscarded() {
        let scene = ClusterScene.healthy()
        scene.pass(1000)
        scene.ask(1, replica: 9000)
        #expect(scene.node(1).role == .replica)
        #expect(scene.cluster.primary == nil)
        #expect(scene.state.history.newest == 1)
    }

    @Test func nodesAreCheckedOftenWhileThereIsNoPrimary() {
        let scene = ClusterScene.healthy()
        scene.state.failed(1, reason: "Connection refused", now: scene.now)
        #expect(scene.next(2) == .wait(until: scene.now + 250_000))
        #expect(scene.next(1) == .wait(until: scene.now + 250_000))
    }

    @Test func suspicionOfThePrimaryHasAllNodesCheckedButNotMoreThanTenTimesASecond() {
        let scene = ClusterScene.healthy()
        scene.pass(300)
        scene.state.suspect(scene.node(1), now: scene.now)
        #expect(scene.ask(1, primary: 1000) && scene.ask(2, replica: 1000) && scene.ask(3, replica: 1000))
        scene.state.suspect(scene.node(1), now: scene.now)
        #expect(scene.next(1) == .wait(until: scene.now + 100_000))
        scene.pass(100)
        #expect(scene.ask(1, primary: 1000))
    }

    @Test func suspicionOfAReplicaConcernsItAlone() {
        let scene = ClusterScene.healthy()
        scene.pass(300)
        scene.state.suspect(scene.node(2), now: scene.now)
        #expect(scene.ask(2, replica: 1000))
        #expect(!scene.ask(3, replica: 1000))
    }

    @Test func nodeThatComesBackShowsSinceWhen() {
        let scene = ClusterScene.healthy()
        scene.state.failed(2, reason: "no answer for 2.00 s", now: scene.now)
        #expect(!scene.takesReads(2) && scene.caughtUp(2) == 0)
        scene.state.failed(2, reason: "Connection refused", now: scene.now)
        scene.pass(1000)
        scene.ask(2, replica: 1000)
        #expect(scene.upSince(2) == scene.now)
        #expect(scene.takesReads(2) && scene.caughtUp(2) == 1)
        #expect(
            scene.lines() == [
                "node 10.0.0.2:5432 is down: no answer for 2.00 s",
                "node 10.0.0.2:5432 is up: replica, timeline 1, lag 0.00 s",
            ])
    }

    @Test func brokenConnectionIsNoFailureYet() {
        let scene = ClusterScene.healthy()
        scene.state.lost(2, now: scene.now)
        // It may have been restarted, and stand before what it had replayed.
        #expect(scene.caughtUp(2) == 0)
        #expect(scene.isUp(2) && scene.takesReads(2))
        #expect(scene.ask(2, replica: 900))
        #expect(scene.caughtUp(2) == 0)
        #expect(scene.lines().isEmpty)
    }

    /// What was read before the connection broke was read from a server that may not be there any more.
    @Test func aNewConnectionPartsWhatWasReadBeforeFromWhatIsReadThen() {
        let scene = ClusterScene.healthy()
        let replica = scene.node(2)
        let before = Causality()
        before.read(from: replica, generation: scene.generation)
        #expect(before.obstacle(replica, mode: .lsn) == nil)
        scene.state.lost(2, now: scene.now)
        #expect(before.obstacle(replica, mode: .lsn) == .read)
        scene.ask(2, replica: 900)
        #expect(before.obstacle(replica, mode: .lsn) == .read)
        // Even if no sample is taken any more.
        let after = Causality()
        after.read(from: replica, generation: scene.generation)
        #expect(after.obstacle(replica, mode: .lsn) == nil)
        scene.pass(1000)
        scene.ask(1, primary: 2000)
        scene.ask(2, replica: 2000)
        #expect(before.obstacle(replica, mode: .lsn) == nil)
    }

    @Test func lagOverTheLimitIsToldOnceAndTakesTheReadsAway() {
        let scene = ClusterScene.healthy { $0.maxReplicaLag = 2_000_000 }
        for position in 2...40 as ClosedRange<UInt64> {
            scene.pass(100)
            scene.ask(1, primary: position * 1000)
            scene.ask(2, replica: 1000)
            scene.ask(3, replica: position * 1000)
        }
        #expect(!scene.takesReads(2) && scene.takesReads(3))
        #expect(scene.lagBytes(2) > 30_000)
        scene.pass(500)
        scene.ask(2, replica: 40_000)
        #expect(scene.takesReads(2))
        let lines = scene.lines()
        #expect(lines.count == 2)
        #expect(lines.first?.contains("is over max_replica_lag 2.00 s: takes no reads") == true)
        #expect(lines.last?.hasSuffix("takes reads again") == true)
    }

    /// What an open transaction writes on a quiet primary is not flushed, so no replica can have it.
    @Test func logThatIsNotFlushedTakesNoReadsAway() {
        let scene = ClusterScene.healthy { $0.maxReplicaLag = 2_000_000 }
        for position in 2...40 as ClosedRange<UInt64> {
            scene.pass(500)
            scene.ask(1, primary: position * 1000, flushed: 1000)
            scene.ask(2, replica: 1000)
        }
        #expect(scene.takesReads(2))
        #expect(scene.node(2).lag.load(ordering: .relaxed) == 0 && scene.lagBytes(2) == 0)
        // As for writes, it has caught up to nothing since.
        #expect(scene.caughtUp(2) == 1)
        #expect(scene.lines().isEmpty)
    }

    @Test func replicaThatIsAheadOfThePrimaryTakesNoReads() {
        let scene = ClusterScene.healthy()
        scene.pass(1000)
        scene.ask(2, replica: 7000)
        scene.pass(10)
        scene.ask(1, primary: 1500)
        #expect(!scene.takesReads(2) && scene.caughtUp(2) == 0)
        #expect(scene.lines().first?.contains("5500 bytes more than the primary") == true)
        // Not even when the primary has written as much.
        scene.pass(1000)
        scene.ask(1, primary: 9000)
        scene.ask(2, replica: 9000)
        #expect(!scene.takesReads(2) && scene.caughtUp(2) == 0)
        // Restarted, it is looked at anew.
        scene.state.lost(2, now: scene.now)
        scene.ask(2, replica: 9000)
        scene.pass(1000)
        scene.ask(1, primary: 9100)
        scene.ask(2, replica: 9100)
        #expect(scene.takesReads(2))
    }

    @Test func primaryThatHasLostItsLogInACrashStartsTheSamplesAnew() {
        let scene = ClusterScene.healthy()
        scene.pass(1000)
        scene.ask(1, primary: 5000)
        scene.ask(2, replica: 4000)
        scene.state.lost(1, now: scene.now)
        scene.pass(10)
        scene.ask(1, primary: 4000)
        #expect(scene.caughtUp(2) == 0)
        #expect(scene.cluster.primary === scene.node(1))
        scene.ask(1, primary: 4000)
        #expect(scene.caughtUp(2) == scene.generation)
    }

    @Test func foreignServerIsToldOnce() {
        let scene = ClusterScene(3)
        scene.ask(1, primary: 1000)
        scene.ask(2, replica: 1000)
        scene.ask(3, primary: 1000, timeline: 9, identifier: 666)
        scene.pass(1000)
        scene.ask(3, primary: 1000, timeline: 9, identifier: 666)
        #expect(scene.node(3).role == .foreign)
        #expect(scene.cluster.primary === scene.node(1))
        #expect(
            scene.lines().filter { $0.contains("10.0.0.3") } == [
                "node 10.0.0.3:5432 is of another cluster: its system identifier is 666, not 42; it takes nothing: "
                    + "check the database's host list"
            ])
    }

    @Test func nodesStayWhenANameGetsAnotherAddress() {
        let cluster = Cluster(samples: SampleNumbers())
        let host = HostAddress(host: "db")
        var state = ClusterState(
            settings: ClusterSettings(hosts: [host], dbname: "postgres"), cluster: cluster, known: KnownClusters())
        #expect(state.apply(state.settings, addresses: [:], now: 0).names == [host])
        #expect(cluster.unresolved == [host])
        let first = state.setAddresses(["10.0.0.1", "10.0.0.2"], of: host, now: 0)
        #expect(cluster.unresolved.isEmpty)
        #expect(first.count == 2)
        let second = state.setAddresses(["10.0.0.2", "10.0.0.3"], of: host, now: 0)
        #expect(second.map(\.node.address) == ["10.0.0.3"])
        #expect(cluster.nodes.map(\.address) == ["10.0.0.2", "10.0.0.3"])
        #expect(cluster.nodes.first === first.last?.node)
        #expect(state.next(first.first?.id ?? 0, now: 0) == .end)
        state.effects = ClusterState.Effects()
        let third = state.setAddresses(["10.0.0.2", "10.0.0.3"], of: host, now: 0)
        #expect(third.isEmpty && !state.effects.nodesChanged)
    }

    @Test(
        arguments: [(0, "0.00"), (4_999, "0.00"), (5_000, "0.01"), (12_100_000, "12.10"), (999_999, "1.00")]
            as [(Int64, String)])
    func timesAreWrittenInSeconds(time: Int64, text: String) {
        #expect(ClusterState.seconds(time) == text)
    }
}
