import COpenSSL
import Synchronization

/// Certificates, keys and rules of one side, read once and used by the connections of all loops.
///
/// Sendable, because OpenSSL counts references to an `SSL_CTX` and guards what it changes by itself, nothing is
/// configured after `init`, and the sessions are behind a lock.
public final class TLSContext: @unchecked Sendable {
    /// PostgreSQL's name in the handshake (ALPN), as on the wire: length, then text.
    static let protocolName: [UInt8] = [10] + Array("postgresql".utf8)
    /// Servers whose session is remembered; another one takes an arbitrary place.
    static let sessionLimit = 256

    let role: TLSOptions.Role
    private let context: OpaquePointer
    /// Sessions that a server has offered to resume, by who it is and how it was verified.
    private let sessions = Mutex<[String: Session]>([:])

    /// Sendable, because OpenSSL guards sessions by itself.
    struct Session: @unchecked Sendable { let pointer: OpaquePointer }

    /// Reads certificates and keys.
    ///
    /// - Throws: a text that names the file and OpenSSL's reason.
    public init(_ options: TLSOptions) throws(TLSError) {
        ERR_clear_error()
        let method = options.role == .server ? TLS_server_method() : TLS_client_method()
        guard let context = SSL_CTX_new(method) else { throw TLSError("OpenSSL: \(openSSLReason())") }
        self.role = options.role
        self.context = context
        self.applyModes()
        try self.apply(options)
        try self.loadOwn(options)
        try self.loadAuthorities(options)
    }

    deinit {
        for session in self.sessions.withLock({ Array($0.values) }) { SSL_SESSION_free(session.pointer) }
        SSL_CTX_free(self.context)
    }

    // MARK: Rules

    private func applyModes() {
        // An idle connection keeps no buffer, and what is sent may have moved since it was offered first.
        martlet_ssl_ctx_set_mode(
            self.context,
            Int(SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE)
                | Int(SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER))
        _ = SSL_CTX_set_options(self.context, martlet_ssl_op_always)
        SSL_CTX_set_default_passwd_cb(self.context) { _, _, _, _ in 0 }
        switch self.role {
        case .server:
            // Clients keep their sessions themselves, in tickets; one is enough for one connection.
            martlet_ssl_ctx_set_session_cache(self.context, Int(SSL_SESS_CACHE_OFF))
            _ = SSL_CTX_set_num_tickets(self.context, 1)
            _ = Self.protocolName.withUnsafeBufferPointer {
                SSL_CTX_set_session_id_context(self.context, $0.baseAddress, UInt32($0.count))
            }
            SSL_CTX_set_alpn_select_cb(self.context, selectProtocol, nil)
        case .client:
            martlet_ssl_ctx_set_session_cache(
                self.context, Int(SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL))
            SSL_CTX_sess_set_new_cb(self.context, rememberSession)
            _ = Self.protocolName.withUnsafeBufferPointer {
                SSL_CTX_set_alpn_protos(self.context, $0.baseAddress, UInt32($0.count))
            }
        }
    }

    private func apply(_ options: TLSOptions) throws(TLSError) {
        try self.apply(options.versions)
        var ciphers = options.ciphers ?? "DEFAULT"
        if options.curves == "" { ciphers += ":!kECDHE" }
        if options.diffieHellman == .none { ciphers += ":!kDHE" }
        if ciphers != "DEFAULT" && SSL_CTX_set_cipher_list(self.context, ciphers) != 1 {
            throw TLSError("ciphers \"\(ciphers)\": \(openSSLReason())")
        }
        if let suites = options.cipherSuites, SSL_CTX_set_ciphersuites(self.context, suites) != 1 {
            throw TLSError("TLS 1.3 ciphers \"\(suites)\": \(openSSLReason())")
        }
        if let curves = options.curves, !curves.isEmpty, martlet_ssl_ctx_set_groups(self.context, curves) != 1 {
            throw TLSError("unknown elliptic curve \"\(curves)\"")
        }
        martlet_ssl_ctx_set_dh_auto(self.context, options.diffieHellman.rawValue)
        switch options.clientCertificate {
        case .ignored: break
        case .wanted: SSL_CTX_set_verify(self.context, SSL_VERIFY_PEER, nil)
        case .required: SSL_CTX_set_verify(self.context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nil)
        }
    }

    private func apply(_ versions: TLSOptions.Versions) throws(TLSError) {
        let known: [(version: TLSOptions.Versions, number: Int32, off: UInt64)] = [
            (.v10, TLS1_VERSION, martlet_ssl_op_no_tls1), (.v11, TLS1_1_VERSION, martlet_ssl_op_no_tls1_1),
            (.v12, TLS1_2_VERSION, martlet_ssl_op_no_tls1_2), (.v13, TLS1_3_VERSION, martlet_ssl_op_no_tls1_3),
        ]
        let wanted = known.filter { versions.contains($0.version) }
        guard let least = wanted.first, let most = wanted.last else { throw TLSError("no TLS protocol is allowed") }
        guard martlet_ssl_ctx_set_versions(self.context, least.number, most.number) == 1 else {
            throw TLSError("OpenSSL does not speak these TLS protocols: \(openSSLReason())")
        }
        for version in known where !versions.contains(version.version) {
            _ = SSL_CTX_set_options(self.context, version.off)
        }
    }

    // MARK: Certificates

