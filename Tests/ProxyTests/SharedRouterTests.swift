import Logging
import Routing
import Settings
import Synchronization
import Testing
import Topology

@testable import Proxy

@Suite struct SharedCausalitiesTests {
    @Test func aKeyInUseIsNotForgotten() throws {
        let causalities = SharedCausalities(samples: SampleNumbers())
        let mine = try #require(causalities.causality(.client, user: "app", key: "mine"))
        for number in 0..<250_000 { _ = causalities.causality(.client, user: "app", key: "key \(number)") }
        #expect(causalities.causality(.client, user: "app", key: "mine") === mine)
    }

    @Test func aForgottenKeyNeedsWhatIsNewest() throws {
        let samples = SampleNumbers()
        let causalities = SharedCausalities(samples: samples)
        func needed() -> UInt64? {
            causalities.causality(.client, user: "app", key: "old")?.needed.load(ordering: .relaxed)
        }
        #expect(needed() == 1)
        for _ in 0..<7 { _ = samples.next() }
        #expect(needed() == 1)
        for number in 0..<150_000 { _ = causalities.causality(.client, user: "app", key: "key \(number)") }
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
        for scope in [ReadAfterWriteScope.user, .database] {
            let shared = before.causalities.causality(scope, user: "app", key: nil)
            #expect(shared != nil && after.causalities.causality(scope, user: "app", key: nil) === shared)
        }
        let shared = before.causalities.causality(.client, user: "app", key: "k")
        #expect(after.causalities.causality(.client, user: "app", key: "k") === shared)
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
}
