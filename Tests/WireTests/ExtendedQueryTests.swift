import Testing

@testable import Wire

@Suite struct ExtendedQueryTests {
    @Test func parseMessage() throws {
        let bytes = message("P", Array("s1\0SELECT $1\0".utf8) + [0, 2, 0, 0, 0, 23, 0, 0, 0, 25])
        let parse = try #require(ParseMessage(bytes))
        #expect(Array(bytes[parse.statement]) == Array("s1".utf8))
        #expect(Array(bytes[parse.query]) == Array("SELECT $1".utf8))
        #expect(parse.typeCount == 2)
        #expect(Array(bytes[parse.types]) == [0, 0, 0, 23, 0, 0, 0, 25])
        #expect(parse.tail == 8..<bytes.count)
        let again = MessageWriter.bytes { $0.parse(statement: Array("s1".utf8), tail: Array(bytes[parse.tail])) }
        #expect(again == bytes)
    }

    @Test func unnamedAndEmptyParse() throws {
        let parse = try #require(ParseMessage(message("P", [0, 0, 0, 0])))
        #expect(parse.statement.isEmpty && parse.query.isEmpty && parse.typeCount == 0)
    }

    @Test(
        arguments: [
            [], [0], [0, 0], [0, 0, 0], [65, 0, 65], [0, 0, 0, 1], [0, 0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 9],
            [0, 0, 255, 255], [0, 0, 128, 0], [0, 0, 127, 255, 0, 0, 0, 1],
        ] as [[UInt8]])
    func brokenParse(body: [UInt8]) {
        #expect(ParseMessage(message("P", body)) == nil)
    }

    @Test func bindPrefix() {
        let bytes = message("B", [112, 0, 115, 0, 0, 0, 0, 0, 0, 0])
        let expected = BindPrefix.Outcome.prefix(
            BindPrefix(portal: 5..<6, statement: 7..<8, end: 9, messageLength: 15))
        #expect(BindPrefix.parse(bytes) == expected)
        for count in 9...15 { #expect(BindPrefix.parse(Array(bytes.prefix(count))) == expected) }
        for count in 0..<9 { #expect(BindPrefix.parse(Array(bytes.prefix(count))) == .incomplete) }
    }

    @Test func bindWhoseNamesDoNotEnd() {
        #expect(BindPrefix.parse(message("B", [112, 0, 115])) == .invalid)
        #expect(BindPrefix.parse(message("B")) == .invalid)
        // What follows belongs to the next message and must not be read as the name's end.
        #expect(BindPrefix.parse((message("B", [112, 0, 115]) + message("S"))) == .invalid)
        #expect(BindPrefix.parse(message("B", [112, 0, 115, 0], length: 0)) == .invalid)
        #expect(BindPrefix.parse(message("B", [112, 0, 115], length: 0xFFFF_FFFF)) == .incomplete)
    }

    @Test func bindPrefixIsReplacedByAnother() {
        let old = message("B", [112, 0, 115, 0, 0, 0, 0, 0, 0, 0])
        guard case .prefix(let prefix) = BindPrefix.parse(old) else {
            Issue.record("no prefix")
            return
        }
        let written = MessageWriter.bytes {
            $0.bindPrefix(
                portal: Array(old[prefix.portal]), statement: Array("martlet_1".utf8),
                bodyLength: prefix.messageLength - prefix.end)
        }
        let new = written + old[prefix.end...]
        #expect(new == message("B", [112, 0] + Array("martlet_1".utf8) + [0, 0, 0, 0, 0, 0, 0]))
    }

    @Test(
        arguments: [
            ([83, 65, 0], 6..<7), ([80, 0], 6..<6), ([83], nil), ([83, 65], nil), ([88, 0], nil), ([83, 0, 0], nil),
            ([], nil),
        ] as [([UInt8], Range<Int>?)])
    func target(body: [UInt8], name: Range<Int>?) {
        #expect(MessageTarget(message("D", body))?.name == name)
    }

    @Test func execute() {
        #expect(ExecuteMessage(message("E", [112, 0, 0, 0, 0, 9]))?.portal == 5..<6)
        #expect(ExecuteMessage(message("E", [112, 0, 0, 0, 0, 9]))?.maximumRows == 9)
        #expect(ExecuteMessage(message("E", [0, 0, 0, 0])) == nil)
        #expect(ExecuteMessage(message("E", [0, 0, 0, 0, 0, 0])) == nil)
    }

    @Test func passwordMessages() {
        #expect(PasswordMessage.password(message("p", [65, 0])) == [65])
        #expect(PasswordMessage.password(message("p", [65])) == nil)
        #expect(PasswordMessage.password(message("p", [65, 0, 66])) == nil)
        let initial = SASLInitialResponse(
            MessageWriter.bytes { $0.saslInitialResponse(mechanism: "SCRAM-SHA-256", [1, 2]) })
        #expect(initial?.mechanism == "SCRAM-SHA-256" && initial?.data == [1, 2])
        #expect(SASLInitialResponse(message("p", [65, 0, 255, 255, 255, 255]))?.data == .some(nil))
        #expect(SASLInitialResponse(message("p", [65, 0, 255, 255, 255, 255, 1])) == nil)
        #expect(SASLInitialResponse(message("p", [65, 0, 255, 255, 255, 254])) == nil)
        #expect(SASLInitialResponse(message("p", [65, 0, 127, 255, 255, 255])) == nil)
        #expect(SASLInitialResponse(message("p", [65, 0, 0, 0, 0, 1])) == nil)
        #expect(SASLInitialResponse(message("p", [65, 0, 0, 0, 0, 1, 2, 3])) == nil)
    }

    @Test func query() {
        #expect(QueryMessage.text(message("Q", [65, 0])) == 5..<6)
        #expect(QueryMessage.text(message("Q", [65])) == nil)
        #expect(QueryMessage.text(message("Q", [65, 0, 66])) == nil)
    }
}
