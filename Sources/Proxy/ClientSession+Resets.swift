import Pooling
import Reactor
import SQL
import Wire

// RESET goes back to the value that the startup packet has given, as long as the server is the client's own. Here the server
// had another startup packet. So behind each such command the settings are set again in which the two differ, before anything
// else runs: in the same Query, whose answers to that nobody sees, or behind the Execute.
extension ClientSession {
    /// A longer text is not looked at.
    private static let lookLimit = 64 << 10
    /// Prepared statements that are a RESET; a client has hardly more than one of them.
    private static let mostPrepared = 100

    /// The prepared statements that set settings back, and the portals that they are bound to.
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

    /// The settings that have to be set again behind a command.
    private func restored(behind command: SettingResets.Command) -> [Parameter] {
        self.startupSettings.parameters.filter { parameter in
            guard self.isRestorable(parameter) else { return false }
            return switch command.target {
            case .one(let name): parameter.key == name
            case .all: parameter.key != "role" && parameter.key != "session_authorization"
            case .discarded: true
            }
        }
    }

    private func resets(in text: Span<UInt8>) -> SettingResets? {
        guard text.count <= Self.lookLimit, SettingResets.mayBeIn(text) else { return nil }
        if case .mixed = self.encoding {
            // A byte below 128 may be part of another character.
            for index in 0..<text.count where text[index] >= 128 { return nil }
        }
        return SettingResets(text, standardConformingStrings: self.hasStandardStrings)
    }

    private func restoringText(_ parameters: [Parameter], isLocal: Bool) -> String {
        ParameterChange.statement(parameters, isLocal: isLocal, client: self.parameters ?? .empty)
    }

    // MARK: Query

    /// Whether a Query has to be looked at: most are ruled out by their first letters.
    @inline(__always)
    func mayReset(query bytes: Span<UInt8>, _ range: Range<Int>, length: Int) -> Bool {
        guard self.hasRestorable else { return false }
        let text = range.lowerBound &+ MessageFramer.headerLength
        return range.count < length || SettingResets.mayBegin(bytes, at: text, before: range.upperBound)
            || SettingResets.mayHaveSeveral(bytes, from: text, to: range.upperBound)
    }

    /// Looks at a Query. Nil: it goes on as it is.
    @inline(never)
    func resettingQuery(
        _ bytes: Span<UInt8>, _ range: Range<Int>, length: Int, _ server: ServerSession, run: inout Int
    ) -> Verdict? {
        guard length <= Self.lookLimit else { return nil }
        guard range.count == length else { return .gather(length) }
        let message = bytes.extracting(range)
        guard let query = QueryMessage.text(message) else { return nil }
        let text = message.extracting(query)
        guard let resets = self.resets(in: text) else { return nil }
        let restored = resets.commands.map { (command: $0, parameters: self.restored(behind: $0)) }
            .filter { !$0.parameters.isEmpty }
        guard let first = restored.first else { return nil }
        let commands = SessionCommands(text, standardConformingStrings: self.hasStandardStrings, settings: [])
        guard commands.deallocations.isEmpty else { return nil }
        if commands.deallocatesAll && self.mayHaveNames(server) {
            if server.areNamesInDoubt { return self.awaitReplies() }
            server.deallocations.append(.init(request: server.requests.noted + 1, names: []))
        }
        self.pass(bytes, run..<range.lowerBound)
        server.isParsingUncertain = true
        server.requests.append(.query)
        server.unnamedStatement = 0
        self.forgetUnnamed()
        if case .discarded = first.command.target {
            // It is alone in its Query. When it fails in a transaction, so does what follows.
            server.send(message)
            server.restore(first.parameters, for: self)
            return .replaced(upTo: range.upperBound)
        }
        var rewritten: [UInt8] = []
        var insertion = ServerSession.Insertion(request: server.requests.noted)
        var position = 0
        var characters = 0
        for (command, parameters) in restored {
            rewritten.append(text, position..<command.end)
            characters += self.characters(of: text.extracting(position..<command.end))
            position = command.end
            let start = rewritten.count
            // What ends without a semicolon may end in a comment.
            rewritten += Array((command.hasSemicolon ? " " : "\n;").utf8)
            rewritten += Array((self.restoringText(parameters, isLocal: command.isLocal) + ";").utf8)
            insertion.numbers.append(command.number + insertion.numbers.count + 2)
            insertion.places.append((characters, rewritten.count - start))
        }
        rewritten.append(text, position..<text.count)
        server.insertions.append(insertion)
        server.send(MessageWriter.bytes { $0.query(rewritten) })
        return .replaced(upTo: range.upperBound)
    }

    /// How many characters a text has, as errors count them.
    private func characters(of text: Span<UInt8>) -> Int {
        guard case .utf8 = self.encoding else { return text.count }
        var count = 0
        for index in 0..<text.count where text[index] & 0xc0 != 0x80 { count += 1 }
        return count
    }

    // MARK: Prepared statements

