import Pooling
import Reactor
import Synchronization

// A mistyped setting in a startup packet is an error of the login, as it is where there is no pooler. What is wrong only
// a server knows: where it cannot be told here, one is asked, once for all clients that begin with the same settings.
extension ClientLogin {
    /// Asks a server whether it takes the settings, if that has to be; false if the login can go on at once.
    func askAboutSettings(_ defaults: ParameterSet) -> Bool {
        guard let wanted = self.client.parameters else { return false }
        if self.mayHaveBeenPromoted(defaults) {
            self.client.areSettingsProven = false
        } else {
            if self.client.areSettingsProven { return false }
            if let known = self.client.pool.provenSettings[ObjectIdentifier(wanted)] {
                self.client.parameters = known.applied
                self.client.areSettingsProven = true
                return false
            }
            if wanted.isSureToBeTaken(by: defaults) { return false }
        }
        self.asked = wanted
        self.askedDefaults = defaults
        self.acquire()
        return true
    }

    /// Whether a server has to say if it still takes no writes. It tells so with its next answer only, and as long as it has
    /// not, clients that want to write do not stay. Where connections are all in use, somebody hears it soon.
    private func mayHaveBeenPromoted(_ defaults: ParameterSet) -> Bool {
        let pool = self.client.pool
        guard defaults.takesNoWrites, pool.load == nil, !pool.isPaused else { return false }
        return pool.shared.idle.load(ordering: .relaxed) != 0 || pool.shared.servers.count == 0
    }

    private func acquire() {
        while !self.client.pool.acquire(self.client) {
            if self.client.isWaiting || self.client.isClosed { return }
        }
        self.proceed()
    }

    /// A server connection has been linked, or the one that was waited for will not come.
    func proceed() {
        guard self.asked != nil, !self.client.isWaiting else { return }
        guard let server = self.client.server else { return self.acquire() }
        // Else they are on their way.
        guard !self.client.isAwaitingSettings else { return }
        if self.askedDefaults?.takesNoWrites ?? false {
            self.client.isAwaitingSettings = true
            server.run(.settings([]), "")
        } else {
            self.settingsHold(on: server)
        }
    }

    /// The server has taken the settings; it may be released when all that it has said so far was looked at.
    func settingsApplied() { self.client.server?.due = .ready }

    /// The settings hold on this connection, which is of no more use to the login.
    func settingsHold(on server: ServerSession) {
        guard let asked = self.asked, let applied = self.client.parameters else { return }
        self.asked = nil
        self.client.areSettingsProven = true
        // Else they are not what became of the startup packet alone.
        if self.client.defaults === self.askedDefaults { self.client.pool.settingsProven(asked, applied) }
        server.releaseAfterLogin(of: self.client)
        guard !self.client.isClosed, self.client.login === self else { return }
        self.greet(isReplication: false)
    }
}

extension Pool {
    /// Settings that some server of this pool has taken, and what became of them, by those of the startup packet.
    struct ProvenSettings {
        /// Kept, so that no other set gets its identity.
        let asked: ParameterSet
        let applied: ParameterSet
    }

    /// Sets remembered; beyond it all are forgotten.
    private static let mostProven = 256

    func settingsProven(_ asked: ParameterSet, _ applied: ParameterSet) {
        if self.provenSettings.count >= Self.mostProven { self.provenSettings = [:] }
        self.provenSettings[ObjectIdentifier(asked)] = ProvenSettings(asked: asked, applied: applied)
    }
}
