import Glibc

/// Random bytes of the operating system, fit for keys, nonces and salts.
public enum SecureRandom {
    /// Returns `count` random bytes.
    public static func bytes(_ count: Int) -> [UInt8] {
        var result = [UInt8](repeating: 0, count: count)
        // One call for all of it, if it is within what getentropy(3) gives at once.
        guard unsafe getentropy(&result, count) != 0 else { return result }
        var generator = SystemRandomNumberGenerator()
        for index in result.indices { result[index] = UInt8.random(in: .min ... .max, using: &generator) }
        return result
    }

    /// A SCRAM nonce: 18 random bytes in base64, as many as PostgreSQL uses.
    static func nonce() -> [UInt8] {
        Base64.encode(self.bytes(18).span)
    }
}
