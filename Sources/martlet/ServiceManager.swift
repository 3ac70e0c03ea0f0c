import Glibc

/// What systemd is told and what it hands over (sd_notify(3), sd_listen_fds(3)), without its library.
struct ServiceManager {
    /// The socket's name in `NOTIFY_SOCKET`; nil when nobody listens.
    private let socketName: String?
    /// Listening sockets that systemd has opened for this process (socket activation).
    let listeningSockets: [Int32]

    /// Reads the environment.
    init() {
        self.init(environment: { name in getenv(name).map { String(cString: $0) } }, processID: getpid())
    }

    init(environment: (String) -> String?, processID: pid_t) {
        self.socketName = environment("NOTIFY_SOCKET").flatMap { $0.isEmpty ? nil : $0 }
        // The variables are inherited by children; they are meant for the process they name.
        if environment("LISTEN_PID").flatMap({ pid_t($0) }) == processID,
            let count = environment("LISTEN_FDS").flatMap({ Int32($0) }), (1...1024).contains(count)
        {
            self.listeningSockets = Array(3..<(3 + count))
        } else {
            self.listeningSockets = []
        }
    }

    func ready(status: String) { self.send("READY=1\nSTATUS=\(status)") }

    func reloading() {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        let microseconds = UInt64(time.tv_sec) * 1_000_000 + UInt64(time.tv_nsec) / 1000
        self.send("RELOADING=1\nMONOTONIC_USEC=\(microseconds)")
    }

    func stopping(status: String) { self.send("STOPPING=1\nSTATUS=\(status)") }

    func status(_ text: String) { self.send("STATUS=\(text)") }

    /// One datagram; nobody is the wiser if it fails.
    private func send(_ text: String) {
        guard let name = self.socketName, let address = UnixAddress(name) else { return }
        let descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return }
        defer { close(descriptor) }
        let bytes = Array(text.utf8)
        address.withSockaddr { sockaddr, length in
            _ = sendto(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL), sockaddr, length)
        }
    }
}

/// The address of a Unix socket; `@name` is in the abstract namespace.
struct UnixAddress {
    private var storage = sockaddr_un()
    private let length: socklen_t

    /// Nil when the name is neither a path nor abstract, or too long.
    init?(_ name: String) {
        guard name.hasPrefix("/") || name.hasPrefix("@"), name.utf8.count > 1 else { return nil }
        var bytes = Array(name.utf8)
        let isAbstract = bytes[0] == UInt8(ascii: "@")
        if isAbstract { bytes[0] = 0 }
        let capacity = MemoryLayout.size(ofValue: self.storage.sun_path)
        guard bytes.count < capacity else { return nil }
        self.storage.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &self.storage.sun_path) { $0.copyBytes(from: bytes) }
        // The length tells the end of an abstract name; a path ends at its NUL.
        let pathOffset = MemoryLayout<sockaddr_un>.size - capacity
        self.length = socklen_t(pathOffset + bytes.count + (isAbstract ? 0 : 1))
    }

    func withSockaddr(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Void) {
        withUnsafePointer(to: self.storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, self.length) }
        }
    }
}
