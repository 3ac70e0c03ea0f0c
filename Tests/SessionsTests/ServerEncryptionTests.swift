import Settings
import TestSupport
import Testing

@testable import Sessions

/// What is made of a server's answer to SSLRequest.
@Suite("Server encryption")
struct ServerEncryptionTests {
    typealias Step = ServerEncryption.Step

    @Test(arguments: SSLMode.allCases)
    func begins(mode: SSLMode) {
        let asked: Step = mode == .disable ? .plain : .request
        #expect(ServerEncryption(mode: mode).begin(isUnix: false) == asked)
        #expect(ServerEncryption(mode: mode).begin(isUnix: true) == .plain)
        let direct: Step = mode == .disable ? .plain : .handshake
        #expect(ServerEncryption(mode: mode, negotiation: .direct).begin(isUnix: false) == direct)
    }

    @Test(arguments: SSLMode.allCases.filter { $0 != .disable })
    func answers(mode: SSLMode) {
        let encryption = ServerEncryption(mode: mode)
        #expect(encryption.answered(bytes("S").span) == .handshake)
        let refused: Step = mode.requiresTLS ? .failed("server refused SSL") : .plain
        #expect(encryption.answered(bytes("N").span) == refused)
    }

    @Test(
        "answers that end the connection, whatever the mode",
        arguments: [
            ("S\0", "received unencrypted data after SSL response"),
            ("SS", "received unencrypted data after SSL response"),
            ("NR", "received unencrypted data after SSL response"), ("E", "server answered SSL request with an error"),
            ("EFATAL", "server answered SSL request with an error"), ("X", "bad answer to SSL request"),
            ("s", "bad answer to SSL request"),
        ])
    func refused(answer: String, reason: String) {
        for mode in SSLMode.allCases {
            #expect(ServerEncryption(mode: mode).answered(bytes(answer).span) == .failed(reason))
        }
    }
}
