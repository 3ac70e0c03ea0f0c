import Glibc
import Synchronization

/// Random bytes of the operating system, fit for keys, nonces and salts.
public enum SecureRandom {
    /// Bytes fetched ahead: a login needs a few, and each system call costs as much as hundreds of them.
    private struct Stock {
        static let size = 512
        var bytes = [UInt8](repeating: 0, count: Self.size)
        var used = Self.size

        mutating func take(_ count: Int) -> [UInt8] {
            if self.used + count > Self.size {
                SecureRandom.fill(&self.bytes)
                self.used = 0
            }
            var result = [UInt8](repeating: 0, count: count)
            for index in 0..<count {
                swap(&result[index], &self.bytes[self.used + index])  // Nothing of what is given away stays here.
            }
            self.used += count
            return result
        }
    }

    private static let stock = Mutex(Stock())

    /// Returns `count` random bytes.
    public static func bytes(_ count: Int) -> [UInt8] {
        if count <= Stock.size / 8 { return self.stock.withLock { $0.take(count) } }
        var result = [UInt8](repeating: 0, count: count)
        self.fill(&result)
        return result
    }

    private static func fill(_ bytes: inout [UInt8]) {
        let most = 256  // What getentropy(3) gives at once.
        var start = 0
        while start < bytes.count {
            let count = min(most, bytes.count - start)
            let isFilled = unsafe bytes.withUnsafeMutableBytes { buffer in
                unsafe getentropy(buffer.baseAddress.map { unsafe $0 + start }, count) == 0
            }
            guard isFilled else { break }
            start += count
        }
        // The kernel refuses only what is asked in a wrong way; this asks in another.
        var generator = SystemRandomNumberGenerator()
        while start < bytes.count {
            bytes[start] = UInt8.random(in: .min ... .max, using: &generator)
            start += 1
        }
    }

    /// A SCRAM nonce: 18 random bytes in base64, as many as PostgreSQL uses.
    static func nonce() -> [UInt8] {
        Base64.encode(self.bytes(18).span)
    }
}
