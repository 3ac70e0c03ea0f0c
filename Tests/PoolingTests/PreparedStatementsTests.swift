import TestSupport
import Testing

@testable import Pooling

private func tail(_ text: String, types: [UInt8] = []) -> [UInt8] {
    Array(text.utf8) + [0, 0, UInt8(types.count / 4)] + types
}

/// Spans of temporary arrays cannot stand in an array literal: here are the calls for text and arrays.
extension ClientStatements {
    fileprivate mutating func add(_ name: [UInt8], _ statement: PreparedStatement) -> Bool {
        self.add(name.span, statement)
    }

    fileprivate mutating func add(_ name: String, _ statement: PreparedStatement, hash: UInt32? = nil) -> Bool {
        let bytes = Array(name.utf8)
        guard let hash else { return self.add(bytes, statement) }
        return self.add(bytes.span, statement, hash: hash)
    }

    fileprivate func find(_ name: [UInt8]) -> PreparedStatement? {
        self.find(name.span)
    }

    fileprivate func find(_ name: String, hash: UInt32? = nil) -> PreparedStatement? {
        let bytes = Array(name.utf8)
        guard let hash else { return self.find(bytes) }
        return self.find(bytes.span, hash: hash)
    }

    fileprivate mutating func remove(_ name: String, hash: UInt32? = nil) -> PreparedStatement? {
        let bytes = Array(name.utf8)
        guard let hash else { return self.remove(bytes.span) }
        return self.remove(bytes.span, hash: hash)
    }
}

@Suite struct StatementRegistryTests {
    @Test func sameTextAndTypesAreOneStatement() {
        let registry = StatementRegistry()
        let first = registry.statement(tail("SELECT 1").span)
        let second = registry.statement(tail("SELECT 1").span)
        #expect(first === second)
        #expect(first.serverName == Array("martlet_\(first.id)".utf8))
        #expect(first.text == "SELECT 1")
    }

    @Test func otherTextOrTypesAreAnother() {
        let registry = StatementRegistry()
        let all = [tail("SELECT $1"), tail("SELECT  $1"), tail("SELECT $1", types: [0, 0, 0, 23]), tail("")]
            .map { registry.statement($0.span) }
        #expect(Set(all.map(\.id)).count == 4)
        #expect(Set(all.map(\.serverName)).count == 4)
    }

    @Test func equalHashesAreDifferentStatements() {
        let registry = StatementRegistry()
        let first = registry.statement(tail("A").span, hash: 1)
        let second = registry.statement(tail("B").span, hash: 1)
        let again = registry.statement(tail("A").span, hash: 1)
        #expect(first !== second && first === again)
    }

    @Test func statementNobodyHoldsIsForgotten() {
        let registry = StatementRegistry()
        let first = registry.statement(tail("A").span).id
        let second = registry.statement(tail("A").span).id
        #expect(second != first)
    }

    @Test func cachesOfTwoReactorsShareStatements() {
        let registry = StatementRegistry()
        var here = StatementCache(registry: registry)
        var there = StatementCache(registry: registry)
        let first = here.statement(tail("A").span)
        let second = there.statement(tail("A").span)
        let again = here.statement(tail("A").span)
        #expect(first === second && first === again)
    }

    @Test func cacheTellsEqualHashesApart() {
        var cache = StatementCache(registry: StatementRegistry())
        let first = cache.statement(tail("A").span, hash: 1)
        let second = cache.statement(tail("B").span, hash: 1)
        #expect(first !== second)
    }

    @Test func cacheForgetsWhatNobodyHolds() {
        let registry = StatementRegistry()
        var cache = StatementCache(registry: registry)
        let held = cache.statement(tail("held").span)
        for number in 0..<1000 { _ = cache.statement(tail("SELECT \(number)").span) }
        let again = cache.statement(tail("held").span)
        #expect(held === again)
    }

