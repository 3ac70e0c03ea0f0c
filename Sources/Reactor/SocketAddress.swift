package import CLinux
import Glibc

/// Where a socket is bound or connected: IPv4, IPv6 or a Unix socket (a path, or an abstract name written `@name`).
public struct SocketAddress: Sendable, Hashable {
    private let bytes: [UInt8]

    /// Takes the kernel's form.
    package init(_ address: UnsafePointer<sockaddr>, length: Int) {
        self.bytes = Array(UnsafeRawBufferPointer(start: address, count: max(length, 2)))
    }

    /// An IPv4 or IPv6 address in text (`fe80::1%eth0`, too). Nil if it is neither (a name, say), or the interface does
    /// not exist.
    public init?(ip text: String, port: UInt16) {
        var v4 = sockaddr_in()
        if inet_pton(AF_INET, text, &v4.sin_addr) == 1 {
            v4.sin_family = sa_family_t(AF_INET)
            v4.sin_port = port.bigEndian
            self.bytes = withUnsafeBytes(of: &v4) { Array($0) }
            return
        }
        var v6 = sockaddr_in6()
        let parts = text.split(separator: "%", maxSplits: 1)
        guard let address = parts.first, inet_pton(AF_INET6, String(address), &v6.sin6_addr) == 1 else { return nil }
        v6.sin6_family = sa_family_t(AF_INET6)
        v6.sin6_port = port.bigEndian
        if parts.count == 2 {
            // An interface by name, or by number.
            let scope = if_nametoindex(String(parts[1]))
            v6.sin6_scope_id = scope != 0 ? scope : UInt32(parts[1]) ?? 0
            guard v6.sin6_scope_id != 0 else { return nil }
        }
        self.bytes = withUnsafeBytes(of: &v6) { Array($0) }
    }

    /// A Unix socket: a path, or `@name` for an abstract one. Nil if it is longer than the kernel takes (107 bytes).
    public init?(unix path: String) {
        var name = Array(path.utf8)
        let isAbstract = name.first == UInt8(ascii: "@")
        if isAbstract { name[0] = 0 }
        guard name.count <= 107, !name.isEmpty else { return nil }
        var bytes = withUnsafeBytes(of: sa_family_t(AF_UNIX)) { Array($0) }
        bytes += name
        if !isAbstract { bytes.append(0) }
        self.bytes = bytes
    }

    /// All local addresses: of IPv4, and of IPv6 where the kernel has it.
    public static func any(port: UInt16) -> [SocketAddress] {
        let probe = Socket(martlet_socket(AF_INET6))
        let names = probe.descriptor >= 0 ? ["0.0.0.0", "::"] : ["0.0.0.0"]
        return names.compactMap { SocketAddress(ip: $0, port: port) }
    }

    public var family: Int32 { Int32(self.bytes[0]) | Int32(self.bytes[1]) << 8 }
    public var isUnix: Bool { self.family == AF_UNIX }
    public var isIPv6: Bool { self.family == AF_INET6 }

    /// The port in host order; 0 for a Unix socket.
    public var port: UInt16 {
        self.isUnix || self.bytes.count < 4 ? 0 : UInt16(self.bytes[2]) << 8 | UInt16(self.bytes[3])
    }

    /// The same address with another port.
    public func with(port: UInt16) -> SocketAddress {
        guard !self.isUnix, self.bytes.count >= 4 else { return self }
        var bytes = self.bytes
        bytes[2] = UInt8(port >> 8)
        bytes[3] = UInt8(port & 0xff)
        return SocketAddress(bytes: bytes)
    }

    private init(bytes: [UInt8]) { self.bytes = bytes }

    /// The address without the port: `127.0.0.1`, `::1`, or the Unix socket's path.
    public var host: String {
        if self.isUnix {
            let name = self.bytes.dropFirst(2)
            if name.isEmpty { return "unix" }
            if name.first == 0 { return "@" + String(decoding: name.dropFirst(), as: UTF8.self) }
            return String(decoding: name.prefix { $0 != 0 }, as: UTF8.self)
        }
        var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN) + 1)
        let offset = self.isIPv6 ? 8 : 4
        guard self.bytes.count >= offset + (self.isIPv6 ? 16 : 4) else { return "unknown" }
        _ = self.bytes.withUnsafeBytes { address in
            inet_ntop(self.family, address.baseAddress.map { $0 + offset }, &text, socklen_t(text.count))
        }
        return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// `127.0.0.1:6432`, `[::1]:6432` or the Unix socket's path.
    public var description: String {
        if self.isUnix { return self.host }
        return self.isIPv6 ? "[\(self.host)]:\(self.port)" : "\(self.host):\(self.port)"
    }

    /// Hands the kernel's form to a system call.
    package func withSockaddr<R>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> R) -> R {
        // Through storage of the kernel's own size and alignment.
        var storage = sockaddr_storage()
        let count = min(self.bytes.count, MemoryLayout<sockaddr_storage>.size)
        withUnsafeMutableBytes(of: &storage) { $0.copyBytes(from: self.bytes.prefix(count)) }
        return withUnsafePointer(to: &storage) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(count)) }
        }
    }

    /// Calls a system call that fills in an address.
    static func filled(_ body: (UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Int32)
        -> (result: Int32, address: SocketAddress)
    {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        return withUnsafeMutablePointer(to: &storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                let result = body(address, &length)
                return (result, SocketAddress(address, length: result < 0 ? 2 : Int(length)))
            }
        }
    }
}
