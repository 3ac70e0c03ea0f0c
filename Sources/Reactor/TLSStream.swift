import COpenSSL

/// The TLS of one connection: OpenSSL's state, and ciphertext that the socket has not taken.
///
///     waiting ──► handshaking ──► established ──► ended
///                      └───────────────────────────┘
///
/// - waiting: a client has been told that it may begin. OpenSSL's state, of some ten kilobytes, is made when it does.
///
/// It moves with its connection from loop to loop; the buffers are those of the loop it is on.
final class TLSStream {
    /// Plaintext of one record, at most.
    static let recordSize = 16 * 1024
    /// What a record adds, at most: header, initialization vector, authentication, padding, in all versions.
    static let recordOverhead = 320

    enum Phase: UInt8 { case waiting, handshaking, established, ended }

    /// How a handshake goes on.
    enum Progress {
        /// The peer has to say something.
        case more
        /// What is to be sent fills the buffers: take it out, and call again.
        case full
        case done
        case failed(TLSError)
    }

    /// How reading ended.
    enum End {
        case none
        /// The peer has said that nothing more comes.
        case closed
        case failed(TLSError)
    }

    private let context: TLSContext
    /// The server that this is a connection to; nil as a server.
    private let server: TLSServerName?
    /// The client must name the protocol, because nothing else has said that it means us.
    private let requiresProtocolName: Bool
    private var ssl: OpaquePointer?
    private var bio: OpaquePointer?
    private(set) var phase = Phase.waiting
    /// The next step of the handshake is up to the loop.
    var awaitsTurn = false
    /// Bytes for the socket.
    var ciphertext = ByteQueue()

    init(_ context: TLSContext, server: TLSServerName?, requiresProtocolName: Bool) {
        self.context = context
        self.server = server
        self.requiresProtocolName = requiresProtocolName
    }

    deinit {
        // A session is resumed also when its connection has ended without the word for it: PostgreSQL ends clearly enough.
        if self.phase == .established { SSL_set_shutdown(self.ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN) }
        // Owns `bio`, too.
        SSL_free(self.ssl)
    }

    @inline(__always)
    var isEstablished: Bool { self.phase == .established }

    private func begin() throws(TLSError) {
        guard let ssl = self.context.makeSSL(), let bio = TLSBuffers.makeBIO() else {
            throw TLSError(openSSLReason())
        }
        self.ssl = ssl
        self.bio = bio
        SSL_set_bio(ssl, bio, bio)
        self.phase = .handshaking
        guard let server else {
            return SSL_set_accept_state(ssl)
        }
        SSL_set_connect_state(ssl)
        SSL_set_ex_data(ssl, 0, Unmanaged.passUnretained(self).toOpaque())
        try server.apply(to: ssl)
        if let session = self.context.takeSession(for: server.key) {
            SSL_set_session(ssl, session)
            SSL_SESSION_free(session)
        }
    }

    /// The buffers belong to the loop, which may be another one than last time.
    private func use(_ buffers: TLSBuffers) {
        BIO_set_data(self.bio, Unmanaged.passUnretained(buffers).toOpaque())
        ERR_clear_error()
    }

    // MARK: Handshake

    /// Goes on with the handshake: takes from the buffers' `input` and leaves in `sealed` what is to be sent.
    func handshake(_ buffers: TLSBuffers) -> Progress {
        guard self.phase != .ended else { return .failed(TLSError("has ended")) }
        if self.ssl == nil {
            do throws(TLSError) {
                try self.begin()
            } catch {
                self.phase = .ended
                return .failed(error)
            }
        }
        self.use(buffers)
        let result = SSL_do_handshake(self.ssl)
        if result == 1 {
            if self.requiresProtocolName && !self.hasProtocolName {
                self.phase = .ended
                return .failed(TLSError("direct TLS connection without ALPN protocol negotiation"))
            }
            self.phase = .established
            return .done
        }
        switch SSL_get_error(self.ssl, result) {
        case SSL_ERROR_WANT_READ: return .more
        case SSL_ERROR_WANT_WRITE: return .full
        default: return .failed(self.failure())
        }
    }

    private var hasProtocolName: Bool {
        var name: UnsafePointer<UInt8>?
        var length: UInt32 = 0
        SSL_get0_alpn_selected(self.ssl, &name, &length)
        return length > 0
    }

    /// What OpenSSL says about the failure; the connection is of no use then.
    private func failure() -> TLSError {
        self.phase = .ended
        let isVerification = ERR_GET_REASON(ERR_peek_last_error()) == SSL_R_CERTIFICATE_VERIFY_FAILED
        let reason = openSSLReason()
        let result = SSL_get_verify_result(self.ssl)
        guard isVerification, let text = X509_verify_cert_error_string(result) else { return TLSError(reason) }
        return TLSError("\(reason): \(String(cString: text))")
    }

    // MARK: Bytes

    /// Decrypts what is in the buffers' `input`, all of it, to the front of `plain`.
    func read(_ buffers: TLSBuffers) -> (count: Int, end: End) {
        self.use(buffers)
        var total = 0
        // Another call would say that there is nothing more; it is spared in the usual case.
        while buffers.input.count > 0 || SSL_pending(self.ssl) > 0 {
            guard let start = buffers.plain.baseAddress, total < buffers.plain.count else { break }
            let count = SSL_read(self.ssl, start + total, Int32(truncatingIfNeeded: buffers.plain.count - total))
            if count > 0 {
                total += Int(count)
                continue
            }
            switch SSL_get_error(self.ssl, count) {
            case SSL_ERROR_WANT_READ: return (total, .none)
            case SSL_ERROR_ZERO_RETURN:
                self.phase = .ended
                return (total, .closed)
            default: return (total, .failed(self.failure()))
            }
        }
        return (total, .none)
    }

    /// Encrypts from the front of `bytes` as much as the buffers' `sealed` takes. Returns how much that was; 0 is a
    /// failure.
    func seal(_ bytes: UnsafeRawBufferPointer, _ buffers: TLSBuffers) -> Int {
        self.use(buffers)
        var used = 0
        while used < bytes.count && buffers.room >= Self.recordSize + Self.recordOverhead {
            guard let start = bytes.baseAddress else { break }
            let count = SSL_write(self.ssl, start + used, Int32(min(bytes.count - used, Self.recordSize)))
            guard count > 0 else {
                ERR_clear_error()
                self.phase = .ended
                break
            }
            used += Int(count)
        }
        return used
    }

    /// Tells the peer, in `sealed`, that nothing more comes.
    func sealEnd(_ buffers: TLSBuffers) {
        guard self.phase == .established else { return }
        self.use(buffers)
        _ = SSL_shutdown(self.ssl)
        ERR_clear_error()
        self.phase = .ended
    }

    // MARK: Sessions

    func remember(_ session: OpaquePointer) -> Bool {
        guard let server else { return false }
        self.context.remember(session, for: server.key)
        return true
    }

    // MARK: For the session and the console

    /// What is known of the connection once the handshake is over.
    var details: TLSDetails? {
        guard let ssl, self.phase == .established else { return nil }
        return TLSDetails(ssl, isServer: self.server == nil)
    }
}
