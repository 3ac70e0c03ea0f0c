import CLinux
import Glibc

/// Starts a thread that nobody joins; false if the system has none left. `name` has at most 15 bytes.
func startMonitorThread(_ name: String, _ body: @escaping @Sendable () -> Void) -> Bool {
    var attributes = pthread_attr_t()
    pthread_attr_init(&attributes)
    defer { pthread_attr_destroy(&attributes) }
    // Enough for OpenSSL and the name service's modules.
    pthread_attr_setstacksize(&attributes, 512 << 10)
    pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
    var thread = pthread_t()
    let entry = Unmanaged.passRetained(ThreadEntry(name, body))
    let code = pthread_create(
        &thread, &attributes,
        { argument in
            guard let argument else { return nil }
            let entry = Unmanaged<ThreadEntry>.fromOpaque(argument).takeRetainedValue()
            martlet_name_thread(entry.name)
            entry.body()
            return nil
        }, entry.toOpaque())
    if code != 0 { entry.release() }
    return code == 0
}

private final class ThreadEntry {
    let name: String
    let body: @Sendable () -> Void

    init(_ name: String, _ body: @escaping @Sendable () -> Void) {
        self.name = name
        self.body = body
    }
}

/// Microseconds of `CLOCK_MONOTONIC`.
func monotonicNow() -> Int64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1_000
}
