import TestSupport
import Testing
import Wire

@testable import Pooling

private func tail(_ text: String, types: [UInt8] = []) -> [UInt8] {
    Array(text.utf8) + [0, 0, UInt8(types.count / 4)] + types
}

/// Spans of temporary arrays cannot stand in an array literal: here are the calls for text and arrays.
extension ClientStatements {
    fileprivate mutating func add(_ name: [UInt8], _ statement: PreparedStatement) -> Bool {
        self.add(name.span, ClientStatement(statement, generation: 1))
    }

    fileprivate mutating func add(_ name: String, _ statement: PreparedStatement, hash: UInt32? = nil) -> Bool {
        let bytes = Array(name.utf8)
        guard let hash else { return self.add(bytes, statement) }
        return self.add(bytes.span, ClientStatement(statement, generation: 1), hash: hash)
    }

    fileprivate func find(_ name: [UInt8]) -> PreparedStatement? {
        self.find(name.span)?.statement
    }

    fileprivate func find(_ name: String, hash: UInt32? = nil) -> PreparedStatement? {
        let bytes = Array(name.utf8)
        guard let hash else { return self.find(bytes) }
        return self.find(bytes.span, hash: hash)?.statement
    }

    fileprivate mutating func remove(_ name: String, hash: UInt32? = nil) -> PreparedStatement? {
        let bytes = Array(name.utf8)
        guard let hash else { return self.remove(bytes.span)?.statement }
        return self.remove(bytes.span, hash: hash)?.statement
    }
}

extension StatementRegistry {
    fileprivate func statement(_ tail: Span<UInt8>, hash: UInt32? = nil) -> PreparedStatement {
        guard let hash else { return self.statement(tail, .none) }
        return self.statement(tail, .none, hash: hash)
    }
}

extension StatementCache {
    fileprivate mutating func statement(_ tail: Span<UInt8>, hash: UInt32? = nil) -> PreparedStatement {
        guard let hash else { return self.statement(tail, .none) }
        return self.statement(tail, .none, hash: hash)
    }
}

