import CLinux
import Glibc

// How bytes get from the socket to the subclass: read here on an event, or by the kernel into a buffer of the loop;
// what the subclass does not consume is held and shown again.
extension Connection {
    /// Stops reading, because the other side of the pair is congested.
    public final func pauseReading() {
        guard !self.isReadingPaused else { return }
        self.isReadingPaused = true
        self.updateInterest()
    }

    /// Reads again.
    public final func resumeReading() {
        guard self.isReadingPaused else { return }
        self.isReadingPaused = false
        self.updateInterest()
        // Not from within whatever has made room.
        if self.hasUnseenInput { self.loop.later { self.showUnseenInput() } }
    }

    private final func showUnseenInput() {
        guard self.hasUnseenInput, !self.isReadingPaused else { return }
        self.hasUnseenInput = false
        self.redeliver()
    }

    /// Presents held bytes again, because the session can take them now. Called from within `received`, it takes
    /// effect when that has returned.
    public final func redeliver() {
        if self.isDelivering {
            self.isRedeliveryDue = true
            return
        }
        guard self.state == .open, !self.held.isEmpty else { return }
        self.deliverHeld()
        self.updateInterest()
    }

    /// Reads what is there already, without waiting for the loop to tell of it; right behind `start` only, since io_uring
    /// reads nothing before the loop waits, and after that is the one to read.
    public final func readAtOnce() {
        guard self.state == .open, self.interest & UInt32(MARTLET_EPOLLIN) != 0 else { return }
        self.readable()
    }

    final func readable() {
        if let tls = self.tls {
            self.readSealed(tls)
        } else if self.held.isEmpty {
            let buffer = self.withLoop { $0.readBuffer }
            let count = martlet_recv(self.fd, buffer.baseAddress, buffer.count)
            guard count > 0 else { return self.readFailed(count) }
            if self.inputMode == .onEvent { self.noteRead(count) }
            self.deliver(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
        } else {
            let wanted = self.wantedInput
            let room = self.withLoop { self.held.room(atLeast: wanted, &$0.buffers) }
            let count = martlet_recv(self.fd, room.baseAddress, min(room.count, EventLoop.readSize))
            guard count > 0 else { return self.readFailed(count) }
            self.held.commit(count)
            self.deliverHeld()
            self.updateInterest()
        }
    }

    /// The kernel has read bytes into a buffer of the loop (`InputMode.receive`).
    final func arrived(_ bytes: UnsafeRawBufferPointer) {
        guard self.state == .open else { return }
        if bytes.count == URing.bufferSize && self.tls == nil {
            // More of it is better read in larger pieces, and only as fast as it can be sent on.
            self.inputMode = .onEvent
            self.smallReads = 0
            self.loop.inputChanged(self)
        }
        if self.tls != nil {
            // On its way when TLS began.
            self.unseal(bytes)
        } else if self.isReadingPaused {
            // On its way when reading was paused: a few buffers at most.
            self.held.append(bytes, &self.loop.buffers)
            self.hasUnseenInput = true
        } else if self.held.isEmpty {
            self.deliver(bytes)
        } else {
            self.hasUnseenInput = false
            self.held.append(bytes, &self.loop.buffers)
            self.deliverHeld()
            self.updateInterest()
        }
    }

    /// The kernel reads no more: 0 is the peer's end, below it are errors. It begins anew by itself if input is still
    /// wanted, and so finds an end again that is not yet to be told.
    final func inputEnded(_ result: Int32) {
        switch self.state {
        case .open:
            if result == -ECANCELED || result == -ENOBUFS || result == -EINTR { return }
            if self.interest & UInt32(MARTLET_EPOLLIN) != 0 {
                errno = -result
                self.readFailed(result == 0 ? 0 : -1)
            } else if result < 0 && self.writeError == 0 {
                self.writeError = -result
            }
        case .lingering:
            if result != -ECANCELED && result != -ENOBUFS && result != -EINTR { self.closeNow() }
        case .connecting, .flushing, .closed: return
        }
    }

    /// Lets the kernel read again when the bulk of data is over.
    private final func noteRead(_ count: Int) {
        self.smallReads = count < URing.bufferSize ? self.smallReads &+ 1 : 0
        guard self.smallReads >= 8 else { return }
        self.smallReads = 0
        self.inputMode = .receive
        self.loop.inputChanged(self)
    }

    /// Room for what the session waits for, within what one read may take.
    final var wantedInput: Int {
        self.held.isEmpty ? EventLoop.readSize : min(max(self.holdLimit - self.held.count, 512), EventLoop.readSize)
    }

    /// Presents bytes that have just come, with none held before them.
    @inline(__always)
    private final func deliver(_ bytes: UnsafeRawBufferPointer) {
        self.isDelivering = true
        let isPlain = self.tls == nil
        let consumed = self.received(Span(_unsafeBytes: bytes))
        self.isDelivering = false
        if consumed < bytes.count && self.state == .open {
            let rest = UnsafeRawBufferPointer(rebasing: bytes[consumed...])
            if isPlain && self.tls != nil {
                self.isRedeliveryDue = false
                return self.unseal(rest)
            }
            self.held.append(rest, &self.loop.buffers)
            if self.isRedeliveryDue { self.deliverHeld() }
            self.updateInterest()
        }
        self.isRedeliveryDue = false
    }

    /// Presents decrypted bytes, behind those held.
    final func deliverUnsealed(_ bytes: UnsafeRawBufferPointer) {
        if self.held.isEmpty { return self.deliver(bytes) }
        self.withLoop { self.held.append(bytes, &$0.buffers) }
        self.deliverHeld()
        self.updateInterest()
    }

    final func readFailed(_ count: Int) {
        if count < 0 && (errno == EAGAIN || errno == EINTR) { return }
        let code = count < 0 ? errno : self.writeError
        self.end(code == 0 || code == EPIPE ? .endOfFile : .failed(code))
    }

    /// Presents the held bytes. They are moved out of `self` for the call, because the session may close the
    /// connection in it.
    private final func deliverHeld() {
        var bytes = ByteQueue()
        swap(&bytes, &self.held)
        let isPlain = self.tls == nil
        self.isDelivering = true
        repeat {
            self.isRedeliveryDue = false
            let consumed = self.received(Span(_unsafeBytes: bytes.bytes))
            self.withLoop { bytes.drop(consumed, &$0.buffers) }
        } while self.isRedeliveryDue && !bytes.isEmpty && self.state == .open
        self.isDelivering = false
        self.isRedeliveryDue = false
        if self.state == .open {
            if isPlain && self.tls != nil {
                self.unseal(bytes.bytes)
            } else {
                swap(&bytes, &self.held)
            }
        }
        self.withLoop { bytes.clear(&$0.buffers) }
    }
}
