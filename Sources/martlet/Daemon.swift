import CLinux
import Glibc

/// Going into the background (`-d`).
///
/// The command returns when the daemon is ready to take clients, with status 0, or has failed to start, with status
/// 1: what comes next in a script finds it ready. To be used before any thread is started, since fork(2) takes only
/// its caller along.
struct Daemon {
    /// Where the daemon says that it is ready.
    private let readiness: Int32

    /// Leaves the terminal; only the daemon returns from here.
    static func start() throws(LaunchError) -> Daemon {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { throw LaunchError("cannot make a pipe: \(LaunchError.systemReason)") }
        let child = martlet_fork()
        guard child >= 0 else { throw LaunchError("cannot start the daemon: \(LaunchError.systemReason)") }
        if child > 0 {
            close(ends[1])
            exit(Self.awaitReadiness(ends[0]) ? 0 : 1)
        }
        close(ends[0])
        // A session of its own without a terminal; not being its leader, the grandchild can't get one by accident
        // either.
        setsid()
        let grandchild = martlet_fork()
        guard grandchild >= 0 else { throw LaunchError("cannot start the daemon: \(LaunchError.systemReason)") }
        if grandchild > 0 { _exit(0) }
        let null = open("/dev/null", O_RDWR)
        if null >= 0 {
            dup2(null, STDIN_FILENO)
            dup2(null, STDOUT_FILENO)
            if null > STDERR_FILENO { close(null) }
        }
        return Daemon(readiness: ends[1])
    }

    /// Lets the command that started the daemon return, and leaves its standard error.
    func ready() {
        var byte: UInt8 = 1
        _ = write(self.readiness, &byte, 1)
        close(self.readiness)
        let null = open("/dev/null", O_WRONLY)
        if null >= 0 {
            dup2(null, STDERR_FILENO)
            if null > STDERR_FILENO { close(null) }
        }
    }

    /// The end of the pipe without a byte means that the daemon is gone.
    private static func awaitReadiness(_ descriptor: Int32) -> Bool {
        var byte: UInt8 = 0
        var count = 0
        repeat { count = read(descriptor, &byte, 1) } while count < 0 && errno == EINTR
        return count == 1
    }
}
