import CLinux
import Glibc

/// The operations of one source that io_uring has and has not ended.
struct ArmedOperations: OptionSet {
    var rawValue: UInt8

    /// `receive` or `accept`.
    static let input = ArmedOperations(rawValue: 1)
    /// It has been cancelled; its last completion is yet to come.
    static let inputEnding = ArmedOperations(rawValue: 2)
    static let poll = ArmedOperations(rawValue: 4)
    static let pollEnding = ArmedOperations(rawValue: 8)
}

/// What the poll of a source waits for, beside errors and the end in both directions.
struct PolledEvents: OptionSet {
    var rawValue: UInt8

    static let input = PolledEvents(rawValue: 1)
    static let output = PolledEvents(rawValue: 2)
    /// The peer sends no more.
    static let hangUp = PolledEvents(rawValue: 4)

    /// As poll(2) has them.
    var mask: UInt32 {
        (self.contains(.input) ? UInt32(MARTLET_EPOLLIN) : 0) | (self.contains(.output) ? UInt32(MARTLET_EPOLLOUT) : 0)
            | (self.contains(.hangUp) ? UInt32(MARTLET_EPOLLRDHUP) : 0)
    }
}

// How an event loop with io_uring asks for what its sources want, and gives them what has come.
//
// A source has at most one operation for its input and one poll. An operation that is no longer wanted is cancelled, and
// the next of its kind begins only when it has ended, so that bytes stay in order. What it brings meanwhile is held until
// it is wanted again.
extension EventLoop {
    /// Bytes.
    private static let longestSend = 1 << 30

    /// Asks for what a source wants now, and takes back what it does not want any more.
    func arm(_ source: EventSource, _ ring: URing) {
        guard self.armInput(source, ring), self.armPoll(source, ring) else { return self.unarmed.append(source) }
    }

    /// Those of the last turn that were not taken.
    func rearm(_ ring: URing) {
        guard !self.unarmed.isEmpty else { return }
        let sources = self.unarmed
        self.unarmed = []
        for source in sources where source.token != 0 && source.loop === self { self.arm(source, ring) }
    }

    private func armInput(_ source: EventSource, _ ring: URing) -> Bool {
        let isWanted = source.inputMode != .onEvent && source.interest & UInt32(MARTLET_EPOLLIN) != 0
        if isWanted {
            if source.armed.contains(.input) { return true }
            guard source.inputMode == .accept ? ring.accept(source) : ring.receive(source) else { return false }
            source.armed.insert(.input)
        } else if source.armed.contains(.input) && !source.armed.contains(.inputEnding) {
            ring.cancel(source, source.inputMode == .accept ? .accept : .receive)
            source.armed.insert(.inputEnding)
        }
        return true
    }

    private func armPoll(_ source: EventSource, _ ring: URing) -> Bool {
        guard let events = self.eventsToPoll(source) else {
            self.endPoll(source, ring)
            return true
        }
        if source.armed.contains(.poll) {
            // One that waits for more does no harm, and a paused connection soon wants it again.
            if !source.polled.isSuperset(of: events) { self.endPoll(source, ring) }
            return true
        }
        // Input is told again as long as there is some. For the rest the kernel would not be silent any more when the
        // peer sends no more, so it tells of changes only.
        guard ring.poll(source, events.mask, again: !events.contains(.input)) else { return false }
        source.armed.insert(.poll)
        source.polled = events
        return true
    }

    private func endPoll(_ source: EventSource, _ ring: URing) {
        guard source.armed.contains(.poll), !source.armed.contains(.pollEnding) else { return }
        ring.cancel(source, .poll)
        source.armed.insert(.pollEnding)
    }

    /// The events to poll for beside the input operation; nil for none.
    private func eventsToPoll(_ source: EventSource) -> PolledEvents? {
        guard source.isRegistered else { return nil }
        var events: PolledEvents = source.interest & UInt32(MARTLET_EPOLLOUT) != 0 ? .output : []
        guard source.interest & UInt32(MARTLET_EPOLLIN) != 0 else { return events }
        switch source.inputMode {
        // Nothing else reads until the input operation has ended.
        case .onEvent: if !source.armed.contains(.input) { events.insert(.input) }
        // The kernel wakes a receive once for bytes and the end behind them, and then forgets about the end (of a Unix
        // socket, or by a reset).
        case .receive: events.insert(.hangUp)
        case .accept: return nil
        }
        return events
    }

