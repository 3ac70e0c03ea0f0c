/// What a query refers to, at any depth, and so where it may run.
struct References {
    /// Names of common table expressions that hide relations of the same name, as a list from the innermost outwards.
    private final class Scope {
        let name: String
        let outer: Scope?

        init(name: String, outer: Scope?) {
            self.name = name
            self.outer = outer
        }
    }

    private let catalogue: Catalogue
    /// The strictest so far.
    private(set) var kind = StatementClass.Kind.read
    /// Why it is so strict.
    private(set) var reason = "only reads"
    /// Something binds what follows in the transaction to the server.
    private(set) var binds = false
    /// It shows what is in tables, or calls what may do so.
    private(set) var readsData = false
    /// It calls pg_advisory_lock or its like.
    private(set) var takesAdvisoryLock = false
    /// It is SELECT INTO.
    private(set) var createsTable = false
    /// Nodes not looked at yet; so that a deep tree needs no stack here.
    private var pending: [(node: ParseTree.Node, scope: Scope?)] = []

    /// Looks at all that a statement consists of.
    init(of statement: ParseTree.Node, _ catalogue: Catalogue) {
        self.catalogue = catalogue
        self.pending.append((statement, nil))
        while let (node, scope) = self.pending.popLast() { self.visit(node, scope) }
    }

    /// Why INSERT, UPDATE, DELETE or MERGE writes.
    static func reason(dataModifying name: String, _ statement: ParseTree.Node) -> String {
        let relation = statement.node("relation")?.string("relname") ?? "a table"
        return switch name {
        case "InsertStmt": "inserts into \(relation)"
        case "UpdateStmt": "updates \(relation)"
        case "DeleteStmt": "deletes from \(relation)"
        default: "merges into \(relation)"
        }
    }

    private mutating func note(_ kind: StatementClass.Kind, _ reason: String, binds: Bool = false) {
        self.binds = self.binds || binds
        guard kind > self.kind else { return }
        self.kind = kind
        self.reason = reason
    }

    private mutating func note(_ call: Catalogue.Call, _ reason: String) {
        self.note(call.kind, reason, binds: call.binds)
        if call.takesAdvisoryLock { self.takesAdvisoryLock = true }
    }

    private mutating func visit(_ node: ParseTree.Node, _ scope: Scope?) {
        var scope = scope
        let name = node.name
        switch name {
        case "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt":
            self.note(.write, Self.reason(dataModifying: name, node))
        case "IntoClause":
            self.note(.write, "is SELECT INTO, which creates a table")
            self.createsTable = true
        case "LockingClause":
            // Its relations are names of the FROM clause.
            self.note(.primary, "locks rows (\(Self.strength(node)))", binds: true)
            return
        case "FuncCall": self.call(node)
        case "RangeVar": self.relation(node, scope)
        // "A_Expr" in C.
        case "AExpr": self.operation(node.nodes("name"))
        case "SubLink": self.operation(node.nodes("oper_name"))
        case "SortBy": self.operation(node.nodes("use_op"))
        case "TypeName": self.cast(node)
        case "ColumnRef": self.fields(node.nodes("fields").dropFirst())
        case "AIndirection": self.fields(node.nodes("indirection")[...])
        case "WithClause":
            return
        default: break
        }
        if let with = node.node("with_clause") { scope = self.with(with, scope) }
        let first = self.pending.count
        node.forEachChild { self.pending.append(($0, scope)) }
        // In the order of the text, so that the first reason of several is the one that is told.
        self.pending[first...].reverse()
    }

    /// Looks at common table expressions; returns what holds behind them.
    private mutating func with(_ clause: ParseTree.Node, _ outer: Scope?) -> Scope? {
        let expressions = clause.nodes("ctes")
        var scope = outer
        for expression in expressions {
            scope = Scope(name: expression.string("ctename") ?? "", outer: scope)
        }
        // Without RECURSIVE each sees only those in front of it.
        var visible = clause.bool("recursive") ? scope : outer
        for expression in expressions {
            self.pending.append((expression, visible))
            if !clause.bool("recursive") {
                visible = Scope(name: expression.string("ctename") ?? "", outer: visible)
            }
        }
        return scope
    }

    // MARK: Functions

