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

    @Test func writesAreTakenOver() {
        let (old, new) = (SharedCausality(sharesReads: false), SharedCausality(sharesReads: false, needed: 5))
        var writer = Causality()
        writer.shared = old
        writer.wrote(generation: 9, now: 1)
        new.take(over: old)
        var reader = Causality()
        reader.shared = new
        #expect(reader.obstacle(self.replica(9), mode: .lsn) == .write)
        #expect(reader.obstacle(self.replica(10), mode: .lsn) == nil)
        #expect(reader.isWithinWindow(10, now: 10))
    }

    @Test func lessIsNeededByNobody() {
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
        var other = Causality()
        other.shared = new
        #expect(other.obstacle(node, mode: .lsn) == .read, "whose node it was may be another object now")
        #expect(other.obstacle(self.replica(10), mode: .lsn) == nil)
    }
}
