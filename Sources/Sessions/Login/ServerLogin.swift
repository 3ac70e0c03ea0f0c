public import Authentication
public import Settings
public import Wire

/// Logs in to a server: startup packet, whatever authentication the server asks for, the session's parameters and
/// cancel key, until it is ready. Takes bytes and keys, says what to do; `ServerSession+Login` does it.
///
///     start ──begin──► authenticating ──────────AuthenticationOk──────────────┐
///                        │     └──cleartext, MD5──► answered ──Ok────────────┤
///                        └──SASL──► scram ──SASLFinal──► verified ──Ok───────┤
///                                   │   ▲                                    ▼
///                               deriving (keys, on another thread)        starting ──ReadyForQuery──► done
///
/// Any error ends in `done` too. A server that asks for SCRAM must prove that it knows the secret before its
/// AuthenticationOk is believed; one that has been answered cannot ask again, in another way.
public struct ServerLogin: ~Copyable {
    /// What the session does next.
    public enum Action: Sendable, Equatable {
        /// Nothing; the next message may be there already.
        case none
        /// Nothing before so many bytes are there.
        case wait(needed: Int)
        /// Nothing before `derived`.
        case hold
        case send([UInt8])
        /// Run the derivation on another thread, or look its result up, then call `derived`.
        case derive(SCRAMDerivation)
        case succeeded(Outcome)
        /// Close the connection.
        case failed(ServerError)
    }

    /// What the server has told about the session.
    public struct Outcome: Sendable, Equatable {
        /// In the order they came.
        public var parameters: [ParameterStatus] = []
        /// What a CancelRequest has to show; empty if the server gave nothing.
        public var backendKey: [UInt8] = []
    }

    /// What was made of the bytes at the front: how many are used up, and what to do.
    public struct Step: Sendable, Equatable {
        public let used: Int
        public let action: Action
    }

    private enum State {
        case start
        case authenticating
        case answered
        case scram
        case deriving
        case verified
        case starting
        case done
    }

    /// The longest message a server may send before it is ready, and the most bytes in all: who sends notices without
    /// end costs neither time nor memory without end.
    public static let messageLimit = 64 * 1024
    public static let totalLimit = 1 << 20

    private let user: String
    private let secret: Secret?
    private let keys: SCRAMKeys?
    private let serverEndPoint: [UInt8]?
    private let allowsMD5: Bool
    private let onlySCRAM: Bool
    private let requiresBinding: Bool
    private var state = State.start
    /// The exchange, from `scram` on.
    private var scram: SCRAMClient?
    private var outcome = Outcome()
    private var total = 0

    /// - Parameters:
    ///   - user: the startup packet's.
    ///   - secret: what is known of the user's password.
    ///   - keys: SCRAM keys that a client of this user has shown at its own login; used without a plain password.
    ///   - serverEndPoint: the digest of the server's TLS certificate, for SCRAM's channel binding; nil without TLS.
    ///   - allowsMD5: `auth_allow_md5`.
    ///   - channelBinding: whether SCRAM is bound to the certificate.
    ///   - onlySCRAM: the server must ask for SCRAM: anything else shows nothing, or too much.
    public init(
        user: String, secret: Secret?, keys: SCRAMKeys?, serverEndPoint: [UInt8]? = nil, allowsMD5: Bool = true,
        channelBinding: ChannelBinding = .prefer, onlySCRAM: Bool = false
    ) {
        self.user = user
        self.secret = secret
        self.keys = keys
        self.serverEndPoint = channelBinding == .disable ? nil : serverEndPoint
        self.requiresBinding = channelBinding == .require
        self.allowsMD5 = allowsMD5
        self.onlySCRAM = onlySCRAM
    }

    /// The connection stands.
    ///
    /// - Parameter settings: the startup packet's parameters besides the user and the database.
    public mutating func begin(database: String, settings: [StartupParameter]) -> Action {
        self.state = .authenticating
        let names = [
            StartupParameter(name: "user", value: self.user), StartupParameter(name: "database", value: database),
        ]
        return .send(MessageWriter.bytes { $0.startup(parameters: names + settings) })
    }

