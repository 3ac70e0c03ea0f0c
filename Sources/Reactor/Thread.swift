import CLinux
import Glibc

/// Starts a thread that nobody joins. `name` has at most 15 bytes; `body` makes what the thread owns and runs it.
public func startThread(_ name: String, stackSize: Int = 1 << 20, _ body: @escaping @Sendable () -> Void)
    throws(SystemError)
{
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
    guard code == 0 else {
        entry.release()
        throw SystemError("start thread \(name)", code: code)
    }
}

/// Processors this process may run on.
public func processorCount() -> Int { max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))) }

private final class ThreadEntry {
    let name: String
    let body: @Sendable () -> Void

    init(_ name: String, _ body: @escaping @Sendable () -> Void) {
        self.name = name
        self.body = body
    }
}
