import Pooling
import Reactor
import SQL
import Settings
import Wire

// DEALLOCATE by SQL of a statement that a client has prepared by the protocol, as drivers without Close do (DBD::Pg, PHP's
// PDO): it is a Close. On the server the statement has another name, and others use it: the server gets the command with
// the name of an empty statement, prepared ahead of it. So the answer is the server's own, in a failed transaction too.
extension ClientSession {
    /// A longer text is not looked at.
    private static let lookLimit = 64 << 10

    /// Looks at a Query of a client that has named statements. Nil: it goes on as it is.
    @inline(never)
    func namedQuery(
        _ bytes: Span<UInt8>, _ range: Range<Int>, length: Int, _ server: ServerSession, run: inout Int
    ) -> Verdict? {
        guard length <= Self.lookLimit else {
            server.isParsingUncertain = true
            return nil
        }
        guard range.count == length else { return .gather(length) }
        let message = bytes.extracting(range)
        guard let query = QueryMessage.text(message), SessionCommands.mayBeIn(message.extracting(query)) else {
            return nil
        }
        let text = message.extracting(query)
        let commands = self.commands(text)
        if commands.changesSettings { server.isParsingUncertain = true }
        guard !commands.deallocations.isEmpty || commands.deallocatesAll else { return nil }
        if server.areNamesInDoubt { return self.awaitReplies() }
        var names: [[UInt8]?] = []
        var replaced: [(range: Range<Int>, name: [UInt8])] = []
        for deallocation in commands.deallocations {
            if !names.contains(deallocation.name), self.statements.find(deallocation.name.span) != nil {
                replaced.append((deallocation.range, Self.emptyStatement(replaced.count)))
                names.append(deallocation.name)
            } else {
                // The server knows it, or knows better.
                names.append(nil)
            }
        }
        guard !replaced.isEmpty else {
            // What comes behind it waits until it is known whether the names are free.
            if commands.deallocatesAll {
                server.deallocations.append(.init(request: server.requests.noted + 1, names: []))
            }
            return nil
        }
        self.pass(bytes, run..<range.lowerBound)
        for number in replaced.indices { _ = self.sendEmptyStatement(number, server) }
        server.requests.append(.query)
        server.unnamedStatement = 0
        self.forgetUnnamed()
        server.deallocations.append(.init(request: server.requests.noted, names: names))
        let rewritten = Self.replacing(replaced, in: text)
        server.send(MessageWriter.bytes { $0.query(rewritten) })
        return .replaced(upTo: range.upperBound)
    }

    /// Whether a Query begins like a DEALLOCATE or DISCARD, behind which names are free, or calls `set_config`, which says no
    /// more in its answer than other functions do. That of a client without named statements is looked at for those only,
    /// and for the latter only where something may be prepared behind it in the same transaction.
    @inline(__always)
    static func isLookedAt(_ bytes: Span<UInt8>, _ range: Range<Int>, length: Int, _ server: ServerSession) -> Bool {
        let text = range.lowerBound + MessageFramer.headerLength
        guard text < range.upperBound else { return false }
        let first = bytes[text] | 0x20
        if first == UInt8(ascii: "d") { return true }
        // What begins like this begins no transaction.
        if server.runsAlone && first &- UInt8(ascii: "a") < 26 && first != UInt8(ascii: "b") { return false }
        return range.count < length
            || SessionCommands.mentionsSetConfig(bytes, from: text, to: range.upperBound)
    }

    /// Whether a Parse of the unnamed statement may be one: white space, comments and the letter are.
    @inline(__always)
    static func mayDeallocate(_ tail: [UInt8]) -> Bool {
        guard let first = tail.first else { return false }
        return first | 0x20 == UInt8(ascii: "d") || (1...UInt8(ascii: " ")).contains(first)
            || first == UInt8(ascii: "/")
            || first == UInt8(ascii: "-")
    }

    /// What Execute of a statement does that is a DEALLOCATE or DISCARD.
    enum Deallocation {
        /// What it is about, and the Parse behind the statement's name with another name in it.
        case one([UInt8], tail: [UInt8])
        case all
    }

    /// A portal that was bound from one.
    struct BoundDeallocation {
        let portal: [UInt8]
        let deallocation: Deallocation
    }

    /// More portals of that kind than anybody has; of older ones nothing is known.
    private static let mostBound = 100

    /// What the text of a Parse, with what stands behind it, deallocates.
    private func deallocation(_ tail: [UInt8]) -> Deallocation? {
        let length = tail.firstIndex(of: 0) ?? tail.count
        let text = tail.span.extracting(0..<length)
        guard length <= Self.lookLimit, SessionCommands.mayBeIn(text) else { return nil }
        let commands = self.commands(text)
        if commands.deallocatesAll { return .all }
        guard let found = commands.deallocations.first, commands.deallocations.count == 1 else { return nil }
        return .one(
            found.name, tail: Self.replacing([(found.range, Self.emptyStatement(0))], in: text) + tail[length...])
    }

    /// Looks at the text of an unnamed statement.
    func noteCommands(_ text: Span<UInt8>, _ server: ServerSession) {
        guard text.count <= Self.lookLimit else { return server.isParsingUncertain = true }
        guard SessionCommands.mayBeIn(text), self.commands(text).changesSettings else { return }
        server.isParsingUncertain = true
    }

    private func commands(_ text: Span<UInt8>) -> SessionCommands {
        SessionCommands(text, standardConformingStrings: self.hasStandardStrings, settings: ParsingSettings.names)
    }

