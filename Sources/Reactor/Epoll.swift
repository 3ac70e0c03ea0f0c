import CLinux
import Glibc

/// Readiness of sockets as epoll tells it, for one event loop.
final class Epoll {
    /// Events taken in one turn.
    private static let capacity = 256

    private let fd: Int32
    private let events = UnsafeMutablePointer<epoll_event>.allocate(capacity: Epoll.capacity)

    /// Throws when the kernel has no descriptor left.
    init() throws(SystemError) {
        self.fd = epoll_create1(Int32(epollCloseOnExec))
        guard self.fd >= 0 else { throw SystemError("epoll_create") }
    }

    deinit {
        close(self.fd)
        self.events.deallocate()
    }

    /// Asks for these events of a source, or for others than before.
    func watch(_ source: EventSource, _ interest: UInt32) {
        let operation = source.isRegistered ? MARTLET_EPOLL_CTL_MOD : MARTLET_EPOLL_CTL_ADD
        _ = martlet_epoll_ctl(self.fd, Int32(operation), source.fd, interest, source.token)
    }

    /// Asks for no events of a source, not even for a hang-up.
    func forget(_ source: EventSource) {
        _ = martlet_epoll_ctl(self.fd, Int32(MARTLET_EPOLL_CTL_DEL), source.fd, 0, 0)
    }

    /// Waits for events, or for so many microseconds, rounded up to milliseconds; nil is without end. Returns how many
    /// events there are.
    func wait(_ time: Int64?) -> Int {
        let milliseconds = time.map { Int32(min(($0 + 999) / 1000, 60_000)) } ?? -1
        return Int(epoll_wait(self.fd, self.events, Int32(Self.capacity), milliseconds))
    }

    /// An event of the last `wait`.
    @inline(__always)
    func event(_ index: Int) -> (token: UInt64, events: UInt32) {
        (martlet_epoll_token(self.events + index), martlet_epoll_events(self.events + index))
    }
}

private let epollCloseOnExec = 0x80000
