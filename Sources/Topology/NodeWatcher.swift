import Routing

/// Asks one node what the state says, on a thread of its own.
final class NodeWatcher {
    private let core: MonitorCore
    private let id: Int
    private let node: Node
    private let waker: Waker
    private var probe: ServerProbe?
    /// The connection has just broken: the next try to connect is short, for a server that only has ended this one.
    private var isLost = false

    /// How long a node whose connection has broken may take to accept a new one before it is called down, microseconds.
    private static let reconnectTime: Int64 = 250_000

    init(core: MonitorCore, id: Int, node: Node, waker: Waker) {
        self.core = core
        self.id = id
        self.node = node
        self.waker = waker
    }

    func run() {
        let id = self.id
        while !self.core.isStopped {
            switch self.core.update({ $0.next(id, now: monotonicNow()) }) {
            case .end: return
            case .ask(let work): self.ask(work)
            case .wait(let time): self.wait(until: time)
            }
        }
    }

    private func ask(_ work: ClusterState.Work) {
        let timeout = self.core.settings.checkTimeout
        let allowed = self.isLost ? min(timeout, Self.reconnectTime) : timeout
        let hadProbe = self.probe != nil
        let id = self.id
        do throws(MonitorConnection.Failure) {
            let deadline = monotonicNow() + allowed
            let probe = try self.connected(deadline: deadline)
            // What a new connection has not told yet is asked in full.
            let answer = try probe.ask(isFull: work.isCheck || !hadProbe, deadline: deadline)
            self.isLost = false
            let identity = probe.identity
            self.core.update { $0.answered(id, work, answer, identity, now: monotonicNow()) }
        } catch {
            self.probe = nil
            if case .lost = error, hadProbe {
                self.lost()
            } else {
                self.failed(error, allowed)
            }
        }
    }

    private func connected(deadline: Int64) throws(MonitorConnection.Failure) -> ServerProbe {
        if let probe = self.probe { return probe }
        let core = self.core
        let connection = try MonitorConnection(
            to: core.target(self.node, dbname: core.settings.dbname), waker: self.waker, deadline: deadline,
            isStopped: { core.isStopped })
        let probe = try ServerProbe(
            connection: connection, timeout: core.settings.checkTimeout, deadline: deadline)
        self.probe = probe
        return probe
    }

    private func wait(until time: Int64) {
        guard let probe = self.probe else {
            self.waker.wait(until: time)
            return
        }
        do throws(MonitorConnection.Failure) {
            try probe.idle(until: time)
        } catch {
            self.probe = nil
            self.lost()
        }
    }

    private func lost() {
        let id = self.id
        self.isLost = true
        self.core.update { $0.lost(id, now: monotonicNow()) }
    }

    private func failed(_ failure: MonitorConnection.Failure, _ allowed: Int64) {
        let reason: String
        switch failure {
        case .stopped: return
        case .lost(let text): reason = text
        case .timedOut: reason = "no answer for \(ClusterState.seconds(allowed)) s"
        case .refused(let state, let message): reason = "\(message) (\(state))"
        }
        let id = self.id
        self.isLost = false
        self.core.update { $0.failed(id, reason: reason, now: monotonicNow()) }
        // Its name may lead elsewhere now.
        self.core.wakeHelpers()
    }
}
