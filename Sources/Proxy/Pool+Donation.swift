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
            if self.queued == 0 || self.isSomebodyElseFirst, let target = self.neediest, self.donate(server, to: target)
            {
                // What has become idle elsewhere meanwhile may have found no client here that waits for it.
                if self.queued > 0 { self.askOthers() }
                return
            }
            if let client = self.dequeue() {
                server.link(client)
                client.proceed()
            } else {
                self.putIdle(server)
            }
        }
    }

    /// The reactor whose client has been waiting for longest, of those that have one to whom no connection is on its way.
    private var neediest: Int? {
        let mask = self.shared.waiting.load(ordering: .sequentiallyConsistent) & ~SharedPool.bit(self.worker.index)
        guard mask != 0 else { return nil }
        var found: Int?
        var earliest = Int64.max
        for index in 0..<self.shared.queues.count where mask & SharedPool.bit(index) != 0 {
            let notice = self.shared.queues[index]
            guard notice.clients.load(ordering: .sequentiallyConsistent) > 0 else { continue }
            let since = notice.since.load(ordering: .relaxed)
            if found == nil || since < earliest {
                found = index
                earliest = since
            }
        }
        return found
    }

    /// Gives a connection to another reactor. False when it cannot leave.
    private func donate(_ server: ServerSession, to target: Int) -> Bool {
        guard server.leave() else { return false }
        self.shared.queues[target].clients.subtract(1, ordering: .relaxed)
        self.shared.queues[target].since.store(self.worker.now, ordering: .relaxed)
        self.remove(server)
        self.worker.donate(server, to: target, pool: self.shared.key)
        return true
    }

    /// Gives an idle connection away because another reactor asks for one.
    func donateIdle() {
        // Taken only for somebody: as long as it is marked as idle whoever begins to wait asks for it.
        guard self.queued == 0, let target = self.neediest, let server = self.takeIdle(for: 1) else { return }
        if !self.donate(server, to: target) {
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
        guard mask != 0, let own = self.queue.first?.client.waitingSince else { return false }
        let now = self.worker.now
        for index in 0..<self.shared.queues.count where mask & SharedPool.bit(index) != 0 {
            let notice = self.shared.queues[index]
            guard notice.clients.load(ordering: .relaxed) > 0 else { continue }
            let since = notice.since.load(ordering: .relaxed)
            // Some slack, so that shards with equal queues do not pass connections back and forth.
            if since != .max && now - since > 2 * (now - own) + 1_000 { return true }
        }
        return false
    }

    var isSomebodyElseWaiting: Bool {
        self.shared.waiting.load(ordering: .sequentiallyConsistent) & ~SharedPool.bit(self.worker.index) != 0
    }
}
