import SQL
import Testing

@testable import Topology

@Suite struct CatalogueQueryTests {
    @Test func rowsBecomeACatalogue() {
        let rows: [[String?]] = [
            ["add", "1"], ["today", "2"], ["pay", "3"], ["cache", "0"], ["Odd Name", "3"], [nil, "3"], ["short"], [],
            ["pay", nil],
        ]
        let catalogue = CatalogueQuery.catalogue(rows)
        #expect(
            catalogue
                == Catalogue(
                    functions: ["add": .immutable, "today": .stable, "pay": .volatile, "Odd Name": .volatile],
                    unloggedRelations: ["cache"]))
    }

    @Test func functionAndTableMayShareAName() {
        let catalogue = CatalogueQuery.catalogue([["cache", "1"], ["cache", "0"]])
        #expect(catalogue?.functions == ["cache": .immutable])
        #expect(catalogue?.unloggedRelations == ["cache"])
    }

    @Test func tooLargeACatalogueIsNotKnown() {
        let rows = Array(repeating: ["f" as String?, "1"], count: CatalogueQuery.maximumRows + 1)
        #expect(CatalogueQuery.catalogue(rows) == nil)
        #expect(CatalogueQuery.catalogue(Array(rows.dropLast())) != nil)
    }
}
