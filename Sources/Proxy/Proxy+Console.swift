import Authentication
import Logging
import Pooling
import Reactor
import Services
import Sessions
public import Settings
import Synchronization
import Wire

// The proxy as the console and the signals see it: reads are gathered from all reactors, commands are messages to all.
extension Proxy: ConsoleHost {
    /// Asks every reactor.
    func gather<Part: Sendable>(_ body: @escaping @Sendable (Worker) -> Part) async -> [Part] {
        var parts: [Part] = []
        for reactor in self.reactors { parts.append(await reactor.run(body)) }
        return parts
    }

    private func tellAll(_ message: @escaping @Sendable (Worker) -> Void) {
        for reactor in self.reactors { reactor.mailbox.post(message) }
    }

    var configuration: Configuration { self.control.withLock { $0.configuration } }

    // MARK: Looking

    public func clients() async -> [ClientStatus] {
        await self.gather { $0.clients.values.map { $0.status() } }.flatMap { $0 }.sorted { $0.id < $1.id }
    }

    public func servers() async -> [ServerStatus] {
        await self.gather { worker in worker.pools.values.flatMap { pool in pool.servers.map { $0.details() } } }
            .flatMap { $0 }.sorted { $0.id < $1.id }
    }

    public func pools() async -> [PoolStatus] {
        let shards = await self.gather { $0.poolStatuses() }
        var pools: [PoolKey: PoolStatus] = [:]
        for shard in shards.flatMap({ $0 }) {
            let key = PoolKey(database: shard.database, user: shard.user)
            pools[key, default: PoolStatus(database: shard.database, user: shard.user)] += shard
        }
        return pools.values.sorted { ($0.database, $0.user) < ($1.database, $1.user) }
    }

    public func databases() async -> [DatabaseStatus] {
        let settings = self.configuration.settings
        var names = Set(settings.databases.keys)
        for shared in self.shared.databases where settings.database(named: shared.name) != nil {
            names.insert(shared.name)
        }
        return names.sorted().compactMap { name in
            guard let database = settings.database(named: name) else { return nil }
            var status = DatabaseStatus(settings: database)
            if let shared = self.shared.knownDatabase(name) {
                status.serverConnections = shared.servers.count
                status.clientConnections = shared.clients.count
                status.isPaused = shared.isPaused.load(ordering: .relaxed)
                status.isDisabled = shared.isDisabled.load(ordering: .relaxed)
            }
            if self.shared.isPaused.load(ordering: .relaxed) { status.isPaused = true }
            return status
        }
    }

    public func users() async -> [UserStatus] {
        let configuration = self.configuration
        var known = Dictionary(self.shared.users.map { ($0.name, $0) }) { first, _ in first }
        for name in Array(configuration.secrets.keys) + Array(configuration.settings.users.keys)
        where known[name] == nil {
            known[name] = SharedUser(name: name)
        }
        return known.values.sorted { $0.name < $1.name }.map { shared in
            var status = UserStatus(name: shared.name)
            status.serverConnections = shared.servers.count
            status.clientConnections = shared.clients.count
            return status
        }
    }

    public func statistics() async -> [String: StatisticsCounters] {
        var totals: [String: StatisticsCounters] = [:]
        for part in await self.gather({ $0.allStatistics }) {
            for (name, counters) in part { totals[name, default: StatisticsCounters()] += counters }
        }
        return totals
    }

    public func counts() async -> ProxyCounts {
        var counts = ProxyCounts()
        for part in await self.gather({ $0.counts() }) { counts += part }
        counts.dnsNames = self.services.resolver.entries().count
        return counts
    }

    public func dnsHosts() async -> [DNSHostStatus] {
        self.services.resolver.entries().map {
            DNSHostStatus(name: $0.name, timeToLive: $0.timeToLive, addresses: $0.addresses.map(\.host))
        }
    }