    private func loadOwn(_ options: TLSOptions) throws(TLSError) {
        guard let file = options.certificates, let keyFile = options.key else { return }
        let certificates = try readCertificates(file)
        defer { for certificate in certificates { X509_free(certificate) } }
        guard SSL_CTX_use_certificate(self.context, certificates[0]) == 1 else {
            throw TLSError("\(file.name): \(openSSLReason())")
        }
        for certificate in certificates.dropFirst() {
            _ = martlet_ssl_ctx_add_chain_certificate(self.context, certificate)
        }
        let key = withMemoryBIO(keyFile.bytes) { PEM_read_bio_PrivateKey($0, nil, { _, _, _, _ in 0 }, nil) }
        guard let key else { throw TLSError("\(keyFile.name): no private key can be read: \(openSSLReason())") }
        defer { EVP_PKEY_free(key) }
        guard SSL_CTX_use_PrivateKey(self.context, key) == 1, SSL_CTX_check_private_key(self.context) == 1 else {
            throw TLSError("\(keyFile.name) does not belong to \(file.name): \(openSSLReason())", isUnfitPair: true)
        }
    }

    private func loadAuthorities(_ options: TLSOptions) throws(TLSError) {
        switch options.authorities {
        case .none: return
        case .system:
            guard SSL_CTX_set_default_verify_paths(self.context) == 1 else {
                throw TLSError("the system's certificate authorities: \(openSSLReason())")
            }
        case .file(let file):
            let certificates = try readCertificates(file)
            defer { for certificate in certificates { X509_free(certificate) } }
            let store = SSL_CTX_get_cert_store(self.context)
            for certificate in certificates {
                guard X509_STORE_add_cert(store, certificate) == 1 else {
                    throw TLSError("\(file.name): \(openSSLReason())")
                }
                // Tells clients whose certificates are wanted.
                if self.role == .server { _ = SSL_CTX_add_client_CA(self.context, certificate) }
            }
        }
    }

    // MARK: Connections

    /// A new connection's state.
    func makeSSL() -> OpaquePointer? {
        ERR_clear_error()
        return SSL_new(self.context)
    }

    func remember(_ session: OpaquePointer, for key: String) {
        let session = Session(pointer: session)
        let old = self.sessions.withLock { sessions in
            var old = sessions.updateValue(session, forKey: key)
            if sessions.count > Self.sessionLimit, let other = sessions.keys.first(where: { $0 != key }) {
                old = sessions.removeValue(forKey: other)
            }
            return old
        }
        if let old { SSL_SESSION_free(old.pointer) }
    }

    /// The session to resume with a server; the caller frees it. One of TLS 1.3 is used once, so that connections
    /// cannot be told to be the same client's; older versions give no new one for a resumed one.
    func takeSession(for key: String) -> OpaquePointer? {
        self.sessions.withLock { sessions in
            guard let session = sessions[key] else { return nil as Session? }
            if SSL_SESSION_get_protocol_version(session.pointer) >= TLS1_3_VERSION {
                sessions[key] = nil
            } else {
                _ = SSL_SESSION_up_ref(session.pointer)
            }
            return session
        }?.pointer
    }
}

/// A client that names protocols must name PostgreSQL's; one that names none comes by SSLRequest.
private func selectProtocol(
    _ ssl: OpaquePointer?, _ chosen: UnsafeMutablePointer<UnsafePointer<UInt8>?>?,
    _ length: UnsafeMutablePointer<UInt8>?, _ offered: UnsafePointer<UInt8>?, _ count: UInt32,
    _ argument: UnsafeMutableRawPointer?
) -> Int32 {
    var start = 0
    let wanted = TLSContext.protocolName
    let names = UnsafeBufferPointer(start: offered, count: Int(count))
    while start < names.count, start + Int(names[start]) < names.count {
        let end = start + Int(names[start]) + 1
        if names[start..<end].elementsEqual(wanted) {
            // Points into the client's list, which OpenSSL copies from.
            chosen?.pointee = offered.map { $0 + start + 1 }
            length?.pointee = names[start]
            return SSL_TLSEXT_ERR_OK
        }
        start = end
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL
}

/// A server has offered a session for next time.
private func rememberSession(_ ssl: OpaquePointer?, _ session: OpaquePointer?) -> Int32 {
    guard let session, let stream = SSL_get_ex_data(ssl, 0) else { return 0 }
    return Unmanaged<TLSStream>.fromOpaque(stream)._withUnsafeGuaranteedRef { $0.remember(session) } ? 1 : 0
}

// MARK: PEM

/// The certificates in a PEM file, at least one; the caller frees them.
private func readCertificates(_ file: TLSOptions.File) throws(TLSError) -> [OpaquePointer] {
    let certificates = withMemoryBIO(file.bytes) { bio in
        var found: [OpaquePointer] = []
        while let certificate = PEM_read_bio_X509(bio, nil, { _, _, _, _ in 0 }, nil) { found.append(certificate) }
        return found
    }
    // "No start line" is the end of the file; anything else is a certificate that cannot be read.
    let code = ERR_peek_last_error()
    let isEnd = ERR_GET_REASON(code) == PEM_R_NO_START_LINE
    guard !certificates.isEmpty && isEnd else {
        for certificate in certificates { X509_free(certificate) }
        throw TLSError("\(file.name): no certificate can be read: \(openSSLReason())")
    }
    ERR_clear_error()
    return certificates
}

private func withMemoryBIO<Result>(_ bytes: [UInt8], _ body: (OpaquePointer?) -> Result) -> Result {
    bytes.withUnsafeBufferPointer { buffer in
        let bio = BIO_new_mem_buf(buffer.baseAddress, Int32(clamping: buffer.count))
        defer { BIO_free(bio) }
        return body(bio)
    }
}

/// OpenSSL's word for the newest error of this thread; its queue is empty then.
func openSSLReason() -> String {
    let code = ERR_peek_last_error()
    ERR_clear_error()
    guard code != 0 else { return "no reason given" }
    if let text = ERR_reason_error_string(code) { return String(cString: text) }
    return "error \(String(code, radix: 16))"
}
