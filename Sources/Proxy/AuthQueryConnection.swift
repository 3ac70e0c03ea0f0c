import Authentication
import Reactor
import Sessions
import Settings
import Wire

/// A connection on which `auth_query` is asked, and nothing else.
final class AuthQueryConnection: OwnConnection {
    /// The longest reply message; a secret has at most 65,535 bytes.
    private static let messageLimit = 128 << 10

    private unowned let line: AuthQueryLine
    private var framer = MessageFramer(maximumLength: AuthQueryConnection.messageLimit)

    init(
        _ line: AuthQueryLine, host: HostAddress, address: SocketAddress, database: DatabaseSettings, asker: String
    ) throws(SystemError) {
        self.line = line
        let configuration = line.worker.configuration
        let secret =
            if database.user == asker, let password = database.password {
                Secret(parsing: password) as Secret?
            } else {
                configuration.secrets[asker]
            }
        try super.init(
            line.worker, host: host, address: address, database: database,
            credentials: Credentials(user: asker, secret: secret))
    }

    override func ready() { self.line.ready(self) }

    override func receivedReplies(_ bytes: Span<UInt8>) -> Int {
        var cursor = 0
        while self.isOpen {
            switch self.framer.next(bytes, at: cursor, gather: Backend.all) {
            case .message(let type, let range):
                cursor = range.upperBound
                self.line.received(type, bytes.extracting(range), on: self)
            case .incomplete(let needed):
                self.holdLimit = max(needed, 1024)
                return cursor
            case .end: return cursor
            case .start, .middle, .invalid:
                self.fail(ServerError(message: "bad packet from server", sqlState: SQLState.protocolViolation))
                return bytes.count
            }
        }
        return bytes.count
    }

    override func ended(_ error: ServerError) { self.line.lost(self, error) }
    override func timedOut() { self.line.timedOut(self) }
}
