public import Authentication
import Wire

/// The bytes of a text.
public func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

/// A typed message with this body.
public func message(_ type: Character, _ body: [UInt8] = []) -> [UInt8] {
    MessageWriter.bytes {
        $0.begin(type.asciiValue)
        $0.raw(body)
        $0.end()
    }
}

/// An authentication request of this kind.
public func authentication(_ kind: UInt8, _ body: [UInt8] = []) -> [UInt8] { message("R", [0, 0, 0, kind] + body) }

/// Keys of a password under a salt, few iterations.
public func keys(_ password: String, salt: String = "salt", iterations: Int = 1) throws -> SCRAMKeys {
    try SCRAMDerivation(password: SecretBytes(bytes(password)), salt: bytes(salt), iterations: iterations).run()
}

/// A SCRAM secret, few iterations.
public func verifier(_ password: String, salt: String = "salt", iterations: Int = 1) throws -> SCRAMVerifier {
    try SCRAMVerifier(keys(password, salt: salt, iterations: iterations))
}

/// The digits of a user's MD5 secret.
public func md5Secret(_ user: String, _ password: String) throws -> Secret {
    .md5(try MD5Password.hash(user: bytes(user).span, password: bytes(password).span))
}

/// Whether a PasswordMessage answers an MD5 request rightly.
public func isMD5Answer(_ message: [UInt8], user: String, password: String, salt: [UInt8]) throws -> Bool {
    guard let answer = PasswordMessage.password(message.span) else { return false }
    let secret = Secret.plain(SecretBytes(bytes(password)))
    return try MD5Password.verify(response: answer.span, user: bytes(user).span, secret: secret, salt: salt.span)
}
