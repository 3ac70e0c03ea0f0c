import Logging
import Routing
import Settings
import Synchronization
import Testing
import Topology

@testable import Proxy

@Suite struct SharedRouterTests {
    private func router() -> SharedRouter {
        let monitor = ClusterMonitor(
            settings: ClusterSettings(hosts: [], dbname: "app"), logger: Logger(label: "test"), changed: { _ in })
        return SharedRouter(database: DatabaseSettings(name: "app"), monitor: monitor)
    }

    @Test func aKeyInUseIsNotForgotten() throws {
        let router = self.router()
        let mine = try #require(router.causality(.client, user: "app", key: "mine"))
        for number in 0..<250_000 { _ = router.causality(.client, user: "app", key: "key \(number)") }
        #expect(router.causality(.client, user: "app", key: "mine") === mine)
    }

    @Test func aForgottenKeyNeedsWhatIsNewest() throws {
        let router = self.router()
        let first = try #require(router.causality(.client, user: "app", key: "old")).needed.load(ordering: .relaxed)
        router.cluster.generation.add(7, ordering: .relaxed)
        #expect(router.causality(.client, user: "app", key: "old")?.needed.load(ordering: .relaxed) == first)
        for number in 0..<150_000 { _ = router.causality(.client, user: "app", key: "key \(number)") }
        #expect(router.causality(.client, user: "app", key: "old")?.needed.load(ordering: .relaxed) == first + 7)
    }
}
