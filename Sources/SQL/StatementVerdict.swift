/// What is to be said about one statement.
struct StatementVerdict {
    var kind: StatementClass.Kind
    var reason: String
    var transaction: TransactionCommand?
    var bindsTransaction = false
    var ddl = StatementClass.DDL.none
    var readsData = false
    var takesLock = false
    var needsPrimary = false
    var takesSnapshot = true
    var mayHideWrite = false
    var dependsOnCatalogue = false
    var settings = StatementClass.SettingsUse.none
    /// SET, RESET or SHOW, or what they are options of.
    var namesSettings = false
    var settingsEffect: SettingsEffect?
    /// A transaction command, `transaction` or one about savepoints and prepared transactions.
    var endsOrBeginsTransaction = false

    init(_ kind: StatementClass.Kind, _ reason: String, binds: Bool = false) {
        self.kind = kind
        self.reason = reason
        self.bindsTransaction = binds
    }

    /// The table of statements.
    init(of statement: ParseTree.Node, _ catalogue: Catalogue) {
        let name = statement.name
        switch name {
        case "SelectStmt": self = Self.query(statement, catalogue)
        case "CopyStmt": self = Self.copy(statement, catalogue)
        case "ExplainStmt": self = Self.explain(statement, catalogue)
        case "TransactionStmt": self = Self.transaction(statement)
        case "VariableSetStmt": self = Self.set(statement)
        case "DeclareCursorStmt":
            self = Self(.primary, "opens a cursor", binds: true)
            let query = statement.node("query").map { Self.query($0, catalogue) }
            if let query, query.kind == .write { (self.kind, self.reason) = (.write, query.reason) }
            self.needsPrimary = query?.needsPrimary ?? false
            // That it succeeds shows that its tables are there.
            self.readsData = query?.readsData ?? false
            self.dependsOnCatalogue = query?.dependsOnCatalogue ?? false
        case "VariableShowStmt":
            self = Self.show(statement)
            self.needsPrimary = self.kind == .primary
            self.takesSnapshot = false

        // Bound to the server or the session.
        case "FetchStmt":
            self = Self(.primary, "reads from a cursor of the session", binds: true)
            self.readsData = true
            self.takesSnapshot = false
        case "ClosePortalStmt": self = Self(.primary, "closes a cursor of the session", binds: true)
        case "PrepareStmt":
            self = Self(.primary, "prepares a statement in the session", binds: true)
            self.readsData = true
        case "DeallocateStmt": self = Self(.primary, "deallocates a statement of the session", binds: true)
        case "ListenStmt":
            self = Self(.primary, "listens to notifications", binds: true)
            self.needsPrimary = true
            self.takesSnapshot = false
        case "UnlistenStmt": self = Self(.primary, "listens to notifications no more", binds: true)
        case "LockStmt":
            self = Self(.primary, "locks a table", binds: true)
            self.readsData = true
            // ACCESS SHARE keeps out only who would change the table, whose WAL the replica will not replay meanwhile.
            self.takesLock = statement.integer("mode") > Self.accessShareLock
            self.takesSnapshot = false
        case "ConstraintsSetStmt":
            self = Self(.primary, "sets when constraints are checked", binds: true)
            self.takesSnapshot = false
        case "DiscardStmt":
            self = Self(.primary, "discards the state of the session", binds: true)
            self.settings = .changes
        case "LoadStmt": self = Self(.primary, "loads a library into the session", binds: true)
        case "CheckPointStmt": self = Self(.primary, "makes a checkpoint")

        case "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt":
            self = Self(.write, References.reason(dataModifying: name, statement))
            // set_config by another name.
            if statement.node("relation")?.string("relname") == "pg_settings" { self.settings = .changes }
        case "ExecuteStmt": self = Self(.write, "executes a prepared statement, which may write", binds: true)
        case "NotifyStmt":
            self = Self(.write, "notifies")
            self.takesSnapshot = false
        case "CallStmt": self = Self(.write, "calls a procedure")
        case "DoStmt": self = Self(.write, "runs a block of code, which may write")
        case "CreateTableAsStmt" where statement.bool("is_select_into"):
            self = Self(.write, "is SELECT INTO, which creates a table")
        default: self = Self(.write, "is \(Self.command(name)), which writes")
        }
        if self.kind == .write && self.ddl == .none { self.ddl = Self.ddl(name, statement) }
        switch name {
        case "VariableSetStmt":
            self.namesSettings = true
            if statement.enumeration("kind") == "VAR_RESET_ALL" { self.settingsEffect = .resetAll }
        case "VariableShowStmt", "AlterRoleSetStmt", "AlterDatabaseSetStmt", "CreateFunctionStmt", "AlterFunctionStmt",
            "AlterSystemStmt":
            self.namesSettings = true
        default: break
        }
    }

