import Authentication
import Reactor

/// Asks a directory whether a password is a user's.
enum DirectoryLogin {
    /// Blocks until a server has answered, or none does. Servers are asked in their order until one can tell.
    static func check(
        user: String, password: SecretBytes, _ options: LDAPOptions, until deadline: MonotonicTime
    ) -> PasswordVerdict {
        guard let question = options.question(about: user) else {
            return .refused("the user's name has characters that method ldap does not allow")
        }
        var failures: [String] = []
        for server in options.servers {
            do throws(LDAPError) {
                let connection = try LDAPConnection(to: server, until: deadline)
                if options.startsTLS { try connection.startTLS() }
                return try Self.ask(connection, question, password)
            } catch {
                failures.append("\(server): \(error)")
                guard error.isUnavailable, deadline > monotonicNow() else { break }
            }
        }
        return .refused(failures.joined(separator: "; "))
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
