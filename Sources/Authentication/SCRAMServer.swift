/// The server's side of SCRAM-SHA-256 (RFC 5802, RFC 7677): a client logs in to us.
///
/// ```
/// start ──initialResponse──▶ waitingForFinal ──response──▶ finished
///   │                              ▲
///   └─initialResponse──▶ waitingForFirst   (the client sent no message along with the mechanism)
/// ```
/// Any failure ends in `finished`. With channel binding (RFC 5929) the client signs the digest of the TLS certificate that
/// it has seen, so that nobody in between can pass its login on. The user is the one of the startup packet, whose verifier the exchange begins with;
/// the name inside the SCRAM messages counts for nothing, as in PostgreSQL.
public struct SCRAMServer: ~Copyable, Sendable {
    /// The mechanisms to offer in AuthenticationSASL; `bindsChannel` if the exchange will be given a `serverEndPoint`.
    public static func mechanisms(bindsChannel: Bool) -> [String] {
        bindsChannel ? [Self.bindingMechanism, Self.mechanism] : [Self.mechanism]
    }

    static let mechanism = "SCRAM-SHA-256"
    /// The mechanism's name with channel binding.
    public static let bindingMechanism = "SCRAM-SHA-256-PLUS"

    /// What the session does next.
    public enum Action: Sendable, Equatable {
        /// Send AuthenticationSASLContinue with these bytes and wait for a SASLResponse.
        case send([UInt8])
        /// The client has proved itself: send AuthenticationSASLFinal with these bytes, then AuthenticationOk. The keys
        /// log in to a server that has the same SCRAM secret.
        case success(serverFinal: [UInt8], keys: SCRAMKeys)
        /// Refuse the client and close.
        case failure(AuthenticationError)
    }

    private enum State {
        case start
        case waitingForFirst
        case waitingForFinal(Exchange)
        case finished
    }

    /// What the first two messages fixed.
    private struct Exchange {
        /// The client's GS2 header, which its final message repeats.
        let header: [UInt8]
        let nonce: [UInt8]
        /// What both sides sign, up to the client's final message.
        let signed: SCRAMText
    }

    private let verifier: SCRAMVerifier
    private let serverEndPoint: [UInt8]?
    private let serverNonce: [UInt8]
    /// The client has chosen SCRAM-SHA-256-PLUS.
    private var bindsChannel = false
    private var state = State.start

    /// Begins an exchange; for a user that is unknown or has no usable secret pass `SCRAMVerifier.mock`.
    ///
    /// - Parameter serverEndPoint: the digest of our TLS certificate (`tls-server-end-point`); nil without TLS, and then
    ///   channel binding was not offered.
    public init(verifier: SCRAMVerifier, serverEndPoint: [UInt8]? = nil) {
        self.init(verifier: verifier, serverEndPoint: serverEndPoint, nonce: SecureRandom.nonce())
    }

    init(verifier: SCRAMVerifier, serverEndPoint: [UInt8]? = nil, nonce: [UInt8]) {
        self.verifier = verifier
        self.serverEndPoint = serverEndPoint
        self.serverNonce = nonce
    }

    /// The SASLInitialResponse has arrived; `message` is nil if it carries none (length -1).
    public mutating func initialResponse(mechanism: Span<UInt8>, message: Span<UInt8>?) -> Action {
        guard case .start = self.state else { return self.fail(.unexpectedMessage("second SASLInitialResponse")) }
        self.bindsChannel = constantTimeEqual(mechanism, Self.bindingMechanism.utf8.span)
        guard self.bindsChannel ? self.serverEndPoint != nil : constantTimeEqual(mechanism, Self.mechanism.utf8.span)
        else { return self.fail(.unsupported("client selected an invalid SASL authentication mechanism")) }
        guard let message else {
            self.state = .waitingForFirst
            return .send([])
        }
        return self.clientFirst(message)
    }

    /// A SASLResponse has arrived.
    public mutating func response(_ message: Span<UInt8>) -> Action {
        switch self.state {
        case .start: self.fail(.unexpectedMessage("SASLResponse before SASLInitialResponse"))
        case .waitingForFirst: self.clientFirst(message)
        case .waitingForFinal(let exchange): self.clientFinal(message, exchange)
        case .finished: self.fail(.unexpectedMessage("SASLResponse after the end of the exchange"))
        }
    }

    private mutating func clientFirst(_ bytes: Span<UInt8>) -> Action {
        do {
            let (exchange, answer) = try self.exchange(bytes)
            self.state = .waitingForFinal(exchange)
            return .send(answer)
        } catch {
            return self.fail(error)
        }
    }

    private mutating func clientFinal(_ bytes: Span<UInt8>, _ exchange: Exchange) -> Action {
        do {
            let action = try self.verify(bytes, exchange)
            self.state = .finished
            return action
        } catch {
            return self.fail(error)
        }
    }

    private mutating func fail(_ error: AuthenticationError) -> Action {
        self.state = .finished
        return .failure(error)
    }

