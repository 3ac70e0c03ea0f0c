import Logging
import Reactor

// Accepting clients, on the first reactor.
extension Worker {
    /// Accepts on this reactor and hands each connection to the reactor with the fewest clients.
    func listen(on sockets: [ListeningSocket]) {
        for socket in sockets {
            let isUnix = socket.address.isUnix
            let hasInput = socket.defersAccept
            let listener = Listener(loop: self.loop, socket) { [unowned self] accepted in
                self.place(accepted, isUnix: isUnix, hasInput: hasInput)
            } failed: { [unowned self] error in
                self.log(.error, "", "accept failed: \(error.reason)")
            }
            listener.setOptions(self.socketOptions)
            self.listeners.append((listener, socket))
        }
    }

    /// Nobody is kept back by the kernel on these sockets any more. False if nobody has been.
    func stopDeferring(where matches: (ListeningSocket) -> Bool) -> Bool {
        let deferring = self.listeners.map(\.socket).filter { matches($0) && $0.defersAccept }
        for socket in deferring { socket.stopDeferring() }
        return !deferring.isEmpty
    }

    /// Stops accepting on sockets and closes them; `done` is called when that is over.
    func stopListening(
        drains: Bool, where matches: (ListeningSocket) -> Bool, done: @escaping () -> Void
    ) {
        let ending = self.listeners.filter { matches($0.socket) }
        self.listeners.removeAll { matches($0.socket) }
        var left = ending.count
        guard left > 0 else { return done() }
        for (listener, socket) in ending {
            // What the service manager has opened it goes on to hold: who waits there is for the next process.
            listener.finish(drains: drains && !socket.isInherited) {
                socket.close()
                left -= 1
                if left == 0 { done() }
            }
        }
    }

    /// The process ends: peers are to hear of it now.
    func cutConnections() {
        for client in self.clients.values { client.cut() }
        for pool in self.pools.values {
            for server in pool.servers { server.cut() }
        }
        for connection in self.ownConnections.values { connection.cut() }
    }
}
