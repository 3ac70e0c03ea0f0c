/// Finds the class of a text by parsing it.
enum TreeClassifier {
    /// The class of a text, by its shape.
    static func classify(_ shape: Span<UInt8>, _ catalogue: Catalogue) -> StatementClass {
        if shape.isEmpty { return Self.empty }
        guard !NestingDepth.exceedsLimit(shape) else {
            return Self.unparsed("is nested deeper than \(NestingDepth.limit) levels")
        }
        guard let tree = ParseTree(shape) else { return Self.unparsed("is not understood by the parser") }
        return Self.combine(tree.map { StatementVerdict(of: $0, catalogue) }, callsSettings: Self.callsSettings(shape))
    }

    private static let empty = StatementClass(kind: .read, reason: "is empty", takesSnapshot: false)

    /// It may be of a newer syntax, and so anything.
    private static func unparsed(_ reason: String) -> StatementClass {
        StatementClass(
            kind: .write, reason: reason, bindsTransaction: true, ddl: .possible, isUnparsed: true, namesSettings: true)
    }

    /// The strictest of several statements decides.
    private static func combine(_ verdicts: [StatementVerdict], callsSettings: Bool) -> StatementClass {
        guard var strictest = verdicts.first else { return Self.empty }
        for verdict in verdicts.dropFirst() where verdict.kind > strictest.kind { strictest = verdict }
        if verdicts.count > 1 {
            if verdicts.contains(where: \.endsOrBeginsTransaction) {
                strictest.kind = .write
                strictest.reason = "has a transaction command among other statements"
                strictest.bindsTransaction = true
            }
            strictest.transaction = nil
        }
        return StatementClass(
            kind: strictest.kind, reason: strictest.reason, transaction: strictest.transaction,
            bindsTransaction: verdicts.contains(where: \.bindsTransaction) || strictest.bindsTransaction,
            ddl: verdicts.map(\.ddl).max() ?? .none,
            readsData: verdicts.contains(where: \.readsData),
            mayHideWrite: verdicts.contains(where: \.mayHideWrite),
            dependsOnCatalogue: verdicts.contains(where: \.dependsOnCatalogue),
            settings: verdicts.map(\.settings).max() ?? .none,
            takesLock: verdicts.contains(where: \.takesLock),
            needsPrimary: verdicts.contains(where: \.needsPrimary),
            takesSnapshot: verdicts.contains(where: \.takesSnapshot),
            ending: Self.ending(verdicts),
            namesSettings: callsSettings || verdicts.contains(where: \.namesSettings),
            settingsEffects: verdicts.compactMap(\.settingsEffect))
    }

    private static func ending(_ verdicts: [StatementVerdict]) -> TransactionEnding {
        for (index, verdict) in verdicts.enumerated() {
            switch verdict.transaction {
            case .commit(let isChained)?, .rollback(let isChained)?:
                return index + 1 < verdicts.count ? .before(rest: index + 1) : .last(isChained: isChained)
            case .begin?, .set?, nil: break
            }
        }
        return .none
    }

    /// Whether set_config or current_setting stands anywhere in it, in whatever statement.
    private static func callsSettings(_ shape: Span<UInt8>) -> Bool {
        for index in shape.indices {
            let letter = shape[index].lowercased
            if letter == UInt8(ascii: "s") && shape.hasWord("set_config", at: index, before: shape.count)
                || letter == UInt8(ascii: "c") && shape.hasWord("current_setting", at: index, before: shape.count)
            {
                return true
            }
        }
        return false
    }
}