private func plainStatement(_ id: UInt64, size: Int = 0) -> PreparedStatement {
    PreparedStatement(
        id: id, tail: [UInt8](repeating: 0, count: size), settings: .none, isOwn: false, effects: [],
        memory: StatementMemory())
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

    @Test func otherSettingsAreAnother() throws {
        let registry = StatementRegistry()
        var cache = StatementCache(registry: registry)
        let table = ParameterTable()
        let reported = try table.reported([
            ParameterStatus(name: "TimeZone", value: Array("UTC".utf8)),
            ParameterStatus(name: "application_name", value: Array("a".utf8)),
        ])
        let sets = [
            reported, table.setting("TimeZone", Array("Asia/Tokyo".utf8), in: reported),
            table.setting("application_name", Array("b".utf8), in: reported),
            table.setting("DateStyle", Array("SQL, DMY".utf8), in: reported),
        ]
        var ids: [UInt64] = []
        var all: [PreparedStatement] = []
        for set in sets {
            let statement = cache.statement(tail("A").span, set.parsing)
            let again = registry.statement(tail("A").span, ParsingSettings(set.parameters))
            #expect(statement === again)
            ids.append(statement.id)
            all.append(statement)
        }
        // The application's name changes no meaning.
        #expect(ids[0] == ids[2] && Set(ids).count == 3)
        let own = cache.ownStatement(tail("A").span, sets[0].parsing)
        #expect(own.isOwn && !ids.contains(own.id))
        #expect(registry.memory.statements == 4)
        #expect(registry.memory.bytes == 4 * own.size)
    }

    @Test func changesOfSettingsThatMatter() {
        func settings(_ values: [(String, String)]) -> ParsingSettings {
            ParsingSettings(
                values.map { Parameter(name: $0.0, value: Array($0.1.utf8), isReported: false) }
                    .sorted { $0.key < $1.key })
        }
        let here = settings([("TimeZone", "UTC"), ("search_path", "a"), ("work_mem", "1"), ("DateStyle", "ISO, MDY")])
        let there = settings([("TimeZone", "PST8PDT"), ("role", "x"), ("DateStyle", "ISO, MDY")])
        let changes = here.changes(to: there)
        #expect(changes.count == 3)
        #expect(
            ParameterChange.statements(changes, isLocal: true, client: .empty)
                == [
                    "SET LOCAL \"role\" = 'x'", "SET LOCAL \"TimeZone\" = 'PST8PDT'",
                    "SET LOCAL \"search_path\" TO DEFAULT",
                ])
        #expect(here.changes(to: here).isEmpty)
    }

    @Test func tableSweepsWhatIsGone() {
        var table = InternTable<PreparedStatement>()
        let held = (0..<10).map { plainStatement(UInt64($0)) }
        for statement in held { table.insert(UInt32(statement.id), statement) }
        for number in 10..<10_000 { table.insert(UInt32(number), plainStatement(UInt64(number))) }
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
        let found = [names.find(long), names.find(longer), names.find(odd)]
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

    @Test func bytesOfOneClient() {
        var names = ClientStatements()
        let (first, second) = (self.statement("A"), self.statement("SELECT 'longer'"))
        _ = names.add("a", first)
        _ = names.add("", first)
        _ = names.add("", second)
        let size = names.size
        #expect(size == first.size + 1 + second.size)
        _ = names.remove("a")
        let left = names.size
        #expect(left == second.size)
        _ = names.remove("")
        let none = names.size
        #expect(none == 0)
    }

    @Test func whatTheClientWasTold() {
        var names = ClientStatements()
        let name = Array("a".utf8)
        let (first, other) = (self.statement("A"), self.statement("C"))
        _ = names.add(name.span, ClientStatement(first, generation: 3))
        var told = StatementDescription()
        told.noColumns()
        names.describe(name.span, first, as: told)
        var unread = StatementDescription()
        unread.unreadable(Backend.rowDescription)
        names.describe(name.span, other, as: unread)
        names.replace(name.span, by: self.statement("B"))
        names.distrust(before: 5)
        let found = names.find(name.span)
        #expect(found?.description == told && found?.generation == 3 && found?.statement.text == "B")
        let least = names.leastGeneration
        #expect(least == 5)
    }

    @Test func emptyOneIsAPointer() {
        #expect(MemoryLayout<ClientStatements>.size == 8)
    }
}

@Suite struct ServerStatementsTests {
    let all = (1...10).map { plainStatement(UInt64($0)) }

    /// Ids of the statements that inserting these numbers evicts, in order.
    private func insert(_ numbers: [Int], into server: inout ServerStatements) -> [UInt64] {
        var evicted: [UInt64] = []
        for number in numbers {
            let statement = self.all[number - 1]
            guard server.use(statement, from: 1) == .missing else { continue }
            while let gone = server.makeRoom(for: statement.size) { evicted.append(gone.id) }
            server.insert(statement, generation: 1)
        }
        return evicted
    }

    private func use(_ number: Int, of server: inout ServerStatements) -> Bool {
        server.use(self.all[number], from: 1) != .missing
    }

    @Test func leastRecentlyUsedGoesFirst() {
        var server = ServerStatements(limit: 3)
        #expect(self.insert([1, 2, 3], into: &server) == [])
        let used = self.use(0, of: &server)
        #expect(used)
        #expect(self.insert([4, 5, 6], into: &server) == [2, 3, 1])
        let count = server.count
        #expect(count == 3)
    }

    @Test func useOfTheNewestTheMiddleAndTheOldest() {
        var server = ServerStatements(limit: 3)
        _ = self.insert([1, 2, 3], into: &server)
        for number in [3, 2, 1, 1, 3] {
            let used = self.use(number - 1, of: &server)
            #expect(used)
        }
        #expect(self.insert([4, 5, 6], into: &server) == [2, 1, 3])
    }

