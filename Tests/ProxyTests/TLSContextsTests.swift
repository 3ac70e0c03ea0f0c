import Reactor
import Settings
import TestSupport
import Testing

@testable import Proxy

/// Settings of TLS and what is made of them.
@Suite("TLS settings")
struct TLSContextsTests {
    typealias Versions = TLSOptions.Versions

    static let versions: [(text: String, versions: Versions)] = [
        ("secure", [.v12, .v13]), ("all", .all), ("legacy", .all), ("tlsv1.3", .v13), ("TLSv1.2", .v12),
        ("tlsv1.0,tlsv1.1", [.v10, .v11]), ("tlsv1.2 : tlsv1.3", .secure), ("all,!tlsv1.0", [.v11, .v12, .v13]),
        ("!tlsv1.3", [.v10, .v11, .v12]), ("secure,!tlsv1.2", .v13), ("secure,!all", []), ("", .secure),
    ]

    @Test(arguments: versions)
    func protocols(text: String, versions: Versions) { #expect(TLSContexts.versions(text) == versions) }

    @Test(arguments: [
        ("default", nil), ("secure", nil), ("FAST", nil), ("normal", nil), ("", nil), ("all", "ALL:!aNULL:!eNULL"),
        ("ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256"),
    ])
    func ciphers(text: String, list: String?) { #expect(TLSContexts.ciphers(text) == list) }

    /// Settings, one change after the other, and what is wrong with them.
    static let mistakes: [(change: [String: String], message: String)] = [
        (
            ["client_tls_sslmode": "prefer"],
            "client_tls_sslmode = prefer needs client_tls_key_file and client_tls_cert_file"
        ),
        (["auth_type": "cert"], "auth_type = cert needs client_tls_sslmode = verify-full"),
        (
            ["client_tls_sslmode": "require", "client_tls_key_file": "none", "client_tls_cert_file": "rubbish"],
            "client_tls_key_file: cannot read none: no such file"
        ),
        (
            ["client_tls_sslmode": "require", "client_tls_key_file": "rubbish", "client_tls_cert_file": "rubbish"],
            "client_tls: rubbish: no certificate can be read: no start line"
        ),
        (
            ["client_tls_sslmode": "verify-ca", "client_tls_key_file": "rubbish", "client_tls_cert_file": "rubbish"],
            "client_tls_sslmode = verify-ca needs client_tls_ca_file"
        ),
        (["server_tls_ca_file": "none"], "server_tls_ca_file: cannot read none: no such file"),
        (["server_tls_ca_file": "rubbish"], "server_tls: rubbish: no certificate can be read: no start line"),
        (["server_tls_cert_file": "rubbish"], "server_tls_key_file is not set"),
        (["server_tls_protocols": "secure, !all"], "server_tls: no TLS protocol is allowed"),
        (["server_tls_ciphers": "nonsense"], "server_tls: ciphers \"nonsense\": no cipher match"),
        (["server_tls13_ciphers": "nonsense"], "server_tls: TLS 1.3 ciphers \"nonsense\": no cipher match"),
        (
            ["server_tls_sslnegotiation": "direct"],
            "server_tls_sslnegotiation = direct needs sslmode require or stricter, not prefer"
        ),
    ]

    @Test(arguments: mistakes)
    func mistake(change: [String: String], message: String) throws {
        var settings = Settings()
        for (key, value) in change { try settings.set(key, to: value) }
        let result = TLSContexts.load(settings) { path in
            path == "rubbish" ? .success(bytes("rubbish")) : .failure(FileError("no such file"))
        }
        let error = #expect(throws: TLSError.self) { try result.get() }
        #expect(error?.description == message)
    }

    @Test("by default clients are offered nothing, and servers are asked")
    func defaults() throws {
        let contexts = try TLSContexts.load(Settings()) { _ in .failure(FileError("read")) }.get()
        #expect(contexts.clients == nil)
        #expect(contexts.servers != nil)
    }

    @Test("without any database that asks for TLS nothing is made")
    func off() throws {
        var settings = Settings()
        try settings.set("server_tls_sslmode", to: "disable")
        let contexts = try TLSContexts.load(settings) { _ in .failure(FileError("read")) }.get()
        #expect(contexts.servers == nil)
    }
}
