import Pooling
import Reactor
import Routing
import SQL
import Sessions
import Settings
import Synchronization
import Topology
import Wire

/// One reactor's part in routing one database: the classes of its statements, the choice of nodes, and the clients
/// that wait for a node.
final class Router {
    private unowned let worker: Worker
    let database: String
    private(set) var shared: SharedRouter
    private(set) var settings: RoutingSettings
    private(set) var balancer: Balancer
    var classifier: Classifier
    /// What views and the like hide is known.
    private(set) var knowsCatalogue = false
    /// Which revision of the catalogue it is.
    private var revision: UInt64 = 0
    /// What statements are that clients have prepared, by `PreparedStatement.id`.
    private var prepared: [UInt64: RequestSummary.Statement] = [:]
    var counters = RouteCounters()
    /// Counts lists of nodes, so that others notice a new one.
    private(set) var version = 0
    /// Clients whose request waits for a replica to catch up, or for a primary. One that left early is still in here.
    private var held: [ClientSession] = []
    private var heldCount = 0
    private var retry: Timer?

    /// Prepared statements that are remembered.
    private static let mostPrepared = 50_000

    init(worker: Worker, shared: SharedRouter, settings: RoutingSettings, entry: Entry) {
        self.worker = worker
        self.database = shared.database
        self.shared = shared
        self.settings = settings
        self.balancer = Balancer(method: settings.loadBalance, seed: UInt64.random(in: .min ... .max))
        self.classifier = Classifier(catalogue: Catalogue(), textLimit: settings.classifyLimit)
        self.entry = entry
        self.catalogueChanged()
        self.takeNodes()
    }

    /// What of a database's entry is not asked for by each statement.
    struct Entry: Equatable {
        /// `read_functions` and `write_functions`.
        let readFunctions: [String]
        let writeFunctions: [String]
        /// In the order of the file.
        let hosts: [HostAddress]
        /// Of hosts for which one is given.
        let weights: [HostAddress: Int]
        /// `connect_query` may set the isolation level of transactions that name none.
        let setsIsolation: Bool

        init(_ database: DatabaseSettings, _ general: GeneralSettings) {
            self.readFunctions = database.readFunctions ?? general.readFunctions
            self.writeFunctions = database.writeFunctions ?? general.writeFunctions
            self.hosts = database.hosts
            self.weights = Dictionary(zip(database.hosts, database.weights ?? [])) { first, _ in first }
            let query = Array((database.connectQuery ?? "").utf8)
            self.setsIsolation = query.span.mentions("isolation")
        }
    }
    private var entry: Entry

    var cluster: Cluster { self.shared.cluster }

    /// Takes over changed settings.
    func apply(_ settings: RoutingSettings, _ shared: SharedRouter, _ entry: Entry) {
        let limitChanged = settings.classifyLimit != self.settings.classifyLimit
        let entryChanged = shared !== self.shared || entry != self.entry
        if shared !== self.shared {
            // Those that wait are counted where their progress is told.
            self.cluster.waiters.subtract(self.heldCount, ordering: .relaxed)
            shared.cluster.waiters.add(self.heldCount, ordering: .sequentiallyConsistent)
        }
        self.settings = settings
        self.shared = shared
        self.entry = entry
        self.balancer.method = settings.loadBalance
        if limitChanged { self.classifier = Classifier(catalogue: Catalogue(), textLimit: settings.classifyLimit) }
        if limitChanged || entryChanged { self.catalogueChanged() }
        if entryChanged { self.takeNodes() }
        self.lookAgain()
    }

    // MARK: Classes

    func catalogueChanged() {
        var (catalogue, revision) = self.shared.catalogue.withLock { $0 }
        self.revision = revision
        catalogue.readFunctions = self.entry.readFunctions
        catalogue.writeFunctions = self.entry.writeFunctions
        self.classifier.catalogue = catalogue
        self.knowsCatalogue = catalogue.isKnown
        self.prepared.removeAll()
    }

    /// What a text is.
    func statement(_ text: Span<UInt8>, _ client: ClientSession) -> RequestSummary.Statement {
        RequestSummary.Statement(
            self.classify(text, client), text, standardConformingStrings: client.hasStandardStrings)
    }

    private func classify(_ text: Span<UInt8>, _ client: ClientSession) -> Classifier.Result {
        // A byte of several that looks like a quote is none: nothing of such a text is known.
        let encoding = client.encoding
        if encoding == .mixed && !text.isASCII {
            return Classifier.Result(statementClass: .foreignText, override: nil, isMiss: false)
        }
        let result = self.judge(text, client, isUTF8: encoding == .utf8)
        guard self.isOutdated(result.statementClass) else { return result }
        return Classifier.Result(
            statementClass: result.statementClass.behindDDL, override: result.override, isMiss: result.isMiss,
            isHintMistaken: result.isHintMistaken)
    }

