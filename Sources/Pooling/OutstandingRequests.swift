/// What a frontend message asks for, as far as the order of the replies is concerned.
public enum RequestKind: UInt8, Sendable {
    /// Query; ends with ReadyForQuery.
    case query
    /// FunctionCall; ends with ReadyForQuery.
    case function
    case parse, bind, describe, execute, close
    /// Sync; ends with ReadyForQuery.
    case sync
    /// CopyDone or CopyFail. Has no reply of its own: the command that copies has.
    case copyEnd
}

/// What becomes of the replies to a request.
public enum Disposition: UInt8, Sendable {
    /// The client gets them.
    case forward
    /// The proxy's own request inside the client's pipeline (a Parse ahead of a Bind, a Close of an evicted statement):
    /// replies are kept from the client, but an error is its next request's error and goes through.
    case swallow
    /// The request was never sent: ParseComplete or CloseComplete is answered here when its turn comes.
    case answer
    /// The request was replaced by one that fails; the client gets another error in the place of the server's.
    case substitute
    /// The proxy's own Query between two clients' requests (settings, ROLLBACK, server_reset_query): all of it,
    /// errors too, is for the proxy.
    case own
}

/// The requests sent over one server connection that have not been answered yet, oldest first: to which each reply
/// belongs, and whether the connection is free of obligations.
///
///                     ┌────────── ErrorResponse to Parse…Close, no Sync sent yet ──────────┐
///                     │                                                                    ▼
///     synced ──Parse…Close──► unsynced ──Sync, Query──► synced (outstanding)           skipping ──Sync──► synced
///
///     not copying ──CopyInResponse──► copying in ──CopyDone, CopyFail, error, completion──► not copying
///
/// One byte for each request; its owner keeps what belongs to a request besides (`effects`) in a queue of its own, in
/// the same order. Follows PostgreSQL's manual, chapter "Frontend/Backend Protocol", and `PostgresMain`'s treatment of
/// a Sync in the middle of COPY.
public struct OutstandingRequests: Sendable {
    @usableFromInline static var kindMask: UInt8 { 0x0f }
    @usableFromInline static var dispositionShift: UInt8 { 4 }
    @usableFromInline static var dispositionMask: UInt8 { 0x07 }
    private static let effectFlag: UInt8 = 0x80

    /// A ring whose size is a power of two.
    private var ring: [UInt8]
    private var first = 0
    private var used = 0

    /// Parse…Close were sent and no Sync after them: the server holds an implicit transaction open, or ignores
    /// everything up to a Sync.
    public private(set) var isUnsynced = false
    /// The server ignores what it gets up to the next Sync, because of an error.
    public private(set) var isSkipping = false
    /// The server takes CopyData from the client.
    public private(set) var isCopyingIn = false
    /// A Sync was passed over because it came in the middle of the COPY that runs.
    private var hasIgnoredSync = false
    /// What the server still has to say is not known for sure: it may owe a ReadyForQuery more than is noted here.
    /// The connection may go on serving its client, but nobody else after it: its owner closes it on release.
    ///
    /// A Sync in the middle of COPY is ignored while the copy runs and answered once it has failed; which of the two
    /// has happened when the error arrives cannot be seen.
    public private(set) var isUncertain = false
    /// Outstanding requests that have an effect.
    private var effects = 0
    /// How many of those stand before the last Sync.
    private var earlierEffects = 0
    /// Numbers requests: how many were noted up to now.
    public private(set) var noted: UInt64 = 0
    /// The number of the last Sync, Query or FunctionCall; 0 when there was none.
    private var lastSync: UInt64 = 0
    /// The same without the proxy's own.
    private var lastClientSync: UInt64 = 0

    public init() { self.ring = [UInt8](repeating: 0, count: 8) }

    /// Requests without a (complete) reply.
    public var count: Int { self.used }
    public var isEmpty: Bool { self.used == 0 }
    /// Nothing is owed: with status idle the connection may serve somebody else.
    public var isQuiet: Bool { self.used == 0 && !self.isUnsynced && !self.isCopyingIn }

    /// Before the last Sync stand requests with effects that have not been answered. An error before them undoes these
    /// effects, but not what comes behind the Sync. False during a COPY, which waits for the client.
    public var hasEarlierEffects: Bool { self.earlierEffects > 0 && !self.isCopyingIn }
    /// The client's last Sync, Query or FunctionCall has not been answered: the state of the transaction is not known. False during
    /// a COPY, which waits for the client.
    public var hasEarlierSync: Bool { self.lastClientSync > self.finished && !self.isCopyingIn }
    /// How many of the requests noted are over. Behind a COPY that has passed over a Sync it may be one too many.
    public var finished: UInt64 { self.noted - UInt64(self.used) }
    /// How many Executes are outstanding before the next Sync, or the Query.
    public var executesToSync: Int {
        var executes = 0
        for index in 0..<self.used {
            switch Self.kind(self.ring[(self.first + index) & (self.ring.count - 1)]) {
            case .execute: executes += 1
            case .sync: return executes
            case .query, .function: return executes + 1
            case .parse, .bind, .describe, .close, .copyEnd: break
            }
        }
        return executes
    }

