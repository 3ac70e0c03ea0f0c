import Admin
import ArgumentParser
import Dispatch
import Glibc
import Logging
import Proxy
import Settings
import Topology

/// The command. All that has to happen before the first thread is started happens in `run`, in this order: settings,
/// log, limits, daemon, pidfile, user; `Run` does the rest.
@main
struct Martlet: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "martlet",
        abstract: "A PostgreSQL connection pooler that takes PgBouncer's place.",
        discussion: """
            An existing pgbouncer.ini runs unchanged. With a connection URL in its place martlet needs no file: it \
            listens on 127.0.0.1:6432, trusts whoever connects from this machine, and pools transactions to that server. \
            The URL takes libpq's parameters and all settings, as in postgresql://host/db?sslmode=verify-full&listen_port=7000. \
            Its password is hidden from the list of processes; PGPASSWORD and PGUSER are heeded, too. The console is for who \
            has started it, on the Unix socket: psql -h /tmp -p 6432 -U pgbouncer pgbouncer.

            Signals: HUP reload, TERM shut down when the clients have left, INT shut down when server connections are \
            released, QUIT shut down at once, USR1 pause, USR2 resume. A second TERM or INT shuts down at once.
            """)

    @Argument(
        help: ArgumentHelp(
            "The configuration, or a server to pool to.", valueName: "martlet.ini | postgresql://host/db"))
    var source: String?

    @Flag(name: .shortAndLong, help: "Run in the background; return when clients can connect.")
    var daemon = false

    @Flag(name: .shortAndLong, help: "Log nothing to standard error.")
    var quiet = false

    @Flag(name: .shortAndLong, help: "Log more; twice for everything.")
    var verbose: Int

    @Option(name: .shortAndLong, help: ArgumentHelp("Become this user, when started as root.", valueName: "name"))
    var user: String?

    @Flag(help: "Check the configuration and say all that is wrong with it; start nothing.")
    var check = false

    @Flag(name: [.customShort("V"), .long], help: "Show the version.")
    var version = false

    func run() throws {
        if self.version {
            print(Version.text)
            return
        }
        guard let source = self.source else {
            // Not in `validate`, which would hide what is wrong with an option.
            throw ValidationError("name a configuration file, or a server such as postgresql://localhost/postgres")
        }
        CommandLineSecrets.hide()
        let configurationSource = ConfigurationSource(source)
        let (configuration, diagnostics) = configurationSource.loadAll()
        guard let configuration else {
            for diagnostic in diagnostics { StandardError.print("\(diagnostic)") }
            throw ExitCode(1)
        }
        if self.check {
            for diagnostic in diagnostics { StandardError.print("\(diagnostic)") }
            try Self.checkStateFile(configuration.settings.general.stateFile)
            print("\(CommandLineSecrets.hidden(source)): ok")
            return
        }
        do {
            try self.launch(configurationSource, configuration, diagnostics)
        } catch {
            StandardError.print("martlet: \(error)")
            throw ExitCode(1)
        }
    }

    /// What the start would say of the state file.
    private static func checkStateFile(_ path: String) throws {
        guard !path.isEmpty else { return }
        do {
            if case .damaged(let reason) = try StateFile.read(path) {
                StandardError.print("\(Diagnostic(.warning, "state_file: \(path) would be put aside: \(reason)"))")
            }
        } catch {
            StandardError.print("\(Diagnostic(.error, "\(error)"))")
            throw ExitCode(1)
        }
    }

    /// Opens the log; from here on, messages go there.
    private func launch(
        _ source: ConfigurationSource, _ configuration: Configuration, _ diagnostics: [Diagnostic]
    ) throws(LaunchError) -> Never {
        let general = configuration.settings.general
        if self.daemon, general.logfile.isEmpty, !general.syslog {
            throw LaunchError("-d needs logfile or syslog to be set, since a daemon has no standard error")
        }
        let privileges = try Privileges.toTake(name: self.user ?? general.user ?? "")

        let output = LogOutput(standardError: !self.quiet)
        try output.configure(LogOutput.Configuration(general, verbose: self.verbose))
        LoggingSystem.bootstrap { _ in LineLogHandler(output: output) }
        let logger = Logger(label: "martlet")
        for diagnostic in diagnostics { logger.log(level: diagnostic.severity.level, "\(diagnostic.logText)") }
        if let warning = FileLimit(configuration.settings).raise() { logger.warning("\(warning)") }
        if configuration.settings.general.eventLoop != .epoll { LockedMemoryLimit.raise() }

        do {
            try self.serve(source, configuration, privileges, output, logger)
        } catch {
            logger.critical("\(error)")
            if self.quiet { StandardError.print("martlet: \(error)") }
            Glibc.exit(1)
        }
    }

    /// Becomes the process that serves, and serves.
    private func serve(
        _ source: ConfigurationSource, _ configuration: Configuration, _ privileges: Privileges?,
        _ output: LogOutput, _ logger: Logger
    ) throws(LaunchError) -> Never {
        let path = configuration.settings.general.pidfile
        let pidFile = path.isEmpty ? nil : PidFile(path: path)
        try pidFile?.check()
        let daemon = self.daemon ? try Daemon.start() : nil
        try pidFile?.create()
        if let privileges {
            output.giveFile(to: privileges.user, privileges.group)
            pidFile?.give(to: privileges.user, privileges.group)
            try privileges.take()
        }
        // A client that has gone is told by the error of send(2), not by a signal.
        signal(SIGPIPE, SIG_IGN)

        let run = Run(
            source: source, configuration: configuration, verbose: self.verbose, output: output, logger: logger)
        Task {
            let status = await run.serve(ready: {
                guard let daemon else { return }
                output.closeStandardError()
                daemon.ready()
            })
            pidFile?.remove()
            if status != 0, self.quiet { StandardError.print("martlet: could not start; the log tells why") }
            // Not exit(3), whose handlers would take libraries away from under threads that run to the last.
            _exit(status)
        }
        dispatchMain()
    }
}

extension LogOutput.Configuration {
    /// - Parameter verbose: how often `-v` was given; the setting `verbose` may ask for more.
    init(_ general: GeneralSettings, verbose: Int) {
        self.init(
            file: general.logfile, syslog: general.syslog, syslogIdent: general.syslogIdent,
            syslogFacility: general.syslogFacility, verbosity: max(verbose, general.verbose))
    }
}

extension Diagnostic.Severity {
    var level: Logger.Level {
        switch self {
        case .note: .info
        case .warning: .warning
        case .error: .error
        }
    }
}

/// Messages before there is a log.
enum StandardError {
    static func print(_ line: String) {
        let bytes = Array("\(line)\n".utf8)
        _ = write(STDERR_FILENO, bytes, bytes.count)
    }
}
