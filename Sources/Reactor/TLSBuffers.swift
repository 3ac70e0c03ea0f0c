import COpenSSL
import Glibc

/// What the TLS connections of one loop share: the memory that bytes pass through, so that none of them owns any.
///
/// OpenSSL reads ciphertext from `input` and writes it to `sealed`, by a BIO whose data is this object.
final class TLSBuffers {
    /// Plaintext of one read: what comes at once and what was there of an unfinished record.
    static let plainSize = EventLoop.readSize + 18 * 1024
    /// Four full records.
    static let sealedSize = 4 * (TLSStream.recordSize + TLSStream.recordOverhead)

    /// Ciphertext that has come from the network and was not read yet.
    var input = UnsafeRawBufferPointer(start: nil, count: 0)
    /// Decrypted bytes, for the time of one callback.
    let plain = UnsafeMutableRawBufferPointer.allocate(byteCount: plainSize, alignment: 64)
    private let output = UnsafeMutableRawBufferPointer.allocate(byteCount: sealedSize, alignment: 64)
    private var outputCount = 0

    /// Ciphertext for the network.
    var sealed: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: self.output[..<self.outputCount]) }
    /// Bytes that `sealed` can still take.
    var room: Int { self.output.count - self.outputCount }

    func clearSealed() { self.outputCount = 0 }

    deinit {
        self.plain.deallocate()
        self.output.deallocate()
    }

    fileprivate func read(_ target: UnsafeMutableRawPointer, _ limit: Int) -> Int {
        let count = min(limit, self.input.count)
        guard count > 0, let start = self.input.baseAddress else { return 0 }
        memcpy(target, start, count)
        self.input = UnsafeRawBufferPointer(rebasing: self.input[count...])
        return count
    }

    fileprivate func write(_ source: UnsafeRawPointer, _ limit: Int) -> Int {
        let count = min(limit, self.room)
        guard count > 0, let start = self.output.baseAddress else { return 0 }
        memcpy(start + self.outputCount, source, count)
        self.outputCount += count
        return count
    }

    /// A BIO without data; `BIO_set_data` says whose buffers it is about.
    static func makeBIO() -> OpaquePointer? { method.flatMap { BIO_new($0) } }

    // OpenSSL never changes a method that is in use.
    nonisolated(unsafe) private static let method: OpaquePointer? = {
        guard let method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "reactor") else { return nil }
        BIO_meth_set_create(method) { bio in
            BIO_set_init(bio, 1)
            return 1
        }
        BIO_meth_set_read(method) { bio, target, limit in
            transfer(bio, retry: martlet_bio_retry_read) { buffers in
                target.map { buffers.read(UnsafeMutableRawPointer($0), Int(limit)) } ?? 0
            }
        }
        BIO_meth_set_write(method) { bio, source, count in
            transfer(bio, retry: martlet_bio_retry_write) { buffers in
                source.map { buffers.write(UnsafeRawPointer($0), Int(count)) } ?? 0
            }
        }
        BIO_meth_set_ctrl(method) { _, command, _, _ in command == BIO_CTRL_FLUSH ? 1 : 0 }
        return method
    }()

    private static func transfer(
        _ bio: OpaquePointer?, retry: (OpaquePointer?) -> Void, _ body: (TLSBuffers) -> Int
    ) -> Int32 {
        martlet_bio_clear_retry(bio)
        guard let data = BIO_get_data(bio) else { return -1 }
        let count = Unmanaged<TLSBuffers>.fromOpaque(data)._withUnsafeGuaranteedRef(body)
        if count > 0 { return Int32(truncatingIfNeeded: count) }
        retry(bio)
        return -1
    }
}
