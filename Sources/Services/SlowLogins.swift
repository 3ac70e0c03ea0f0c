import DequeModule
package import Reactor
import Synchronization

/// Asks those about passwords who may wait for another machine, PAM and directories, on threads of its own: all loops go
/// on.
///
/// Threads and queue are bounded, for each of those who are asked: one that does not answer holds up only who has to be
/// asked there. Whoever has left, or waits longer than a login may take, is not asked about any more.
package final class SlowLogins: Sendable {
    /// Lives as long as the client's login.
    package final class Presence: Sendable {
        package init() {}
    }

    package struct Request: Sendable {
        /// Who is asked.
        package let judge: String
        /// When nobody waits for the answer any more.
        package let expires: MonotonicTime
        package weak let client: Presence?
        /// Blocks until there is an answer.
        package let ask: @Sendable () -> PasswordVerdict
        /// Called on any thread; nil if nobody was asked, for too many wait, or the system has no thread left.
        package let completion: @Sendable (PasswordVerdict?) -> Void

        package init(
            judge: String, expires: MonotonicTime, client: Presence?, ask: @escaping @Sendable () -> PasswordVerdict,
            completion: @escaping @Sendable (PasswordVerdict?) -> Void
        ) {
            self.judge = judge
            self.expires = expires
            self.client = client
            self.ask = ask
            self.completion = completion
        }

        fileprivate var isOver: Bool { self.client == nil || self.expires <= monotonicNow() }
    }

    package static let threads = 4
    package static let mostWaiting = 1_000

    /// Those who wait for the same judge.
    private struct Line {
        var waiting = Deque<Request>()
        /// Threads that ask, and end when nobody waits.
        var threads = 0
    }

    private let lines = Mutex<[String: Line]>([:])

    /// Asks as soon as there is a thread.
    package func add(_ request: Request) {
        let (isTaken, isThreadWanted) = self.lines.withLock { lines in
            var line = lines.removeValue(forKey: request.judge) ?? Line()
            if line.waiting.count >= Self.mostWaiting { line.waiting.removeAll { $0.isOver } }
            let isTaken = line.waiting.count < Self.mostWaiting
            let isThreadWanted = isTaken && line.threads < Self.threads
            if isTaken { line.waiting.append(request) }
            if isThreadWanted { line.threads += 1 }
            lines[request.judge] = line
            return (isTaken, isThreadWanted)
        }
        guard isTaken else { return request.completion(nil) }
        if isThreadWanted { self.startThread(for: request.judge) }
    }

    private func startThread(for judge: String) {
        do {
            // Modules of PAM are other people's, and may put large buffers on their stack.
            try Reactor.startThread("login", stackSize: 8 << 20) {
                while let request = self.next(for: judge) { request.completion(request.ask()) }
            }
        } catch {
            // With no thread at all nobody would ever be asked.
            let left = self.lines.withLock { lines -> Deque<Request> in
                guard var line = lines.removeValue(forKey: judge) else { return [] }
                line.threads -= 1
                if line.threads > 0 { lines[judge] = line }
                return line.threads > 0 ? [] : line.waiting
            }
            for request in left { request.completion(nil) }
        }
    }

    /// Who is to be asked about next; nil, and one thread less, when nobody waits.
    private func next(for judge: String) -> Request? {
        self.lines.withLock { lines in
            guard var line = lines.removeValue(forKey: judge) else { return nil }
            while let request = line.waiting.popFirst() {
                guard !request.isOver else { continue }
                lines[judge] = line
                return request
            }
            line.threads -= 1
            if line.threads > 0 { lines[judge] = line }
            return nil
        }
    }
}
