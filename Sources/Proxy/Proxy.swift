import Authentication
public import Logging
import Pooling
public import Reactor
import SQL
import Services
public import Settings
import Synchronization
import Topology

extension EventLoopKind {
    /// The event loop that a setting means on this machine; says why it is not io_uring where `auto` asks for it.
    fileprivate static func chosen(_ setting: EventLoopBackend, _ logger: Logger) throws(SystemError) -> EventLoopKind {
        if setting == .epoll { return .epoll }
        guard let reason = Self.reasonAgainstIOURing() else {
            logger.info("event loop: io_uring")
            return .ioURing
        }
        if setting == .ioUring {
            let error = SystemError("event_loop = io_uring is not to be had (\(reason)); use auto or epoll", code: 0)
            throw error
        }
        logger.info("event loop: epoll, without io_uring (\(reason))")
        return .epoll
    }
}

/// The running proxy: its reactors, what they share, and the control plane's hold on them.
///
/// Signals and the console reach it through `ConsoleHost` (`Proxy+Console`), from any thread.
public final class Proxy: Sendable {
    /// Reads the settings anew; the argument is the setting `conffile`.
    public typealias Loader = @Sendable (String?) -> (settings: Settings?, diagnostics: [Diagnostic])
    /// Reads a file.
    public typealias FileReader = @Sendable (String) -> Result<[UInt8], FileError>

    let shared: SharedState
    let reactors: [ReactorHandle]
    /// What the reactors wait with.
    let eventLoop: EventLoopKind
    /// Routed databases.
    let routers: SharedRouters
    let services: Services
    let logger: Logger
    let statements = StatementRegistry { text in
        let commands = SessionCommands(text, standardConformingStrings: true, settings: ParsingSettings.names)
        var effects: PreparedStatement.Effects = commands.changesSettings ? [.changesParsing] : []
        if commands.deallocatesAll || !commands.deallocations.isEmpty { effects.insert(.deallocates) }
        if SessionCommands.mayChangeMeaning(text, 0..<text.count) { effects.insert(.changesMeaning) }
        if SessionCommands.mayMakeRelation(text) { effects.insert(.makesRelation) }
        return effects
    }
    let console: any ConsoleService
    /// Known to this process only; stands in for the secrets of unknown users.
    let processSecret = SecretBytes(SecureRandom.bytes(32))
    /// The operating system user that may use the console without a password.
    let userID: UInt32
    let load: Loader
    let readFile: FileReader
    let control: Mutex<Control>
    private let inheritedSockets: [Int32]

    /// What the control plane knows; changed by reload, SET and the shutdown.
    struct Control {
        var configuration: Configuration
        /// Files of keys and certificates that SET has named, by setting, and that wait for the other one of their pair.
        var staged: [String: String] = [:]
        var shutdown: ShutdownMode?
        var isFinished = false
        var waiting: [CheckedContinuation<Void, Never>] = []
    }

    /// A proxy that does nothing yet.
    ///
    /// - Parameters:
    ///   - configuration: what it starts with.
    ///   - load: reads the settings for a reload.
    ///   - readFile: reads the files that the settings name.
    ///   - listeningSockets: sockets opened by the service manager; empty to open those of the settings.
    ///   - userID: the operating system user who may use the console on the Unix socket without a password.
    /// - Throws: when the kernel has no descriptor left, or does not allow the event loop asked for.
    public init(
        configuration: Configuration, load: @escaping Loader, readFile: @escaping FileReader,
        listeningSockets: [Int32], console: any ConsoleService, userID: UInt32, logger: Logger
    ) throws(SystemError) {
        let threads = configuration.settings.general.threads
        let count = min(threads > 0 ? threads : processorCount(), SharedState.maximumReactors)
        var reactors: [ReactorHandle] = []
        for index in 0..<count { reactors.append(try ReactorHandle(index: index)) }
        self.reactors = reactors
        self.eventLoop = try EventLoopKind.chosen(configuration.settings.general.eventLoop, logger)
        self.shared = SharedState(reactors: count)
        let general = configuration.settings.general
        self.services = Services(maximumTTL: general.dnsMaxTtl, negativeTTL: general.dnsNxdomainTtl)
        self.logger = logger
        self.routers = SharedRouters(logger: logger, reactors: reactors)
        self.console = console
        self.userID = userID
        self.load = load
        self.readFile = readFile
        self.inheritedSockets = listeningSockets
        self.control = Mutex(Control(configuration: configuration))
    }

