import CLinux
import Glibc

/// Why a connection ended without being closed from here.
public enum Disconnect: Sendable, Equatable, CustomStringConvertible {
    /// The peer closed its side.
    case endOfFile
    /// A read or write failed; the kernel's `errno`.
    case failed(Int32)
    /// `connect` failed; the kernel's `errno`.
    case connectFailed(Int32)
    /// TLS could not be agreed upon, or the peer broke its rules.
    case tlsFailed(TLSError)

    public var description: String {
        switch self {
        case .endOfFile: "unexpected eof"
        case .failed(let code): String(cString: strerror(code))
        case .connectFailed(let code): String(cString: strerror(code))
        case .tlsFailed(let error): "TLS: \(error)"
        }
    }

    /// Whether the peer could be reached, but not in the way that TLS was asked for.
    public var isTLSFailure: Bool {
        switch self {
        case .endOfFile, .failed, .connectFailed: false
        case .tlsFailed: true
        }
    }
}

/// A stream socket on an event loop. A subclass says what the bytes mean.
///
///     connecting ──► open ──► flushing ──► lingering ──► closed
///         │           │ ▲         │             │           ▲
///         │           │ └ detach / attach (another loop)    │
///         └───────────┴───────────┴─────────────┴───────────┘
///
/// - open: bytes go both ways.
/// - flushing: `closeAfterFlush` was called; what is left to send is sent, nothing is read.
/// - lingering: everything is sent and the peer has been told; what it still sends is thrown away for a moment, so that
///   the kernel does not answer it with a reset which would overtake our last words.
///
/// An idle connection owns no buffer: reading uses the loop's, and output and held input live in blocks of the loop's
/// pool that are given back as soon as they are empty.
///
/// TLS is a stage between the socket and the subclass (`Connection+TLS`), which sees and sends plain bytes either way.
open class Connection: EventSource {
    /// Output above this makes the connection congested: whoever produces it stops reading its own socket.
    public static var highWater: Int { 64 * 1024 }
    /// `drained` is called when congested output has fallen to this.
    public static var lowWater: Int { 16 * 1024 }
    /// How long a closed connection is read from to avoid a reset, and how long it may take to send what is left.
    static var lingerTime: Int64 { 1_000_000 }
    static var flushTime: Int64 { 10_000_000 }

    enum State: UInt8 { case connecting, open, flushing, lingering, closed }

    final var state: State
    /// Whether reading was stopped with `pauseReading`.
    public internal(set) final var isReadingPaused = false
    /// Bytes have come in since reading was paused; they are among those held, and the session has not seen them.
    final var hasUnseenInput = false
    private final var isOffered = false
    /// Output has been above `highWater`, so somebody may wait for `drained`.
    private final var owesDrained = false
    final var isDelivering = false
    /// `redeliver` was called while bytes were being delivered.
    final var isRedeliveryDue = false
    /// Small reads in a row, while a bulk of data is expected.
    final var smallReads: UInt8 = 0
    /// The first error of a write, until a read or an event reports the end; 0 is none.
    final var writeError: Int32 = 0
    /// What the subclass has sent and the socket, or TLS, has not taken yet.
    final var output = ByteQueue()
    final var held = ByteQueue()
    /// Nil without TLS.
    final var tls: TLSStream?

    /// Bytes that may be held (presented, not consumed) before the socket is no longer read. A session that gathers a
    /// longer message raises it to the message's length, within `received`; the session bounds it.
    public final var holdLimit = 16 * 1024

    /// A connection over a connected socket.
    public init(loop: EventLoop, socket: consuming Socket) {
        self.state = .open
        super.init(loop: loop, fd: socket.take())
        self.inputMode = .receive
    }

    /// A connection over a socket whose `connect` is under way; `connected` or `disconnected` follows.
    public init(loop: EventLoop, connecting socket: consuming Socket) {
        self.state = .connecting
        super.init(loop: loop, fd: socket.take())
        self.inputMode = .receive
    }

