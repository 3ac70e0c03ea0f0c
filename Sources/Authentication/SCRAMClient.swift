/// The client's side of SCRAM-SHA-256 (RFC 5802, RFC 7677): we log in to a server.
///
/// ```
/// start ──begin──▶ waitingForFirst ──serverFirst──▶ waitingForKeys ──derived──▶ waitingForFinal ──serverFinal──▶ complete
///                          └──────────────serverFirst, with keys at hand──────────────▲
/// ```
/// Channel binding is used when there is TLS and the server offers it; a server that does not, although it could, is told
/// that we would have (RFC 5802, chapter 6), so that it notices when somebody in between has removed its offer.
///
/// Any failure ends in `failed`. AuthenticationOk is to be believed only when `isComplete`: before that the server has
/// not shown that it knows the secret.
public struct SCRAMClient: ~Copyable, Sendable {
    /// What the session does next.
    public enum Action: Sendable, Equatable {
        /// Send SASLInitialResponse with this mechanism and message.
        case sendInitial(mechanism: String, message: [UInt8])
        /// Run the derivation on another thread (or look its result up), then call `derived`.
        case derive(SCRAMDerivation)
        /// Send SASLResponse with these bytes.
        case send([UInt8])
        /// The server has proved itself; AuthenticationOk must come next.
        case complete
        /// Close the connection.
        case failure(AuthenticationError)
    }

    private enum Credentials {
        case password(SecretBytes)
        case keys(SCRAMKeys)
    }

    private enum State {
        case start
        case waitingForFirst
        case waitingForKeys(Exchange)
        case waitingForFinal(serverSignature: SecretBytes)
        case complete
        case failed
    }

    /// What the server's first message fixed.
    private struct Exchange {
        let nonce: [UInt8]
        let salt: [UInt8]
        let iterations: Int
        let serverFirst: [UInt8]
    }

    private let credentials: Credentials
    /// The digest of the server's TLS certificate; nil without TLS.
    private let serverEndPoint: [UInt8]?
    private let nonce: [UInt8]
    private var state = State.start
    /// The GS2 header: how the channel is bound.
    private var header: [UInt8] = []
    private var bindsChannel = false

    /// Logs in with a password.
    ///
    /// - Parameter serverEndPoint: the digest of the server's TLS certificate (`tls-server-end-point`).
    public init(password: SecretBytes, serverEndPoint: [UInt8]? = nil) {
        self.init(password: password, serverEndPoint: serverEndPoint, nonce: SecureRandom.nonce())
    }

    /// Logs in with keys that were derived before or taken over from a client's login; they fit one salt and one count
    /// of iterations only.
    public init(keys: SCRAMKeys, serverEndPoint: [UInt8]? = nil) {
        self.init(keys: keys, serverEndPoint: serverEndPoint, nonce: SecureRandom.nonce())
    }

    init(password: SecretBytes, serverEndPoint: [UInt8]? = nil, nonce: [UInt8]) {
        self.credentials = .password(password)
        self.serverEndPoint = serverEndPoint
        self.nonce = nonce
    }

    init(keys: SCRAMKeys, serverEndPoint: [UInt8]? = nil, nonce: [UInt8]) {
        self.credentials = .keys(keys)
        self.serverEndPoint = serverEndPoint
        self.nonce = nonce
    }

    /// Whether the server's signature has been verified.
    public var isComplete: Bool {
        switch self.state {
        case .complete: true
        case .start, .waitingForFirst, .waitingForKeys, .waitingForFinal, .failed: false
        }
    }

    /// AuthenticationSASL has arrived; `mechanisms` is its list, each name ended by a zero byte, the list by another.
    public mutating func begin(mechanisms: Span<UInt8>) -> Action {
        guard case .start = self.state else { return self.fail(.unexpectedMessage("second AuthenticationSASL")) }
        let names = [UInt8](copying: mechanisms).split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
        let mechanism: String
        if self.serverEndPoint != nil && names.contains(SCRAMServer.bindingMechanism) {
            mechanism = SCRAMServer.bindingMechanism
            self.bindsChannel = true
            self.header = SCRAMServer.bindingFlag + Array(",,".utf8)
        } else if names.contains(SCRAMServer.mechanism) {
            mechanism = SCRAMServer.mechanism
            self.header = Array((self.serverEndPoint == nil ? "n,," : "y,,").utf8)
        } else {
            return self.fail(.unsupported("server offers no SASL mechanism that is supported (SCRAM-SHA-256)"))
        }
        self.state = .waitingForFirst
        return .sendInitial(mechanism: mechanism, message: self.header + self.firstBare)
    }

