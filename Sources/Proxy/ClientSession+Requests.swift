import Pooling
import Reactor
import Sessions
import Settings
import Wire

// From the client to the server: messages are looked at by their type, noted as outstanding requests, and passed on as
// ranges of the bytes that arrived. Only what carries a statement's name is read (`ClientSession+Statements`).
extension ClientSession {
    /// What becomes of a message.
    enum Verdict {
        /// It goes to the server as it is.
        case pass
        /// It goes nowhere: answered here, or of no consequence.
        case drop
        /// Something else was sent in its place, up to this position in the chunk; what follows goes as it is.
        case replaced(upTo: Int)
        /// It and what follows, up to this position in the chunk, have been answered here.
        case consumed(upTo: Int)
        /// It is not consumed: a server connection is needed, or the session has to wait.
        case wait
        /// It is not consumed before that many bytes of it are there.
        case gather(Int)
        /// The session is over.
        case end

        var isPass: Bool {
            if case .pass = self { return true }
            return false
        }
    }

    /// The messages whose names are read, when prepared statements are followed.
    private static let named: MessageTypeSet = [
        Frontend.parse, Frontend.bind, Frontend.describe, Frontend.close,
    ]

    /// Prepared statements are followed: while that is switched off, those of a client that still has some.
    private var tracksStatements: Bool {
        (self.pool.tracksStatements || (!self.statements.isEmpty && self.pool.mode != .session)) && !self.isReplication
    }

    /// Whether there are named statements, or will be if a Close among the requests under way fails.
    func mayHaveNames(_ server: ServerSession) -> Bool { !self.statements.isEmpty || !server.effects.isEmpty }

    /// Whether the server has got the beginning of a message and not its end.
    var isInMessage: Bool { self.framer.remaining > 0 && !self.dropsMessage }

    /// Takes what has come, behind what is to be looked at again.
    func relayAll(_ bytes: Span<UInt8>) -> Int {
        if self.replay.isEmpty && self.route == nil && self.repeatedInput == 0 { return self.relay(bytes) }
        let repeated = min(self.repeatedInput, bytes.count)
        self.repeatedInput -= repeated
        guard self.relayReplay() else { return repeated }
        var consumed = repeated + self.relay(bytes.extracting(repeated..<bytes.count))
        while !self.replay.isEmpty && !self.isClosed {
            guard self.relayReplay() else { break }
            consumed += self.relay(bytes.extracting(consumed..<bytes.count))
        }
        return consumed
    }

    /// Takes the requests that are to be looked at again. False if some of it has to wait.
    @inline(__always)
    private func relayReplay() -> Bool {
        self.replay.isEmpty && self.route?.rest == nil ? true : self.relayAgain()
    }

    @inline(never)
    private func relayAgain() -> Bool {
        while !self.replay.isEmpty {
            let request = self.replay
            self.replay = []
            let consumed = self.relay(request.span)
            guard !self.isClosed else { return false }
            // Something has taken its place, or has been divided.
            let isReplaced = !self.replay.isEmpty
            if consumed < request.count { self.replay += request[consumed...] }
            if !isReplaced { break }
        }
        guard self.replay.isEmpty else { return false }
        guard self.route?.rest == nil else {
            // What comes behind the rest has its turn when that is over.
            _ = self.awaitReplies()
            return false
        }
        return true
    }

    /// Goes on: what has waited can be taken now.
    func proceed() {
        if let login = self.login { return login.proceed() }
        if (!self.replay.isEmpty || self.route != nil) && !self.relayReplay() { return }
        self.redeliver()
    }

    func relay(_ bytes: Span<UInt8>) -> Int {
        if self.isAwaitingSettings || self.isAwaitingReplies || self.isWaiting { return 0 }
        var cursor = 0
        // What from here to the cursor goes to the server.
        var run = 0
        loop: while cursor < bytes.count {
            let before = self.framer
            let type: UInt8
            let range: Range<Int>
            let length: Int
            switch self.framer.next(bytes, at: cursor, gather: []) {
            case .message(let messageType, let messageRange):
                (type, range, length) = (messageType, messageRange, messageRange.count)
            case .start(let messageType, let messageLength, let firstRange):
                (type, range, length) = (messageType, firstRange, messageLength)
                if let needed = self.neededBeginning(type, length, of: range.count) {
                    self.framer = before
                    self.holdLimit = needed
                    break loop
                }
            case .middle(let piece, let last):
                cursor = piece.upperBound
                if self.lastPiece != nil { self.lastPiece = last ? nil : self.now }
                if self.dropsMessage {
                    self.pass(bytes, run..<piece.lowerBound)
                    run = cursor
                }
                if last { self.messageEnded(bytes, &run, cursor) }
                continue
            case .incomplete(let needed):
                self.holdLimit = max(needed, 512)
                break loop
            case .end: break loop
            case .invalid:
                self.pass(bytes, run..<cursor)
                self.fail(.badPacketHeader(bytes, at: cursor))
                return bytes.count
            }
            let isWhole = self.framer.remaining == 0
            switch self.request(type, bytes, range, length: length, run: &run) {
            case .pass:
                self.dropsMessage = false
                cursor = range.upperBound
            case .drop:
                self.pass(bytes, run..<range.lowerBound)
                self.dropsMessage = true
                cursor = range.upperBound
                run = cursor
            case .consumed(let position):
                self.pass(bytes, run..<range.lowerBound)
                self.dropsMessage = false
                cursor = position
                run = position
                // Something is to be looked at first.
                if !self.replay.isEmpty { break loop }
            case .replaced(let position):
                self.dropsMessage = false
                run = position
                cursor = range.upperBound
            case .wait:
                self.framer = before
                self.holdLimit = Self.waitingLimit
                break loop
            case .gather(let needed):
                self.framer = before
                self.holdLimit = max(needed, 512)
                break loop
            case .end: return bytes.count
            }
            if isWhole {
                self.dropsMessage = false
            } else if self.isInMessage && type != Frontend.copyData {
                self.messageBegins()
            }
        }
        self.pass(bytes, run..<cursor)
        self.group.statistics.counters.received &+= UInt64(cursor)
        self.keptStart &-= cursor
        return cursor
    }

