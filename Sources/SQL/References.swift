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
    /// It shows what is in tables or catalogues, or calls what may do so.
    private(set) var readsData = false
    /// It runs queries that nobody sees.
    private(set) var mayHideWrite = false
    /// It names something that is not PostgreSQL's for certain.
    private(set) var dependsOnCatalogue = false
    private(set) var settings = StatementClass.SettingsUse.none
    /// Why a standby cannot even plan it; nil if it can.
    private(set) var planReason: String?
    /// It calls pg_advisory_lock or its like.
    private(set) var takesAdvisoryLock = false
    /// It is SELECT INTO, and not a temporary table.
    private(set) var createsTable = false
    /// Nodes not looked at yet; so that a deep tree needs no stack here.
    private var pending: [(node: ParseTree.Node, scope: Scope?)] = []
    /// It may make values of the types that its arguments have, and so check their domains.
    private var makesValues = false
    private var locksRows = false
    /// Relations with something that is called only then.
    private var conditional: [(name: String, definition: Catalogue.Definition)] = []

    /// Looks at all that a statement consists of.
    init(of statement: ParseTree.Node, _ catalogue: Catalogue) {
        self.catalogue = catalogue
        self.pending.append((statement, nil))
        while let (node, scope) = self.pending.popLast() { self.visit(node, scope) }
        for (name, definition) in self.conditional {
            if self.makesValues {
                for function in definition.checks { self.call(function, behind: "makes values of \(name)") }
            }
            if self.locksRows {
                for function in definition.locking { self.call(function, behind: "locks rows of \(name)") }
            }
        }
        for function in catalogue.everywhere { self.call(function, behind: "may cast or compare by a function") }
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

    /// - Parameter word: what has led to the call; nil if the statement names it.
    private mutating func note(_ call: Catalogue.Call, _ word: String?) {
        if call.kind > self.kind || call.binds {
            self.note(call.kind, (word.map { "\($0), which " } ?? "") + call.reason, binds: call.binds)
        }
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
            self.createsTable = node.node("rel")?.string("relpersistence") != "t"
        case "LockingClause":
            // Its relations are names of the FROM clause.
            self.note(.primary, "locks rows (\(Self.strength(node)))", binds: true)
            self.locksRows = true
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
        let isOwn = schema ?? "pg_catalog" != "pg_catalog" || BuiltinFunctions.find(name) == nil
        // Without a schema it may be one of another schema, if there is one.
        if schema != "pg_catalog" { self.dependsOnCatalogue = true }
        if isOwn || BuiltinFunctions.showsData(name) { self.readsData = true }
        if isOwn || Self.isValueMaker(name) { self.makesValues = true }
        if !isOwn && BuiltinFunctions.runsQueries(name) { self.mayHideWrite = true }
        if name == "set_config" { self.settings = max(self.settings, .changes) }
        if name == Catalogue.currentSetting.name { self.settings = max(self.settings, .shows) }
        if !isOwn, self.catalogue.functions[name] == nil, name == Catalogue.currentSetting.name,
            Self.showsSession(node)
        {
            return
        }
        self.note(self.catalogue.call(name, schema: schema), nil)
        for function in self.catalogue.calls[name] ?? [] { self.call(function, behind: "calls \(name)") }
    }

    /// Built-in functions whose arguments may become values of another one's type: a literal that of a domain.
    private static func isValueMaker(_ name: String) -> Bool {
        name == "lag" || name == "lead" || name.hasSuffix("populate_record") || name.hasSuffix("populate_recordset")
    }

    /// Whether a call of current_setting names a setting, and one that does not tell about the node.
    private static func showsSession(_ call: ParseTree.Node) -> Bool {
        guard let first = call.nodes("args").first else { return false }
        let constant = first.name == "TypeCast" ? first.node("arg") : first
        return (constant?.node("sval")?.string("sval")).map { BuiltinFunctions.isSessionSetting($0) } ?? false
    }

    /// Notes a function that stands behind a word of the statement.
    ///
    /// - Parameter word: "reads next_number", "uses operator ##".
    private mutating func call(_ function: Catalogue.Function, behind word: String) {
        self.readsData = true
        self.note(self.catalogue.call(function), word)
        for inner in self.catalogue.calls[function.name] ?? [] {
            self.note(self.catalogue.call(inner), "\(word), which calls \(function.name)")
        }
    }

    /// What stands behind an operator or a cast may read anything as long as nobody knows it.
    private mutating func noteUnknown() {
        self.dependsOnCatalogue = true
        if !self.catalogue.isKnown { self.readsData = true }
    }

    private mutating func operation(_ names: [ParseTree.Node]) {
        guard let name = names.last?.string("sval") else { return }
        self.noteUnknown()
        for function in self.catalogue.operators[name] ?? [] { self.call(function, behind: "uses operator \(name)") }
    }

    private mutating func cast(_ node: ParseTree.Node) {
        let names = node.nodes("names").compactMap { $0.string("sval") }
        guard let name = names.last else { return }
        self.noteUnknown()
        // `regclass` looks for a name, and a value of a type that is not built in shows that the type is there.
        if name.hasPrefix("reg") || BuiltinFunctions.find(name) == nil { self.readsData = true }
        // `_t` is `t[]`.
        for type in name.hasPrefix("_") ? [name, String(name.dropFirst())] : [name] {
            for function in self.catalogue.types[type] ?? [] { self.call(function, behind: "casts to \(name)") }
        }
    }

    /// `t.f` is `f(t)` if `t` has no column `f`, which only the server knows.
    private mutating func fields(_ names: ArraySlice<ParseTree.Node>) {
        guard !self.catalogue.rowFunctions.isEmpty else { return }
        for name in names.compactMap({ $0.string("sval") }) where self.catalogue.rowFunctions.contains(name) {
            self.note(self.catalogue.call(name, schema: nil), nil)
            for function in self.catalogue.calls[name] ?? [] { self.call(function, behind: "calls \(name)") }
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
            self.planReason = self.planReason ?? "uses \(name), a temporary table"
            return
        }
        if schema == nil || schema == "pg_catalog", let reason = SystemRelations.reason(name) {
            self.note(.primary, reason)
        }
        // Without a schema it may be another one of that name.
        if schema != "pg_catalog" && schema != "information_schema" { self.own(name) }
    }

    /// A relation of the database's own, of whatever schema: only the server knows the search path.
    private mutating func own(_ name: String) {
        self.dependsOnCatalogue = true
        self.properties(of: name, behind: nil)
        guard self.catalogue.definitions[name] != nil else { return }
        let word = "reads \(name)"
        var seen: Set = [name]
        var pending = [name]
        while let current = pending.popLast() {
            guard let definition = self.catalogue.definitions[current] else { continue }
            for function in definition.functions { self.call(function, behind: word) }
            if !definition.checks.isEmpty || !definition.locking.isEmpty { self.conditional.append((name, definition)) }
            for relation in definition.relations where seen.insert(relation).inserted {
                if let reason = SystemRelations.reason(relation) { self.note(.primary, "\(word), which \(reason)") }
                self.properties(of: relation, behind: word)
                pending.append(relation)
            }
        }
    }

    /// Notes what is known of a relation beside what it calls.
    ///
    /// - Parameter word: the view that reads it; nil if the statement does.
    private mutating func properties(of relation: String, behind word: String?) {
        for property in Catalogue.Property.allCases where self.catalogue.has(property, relation) {
            let reason = (word.map { "\($0), which " } ?? "") + Self.reason(property, relation)
            switch property {
            case .unlogged:
                self.note(.primary, reason)
                self.planReason = self.planReason ?? reason
            case .sequence, .unpopulated: self.note(.primary, reason)
            case .foreign:
                self.note(.write, reason)
                self.planReason = self.planReason ?? reason
            case .locking:
                self.note(.primary, reason, binds: true)
                self.locksRows = true
            }
        }
    }

    private static func reason(_ property: Catalogue.Property, _ relation: String) -> String {
        switch property {
        case .unlogged: "uses \(relation), which is not logged and so empty on replicas"
        // The standby has what was logged of it: up to 32 values ahead of what was given out.
        case .sequence: "reads \(relation), a sequence, which is ahead of the truth on a replica"
        case .foreign: "reads \(relation), a foreign table, behind which anything may be"
        case .unpopulated: "reads \(relation), which is not populated"
        case .locking: "reads \(relation), which locks rows"
        }
    }

    private static func strength(_ node: ParseTree.Node) -> String {
        switch node.enumeration("strength") {
        case "LCS_FORKEYSHARE": "FOR KEY SHARE"
        case "LCS_FORSHARE": "FOR SHARE"
        case "LCS_FORNOKEYUPDATE": "FOR NO KEY UPDATE"
        default: "FOR UPDATE"
        }
    }
}
