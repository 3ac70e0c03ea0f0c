import Logging
import Routing
import Settings
import Synchronization
import Testing
import Topology

@testable import Proxy

extension SharedCausalities {
    /// What a client has in common with others.
    fileprivate func causality(_ user: String, key: String? = nil, _ scope: ReadAfterWriteScope = .client) -> Causality
    {
        let causality = Causality()
        self.join(causality, scope, user: user, key: key)
        return causality
    }
}

@Suite struct SharedCausalitiesTests {
    @Test func whoIsInUseIsNotForgotten() throws {
        let causalities = SharedCausalities(samples: SampleNumbers())
        let mine = causalities.causality("my user", key: "mine")
        for number in 0..<250_000 { _ = causalities.causality("user \(number)", key: "key \(number)") }
        #expect(causalities.causality("app", key: "mine").key === mine.key)
        #expect(causalities.causality("my user").user === mine.user)
    }

    @Test func aForgottenKeyNeedsWhatIsNewest() throws {
        let samples = SampleNumbers()
        let causalities = SharedCausalities(samples: samples)
        func needed() -> UInt64? { causalities.causality("app", key: "old").key?.needed.load(ordering: .relaxed) }
        #expect(needed() == 1)
        for _ in 0..<7 { _ = samples.next() }
        #expect(needed() == 1)
        for number in 0..<150_000 { _ = causalities.causality("app", key: "key \(number)") }
        #expect(needed() == 8)
    }

    @Test func aNewKeyNeedsNothingNew() throws {
        let samples = SampleNumbers()
        for _ in 0..<3 { _ = samples.next() }
        let causalities = SharedCausalities(samples: samples)
        for _ in 0..<7 { _ = samples.next() }
        let new = causalities.causality("app", key: "new")
        #expect(new.key?.needed.load(ordering: .relaxed) == 4, "what was written before is not known")
        #expect(new.user?.needed.load(ordering: .relaxed) == 4)
    }
}

@Suite struct SharedRouterTests {
    /// A configuration whose database "app" is routed between servers that nobody listens on.
    private func configuration(check interval: String, routing: String = "split") throws -> Configuration {
        var settings = Settings()
        try settings.set("check_interval", to: interval)
        var app = DatabaseSettings(name: "app")
        app.hosts = [HostAddress(host: "127.0.0.1", port: 1)]
        app.routing = RoutingMode(rawValue: routing)
        settings.databases["app"] = app
        return Configuration(settings: settings, secrets: [:])
    }

    private func routers() -> SharedRouters { SharedRouters(logger: Logger(label: "test"), reactors: []) }

    private func database(_ configuration: Configuration) throws -> DatabaseSettings {
        try #require(configuration.settings.database(named: "app"))
    }

    /// A login on a reactor that has not been told of a reload yet.
    @Test func anOldConfigurationBringsNothingBack() throws {
        let routers = self.routers()
        let old = try self.configuration(check: "1s")
        let new = try self.configuration(check: "2s")
        routers.apply(old)
        let before = routers.router(try self.database(old), old)
        routers.apply(new)
        #expect(routers.router(try self.database(old), old) === before)
        #expect(before.monitor.settings.checkInterval == 2_000_000)
        routers.retain(try self.configuration(check: "2s", routing: "off"))
        #expect(routers.all.isEmpty)
    }

    @Test func whatIsTheSameStays() throws {
        let routers = self.routers()
        let configuration = try self.configuration(check: "1s")
        routers.apply(configuration)
        let before = routers.router(try self.database(configuration), configuration)
        routers.apply(try self.configuration(check: "1s"))
        #expect(routers.router(try self.database(configuration), configuration) === before)
        routers.retain(try self.configuration(check: "1s", routing: "off"))
    }