    /// So much of a message has to be here before it gets a server connection, or all of it.
    private static let beginning = 64 * 1024

    /// How many bytes have to be here before a message may begin: one that never ends must not hold a server connection
    /// that others wait for. Nil if it may begin now, also because the connection is this client's anyway.
    private func neededBeginning(_ type: UInt8, _ length: Int, of available: Int) -> Int? {
        let needed = min(length, Self.beginning)
        guard available < needed, Self.isSkipped(type), self.cancelled == .none else { return nil }
        if let server = self.server, self.pool.mode == .session || server.isDedicated || server.transaction != .idle {
            return nil
        }
        return needed
    }

    /// What a client may send ahead while it waits, before its socket is no longer read.
    private static let waitingLimit = 16 * 1024

    /// Sends a range to the server.
    func pass(_ bytes: Span<UInt8>, _ range: Range<Int>) {
        guard !range.isEmpty, let server = self.server else { return }
        server.send(bytes.extracting(range))
    }

    /// A streamed message has come to its end; if the server has been waiting for just that, it is free now.
    private func messageEnded(_ bytes: Span<UInt8>, _ run: inout Int, _ cursor: Int) {
        let wasDropped = self.dropsMessage
        self.dropsMessage = false
        guard !wasDropped, let server = self.server, server.requests.isQuiet else { return }
        self.pass(bytes, run..<cursor)
        run = cursor
        server.releaseIfFree()
    }

    /// Looks at a message, whole or its beginning, and notes what the server will answer.
    private func request(
        _ type: UInt8, _ bytes: Span<UInt8>, _ range: Range<Int>, length: Int, run: inout Int
    ) -> Verdict {
        if case .older? = self.server?.trial, let server = self.server,
            range.lowerBound - self.keptStart >= server.keptRequest.count
        {
            // Whatever comes behind a request that may be sent again comes behind it then, too.
            return self.awaitReplies()
        }
        if type == Frontend.terminate {
            self.pass(bytes, run..<range.lowerBound)
            self.terminated()
            return .end
        }
        if self.cancelled != .none {
            if self.cancelled == .first { self.noteUnbegun(bytes.extracting(range.lowerBound..<bytes.count)) }
            return self.skipCancelled(type)
        }
        if self.mayReset(prepared: type, bytes, range, length: length), !(self.server?.requests.isSkipping ?? false),
            let verdict = self.noteResets(prepared: type, bytes, range, length: length)
        {
            return verdict
        }
        if self.server == nil {
            if self.unrouted != nil || self.route?.status == .failed,
                let verdict = self.answerFailed(type, bytes, range, length: length)
            {
                return verdict
            }
            if let verdict = self.answerUnlinked(type, bytes, range, length: length) {
                // A batch that was looked at in part begins behind this message now.
                self.route?.scan = nil
                return verdict
            }
        }
        if self.route?.isInDecidedBatch ?? false, !self.isReplication {
            if type == Frontend.sync || type == Frontend.query || type == Frontend.functionCall {
                self.route?.endBatch()
            }
        } else if let route = self.route, !self.isReplication {
            if let verdict = self.routed(type, bytes, range, length: length, run: &run, route), !verdict.isPass {
                return verdict
            }
        } else if self.server == nil || self.unrouted != nil, let verdict = self.takeServer() {
            return verdict
        }
        guard let server = self.server else {
            // Nothing when the session is over; else better an end than a client that waits for ever.
            self.fail(ServerError(message: "no server connection for a request", sqlState: SQLState.internalError))
            return .end
        }
        if let unrouted = self.unrouted { self.carryOver(unrouted, server) }
        if server.requests.isEmpty && server.ownQueries.isEmpty || server.requests.head?.disposition == .own {
            self.queryBegins()
        }
        if server.isResetting && (type == Frontend.sync || Self.isSkipped(type)) { return self.awaitReplies() }
        if server.requests.isSkipping && type != Frontend.sync && Self.isSkipped(type) {
            // The server would not look at it either.
            return .drop
        }
        if self.tracksStatements && Self.named.contains(type) {
            return self.namedRequest(type, bytes, range, length: length, server, run: &run)
        }
        switch type {
        case Frontend.query:
            if self.pool.rules.disablesSimpleQueries {
                self.fail(ServerError(message: "PQexec disallowed", sqlState: SQLState.protocolViolation))
                return .end
            }
            if self.mayReset(query: bytes, range, length: length),
                let verdict = self.noteResets(query: bytes, range, length: length, server)
            {
                return verdict
            }
            if self.mayHaveNames(server) || Self.isLookedAt(bytes, range, length: length, server),
                self.tracksStatements,
                let verdict = self.namedQuery(bytes, range, length: length, server, run: &run)
            {
                return verdict
            }
            server.requests.append(.query)
            // A Query ends the unnamed statement, the client's own and whoever's the server has.
            server.unnamedStatement = 0
            self.forgetUnnamed()
        case Frontend.functionCall: server.requests.append(.function)
        case Frontend.parse: server.requests.append(.parse)
        case Frontend.bind: server.requests.append(.bind)
        case Frontend.describe: server.requests.append(.describe)
        case Frontend.execute:
            if self.preparedResets != nil,
                let verdict = self.noteResets(execute: bytes, range, length: length, server)
            {
                return verdict
            }
            if !self.boundDeallocations.isEmpty,
                let verdict = self.executeDeallocation(bytes, range, length: length, server, run: &run)
            {
                return verdict
            }
            server.requests.append(.execute)
        case Frontend.close: server.requests.append(.close)
        case Frontend.sync: server.requests.append(.sync)
        case Frontend.copyDone, Frontend.copyFail: server.requests.append(.copyEnd)
        case Frontend.copyData, Frontend.flush: break
        default:
            self.pass(bytes, run..<range.lowerBound)
            self.fail(ServerError(message: "unknown pkt from client: '\(type)'", sqlState: SQLState.protocolViolation))
            return .end
        }
        return .pass
    }

