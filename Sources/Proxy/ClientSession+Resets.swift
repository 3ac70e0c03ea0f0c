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

    /// The prepared statements that change settings, one of which goes back, and the portals that they are bound to.
    final class PreparedResets {
        var statements: [[UInt8]: SettingResets.Command] = [:]
        var portals: [[UInt8]: SettingResets.Command] = [:]
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
            // A name that is in use stays what it is.
            if !name.isEmpty && self.preparedResets?.statements[name] != nil { return nil }
            if let command = self.resets(in: message.extracting(parse.query))?.commands.first {
                let prepared = self.preparedResets ?? PreparedResets()
                if prepared.statements.count >= Self.mostPrepared { prepared.statements = [:] }
                prepared.statements[name] = command
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
        guard let execute = ExecuteMessage(message), let command = prepared.portals[message.copy(execute.portal)] else {
            return nil
        }
        server.expectResets([command])
        return nil
    }

    // MARK: What is set again

    /// The startup packet's settings that commands have taken away: for the session, and for the transaction that is open.
    fileprivate func restored(
        behind resetting: Resetting, on server: ServerSession
    ) -> (session: [ParameterChange], local: [ParameterChange]) {
        let certain = TakenSettings(resetting.carriedOut)
        let uncertain = TakenSettings(resetting.uncertain)
        let parameters = self.startupSettings.parameters.filter { parameter in
            guard self.isRestorable(parameter) else { return false }
            // What the server reports shows whether it was reset.
            if let now = server.parameters[parameter.key], now.isReported {
                return (certain.isLocal(parameter.key) ?? uncertain.isLocal(parameter.key)) != nil
                    && now.value == server.defaults[parameter.key]?.value
            }
            return certain.isLocal(parameter.key) != nil
        }
        let isLocal = { (parameter: Parameter) in
            certain.isLocal(parameter.key) ?? uncertain.isLocal(parameter.key) ?? false
        }
        let local = server.transaction == .inTransaction ? parameters.filter(isLocal) : []
        return (parameters.filter { !isLocal($0) }.map { .set($0) }, local.map { .set($0) })
    }
}

/// Which settings commands have taken away, one after the other. The work is that of the commands, however many settings
/// there are.
private struct TakenSettings {
    /// What is known of single ones since `all`: whether only to the end of the transaction; nil if it was set behind that.
    private var names: [String: Bool?] = [:]
    private var all = false
    private var identity = false

    /// RESET ALL leaves them.
    private static let identities = ["role", "session_authorization"]

    init(_ commands: [SettingResets.Command]) {
        for command in commands {
            switch command {
            case .reset(let name, let isLocal):
                self.names[name] = .some(isLocal)
                if name == "session_authorization" { self.names["role"] = .some(isLocal) }
            case .resetAll:
                self.all = true
                let kept = Self.identities.map { ($0, self.names[$0]) }
                self.names = [:]
                for case (let name, let known?) in kept { self.names[name] = .some(known) }
            case .discardAll:
                self.all = true
                self.identity = true
                self.names = [:]
            case .set(let name): self.names[name] = .some(nil)
            case .other: break
            }
        }
    }

    /// Whether a setting was taken away only to the end of the transaction; nil if it was not taken away.
    func isLocal(_ key: String) -> Bool? {
        if let known = self.names[key] { return known }
        return (Self.identities.contains(key) ? self.identity : self.all) ? false : nil
    }
}

/// Commands that go back to what a session began with, until the request is over in which they stand.
struct Resetting {
    /// What requests under way have in their texts, by their numbers. What comes behind these requests waits.
    fileprivate(set) var expected: [(request: UInt64, commands: ArraySlice<SettingResets.Command>)] = []
    /// What was carried out since the last ReadyForQuery.
    fileprivate(set) var carriedOut: [SettingResets.Command] = []
    /// What was perhaps carried out, and perhaps rolled back. What the server reports shows what has become of it.
    fileprivate(set) var uncertain: [SettingResets.Command] = []
    /// How many of `carriedOut` nothing can roll back any more.
    private var committed = 0

    fileprivate init(expected: [(request: UInt64, commands: ArraySlice<SettingResets.Command>)] = []) {
        self.expected = expected
    }

