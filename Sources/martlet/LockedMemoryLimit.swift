import CLinux
import Glibc

/// What the process may lock of memory: io_uring's rings count as that, for all processes of a user together.
enum LockedMemoryLimit {
    /// Bytes for 64 reactors' rings, several times over.
    private static let enough: rlim_t = 64 << 20

    /// Raises the limit as far as is allowed: root may, others up to the hard limit.
    static func raise() {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(MARTLET_RLIMIT_MEMLOCK), &limit) == 0, limit.rlim_cur < Self.enough else {
            return
        }
        var higher = rlimit(rlim_cur: Self.enough, rlim_max: max(Self.enough, limit.rlim_max))
        if setrlimit(__rlimit_resource_t(MARTLET_RLIMIT_MEMLOCK), &higher) == 0 { return }
        limit.rlim_cur = limit.rlim_max
        setrlimit(__rlimit_resource_t(MARTLET_RLIMIT_MEMLOCK), &limit)
    }
}