    private static let skipped: MessageTypeSet = [
        Frontend.query, Frontend.functionCall, Frontend.parse, Frontend.bind, Frontend.describe, Frontend.execute,
        Frontend.close, Frontend.flush,
    ]
    private static func isSkipped(_ type: UInt8) -> Bool { Self.skipped.contains(type) }

    /// What needs no server connection.
    private func answerUnlinked(_ type: UInt8, _ bytes: Span<UInt8>, _ range: Range<Int>, length: Int) -> Verdict? {
        switch type {
        case Frontend.sync:
            self.sendReady()
            return .drop
        case Frontend.flush, Frontend.copyData, Frontend.copyDone, Frontend.copyFail:
            // Late data of a COPY that has failed; PostgreSQL throws it away as well.
            return .drop
        case Frontend.parse, Frontend.close:
            guard self.tracksStatements, range.count == length else { return nil }
            return self.answerUnlinkedStatement(type, bytes.extracting(range))
        default: return nil
        }
    }

    private static let readyForQuery = MessageWriter.bytes { $0.readyForQuery(.idle) }

    /// ReadyForQuery without a server connection.
    func sendReady() {
        if let route = self.route {
            route.endBatch()
            if self.server == nil { self.settingsRequestEnded(route.status, route) }
        }
        let status = self.server?.transaction ?? self.statusHere
        if status != .idle {
            self.send(MessageWriter.bytes { $0.readyForQuery(status) })
        } else {
            self.send(Self.readyForQuery)
        }
        self.answeredHere()
    }

    /// A cancel has come while the client waited: its request is answered as a cancelled one, and what belongs to it
    /// goes nowhere.
    func cancelHeldRequest() {
        self.send(
            MessageWriter.bytes {
                $0.errorResponse(
                    severity: "ERROR", sqlState: SQLState.queryCanceled,
                    message: "canceling statement due to user request")
            })
        if let route = self.route {
            route.unchoose()
            route.heldSince = nil
            route.waitingSince = nil
        }
        self.heldTransactionFails()
        self.cancelled = .first
        self.waitingIsOver()
        self.proceed()
    }

    /// What of a cancelled request is still to come.
    enum CancelledRequest {
        case none
        /// Its first message: a Query is the whole request.
        case first
        /// A batch of the extended protocol: everything up to its Sync.
        case upToSync
    }

    func skipCancelled(_ type: UInt8) -> Verdict {
        let isWhole = self.cancelled == .first && (type == Frontend.query || type == Frontend.functionCall)
        if isWhole || type == Frontend.sync {
            if let rest = self.route?.rest {
                // It was the first part of a request, of which nothing more is looked at.
                self.route?.rest = nil
                guard rest.isWhole else {
                    self.cancelled = .upToSync
                    return .drop
                }
            }
            self.cancelled = .none
            self.sendReady()
        } else {
            self.cancelled = .upToSync
        }
        return .drop
    }
}
