import CLinux
import Glibc

// The stage between the socket and the subclass. What was read is decrypted from the loop's read buffer into another
// of the loop's buffers; what a turn has sent is encrypted at its end, into few records, and leaves in one system call.
extension Connection {
    // MARK: For the subclass

    /// From here on everything is TLS, with us as the server. Within `received`, the bytes that it does not consume are
    /// the first of the handshake. What was sent before leaves in clear; what is sent from now on waits until
    /// `secured`.
    ///
    /// - Parameter requiresProtocolName: the client has to name PostgreSQL's protocol (ALPN).
    public final func startTLS(_ context: TLSContext, requiresProtocolName: Bool) {
        self.startTLS(TLSStream(context, server: nil, requiresProtocolName: requiresProtocolName))
    }

    /// From here on everything is TLS, with us as the client. Begins the handshake.
    ///
    /// - Parameter server: whom this connection is meant to reach.
    public final func startTLS(_ context: TLSContext, server: TLSServerName) {
        self.startTLS(TLSStream(context, server: server, requiresProtocolName: server.isDirect))
        self.unseal(UnsafeRawBufferPointer(start: nil, count: 0))
    }

    private final func startTLS(_ tls: TLSStream) {
        guard self.state == .open, self.tls == nil else { return }
        swap(&tls.ciphertext, &self.output)
        self.tls = tls
        // Read as its handshake gets its turn, and decrypted from where it is read.
        self.inputMode = .onEvent
        self.loop.inputChanged(self)
    }

    /// What was agreed upon; nil without TLS, and before `secured`. Asks OpenSSL, so not for the path of a query.
    public final var tlsDetails: TLSDetails? { self.tls?.details }
    /// Whether TLS is in force.
    public final var isSecured: Bool { self.tls?.isEstablished ?? false }

    // MARK: Reading

