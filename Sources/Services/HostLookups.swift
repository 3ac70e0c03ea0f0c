import CLinux
import Glibc
public import Reactor

/// What the system knows about hosts and users. The name services behind it may be slow: not on an event loop, but for
/// the own addresses.
public enum HostLookups {
    /// The proxy's own addresses with their networks' masks, in numbers.
    public static func interfaces() -> [(address: String, mask: String)] {
        var list: UnsafeMutablePointer<ifaddrs>?
        guard getifaddrs(&list) == 0 else { return [] }
        defer { freeifaddrs(list) }
        var found: [(address: String, mask: String)] = []
        var entry = list
        while let interface = entry {
            let address = Self.address(interface.pointee.ifa_addr)
            if let address, let mask = Self.address(interface.pointee.ifa_netmask) { found.append((address, mask)) }
            entry = interface.pointee.ifa_next
        }
        return found
    }

    private static func address(_ address: UnsafeMutablePointer<sockaddr>?) -> String? {
        guard let address else { return nil }
        let length: Int
        switch Int32(address.pointee.sa_family) {
        case AF_INET: length = MemoryLayout<sockaddr_in>.size
        case AF_INET6: length = MemoryLayout<sockaddr_in6>.size
        default: return nil
        }
        return SocketAddress(address, length: length).host
    }

    /// The name of an address's host; nil if it has none, or one that does not lead back to the address: whoever has a
    /// network also names its hosts, as he likes.
    public static func verifiedName(of address: SocketAddress) -> String? {
        guard !address.isUnix else { return nil }
        var buffer = [CChar](repeating: 0, count: Int(NI_MAXHOST))
        let code = address.withSockaddr {
            getnameinfo($0, $1, &buffer, socklen_t(buffer.count), nil, 0, Int32(NI_NAMEREQD))
        }
        guard code == 0 else { return nil }
        let name = String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        guard case .success(let addresses) = Resolver.addressesNow(of: name) else { return nil }
        return addresses.contains { $0.host == address.host } ? name : nil
    }

    /// The name of an operating system user; nil if there is none of this number.
    public static func userName(_ id: UInt32) -> String? {
        var buffer = [CChar](repeating: 0, count: 4096)
        while true {
            var entry = passwd()
            var found: UnsafeMutablePointer<passwd>?
            let code = getpwuid_r(id, &entry, &buffer, buffer.count, &found)
            if code == EINTR { continue }
            guard code == ERANGE, buffer.count < 1 << 20 else {
                return code == 0 && found != nil ? entry.pw_name.map { String(cString: $0) } : nil
            }
            buffer = [CChar](repeating: 0, count: buffer.count * 2)
        }
    }
}
