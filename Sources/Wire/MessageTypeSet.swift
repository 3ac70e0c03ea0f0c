/// A set of message type bytes; a look-up costs a shift and a mask.
///
/// Every type of the protocol is ASCII, so bytes of 128 and above are never members: inserting one does nothing.
@frozen
public struct MessageTypeSet: Sendable, Equatable, ExpressibleByArrayLiteral {
    @usableFromInline var low: UInt64 = 0
    @usableFromInline var high: UInt64 = 0

    /// The empty set.
    @inlinable
    public init() {}

    /// The set of the given types.
    @inlinable
    public init(arrayLiteral elements: UInt8...) {
        for type in elements { self.insert(type) }
    }

    /// Adds a type.
    @inlinable
    public mutating func insert(_ type: UInt8) {
        let bit = (1 as UInt64) &<< UInt64(type & 63)
        switch type >> 6 {
        case 0: self.low |= bit
        case 1: self.high |= bit
        default: break
        }
    }

    /// Whether the type is a member.
    @inlinable
    @inline(__always)
    public func contains(_ type: UInt8) -> Bool {
        let word = type < 64 ? self.low : self.high
        return type < 128 && (word &>> UInt64(type & 63)) & 1 != 0
    }

    /// The members of both sets.
    @inlinable
    public func union(_ other: MessageTypeSet) -> MessageTypeSet {
        var result = self
        result.low |= other.low
        result.high |= other.high
        return result
    }

    /// The members of this set that are not in the other.
    @inlinable
    public func subtracting(_ other: MessageTypeSet) -> MessageTypeSet {
        var result = self
        result.low &= ~other.low
        result.high &= ~other.high
        return result
    }
}
