import Logging
import Reactor
import Sessions
import Settings
import Wire

/// Carries one CancelRequest to a server, and tells when the server has dealt with it: it closes the connection then.
final class CancelConnection: Connection {
    private let worker: Worker
    private let key: [UInt8]
    private let host: HostAddress
    private let encryption: ServerEncryption
    private var server: ServerSession?
    private var isSent = false

    /// Sends a request on its way. False if not even a socket could be had.
    static func start(worker: Worker, address: SocketAddress, key: [UInt8], server: ServerSession) -> Bool {
        do {
            let socket = try Socket.connecting(to: address, options: worker.socketOptions)
            let cancel = CancelConnection(worker: worker, key: key, server: server, socket: socket)
            worker.add(cancel)
            let timeout = worker.configuration.settings.general.cancelWaitTimeout
            if timeout > 0 { cancel.setDeadline(worker.now + timeout) }
            cancel.start()
            return true
        } catch {
            worker.log(.warning, server.prefix, "cancel request could not be sent: \(error.description)")
            return false
        }
    }

    private init(worker: Worker, key: [UInt8], server: ServerSession, socket: consuming Socket) {
        self.worker = worker
        self.key = key
        self.host = server.host
        // The key is as secret as the connection that it is for.
        let settings = worker.configuration.settings
        let mode = settings.effectiveServerSSLMode(database: server.pool.database)
        self.encryption = ServerEncryption(
            mode: !server.isSecured ? .disable : mode.requiresTLS ? mode : .require,
            negotiation: settings.general.serverTlsSslnegotiation)
        self.server = server
        super.init(loop: worker.loop, connecting: socket)
    }

    override func connected() { self.carryOut(self.encryption.begin(isUnix: false)) }

    override func secured() { self.sendRequest() }

    override func received(_ bytes: Span<UInt8>) -> Int {
        // A server says nothing to a CancelRequest itself.
        if !self.isSent { self.carryOut(self.encryption.answered(bytes)) }
        return bytes.count
    }

    private func carryOut(_ step: ServerEncryption.Step) {
        switch step {
        case .plain: self.sendRequest()
        case .request: self.send(MessageWriter.bytes { $0.sslRequest() })
        case .handshake:
            guard let context = self.worker.configuration.tls.servers else { return self.timedOut() }
            self.startTLS(context, server: self.encryption.serverName(self.host))
        case .failed: self.timedOut()
        }
    }

    private func sendRequest() {
        self.isSent = true
        self.send(MessageWriter.bytes { $0.cancelRequest(key: self.key) })
    }

    override func disconnected(_ reason: Disconnect) {
        switch reason {
        case .endOfFile: self.finish(isDelivered: true)
        case .connectFailed, .failed, .tlsFailed: self.finish(isDelivered: false)
        }
    }

    override func timedOut() {
        self.close()
        self.finish(isDelivered: false)
    }

    /// Whether an undelivered request may still arrive cannot be known: its backend gets no other client.
    private func finish(isDelivered: Bool) {
        self.worker.removed(self)
        let server = self.server
        self.server = nil
        if !isDelivered { server?.retire("cancel_wait_timeout") }
        server?.cancelEnded()
    }
}
