import CLinux
import Glibc

/// TCP options that the settings name; 0 leaves the kernel's own value.
public struct SocketOptions: Sendable, Equatable {
    public var keepAlive = true
    /// Probes, seconds, seconds (`tcp_keepcnt`, `tcp_keepidle`, `tcp_keepintvl`).
    public var keepAliveCount = 0
    public var keepAliveIdle = 0
    public var keepAliveInterval = 0
    /// Milliseconds (`tcp_user_timeout`).
    public var userTimeout = 0
    /// Bytes (`tcp_socket_buffer`).
    public var bufferSize = 0

    public init() {}
}

/// A stream socket that closes itself unless it is taken over.
public struct Socket: ~Copyable, Sendable {
    private var fd: Int32

    /// Takes over a descriptor.
    public init(_ fd: Int32) { self.fd = fd }

    /// Ends a connection in both directions, for every descriptor of it; the descriptor itself stays open.
    package static func cut(_ fd: Int32) { shutdown(fd, Int32(SHUT_RDWR)) }

    deinit { if self.fd >= 0 { Glibc.close(self.fd) } }

    public var descriptor: Int32 { self.fd }

    /// Gives the descriptor away.
    public consuming func take() -> Int32 {
        let fd = self.fd
        discard self
        return fd
    }

    /// Begins to connect; the end is told by the event loop.
    public static func connecting(to address: SocketAddress, options: SocketOptions) throws(SystemError) -> Socket {
        let fd = martlet_socket(address.family)
        guard fd >= 0 else { throw SystemError("socket") }
        let socket = Socket(fd)
        if !address.isUnix { setOptions(fd, options) }
        let result = address.withSockaddr { connect(fd, $0, $1) }
        // A Unix socket whose queue is full answers EAGAIN: no connection is under way then.
        if result < 0 && errno != EINPROGRESS { throw SystemError("connect \(address.description)") }
        return socket
    }

    /// Sets `TCP_NODELAY` and what the settings ask for.
    static func setOptions(_ fd: Int32, _ options: SocketOptions) {
        setInheritedOptions(fd, options)
        setOwnOptions(fd, options)
    }

    /// Those that every connection has. What a listening socket accepts has them from it.
    static func setInheritedOptions(_ fd: Int32, _ options: SocketOptions) {
        set(fd, MARTLET_IPPROTO_TCP, MARTLET_TCP_NODELAY, 1)
        set(fd, MARTLET_SOL_SOCKET, MARTLET_SO_KEEPALIVE, options.keepAlive ? 1 : 0)
    }

    /// The others, which a listening socket is not given: without a setting they are the kernel's, and after a reload
    /// nobody would know any more what that was.
    public static func setOwnOptions(_ fd: Int32, _ options: SocketOptions) {
        if options.keepAlive {
            if options.keepAliveCount > 0 {
                set(fd, MARTLET_IPPROTO_TCP, MARTLET_TCP_KEEPCNT, options.keepAliveCount)
            }
            if options.keepAliveIdle > 0 {
                set(fd, MARTLET_IPPROTO_TCP, MARTLET_TCP_KEEPIDLE, options.keepAliveIdle)
            }
            if options.keepAliveInterval > 0 {
                set(fd, MARTLET_IPPROTO_TCP, MARTLET_TCP_KEEPINTVL, options.keepAliveInterval)
            }
        }
        if options.userTimeout > 0 {
            set(fd, MARTLET_IPPROTO_TCP, MARTLET_TCP_USER_TIMEOUT, options.userTimeout)
        }
        if options.bufferSize > 0 {
            set(fd, MARTLET_SOL_SOCKET, MARTLET_SO_SNDBUF, options.bufferSize)
            set(fd, MARTLET_SOL_SOCKET, MARTLET_SO_RCVBUF, options.bufferSize)
        }
    }

    static func set(_ fd: Int32, _ level: Int, _ option: Int, _ value: Int) {
        var value = Int32(clamping: value)
        _ = setsockopt(fd, Int32(level), Int32(option), &value, socklen_t(MemoryLayout<Int32>.size))
    }

    /// This side's address.
    public static func localAddress(_ fd: Int32) -> SocketAddress {
        SocketAddress.filled { getsockname(fd, $0, $1) }.address
    }

    /// The other side's address.
    public static func peerAddress(_ fd: Int32) -> SocketAddress {
        SocketAddress.filled { getpeername(fd, $0, $1) }.address
    }

    /// Process and user at the other end of a Unix socket.
    public static func peerCredentials(_ fd: Int32) -> (pid: Int32, uid: UInt32)? {
        var pid: UInt32 = 0
        var uid: UInt32 = 0
        var gid: UInt32 = 0
        guard martlet_peer_credentials(fd, &pid, &uid, &gid) == 0 else { return nil }
        return (Int32(bitPattern: pid), uid)
    }
}
