import CURing
import Glibc

/// io_uring for one event loop: operations are queued in memory that the kernel reads, their results are found in memory
/// that it writes, and one system call a turn hands over the ones and waits for the others.
///
/// Used on one thread only, the one that made it. Completions appear during `wait` alone, so what has not been found
/// there when the turn's callbacks are called has not happened yet.
final class URing {
    /// What an operation is; a part of the token that names it, and its source, in the completion.
    enum Operation: UInt64 {
        /// Bytes of a socket, again and again, into buffers that the kernel picks from those it was given.
        case receive = 1
        /// Events of a descriptor.
        case poll
        /// Connections of a listening socket, again and again.
        case accept
        /// A cancellation that has not found its operation: it has ended, or is just being carried out.
        case cancelInput
        case cancelPoll
        /// Bytes for a socket, within the next `wait`. Completed only if the socket does not take them all.
        case send = 8
    }

    /// The result of an operation.
    struct Completion {
        /// The source's, as the loop gave it.
        var token: UInt64
        var operation: Operation
        /// What the system call of the same name returns, or -errno.
        var result: Int32
        fileprivate var flags: UInt32

        /// More of the same operation follow.
        var hasMore: Bool { self.flags & UInt32(MARTLET_CQE_F_MORE) != 0 }
        /// The buffer that holds the result, to be given back.
        var buffer: Int? {
            self.flags & UInt32(MARTLET_CQE_F_BUFFER) != 0 ? Int(self.flags >> UInt32(MARTLET_CQE_BUFFER_SHIFT)) : nil
        }
    }

    /// Bytes of one buffer: a usual request or reply. What fills it is taken for a bulk of data, which is read otherwise.
    static let bufferSize = 4096
    /// A power of two. They are used in turn, so all of them are resident soon: 1 MB. Who finds none left begins anew.
    private static let bufferCount: UInt32 = 256
    private static let entries: UInt32 = 512
    private static let completions: UInt32 = 4096
    /// Bits of a token that a source's own leaves free (`EventLoop.slotMask`).
    private static let shift: UInt64 = 28

    private let ring: OpaquePointer
    /// Cancellations that the kernel, out of memory, has not taken. The source of one may be gone, and its socket stays
    /// open for the peer until the operation ends.
    private var refused: [Cancellation] = []

    /// The token of an operation, and the token of what ends it.
    private struct Cancellation {
        var operation: UInt64
        var own: UInt64
    }

    /// Throws where the kernel does not know or not allow what is needed.
    init() throws(SystemError) {
        let size = UInt32(Self.bufferSize)
        guard let ring = martlet_ring_open(Self.entries, Self.completions, Self.bufferCount, size) else {
            throw SystemError("io_uring_setup")
        }
        self.ring = ring
    }

    deinit { martlet_ring_close(self.ring) }

    // MARK: Operations

    private static func token(_ source: EventSource, _ operation: Operation) -> UInt64 {
        source.token | operation.rawValue << Self.shift
    }

    // These are false if the kernel takes no operation now.

    /// Begins to receive.
    func receive(_ source: EventSource) -> Bool {
        martlet_ring_receive(self.ring, source.fd, Self.token(source, .receive)) == 0
    }

    /// Begins to accept.
    func accept(_ source: EventSource) -> Bool {
        martlet_ring_accept(self.ring, source.fd, Self.token(source, .accept)) == 0
    }

    /// Asks for one of these events once, or for each change to them again; and for a hang-up or an error, asked or not.
    func poll(_ source: EventSource, _ events: UInt32, again: Bool) -> Bool {
        martlet_ring_poll(self.ring, source.fd, events, again ? 1 : 0, Self.token(source, .poll)) == 0
    }

    /// Sends what a socket takes at once. The bytes must stay where they are until `wait`.
    func send(_ source: EventSource, _ bytes: UnsafeRawBufferPointer) -> Bool {
        martlet_ring_send(
            self.ring, source.fd, bytes.baseAddress, UInt32(clamping: bytes.count), Self.token(source, .send)) == 0
    }

    /// Ends an operation: its last completion follows, unless it has come already. If it is just being carried out it
    /// goes on, and a completion of the cancellation says so. What the kernel does not take now it is given by `wait`.
    func cancel(_ source: EventSource, _ operation: Operation) {
        let own = Self.token(source, operation == .poll ? .cancelPoll : .cancelInput)
        let cancellation = Cancellation(operation: Self.token(source, operation), own: own)
        if !self.queue(cancellation) { self.refused.append(cancellation) }
    }

    private func queue(_ cancellation: Cancellation) -> Bool {
        martlet_ring_cancel(self.ring, cancellation.operation, cancellation.own) == 0
    }

    // MARK: Completions

    /// Hands over what is queued, and waits for a completion, or for so many microseconds; nil is without end.
    func wait(_ time: Int64?) {
        if !self.refused.isEmpty { self.refused.removeAll(where: self.queue) }
        _ = martlet_ring_wait(self.ring, self.refused.isEmpty ? time ?? -1 : 0)
    }

    /// Takes the next completion.
    @inline(__always)
    func next() -> Completion? {
        var completion = martlet_completion()
        while martlet_ring_next(self.ring, &completion) != 0 {
            guard let operation = Operation(rawValue: completion.token >> Self.shift & 15) else { continue }
            return Completion(
                token: completion.token & ~(15 << Self.shift), operation: operation, result: completion.result,
                flags: completion.flags)
        }
        return nil
    }

    /// Calls a closure for each send that the socket did not take all of, or not at all: with its source's token and
    /// how many bytes it took, or -errno.
    func unfinishedSends(_ body: (UInt64, Int) -> Void) {
        var position: UInt32 = 0
        var completion = martlet_completion()
        let bits = Operation.send.rawValue << Self.shift
        while martlet_ring_find(self.ring, bits, &position, &completion) != 0 {
            body(completion.token & ~(15 << Self.shift), Int(completion.result))
        }
    }

    /// Waits for the end of an operation that `cancel` was called for, without taking any completion. False if it has
    /// brought something that nobody has taken yet, or does not end.
    func awaitEnd(_ source: EventSource, _ operation: Operation) -> Bool {
        let token = Self.token(source, operation)
        // The first time is enough unless the kernel has much else to do for this thread.
        for _ in 0..<64 {
            self.wait(0)
            var hasBrought: Int32 = 0
            let hasEnded = martlet_ring_has_ended(self.ring, token, &hasBrought)
            if hasBrought != 0 { return false }
            if hasEnded != 0 { return true }
        }
        return false
    }

    // MARK: Buffers

    /// What a completion has put into its buffer.
    @inline(__always)
    func bytes(_ number: Int, _ count: Int) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: martlet_ring_buffer(self.ring, UInt32(number)), count: count)
    }

    /// Gives a buffer back.
    @inline(__always)
    func give(_ number: Int) { martlet_ring_give(self.ring, UInt32(number)) }
}
