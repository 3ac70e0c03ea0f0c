import Dispatch
import Reactor
import Synchronization
import Testing

@testable import Services

struct SlowLoginsTests {
    private let logins = SlowLogins()

    private func ask(
        _ judge: String, _ client: SlowLogins.Presence, expires: MonotonicTime = .max,
        _ ask: @escaping @Sendable () -> PasswordVerdict = { .right },
        _ completion: @escaping @Sendable (PasswordVerdict?) -> Void = { _ in }
    ) {
        self.logins.add(
            SlowLogins.Request(judge: judge, expires: expires, client: client, ask: ask, completion: completion))
    }

    private func verdict(
        _ judge: String, _ client: SlowLogins.Presence, _ verdict: PasswordVerdict = .right
    ) async -> PasswordVerdict? {
        await withCheckedContinuation { continuation in
            self.ask(judge, client, { verdict }, { continuation.resume(returning: $0) })
        }
    }

    /// Has all threads of a judge wait at a gate; returns when they do.
    private func occupy(_ judge: String, _ client: SlowLogins.Presence, _ gate: DispatchSemaphore) async {
        let begun = DispatchGroup()
        for _ in 0..<SlowLogins.threads {
            begun.enter()
            self.ask(
                judge, client,
                {
                    begun.leave()
                    gate.wait()
                    return .right
                })
        }
        await withCheckedContinuation { continuation in
            begun.notify(queue: .global()) { continuation.resume() }
        }
    }

    @Test func verdictsArrive() async {
        let client = SlowLogins.Presence()
        for verdict in [PasswordVerdict.right, .refused("for a reason"), .right] {
            #expect(await self.verdict("a", client, verdict) == verdict)
        }
    }

    @Test("one that does not answer has four threads, and the others theirs")
    func oneHangs() async {
        let client = SlowLogins.Presence()
        let gate = DispatchSemaphore(value: 0)
        let begun = Atomic(0)
        let done = DispatchGroup()
        for _ in 0..<20 {
            done.enter()
            self.ask(
                "hangs", client,
                {
                    begun.add(1, ordering: .relaxed)
                    gate.wait()
                    return .right
                }, { _ in done.leave() })
        }
        for _ in 0..<10 { #expect(await self.verdict("answers", client) == .right) }
        #expect(begun.load(ordering: .relaxed) <= SlowLogins.threads)
        for _ in 0..<20 { gate.signal() }
        await withCheckedContinuation { continuation in
            done.notify(queue: .global()) { continuation.resume() }
        }
        #expect(begun.load(ordering: .relaxed) == 20)
    }

    @Test("who has left or waited too long is not asked about, and makes room for others")
    func whoHasLeft() async {
        let client = SlowLogins.Presence()
        let gate = DispatchSemaphore(value: 0)
        await self.occupy("a", client, gate)
        let wrongly = Mutex<[String]>([])
        do {
            let leaver = SlowLogins.Presence()
            for _ in 1..<SlowLogins.mostWaiting {
                self.ask(
                    "a", leaver,
                    {
                        wrongly.withLock { $0.append("has left") }
                        return .right
                    })
            }
            withExtendedLifetime(leaver) {}
        }
        self.ask(
            "a", client, expires: monotonicNow() - 1,
            {
                wrongly.withLock { $0.append("too late") }
                return .right
            })
        let last = Task { await self.verdict("a", client) }
        for _ in 0..<SlowLogins.threads { gate.signal() }
        #expect(await last.value == .right)
        #expect(wrongly.withLock { $0 } == [])
    }

    @Test("too many wait")
    func tooMany() async {
        let client = SlowLogins.Presence()
        let gate = DispatchSemaphore(value: 0)
        await self.occupy("a", client, gate)
        for _ in 0..<SlowLogins.mostWaiting { self.ask("a", client) }
        #expect(await self.verdict("a", client) == nil)
        #expect(await self.verdict("b", client) == .right)
        for _ in 0..<SlowLogins.threads { gate.signal() }
    }
}
