import Glibc
import Threads

/// Starts a thread that nobody joins. `name` has at most 15 bytes; `body` makes what the thread owns and runs it.
public func startThread(_ name: String, stackSize: Int = 1 << 20, _ body: @escaping @Sendable () -> Void)
    throws(SystemError)
{
    let code = startDetachedThread(name, stackSize: stackSize, body)
    guard code == 0 else { throw SystemError("start thread \(name)", code: code) }
}

/// Processors this process may run on.
public func processorCount() -> Int { max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))) }
