import CLinux
import Glibc

/// Starts a thread that nobody joins.
///
/// - Parameters:
///   - name: what tools show; 15 bytes at most.
///   - stackSize: bytes.
///   - body: makes what the thread owns and runs it.
/// - Returns: 0, or the `errno` that tells why there is no thread.
public func startDetachedThread(_ name: String, stackSize: Int, _ body: @escaping @Sendable () -> Void) -> Int32 {
    var attributes = pthread_attr_t()
    pthread_attr_init(&attributes)
    defer { pthread_attr_destroy(&attributes) }
    pthread_attr_setstacksize(&attributes, stackSize)
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
    return code
}

private final class ThreadEntry {
    let name: String
    let body: @Sendable () -> Void

    init(_ name: String, _ body: @escaping @Sendable () -> Void) {
        self.name = name
        self.body = body
    }
}
