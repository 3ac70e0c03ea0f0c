import Routing
import Settings
import Synchronization
import Testing

@Suite struct SharedCausalityTests {
    /// A replica that has caught up to this sample.
    private func replica(_ caughtUp: UInt64) -> Node {
        let node = Node(host: "pg\(caughtUp)", port: 5432, address: nil, index: 0)
        node.setRole(.replica)
        node.caughtUp.store(caughtUp, ordering: .relaxed)
        return node
    }

    /// Why it may not serve a client that has nothing but this in common with others.
    private func obstacle(_ node: Node, _ shared: SharedCausality) -> Causality.Obstacle? {
        var reader = Causality()
        reader.shared = shared
        return reader.obstacle(node, mode: .lsn)
    }

    @Test func writesAreTakenOver() {
        let (old, new) = (SharedCausality(sharesReads: false), SharedCausality(sharesReads: false, needed: 5))
        var writer = Causality()
        writer.shared = old
        writer.wrote(generation: 9, now: 1)
        new.take(over: old)
        #expect(self.obstacle(self.replica(9), new) == .write)
        #expect(self.obstacle(self.replica(10), new) == nil)
        #expect(new.writtenAt.load(ordering: .relaxed) == 1)
    }

    @Test func nothingIsTakenBack() {
        let (old, new) = (SharedCausality(sharesReads: true), SharedCausality(sharesReads: true, needed: 20))
        new.take(over: old)
        #expect(new.needed.load(ordering: .relaxed) == 20)
        #expect(new.writtenAt.load(ordering: .relaxed) == .min)
    }

    @Test func readsAreTakenOver() {
        let (old, new) = (SharedCausality(sharesReads: true), SharedCausality(sharesReads: true))
        let node = self.replica(3)
        var reader = Causality()
        reader.shared = old
        reader.read(from: node, generation: 9)
        new.take(over: old)
        #expect(self.obstacle(node, new) == .read, "whose node it was may be another object now")
        #expect(self.obstacle(self.replica(10), new) == nil)
    }
}
