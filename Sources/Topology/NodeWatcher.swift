import Routing
import Settings

/// Asks one node what the state says, on a thread of its own.
final class NodeWatcher {
    private let core: MonitorCore
    private let id: Int
    private let node: Node
    private let waker: Waker
    private var probe: ServerProbe?
    /// As whom the probe has logged in.
    private var login: (ClusterSettings.Login, ClusterSettings.TLS)?
    /// Which of the logins is tried next.
    private var loginIndex = 0
    /// The connection has just broken: the next try to connect is short, for a server that only has ended this one.
    private var isLost = false

    /// How long a node whose connection has broken may take to accept a new one before it is called down, microseconds.
    private static let reconnectTime: Int64 = 250_000
    /// Logins that are tried in one check.
    private static let loginsAtOnce = 8

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
        let settings = self.core.settings
        let timeout = settings.checkTimeout
        let allowed = self.isLost ? min(timeout, Self.reconnectTime) : timeout
        let hadProbe = self.probe != nil
        let id = self.id
        do throws(MonitorConnection.Failure) {
            let deadline = monotonicNow() + allowed
            let probe = try self.connected(settings, mayChange: work.isCheck, deadline: deadline)
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

    /// The connection, made if there is none. While the settings name other logins than the one it has, it is only
    /// replaced by one that works.
    private func connected(
        _ settings: ClusterSettings, mayChange: Bool, deadline: Int64
    ) throws(MonitorConnection.Failure) -> ServerProbe {
        guard let probe = self.probe, let (login, tls) = self.login else {
            return try self.connect(settings, deadline: deadline)
        }
        guard mayChange, tls != settings.tls || !settings.logins.contains(login) else { return probe }
        let allowed = settings.checkTimeout / 2
        do throws(MonitorConnection.Failure) {
            return try self.connect(settings, deadline: min(deadline, monotonicNow() + allowed))
        } catch {
            if case .stopped = error { throw error }
            let id = self.id
            let reason = error.reason(allowed: allowed)
            self.core.update { $0.refusedChange(id, reason: reason) }
            return probe
        }
    }

    /// Logs in as the first who may.
    private func connect(
        _ settings: ClusterSettings, deadline: Int64
    ) throws(MonitorConnection.Failure) -> ServerProbe {
        let core = self.core
        var refusal = MonitorConnection.Failure.lost("there is nobody to log in as")
        for _ in 0..<min(settings.logins.count, Self.loginsAtOnce) {
            let login = settings.logins[self.loginIndex % settings.logins.count]
            do throws(MonitorConnection.Failure) {
                let connection = try MonitorConnection(
                    to: MonitorConnection.Target(self.node, login, settings.tls), waker: self.waker, deadline: deadline,
                    isStopped: { core.isStopped })
                let probe = try ServerProbe(connection: connection, timeout: settings.checkTimeout, deadline: deadline)
                self.probe = probe
                self.login = (login, settings.tls)
                return probe
            } catch {
                guard error.isOfLogin else { throw error }
                refusal = error
                self.loginIndex += 1
            }
        }
        throw refusal
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
        if case .stopped = failure { return }
        let id = self.id
        let reason = failure.reason(allowed: allowed)
        self.isLost = false
        if failure.provesLife {
            self.core.update { $0.refused(id, reason: reason, now: monotonicNow()) }
        } else {
            self.core.update { $0.failed(id, reason: reason, now: monotonicNow()) }
        }
        // Its name may lead elsewhere now.
        self.core.wakeHelpers()
    }
}
