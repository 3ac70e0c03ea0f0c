import CLinux
import Glibc
import Proxy

/// Looks once a second how much memory the process has resident, beside the threads that serve clients.
struct MemoryWatch {
    private static let pageSize = sysconf(Int32(_SC_PAGESIZE))
    /// Giving memory back takes a while, in which others wait who want some: seconds from one time to the next.
    private static let pause = 10

    let proxy: Proxy

    /// Until cancelled.
    func run() async {
        var pause = 0
        while !Task.isCancelled {
            if let resident = Self.resident {
                let isShort = self.proxy.memoryMeasured(resident)
                pause -= 1
                if isShort && pause <= 0 {
                    // What clients have left behind stays with the allocator otherwise, and counts.
                    malloc_trim(0)
                    pause = Self.pause
                }
            }
            try? await Task.sleep(for: .seconds(1))
        }
    }

    /// Bytes; nil where /proc does not tell.
    static var resident: Int? {
        guard let text = TextFile.read("/proc/self/statm", limit: 128) else { return nil }
        let fields = text.split(separator: " ")
        guard fields.count > 1, let pages = Int(fields[1]) else { return nil }
        return pages * self.pageSize
    }
}
