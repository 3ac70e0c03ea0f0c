import Testing

@testable import Reactor

@Suite struct ByteQueueTests {
    @Test func appendsAndDropsInOrder() {
        var pool = BufferPool()
        var queue = ByteQueue()
        for value in 0..<5000 {
            withUnsafeBytes(of: UInt8(truncatingIfNeeded: value)) { queue.append($0, &pool) }
            if value % 3 == 0 { queue.drop(1, &pool) }
        }
        let dropped = 5000 / 3 + 1
        #expect(queue.count == 5000 - dropped)
        #expect(queue.bytes.first == UInt8(truncatingIfNeeded: dropped))
        #expect(queue.bytes.last == UInt8(truncatingIfNeeded: 4999))
        queue.clear(&pool)
        #expect(queue.isEmpty)
    }
}