    @Test func whatIsNotThere() {
        var server = ServerStatements(limit: 3)
        let results = [self.use(0, of: &server), server.contains(self.all[0]), server.remove(self.all[0])]
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
        let isOver = server.isOverLimit
        #expect(isOver)
        #expect(self.insert([6], into: &server) == [1, 2, 3, 4])
        let isOverStill = server.isOverLimit
        #expect(!isOverStill)
        server.limit = 0
        let limit = server.limit
        #expect(limit == 1)
    }

    @Test func limitOfBytes() {
        let large = (1...4).map { plainStatement(UInt64($0), size: 1000) }
        var server = ServerStatements(limit: 100, sizeLimit: 3 * large[0].size)
        var evicted: [UInt64] = []
        for statement in large {
            while let gone = server.makeRoom(for: statement.size) { evicted.append(gone.id) }
            server.insert(statement, generation: 1)
        }
        #expect(evicted == [1])
        // One that is larger than all there may be takes the place of all.
        let huge = plainStatement(5, size: 100_000)
        while let gone = server.makeRoom(for: huge.size) { evicted.append(gone.id) }
        server.insert(huge, generation: 1)
        let (count, size) = (server.count, server.size)
        #expect(evicted == [1, 2, 3, 4] && count == 1 && size == huge.size)
        let isOver = server.isOverLimit
        #expect(!isOver)
        server.remove(huge)
        let left = server.size
        #expect(left == 0)
    }

    @Test func generationsAndDescriptions() {
        var told = StatementDescription()
        told.noColumns()
        var server = ServerStatements(limit: 5)
        server.insert(self.all[0], generation: 4, at: 10)
        var seen = [server.use(self.all[0], from: 4), server.use(self.all[0], from: 5)]
        server.describe(self.all[0], as: told)
        server.prove(self.all[0], at: 20)
        seen.append(server.use(self.all[0], from: 1))
        server.distrust()
        seen.append(server.use(self.all[0], from: 1))
        server.insert(self.all[0], generation: 6, at: 30)
        seen.append(server.use(self.all[0], from: 5))
        let generation = server.generation(of: self.all[0])
        #expect(generation == 6)
        server.distrust(self.all[0])
        seen.append(server.use(self.all[0], from: 1))
        #expect(
            seen == [
                .prepared(description: StatementDescription(), provenAt: 10), .outdated,
                .prepared(description: told, provenAt: 20), .outdated,
                .prepared(description: StatementDescription(), provenAt: 30), .outdated,
            ])
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
                let used = self.use(number, of: &server)
                #expect(used == list.contains(number))
                if used { list = list.filter { $0 != number } + [number] }
            default:
                let evicted = self.insert([number + 1], into: &server)
                list = list.filter { $0 != number } + [number]
                #expect(evicted == (list.count > 4 ? [self.all[list.removeFirst()].id] : []))
            }
            let count = server.count
            #expect(count == list.count)
        }
    }
}

@Suite struct CatalogueGenerationTests {
    @Test func grows() {
        let all = CatalogueGenerations()
        let here = all.generation(of: "a")
        let there = all.generation(of: "b")
        let again = all.generation(of: "a")
        #expect(here === again && here !== there)
        let before = (here.current, there.current)
        #expect(before.0 > 0 && before.1 > before.0)
        here.advance()
        #expect(here.current > before.1 && there.current == before.1)
    }

    @Test func whatIsKnownToBeGoodEndsWithItsGeneration() {
        var known = KnownGood()
        var inserted = [known.insert(1, 5), known.insert(1, 5)]
        #expect(known.contains(1, 5) && !known.contains(1, 6) && !known.contains(2, 5))
        // What a server got before the change says nothing.
        inserted += [known.insert(2, 6), known.insert(3, 5)]
        #expect(inserted == [true, false, true, false])
        #expect(!known.contains(1, 6) && known.contains(2, 6) && !known.contains(3, 6))
    }
}

