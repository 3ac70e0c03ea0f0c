import SQL
import Testing

@testable import Topology

@Suite struct CatalogueQueryTests {
    /// A row of a kind and a name, and what else it says.
    private static func row(
        _ kind: String, _ name: String?, _ behind: String? = nil, _ schema: String? = nil, _ rank: String? = nil
    ) -> [String?] { [kind, name, behind, schema, rank] }

    private func catalogue(_ rows: [[String?]]) throws -> Catalogue { try #require(CatalogueQuery.catalogue(rows)) }

    @Test func rowsBecomeACatalogue() throws {
        let catalogue = try self.catalogue([
            Self.row("f", "add", nil, nil, "1"), Self.row("f", "today", nil, nil, "2"),
            Self.row("f", "pay", nil, nil, "3"), Self.row("u", "cache"), Self.row("f", "Odd Name", nil, nil, "3"),
            Self.row("f", nil, nil, nil, "3"), ["short"], [], Self.row("?", "new"),
        ])
        var expected = Catalogue(
            functions: ["add": .immutable, "today": .stable, "pay": .volatile, "Odd Name": .volatile],
            unloggedRelations: ["cache"])
        expected.isKnown = true
        #expect(catalogue == expected)
    }

    @Test func functionAndTableMayShareAName() throws {
        let catalogue = try self.catalogue([Self.row("f", "cache", nil, nil, "1"), Self.row("u", "cache")])
        #expect(catalogue.functions == ["cache": .immutable])
        #expect(catalogue.properties == [.unlogged: ["cache"]])
    }

    @Test func whatStandsBehindANameIsKept() throws {
        let catalogue = try self.catalogue([
            Self.row("c", "put", "v", "public", "3"), Self.row("c", "nextval", "v", "pg_catalog", "3"),
            Self.row("r", "w", "v"), Self.row("o", "joined", "##", "public", "2"),
            Self.row("s", "ids"), Self.row("t", "check", "checked", "public", "3"), Self.row("m", "twice"),
            Self.row("c", "lost"),
        ])
        let put = Catalogue.Function(name: "put", schema: "public", volatility: .volatile)
        let nextval = Catalogue.Function(name: "nextval", schema: "pg_catalog", volatility: .volatile)
        #expect(catalogue.definitions == ["v": Catalogue.Definition(functions: [nextval, put], relations: ["w"])])
        #expect(
            catalogue.operators == ["##": [Catalogue.Function(name: "joined", schema: "public", volatility: .stable)]])
        #expect(
            catalogue.types == ["checked": [Catalogue.Function(name: "check", schema: "public", volatility: .volatile)]]
        )
        #expect(catalogue.properties == [.sequence: ["ids"]])
        #expect(catalogue.rowFunctions == ["twice"])
    }

    @Test func whatIsKnownOfRelations() throws {
        let catalogue = try self.catalogue([
            Self.row("u", "a"), Self.row("s", "b"), Self.row("x", "c"), Self.row("n", "d"), Self.row("l", "e"),
            Self.row("l", "f"),
        ])
        #expect(
            catalogue.properties == [
                .unlogged: ["a"], .sequence: ["b"], .foreign: ["c"], .unpopulated: ["d"], .locking: ["e", "f"],
            ])
    }

    @Test func functionsOfSeveralSchemas() throws {
        let catalogue = try self.catalogue([
            Self.row("f", "f", nil, "b", "1"), Self.row("f", "f", nil, "a", "3"), Self.row("f", "f", nil, "c", "2"),
            Self.row("d", "put", "f", "public", "3"), Self.row("e", "put", nil, "public", "3"),
        ])
        let put = Catalogue.Function(name: "put", schema: "public", volatility: .volatile)
        #expect(catalogue.functions == ["f": .volatile])
        #expect(catalogue.schemas == ["f": ["a", "b", "c"]])
        #expect(catalogue.calls == ["f": [put]])
        #expect(catalogue.everywhere == [put])
    }

    @Test func whatCountsOnlySometimes() throws {
        let catalogue = try self.catalogue([
            Self.row("p", "check", "t", "public", "3"), Self.row("w", "lock", "t", "public", "3"),
            Self.row("p", "check", "t", "public", "3"),
        ])
        let definition = try #require(catalogue.definitions["t"])
        #expect(definition.functions.isEmpty)
        #expect(definition.checks.map(\.name) == ["check"])
        #expect(definition.locking.map(\.name) == ["lock"])
    }

    /// The bytes of a text, with its length in front.
    @Test(arguments: [
        ("60 0 0 0 97 112 112 46 116", false), ("44 0 0 0 119 111 114 107 95 109 101 109", false),
        ("32 0 0 0 112 111 114 116", true), ("", true), ("16 0 0 0", true), ("1 2", true), ("20 0 0 0 -61", true),
        ("20 0 0 0 195", true), ("20 0 0 0 x", true),
    ])
    func settingsThatAViewShows(bytes: String, isNodes: Bool) throws {
        let catalogue = try self.catalogue([
            Self.row("g", bytes, "v", nil, "1"), Self.row("g", bytes, "d", nil, "2"),
        ])
        #expect(catalogue.definitions["v"]?.functions == (isNodes ? [Catalogue.currentSetting] : nil))
        #expect(catalogue.types["d"] == (isNodes ? [Catalogue.currentSetting] : nil))
    }

    @Test func theOrderOfTheRowsMakesNoDifference() throws {
        let rows = [
            Self.row("c", "a", "v", "public", "3"), Self.row("c", "b", "v", "public", "3"), Self.row("r", "s", "v"),
            Self.row("r", "t", "v"), Self.row("o", "a", "##", "x", "1"), Self.row("o", "a", "##", "y", "1"),
            Self.row("t", "a", "d", "x", "1"), Self.row("t", "a", "d", "x", "2"),
        ]
        #expect(try self.catalogue(rows) == self.catalogue(rows.reversed()))
    }

    @Test func tooLargeACatalogueIsNotKnown() {
        let rows = Array(repeating: Self.row("f", "f", nil, nil, "1"), count: CatalogueQuery.maximumRows + 1)
        #expect(CatalogueQuery.catalogue(rows) == nil)
        #expect(CatalogueQuery.catalogue(Array(rows.dropLast())) != nil)
    }
}