    final func readSealed(_ tls: TLSStream) {
        if !tls.isEstablished && !self.withLoop({ $0.takeHandshake(self) }) {
            tls.awaitsTurn = true
            return self.updateInterest()
        }
        let buffer = self.withLoop { $0.readBuffer }
        let count = martlet_recv(self.fd, buffer.baseAddress, self.wantedInput)
        guard count > 0 else { return self.readFailed(count) }
        self.unseal(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
    }

    /// It is this connection's turn to go on with its handshake.
    final func stepHandshake() {
        guard let tls = self.tls else { return }
        tls.awaitsTurn = false
        guard self.state == .open else { return }
        self.updateInterest()
        self.readSealed(tls)
    }

    /// Takes ciphertext from the network: through the handshake, or as bytes for the subclass.
    final func unseal(_ bytes: UnsafeRawBufferPointer) {
        guard let tls = self.tls else { return }
        let buffers = self.withLoop { $0.tlsBuffers }
        buffers.input = bytes
        if !tls.isEstablished {
            var progress = tls.handshake(buffers)
            self.queueSealed(tls, buffers)
            while case .full = progress {
                progress = tls.handshake(buffers)
                self.queueSealed(tls, buffers)
            }
            switch progress {
            case .more, .full: return self.updateInterest()
            case .failed(let error): return self.endTLS(tls, error)
            case .done: break
            }
            let rest = buffers.input
            self.secured()
            guard self.state == .open else { return }
            if self.output.count > 0 { self.offer() }
            guard rest.count > 0 else { return self.updateInterest() }
            buffers.input = rest
        }
        let (count, end) = tls.read(buffers)
        if !buffers.sealed.isEmpty { self.queueSealed(tls, buffers) }
        if count > 0 { self.deliverUnsealed(UnsafeRawBufferPointer(rebasing: buffers.plain[..<count])) }
        guard self.state == .open else { return }
        switch end {
        case .none: self.updateInterest()
        case .closed: self.end(.endOfFile)
        case .failed(let error): self.endTLS(tls, error)
        }
    }

    /// Tells the peer why, if the socket takes it now, and ends.
    private final func endTLS(_ tls: TLSStream, _ error: TLSError) {
        self.output.clear(&self.loop.buffers)
        self.sendQueued(tls)
        self.end(.tlsFailed(error))
    }

    // MARK: Sending

    /// Whether nothing is left that the socket could take: during the handshake output has to wait.
    final func isFlushed(_ tls: TLSStream) -> Bool {
        tls.ciphertext.isEmpty && (self.output.isEmpty || !tls.isEstablished)
    }

    /// Keeps what TLS has written until the end of the turn, when it leaves along with the output.
    private final func queueSealed(_ tls: TLSStream, _ buffers: TLSBuffers) {
        guard !buffers.sealed.isEmpty else { return }
        self.withLoop { tls.ciphertext.append(buffers.sealed, &$0.buffers) }
        buffers.clearSealed()
        self.offer()
    }

    /// Encrypts and writes until the socket takes no more.
    final func writeSealed(_ tls: TLSStream) {
        let buffers = self.withLoop { $0.tlsBuffers }
        if !tls.ciphertext.isEmpty {
            // A ticket, say: the answer to the client's first message goes along.
            if tls.isEstablished && self.output.count > 0 && tls.ciphertext.count < TLSStream.recordSize {
                let used = tls.seal(self.output.bytes, buffers)
                self.withLoop {
                    self.output.drop(used, &$0.buffers)
                    tls.ciphertext.append(buffers.sealed, &$0.buffers)
                }
                buffers.clearSealed()
            }
            guard self.sendQueued(tls) else { return }
        }
        guard !self.output.isEmpty, tls.isEstablished else { return }
        let used = self.sendSealed(self.output.bytes, tls)
        self.withLoop { self.output.drop(used, &$0.buffers) }
    }

    /// Sends what is queued; false if some is left.
    @discardableResult
    private final func sendQueued(_ tls: TLSStream) -> Bool {
        let bytes = tls.ciphertext.bytes
        guard bytes.count > 0 else { return true }
        let sent = martlet_send(self.fd, bytes.baseAddress, bytes.count)
        if sent > 0 {
            self.withLoop { tls.ciphertext.drop(sent, &$0.buffers) }
        } else {
            self.writeFailed(sent)
        }
        return tls.ciphertext.isEmpty
    }

    /// Encrypts bytes and writes them; what the socket does not take of a piece is queued, and no further piece begun.
    /// Returns how many of the bytes are done with.
    final func sendSealed(_ bytes: UnsafeRawBufferPointer, _ tls: TLSStream) -> Int {
        guard tls.isEstablished else { return 0 }
        let buffers = self.withLoop { $0.tlsBuffers }
        var done = 0
        while done < bytes.count && tls.ciphertext.isEmpty {
            let used = tls.seal(UnsafeRawBufferPointer(rebasing: bytes[done...]), buffers)
            let sealed = buffers.sealed
            let sent = martlet_send(self.fd, sealed.baseAddress, sealed.count)
            if sent < sealed.count {
                let rest = UnsafeRawBufferPointer(rebasing: sealed[max(sent, 0)...])
                // Before `writeFailed`, which throws it away again if it will never leave.
                let code = errno
                self.withLoop { tls.ciphertext.append(rest, &$0.buffers) }
                errno = code
                self.writeFailed(sent)
            }
            buffers.clearSealed()
            // What cannot be encrypted or sent is worthless; reading reports the end.
            if used == 0 || (sent < 0 && tls.ciphertext.isEmpty) { return bytes.count }
            done += used
        }
        return done
    }

    /// Says that nothing more comes, once.
    final func writeEnd(_ tls: TLSStream) {
        guard tls.isEstablished else { return }
        let buffers = self.withLoop { $0.tlsBuffers }
        tls.sealEnd(buffers)
        self.withLoop { tls.ciphertext.append(buffers.sealed, &$0.buffers) }
        buffers.clearSealed()
        self.sendQueued(tls)
    }
}
