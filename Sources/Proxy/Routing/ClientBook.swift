import Pooling
import SQL
import Sessions

/// The statements of one client.
struct ClientBook: StatementBook {
    let client: ClientSession
    let router: Router

    func classify(_ text: Span<UInt8>) -> Classifier.Result { self.router.classify(text, self.client) }

    var standardConformingStrings: Bool { self.client.hasStandardStrings }

    func prepared(_ name: Span<UInt8>) -> RequestSummary.Statement? {
        if name.isEmpty {
            guard !self.client.unnamedParse.isEmpty else { return nil }
            let text = Array(self.client.unnamedParse.prefix { $0 != 0 })
            return self.statement(text.span)
        }
        return self.client.statements.find(name).map { self.router.known($0.statement, self.client) }
    }
}
