import Foundation
import SQL
import Testing

/// The classes of the statements in Integration/tests/corpus.sql; its head says what a line means.
@Suite struct CorpusTests {
    private struct Corpus {
        struct Line {
            let number: Int
            let kind: String
            let reason: String
            let flags: Set<Substring>
            let statement: String
        }

        var lines: [Line] = []
        var catalogue = Catalogue()

        init() throws {
            let file = URL(filePath: #filePath).deletingLastPathComponent()
                .appending(path: "../../Integration/tests/corpus.sql")
            let text = try String(contentsOf: file, encoding: .utf8)
            for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
                try self.read(line, number: index + 1)
            }
        }

        private mutating func read(_ line: Substring, number: Int) throws {
            let words = line.split(separator: " ")
            switch words.first {
            case nil, "#", "setup": return
            case "function": self.catalogue.functions[String(words[1])] = try Self.volatility(words[2])
            case "unlogged": self.catalogue.unloggedRelations.insert(String(words[1]))
            default:
                let (head, statement) = try Self.halves(line)
                let reason = head.firstIndex(of: "(").map { head[$0...].dropFirst().prefix { $0 != "+" } } ?? ""
                self.lines.append(
                    Line(
                        number: number, kind: String(words[0]),
                        reason: reason.trimmingCharacters(in: .whitespaces).replacing(/\)$/, with: ""),
                        flags: Set(head.split(separator: " ").filter { $0.hasPrefix("+") }),
                        statement: String(statement)))
            }
        }

        private static func halves(_ line: Substring) throws -> (Substring, Substring) {
            let bar = try #require(line.firstIndex(of: "|"))
            return (line[..<bar], line[bar...].dropFirst(2))
        }

        private static func volatility(_ word: Substring) throws -> Catalogue.Volatility {
            try #require(["immutable": .immutable, "stable": .stable, "volatile": .volatile][word])
        }
    }

    @Test func everyStatementHasItsClass() throws {
        let corpus = try Corpus()
        #expect(corpus.lines.count > 400)
        var subject = Subject(corpus.catalogue)
        for line in corpus.lines {
            // The second time from the cache.
            for _ in 0..<2 {
                let found = subject(line.statement).statementClass
                let place = "line \(line.number): \(line.statement): \(found.kind), \(found.reason)"
                #expect("\(found.kind)" == line.kind, "\(place)")
                #expect(line.reason.isEmpty || found.reason.contains(line.reason), "\(place)")
                #expect(found.bindsTransaction == line.flags.contains("+binds"), "\(place)")
                #expect(found.changesCatalogue == line.flags.contains("+catalogue"), "\(place)")
            }
        }
    }
}
