package import Authentication
package import Reactor
import Synchronization

/// Asks directories whether a password is a user's. Their servers are asked in their order until one can tell; one that
/// could not is asked last for a while, so that not every login waits for it.
package final class Directories: Sendable {
    package static let pause: MonotonicTime = 30_000_000

    /// Servers that could not tell, and until when they are asked last.
    private let away = Mutex<[String: MonotonicTime]>([:])

    /// Blocks until a server has answered, or none does.
    package func check(
        user: String, password: SecretBytes, _ options: LDAPOptions, until deadline: MonotonicTime
    ) -> PasswordVerdict {
        guard let question = options.question(about: user) else {
            return .refused("the user's name has characters that method ldap does not allow")
        }
        var failures: [String] = []
        for server in self.inOrder(options.servers, now: monotonicNow()) {
            do throws(LDAPError) {
                let connection = try LDAPConnection(to: server, until: deadline)
                if options.startsTLS { try connection.startTLS() }
                let verdict = try Self.ask(connection, question, password)
                self.noteAnswer(of: server)
                return verdict
            } catch {
                failures.append("\(server): \(error)")
                guard error.isUnavailable else {
                    self.noteAnswer(of: server)
                    break
                }
                let now = monotonicNow()
                self.noteAbsence(of: server, now: now)
                guard deadline > now else { break }
            }
        }
        return .refused(failures.joined(separator: "; "))
    }

    /// The servers that are not away, then the others.
    package func inOrder(_ servers: [String], now: MonotonicTime) -> [String] {
        self.away.withLock { away in
            var here: [String] = []
            var elsewhere: [String] = []
            for server in servers {
                guard let end = away[server] else {
                    here.append(server)
                    continue
                }
                guard end <= now else {
                    elsewhere.append(server)
                    continue
                }
                // One login tries it again, the others after that has been found out.
                away[server] = now + Self.pause
                here.append(server)
            }
            return here + elsewhere
        }
    }

    package func noteAnswer(of server: String) { self.away.withLock { _ = $0.removeValue(forKey: server) } }

    package func noteAbsence(of server: String, now: MonotonicTime) {
        self.away.withLock { $0[server] = now + Self.pause }
    }

    private static func ask(
        _ connection: LDAPConnection, _ question: LDAPOptions.Question, _ password: SecretBytes
    ) throws(LDAPError) -> PasswordVerdict {
        switch question {
        case .bind(let name): try connection.bind(name: name, password: password.span)
        case .find(let search, let filter):
            // Without a searcher this is a bind as nobody.
            let secret = search.searcher?.password ?? SecretBytes([])
            try connection.bind(name: search.searcher?.name ?? "", password: secret.span)
            let names = try connection.search(base: search.base, scope: search.scope.ofConnection, filter: filter)
            guard let name = names.first else { return .refused("there is nobody of this name: \(filter)") }
            guard names.count == 1 else { return .refused("there is more than one of this name: \(filter)") }
            try connection.bind(name: name, password: password.span)
        }
        return .right
    }
}

extension LDAPOptions.Scope {
    fileprivate var ofConnection: LDAPConnection.Scope {
        switch self {
        case .base: .base
        case .oneLevel: .oneLevel
        case .subtree: .subtree
        }
    }
}