    private mutating func call(_ node: ParseTree.Node) {
        let names = node.nodes("funcname").compactMap { $0.string("sval") }
        guard let name = names.last else { return }
        let schema = names.count > 1 ? names[names.count - 2] : nil
        if schema ?? "pg_catalog" != "pg_catalog" || BuiltinFunctions.find(name) == nil { self.readsData = true }
        let call = self.catalogue.call(name, schema: schema)
        self.note(call, call.reason)
    }

    /// Notes a function that stands behind a word of the statement.
    ///
    /// - Parameter word: "reads next_number", "uses operator ##".
    private mutating func call(_ function: Catalogue.Function, behind word: String) {
        self.readsData = true
        let call = self.catalogue.call(function)
        self.note(call, "\(word), which \(call.reason)")
    }

    /// What stands behind an operator or a cast may read anything as long as nobody knows it.
    private mutating func noteUnknown() {
        if !self.catalogue.isKnown { self.readsData = true }
    }

    private mutating func operation(_ names: [ParseTree.Node]) {
        self.noteUnknown()
        guard !self.catalogue.operators.isEmpty, let name = names.last?.string("sval") else { return }
        for function in self.catalogue.operators[name] ?? [] { self.call(function, behind: "uses operator \(name)") }
    }

    private mutating func cast(_ node: ParseTree.Node) {
        self.noteUnknown()
        guard !self.catalogue.types.isEmpty, let name = node.nodes("names").last?.string("sval") else { return }
        for function in self.catalogue.types[name] ?? [] { self.call(function, behind: "casts to \(name)") }
    }

    /// `t.f` is `f(t)` if `t` has no column `f`, which only the server knows.
    private mutating func fields(_ names: ArraySlice<ParseTree.Node>) {
        guard !self.catalogue.rowFunctions.isEmpty else { return }
        for name in names.compactMap({ $0.string("sval") }) where self.catalogue.rowFunctions.contains(name) {
            let call = self.catalogue.call(name, schema: nil)
            self.note(call, call.reason)
        }
    }

    // MARK: Relations

    private mutating func relation(_ node: ParseTree.Node, _ scope: Scope?) {
        guard let name = node.string("relname") else { return }
        let schema = node.string("schemaname")
        if schema == nil {
            var current = scope
            while let visible = current {
                if visible.name == name { return }
                current = visible.outer
            }
        }
        self.readsData = true
        if let schema, schema == "pg_temp" || schema.hasPrefix("pg_temp_") {
            self.note(.primary, "uses \(name), a temporary table", binds: true)
        } else if schema == nil || schema == "pg_catalog", let reason = SystemRelations.reason(name) {
            self.note(.primary, reason)
        } else if schema != "pg_catalog" && schema != "information_schema" {
            self.own(name)
        }
    }

    /// A relation of the database's own, of whatever schema: only the server knows the search path.
    private mutating func own(_ name: String) {
        if self.catalogue.unloggedRelations.contains(name) {
            self.note(.primary, "uses \(name), \(Self.unlogged)")
        }
        // The standby has what was logged of it: up to 32 values ahead of what was given out.
        if self.catalogue.sequences.contains(name) { self.note(.primary, "reads \(name), \(Self.sequence)") }
        guard self.catalogue.definitions[name] != nil else { return }
        let word = "reads \(name)"
        var seen: Set = [name]
        var pending = [name]
        while let definition = pending.popLast().flatMap({ self.catalogue.definitions[$0] }) {
            for function in definition.functions { self.call(function, behind: word) }
            for relation in definition.relations where seen.insert(relation).inserted {
                if let reason = SystemRelations.reason(relation) {
                    self.note(.primary, "\(word), which \(reason)")
                } else if self.catalogue.unloggedRelations.contains(relation) {
                    self.note(.primary, "\(word), which uses \(relation), \(Self.unlogged)")
                }
                if self.catalogue.sequences.contains(relation) {
                    self.note(.primary, "\(word), which reads \(relation), \(Self.sequence)")
                }
                if self.catalogue.definitions[relation] != nil { pending.append(relation) }
            }
        }
    }

    private static let sequence = "a sequence, which is ahead of the truth on a replica"
    private static let unlogged = "which is not logged and so empty on replicas"

    private static func strength(_ node: ParseTree.Node) -> String {
        switch node.enumeration("strength") {
        case "LCS_FORKEYSHARE": "FOR KEY SHARE"
        case "LCS_FORSHARE": "FOR SHARE"
        case "LCS_FORNOKEYUPDATE": "FOR NO KEY UPDATE"
        default: "FOR UPDATE"
        }
    }
}