    deinit {
        // Only a connection that was dropped without `close` still has a descriptor: on its way between two loops
        // when the process stops.
        if self.fd >= 0 { Glibc.close(self.fd) }
    }

    /// Begins to read.
    public final func start() { self.loop.attach(self, interest: self.wantedInterest) }

    // MARK: For the subclass to override

    /// `connect` has succeeded.
    open func connected() {}

    /// Bytes have arrived. They are valid during the call only. Returns how many were consumed; the rest is kept and
    /// presented again in front of what comes next (or by `redeliver`).
    open func received(_ bytes: Span<UInt8>) -> Int { bytes.count }

    /// Output that was congested has drained: called some time after each moment at which `isCongested` was true,
    /// unless the connection ends first.
    open func drained() {}

    /// TLS has been agreed upon; what `startTLS` asked for has been verified.
    open func secured() {}

    /// The peer is gone. Called once; the connection is closed already. Not called after `close`.
    open func disconnected(_ reason: Disconnect) {}

    // MARK: State

    /// Whether bytes can still be sent and received.
    public final var isOpen: Bool { self.state == .open }
    /// Whether everything is over; a connection that is only flushing or lingering counts as closed too.
    public final var isClosed: Bool { self.state.rawValue >= State.flushing.rawValue }
    /// Bytes that the socket has not taken yet.
    public final var pendingOutput: Int { self.output.count + (self.tls?.ciphertext.count ?? 0) }
    /// Bytes presented and not consumed.
    public final var heldInput: Int { self.held.count }
    /// Whether more output should wait until `drained`.
    public final var isCongested: Bool { self.output.count > Self.highWater }
    /// Bytes of memory this object takes by itself.
    public final var memorySize: Int { malloc_usable_size(Unmanaged.passUnretained(self).toOpaque()) }
    /// The socket's file descriptor, for options and for the console.
    public final var descriptor: Int32 { self.fd }

    // MARK: Sending

    /// Queues bytes; they leave in one system call at the end of the turn. Never blocks. Bytes for a
    /// closed connection are dropped.
    @inline(__always)
    public final func send(_ bytes: Span<UInt8>) {
        bytes.withUnsafeBytes { self.send($0) }
    }

    /// Queues bytes that were put together in an array.
    public final func send(_ bytes: [UInt8]) {
        bytes.withUnsafeBytes { self.send($0) }
    }

    private final func send(_ bytes: UnsafeRawBufferPointer) {
        guard self.state == .open || self.state == .connecting, bytes.count > 0 else { return }
        var rest = bytes
        // A large piece goes straight from where it is to the socket, without a copy.
        if bytes.count >= BufferPool.largeSize && self.state == .open && (self.output.isEmpty || self.isOffered) {
            if !self.output.isEmpty { self.write() }
            if self.output.isEmpty && self.state == .open {
                let sent =
                    self.tls.map { self.sendSealed(bytes, $0) } ?? martlet_send(self.fd, bytes.baseAddress, bytes.count)
                if sent == bytes.count {
                    // TLS has encrypted all of it, and the socket may not have taken all of that.
                    if self.pendingOutput > 0 { self.offer() }
                    return
                }
                if sent > 0 { rest = UnsafeRawBufferPointer(rebasing: bytes[sent...]) }
            }
        }
        self.withLoop { self.output.append(rest, &$0.buffers) }
        if self.isCongested { self.owesDrained = true }
        self.offer()
    }

    /// Has the output sent at the end of the turn, unless the socket has to take older output first.
    @inline(__always)
    final func offer() {
        if !self.isOffered && self.interest & UInt32(MARTLET_EPOLLOUT) == 0 && self.state == .open {
            self.isOffered = true
            self.withLoop { $0.offer(self) }
        }
    }

    /// Offers the output of a turn to the socket.
    final func flush() {
        self.isOffered = false
        guard self.state == .open else { return }
        if !self.isFlushed {
            self.write()
            self.updateInterest()
        }
        self.tellDrained()
    }

