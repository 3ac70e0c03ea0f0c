import Pooling
import Reactor
import Sessions
import Synchronization

// Replication clients: each has a server connection of its own, made for it. They wait for room in the pool like others, but
// what is free is closed for them, for it is nothing that they could use.
extension Pool {
    /// Makes a connection for a replication client, as soon as there is room for one.
    func connect(for replication: ServerSession.Replication, _ client: ClientSession) {
        if let error = self.refusal { return client.fail(error) }
        client.awaitLogin(in: self)
        self.replicationQueue.append(LoginQueue.Place(client: client, replication: replication))
        self.announceReplication()
        self.pump()
    }

    /// Begins the logins of replication clients that there is room for.
    func connectForReplication() {
        while !self.replicationQueue.isEmpty, self.loggingIn < self.mostLogins, self.mayConnect(),
            let place = self.replicationQueue.popFirst()
        {
            guard !self.connect(place.replication) else {
                self.announceReplication()
                continue
            }
            place.client.waitsIn = self
            self.replicationQueue.prepend(place)
            return self.makeRoom()
        }
    }

    /// Closes a connection that is idle, here or on another reactor; one that becomes free is closed by `give`.
    private func makeRoom() {
        if self.evictOldestIdle("evicted for pool_size") { return }
        let mask = self.shared.idle.load(ordering: .relaxed) & ~SharedPool.bit(self.worker.index)
        guard mask != 0 else { return }
        let key = self.shared.key
        self.worker.reactors[mask.trailingZeroBitCount].mailbox.post {
            _ = $0.pools[key]?.evictOldestIdle("evicted for pool_size")
        }
    }

    /// Whether a connection that is free now has to go, so that a replication client can have one.
    var isRoomWanted: Bool {
        guard self.shared.replicationWaiting.load(ordering: .relaxed) != 0 else { return false }
        let limit = self.limit
        return limit > 0 && self.shared.servers.count >= limit
    }

    /// The login for a replication client has failed. What the server refuses says nothing about ordinary logins, and the
    /// client hears it at once; while the server is away it waits for it like everybody else.
    func replicationFailed(_ error: ServerError, _ replication: ServerSession.Replication) {
        guard let client = self.worker.clients[replication.client], client.login != nil else { return }
        if error.isRefusal { return client.fail(error) }
        client.waitsIn = self
        self.replicationQueue.prepend(LoginQueue.Place(client: client, replication: replication))
        self.announceReplication()
    }

    func announceReplication() {
        let bit = SharedPool.bit(self.worker.index)
        if self.replicationQueue.isEmpty {
            self.shared.replicationWaiting.bitwiseAnd(~bit, ordering: .relaxed)
        } else {
            self.shared.replicationWaiting.bitwiseOr(bit, ordering: .relaxed)
        }
    }
}
