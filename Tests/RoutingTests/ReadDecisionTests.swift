import Routing
import Settings
import Synchronization
import Testing

@Suite struct ReadDecisionTests {
    /// What is decided, in a word: a node's name or the reason for the primary.
    private static func decide(
        _ nodes: [Node], _ causality: Causality = Causality(), _ settings: RoutingSettings = settings(),
        mode: ReadAfterWrite? = nil, insists: Bool = false, avoided: [Node] = [], now: Int64 = 0
    ) -> String {
        var balancer = balancer(nodes, settings.loadBalance)
        let (decision, _) = balancer.decide(
            causality, mode: mode ?? settings.readAfterWrite, settings: settings, insists: insists, avoided: avoided,
            now: now)
        switch decision {
        case .node(let load): return load.node.host
        case .primary(let reason): return "\(reason)"
        }
    }

    private static func wrote(_ generation: UInt64, now: Int64 = 0) -> Causality {
        let causality = Causality()
        causality.wrote(generation: generation, now: now)
        return causality
    }

    @Test func aReplicaThatMayTakesIt() {
        #expect(Self.decide([node("p", .primary), node("a", caughtUp: 1)]) == "a")
    }

    @Test(arguments: [Node.Role.unknown, .fenced, .foreign, .primary])
    func onlyReplicasDo(_ role: Node.Role) {
        #expect(Self.decide([node("p", .primary), node("x", role, takesReads: true)]) == "noReplica")
    }

    @Test func whyNot() {
        let primary = node("p", .primary)
        #expect(Self.decide([primary]) == "noReplica")
        #expect(Self.decide([primary, node("a", isUp: false)]) == "noReplica")
        #expect(Self.decide([primary, node("a", takesReads: false)]) == "lag")
        #expect(Self.decide([primary, node("a", takesReads: false), node("b", isUp: false)]) == "lag")
        #expect(Self.decide([primary, node("a", caughtUp: 5)], Self.wrote(5)) == "ownWrite")
        // That a replica is late is not told to whom another one would do, had it not written.
        #expect(
            Self.decide([primary, node("a", caughtUp: 5), node("b", takesReads: false)], Self.wrote(5)) == "ownWrite")
    }

    @Test func anEarlierReadKeepsFromOthers() {
        let (a, b) = (node("a", caughtUp: 5), node("b", caughtUp: 5))
        let causality = Causality()
        causality.read(from: a, generation: 5)
        #expect(Self.decide([b, a], causality) == "a")
        a.takesReads.store(false, ordering: .relaxed)
        #expect(Self.decide([b, a], causality) == "earlierRead")
        causality.wrote(generation: 5, now: 0)
        #expect(Self.decide([b, a], causality) == "ownWrite")
    }

    @Test func withoutCareAnyReplicaWillDo() {
        #expect(Self.decide([node("a")], Self.wrote(5), settings { $0.readAfterWrite = .off }) == "a")
    }

    @Test func withinTheWindowReadsStay() {
        let nodes = [node("a", caughtUp: 99)]
        for mode in [ReadAfterWrite.lsn, .window] {
            let settings = settings {
                $0.readAfterWrite = mode
                $0.readAfterWriteWindow = 100
            }
            #expect(Self.decide(nodes, Self.wrote(5, now: 1000), settings, now: 1099) == "ownWrite")
            #expect(Self.decide(nodes, Self.wrote(5, now: 1000), settings, now: 1100) == "a")
            #expect(Self.decide(nodes, Self.wrote(5, now: 1000), settings, insists: true, now: 1099) == "a")
        }
        let off = settings {
            $0.readAfterWrite = .off
            $0.readAfterWriteWindow = 100
        }
        #expect(Self.decide(nodes, Self.wrote(5, now: 1000), off, now: 1001) == "a")
    }

    /// The mode may be the client's own, another one than its database has.
    @Test(arguments: [nil, .off, .lsn, .window] as [ReadAfterWrite?], [nil, 0, 300] as [Int64?])
    func theWindowIsThatOfTheModeThatHolds(mode: ReadAfterWrite?, window: Int64?) {
        let settings = settings {
            $0.readAfterWrite = mode
            $0.readAfterWriteWindow = window
        }
        let least = window ?? 0
        #expect(settings.window(.off) == 0)
        #expect(settings.window(.lsn) == least)
        #expect(settings.window(.window) == (least == 0 ? 1_000_000 : least))
        let replica = [node("a", caughtUp: 99)]
        for own in [ReadAfterWrite.off, .lsn, .window] {
            func decide(after time: Int64) -> String {
                Self.decide(replica, Self.wrote(5, now: 1), settings, mode: own, now: 1 + time)
            }
            let holds = settings.window(own)
            if holds > 0 { #expect(decide(after: holds - 1) == "ownWrite") }
            #expect(decide(after: holds) == "a")
        }
    }

    /// The client asked for a replica: one that has not caught up is better than the primary, a late one is not.
    @Test func whoInsistsGetsAReplica() {
        #expect(Self.decide([node("a", caughtUp: 5)], Self.wrote(5), insists: true) == "a")
        #expect(Self.decide([node("a", caughtUp: 5), node("b", caughtUp: 6)], Self.wrote(5), insists: true) == "b")
        #expect(Self.decide([node("a", takesReads: false)], insists: true) == "lag")
        #expect(Self.decide([node("p", .primary)], insists: true) == "noReplica")
    }

    @Test func aNodeThatHasJustFailedIsAvoided() {
        let (a, b) = (node("a"), node("b"))
        #expect(Self.decide([a, b], avoided: [a]) == "b")
        #expect(Self.decide([a], avoided: [a]) == "noReplica")
        #expect(Self.decide([a, b], avoided: [a, b]) == "noReplica")
        #expect(Self.decide([a], insists: true, avoided: [a]) == "noReplica")
    }

    @Test func thePrimaryTakesItsTurnsIfToldSo() {
        let settings = settings {
            $0.primaryReads = .always
            $0.loadBalance = .roundRobin
        }
        let nodes = [node("p", .primary), node("a", caughtUp: 1)]
        var balancer = balancer(nodes)
        var found: [String] = []
        for _ in 0..<4 {
            switch balancer.decide(
                Causality(), mode: .lsn, settings: settings, insists: false, avoided: [], now: 0
            ).0 {
            case .node(let load): found.append(load.node.host)
            case .primary(let reason): found.append("\(reason)")
            }
        }
        #expect(found.sorted() == ["a", "a", "balance", "balance"])
        #expect(Self.decide(nodes, Self.wrote(5), settings) == "balance", "it is one that fits")
        #expect(Self.decide(nodes, Causality(), settings, insists: true) == "a")
    }

    /// Who could go elsewhere with fresh samples is told so now and then, so that they are taken.
    @Test func confinementIsNoticed() {
        let (a, b) = (node("a", caughtUp: 5), node("b", caughtUp: 5))
        let causality = Causality()
        causality.read(from: a, generation: 5)
        var balancer = balancer([a, b], .leastConnections)
        balancer.loads[0].inFlight = 10
        var noticed = 0
        for _ in 0..<64 {
            noticed +=
                balancer.decide(
                    causality, mode: .lsn, settings: settings(), insists: false, avoided: [], now: 0
                ).isConfined ? 1 : 0
        }
        #expect(noticed == 4)
    }
}