    /// The output of a turn, for the loop to send in this connection's place.
    final var sendableOutput: UnsafeRawBufferPointer {
        self.state == .open ? self.output.bytes : UnsafeRawBufferPointer(start: nil, count: 0)
    }

    /// The loop has sent so much of the output, or has failed with -errno.
    final func outputTaken(_ count: Int) {
        self.isOffered = false
        guard self.state == .open else { return }
        if count > 0 {
            self.withLoop { self.output.drop(count, &$0.buffers) }
        } else if count < 0 {
            errno = Int32(-count)
            self.writeFailed(-1)
        }
    }

    /// The output of a turn has been offered to the socket.
    final func flushed() {
        guard self.state == .open else { return }
        self.updateInterest()
        self.tellDrained()
    }

    /// Whether nothing is left that the socket could take.
    @inline(__always)
    private final var isFlushed: Bool { self.tls.map(self.isFlushed) ?? self.output.isEmpty }

    /// Calls `drained` if it is owed and due.
    @inline(__always)
    private final func tellDrained() {
        if self.owesDrained && self.output.count <= Self.lowWater {
            self.owesDrained = false
            self.drained()
        }
    }

    /// Writes once. Leaves what the socket does not take; an error is found by the next read or event.
    private final func write() {
        if let tls = self.tls { return self.writeSealed(tls) }
        let bytes = self.output.bytes
        let sent = martlet_send(self.fd, bytes.baseAddress, bytes.count)
        if sent > 0 {
            self.withLoop { self.output.drop(sent, &$0.buffers) }
        } else {
            self.writeFailed(sent)
        }
    }

    /// The peer cannot be reached; reading reports it. What is queued is worthless, and what is in the receive buffer
    /// (the peer's last words) is still to be read. The kernel tells an error only once.
    final func writeFailed(_ result: Int) {
        guard result < 0 && errno != EAGAIN && errno != EINTR else { return }
        if self.writeError == 0 { self.writeError = errno }
        self.output.clear(&self.loop.buffers)
        self.tls?.ciphertext.clear(&self.loop.buffers)
    }

    // MARK: Events

    private final var wantedInterest: UInt32 {
        switch self.state {
        case .connecting: return UInt32(MARTLET_EPOLLOUT)
        case .open:
            var events: UInt32 = 0
            if !self.isReadingPaused && self.held.count < self.holdLimit && !self.isTLSBusy {
                events |= UInt32(MARTLET_EPOLLIN)
            }
            if !self.isOffered && !self.isFlushed { events |= UInt32(MARTLET_EPOLLOUT) }
            return events
        case .flushing: return UInt32(MARTLET_EPOLLOUT)
        case .lingering: return UInt32(MARTLET_EPOLLIN)
        case .closed: return 0
        }
    }

    /// TLS itself has so much to say that the peer must read first, or its handshake has to wait for its turn.
    @inline(__always)
    private final var isTLSBusy: Bool {
        self.tls.map { $0.ciphertext.count > Self.highWater || $0.awaitsTurn } ?? false
    }

    @inline(__always)
    final func updateInterest() {
        let wanted = self.wantedInterest
        if wanted != self.interest || !self.isRegistered { self.loop.setInterest(self, wanted) }
    }

