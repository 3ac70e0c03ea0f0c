import Pooling
import SQL
import Sessions
import Wire

// A request that ends the transaction on a replica and goes on behind that is taken in two parts, each where it belongs:
//
//     SELECT, COMMIT, BEGIN, UPDATE  ──►  SELECT, COMMIT (on the replica)  ──its end──►  BEGIN, UPDATE
//
// A single statement behind COMMIT or ROLLBACK in one Query would be alone then, while PostgreSQL runs it in the implicit
// transaction of that Query. If it is for the primary, the transaction ends there.
//
// PostgreSQL begins a new transaction at the same place. The client gets the ReadyForQuery of the last part that runs.
extension ClientSession {
    /// Divides a request; nil if it is to be taken as a whole.
    ///
    /// - Parameter server: nil if none is linked.
    func divided(
        _ summary: RequestSummary, _ type: UInt8, _ bytes: Span<UInt8>, _ whole: Range<Int>, _ server: ServerSession?,
        _ route: ClientRoute
    ) -> Verdict? {
        guard case .before(let rest) = summary.ending, whole.upperBound <= bytes.count else { return nil }
        switch route.transaction {
        case .replica: guard server != nil else { return nil }
        case .failed: guard server == nil else { return nil }
        // On the primary the server knows what it is, and one that has not begun begins there.
        case .none, .held: return nil
        }
        let request = bytes.extracting(whole)
        if type == Frontend.query {
            guard let text = QueryMessage.text(request),
                let end = StatementText.end(
                    of: rest, in: request.extracting(text), standardConformingStrings: self.hasStandardStrings)
            else { return nil }
            let query = request.extracting(text)
            if rest == 1, let server, server.transaction == .inTransaction, server.requests.isQuiet,
                route.binding == .none, case .replica(let modes, _) = route.transaction,
                self.belongTogether(query.extracting(0..<end), query.extracting(end..<query.count), route)
            {
                route.transaction = .held(modes)
                server.leaveClient()
                return nil
            }
            self.replay = MessageWriter.bytes { $0.query(query.copy(0..<end)) }
            // Positions in errors are those in the client's text.
            var later: [UInt8] = []
            for index in 0..<end where query[index] & 0xc0 != 0x80 { later.append(UInt8(ascii: " ")) }
            later += query.copy(end..<query.count)
            route.rest = ClientRoute.Rest(bytes: MessageWriter.bytes { $0.query(later) }, isWhole: true)
        } else {
            self.replay = request.copy(0..<rest) + MessageWriter.bytes { $0.sync() }
            route.rest = ClientRoute.Rest(
                bytes: request.copy(rest..<request.count), isWhole: !summary.isInterrupted)
        }
        return .consumed(upTo: whole.upperBound)
    }

    /// Whether what comes behind the end of a transaction is one statement for the primary, which is not to be alone.
    private func belongTogether(_ end: Span<UInt8>, _ rest: Span<UInt8>, _ route: ClientRoute) -> Bool {
        let standard = self.hasStandardStrings
        guard StatementText.transactionEnd(end, standardConformingStrings: standard) == .end(isChained: false),
            StatementText.isOne(rest, standardConformingStrings: standard)
        else { return false }
        let statement = route.router.statement(rest, self)
        switch statement.statementClass.transaction {
        case .set?, nil: return statement.statementClass.kind != .read && statement.command == nil
        case .begin?, .commit?, .rollback?: return false
        }
    }

    /// ReadyForQuery of a request that has been divided. Returns whether the client is to get it.
    func partEnded(_ rest: ClientRoute.Rest, _ route: ClientRoute) -> Bool {
        route.rest = nil
        guard rest.hasFailed else {
            self.replay += rest.bytes
            return false
        }
        if !rest.isWhole { self.cancelled = .upToSync }
        return rest.isWhole
    }
}