    /// Whether a request is outstanding and stands before the last Sync.
    public func isEarlier(_ number: UInt64) -> Bool { number > self.finished && number < self.lastSync }

    /// An outstanding request.
    public struct Request: Sendable {
        @usableFromInline let entry: UInt8

        @inlinable @inline(__always) public var kind: RequestKind {
            RequestKind(rawValue: self.entry & OutstandingRequests.kindMask) ?? .query
        }
        @inlinable @inline(__always) public var disposition: Disposition {
            let value = self.entry >> OutstandingRequests.dispositionShift & OutstandingRequests.dispositionMask
            return Disposition(rawValue: value) ?? .forward
        }
    }

    /// The oldest request.
    public var head: Request? { self.used > 0 ? Request(entry: self.ring[self.first]) : nil }

    private static func kind(_ entry: UInt8) -> RequestKind { Request(entry: entry).kind }
    private static func disposition(_ entry: UInt8) -> Disposition { Request(entry: entry).disposition }

    // MARK: Requests

    /// Notes a request. `hasEffect`: the owner has put something beside it that `Reply` tells it to take out.
    /// Call it only for what the server will answer: nothing between an error and Sync (`isSkipping`).
    public mutating func append(_ kind: RequestKind, _ disposition: Disposition = .forward, hasEffect: Bool = false) {
        switch kind {
        case .parse, .bind, .describe, .execute, .close:
            if disposition != .answer { self.isUnsynced = true }
        case .sync:
            // In the middle of COPY the server ignores a Sync; the client sends another one behind its data.
            if self.isCopyingIn {
                self.hasIgnoredSync = true
                return
            }
            self.isUnsynced = false
            self.isSkipping = false
        case .copyEnd:
            if self.isCopyingIn {
                self.isCopyingIn = false
                return
            }
            // Late, after the copy has failed: the server ignores it.
            if self.used == 0 { return }
        case .query, .function:
            // Ends an implicit transaction as Sync does. Should one of the requests before fail, this one is skipped
            // with them (`dropToSync`).
            self.isUnsynced = false
        }
        if self.used == self.ring.count { self.grow() }
        self.ring[(self.first + self.used) & (self.ring.count - 1)] =
            kind.rawValue | disposition.rawValue << Self.dispositionShift | (hasEffect ? Self.effectFlag : 0)
        self.used += 1
        self.noted += 1
        switch kind {
        case .parse, .bind, .describe, .execute, .close, .copyEnd: if hasEffect { self.effects += 1 }
        case .sync, .query, .function:
            self.earlierEffects = self.effects
            self.lastSync = self.noted
            if disposition != .own { self.lastClientSync = self.noted }
        }
    }

    private mutating func grow() {
        var larger = [UInt8](repeating: 0, count: self.ring.count * 2)
        for index in 0..<self.used { larger[index] = self.ring[(self.first + index) & (self.ring.count - 1)] }
        self.ring = larger
        self.first = 0
    }

    // MARK: Replies

    /// What a backend message does.
    public struct Reply: Sendable, Equatable {
        /// What becomes of the message.
        public var disposition: Disposition
        /// The request that it completes.
        public var completed: RequestKind?
        /// The completed request has an effect; it has succeeded.
        public var succeeded = false
        /// Effects of requests that have failed or were never looked at, to be undone: that many, oldest first.
        public var failedEffects = 0
        /// No request waits for such a message: the server sent it by itself.
        public var isUnsolicited = false
    }

