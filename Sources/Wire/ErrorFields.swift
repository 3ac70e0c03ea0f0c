/// The fields of an ErrorResponse or NoticeResponse (PostgreSQL manual, "Error and Notice Message Fields").
public struct ErrorFields: Sendable, Equatable {
    /// One field: its code, and its value in the encoding of the connection.
    public struct Field: Sendable, Equatable {
        public let code: UInt8
        public let value: [UInt8]

        public init(code: UInt8, value: [UInt8]) {
            self.code = code
            self.value = value
        }
    }

    /// All fields, in order, as they came.
    public var fields: [Field]

    /// Reads a whole message, header included, and takes what is there: a last field that is cut off ends with the bytes.
    public init(_ message: Span<UInt8>) {
        self.fields = []
        var reader = MessageReader(message)
        while let code = reader.byte(), code != 0 {
            guard let value = reader.cString() else {
                self.fields.append(Field(code: code, value: message.copy(reader.rest)))
                break
            }
            self.fields.append(Field(code: code, value: message.copy(value)))
        }
    }

    public init(severity: String, sqlState: String, message: String, detail: String? = nil, hint: String? = nil) {
        self.fields = []
        self.append(UInt8(ascii: "S"), severity)
        self.append(UInt8(ascii: "V"), severity)
        self.append(UInt8(ascii: "C"), sqlState)
        self.append(UInt8(ascii: "M"), message)
        if let detail { self.append(UInt8(ascii: "D"), detail) }
        if let hint { self.append(UInt8(ascii: "H"), hint) }
    }

    private mutating func append(_ code: UInt8, _ text: String) {
        self.fields.append(Field(code: code, value: Array(text.utf8)))
    }

    /// A field's value for people; nil when there is none.
    public func text(_ code: UInt8) -> String? {
        self.fields.first { $0.code == code }.map { String(decoding: $0.value, as: UTF8.self) }
    }

    /// The severity, not translated where the server tells it so (9.6 and newer); "ERROR" when it is missing.
    public var severity: String { self.text(UInt8(ascii: "V")) ?? self.text(UInt8(ascii: "S")) ?? "ERROR" }

    /// The SQLSTATE code; XX000 (internal error) when it is missing.
    public var sqlState: String { self.text(UInt8(ascii: "C")) ?? SQLState.internalError }

    /// The primary message; empty when it is missing.
    public var message: String { self.text(UInt8(ascii: "M")) ?? "" }

    public var detail: String? { self.text(UInt8(ascii: "D")) }

    public var hint: String? { self.text(UInt8(ascii: "H")) }

    /// Whether the server ends the connection with this message.
    public var isFatal: Bool { self.severity == "FATAL" || self.severity == "PANIC" }
}
