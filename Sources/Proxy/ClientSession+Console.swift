import Pooling
import Reactor
import Settings
import Wire

extension ClientSession {
    /// For SHOW CLIENTS.
    func status() -> ClientStatus {
        let state: ClientState
        if self.login != nil {
            state = .login
        } else if self.isWaiting {
            state = .waiting
        } else {
            state = self.server != nil || self.console != nil ? .active : .idle
        }
        var status = ClientStatus(
            id: self.id, state: state,
            user: self.hasGroup ? self.group.key.user : self.console?.user ?? self.login?.user ?? "",
            database: self.hasGroup
                ? self.group.key.database : self.console != nil ? "pgbouncer" : self.login?.database ?? "")
        let settings = self.worker.configuration.settings.general
        if self.isUnix {
            status.address = "unix"
            status.port = settings.listenPort
            status.localAddress = "unix"
            status.localPort = settings.listenPort
            status.remotePID = Socket.peerCredentials(self.descriptor)?.pid ?? 0
        } else {
            let peer = Socket.peerAddress(self.descriptor)
            let local = Socket.localAddress(self.descriptor)
            status.address = peer.host
            status.port = Int(peer.port)
            status.localAddress = local.host
            status.localPort = Int(local.port)
        }
        let now = self.now
        let wall = wallClockNow()
        status.connectTime = self.connectTime
        status.requestTime = self.requestTime > 0 ? wall - (now - self.requestTime) : self.connectTime
        status.wait = self.isWaiting ? now - self.waitingSince : 0
        status.link = self.server?.id
        status.tls = self.tlsDetails?.summary ?? ""
        status.applicationName = self.parameters?["application_name"]?.text ?? ""
        status.preparedStatements = self.statements.count
        status.gathered = self.heldInput
        status.streaming = self.framer.remaining
        status.unsent = self.pendingOutput
        return status
    }
}
