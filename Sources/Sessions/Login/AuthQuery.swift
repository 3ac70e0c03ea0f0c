public import Authentication
public import Settings
import Wire

/// What is asked by `auth_query`: the secret of a user that the `auth_file` lacks.
public struct AuthQuestion: Hashable, Sendable {
    /// The entry of `[databases]` whose server is asked.
    public var database: String
    /// `auth_user`, as whom it is asked.
    public var asker: String
    public var query: String
    /// Whose secret it is.
    public var user: String

    public init(database: String, asker: String, query: String, user: String) {
        self.database = database
        self.asker = asker
        self.query = query
        self.user = user
    }

    /// The question about a client's user; nil where there is nobody to ask.
    ///
    /// - Parameter database: the one that the client wants. For one that does not exist another is asked, so that the
    ///   time it takes does not tell; not so for the console, whose users are no affair of any server's but the one that
    ///   `auth_dbname` names.
    public init?(user: String, database name: String, settings: Settings) {
        let general = settings.general
        let isConsole = name == Settings.consoleDatabase
        let database = isConsole ? nil : settings.database(named: name)
        let query = database?.authQuery ?? general.authQuery
        if let asker = database?.authUser ?? general.authUser,
            let asked = database?.authDbname ?? general.authDbname ?? database?.name
        {
            self.init(database: asked, asker: asker, query: query, user: user)
            return
        }
        guard !isConsole, database == nil,
            let other = settings.databases.values.filter({ ($0.authUser ?? general.authUser) != nil })
                .min(by: { $0.name < $1.name })
        else { return nil }
        self.init(user: user, database: other.name, settings: settings)
    }
}

/// What a server has answered.
public struct AuthAnswer: Sendable, Equatable {
    /// The server knows the user.
    public var isKnown: Bool
    /// Nil for a user without a password, or whose password has expired: no login can succeed.
    public var secret: Secret?
    /// What a user without a secret is asked for: the same as the others.
    public var prefersSCRAM = true
    /// Iterations of the others' secrets.
    public var iterations: Int?
}

/// Reads the replies to one `auth_query`, from its ParseComplete to its ReadyForQuery.
public struct AuthQueryReply {
    private let user: String
    private var answer = AuthAnswer(isKnown: false)
    private var failure: String?

    public init(user: String) { self.user = user }

    /// The messages that ask.
    public static func request(_ question: AuthQuestion) -> [UInt8] {
        let user = Array(question.user.utf8)
        return MessageWriter.bytes { writer in
            // No parameter types: the server finds out.
            writer.parse(statement: [], tail: Array(question.query.utf8.prefix { $0 != 0 }) + [0, 0, 0])
            // One parameter, in text; all results in text.
            writer.bindPrefix(portal: [], statement: [], bodyLength: 2 + 2 + 4 + user.count + 2)
            writer.int16(0)
            writer.int16(1)
            writer.int32(Int32(clamping: user.count))
            writer.raw(user)
            writer.int16(0)
            writer.execute(portal: "")
            writer.sync()
        }
    }

    /// A message has come; gives the end of the reply, an answer or why there is none.
    public mutating func received(_ type: UInt8, _ message: Span<UInt8>) -> Result<AuthAnswer, AuthQueryFailure>? {
        switch type {
        case Backend.dataRow: self.row(DataRow.values(message))
        case Backend.errorResponse:
            let error = ErrorFields(message)
            self.failure = self.failure ?? "\(error.message) (SQLSTATE \(error.sqlState))"
        case Backend.readyForQuery:
            if let failure = self.failure { return .failure(AuthQueryFailure(reason: failure)) }
            return .success(self.answer)
        case Backend.copyInResponse, Backend.copyOutResponse, Backend.copyBothResponse:
            self.failure = "it is a COPY"
        default: break
        }
        return nil
    }

    private mutating func row(_ values: [[UInt8]?]?) {
        guard let values, values.count == 2 else {
            self.failure = "expected 2 columns from auth_query, not \(values?.count ?? 0)"
            return
        }
        guard !self.answer.isKnown else {
            self.failure = "it has more than one row"
            return
        }
        // Whoever comes in as one user must not go on as another.
        guard let name = values[0], name == Array(self.user.utf8) else {
            self.failure = "its first column is not the user that was asked for"
            return
        }
        self.answer.isKnown = true
        if let secret = values[1], !secret.isEmpty { self.answer.secret = Secret(parsing: secret.span) }
    }
}

/// Why an `auth_query` has no answer.
public struct AuthQueryFailure: Error, Equatable {
    /// For the log; clients are not told.
    public var reason: String
    /// The server was not reached, which may pass by itself.
    public var isConnectionFailure = false

    public init(reason: String, isConnectionFailure: Bool = false) {
        self.reason = reason
        self.isConnectionFailure = isConnectionFailure
    }

    /// What the client is told, whoever it is.
    public var forClients: ServerError {
        self.isConnectionFailure
            ? ServerError(message: "authentication is not possible now", sqlState: SQLState.cannotConnectNow)
            : ServerError(message: "bouncer config error", sqlState: SQLState.invalidAuthorization)
    }
}