    /// A COMMIT has been carried out.
    mutating func commit() { self.committed = self.carriedOut.count }

    /// An error has come: what stands before it in its transaction is rolled back. DISCARD ALL has one of its own.
    mutating func fail() {
        let open = Array(self.carriedOut[self.committed...])
        self.carriedOut.removeSubrange(self.committed...)
        self.carriedOut += open.filter { $0 == .discardAll }
        self.uncertain += open.filter { $0 != .discardAll }
    }
}

extension ServerSession {
    /// The request that is about to be sent has such commands.
    fileprivate func expectResets(_ commands: [SettingResets.Command]) {
        self.resetting = self.resetting ?? Resetting()
        self.resetting?.expected.append((self.requests.noted + 1, commands[...]))
    }

    /// Whether what comes behind the last request has to wait until settings are what they were.
    @inline(__always)
    var isResetting: Bool { self.resetting != nil && self.holdsBehindResets }

    private var holdsBehindResets: Bool {
        guard let resetting = self.resetting, !resetting.expected.isEmpty else { return false }
        return !self.requests.isEmpty && !self.requests.isUnsynced && !self.requests.isCopyingIn
    }

    /// A command was carried out that is answered by SET, RESET or DISCARD ALL.
    @inline(never)
    func settingsCommandCompleted(_ tag: Span<UInt8>) {
        guard self.client?.hasRestorable ?? false else { return }
        // Taken out, so that nothing of it is copied for each command.
        var resetting = self.resetting.take() ?? Resetting()
        let current = self.requests.finished + 1
        if let index = resetting.expected.firstIndex(where: { $0.request <= current && !$0.commands.isEmpty }) {
            resetting.carriedOut.append(resetting.expected[index].commands.removeFirst())
        } else if CommandTag.equals(tag, "DISCARD ALL") {
            if resetting.carriedOut.last != .discardAll { resetting.carriedOut.append(.discardAll) }
        } else if CommandTag.equals(tag, "RESET") {
            // Nobody has seen its text, which may have any number of them.
            if resetting.uncertain.last != .resetAll { resetting.uncertain.append(.resetAll) }
        } else if resetting.expected.isEmpty && resetting.carriedOut.isEmpty && resetting.uncertain.isEmpty {
            return
        }
        self.resetting = resetting
    }

    /// ReadyForQuery has come. Whether the client has to wait for it until its settings are as they were.
    @inline(never)
    func restores(_ client: ClientSession) -> Bool {
        guard let resetting = self.resetting else { return false }
        let finished = self.requests.finished
        let left = resetting.expected.filter { $0.request > finished }
        self.resetting = left.isEmpty ? nil : Resetting(expected: left)
        guard self.transaction != .failed, let wanted = client.parameters else { return false }
        let (session, local) = client.restored(behind: resetting, on: self)
        guard !session.isEmpty || !local.isEmpty else { return false }
        // Requests that were sent ahead are answered first.
        let isHeld = self.requests.isEmpty
        let texts =
            ParameterChange.statements(session, isLocal: false, client: wanted)
            + ParameterChange.statements(local, isLocal: true, client: wanted)
        self.run(.restore(session + local), texts.joined(separator: ";"))
        self.holdsReady = isHeld
        return isHeld
    }

    /// They are, or cannot be.
    func restored(_ changes: [ParameterChange], _ error: ErrorFields?) {
        let isCancelled = self.cancelsWhenSet
        self.cancelsWhenSet = false
        if error == nil {
            let (ours, theirs) = self.worker.parameters.applied(
                changes, client: self.client?.parameters ?? self.parameters, server: self.parameters)
            self.parameters = theirs
            self.client?.settingsApplied(ours)
        }
        guard let client = self.client else { return }
        if let error, error.sqlState != SQLState.inFailedTransaction { return client.settingsFailed(error) }
        if self.holdsReady {
            self.holdsReady = false
            let status = self.transaction
            client.send(MessageWriter.bytes { $0.readyForQuery(status) })
        }
        self.due = .ready
        if isCancelled && !self.requests.isEmpty { self.cancelRunning() }
    }
}
