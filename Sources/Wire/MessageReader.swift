/// Reads the fields of one message from front to back, bounds-checked: a field that is not whole is nil.
///
/// Positions and ranges are those of the span it was made with. After a nil nothing is consumed.
public struct MessageReader: ~Escapable {
    /// The bytes that are read.
    public let bytes: Span<UInt8>
    /// Where the next field begins.
    public private(set) var position: Int

    /// A reader that begins at a position; behind the end it finds nothing.
    ///
    /// - Parameter position: the default is a typed message's body.
    @_lifetime(copy bytes)
    public init(_ bytes: Span<UInt8>, at position: Int = MessageFramer.headerLength) {
        self.bytes = bytes
        self.position = max(0, min(position, bytes.count))
    }

    /// Bytes not read yet.
    public var left: Int { self.bytes.count - self.position }

    /// The range of the bytes not read yet.
    public var rest: Range<Int> { self.position..<self.bytes.count }

    /// One byte.
    public mutating func byte() -> UInt8? {
        guard self.left >= 1 else { return nil }
        defer { self.position += 1 }
        return self.bytes[self.position]
    }

    /// An Int16.
    public mutating func int16() -> Int16? {
        guard self.left >= 2 else { return nil }
        defer { self.position += 2 }
        return Int16(self.bytes[self.position]) << 8 | Int16(self.bytes[self.position + 1])
    }

    /// An Int32.
    public mutating func int32() -> Int32? {
        guard self.left >= 4 else { return nil }
        defer { self.position += 4 }
        var value: UInt32 = 0
        for offset in 0..<4 { value = value << 8 | UInt32(self.bytes[self.position + offset]) }
        return Int32(bitPattern: value)
    }

    /// The given number of bytes.
    public mutating func take(_ count: Int) -> Range<Int>? {
        guard count >= 0, self.left >= count else { return nil }
        defer { self.position += count }
        return self.position..<(self.position + count)
    }

    /// A String of the protocol: the range of its bytes without the NUL that ends it.
    public mutating func cString() -> Range<Int>? {
        guard let end = self.bytes.firstNUL(from: self.position) else { return nil }
        defer { self.position = end + 1 }
        return self.position..<end
    }
}
