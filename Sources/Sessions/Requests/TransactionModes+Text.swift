public import SQL

extension TransactionModes {
    /// The modes that a later SET TRANSACTION has changed.
    public func merging(_ later: TransactionModes) -> TransactionModes {
        TransactionModes(
            isolation: later.isolation ?? self.isolation, readOnly: later.readOnly ?? self.readOnly,
            deferrable: later.deferrable ?? self.deferrable)
    }

    /// No replica takes a transaction with such modes.
    package var needPrimary: Bool { self.readOnly == false || self.isolation == .serializable }

    /// The BEGIN that makes such a transaction.
    public var begin: String {
        var modes: [String] = []
        switch self.isolation {
        case .readUncommitted: modes.append("ISOLATION LEVEL READ UNCOMMITTED")
        case .readCommitted: modes.append("ISOLATION LEVEL READ COMMITTED")
        case .repeatableRead: modes.append("ISOLATION LEVEL REPEATABLE READ")
        case .serializable: modes.append("ISOLATION LEVEL SERIALIZABLE")
        case nil: break
        }
        if let readOnly = self.readOnly { modes.append(readOnly ? "READ ONLY" : "READ WRITE") }
        if let deferrable = self.deferrable { modes.append(deferrable ? "DEFERRABLE" : "NOT DEFERRABLE") }
        return modes.isEmpty ? "BEGIN" : "BEGIN " + modes.joined(separator: ", ")
    }
}
