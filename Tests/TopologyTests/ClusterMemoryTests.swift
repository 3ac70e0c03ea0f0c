import Routing
import Settings
import Synchronization
import Testing

@testable import Topology

/// Settings that change while a cluster is watched, and what is known of it from before.
@Suite struct ClusterMemoryTests {
    /// Server 2 was promoted beside the old primary 1, and is gone; 3 has seen nothing of it.
    private func afterFailover(_ known: KnownClusters = KnownClusters()) -> ClusterScene {
        let scene = ClusterScene(3, known: known)
        scene.ask(1, primary: 1000)
        scene.ask(2, primary: 1500, timeline: 2)
        scene.ask(3, replica: 1000)
        scene.state.failed(2, reason: "Connection refused", now: scene.now)
        #expect(scene.cluster.nodes.map(\.role) == [.fenced, .primary, .replica])
        _ = scene.lines()
        return scene
    }

    @Test func aReloadForgetsNothing() {
        let scene = self.afterFailover()
        let nodes = scene.cluster.nodes
        for change: (inout ClusterSettings) -> Void in [
            { $0.checkInterval = 77_000 }, { $0.checkTimeout = 5_000_000 }, { $0.sampleInterval = 1_000 },
            { $0.logins = [ClusterSettings.Login(user: "other", dbname: "other")] }, { $0.tls.mode = .require },
            { $0.maxReplicaLag = 0 }, { $0.maxReplicaLagBytes = 7 }, { $0.databases = ["shop"] },
            { $0.hosts.reverse() },
        ] {
            var settings = scene.state.settings
            change(&settings)
            scene.apply(settings)
            scene.pass(2000)
            scene.ask(1, primary: 2000)
            scene.ask(3, replica: 1000)
            #expect(nodes.map(\.role) == [.fenced, .primary, .replica])
            #expect(scene.cluster.primary == nil)
        }
        #expect(scene.cluster.nodes.map(\.host) == ["10.0.0.3", "10.0.0.2", "10.0.0.1"])
    }

    @Test func theOldPrimaryStaysFencedWhoeverElseIsListed() {
        let scene = self.afterFailover()
        for hosts in [[1, 2], [1, 3], [1], [1, 4], [3, 1, 2]] {
            var settings = scene.state.settings
            settings.hosts = hosts.map { HostAddress(host: "10.0.0.\($0)") }
            scene.apply(settings)
            scene.pass(2000)
            for entry in scene.state.entries {
                switch entry.node.host {
                case "10.0.0.1": scene.ask(entry.id, primary: 2000)
                case "10.0.0.2": scene.state.failed(entry.id, reason: "gone", now: scene.now)
                default: scene.ask(entry.id, replica: 1000)
                }
            }
            #expect(scene.cluster.primary == nil, "\(hosts)")
            #expect(scene.cluster.nodes.first { $0.host == "10.0.0.1" }?.role == .fenced)
        }
    }

    @Test func serversThatStayGoOnAndAreTheSame() {
        let scene = ClusterScene.healthy()
        let (one, two) = (scene.node(1), scene.node(2))
        scene.list(4, 2, 1)
        #expect(scene.cluster.nodes.map(\.host) == ["10.0.0.4", "10.0.0.2", "10.0.0.1"])
        #expect(scene.cluster.nodes[1] === two && scene.cluster.nodes[2] === one)
        #expect(scene.cluster.primary === one)
        #expect(two.takesReads.load(ordering: .relaxed) && two.caughtUp.load(ordering: .relaxed) == 1)
        #expect(scene.lines() == ["node 10.0.0.3:5432 is gone: it is not listed any more"])
    }

    /// As at the start: the first one that answers must not be taken for the primary before the others were asked.
    @Test func whenThePrimaryLeavesTheOthersAreAskedFirst() {
        let scene = ClusterScene.healthy(2)
        scene.list(3, 4)
        let ids = scene.state.entries.map(\.id)
        scene.ask(ids[0], primary: 1000)
        #expect(scene.cluster.primary == nil)
        scene.ask(ids[1], primary: 2000, timeline: 2)
        #expect(scene.cluster.primary?.host == "10.0.0.4")
        #expect(scene.cluster.nodes.first?.role == .fenced)
    }

    @Test func limitsOfLagChangeWithoutAGap() {
        let scene = ClusterScene.healthy()
        scene.apply(scene.state.settings)
        #expect(scene.takesReads(2))
        var settings = scene.state.settings
        settings.maxReplicaLagBytes = 10
        scene.apply(settings)
        scene.pass(1000)
        scene.ask(1, primary: 2000)
        scene.ask(2, replica: 1500)
        #expect(!scene.takesReads(2))
        settings.maxReplicaLagBytes = 0
        scene.apply(settings)
        scene.pass(1000)
        scene.ask(2, replica: 1500)
        #expect(scene.takesReads(2))
    }

    // MARK: Others who watch, before and now

    @Test func anotherMonitorKnowsWhatThisOneHasSeen() {
        let known = KnownClusters()
        _ = self.afterFailover(known)
        let other = ClusterScene(1, known: known)
        other.ask(1, primary: 2000)
        #expect(other.node(1).role == .fenced && other.cluster.primary == nil)
    }

