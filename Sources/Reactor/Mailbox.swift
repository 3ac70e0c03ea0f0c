import CLinux
import Glibc
import Synchronization

/// How other threads reach what belongs to a reactor: they leave closures, the reactor's thread calls them with the
/// object it owns.
///
/// Wake-ups are coalesced (one write to an eventfd however many are waiting), and a turn of the loop takes a bounded
/// number, so that a flood of messages does not keep the sockets waiting.
public final class Mailbox<Owner: AnyObject>: Sendable {
    public typealias Message = @Sendable (Owner) -> Void

    private let messages = Mutex<[Message]>([])
    private let isWoken = Atomic<Bool>(false)
    private let wakeUp: Int32

    /// Throws when the kernel has no descriptor left.
    public init() throws(SystemError) {
        self.wakeUp = eventfd(0, Int32(eventNonBlocking | eventCloseOnExec))
        guard self.wakeUp >= 0 else { throw SystemError("eventfd") }
    }

    deinit { close(self.wakeUp) }

    /// Leaves a message; may be called on any thread. It is dropped when the reactor has ended.
    public func post(_ message: @escaping Message) {
        self.messages.withLock { $0.append(message) }
        self.wake()
    }

    private func wake() {
        if !self.isWoken.exchange(true, ordering: .sequentiallyConsistent) {
            var one: UInt64 = 1
            _ = write(self.wakeUp, &one, 8)
        }
    }

    /// Begins to call messages with `owner` on the loop's thread.
    public func open(on loop: EventLoop, owner: Owner) {
        let source = MailboxSource(loop: loop, fd: self.wakeUp) { [unowned owner] in self.deliver(to: owner) }
        loop.attach(source, interest: UInt32(MARTLET_EPOLLIN))
    }

    private func deliver(to owner: Owner) {
        var count: UInt64 = 0
        _ = read(self.wakeUp, &count, 8)
        // Cleared before the messages are taken: one left after this wakes the loop anew.
        self.isWoken.store(false, ordering: .sequentiallyConsistent)
        let limit = 256
        let (taken, more) = self.messages.withLock { messages in
            if messages.count <= limit {
                defer { messages = [] }
                return (messages, false)
            }
            let first = Array(messages[..<limit])
            messages.removeFirst(limit)
            return (first, true)
        }
        for message in taken { message(owner) }
        if more { self.wake() }
    }
}

private final class MailboxSource: EventSource {
    private let deliver: () -> Void

    init(loop: EventLoop, fd: Int32, _ deliver: @escaping () -> Void) {
        self.deliver = deliver
        super.init(loop: loop, fd: fd)
    }

    override func ready(_ events: UInt32) { self.deliver() }
}

private let eventNonBlocking = 0x800
private let eventCloseOnExec = 0x80000
