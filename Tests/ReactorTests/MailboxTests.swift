import Glibc
import Synchronization
import Testing

@testable import Reactor

/// What a reactor owns, on its thread.
private final class Owner {
    let loop: EventLoop
    var numbers: [Int] = []
    var connection: Recorder?

    init(_ loop: EventLoop) { self.loop = loop }
}

/// Carries a connection that has left one loop to another.
private struct Parcel: @unchecked Sendable { let connection: Recorder }

@Suite(.onEachLoop) struct MailboxTests {
    @Test func inOrder() throws {
        let scene = try Scene()
        let owner = Owner(scene.loop)
        let mailbox = try Mailbox<Owner>()
        // Before it is opened, and more than a turn takes.
        for number in 0..<1000 { mailbox.post { $0.numbers.append(number) } }
        mailbox.open(on: scene.loop, owner: owner)
        scene.when(
            "all have come", { owner.numbers == Array(0..<1000) },
            then: {
                owner.numbers = []
                mailbox.post { owner in
                    owner.numbers.append(1)
                    mailbox.post { $0.numbers.append(3) }
                    owner.numbers.append(2)
                }
            })
        scene.when("so have those that a message leaves") { owner.numbers == [1, 2, 3] }
        scene.run()
    }

    @Test func fromManyThreads() throws {
        let scene = try Scene()
        let owner = Owner(scene.loop)
        let mailbox = try Mailbox<Owner>()
        mailbox.open(on: scene.loop, owner: owner)
        let (threads, each) = (8, 5000)
        for thread in 0..<threads {
            try startThread("post \(thread)") {
                for number in 0..<each {
                    mailbox.post { $0.numbers.append(thread * each + number) }
                    // So that the loop sleeps now and then, and has to be woken.
                    if number % 500 == 0 { usleep(1000) }
                }
            }
        }
        scene.when("all have come") { owner.numbers.count == threads * each }
        scene.run(seconds: 30)
        for thread in 0..<threads {
            let own = owner.numbers.filter { $0 / each == thread }
            #expect(own == own.sorted(), "those of one thread stay in order")
            #expect(Set(own).count == each)
        }
    }

    @Test func aFloodDoesNotStarveTheSockets() throws {
        let scene = try Scene()
        let owner = Owner(scene.loop)
        let mailbox = try Mailbox<Owner>()
        mailbox.open(on: scene.loop, owner: owner)
        let (connection, peer) = try connectionPair(scene, .unix)
        peer.write([1])
        var countWhenRead: Int?
        connection.consume = {
            countWhenRead = owner.numbers.count
            return $0.count
        }
        for number in 0..<50_000 { mailbox.post { $0.numbers.append(number) } }
        scene.when("all have come") { owner.numbers.count == 50_000 && countWhenRead != nil }
        scene.run()
        #expect(try #require(countWhenRead) <= 1024)
        connection.close()
    }

    @Test func leftBehindWhenTheLoopHasEnded() throws {
        let mailbox = try Mailbox<Owner>()
        do {
            let scene = try Scene()
            let owner = Owner(scene.loop)
            mailbox.open(on: scene.loop, owner: owner)
            scene.run()
        }
        mailbox.post { _ in Issue.record("nobody is there to call this") }
    }

    // MARK: From one loop to another

    @Test(arguments: Transport.allCases)
    func aConnectionMoves(_ transport: Transport) throws {
        let scene = try Scene()
        let here = try Mailbox<Owner>()
        let there = try Mailbox<Owner>()
        let owner = Owner(scene.loop)
        here.open(on: scene.loop, owner: owner)
        let kind = Scene.kind
        try startThread("other loop") {
            guard let loop = try? EventLoop(kind) else { return }
            let other = Owner(loop)
            there.open(on: loop, owner: other)
            loop.run()
            here.post { $0.numbers.append(-1) }
        }
        let (connection, peer) = try connectionPair(scene, transport)
        connection.setDeadline(.max - 1)
        var isReadHere = false
        connection.consume = {
            isReadHere = true
            // Input may follow what is being delivered: not now.
            #expect(!connection.leave())
            return $0.count
        }
        peer.write([1])
        scene.when(
            "it works here", { isReadHere },
            then: {
                // A small piece and a large one: nothing is left to send, but it has been offered.
                connection.send([2])
                connection.send(pattern(20_000))
                connection.pauseReading()
                connection.consume = { $0.count }
                #expect(connection.leave())
                #expect(!scene.loop.isWatching(connection))
                let parcel = Parcel(connection: connection)
                there.post { other in
                    other.connection = parcel.connection
                    parcel.connection.join(other.loop)
                    parcel.connection.send([3])
                    parcel.connection.resumeReading()
                }
                peer.write([4])
            })
        let hasArrived = Atomic<Bool>(false)
        scene.when("it works there") {
            peer.read()
            there.post { other in
                if other.connection?.input == [1, 4] { hasArrived.store(true, ordering: .relaxed) }
            }
            return peer.input == [2] + pattern(20_000) + [3] && hasArrived.load(ordering: .relaxed)
        }
        scene.when(
            "it comes back", { true },
            then: {
                there.post { other in
                    guard let connection = other.connection, connection.leave() else { return }
                    other.connection = nil
                    let parcel = Parcel(connection: connection)
                    here.post { owner in
                        owner.connection = parcel.connection
                        parcel.connection.join(owner.loop)
                    }
                    other.loop.stop()
                }
            })
        scene.when("it is here", { owner.connection != nil }, then: { peer.write([5]) })
        scene.when("and read") { connection.input == [1, 4, 5] }
        scene.when("the other loop has ended") { owner.numbers == [-1] }
        scene.run()
        connection.close()
    }

    @Test func whatHoldsAConnectionBack() throws {
        let scene = try Scene()
        let (connection, peer) = try connectionPair(scene, .unix)
        connection.consume = { _ in 0 }
        connection.send([1])
        #expect(!connection.leave(), "unsent output")
        scene.when(
            "it is sent", { connection.pendingOutput == 0 },
            then: {
                peer.write([1])
            })
        scene.when("input is held", { connection.heldInput == 1 }, then: { #expect(!connection.leave()) })
        scene.run()
        connection.close()
        #expect(!connection.leave(), "closed")
    }
}

extension EventLoop {
    fileprivate func isWatching(_ source: EventSource) -> Bool { source.token != 0 && source.isRegistered }
}