    /// PostgreSQL's AccessShareLock.
    private static let accessShareLock = 1

    private static func query(_ statement: ParseTree.Node, _ catalogue: Catalogue) -> Self {
        let references = References(of: statement, catalogue)
        var verdict = Self(references.kind, references.reason, binds: references.binds)
        if references.createsTable { verdict.ddl = .certain }
        verdict.readsData = references.readsData
        verdict.takesLock = references.takesAdvisoryLock
        // What binds is about the session, which a READ ONLY transaction has on a replica, too.
        verdict.needsPrimary = references.kind == .primary && !references.binds
        verdict.mayHideWrite = references.mayHideWrite
        verdict.dependsOnCatalogue = references.dependsOnCatalogue
        verdict.settings = references.settings
        return verdict
    }

    private static func copy(_ statement: ParseTree.Node, _ catalogue: Catalogue) -> Self {
        if statement.bool("is_from") { return Self(.write, "is COPY FROM") }
        if statement.bool("is_program") { return Self(.write, "is COPY TO PROGRAM") }
        if statement.string("filename") != nil { return Self(.write, "is COPY to a file of the server") }
        return Self.query(statement, catalogue)
    }

    private static func explain(_ statement: ParseTree.Node, _ catalogue: Catalogue) -> Self {
        guard let explained = statement.node("query") else { return Self(.write, "explains nothing") }
        let verdict = Self(of: explained, catalogue)
        // Only a word switches it off: of a literal the shape has kept nothing. PostgreSQL takes the last of equal options.
        let analyzes = statement.nodes("options").contains { option in
            guard option.string("defname") == "analyze" else { return false }
            let value = option.node("arg")?.string("sval")
            return value != "false" && value != "off"
        }
        if analyzes {
            if verdict.kind == .read {
                var analyzed = verdict
                analyzed.reason = "explains a statement that only reads"
                return analyzed
            }
            var analyzed = Self(verdict.kind, "is EXPLAIN ANALYZE of a statement that \(verdict.reason)")
            analyzed.bindsTransaction = verdict.bindsTransaction
            analyzed.ddl = verdict.ddl
            analyzed.takesLock = verdict.takesLock
            analyzed.needsPrimary = verdict.needsPrimary
            analyzed.readsData = verdict.readsData
            analyzed.dependsOnCatalogue = verdict.dependsOnCatalogue
            analyzed.settings = verdict.settings
            return analyzed
        }
        // It is planned and not run: a standby does that for whatever it can open.
        let references = References(of: explained, catalogue)
        var planned =
            if explained.name == "ExecuteStmt" {
                Self(.primary, "explains a prepared statement of the session", binds: true)
            } else if let reason = references.planReason {
                Self(.primary, "explains a statement that \(reason)")
            } else {
                Self(.read, "explains a statement, which is not run")
            }
        planned.needsPrimary = references.planReason != nil
        planned.readsData = true
        planned.dependsOnCatalogue = references.dependsOnCatalogue
        return planned
    }

    // MARK: Settings and transactions

