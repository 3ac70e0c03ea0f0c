import Pooling
import Testing

/// A conversation of a client and a server in letters: the message types of the protocol, in words that begin with `>`
/// (the client sends) or `<` (the server does). `c` from the client is CopyDone or CopyFail.
private struct Conversation: CustomTestStringConvertible, Sendable {
    let name: String
    let messages: String
    /// For each message of the server: the type of the request that it completes, `.` for none, `?` for unsolicited.
    let completed: String
    /// The state afterwards: `quiet`, or what is the matter.
    let state: String

    init(_ name: String, _ messages: String, _ completed: String, _ state: String) {
        (self.name, self.messages, self.completed, self.state) = (name, messages, completed, state)
    }

    var testDescription: String { self.name }
}

private let kinds: [(letter: Character, kind: RequestKind)] = [
    ("Q", .query), ("F", .function), ("P", .parse), ("B", .bind), ("D", .describe), ("E", .execute), ("C", .close),
    ("S", .sync), ("c", .copyEnd),
]

extension OutstandingRequests {
    fileprivate mutating func ask(
        _ letters: String, _ disposition: Disposition = .forward, hasEffect: Bool = false
    ) {
        for letter in letters {
            guard let kind = kinds.first(where: { $0.letter == letter })?.kind else {
                Issue.record("no such request: \(letter)")
                continue
            }
            self.append(kind, disposition, hasEffect: hasEffect)
        }
    }

    @discardableResult
    fileprivate mutating func tell(_ letters: String) -> [Reply] { letters.utf8.map { self.reply($0) } }

    fileprivate var state: String {
        var words: [String] = []
        if self.isQuiet { words.append("quiet") }
        if self.isSkipping { words.append("skipping") } else if self.isUnsynced { words.append("unsynced") }
        if self.isCopyingIn { words.append("copying") }
        if self.isUncertain { words.append("uncertain") }
        if !self.isEmpty { words.append("\(self.count) left") }
        return words.joined(separator: " ")
    }
}

extension OutstandingRequests.Reply {
    fileprivate var letter: Character {
        if self.isUnsolicited { return "?" }
        guard let completed = self.completed else { return "." }
        return kinds.first { $0.kind == completed }?.letter ?? "!"
    }
}

