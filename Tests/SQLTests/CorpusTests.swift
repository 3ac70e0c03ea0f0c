import Foundation
import Testing

@testable import SQL

/// The classes of the statements in Integration/tests/corpus.sql; its head says what a line means.
@Suite struct CorpusTests {
    private struct Corpus {
        struct Line {
            let number: Int
            let kind: String
            let reason: String
            let flags: Set<Substring>
            let statement: String

            var ddl: StatementClass.DDL {
                if self.flags.contains("+catalogue") { return .certain }
                return self.flags.contains("+code") ? .possible : self.flags.contains("+drops") ? .drops : .none
            }
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
            case "unlogged": self.catalogue.properties[.unlogged, default: []].insert(String(words[1]))
            case "view":
                self.catalogue.definitions[String(words[1]), default: .init()].functions = [try Self.function(words)]
            case "reads":
                self.catalogue.definitions[String(words[1]), default: .init()].relations.append(String(words[2]))
            case "check":
                self.catalogue.definitions[String(words[1]), default: .init()].checks = [try Self.function(words)]
            case "call": self.catalogue.calls[String(words[1])] = [try Self.function(words)]
            case "property":
                let property = try #require(Catalogue.Property.allCases.first { "\($0)" == words[1] })
                self.catalogue.properties[property, default: []].insert(String(words[2]))
            case "operator": self.catalogue.operators[String(words[1])] = [try Self.function(words)]
            case "type": self.catalogue.types[String(words[1])] = [try Self.function(words)]
            case "sequence": self.catalogue.properties[.sequence, default: []].insert(String(words[1]))
            case "row": self.catalogue.rowFunctions.insert(String(words[1]))
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

        /// What stands behind a name: in the third word with its schema, its volatility in the fourth.
        private static func function(_ words: [Substring]) throws -> Catalogue.Function {
            let names = words[2].split(separator: ".").map(String.init)
            return Catalogue.Function(name: names[1], schema: names[0], volatility: try Self.volatility(words[3]))
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
                #expect(found.ddl == line.ddl, "\(place)")
            }
        }
    }

    /// What stands between the tokens has no say, nor have the contents of literals.
    @Test(arguments: [" /* ' /* -- */ $$ */ ", "\n-- it's \" \n", "\t\u{C}\r\n"])
    func commentsAndWhiteSpaceChangeNothing(separator: String) throws {
        let corpus = try Corpus()
        var subject = Subject(corpus.catalogue)
        for line in corpus.lines {
            let text = Array(line.statement.utf8)
            var spaced: [UInt8] = Array(separator.utf8)
            var lexer = Lexer(standardConformingStrings: true)
            var wasString = false
            while true {
                let token = lexer.next(text.span)
                if token.kind == .end { break }
                // Behind a line break the second of two literals would go on with the first.
                if !(wasString && token.kind == .string) {
                    spaced += Array(separator.utf8)
                } else {
                    spaced.append(0x20)
                }
                spaced += text[token.start..<token.end]
                wasString = token.kind == .string
            }
            let found = subject(spaced).statementClass
            let expected = subject(line.statement).statementClass
            #expect(found.kind == expected.kind, "line \(line.number): \(String(decoding: spaced, as: UTF8.self))")
            #expect(found.reason == expected.reason, "line \(line.number)")
            #expect(found.transaction == expected.transaction, "line \(line.number)")
        }
    }
}