    @Test func textThatIsNotUTF8() {
        let registry = StatementRegistry()
        let statement = registry.statement([0xFF, 0, 0, 0].span)
        #expect(statement.tail == [0xFF, 0, 0, 0] && statement.text == "\u{FFFD}")
    }

    @Test func tableSweepsWhatIsGone() {
        var table = InternTable<PreparedStatement>()
        let held = (0..<10).map { PreparedStatement(id: UInt64($0), tail: []) }
        for statement in held { table.insert(UInt32(statement.id), statement) }
        for number in 10..<10_000 { table.insert(UInt32(number), PreparedStatement(id: UInt64(number), tail: [])) }
        #expect(table.count <= 64)
        for statement in held {
            #expect(table.find(UInt32(statement.id)) { $0 === statement } === statement)
        }
    }
}

@Suite struct ClientStatementsTests {
    let registry = StatementRegistry()

    private func statement(_ text: String) -> PreparedStatement {
        self.registry.statement(tail(text).span)
    }

    @Test func namesOfOneClient() {
        var names = ClientStatements()
        let (first, second) = (self.statement("A"), self.statement("B"))
        let results = [
            names.add("s1", first), names.add("s2", second),
            names.add("S1", first), names.add("s1", second),
        ]
        #expect(results == [true, true, true, false])
        let found = names.find("s1")
        #expect(found === first)
        let count = names.count
        #expect(count == 3)
    }

    @Test func unnamedStatementIsReplaced() {
        var names = ClientStatements()
        let (first, second) = (self.statement("A"), self.statement("B"))
        let results = [names.add("", first), names.add("", second)]
        #expect(results == [true, true])
        let found = names.find("")
        #expect(found === second)
    }

    @Test func nameThatIsNotThere() {
        var names = ClientStatements()
        let before = names.find("A")
        #expect(before == nil)
        let removed = names.remove("A")
        #expect(removed == nil)
        _ = names.add("A", self.statement("A"))
        let other = names.find("B")
        #expect(other == nil)
    }

    @Test func namesOf64KBAndNamesThatAreNotUTF8() {
        var names = ClientStatements()
        let long = [UInt8](repeating: 65, count: 65_536)
        let longer = long + [66]
        let odd: [UInt8] = [0xFF, 0xFE]
        let all = [self.statement("A"), self.statement("B"), self.statement("C")]
        for (name, statement) in zip([long, longer, odd], all) { _ = names.add(name, statement) }
        let found = [names.find(long), names.find(longer), names.find(odd.span)]
        #expect(found.map { $0?.id } == all.map(\.id))
    }

    @Test func equalHashes() {
        var names = ClientStatements()
        let (first, second) = (self.statement("A"), self.statement("B"))
        let results = [names.add("A", first, hash: 9), names.add("B", second, hash: 9)]
        #expect(results == [true, true])
        let found = names.find("B", hash: 9)
        #expect(found === second)
        let removed = names.remove("A", hash: 9)
        #expect(removed === first)
        let still = names.find("B", hash: 9)
        #expect(still === second)
    }

    @Test func removalKeepsTheOthers() {
        var names = ClientStatements()
        let all = (0..<100).map { self.statement("SELECT \($0)") }
        for (number, statement) in all.enumerated() { _ = names.add("s\(number)", statement) }
        for number in stride(from: 0, to: 100, by: 2) {
            let removed = names.remove("s\(number)")
            #expect(removed === all[number])
        }
        for number in 0..<100 {
            let found = names.find("s\(number)")
            #expect(found === (number % 2 == 0 ? nil : all[number]))
        }
        let count = names.count
        #expect(count == 50)
        names.removeAll()
        let none = names.count
        #expect(none == 0)
        let again = names.add("s1", all[0])
        #expect(again)
    }

    @Test func emptyOneIsAPointer() {
        #expect(MemoryLayout<ClientStatements>.size == 8)
    }
}

@Suite struct ServerStatementsTests {
    let all = (1...10).map { PreparedStatement(id: UInt64($0), tail: []) }

