import Pooling

// The unnamed statement: which client's the server has, as far as that is known.
extension ServerSession {
    /// A Parse of it was just noted: `number` is its client's.
    func has(unnamed number: UInt64, isRestored: Bool) {
        self.unnamedStatement = number
        self.unnamedRequest = self.requests.noted
        self.isUnnamedRestored = isRestored
    }

    /// Whether a client's own is the one that the server has depends on how requests before the last Sync end.
    func isUnnamedInDoubt(_ client: ClientSession) -> Bool {
        self.unnamedStatement != 0 && self.unnamedStatement == client.unnamedStatement
            && self.requests.isEarlier(self.unnamedRequest)
    }

    /// Requests have failed or were skipped: those behind number `last`, as far as they are over now. With its Parse
    /// among them nobody knows which statement the server has, and a client that has none gets an error; PostgreSQL
    /// would go back to the statement before one that was skipped.
    func requestsFailed(after last: UInt64) {
        guard self.unnamedRequest > last && self.unnamedRequest <= self.requests.finished else { return }
        if let client = self.client, client.unnamedStatement == self.unnamedStatement, !self.isUnnamedRestored {
            client.forgetUnnamed()
        }
        self.unnamedStatement = 0
    }
}
