import Glibc
import Reactor
import Wire

/// A server that answers whatever it is asked with the same row, at once: behind a pooler it leaves the pooler as what is
/// slow. For the bench on machines with many cores, where PostgreSQL would be the limit.
///
///     standin PORT THREADS
///
/// It lets everybody in and knows neither transactions nor errors. A stranger's broken message ends its connection.
@main
enum StandIn {
    static func main() throws {
        let arguments = CommandLine.arguments.dropFirst().map { UInt16($0) }
        guard arguments.count == 2, let port = arguments[0], let threads = arguments[1],
            let address = SocketAddress(ip: "127.0.0.1", port: port)
        else {
            print("usage: standin PORT THREADS")
            exit(2)
        }
        var options = ListenOptions()
        options.reusePort = true
        let sockets = try (0..<threads).map { _ in try ListeningSocket(address, options) }
        for (number, socket) in sockets.enumerated() {
            try startThread("standin \(number)") {
                do {
                    let loop = try EventLoop(.epoll)
                    let listener = Listener(loop: loop, socket) { accepted in
                        StandInSession(loop: loop, socket: accepted).start()
                    } failed: {
                        print("accept: \($0)")
                    }
                    listener.setOptions(SocketOptions())
                    loop.run()
                } catch {
                    print("thread \(number): \(error)")
                    exit(1)
                }
            }
        }
        while true { pause() }
    }
}

/// One connection of the stand-in.
final class StandInSession: Connection {
    private var isStarted = false
    private var framer = MessageFramer()
    private var answer = MessageWriter()

    override func received(_ bytes: Span<UInt8>) -> Int {
        var cursor = 0
        if !self.isStarted {
            switch StartupPacket.parse(bytes) {
            case .packet(.startup, let length):
                self.isStarted = true
                self.answer.raw(Self.greeting)
                cursor = length
            case .packet(.sslRequest, let length), .packet(.gssEncRequest, let length):
                self.answer.byte(UInt8(ascii: "N"))
                cursor = length
            case .incomplete:
                return 0
            case .packet(.cancel, _), .directTLS, .invalid:
                self.close()
                return bytes.count
            }
        }
        messages: while self.isStarted {
            switch self.framer.next(bytes, at: cursor, gather: [Frontend.describe]) {
            case .message(let type, let range):
                self.answer(type, isPortal: range.count > 5 && bytes[range.lowerBound + 5] == UInt8(ascii: "P"))
                cursor = range.upperBound
            case .start(let type, _, let range):
                self.answer(type, isPortal: false)
                cursor = range.upperBound
            case .middle(let range, _):
                cursor = range.upperBound
            case .incomplete, .end:
                break messages
            case .invalid:
                self.close()
                return bytes.count
            }
            if self.isClosed { return bytes.count }
        }
        self.send(self.answer.bytes)
        self.answer.removeAll()
        return cursor
    }

    /// - Parameter isPortal: for Describe, of a portal and not of a statement.
    private func answer(_ type: UInt8, isPortal: Bool) {
        switch type {
        case Frontend.query: self.answer.raw(Self.result)
        case Frontend.parse: self.answer.parseComplete()
        case Frontend.bind: self.answer.bindComplete()
        case Frontend.describe:
            if !isPortal { self.answer.noParameters() }
            self.answer.raw(Self.description)
        case Frontend.execute: self.answer.raw(Self.row)
        case Frontend.close: self.answer.closeComplete()
        case Frontend.sync: self.answer.readyForQuery(.idle)
        case Frontend.terminate: self.close()
        default: break
        }
    }

    private static let greeting = MessageWriter.bytes {
        $0.authenticationOk()
        for (name, value) in [
            ("server_version", "15.0"), ("server_encoding", "UTF8"), ("client_encoding", "UTF8"),
            ("DateStyle", "ISO, MDY"), ("IntervalStyle", "postgres"), ("TimeZone", "UTC"), ("integer_datetimes", "on"),
            ("standard_conforming_strings", "on"), ("application_name", ""), ("is_superuser", "off"),
            ("in_hot_standby", "off"), ("default_transaction_read_only", "off"), ("session_authorization", "app"),
        ] {
            $0.parameterStatus(name: name, value: value)
        }
        $0.backendKeyData(processID: 1, secret: [0, 0, 0, 1])
        $0.readyForQuery(.idle)
    }

    private static let row = MessageWriter.bytes {
        $0.dataRow(["1"])
        $0.commandComplete("SELECT 1")
    }

    private static let result = MessageWriter.bytes {
        $0.raw(description)
        $0.raw(row)
        $0.readyForQuery(.idle)
    }

    private static let description = MessageWriter.bytes { $0.rowDescription([.int4("n")]) }
}