    /// Opens the sockets, starts the reactors, each on its own thread, and begins to accept on the first. When it
    /// returns clients can connect.
    public func start() async throws(SystemError) {
        let configuration = self.control.withLock { $0.configuration }
        self.prepareVerifiers(configuration)
        try self.openStateFile(configuration.settings.general.stateFile)
        let sockets = try Listening.open(configuration.settings.general, inherited: self.inheritedSockets)
        for socket in sockets { self.logger.info("listening on \(socket.address.description)") }
        self.routers.apply(configuration)
        for reactor in self.reactors { try await self.start(reactor, configuration, sockets) }
    }

    private func openStateFile(_ path: String) throws(SystemError) {
        guard !path.isEmpty else { return }
        do throws(StateFile.Failure) {
            try StateFile(path: path, clusters: self.routers.clusters, logger: self.logger).open()
        } catch {
            throw SystemError(error.description, code: 0)
        }
    }

    func prepareVerifiers(_ configuration: Configuration) {
        guard configuration.settings.general.asksForSCRAM else { return }
        self.services.derivations.prepare(
            configuration.secrets, iterations: configuration.settings.general.scramIterations)
    }

    /// Makes a reactor's event loop, on its thread. Each ring takes from what the user may lock of memory.
    func makeLoop(_ index: Int) throws(SystemError) -> EventLoop {
        do throws(SystemError) {
            return try EventLoop(self.eventLoop)
        } catch {
            let setting = self.control.withLock { $0.configuration.settings.general.eventLoop }
            guard self.eventLoop == .ioURing, setting == .auto else { throw error }
            self.logger.warning(
                "reactor \(index) waits with epoll, without io_uring (\(error)); raise the limit on locked memory")
            return try EventLoop(.epoll)
        }
    }

    /// Starts one reactor; returns when it runs.
    private func start(
        _ reactor: ReactorHandle, _ configuration: Configuration, _ sockets: [ListeningSocket]
    ) async throws(SystemError) {
        let index = reactor.index
        let failure: SystemError? = await withCheckedContinuation { continuation in
            do throws(SystemError) {
                try startThread("reactor \(index)", stackSize: 8 << 20) { [self] in
                    do throws(SystemError) {
                        let worker = try Worker(index: index, proxy: self, configuration: configuration)
                        if index == 0 {
                            worker.listen(on: sockets)
                            worker.openConfiguredPools()
                        }
                        continuation.resume(returning: nil)
                        worker.loop.run()
                    } catch {
                        continuation.resume(returning: error)
                    }
                }
            } catch {
                continuation.resume(returning: error)
            }
        }
        if let failure { throw failure }
    }

    /// Everything that was to be waited for is over.
    func finish() {
        let isFirst = self.control.withLock { control in
            defer { control.isFinished = true }
            return !control.isFinished
        }
        guard isFirst else { return }
        let waiting = self.control.withLock { control in
            defer { control.waiting = [] }
            return control.waiting
        }
        for continuation in waiting { continuation.resume() }
    }

    /// Reactors.
    public var threads: Int { self.reactors.count }

    /// Returns when a shutdown is complete; the process may end then.
    public func finished() async {
        await withCheckedContinuation { continuation in
            let isOver = self.control.withLock { control in
                if !control.isFinished { control.waiting.append(continuation) }
                return control.isFinished
            }
            if isOver { continuation.resume() }
        }
    }

    /// Stops accepting on sockets, and closes them when the kernel has taken note of it.
    ///
    /// - Parameter drains: who has connected already is accepted before.
    func stopListening(drains: Bool, where matches: @escaping @Sendable (ListeningSocket) -> Bool) async {
        if drains {
            let isDeferring = await self.reactors[0].run { $0.stopDeferring(where: matches) }
            // Those that the kernel has let in and keeps back send their first bytes within a moment.
            if isDeferring { try? await Task.sleep(for: .milliseconds(100)) }
        }
        await withCheckedContinuation { continuation in
            self.reactors[0].mailbox.post { worker in
                worker.stopListening(drains: drains, where: matches) { continuation.resume() }
            }
        }
    }

    /// Lets go of all sockets, so that nobody is connected to a process that has ended: io_uring goes on to accept for as
    /// long as the kernel takes to clear up behind it. The last thing before the process ends.
    public func close() async {
        await self.stopListening(drains: false) { _ in true }
        _ = await self.gather { $0.cutConnections() }
    }

    /// A client has left while the proxy is shutting down.
    func clientLeft() {
        guard self.control.withLock({ $0.shutdown }) == .waitForClients else { return }
        if self.shared.clients.count == 0 { self.finish() }
    }
}
