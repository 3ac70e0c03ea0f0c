import Glibc
import HeapModule

/// One thread's event loop: waits for sockets and timers and calls their sources.
///
/// Everything attached to it is touched on its thread alone. A turn is: wait, read the clock once, call the sources
/// with events, call those whose deadline has passed. What callbacks send leaves when all of them have returned,
/// one system call for each connection.
public final class EventLoop {
    /// The bits of a token that name a slot. Above them are four that are zero, for `URing`.
    private static let slotMask: UInt64 = 0x0fff_ffff
    /// Bytes read from a socket at once.
    static let readSize = 64 * 1024

    /// The time at the start of this turn.
    public private(set) var now: MonotonicTime {
        get { self.clock.pointee }
        set { self.clock.pointee = newValue }
    }
    let clock = UnsafeMutablePointer<MonotonicTime>.allocate(capacity: 1)

    private let backend: Backend
    private var slots: [Slot] = []
    private var freeSlots: [UInt32] = []
    private var timers = Heap<TimerEntry>()
    private var isStopped = false

    /// The one buffer into which every connection of this loop is read.
    let readBuffer: UnsafeMutableRawBufferPointer
    var buffers = BufferPool()
    /// What TLS connections pass their bytes through; made with the first of them.
    private(set) lazy var tlsBuffers = TLSBuffers()
    /// When this turn took its first step of a TLS handshake; nil before it.
    private var handshakesBegan: MonotonicTime?
    /// Connections whose next step has to wait for a later turn, in their order. They are not read meanwhile: their
    /// events would come again in every turn, and a storm of them would keep those of others waiting.
    private var handshakes: [Connection] = []
    /// A step is up to a few milliseconds of arithmetic (RSA): behind the first, others are taken for so many
    /// microseconds of a turn only, and everybody else waits for one of them at most.
    static let handshakeTime: Int64 = 200
    /// Deadlines that are served in a turn. One may close a connection and free its TLS, and those of a crowd that came
    /// together pass together: everybody else waits for so many of them at most.
    static let deadlinesPerTurn = 16
    private var actions: [() -> Void] = []
    /// Connections with output that has not been offered to their socket yet.
    var unsent: [Connection] = []
    /// Sources of which io_uring has not taken all operations; they are tried again in the next turn.
    var unarmed: [EventSource] = []
    /// Connections whose output io_uring has been given, and how much of it the socket has taken.
    var sending: [(connection: Connection, sent: Int)] = []

    /// What tells it of events.
    private enum Backend {
        case epoll(Epoll)
        case ioURing(URing)
    }

    private struct Slot {
        var source: EventSource?
        var generation: UInt32
    }

    private struct TimerEntry: Comparable {
        var time: MonotonicTime
        var token: UInt64
        static func < (a: TimerEntry, b: TimerEntry) -> Bool { a.time < b.time }
    }