/// Conversations as PostgreSQL 15 holds them: each was tried out on a server, message by message.
private let conversations: [Conversation] = [
    // Simple queries.
    .init("Query", ">Q <TDCZ", "...Q", "quiet"),
    .init("Query of several statements", ">Q <TDCCIZ", ".....Q", "quiet"),
    .init("empty Query", ">Q <IZ", ".Q", "quiet"),
    .init("failing Query", ">Q <EZ", ".Q", "quiet"),
    .init("Query that is not finished", ">Q <TDC", "...", "1 left"),
    .init("queries one behind the other", ">QQQ <CZEZCZ", ".Q.Q.Q", "quiet"),
    .init("FunctionCall", ">F <VZ", ".F", "quiet"),
    .init("failing FunctionCall", ">F <EZ", ".F", "quiet"),
    .init("COPY OUT", ">Q <HdcCZ", "....Q", "quiet"),

    // Extended queries.
    .init("one of each", ">PBDECS <12TDC3Z", "PBD.ECS", "quiet"),
    .init("describe a statement with parameters", ">PDS <1tTZ", "P.DS", "quiet"),
    .init("describe what has no rows", ">PDS <1tnZ", "P.DS", "quiet"),
    .init("empty statement", ">PBDES <12nIZ", "PBDES", "quiet"),
    .init("portal with a row limit", ">PBEEES <12DDsDDsDCZ", "PB..E..E.ES", "quiet"),
    .init("lone Syncs", ">SSS <ZZZ", "SSS", "quiet"),
    .init("Flush instead of Sync", ">PBE <12C", "PBE", "unsynced"),
    .init("Flush, then Sync", ">PBE <12C >S <Z", "PBES", "quiet"),
    .init("Query instead of Sync", ">PBE <12C >Q <TDCZ", "PBE...Q", "quiet"),
    .init("Query right behind", ">PBEQ <12CTDCZ", "PBE...Q", "quiet"),
    .init("FunctionCall instead of Sync", ">PBE <12C >F <VZ", "PBE.F", "quiet"),
    .init("Parse behind a Query", ">Q <CZ >P", ".Q", "unsynced 1 left"),

    // Errors.
    .init("Parse fails", ">PBDES <EZ", "PS", "quiet"),
    .init("Bind fails", ">PBES <1EZ", "PBS", "quiet"),
    .init("Describe fails", ">PDS <1EZ", "PDS", "quiet"),
    .init("Execute fails after rows", ">PBES <12DDEZ", "PB..ES", "quiet"),
    .init("Close fails", ">CS <EZ", "CS", "quiet"),
    .init("error at Sync: a deferred constraint", ">PBES <12CEZ", "PBE.S", "quiet"),
    .init("the Query in front of Sync is skipped too", ">PQS <EZ", "PS", "quiet"),
    .init("so is a FunctionCall", ">PFS <EZ", "PS", "quiet"),
    .init("no Sync yet", ">PBE <E", "P", "skipping"),
    .init("Sync comes later", ">PBE <E >S", "P", "1 left"),
    .init("Sync comes later and is answered", ">PBE <E >S <Z", "PS", "quiet"),
    .init("a skipped Query does not end the skipping", ">PQ <E", "P", "skipping"),
    .init("a skipped Query and a Sync that comes later", ">PQ <E >S <Z", "PS", "quiet"),
    .init("pipeline of Syncs, the second part fails", ">PBESPBESPBES <12CZE", "PBESP", "5 left"),
    .init("… and the third is carried out", ">PBESPBESPBES <12CZEZ12CZ", "PBESPSPBES", "quiet"),
    .init("each part fails", ">PSPSPS <EZEZEZ", "PSPSPS", "quiet"),
    .init("Query behind a failed part", ">PBSQ <EZCZ", "PS.Q", "quiet"),
    .init("part behind a failed one has no Sync yet", ">PSP <EZE", "PSP", "skipping"),

    // COPY FROM STDIN by Query.
    .init("COPY IN begins", ">Q <G", ".", "copying 1 left"),
    .init("COPY IN, CopyDone", ">Q <G >c <CZ", "..Q", "quiet"),
    .init("COPY IN, CopyFail", ">Q <G >c <EZ", "..Q", "quiet"),
    .init("data refused", ">Q <GEZ", "..Q", "quiet"),
    .init("data refused, late end of the data", ">Q <GEZ >c", "..Q", "quiet"),
    .init("data refused, two late ends", ">Q <GE >cc <Z", "..Q", "quiet"),
    .init("late end, then a query", ">Q <GEZ >cQ <CZ", "..Q.Q", "quiet"),
    .init("two copies in one Query", ">Q <G >c <CG >c <CZ", "....Q", "quiet"),
    .init("Sync in the middle", ">Q <G >Sc <CZ", "..Q", "quiet"),
    .init("Query behind a copy", ">Q <G >cQ <CZTDCZ", "..Q...Q", "quiet"),

    // COPY FROM STDIN by Execute.
    .init("Execute, CopyDone, Sync", ">PBE <12G >cS <CZ", "PB.ES", "quiet"),
    .init("Execute, Flush, Sync later", ">PBE <12G >c <C", "PB.E", "unsynced"),
    .init("Execute, CopyFail, Sync", ">PBE <12G >cS <EZ", "PB.ES", "quiet"),
    .init("Execute, data refused", ">PBE <12GE", "PB.E", "skipping"),
    .init("Execute, data refused, late end and Sync", ">PBE <12GE >cS <Z", "PB.ES", "quiet"),
    .init("as libpq does it", ">PBDES <12nG >cS <CZ", "PBD.ES", "quiet"),
    .init("as libpq does it: still copying", ">PBDES <12nG", "PBD.", "unsynced copying 1 left"),

    // Sent blindly, before CopyInResponse has come.
    .init("blind Query", ">Qc <GCZ", "..Q", "quiet"),
    .init("blind Query fails at once", ">Qc <EZ", ".Q", "quiet"),
    .init("blind Query, then another", ">QcQ <GCZTDCZ", "..Q...Q", "quiet"),
    .init("blind Query fails, then another", ">QcQ <EZTDCZ", ".Q...Q", "quiet"),
    .init("blind, two copies in one Query", ">Qcc <GCGCZ", "....Q", "quiet"),
    .init("blind, the second of two copies is known by now", ">Q <G >cc <CGCZ", "....Q", "quiet"),
    .init("blind Execute", ">PBEcS <12GCZ", "PB.ES", "quiet"),
    .init("blind Execute, Sync in the middle", ">PBEScS <12GCZ", "PB.ES", "quiet"),
    .init("blind Execute fails before it copies", ">PBEScS <12EZZ", "PBESS", "quiet"),
    .init("blind Execute without Sync", ">PBEc <12G", "PB.", "unsynced 1 left"),
    .init("two blind Executes", ">PBEcBEcS <12GC2GCZ", "PB.EB.ES", "quiet"),
    .init("two queries, the second copies", ">QQc <CZGCZ", ".Q..Q", "quiet"),
    .init("CopyDone where nothing copies", ">PcBcEScQ <12CZCZ", "PBES.Q", "quiet"),
    .init("CopyDone and nothing else", ">c", "", "quiet"),

    // A copy that fails after a Sync in its middle: the server may have ignored it, or be about to answer it.
    .init("data refused after Sync, one ReadyForQuery", ">Q <G >S <EZ", "..Q", "quiet uncertain"),
    .init("data refused before Sync, two", ">Q <G >S <EZZ", "..Q?", "quiet uncertain"),
    .init("Sync, CopyDone, and refused", ">Q <G >Sc <EZZ", "..Q?", "quiet uncertain"),
    .init("Execute: the Sync ends the skipping", ">PBE <12G >S <EZ", "PB.E?", "quiet uncertain"),
    .init("Execute: the Sync was ignored", ">PBE <12G >S <E >S <Z", "PB.ES", "quiet uncertain"),
    .init("Execute: Sync ahead of CopyInResponse", ">PBES <12GE", "PB.E", "skipping uncertain"),
    .init("the next copy is not blamed", ">Q <G >Sc <CZ >Q <GEZ", "..Q..Q", "quiet"),
    .init("of two copies the first had a Sync", ">Q <G >Sc <CGEZ", "....Q", "quiet"),

    // What no request waits for.
    .init("the server's last words", "<E", "?", "quiet"),
    .init("ReadyForQuery out of turn", "<Z", "?", "quiet"),
    .init("CommandComplete out of turn", "<C", "?", "quiet"),
]

