import Proxy
import Settings

/// A proxy that consists of what a test says, and that writes down what it was asked for.
actor FakeHost: ConsoleHost {
    struct Content: Sendable {
        var clients: [ClientStatus] = []
        var servers: [ServerStatus] = []
        var pools: [PoolStatus] = []
        var databases: [DatabaseStatus] = []
        var users: [UserStatus] = []
        var statistics: [String: StatisticsCounters] = [:]
        var counts = ProxyCounts()
        var dnsHosts: [DNSHostStatus] = []
        var memory: [MemoryStatus] = []
        var state = ProxyState()
        var settings = Settings()
        var nodes: [NodeStatus] = []
        var routes: [RouteStatus] = []
        var explanation = RouteExplanation(statementClass: "read", reason: "", node: "", because: "")
        var reload: Result<[String], ReloadError> = .success([])
    }

    private let content: Content
    private(set) var calls: [String] = []

    init(_ change: (inout Content) -> Void = { _ in }) {
        var content = Content()
        change(&content)
        self.content = content
    }

    func clients() -> [ClientStatus] { self.content.clients }
    func servers() -> [ServerStatus] { self.content.servers }
    func pools() -> [PoolStatus] { self.content.pools }
    func databases() -> [DatabaseStatus] { self.content.databases }
    func users() -> [UserStatus] { self.content.users }
    func statistics() -> [String: StatisticsCounters] { self.content.statistics }
    func counts() -> ProxyCounts { self.content.counts }
    func nodes() -> [NodeStatus] { self.content.nodes }
    func routes() -> [RouteStatus] { self.content.routes }
    func explainRoute(_ statement: [UInt8], database: String?) -> RouteExplanation {
        self.calls.append("explain \(database ?? "-") \(String(decoding: statement, as: UTF8.self))")
        return self.content.explanation
    }
    func dnsHosts() -> [DNSHostStatus] { self.content.dnsHosts }
    func memory() -> [MemoryStatus] { self.content.memory }
    func state() -> ProxyState { self.content.state }
    func settings() -> Settings { self.content.settings }

    func reload() throws(ReloadError) -> [String] {
        self.calls.append("reload")
        return try self.content.reload.get()
    }

    func set(key: String, value: String) throws(ConsoleError) -> String? {
        self.calls.append("set \(key)=\(value)")
        if value == "refused" { throw ConsoleError("\(key) cannot be set") }
        return value == "half" ? "waits for the other half" : nil
    }

    /// `slow` is a database whose connections are never released.
    func pause(database: String?) async throws(ConsoleError) {
        self.calls.append("pause \(database ?? "all")")
        guard database == "slow" else { return }
        do {
            try await Task.sleep(for: .seconds(60))
        } catch {
            self.calls.append("resume slow")
            throw .cancelled
        }
    }

    func resume(database: String?) throws(ConsoleError) { self.calls.append("resume \(database ?? "all")") }
    func disable(database: String) throws(ConsoleError) { try self.record("disable", database) }
    func enable(database: String) throws(ConsoleError) { try self.record("enable", database) }
    func forget(database: String) throws(ConsoleError) { try self.record("forget", database) }
    func reconnect(database: String?) throws(ConsoleError) { try self.record("reconnect", database) }
    func kill(database: String?) throws(ConsoleError) { try self.record("kill", database) }
    func waitClose(database: String?) throws(ConsoleError) { try self.record("waitClose", database) }

    func killClient(id: UInt64) throws(ConsoleError) {
        self.calls.append("killClient \(id)")
        if id == 404 { throw .clientNotFound }
    }

    func shutdown(_ mode: ShutdownMode) { self.calls.append("shutdown \(mode)") }

    private func record(_ call: String, _ database: String?) throws(ConsoleError) {
        self.calls.append("\(call) \(database ?? "all")")
        if database == "unknown" { throw .noSuchDatabase("unknown") }
    }
}
