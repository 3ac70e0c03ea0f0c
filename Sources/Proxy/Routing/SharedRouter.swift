import Authentication
import Logging
import Reactor
import Routing
import SQL
import Settings
import Synchronization
import Topology
import Wire

/// A routed database over all reactors: its servers as the control plane sees them, its catalogue, and what clients
/// have in common that must see each other's writes.
final class SharedRouter: Sendable {
    let database: String
    let serverDatabase: String
    let monitor: ClusterMonitor
    /// The catalogue as read last; the patterns of functions are each reactor's own business.
    let catalogue = Mutex(Catalogue())
    private let causalities: Mutex<Causalities>

    var cluster: Cluster { self.monitor.cluster }

    init(database: DatabaseSettings, monitor: ClusterMonitor) {
        self.database = database.name
        self.serverDatabase = database.serverDatabase
        self.monitor = monitor
        self.causalities = Mutex(
            Causalities(database: SharedCausality(sharesReads: false, needed: Self.unknown(monitor))))
    }

    /// What a first read needs when writes may have gone before that are not known here.
    private static func unknown(_ monitor: ClusterMonitor) -> UInt64 {
        monitor.cluster.generation.load(ordering: .acquiring) + 1
    }

    private struct Causalities {
        let database: SharedCausality
        var users: [String: SharedCausality] = [:]
        var keys: [String: SharedCausality] = [:]
        /// Keys in the order of their first use, oldest first.
        var order: [String] = []
    }

    /// Keys that are remembered beside those in use; of the oldest ones half is forgotten when there are more.
    private static let mostKeys = 100_000

    /// What a client has in common with others; nil when its writes are its own.
    func causality(_ scope: ReadAfterWriteScope, user: String, key: String?) -> SharedCausality? {
        self.causalities.withLock { causalities in
            if let key { return self.causality(key: key, &causalities) }
            switch scope {
            case .client: return nil
            case .database: return causalities.database
            case .user:
                if let known = causalities.users[user] { return known }
                let causality = SharedCausality(sharesReads: false, needed: Self.unknown(self.monitor))
                causalities.users[user] = causality
                return causality
            }
        }
    }

    private func causality(key: String, _ causalities: inout Causalities) -> SharedCausality {
        if let known = causalities.keys[key] { return known }
        if causalities.order.count >= Self.mostKeys {
            // A key that somebody has goes on to be his and that of the next one who comes with it.
            let old = causalities.order.prefix(Self.mostKeys / 2)
            let unused = Set(old.filter { isKnownUniquelyReferenced(&causalities.keys[$0]) })
            for key in unused { causalities.keys[key] = nil }
            causalities.order = Array(causalities.order[old.endIndex...]) + old.filter { !unused.contains($0) }
        }
        // The key may have been forgotten together with its writes: every sample up to now may be too old.
        let causality = SharedCausality(sharesReads: true, needed: Self.unknown(self.monitor))
        causalities.keys[key] = causality
        causalities.order.append(key)
        return causality
    }
}

/// The routed databases of the process, and the monitors that they share.
final class SharedRouters: Sendable {
    private struct State {
        var routers: [String: SharedRouter] = [:]
        var monitors: [ClusterSettings: ClusterMonitor] = [:]
    }

    private let state = Mutex(State())
    private let logger: Logger
    private let reactors: [ReactorHandle]

    init(logger: Logger, reactors: [ReactorHandle]) {
        self.logger = logger
        self.reactors = reactors
    }

    /// The router of a database; its monitor is started if it is new.
    func router(_ database: DatabaseSettings, _ configuration: Configuration) -> SharedRouter {
        let wanted = ClusterSettings(database, configuration)
        return self.state.withLock { state in
            if let known = state.routers[database.name], known.monitor.settings == wanted,
                known.serverDatabase == database.serverDatabase
            {
                return known
            }
            let monitor = state.monitors[wanted] ?? self.monitor(wanted)
            state.monitors[wanted] = monitor
            let router = SharedRouter(database: database, monitor: monitor)
            state.routers[database.name] = router
            let name = database.serverDatabase
            monitor.watchCatalogue(of: name) { [weak self] in self?.catalogueRead($0, of: name, by: wanted) }
            return router
        }
    }

    private func catalogueRead(_ catalogue: Catalogue, of serverDatabase: String, by settings: ClusterSettings) {
        for router in self.all where router.serverDatabase == serverDatabase && router.monitor.settings == settings {
            router.catalogue.withLock { $0 = catalogue }
            let name = router.database
            for reactor in self.reactors { reactor.mailbox.post { $0.routers[name]?.catalogueChanged() } }
        }
    }

    private func monitor(_ settings: ClusterSettings) -> ClusterMonitor {
        let reactors = self.reactors
        let monitor = ClusterMonitor(settings: settings, logger: self.logger) { change in
            for reactor in reactors {
                reactor.mailbox.post { worker in
                    for router in worker.routers.values where router.shared.monitor.settings == settings {
                        router.clusterChanged(change)
                    }
                }
            }
        }
        monitor.start()
        return monitor
    }

    /// The router of this name, if there is one.
    func known(_ database: String) -> SharedRouter? { self.state.withLock { $0.routers[database] } }
    var all: [SharedRouter] { self.state.withLock { Array($0.routers.values) } }

    /// Forgets databases that are not routed any more, and stops monitors that nobody needs.
    func retain(where isRouted: (String) -> Bool) {
        let stopped = self.state.withLock { state in
            state.routers = state.routers.filter { isRouted($0.key) }
            let used = Set(state.routers.values.map(\.monitor.settings))
            let stopped = state.monitors.filter { !used.contains($0.key) }
            for settings in stopped.keys { state.monitors[settings] = nil }
            return Array(stopped.values)
        }
        for monitor in stopped { monitor.stop() }
    }
}

extension ClusterSettings {
    /// What the monitor of a database's servers needs to know.
    init(_ database: DatabaseSettings, _ configuration: Configuration) {
        let general = configuration.settings.general
        // Clients can think of as many databases for `*` as they like: their servers are watched once for all.
        let dbname = database.isAutomatic ? "postgres" : database.serverDatabase
        self.init(hosts: database.hosts, dbname: database.checkDbname ?? general.checkDbname ?? dbname)
        self.checkInterval = database.checkInterval ?? general.checkInterval
        self.checkTimeout = database.checkTimeout ?? general.checkTimeout
        self.sampleInterval = general.sampleInterval
        self.maxReplicaLag = database.maxReplicaLag ?? general.maxReplicaLag
        self.maxReplicaLagBytes = database.maxReplicaLagBytes ?? general.maxReplicaLagBytes
        self.sslmode = configuration.settings.effectiveServerSSLMode(database: database)
        self.sslRootCert = general.serverTlsCaFile
        self.sslCert = general.serverTlsCertFile
        self.sslKey = general.serverTlsKeyFile
        let user = database.checkUser ?? general.checkUser
        self.user = user ?? database.user
        self.password = database.checkPassword ?? (database.checkUser == nil ? general.checkPassword : nil)
        if self.password == nil && user == nil { self.password = database.password }
        if self.password == nil, let name = self.user, case .plain(let secret)? = configuration.secrets[name] {
            self.password = secret.span.text(0..<secret.count)
        }
    }
}