    /// Ends a source's input and forgets its poll, which takes nothing away from the descriptor.
    func disarm(_ source: EventSource, _ ring: URing) -> Bool {
        guard source.armed.contains(.input) else { return true }
        if !source.armed.contains(.inputEnding) {
            ring.cancel(source, .receive)
            source.armed.insert(.inputEnding)
        }
        return ring.awaitEnd(source, .receive)
    }

    /// Queues what callbacks have left behind. Nothing else may happen until `takeSent`: the kernel is to read the bytes
    /// where they are.
    func queueOutput(_ ring: URing) {
        // First those that send by themselves, which may call for more output.
        while let connection = self.unsent.popLast() {
            if connection.tls == nil {
                self.sending.append((connection, 0))
            } else {
                connection.flush()
            }
        }
        for index in self.sending.indices {
            let connection = self.sending[index].connection
            let bytes = UnsafeRawBufferPointer(rebasing: connection.sendableOutput.prefix(Self.longestSend))
            if bytes.count > 0 && ring.send(connection, bytes) { self.sending[index].sent = bytes.count }
        }
    }

    /// Takes note of what `wait` has sent.
    func takeSent(_ ring: URing) {
        guard !self.sending.isEmpty else { return }
        // They end in the order in which they began, as a rule: the next one is looked for behind the last one.
        var next = 0
        ring.unfinishedSends { token, result in
            guard
                let index = self.sending[next...].firstIndex(where: { $0.connection.token == token })
                    ?? self.sending[..<next].firstIndex(where: { $0.connection.token == token })
            else { return }
            self.sending[index].sent = result
            next = index + 1
        }
        for (connection, sent) in self.sending { connection.outputTaken(sent) }
        // Only now, since it may call for more output.
        var index = 0
        while index < self.sending.count {
            self.sending[index].connection.flushed()
            index += 1
        }
        self.sending.removeAll(keepingCapacity: true)
    }

    /// Gives a source what has come for it.
    @inline(__always)
    func take(_ completion: URing.Completion, _ ring: URing) {
        guard let source = self.source(of: completion.token) else { return self.discard(completion, ring) }
        switch completion.operation {
        case .receive:
            if !completion.hasMore { source.armed.subtract([.input, .inputEnding]) }
            let connection = unsafeDowncast(source, to: Connection.self)
            if let buffer = completion.buffer {
                if completion.result > 0 { connection.arrived(ring.bytes(buffer, Int(completion.result))) }
                ring.give(buffer)
            }
            if completion.result <= 0 { connection.inputEnded(completion.result) }
        case .poll:
            if !completion.hasMore { source.armed.subtract([.poll, .pollEnding]) }
            if completion.result > 0 { self.tell(source, UInt32(completion.result)) }
        // If the operation has not ended before, it is cancelled once more.
        case .cancelInput: source.armed.remove(.inputEnding)
        case .cancelPoll: source.armed.remove(.pollEnding)
        case .send: return
        case .accept:
            if !completion.hasMore { source.armed.subtract([.input, .inputEnding]) }
            let listener = unsafeDowncast(source, to: Listener.self)
            listener.arrived(completion.result)
            if !completion.hasMore { listener.acceptingEnded() }
        }
        // What has ended begins anew if it is still wanted.
        if source.token == completion.token && (!completion.hasMore || completion.operation == .poll) {
            self.arm(source, ring)
        }
    }

    private func tell(_ source: EventSource, _ polled: UInt32) {
        if source.inputMode == .receive && polled & ~UInt32(MARTLET_EPOLLOUT) != 0 {
            // What is left is read on events, which tell of the end as long as it is there.
            source.inputMode = .onEvent
        }
        var events = polled & (source.interest | UInt32(MARTLET_EPOLLERR) | UInt32(MARTLET_EPOLLHUP))
        // As long as the input operation goes on it is the only one to read.
        if source.armed.contains(.input) { events &= UInt32(MARTLET_EPOLLOUT) }
        if events != 0 { source.ready(events) }
    }

    /// What comes for a source that is gone.
    private func discard(_ completion: URing.Completion, _ ring: URing) {
        if let buffer = completion.buffer { ring.give(buffer) }
        if completion.operation == .accept && completion.result >= 0 { close(completion.result) }
    }
}
