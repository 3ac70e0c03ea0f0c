import Glibc
import Reactor
import Synchronization
import Testing

@testable import Services

/// Answers as they come in, on whatever thread.
private final class Answers: Sendable {
    private let list = Mutex<[Resolver.Answer]>([])

    func add(_ answer: Resolver.Answer) { self.list.withLock { $0.append(answer) } }
    var all: [Resolver.Answer] { self.list.withLock { $0 } }

    func wait(for count: Int) {
        let deadline = monotonicNow() + 30_000_000
        while self.all.count < count {
            guard monotonicNow() < deadline else {
                Issue.record("\(self.all.count) of \(count) answers have come")
                return
            }
            usleep(1000)
        }
    }
}

@Suite struct ResolverTests {
    private static let minute: Int64 = 60_000_000

    @Test(arguments: ["127.0.0.1", "::1"])
    func aNumericAddressIsAnsweredAtOnce(text: String) throws {
        let resolver = Resolver(maximumTTL: Self.minute, negativeTTL: Self.minute)
        let answers = Answers()
        resolver.resolve(text) { answers.add($0) }
        let answer = try #require(answers.all.first)
        #expect(try answer.get() == [SocketAddress(ip: text, port: 0)])
        #expect(resolver.entries().isEmpty)
    }

    @Test func localhost() throws {
        let resolver = Resolver(maximumTTL: Self.minute, negativeTTL: Self.minute)
        let answers = Answers()
        resolver.resolve("localhost") { answers.add($0) }
        answers.wait(for: 1)
        let addresses = try #require(answers.all.first).get()
        #expect(!addresses.isEmpty)
        #expect(addresses.allSatisfy { $0.host == "127.0.0.1" || $0.host == "::1" })
        #expect(Set(addresses).count == addresses.count)
        // Known now: no other thread is asked.
        resolver.resolve("localhost") { answers.add($0) }
        #expect(answers.all.count == 2)
        let entry = try #require(resolver.entries().first)
        #expect(entry.name == "localhost")
        #expect(entry.timeToLive > 0 && entry.timeToLive <= Self.minute)
        #expect(entry.addresses == addresses)
    }

    /// A label of more than 63 characters is refused without asking a name server.
    @Test func aNameThatFails() throws {
        let resolver = Resolver(maximumTTL: Self.minute, negativeTTL: Self.minute)
        let answers = Answers()
        let name = String(repeating: "x", count: 64) + ".invalid"
        resolver.resolve(name) { answers.add($0) }
        answers.wait(for: 1)
        let error = #expect(throws: ResolverError.self) { try answers.all.first?.get() }
        #expect(error?.host == name)
        #expect(error?.description.hasPrefix("could not resolve \"\(name)\": ") == true)
        resolver.resolve(name) { answers.add($0) }
        #expect(answers.all.count == 2, "failures are kept as well")
        #expect(resolver.entries().first?.addresses == [])
    }

    @Test func askersOfOneNameShareALookUp() throws {
        let resolver = Resolver(maximumTTL: Self.minute, negativeTTL: Self.minute)
        let answers = Answers()
        for _ in 0..<100 { resolver.resolve("localhost") { answers.add($0) } }
        answers.wait(for: 100)
        #expect(resolver.entries().count == 1)
        #expect(Set(answers.all.map { (try? $0.get()) ?? [] }).count == 1)
    }

    @Test func nothingIsKeptWithoutATimeToLive() {
        let resolver = Resolver(maximumTTL: Self.minute, negativeTTL: Self.minute)
        resolver.configure(maximumTTL: 0, negativeTTL: 0)
        let answers = Answers()
        resolver.resolve("localhost") { answers.add($0) }
        answers.wait(for: 1)
        resolver.resolve("localhost") { answers.add($0) }
        answers.wait(for: 2)
        #expect(resolver.entries().first.map { $0.timeToLive <= 0 } == true)
    }
}
