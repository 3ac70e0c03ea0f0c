/// The state a server tells in ReadyForQuery.
public enum TransactionStatus: UInt8, Sendable {
    /// Not in a transaction block.
    case idle = 0x49  // I
    /// In a transaction block.
    case inTransaction = 0x54  // T
    /// In a failed transaction block: queries are refused until it ends.
    case failed = 0x45  // E

    /// The status in a ReadyForQuery message; nil when there is none or it is not known.
    public init?(readyForQuery message: Span<UInt8>) {
        guard message.count == MessageFramer.headerLength + 1 else { return nil }
        self.init(rawValue: message[MessageFramer.headerLength])
    }
}