    public func memory() async -> [MemoryStatus] {
        let counts = await self.counts()
        let statements = self.statements.memory.statements
        let sizes = await self.gather { worker in
            (
                worker.clients.values.first?.memorySize ?? 0,
                worker.pools.values.lazy.compactMap(\.servers.first?.memorySize).first ?? 0
            )
        }
        let resident = self.shared.residentMemory.load(ordering: .relaxed)
        return [
            MemoryStatus(
                name: "resident", size: 1, used: resident,
                free: max(0, self.configuration.settings.general.maxMemory - resident)),
            MemoryStatus(
                name: "client_sessions", size: sizes.map(\.0).max() ?? 0, used: counts.clients, free: 0),
            MemoryStatus(
                name: "server_sessions", size: sizes.map(\.1).max() ?? 0, used: counts.servers, free: 0),
            // Their texts differ in length: this is the mean.
            MemoryStatus(
                name: "prepared_statements", size: statements > 0 ? self.statements.memory.bytes / statements : 0,
                used: statements, free: 0),
        ]
    }

    public func state() async -> ProxyState {
        ProxyState(
            isPaused: self.shared.isPaused.load(ordering: .relaxed), shutdown: self.control.withLock { $0.shutdown },
            eventLoop: self.eventLoop.rawValue, donations: self.shared.donations.load(ordering: .relaxed))
    }

    public func settings() async -> Settings { self.configuration.settings }

    // MARK: Changing settings

    public func reload() async throws(ReloadError) -> [String] {
        let old = self.configuration
        let (loaded, diagnostics) = self.load(old.settings.general.conffile)
        guard let loaded else { throw ReloadError(messages: diagnostics.map(\.description)) }
        let (read, problems) = Configuration.load(loaded, readFile: self.readFile)
        guard let new = read else { throw ReloadError(messages: problems) }
        if let error = Self.lockout(from: old, to: new) { throw ReloadError(messages: [error]) }
        for problem in diagnostics.filter({ $0.severity != .note }).map(\.description) + problems {
            self.logger.warning("\(problem)")
        }
        let (settings, changes) = Settings.reload(from: old.settings, to: new.settings)
        let refusals = await self.routers.refusals(of: new.with(settings))
        guard refusals.isEmpty else { throw ReloadError(messages: refusals.map { Self.refusalText($0) }) }
        let lines = changes.map(\.description) + new.filesChanged(since: old)
        self.control.withLock { $0.staged = [:] }
        self.publish(new.with(settings))
        return lines
    }

    /// Why a configuration is refused under which nobody could log in any more.
    private static func lockout(from old: Configuration, to new: Configuration) -> String? {
        guard new.letsNobodyIn, !old.letsNobodyIn else { return nil }
        return "auth_type = \(new.settings.general.authType.rawValue) without auth_file: nobody could log in any more"
    }

    private static func refusalText(_ refusal: String) -> String {
        "check_user, check_password or check_dbname is refused by \(refusal); nothing has been changed"
    }

    public func set(key: String, value: String) async throws(ConsoleError) -> String? {
        let old = self.configuration
        var settings = old.settings
        do {
            try settings.set(key, to: value)
        } catch {
            throw ConsoleError("SET failed: \(error)")
        }
        if let partner = TLSContexts.partner(of: key) {
            if let waiting = self.control.withLock({ $0.staged[partner] }) {
                var both = settings
                try? both.set(partner, to: waiting)
                if case .success = TLSContexts.load(both, readFile: self.readFile) { settings = both }
            }
            if case .failure(let error) = TLSContexts.load(settings, readFile: self.readFile), error.isUnfitPair {
                self.control.withLock { $0.staged[key] = value }
                return "\(error): both take effect with a \(partner) that fits; until then nothing changes"
            }
        }
        var files = old
        if old.needsOtherFiles(for: settings) || settings.general.needsOtherTLS(than: old.settings.general) {
            let (read, problems) = Configuration.load(settings, readFile: self.readFile)
            guard let read else { throw ConsoleError("SET failed: \(problems.joined(separator: "; "))") }
            files = read
        }
        let new = files.with(settings)
        if let error = Self.lockout(from: old, to: new) { throw ConsoleError("SET failed: \(error)") }
        if let refusal = await self.routers.refusals(of: new).first {
            throw ConsoleError("SET failed: \(Self.refusalText(refusal))")
        }
        // Another command may have changed something meanwhile.
        guard self.configuration === old else { return try await self.set(key: key, value: value) }
        if let partner = TLSContexts.partner(of: key) {
            self.control.withLock { control in
                control.staged[key] = nil
                control.staged[partner] = nil
            }
        }
        self.publish(new)
        return nil
    }