    /// Ids of the statements that inserting these numbers evicts, in order.
    private func insert(_ numbers: [Int], into server: inout ServerStatements) -> [UInt64] {
        numbers.compactMap { server.insert(self.all[$0 - 1])?.id }
    }

    @Test func leastRecentlyUsedGoesFirst() {
        var server = ServerStatements(limit: 3)
        #expect(self.insert([1, 2, 3], into: &server) == [])
        let used = server.use(self.all[0])
        #expect(used)
        #expect(self.insert([4, 5, 6], into: &server) == [2, 3, 1])
        let count = server.count
        #expect(count == 3)
    }

    @Test func useOfTheNewestTheMiddleAndTheOldest() {
        var server = ServerStatements(limit: 3)
        _ = self.insert([1, 2, 3], into: &server)
        for number in [3, 2, 1, 1, 3] {
            let used = server.use(self.all[number - 1])
            #expect(used)
        }
        #expect(self.insert([4, 5, 6], into: &server) == [2, 1, 3])
    }

    @Test func whatIsNotThere() {
        var server = ServerStatements(limit: 3)
        let results = [server.use(self.all[0]), server.contains(self.all[0]), server.remove(self.all[0])]
        #expect(results == [false, false, false])
    }

    @Test func insertOfWhatIsThereCountsAsUse() {
        var server = ServerStatements(limit: 2)
        #expect(self.insert([1, 2, 1, 3], into: &server) == [2])
    }

    @Test func containsDoesNotCountAsUse() {
        var server = ServerStatements(limit: 2)
        _ = self.insert([1, 2], into: &server)
        let contained = server.contains(self.all[0])
        #expect(contained)
        #expect(self.insert([3], into: &server) == [1])
    }

    @Test func limitOfOneAndBelow() {
        for limit in [1, 0, -5] {
            var server = ServerStatements(limit: limit)
            #expect(self.insert([1, 2, 3], into: &server) == [1, 2])
        }
    }

    @Test func loweredLimit() {
        var server = ServerStatements(limit: 5)
        _ = self.insert([1, 2, 3, 4, 5], into: &server)
        server.limit = 2
        var evicted: [UInt64] = []
        while let statement = server.evictExcess() { evicted.append(statement.id) }
        #expect(evicted == [1, 2, 3])
        server.limit = 0
        let limit = server.limit
        #expect(limit == 1)
    }

    @Test func removalFromEveryPlace() {
        for number in 1...3 {
            var server = ServerStatements(limit: 3)
            _ = self.insert([1, 2, 3], into: &server)
            let removed = server.remove(self.all[number - 1])
            #expect(removed)
            // The free place is used again, and only then something has to go.
            let left = [1, 2, 3].filter { $0 != number }.map(UInt64.init)
            #expect(self.insert([4, 5, 6], into: &server) == left)
        }
    }

    @Test func removeAll() {
        var server = ServerStatements(limit: 2)
        _ = self.insert([1, 2], into: &server)
        server.removeAll()
        let count = server.count
        #expect(count == 0)
        #expect(self.insert([1, 2, 3], into: &server) == [1])
    }

    @Test func likeAList() {
        var generator = SeededGenerator(seed: 1)
        var server = ServerStatements(limit: 4)
        var list: [Int] = []
        for _ in 0..<5000 {
            let number = Int.random(in: 0..<10, using: &generator)
            switch Int.random(in: 0..<4, using: &generator) {
            case 0:
                let removed = server.remove(self.all[number])
                #expect(removed == list.contains(number))
                list.removeAll { $0 == number }
            case 1:
                let used = server.use(self.all[number])
                #expect(used == list.contains(number))
                if used { list = list.filter { $0 != number } + [number] }
            default:
                let evicted = server.insert(self.all[number])
                list = list.filter { $0 != number } + [number]
                #expect(evicted?.id == (list.count > 4 ? self.all[list.removeFirst()].id : nil))
            }
            let count = server.count
            #expect(count == list.count)
        }
    }
}
