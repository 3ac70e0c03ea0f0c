import Glibc

/// The classes of shapes seen before. Bounded by their number and by the bytes of the shapes together; of the full cache
/// those go that were not used since the clock's hand last passed.
struct ShapeCache {
    private struct Entry {
        var shape: [UInt8]
        var hash: UInt64
        var statementClass: StatementClass
        /// Used since the hand last passed.
        var isUsed: Bool
    }

    /// Shapes that are kept at most.
    let countLimit: Int
    /// Bytes of all shapes together.
    let byteLimit: Int
    private(set) var byteCount = 0
    private var entries: [Entry] = []
    /// Open addressing with linear probing: a position in `entries` + 1; 0 is empty. A power of two.
    private var slots: [UInt32] = []
    private var hand = 0
    private let seed = UInt64.random(in: .min ... .max)
    private let secret = UInt64.random(in: .min ... .max)

    init(countLimit: Int, byteLimit: Int) {
        self.countLimit = min(max(countLimit, 1), 1 << 24)
        self.byteLimit = byteLimit
    }

    var count: Int { self.entries.count }

    /// The class of a shape; nil if it is not known.
    ///
    /// - Parameter hash: `hash` of the shape.
    @inline(__always)
    mutating func find(_ shape: Span<UInt8>, hash: UInt64) -> StatementClass? {
        guard let position = self.position(shape, hash) else { return nil }
        self.entries[position].isUsed = true
        return self.entries[position].statementClass
    }

    /// Remembers a shape's class in place of what was known about it. A shape longer than the limit of bytes is not kept.
    mutating func insert(_ shape: Span<UInt8>, hash: UInt64, _ statementClass: StatementClass) {
        if let position = self.position(shape, hash) {
            self.entries[position].statementClass = statementClass
            self.entries[position].isUsed = true
            return
        }
        guard shape.count <= self.byteLimit else { return }
        while self.entries.count >= self.countLimit || self.byteCount + shape.count > self.byteLimit {
            self.evict()
        }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(shape.count)
        for index in shape.indices { bytes.append(shape[index]) }
        if (self.entries.count + 1) * 4 > self.slots.count * 3 { self.grow() }
        self.byteCount += bytes.count
        // Unused at first: shapes that come once do not push out those that come again.
        self.entries.append(Entry(shape: bytes, hash: hash, statementClass: statementClass, isUsed: false))
        self.place(hash, self.entries.count)
    }

    mutating func removeAll() {
        self = ShapeCache(countLimit: self.countLimit, byteLimit: self.byteLimit)
    }

    /// Differs from cache to cache, so that no client can choose shapes that collide.
    ///
    /// Products of 128 bits over 16 bytes at a time, folded: a quarter of what `Hasher` takes, which does more than a table
    /// needs that compares what it has found.
    @inline(__always)
    func hash(_ shape: Span<UInt8>) -> UInt64 {
        let bytes = unsafe shape.bytes  // Read as words; bounds are checked.
        var hash = self.seed ^ UInt64(truncatingIfNeeded: bytes.byteCount)
        var index = 0
        while index &+ 16 <= bytes.byteCount {
            hash = Self.fold(Self.word(bytes, index) ^ self.secret, Self.word(bytes, index &+ 8) ^ hash)
            index &+= 16
        }
        if index &+ 8 <= bytes.byteCount {
            hash = Self.fold(Self.word(bytes, index) ^ self.secret, hash)
            index &+= 8
        }
        var rest: UInt64 = 1
        while index < bytes.byteCount {
            rest = rest << 8 | UInt64(shape[index])
            index &+= 1
        }
        return Self.fold(rest ^ self.secret, hash)
    }

    @inline(__always)
    private static func word(_ bytes: RawSpan, _ index: Int) -> UInt64 {
        // Bounds are checked; any bits are a number.
        unsafe bytes.unsafeLoadUnaligned(fromByteOffset: index, as: UInt64.self)
    }

    @inline(__always)
    private static func fold(_ one: UInt64, _ other: UInt64) -> UInt64 {
        let product = one.multipliedFullWidth(by: other)
        return product.high ^ product.low
    }

    // MARK: Finding

    private var mask: Int { self.slots.count - 1 }

    @inline(__always)
    private func home(_ hash: UInt64) -> Int { Int(truncatingIfNeeded: hash) & self.mask }

    @inline(__always)
    private func position(_ shape: Span<UInt8>, _ hash: UInt64) -> Int? {
        guard !self.slots.isEmpty else { return nil }
        var slot = self.home(hash)
        while self.slots[slot] != 0 {
            let position = Int(self.slots[slot]) - 1
            if self.entries[position].hash == hash, Self.equal(shape, self.entries[position].shape) { return position }
            slot = (slot + 1) & self.mask
        }
        return nil
    }

    @inline(__always)
    private static func equal(_ one: Span<UInt8>, _ other: [UInt8]) -> Bool {
        let count = one.count
        guard count == other.count else { return false }
        return unsafe one.withUnsafeBytes { one in
            unsafe other.withUnsafeBytes { other in
                guard let one = one.baseAddress, let other = other.baseAddress else { return true }
                return unsafe memcmp(one, other, count) == 0
            }
        }
    }

    // MARK: Changing

    /// Removes the first entry in front of the hand that was not used since it last passed.
    private mutating func evict() {
        guard !self.entries.isEmpty else { return }
        self.hand %= self.entries.count
        while self.entries[self.hand].isUsed {
            self.entries[self.hand].isUsed = false
            self.hand = (self.hand + 1) % self.entries.count
        }
        let last = self.entries.count - 1
        self.removeSlot(of: self.hand)
        if self.hand != last {
            // The last entry moves into the gap.
            let slot = self.slot(of: last)
            self.slots[slot] = UInt32(truncatingIfNeeded: self.hand + 1)
            self.entries.swapAt(self.hand, last)
        }
        // What moved here was added last: it has a whole round to be used.
        self.hand += 1
        self.byteCount -= self.entries[last].shape.count
        self.entries.removeLast()
    }

    private func slot(of position: Int) -> Int {
        var slot = self.home(self.entries[position].hash)
        while Int(self.slots[slot]) != position + 1 { slot = (slot + 1) & self.mask }
        return slot
    }

    private mutating func removeSlot(of position: Int) {
        var hole = self.slot(of: position)
        var next = (hole + 1) & self.mask
        while self.slots[next] != 0 {
            // An entry may move up into the hole unless its home lies behind the hole.
            let home = self.home(self.entries[Int(self.slots[next]) - 1].hash)
            if (next - home) & self.mask >= (next - hole) & self.mask {
                self.slots[hole] = self.slots[next]
                hole = next
            }
            next = (next + 1) & self.mask
        }
        self.slots[hole] = 0
    }

    private mutating func place(_ hash: UInt64, _ reference: Int) {
        var slot = self.home(hash)
        while self.slots[slot] != 0 { slot = (slot + 1) & self.mask }
        self.slots[slot] = UInt32(truncatingIfNeeded: reference)
    }

    private mutating func grow() {
        self.slots = Array(repeating: 0, count: max(16, self.slots.count * 2))
        for position in self.entries.indices { self.place(self.entries[position].hash, position + 1) }
    }
}
