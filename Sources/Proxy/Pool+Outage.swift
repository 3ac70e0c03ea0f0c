import Logging
import Pooling
import Reactor
import Routing
import Sessions
import Settings
import Synchronization
import Wire

// What happens while logins fail. One rule for clients that log in and for those that have a request:
//
// - While any place of the pool's hosts has not been tried, it is tried at once.
// - As long as the pool has a connection that may become free they wait for it.
// - If the server has answered and refused, they hear its words at once, and so do others until the next try.
// - If it cannot be reached they wait, because it may be back at any moment: for `server_outage_wait`, counted from the
//   beginning of the outage. After that each hears the reason when the next try has failed.
extension Pool {
    /// Logins that have failed one after the other since the last pause or success.
    struct Failures {
        var count = 0
        /// Each of them was a refusal.
        var areRefusals = true
    }

    /// Hosts and addresses to try before there is a pause.
    var places: Int {
        self.load == nil ? min(max(self.database.hosts.count, 1) * max(self.mostAddresses, 1), 32) : 1
    }

    /// A login has failed.
    ///
    /// - Parameter began: when it began.
    func loginFailed(_ error: ServerError, _ replication: ServerSession.Replication?, began: MonotonicTime) {
        self.loginEnded()
        self.releaseCounts()
        self.worker.log(.warning, self.prefix, error.message)
        if let replication {
            self.replicationFailed(error, replication)
            if error.isRefusal { return self.pump() }
        }
        if self.database.loadBalanceHosts == .disable {
            self.hostIndex += 1
            if self.hostIndex % max(self.database.hosts.count, 1) == 0 { self.addressIndex &+= 1 }
        }
        self.failures.count += 1
        if !error.isRefusal { self.failures.areRefusals = false }
        guard self.failures.count >= self.places else { return self.pump() }
        let isRefusal = self.failures.areRefusals
        self.failures = Failures()
        self.backoff.failed(
            began: began, now: self.worker.now, longest: self.settings.serverLoginRetry, isRefusal: isRefusal)
        self.loginError = error
        self.loginError?.isRefusal = isRefusal
        if let load = self.load, !isRefusal { return self.nodeFailed(load, error) }
        if self.hasNoneToWaitFor && (isRefusal || self.hasLastedTooLong) {
            self.refuse(queue: error)
        } else if isRefusal, self.load?.node.role == .replica {
            self.sendAway()
        }
        self.pump()
    }

    /// No connection is left that could become free, and none is being made.
    private var hasNoneToWaitFor: Bool {
        self.shared.servers.count <= self.shared.unavailable.load(ordering: .relaxed)
    }

    private var patience: Microseconds {
        let timeout = self.rules.queryWaitTimeout
        let wait = self.settings.serverOutageWait
        return timeout > 0 ? min(timeout, wait) : wait
    }

    private var hasLastedTooLong: Bool {
        guard let since = self.backoff.failingSince else { return false }
        return self.worker.now - since >= self.patience
    }

    /// Why waiting would be in vain; nil if it would not.
    var refusal: ServerError? {
        if self.isRemoved { return .databaseRemoved }
        if self.worker.shared.isClosingServers.load(ordering: .relaxed) { return .serverShuttingDown }
        guard let error = self.loginFailure, error.isRefusal else { return nil }
        return error.whileRetrying
    }

    /// Why there is no connection, nor a try to make one, until the pause behind the last failure is over.
    private var loginFailure: ServerError? { self.hasNoneToWaitFor ? self.recentFailure : nil }

    /// Why no connection is being made, until the pause behind the last failure is over.
    private var recentFailure: ServerError? {
        guard let error = self.loginError, self.backoff.isFailing, self.worker.now < self.backoff.nextTry else {
            return nil
        }
        return error
    }

