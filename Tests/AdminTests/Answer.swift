import Admin
import Logging
import Proxy
import Sessions

/// An answer of the console, taken apart as a client would.
struct Answer: Equatable {
    struct Fields: Equatable {
        var severity = ""
        var sqlState = ""
        var message = ""
        var detail: String?
        var hint: String?
    }

    /// The type bytes of all messages, in order.
    private(set) var types = ""
    private(set) var columns: [String] = []
    private(set) var typeOIDs: [UInt32] = []
    private(set) var rows: [[String?]] = []
    private(set) var tag: String?
    private(set) var error: Fields?
    private(set) var notices: [Fields] = []

    init(_ bytes: [UInt8]) {
        var rest = bytes[...]
        while rest.count >= 5 {
            let type = Character(Unicode.Scalar(rest.removeFirst()))
            self.types.append(type)
            let length = Int(Self.number(&rest, 4))
            var body = rest.prefix(length - 4)
            rest = rest.dropFirst(length - 4)
            switch type {
            case "T":
                for _ in 0..<Self.number(&body, 2) {
                    self.columns.append(Self.text(&body))
                    body = body.dropFirst(6)
                    self.typeOIDs.append(Self.number(&body, 4))
                    body = body.dropFirst(8)
                }
            case "D":
                self.rows.append(
                    (0..<Self.number(&body, 2)).map { _ in
                        let length = Self.number(&body, 4)
                        guard length != UInt32.max else { return nil }
                        defer { body = body.dropFirst(Int(length)) }
                        return String(decoding: body.prefix(Int(length)), as: UTF8.self)
                    })
            case "C": self.tag = Self.text(&body)
            case "E": self.error = Self.fields(&body)
            case "N": self.notices.append(Self.fields(&body))
            default: break
            }
        }
    }

    /// The answer of a console to a query.
    static func to(
        _ query: String, as role: ConsoleRole = .admin, _ host: FakeHost = FakeHost(), history: StatisticsHistory? = nil
    ) async -> Answer {
        Answer(
            await Self.console(history: history).execute(
                Array(query.utf8), as: role, client: "C-0x1: pgbouncer/admin@127.0.0.1:1", host: host))
    }

    /// A console that logs nothing.
    static func console(history: StatisticsHistory? = nil) -> Console {
        Console(
            history: history ?? StatisticsHistory(start: Console.now),
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    }

    /// The first row by column name.
    var firstRow: [String: String?] {
        Dictionary(zip(self.columns, self.rows.first ?? [])) { first, _ in first }
    }

    private static func number(_ bytes: inout ArraySlice<UInt8>, _ size: Int) -> UInt32 {
        let value = bytes.prefix(size).reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        bytes = bytes.dropFirst(size)
        return value
    }

    private static func text(_ bytes: inout ArraySlice<UInt8>) -> String {
        let text = bytes.prefix { $0 != 0 }
        bytes = bytes.dropFirst(text.count + 1)
        return String(decoding: text, as: UTF8.self)
    }

    private static func fields(_ bytes: inout ArraySlice<UInt8>) -> Fields {
        var fields = Fields()
        while let code = bytes.popFirst(), code != 0 {
            let value = Self.text(&bytes)
            switch code {
            case UInt8(ascii: "S"): fields.severity = value
            case UInt8(ascii: "C"): fields.sqlState = value
            case UInt8(ascii: "M"): fields.message = value
            case UInt8(ascii: "D"): fields.detail = value
            case UInt8(ascii: "H"): fields.hint = value
            default: break
            }
        }
        return fields
    }
}
