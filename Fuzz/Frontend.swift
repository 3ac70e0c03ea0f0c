import Wire

extension FuzzTarget {
    /// What a client sends behind its startup packet.
    static let frontend = FuzzTarget(name: "frontend") { bytes in
        var input = InputReader(bytes)
        let maximum = [4, 64, 1000, Int(Int32.max)][input.number(below: 4)]
        let limit = [5, 20, 100, Int.max][input.number(below: 4)]
        let stream = Array(input.rest)
        let framed = FramedStream(stream, maximum: maximum)
        let gathered: MessageTypeSet = [Frontend.query, Frontend.parse, Frontend.bind, Frontend.describe]
        var chunks = input
        try framed.check(gather: gathered, limit: limit, skip: nil, &chunks)
        chunks = input
        try framed.check(gather: gathered, limit: limit, skip: [Frontend.sync, Frontend.query], &chunks)
        for range in framed.messages { try checkFrontendMessage(Array(stream[range])) }
        // Nobody looks at a header twice, so the readers have to stand any.
        try checkFrontendMessage(stream)
    }

    private static func checkFrontendMessage(_ message: [UInt8]) throws {
        let body = min(5, message.count)..<message.count
        var ranges: [Range<Int>] = []
        if let parse = ParseMessage(message.span) {
            ranges += [parse.statement, parse.query, parse.types, parse.tail]
            try expect(parse.types.count == parse.typeCount * 4, "parameter types of \(parse.types.count) bytes")
            let written = MessageWriter.bytes { $0.parse(statement: Array("s".utf8), tail: Array(message[parse.tail])) }
            let again = ParseMessage(written.span)
            try expect(
                again.map { written[$0.query] } == message[parse.query]
                    && again.map { written[$0.types] } == message[parse.types], "Parse written again is another")
        }
        try checkBind(message)
        if let target = MessageTarget(message.span) { ranges.append(target.name) }
        if let execute = ExecuteMessage(message.span) { ranges.append(execute.portal) }
        if let text = QueryMessage.text(message.span) {
            ranges.append(text)
            try expect(!message[text].contains(0), "a query with a NUL")
            let written = MessageWriter.bytes { $0.query(Array(message[text])) }
            try expect(written.dropFirst(5) == message.dropFirst(5), "Query written again is another")
        }
        for range in ranges { try expect(range.clamped(to: body) == range, "a range \(range) outside of the message") }
        if let password = PasswordMessage.password(message.span) {
            try expect(password + [0] == message.dropFirst(5), "the password is not the message's body")
        }
        if let response = SASLInitialResponse(message.span), let data = response.data {
            try expect(
                data.count < message.count && message.suffix(data.count) == data[...], "SASL data from elsewhere")
        }
    }

    /// The beginning of a Bind says the same as the whole.
    private static func checkBind(_ message: [UInt8]) throws {
        let whole = BindPrefix.parse(message.span)
        if case .prefix(let bind) = whole {
            try expect(bind.end <= min(message.count, bind.messageLength), "names that end behind the message")
            try expect(bind.portal.upperBound < bind.statement.lowerBound, "names in the wrong order")
            try expect(bind.statement.upperBound < bind.end, "a name behind its end")
        }
        for count in message.indices.prefix(200) {
            switch BindPrefix.parse(message.span.extracting(..<count)) {
            case .incomplete: break
            case let part: try expect(part == whole, "with \(count) bytes it is \(part), with all \(whole)")
            }
        }
    }
}
