import Pooling
import Reactor
import SQL
import Wire

// RESET goes back to the value that the startup packet has given, as long as the server is the client's own. Here the server
// had another startup packet. So the settings in which the two differ are set again when the request is over, before the
// client hears that it is: what stands behind a RESET in the same Query or batch runs with the server's own values.
//
// That something was reset is told by the command's tag, what it was by its text.
extension ClientSession {
    /// A longer text is not looked at.
    private static let lookLimit = 64 << 10
    /// Prepared statements that go back to something; a client has hardly more than one of them.
    private static let mostPrepared = 1000

    /// The prepared statements that go back to something, and the portals that they are bound to.
    final class PreparedResets {
        enum Statement: Equatable {
            case command(SettingResets.Command)
            /// Its name was given twice, and who knows which of them holds.
            case uncertain
        }

        var statements: [[UInt8]: Statement] = [:]
        var portals: [[UInt8]: Statement] = [:]
    }

    /// Looks whether the startup packet has settings that the server has not by itself.
    func noteRestorable() {
        self.hasRestorable = self.startupSettings.parameters.contains { self.isRestorable($0) }
    }

    private func isRestorable(_ parameter: Parameter) -> Bool {
        self.defaults[parameter.key]?.value != parameter.value
    }

    private func resets(in text: Span<UInt8>) -> SettingResets? {
        guard text.count <= Self.lookLimit, SettingResets.mayBeIn(text) else { return nil }
        let resets = SettingResets(text, standardConformingStrings: self.hasStandardStrings)
        return resets.hasResets ? resets : nil
    }

    // MARK: Requests

    /// Whether a Query has to be looked at: most are ruled out by their first letters.
    @inline(__always)
    func mayReset(query bytes: Span<UInt8>, _ range: Range<Int>, length: Int) -> Bool {
        guard self.hasRestorable else { return false }
        let text = range.lowerBound &+ MessageFramer.headerLength
        return range.count < length || SettingResets.mayBegin(bytes, at: text, before: range.upperBound)
            || SettingResets.mayHaveSeveral(bytes, from: text, to: range.upperBound)
    }

    /// Looks at a Query that is about to be passed on. A verdict if more of it has to be here.
    @inline(never)
    func noteResets(query bytes: Span<UInt8>, _ range: Range<Int>, length: Int, _ server: ServerSession) -> Verdict? {
        guard length <= Self.lookLimit else { return nil }
        guard range.count == length else { return .gather(length) }
        let message = bytes.extracting(range)
        guard let query = QueryMessage.text(message), let resets = self.resets(in: message.extracting(query)) else {
            return nil
        }
        server.expectResets(resets.commands)
        return nil
    }

    /// Whether a Parse, Bind or Close has to be looked at.
    @inline(__always)
    func mayReset(prepared type: UInt8, _ bytes: Span<UInt8>, _ range: Range<Int>, length: Int) -> Bool {
        guard self.hasRestorable else { return false }
        if self.preparedResets != nil {
            return type == Frontend.parse || type == Frontend.bind || type == Frontend.close
        }
        guard type == Frontend.parse else { return false }
        if range.count < length { return true }
        var name = range.lowerBound &+ MessageFramer.headerLength
        while name < range.upperBound, bytes[name] != 0 { name &+= 1 }
        // What is prepared is one statement.
        return SettingResets.mayBegin(bytes, at: name &+ 1, before: range.upperBound)
    }

