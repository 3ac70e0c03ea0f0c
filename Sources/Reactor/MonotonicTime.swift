import CLinux
import Glibc

/// Microseconds of `CLOCK_MONOTONIC`. Points in time are compared and subtracted, never shown.
public typealias MonotonicTime = Int64

/// Reads the monotonic clock. Layers above `Reactor` do not call this: they take times as arguments.
public func monotonicNow() -> MonotonicTime {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1_000
}

/// Reads the wall clock: microseconds since 1970, UTC.
public func wallClockNow() -> Int64 {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1_000
}
