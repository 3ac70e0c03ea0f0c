import Testing
import Wire

private func written(_ write: (inout MessageWriter) -> Void) -> [UInt8] {
    MessageWriter.bytes(write)
}

@Suite struct MessageWriterTests {
    @Test(
        arguments: [
            (written { $0.authenticationOk() }, message("R", [0, 0, 0, 0])),
            (written { $0.authenticationCleartextPassword() }, message("R", [0, 0, 0, 3])),
            (written { $0.authenticationMD5Password(salt: [1, 2, 3, 4]) }, message("R", [0, 0, 0, 5, 1, 2, 3, 4])),
            (written { $0.authenticationSASL(mechanisms: ["A", "B"]) }, message("R", [0, 0, 0, 10, 65, 0, 66, 0, 0])),
            (written { $0.authenticationSASLContinue([9]) }, message("R", [0, 0, 0, 11, 9])),
            (written { $0.authenticationSASLFinal([9]) }, message("R", [0, 0, 0, 12, 9])),
            (written { $0.parameterStatus(name: "a", value: "b") }, message("S", [97, 0, 98, 0])),
            (
                written { $0.backendKeyData(processID: 258, secret: [9, 9, 9, 9]) },
                message("K", [0, 0, 1, 2, 9, 9, 9, 9])
            ),
            (written { $0.readyForQuery(.idle) }, message("Z", [73])),
            (written { $0.rowDescription([]) }, message("T", [0, 0])),
            (written { $0.dataRow(["a", nil]) }, message("D", [0, 2, 0, 0, 0, 1, 97, 255, 255, 255, 255])),
            (written { $0.commandComplete("SET") }, message("C", [83, 69, 84, 0])),
            (written { $0.parseComplete() }, message("1")),
            (written { $0.bindComplete() }, message("2")),
            (written { $0.closeComplete() }, message("3")),
            (written { $0.noData() }, message("n")),
            (written { $0.emptyQueryResponse() }, message("I")),
            (written { $0.query("A") }, message("Q", [65, 0])),
            (written { $0.query([65, 0xFF] as [UInt8]) }, message("Q", [65, 0xFF, 0])),
            (written { $0.passwordMessage([65]) }, message("p", [65, 0])),
            (written { $0.saslInitialResponse(mechanism: "A", [1]) }, message("p", [65, 0, 0, 0, 0, 1, 1])),
            (written { $0.saslResponse([1]) }, message("p", [1])),
            (written { $0.parse(statement: [65], tail: [66, 0, 0, 0]) }, message("P", [65, 0, 66, 0, 0, 0])),
            (
                written { $0.bindPrefix(portal: [], statement: [65], bodyLength: 6) },
                message("B", [0, 65, 0], length: 13)
            ),
            (written { $0.describe(statement: [65]) }, message("D", [83, 65, 0])),
            (written { $0.close(statement: [65]) }, message("C", [83, 65, 0])),
            (written { $0.execute(portal: "", maximumRows: 1) }, message("E", [0, 0, 0, 0, 1])),
            (written { $0.sync() }, message("S")),
            (written { $0.flush() }, message("H")),
            (written { $0.terminate() }, message("X")),
        ] as [([UInt8], [UInt8])])
    func bytes(bytes: [UInt8], expected: [UInt8]) {
        #expect(bytes == expected)
    }

    @Test func messagesFollowEachOtherAndMemoryIsKept() {
        var writer = MessageWriter()
        #expect(writer.isEmpty)
        writer.parseComplete()
        writer.readyForQuery(.failed)
        #expect(writer.bytes == message("1") + message("Z", [69]))
        writer.removeAll()
        #expect(writer.isEmpty)
    }

    @Test func textEndsAtANUL() {
        #expect(MessageWriter.bytes { $0.query("a\0b") } == message("Q", [97, 0]))
        #expect(MessageWriter.bytes { $0.parameterStatus(name: "", value: [0, 1]) } == message("S", [0, 0]))
    }
}

