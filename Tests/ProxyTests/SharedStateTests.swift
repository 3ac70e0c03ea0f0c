import Synchronization
import Testing

@testable import Proxy

@Suite("Shared state")
struct SharedStateTests {
    /// A count that can be handed to several tasks.
    private final class Shared: Sendable {
        let count = LimitedCount()
    }

    @Test("a count stops at its limit")
    func limit() {
        let count = LimitedCount()
        let taken = (0..<5).map { _ in count.take(limit: 3) }
        #expect(taken == [true, true, true, false, false])
        count.give()
        let again = [count.take(limit: 3), count.take(limit: 3)]
        let total = count.count
        #expect(again == [true, false])
        #expect(total == 3)
    }

    @Test("a limit of 0, or below, is none", arguments: [0, -1])
    func noLimit(limit: Int) {
        let count = LimitedCount()
        let taken = (0..<100).filter { _ in count.take(limit: limit) }.count
        #expect(taken == 100)
    }

    @Test("a limit made smaller refuses until enough has been given back")
    func smallerLimit() {
        let count = LimitedCount()
        for _ in 0..<5 { _ = count.take(limit: 5) }
        let refused = !count.take(limit: 2)
        for _ in 0..<4 { count.give() }
        let taken = count.take(limit: 2)
        #expect(refused && taken)
    }

    @Test("several threads never exceed a limit, and nothing is lost", arguments: [1, 3, 20])
    func threads(limit: Int) async {
        let shared = Shared()
        let greatest = await withTaskGroup(of: (greatest: Int, taken: Int).self) { group in
            for _ in 0..<8 {
                group.addTask {
                    var greatest = 0
                    var taken = 0
                    for _ in 0..<20_000 where shared.count.take(limit: limit) {
                        taken += 1
                        greatest = max(greatest, shared.count.count)
                        shared.count.give()
                    }
                    return (greatest, taken)
                }
            }
            return await group.reduce(into: (greatest: 0, taken: 0)) {
                $0 = (max($0.greatest, $1.greatest), $0.taken + $1.taken)
            }
        }
        let left = shared.count.count
        #expect((1...limit).contains(greatest.greatest))
        #expect(greatest.taken >= 20_000)
        #expect(left == 0)
    }

    @Test("takers that never give back get exactly the limit", arguments: [1, 7, 1_000])
    func exactly(limit: Int) async {
        let shared = Shared()
        let taken = await withTaskGroup(of: Int.self) { group in
            for _ in 0..<8 {
                group.addTask { (0..<1_000).filter { _ in shared.count.take(limit: limit) }.count }
            }
            return await group.reduce(0, +)
        }
        #expect(taken == limit)
    }

    @Test("a name stands for one object, whoever asks for it first")
    func names() async {
        let state = SharedState(reactors: 8)
        let key = PoolKey(database: "shop", user: "app")
        let pools = await withTaskGroup(of: SharedPool.self) { group in
            for _ in 0..<8 { group.addTask { state.addShard(of: key) } }
            return await group.reduce(into: []) { $0.append($1) }
        }
        #expect(pools.allSatisfy { $0 === pools[0] })
        #expect(pools[0].database === state.database("shop"))
        #expect(pools[0].user === state.user("app"))
        #expect(state.knownDatabase("nosuch") == nil)
        #expect(state.pools.count == 1)
    }

    @Test("a pool is forgotten with its last shard, and its database too unless somebody has stopped it")
    func forgetting() {
        let state = SharedState(reactors: 2)
        for (database, isPaused) in [("shop", false), ("paused", true)] {
            let key = PoolKey(database: database, user: "app")
            let pool = state.addShard(of: key)
            _ = state.addShard(of: key)
            pool.database.isPaused.store(isPaused, ordering: .relaxed)
            state.removeShard(of: key)
            #expect(state.pools.contains { $0 === pool })
            state.removeShard(of: key)
            #expect(state.pools.isEmpty)
            #expect((state.knownDatabase(database) != nil) == isPaused)
        }
    }

    @Test("a database that has clients is not forgotten: they give their places back to it")
    func databaseInUse() {
        let state = SharedState(reactors: 1)
        let key = PoolKey(database: "shop", user: "app")
        let database = state.addShard(of: key).database
        _ = database.clients.take(limit: 1)
        state.removeShard(of: key)
        #expect(state.database("shop") === database)
    }

    @Test("numbers are given out once")
    func numbers() async {
        let state = SharedState(reactors: 1)
        let numbers = await withTaskGroup(of: [UInt64].self) { group in
            for _ in 0..<4 { group.addTask { (0..<1_000).map { _ in state.nextID() } } }
            return await group.reduce(into: Set<UInt64>()) { $0.formUnion($1) }
        }
        #expect(numbers.count == 4_000)
    }

    @Test("every reactor has a bit of its own")
    func bits() {
        let bits = (0..<SharedState.maximumReactors).map { SharedPool.bit($0) }
        #expect(Set(bits).count == bits.count)
        #expect(bits.reduce(0, |) == .max)
    }
}