    /// Bytes have arrived; `bytes` begins at a message.
    public mutating func received(_ bytes: Span<UInt8>) -> Step {
        switch self.state {
        case .deriving: return Step(used: 0, action: .hold)
        case .start, .done: return Step(used: bytes.count, action: self.failed("bad packet from server during login"))
        case .authenticating, .answered, .scram, .verified, .starting: break
        }
        var framer = MessageFramer(maximumLength: Self.messageLimit)
        switch framer.next(bytes, at: 0, gather: Backend.all) {
        case .message(let type, let range):
            self.total += range.count
            guard self.total <= Self.totalLimit else {
                return Step(used: bytes.count, action: self.failed("too much data from server during login"))
            }
            return Step(used: range.upperBound, action: self.message(type, bytes.extracting(range)))
        case .incomplete(let needed): return Step(used: 0, action: .wait(needed: needed))
        case .end: return Step(used: 0, action: .wait(needed: MessageFramer.headerLength))
        case .start, .middle, .invalid:
            return Step(used: bytes.count, action: self.failed("bad packet from server during login"))
        }
    }

    /// The derivation asked for has been run; nil if libcrypto refused.
    public mutating func derived(_ keys: SCRAMKeys?) -> Action {
        switch self.state {
        case .deriving:
            guard let keys else { return self.failed("key derivation failed") }
            return self.carryOut(self.scram?.derived(keys))
        case .start, .authenticating, .answered, .scram, .verified, .starting, .done:
            return self.failed("keys that nothing asked for")
        }
    }

    // MARK: Messages

    private mutating func message(_ type: UInt8, _ message: Span<UInt8>) -> Action {
        switch type {
        case Backend.authentication:
            guard let request = AuthenticationRequest(message) else { return self.failed("bad authentication request") }
            return self.authentication(request)
        case Backend.errorResponse:
            self.state = .done
            return .failed(ServerError(refusedBy: ErrorFields(message)))
        case Backend.noticeResponse: return .none
        case Backend.negotiateProtocolVersion:
            guard let answer = NegotiateProtocolVersion(message), answer.version == .v30 else {
                return self.failed("server does not speak protocol 3.0")
            }
            return .none
        case Backend.parameterStatus, Backend.backendKeyData, Backend.readyForQuery:
            guard self.isStarting else { return self.failed("server goes on without authentication") }
            return self.sessionMessage(type, message)
        default: return self.failed("unknown pkt from server during login")
        }
    }

    private var isStarting: Bool {
        switch self.state {
        case .starting: true
        case .start, .authenticating, .answered, .scram, .deriving, .verified, .done: false
        }
    }

    /// A message that follows AuthenticationOk.
    private mutating func sessionMessage(_ type: UInt8, _ message: Span<UInt8>) -> Action {
        if type == Backend.parameterStatus {
            guard let status = ParameterStatus(message) else { return self.failed("bad ParameterStatus") }
            self.outcome.parameters.append(status)
            return .none
        }
        if type == Backend.backendKeyData {
            guard let data = BackendKeyData(message) else { return self.failed("bad BackendKeyData") }
            self.outcome.backendKey = data.key
            return .none
        }
        guard TransactionStatus(readyForQuery: message) == .idle else { return self.failed("bad ReadyForQuery") }
        self.state = .done
        return .succeeded(self.outcome)
    }

    private mutating func authentication(_ request: AuthenticationRequest) -> Action {
        switch self.state {
        case .authenticating: return self.firstRequest(request)
        case .answered, .verified:
            guard request == .ok else { return self.failed("server asks for authentication twice") }
            self.state = .starting
            return .none
        case .scram:
            switch request {
            case .saslContinue(let data): return self.carryOut(self.scram?.serverFirst(data.span))
            case .saslFinal(let data): return self.carryOut(self.scram?.serverFinal(data.span))
            case .ok: return self.failed("server skipped the end of SCRAM authentication")
            case .sasl: return self.failed("server began SCRAM authentication twice")
            case .cleartextPassword, .md5Password, .other:
                return self.failed("server asks for authentication twice")
            }
        case .starting: return self.failed("unexpected authentication request after AuthenticationOk")
        case .start, .deriving, .done: return self.failed("unexpected authentication request")
        }
    }