    public final override func ready(_ events: UInt32) {
        switch self.state {
        case .open:
            let token = self.token
            if events & UInt32(MARTLET_EPOLLOUT) != 0 { self.writable() }
            // `drained` may have closed the connection, or sent it to another loop.
            guard self.state == .open, self.token == token else { return }
            if events & ~UInt32(MARTLET_EPOLLOUT) != 0 {
                if self.interest & UInt32(MARTLET_EPOLLIN) != 0 {
                    self.readable()
                } else if events & UInt32(MARTLET_EPOLLERR) != 0 || (self.writeError != 0 && self.writeError != EPIPE) {
                    let code = self.socketError()
                    self.end(.failed(code != 0 ? code : self.writeError))
                } else {
                    // Hung up while not to be read: what it sent is read when reading is resumed.
                    self.loop.silence(self)
                    self.interest = 0
                }
            }
        case .connecting: self.finishConnecting()
        case .flushing: self.finishFlushing()
        case .lingering:
            let count = martlet_recv(self.fd, self.loop.readBuffer.baseAddress, self.loop.readBuffer.count)
            if count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR) { self.closeNow() }
        case .closed: return
        }
    }

    private final func writable() {
        self.write()
        self.updateInterest()
        self.tellDrained()
    }

    // MARK: Ending

    /// Ends the connection at once. `disconnected` is not called.
    public final func close() {
        guard self.state != .closed else { return }
        // Without this a TLS client has to think that somebody has cut the connection.
        if self.state == .open, let tls = self.tls { self.writeEnd(tls) }
        self.closeNow()
    }

    /// Tells the peer that this is the end, and nothing else: for a process that ends next, whose sockets io_uring may keep
    /// open for a while.
    public final func cut() {
        if self.fd >= 0 { Socket.cut(self.fd) }
    }

    /// Ends the connection when what was sent has left: the peer reads our last message and then the end.
    public final func closeAfterFlush() {
        switch self.state {
        case .connecting: self.closeNow()
        case .open:
            self.state = .flushing
            self.held.clear(&self.loop.buffers)
            // Nothing can be said before TLS has been agreed upon.
            if self.tls?.isEstablished == false { self.output.clear(&self.loop.buffers) }
            self.setDeadline(self.now + Self.flushTime)
            self.finishFlushing()
        case .flushing, .lingering, .closed: return
        }
    }

    private final func finishFlushing() {
        if !self.isFlushed { self.write() }
        if let tls = self.tls, self.output.isEmpty { self.writeEnd(tls) }
        guard self.isFlushed else { return self.updateInterest() }
        self.state = .lingering
        shutdown(self.fd, Int32(SHUT_WR))
        self.setDeadline(self.now + Self.lingerTime)
        self.updateInterest()
    }

    private final func finishConnecting() {
        let code = self.socketError()
        guard code == 0 else { return self.end(.connectFailed(code)) }
        self.state = .open
        self.connected()
        if self.state == .open { self.flushIfOffered() }
    }

    private final func flushIfOffered() {
        if !self.isOffered && !self.isFlushed { self.write() }
        self.updateInterest()
        self.tellDrained()
    }

    private final func socketError() -> Int32 {
        var code: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        if getsockopt(self.fd, Int32(MARTLET_SOL_SOCKET), Int32(MARTLET_SO_ERROR), &code, &length) < 0 {
            return errno
        }
        return code
    }

    final func end(_ reason: Disconnect) {
        self.closeNow()
        self.disconnected(reason)
    }

    final func closeNow() {
        self.state = .closed
        self.setDeadline(.max)
        self.output.clear(&self.loop.buffers)
        self.held.clear(&self.loop.buffers)
        if let tls = self.tls { tls.ciphertext.clear(&self.loop.buffers) }
        self.loop.detach(self, closesNext: self.fd >= 0)
        if self.fd >= 0 { Glibc.close(self.fd) }
        self.fd = -1
    }

    /// The subclass's deadline.
    open func timedOut() {}

    public final override func deadlineReached() {
        switch self.state {
        case .connecting, .open: self.timedOut()
        case .flushing, .lingering: self.closeNow()
        case .closed: return
        }
    }

    // MARK: From one loop to another

    /// Leaves this loop, so that `join` can be called on another loop's thread. Only a connection without held input
    /// and unsent output can leave, and not from within its own `received`, where more input may follow; else false.
    public final func leave() -> Bool {
        guard self.state == .open, self.held.isEmpty, self.pendingOutput == 0, !self.isDelivering else { return false }
        guard self.loop.release(self) else { return false }
        // A large piece takes the rest of the output along: it may be offered and have nothing left to send.
        if self.isOffered { self.loop.withdraw(self) }
        self.isOffered = false
        self.loop.detach(self)
        return true
    }

    /// Joins a loop, on that loop's thread.
    public final func join(_ loop: EventLoop) {
        loop.attach(self, interest: self.wantedInterest)
    }
}
