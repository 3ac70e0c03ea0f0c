import Authentication
import Settings
import TestSupport
import Wire

@testable import Sessions

/// A client's authentication and what it has said so far.
final class ClientScene {
    private var authentication: ClientAuthentication
    /// What the account of any user is.
    var account: ClientAuthentication.Account
    /// Actions in words: messages by their kind, refusals by SQLSTATE and text.
    private(set) var said: [String] = []
    /// Bytes sent, one element for each action.
    private(set) var sent: [[UInt8]] = []
    private(set) var last = ClientAuthentication.Action.hold
    private(set) var keys: SCRAMKeys?
    private(set) var detail: String?
    /// Whether a costly derivation was asked for.
    private(set) var derivations = 0
    var runsDerivations = true
    /// Passwords that were to be tried at the server, and what it gives for them.
    private(set) var tried: [SecretBytes] = []
    var keysAtServer: SCRAMKeys?
    /// Passwords that PAM or a directory was asked about, and what it says.
    private(set) var asked: [SecretBytes] = []
    private(set) var judge: ClientAuthentication.Judge?
    var isRightToJudge = false
    var looksUpAccount = true

    init(
        _ authType: AuthType = .scramSHA256, _ secret: Secret? = nil,
        encryption: ClientAuthentication.Encryption = .unavailable
    ) {
        self.authentication = ClientAuthentication(encryption: encryption)
        self.account = ClientAuthentication.Account(
            authType: authType, secret: secret, processSecret: SecretBytes(bytes("process secret")))
        self.account.scramIterations = 2
        self.account.md5Salt = [9, 8, 7, 6]
    }

    var startupMessage: StartupMessage? { self.authentication.message }
    var options: [StartupParameter] { self.authentication.options }
    var version: ProtocolVersion { self.authentication.version }
    var isAuthenticated: Bool { self.said.last == "authenticated" }
    var isOver: Bool {
        guard let last = self.said.last else { return false }
        return last.hasPrefix("refused") || ["authenticated", "terminated", "cancel"].contains(last)
            || last.hasPrefix("dropped")
    }

    func step(_ bytes: [UInt8]) -> ClientAuthentication.Step { self.authentication.received(bytes.span) }

    /// Presents bytes as a connection does, until no more are taken. Returns those left.
    @discardableResult
    func receive(_ bytes: [UInt8]) -> [UInt8] {
        var rest = bytes
        while !rest.isEmpty && !self.isOver {
            let step = self.authentication.received(rest.span)
            self.note(step.action)
            if step.used == 0 { break }
            rest.removeFirst(step.used)
        }
        return rest
    }

    func derived(_ keys: SCRAMKeys?) { self.note(self.authentication.derived(keys)) }
    func prepared(_ verifier: SCRAMVerifier?) { self.note(self.authentication.prepared(verifier)) }
    func secured(_ peer: ClientAuthentication.TLSPeer) { self.authentication.secured(peer) }
    func identified() { self.note(self.authentication.identified(self.account)) }

    private func note(_ action: ClientAuthentication.Action) {
        self.last = action
        switch action {
        case .wait(let needed): self.said.append("wait \(needed)")
        case .hold: self.said.append("hold")
        case .send(let bytes): self.note(bytes)
        case .startTLS(let bytes, let isDirect):
            if !bytes.isEmpty { self.note(bytes) }
            self.said.append(isDirect ? "direct TLS" : "TLS")
        case .identify(_, let bytes):
            if !bytes.isEmpty { self.note(bytes) }
            if self.looksUpAccount { self.identified() }
        case .cancel: self.said.append("cancel")
        case .derive(let derivation):
            self.derivations += 1
            if self.runsDerivations { self.derived(try? derivation.run()) }
        case .ask(.server, let password):
            self.tried.append(password)
            self.note(self.authentication.tried(self.keysAtServer))
        case .ask(let judge, let password):
            self.asked.append(password)
            self.judge = judge
            self.note(self.authentication.judged(self.isRightToJudge))
        case .prepare(let derivation):
            self.derivations += 1
            if self.runsDerivations {
                self.prepared((try? derivation.run()).flatMap { try? SCRAMVerifier($0) })
            }
        case .authenticated(let bytes, let keys):
            if !bytes.isEmpty { self.note(bytes) }
            self.keys = keys
            self.said.append("authenticated")
        case .refuse(let error, let detail):
            self.detail = detail
            self.said.append("refused \(error.sqlState): \(error.message)")
        case .drop(let reason): self.said.append("dropped: \(reason)")
        case .terminate: self.said.append("terminated")
        }
    }

