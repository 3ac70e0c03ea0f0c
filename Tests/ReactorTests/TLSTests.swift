import COpenSSL
import Glibc
import Testing

@testable import Reactor

/// TLS as a stage of a connection: both ends are connections on one loop.
@Suite("TLS", .onEachLoop)
struct TLSTests {
    /// A context of each role, the server's with a fresh self-signed certificate for `localhost`.
    static func contexts(
        _ change: (inout TLSOptions) -> Void = { _ in }
    ) throws -> (server: TLSContext, client: TLSContext) {
        let (certificate, key) = try SelfSigned.make()
        var server = TLSOptions(role: .server)
        server.certificates = certificate
        server.key = key
        change(&server)
        var client = TLSOptions(role: .client)
        client.authorities = .file(certificate)
        client.curves = nil
        return (try TLSContext(server), try TLSContext(client))
    }

    /// A server connection and a client connection, the handshake begun.
    static func pair(
        _ scene: Scene, _ contexts: (server: TLSContext, client: TLSContext), _ transport: Transport = .tcp,
        verification: TLSServerName.Verification = .host, host: String = "localhost"
    ) throws -> (server: SecureRecorder, client: SecureRecorder) {
        let (one, other) = try socketPair(transport)
        for fd in [one, other] { _ = fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) }
        let server = SecureRecorder(loop: scene.loop, socket: Socket(one))
        let client = SecureRecorder(loop: scene.loop, socket: Socket(other))
        server.start()
        client.start()
        server.startTLS(contexts.server, requiresProtocolName: false)
        client.startTLS(contexts.client, server: TLSServerName(host: host, port: 1, verification: verification))
        return (server, client)
    }

    @Test("bytes go both ways, and both sides know of each other", arguments: Transport.allCases)
    func bothWays(transport: Transport) throws {
        let scene = try Scene()
        let (server, client) = try Self.pair(scene, Self.contexts(), transport)
        // Sent before the handshake is over: they wait for its end.
        client.send(pattern(1000))
        server.send(pattern(2000))
        scene.when("everything is there") { server.input.count == 1000 && client.input.count == 2000 }
        scene.run()
        #expect(server.input == pattern(1000) && client.input == pattern(2000))
        #expect(server.isSecured && client.isSecured)
        let details = try #require(client.tlsDetails)
        #expect(details.summary.hasPrefix("TLSv1.3/TLS_"))
        #expect(details.peerCertificate == .verified(name: "localhost"))
        #expect(details.serverEndPoint?.count == 32)
        #expect(details.serverEndPoint == server.tlsDetails?.serverEndPoint)
        #expect(server.tlsDetails?.peerCertificate == TLSDetails.PeerCertificate.none)
    }

    @Test("an idle connection keeps no bytes of either kind")
    func idle() throws {
        let scene = try Scene()
        let (server, client) = try Self.pair(scene, try Self.contexts())
        client.send(pattern(100_000))
        scene.when("it is there") {
            server.input.count == 100_000
        } then: {
            server.send(pattern(100_000))
        }
        scene.when("and back") { client.input.count == 100_000 }
        scene.run()
        #expect(client.pendingOutput == 0 && server.pendingOutput == 0 && client.heldInput == 0)
        #expect(client.leave() && server.leave())
    }

    @Test("what the socket does not take waits, congests and drains", arguments: [60_000, 20_000_000])
    func congestion(size: Int) throws {
        let scene = try Scene()
        let (server, client) = try Self.pair(scene, try Self.contexts())
        let bytes = pattern(size)
        var most = 0
        scene.when("secured") {
            server.isSecured && client.isSecured
        } then: {
            client.pauseReading()
            server.send(bytes)
            #expect(server.isCongested == (size > 1_000_000))
            most = server.pendingOutput
        }
        scene.when("it stands") {
            true
        } then: {
            client.resumeReading()
        }
        scene.when("everything has come") { client.input.count == size }
        scene.when("nothing is left") { server.pendingOutput == 0 }
        scene.run()
        #expect(client.input == bytes)
        #expect(server.drainedCount == (size > 1_000_000 ? 1 : 0))
        // Ciphertext is made only for what the socket takes next.
        #expect(most <= size + TLSBuffers.sealedSize)
    }

    @Test("the end of a large piece that is encrypted when the socket is full leaves by itself")
    func lastRecord() throws {
        let scene = try Scene()
        let (server, client) = try Self.pair(scene, try Self.contexts())
        var size = 0
        scene.when("secured") {
            server.isSecured && client.isSecured
        } then: {
            client.pauseReading()
            // A piece of one record: done with as soon as it is encrypted.
            repeat {
                server.send(pattern(TLSStream.recordSize))
                size += TLSStream.recordSize
            } while server.pendingOutput == 0
        }
        scene.when("it stands") {
            true
        } then: {
            client.resumeReading()
        }
        scene.when("everything has come") { client.input.count == size }
        scene.run()
        #expect(server.pendingOutput == 0)
    }

    @Test("held bytes come again behind a redelivery, and the limit on them holds")
    func held() throws {
        let scene = try Scene()
        let (server, client) = try Self.pair(scene, try Self.contexts())
        server.consume = { _ in 0 }
        scene.when("secured") {
            client.isSecured
        } then: {
            client.send(pattern(200_000))
        }
        scene.when("as much is held as may be") { server.heldInput >= server.holdLimit }
        scene.run()
        // One read beyond the limit, and what was there of a record.
        #expect(server.heldInput <= server.holdLimit + TLSBuffers.plainSize)
        server.consume = { $0.count }
        server.redeliver()
        #expect(server.heldInput == 0)
        #expect(server.input == Array(pattern(200_000).prefix(server.input.count)))
    }

    @Test("the last words arrive, and then an orderly end", arguments: [10, 1_000_000])
    func closeAfterFlush(size: Int) throws {
        let scene = try Scene()
        let (server, client) = try Self.pair(scene, try Self.contexts())
        scene.when("secured") {
            server.isSecured && client.isSecured
        } then: {
            server.send(pattern(size))
            server.closeAfterFlush()
        }
        scene.when("the end") { client.end != nil }
        scene.run()
        #expect(client.input == pattern(size))
        #expect(client.end == .endOfFile)
    }

    @Test("nothing is said in clear when a connection is closed before the handshake is over")
    func closedEarly() throws {
        let scene = try Scene()
        let (ours, theirs) = try socketPair(.tcp)
        let server = SecureRecorder(loop: scene.loop, socket: Socket(ours))
        let peer = Peer(theirs)
        server.start()
        server.startTLS(try Self.contexts().server, requiresProtocolName: false)
        server.send(pattern(100))
        server.closeAfterFlush()
        scene.when("the end") {
            peer.read()
            return peer.end != nil
        }
        scene.run()
        #expect(peer.input == [])
    }

    @Test("what was sent before TLS began leaves in clear, the rest does not")
    func border() throws {
        let scene = try Scene()
        let (ours, theirs) = try socketPair(.tcp)
        let server = SecureRecorder(loop: scene.loop, socket: Socket(ours))
        let peer = Peer(theirs)
        server.start()
        server.send([UInt8(ascii: "S")])
        server.startTLS(try Self.contexts().server, requiresProtocolName: false)
        server.send(pattern(100))
        scene.when("the answer is there") {
            peer.read()
            return peer.input.count > 0
        }
        scene.run()
        #expect(peer.input == [UInt8(ascii: "S")])
    }

    @Test("bytes that the session leaves when it starts TLS are the first of the handshake")
    func unconsumed() throws {
        let scene = try Scene()
        let contexts = try Self.contexts()
        let (one, other) = try socketPair(.tcp)
        for fd in [one, other] { _ = fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) }
        let server = SecureRecorder(loop: scene.loop, socket: Socket(one))
        let client = SecureRecorder(loop: scene.loop, socket: Socket(other))
        var isFirst = true
        server.consume = { [unowned server] bytes in
            guard isFirst else { return bytes.count }
            isFirst = false
            server.startTLS(contexts.server, requiresProtocolName: true)
            return 0
        }
        server.start()
        client.start()
        client.startTLS(contexts.client, server: TLSServerName(host: "localhost", port: 1, verification: .host))
        client.send(pattern(10))
        scene.when("it is there") { server.input.count == 10 }
        scene.run()
        #expect(server.input == pattern(10))
    }

    static let refusals: [(verification: TLSServerName.Verification, host: String, isTaken: Bool)] = [
        (.host, "localhost", true), (.host, "127.0.0.1", true), (.host, "elsewhere", false),
        (.host, "127.0.0.2", false), (.authority, "elsewhere", true), (.none, "elsewhere", true), (.host, "", false),
    ]

    @Test("host names and addresses are verified", arguments: refusals)
    func verification(verification: TLSServerName.Verification, host: String, isTaken: Bool) throws {
        let scene = try Scene()
        let (server, client) = try Self.pair(scene, Self.contexts(), verification: verification, host: host)
        scene.when("decided") { client.end != nil || client.isSecured }
        if !isTaken { scene.when("the other side hears of it") { server.end != nil } }
        scene.run()
        #expect(client.isSecured == isTaken)
        #expect(client.end?.isTLSFailure == (isTaken ? nil : true))
        #expect(client.endCount == (isTaken ? 0 : 1))
    }

    @Test("rubbish ends the handshake with a reason")
    func rubbish() throws {
        let scene = try Scene()
        let (connection, peer) = try connectionPair(scene, .tcp)
        connection.startTLS(try Self.contexts().server, requiresProtocolName: false)
        peer.write(Array("GET / HTTP/1.0\r\n\r\n".utf8))
        scene.when("the end") { connection.end != nil }
        scene.run()
        #expect(connection.end == .tlsFailed(TLSError("http request")))
    }

    @Test("a session is resumed by the next connection to the same server, and by no other")
    func resumption() throws {
        let contexts = try Self.contexts()
        var resumed: [Bool] = []
        for host in ["localhost", "localhost", "127.0.0.1"] {
            let scene = try Scene()
            let (server, client) = try Self.pair(scene, contexts, host: host)
            // The ticket comes behind the handshake.
            scene.when("secured") {
                server.isSecured
            } then: {
                server.send([1])
            }
            scene.when("the ticket is there") { client.input == [1] }
            scene.run()
            resumed.append(try #require(client.tlsDetails).isResumed)
        }
        #expect(resumed == [false, true, false])
    }

    @Test("a turn takes steps of handshakes for a bounded time, and all come to an end")
    func crowd() throws {
        let scene = try Scene()
        let contexts = try Self.contexts()
        let pairs = try (0..<50).map { _ in try Self.pair(scene, contexts) }
        scene.when("all are secured") { pairs.allSatisfy { $0.server.isSecured && $0.client.isSecured } }
        scene.run()
        let connection = pairs[0].server
        // The turn that was the last goes on for its time, and not beyond.
        let began = monotonicNow()
        while scene.loop.takeHandshake(connection), monotonicNow() - began < 10_000_000 {}
        #expect(monotonicNow() - began < 10_000_000)
    }

    @Test("a plain connection pays one pointer for TLS")
    func size() { #expect(MemoryLayout<TLSStream?>.size == MemoryLayout<UnsafeRawPointer>.size) }
}

/// A recorder that notes the end of the handshake.
final class SecureRecorder: Recorder {
    var securedCount = 0
    override func secured() { self.securedCount += 1 }
}

/// A certificate for `localhost` and 127.0.0.1 that is its own authority.
enum SelfSigned {
    static func make() throws -> (certificate: TLSOptions.File, key: TLSOptions.File) {
        let key = try #require(Self.key())
        defer { EVP_PKEY_free(key) }
        let certificate = try #require(X509_new())
        defer { X509_free(certificate) }
        X509_set_version(certificate, 2)
        ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1)
        X509_gmtime_adj(X509_getm_notBefore(certificate), -3600)
        X509_gmtime_adj(X509_getm_notAfter(certificate), 3600)
        X509_set_pubkey(certificate, key)
        let name = X509_get_subject_name(certificate)
        X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, "localhost", -1, -1, 0)
        X509_set_issuer_name(certificate, name)
        let names = X509V3_EXT_conf_nid(nil, nil, NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1")
        X509_add_ext(certificate, names, -1)
        X509_EXTENSION_free(names)
        try #require(X509_sign(certificate, key, EVP_sha256()) > 0)
        return (
            TLSOptions.File(name: "crt", bytes: Self.pem { PEM_write_bio_X509($0, certificate) }),
            TLSOptions.File(
                name: "key", bytes: Self.pem { PEM_write_bio_PrivateKey($0, key, nil, nil, 0, nil, nil) })
        )
    }

    private static func key() -> OpaquePointer? {
        let context = EVP_PKEY_CTX_new_id(EVP_PKEY_EC, nil)
        defer { EVP_PKEY_CTX_free(context) }
        var key: OpaquePointer?
        EVP_PKEY_keygen_init(context)
        EVP_PKEY_CTX_set_ec_paramgen_curve_nid(context, NID_X9_62_prime256v1)
        EVP_PKEY_keygen(context, &key)
        return key
    }

    private static func pem(_ write: (OpaquePointer?) -> Int32) -> [UInt8] {
        let bio = BIO_new(BIO_s_mem())
        defer { BIO_free(bio) }
        _ = write(bio)
        var bytes = [UInt8](repeating: 0, count: 8192)
        let count = BIO_read(bio, &bytes, Int32(bytes.count))
        return Array(bytes.prefix(Int(max(count, 0))))
    }
}
