/// The costly part of SCRAM: keys from a password, by PBKDF2.
///
/// A value of its own, so that it can run on another thread and its result be cached: 4,096 iterations take
/// about a millisecond, a million (the most that is accepted) a fifth of a second and more.
public struct SCRAMDerivation: Sendable, Hashable {
    /// The password as the user gave it, before SASLprep.
    public let password: SecretBytes
    /// The salt.
    public let salt: [UInt8]
    /// PBKDF2 iterations.
    public let iterations: Int

    /// Describes a derivation without running it.
    public init(password: SecretBytes, salt: [UInt8], iterations: Int) {
        self.password = password
        self.salt = salt
        self.iterations = iterations
    }

    /// Derives the keys; blocks for the whole time.
    ///
    /// - Throws: `cryptography` if libcrypto refuses, also for iterations that are not positive.
    public func run() throws(AuthenticationError) -> SCRAMKeys {
        let prepared = SASLprep.prepare(self.password)
        let salted = try Crypto.pbkdf2(password: prepared.span, salt: self.salt.span, iterations: self.iterations)
        let clientKey = try Crypto.hmacSHA256(key: salted.span, Array("Client Key".utf8).span)
        let serverKey = try Crypto.hmacSHA256(key: salted.span, Array("Server Key".utf8).span)
        return SCRAMKeys(iterations: self.iterations, salt: self.salt, clientKey: clientKey, serverKey: serverKey)
    }
}

/// The keys of a password under one salt and one count of iterations; who has them can log in without the password.
public struct SCRAMKeys: Sendable, Hashable {
    /// PBKDF2 iterations.
    public let iterations: Int
    /// The salt.
    public let salt: [UInt8]
    /// The key that proves the client.
    public let clientKey: SecretBytes
    /// The key that proves the server.
    public let serverKey: SecretBytes

    /// Puts keys together that were derived or taken over before.
    public init(iterations: Int, salt: [UInt8], clientKey: SecretBytes, serverKey: SecretBytes) {
        self.iterations = iterations
        self.salt = salt
        self.clientKey = clientKey
        self.serverKey = serverKey
    }
}

extension SCRAMDerivation: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    public var description: String { "SCRAM derivation (\(self.iterations) iterations)" }
    public var debugDescription: String { self.description }
    public var customMirror: Mirror { Mirror(self, children: []) }
}

extension SCRAMKeys: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    public var description: String { "SCRAM keys (\(self.iterations) iterations)" }
    public var debugDescription: String { self.description }
    public var customMirror: Mirror { Mirror(self, children: []) }
}