    private func note(_ bytes: [UInt8]) {
        self.sent.append(bytes)
        self.said.append(Self.kind(bytes))
    }

    private static func kind(_ bytes: [UInt8]) -> String {
        if bytes.count == 1 { return String(decoding: bytes, as: UTF8.self) }
        if bytes.first == Backend.negotiateProtocolVersion { return "negotiation" }
        guard let request = AuthenticationRequest(bytes.span) else { return "?" }
        return switch request {
        case .ok: "ok"
        case .cleartextPassword: "cleartext"
        case .md5Password: "md5"
        case .sasl: "sasl"
        case .saslContinue: "continue"
        case .saslFinal: "final"
        case .other: "other"
        }
    }

    /// The NegotiateProtocolVersion sent.
    var negotiation: NegotiateProtocolVersion? {
        guard let first = self.sent.first else { return nil }
        return NegotiateProtocolVersion(first.span)
    }

    /// The data of the last authentication request sent.
    var saslData: [UInt8] { Array((self.sent.last ?? []).dropFirst(MessageFramer.headerLength + 4)) }

    /// Answers what is asked for as a client of this user with this password does, to the end.
    func logIn(user: String = "app", password: String) throws {
        self.receive(FakeClient.startup(user: user))
        switch self.said.last {
        case "cleartext": self.receive(message("p", bytes(password) + [0]))
        case "md5":
            let salt = self.account.md5Salt ?? []
            let answer = try MD5Password.response(
                salt: salt.span, user: bytes(user).span, secret: .plain(SecretBytes(bytes(password))))
            self.receive(message("p", answer.span.copy(0..<answer.count) + [0]))
        case "sasl": try self.exchange(password)
        default: return
        }
    }

    private func exchange(_ password: String) throws {
        var client = SCRAMClient(password: SecretBytes(bytes(password)))
        guard case .sendInitial(let mechanism, let first) = client.begin(mechanisms: bytes("SCRAM-SHA-256\0\0").span)
        else { return }
        self.receive(MessageWriter.bytes { $0.saslInitialResponse(mechanism: mechanism, first) })
        let serverFirst = self.saslData
        guard case .derive(let derivation) = client.serverFirst(serverFirst.span),
            case .send(let final) = client.derived(try derivation.run())
        else { return }
        self.receive(message("p", final))
        let serverFinal = self.saslData
        if self.isAuthenticated && client.serverFinal(serverFinal.span) != .complete {
            self.said.append("server not verified")
        }
    }
}

/// A client's messages.
enum FakeClient {
    static func startup(
        user: String = "app", database: String = "shop", version: ProtocolVersion = .v30, more: [String: String] = [:]
    ) -> [UInt8] {
        var parameters = [
            StartupParameter(name: "user", value: user), StartupParameter(name: "database", value: database),
        ]
        parameters += more.sorted { $0.key < $1.key }.map { StartupParameter(name: $0.key, value: $0.value) }
        return MessageWriter.bytes { $0.startup(version: version, parameters: parameters) }
    }

    static let sslRequest: [UInt8] = [0, 0, 0, 8, 4, 210, 22, 47]
    static let gssEncRequest: [UInt8] = [0, 0, 0, 8, 4, 210, 22, 48]
    static let query = MessageWriter.bytes { $0.query("SELECT 1") }
    static let terminate = message("X")

    static func sasl(_ data: String, mechanism: String = "SCRAM-SHA-256") -> [UInt8] {
        MessageWriter.bytes { $0.saslInitialResponse(mechanism: mechanism, bytes(data)) }
    }
}
