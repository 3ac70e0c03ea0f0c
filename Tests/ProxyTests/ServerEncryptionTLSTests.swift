import Reactor
import Sessions
import Settings
import Testing

@testable import Proxy

/// What a server's certificate has to show.
struct ServerEncryptionTLSTests {
    @Test(arguments: [
        (SSLMode.prefer, TLSServerName.Verification.none), (.require, .none), (.verifyCA, .authority),
        (.verifyFull, .host),
    ])
    func verification(mode: SSLMode, verification: TLSServerName.Verification) {
        let name = ServerEncryption(mode: mode).serverName(HostAddress(host: "pg1", port: 5433))
        #expect(name == TLSServerName(host: "pg1", port: 5433, verification: verification))
    }
}