    /// AuthenticationSASLContinue has arrived.
    public mutating func serverFirst(_ message: Span<UInt8>) -> Action {
        guard case .waitingForFirst = self.state else {
            return self.fail(.unexpectedMessage("AuthenticationSASLContinue"))
        }
        do {
            let exchange = try self.exchange(message)
            switch self.credentials {
            case .password(let password):
                self.state = .waitingForKeys(exchange)
                return .derive(
                    SCRAMDerivation(password: password, salt: exchange.salt, iterations: exchange.iterations))
            case .keys(let keys):
                return try self.clientFinal(exchange, keys)
            }
        } catch {
            return self.fail(error)
        }
    }

    /// The derivation asked for has been run.
    public mutating func derived(_ keys: SCRAMKeys) -> Action {
        guard case .waitingForKeys(let exchange) = self.state else {
            return self.fail(.unexpectedMessage("keys that nothing asked for"))
        }
        do {
            return try self.clientFinal(exchange, keys)
        } catch {
            return self.fail(error)
        }
    }

    /// AuthenticationSASLFinal has arrived.
    public mutating func serverFinal(_ message: Span<UInt8>) -> Action {
        guard case .waitingForFinal(let serverSignature) = self.state else {
            return self.fail(.unexpectedMessage("AuthenticationSASLFinal"))
        }
        do {
            try Self.verify(message, serverSignature)
            self.state = .complete
            return .complete
        } catch {
            return self.fail(error)
        }
    }

    private mutating func fail(_ error: AuthenticationError) -> Action {
        self.state = .failed
        return .failure(error)
    }

    /// The first message without its header. The user name is empty: servers take the startup packet's.
    private var firstBare: [UInt8] { Array("n=,r=".utf8) + self.nonce }

    /// Reads `r=<nonce>,s=<salt>,i=<iterations>[,extensions]`.
    private func exchange(_ bytes: Span<UInt8>) throws(AuthenticationError) -> Exchange {
        var message = try SCRAMMessage(bytes)
        let nonce = try message.nonce()
        let ours = self.nonce.span
        guard nonce.count > ours.count, constantTimeEqual(nonce.extracting(first: ours.count), ours) else {
            throw .malformedMessage("server's nonce does not extend ours")
        }
        guard let salt = Base64.decode(try message.value(of: "s")), 1...SCRAMVerifier.saltLimit ~= salt.count else {
            throw .malformedMessage("malformed salt")
        }
        guard let iterations = SCRAMVerifier.iterations(try message.value(of: "i")) else {
            throw .malformedMessage(
                "iteration count is not within \(SCRAMVerifier.iterationBounds.lowerBound) and "
                    + "\(SCRAMVerifier.iterationBounds.upperBound)")
        }
        try message.skipExtensions()
        return Exchange(
            nonce: Array(copying: nonce), salt: salt, iterations: iterations, serverFirst: Array(copying: bytes))
    }

    /// Makes the final message and goes on to wait for the server's.
    private mutating func clientFinal(_ exchange: Exchange, _ keys: SCRAMKeys) throws(AuthenticationError) -> Action {
        guard keys.iterations == exchange.iterations, keys.salt == exchange.salt else {
            throw .unusableSecret("SCRAM keys do not fit: the server has another SCRAM secret for this user")
        }
        let channel = self.header + (self.bindsChannel ? self.serverEndPoint ?? [] : [])
        var answer = SCRAMText(capacity: channel.count + exchange.nonce.count + 96)
        answer.attribute("c", base64: channel.span)
        answer.attribute("r", exchange.nonce.span)
        let firstBare = self.firstBare
        let signed = SCRAMText.signed(firstBare.span, exchange.serverFirst.span, answer.bytes.span)
        let storedKey = try Crypto.sha256(keys.clientKey.span)
        let clientSignature = try Crypto.hmacSHA256(key: storedKey.span, signed.span)
        let proof = Crypto.exclusiveOr(keys.clientKey.span, clientSignature.span)
        let serverSignature = try Crypto.hmacSHA256(key: keys.serverKey.span, signed.span)
        self.state = .waitingForFinal(serverSignature: serverSignature)
        answer.attribute("p", base64: proof.span)
        return .send(answer.bytes)
    }

    /// Reads `v=<signature>` or `e=<reason>`.
    private static func verify(_ bytes: Span<UInt8>, _ expected: SecretBytes) throws(AuthenticationError) {
        var message = try SCRAMMessage(bytes)
        if message.nextName == UInt8(ascii: "e") {
            let value = [UInt8](copying: try message.value(of: "e"))
            let reason = value.prefix(200).map { 0x20...0x7E ~= $0 ? $0 : UInt8(ascii: "?") }
            throw .refusedByServer(String(decoding: reason, as: UTF8.self))
        }
        guard let signature = Base64.decode(try message.value(of: "v")) else {
            throw .malformedMessage("malformed server signature")
        }
        try message.skipExtensions()
        guard constantTimeEqual(signature.span, expected.span) else { throw .serverNotVerified }
    }
}