    /// Whether a Parse or Bind has to be looked at.
    @inline(__always)
    func mayReset(prepared type: UInt8, _ bytes: Span<UInt8>, _ range: Range<Int>, length: Int) -> Bool {
        guard self.hasRestorable else { return false }
        if type == Frontend.bind { return self.preparedResets != nil }
        guard type == Frontend.parse else { return false }
        if self.preparedResets != nil || range.count < length { return true }
        var name = range.lowerBound &+ MessageFramer.headerLength
        while name < range.upperBound, bytes[name] != 0 { name &+= 1 }
        // What is prepared is one statement.
        return SettingResets.mayBegin(bytes, at: name &+ 1, before: range.upperBound)
    }

    /// Looks at a Parse or Bind. A verdict if more of it has to be here.
    @inline(never)
    func noteResets(_ type: UInt8, _ bytes: Span<UInt8>, _ range: Range<Int>, length: Int) -> Verdict? {
        let message = bytes.extracting(range)
        if type == Frontend.parse {
            guard length <= Self.lookLimit else { return nil }
            guard range.count == length else { return .gather(length) }
            guard let parse = ParseMessage(message) else { return nil }
            let resets = self.resets(in: message.extracting(parse.query))
            if let command = resets?.commands.first, resets?.statements == 1 {
                let prepared = self.preparedResets ?? PreparedResets()
                if prepared.statements.count >= Self.mostPrepared { prepared.statements = [:] }
                prepared.statements[message.copy(parse.statement)] = command
                self.preparedResets = prepared
            } else if self.preparedResets != nil {
                self.preparedResets?.statements[message.copy(parse.statement)] = nil
            }
        } else if self.preparedResets != nil, case .prefix(let prefix) = BindPrefix.parse(message) {
            let command = self.preparedResets?.statements[message.copy(prefix.statement)]
            if self.preparedResets?.portals.count ?? 0 >= Self.mostPrepared { self.preparedResets?.portals = [:] }
            self.preparedResets?.portals[message.copy(prefix.portal)] = command
        }
        return nil
    }

    /// Execute of a client that has bound such a statement. Nil: it goes on as it is.
    @inline(never)
    func executeReset(
        _ bytes: Span<UInt8>, _ range: Range<Int>, length: Int, _ server: ServerSession, run: inout Int
    ) -> Verdict? {
        guard let prepared = self.preparedResets, !prepared.portals.isEmpty else { return nil }
        guard range.count == length else { return .gather(length) }
        let message = bytes.extracting(range)
        guard let execute = ExecuteMessage(message), let command = prepared.portals[message.copy(execute.portal)] else {
            return nil
        }
        let parameters = self.restored(behind: command)
        guard !parameters.isEmpty else { return nil }
        self.pass(bytes, run..<range.upperBound)
        server.isParsingUncertain = true
        server.requests.append(.execute)
        server.runInPassing(self.restoringText(parameters, isLocal: command.isLocal))
        return .replaced(upTo: range.upperBound)
    }
}

extension ServerSession {
    /// A Query into which statements were put: its number among the requests, and which of its statements are the proxy's.
    struct Insertion {
        let request: UInt64
        var numbers: [Int] = []
        /// Behind how many characters of the client's text, and how many were put there.
        var places: [(position: Int, count: Int)] = []
        /// Statements that are over.
        var completed = 0

        init(request: UInt64) { self.request = request }
    }

    /// An error's message with its position in the text that the client has sent; nil if it is right as it is.
    @inline(never)
    func movedBack(_ message: Span<UInt8>) -> [UInt8]? {
        guard let insertion = self.insertions.first, insertion.request == self.requests.finished + 1 else { return nil }
        var moved: [UInt8] = []
        var index = MessageFramer.headerLength
        while index < message.count, message[index] != 0 {
            let start = index
            while index < message.count, message[index] != 0 { index += 1 }
            if message[start] == UInt8(ascii: "P"), let position = Int(message.text((start + 1)..<index)) {
                var result = position
                // The first character has number 1.
                for place in insertion.places where result > place.position + place.count { result -= place.count }
                if result == position { return nil }
                moved += [UInt8(ascii: "P")] + Array(String(result).utf8)
            } else {
                moved.append(message, start..<index)
            }
            moved.append(0)
            index += 1
        }
        moved.append(0)
        let length = UInt32(moved.count + 4)
        return [message[0]] + (0..<4).map { UInt8(truncatingIfNeeded: length >> UInt32(24 - 8 * $0)) } + moved
    }

    /// A statement of a Query is over.
    @inline(never)
    func insertedCommandCompleted() {
        guard self.insertions.first?.request == self.requests.finished + 1 else { return }
        self.insertions[0].completed += 1
        self.isInInsertion = self.insertions[0].numbers.contains(self.insertions[0].completed + 1)
    }

    /// A request has ended, or failed.
    @inline(never)
    func insertionsEnded(_ finished: UInt64) {
        self.isInInsertion = false
        while let first = self.insertions.first, first.request <= finished { self.insertions.removeFirst() }
    }

    /// Sets the startup packet's settings again, behind a command that has taken them away.
    func restore(_ parameters: [Parameter], for client: ClientSession) {
        guard let wanted = client.parameters else { return }
        let changes = parameters.map { ParameterChange.set($0) }
        self.run(.restore(changes), ParameterChange.statement(changes, client: wanted))
    }

    /// Whether the next thing the server says is about that.
    var isRestoring: Bool {
        guard self.requests.head?.disposition == .own, case .restore? = self.ownQueries.first else { return false }
        return true
    }

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
