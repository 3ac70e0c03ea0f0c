import Glibc  // memmove

/// A reactor's free blocks of memory, in two sizes, so that a buffer that lives for one callback costs no `malloc`.
///
/// Owned by one `EventLoop` and used on its thread only.
struct BufferPool: ~Copyable {
    /// Holds a usual request or reply.
    static let smallSize = 1024
    /// Holds a burst; larger buffers come from `malloc`.
    static let largeSize = 16 * 1024
    /// Free blocks kept for each size; what is given back above it is freed.
    static let kept = 128

    private var small = FreeBlocks()
    private var large = FreeBlocks()

    /// Takes a block of at least `minimum` bytes.
    mutating func take(_ minimum: Int) -> UnsafeMutableRawBufferPointer {
        if minimum <= Self.smallSize {
            let block = self.small.take() ?? .allocate(byteCount: Self.smallSize, alignment: 16)
            return UnsafeMutableRawBufferPointer(start: block, count: Self.smallSize)
        }
        if minimum <= Self.largeSize {
            let block = self.large.take() ?? .allocate(byteCount: Self.largeSize, alignment: 16)
            return UnsafeMutableRawBufferPointer(start: block, count: Self.largeSize)
        }
        return UnsafeMutableRawBufferPointer.allocate(byteCount: minimum, alignment: 16)
    }

    /// Gives back a block that `take` returned.
    mutating func give(_ block: UnsafeMutableRawBufferPointer) {
        guard let base = block.baseAddress else { return }
        if block.count == Self.smallSize && self.small.count < Self.kept {
            self.small.give(base)
        } else if block.count == Self.largeSize && self.large.count < Self.kept {
            self.large.give(base)
        } else {
            block.deallocate()
        }
    }

    /// Free blocks of one size: each begins with the address of the next one.
    private struct FreeBlocks: ~Copyable {
        private var first: UnsafeMutableRawPointer?
        private(set) var count = 0

        deinit {
            var next = self.first
            while let block = next {
                next = block.load(as: UnsafeMutableRawPointer?.self)
                block.deallocate()
            }
        }

        mutating func take() -> UnsafeMutableRawPointer? {
            guard let block = self.first else { return nil }
            self.first = block.load(as: UnsafeMutableRawPointer?.self)
            self.count &-= 1
            return block
        }

        mutating func give(_ block: UnsafeMutableRawPointer) {
            block.storeBytes(of: self.first, as: UnsafeMutableRawPointer?.self)
            self.first = block
            self.count &+= 1
        }
    }
}

/// Bytes in the order of their arrival, in one block of memory that exists only while there are bytes.
///
/// An idle connection owns no buffer, only the 24 bytes that say so. Positions are 32-bit for their sake: a queue holds
/// less than 4 GB, twice the longest message of the protocol.
struct ByteQueue: ~Copyable {
    private var block = UnsafeMutableRawBufferPointer(start: nil, count: 0)
    private var start: UInt32 = 0
    private var end: UInt32 = 0

    var count: Int { Int(self.end - self.start) }
    var isEmpty: Bool { self.start == self.end }

    /// The bytes; valid until the next change.
    var bytes: UnsafeRawBufferPointer {
        guard let base = self.block.baseAddress else { return UnsafeRawBufferPointer(start: nil, count: 0) }
        return UnsafeRawBufferPointer(start: base + Int(self.start), count: self.count)
    }

    /// Appends bytes. The caller keeps the total below 4 GB (see `Connection.highWater` and `holdLimit`).
    mutating func append(_ bytes: UnsafeRawBufferPointer, _ pool: inout BufferPool) {
        guard let source = bytes.baseAddress, bytes.count > 0 else { return }
        let target = self.room(atLeast: bytes.count, &pool)
        target.baseAddress?.copyMemory(from: source, byteCount: bytes.count)
        self.commit(bytes.count)
    }

    /// Free space behind the last byte, at least `minimum` bytes; what is written there is added with `commit`.
    mutating func room(atLeast minimum: Int, _ pool: inout BufferPool) -> UnsafeMutableRawBufferPointer {
        if self.block.baseAddress == nil {
            self.block = pool.take(minimum)
            return self.block
        }
        if Int(self.end) + minimum > self.block.count {
            let count = self.count
            // Twice what is there, so that a growing buffer is copied a logarithmic number of times.
            let larger = count + minimum <= self.block.count ? self.block : pool.take(2 * count + minimum)
            if count > 0, let from = self.block.baseAddress, let to = larger.baseAddress {
                memmove(to, from + Int(self.start), count)
            }
            if larger.baseAddress != self.block.baseAddress { pool.give(self.block) }
            self.block = larger
            self.start = 0
            self.end = UInt32(count)
        }
        guard let base = self.block.baseAddress else { return self.block }
        return UnsafeMutableRawBufferPointer(start: base + Int(self.end), count: self.block.count - Int(self.end))
    }

    /// Adds `count` bytes that were written into `room`.
    mutating func commit(_ count: Int) { self.end += UInt32(count) }

    /// Takes `count` bytes away from the front; gives the block back when none is left.
    mutating func drop(_ count: Int, _ pool: inout BufferPool) {
        self.start += UInt32(count)
        if self.start >= self.end { self.clear(&pool) }
    }

    /// Gives everything back.
    mutating func clear(_ pool: inout BufferPool) {
        pool.give(self.block)
        self.block = UnsafeMutableRawBufferPointer(start: nil, count: 0)
        self.start = 0
        self.end = 0
    }

    /// Puts `other`'s bytes behind these, or takes its block over when there are none here.
    mutating func take(from other: inout ByteQueue, _ pool: inout BufferPool) {
        if self.isEmpty {
            swap(&self, &other)
        } else {
            self.append(other.bytes, &pool)
        }
        other.clear(&pool)
    }
}
