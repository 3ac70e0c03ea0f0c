import Reactor
import Synchronization

// How connections move between the reactors' shards, so that one pool serves the clients of all.
extension Pool {
    /// Gives a connection to another reactor as soon as this turn's callbacks are over: it cannot leave the loop in the
    /// middle of its own.
    func part(with server: ServerSession) {
        server.becomeLeaving()
        self.worker.loop.later {
            guard server.state == .leaving, server.pool === self else { return }
            if self.isPaused { return server.end("pause mode") }
            if let reason = server.retireReason { return server.end(reason) }
            if self.queued == 0 || self.isSomebodyElseFirst, self.donate(server) { return }
            if let client = self.dequeue() {
                server.link(client)
                client.proceed()
            } else {
                self.putIdle(server)
            }
        }
    }

    /// Gives a connection to the reactor whose client has been waiting for longest. False when there is none to whom no
    /// other is on its way, or the connection cannot leave.
    func donate(_ server: ServerSession) -> Bool {
        let mask = self.shared.waiting.load(ordering: .sequentiallyConsistent) & ~SharedPool.bit(self.worker.index)
        guard mask != 0 else { return false }
        var target: Int?
        var earliest = Int64.max
        for index in 0..<self.shared.queues.count where mask & SharedPool.bit(index) != 0 {
            let notice = self.shared.queues[index]
            guard notice.clients.load(ordering: .sequentiallyConsistent) > 0 else { continue }
            let since = notice.since.load(ordering: .relaxed)
            if target == nil || since < earliest {
                target = index
                earliest = since
            }
        }
        guard let target, server.leave() else { return false }
        self.shared.queues[target].clients.subtract(1, ordering: .relaxed)
        self.shared.queues[target].since.store(self.worker.now, ordering: .relaxed)
        self.remove(server)
        self.worker.donate(server, to: target, pool: self.shared.key)
        return true
    }

    /// Gives an idle connection away because another reactor asks for one.
    func donateIdle() {
        guard self.queued == 0, let server = self.takeIdle() else { return }
        if !self.donate(server) {
            self.idle.append(server)
            self.announceIdle()
        }
    }

    /// Asks reactors that have an idle connection for one.
    func askOthers() {
        // Either this sees that a connection is idle, or whoever has just made it so sees that a client waits.
        atomicMemoryFence(ordering: .sequentiallyConsistent)
        let mask = self.shared.idle.load(ordering: .sequentiallyConsistent) & ~SharedPool.bit(self.worker.index)
        guard mask != 0 else { return }
        for index in 0..<self.shared.queues.count where mask & SharedPool.bit(index) != 0 {
            self.worker.ask(index, forIdleOf: self.shared.key)
        }
    }

    /// A connection has arrived from another reactor.
    func accept(_ server: ServerSession) {
        server.joined(self)
        self.add(server)
        // Whoever sent it took it for granted that it would serve a client.
        self.announceWaiting()
        if server.generation != self.shared.generation.load(ordering: .relaxed) {
            return server.end("obsolete connection")
        }
        self.give(server)
    }

    /// Another reactor's client has been waiting for much longer than the first one here.
    var isSomebodyElseFirst: Bool {
        let mask = self.shared.waiting.load(ordering: .relaxed) & ~SharedPool.bit(self.worker.index)
        guard mask != 0, let own = self.queue.first?.waitingSince else { return false }
        let now = self.worker.now
        for index in 0..<self.shared.queues.count where mask & SharedPool.bit(index) != 0 {
            let since = self.shared.queues[index].since.load(ordering: .relaxed)
            // Some slack, so that shards with equal queues do not pass connections back and forth.
            if since != .max && now - since > 2 * (now - own) + 1_000 { return true }
        }
        return false
    }

    var isSomebodyElseWaiting: Bool {
        self.shared.waiting.load(ordering: .sequentiallyConsistent) & ~SharedPool.bit(self.worker.index) != 0
    }
}
