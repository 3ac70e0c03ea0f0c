import Glibc
import Testing

@testable import Reactor

/// A test on one event loop: steps, each carried out as soon as its condition holds, all on the test's own thread.
/// The loop ends behind the last step, or with a complaint when a condition does not come true in time.
final class Scene {
    let loop: EventLoop
    private var steps: [Step] = []
    private var isDone = false

    private struct Step {
        let name: String
        let condition: () -> Bool
        let action: () -> Void
    }

    /// What the loop is made with; `onEachLoop` sets it.
    @TaskLocal static var kind = EventLoopKind.epoll

    init() throws { self.loop = try EventLoop(Self.kind) }

    /// Adds a step behind the others.
    func when(_ name: String, _ condition: @escaping () -> Bool, then action: @escaping () -> Void = {}) {
        self.steps.append(Step(name: name, condition: condition, action: action))
    }

    func run(seconds: Int64 = 10) {
        let deadline = monotonicNow() + seconds * 1_000_000
        let ticker = Timer(loop: self.loop, after: 0) { [unowned self] timer in
            while let step = self.steps.first, step.condition() {
                self.steps.removeFirst()
                step.action()
            }
            if let step = self.steps.first, monotonicNow() > deadline {
                Issue.record("has not come true on \(Self.kind): \(step.name)")
                self.steps = []
            }
            if self.steps.isEmpty {
                timer.cancel()
                return self.loop.stop()
            }
            timer.restart(after: 1000)
        }
        withExtendedLifetime(ticker) { self.loop.run() }
    }
}

/// Runs each test of a suite on every kind of event loop that is allowed here.
struct OnEachLoop: SuiteTrait, TestTrait, TestScoping {
    static let kinds = EventLoopKind.allCases.filter { $0 == .epoll || EventLoopKind.reasonAgainstIOURing() == nil }

    var isRecursive: Bool { true }

    func provideScope(
        for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void
    ) async throws {
        guard testCase != nil else { return try await function() }
        for kind in Self.kinds { try await Scene.$kind.withValue(kind) { try await function() } }
    }
}

extension Trait where Self == OnEachLoop {
    static var onEachLoop: Self { OnEachLoop() }
}

/// A connection that notes what happens to it.
class Recorder: Connection {
    var input: [UInt8] = []
    /// What each call of `received` was shown.
    var shown: [[UInt8]] = []
    /// How many bytes of what is shown are consumed; all by default.
    var consume: ([UInt8]) -> Int = { $0.count }
    var isConnected = false
    var drainedCount = 0
    var onDrained: () -> Void = {}
    var onTimeout: () -> Void = {}
    var end: Disconnect?
    var endCount = 0

    override func connected() { self.isConnected = true }

    override func received(_ bytes: Span<UInt8>) -> Int {
        var array: [UInt8] = []
        for index in bytes.indices { array.append(bytes[index]) }
        self.shown.append(array)
        let consumed = self.consume(array)
        self.input += array.prefix(consumed)
        return consumed
    }

    override func drained() {
        self.drainedCount += 1
        self.onDrained()
    }

    override func timedOut() { self.onTimeout() }

    override func disconnected(_ reason: Disconnect) {
        self.end = reason
        self.endCount += 1
    }
}

/// The other end of a connection: a plain socket that never blocks.
final class Peer {
    private(set) var fd: Int32
    private(set) var input: [UInt8] = []
    /// What ended the reading: 0 is the orderly end, else `errno`.
    private(set) var end: Int32?

    init(_ fd: Int32) {
        self.fd = fd
        _ = fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK)
    }

    deinit { self.close() }

    /// Writes what the socket takes; returns how much that was, or -1.
    @discardableResult
    func write(_ bytes: [UInt8]) -> Int { send(self.fd, bytes, bytes.count, Int32(MSG_NOSIGNAL)) }

    /// Reads at most `limit` bytes of what is there.
    func read(_ limit: Int = .max) {
        var buffer = [UInt8](repeating: 0, count: 65536)
        var rest = limit
        while rest > 0 && self.end == nil {
            let count = recv(self.fd, &buffer, min(buffer.count, rest), 0)
            if count > 0 {
                self.input += buffer[..<count]
                rest -= count
            } else if count == 0 {
                self.end = 0
            } else if errno == EAGAIN {
                return
            } else {
                self.end = errno
            }
        }
    }

    func close() {
        if self.fd >= 0 { Glibc.close(self.fd) }
        self.fd = -1
    }

    /// Ends with a reset instead of an orderly end (TCP).
    func reset() {
        var value = linger(l_onoff: 1, l_linger: 0)
        setsockopt(self.fd, SOL_SOCKET, SO_LINGER, &value, socklen_t(MemoryLayout<linger>.size))
        self.close()
    }
}

enum Transport: CaseIterable, Sendable { case tcp, unix }

/// Two sockets that are connected with each other.
func socketPair(_ transport: Transport) throws -> (Int32, Int32) {
    switch transport {
    case .unix:
        var pair: [Int32] = [-1, -1]
        try #require(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &pair) == 0)
        return (pair[0], pair[1])
    case .tcp:
        let address = try #require(SocketAddress(ip: "127.0.0.1", port: 0))
        let listening = try ListeningSocket(address, ListenOptions())
        defer { listening.close() }
        let client = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        try #require(listening.address.withSockaddr { connect(client, $0, $1) } == 0)
        return (client, try #require(acceptOne(listening.fd)))
    }
}

/// Accepts one connection that is there or about to be.
func acceptOne(_ fd: Int32) -> Int32? {
    var entry = pollfd(fd: fd, events: Int16(POLLIN), revents: 0)
    guard poll(&entry, 1, 5000) == 1 else { return nil }
    let accepted = accept(fd, nil, nil)
    return accepted >= 0 ? accepted : nil
}

/// A recording connection on a loop and its peer.
func connectionPair(_ scene: Scene, _ transport: Transport) throws -> (Recorder, Peer) {
    let (ours, theirs) = try socketPair(transport)
    let connection = Recorder(loop: scene.loop, socket: Socket(ours))
    connection.start()
    return (connection, Peer(theirs))
}

/// Bytes that differ by position: 0 to 250 over and over, a prime number of them, so that no buffer's size fits.
func pattern(_ count: Int) -> [UInt8] {
    var bytes: [UInt8] = Array(0...250)
    while bytes.count < count { bytes += bytes }
    return Array(bytes.prefix(count))
}
