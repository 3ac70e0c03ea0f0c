import Testing

@testable import Reactor

@Suite struct ByteQueueTests {
    private func append(_ bytes: [UInt8], to queue: inout ByteQueue, _ pool: inout BufferPool) {
        bytes.withUnsafeBytes { queue.append($0, &pool) }
    }

    private func content(_ queue: borrowing ByteQueue) -> [UInt8] { Array(queue.bytes) }

    @Test func appendsAndDropsInOrder() {
        var pool = BufferPool()
        var queue = ByteQueue()
        for value in 0..<5000 {
            self.append([UInt8(truncatingIfNeeded: value)], to: &queue, &pool)
            if value % 3 == 0 { queue.drop(1, &pool) }
        }
        let dropped = 5000 / 3 + 1
        let content = self.content(queue)
        #expect(content == (dropped..<5000).map { UInt8(truncatingIfNeeded: $0) })
        queue.clear(&pool)
        let isEmpty = queue.isEmpty
        #expect(isEmpty)
    }

    @Test(arguments: [1, 1023, 1024, 1025, 16 * 1024, 16 * 1024 + 1, 1_000_000])
    func holdsAnyNumber(count: Int) {
        var pool = BufferPool()
        var queue = ByteQueue()
        self.append(pattern(count), to: &queue, &pool)
        self.append(pattern(count), to: &queue, &pool)
        queue.drop(count, &pool)
        let content = self.content(queue)
        #expect(content == pattern(count))
        queue.drop(count, &pool)
        let count = queue.count
        #expect(count == 0)
    }

    @Test func nothingAppendedTakesNothing() {
        var pool = BufferPool()
        var queue = ByteQueue()
        self.append([], to: &queue, &pool)
        let content = self.content(queue)
        #expect(content.isEmpty)
        queue.drop(0, &pool)
        queue.clear(&pool)
    }

    @Test func roomIsMadeByMovingBeforeByGrowing() {
        var pool = BufferPool()
        var queue = ByteQueue()
        self.append(pattern(1000), to: &queue, &pool)
        queue.drop(990, &pool)
        let room = queue.room(atLeast: 500, &pool).count
        #expect(room == 1024 - 10)
        let content = self.content(queue)
        #expect(content == Array(pattern(1000)[990...]))
        queue.clear(&pool)
    }

    @Test func roomIsWrittenAndCommitted() {
        var pool = BufferPool()
        var queue = ByteQueue()
        self.append([1, 2], to: &queue, &pool)
        let room = queue.room(atLeast: 5000, &pool)
        room[0] = 3
        queue.commit(1)
        let content = self.content(queue)
        #expect(room.count >= 5000)
        #expect(content == [1, 2, 3])
        queue.clear(&pool)
    }

    @Test func takesOverWhatAnotherHolds() {
        var pool = BufferPool()
        var first = ByteQueue()
        var second = ByteQueue()
        self.append([3, 4], to: &second, &pool)
        first.take(from: &second, &pool)
        self.append([5], to: &second, &pool)
        first.take(from: &second, &pool)
        let (content, rest) = (self.content(first), second.count)
        #expect(content == [3, 4, 5])
        #expect(rest == 0)
        first.clear(&pool)
    }

    /// A gathered message may be as long as `max_packet_size` allows: 2^31 - 1, and one read comes on top.
    @Test func positionsGoBeyondTwoGigabytes() {
        var pool = BufferPool()
        var queue = ByteQueue()
        // Memory that is reserved and never touched.
        let length = Int(Int32.max) + 1
        _ = queue.room(atLeast: length + 1, &pool)
        queue.commit(length)
        let count = queue.count
        #expect(count == length)
        queue.drop(length - 1, &pool)
        let rest = queue.count
        #expect(rest == 1)
        queue.clear(&pool)
    }
}

@Suite struct BufferPoolTests {
    @Test(arguments: [(0, 1024), (1, 1024), (1024, 1024), (1025, 16384), (16384, 16384), (16385, 16385)])
    func sizes(minimum: Int, size: Int) {
        var pool = BufferPool()
        let block = pool.take(minimum)
        #expect(block.count == size)
        pool.give(block)
    }

    @Test func blocksAreReused() {
        var pool = BufferPool()
        for size in [1024, 16384] {
            let block = pool.take(size)
            let base = block.baseAddress
            pool.give(block)
            let again = pool.take(size)
            #expect(again.baseAddress == base)
            pool.give(again)
        }
    }

    @Test func moreThanIsKeptIsFreed() {
        var pool = BufferPool()
        var blocks: [UnsafeMutableRawBufferPointer] = []
        for _ in 0..<BufferPool.kept * 2 { blocks.append(pool.take(1)) }
        for block in blocks { pool.give(block) }
        pool.give(UnsafeMutableRawBufferPointer(start: nil, count: 0))
    }
}