    /// The first thing that the server asks for.
    private mutating func firstRequest(_ request: AuthenticationRequest) -> Action {
        if self.onlySCRAM {
            guard case .sasl = request else {
                return self.failed("server does not ask for SCRAM, which auth_passthrough needs")
            }
        }
        if self.requiresBinding {
            // Whoever plays the server could else ask for the password in another way, or for none.
            guard case .sasl(let mechanisms) = request, self.serverEndPoint != nil,
                mechanisms.contains(SCRAMServer.bindingMechanism)
            else { return self.failed("server does not offer channel binding, which channel_binding = require needs") }
        }
        switch request {
        case .ok:
            self.state = .starting
            return .none
        case .cleartextPassword:
            guard case .plain(let password)? = self.secret else {
                return self.unanswerable("the password in clear text")
            }
            return self.answer(password)
        case .md5Password(let salt):
            guard self.allowsMD5 else {
                return self.failed("server asks for an MD5 password, which auth_allow_md5 = 0 forbids")
            }
            let user = Array(self.user.utf8)
            guard let secret = self.secret,
                let response = try? MD5Password.response(salt: salt.span, user: user.span, secret: secret)
            else { return self.unanswerable("MD5") }
            return self.answer(response)
        case .sasl(let mechanisms): return self.beginSCRAM(mechanisms)
        case .saslContinue, .saslFinal: return self.failed("unexpected SASL message")
        case .other(let kind):
            return self.failed("server asks for an authentication method that is not supported (\(kind))")
        }
    }

    private mutating func answer(_ password: SecretBytes) -> Action {
        self.state = .answered
        return .send(MessageWriter.bytes { $0.passwordMessage(password.span.copy(0..<password.count)) })
    }

    // MARK: SCRAM

    private mutating func beginSCRAM(_ mechanisms: [String]) -> Action {
        if case .plain(let password)? = self.secret {
            self.scram = SCRAMClient(password: password, serverEndPoint: self.serverEndPoint)
        } else if let keys = self.keys {
            self.scram = SCRAMClient(keys: keys, serverEndPoint: self.serverEndPoint)
        } else {
            return self.unanswerable("SCRAM")
        }
        var list: [UInt8] = []
        for mechanism in mechanisms { list += Array(mechanism.utf8) + [0] }
        list.append(0)
        return self.carryOut(self.scram?.begin(mechanisms: list.span))
    }

    private mutating func carryOut(_ action: SCRAMClient.Action?) -> Action {
        switch action {
        case .sendInitial(let mechanism, let message):
            self.state = .scram
            return .send(MessageWriter.bytes { $0.saslInitialResponse(mechanism: mechanism, message) })
        case .send(let message):
            self.state = .scram
            return .send(MessageWriter.bytes { $0.saslResponse(message) })
        case .derive(let derivation):
            self.state = .deriving
            return .derive(derivation)
        case .complete:
            self.state = .verified
            return .none
        case .failure(let error): return self.failed("SASL authentication failed: \(error)")
        case nil: return self.failed("unexpected SASL message")
        }
    }

    // MARK: Failure

    /// The server asks for what cannot be made of the secret at hand. PgBouncer's words first.
    private mutating func unanswerable(_ method: String) -> Action {
        let way = "give the user a plain-text password in auth_file or the database's entry"
        let (what, wayOut) =
            switch self.secret {
            case .md5:
                ("the server asks for \(method), which the MD5 secret of user \"\(self.user)\" cannot answer", way)
            case .scram where method == "SCRAM":
                (
                    "the SCRAM secret of user \"\(self.user)\" can log in to the server only when a client has done so "
                        + "by SCRAM here", "use auth_type = scram-sha-256, or \(way)"
                )
            case .scram:
                ("the server asks for \(method), which the SCRAM secret of user \"\(self.user)\" cannot answer", way)
            case .plain, nil:
                ("the server asks for a password (\(method)), and there is none for user \"\(self.user)\"", way)
            }
        return self.failed("wrong password type: \(what); \(wayOut)")
    }

    private mutating func failed(_ reason: String) -> Action {
        self.state = .done
        return .failed(
            ServerError(
                message: "server login failed: \(reason)", sqlState: SQLState.invalidAuthorization, isRefusal: true))
    }
}
