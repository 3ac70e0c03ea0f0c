import CLinux
import Glibc

/// Ends one thread's waiting from any other, by an eventfd.
final class Waker: Sendable {
    /// Negative if there was no descriptor left: then nothing wakes, and waiting ends by its time alone.
    let descriptor: Int32

    init() { self.descriptor = eventfd(0, Int32(EFD_NONBLOCK | EFD_CLOEXEC)) }

    deinit { if self.descriptor >= 0 { close(self.descriptor) } }

    /// Never blocks.
    func wake() {
        var one: UInt64 = 1
        _ = write(self.descriptor, &one, 8)
    }

    /// Waits until `wake` was called, the other descriptor is ready for `events`, or the time has come (monotonic
    /// microseconds). Returns what the descriptor is ready for.
    ///
    /// - Parameter other: negative is none.
    @discardableResult
    func wait(for other: Int32 = -1, events: Int16 = 0, until deadline: Int64) -> Int16 {
        let left = max(0, min(deadline - monotonicNow(), 3_600_000_000))
        var descriptors = [
            pollfd(fd: self.descriptor, events: Int16(POLLIN), revents: 0),
            pollfd(fd: other, events: events, revents: 0),
        ]
        // Rounded up, so that nobody looks too early and has to wait once more.
        _ = poll(&descriptors, 2, Int32((left + 999) / 1000))
        if descriptors[0].revents != 0 {
            var count: UInt64 = 0
            _ = read(self.descriptor, &count, 8)
        }
        return descriptors[1].revents
    }
}