    /// What a text is by its shape, parsed if it is new and there is time for it.
    private func judge(_ text: Span<UInt8>, _ client: ClientSession, isUTF8: Bool) -> Classifier.Result {
        let standard = client.hasStandardStrings
        let known = self.classifier.classify(
            text, standardConformingStrings: standard, mayParse: false, isUTF8: isUTF8)
        guard known.statementClass.isUnparsed, known.statementClass === StatementClass.notParsed,
            let route = client.route
        else { return known }
        let begun = monotonicNow()
        guard self.parsing.allows(&route.parsing, now: begun) else {
            self.counters.notParsed &+= 1
            return known
        }
        let result = self.classifier.classify(text, standardConformingStrings: standard, isUTF8: isUTF8)
        self.parsing.spend(monotonicNow() - begun, &route.parsing)
        if result.statementClass.isUnparsed { self.counters.unparsed &+= 1 }
        return result
    }

    /// Whether the catalogue that a statement has been judged by says nothing of what it names now. Without a primary
    /// there is no DDL, and nobody to ask.
    @inline(__always)
    func isOutdated(_ statementClass: StatementClass) -> Bool {
        self.shared.revision.value != self.revision && statementClass.dependsOnCatalogue
            && self.primary(now: self.worker.now) != nil
    }

    /// The time that may be spent on parsing new texts.
    private var parsing = ParseAllowance()

    /// Reads the batches of all clients, one after the other; who goes on with one later leaves another one here.
    var reader = BatchReader()

    /// What a statement is that was prepared before.
    func known(_ statement: PreparedStatement, _ client: ClientSession) -> RequestSummary.Statement {
        // To a client for whom a backslash escapes, the same text may say something else.
        let isCommon = client.hasStandardStrings && client.encoding == .utf8
        if isCommon, let known = self.prepared[statement.id], !self.isOutdated(known.statementClass) { return known }
        let text = statement.textBytes
        let found = self.statement(text.span, client)
        guard isCommon, found.statementClass !== StatementClass.notParsed, !self.isOutdated(found.statementClass) else {
            return found
        }
        if self.prepared.count >= Self.mostPrepared { self.prepared.removeAll(keepingCapacity: true) }
        self.prepared[statement.id] = found
        return found
    }

    /// Whether a text counts as a read now.
    func isTakenForRead(_ text: [UInt8], _ client: ClientSession) -> Bool {
        let statementClass = self.classify(text.span, client).statementClass
        return statementClass.kind == .read && statementClass.takesSnapshot
    }

    /// A replica has refused a statement: others like it go to the primary from now on.
    func refused(_ text: [UInt8], _ client: ClientSession, reason: String) {
        self.classifier.refused(text.span, standardConformingStrings: client.hasStandardStrings, reason: reason)
        self.prepared.removeAll(keepingCapacity: true)
    }

    // MARK: Nodes

    private func takeNodes() {
        self.balancer.setNodes(self.nodes, weights: self.entry.weights)
        self.version += 1
    }

    /// The cluster's nodes in the order of this database's hosts.
    private var nodes: [Node] { self.cluster.nodes.sorted(by: self.entry.hosts) }

    /// The control plane has something new.
    func clusterChanged(_ change: Cluster.Change) {
        if case .nodes = change {
            let nodes = self.nodes
            let loads = self.balancer.loads
            if nodes.count != loads.count || !zip(nodes, loads).allSatisfy({ $0 === $1.node }) { self.takeNodes() }
            self.worker.nodesChanged(of: self)
        }
        self.lookAgain()
    }

    /// The node that takes writes, if there is one and connections to it do not fail.
    func primary(now: MonotonicTime) -> NodeLoad? {
        self.balancer.loads.first {
            $0.node.role == .primary && $0.node.isUp.load(ordering: .relaxed) && $0.suspectUntil <= now
        }
    }

    /// The node that stands for the database where any would do: its settings greet new clients.
    var home: NodeLoad? {
        let loads = self.balancer.loads
        let now = self.worker.now
        let fit = loads.filter { $0.node.isUp.load(ordering: .relaxed) && $0.suspectUntil <= now }
        return fit.first { $0.node.role == .primary } ?? fit.first { $0.node.role == .replica }
            ?? loads.first { $0.node.role == .unknown && $0.suspectUntil <= now } ?? loads.first
    }

