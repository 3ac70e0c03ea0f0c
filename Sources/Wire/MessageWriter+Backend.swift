/// A column of a RowDescription.
public struct RowColumn: Sendable, Equatable {
    public let name: String
    /// The type's oid: 25 text, 23 int4, 20 int8, 1700 numeric, 16 bool.
    public let typeOID: UInt32
    /// The type's length in bytes; -1 for a type of variable length.
    public let typeLength: Int16

    public init(name: String, typeOID: UInt32, typeLength: Int16) {
        self.name = name
        self.typeOID = typeOID
        self.typeLength = typeLength
    }

    public static func text(_ name: String) -> RowColumn { RowColumn(name: name, typeOID: 25, typeLength: -1) }
    public static func int4(_ name: String) -> RowColumn { RowColumn(name: name, typeOID: 23, typeLength: 4) }
    public static func int8(_ name: String) -> RowColumn { RowColumn(name: name, typeOID: 20, typeLength: 8) }
    public static func numeric(_ name: String) -> RowColumn { RowColumn(name: name, typeOID: 1700, typeLength: -1) }
}

/// Messages of the server's side.
extension MessageWriter {
    public mutating func authenticationOk() {
        self.authentication(0) { _ in }
    }

    public mutating func authenticationCleartextPassword() {
        self.authentication(3) { _ in }
    }

    /// - Parameter salt: 4 random bytes.
    public mutating func authenticationMD5Password(salt: [UInt8]) {
        self.authentication(5) { $0.raw(salt) }
    }

    /// - Parameter mechanisms: their names, the preferred one first.
    public mutating func authenticationSASL(mechanisms: [String]) {
        self.authentication(10) {
            for mechanism in mechanisms { $0.cString(mechanism) }
            $0.byte(0)
        }
    }

    public mutating func authenticationSASLContinue(_ data: [UInt8]) {
        self.authentication(11) { $0.raw(data) }
    }

    public mutating func authenticationSASLFinal(_ data: [UInt8]) {
        self.authentication(12) { $0.raw(data) }
    }

    private mutating func authentication(_ kind: Int32, _ body: (inout MessageWriter) -> Void) {
        self.begin(Backend.authentication)
        self.int32(kind)
        body(&self)
        self.end()
    }

    public mutating func parameterStatus(name: String, value: [UInt8]) {
        self.begin(Backend.parameterStatus)
        self.cString(name)
        self.cString(value)
        self.end()
    }

    public mutating func parameterStatus(name: String, value: String) {
        self.begin(Backend.parameterStatus)
        self.cString(name)
        self.cString(value)
        self.end()
    }

    /// - Parameter secret: 4 bytes in protocol 3.0, up to 256 in 3.2.
    public mutating func backendKeyData(processID: UInt32, secret: [UInt8]) {
        self.begin(Backend.backendKeyData)
        self.uint32(processID)
        self.raw(secret)
        self.end()
    }

    public mutating func readyForQuery(_ status: TransactionStatus) {
        self.begin(Backend.readyForQuery)
        self.byte(status.rawValue)
        self.end()
    }

    /// Answers a startup packet that asks for a newer version or for unknown protocol extensions.
    public mutating func negotiateProtocolVersion(_ negotiation: ProtocolNegotiation) {
        self.begin(Backend.negotiateProtocolVersion)
        self.uint32(negotiation.version.code)
        self.int32(Int32(clamping: negotiation.unknownExtensions.count))
        for name in negotiation.unknownExtensions { self.cString(name) }
        self.end()
    }

    /// - Parameters:
    ///   - severity: "ERROR", "FATAL" or "PANIC".
    ///   - sqlState: see `SQLState`.
    public mutating func errorResponse(
        severity: String, sqlState: String, message: String, detail: String? = nil, hint: String? = nil
    ) {
        let fields = ErrorFields(
            severity: severity, sqlState: sqlState, message: message, detail: detail, hint: hint)
        self.errorResponse(fields)
    }

    public mutating func errorResponse(_ fields: ErrorFields) {
        self.fields(Backend.errorResponse, fields)
    }

    /// - Parameters:
    ///   - severity: "WARNING", "NOTICE", "DEBUG", "INFO" or "LOG".
    ///   - sqlState: see `SQLState`.
    public mutating func noticeResponse(
        severity: String, sqlState: String, message: String, detail: String? = nil, hint: String? = nil
    ) {
        let fields = ErrorFields(
            severity: severity, sqlState: sqlState, message: message, detail: detail, hint: hint)
        self.fields(Backend.noticeResponse, fields)
    }

    private mutating func fields(_ type: UInt8, _ fields: ErrorFields) {
        self.begin(type)
        for field in fields.fields where field.code != 0 {
            self.byte(field.code)
            self.cString(field.value)
        }
        self.byte(0)
        self.end()
    }

    /// Columns that belong to no table, in text format.
    public mutating func rowDescription(_ columns: [RowColumn]) {
        self.begin(Backend.rowDescription)
        self.int16(Int16(clamping: columns.count))
        for column in columns {
            self.cString(column.name)
            self.int32(0)  // table
            self.int16(0)  // attribute number
            self.uint32(column.typeOID)
            self.int16(column.typeLength)
            self.int32(-1)  // type modifier
            self.int16(0)  // text format
        }
        self.end()
    }

    /// - Parameter values: in text format; nil is NULL.
    public mutating func dataRow(_ values: [[UInt8]?]) {
        self.begin(Backend.dataRow)
        self.int16(Int16(clamping: values.count))
        for value in values {
            guard let value else {
                self.int32(-1)
                continue
            }
            self.int32(Int32(clamping: value.count))
            self.raw(value)
        }
        self.end()
    }

    /// - Parameter values: in text format; nil is NULL.
    public mutating func dataRow(_ values: [String?]) {
        self.dataRow(values.map { $0.map { Array($0.utf8) } })
    }

    /// - Parameter tag: "SELECT 5", "SET", …
    public mutating func commandComplete(_ tag: String) {
        self.begin(Backend.commandComplete)
        self.cString(tag)
        self.end()
    }

    public mutating func parseComplete() { self.empty(Backend.parseComplete) }

    public mutating func bindComplete() { self.empty(Backend.bindComplete) }

    public mutating func closeComplete() { self.empty(Backend.closeComplete) }

    /// ParameterDescription of a statement without parameters.
    public mutating func noParameters() { self.parameterDescription([]) }

    /// - Parameter types: their oids.
    public mutating func parameterDescription(_ types: [UInt32]) {
        self.begin(Backend.parameterDescription)
        self.int16(Int16(clamping: types.count))
        for type in types { self.uint32(type) }
        self.end()
    }

    public mutating func noData() { self.empty(Backend.noData) }

    public mutating func emptyQueryResponse() { self.empty(Backend.emptyQueryResponse) }
}