    /// Creates the loop on the thread that will run it. Throws when the kernel has no descriptor left, or does not allow
    /// this kind.
    public init(_ kind: EventLoopKind = .epoll) throws(SystemError) {
        switch kind {
        case .epoll: self.backend = .epoll(try Epoll())
        case .ioURing: self.backend = .ioURing(try URing())
        }
        self.clock.initialize(to: monotonicNow())
        self.readBuffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.readSize, alignment: 64)
    }

    deinit {
        self.readBuffer.deallocate()
        self.clock.deallocate()
    }

    // MARK: Sources

    /// Begins to watch a source. The loop keeps it alive until `detach`.
    func attach(_ source: EventSource, interest: UInt32) {
        let index: UInt32
        if let free = self.freeSlots.popLast() {
            index = free
        } else {
            index = UInt32(self.slots.count)
            self.slots.append(Slot(source: nil, generation: 1))
        }
        self.slots[Int(index)].source = source
        source.attachedTo = Unmanaged.passUnretained(self)
        source.clock = UnsafePointer(self.clock)
        source.token = UInt64(self.slots[Int(index)].generation) << 32 | UInt64(index) & Self.slotMask
        source.scheduled = .max
        source.interest = 0
        source.isRegistered = false
        source.armed = []
        self.setInterest(source, interest)
        if source.deadline != .max { self.schedule(source) }
    }

    /// Stops watching a source. Its descriptor stays open, unless the caller closes it next: epoll forgets it by itself
    /// then, as there is no other copy of it (they are all closed on exec).
    func detach(_ source: EventSource, closesNext: Bool = false) {
        guard source.token != 0 else { return }
        if case .epoll = self.backend, closesNext { source.isRegistered = false }
        self.silence(source)
        let index = Int(source.token & Self.slotMask)
        source.token = 0
        source.scheduled = .max
        // A new generation makes timer entries and events of this turn that still name the slot harmless.
        self.slots[index].generation &+= 1
        if self.slots[index].generation == 0 { self.slots[index].generation = 1 }
        self.slots[index].source = nil
        self.freeSlots.append(UInt32(index))
    }

    /// Asks for these events of a source.
    func setInterest(_ source: EventSource, _ interest: UInt32) {
        guard source.fd >= 0, source.token != 0 else { return }
        if source.isRegistered && source.interest == interest { return }
        if case .epoll(let epoll) = self.backend { epoll.watch(source, interest) }
        source.interest = interest
        source.isRegistered = true
        if case .ioURing(let ring) = self.backend { self.arm(source, ring) }
    }

    /// Asks for no events of a source until `setInterest` is called.
    func silence(_ source: EventSource) {
        guard source.isRegistered else { return }
        if case .epoll(let epoll) = self.backend { epoll.forget(source) }
        source.isRegistered = false
        source.interest = 0
        if case .ioURing(let ring) = self.backend { self.arm(source, ring) }
    }

    /// The way in which a source's input is read has changed (`EventSource.inputMode`).
    func inputChanged(_ source: EventSource) {
        if case .ioURing(let ring) = self.backend, source.token != 0 { self.arm(source, ring) }
    }

    /// Makes sure that nothing reads a source any more, so that it can go to another loop. False if something has been
    /// read that its source has not been given yet.
    func release(_ source: EventSource) -> Bool {
        guard case .ioURing(let ring) = self.backend else { return true }
        return self.disarm(source, ring)
    }

    func source(of token: UInt64) -> EventSource? {
        let index = Int(token & Self.slotMask)
        guard index < self.slots.count, self.slots[index].generation == UInt32(token >> 32) else { return nil }
        return self.slots[index].source
    }

    // MARK: Timers

    func schedule(_ source: EventSource) {
        source.scheduled = source.deadline
        self.timers.insert(TimerEntry(time: source.deadline, token: source.token))
        // A source has one entry that counts. Those it has left behind (closed, or a later deadline that an earlier
        // one overtook) would pile up until their time comes.
        if self.timers.count > 2 * (self.slots.count - self.freeSlots.count) + 64 { self.dropStaleTimers() }
    }

    private func dropStaleTimers() {
        var live: [TimerEntry] = []
        for slot in self.slots {
            guard let source = slot.source, source.scheduled != .max else { continue }
            live.append(TimerEntry(time: source.scheduled, token: source.token))
        }
        self.timers = Heap(live)
    }

    /// Entries in the timer heap, for tests.
    var timerCount: Int { self.timers.count }

    private func fireTimers() {
        for _ in 0..<Self.deadlinesPerTurn {
            guard let first = self.timers.min, first.time <= self.now else { return }
            self.timers.removeMin()
            guard let source = self.source(of: first.token), source.scheduled == first.time else { continue }
            source.scheduled = .max
            if source.deadline <= self.now {
                source.takeDeadline()
                source.deadlineReached()
                self.flush()
            } else if source.deadline != .max {
                self.schedule(source)
            }
        }
    }

    /// Microseconds until the next timer; nil when there is none.
    private func timeout() -> Int64? {
        if !self.handshakes.isEmpty || !self.unarmed.isEmpty { return 0 }
        guard let first = self.timers.min else { return nil }
        return max(first.time - self.now, 0)
    }

    // MARK: Later

    /// Calls an action when the callbacks of this turn are over: for what cannot be done from inside a connection's
    /// own callback, such as taking it away from this loop.
    public func later(_ action: @escaping () -> Void) { self.actions.append(action) }

    private func callActions() {
        while !self.actions.isEmpty {
            let actions = self.actions
            self.actions = []
            for action in actions {
                action()
                self.flush()
            }
        }
    }

    // MARK: Output

    func offer(_ connection: Connection) { self.unsent.append(connection) }

    /// Takes an offer back.
    func withdraw(_ connection: Connection) { self.unsent.removeAll { $0 === connection } }

    /// Sends what callbacks have left behind. With io_uring that is done once a turn, when all of them are over.
    @inline(__always)
    private func flush() {
        guard case .epoll = self.backend else { return }
        while let connection = self.unsent.popLast() { connection.flush() }
    }

    // MARK: TLS

    /// Whether the next step of a connection's handshake may be taken in this turn; if not, `stepHandshake` is called
    /// in a later one.
    func takeHandshake(_ connection: Connection) -> Bool {
        if self.mayStepHandshake() { return true }
        self.handshakes.append(connection)
        return false
    }

    private func mayStepHandshake() -> Bool {
        let now = monotonicNow()
        guard let began = self.handshakesBegan else {
            self.handshakesBegan = now
            return true
        }
        return now - began < Self.handshakeTime
    }

    /// Begins a turn with those that have been waiting.
    private func stepHandshakes() {
        self.handshakesBegan = nil
        guard !self.handshakes.isEmpty else { return }
        // A step asks for leave itself; who does not get it waits at the end, among those of this turn.
        let count = self.handshakes.count
        var taken = 0
        while taken < count, self.mayStepHandshake() {
            self.handshakes[taken].stepHandshake()
            taken += 1
        }
        self.handshakes.removeFirst(taken)
    }

    // MARK: Running

    /// Runs until `stop`.
    public func run() {
        // What was sent before the loop runs.
        self.flush()
        while !self.isStopped {
            switch self.backend {
            case .epoll(let epoll): self.take(epoll)
            case .ioURing(let ring): self.take(ring)
            }
            // Not after each source: a send wakes its reader, who may take this thread's core in the middle of the
            // turn. So the turn is worked off first, which is 1 to 4 % less CPU for each query.
            self.flush()
            self.fireTimers()
            self.callActions()
        }
        for connection in self.unsent { connection.flush() }
        self.unsent = []
        // Sources and what they refer to form cycles; they end with the loop.
        for index in self.slots.indices { self.slots[index].source = nil }
        self.handshakes = []
        self.unarmed = []
    }

    /// Waits for events and calls their sources.
    private func take(_ epoll: Epoll) {
        let count = epoll.wait(self.timeout())
        self.now = monotonicNow()
        self.stepHandshakes()
        var index = 0
        while index < count {
            let (token, events) = epoll.event(index)
            if let source = self.source(of: token) { source.ready(events) }
            index += 1
        }
    }

    private func take(_ ring: URing) {
        self.queueOutput(ring)
        ring.wait(self.timeout())
        self.now = monotonicNow()
        // First of all, since what has left is output still.
        self.takeSent(ring)
        self.stepHandshakes()
        self.rearm(ring)
        while let completion = ring.next() { self.take(completion, ring) }
    }

    /// Ends `run` after this turn.
    public func stop() { self.isStopped = true }
}
