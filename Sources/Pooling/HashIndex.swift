/// The hash of some bytes; it differs from run to run, so that no client can choose names that collide.
func contentHash(_ bytes: Span<UInt8>) -> UInt32 {
    var hasher = Hasher()
    unsafe bytes.withUnsafeBytes { unsafe hasher.combine(bytes: $0) }
    return UInt32(truncatingIfNeeded: hasher.finalize())
}

/// Finds entries of an array by a hash, without keys of its own: whoever looks compares with the array's entry.
///
/// So bytes that still lie in a network buffer can be looked up without a copy. Open addressing with linear probing; a
/// removal moves the entries behind it up, so that no graves are left. Empty, it owns no memory.
struct HashIndex {
    /// Number of entries.
    private(set) var count = 0
    /// 0 is empty; else the hash in the upper 32 bits, the entry's position + 1 in the lower ones. A power of two.
    private var slots: [UInt64] = []

    private var mask: Int { self.slots.count - 1 }

    /// The position of the entry with this hash for which the closure is true.
    @inline(__always)
    func find(_ hash: UInt32, where matches: (Int) -> Bool) -> Int? {
        self.slot(hash, where: matches).map { self.position($0) }
    }

    /// Adds an entry; the caller has seen that it is not there.
    ///
    /// - Parameter position: below 2³² − 1.
    mutating func insert(_ hash: UInt32, _ position: Int) {
        if self.count * 4 >= self.slots.count * 3 { self.grow() }
        self.place(UInt64(hash) << 32 | UInt64(UInt32(truncatingIfNeeded: position + 1)))
        self.count += 1
    }

    /// Removes the entry of that hash and position, if there is one.
    mutating func remove(_ hash: UInt32, _ position: Int) {
        guard var hole = self.slot(hash, where: { $0 == position }) else { return }
        self.count -= 1
        var next = (hole + 1) & self.mask
        while self.slots[next] != 0 {
            // An entry may move up into the hole unless its home lies behind the hole.
            let home = Int(self.slots[next] >> 32) & self.mask
            if (next - home) & self.mask >= (next - hole) & self.mask {
                self.slots[hole] = self.slots[next]
                hole = next
            }
            next = (next + 1) & self.mask
        }
        self.slots[hole] = 0
    }

    /// Tells that the entry of that hash has moved to another position of its array.
    mutating func move(_ hash: UInt32, from: Int, to: Int) {
        guard let slot = self.slot(hash, where: { $0 == from }) else { return }
        self.slots[slot] = UInt64(hash) << 32 | UInt64(UInt32(truncatingIfNeeded: to + 1))
    }

    @inline(__always)
    private func slot(_ hash: UInt32, where matches: (Int) -> Bool) -> Int? {
        guard !self.slots.isEmpty else { return nil }
        var slot = Int(hash) & self.mask
        while self.slots[slot] != 0 {
            if self.slots[slot] >> 32 == UInt64(hash) && matches(self.position(slot)) { return slot }
            slot = (slot + 1) & self.mask
        }
        return nil
    }

    private func position(_ slot: Int) -> Int {
        Int(self.slots[slot] & 0xFFFF_FFFF) - 1
    }

    private mutating func place(_ entry: UInt64) {
        var slot = Int(entry >> 32) & self.mask
        while self.slots[slot] != 0 { slot = (slot + 1) & self.mask }
        self.slots[slot] = entry
    }

    private mutating func grow() {
        let old = self.slots
        self.slots = Array(repeating: 0, count: max(8, old.count * 2))
        for entry in old where entry != 0 { self.place(entry) }
    }
}
