import CLinux
import Glibc

/// What a listening socket is made with.
public struct ListenOptions: Sendable, Equatable {
    public var backlog = 128
    public var reusePort = false
    /// Seconds the kernel waits for the first byte (`tcp_defer_accept`); 0 is off.
    public var deferAccept = 0
    /// Permissions of a Unix socket's file.
    public var unixMode: UInt32 = 0o777
    /// Group of a Unix socket's file, by name; empty leaves it.
    public var unixGroup = ""

    public init() {}
}

/// A listening socket: bound before the reactors start, accepted from on one of them.
public struct ListeningSocket: Sendable {
    public let fd: Int32
    public let address: SocketAddress
    /// A connection that is accepted has input already, as a rule.
    public let defersAccept: Bool
    /// Opened by somebody else, who goes on to hold it.
    public let isInherited: Bool
    /// How long an address is waited for that somebody still has. After a crash it may be the process before, whose
    /// sockets io_uring keeps for some 50 ms.
    private static let patience: Int64 = 500_000

    /// Binds and listens, after a moment if the address is not free yet.
    public static func open(_ address: SocketAddress, _ options: ListenOptions) throws(SystemError) -> ListeningSocket {
        let end = monotonicNow() + Self.patience
        while true {
            do throws(SystemError) {
                return try ListeningSocket(address, options)
            } catch {
                guard error.code == EADDRINUSE, monotonicNow() < end else { throw error }
                usleep(20_000)
            }
        }
    }

    /// Binds and listens. A Unix socket's stale file (nobody listens behind it) is removed first.
    public init(_ address: SocketAddress, _ options: ListenOptions) throws(SystemError) {
        let name = "listen on \(address.description)"
        let socket = Socket(martlet_socket(address.family))
        let fd = socket.descriptor
        guard fd >= 0 else { throw SystemError(name) }
        let path = address.isUnix && !address.host.hasPrefix("@") ? address.host : nil
        if address.isUnix {
            if let path {
                if Self.isAlive(address) { throw SystemError(name, code: EADDRINUSE) }
                var status = stat()
                // Any other file is not ours to remove; `bind` fails.
                if lstat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFSOCK { unlink(path) }
            }
        } else {
            Socket.set(fd, MARTLET_SOL_SOCKET, MARTLET_SO_REUSEADDR, 1)
            if options.reusePort { Socket.set(fd, MARTLET_SOL_SOCKET, MARTLET_SO_REUSEPORT, 1) }
            if address.isIPv6 { Socket.set(fd, MARTLET_IPPROTO_IPV6, MARTLET_IPV6_V6ONLY, 1) }
            if options.deferAccept > 0 {
                Socket.set(fd, MARTLET_IPPROTO_TCP, MARTLET_TCP_DEFER_ACCEPT, options.deferAccept)
            }
        }
        guard address.withSockaddr({ bind(fd, $0, $1) }) == 0 else { throw SystemError(name) }
        if let path {
            guard chmod(path, options.unixMode) == 0 else { throw SystemError("chmod \(path)") }
            if !options.unixGroup.isEmpty {
                guard let group = getgrnam(options.unixGroup) else {
                    throw SystemError("unix_socket_group \"\(options.unixGroup)\"", code: ENOENT)
                }
                guard chown(path, uid_t.max, group.pointee.gr_gid) == 0 else { throw SystemError("chown \(path)") }
            }
        }
        guard listen(fd, Int32(clamping: options.backlog)) == 0 else { throw SystemError(name) }
        self.fd = socket.take()
        self.address = Socket.localAddress(self.fd)
        self.defersAccept = !address.isUnix && options.deferAccept > 0
        self.isInherited = false
    }

    /// Takes over a socket that is bound and listening already (systemd's socket activation).
    public init(inherited fd: Int32) {
        self.fd = fd
        _ = fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK)
        self.address = Socket.localAddress(fd)
        self.defersAccept = false
        self.isInherited = true
    }

    /// Lets connections in from now on before their first byte has come: who is still kept by the kernel when the socket is
    /// closed finds nobody.
    public func stopDeferring() {
        if self.defersAccept { Socket.set(self.fd, MARTLET_IPPROTO_TCP, MARTLET_TCP_DEFER_ACCEPT, 0) }
    }

    /// Whether somebody listens. A full queue (EAGAIN) is somebody's too.
    private static func isAlive(_ address: SocketAddress) -> Bool {
        let probe = Socket(martlet_socket(address.family))
        let fd = probe.descriptor
        return fd >= 0 && (address.withSockaddr { connect(fd, $0, $1) } == 0 || errno == EAGAIN)
    }

    /// Closes the socket and removes a Unix socket's file, unless that is somebody else's.
    public func close() {
        // First the file: once nobody listens behind it, the next process may have put its own there.
        if self.address.isUnix && !self.isInherited && !self.address.host.hasPrefix("@") { unlink(self.address.host) }
        Glibc.close(self.fd)
    }
}

