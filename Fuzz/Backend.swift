import Wire

extension FuzzTarget {
    /// What a server sends.
    static let backend = FuzzTarget(name: "backend") { bytes in
        var input = InputReader(bytes)
        let limit = [5, 20, 100, Int.max][input.number(below: 4)]
        let stream = Array(input.rest)
        let framed = FramedStream(stream, maximum: Int(Int32.max))
        let gathered: MessageTypeSet = [
            Backend.errorResponse, Backend.noticeResponse, Backend.parameterStatus, Backend.readyForQuery,
            Backend.commandComplete, Backend.authentication,
        ]
        var chunks = input
        try framed.check(gather: gathered, limit: limit, skip: nil, &chunks)
        chunks = input
        try framed.check(gather: gathered, limit: limit, skip: gathered, &chunks)
        for range in framed.messages { try checkBackendMessage(Array(stream[range])) }
        try checkBackendMessage(stream)
    }

    /// What is read of a message is written to the same bytes again.
    private static func checkBackendMessage(_ message: [UInt8]) throws {
        func same(_ what: String, _ write: (inout MessageWriter) -> Void) throws {
            try expect(MessageWriter.bytes(write).dropFirst(5) == message.dropFirst(5), "\(what) written again")
        }
        let isText = String(validating: message.dropFirst(5), as: UTF8.self) != nil
        if let status = ParameterStatus(message.span), isText {
            try same("ParameterStatus") { $0.parameterStatus(name: status.name, value: status.value) }
        }
        if let data = BackendKeyData(message.span) {
            try expect((8...260).contains(data.key.count), "a key of \(data.key.count) bytes")
            try same("BackendKeyData") { $0.backendKeyData(processID: data.processID, secret: data.secret) }
        }
        if let row = DataRow.values(message.span) { try same("DataRow") { $0.dataRow(row) } }
        if let status = TransactionStatus(readyForQuery: message.span) {
            try same("ReadyForQuery") { $0.readyForQuery(status) }
        }
        switch AuthenticationRequest(message.span) {
        case .md5Password(let salt): try same("MD5") { $0.authenticationMD5Password(salt: salt) }
        case .saslContinue(let data): try same("SASLContinue") { $0.authenticationSASLContinue(data) }
        case .saslFinal(let data): try same("SASLFinal") { $0.authenticationSASLFinal(data) }
        case nil, .ok, .cleartextPassword, .sasl, .other: break
        }
        let error = ErrorFields(message.span)
        try expect(
            !error.severity.isEmpty || error.text(UInt8(ascii: "V")) == "" || error.text(UInt8(ascii: "S")) == "",
            "an error without severity")
        let written = MessageWriter.bytes { $0.errorResponse(error) }
        try expect(ErrorFields(written.span) == error, "ErrorResponse written again is another")
        _ = (NegotiateProtocolVersion(message.span), CommandTag.text(message.span), error.isFatal)
        _ = (RowDescription.columns(message.span), ServerVersion(String(decoding: message, as: UTF8.self)))
        if CommandTag.equals(message.span, "BEGIN") {
            try expect(message.dropFirst(5).starts(with: Array("BEGIN\0".utf8)), "a tag that is not BEGIN")
        }
    }
}
