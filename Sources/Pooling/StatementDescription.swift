import Wire

/// What ParameterDescription and RowDescription say of a statement, as one number: two of them are the same if the types
/// of the parameters, and names and types of the columns, are. Which table a column comes from does not count, and
/// neither does the format: PostgreSQL has the same idea of when a plan's result type has changed.
public struct StatementDescription {
    /// 0 as long as there is nothing.
    public private(set) var value: UInt64 = 0

    public init() {}

    /// Takes in a ParameterDescription, which comes first.
    public mutating func parameters(_ message: Span<UInt8>) {
        self.value = Self.start
        for index in MessageFramer.headerLength..<max(MessageFramer.headerLength, message.count) {
            self.mix(message[index])
        }
    }

    /// Takes in a RowDescription.
    public mutating func columns(_ message: Span<UInt8>) {
        if self.value == 0 { self.value = Self.start }
        var reader = MessageReader(message)
        guard let count = reader.int16() else { return }
        self.mix(UInt64(UInt16(bitPattern: count)))
        while let name = reader.cString(), let type = reader.take(18) {
            for index in name { self.mix(message[index]) }
            // Oid, length and modifier of the type, between the table's and the format.
            for index in (type.lowerBound + 6)..<(type.lowerBound + 16) { self.mix(message[index]) }
        }
    }

    /// The statement returns no rows.
    public mutating func noColumns() {
        if self.value == 0 { self.value = Self.start }
        self.mix(UInt64(0xffff))
    }

    /// What it was is told to be too long to be read: all such are taken for the same.
    public mutating func unreadable() { self.value = .max }

    private static let start: UInt64 = 0xcbf2_9ce4_8422_2325

    private mutating func mix(_ byte: UInt8) { self.mix(UInt64(byte)) }

    private mutating func mix(_ value: UInt64) {
        self.value = (self.value ^ value) &* 0x100_0000_01b3
        self.value ^= self.value >> 29
        if self.value == 0 { self.value = 1 }
    }
}
