/// Builds messages one behind the other in one array, which can be used again and again without a new allocation.
///
/// A message begins with `begin`, its fields are appended, and `end` writes its length. The builders of whole messages
/// are in `MessageWriter+Backend` and `MessageWriter+Frontend`.
public struct MessageWriter: Sendable {
    /// The messages so far.
    public private(set) var bytes: [UInt8] = []
    /// Where the length field of the message under way stands.
    private var lengthPosition = 0

    /// - Parameter capacity: bytes that there will probably be.
    public init(capacity: Int = 0) { self.bytes.reserveCapacity(capacity) }

    /// The messages that a block writes, a few short ones as a rule.
    public static func bytes(_ write: (inout MessageWriter) -> Void) -> [UInt8] {
        var writer = MessageWriter(capacity: 96)
        write(&writer)
        return writer.bytes
    }

    /// Whether nothing has been written.
    public var isEmpty: Bool { self.bytes.isEmpty }

    /// Throws everything away and keeps the memory.
    public mutating func removeAll() {
        self.bytes.removeAll(keepingCapacity: true)
    }

    /// Adds messages that have been written before.
    public mutating func append(_ messages: [UInt8]) { self.bytes += messages }

    /// Begins a message.
    ///
    /// - Parameter type: the type byte; nil for a packet of the startup phase, which has none.
    public mutating func begin(_ type: UInt8?) {
        if let type { self.bytes.append(type) }
        self.lengthPosition = self.bytes.count
        self.int32(0)
    }

    /// Ends the message under way by writing its length.
    ///
    /// A message of 2³¹ bytes or more gets a length that no receiver accepts.
    ///
    /// - Parameter following: bytes of the message that are not written here but sent behind it.
    public mutating func end(following: Int = 0) {
        let length = UInt32(clamping: self.bytes.count - self.lengthPosition + following)
        for index in 0..<4 {
            self.bytes[self.lengthPosition + index] = UInt8(truncatingIfNeeded: length >> UInt32(24 - 8 * index))
        }
    }

    /// Writes a message without a body.
    public mutating func empty(_ type: UInt8) {
        self.begin(type)
        self.end()
    }

    public mutating func byte(_ value: UInt8) {
        self.bytes.append(value)
    }

    public mutating func int16(_ value: Int16) {
        let bits = UInt16(bitPattern: value)
        self.bytes.append(UInt8(truncatingIfNeeded: bits >> 8))
        self.bytes.append(UInt8(truncatingIfNeeded: bits))
    }

    public mutating func int32(_ value: Int32) {
        self.uint32(UInt32(bitPattern: value))
    }

    public mutating func uint32(_ value: UInt32) {
        self.bytes.append(UInt8(truncatingIfNeeded: value >> 24))
        self.bytes.append(UInt8(truncatingIfNeeded: value >> 16))
        self.bytes.append(UInt8(truncatingIfNeeded: value >> 8))
        self.bytes.append(UInt8(truncatingIfNeeded: value))
    }

    /// Appends bytes as they are.
    public mutating func raw(_ bytes: [UInt8]) {
        self.bytes.append(contentsOf: bytes)
    }

    /// Appends bytes as they are.
    public mutating func raw(_ bytes: Span<UInt8>) {
        self.bytes.append(bytes)
    }

    /// Appends a text and its NUL. A NUL inside would begin a field of its own: the text ends there.
    public mutating func cString(_ text: String) {
        let span = text.utf8.span
        self.bytes.append(span, 0..<(span.firstNUL(from: 0) ?? span.count))
        self.bytes.append(0)
    }

    /// Appends a text's bytes and a NUL. A NUL inside would begin a field of its own: the text ends there.
    public mutating func cString(_ text: [UInt8]) {
        let span = text.span
        self.bytes.append(span, 0..<(span.firstNUL(from: 0) ?? span.count))
        self.bytes.append(0)
    }
}
