/// Why a login failed or could not be tried; the texts are for logs and never contain a secret.
public enum AuthenticationError: Error, Equatable, Sendable {
    /// The peer broke the rules of the exchange (SQLSTATE 08P01).
    case malformedMessage(String)
    /// A message arrived that the exchange does not expect at this point (SQLSTATE 08P01).
    case unexpectedMessage(String)
    /// The peer asks for something that is not supported: a mechanism, an extension, channel binding.
    case unsupported(String)
    /// The client's password is wrong, or its user has none; the two are not told apart on purpose (SQLSTATE 28P01).
    case wrongPassword
    /// The server refused the login within the SCRAM exchange; the payload is its reason, printable ASCII.
    case refusedByServer(String)
    /// The server could not prove that it knows the user's secret: it may not be the server it pretends to be.
    case serverNotVerified
    /// The secret at hand is of a kind that cannot answer the method that the server asks for.
    case unusableSecret(String)
    /// libcrypto refused an operation, for example MD5 where only FIPS algorithms are allowed.
    case cryptography(String)

    /// Whether the peer's message was at fault rather than its password.
    public var isProtocolViolation: Bool {
        switch self {
        case .malformedMessage, .unexpectedMessage, .unsupported: true
        case .wrongPassword, .refusedByServer, .serverNotVerified, .unusableSecret, .cryptography: false
        }
    }
}

extension AuthenticationError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .malformedMessage(let detail): "malformed authentication message: \(detail)"
        case .unexpectedMessage(let detail): "unexpected authentication message: \(detail)"
        case .unsupported(let detail): detail
        case .wrongPassword: "password authentication failed"
        case .refusedByServer(let reason): "server refused SCRAM authentication: \(reason)"
        case .serverNotVerified: "server's SCRAM signature is wrong: it does not know the user's secret"
        case .unusableSecret(let detail): detail
        case .cryptography(let operation): "libcrypto failed: \(operation)"
        }
    }
}
