/// One object for each content: who asks for a content that somebody still holds gets the same object.
///
/// Objects are held weakly, so the table keeps nothing alive; entries of objects that are gone are swept when their
/// number may have reached half of the table.
struct InternTable<Object: AnyObject> {
    private struct Entry {
        weak var object: Object?
        let hash: UInt32
    }

    private var entries: [Entry] = []
    private var index = HashIndex()
    private var limit = 64

    /// Entries, of which some may belong to objects that are gone.
    var count: Int { self.entries.count }

    /// The living object of this hash for which the closure is true.
    func find(_ hash: UInt32, where matches: (Object) -> Bool) -> Object? {
        var found: Object?
        _ = self.index.find(hash) { position in
            guard let object = self.entries[position].object, matches(object) else { return false }
            found = object
            return true
        }
        return found
    }

    /// Adds an object; the caller has seen that its content is not there.
    mutating func insert(_ hash: UInt32, _ object: Object) {
        if self.entries.count >= self.limit { self.sweep() }
        self.index.insert(hash, self.entries.count)
        self.entries.append(Entry(object: object, hash: hash))
    }

    /// Forgets the objects that are gone.
    mutating func sweep() {
        self.entries.removeAll { $0.object == nil }
        self.index = HashIndex()
        for (position, entry) in self.entries.enumerated() { self.index.insert(entry.hash, position) }
        self.limit = max(64, self.entries.count * 2)
    }
}
