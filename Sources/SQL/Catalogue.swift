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

    /// What a statement uses with the name of a relation: a view's query, the policies of a table, what its columns'
    /// types are compared and cast by.
    public struct Definition: Sendable, Equatable {
        public var functions: [Function]
        /// Names of relations of whatever schema.
        public var relations: [String]
        /// What checks its columns' domains, if something makes values of them: `jsonb_populate_record(t, …)`.
        public var checks: [Function] = []
        /// What its policies call for FOR UPDATE and its like.
        public var locking: [Function] = []

        public init(functions: [Function] = [], relations: [String] = []) {
            self.functions = functions
            self.relations = relations
        }
    }

    /// What is to be said of a relation beside what stands behind it.
    public enum Property: Sendable, CaseIterable {
        /// UNLOGGED, or the parent of such a table.
        case unlogged
        case sequence
        /// A foreign table, or the parent of one.
        case foreign
        /// A materialized view WITH NO DATA.
        case unpopulated
        /// A view with FOR UPDATE or its like.
        case locking
    }

    /// It has been read: what it says nothing of is not there.
    public var isKnown = false
    /// Functions and procedures outside pg_catalog by name (of any schema): the most volatile overload.
    public var functions: [String: Volatility]
    /// Schemas that have a function of a name, in their order.
    public var schemas: [String: [String]] = [:]
    /// What is called with a function, by its name: by its arguments' defaults, to check domains among its arguments …
    public var calls: [String: [Function]] = [:]
    /// What may be called by a statement whatever it names: for implicit casts and comparisons of built-in types.
    public var everywhere: [Function] = []
    /// Names (of any schema) of relations with a property.
    public var properties: [Property: Set<String>] = [:]
    /// Views, tables with row security, and those with columns of certain types, by name (of any schema), if it matters
    /// what stands behind them.
    public var definitions: [String: Definition] = [:]
    /// What operators call, if none of pg_catalog has that name or all their operands are of built-in types.
    public var operators: [String: [Function]] = [:]
    /// What casts to a type call by its name, the checks of a domain too, and what its values are compared by.
    public var types: [String: [Function]] = [:]
    /// Names of functions of one row: `t.f` calls them like `f(t)`.
    public var rowFunctions: Set<String> = []
    /// Patterns (`*` stands for any characters, `schema.name` or `name`) of functions that only read, whatever the
    /// catalogue says: `read_functions`. A pattern with a schema matches a call without one if all functions of that
    /// name match.
    public var readFunctions: [String]
    /// Patterns of functions that write, whatever the catalogue says: `write_functions`. They win over `readFunctions`.
    /// A pattern with a schema matches a call without one if any function of that name does.
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
        if !unloggedRelations.isEmpty { self.properties[.unlogged] = unloggedRelations }
        self.readFunctions = readFunctions
        self.writeFunctions = writeFunctions
    }

    /// Brings what stands behind a name into one order, without repetitions: two readings of the same catalogue are equal
    /// then.
    public mutating func sort() {
        for name in self.definitions.keys {
            guard var definition = self.definitions[name] else { continue }
            definition.functions.sortUnique()
            definition.relations.sortUnique()
            definition.checks.sortUnique()
            definition.locking.sortUnique()
            self.definitions[name] = definition
        }
        for name in self.operators.keys { self.operators[name]?.sortUnique() }
        for name in self.types.keys { self.types[name]?.sortUnique() }
        for name in self.calls.keys { self.calls[name]?.sortUnique() }
        for name in self.schemas.keys { self.schemas[name]?.sortUnique() }
        self.everywhere.sortUnique()
    }

    /// Whether a relation has a property.
    func has(_ property: Property, _ relation: String) -> Bool {
        self.properties[property]?.contains(relation) ?? false
    }

    /// The functions of pg_catalog that need the primary, whatever their arguments are.
    public static let builtinsForPrimary = BuiltinFunctions.groups.flatMap {
        $0.names.split(separator: " ").map(String.init)
    }.filter { $0 != Self.currentSetting.name }

    /// The function that shows a setting, which may be one of the node.
    public static let currentSetting = Function(name: "current_setting", schema: "pg_catalog", volatility: .stable)

    /// Whether a setting is the session's and not the node's, in whatever case.
    public static func isSessionSetting(_ name: String) -> Bool { BuiltinFunctions.isSessionSetting(name) }
}

extension Array where Element: Comparable {
    fileprivate mutating func sortUnique() {
        self.sort()
        var last: Element?
        self.removeAll { element in
            defer { last = element }
            return element == last
        }
    }
}