    /// A try may take as long as `server_connect_timeout`: those who have waited for long enough do not wait for its end.
    /// Called once a second.
    func endLongWaits() {
        guard let error = self.loginError, !error.isRefusal, self.load == nil, self.hasLastedTooLong,
            self.shared.servers.count - self.loggingIn <= self.shared.unavailable.load(ordering: .relaxed)
        else { return }
        let since = self.worker.now - self.patience
        while let first = self.queue.first, first.isGivenUp || first.client.waitingSince <= since {
            guard let client = self.dequeue() else { break }
            client.fail(error)
        }
        for client in self.welcomeQueue.takeAll(waitingSince: since) { client.fail(error) }
        for client in self.replicationQueue.takeAll(waitingSince: since) { client.fail(error) }
        self.announceReplication()
    }

    /// The server can be logged in to.
    func outageEnded() {
        self.backoff.reset()
        self.failures = Failures()
        self.loginError = nil
    }

    /// Something has changed: what failed may work now.
    func tryAgain() {
        self.outageEnded()
        self.refusedSettings = [:]
        self.pump()
    }

    // MARK: Nodes of a routed database

    /// Why a replica is no place for a client's reads now, though it may be one for others': it does not let its user in,
    /// or does not take its settings. Roles, databases and the like come to it with the log, its rules are its own, and its
    /// connections may be used up.
    ///
    /// - Parameter mayWait: whether the connections that others have are worth waiting for.
    func refusal(of client: ClientSession, mayWait: Bool) -> ServerError? {
        if let error = mayWait || !self.idle.isEmpty ? self.loginFailure : self.recentFailure { return error }
        guard !self.refusedSettings.isEmpty, let wanted = client.parameters,
            let refused = self.refusedSettings[ObjectIdentifier(wanted)], self.worker.now < refused.until
        else { return nil }
        return refused.error
    }

    /// Whether there is any reason to ask for one.
    var mayRefuse: Bool { self.loginError != nil || !self.refusedSettings.isEmpty }

    /// Settings that a replica has not taken.
    struct RefusedSettings {
        /// Kept, so that no other set gets its identity.
        let wanted: ParameterSet
        let error: ServerError
        /// When they may be tried again.
        let until: MonotonicTime
    }

    /// Sets remembered; beyond it all are forgotten.
    private static let mostRefused = 256
    private static let refusedFor: Microseconds = 1_000_000

    func settingsRefused(_ wanted: ParameterSet, _ error: ServerError) {
        let now = self.worker.now
        if !self.refusedSettings.contains(where: { $1.until > now }) {
            let node = self.load?.node.description ?? ""
            self.worker.log(
                .warning, self.prefix, "\(node) refuses a client's settings, who goes elsewhere: \(error.message)")
        }
        if self.refusedSettings.count >= Self.mostRefused { self.refusedSettings = [:] }
        self.refusedSettings[ObjectIdentifier(wanted)] = RefusedSettings(
            wanted: wanted, error: error, until: now + Self.refusedFor)
    }

    /// Logins are refused, and nobody's connection is left to wait for. What a replica refuses, another node may do.
    func refuse(queue error: ServerError) {
        guard let load = self.load, load.node.role == .replica else { return self.fail(queue: error) }
        for client in self.replicationQueue.takeAll() { client.fail(error) }
        self.announceReplication()
        self.sendAway()
    }

    /// Connections to a node of a routed database fail: clients that wait for one find another node, or wait for it
    /// together with all others.
    private func nodeFailed(_ load: NodeLoad, _ error: ServerError) {
        if self.hasLastedTooLong {
            for client in self.replicationQueue.takeAll() { client.fail(error) }
            self.announceReplication()
        }
        guard let router = self.worker.routers[self.shared.key.database] else { return self.pump() }
        router.suspect(load, until: self.backoff.nextTry)
        if self.hasNoneToWaitFor || load.node.role == .replica { self.sendAway() }
        self.pump()
    }

    /// Clients that wait here look for another node.
    func sendAway() {
        for client in self.welcomeQueue.takeAll() { client.login?.awaitWelcome() }
        var clients: [ClientSession] = []
        while let client = self.dequeue() { clients.append(client) }
        for client in clients {
            client.route?.unchoose()
            if client !== self.acquiring { client.proceed() }
        }
    }
}
