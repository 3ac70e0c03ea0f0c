/// What a database's own catalogue says about its functions and tables, as far as the classes of statements need it.
///
/// Names are as in the catalogue: folded to lower case unless they were quoted.
public struct Catalogue: Sendable, Equatable {
    /// pg_proc.provolatile.
    public enum Volatility: UInt8, Sendable, Comparable {
        case immutable, stable, volatile
        public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
    }

    /// One function that something calls without naming it in the statement.
    public struct Function: Sendable, Equatable, Comparable {
        public let name: String
        public let schema: String
        /// Its own, whatever others of the name are.
        public let volatility: Volatility

        public init(name: String, schema: String, volatility: Volatility) {
            self.name = name
            self.schema = schema
            self.volatility = volatility
        }

        public static func < (a: Self, b: Self) -> Bool {
            (a.name, a.schema, a.volatility) < (b.name, b.schema, b.volatility)
        }
    }

    /// What a statement uses with the name of a relation: a view's query, the policies of a table.
    public struct Definition: Sendable, Equatable {
        public var functions: [Function]
        /// Names of relations of whatever schema.
        public var relations: [String]

        public init(functions: [Function] = [], relations: [String] = []) {
            self.functions = functions
            self.relations = relations
        }
    }

    /// It has been read: what it says nothing of is not there.
    public var isKnown = false
    /// Functions and procedures outside pg_catalog by name (of any schema): the most volatile overload.
    public var functions: [String: Volatility]
    /// Names (of any schema) of tables, sequences and materialized views that are UNLOGGED.
    public var unloggedRelations: Set<String>
    /// Names (of any schema) of sequences.
    public var sequences: Set<String> = []
    /// Views, and tables with row security, by name (of any schema), if it matters what stands behind them.
    public var definitions: [String: Definition] = [:]
    /// What operators call, if none of pg_catalog has that name.
    public var operators: [String: [Function]] = [:]
    /// What casts to a type call by its name, the checks of a domain too.
    public var types: [String: [Function]] = [:]
    /// Names of functions of one row: `t.f` calls them like `f(t)`.
    public var rowFunctions: Set<String> = []
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

    /// Brings what stands behind a name into one order: two readings of the same catalogue are equal then.
    public mutating func sort() {
        for name in self.definitions.keys {
            self.definitions[name]?.functions.sort()
            self.definitions[name]?.relations.sort()
        }
        for name in self.operators.keys { self.operators[name]?.sort() }
        for name in self.types.keys { self.types[name]?.sort() }
    }

    /// The functions of pg_catalog that need the primary.
    public static let builtinsForPrimary = BuiltinFunctions.groups.flatMap {
        $0.names.split(separator: " ").map(String.init)
    }
}