    /// Looks at a Parse, Bind or Close. A verdict if more of it has to be here.
    @inline(never)
    func noteResets(prepared type: UInt8, _ bytes: Span<UInt8>, _ range: Range<Int>, length: Int) -> Verdict? {
        guard length <= Self.lookLimit || type == Frontend.bind else { return nil }
        if type != Frontend.bind && range.count < length { return .gather(length) }
        let message = bytes.extracting(range)
        switch type {
        case Frontend.parse:
            guard let parse = ParseMessage(message) else { return nil }
            let name = message.copy(parse.statement)
            let command = self.resets(in: message.extracting(parse.query))?.commands.first
            if !name.isEmpty, let known = self.preparedResets?.statements[name] {
                if known != command.map({ .command($0) }) { self.preparedResets?.statements[name] = .uncertain }
            } else if let command {
                let prepared = self.preparedResets ?? PreparedResets()
                if prepared.statements.count >= Self.mostPrepared { prepared.statements = [:] }
                prepared.statements[name] = .command(command)
                self.preparedResets = prepared
            } else {
                self.preparedResets?.statements[name] = nil
            }
        case Frontend.bind:
            guard let prepared = self.preparedResets, case .prefix(let prefix) = BindPrefix.parse(message) else {
                return nil
            }
            if prepared.portals.count >= Self.mostPrepared { prepared.portals = [:] }
            prepared.portals[message.copy(prefix.portal)] = prepared.statements[message.copy(prefix.statement)]
        default:
            guard let target = MessageTarget(message), target.kind == MessageTarget.statement else { return nil }
            self.preparedResets?.statements[message.copy(target.name)] = nil
        }
        return nil
    }

    /// Looks at an Execute that is about to be passed on. A verdict if more of it has to be here.
    @inline(never)
    func noteResets(
        execute bytes: Span<UInt8>, _ range: Range<Int>, length: Int, _ server: ServerSession
    ) -> Verdict? {
        guard let prepared = self.preparedResets, !prepared.portals.isEmpty else { return nil }
        guard range.count == length else { return .gather(length) }
        let message = bytes.extracting(range)
        guard let execute = ExecuteMessage(message) else { return nil }
        switch prepared.portals[message.copy(execute.portal)] {
        case .command(let command)?: server.expectResets([command])
        case .uncertain?: server.expectResets([])
        case nil: break
        }
        return nil
    }

    // MARK: What is set again

    /// The startup packet's settings that commands have taken away.
    fileprivate func restoration(behind resetting: Resetting, on server: ServerSession) -> Restoration {
        let isInTransaction = server.transaction == .inTransaction
        let certain = TakenSettings(resetting.carriedOut, inTransaction: isInTransaction)
        let uncertain = TakenSettings(resetting.uncertain, inTransaction: isInTransaction)
        var restoration = Restoration()
        for parameter in self.startupSettings.parameters where self.isRestorable(parameter) {
            let key = parameter.key
            let now = server.parameters[key].flatMap { $0.isReported ? $0.value : nil }
            let isDefault = now.map { $0 == server.defaults[key]?.value }
            var taken = certain.taken(key)
            if taken == nil, isDefault == true, resetting.before?[key]?.value != now { taken = uncertain.taken(key) }
            switch taken {
            case .covered?: restoration.later += [.reset(key), .set(key, isLocal: true)]
            case .session? where isDefault ?? true: restoration.session.append(.set(parameter))
            case .local? where isDefault ?? true: restoration.local.append(.set(parameter))
            case .session?, .local?, nil: break
            }
        }
        return restoration
    }
}

/// What is set again.
private struct Restoration {
    var session: [ParameterChange] = []
    /// To the end of the transaction that is open.
    var local: [ParameterChange] = []
    /// When the transaction is over that has values of its own for it.
    var later: [SettingResets.Command] = []
}

/// Which settings commands have taken away, one after the other. The work is that of the commands, however many settings
/// there are.
private struct TakenSettings {
    /// How a setting was taken away.
    enum Taken {
        case session
        /// Only to the end of the transaction.
        case local
        /// For the session, and behind that the transaction has set it.
        case covered
    }

    /// What is known of single ones since `all`; nil if it was set behind that.
    private var names: [String: Taken?] = [:]
    private var all = false
    private var identity = false

    /// RESET ALL leaves them.
    private static let identities = ["role", "session_authorization"]

