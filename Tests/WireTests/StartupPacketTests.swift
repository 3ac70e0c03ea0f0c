import Testing

@testable import Wire

/// A startup packet of a version and the given bytes behind it.
private func packet(_ code: UInt32, _ body: [UInt8] = [], length: UInt32? = nil) -> [UInt8] {
    let length = length ?? UInt32(body.count + 8)
    return [length, code].flatMap { word in (0..<4).map { UInt8(truncatingIfNeeded: word >> UInt32(24 - 8 * $0)) } }
        + body
}

private func parameters(_ texts: String...) -> [UInt8] {
    texts.flatMap { Array($0.utf8) + [0] } + [0]
}

private let v30: UInt32 = 3 << 16

@Suite struct StartupPacketTests {
    private func startup(_ body: [UInt8], code: UInt32 = v30) throws -> StartupMessage {
        let bytes = packet(code, body)
        guard case .packet(.startup(let message), let length) = StartupPacket.parse(bytes) else {
            throw Failure(outcome: StartupPacket.parse(bytes))
        }
        #expect(length == bytes.count)
        return message
    }

    private struct Failure: Error { let outcome: StartupPacket.Outcome }

    @Test func startupMessage() throws {
        let message = try self.startup(
            parameters(
                "user", "alice", "database", "shop", "options", "-c geqo=off", "application_name", "psql",
                "_pq_.command_progress", "on", "replication", "false"))
        #expect(message.version == .v30)
        #expect(message.user == "alice")
        #expect(message.database == "shop")
        #expect(message.options == Array("-c geqo=off".utf8))
        #expect(message.replication == "false")
        #expect(message.parameters == [StartupParameter(name: "application_name", value: "psql")])
        #expect(message.extensions == ["_pq_.command_progress"])
        #expect(message.value(of: "Application_Name") == Array("psql".utf8))
        #expect(message.value(of: "user") == nil)
    }

    @Test func databaseDefaultsToTheUser() throws {
        #expect(try self.startup(parameters("user", "alice")).database == "alice")
        #expect(try self.startup(parameters("user", "alice", "database", "")).database == "alice")
    }

    @Test func lastOneHolds() throws {
        let message = try self.startup(parameters("user", "a", "TimeZone", "UTC", "timezone", "GMT", "user", "b"))
        #expect(message.user == "b")
        #expect(message.value(of: "TIMEZONE") == Array("GMT".utf8))
    }

    @Test func valueThatIsNotUTF8IsKept() throws {
        let message = try self.startup(parameters("user", "a").dropLast() + Array("x".utf8) + [0, 0xE9, 0xFF, 0, 0])
        #expect(message.parameters == [StartupParameter(name: "x", value: [0xE9, 0xFF])])
        #expect(message.parameters.first?.text == "\u{FFFD}\u{FFFD}")
    }

    /// Swift takes the second of each pair for equal to the first; PostgreSQL does not.
    @Test(arguments: [
        ("Kate", "\u{212A}ate"), ("caf\u{E9}", "cafe\u{301}"), ("\u{AC00}", "\u{1100}\u{1161}"),
        ("\u{C5}", "\u{212B}"), ("a;b", "a\u{37E}b"), ("q\u{323}\u{307}", "q\u{307}\u{323}"),
    ])
    func ofNamesThatAreEqualToUnicodeOneIsTaken(taken: String, refused: String) throws {
        #expect(taken == refused)
        #expect(try self.startup(parameters("user", taken, "database", taken)).user.utf8.elementsEqual(taken.utf8))
        for (user, database, parameter) in [(refused, "x", "user"), ("x", refused, "database")] {
            let bytes = packet(v30, parameters("user", user, "database", database))
            #expect(StartupPacket.parse(bytes) == .invalid(.notNormalized(parameter)))
        }
    }

    @Test func emptyValue() throws {
        let message = try self.startup(parameters("user", "a", "application_name", ""))
        #expect(message.value(of: "application_name") == [])
    }

