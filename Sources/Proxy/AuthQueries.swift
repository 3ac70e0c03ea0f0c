import Authentication
import Reactor
import Sessions
import Settings

/// The questions of all reactors to servers about users; lives on the first reactor. Answers are kept for
/// `auth_query_ttl`, those that there is no such user too.
final class AuthQueries {
    unowned let worker: Worker
    private var lines: [AuthQueryLine.Key: AuthQueryLine] = [:]
    private var answers: [AuthQuestion: (answer: AuthAnswer, expires: MonotonicTime)] = [:]
    /// What the users are like that servers have told of: those that they do not know look the same.
    private var verifiers = 1
    private var others = 0
    private var iterations: Int?

    /// Answers kept. Beyond it those that are over go, and if there are none, all.
    private static let mostAnswers = 10_000
    /// Databases that are asked, each over a connection of its own. Names of databases may come from clients (`*`).
    private static let mostLines = 100

    init(worker: Worker) { self.worker = worker }

    /// Called on the first reactor; the completion too.
    func ask(_ question: AuthQuestion, _ completion: @escaping AuthQueryLine.Completion) {
        if let known = self.answers[question], known.expires > self.worker.now {
            return completion(.success(self.likeOthers(known.answer)))
        }
        let key = AuthQueryLine.Key(database: question.database, asker: question.asker)
        if let line = self.lines[key] { return line.ask(question, completion) }
        if self.lines.count >= Self.mostLines { self.lines = self.lines.filter { !$0.value.isUnused } }
        guard self.lines.count < Self.mostLines else {
            return completion(
                .failure(AuthQueryFailure(reason: "too many databases are asked", isConnectionFailure: true)))
        }
        let line = AuthQueryLine(key, queries: self)
        self.lines[key] = line
        line.ask(question, completion)
    }

    /// A login has failed with this answer: the user may have a new password.
    func forget(_ question: AuthQuestion) { self.answers[question] = nil }

    func line(_ key: AuthQueryLine.Key) -> AuthQueryLine? { self.lines[key] }

    /// A server has answered; gives what the askers are told.
    func answered(
        _ question: AuthQuestion, _ result: AuthQueryLine.Result, isKept: Bool
    ) -> AuthQueryLine.Result {
        guard case .success(let answer) = result else { return result }
        switch answer.secret {
        case .scram(let verifier):
            self.verifiers += 1
            self.iterations = verifier.iterations
        case .md5, .plain: self.others += 1
        case nil: break
        }
        let ttl = self.worker.configuration.settings.general.authQueryTtl
        if ttl > 0, isKept {
            let now = self.worker.now
            if self.answers.count >= Self.mostAnswers { self.answers = self.answers.filter { $0.value.expires > now } }
            if self.answers.count >= Self.mostAnswers { self.answers = [:] }
            self.answers[question] = (answer, now + ttl)
        }
        return .success(self.likeOthers(answer))
    }

    private func likeOthers(_ answer: AuthAnswer) -> AuthAnswer {
        var answer = answer
        answer.prefersSCRAM = self.verifiers > self.others
        answer.iterations = self.iterations
        return answer
    }

    /// Connections that nobody asks anything on are closed, others when they have answered.
    ///
    /// - Parameter database: whose; nil for all.
    func renew(_ database: String?) {
        for (key, line) in self.lines where database == nil || key.database == database { line.renew() }
    }

    /// The same for connections of which a closure is true.
    func renew(where isObsolete: (OwnConnection) -> Bool) {
        for line in self.lines.values where line.connection.map(isObsolete) ?? false { line.renew() }
    }

    /// A PAUSE is over.
    func resume() {
        for line in self.lines.values { line.pump() }
    }

    /// Settings have changed: nothing of what was asked under the old ones counts any more.
    func settingsChanged() {
        self.answers = [:]
        for line in self.lines.values { line.renew() }
        self.lines = self.lines.filter { !$0.value.isUnused }
    }
}
