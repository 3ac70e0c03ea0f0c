/// Random bytes of the operating system, fit for keys, nonces and salts.
public enum SecureRandom {
    /// Returns `count` random bytes.
    public static func bytes(_ count: Int) -> [UInt8] {
        var generator = SystemRandomNumberGenerator()
        var result: [UInt8] = []
        result.reserveCapacity(count)
        while result.count < count {
            var word = generator.next() as UInt64
            for _ in 0..<min(8, count - result.count) {
                result.append(UInt8(truncatingIfNeeded: word))
                word >>= 8
            }
        }
        return result
    }

    /// A SCRAM nonce: 18 random bytes in base64, as many as PostgreSQL uses.
    static func nonce() -> [UInt8] {
        Base64.encode(self.bytes(18).span)
    }
}