    @Test func requests() {
        #expect(StartupPacket.parse(packet(80_877_103)) == .packet(.sslRequest, length: 8))
        #expect(StartupPacket.parse(packet(80_877_104)) == .packet(.gssEncRequest, length: 8))
        let key: [UInt8] = [0, 0, 0, 1, 2, 3, 4, 5]
        #expect(StartupPacket.parse(packet(80_877_102, key)) == .packet(.cancel(key: key), length: 16))
        let long = [UInt8](repeating: 7, count: 260)
        #expect(StartupPacket.parse(packet(80_877_102, long)) == .packet(.cancel(key: long), length: 268))
    }

    /// What follows a request in the same packet is the caller's to refuse: it sees that the packet is shorter.
    @Test func bytesBehindARequest() {
        let bytes = packet(80_877_103) + [1, 2, 3]
        #expect(StartupPacket.parse(bytes) == .packet(.sslRequest, length: 8))
    }

    @Test func directTLS() {
        #expect(StartupPacket.parse([0x16, 3, 1]) == .directTLS)
    }

    @Test(arguments: [0, 1, 3, 4, 7, 8, 12]) func incomplete(count: Int) {
        let bytes = packet(v30, parameters("user", "a"))
        let expected = count < 8 ? 8 : bytes.count
        #expect(StartupPacket.parse(Array(bytes.prefix(count))) == .incomplete(needed: expected))
    }

    @Test(arguments: [0, 4, 7, 10_005, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF] as [UInt32])
    func lengthIsRefusedBeforeTheRestIsThere(length: UInt32) {
        let bytes = Array(packet(v30, length: length).prefix(4))
        #expect(StartupPacket.parse(bytes) == .invalid(.invalidLength))
    }

    @Test func longestPacket() {
        let bytes = packet(v30, length: 10_004)
        #expect(StartupPacket.parse(bytes) == .incomplete(needed: 10_004))
    }

    @Test func rubbish() {
        #expect(StartupPacket.parse(Array("GET / HTTP/1.1\r\n".utf8)) == .invalid(.invalidLength))
    }

    @Test(
        arguments: [
            (packet(2 << 16), .unsupportedVersion(ProtocolVersion(major: 2, minor: 0))),
            (packet(4 << 16), .unsupportedVersion(ProtocolVersion(major: 4, minor: 0))),
            (packet(0), .unsupportedVersion(ProtocolVersion(major: 0, minor: 0))),
            (packet(v30), .invalidLayout),
            (packet(v30, [0]), .missingUser),
            (packet(v30, parameters("user", "")), .missingUser),
            (packet(v30, parameters("database", "x")), .missingUser),
            (packet(v30, Array("user".utf8)), .invalidLayout),
            (packet(v30, Array("user".utf8) + [0]), .invalidLayout),
            (packet(v30, Array("user".utf8) + [0] + Array("a".utf8)), .invalidLayout),
            (packet(v30, Array("user".utf8) + [0] + Array("a".utf8) + [0]), .invalidLayout),
            (packet(v30, parameters("user", "a") + [1]), .invalidLayout),
            (packet(v30, parameters("user", "a") + [0]), .invalidLayout),
            (packet(v30, Array("user".utf8) + [0, 0xFF, 0, 0]), .invalidText("user")),
            (packet(v30, [0xFF, 0, 0, 0]), .invalidText("\u{FFFD}")),
            (packet(80_877_103, [0]), .invalidLength),
            (packet(80_877_104, [0]), .invalidLength),
            (packet(80_877_102), .invalidCancelLength),
            (packet(80_877_102, [0, 0, 0, 1, 2, 3, 4]), .invalidCancelLength),
            (packet(80_877_102, [UInt8](repeating: 0, count: 261)), .invalidCancelLength),
        ] as [([UInt8], StartupPacketError)])
    func refused(bytes: [UInt8], error: StartupPacketError) {
        #expect(StartupPacket.parse(bytes) == .invalid(error))
        #expect(!error.message.isEmpty && error.sqlState.utf8.count == 5)
    }