    /// A Bind of a statement that may be a DEALLOCATE: if it is one, and the client has what it is about, Execute will be
    /// that of a Close. Nil: it goes on as a Bind of the statement, or of what is in its place (the last of
    /// `boundDeallocations`).
    ///
    /// - Parameter tail: the statement's Parse behind its name; empty if it is certainly none.
    @inline(never)
    func bindDeallocation(
        _ prefix: BindPrefix, _ tail: [UInt8], _ bytes: Span<UInt8>, _ range: Range<Int>, _ server: ServerSession,
        run: inout Int
    ) -> Verdict? {
        let portal = bytes.extracting(range).copy(prefix.portal)
        // No portal outlives its transaction.
        let isOver = server.runsAlone
        self.boundDeallocations.removeAll { isOver || $0.portal == portal }
        guard let found = self.deallocation(tail) else { return nil }
        if server.areNamesInDoubt { return self.awaitReplies() }
        guard case .one(let gone, let rewritten) = found else {
            self.note(BoundDeallocation(portal: portal, deallocation: .all))
            return nil
        }
        guard self.statements.find(gone.span) != nil else { return nil }
        self.note(BoundDeallocation(portal: portal, deallocation: found))
        guard prefix.statement.isEmpty else { return nil }
        self.pass(bytes, run..<range.lowerBound)
        server.requests.append(.parse, .swallow)
        server.send(MessageWriter.bytes { $0.parse(statement: [], tail: rewritten) })
        server.unnamedStatement = 0
        server.requests.append(.bind)
        return .replaced(upTo: range.lowerBound)
    }

    private func note(_ bound: BoundDeallocation) {
        if self.boundDeallocations.count >= Self.mostBound { self.boundDeallocations.removeFirst() }
        self.boundDeallocations.append(bound)
    }

    /// Execute, where `bindDeallocation` has seen something. Nil if it is of another portal.
    @inline(never)
    func executeDeallocation(
        _ bytes: Span<UInt8>, _ range: Range<Int>, length: Int, _ server: ServerSession, run: inout Int
    ) -> Verdict? {
        guard range.count == length else { return .gather(length) }
        let message = bytes.extracting(range)
        guard let execute = ExecuteMessage(message),
            let index = self.boundDeallocations.firstIndex(where: {
                $0.portal.span.equals(message.extracting(execute.portal))
            })
        else { return nil }
        guard case .one(let name, _) = self.boundDeallocations.remove(at: index).deallocation else {
            // What comes behind it waits until it is known whether the names are free. Nobody else asks for that answer.
            self.pass(bytes, run..<range.upperBound)
            server.requests.append(.execute)
            server.deallocations.append(.init(request: server.requests.noted, names: []))
            server.send(MessageWriter.bytes { $0.flush() })
            return .replaced(upTo: range.upperBound)
        }
        guard let removed = self.statements.remove(name.span) else {
            server.requests.append(.execute)
            return .pass
        }
        self.pass(bytes, run..<range.lowerBound)
        run = range.lowerBound
        _ = self.sendEmptyStatement(0, server)
        server.effects.append(.closed(name, removed))
        server.requests.append(.execute, hasEffect: true)
        return .pass
    }

    private static func emptyStatement(_ number: Int) -> [UInt8] { Array("martlet_gone_\(number)".utf8) }

    /// Prepares a statement without text, which is allowed in a failed transaction, too. Returns its name.
    func sendEmptyStatement(_ number: Int, _ server: ServerSession) -> [UInt8] {
        let name = Self.emptyStatement(number)
        server.requests.append(.close, .swallow)
        server.requests.append(.parse, .swallow)
        server.send(
            MessageWriter.bytes {
                $0.close(statement: name)
                $0.parse(statement: name, tail: [0, 0, 0])
            })
        return name
    }

    private static func replacing(_ names: [(range: Range<Int>, name: [UInt8])], in text: Span<UInt8>) -> [UInt8] {
        var result: [UInt8] = []
        var position = 0
        for each in names {
            result.append(text, position..<each.range.lowerBound)
            result.append(UInt8(ascii: "\""))
            result += each.name
            result.append(UInt8(ascii: "\""))
            position = each.range.upperBound
        }
        result.append(text, position..<text.count)
        return result
    }
}

extension ServerSession {
    /// A Query, or Execute, with DEALLOCATE in it: its number among the requests, and the statements of its client that each of them
    /// is about, nil where it is about another.
    struct Deallocations {
        let request: UInt64
        var names: [[UInt8]?]
    }

    /// Which names a client has depends on how its requests before the last Sync end.
    var areNamesInDoubt: Bool {
        self.requests.hasEarlierEffects || self.isDeallocating
    }

    /// Whether a request is under way that takes names away.
    var isDeallocating: Bool {
        if self.deallocations.isEmpty || self.requests.isCopyingIn { return false }
        self.forgetDeallocations()
        return !self.deallocations.isEmpty
    }

    /// Those that are over.
    private func forgetDeallocations() {
        let finished = self.requests.finished
        self.deallocations.removeAll { $0.request <= finished }
    }

    /// A DEALLOCATE has been carried out.
    @inline(never)
    func deallocated() {
        self.forgetDeallocations()
        let current = self.requests.finished + 1
        guard let first = self.deallocations.first, first.request == current, !first.names.isEmpty else { return }
        if let name = self.deallocations[0].names.removeFirst() { self.client?.statements.remove(name.span) }
    }
}
