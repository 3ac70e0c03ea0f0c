import Logging
import Routing
import Settings
import Synchronization

@testable import Topology

/// A cluster of `count` servers that say what a test has them say, at the times it names (milliseconds).
final class ClusterScene {
    var state: ClusterState
    let cluster = Cluster(samples: SampleNumbers())
    var now: Int64 = 10_000_000

    init(
        _ count: Int, known: KnownClusters = KnownClusters(), _ change: (inout ClusterSettings) -> Void = { _ in }
    ) {
        var settings = ClusterSettings(
            hosts: (1...count).map { HostAddress(host: "10.0.0.\($0)") }, dbname: "postgres")
        change(&settings)
        self.state = ClusterState(settings: settings, cluster: self.cluster, known: known)
        self.apply(settings)
    }

    func apply(_ settings: ClusterSettings) {
        let addresses = Dictionary(uniqueKeysWithValues: settings.hosts.map { ($0, String?.some($0.host)) })
        _ = self.state.apply(settings, addresses: addresses, now: self.now)
    }

    /// Other hosts, by number.
    func list(_ numbers: Int...) {
        var settings = self.state.settings
        settings.hosts = numbers.map { HostAddress(host: "10.0.0.\($0)") }
        self.apply(settings)
    }

    /// The node of the server; servers are numbered from 1, as their ids are.
    func node(_ id: Int) -> Node { self.cluster.nodes[id - 1] }
    func caughtUp(_ id: Int) -> UInt64 { self.node(id).caughtUp.load(ordering: .relaxed) }
    func takesReads(_ id: Int) -> Bool { self.node(id).takesReads.load(ordering: .relaxed) }

    func isUp(_ id: Int) -> Bool { self.node(id).isUp.load(ordering: .relaxed) }
    func upSince(_ id: Int) -> Int64 { self.node(id).upSince.load(ordering: .relaxed) }
    func lagBytes(_ id: Int) -> UInt64 { self.node(id).lagBytes.load(ordering: .relaxed) }
    var generation: UInt64 { self.cluster.generation }

    func pass(_ milliseconds: Int64) { self.now += milliseconds * 1000 }

    func next(_ id: Int) -> ClusterState.Step { self.state.next(id, now: self.now) }

    /// The server is asked, if its time has come, and answers at once. Returns whether it was.
    @discardableResult
    func ask(
        _ id: Int, primary position: UInt64? = nil, flushed: UInt64? = nil, replica replayed: UInt64? = nil,
        timeline: UInt32 = 1, identifier: UInt64 = 42
    ) -> Bool {
        guard case .ask(let work) = self.next(id) else { return false }
        self.answer(
            id, work, primary: position, flushed: flushed, replica: replayed, timeline: timeline, identifier: identifier
        )
        return true
    }

    func answer(
        _ id: Int, _ work: ClusterState.Work, primary position: UInt64? = nil, flushed: UInt64? = nil,
        replica replayed: UInt64? = nil, timeline: UInt32 = 1, identifier: UInt64 = 42
    ) {
        self.state.answered(
            id, work,
            ServerProbe.Answer(
                isInRecovery: position == nil, position: position ?? replayed, flushed: flushed ?? position,
                timeline: timeline),
            ServerProbe.Identity(
                systemIdentifier: identifier, startTime: "\(id)", blockSize: 8192, segmentSize: 16 << 20,
                seesReceiver: true, timeline: 0),
            now: self.now)
    }

    /// A primary at 1000 and replicas that have replayed all, with one sample taken.
    static func healthy(_ count: Int = 3, _ change: (inout ClusterSettings) -> Void = { _ in }) -> ClusterScene {
        let scene = ClusterScene(count, change)
        scene.ask(1, primary: 1000)
        for id in 2...count { scene.ask(id, replica: 1000) }
        scene.ask(1, primary: 1000)
        _ = scene.lines()
        return scene
    }

    /// What was logged since the last call.
    func lines() -> [String] {
        defer { self.state.effects = ClusterState.Effects() }
        return self.state.effects.lines.map(\.text)
    }
}