    /// - Parameter inTransaction: false if nothing is left of what was for a transaction only.
    init(_ commands: [SettingResets.Command], inTransaction: Bool) {
        for command in commands {
            switch command {
            case .reset(let name), .setDefault(let name, isLocal: false):
                self.names[name] = .some(.session)
                if name == "session_authorization" { self.names["role"] = .some(.session) }
            case .setDefault(let name, isLocal: true):
                if inTransaction { self.names[name] = .some(self.isForSession(name) ? .session : .local) }
            case .resetAll:
                self.all = true
                let kept = Self.identities.map { ($0, self.names[$0]) }
                self.names = [:]
                for case (let name, let known?) in kept { self.names[name] = .some(known) }
            case .discardAll:
                self.all = true
                self.identity = true
                self.names = [:]
            case .set(let name, isLocal: false): self.names[name] = .some(nil)
            case .set(let name, isLocal: true):
                if inTransaction { self.names[name] = .some(self.isForSession(name) ? .covered : nil) }
            case .other: break
            }
        }
    }

    private func isForSession(_ key: String) -> Bool {
        switch self.taken(key) {
        case .session?, .covered?: true
        case .local?, nil: false
        }
    }

    /// How a setting was taken away; nil if it was not.
    func taken(_ key: String) -> Taken? {
        if let known = self.names[key] { return known }
        return (Self.identities.contains(key) ? self.identity : self.all) ? .session : nil
    }
}

/// Commands that go back to what a session began with, until their settings are set again.
struct Resetting {
    /// What requests under way have in their texts, by their numbers. What comes behind these requests waits.
    fileprivate(set) var expected: [(request: UInt64, commands: ArraySlice<SettingResets.Command>)] = []
    /// What was carried out.
    fileprivate var carriedOut: [SettingResets.Command] = []
    /// What was perhaps carried out, and perhaps rolled back. What the server reports shows what has become of it.
    fileprivate var uncertain: [SettingResets.Command] = []
    /// The client's settings before that.
    fileprivate var before: ParameterSet?
    /// What was set again in the transaction that is open: ROLLBACK TO may take that back, and not the command.
    fileprivate var restored: [SettingResets.Command] = []
    /// How many of `carriedOut` nothing can roll back any more.
    private var committed = 0

    /// More of them are not told apart.
    private static let mostUncertain = 100

    /// A COMMIT has been carried out.
    mutating func commit() {
        self.committed = self.carriedOut.count
        self.restored = []
    }

    /// An error has come, or ROLLBACK was carried out: what stands before it in its transaction is rolled back, unless a
    /// savepoint stands between. DISCARD ALL has a transaction of its own.
    mutating func rollBack(_ settings: ParameterSet?) {
        let open = Array(self.carriedOut[self.committed...])
        self.carriedOut.removeSubrange(self.committed...)
        self.carriedOut += open.filter { $0 == .discardAll }
        self.committed = self.carriedOut.count
        self.doubt(open.filter { $0 != .discardAll } + self.restored, settings)
        self.restored = []
    }

    fileprivate mutating func doubt(_ commands: [SettingResets.Command], _ settings: ParameterSet?) {
        guard !commands.isEmpty else { return }
        if self.uncertain.isEmpty { self.before = settings }
        self.uncertain += commands
        if self.uncertain.count > Self.mostUncertain { self.uncertain = [.resetAll] }
    }
}

extension ServerSession {
    /// What the client waits for while settings are set again.
    enum Restoring {
        case nothing
        /// ReadyForQuery.
        case ready
        /// The rest of its request, on another server.
        case rest
    }

    /// The request that is about to be sent has such commands.
    fileprivate func expectResets(_ commands: [SettingResets.Command]) {
        self.resetting = self.resetting ?? Resetting()
        self.resetting?.expected.append((self.requests.noted + 1, commands[...]))
    }

    /// Whether what comes behind the last request has to wait until settings are what they were.
    @inline(__always)
    var isResetting: Bool { self.resetting != nil && self.holdsBehindResets }

    private var holdsBehindResets: Bool {
        return !self.requests.isEmpty && !self.requests.isUnsynced && !self.requests.isCopyingIn
    }