@Suite struct ErrorFieldsTests {
    @Test func writtenFieldsAreRead() {
        let bytes = MessageWriter.bytes {
            $0.errorResponse(severity: "FATAL", sqlState: "53300", message: "m", detail: "d", hint: "h")
        }
        let fields = ErrorFields(bytes)
        #expect(fields.severity == "FATAL" && fields.isFatal)
        #expect(fields.sqlState == SQLState.tooManyConnections)
        #expect(fields.message == "m" && fields.detail == "d" && fields.hint == "h")
    }

    @Test func noticeIsNotFatal() {
        let bytes = MessageWriter.bytes { $0.noticeResponse(severity: "NOTICE", sqlState: "00000", message: "m") }
        #expect(bytes.first == Backend.noticeResponse)
        #expect(!ErrorFields(bytes).isFatal)
        #expect(ErrorFields(bytes).hint == nil)
    }

    @Test func severityOfAnOldServerIsTranslated() {
        let fields = ErrorFields(message("E", Array("SFEHLER\0Mx\0\0".utf8)))
        #expect(fields.severity == "FEHLER")
        let both = ErrorFields(message("E", Array("SFEHLER\0VFATAL\0\0".utf8)))
        #expect(both.isFatal)
    }

    @Test(
        arguments: [
            (message("E"), "ERROR", "XX000", ""),
            (message("E", [0]), "ERROR", "XX000", ""),
            (message("E", Array("Mhello\0\0".utf8)), "ERROR", "XX000", "hello"),
            (message("E", Array("C42P05\0Mcut of".utf8)), "ERROR", "42P05", "cut of"),
            (message("E", Array("M".utf8)), "ERROR", "XX000", ""),
            (message("E", [77, 0xE9, 0, 0]), "ERROR", "XX000", "\u{FFFD}"),
            ([69], "ERROR", "XX000", ""),
            ([], "ERROR", "XX000", ""),
        ] as [([UInt8], String, String, String)])
    func whatIsMissingOrBroken(bytes: [UInt8], severity: String, sqlState: String, text: String) {
        let fields = ErrorFields(bytes)
        #expect(fields.severity == severity && fields.sqlState == sqlState && fields.message == text)
    }

    @Test func bytesThatAreNotUTF8AreWrittenAsTheyCame() {
        let bytes = message("E", Array("SFATAL\0C57P01\0M".utf8) + [0xE9, 0xFF, 0, 0])
        #expect(MessageWriter.bytes { $0.errorResponse(ErrorFields(bytes)) } == bytes)
    }
}

@Suite struct ServerMessageTests {
    @Test(
        arguments: [
            ([0, 0, 0, 0], .ok), ([0, 0, 0, 3], .cleartextPassword),
            ([0, 0, 0, 5, 1, 2, 3, 4], .md5Password(salt: [1, 2, 3, 4])), ([0, 0, 0, 5, 1, 2, 3], nil),
            ([0, 0, 0, 5, 1, 2, 3, 4, 5], nil), ([0, 0, 0, 10, 65, 0, 66, 0, 0], .sasl(mechanisms: ["A", "B"])),
            ([0, 0, 0, 10, 0], .sasl(mechanisms: [])), ([0, 0, 0, 10, 65, 0], nil), ([0, 0, 0, 10], nil),
            ([0, 0, 0, 11, 1, 0], .saslContinue([1, 0])), ([0, 0, 0, 11], .saslContinue([])),
            ([0, 0, 0, 12, 1], .saslFinal([1])), ([0, 0, 0, 7], .other(7)), ([255, 255, 255, 255], .other(-1)),
            ([0, 0, 0], nil), ([], nil),
        ] as [([UInt8], AuthenticationRequest?)])
    func authentication(body: [UInt8], expected: AuthenticationRequest?) {
        #expect(AuthenticationRequest(message("R", body)) == expected)
    }

    @Test func parameterStatus() {
        let status = ParameterStatus(message("S", Array("TimeZone\0UTC\0".utf8)))
        #expect(status?.name == "TimeZone" && status?.value == Array("UTC".utf8))
        #expect(ParameterStatus(message("S", Array("TimeZone\0UTC".utf8))) == nil)
        #expect(ParameterStatus(message("S", Array("a\0b\0c".utf8))) == nil)
        #expect(ParameterStatus(message("S", [0, 0]))?.name == "")
    }