    @Test func aMonitorHearsOfATimelineThatAnotherSees() {
        let known = KnownClusters()
        let other = ClusterScene(1, known: known)
        other.ask(1, primary: 1000)
        #expect(other.cluster.primary === other.node(1))
        _ = self.afterFailover(known)
        other.pass(1000)
        other.ask(1, primary: 1100)
        #expect(other.node(1).role == .fenced)
    }

    @Test func ofTwoOnOneTimelineTheLastPrimaryIsThePrimary() {
        let known = KnownClusters()
        let before = ClusterScene(2, known: known)
        before.ask(1, replica: 1000)
        before.ask(2, primary: 1000)
        let after = ClusterScene(2, known: known)
        after.ask(1, primary: 1000)
        after.ask(2, primary: 1000)
        #expect(after.cluster.nodes.map(\.role) == [.fenced, .primary])
    }

    @Test func aClusterThatWasMadeAnewStartsAnew() {
        let known = KnownClusters()
        _ = self.afterFailover(known)
        let other = ClusterScene(1, known: known)
        other.ask(1, primary: 1000, identifier: 666)
        #expect(other.cluster.primary === other.node(1))
        #expect(other.lines().first?.contains("are of another cluster than before") == true)
    }

    @Test func whatIsForgottenLetsTheOldPrimaryIn() {
        let known = KnownClusters()
        let scene = self.afterFailover(known)
        scene.state.forget(scene.now)
        #expect(scene.cluster.primary === scene.node(1))
        let other = ClusterScene(1, known: known)
        other.ask(1, primary: 2000)
        #expect(other.cluster.primary === other.node(1))
    }

    // MARK: Servers that live but let nobody ask

    @Test func aPrimaryThatRefusesTheChecksGoesOn() {
        let scene = ClusterScene.healthy()
        scene.state.lost(1, now: scene.now)
        for _ in 0..<20 {
            scene.pass(1000)
            guard case .ask = scene.next(1) else {
                Issue.record("it is not asked any more")
                return
            }
            scene.state.refused(1, reason: "password authentication failed (28P01)", now: scene.now)
            #expect(scene.cluster.primary === scene.node(1))
            scene.ask(2, replica: 1000)
        }
        // Nobody knows what it writes meanwhile.
        #expect(!scene.takesReads(2))
        #expect(scene.node(2).lag.load(ordering: .relaxed) >= 20_000_000)
        #expect(scene.node(1).refusal == "password authentication failed (28P01)")
        let lines = scene.lines()
        #expect(lines.filter { $0.contains("refuses the checks") }.count == 1, "\(lines)")
        scene.pass(1000)
        scene.ask(1, primary: 1000)
        scene.ask(2, replica: 1000)
        #expect(scene.takesReads(2) && scene.node(1).refusal == nil)
        #expect(scene.lines().contains("node 10.0.0.1:5432 lets itself be checked again"))
    }

    /// Its login is tried when it is checked, not as often as samples are wanted.
    @Test func whoRefusesIsNotStormed() {
        let scene = ClusterScene.healthy()
        scene.state.refused(1, reason: "no", now: scene.now)
        scene.cluster.neededAt.store(scene.now + 10_000_000, ordering: .relaxed)
        #expect(scene.next(1) == .wait(until: scene.now + 1_000_000))
    }

    @Test func aReplicaThatRefusesTheChecksLeavesWhenItMayBeTooLate() {
        let scene = ClusterScene.healthy { $0.maxReplicaLag = 5_000_000 }
        scene.state.lost(2, now: scene.now)
        for second in 1...8 {
            scene.pass(1000)
            scene.state.refused(2, reason: "too many clients (53300)", now: scene.now)
            #expect(scene.isUp(2) && scene.node(2).role == .replica)
            #expect(scene.takesReads(2) == (second <= 5), "after \(second) s")
        }
        #expect(scene.takesReads(3))
    }

    @Test func whoNeverAnsweredHasNoRoleToGoOnWith() {
        let scene = ClusterScene(2)
        scene.state.refused(1, reason: "no", now: scene.now)
        scene.ask(2, replica: 1000)
        #expect(!scene.isUp(1) && scene.node(1).role == .unknown && scene.cluster.primary == nil)
        #expect(scene.node(1).refusal == "no")
    }

    /// Alive it may be, but another server has been promoted.
    @Test func whoRefusesIsFencedAsAnybodyElse() {
        let scene = ClusterScene.healthy()
        scene.state.refused(1, reason: "no", now: scene.now)
        scene.pass(1000)
        scene.ask(2, primary: 2000, timeline: 2)
        #expect(scene.cluster.nodes.map(\.role) == [.fenced, .primary, .replica])
    }

    @Test func whoRefusesAfterItWasDownLivesAgain() {
        let scene = ClusterScene.healthy()
        scene.state.failed(1, reason: "Connection refused", now: scene.now)
        #expect(scene.cluster.primary == nil)
        scene.pass(1000)
        scene.state.refused(1, reason: "no", now: scene.now)
        #expect(scene.cluster.primary === scene.node(1))
    }

    @Test(
        arguments: [
            ("28P01", true), ("28000", true), ("42501", true), ("3D000", true), ("53300", true), ("55000", true),
            ("57P04", true), ("57P05", true), ("", true), ("57P01", false), ("57P02", false), ("57P03", false),
            ("57014", false), ("58030", false), ("XX000", false), ("08P01", false),
        ])
    func refusalsThatProveLife(state: String, isAlive: Bool) {
        #expect(MonitorConnection.Failure.refused(state: state, message: "").provesLife == isAlive)
    }
}
