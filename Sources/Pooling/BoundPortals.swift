import Wire

/// Which statements a client's portals come from, as long as it may have to be told of their columns: a driver may ask for
/// those of a portal only, and take them for the statement's.
public struct BoundPortals {
    /// For each Bind: a statement's id, 8 bytes, the portal's name and the statement's, both with their NUL.
    private var bytes: [UInt8] = []

    public init() {}

    public var isEmpty: Bool { self.bytes.isEmpty }

    /// Bytes that may be kept; of more, nothing is known.
    private static let limit = 4096

    /// A portal is to be bound. `id` is its statement's, 0 if nothing has to be known of it. Of a named one that there is
    /// already nothing is known any more: if it was not closed, it stays what it was.
    public mutating func bind(_ portal: Span<UInt8>, name: Span<UInt8>, id: UInt64) {
        let id = portal.isEmpty || self.last(portal) == nil ? id : 0
        guard self.bytes.count + portal.count + name.count + 10 <= Self.limit else { return self.removeAll() }
        for shift in stride(from: UInt64(0), to: 64, by: 8) {
            self.bytes.append(UInt8(truncatingIfNeeded: id >> shift))
        }
        self.bytes.append(portal, 0..<portal.count)
        self.bytes.append(0)
        self.bytes.append(name, 0..<name.count)
        self.bytes.append(0)
    }

    /// The name and the id of the statement that a portal was bound from last; nil if nothing has to be known of it.
    public func statement(of portal: Span<UInt8>) -> (name: [UInt8], id: UInt64)? {
        guard let (name, id) = self.last(portal), id != 0 else { return nil }
        return (Array(self.bytes[name]), id)
    }

    private func last(_ portal: Span<UInt8>) -> (name: Range<Int>, id: UInt64)? {
        var found: (name: Range<Int>, id: UInt64)?
        var cursor = 0
        while cursor + 10 <= self.bytes.count {
            var id: UInt64 = 0
            for index in 0..<8 { id |= UInt64(self.bytes[cursor + index]) << UInt64(index * 8) }
            guard let portalEnd = self.bytes[(cursor + 8)...].firstIndex(of: 0),
                let nameEnd = self.bytes[(portalEnd + 1)...].firstIndex(of: 0)
            else { break }
            if self.bytes.span.extracting((cursor + 8)..<portalEnd).equals(portal) {
                found = ((portalEnd + 1)..<nameEnd, id)
            }
            cursor = nameEnd + 1
        }
        return found
    }

    /// The transaction is over: no portal is left.
    public mutating func removeAll() { self.bytes.removeAll(keepingCapacity: true) }
}
