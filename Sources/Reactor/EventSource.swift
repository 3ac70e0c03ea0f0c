/// Something an event loop watches: a connection, a listener, a mailbox, or only a time.
///
/// Belongs to one loop at a time and is touched on its thread only. A subclass overrides `ready` (a file
/// descriptor has events) and `deadlineReached`.
open class EventSource {
    /// How a source's input is read where the loop uses io_uring.
    enum InputMode: UInt8 {
        /// By the source itself, when it is told that there is some.
        case onEvent
        /// By the kernel, into the loop's buffers.
        case receive
        /// By the kernel; the input is connections.
        case accept
    }

    /// The loop this is attached to. The loop outlives its sources: it is released when its thread ends.
    final var attachedTo: Unmanaged<EventLoop>
    /// The loop this is attached to.
    public final var loop: EventLoop { self.attachedTo.takeUnretainedValue() }
    /// Uses the loop without counting a reference to it, which costs on the path of every byte.
    @inline(__always)
    final func withLoop<Result>(_ body: (EventLoop) -> Result) -> Result {
        self.attachedTo._withUnsafeGuaranteedRef(body)
    }

    /// The time at the start of this turn. Read from where the loop keeps it: going through `loop` would count a
    /// reference each time, and every query asks for the time.
    public final var now: MonotonicTime { self.clock.pointee }
    final var clock: UnsafePointer<MonotonicTime>
    /// The file descriptor, or -1.
    final var fd: Int32
    /// Names this source to the loop: generation in the upper half, slot in the lower. 0 while not attached.
    final var token: UInt64 = 0
    /// Events that are asked for now (`EPOLLIN`, …).
    final var interest: UInt32 = 0
    /// Whether any events are asked for. A source whose peer has hung up while it may not be read is taken out,
    /// because a level-triggered hang-up cannot be masked.
    final var isRegistered = false
    /// How input is read where the loop uses io_uring.
    final var inputMode = InputMode.onEvent
    /// What io_uring has been asked for, and the events of the poll among it.
    final var armed = ArmedOperations()
    final var polled = PolledEvents()
    /// When `deadlineReached` is due; `.max` is never.
    public private(set) final var deadline: MonotonicTime = .max
    /// The earliest entry of this source in the loop's timer heap; `.max` when there is none.
    final var scheduled: MonotonicTime = .max

    public init(loop: EventLoop, fd: Int32) {
        self.attachedTo = Unmanaged.passUnretained(loop)
        self.clock = UnsafePointer(loop.clock)
        self.fd = fd
    }

    /// Events of the descriptor (`EPOLLIN`, …).
    open func ready(_ events: UInt32) {}

    /// The deadline has passed; it is `.max` again when this is called.
    open func deadlineReached() {}

    /// Sets or clears (`.max`) the one deadline of this source. Moving it later, as happens with every query, costs
    /// a comparison: the heap's entry stays where it is and is put back when it turns out to be early.
    public final func setDeadline(_ time: MonotonicTime) {
        self.deadline = time
        if time < self.scheduled && self.token != 0 { self.loop.schedule(self) }
    }

    final func takeDeadline() { self.deadline = .max }
}

/// Calls a closure after a delay, once or repeatedly, on its loop's thread.
public final class Timer: EventSource {
    private let action: (Timer) -> Void

    /// A timer that fires first after `delay` microseconds. It lives until `cancel`.
    public init(loop: EventLoop, after delay: Int64, _ action: @escaping (Timer) -> Void) {
        self.action = action
        super.init(loop: loop, fd: -1)
        loop.attach(self, interest: 0)
        self.setDeadline(loop.now + delay)
    }

    public override func deadlineReached() { self.action(self) }

    /// Fires (again) after `delay` microseconds.
    public func restart(after delay: Int64) { self.setDeadline(self.loop.now + delay) }

    /// Stops the timer for good.
    public func cancel() { self.loop.detach(self) }
}
