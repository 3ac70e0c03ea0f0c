import Pooling
import SQL
import Wire

// A request that ends the transaction on a replica and goes on behind that is taken in two parts, each where it belongs:
//
//     SELECT, COMMIT, BEGIN, UPDATE  ──►  SELECT, COMMIT (on the replica)  ──its end──►  BEGIN, UPDATE
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