    @Test func backendKeyData() {
        let data = BackendKeyData(message("K", [0, 0, 1, 2, 3, 4, 5, 6]))
        #expect(data?.processID == 258 && data?.secret == [3, 4, 5, 6] && data?.key == [0, 0, 1, 2, 3, 4, 5, 6])
        #expect(BackendKeyData(message("K", [0, 0, 1, 2, 3, 4, 5])) == nil)
        #expect(BackendKeyData(message("K", [UInt8](repeating: 1, count: 260)))?.secret.count == 256)
        #expect(BackendKeyData(message("K", [UInt8](repeating: 1, count: 261))) == nil)
    }

    @Test func negotiateProtocolVersion() {
        #expect(NegotiateProtocolVersion(message("v", [0, 3, 0, 0, 0, 0, 0, 2, 65, 0])) == nil)
        #expect(NegotiateProtocolVersion(message("v", [0, 3, 0, 0, 255, 255, 255, 255])) == nil)
        #expect(NegotiateProtocolVersion(message("v", [0, 3, 0, 0, 127, 255, 255, 255, 65, 0])) == nil)
        #expect(NegotiateProtocolVersion(message("v", [0, 3, 0, 0, 0, 0, 0, 0, 65])) == nil)
    }

    @Test func commandTag() {
        let bytes = message("C", Array("DISCARD ALL\0".utf8))
        #expect(CommandTag.equals(bytes, "DISCARD ALL"))
        #expect(!CommandTag.equals(bytes, "DISCARD AL"))
        #expect(!CommandTag.equals(bytes, "DISCARD ALLE"))
        #expect(!CommandTag.equals(bytes, "DISCARD ALX"))
        #expect(CommandTag.text(bytes) == "DISCARD ALL")
        #expect(!CommandTag.equals(message("C", [65]), "A"))
        #expect(CommandTag.text(message("C")) == nil)
    }

    @Test func rows() {
        let columns: [RowColumn] = [.text("a"), .int4("b"), .int8("c"), .numeric("d")]
        let bytes = MessageWriter.bytes { $0.rowDescription(columns) }
        #expect(RowDescription.columns(bytes) == columns)
        let values = DataRow.values(MessageWriter.bytes { $0.dataRow(["x", nil, ""]) })
        #expect(values == [[120], nil, []])
        #expect(DataRow.values(message("D", [0, 1, 0, 0, 0, 9, 1])) == nil)
        #expect(DataRow.values(message("D", [0, 1, 255, 255, 255, 254])) == nil)
        #expect(DataRow.values(message("D", [255, 255])) == nil)
        #expect(DataRow.values(message("D", [0, 0, 1])) == nil)
    }

    @Test func readyForQuery() {
        #expect(TransactionStatus(readyForQuery: message("Z", [84])) == .inTransaction)
        #expect(TransactionStatus(readyForQuery: message("Z", [88])) == nil)
        #expect(TransactionStatus(readyForQuery: message("Z")) == nil)
        #expect(TransactionStatus(readyForQuery: message("Z", [84, 84])) == nil)
    }

    @Test(
        arguments: [
            ("15.18", 150_018), ("15.18 (Debian 15.18-1.pgdg120+1)", 150_018), ("16beta1", 160_000),
            ("9.6.24", 90_624), ("9.6", 90_600), ("8.4.0", 80_400), ("18devel", 180_000), ("10.0", 100_000), ("", nil),
            ("beta", nil), (".5", nil), ("15.", 150_000), ("99999999999999999999", 99_990_000),
            ("1.25.2/bouncer", 12_502),
        ] as [(String, Int?)])
    func serverVersion(text: String, number: Int?) {
        #expect(ServerVersion(text)?.number == number)
    }

    @Test func serverVersionOrder() throws {
        let old = try #require(ServerVersion("9.6.24"))
        #expect(old < ServerVersion(number: 150_018) && old.major == 9)
    }
}
