import Admin
import Logging
import Proxy
import UnixSignals

/// What the signals ask of the proxy; the same as the console's commands.
struct Signals: Sendable {
    private let signals: UnixSignalsSequence
    private let host: any ConsoleHost
    private let console: Console
    private let service: ServiceManager
    private let logger: Logger

    /// Catches the signals from now on.
    init(host: any ConsoleHost, console: Console, service: ServiceManager, logger: Logger) async {
        self.signals = await UnixSignalsSequence(trapping: .sighup, .sigterm, .sigint, .sigquit, .sigusr1, .sigusr2)
        self.host = host
        self.console = console
        self.service = service
        self.logger = logger
    }

    /// Carries out one signal after the other, until cancelled.
    func handle() async {
        await withTaskGroup(of: Void.self) { group in
            for await signal in self.signals {
                switch signal {
                case .sighup: await self.reload()
                case .sigterm: await self.shutDown("SIGTERM", .waitForClients, "waiting for all clients to disconnect")
                case .sigint: await self.shutDown("SIGINT", .waitForServers, "waiting for server connections in use")
                case .sigquit: await self.shutDown("SIGQUIT", .immediate, "fast exit")
                // A pause takes as long as the longest transaction; other signals must be heard meanwhile.
                case .sigusr1: group.addTask { await self.pause() }
                case .sigusr2: await self.resume()
                default: break
                }
            }
            group.cancelAll()
        }
    }

    private func reload() async {
        self.logger.info("got SIGHUP, re-reading the configuration")
        self.service.reloading()
        do {
            try await self.console.reload(self.host)
            self.service.ready(status: "Accepting connections")
        } catch {
            for message in error.messages { self.logger.error("\(message)") }
            self.logger.error("reload failed, the settings in force stay")
            self.service.ready(status: "Accepting connections; the last reload failed")
        }
    }

    /// A second TERM or INT means that somebody has lost patience.
    private func shutDown(_ signal: String, _ mode: ShutdownMode, _ explanation: String) async {
        let isSecond = await self.host.state().shutdown != nil
        let mode = isSecond ? .immediate : mode
        self.logger.info(
            "got \(signal)\(isSecond ? " while shutting down, fast exit" : ", shutting down, \(explanation)")")
        self.service.stopping(status: mode == .immediate ? "Shutting down" : "Shutting down, \(explanation)")
        do {
            try await self.host.shutdown(mode)
        } catch {
            self.logger.error("\(error.message)")
        }
    }

    private func pause() async {
        if await self.host.state().isPaused {
            self.logger.info("got SIGUSR1, but already paused")
            return
        }
        self.logger.info("got SIGUSR1, pausing all activity")
        do {
            try await self.host.pause(database: nil)
            self.logger.info("paused: no server connection is open")
        } catch {
            // A pause that the end of the process cuts short is nothing to complain about.
            if await self.host.state().shutdown == nil { self.logger.error("\(error.message)") }
        }
    }

    private func resume() async {
        let state = await self.host.state()
        if state.shutdown != nil {
            self.logger.info("got SIGUSR2 while shutting down, ignored")
        } else if !state.isPaused {
            self.logger.info("got SIGUSR2, but not paused")
        } else {
            self.logger.info("got SIGUSR2, continuing from PAUSE")
            do {
                try await self.host.resume(database: nil)
            } catch {
                self.logger.error("\(error.message)")
            }
        }
    }
}
