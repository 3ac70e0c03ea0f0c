/// What PostgreSQL stores of a password for SCRAM-SHA-256: it checks a client's proof and makes the server's signature.
public struct SCRAMVerifier: Sendable, Hashable {
    /// Iterations that PostgreSQL uses unless told otherwise (`scram_iterations`).
    public static let defaultIterations = 4096
    /// Bytes of the salt that PostgreSQL makes.
    public static let saltLength = 16
    /// Iterations that may be asked of a client or by a server.
    public static let iterationBounds = 1...1_000_000
    /// Longest salt in bytes.
    static let saltLimit = 1024

    /// PBKDF2 iterations.
    public let iterations: Int
    /// The salt; not a secret, every client is told.
    public let salt: [UInt8]
    /// SHA-256 of the client key.
    let storedKey: SecretBytes
    /// The key of the server's signature.
    let serverKey: SecretBytes

    init(iterations: Int, salt: [UInt8], storedKey: SecretBytes, serverKey: SecretBytes) {
        self.iterations = iterations
        self.salt = salt
        self.storedKey = storedKey
        self.serverKey = serverKey
    }

    /// The verifier that belongs to derived keys.
    public init(_ keys: SCRAMKeys) throws(AuthenticationError) {
        let storedKey = try Crypto.sha256(keys.clientKey.span)
        self.init(iterations: keys.iterations, salt: keys.salt, storedKey: storedKey, serverKey: keys.serverKey)
    }

    /// Reads `SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>`, as in `pg_authid.rolpassword`; nil if the
    /// text is anything else or its iterations are out of `iterationBounds`.
    public init?(parsing text: Span<UInt8>) {
        // The longest well-formed one: a salt at its limit, two keys of 44 digits each, and the rest.
        guard text.count <= Self.saltLimit * 2 else { return nil }
        let parts = [UInt8](copying: text).split(separator: UInt8(ascii: "$"), omittingEmptySubsequences: false)
        guard parts.count == 3, parts[0].elementsEqual("SCRAM-SHA-256".utf8) else { return nil }
        let parameters = parts[1].split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false)
        let keys = parts[2].split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false)
        guard parameters.count == 2, keys.count == 2,
            let iterations = Self.iterations(parameters[0]),
            let salt = Base64.decode(parameters[1]), 1...Self.saltLimit ~= salt.count,
            let storedKey = Base64.decode(keys[0]), storedKey.count == Crypto.sha256Length,
            let serverKey = Base64.decode(keys[1]), serverKey.count == Crypto.sha256Length
        else { return nil }
        self.init(
            iterations: iterations, salt: salt, storedKey: SecretBytes(storedKey), serverKey: SecretBytes(serverKey))
    }

    /// A verifier that no password matches, for a user without one: the same for a user each time, so that the
    /// exchange tells nobody which users exist.
    ///
    /// - Parameters:
    ///   - processSecret: random bytes, made once (`SecureRandom.bytes(32)`) and kept for the life of the process.
    ///   - iterations: those that the real users' secrets have.
    public static func mock(
        user: Span<UInt8>, processSecret: SecretBytes, iterations: Int = defaultIterations
    ) throws(AuthenticationError) -> SCRAMVerifier {
        let name = [UInt8](copying: user)
        let salt = try Crypto.hmacSHA256(key: processSecret.span, Array("salt:".utf8 + name).span)
        // The stored key is no digest of a key that anyone knows, so no proof fits.
        let storedKey = try Crypto.hmacSHA256(key: processSecret.span, Array("stored key:".utf8 + name).span)
        let serverKey = try Crypto.hmacSHA256(key: processSecret.span, Array("server key:".utf8 + name).span)
        return SCRAMVerifier(
            iterations: iterations, salt: [UInt8](copying: salt.span.extracting(first: Self.saltLength)),
            storedKey: storedKey, serverKey: serverKey)
    }

    /// Whether `keys` were derived from the password of this verifier; in constant time.
    public func matches(_ keys: SCRAMKeys) throws(AuthenticationError) -> Bool {
        try Crypto.sha256(keys.clientKey.span) == self.storedKey
    }

    /// Reads a count of iterations: decimal digits only, within `iterationBounds`.
    static func iterations(_ digits: Span<UInt8>) -> Int? {
        guard 1...7 ~= digits.count else { return nil }
        var value = 0
        for index in digits.indices {
            let digit = digits[index]
            guard UInt8(ascii: "0")...UInt8(ascii: "9") ~= digit else { return nil }
            value = value * 10 + Int(digit - UInt8(ascii: "0"))
        }
        return Self.iterationBounds ~= value ? value : nil
    }

    static func iterations(_ digits: ArraySlice<UInt8>) -> Int? { Self.iterations(digits.span) }
}

extension SCRAMVerifier: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    public var description: String { "SCRAM secret (\(self.iterations) iterations)" }
    public var debugDescription: String { self.description }
    public var customMirror: Mirror { Mirror(self, children: []) }
}
