/// Why a message cannot be framed; the connection has to be closed, because the next message border is unknown.
public enum MessageFramerError: Error, Equatable, Sendable {
    /// The length field, which counts itself, is below 4 (negative lengths are among the too large ones).
    case lengthTooSmall(type: UInt8, length: Int)
    /// The length field is above the framer's maximum.
    case lengthTooLarge(type: UInt8, length: Int)
}

/// Cuts one direction of a connection into messages, without holding any bytes itself.
///
/// The connection hands over a chunk of bytes and walks it with `next`. What was not consumed (`incomplete`) it presents
/// again, in front of the bytes that follow. A message whose type is not in `gather` passes in pieces as they come, so
/// that a row of 1 GB needs no memory; the framer remembers only how much of it is still to come.
@frozen
public struct MessageFramer: Sendable {
    /// Bytes of a message's header: the type, and a length that counts itself and the body.
    public static var headerLength: Int { @inlinable get { 5 } }

    /// The greatest length field allowed (`max_packet_size`), at most 2³¹ − 1 as in the protocol.
    public var maximumLength: Int {
        @inlinable get { Int(self.maximum) }
        @inlinable set { self.maximum = UInt32(clamping: max(4, min(newValue, Int(Int32.max)))) }
    }

    /// Bytes of the current streamed message still to come; 0 at a message border.
    public var remaining: Int { @inlinable get { self.left } }

    @usableFromInline var left: Int
    @usableFromInline var maximum: UInt32

    /// A framer at a message border.
    ///
    /// - Parameter maximumLength: the greatest length field allowed, in bytes; brought into 4 … 2³¹ − 1.
    @inlinable
    public init(maximumLength: Int = Int(Int32.max)) {
        self.left = 0
        self.maximum = UInt32(clamping: max(4, min(maximumLength, Int(Int32.max))))
    }

    /// What stands at the cursor. All ranges are positions in the chunk; the caller goes on at their upper bound.
    @frozen
    public enum Step: Equatable, Sendable {
        /// A whole message, header included.
        case message(type: UInt8, Range<Int>)
        /// The header and first bytes of a message of `length` bytes (header included); the rest follows as `middle`.
        case start(type: UInt8, length: Int, Range<Int>)
        /// More of a streamed message.
        case middle(Range<Int>, last: Bool)
        /// Nothing more can be taken before `needed` bytes, counted from the cursor, are there.
        case incomplete(needed: Int)
        /// The chunk is used up.
        case end
        /// The length field is not acceptable; the connection has to be closed.
        case invalid(MessageFramerError)
    }

    /// Looks at the next piece of a chunk.
    ///
    /// - Parameters:
    ///   - bytes: the chunk.
    ///   - cursor: where to look; a position outside of the chunk is its end.
    ///   - gather: types that are only returned whole; others are streamed when they are not whole.
    ///   - gatherLimit: the greatest message, in bytes with its header, that `gather` holds for; longer ones stream.
    @inlinable
    public mutating func next(
        _ bytes: Span<UInt8>, at cursor: Int, gather: MessageTypeSet, gatherLimit: Int = Int.max
    ) -> Step {
        guard cursor >= 0, cursor < bytes.count else { return .end }
        let available = bytes.count &- cursor
        if self.left > 0 {
            let taken = min(self.left, available)
            self.left &-= taken
            return .middle(cursor..<(cursor &+ taken), last: self.left == 0)
        }
        guard available >= 5 else { return .incomplete(needed: 5) }
        let type = bytes[cursor]
        let field = MessageFramer.lengthField(bytes, at: cursor)
        guard field &- 4 <= self.maximum &- 4 else { return .invalid(self.error(type: type, field: field)) }
        let length = Int(field) &+ 1
        if length <= available { return .message(type: type, cursor..<(cursor &+ length)) }
        if gather.contains(type) && length <= gatherLimit { return .incomplete(needed: length) }
        self.left = length &- available
        return .start(type: type, length: length, cursor..<bytes.count)
    }

    /// Passes over the rest of a streamed message, and over whole messages that nobody has to look at.
    ///
    /// The fast way through a result set: the rows between two interesting messages become one range. Stops in front of
    /// the first message that is in `types`, is not whole or has an invalid length; `next` tells which.
    ///
    /// - Returns: the new cursor.
    @inlinable
    public mutating func skip(_ bytes: Span<UInt8>, at cursor: Int, until types: MessageTypeSet) -> Int {
        guard cursor >= 0, cursor < bytes.count else { return cursor }
        let taken = min(self.left, bytes.count &- cursor)
        self.left &-= taken
        var position = cursor &+ taken
        while bytes.count &- position >= 5 {
            let field = MessageFramer.lengthField(bytes, at: position)
            guard !types.contains(bytes[position]), field &- 4 <= self.maximum &- 4,
                Int(field) < bytes.count &- position
            else { break }
            position &+= Int(field) &+ 1
        }
        return position
    }

    /// Type and length field of the message that begins at a position; nil when its header is not whole.
    @inlinable
    public static func header(_ bytes: Span<UInt8>, at position: Int = 0) -> (type: UInt8, length: Int)? {
        guard position >= 0, bytes.count &- position >= 5 else { return nil }
        return (bytes[position], Int(self.lengthField(bytes, at: position)))
    }

    /// The four length bytes behind the type; the caller has seen that the header is whole.
    @inlinable
    @inline(__always)
    static func lengthField(_ bytes: Span<UInt8>, at position: Int) -> UInt32 {
        UInt32(bytes[position &+ 1]) << 24 | UInt32(bytes[position &+ 2]) << 16
            | UInt32(bytes[position &+ 3]) << 8 | UInt32(bytes[position &+ 4])
    }

    @usableFromInline
    func error(type: UInt8, field: UInt32) -> MessageFramerError {
        field < 4 ? .lengthTooSmall(type: type, length: Int(field)) : .lengthTooLarge(type: type, length: Int(field))
    }
}
