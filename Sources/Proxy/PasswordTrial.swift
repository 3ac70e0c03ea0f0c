import Authentication
import DequeModule
import Logging
import Reactor
import Sessions
import Settings
import Wire

/// A client's password, tried at the server (`auth_passthrough`).
///
/// Only SCRAM will do there: it shows that the password is right without showing the password, to whoever plays the
/// server; and it leaves the keys by which the pool's own connections log in afterwards.
final class PasswordTrial: OwnConnection {
    typealias Completion = @Sendable (Result<SCRAMKeys, ServerError>) -> Void

    private let completion: Completion
    /// What the login derived from the password.
    private var keys: SCRAMKeys?

    init(
        _ worker: Worker, _ request: PasswordTrials.Request, host: HostAddress, address: SocketAddress,
        database: DatabaseSettings
    ) throws(SystemError) {
        self.completion = request.completion
        try super.init(
            worker, host: host, address: address, database: database,
            credentials: Credentials(user: request.user, secret: .plain(request.password), isPasswordTrial: true))
    }

    override func derived(_ keys: SCRAMKeys?) { self.keys = keys }

    override func ready() {
        let keys = self.keys
        self.depart()
        guard let keys else { return self.finish(.failure(PasswordTrials.unavailable)) }
        self.finish(.success(keys))
    }

    override func ended(_ error: ServerError) { self.finish(.failure(error)) }

    override func timedOut() {
        self.fail(ServerError(message: "connect timeout", sqlState: SQLState.connectionFailure))
    }

    private func finish(_ result: Result<SCRAMKeys, ServerError>) {
        self.completion(result)
        self.worker.passwordTrials.ended()
    }
}

/// Passwords that wait to be tried; lives on the first reactor. The number of those under way is bounded, so that strangers
/// who guess do not take the server's connections away.
final class PasswordTrials {
    struct Request: Sendable {
        let database: String
        let user: String
        let password: SecretBytes
        let completion: PasswordTrial.Completion
    }

    private static let mostUnderWay = 16
    private static let mostWaiting = 1_000
    static let unavailable = AuthQueryFailure(reason: "", isConnectionFailure: true).forClients

    unowned let worker: Worker
    private var waiting = Deque<Request>()
    private var underWay = 0

    init(worker: Worker) { self.worker = worker }

    /// Called on the first reactor; the completion too. A failure is what the server, or the way to it, says.
    func add(_ request: Request) {
        guard self.waiting.count < Self.mostWaiting else { return request.completion(.failure(Self.unavailable)) }
        self.waiting.append(request)
        self.next()
    }

    /// Begins those that may begin now. While a database is paused its logins wait; they are few, or refused.
    func next() {
        var paused = Deque<Request>()
        defer { self.waiting.prepend(contentsOf: paused) }
        while self.underWay < Self.mostUnderWay, let request = self.waiting.popFirst() {
            if self.worker.isPaused(request.database) {
                paused.append(request)
                continue
            }
            self.underWay += 1
            self.begin(request)
        }
    }

    private func begin(_ request: Request) {
        guard let database = self.worker.configuration.settings.database(named: request.database) else {
            request.completion(.failure(Self.unavailable))
            return self.ended()
        }
        self.worker.findServer(of: database, attempt: 0) { worker, host, address in
            do {
                let trial = try PasswordTrial(
                    worker, request, host: host, address: address.get(), database: database)
                trial.setDeadline(worker.now + worker.ownPatience)
                trial.start()
            } catch {
                request.completion(
                    .failure(error as? ServerError ?? ServerError(message: "\(error)", sqlState: "08006")))
                worker.passwordTrials.ended()
            }
        }
    }

    /// A trial is over.
    func ended() {
        self.underWay -= 1
        self.next()
    }
}