/// Accepts connections on a loop and hands them to a closure.
public final class Listener: EventSource {
    private let accepted: (consuming Socket) -> Void
    private let failed: (SystemError) -> Void
    private let isUnix: Bool
    /// Accepted by the kernel and not handed on yet.
    private var waiting: [Int32] = []
    private var restsUntil: MonotonicTime = 0
    /// What is left to do when the kernel has stopped accepting; nil as long as it is to accept.
    private var ending: (drains: Bool, done: () -> Void)?
    /// Some twenty microseconds each: a storm of connections keeps those that are there waiting for so many in a turn.
    private static let connectionsPerTurn = 8
    private static let mostWaiting = 64
    private static let restTime: Int64 = 100_000

    /// Begins to accept. `failed` is told of errors such as an exhausted file table; accepting goes on by itself
    /// after a moment.
    public init(
        loop: EventLoop, _ socket: ListeningSocket, accepted: @escaping (consuming Socket) -> Void,
        failed: @escaping (SystemError) -> Void
    ) {
        self.accepted = accepted
        self.failed = failed
        self.isUnix = socket.address.isUnix
        super.init(loop: loop, fd: socket.fd)
        self.inputMode = .accept
        loop.attach(self, interest: UInt32(MARTLET_EPOLLIN))
    }

    /// What is accepted from now on has these options (`Socket.setInheritedOptions`).
    public func setOptions(_ options: SocketOptions) {
        // After `stop` the descriptor may be somebody else's.
        if self.token != 0 && !self.isUnix { Socket.setInheritedOptions(self.fd, options) }
    }

    public override func ready(_ events: UInt32) {
        for _ in 0..<Self.connectionsPerTurn {
            // `accepted` may have called `stop`, and the descriptor may be somebody else's by now.
            guard self.token != 0 else { return }
            let fd = martlet_accept(self.fd, nil, nil)
            if fd >= 0 {
                self.accepted(Socket(fd))
                continue
            }
            switch errno {
            case EAGAIN: return
            case EINTR, ECONNABORTED: continue
            default: return self.rest(SystemError("accept"))
            }
        }
    }

    /// The kernel has accepted a connection, or -errno (`InputMode.accept`).
    func arrived(_ result: Int32) {
        if result >= 0 {
            // Those of a turn come together; they are handed on at its end, and in the next ones.
            self.waiting.append(result)
            if self.waiting.count >= Self.mostWaiting { self.loop.silence(self) }
            if self.deadline > self.now { self.setDeadline(self.now) }
            return
        }
        switch -result {
        case EAGAIN, EINTR, ECONNABORTED, ECANCELED: return
        default: self.rest(SystemError("accept", code: -result))
        }
    }

    /// The kernel has ended accepting, by itself or because it was told to.
    func acceptingEnded() {
        guard let (drains, done) = self.ending, self.token != 0 else { return }
        self.ending = nil
        for fd in self.waiting { self.accepted(Socket(fd)) }
        self.waiting = []
        if drains { self.acceptRest() }
        self.loop.detach(self)
        done()
    }

    /// Accepts those that have connected already: for them there is nobody else.
    private func acceptRest() {
        while true {
            let fd = martlet_accept(self.fd, nil, nil)
            if fd >= 0 {
                self.accepted(Socket(fd))
            } else if errno != EINTR && errno != ECONNABORTED {
                return
            }
        }
    }

    /// Out of descriptors or memory: the event would come again at once, for ever.
    private func rest(_ error: SystemError) {
        guard self.ending == nil else { return }
        self.loop.silence(self)
        self.restsUntil = self.now + Self.restTime
        if self.waiting.isEmpty { self.setDeadline(self.restsUntil) }
        self.failed(error)
    }

    public override func deadlineReached() {
        guard self.ending == nil else { return }
        for _ in 0..<Self.connectionsPerTurn where !self.waiting.isEmpty {
            // Within it `stop` may be called.
            self.accepted(Socket(self.waiting.removeFirst()))
        }
        guard self.token != 0 else { return }
        if !self.waiting.isEmpty { return self.setDeadline(self.now + 1) }
        guard !self.isRegistered else { return }
        if self.now < self.restsUntil { return self.setDeadline(self.restsUntil) }
        self.loop.setInterest(self, UInt32(MARTLET_EPOLLIN))
    }

    /// Stops accepting, and calls a closure as soon as nothing in the kernel refers to the socket any more; the socket
    /// itself stays open until then.
    ///
    /// - Parameter drains: also those are handed on that have connected and nobody has accepted yet.
    public func finish(drains: Bool, _ done: @escaping () -> Void) {
        guard self.token != 0, self.ending == nil else { return done() }
        self.ending = (drains, done)
        self.loop.silence(self)
        if !self.armed.contains(.input) { self.loop.later { self.acceptingEnded() } }
    }

    /// Stops accepting; the socket itself stays open.
    public func stop() {
        self.loop.detach(self)
        for fd in self.waiting { Glibc.close(fd) }
        self.waiting = []
    }
}
