import COpenSSL
import Synchronization

/// The few primitives that logins need, over libcrypto.
enum Crypto {
    /// Bytes of a SHA-256 digest, and so of every SCRAM-SHA-256 key.
    static let sha256Length = 32

    static func sha256(_ data: Span<UInt8>) throws(AuthenticationError) -> SecretBytes {
        guard let digest = unsafe Self.digest(Algorithms.shared.sha256, length: Self.sha256Length, data) else {
            throw .cryptography("SHA-256")
        }
        return digest
    }

    static func md5(_ data: Span<UInt8>) throws(AuthenticationError) -> SecretBytes {
        guard let digest = unsafe Self.digest(EVP_md5(), length: 16, data) else { throw .cryptography("MD5") }
        return digest
    }

    static func hmacSHA256(key: Span<UInt8>, _ data: Span<UInt8>) throws(AuthenticationError) -> SecretBytes {
        guard let mac = unsafe Algorithms.shared.takeHMAC() else { throw .cryptography("HMAC-SHA-256") }
        defer { unsafe Algorithms.shared.give(mac) }
        var done = false
        let result = SecretBytes(count: Self.sha256Length) { output in
            unsafe output.withUnsafeMutableBufferPointer { output in
                unsafe key.withUnsafeBufferPointer { key in
                    unsafe data.withUnsafeBufferPointer { data in
                        var length = 0
                        done =
                            unsafe EVP_MAC_init(mac, key.baseAddress, key.count, nil) == 1
                            && EVP_MAC_update(mac, data.baseAddress, data.count) == 1
                            && EVP_MAC_final(mac, output.baseAddress, &length, output.count) == 1
                            && length == output.count
                    }
                }
            }
        }
        guard done else { throw .cryptography("HMAC-SHA-256") }
        return result
    }

    /// PBKDF2 with HMAC-SHA-256: milliseconds of work for the usual 4,096 iterations.
    static func pbkdf2(
        password: Span<UInt8>, salt: Span<UInt8>, iterations: Int
    ) throws(AuthenticationError) -> SecretBytes {
        guard let rounds = Int32(exactly: iterations), rounds > 0, let length = Int32(exactly: password.count),
            let saltLength = Int32(exactly: salt.count)
        else { throw .cryptography("PBKDF2 parameters") }
        var done = false
        let result = SecretBytes(count: Self.sha256Length) { output in
            unsafe output.withUnsafeMutableBufferPointer { output in
                unsafe salt.withUnsafeBufferPointer { salt in
                    unsafe password.withUnsafeBytes { password in
                        let code = unsafe PKCS5_PBKDF2_HMAC(
                            password.baseAddress?.assumingMemoryBound(to: CChar.self), length, salt.baseAddress,
                            saltLength, rounds, EVP_sha256(), Int32(Self.sha256Length), output.baseAddress)
                        done = code == 1
                    }
                }
            }
        }
        guard done else { throw .cryptography("PBKDF2") }
        return result
    }

    /// `left` XOR `right`; both are keys of the same length.
    static func exclusiveOr(_ left: Span<UInt8>, _ right: Span<UInt8>) -> SecretBytes {
        SecretBytes(count: min(left.count, right.count)) { output in
            for index in 0..<output.count { output[index] = left[index] ^ right[index] }
        }
    }

    private static func digest(_ type: OpaquePointer?, length: Int, _ data: Span<UInt8>) -> SecretBytes? {
        var done = false
        let result = SecretBytes(count: length) { output in
            unsafe output.withUnsafeMutableBufferPointer { output in
                unsafe data.withUnsafeBufferPointer { data in
                    let code = unsafe EVP_Digest(data.baseAddress, data.count, output.baseAddress, nil, type, nil)
                    done = code == 1
                }
            }
        }
        return done ? result : nil
    }
}

/// libcrypto's algorithms, found once: to look one up takes longer than to compute it.
///
/// Sendable, since nothing is changed after it has been made, but for the contexts, of which each belongs to whoever has
/// taken it.
@safe
private final class Algorithms: @unchecked Sendable {
    let sha256 = unsafe EVP_MD_fetch(nil, "SHA256", nil)
    private let hmac = unsafe martlet_hmac_sha256()
    /// Contexts that nobody uses: to make one takes as long as its work. They keep the last key that they had.
    private let idle = Mutex<[Int]>([])
    private static let mostIdle = 16

    static let shared = Algorithms()

    /// A context of HMAC-SHA-256, to be given a key and then back.
    func takeHMAC() -> OpaquePointer? {
        if let idle = self.idle.withLock({ $0.popLast() }) { return unsafe OpaquePointer(bitPattern: idle) }
        guard let hmac = unsafe self.hmac else { return nil }
        return unsafe EVP_MAC_CTX_dup(hmac)
    }

    func give(_ mac: OpaquePointer) {
        let isKept = self.idle.withLock { idle in
            guard idle.count < Self.mostIdle else { return false }
            idle.append(Int(bitPattern: mac))
            return true
        }
        if !isKept { unsafe EVP_MAC_CTX_free(mac) }
    }
}
