import Glibc

/// A system call that failed: which one, on what, and the kernel's word for it.
public struct SystemError: Error, Sendable, CustomStringConvertible {
    /// What was attempted, such as `bind 127.0.0.1:6432`.
    public let call: String
    /// `errno`.
    public let code: Int32

    /// Takes `errno` as it stands.
    public init(_ call: String) { self.init(call, code: errno) }

    public init(_ call: String, code: Int32) {
        self.call = call
        self.code = code
    }

    public var reason: String { String(cString: strerror(self.code)) }
    public var description: String { self.code == 0 ? self.call : "\(self.call): \(self.reason)" }
}
