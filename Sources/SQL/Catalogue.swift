/// What a database's own catalogue says about its functions and tables, as far as the classes of statements need it.
///
/// Names are as in the catalogue: folded to lower case unless they were quoted.
public struct Catalogue: Sendable, Equatable {
    /// pg_proc.provolatile.
    public enum Volatility: UInt8, Sendable, Comparable {
        case immutable, stable, volatile
        public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
    }

    /// Functions and procedures outside pg_catalog by name (of any schema): the most volatile overload.
    public var functions: [String: Volatility]
    /// Names (of any schema) of tables, sequences and materialized views that are UNLOGGED.
    public var unloggedRelations: Set<String>
    /// Patterns (`*` stands for any characters, `schema.name` or `name`) of functions that only read, whatever the
    /// catalogue says: `read_functions`. A pattern with a schema matches only calls that name the schema.
    public var readFunctions: [String]
    /// Patterns of functions that write, whatever the catalogue says: `write_functions`. They win over `readFunctions`.
    public var writeFunctions: [String]

    /// Sessions may begin with another isolation level than READ COMMITTED: the server's, the database's or a role's
    /// default_transaction_isolation.
    public var hasOtherDefaultIsolation = false

    /// A catalogue of which nothing is known: every function outside pg_catalog may write.
    public init(
        functions: [String: Volatility] = [:], unloggedRelations: Set<String> = [], readFunctions: [String] = [],
        writeFunctions: [String] = []
    ) {
        self.functions = functions
        self.unloggedRelations = unloggedRelations
        self.readFunctions = readFunctions
        self.writeFunctions = writeFunctions
    }
}