    private func publish(_ configuration: Configuration) {
        self.prepareVerifiers(configuration)
        let general = configuration.settings.general
        self.services.resolver.configure(maximumTTL: general.dnsMaxTtl, negativeTTL: general.dnsNxdomainTtl)
        // Of two at a time one is the last for everybody.
        self.control.withLock { control in
            control.configuration = configuration
            self.routers.apply(configuration)
            self.tellAll { $0.apply(configuration) }
            self.routers.retain(configuration)
        }
    }

    // MARK: Commands

    /// The databases that a command is about: one, which must exist, or all that have had a client.
    private func named(_ database: String?) throws(ConsoleError) -> [SharedDatabase] {
        guard let database else { return self.shared.databases }
        // One that a reload has removed can still be cleared away.
        let isThere =
            self.configuration.settings.database(named: database) != nil
            || self.shared.knownDatabase(database)?.isInUse ?? false
        guard isThere else { throw ConsoleError.noSuchDatabase(database) }
        return [self.shared.database(database)]
    }

    /// Whether there is no such database in the configuration any more: no command is to be remembered for it.
    private func isRemoved(_ database: String?) -> Bool {
        database.map { self.configuration.settings.database(named: $0) == nil } ?? false
    }

    private func matches(_ name: String?) -> @Sendable (Pool) -> Bool {
        { pool in name == nil || pool.shared.key.database == name }
    }

    public func pause(database: String?) async throws(ConsoleError) {
        let databases = try self.named(database)
        if self.control.withLock({ $0.shutdown != nil }) { throw ConsoleError.shuttingDown }
        self.setPaused(true, database, databases)
        let matches = self.matches(database)
        self.tellAll { worker in
            for pool in worker.pools.values where matches(pool) { pool.retire("pause mode") }
            worker.renewOwnConnections(of: database)
        }
        do {
            // RESUME from another console ends it as well, since new connections come then.
            try await self.wait {
                guard self.isPaused(database, databases) else { return true }
                return await self.gather { worker in
                    worker.serverCount(where: matches) + worker.ownConnectionCount(of: database)
                }.reduce(0, +) == 0
            }
        } catch {
            self.setPaused(false, database, databases)
            self.tellAll { worker in
                for pool in worker.pools.values where matches(pool) { pool.pump() }
                worker.resumeOwnConnections()
            }
            throw error
        }
        if !self.isPaused(database, databases) { throw ConsoleError.resumed }
    }

    private func isPaused(_ database: String?, _ databases: [SharedDatabase]) -> Bool {
        database == nil
            ? self.shared.isPaused.load(ordering: .relaxed)
            : databases.contains { $0.isPaused.load(ordering: .relaxed) }
    }

    private func setPaused(_ isPaused: Bool, _ database: String?, _ databases: [SharedDatabase]) {
        if database == nil { self.shared.isPaused.store(isPaused, ordering: .relaxed) }
        if database != nil || !isPaused {
            for shared in databases { shared.isPaused.store(isPaused, ordering: .relaxed) }
        }
    }

    public func resume(database: String?) async throws(ConsoleError) {
        let databases = try self.named(database)
        if self.control.withLock({ $0.shutdown != nil }) { throw ConsoleError.shuttingDown }
        let isPaused =
            self.shared.isPaused.load(ordering: .relaxed) || databases.contains { $0.isPaused.load(ordering: .relaxed) }
        guard isPaused else {
            throw ConsoleError(database.map { "database \"\($0)\" is not paused" } ?? "pooler is not paused")
        }
        self.setPaused(false, database, databases)
        let matches = self.matches(database)
        self.tellAll { worker in
            for pool in worker.pools.values where matches(pool) { pool.tryAgain() }
            worker.resumeOwnConnections()
        }
    }

