/// How a directory is asked whether a password is a user's: the options of method `ldap` (PostgreSQL's manual, "LDAP
/// Authentication").
public struct LDAPOptions: Sendable, Equatable {
    /// How deep a search goes below its base.
    public enum Scope: Sendable {
        case base
        case oneLevel
        case subtree
    }

    /// Where the entry of a user is found.
    public struct Search: Sendable, Equatable {
        public let base: String
        public let scope: Scope
        /// Who searches; nil is nobody in particular.
        public let searcher: Searcher?
        /// The filter, cut where the user's name stands in it.
        let filter: [String]
    }

    /// Whom the directory allows to search.
    public struct Searcher: Sendable, Equatable {
        public let name: String
        public let password: SecretBytes
    }

    enum Mode: Sendable, Equatable {
        /// The directory knows the user by this, the name and that.
        case simple(prefix: String, suffix: String)
        case search(Search)
    }

    /// What a directory is to be asked about a user.
    public enum Question: Sendable, Equatable {
        /// Whether the password is that of this name.
        case bind(String)
        /// Whether the password is that of the only entry that fits the filter.
        case find(Search, filter: String)
    }

    /// `ldap[s]://host:port` of each server, at least one; the next is asked when one does not answer.
    public let servers: [String]
    /// Begins TLS before anything is told.
    public let startsTLS: Bool
    let mode: Mode

    /// What to ask about a user; nil if the name has characters that mean something to a directory. To let them pass is to
    /// let the client choose whose password counts.
    public func question(about user: String) -> Question? {
        guard let first = user.utf8.first, let last = user.utf8.last, first != Self.blank, last != Self.blank,
            user.utf8.allSatisfy({ $0 >= Self.blank && $0 != 0x7f })
        else { return nil }
        switch self.mode {
        case .search(let search):
            // As in PostgreSQL.
            guard !Self.contains(user, #"*()\/"#) else { return nil }
            return .find(search, filter: search.filter.joined(separator: user))
        case .simple(let prefix, let suffix):
            guard !Self.contains(user, #"\,+"<>;"#), first != UInt8(ascii: "#") else { return nil }
            // These are harmless as the value of an attribute; else the name is not one of an entry, or all of it.
            guard prefix.utf8.contains(UInt8(ascii: "=")) || !Self.contains(user, "*()/=") else { return nil }
            return .bind(prefix + user + suffix)
        }
    }

    private static let blank = UInt8(ascii: " ")

    /// By bytes: a comma with an accent is one `Character`, and a comma.
    private static func contains(_ text: String, _ bytes: StaticString) -> Bool {
        let bytes = bytes.description.utf8
        return text.utf8.contains { bytes.contains($0) }
    }
}
