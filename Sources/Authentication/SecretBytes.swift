import COpenSSL

/// Bytes of a password or key: wiped when the last copy goes, compared in constant time, never printed.
public struct SecretBytes: Sendable, Hashable {
    private let storage: SecretStorage

    /// Copies `bytes`; the caller's own copy is not wiped.
    public init(_ bytes: Span<UInt8>) {
        self.init(count: bytes.count) { destination in
            for index in bytes.indices { destination[index] = bytes[index] }
        }
    }

    /// Copies `bytes`; the caller's own copy is not wiped.
    public init(_ bytes: [UInt8]) {
        self.init(bytes.span)
    }

    /// Makes `count` bytes, zero at first, that `fill` writes.
    init(count: Int, _ fill: (inout MutableSpan<UInt8>) -> Void) {
        let storage = SecretStorage(count: count)
        var span = unsafe MutableSpan(_unsafeElements: storage.bytes)
        fill(&span)
        self.storage = storage
    }

    /// The number of bytes.
    public var count: Int { unsafe self.storage.bytes.count }

    /// Whether there are none.
    public var isEmpty: Bool { self.count == 0 }

    /// The bytes, valid while this value is.
    public var span: Span<UInt8> {
        @_lifetime(borrow self)
        get {
            let span = unsafe Span(_unsafeElements: UnsafeBufferPointer(self.storage.bytes))
            return unsafe _overrideLifetime(span, borrowing: self)
        }
    }

    public static func == (left: SecretBytes, right: SecretBytes) -> Bool {
        constantTimeEqual(left.span, right.span)
    }

    public func hash(into hasher: inout Hasher) {
        let span = self.span
        for index in span.indices { hasher.combine(span[index]) }
    }
}

extension SecretBytes: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    public var description: String { "(secret)" }
    public var debugDescription: String { "(secret)" }
    public var customMirror: Mirror { Mirror(self, children: []) }
}

/// The memory behind `SecretBytes`.
///
/// Sendable, since the bytes are written before the initialiser of `SecretBytes` returns and only read after that.
@safe
private final class SecretStorage: @unchecked Sendable {
    let bytes: UnsafeMutableBufferPointer<UInt8>

    init(count: Int) {
        // One byte more, so that an empty secret has an address too: libcrypto takes a null key for "keep the last one".
        let start = UnsafeMutablePointer<UInt8>.allocate(capacity: count + 1)
        unsafe start.initialize(repeating: 0, count: count + 1)
        unsafe self.bytes = UnsafeMutableBufferPointer(start: start, count: count)
    }

    deinit {
        unsafe OPENSSL_cleanse(self.bytes.baseAddress, self.bytes.count)
        unsafe self.bytes.baseAddress?.deallocate()
    }
}

/// Compares two byte strings in a time that depends on their lengths only.
public func constantTimeEqual(_ left: Span<UInt8>, _ right: Span<UInt8>) -> Bool {
    guard left.count == right.count else { return false }
    return unsafe left.withUnsafeBytes { left in
        unsafe right.withUnsafeBytes { right in
            guard let leftStart = left.baseAddress, let rightStart = right.baseAddress else { return true }
            return unsafe CRYPTO_memcmp(leftStart, rightStart, left.count) == 0
        }
    }
}
