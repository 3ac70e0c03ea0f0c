import Routing
import Settings
import Synchronization
import Testing

@Suite struct KnownClustersTests {
    private func cluster(
        _ places: String..., id: UInt64? = 42, timeline: UInt32 = 1, primary: String? = nil,
        fenced: [String: UInt32] = [:],
        starts: [String: String] = [:], databases: Set<String> = []
    ) -> KnownClusters.Cluster {
        var cluster = KnownClusters.Cluster()
        cluster.places = Set(places)
        cluster.memory.systemIdentifier = id
        cluster.memory.highestTimeline = timeline
        cluster.memory.primary = primary
        for (server, timeline) in fenced { cluster.memory.fence(server, on: timeline) }
        cluster.starts = starts
        cluster.databases = databases
        return cluster
    }

    @Test func aClusterIsKnownByOneOfItsServers() {
        let known = KnownClusters()
        known.tell(self.cluster("pg1:5432", "pg2:5432", timeline: 3, primary: "pg2:5432", fenced: ["pg1:5432": 2]))
        let memory = known.recall(self.cluster("pg1:5432", "pg9:5432", id: nil, timeline: 0))
        #expect(memory?.highestTimeline == 3 && memory?.primary == "pg2:5432" && memory?.fenced == ["pg1:5432": 2])
        #expect(known.recall(self.cluster("pg9:5432", id: nil)) == nil)
        #expect(known.recall(self.cluster("pg9:5432", id: 42)) == nil)
        #expect(known.recall(self.cluster("pg1:5432", id: 666)) == nil)
    }

    /// Another name for the same server, which says that it was started in the same microsecond.
    @Test func aServerWithAnotherNameIsTheSame() {
        let known = KnownClusters()
        known.tell(self.cluster("pg1:5432", timeline: 3, starts: ["pg1:5432": "noon"]))
        #expect(known.recall(self.cluster("new:5432", starts: ["new:5432": "noon"]))?.highestTimeline == 3)
        #expect(known.recall(self.cluster("new:5432", starts: ["new:5432": "one"])) == nil)
        #expect(known.recall(self.cluster("new:5432", id: nil, starts: ["new:5432": "noon"])) == nil)
    }

    /// A copy of the data elsewhere has the same identifier, and its timelines say nothing about the original.
    @Test func aCopyIsAnotherCluster() {
        let known = KnownClusters()
        known.tell(self.cluster("pg1:5432", timeline: 3, databases: ["shop"]))
        known.tell(self.cluster("copy:5432", timeline: 9, databases: ["test"]))
        #expect(known.highestTimeline(of: self.cluster("pg1:5432")) == 3)
        // The entry "shop" leads to the copy now: what is known of it is the copy's.
        known.tell(self.cluster("copy:5432", timeline: 9, databases: ["shop"]))
        #expect(known.highestTimeline(of: self.cluster("pg1:5432")) == 3)
        #expect(known.all.count == 2)
    }

    @Test func serversThatAllHaveOtherNamesAreKnownByTheDatabase() {
        let known = KnownClusters()
        known.tell(self.cluster("pg1:5432", timeline: 3, databases: ["shop"]))
        #expect(known.recall(self.cluster("a:1", databases: ["shop"]))?.highestTimeline == 3)
        #expect(known.recall(self.cluster("a:1", id: 666, databases: ["shop"])) == nil)
        #expect(known.recall(self.cluster("a:1", id: nil, databases: ["shop"])) == nil)
    }

    @Test func whatOneSeesAnotherHears() {
        let known = KnownClusters()
        known.tell(self.cluster("pg1:5432", timeline: 1))
        let before = known.version.load(ordering: .relaxed)
        known.tell(self.cluster("pg1:5432", "pg2:5432", timeline: 2))
        #expect(known.version.load(ordering: .relaxed) > before)
        #expect(known.highestTimeline(of: self.cluster("pg1:5432")) == 2)
        // What is told again is no news, and an older timeline takes nothing back.
        let after = known.version.load(ordering: .relaxed)
        known.tell(self.cluster("pg1:5432", "pg2:5432", timeline: 2))
        known.tell(self.cluster("pg1:5432", timeline: 1))
        #expect(known.version.load(ordering: .relaxed) == after)
        #expect(known.all.count == 1 && known.all.first?.memory.highestTimeline == 2)
    }

    @Test func aServerThatIsFencedNoMoreIsFree() {
        let known = KnownClusters()
        let starts = ["pg1:5432": "noon"]
        known.tell(self.cluster("pg1:5432", fenced: ["pg1:5432": 1, "pg2:5432": 1], starts: starts))
        known.tell(self.cluster("pg1:5432", starts: starts))
        // Of the other nothing was said.
        #expect(known.recall(self.cluster("pg1:5432"))?.fenced == ["pg2:5432": 1])
    }

    @Test func whatIsForgottenIsGone() {
        let known = KnownClusters()
        known.tell(self.cluster("pg1:5432", timeline: 3))
        known.tell(self.cluster("other:5432", timeline: 4))
        known.forget(self.cluster("pg1:5432"))
        #expect(known.all.map(\.memory.highestTimeline) == [4])
    }

    @Test func changesAreToldAndMemoryIsBounded() {
        let known = KnownClusters()
        let changes = Atomic<Int>(0)
        known.onChange { changes.add(1, ordering: .relaxed) }
        for number in 0..<1500 as Range<UInt64> { known.tell(self.cluster("pg\(number):5432", id: number)) }
        #expect(changes.load(ordering: .relaxed) == 1500)
        #expect(known.all.count == 1000)
        var memory = ClusterMemory()
        for number in 0..<1000 as Range<UInt32> { memory.fence("pg\(number)", on: number) }
        #expect(memory.fenced.count == 64 && memory.fenced["pg999"] == 999)
    }

    // MARK: Text

    @Test func whatIsWrittenIsRead() throws {
        let clusters = [
            self.cluster(
                "pg1:5432", "/run/my sockets/.s.PGSQL.5432", timeline: 7, primary: "pg1(10.0.0.1):5432",
                fenced: ["pg 2%\n": 6], starts: ["pg1:5432": "2026-11-30 12:00:00+00", "": ""],
                databases: ["schön", "a b"]),
            self.cluster("x:1", id: nil), KnownClusters.Cluster(),
        ]
        let text = KnownClusters.text(clusters)
        #expect(try KnownClusters.parse(Array(text.utf8)).get() == clusters)
        #expect(try KnownClusters.parse(Array(KnownClusters.text([]).utf8)).get() == [])
    }

    /// Cut off anywhere, or with any byte changed.
    @Test func whatIsDamagedIsNotRead() {
        let text = Array(KnownClusters.text([self.cluster("pg1:5432", timeline: 7, primary: "pg1:5432")]).utf8)
        for index in text.indices {
            if case .success = KnownClusters.parse(Array(text[..<index])) { Issue.record("cut off at \(index)") }
            var changed = text
            changed[index] ^= 1
            if case .success = KnownClusters.parse(changed) { Issue.record("changed at \(index)") }
        }
        for foreign in ["", "\n", "martlet-state 2\nend 0\n", "martlet-state 1\n", "end\n", "\0\0\0"] {
            if case .success = KnownClusters.parse(Array(foreign.utf8)) { Issue.record("\(foreign)") }
        }
    }
}
