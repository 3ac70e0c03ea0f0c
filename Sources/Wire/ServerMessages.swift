/// ParameterStatus: the server tells a setting's value.
public struct ParameterStatus: Sendable, Equatable {
    public let name: String
    /// The value in the connection's encoding.
    public let value: [UInt8]

    public init(name: String, value: [UInt8]) {
        self.name = name
        self.value = value
    }

    /// Reads a whole message, header included; nil when it is malformed.
    public init?(_ message: Span<UInt8>) {
        var reader = MessageReader(message)
        guard let name = reader.cString(), let value = reader.cString(), reader.left == 0 else { return nil }
        self.name = message.text(name)
        self.value = message.copy(value)
    }
}

/// BackendKeyData: what a CancelRequest has to show.
public struct BackendKeyData: Sendable, Equatable {
    public let processID: UInt32
    /// 4 bytes in protocol 3.0, up to 256 in 3.2.
    public let secret: [UInt8]

    /// Process id and secret as a CancelRequest carries them.
    public var key: [UInt8] {
        (0..<4).map { UInt8(truncatingIfNeeded: self.processID >> UInt32(24 - 8 * $0)) } + self.secret
    }

    /// Reads a whole message, header included; nil when it is malformed.
    public init?(_ message: Span<UInt8>) {
        var reader = MessageReader(message)
        guard let processID = reader.int32(), (4...StartupPacket.maximumSecretLength).contains(reader.left) else {
            return nil
        }
        self.processID = UInt32(bitPattern: processID)
        self.secret = message.copy(reader.rest)
    }
}

/// NegotiateProtocolVersion: the server speaks an older version than was asked for, or does not know an extension.
public struct NegotiateProtocolVersion: Sendable, Equatable {
    public let version: ProtocolVersion
    public let unknownExtensions: [String]

    /// Reads a whole message, header included; nil when it is malformed.
    public init?(_ message: Span<UInt8>) {
        var reader = MessageReader(message)
        guard let code = reader.int32(), let count = reader.int32(), count >= 0 else { return nil }
        var names: [String] = []
        for _ in 0..<count {
            guard let name = reader.cString() else { return nil }
            names.append(message.text(name))
        }
        guard reader.left == 0 else { return nil }
        self.version = ProtocolVersion(code: UInt32(bitPattern: code))
        self.unknownExtensions = names
    }
}

/// CommandComplete: what a command did.
public enum CommandTag {
    /// Whether a whole message's tag is exactly this text.
    public static func equals(_ message: Span<UInt8>, _ tag: StaticString) -> Bool {
        var reader = MessageReader(message)
        guard let range = reader.cString() else { return false }
        return message.equals(range, tag)
    }

    /// Whether a whole message's tag begins with this text.
    public static func begins(_ message: Span<UInt8>, with beginning: StaticString) -> Bool {
        var reader = MessageReader(message)
        guard let range = reader.cString(), range.count >= beginning.utf8CodeUnitCount else { return false }
        return message.equals(range.lowerBound..<(range.lowerBound + beginning.utf8CodeUnitCount), beginning)
    }

    /// Whether a whole message's tag ends with this text.
    public static func ends(_ message: Span<UInt8>, with end: StaticString) -> Bool {
        var reader = MessageReader(message)
        guard let range = reader.cString(), range.count >= end.utf8CodeUnitCount else { return false }
        return message.equals((range.upperBound - end.utf8CodeUnitCount)..<range.upperBound, end)
    }

    /// The tag for people; nil when the message is malformed.
    public static func text(_ message: Span<UInt8>) -> String? {
        var reader = MessageReader(message)
        return reader.cString().map { message.text($0) }
    }
}

/// A row of a result.
public enum DataRow {
    /// The values of a whole message, nil for NULL; nil when the message is malformed.
    public static func values(_ message: Span<UInt8>) -> [[UInt8]?]? {
        var reader = MessageReader(message)
        guard let count = reader.int16(), count >= 0 else { return nil }
        var values: [[UInt8]?] = []
        for _ in 0..<count {
            guard let length = reader.int32() else { return nil }
            if length == -1 {
                values.append(nil)
            } else {
                guard let range = reader.take(Int(length)) else { return nil }
                values.append(message.copy(range))
            }
        }
        return reader.left == 0 ? values : nil
    }
}

/// The columns of a result.
public enum RowDescription {
    /// The columns of a whole message; nil when the message is malformed.
    public static func columns(_ message: Span<UInt8>) -> [RowColumn]? {
        var reader = MessageReader(message)
        guard let count = reader.int16(), count >= 0 else { return nil }
        var columns: [RowColumn] = []
        for _ in 0..<count {
            // Behind the name: table oid and attribute number; behind the length: type modifier and format.
            guard let name = reader.cString(), reader.take(6) != nil, let type = reader.int32(),
                let length = reader.int16(), reader.take(6) != nil
            else { return nil }
            columns.append(
                RowColumn(name: message.text(name), typeOID: UInt32(bitPattern: type), typeLength: length))
        }
        return reader.left == 0 ? columns : nil
    }
}
