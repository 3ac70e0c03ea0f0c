import Glibc

/// Why the process can't start, or can't do what the operating system was asked for; fit for standard error and the
/// log.
struct LaunchError: Error, Equatable, CustomStringConvertible {
    let message: String

    init(_ message: String) {
        self.message = message
    }

    var description: String { self.message }

    /// What the last system call complained about.
    static var systemReason: String { String(cString: strerror(errno)) }
}
