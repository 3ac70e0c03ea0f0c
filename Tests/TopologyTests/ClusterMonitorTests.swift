import Logging
import Routing
import Settings
import Testing

@testable import Topology

@Suite struct ClusterMonitorTests {
    /// A folder without a socket: every connection is refused at once, without any network.
    private func monitor() -> ClusterMonitor {
        ClusterMonitor(
            settings: ClusterSettings(hosts: [HostAddress(host: "/nonexistent-martlet")], dbname: "postgres"),
            known: KnownClusters(), logger: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() }),
            changed: { _, _ in })
    }

    /// Waits until a condition holds; false if it does not for long.
    private func wait(_ isTrue: () -> Bool) async throws -> Bool {
        let deadline = ContinuousClock.now + .seconds(20)
        while !isTrue() {
            guard ContinuousClock.now < deadline else { return false }
            try await Task.sleep(for: .milliseconds(2))
        }
        return true
    }

    @Test func nodeWithoutAServerIsTriedAndDown() async throws {
        let monitor = self.monitor()
        monitor.start()
        defer { monitor.stop() }
        #expect(try await self.wait { monitor.core.update { $0.entries.allSatisfy(\.wasTried) } })
        #expect(monitor.cluster.nodes.map(\.host) == ["/nonexistent-martlet"])
        #expect(monitor.cluster.nodes.map(\.address) == [nil])
        #expect(monitor.core.update { $0.entries.map(\.isUp) } == [false])
        #expect(monitor.cluster.primary == nil)
    }

    @Test func stoppedMonitorIsFreed() async throws {
        weak var core: MonitorCore?
        do {
            let monitor = self.monitor()
            core = monitor.core
            monitor.start()
            _ = monitor.watchCatalogue(as: ClusterSettings.Login(dbname: "shop")) { _, _ in }
            monitor.stop()
        }
        // Its threads hold it until they end.
        #expect(try await self.wait { core == nil })
    }

    @Test(
        arguments: [
            ("localhost", true), ("pg1.example", true), ("10.0.0.1", false), ("::1", false), ("/run/postgresql", false),
            ("", false), ("@abstract", false),
        ])
    func onlyNamesAreLookedUp(host: String, isName: Bool) {
        #expect(HostAddress(host: host).isName == isName)
    }
}
