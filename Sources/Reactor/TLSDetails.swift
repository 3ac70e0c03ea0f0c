import COpenSSL
import Glibc

/// What the two sides of a TLS connection have agreed on, and who the peer is.
public struct TLSDetails: Sendable {
    /// Whom the peer's certificate is for.
    public enum PeerCertificate: Sendable, Equatable {
        /// It has shown none.
        case none
        /// It has been verified, but it names nobody, for this reason.
        case nameless(String)
        /// It has been verified; the subject's first common name, as PostgreSQL takes it.
        case verified(name: String)
    }

    /// Version, cipher and key exchange, as in `TLSv1.3/TLS_AES_256_GCM_SHA384/ECDH=X25519`.
    public let summary: String
    public let peerCertificate: PeerCertificate
    /// A digest of the server's certificate, for SCRAM's channel binding `tls-server-end-point` (RFC 5929); nil for
    /// certificates that have none.
    public let serverEndPoint: [UInt8]?
    /// Whether an earlier session was taken up again.
    public let isResumed: Bool

    init(_ ssl: OpaquePointer, isServer: Bool) {
        self.summary = Self.summary(ssl)
        self.isResumed = SSL_session_reused(ssl) == 1
        let peer = SSL_get1_peer_certificate(ssl)
        defer { X509_free(peer) }
        self.peerCertificate = peer.map(Self.subject) ?? .none
        let server = isServer ? SSL_get_certificate(ssl) : peer
        self.serverEndPoint = server.flatMap(Self.endPoint)
    }

    private static func summary(_ ssl: OpaquePointer) -> String {
        var text = String(cString: SSL_get_version(ssl))
        if let cipher = SSL_get_current_cipher(ssl) { text += "/" + String(cString: SSL_CIPHER_get_name(cipher)) }
        let group = martlet_ssl_group(ssl)
        // Groups without a number of their own in OpenSSL have this bit.
        if group > 0, group & 0x100_0000 == 0, let name = OBJ_nid2sn(group) {
            text += "/ECDH=" + String(cString: name)
        }
        return text
    }

    /// The subject's first common name. A zero byte ends a name for some programs and not for others, so a text with one
    /// is none.
    private static func subject(_ certificate: OpaquePointer) -> PeerCertificate {
        let subject = X509_get_subject_name(certificate)
        let index = X509_NAME_get_index_by_NID(subject, NID_commonName, -1)
        guard index >= 0, let entry = X509_NAME_get_entry(subject, index) else {
            return .nameless("it has no common name")
        }
        var text: UnsafeMutablePointer<UInt8>?
        let length = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(entry))
        defer { CRYPTO_free(text, nil, 0) }
        guard length >= 0, let text else {
            ERR_clear_error()
            return .nameless("its common name cannot be read")
        }
        let bytes = UnsafeBufferPointer(start: text, count: Int(length))
        guard !bytes.isEmpty else { return .nameless("its common name is empty") }
        guard !bytes.contains(0) else { return .nameless("its common name contains a zero byte") }
        guard let name = String(validating: bytes, as: UTF8.self) else {
            return .nameless("its common name is not valid UTF-8")
        }
        return .verified(name: name)
    }

    /// The digest is that of the certificate's signature, but nothing weaker than SHA-256.
    private static func endPoint(_ certificate: OpaquePointer) -> [UInt8]? {
        var digestID: Int32 = 0
        var keyID: Int32 = 0
        guard X509_get_signature_info(certificate, &digestID, &keyID, nil, nil) == 1 else { return nil }
        if digestID == NID_md5 || digestID == NID_sha1 { digestID = NID_sha256 }
        guard let digest = OBJ_nid2sn(digestID).flatMap({ EVP_get_digestbyname($0) }) else { return nil }
        var length: UInt32 = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: Int(EVP_MAX_MD_SIZE)) { buffer, count in
            let isDone = X509_digest(certificate, digest, buffer.baseAddress, &length) == 1
            count = isDone ? Int(length) : 0
        }
        return bytes.isEmpty ? nil : bytes
    }
}

/// The server that a connection is to be made to, and what its certificate has to show.
public struct TLSServerName: Sendable, Equatable {
    /// What is verified.
    public enum Verification: String, Sendable {
        /// Nothing.
        case none
        /// One of the authorities has signed the certificate.
        case authority
        /// That, and it is for this host.
        case host
    }

    /// A name or an address, as in the settings.
    public var host: String
    public var port: Int
    public var verification: Verification
    /// The server must name PostgreSQL's protocol in the handshake: there was no SSLRequest.
    public var isDirect: Bool

    public init(host: String, port: Int, verification: Verification, isDirect: Bool = false) {
        self.host = host
        self.port = port
        self.verification = verification
        self.isDirect = isDirect
    }

    /// Under which a session is kept: one that was made without verification is of no use where that is wanted.
    var key: String { "\(self.verification.rawValue) \(self.host) \(self.port)" }

    func apply(to ssl: OpaquePointer) throws(TLSError) {
        let isAddress = SocketAddress(ip: self.host, port: 0) != nil
        if !isAddress && !self.host.isEmpty { _ = martlet_ssl_set_host_name(ssl, self.host) }
        guard self.verification != .none else { return }
        SSL_set_verify(ssl, SSL_VERIFY_PEER, nil)
        guard self.verification == .host else { return }
        guard !self.host.isEmpty else { throw TLSError("there is no host name to verify") }
        let parameters = SSL_get0_param(ssl)
        X509_VERIFY_PARAM_set_hostflags(parameters, UInt32(X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS))
        let isSet =
            isAddress
            ? X509_VERIFY_PARAM_set1_ip_asc(parameters, self.host)
            : X509_VERIFY_PARAM_set1_host(parameters, self.host, 0)
        guard isSet == 1 else { throw TLSError("\"\(self.host)\" cannot be verified as a host name") }
    }
}
