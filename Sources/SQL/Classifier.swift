/// Finds the class of a statement: by its shape when that has been seen before, else by parsing.
///
/// One for each reactor and database; not shared between threads. Memory is bounded by the number of shapes and their
/// length together.
public struct Classifier: ~Copyable {
    /// What a text is, with what its comment says about itself.
    public struct Result {
        public let statementClass: StatementClass
        /// `/* martlet: route=primary */` in front of or within the text.
        public let override: RouteOverride?
        /// Unparsed, and seen for the first time since it was last forgotten.
        public let isMiss: Bool

        public init(statementClass: StatementClass, override: RouteOverride?, isMiss: Bool) {
            self.statementClass = statementClass
            self.override = override
            self.isMiss = isMiss
        }
    }

    /// - Parameters:
    ///   - textLimit: bytes; a longer text is not looked at (`StatementClass.tooLong`).
    ///   - shapeLimit: shapes that are kept; the least recently used are forgotten.
    public init(catalogue: Catalogue, textLimit: Int = 64 << 10, shapeLimit: Int = 10_000) {
        self.catalogue = catalogue
    }

    /// Forgets all shapes when the catalogue is another.
    public var catalogue: Catalogue

    /// The class of a text.
    ///
    /// - Parameters:
    ///   - text: the SQL without its NUL; need not be valid UTF-8.
    ///   - standardConformingStrings: whether a backslash in a plain string literal stands for itself, as the session
    ///     has it.
    public mutating func classify(_ text: Span<UInt8>, standardConformingStrings: Bool) -> Result {
        Result(statementClass: .tooLong, override: nil, isMiss: true)
    }

    /// A replica has refused it: statements of its shape count as writes from now on.
    ///
    /// - Parameter reason: the words of the refusal.
    public mutating func refused(_ text: Span<UInt8>, standardConformingStrings: Bool, reason: String) {}

    /// Shapes known.
    public var count: Int { 0 }
}

/// Where a client wants a statement to run, whatever its class.
public enum RouteOverride: String, Sendable, CaseIterable {
    case primary, replica, auto
}

/// A command to the router itself, which no server gets to see: `SET martlet.route = 'primary'`, `RESET martlet.route`,
/// `SHOW martlet.lsn`.
public enum RouterCommand: Sendable, Equatable {
    /// The name is without "martlet."; the value as written, without quotes. `SET SESSION` and `TO` are understood too.
    case set(name: String, value: String)
    /// RESET, and SET … TO DEFAULT.
    case reset(name: String)
    case show(name: String)

    /// The command that a text is; nil for everything else. Cheap when it is none: most texts are decided by their
    /// first letters.
    public init?(_ text: Span<UInt8>) { return nil }
}