    private static func show(_ statement: ParseTree.Node) -> Self {
        guard let name = statement.string("name"), BuiltinFunctions.isSessionSetting(name) else {
            return Self(.primary, "shows a setting of the node")
        }
        var verdict = Self(.read, "shows a setting of the session")
        verdict.settings = .shows
        return verdict
    }

    /// Settings that every server tells of, so that they go with the client from one to the other.
    private static let followed: Set = [
        "application_name", "client_encoding", "datestyle", "intervalstyle", "standard_conforming_strings", "timezone",
    ]

    private static func set(_ statement: ParseTree.Node) -> Self {
        var verdict = Self.setting(statement)
        let isFollowed = Self.followed.contains((statement.string("name") ?? "").lowercased())
        if verdict.transaction == nil && !isFollowed { verdict.settings = .changes }
        verdict.takesSnapshot = false
        return verdict
    }

    private static func setting(_ statement: ParseTree.Node) -> Self {
        let name = statement.string("name") ?? ""
        switch (statement.enumeration("kind"), name) {
        case ("VAR_SET_MULTI", "TRANSACTION"):
            var verdict = Self(.primary, "sets the modes of the transaction")
            verdict.transaction = .set(Self.modes(statement.nodes("args")))
            return verdict
        case ("VAR_SET_MULTI", "TRANSACTION SNAPSHOT"):
            var verdict = Self(.primary, "takes a snapshot of another session of the primary", binds: true)
            verdict.needsPrimary = true
            return verdict
        case ("VAR_SET_MULTI", _):
            return Self(.primary, "sets the modes of the session's transactions", binds: true)
        case ("VAR_RESET", _), ("VAR_RESET_ALL", _), ("VAR_SET_DEFAULT", _):
            return Self(.primary, "resets a setting of the session", binds: true)
        default:
            let isLocal = statement.bool("is_local")
            return Self(.primary, "sets \(name) for the \(isLocal ? "transaction" : "session")", binds: true)
        }
    }

    private static func transaction(_ statement: ParseTree.Node) -> Self {
        var verdict: Self
        switch statement.enumeration("kind") {
        case "TRANS_STMT_BEGIN", "TRANS_STMT_START":
            verdict = Self(.primary, "begins a transaction")
            let isStart = statement.enumeration("kind") == "TRANS_STMT_START"
            verdict.transaction = .begin(Self.modes(statement.nodes("options")), isStart: isStart)
        case "TRANS_STMT_COMMIT":
            verdict = Self(.primary, "commits a transaction")
            verdict.transaction = .commit(chain: statement.bool("chain"))
        case "TRANS_STMT_ROLLBACK":
            verdict = Self(.primary, "rolls a transaction back")
            verdict.transaction = .rollback(chain: statement.bool("chain"))
        case "TRANS_STMT_SAVEPOINT": verdict = Self(.primary, "sets a savepoint", binds: true)
        case "TRANS_STMT_RELEASE": verdict = Self(.primary, "releases a savepoint", binds: true)
        case "TRANS_STMT_ROLLBACK_TO": verdict = Self(.primary, "rolls back to a savepoint", binds: true)
        case "TRANS_STMT_PREPARE": verdict = Self(.write, "prepares a transaction for a two-phase commit", binds: true)
        default: verdict = Self(.write, "ends a prepared transaction", binds: true)
        }
        verdict.endsOrBeginsTransaction = true
        verdict.takesSnapshot = false
        let savepoint = statement.string("savepoint_name") ?? ""
        switch statement.enumeration("kind") {
        case "TRANS_STMT_SAVEPOINT": verdict.settingsEffect = .savepoint(savepoint)
        case "TRANS_STMT_RELEASE": verdict.settingsEffect = .release(savepoint)
        case "TRANS_STMT_ROLLBACK_TO": verdict.settingsEffect = .rollback(to: savepoint)
        default: break
        }
        return verdict
    }