@Suite struct StatementDescriptionTests {
    private func description(
        _ types: [UInt8], _ columns: [(name: String, type: UInt8, table: UInt8)]?
    ) -> StatementDescription {
        var description = StatementDescription()
        let parameters: [UInt8] = [116, 0, 0, 0, 0, 0, UInt8(types.count)] + types.flatMap { [0, 0, 0, $0] }
        description.parameters(parameters.span)
        guard let columns else {
            description.noColumns()
            return description
        }
        var message: [UInt8] = [84, 0, 0, 0, 0, 0, UInt8(columns.count)]
        for column in columns {
            message += Array(column.name.utf8) + [0, 0, 0, 0, column.table, 0, 1]
            message += [0, 0, 0, column.type, 0, 4, 255, 255, 255, 255, 0, 0]
        }
        description.columns(message.span)
        return description
    }

    @Test func namesAndTypesCount() {
        let all = [
            self.description([], nil), self.description([23], nil), self.description([], []),
            self.description([], [("a", 23, 1)]), self.description([], [("b", 23, 1)]),
            self.description([], [("a", 25, 1)]), self.description([23], [("a", 23, 1)]),
            self.description([], [("a", 23, 1), ("a", 23, 1)]),
        ]
        for (index, one) in all.enumerated() {
            for (other, another) in all.enumerated() {
                #expect(one.holds(in: another) == (index == other) && one.contradicts(another) == (index != other))
            }
        }
        // The table does not.
        #expect(self.description([], [("a", 23, 1)]) == self.description([], [("a", 23, 2)]))
    }

    @Test func cutMessages() {
        let message: [UInt8] = [84, 0, 0, 0, 0, 0, 9, 97, 0, 1, 2]
        for count in 0...message.count {
            let part = Array(message.prefix(count))
            var description = StatementDescription()
            description.columns(part.span)
            description.parameters(part.span)
            #expect(description.parameters != 0)
        }
    }

    @Test func whatIsNotKnownContradictsNothing() {
        let whole = self.description([23], [("a", 23, 1)])
        var columns = StatementDescription()
        #expect(columns.isEmpty && columns.holds(in: whole) && !columns.contradicts(whole))
        let message: [UInt8] = [
            84, 0, 0, 0, 0, 0, 1, 97, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 23, 0, 4, 255, 255, 255, 255, 0, 0,
        ]
        columns.columns(message.span)
        #expect(columns.holds(in: whole) && !whole.holds(in: columns) && !whole.contradicts(columns))
        #expect(columns.contradicts(self.description([23], nil)))
        columns.take(whole)
        #expect(columns == whole)
    }
}

@Suite struct BoundPortalsTests {
    private func name(_ text: String) -> [UInt8] { Array(text.utf8) }

    @Test func theLastBindCounts() {
        var portals = BoundPortals()
        #expect(portals.statement(of: self.name("").span) == nil)
        portals.bind(self.name("").span, name: self.name("s").span, id: 1)
        portals.bind(self.name("p").span, name: self.name("t").span, id: 2)
        #expect(portals.statement(of: self.name("").span)?.id == 1)
        #expect(portals.statement(of: self.name("p").span)?.name == self.name("t"))
        // Of another one there is nothing to know.
        portals.bind(self.name("").span, name: self.name("").span, id: 0)
        #expect(portals.statement(of: self.name("").span) == nil && portals.statement(of: self.name("q").span) == nil)
        portals.removeAll()
        #expect(portals.isEmpty && portals.statement(of: self.name("p").span) == nil)
    }

    @Test func whatIsBoundAlreadyMayStay() {
        var portals = BoundPortals()
        for id in [0, 2] as [UInt64] { portals.bind(self.name("p").span, name: self.name("s").span, id: id) }
        for id in [1, 2] as [UInt64] { portals.bind(self.name("q").span, name: self.name("s").span, id: id) }
        #expect(portals.statement(of: self.name("p").span) == nil && portals.statement(of: self.name("q").span) == nil)
    }

    @Test func boundedInBytes() {
        var portals = BoundPortals()
        for number in 0..<10_000 {
            portals.bind(self.name("p\(number)").span, name: self.name("s").span, id: 7)
            // What there is, is right.
            if let found = portals.statement(of: self.name("p\(number)").span) { #expect(found.id == 7) }
        }
    }
}
