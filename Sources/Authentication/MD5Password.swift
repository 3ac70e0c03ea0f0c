/// MD5 password authentication (PostgreSQL's manual, "Password Authentication" and AuthenticationMD5Password).
public enum MD5Password {
    /// Bytes of the salt that a server sends.
    public static let saltLength = 4

    private static let digitCount = 32

    /// The 32 hexadecimal digits that PostgreSQL stores behind `md5`: MD5 of password and user.
    public static func hash(user: Span<UInt8>, password: Span<UInt8>) throws(AuthenticationError) -> SecretBytes {
        try Self.hexadecimalDigest(password, user)
    }

    /// The answer to AuthenticationMD5Password, `md5` and 32 digits, without the terminating zero byte.
    ///
    /// - Throws: `unusableSecret` for a SCRAM secret, `malformedMessage` for a salt that is not four bytes long.
    public static func response(
        salt: Span<UInt8>, user: Span<UInt8>, secret: Secret
    ) throws(AuthenticationError) -> SecretBytes {
        guard salt.count == Self.saltLength else { throw .malformedMessage("MD5 salt of \(salt.count) bytes") }
        let stored = try Self.storedDigits(secret, user: user)
        let digits = try Self.hexadecimalDigest(stored.span, salt)
        return SecretBytes(count: Self.digitCount + 3) { output in
            output[0] = UInt8(ascii: "m")
            output[1] = UInt8(ascii: "d")
            output[2] = UInt8(ascii: "5")
            for index in 0..<Self.digitCount { output[index + 3] = digits.span[index] }
        }
    }

    /// Whether `response`, without its terminating zero byte, is right; in constant time.
    ///
    /// For an unknown user pass nil: the same work is done, and the answer is false. So it is for a SCRAM secret and
    /// for an empty password.
    public static func verify(
        response: Span<UInt8>, user: Span<UInt8>, secret: Secret?, salt: Span<UInt8>
    ) throws(AuthenticationError) -> Bool {
        let usable: Secret
        var possible = true
        switch secret {
        case .plain(let password) where !password.isEmpty: usable = .plain(password)
        case .md5(let digits): usable = .md5(digits)
        case .plain, .scram, nil:
            usable = .plain(SecretBytes(count: 16) { _ in })
            possible = false
        }
        let expected = try Self.response(salt: salt, user: user, secret: usable)
        return constantTimeEqual(expected.span, response) && possible
    }

    /// The digits of a stored secret, `md5` and 32 lowercase hexadecimal digits; nil if it is not one.
    static func digits(of secret: Span<UInt8>) -> SecretBytes? {
        guard secret.count == Self.digitCount + 3, secret[0] == UInt8(ascii: "m"), secret[1] == UInt8(ascii: "d"),
            secret[2] == UInt8(ascii: "5")
        else { return nil }
        for index in 3..<secret.count {
            switch secret[index] {
            case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "f"): break
            default: return nil
            }
        }
        return SecretBytes(secret.extracting(3...))
    }

    private static func storedDigits(
        _ secret: Secret, user: Span<UInt8>
    ) throws(AuthenticationError) -> SecretBytes {
        switch secret {
        case .plain(let password): return try Self.hash(user: user, password: password.span)
        case .md5(let digits): return digits
        case .scram: throw .unusableSecret("server asks for an MD5 password, but only a SCRAM secret is known")
        }
    }

    /// MD5 of two byte strings, one behind the other, in lowercase hexadecimal digits.
    private static func hexadecimalDigest(
        _ first: Span<UInt8>, _ second: Span<UInt8>
    ) throws(AuthenticationError) -> SecretBytes {
        let joined = SecretBytes(count: first.count + second.count) { output in
            for index in first.indices { output[index] = first[index] }
            for index in second.indices { output[first.count + index] = second[index] }
        }
        let digest = try Crypto.md5(joined.span)
        return SecretBytes(count: Self.digitCount) { output in
            for index in 0..<digest.count {
                output[2 * index] = Self.digit(digest.span[index] >> 4)
                output[2 * index + 1] = Self.digit(digest.span[index] & 0x0F)
            }
        }
    }

    private static func digit(_ value: UInt8) -> UInt8 {
        value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "a") + value - 10
    }
}
