import Admin
import Glibc
import Logging
import Proxy
import Settings

/// The running process: the proxy, its console, the signals and the clock of the statistics, wired together.
struct Run: Sendable {
    let source: ConfigurationSource
    let configuration: Configuration
    /// How often `-v` was given.
    let verbose: Int
    let output: LogOutput
    let logger: Logger

    /// Serves until the proxy has shut down.
    ///
    /// - Parameter ready: called once when clients can connect.
    /// - Returns: the exit status.
    func serve(ready: () -> Void) async -> Int32 {
        let service = ServiceManager()
        let history = StatisticsHistory(start: Console.now)
        let console = Console(history: history, logger: self.logger) { settings in self.apply(settings) }
        let proxy: Proxy
        let signals: Signals
        do {
            proxy = try Proxy(
                configuration: self.configuration, load: self.source.load(conffile:), readFile: SystemFile.read,
                listeningSockets: service.listeningSockets, console: console, userID: geteuid(), logger: self.logger)
            // Before anybody can connect, so that a signal never finds its default action.
            signals = await Signals(host: proxy, console: console, service: service, logger: self.logger)
            try await proxy.start()
        } catch {
            self.logger.critical("\(error)")
            return 1
        }
        self.logger.info("process up: \(Version.text)")
        if case .url = self.source, let database = self.configuration.settings.databases.keys.first {
            let general = self.configuration.settings.general
            if let host = general.listenAddr.first {
                self.logger.info("try: psql -h \(host) -p \(general.listenPort) \(database)")
            }
            if !general.unixSocketDir.isEmpty {
                self.logger.info(
                    "console: psql -h \(general.unixSocketDir) -p \(general.listenPort) -U pgbouncer pgbouncer")
            }
        }
        ready()
        service.ready(status: "Accepting connections")
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await signals.handle() }
            group.addTask { await self.keepStatistics(history, of: proxy) }
            group.addTask { await MemoryWatch(proxy: proxy).run() }
            await proxy.finished()
            await proxy.close()
            group.cancelAll()
        }
        service.stopping(status: "Shut down")
        self.logger.info("process down")
        return 0
    }

    /// Lets changed settings of the process itself take effect: after a reload the log file is opened anew, for
    /// logrotate.
    private func apply(_ settings: Settings) {
        do {
            try self.output.configure(LogOutput.Configuration(settings.general, verbose: self.verbose))
        } catch {
            self.logger.error("\(error)")
        }
        if let warning = FileLimit(settings).raise() { self.logger.warning("\(warning)") }
    }

    /// Ticks each `stats_period`.
    private func keepStatistics(_ history: StatisticsHistory, of host: any ConsoleHost) async {
        while !Task.isCancelled {
            let period = await host.settings().general.statsPeriod
            try? await Task.sleep(for: .microseconds(max(1_000_000, period)))
            guard !Task.isCancelled else { return }
            let line = await history.record(host.statistics(), at: Console.now)
            if await host.settings().general.logStats { self.logger.info("\(line)") }
        }
    }
}
