@testable import Authentication

/// The bytes of a text.
func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

/// The text of bytes that a test expects to be text.
func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

/// The text of a secret; tests only.
func text(_ secret: SecretBytes) -> String { text([UInt8](copying: secret.span)) }

extension SCRAMServer {
    mutating func initialResponse(mechanism: [UInt8], message: [UInt8]?) -> Action {
        guard let message else { return self.initialResponse(mechanism: mechanism.span, message: nil as Span<UInt8>?) }
        return self.initialResponse(mechanism: mechanism.span, message: message.span)
    }

    mutating func response(_ message: [UInt8]) -> Action { self.response(message.span) }
}

extension SCRAMClient {
    mutating func begin(mechanisms: [UInt8]) -> Action { self.begin(mechanisms: mechanisms.span) }

    mutating func serverFirst(_ message: [UInt8]) -> Action { self.serverFirst(message.span) }

    mutating func serverFinal(_ message: [UInt8]) -> Action { self.serverFinal(message.span) }
}

extension SCRAMServer.Action {
    /// The error of a failure.
    var error: AuthenticationError? {
        if case .failure(let error) = self { error } else { nil }
    }
}

extension SCRAMClient.Action {
    /// The error of a failure.
    var error: AuthenticationError? {
        if case .failure(let error) = self { error } else { nil }
    }
}

/// The exchange of RFC 7677, chapter 3: user "user", password "pencil".
enum RFC7677 {
    static let salt = Base64.decode(bytes("W22ZaJ0SNY7soEsUEjb6gQ==").span) ?? []
    static let clientNonce = bytes("rOprNGfwEbeRWgbNEkqO")
    static let serverNonce = bytes("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
    static let clientFirst = bytes("n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
    static let serverFirst = bytes(
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")
    static let clientFinal = bytes(
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
            + "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    static let serverFinal = bytes("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
    static let mechanism = bytes("SCRAM-SHA-256")

    static func keys() throws -> SCRAMKeys {
        try SCRAMDerivation(password: SecretBytes(bytes("pencil")), salt: Self.salt, iterations: 4096).run()
    }

    static func verifier() throws -> SCRAMVerifier {
        try SCRAMVerifier(self.keys())
    }
}
