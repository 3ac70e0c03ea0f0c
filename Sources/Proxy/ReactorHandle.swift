import Reactor
import Synchronization

/// A reactor as other threads see it: a mailbox, and how many clients it has.
final class ReactorHandle: Sendable {
    let index: Int
    let mailbox: Mailbox<Worker>
    /// Clients on this reactor or on their way to it.
    let clients = Atomic<Int>(0)

    init(index: Int) throws(SystemError) {
        self.index = index
        self.mailbox = try Mailbox()
    }

    /// Calls a closure on the reactor's thread and waits for its result.
    func run<Result: Sendable>(_ body: @escaping @Sendable (Worker) -> Result) async -> Result {
        await withCheckedContinuation { continuation in
            self.mailbox.post { continuation.resume(returning: body($0)) }
        }
    }
}
