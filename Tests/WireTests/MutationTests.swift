import TestSupport
import Testing
import Wire

/// Messages that were cut short, lengthened or changed in some bytes never trap, and no range leaves the bytes.
@Suite struct MutationTests {
    static let samples: [[UInt8]] = [
        MessageWriter.bytes { $0.startup(parameters: [StartupParameter(name: "user", value: "alice")]) },
        MessageWriter.bytes { $0.startup(version: .v32, parameters: [StartupParameter(name: "_pq_.x", value: "1")]) },
        MessageWriter.bytes { $0.cancelRequest(key: [1, 2, 3, 4, 5, 6, 7, 8]) },
        MessageWriter.bytes { $0.sslRequest() },
        MessageWriter.bytes { $0.authenticationSASL(mechanisms: ["SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"]) },
        MessageWriter.bytes { $0.authenticationMD5Password(salt: [1, 2, 3, 4]) },
        MessageWriter.bytes { $0.backendKeyData(processID: 7, secret: [1, 2, 3, 4]) },
        MessageWriter.bytes { $0.parameterStatus(name: "TimeZone", value: "UTC") },
        MessageWriter.bytes { $0.errorResponse(severity: "FATAL", sqlState: "57P01", message: "bye", hint: "wait") },
        MessageWriter.bytes { $0.rowDescription([.text("a"), .int4("b")]) },
        MessageWriter.bytes { $0.dataRow(["a", nil, "c"]) },
        MessageWriter.bytes { $0.commandComplete("DISCARD ALL") },
        MessageWriter.bytes { $0.readyForQuery(.idle) },
        MessageWriter.bytes {
            $0.negotiateProtocolVersion(
                ProtocolNegotiation(requested: ProtocolVersion(major: 3, minor: 9999), extensions: ["_pq_.x"]))
        },
        MessageWriter.bytes { $0.parse(statement: [115], tail: Array("SELECT $1\0".utf8) + [0, 1, 0, 0, 0, 23]) },
        MessageWriter.bytes { $0.bindPrefix(portal: [112], statement: [115], bodyLength: 0) },
        MessageWriter.bytes { $0.describe(statement: [115]) },
        MessageWriter.bytes { $0.execute(portal: "p", maximumRows: 10) },
        MessageWriter.bytes { $0.saslInitialResponse(mechanism: "SCRAM-SHA-256", [1, 2, 3]) },
        MessageWriter.bytes { $0.query("SELECT 1") },
    ]

    @Test(arguments: 0..<8 as Range<UInt64>) func nothingTraps(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        for sample in MutationTests.samples {
            for _ in 0..<150 {
                var bytes = sample
                for _ in 0..<Int.random(in: 0...3, using: &generator) where !bytes.isEmpty {
                    let index = Int.random(in: 0..<bytes.count, using: &generator)
                    bytes[index] =
                        [0, 1, 4, 127, 128, 255, UInt8.random(in: 0...255, using: &generator)]
                        .randomElement(using: &generator) ?? 0
                }
                switch Int.random(in: 0..<4, using: &generator) {
                case 0: bytes.removeLast(Int.random(in: 0...bytes.count, using: &generator))
                case 1: bytes += MutationTests.samples.randomElement(using: &generator) ?? []
                default: break
                }
                self.readAll(bytes)
                self.frame(bytes, &generator)
            }
        }
    }

    private func readAll(_ bytes: [UInt8]) {
        let span = bytes.span
        let whole = 0..<bytes.count
        var ranges: [Range<Int>] = []
        if let parse = ParseMessage(span) { ranges += [parse.statement, parse.query, parse.types, parse.tail] }
        if case .prefix(let bind) = BindPrefix.parse(span) { ranges += [bind.portal, bind.statement, 0..<bind.end] }
        if let target = MessageTarget(span) { ranges.append(target.name) }
        if let execute = ExecuteMessage(span) { ranges.append(execute.portal) }
        if let text = QueryMessage.text(span) { ranges.append(text) }
        #expect(ranges.allSatisfy { whole.clamped(to: $0) == $0 })
        _ = (StartupPacket.parse(span), AuthenticationRequest(span), PasswordMessage.password(span))
        _ = (SASLInitialResponse(span), ErrorFields(span), ParameterStatus(span), BackendKeyData(span))
        _ = (NegotiateProtocolVersion(span), CommandTag.text(span), CommandTag.equals(span, "BEGIN"))
        _ = (DataRow.values(span), RowDescription.columns(span), TransactionStatus(readyForQuery: span))
        _ = (try? StartupOptions.parse(span), ServerVersion(String(decoding: bytes, as: UTF8.self)))
    }

    /// A framer always moves on or stops.
    private func frame(_ bytes: [UInt8], _ generator: inout SeededGenerator) {
        var framer = MessageFramer(maximumLength: Int.random(in: 0...1000, using: &generator))
        var cursor = 0
        while true {
            cursor = framer.skip(bytes.span, at: cursor, until: Frontend.all)
            switch framer.next(bytes.span, at: cursor, gather: [Frontend.parse], gatherLimit: 30) {
            case .message(_, let range), .start(_, _, let range), .middle(let range, _):
                #expect(range.lowerBound == cursor && !range.isEmpty && range.upperBound <= bytes.count)
                cursor = range.upperBound
            case .incomplete(let needed):
                #expect(needed > bytes.count - cursor)
                return
            case .end, .invalid: return
            }
        }
    }
}
