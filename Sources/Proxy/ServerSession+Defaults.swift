import Pooling
import Settings
import Wire

// What a server has by itself: its settings as it reports them at the login, and as they change when it is reloaded or
// promoted. It is not for the proxy to keep, nor to set on a server that has something else.
extension ServerSession {
    /// What has to be changed for a client. What another client has set and this one has not is reset, not set: the server
    /// may have other values by itself than were known here, and shows them then.
    func changes(for client: ClientSession, _ wanted: ParameterSet) -> [ParameterChange] {
        let changes = wanted.changes(from: self.parameters)
        // RESET would undo what connect_query has set.
        guard client.defaults === self.defaults, self.pool.database.connectQuery?.isEmpty ?? true else {
            return changes
        }
        return changes.map { change in
            guard case .set(let parameter) = change, parameter.isReported,
                client.startupSettings[parameter.key] == nil,
                self.defaults[parameter.key]?.value == parameter.value
            else { return change }
            return .reset(parameter.name)
        }
    }

    /// The login is over, and connect_query, too.
    func noteDefaults() {
        self.defaults = self.parameters
        self.pool.defaultsKnown(self.defaults)
    }

    /// Settings were reset: what they are now, the server has by itself.
    func noteResets(_ changes: [ParameterChange]) {
        var names: [String] = []
        for change in changes { if case .reset(let name) = change { names.append(name) } }
        if !names.isEmpty { self.takeOver(names) }
    }

    /// The server has reported a setting that nobody has changed in this session.
    func defaultReported(_ status: ParameterStatus) { self.takeOver([status.name]) }

    private func takeOver(_ names: [String]) {
        let defaults = self.worker.parameters.taking(names, of: self.parameters, in: self.defaults)
        guard defaults !== self.defaults else { return }
        self.defaults = defaults
        self.pool.defaultsKnown(defaults)
        self.client?.follow(self)
    }

    /// Whether what the server reports now is nobody's doing in this session: it was reloaded, or promoted.
    func isUnasked(_ status: ParameterStatus) -> Bool {
        if Self.isNodesOwn(status.name) { return true }
        guard let head = self.requests.head else { return true }
        guard head.disposition == .own else { return false }
        let isAsked = { (change: ParameterChange) in
            switch change {
            case .set(let parameter): parameter.name == status.name
            case .reset(let name): name == status.name
            }
        }
        switch self.ownQueries.first {
        case .settings(let changes): return !changes.contains(where: isAsked)
        case .restore(let session, let local, _):
            return !session.contains(where: isAsked) && !local.contains(where: isAsked)
        case .begin, .abort, .deallocate, .check, .proof: return true
        case .connectQuery, .rollback, .reset, nil: return false
        }
    }
}
