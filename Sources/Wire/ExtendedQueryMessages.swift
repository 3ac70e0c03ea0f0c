/// Parse: where its parts stand in the message, header included. Ranges of texts leave out the NUL.
public struct ParseMessage: Sendable, Equatable {
    /// The statement's name; empty for the unnamed statement.
    public let statement: Range<Int>
    public let query: Range<Int>
    /// Oids of the parameter types, 4 bytes each.
    public let types: Range<Int>

    /// How many parameter types are given.
    public var typeCount: Int { self.types.count / 4 }

    /// Everything behind the statement's name: the query, its NUL, and the parameter types with their count.
    public var tail: Range<Int> { self.query.lowerBound..<self.types.upperBound }

    /// Reads a whole message; nil when it is malformed.
    public init?(_ message: Span<UInt8>) {
        var reader = MessageReader(message)
        guard let statement = reader.cString(), let query = reader.cString(), let count = reader.int16(),
            let types = reader.take(Int(count) * 4), reader.left == 0
        else { return nil }
        self.statement = statement
        self.query = query
        self.types = types
    }
}

/// The beginning of a Bind message, which is all a pooler has to see; the parameters behind it may be large.
public struct BindPrefix: Sendable, Equatable {
    /// The portal's name, without its NUL.
    public let portal: Range<Int>
    /// The statement's name, without its NUL.
    public let statement: Range<Int>
    /// Where the part behind the names begins.
    public let end: Int
    /// The whole message's length in bytes, header included.
    public let messageLength: Int

    /// What is known from the bytes that have come.
    public enum Outcome: Sendable, Equatable {
        case prefix(BindPrefix)
        /// The names are not whole yet.
        case incomplete
        /// The message ends in the middle of the names.
        case invalid
    }

    /// Reads the names of a message that stands at the beginning of the bytes and need not be whole.
    public static func parse(_ bytes: Span<UInt8>) -> Outcome {
        guard let header = MessageFramer.header(bytes) else { return .incomplete }
        let length = header.length + 1
        var reader = MessageReader(bytes.extracting(0..<min(bytes.count, length)))
        guard let portal = reader.cString(), let statement = reader.cString() else {
            return bytes.count < length ? .incomplete : .invalid
        }
        return .prefix(
            BindPrefix(portal: portal, statement: statement, end: reader.position, messageLength: length))
    }
}

extension BindPrefix {
    /// The values of a message that is whole, in whatever format, as text; nil when it is malformed.
    public func values(_ message: Span<UInt8>) -> [String?]? {
        guard message.count >= self.messageLength else { return nil }
        var reader = MessageReader(message.extracting(0..<self.messageLength), at: self.end)
        guard let formats = reader.int16(), formats >= 0, reader.take(Int(formats) * 2) != nil,
            let count = reader.int16(), count >= 0
        else { return nil }
        var values: [String?] = []
        for _ in 0..<count {
            guard let length = reader.int32() else { return nil }
            guard length >= 0 else {
                values.append(nil)
                continue
            }
            guard let value = reader.take(Int(length)) else { return nil }
            values.append(message.text(value))
        }
        return values
    }
}

/// What a Describe or Close message is about.
public struct MessageTarget: Sendable, Equatable {
    public static let statement = UInt8(ascii: "S")
    public static let portal = UInt8(ascii: "P")

    /// `statement` or `portal`.
    public let kind: UInt8
    /// The name in the message, without its NUL; empty for the unnamed one.
    public let name: Range<Int>

    /// Reads a whole message, header included; nil when it is malformed.
    public init?(_ message: Span<UInt8>) {
        var reader = MessageReader(message)
        guard let kind = reader.byte(), kind == MessageTarget.statement || kind == MessageTarget.portal,
            let name = reader.cString(), reader.left == 0
        else { return nil }
        self.kind = kind
        self.name = name
    }
}

/// Execute: where the portal's name stands, and how many rows are wanted.
public struct ExecuteMessage: Sendable, Equatable {
    /// The portal's name in the message, without its NUL; empty for the unnamed one.
    public let portal: Range<Int>
    /// The greatest number of rows; 0 means all.
    public let maximumRows: Int32

    /// Reads a whole message, header included; nil when it is malformed.
    public init?(_ message: Span<UInt8>) {
        var reader = MessageReader(message)
        guard let portal = reader.cString(), let maximumRows = reader.int32(), reader.left == 0 else { return nil }
        self.portal = portal
        self.maximumRows = maximumRows
    }
}

/// Query: where its text stands.
public enum QueryMessage {
    /// The text's range in a whole message, without its NUL; nil when the message is malformed.
    public static func text(_ message: Span<UInt8>) -> Range<Int>? {
        var reader = MessageReader(message)
        guard let text = reader.cString(), reader.left == 0 else { return nil }
        return text
    }
}
