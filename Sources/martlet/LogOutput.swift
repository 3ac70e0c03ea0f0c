import Glibc
import Logging
import Settings
import Synchronization

/// Where log lines go: standard error, a file, the system log, in any combination.
///
/// Any thread may write. A line is one write(2) to a descriptor opened with O_APPEND, so lines do not mix and no lock
/// is needed. The file keeps its descriptor number for the life of the process: reopening it (after logrotate) is one
/// dup2(2), which no writer notices.
final class LogOutput: Sendable {
    /// Parts of the settings that matter here.
    struct Configuration: Equatable {
        /// Empty for none.
        var file = ""
        var syslog = false
        var syslogIdent = "martlet"
        var syslogFacility = SyslogFacility.daemon
        /// 0 for ordinary messages, 1 for debugging ones, 2 and more for everything.
        var verbosity = 0
    }

    /// Of a new file, as PostgreSQL's `log_file_mode`: who logs in from where is not for every user of the machine.
    static let fileMode: mode_t = 0o600

    private let fileDescriptor: Int32
    private let hasStandardError: Atomic<Bool>
    private let hasFile = Atomic(false)
    private let hasSyslog = Atomic(false)
    private let facility = Atomic<Int32>(LOG_DAEMON)
    private let levelIndex = Atomic(2)

    /// - Parameter standardError: false with `--quiet`.
    init(standardError: Bool) {
        self.hasStandardError = Atomic(standardError)
        // A place holder for dup2(2), so that the number exists.
        self.fileDescriptor = open("/dev/null", O_WRONLY | O_APPEND | O_CLOEXEC)
    }

    /// The least level that is written.
    var level: Logger.Level {
        let levels = Logger.Level.allCases
        return levels[min(self.levelIndex.load(ordering: .relaxed), levels.count - 1)]
    }

    /// Takes settings over and opens the file, anew if it was open.
    ///
    /// - Throws: a sentence when the file can't be opened; the former one then stays in use.
    func configure(_ configuration: Configuration) throws(LaunchError) {
        self.levelIndex.store(max(0, 2 - configuration.verbosity), ordering: .relaxed)
        self.openSyslog(configuration)
        guard !configuration.file.isEmpty else {
            self.hasFile.store(false, ordering: .relaxed)
            return
        }
        let opened = open(configuration.file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, Self.fileMode)
        guard opened >= 0 else {
            throw LaunchError("cannot open logfile \(configuration.file): \(LaunchError.systemReason)")
        }
        defer { close(opened) }
        guard dup2(opened, self.fileDescriptor) >= 0 else {
            throw LaunchError("cannot use logfile \(configuration.file): \(LaunchError.systemReason)")
        }
        self.hasFile.store(true, ordering: .relaxed)
    }

    /// Gives the file to the user that the process is about to become, so that it can be opened again later.
    func giveFile(to user: uid_t, _ group: gid_t) {
        guard self.hasFile.load(ordering: .relaxed) else { return }
        _ = fchown(self.fileDescriptor, user, group)
    }

    /// Stops writing to standard error: a daemon has none.
    func closeStandardError() {
        self.hasStandardError.store(false, ordering: .relaxed)
    }

    /// - Parameters:
    ///   - line: with time and level and a newline at its end.
    ///   - message: for the system log, which has time and level of its own.
    func write(line: [UInt8], message: String, level: Logger.Level) {
        if self.hasStandardError.load(ordering: .relaxed) { Self.write(line, to: STDERR_FILENO) }
        if self.hasFile.load(ordering: .relaxed) { Self.write(line, to: self.fileDescriptor) }
        if self.hasSyslog.load(ordering: .relaxed) {
            let priority = self.facility.load(ordering: .relaxed) | level.syslogPriority
            message.withCString { text in
                withVaList([text]) { vsyslog(priority, "%s", $0) }
            }
        }
    }

    /// A log that can't be written is no reason to stop: what fails is dropped.
    private static func write(_ bytes: [UInt8], to descriptor: Int32) {
        bytes.withUnsafeBytes { buffer in
            var rest = buffer[...]
            while !rest.isEmpty {
                let count = Glibc.write(descriptor, UnsafeRawBufferPointer(rebasing: rest).baseAddress, rest.count)
                if count > 0 {
                    rest = rest.dropFirst(count)
                } else if errno != EINTR {
                    return
                }
            }
        }
    }

    private func openSyslog(_ configuration: Configuration) {
        self.facility.store(configuration.syslogFacility.code, ordering: .relaxed)
        if configuration.syslog {
            // openlog(3) keeps the pointer, hence the copy; it is made once for each change of settings.
            openlog(strdup(configuration.syslogIdent), LOG_PID | LOG_NDELAY, configuration.syslogFacility.code)
        }
        self.hasSyslog.store(configuration.syslog, ordering: .relaxed)
    }
}

extension Logger.Level {
    fileprivate var syslogPriority: Int32 {
        switch self {
        case .trace, .debug: LOG_DEBUG
        case .info: LOG_INFO
        case .notice: LOG_NOTICE
        case .warning: LOG_WARNING
        case .error: LOG_ERR
        case .critical: LOG_CRIT
        }
    }
}

extension SyslogFacility {
    fileprivate var code: Int32 {
        switch self {
        case .auth: LOG_AUTH
        case .authpriv: LOG_AUTHPRIV
        case .daemon: LOG_DAEMON
        case .user: LOG_USER
        case .local0: LOG_LOCAL0
        case .local1: LOG_LOCAL1
        case .local2: LOG_LOCAL2
        case .local3: LOG_LOCAL3
        case .local4: LOG_LOCAL4
        case .local5: LOG_LOCAL5
        case .local6: LOG_LOCAL6
        case .local7: LOG_LOCAL7
        }
    }
}