@Suite struct OutstandingRequestsTests {
    @Test(arguments: conversations)
    private func conversation(_ conversation: Conversation) {
        var requests = OutstandingRequests()
        var completed = ""
        for word in conversation.messages.split(separator: " ") {
            if word.first == ">" {
                requests.ask(String(word.dropFirst()))
            } else {
                completed += String(requests.tell(String(word.dropFirst())).map(\.letter))
            }
        }
        #expect(completed == conversation.completed)
        #expect(requests.state == conversation.state)
    }

    @Test func aReplyThatDoesNotBelongToTheHeadCompletesNothing() {
        for (letter, kind) in kinds where kind != .copyEnd {
            for type in UInt8.min...UInt8.max {
                var requests = OutstandingRequests()
                requests.append(kind)
                let reply = requests.reply(type)
                let allowed: [RequestKind: String] = [
                    .query: "Z", .function: "Z", .sync: "Z", .parse: "1E", .bind: "2E", .describe: "TnE",
                    .execute: "CIsE", .close: "3E",
                ]
                let completes = allowed[kind]?.utf8.contains(type) ?? false
                #expect((reply.completed == kind) == completes, "\(letter) and message type \(type)")
                #expect(requests.isEmpty == completes)
            }
        }
    }

    // MARK: Dispositions

    @Test func dispositionsFollowTheHead() {
        var requests = OutstandingRequests()
        requests.ask("P", .swallow)
        requests.ask("BES")
        #expect(requests.head?.kind == .parse)
        #expect(requests.head?.disposition == .swallow)
        let replies = requests.tell("12CZ")
        #expect(replies.map(\.disposition) == [.swallow, .forward, .forward, .forward])
        #expect(requests.head == nil)
    }

    @Test func allOfAnOwnQueryIsOwn() {
        var requests = OutstandingRequests()
        requests.ask("Q", .own)
        requests.ask("Q")
        #expect(requests.tell("CEZ").map(\.disposition) == [.own, .own, .own])
        #expect(requests.tell("CZ").map(\.disposition) == [.forward, .forward])
    }

    @Test func theErrorOfASwallowedParseIsTheNextRequests() {
        var requests = OutstandingRequests()
        requests.ask("P", .swallow, hasEffect: true)
        requests.ask("BES")
        let replies = requests.tell("EZ")
        #expect(replies[0].disposition == .swallow)
        #expect(replies[0].completed == .parse)
        #expect(replies[0].failedEffects == 1)
        #expect(replies[1].disposition == .forward)
        #expect(requests.isQuiet)
    }

    @Test func aSubstitutedErrorTakesTheRestWithIt() {
        var requests = OutstandingRequests()
        requests.ask("D", .substitute, hasEffect: true)
        requests.ask("BES")
        let replies = requests.tell("EZ")
        #expect(replies[0].disposition == .substitute)
        #expect(replies[0].failedEffects == 1)
        #expect(requests.isQuiet)
    }

    @Test func answersWaitForTheirTurn() {
        var requests = OutstandingRequests()
        requests.ask("P", .answer, hasEffect: true)
        requests.ask("B")
        requests.ask("C", .answer)
        requests.ask("P", .answer)
        requests.ask("S")
        #expect(requests.takeAnswer().map { "\($0.kind) \($0.hasEffect)" } == "parse true")
        #expect(requests.takeAnswer() == nil)
        requests.tell("2")
        #expect(requests.takeAnswer().map { "\($0.kind) \($0.hasEffect)" } == "close false")
        #expect(requests.takeAnswer()?.kind == .parse)
        #expect(requests.takeAnswer() == nil)
        requests.tell("Z")
        #expect(requests.takeAnswer() == nil)
        #expect(requests.isQuiet)
    }

