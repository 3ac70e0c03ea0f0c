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
    let causalities: SharedCausalities

    var cluster: Cluster { self.monitor.cluster }

    init(database: DatabaseSettings, monitor: ClusterMonitor, causalities: SharedCausalities) {
        self.database = database.name
        self.serverDatabase = database.serverDatabase
        self.monitor = monitor
        self.causalities = causalities
    }

    /// Where its data are, once for each server: entries that have one of these places in common lead to one database.
    var places: [Place] {
        self.monitor.settings.hosts.map { Place(host: $0, database: self.serverDatabase) }
    }

    struct Place: Hashable {
        let host: HostAddress
        let database: String
    }
}

/// The routed databases of the process, and the monitors that they share.
final class SharedRouters: Sendable {
    private struct State {
        var routers: [String: SharedRouter] = [:]
        var monitors: [ClusterSettings: ClusterMonitor] = [:]
        var causalities: [SharedRouter.Place: SharedCausalities] = [:]
    }

    private let state = Mutex(State())
    private let logger: Logger
    private let reactors: [ReactorHandle]

    init(logger: Logger, reactors: [ReactorHandle]) {
        self.logger = logger
        self.reactors = reactors
    }

    /// The router of a database; its monitor is started if it is new.
    ///
    /// One that is known stays as it is: a reactor that has not seen the newest configuration yet does not bring back
    /// what was there before.
    func router(_ database: DatabaseSettings, _ configuration: Configuration) -> SharedRouter {
        self.state.withLock { state in
            state.routers[database.name] ?? self.makeRouter(database, configuration, &state)
        }
    }

    /// A new configuration, before any reactor has it: routers whose database has other servers are made anew.
    func apply(_ configuration: Configuration) {
        self.state.withLock { state in
            let automatic = state.routers.keys.compactMap { configuration.settings.database(named: $0) }
                .filter { configuration.isRouted($0) }
            for database in configuration.routedDatabases + automatic {
                if let known = state.routers[database.name], known.serverDatabase == database.serverDatabase,
                    known.monitor.settings == ClusterSettings(database, configuration)
                {
                    continue
                }
                _ = self.makeRouter(database, configuration, &state)
            }
        }
    }

    private func makeRouter(
        _ database: DatabaseSettings, _ configuration: Configuration, _ state: inout State
    ) -> SharedRouter {
        let wanted = ClusterSettings(database, configuration)
        let monitor = state.monitors[wanted] ?? self.monitor(wanted)
        state.monitors[wanted] = monitor
        let name = database.serverDatabase
        // With others that lead there; else what its clients have in common they go on to have in common, since some of
        // them come over to another server before others.
        let causalities =
            wanted.hosts.compactMap { state.causalities[SharedRouter.Place(host: $0, database: name)] }.first
            ?? state.routers[database.name]?.causalities ?? SharedCausalities(samples: monitor.cluster.samples)
        let router = SharedRouter(database: database, monitor: monitor, causalities: causalities)
        state.routers[database.name] = router
        for place in router.places { state.causalities[place] = causalities }
        monitor.watchCatalogue(of: name) { [weak self] in self?.catalogueRead($0, of: name, by: wanted) }
        return router
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
    func retain(_ configuration: Configuration) {
        let stopped = self.state.withLock { state in
            state.routers = state.routers.filter { name, _ in
                configuration.settings.database(named: name).map { configuration.isRouted($0) } ?? false
            }
            state.causalities = [:]
            for router in state.routers.values {
                for place in router.places { state.causalities[place] = router.causalities }
            }
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
        self.channelBinding = database.channelBinding
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