    /// Of a list of modes the last of each sort holds.
    private static func modes(_ options: [ParseTree.Node]) -> TransactionModes {
        var modes = TransactionModes()
        for option in options {
            let value = option.node("arg")
            switch option.string("defname") {
            case "transaction_isolation":
                switch value?.node("sval")?.string("sval") {
                case "read uncommitted": modes.isolation = .readUncommitted
                case "read committed": modes.isolation = .readCommitted
                case "repeatable read": modes.isolation = .repeatableRead
                default: modes.isolation = .serializable
                }
            case "transaction_read_only": modes.readOnly = value?.constantIsTrue
            case "transaction_deferrable": modes.deferrable = value?.constantIsTrue
            default: break
            }
        }
        return modes
    }

    // MARK: Data definition

    /// What a statement that writes does to the catalogue. It costs a few queries if that is less than is said here.
    private static func ddl(_ name: String, _ statement: ParseTree.Node) -> StatementClass.DDL {
        switch name {
        case "DoStmt", "CallStmt", "ExecuteStmt": return .possible
        case "DropStmt", "DropOwnedStmt": return .drops
        case "RenameStmt", "ImportForeignSchemaStmt", "RuleStmt", "RefreshMatViewStmt", "CompositeTypeStmt":
            return .certain
        // The functions of an operator class are called by what uses the index.
        case "IndexStmt":
            return statement.nodes("index_params").contains { !$0.nodes("opclass").isEmpty } ? .certain : .none
        // What is temporary belongs to its session.
        case "CreateStmt": return Self.isTemporary(statement.node("relation")) ? .none : .certain
        case "CreateSeqStmt": return Self.isTemporary(statement.node("sequence")) ? .none : .certain
        case "ViewStmt": return Self.isTemporary(statement.node("view")) ? .none : .certain
        case "CreateTableAsStmt": return Self.isTemporary(statement.node("into")?.node("rel")) ? .none : .certain
        default: return ["Create", "Alter", "Drop", "Define"].contains { name.hasPrefix($0) } ? .certain : .none
        }
    }

    private static func isTemporary(_ relation: ParseTree.Node?) -> Bool {
        relation?.string("relpersistence") == "t" || relation?.string("schemaname") == "pg_temp"
    }

    /// "CreateSchemaStmt" is CREATE SCHEMA.
    private static func command(_ name: String) -> String {
        switch name {
        case "CreateStmt": return "CREATE TABLE"
        case "CreateSeqStmt": return "CREATE SEQUENCE"
        case "CreateTrigStmt", "CreateEventTrigStmt": return "CREATE TRIGGER"
        case "CreatePLangStmt": return "CREATE LANGUAGE"
        case "CreatedbStmt": return "CREATE DATABASE"
        case "DropdbStmt": return "DROP DATABASE"
        case "DefineStmt": return "CREATE of an aggregate, operator, type or the like"
        case "IndexStmt": return "CREATE INDEX"
        case "ViewStmt": return "CREATE VIEW"
        case "RuleStmt": return "CREATE RULE"
        case "RenameStmt": return "ALTER … RENAME"
        case "RefreshMatViewStmt": return "REFRESH MATERIALIZED VIEW"
        case "SecLabelStmt": return "SECURITY LABEL"
        case "GrantStmt", "GrantRoleStmt": return "GRANT or REVOKE"
        case "VacuumStmt": return "VACUUM or ANALYZE"
        case "DropStmt": return "DROP"
        default: break
        }
        var words = ""
        for letter in name.hasSuffix("Stmt") ? name.dropLast(4) : name[...] {
            if letter.isUppercase && !words.isEmpty { words.append(" ") }
            words.append(letter.uppercased())
        }
        return words
    }
}

extension ParseTree.Node {
    /// Whether a constant is an integer other than 0: so the grammar writes the values of modes.
    fileprivate var constantIsTrue: Bool {
        self.node("ival")?.integer("ival") ?? 0 != 0
    }
}
