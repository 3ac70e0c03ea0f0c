import Reactor
import Sessions
import Settings
import Wire

/// A client of the database `pgbouncer`: simple queries only, one at a time, answered by the console away from the
/// event loop.
final class ConsoleSession {
    private unowned let client: ClientSession
    private let sharedUser: SharedUser
    private let statistics: DatabaseStatistics
    var user: String { self.sharedUser.name }
    let role: ConsoleRole
    private var running: Task<Void, Never>?

    /// The longest command.
    private static let limit = 64 * 1024

    /// The client counts among those of the console and of its user already.
    init(_ client: ClientSession, user: SharedUser, role: ConsoleRole) {
        self.client = client
        self.sharedUser = user
        self.statistics = client.worker.statistics(of: Settings.consoleDatabase)
        self.role = role
        self.statistics.counters.clientLoginCount &+= 1
    }

    func received(_ bytes: Span<UInt8>) -> Int {
        var cursor = 0
        var framer = MessageFramer(maximumLength: Self.limit)
        while self.client.console === self, self.running == nil, !self.client.isClosed {
            switch framer.next(bytes, at: cursor, gather: [Frontend.query]) {
            case .message(Frontend.query, let range):
                cursor = range.upperBound
                let message = bytes.extracting(range)
                guard let text = QueryMessage.text(message) else {
                    self.client.fail(ServerError(message: "bad packet", sqlState: SQLState.protocolViolation))
                    return bytes.count
                }
                self.execute(message.copy(text))
            case .message(Frontend.terminate, _):
                self.client.terminated()
                return bytes.count
            case .incomplete(let needed):
                self.client.holdLimit = max(needed, 512)
                return cursor
            case .end: return cursor
            case .message, .start, .middle:
                self.client.send(self.client.worker.console.extendedProtocolError)
                self.client.over(
                    "extended query protocol not supported by admin console", isOrderly: false, tellsClient: true)
                return bytes.count
            case .invalid:
                self.client.fail(.badPacketHeader(bytes, at: cursor))
                return bytes.count
            }
        }
        return cursor
    }

    private func execute(_ query: [UInt8]) {
        let id = self.client.id
        let mailbox = self.client.worker.mailbox
        let console = self.client.worker.console
        let proxy = self.client.worker.proxy
        let role = self.role
        let prefix = self.client.prefix
        self.statistics.counters.transactionCount &+= 1
        self.statistics.counters.queryCount &+= 1
        self.running = Task {
            let answer = await console.execute(query, as: role, client: prefix, host: proxy)
            mailbox.post { worker in
                guard let client = worker.clients[id], let session = client.console else { return }
                session.running = nil
                client.send(answer)
                client.redeliver()
            }
        }
    }

    func cancel() { self.running?.cancel() }

    func abandoned() {
        self.running?.cancel()
        self.client.console = nil
        self.client.worker.shared.consoleClients.give()
        self.sharedUser.clients.give()
    }
}
