import Pooling
import Reactor
import Sessions
import Wire

// The settings of a client's session. Its own are those of its startup packet and what it has changed since; they go with it
// to every server. All others are what its server has by itself: when they change the client is told, as PostgreSQL does
// after a reload.
extension ClientSession {
    /// Whether a server connection has this session's settings already. Without a doubt: where true is not certain, it is false.
    @inline(__always)
    func hasSettings(of server: ServerSession) -> Bool {
        guard self.followed?.isSurely(server.followed) ?? false else { return false }
        return self.defaults === server.defaults || self.defaults === self.defaults(of: server)
    }

    /// The values of what nobody has set, on a server. In a routed database they are those of one server, whichever is used:
    /// a statement means the same on all of them.
    func defaults(of server: ServerSession) -> ParameterSet {
        let pool = self.pool
        return server.pool === pool ? server.defaults : pool.welcome ?? self.defaults
    }

    /// Takes over what a server has by itself.
    func follow(_ server: ServerSession) {
        let defaults = self.defaults(of: server)
        guard self.defaults !== defaults, let before = self.parameters else { return }
        let after = self.worker.parameters.rebased(
            before, own: self.startupSettings, from: self.defaults, to: defaults)
        self.defaults = defaults
        self.noteRestorable()
        guard before !== after else { return }
        self.parameters = after
        if self.login == nil { self.tellChanges(from: before, to: after) }
    }

    private func tellChanges(from before: ParameterSet, to after: ParameterSet) {
        guard before !== after else { return }
        for parameter in after.parameters where parameter.isReported {
            if before[parameter.key]?.value != parameter.value {
                self.send(MessageWriter.bytes { $0.parameterStatus(name: parameter.name, value: parameter.value) })
            }
        }
    }

    /// The proxy has sent this client's settings ahead; until they have been accepted once, requests wait. So does one that
    /// could not go elsewhere any more if a replica does not take them.
    func settingsPending() {
        self.isAwaitingSettings = !self.areSettingsProven || (self.route?.mustAwaitReplica ?? false)
    }

    func settingsApplied(_ parameters: ParameterSet) {
        let before = self.parameters
        self.parameters = parameters
        self.areSettingsProven = true
        if let login = self.login {
            self.isAwaitingSettings = false
            return login.settingsApplied()
        }
        // The server writes some values differently ("utc" is UTC): the client hears of it as it would directly.
        if let before { self.tellChanges(from: before, to: parameters) }
        guard self.isAwaitingSettings else { return }
        self.isAwaitingSettings = false
        self.proceed()
    }

    func settingsFailed(_ error: ErrorFields) {
        self.fail(ServerError(message: error.message, sqlState: error.sqlState))
    }

    func parameterChanged(_ status: ParameterStatus) {
        do {
            try self.followed?.note(status, self.worker.parameters)
        } catch {
            self.fail(ServerError(message: "invalid server parameter: \(error.message)", sqlState: error.sqlState))
        }
    }
}
