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
        var causality = Causality()
        self.join(&causality, scope, user: user, key: key)
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
        let after = routers.router(try self.database(new), new)
        #expect(after !== before)
        #expect(after.monitor.settings.checkInterval == 2_000_000)
        #expect(routers.router(try self.database(old), old) === after)
        #expect(routers.router(try self.database(new), new) === after)
        routers.retain(try self.configuration(check: "2s", routing: "off"))
        #expect(routers.all.isEmpty)
    }

    /// Clients that have come over see the writes of those that have not yet, and the other way round.
    @Test func otherServersPartNobody() throws {
        let routers = self.routers()
        let old = try self.configuration(check: "1s")
        routers.apply(old)
        let before = routers.router(try self.database(old), old)
        routers.apply(try self.configuration(check: "2s"))
        let after = routers.router(try self.database(old), old)
        #expect(after !== before)
        #expect(after.causalities === before.causalities)
        // A number of one is comparable to one of the other, whichever monitor is older.
        #expect(before.cluster.samples === after.cluster.samples)
        routers.retain(try self.configuration(check: "2s", routing: "off"))
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
}