    /// A command was carried out that is answered by SET, RESET or DISCARD ALL.
    @inline(never)
    func settingsCommandCompleted(_ tag: Span<UInt8>) {
        guard let client = self.client, client.hasRestorable else { return }
        // Taken out, so that nothing of it is copied for each command.
        var resetting = self.resetting.take() ?? Resetting()
        defer { if resetting.isNeeded { self.resetting = resetting } }
        let current = self.requests.finished + 1
        if let index = resetting.expected.firstIndex(where: { $0.request <= current && !$0.commands.isEmpty }) {
            let command = resetting.expected[index].commands.removeFirst()
            // A name may have been given to another statement.
            if CommandTag.equals(tag, command.tag) { return resetting.carriedOut.append(command) }
        }
        if CommandTag.equals(tag, "DISCARD ALL") {
            if resetting.carriedOut.last != .discardAll { resetting.carriedOut.append(.discardAll) }
        } else if CommandTag.equals(tag, "RESET") {
            // Nobody has seen its text, which may have any number of them.
            if resetting.uncertain.last != .resetAll { resetting.doubt([.resetAll], client.parameters) }
        }
    }

    /// ReadyForQuery has come. Whether the client has to wait until its settings are as they were.
    @inline(never)
    func restores(_ client: ClientSession, for restoring: Restoring) -> Bool {
        guard var resetting = self.resetting.take(), let wanted = client.parameters else { return false }
        let finished = self.requests.finished
        resetting.expected.removeAll { $0.request <= finished }
        guard self.transaction != .failed, self.requests.isQuiet else {
            // Nothing can be set here, nor in the middle of what was sent ahead: at the next ReadyForQuery.
            if resetting.isNeeded { self.resetting = resetting }
            return false
        }
        let restoration = client.restoration(behind: resetting, on: self)
        if self.transaction == .inTransaction { self.resetting = resetting.following(restoration.later) }
        guard !restoration.session.isEmpty || !restoration.local.isEmpty else { return false }
        self.restoring = restoring
        _ = client.awaitReplies()
        self.restore(restoration.session, restoration.local, wanted, tries: Self.mostRestores)
        return true
    }

    /// A cancel that comes late for the command hits what follows.
    private static let mostRestores = 20

    private func restore(
        _ session: [ParameterChange], _ local: [ParameterChange], _ wanted: ParameterSet, tries: Int
    ) {
        let texts =
            ParameterChange.statements(session, isLocal: false, client: wanted)
            + ParameterChange.statements(local, isLocal: true, client: wanted)
        self.run(.restore(session: session, local: local, tries: tries), texts.joined(separator: ";"))
    }

    /// They are, or cannot be.
    func restored(_ session: [ParameterChange], _ local: [ParameterChange], tries: Int, _ error: ErrorFields?) {
        if let error, error.sqlState == SQLState.queryCanceled, self.transaction == .idle, tries > 0,
            let wanted = self.client?.parameters
        {
            return self.restore(session, local, wanted, tries: tries - 1)
        }
        let isCancelled = self.cancelsWhenSet
        self.cancelsWhenSet = false
        if error == nil {
            let (ours, theirs) = self.worker.parameters.applied(
                session + local, client: self.client?.parameters ?? self.parameters, server: self.parameters)
            self.parameters = theirs
            self.client?.settingsApplied(ours)
        }
        guard let client = self.client else { return }
        if let error {
            // In a transaction that is the client's own error: it has cancelled its command.
            guard self.transaction == .failed else { return client.settingsFailed(error) }
            client.send(MessageWriter.bytes { $0.errorResponse(error) })
        }
        if case .ready = self.restoring {
            let status = self.transaction
            client.send(MessageWriter.bytes { $0.readyForQuery(status) })
        }
        self.restoring = .nothing
        self.due = .ready
        if isCancelled && !self.requests.isEmpty { self.cancelRunning() }
    }
}

extension Resetting {
    /// Whether there is anything to remember.
    fileprivate var isNeeded: Bool {
        !self.expected.isEmpty || !self.carriedOut.isEmpty || !self.uncertain.isEmpty || !self.restored.isEmpty
    }

    /// What is to be remembered in the transaction that goes on, when settings are set again but for some.
    fileprivate func following(_ later: [SettingResets.Command]) -> Resetting? {
        var next = Resetting()
        next.carriedOut = later
        next.restored = self.restored + self.carriedOut + self.uncertain
        if next.restored.count > Self.mostUncertain { next.restored = [.resetAll] }
        return next.isNeeded ? next : nil
    }
}
