// The macros of Swift Testing take no span: here are the parsers for arrays.
import Wire

extension MessageFramer {
    mutating func next(_ bytes: [UInt8], at cursor: Int, gather: MessageTypeSet, gatherLimit: Int = .max) -> Step {
        self.next(bytes.span, at: cursor, gather: gather, gatherLimit: gatherLimit)
    }

    mutating func skip(_ bytes: [UInt8], at cursor: Int, until types: MessageTypeSet) -> Int {
        self.skip(bytes.span, at: cursor, until: types)
    }
}

extension StartupPacket {
    static func parse(_ bytes: [UInt8]) -> Outcome { self.parse(bytes.span) }
}

extension StartupOptions {
    static func parse(_ options: [UInt8]) throws(StartupOptionsError) -> [StartupParameter] {
        try self.parse(options.span)
    }
}

extension ErrorFields {
    init(_ message: [UInt8]) { self.init(message.span) }
}

extension AuthenticationRequest {
    init?(_ message: [UInt8]) { self.init(message.span) }
}

extension PasswordMessage {
    static func password(_ message: [UInt8]) -> [UInt8]? { self.password(message.span) }
}

extension SASLInitialResponse {
    init?(_ message: [UInt8]) { self.init(message.span) }
}

extension ParameterStatus {
    init?(_ message: [UInt8]) { self.init(message.span) }
}

extension BackendKeyData {
    init?(_ message: [UInt8]) { self.init(message.span) }
}

extension NegotiateProtocolVersion {
    init?(_ message: [UInt8]) { self.init(message.span) }
}

extension CommandTag {
    static func equals(_ message: [UInt8], _ tag: StaticString) -> Bool { self.equals(message.span, tag) }
    static func text(_ message: [UInt8]) -> String? { self.text(message.span) }
}

extension DataRow {
    static func values(_ message: [UInt8]) -> [[UInt8]?]? { self.values(message.span) }
}

extension RowDescription {
    static func columns(_ message: [UInt8]) -> [RowColumn]? { self.columns(message.span) }
}

extension TransactionStatus {
    init?(readyForQuery message: [UInt8]) { self.init(readyForQuery: message.span) }
}

extension ParseMessage {
    init?(_ message: [UInt8]) { self.init(message.span) }
}

extension BindPrefix {
    static func parse(_ bytes: [UInt8]) -> Outcome { self.parse(bytes.span) }
}

extension MessageTarget {
    init?(_ message: [UInt8]) { self.init(message.span) }
}

extension ExecuteMessage {
    init?(_ message: [UInt8]) { self.init(message.span) }
}

extension QueryMessage {
    static func text(_ message: [UInt8]) -> Range<Int>? { self.text(message.span) }
}
