import Pooling
import Sessions

/// The statements of one client.
struct ClientBook: StatementBook {
    let client: ClientSession
    let router: Router

    func statement(_ text: Span<UInt8>) -> RequestSummary.Statement { self.router.statement(text, self.client) }

    func prepared(_ name: Span<UInt8>) -> RequestSummary.Statement? {
        if name.isEmpty {
            guard !self.client.unnamedParse.isEmpty else { return nil }
            let text = Array(self.client.unnamedParse.prefix { $0 != 0 })
            return self.statement(text.span)
        }
        return self.client.statements.find(name).map { self.router.known($0.statement, self.client) }
    }
}
