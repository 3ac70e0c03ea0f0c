import Wire

/// What ParameterDescription and RowDescription say of a statement, as a number each: two of them are the same if the
/// types of the parameters, and names and types of the columns, are. Which table a column comes from does not count, and
/// neither does the format: PostgreSQL has the same idea of when a plan's result type has changed.
public struct StatementDescription: Sendable, Equatable {
    /// 0 as long as nobody has said so.
    public private(set) var parameters: UInt32 = 0
    /// 0 as long as nobody has said so: the Describe of a portal tells of the columns only.
    public private(set) var columns: UInt32 = 0

    public init() {}

    /// Whether nothing is known.
    public var isEmpty: Bool { self.parameters == 0 && self.columns == 0 }

    /// Whether the other one says all that this one says.
    @inline(__always)
    public func holds(in other: StatementDescription) -> Bool {
        (self.parameters == 0 || self.parameters == other.parameters)
            && (self.columns == 0 || self.columns == other.columns)
    }

    /// Whether the two cannot be of the same statement.
    public func contradicts(_ other: StatementDescription) -> Bool {
        (self.parameters != 0 && other.parameters != 0 && self.parameters != other.parameters)
            || (self.columns != 0 && other.columns != 0 && self.columns != other.columns)
    }

    /// Takes over what the other one knows.
    public mutating func take(_ other: StatementDescription) {
        if other.parameters != 0 { self.parameters = other.parameters }
        if other.columns != 0 { self.columns = other.columns }
    }

    /// Takes in a ParameterDescription, which comes first.
    public mutating func parameters(_ message: Span<UInt8>) {
        var mixer = Mixer()
        for index in MessageFramer.headerLength..<max(MessageFramer.headerLength, message.count) {
            mixer.mix(UInt64(message[index]))
        }
        self.parameters = mixer.number
    }

    /// Takes in a RowDescription.
    public mutating func columns(_ message: Span<UInt8>) {
        var mixer = Mixer()
        var reader = MessageReader(message)
        guard let count = reader.int16() else { return }
        mixer.mix(UInt64(UInt16(bitPattern: count)))
        while let name = reader.cString(), let type = reader.take(18) {
            for index in name { mixer.mix(UInt64(message[index])) }
            // Oid, length and modifier of the type, between the table's and the format.
            for index in (type.lowerBound + 6)..<(type.lowerBound + 16) { mixer.mix(UInt64(message[index])) }
        }
        self.columns = mixer.number
    }

    /// The statement returns no rows.
    public mutating func noColumns() { self.columns = 1 }

    /// A message is too long to be read: all such are taken for the same.
    public mutating func unreadable(_ type: UInt8) {
        if type == Backend.parameterDescription { self.parameters = .max } else { self.columns = .max }
    }

    private struct Mixer {
        private var value: UInt64 = 0xcbf2_9ce4_8422_2325

        mutating func mix(_ value: UInt64) {
            self.value = (self.value ^ value) &* 0x100_0000_01b3
            self.value ^= self.value >> 29
        }

        /// Neither nothing nor one of the numbers with a meaning.
        var number: UInt32 { min(max(UInt32(truncatingIfNeeded: self.value ^ self.value >> 32), 2), .max - 1) }
    }
}