    /// Takes a backend message, by its type, to its request. Rows, notices and other messages that complete nothing
    /// need not be shown; they share the disposition of `head`.
    public mutating func reply(_ type: UInt8) -> Reply {
        guard self.used > 0 else { return self.unsolicited(type) }
        let entry = self.ring[self.first]
        let kind = Self.kind(entry)
        var reply = Reply(disposition: Self.disposition(entry))
        let completes: Bool
        switch type {
        case UInt8(ascii: "Z"): completes = kind == .query || kind == .sync || kind == .function
        case UInt8(ascii: "1"): completes = kind == .parse
        case UInt8(ascii: "2"): completes = kind == .bind
        case UInt8(ascii: "3"): completes = kind == .close
        case UInt8(ascii: "T"), UInt8(ascii: "n"): completes = kind == .describe
        case UInt8(ascii: "I"), UInt8(ascii: "s"): completes = kind == .execute
        case UInt8(ascii: "C"):
            completes = kind == .execute
            // A COPY among the statements of the Query, if one has run, has read all of its data.
            if kind == .query { self.hasIgnoredSync = false }
        case UInt8(ascii: "G"):
            completes = false
            if kind == .query || kind == .execute { self.copyInBegins() }
        case UInt8(ascii: "E"):
            completes = false
            switch kind {
            case .query: self.copyInFails()
            case .parse, .bind, .describe, .execute, .close:
                self.copyInFails()
                reply.completed = kind
                reply.failedEffects = self.dropToSync()
            case .function, .sync, .copyEnd: break
            }
        default: completes = false
        }
        guard completes else { return reply }
        reply.completed = kind
        reply.succeeded = entry & Self.effectFlag != 0
        self.dropFirst()
        if kind == .execute || kind == .query {
            self.isCopyingIn = false
            self.hasIgnoredSync = false
        }
        self.dropCopyEnds()
        return reply
    }

    /// Takes a message that no request waits for. An error is the server's last word; anything else answers a request
    /// that was taken out of the books too early, which can happen only where they are uncertain.
    private mutating func unsolicited(_ type: UInt8) -> Reply {
        if type == UInt8(ascii: "Z") {
            self.isUnsynced = false
            self.isSkipping = false
        }
        return Reply(disposition: .forward, isUnsolicited: true)
    }

    /// An error has ended the COPY, if one was under way.
    private mutating func copyInFails() {
        self.isCopyingIn = false
        if self.hasIgnoredSync {
            self.hasIgnoredSync = false
            self.isUncertain = true
        }
    }

    /// Takes out the oldest request if it is to be answered here, so that the owner can answer it in its turn. To be
    /// asked repeatedly after each completed request.
    public mutating func takeAnswer() -> (kind: RequestKind, hasEffect: Bool)? {
        guard self.used > 0 else { return nil }
        let entry = self.ring[self.first]
        guard Self.disposition(entry) == .answer else { return nil }
        self.dropFirst()
        self.dropCopyEnds()
        return (Self.kind(entry), entry & Self.effectFlag != 0)
    }

    private mutating func dropFirst() {
        if self.ring[self.first] & Self.effectFlag != 0 {
            self.effects -= 1
            self.earlierEffects = max(0, self.earlierEffects - 1)
        }
        self.first = (self.first + 1) & (self.ring.count - 1)
        self.used -= 1
        if self.used == 0 && self.ring.count > 64 {
            // A long pipeline has passed; most connections never need more than the first eight.
            self.ring = [UInt8](repeating: 0, count: 8)
            self.first = 0
        }
    }

    private mutating func dropCopyEnds() {
        while self.used > 0, Self.kind(self.ring[self.first]) == .copyEnd { self.dropFirst() }
    }

    /// Drops what the server ignores after an error; returns how many of them have effects.
    private mutating func dropToSync() -> Int {
        var effects = 0
        while self.used > 0 {
            let entry = self.ring[self.first]
            if Self.kind(entry) == .sync { return effects }
            if entry & Self.effectFlag != 0 { effects += 1 }
            self.dropFirst()
        }
        self.isUnsynced = true
        self.isSkipping = true
        return effects
    }

    /// The oldest request has turned out to be a COPY FROM STDIN. What was sent behind it up to the end of the data
    /// is not looked at as a request: each Sync in there is ignored.
    private mutating func copyInBegins() {
        var kept = [self.ring[self.first]]
        var hasEnded = false
        for index in 1..<max(self.used, 1) {
            let entry = self.ring[(self.first + index) & (self.ring.count - 1)]
            if hasEnded {
                kept.append(entry)
            } else if Self.kind(entry) == .copyEnd {
                hasEnded = true
            } else if Self.kind(entry) == .sync {
                self.hasIgnoredSync = true
            } else {
                kept.append(entry)
            }
        }
        for (index, entry) in kept.enumerated() { self.ring[(self.first + index) & (self.ring.count - 1)] = entry }
        self.used = kept.count
        self.isCopyingIn = !hasEnded
        self.isUnsynced = Self.isUnsynced(kept)
    }

    private static func isUnsynced(_ entries: [UInt8]) -> Bool {
        for entry in entries.reversed() {
            switch Self.kind(entry) {
            case .sync, .query, .function: return false
            case .parse, .bind, .describe, .execute, .close: if Self.disposition(entry) != .answer { return true }
            case .copyEnd: continue
            }
        }
        return false
    }
}