    public func disable(database: String) async throws(ConsoleError) {
        for shared in try self.named(database) { shared.isDisabled.store(true, ordering: .relaxed) }
    }

    public func enable(database: String) async throws(ConsoleError) {
        for shared in try self.named(database) { shared.isDisabled.store(false, ordering: .relaxed) }
    }

    public func reconnect(database: String?) async throws(ConsoleError) {
        _ = try self.named(database)
        let matches = self.matches(database)
        self.tellAll { worker in
            for pool in worker.pools.values where matches(pool) {
                pool.retire("obsolete connection")
                pool.forgetWelcome()
                // Somebody who says so knows more about the server than a failure some time ago.
                pool.tryAgain()
            }
            worker.renewOwnConnections(of: database)
        }
    }

    public func forget(database: String) async throws(ConsoleError) {
        guard self.configuration.settings.database(named: database) != nil else {
            throw ConsoleError.noSuchDatabase(database)
        }
        guard let router = self.routers.known(database) else {
            throw ConsoleError("database \"\(database)\" is not routed", sqlState: SQLState.undefinedObject)
        }
        self.routers.forget(router)
    }

    public func kill(database: String?) async throws(ConsoleError) {
        let databases = try self.named(database)
        if self.control.withLock({ $0.shutdown != nil }) { throw ConsoleError.shuttingDown }
        if !self.isRemoved(database) { self.setPaused(true, database, databases) }
        _ = await self.gather { worker in worker.killClients(of: database) }
    }

    public func killClient(id: UInt64) async throws(ConsoleError) {
        let found = await self.gather { worker in
            guard let client = worker.clients[id] else { return false }
            client.fail(ServerError(message: "admin forced disconnect", sqlState: "57P01"))
            return true
        }
        if !found.contains(true) { throw ConsoleError.clientNotFound }
    }

    public func waitClose(database: String?) async throws(ConsoleError) {
        _ = try self.named(database)
        let matches = self.matches(database)
        try await self.wait {
            await self.gather { worker in
                worker.pools.values.filter(matches).flatMap(\.servers).filter(\.isRetiring).count
            }.reduce(0, +) == 0
        }
    }

    /// Looks until something is so. Ends early when the task is cancelled.
    private func wait(until holds: @Sendable () async -> Bool) async throws(ConsoleError) {
        while await !holds() {
            do {
                try await Task.sleep(for: .milliseconds(20))
            } catch {
                throw ConsoleError.cancelled
            }
        }
    }

    public func shutdown(_ mode: ShutdownMode) async throws(ConsoleError) {
        self.control.withLock { $0.shutdown = mode }
        if mode == .immediate { return self.finish() }
        // TCP stops listening; the Unix socket stays for the console. Who has connected before is not too late.
        await self.stopListening(drains: true) { !$0.address.isUnix }
        _ = await self.gather { _ in }
        self.shared.firstLateID.store(self.shared.nextID(), ordering: .relaxed)
        self.shared.isShuttingDown.store(true, ordering: .relaxed)
        switch mode {
        case .immediate: return
        case .waitForClients:
            _ = await self.gather { worker in worker.hurryLogins() }
            if self.shared.clients.count == 0 { self.finish() }
            Task {
                // Console clients do not count, and nobody tells when the last other one has left.
                while await self.busyClients() > 0 { try? await Task.sleep(for: .milliseconds(100)) }
                self.finish()
            }
        case .waitForServers:
            self.shared.isClosingServers.store(true, ordering: .relaxed)
            self.shared.isPaused.store(true, ordering: .relaxed)
            self.tellAll { worker in
                for pool in worker.pools.values { pool.retire("server shutting down") }
                worker.closeWaiting()
            }
            Task {
                let all: @Sendable (Pool) -> Bool = { _ in true }
                while await self.gather({ $0.serverCount(where: all) }).reduce(0, +) > 0 {
                    try? await Task.sleep(for: .milliseconds(50))
                }
                self.finish()
            }
        }
    }

    private func busyClients() async -> Int {
        await self.gather { worker in worker.clients.values.filter { $0.console == nil }.count }.reduce(0, +)
    }
}
