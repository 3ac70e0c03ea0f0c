import Authentication
import TestSupport
import Wire

@testable import Sessions

/// A server login and what it has said so far.
final class ServerLoginScene {
    private var login: ServerLogin
    /// Actions but `none`, in words.
    private(set) var said: [String] = []
    private(set) var last = ServerLogin.Action.none
    private(set) var outcome: ServerLogin.Outcome?
    private(set) var error: ServerError?
    /// What was sent, one element for each action.
    private(set) var sent: [[UInt8]] = []

    init(user: String = "app", secret: Secret? = nil, keys: SCRAMKeys? = nil) {
        self.login = ServerLogin(user: user, secret: secret, keys: keys)
    }

    /// One that has sent its startup packet.
    static func begun(user: String = "app", secret: Secret? = nil, keys: SCRAMKeys? = nil) -> ServerLoginScene {
        let scene = ServerLoginScene(user: user, secret: secret, keys: keys)
        _ = scene.login.begin(database: "shop", settings: [])
        return scene
    }

    func begin(database: String, settings: [StartupParameter]) -> ServerLogin.Action {
        self.login.begin(database: database, settings: settings)
    }

    func step(_ bytes: [UInt8]) -> ServerLogin.Step { self.login.received(bytes.span) }

    /// Presents bytes as a connection does, until no more are taken. Returns those left.
    @discardableResult
    func receive(_ bytes: [UInt8]) -> [UInt8] {
        var rest = bytes
        while !rest.isEmpty && self.outcome == nil && self.error == nil {
            let step = self.login.received(rest.span)
            self.note(step.action)
            if step.used == 0 { break }
            rest.removeFirst(step.used)
        }
        return rest
    }

    func derived(_ keys: SCRAMKeys?) { self.note(self.login.derived(keys)) }

    /// Runs the derivation that was asked for.
    func derive() throws {
        guard case .derive(let derivation) = self.last else { return }
        self.derived(try derivation.run())
    }

    private func note(_ action: ServerLogin.Action) {
        self.last = action
        switch action {
        case .none: return
        case .wait(let needed): self.said.append("wait \(needed)")
        case .hold: self.said.append("hold")
        case .send(let bytes):
            self.sent.append(bytes)
            self.said.append("send")
        case .derive: self.said.append("derive")
        case .succeeded(let outcome):
            self.outcome = outcome
            self.said.append("succeeded")
        case .failed(let error):
            self.error = error
            self.said.append("failed: " + error.message.replacing("server login failed: ", with: ""))
        }
    }

    /// The SCRAM message in the last bytes sent: behind the header, and mechanism and length in a first message.
    func scramMessage(isFirst: Bool) -> [UInt8] {
        guard let message = self.sent.last else { return [] }
        if isFirst { return SASLInitialResponse(message.span)?.data ?? [] }
        return Array(message.dropFirst(MessageFramer.headerLength))
    }
}

/// PostgreSQL's side of a login.
enum FakeServer {
    static let ok = authentication(0)
    static let cleartext = authentication(3)
    static let md5 = authentication(5, [1, 2, 3, 4])
    static let sasl = authentication(10, bytes("SCRAM-SHA-256\0\0"))
    static let key = message("K", [0, 0, 0, 9, 1, 2, 3, 4])
    static let ready = message("Z", bytes("I"))
    static let notice = message("N", bytes("SNOTICE\0Mhello\0\0"))

    static func status(_ name: String, _ value: String) -> [UInt8] { message("S", bytes("\(name)\0\(value)\0")) }

    static func error(_ sqlState: String, _ text: String) -> [UInt8] {
        message("E", bytes("SFATAL\0C\(sqlState)\0M\(text)\0\0"))
    }
}
