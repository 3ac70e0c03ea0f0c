/// What is known of a user's password: itself, or one of the two forms that PostgreSQL stores.
public enum Secret: Sendable, Equatable {
    /// The password.
    case plain(SecretBytes)
    /// The 32 lowercase hexadecimal digits of MD5(password, user), without the word `md5` before them.
    case md5(SecretBytes)
    /// A SCRAM-SHA-256 verifier: enough to check a client, not enough to log in to a server.
    case scram(SCRAMVerifier)

    /// Tells the kind of secret as PostgreSQL does: `md5` and 32 digits, a well-formed `SCRAM-SHA-256$…`, or else a
    /// plain password, whatever it looks like.
    public init(parsing bytes: Span<UInt8>) {
        if let digits = MD5Password.digits(of: bytes) {
            self = .md5(digits)
        } else if let verifier = SCRAMVerifier(parsing: bytes) {
            self = .scram(verifier)
        } else {
            self = .plain(SecretBytes(bytes))
        }
    }

    /// The same for text, as a configuration file has it.
    public init(parsing text: String) {
        self.init(parsing: Array(text.utf8).span)
    }

    /// What a client's SCRAM login needs, given this secret.
    public enum SCRAMLogin: Sendable, Equatable {
        /// The verifier is at hand.
        case verifier(SCRAMVerifier)
        /// The keys must be derived first (`SCRAMVerifier(keys)` follows); worth caching for as long as the secret lives.
        case derive(SCRAMDerivation)
        /// No password can match; go through the exchange with `SCRAMVerifier.mock`.
        case impossible
    }

    /// Tells what a client's SCRAM login needs; `iterations` is for a secret that is a plain password.
    public func scramLogin(iterations: Int = SCRAMVerifier.defaultIterations) -> SCRAMLogin {
        switch self {
        case .plain(let password) where password.isEmpty: .impossible
        case .plain(let password):
            .derive(
                SCRAMDerivation(
                    password: password, salt: SecureRandom.bytes(SCRAMVerifier.saltLength), iterations: iterations))
        case .md5: .impossible
        case .scram(let verifier): .verifier(verifier)
        }
    }

    /// The result of comparing a password that arrived in clear text.
    public enum PasswordCheck: Sendable, Equatable {
        /// The password matches or does not.
        case matches(Bool)
        /// Run the derivation elsewhere; the password matches if `verifier.matches(keys)`.
        case derive(SCRAMDerivation, verifier: SCRAMVerifier)
    }

    /// Checks a password in clear text (AuthenticationCleartextPassword); an empty one never matches.
    public func check(password: Span<UInt8>, user: Span<UInt8>) throws(AuthenticationError) -> PasswordCheck {
        if password.isEmpty { return .matches(false) }
        switch self {
        case .plain(let own): return .matches(constantTimeEqual(own.span, password))
        case .md5(let digits):
            let hash = try MD5Password.hash(user: user, password: password)
            return .matches(constantTimeEqual(digits.span, hash.span))
        case .scram(let verifier):
            let derivation = SCRAMDerivation(
                password: SecretBytes(password), salt: verifier.salt, iterations: verifier.iterations)
            return .derive(derivation, verifier: verifier)
        }
    }
}

extension Secret: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    public var description: String {
        switch self {
        case .plain: "plain password"
        case .md5: "MD5 secret"
        case .scram: "SCRAM secret"
        }
    }

    public var debugDescription: String { self.description }
    public var customMirror: Mirror { Mirror(self, children: []) }
}