    @Test func anAnswerAloneOwesTheServerNothing() {
        var requests = OutstandingRequests()
        requests.ask("P", .answer)
        #expect(!requests.isUnsynced)
        #expect(requests.takeAnswer()?.kind == .parse)
        #expect(requests.isQuiet)
    }

    @Test func anAnswerBehindACopyDoesNotUnsync() {
        var requests = OutstandingRequests()
        requests.ask("Qc")
        requests.ask("P", .answer)
        requests.tell("G")
        #expect(!requests.isUnsynced)
    }

    @Test func answersBehindAnErrorAreSkipped() {
        var requests = OutstandingRequests()
        requests.ask("B")
        requests.ask("P", .answer, hasEffect: true)
        requests.ask("S")
        #expect(requests.tell("E")[0].failedEffects == 1)
        #expect(requests.takeAnswer() == nil)
        requests.tell("Z")
        #expect(requests.isQuiet)
    }

    @Test func aLateCopyDoneBehindAnAnswerGoesWithIt() {
        var requests = OutstandingRequests()
        requests.ask("P", .answer)
        requests.ask("c")
        _ = requests.takeAnswer()
        #expect(requests.isEmpty)
    }

    // MARK: Effects

    @Test func effectsOfWhatHasSucceededAreTold() {
        var requests = OutstandingRequests()
        requests.ask("P", hasEffect: true)
        requests.ask("P")
        requests.ask("S")
        #expect(requests.tell("11Z").map(\.succeeded) == [true, false, false])
    }

    @Test func effectsUpToTheSyncFailTogether() {
        var requests = OutstandingRequests()
        requests.ask("PPB", hasEffect: true)
        requests.ask("BS")
        requests.ask("P", hasEffect: true)
        requests.ask("S")
        let replies = requests.tell("1EZ1Z")
        #expect(replies.map(\.failedEffects) == [0, 2, 0, 0, 0])
        #expect(replies.map(\.succeeded) == [true, false, false, true, false])
    }

    @Test func effectsWithoutASyncBehindThemFailToo() {
        var requests = OutstandingRequests()
        requests.ask("PPP", hasEffect: true)
        #expect(requests.tell("E")[0].failedEffects == 3)
        #expect(requests.isSkipping)
    }

    @Test func copyKeepsTheEffectsBehindIt() {
        var requests = OutstandingRequests()
        requests.ask("E")
        requests.ask("Sc")
        requests.ask("P", hasEffect: true)
        requests.ask("S")
        let replies = requests.tell("GC1Z")
        #expect(replies.map(\.succeeded) == [false, false, true, false])
        #expect(requests.isQuiet)
    }

    // MARK: The ring

    @Test func theRingGrowsOverItsEnd() {
        // For each place of the head in the ring of eight, more than eight entries around its end.
        for offset in 0..<8 {
            var requests = OutstandingRequests()
            requests.ask(String(repeating: "Q", count: offset))
            requests.tell(String(repeating: "Z", count: offset))
            requests.ask("PBDECSPBDECS")
            let replies = requests.tell("12TC3Z12TC3Z")
            #expect(String(replies.map(\.letter)) == "PBDECSPBDECS")
            #expect(requests.isQuiet)
        }
    }

    @Test func aCopyMovesEntriesOverTheEndOfTheRing() {
        for offset in 0..<8 {
            var requests = OutstandingRequests()
            requests.ask(String(repeating: "Q", count: offset))
            requests.tell(String(repeating: "Z", count: offset))
            requests.ask("ESScPSQ")
            #expect(String(requests.tell("GC1ZCZ").map(\.letter)) == ".EPS.Q")
            #expect(requests.isQuiet)
        }
    }

    @Test func longPipelines() {
        var requests = OutstandingRequests()
        for _ in 0..<3 {
            for _ in 0..<25_000 { requests.ask("PBES") }
            #expect(requests.count == 100_000)
            for index in 0..<25_000 {
                let letters = String(requests.tell(index % 2 == 0 ? "12CZ" : "1EZ").map(\.letter))
                if letters != (index % 2 == 0 ? "PBES" : "PBS") { Issue.record("\(index): \(letters)") }
            }
            #expect(requests.isQuiet)
        }
    }

    @Test func aLongPipelineThatFailsAtItsBeginning() {
        var requests = OutstandingRequests()
        for _ in 0..<100_000 { requests.append(.bind, hasEffect: true) }
        #expect(requests.tell("E")[0].failedEffects == 100_000)
        #expect(requests.isEmpty)
        #expect(requests.isSkipping)
        requests.ask("S")
        requests.tell("Z")
        #expect(requests.isQuiet)
    }
}