    @Test(
        arguments: [
            (0, [], 0, false), (1, [], 1, false), (2, [], 2, false), (3, [], 2, true), (9999, [], 2, true),
            (0, ["_pq_.x"], 0, true), (9999, ["_pq_.x"], 2, true),
        ] as [(UInt16, [String], UInt16, Bool)])
    func negotiation(minor: UInt16, extensions: [String], served: UInt16, answer: Bool) {
        let requested = ProtocolVersion(major: 3, minor: minor)
        let negotiation = ProtocolNegotiation(requested: requested, extensions: extensions)
        #expect(negotiation.version == ProtocolVersion(major: 3, minor: served))
        #expect(negotiation.version.hasVariableSecrets == (served >= 2))
        #expect(negotiation.answerNeeded == answer)
        let bytes = MessageWriter.bytes { $0.negotiateProtocolVersion(negotiation) }
        #expect(NegotiateProtocolVersion(bytes)?.version == negotiation.version)
        #expect(NegotiateProtocolVersion(bytes)?.unknownExtensions == extensions)
    }

    @Test func writtenStartupIsRead() throws {
        let bytes = MessageWriter.bytes {
            $0.startup(
                version: .v32,
                parameters: [
                    StartupParameter(name: "user", value: "ål"), StartupParameter(name: "", value: "ends the list"),
                    StartupParameter(name: "\0", value: "too"), StartupParameter(name: "a", value: "b\0database\0c"),
                ])
        }
        guard case .packet(.startup(let message), length: bytes.count) = StartupPacket.parse(bytes) else {
            Issue.record("not a startup packet")
            return
        }
        #expect(message.version == .v32)
        #expect(message.database == "ål")
        #expect(message.parameters == [StartupParameter(name: "a", value: "b")])
    }

    @Test func writtenRequestsAreRead() {
        #expect(StartupPacket.parse(MessageWriter.bytes { $0.sslRequest() }) == .packet(.sslRequest, length: 8))
        let key: [UInt8] = [1, 2, 3, 4, 5, 6, 7, 8]
        let cancel = MessageWriter.bytes { $0.cancelRequest(key: key) }
        #expect(StartupPacket.parse(cancel) == .packet(.cancel(key: key), length: 16))
    }
}

@Suite struct StartupOptionsTests {
    @Test(
        arguments: [
            ("", []),
            ("  \t\n ", []),
            ("-c geqo=off", ["geqo=off"]),
            ("-cgeqo=off", ["geqo=off"]),
            ("--geqo=off", ["geqo=off"]),
            ("  -c a=1   --b-c=2\t-cd=3 ", ["a=1", "b_c=2", "d=3"]),
            ("-c search_path=a,\\ b", ["search_path=a, b"]),
            ("-c a=x\\\\y", ["a=x\\y"]),
            ("-c a=b=c", ["a=b=c"]),
            ("-c a=", ["a="]),
            ("-c a=1\\", ["a=1"]),
            ("--a=é", ["a=é"]),
            ("-c\\ a=1", [" a=1"]),
        ] as [(String, [String])])
    func settings(options: String, expected: [String]) throws {
        let parsed = try StartupOptions.parse(Array(options.utf8))
        #expect(parsed.map { "\($0.name)=\($0.text)" } == expected)
    }

    @Test(
        arguments: [
            ("-c=", .emptyName), ("-c =5", .emptyName), ("--=5", .emptyName), ("-c", .missingArgument),
            ("-c geqo", .missingValue("-c geqo")), ("--geqo", .missingValue("--geqo")), ("--", .missingValue("--")),
            ("-B 5", .unknownSwitch("-B")), ("-e", .unknownSwitch("-e")), ("-", .unknownSwitch("-")),
            ("geqo=off", .unknownSwitch("geqo=off")), ("\\", .unknownSwitch("")),
        ] as [(String, StartupOptionsError)])
    func refused(options: String, error: StartupOptionsError) {
        #expect(throws: error) { try StartupOptions.parse(Array(options.utf8)) }
        #expect(!error.message.isEmpty && error.sqlState == "42601")
    }

    @Test func valueThatIsNotUTF8IsKept() throws {
        let parsed = try StartupOptions.parse((Array("-c a=".utf8) + [0xE9]))
        #expect(parsed == [StartupParameter(name: "a", value: [0xE9])])
    }
}