    /// Reads `<GS2 header>n=<user>,r=<nonce>[,extensions]` and makes the answer.
    private func exchange(_ bytes: Span<UInt8>) throws(AuthenticationError) -> (Exchange, answer: [UInt8]) {
        guard bytes.count <= SCRAMMessage.lengthLimit else {
            throw .malformedMessage("\(bytes.count) bytes are too long")
        }
        let headerLength = try self.headerLength(bytes)
        var message = try SCRAMMessage(bytes.extracting(droppingFirst: headerLength))
        if message.nextName == UInt8(ascii: "m") {
            throw .unsupported("client requires an unsupported SCRAM extension")
        }
        _ = try message.value(of: "n")
        let clientNonce = try message.nonce()
        var nonce: [UInt8] = []
        nonce.reserveCapacity(clientNonce.count + self.serverNonce.count)
        nonce.append(clientNonce)
        nonce.append(self.serverNonce.span)
        // The final message brings both parts back, so together they must keep within the limit.
        guard nonce.count <= SCRAMMessage.nonceLimit else { throw .malformedMessage("nonce too long") }
        try message.skipExtensions()
        var answer = SCRAMText(capacity: nonce.count + 64)
        answer.attribute("r", nonce.span)
        answer.attribute("s", base64: self.verifier.salt.span)
        answer.attribute("i", self.verifier.iterations)
        // The final message has the nonce again, and some more.
        var signed = SCRAMText(capacity: bytes.count + answer.bytes.count + nonce.count + 64)
        signed.part(message.bytes)
        signed.part(answer.bytes.span)
        let header = [UInt8](copying: bytes.extracting(first: headerLength))
        return (Exchange(header: header, nonce: nonce, signed: signed), answer.bytes)
    }

    /// The length of the GS2 header: `n,,` (the client has no channel binding), `y,,` (it has, and thinks that we have
    /// none) or `p=<type>,,` (it is used).
    private func headerLength(_ bytes: Span<UInt8>) throws(AuthenticationError) -> Int {
        guard bytes.count >= 3 else { throw .malformedMessage("no GS2 header") }
        let flagLength: Int
        switch bytes[0] {
        case UInt8(ascii: "n"), UInt8(ascii: "y"):
            guard !self.bindsChannel else {
                throw .malformedMessage("client selected SCRAM-SHA-256-PLUS, but uses no channel binding")
            }
            // Somebody has removed SCRAM-SHA-256-PLUS from what we offered (RFC 5802, chapter 6).
            guard bytes[0] == UInt8(ascii: "n") || self.serverEndPoint == nil else {
                throw .malformedMessage("client supports SCRAM channel binding, but thinks that the server does not")
            }
            flagLength = 1
        case UInt8(ascii: "p"):
            guard self.bindsChannel else {
                throw .unsupported("client requires SCRAM channel binding, but it is not supported")
            }
            flagLength = Self.bindingFlag.count
            guard bytes.count >= flagLength + 2,
                [UInt8](copying: bytes.extracting(first: flagLength)) == Self.bindingFlag
            else { throw .unsupported("unsupported SCRAM channel-binding type") }
        default: throw .malformedMessage("unexpected channel binding flag")
        }
        guard bytes[flagLength] == UInt8(ascii: ",") else { throw .malformedMessage("comma expected in GS2 header") }
        guard bytes[flagLength + 1] != UInt8(ascii: "a") else {
            throw .unsupported("client uses authorization identity, but it is not supported")
        }
        guard bytes[flagLength + 1] == UInt8(ascii: ",") else {
            throw .malformedMessage("comma expected in GS2 header")
        }
        return flagLength + 2
    }

    /// The one type of channel binding that PostgreSQL knows.
    static let bindingFlag = Array("p=tls-server-end-point".utf8)

    /// Reads `c=<header and channel>,r=<nonce>[,extensions],p=<proof>` and checks the proof.
    private func verify(_ bytes: Span<UInt8>, _ exchange: Exchange) throws(AuthenticationError) -> Action {
        var message = try SCRAMMessage(bytes)
        var expected = exchange.header
        if self.bindsChannel { expected += self.serverEndPoint ?? [] }
        guard let header = Base64.decode(try message.value(of: "c")), constantTimeEqual(header.span, expected.span)
        else {
            throw .malformedMessage(
                self.bindsChannel
                    ? "SCRAM channel binding check failed: the client has seen another certificate"
                    : "unexpected channel-binding attribute in client-final-message")
        }
        let nonce = try message.nonce()
        guard constantTimeEqual(nonce, exchange.nonce.span) else {
            throw .malformedMessage("nonce does not match")
        }
        try message.skipExtensions(upTo: "p")
        // Without its proof, and without the comma in front of that.
        let withoutProof = bytes.extracting(first: max(0, message.cursor - 1))
        guard let proof = Base64.decode(try message.value(of: "p")), proof.count == Crypto.sha256Length else {
            throw .malformedMessage("malformed proof")
        }
        try message.finish()

        var signed = exchange.signed
        signed.append(withoutProof)
        let clientSignature = try Crypto.hmacSHA256(key: self.verifier.storedKey.span, signed.bytes.span)
        let clientKey = Crypto.exclusiveOr(proof.span, clientSignature.span)
        guard try Crypto.sha256(clientKey.span) == self.verifier.storedKey else { throw .wrongPassword }
        let serverSignature = try Crypto.hmacSHA256(key: self.verifier.serverKey.span, signed.bytes.span)
        let keys = SCRAMKeys(
            iterations: self.verifier.iterations, salt: self.verifier.salt, clientKey: clientKey,
            serverKey: self.verifier.serverKey)
        var answer = SCRAMText(capacity: 48)
        answer.attribute("v", base64: serverSignature.span)
        return .success(serverFinal: answer.bytes, keys: keys)
    }
}
