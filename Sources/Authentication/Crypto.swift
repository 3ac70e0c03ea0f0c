import COpenSSL

/// The few primitives that logins need, over libcrypto.
enum Crypto {
    /// Bytes of a SHA-256 digest, and so of every SCRAM-SHA-256 key.
    static let sha256Length = 32

    static func sha256(_ data: Span<UInt8>) throws(AuthenticationError) -> SecretBytes {
        guard let digest = unsafe Self.digest(EVP_sha256(), length: Self.sha256Length, data) else {
            throw .cryptography("SHA-256")
        }
        return digest
    }

    static func md5(_ data: Span<UInt8>) throws(AuthenticationError) -> SecretBytes {
        guard let digest = unsafe Self.digest(EVP_md5(), length: 16, data) else { throw .cryptography("MD5") }
        return digest
    }

    static func hmacSHA256(key: Span<UInt8>, _ data: Span<UInt8>) throws(AuthenticationError) -> SecretBytes {
        var done = false
        let result = SecretBytes(count: Self.sha256Length) { output in
            unsafe output.withUnsafeMutableBufferPointer { output in
                unsafe key.withUnsafeBufferPointer { key in
                    unsafe data.withUnsafeBufferPointer { data in
                        let code = unsafe HMAC(
                            EVP_sha256(), key.baseAddress, Int32(clamping: key.count), data.baseAddress, data.count,
                            output.baseAddress, nil)
                        done = unsafe code != nil
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
