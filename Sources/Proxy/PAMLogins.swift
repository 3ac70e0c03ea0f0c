import Authentication
import DequeModule
import Dispatch
import Reactor
import Synchronization

/// Asks PAM about passwords, on threads of its own: a module may wait for another machine, and all loops go on.
///
/// Threads and queue are bounded. Who waits longer than a login may take is not asked about any more.
final class PAMLogins: Sendable {
    struct Request: Sendable {
        let service: String
        let user: String
        let password: SecretBytes
        /// The client's address; nil on the Unix socket.
        let host: String?
        /// When nobody waits for the answer any more.
        let expires: MonotonicTime
        /// Called on any thread.
        let completion: @Sendable (PAM.Verdict) -> Void
    }

    static let threads = 4
    static let mostWaiting = 1_000

    private struct Queue {
        var waiting = Deque<Request>()
        /// Threads that were started, and those of them that have nothing to do.
        var started = 0
        var idle = 0
    }

    private let queue = Mutex(Queue())
    private let available = DispatchSemaphore(value: 0)

    /// Asks as soon as there is a thread; false if too many wait already, or the system has no thread left.
    func add(_ request: Request) -> Bool {
        let (isTaken, isThreadWanted) = self.queue.withLock { queue in
            guard queue.waiting.count < Self.mostWaiting else { return (false, false) }
            queue.waiting.append(request)
            let isWanted = queue.waiting.count > queue.idle && queue.started < Self.threads
            if isWanted { queue.started += 1 }
            return (true, isWanted)
        }
        guard isTaken else { return false }
        if isThreadWanted, !self.startThread() { return self.isServed(orTakeBack: request) }
        self.available.signal()
        return true
    }

    private func startThread() -> Bool {
        do {
            // Modules are other people's, and may put large buffers on their stack.
            try Reactor.startThread("pam", stackSize: 8 << 20) { self.serve() }
            return true
        } catch {
            return false
        }
    }

    /// No thread could be started: whether there are others.
    private func isServed(orTakeBack request: Request) -> Bool {
        let others = self.queue.withLock { queue in
            queue.started -= 1
            if queue.started == 0 { _ = queue.waiting.popLast() }
            return queue.started
        }
        if others > 0 { self.available.signal() }
        return others > 0
    }

    private func serve() {
        while true {
            self.queue.withLock { $0.idle += 1 }
            self.available.wait()
            let request = self.queue.withLock { queue in
                queue.idle -= 1
                return queue.waiting.popFirst()
            }
            guard let request, request.expires > monotonicNow() else { continue }
            request.completion(
                PAM.check(
                    service: request.service, user: request.user, password: request.password.span, host: request.host))
        }
    }
}
