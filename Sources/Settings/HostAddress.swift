/// Where a server listens: a host in libpq's notation and a port.
public struct HostAddress: Sendable, Hashable, CustomStringConvertible {
    /// What kind of address `host` is.
    public enum Kind: Sendable, Hashable {
        /// A host name or an IPv4 or IPv6 address.
        case tcp
        /// A directory with a Unix socket in it; so is an empty host, which means the default directory.
        case unix
        /// A Unix socket in the abstract namespace, `@name`.
        case abstract
    }

    /// A name or address, a directory that begins with `/`, an abstract name that begins with `@`, or empty.
    public var host: String
    /// 1 to 65535. With a Unix socket it is part of the socket's name.
    public var port: Int

    /// Makes an address of its two parts.
    public init(host: String, port: Int = 5432) {
        self.host = host
        self.port = port
    }

    /// What kind of address this is, told by the first character of the host.
    public var kind: Kind {
        switch self.host.utf8.first {
        case nil, UInt8(ascii: "/"): .unix
        case UInt8(ascii: "@"): .abstract
        default: .tcp
        }
    }

    /// The name of the Unix socket, or nil for TCP. An abstract one begins with `@`, which stands for the byte 0.
    public var socketPath: String? {
        switch self.kind {
        case .tcp: nil
        case .unix, .abstract: "\(self.host)/.s.PGSQL.\(self.port)"
        }
    }

    /// `pg1:5432`, `[::1]:5432` or the path of the socket.
    public var description: String {
        self.socketPath ?? (self.host.contains(":") ? "[\(self.host)]:\(self.port)" : "\(self.host):\(self.port)")
    }
}