    /// Finds a node for a read.
    func decide(
        _ route: ClientRoute, insists: Bool, avoided: [Node] = [], now: MonotonicTime
    ) -> ReadDecision {
        let (decision, isConfined) = self.balancer.decide(
            route.causality, mode: route.mode, settings: self.settings, insists: insists, avoided: avoided, now: now)
        // With fresh samples it can go where there is less to do.
        if isConfined { self.needSamples() }
        return decision
    }

    func needSamples() { self.cluster.needSamples(now: self.worker.now) }
    var generation: UInt64 { self.cluster.generation }

    /// Connections to a node fail.
    func suspect(_ load: NodeLoad, until: MonotonicTime) {
        load.suspectUntil = max(load.suspectUntil, until)
        self.cluster.suspect(load.node)
    }

    /// Whether a pool's server is one of the database's; what is known of it now is the pool's from then on. One whose
    /// name a new monitor is still looking up may be.
    func keep(_ pool: Pool) -> Bool {
        guard let load = self.balancer.loads.first(where: { $0.node.name == pool.shared.key.node }) else {
            return pool.load.map { self.cluster.unresolved.contains($0.node.place) } ?? false
        }
        pool.adopt(load)
        return true
    }

    /// Whether sessions are certain to begin with READ COMMITTED: the catalogue says so, and no DDL has changed it since.
    var isReadCommittedByDefault: Bool {
        guard self.knowsCatalogue, !self.classifier.catalogue.hasOtherDefaultIsolation, !self.entry.setsIsolation else {
            return false
        }
        return self.shared.revision.value == self.revision || self.primary(now: self.worker.now) == nil
    }

    // MARK: Held clients

    /// Keeps a client whose request no node can take now. It looks again at each change, and when `until` is reached.
    func hold(_ client: ClientSession, until: MonotonicTime) {
        if self.worker.shared.isClosingServers.load(ordering: .relaxed) { return client.fail(.serverShuttingDown) }
        client.beginWaiting(in: nil, until: until)
        self.held.append(client)
        self.heldCount += 1
        self.cluster.waiters.add(1, ordering: .sequentiallyConsistent)
        // A node that was suspected is looked at again without any news.
        let now = self.worker.now
        if let next = self.balancer.loads.map(\.suspectUntil).filter({ $0 > now }).min() {
            self.lookAgain(after: next - now)
        }
    }

    /// A held client leaves, whatever for.
    func release(_ client: ClientSession) {
        guard client.isWaiting else { return }
        client.endWaiting()
        self.heldCount -= 1
        self.cluster.waiters.subtract(1, ordering: .relaxed)
        if self.held.count > 2 * self.heldCount + 64 { self.held.removeAll { !$0.isHeld } }
    }

    private func lookAgain(after delay: MonotonicTime) {
        if let retry = self.retry {
            if retry.deadline > self.worker.now + delay { retry.restart(after: delay) }
        } else {
            self.retry = Timer(loop: self.worker.loop, after: delay) { [unowned self] _ in self.lookAgain() }
        }
    }

    /// Lets all held clients decide anew.
    private func lookAgain() {
        guard self.heldCount > 0 else { return self.held.removeAll() }
        let clients = self.held
        self.held = []
        for client in clients where client.isHeld && client.route?.router === self {
            self.release(client)
            client.proceed()
        }
    }

    func discard() {
        self.retry?.cancel()
        self.retry = nil
    }
}

/// What became of one database's requests on one reactor.
struct RouteCounters: Sendable {
    /// Reads that went to a replica.
    var replicaReads: UInt64 = 0
    /// Requests that went to the primary, by why.
    var kept = [UInt64](repeating: 0, count: ReadDecision.Reason.allCases.count)
    /// Of those, the ones that may write.
    var writes: UInt64 = 0
    /// Statements that a replica refused and the primary ran.
    var reruns: UInt64 = 0
    /// Reads that failed with their replica and were tried again.
    var retries: UInt64 = 0
    /// Texts that the parser does not understand.
    var unparsed: UInt64 = 0
    /// Texts that nobody has looked at, because too many new ones came at a time.
    var notParsed: UInt64 = 0
    /// Transactions that began on a replica and went on on the primary.
    var promotions: UInt64 = 0

    static func += (total: inout RouteCounters, part: RouteCounters) {
        total.replicaReads &+= part.replicaReads
        for index in total.kept.indices { total.kept[index] &+= part.kept[index] }
        total.writes &+= part.writes
        total.reruns &+= part.reruns
        total.retries &+= part.retries
        total.unparsed &+= part.unparsed
        total.notParsed &+= part.notParsed
        total.promotions &+= part.promotions
    }
}

extension Array where Element == Node {
    /// In the order of a host list, and of one host as they are.
    func sorted(by hosts: [HostAddress]) -> [Node] {
        hosts.flatMap { host in self.filter { $0.place == host } }
    }
}
