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
