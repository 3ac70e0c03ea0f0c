import Glibc
import Threads

/// Starts a thread that nobody joins; false if the system has none left. `name` has at most 15 bytes.
func startMonitorThread(_ name: String, _ body: @escaping @Sendable () -> Void) -> Bool {
    // Enough for OpenSSL and the name service's modules.
    startDetachedThread(name, stackSize: 512 << 10, body) == 0
}

/// Microseconds of `CLOCK_MONOTONIC`.
func monotonicNow() -> Int64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1_000
}