    /// Write through one entry, read through another: what leads to one database of one cluster is one.
    @Test func entriesOfOneDatabaseHaveTheirClientsInCommon() throws {
        func entry(_ name: String, _ ports: [Int], dbname: String, _ routing: RoutingMode) -> DatabaseSettings {
            var entry = DatabaseSettings(name: name)
            entry.hosts = ports.map { HostAddress(host: "127.0.0.1", port: $0) }
            entry.dbname = dbname
            entry.routing = routing
            return entry
        }
        var settings = Settings()
        for entry in [
            entry("rw", [1, 2], dbname: "shop", .primary), entry("ro", [2, 1, 3], dbname: "shop", .split),
            entry("other", [1, 2], dbname: "crm", .split), entry("elsewhere", [4], dbname: "shop", .split),
        ] {
            settings.databases[entry.name] = entry
        }
        let configuration = Configuration(settings: settings, secrets: [:])
        let routers = self.routers()
        routers.apply(configuration)
        func causalities(_ name: String) throws -> SharedCausalities { try #require(routers.known(name)).causalities }
        #expect(try causalities("rw") === causalities("ro"))
        #expect(try causalities("rw") !== causalities("other"))
        #expect(try causalities("rw") !== causalities("elsewhere"))
        routers.retain(try self.configuration(check: "1s", routing: "off"))
    }

    // MARK: Monitors

    private func entry(_ name: String, _ ports: [Int], _ change: (inout DatabaseSettings) -> Void = { _ in })
        -> DatabaseSettings
    {
        var entry = DatabaseSettings(name: name)
        entry.hosts = ports.map { HostAddress(host: "127.0.0.1", port: $0) }
        entry.routing = .split
        change(&entry)
        return entry
    }

    private func configuration(_ entries: [DatabaseSettings]) -> Configuration {
        var settings = Settings()
        for entry in entries { settings.databases[entry.name] = entry }
        return Configuration(settings: settings, secrets: [:])
    }

    @Test func databasesOnTheSameServersShareAMonitor() throws {
        let routers = self.routers()
        routers.apply(
            self.configuration([
                self.entry("a", [1, 2]), self.entry("b", [1, 2]), self.entry("turned", [2, 1]),
                self.entry("own user", [1, 2]) { $0.user = "u" },
                self.entry("own password", [1, 2]) { $0.password = "p" },
                self.entry("given user", [1, 2]) { $0.checkUser = "u" },
                self.entry("given database", [1, 2]) { $0.checkDbname = "d" },
                self.entry("other limit", [1, 2]) { $0.maxReplicaLag = 1 }, self.entry("other servers", [1, 2, 3]),
            ]))
        func monitor(_ name: String) throws -> ClusterMonitor { try #require(routers.known(name)).monitor }
        for name in ["b", "turned", "own user", "own password"] {
            #expect(try monitor(name) === monitor("a"), "\(name)")
        }
        var others = [try monitor("a")]
        for name in ["given user", "given database", "other limit", "other servers"] {
            let its = try monitor(name)
            #expect(!others.contains { $0 === its }, "\(name)")
            others.append(its)
        }
        // Each database's catalogue is its own.
        #expect(try #require(routers.known("turned")).login.dbname == "turned")
        // Who may log in is found out among all.
        #expect(
            Set(try monitor("a").settings.logins.map(\.dbname)) == ["a", "b", "turned", "own user", "own password"])
        #expect(try monitor("a").settings.databases.count == 5)
        routers.retain(self.configuration([]))
    }

    @Test func aMonitorGoesOnWithOtherSettings() throws {
        let routers = self.routers()
        let before = self.configuration([self.entry("a", [1, 2]), self.entry("b", [1, 2])])
        routers.apply(before)
        let router = try #require(routers.known("a"))
        let nodes = router.cluster.nodes
        #expect(nodes.map(\.port) == [1, 2])
        for change: (inout DatabaseSettings) -> Void in [
            { $0.hosts.append(HostAddress(host: "127.0.0.1", port: 3)) }, { $0.checkInterval = 7_000_000 },
            { $0.maxReplicaLag = 7 }, { $0.sslmode = .require },
        ] {
            let after = self.configuration([self.entry("a", [1, 2], change), self.entry("b", [1, 2], change)])
            routers.apply(after)
            routers.retain(after)
            #expect(routers.known("a") === router)
            #expect(nodes.allSatisfy { node in router.cluster.nodes.contains { $0 === node } })
        }
        // To other servers the monitor of these is of no use.
        let moved = self.configuration([self.entry("a", [7, 8]), self.entry("b", [1, 2])])
        routers.apply(moved)
        routers.retain(moved)
        #expect(try #require(routers.known("a")).monitor !== router.monitor)
        #expect(try #require(routers.known("b")).monitor === router.monitor)
        #expect(router.monitor.settings.databases == ["b"])
        routers.retain(self.configuration([]))
    }
}
