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
    /// Shared with other databases on the same servers.
    let monitor: ClusterMonitor
    /// As whom its catalogue is read.
    let login: ClusterSettings.Login
    /// The catalogue as read last, and which revision that was; the patterns of functions are each reactor's own business.
    let catalogue: Mutex<(catalogue: Catalogue, revision: UInt64)>
    /// What the catalogue is by now.
    let revision: CatalogueRevision
    let causalities: SharedCausalities

    var cluster: Cluster { self.monitor.cluster }

    init(
        database: DatabaseSettings, monitor: ClusterMonitor, login: ClusterSettings.Login,
        revision: CatalogueRevision, catalogue: (catalogue: Catalogue, revision: UInt64) = (Catalogue(), 0),
        causalities: SharedCausalities
    ) {
        self.database = database.name
        self.serverDatabase = database.serverDatabase
        self.monitor = monitor
        self.login = login
        self.revision = revision
        self.catalogue = Mutex(catalogue)
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
        var monitors: [MonitorKey: ClusterMonitor] = [:]
        var causalities: [SharedRouter.Place: SharedCausalities] = [:]
    }

    /// What is known of clusters, whoever watches them.
    let clusters = KnownClusters()
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
            if let known = state.routers[database.name] { return known }
            let watch = Watch(database, configuration)
            let monitor = state.monitors[watch.key] ?? self.monitor(watch.settings)
            state.monitors[watch.key] = monitor
            return self.makeRouter(database, watch, monitor, &state)
        }
    }

    /// A new configuration, before any reactor has it. Monitors take over what has changed and go on; routers whose
    /// database is another are made anew.
    func apply(_ configuration: Configuration) {
        self.state.withLock { state in
            let databases = self.databases(configuration, state)
            for (key, settings) in self.plan(databases.map(\.watch), &state) {
                if let known = state.monitors[key] {
                    if known.settings != settings { known.apply(settings) }
                } else {
                    state.monitors[key] = self.monitor(settings)
                }
            }
            for (database, watch) in databases {
                guard let monitor = state.monitors[watch.key] else { continue }
                if let known = state.routers[database.name], known.serverDatabase == database.serverDatabase,
                    known.monitor === monitor, known.login == watch.catalogueLogin
                {
                    continue
                }
                _ = self.makeRouter(database, watch, monitor, &state)
            }
        }
    }

    /// The databases that are routed by a configuration, and how each is watched; by name.
    private func databases(
        _ configuration: Configuration, _ state: State
    ) -> [(database: DatabaseSettings, watch: Watch)] {
        let automatic = state.routers.keys.compactMap { configuration.settings.database(named: $0) }
            .filter { $0.isAutomatic && configuration.isRouted($0) }
        return (configuration.routedDatabases + automatic).sorted { $0.name < $1.name }
            .map { ($0, Watch($0, configuration)) }
    }

    /// Which monitors there are to be, with what settings. A monitor of before whose settings are others now is given to
    /// those of its databases that it still suits: it knows the servers.
    private func plan(_ watches: [Watch], _ state: inout State) -> [MonitorKey: ClusterSettings] {
        var wanted: [MonitorKey: ClusterSettings] = [:]
        for watch in watches { wanted[watch.key, default: watch.settings].add(watch.settings) }
        var unused = state.monitors.filter { wanted[$0.key] == nil }
        for (key, settings) in wanted where state.monitors[key] == nil {
            let before = settings.databases.compactMap { state.routers[$0]?.monitor }
            let old = unused.first { old in
                before.contains { $0 === old.value } && !Set(old.value.settings.hosts).isDisjoint(with: settings.hosts)
            }
            guard let old else { continue }
            unused[old.key] = nil
            state.monitors[old.key] = nil
            state.monitors[key] = old.value
        }
        return wanted
    }

    private func makeRouter(
        _ database: DatabaseSettings, _ watch: Watch, _ monitor: ClusterMonitor, _ state: inout State
    ) -> SharedRouter {
        let name = database.serverDatabase
        let before = state.routers[database.name]
        // With others that lead there; else what its clients have in common they go on to have in common, since some of
        // them come over to another server before others.
        let causalities =
            database.hosts.compactMap { state.causalities[SharedRouter.Place(host: $0, database: name)] }.first
            ?? before?.causalities ?? SharedCausalities(samples: monitor.cluster.samples)
        let login = watch.catalogueLogin
        // It calls from another thread, and waits there until the router is known.
        let revision = monitor.watchCatalogue(as: login) { [weak self, weak monitor] in
            if let monitor { self?.catalogueRead($0, $1, as: login, by: monitor) }
        }
        // What was read as somebody else is out of date.
        var catalogue = (catalogue: Catalogue(), revision: UInt64(0))
        if let before, before.monitor === monitor, before.serverDatabase == name {
            catalogue = before.catalogue.withLock { $0 }
            if before.revision !== revision { catalogue.revision = 0 }
        }
        let router = SharedRouter(
            database: database, monitor: monitor, login: login, revision: revision, catalogue: catalogue,
            causalities: causalities)
        state.routers[database.name] = router
        for place in router.places { state.causalities[place] = causalities }
        return router
    }

    /// DDL has been carried out in a database: in all entries that lead there.
    func catalogueChanged(_ router: SharedRouter, by ddl: StatementClass.DDL) {
        let places = Set(router.places)
        for other in self.all where other === router || !places.isDisjoint(with: other.places) {
            other.monitor.refreshCatalogue(as: other.login, after: ddl)
        }
    }

    private func catalogueRead(
        _ catalogue: Catalogue, _ revision: UInt64, as login: ClusterSettings.Login, by monitor: ClusterMonitor
    ) {
        for router in self.all where router.login == login && router.monitor === monitor {
            router.catalogue.withLock { $0 = (catalogue, revision) }
            let name = router.database
            for reactor in self.reactors { reactor.mailbox.post { $0.routers[name]?.catalogueChanged() } }
        }
    }

    private func monitor(_ settings: ClusterSettings) -> ClusterMonitor {
        let reactors = self.reactors
        let monitor = ClusterMonitor(settings: settings, known: self.clusters, logger: self.logger) { change, cluster in
            for reactor in reactors {
                reactor.mailbox.post { worker in
                    for router in worker.routers.values where router.cluster === cluster {
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
        let (used, stopped) = self.state.withLock { state in
            state.routers = state.routers.filter { name, _ in
                configuration.settings.database(named: name).map { configuration.isRouted($0) } ?? false
            }
            state.causalities = [:]
            for router in state.routers.values {
                for place in router.places { state.causalities[place] = router.causalities }
            }
            let used = Dictionary(grouping: state.routers.values) { ObjectIdentifier($0.monitor) }
            let stopped = state.monitors.filter { used[ObjectIdentifier($0.value)] == nil }
            for key in stopped.keys { state.monitors[key] = nil }
            return (used, Array(stopped.values))
        }
        for routers in used.values { routers.first?.monitor.keepCatalogues(as: Set(routers.map(\.login))) }
        for monitor in stopped { monitor.stop() }
    }

    /// Forgets what is known of a database's cluster, by whichever entry.
    func forget(_ router: SharedRouter) {
        let cluster = router.monitor.sight
        let monitors = self.state.withLock { Array($0.monitors.values) }
        for monitor in monitors where monitor === router.monitor || monitor.sight.isSame(as: cluster) {
            monitor.forget()
        }
    }

    /// Tries what a configuration changes of the logins of checks, at servers that answer now.
    ///
    /// - Returns: what they refuse, a sentence for each.
    func refusals(of configuration: Configuration) async -> [String] {
        let trials = self.state.withLock { state in
            var state = state
            let databases = self.databases(configuration, state)
            return self.plan(databases.map(\.watch), &state).compactMap { key, settings in
                let before = settings.databases.sorted().compactMap { state.routers[$0]?.monitor }.first
                return (state.monitors[key] ?? before).map {
                    (monitor: $0, settings: settings, isGiven: key.givesDatabase)
                }
            }
        }
        return await withTaskGroup(of: String?.self) { group in
            for (monitor, settings, isGiven) in trials {
                group.addTask { await monitor.refusal(of: settings, givesDatabase: isGiven) }
            }
            var refusals: [String] = []
            for await refusal in group { if let refusal { refusals.append(refusal) } }
            return refusals.sorted()
        }
    }
}
