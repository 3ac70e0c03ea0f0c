import CLinux
import Glibc

/// What tells an event loop of events.
public enum EventLoopKind: String, Sendable, CaseIterable {
    /// Readiness by epoll, and a system call for each read and write. Works everywhere.
    case epoll
    /// The kernel reads into buffers of the loop, and one system call a turn does for all connections. Kernel 6.1; many
    /// containers do not allow it.
    case ioURing = "io_uring"

    /// Whether this kernel has all that an event loop with io_uring needs and allows it to this process: nil, or why not.
    /// Found out by trying; a version would not tell.
    public static func reasonAgainstIOURing() -> SystemError? {
        do throws(SystemError) {
            let loop = try EventLoop(.ioURing)
            var pair: [Int32] = [-1, -1]
            guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &pair) == 0 else {
                throw SystemError("socketpair")
            }
            let probe = ReceiveProbe(loop: loop, socket: Socket(pair[0]))
            probe.start()
            defer { close(pair[1]) }
            guard write(pair[1], "1", 1) == 1 else { throw SystemError("write") }
            // A kernel that does not know an operation says so at once; this is for one that never answers.
            probe.setDeadline(loop.now + 1_000_000)
            loop.run()
            probe.close()
            return probe.hasReceived && probe.armed.contains(.input)
                ? nil : SystemError("io_uring multishot receive", code: EOPNOTSUPP)
        } catch {
            return error
        }
    }
}

/// A connection that ends its loop with the first byte.
private final class ReceiveProbe: Connection {
    var hasReceived = false

    override func received(_ bytes: Span<UInt8>) -> Int {
        self.hasReceived = true
        self.loop.stop()
        return bytes.count
    }

    override func timedOut() { self.loop.stop() }

    override func disconnected(_ reason: Disconnect) { self.loop.stop() }
}
