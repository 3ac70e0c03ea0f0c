import SQL

/// How a database's catalogue is asked for what the classes of statements need.
enum CatalogueQuery {
    /// Of a larger catalogue nothing is known: memory is bounded.
    static let maximumRows = 200_000

    /// What a row says; its other columns are a name, the name of what it stands behind, and of a function its schema
    /// and its volatility from 1 (immutable) to 3.
    private enum Kind: String {
        case function = "f"
        case unlogged = "u"
        case sequence = "s"
        /// Some sessions do not begin with READ COMMITTED.
        case otherIsolation = "i"
        /// A function or relation behind a view, or behind a table with policies.
        case calledByRelation = "c"
        case relation = "r"
        case calledByOperator = "o"
        case calledByType = "t"
        /// A function of one row.
        case rowFunction = "m"
    }

    // An aggregate's own volatility is always "immutable"; what it calls decides.
    private static let routines = """
        SELECT p.oid, p.proname AS name, n.nspname AS schema, CASE p.prokind
            WHEN 'p' THEN 3
            WHEN 'a' THEN (SELECT pg_catalog.max(pg_catalog.strpos('isv', f.provolatile::pg_catalog.text))
                FROM pg_catalog.pg_aggregate a JOIN pg_catalog.pg_proc f ON f.oid IN (a.aggtransfn, a.aggfinalfn,
                    a.aggcombinefn, a.aggserialfn, a.aggdeserialfn, a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn)
                WHERE a.aggfnoid = p.oid)
            ELSE pg_catalog.strpos('isv', p.provolatile::pg_catalog.text) END AS rank
        FROM pg_catalog.pg_proc p JOIN own n ON n.oid = p.pronamespace
        """

    // What a view or a policy calls stands in its tree, as text ":funcid 1574", and nowhere else as far as pg_catalog's
    // functions go: pg_depend knows nothing of those.
    private static let trees = """
        SELECT 'c' AS kind, c.oid, c.relname AS name, r.ev_action::pg_catalog.text AS tree
        FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_class c ON c.oid = r.ev_class
            JOIN own n ON n.oid = c.relnamespace
        WHERE r.ev_type = '1' AND c.relkind = 'v'
        UNION ALL
        SELECT 'c', c.oid, c.relname, p.polqual::pg_catalog.text
        FROM pg_catalog.pg_policy p JOIN pg_catalog.pg_class c ON c.oid = p.polrelid
            JOIN own n ON n.oid = c.relnamespace
        WHERE c.relrowsecurity AND p.polcmd IN ('r', '*') AND p.polqual IS NOT NULL
        UNION ALL
        SELECT 't', t.oid, t.typname, c.conbin::pg_catalog.text
        FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_type t ON t.oid = c.contypid
            JOIN own n ON n.oid = t.typnamespace
        WHERE c.conbin IS NOT NULL
        """

    private static let builtins = Catalogue.builtinsForPrimary.map { "'\($0)'" }.joined(separator: ", ")

    private static let parts = """
        SELECT DISTINCT t.kind, t.oid, t.name, pg_catalog.split_part(p.part, ' ', 1) AS field,
            pg_catalog.split_part(p.part, ' ', 2)::pg_catalog.oid AS value
        FROM tree t, pg_catalog.unnest(pg_catalog.string_to_array(t.tree, ' :')) AS p (part)
        WHERE p.part ~ '^(funcid|opfuncid|aggfnoid|winfnoid|relid) [0-9]+$'
        """

    // Machine code for it takes longer than the query.
    private static let text = """
        SET jit = off;
        WITH own AS (SELECT n.oid, n.nspname FROM pg_catalog.pg_namespace n
            WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')),
        routine AS (\(CatalogueQuery.routines)),
        called AS (SELECT r.oid, r.name, r.schema, r.rank FROM routine r
            UNION ALL
            SELECT p.oid, p.proname, 'pg_catalog', pg_catalog.strpos('isv', p.provolatile::pg_catalog.text)
            FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
            WHERE n.nspname = 'pg_catalog' AND (p.provolatile = 'v' OR p.proname IN (\(CatalogueQuery.builtins)))),
        tree AS (\(CatalogueQuery.trees)),
        part AS (\(CatalogueQuery.parts))
        (SELECT 'f', r.name, NULL, NULL, pg_catalog.max(r.rank) FROM routine r GROUP BY r.name)
        UNION ALL
        SELECT 'u', c.relname, NULL, NULL, NULL FROM pg_catalog.pg_class c
        WHERE c.relpersistence = 'u' AND c.relkind IN ('r', 'p', 'S', 'm')
        UNION ALL
        SELECT 's', c.relname, NULL, NULL, NULL FROM pg_catalog.pg_class c WHERE c.relkind = 'S'
        UNION ALL
        SELECT 'i', 'default_transaction_isolation', NULL, NULL, NULL
        WHERE pg_catalog.current_setting('default_transaction_isolation') <> 'read committed' OR EXISTS (
            SELECT FROM pg_catalog.pg_db_role_setting s, pg_catalog.unnest(s.setconfig) AS t (setting)
            WHERE pg_catalog.lower(t.setting) LIKE 'default_transaction_isolation=%'
                AND pg_catalog.lower(t.setting) <> 'default_transaction_isolation=read committed')
        UNION ALL
        (SELECT DISTINCT p.kind, c.name, p.name, c.schema, c.rank FROM part p JOIN called c ON c.oid = p.value
            WHERE p.field <> 'relid')
        UNION ALL
        (SELECT DISTINCT 'r', c.relname, p.name, NULL, NULL::pg_catalog.int4
            FROM part p JOIN pg_catalog.pg_class c ON c.oid = p.value
            WHERE p.field = 'relid' AND p.kind = 'c' AND p.oid <> c.oid
                AND (c.relkind IN ('v', 'S') OR c.relrowsecurity OR c.relpersistence = 'u'))
        UNION ALL
        (SELECT DISTINCT 'o', c.name, o.oprname, c.schema, c.rank FROM pg_catalog.pg_operator o
            JOIN own n ON n.oid = o.oprnamespace JOIN called c ON c.oid = o.oprcode
            WHERE o.oprname NOT IN (SELECT b.oprname FROM pg_catalog.pg_operator b
                JOIN pg_catalog.pg_namespace bn ON bn.oid = b.oprnamespace WHERE bn.nspname = 'pg_catalog'))
        UNION ALL
        (SELECT DISTINCT 't', c.name, t.typname, c.schema, c.rank FROM pg_catalog.pg_cast k
            JOIN called c ON c.oid = k.castfunc JOIN pg_catalog.pg_type t ON t.oid = k.casttarget
            JOIN own n ON n.oid = t.typnamespace)
        UNION ALL
        (SELECT DISTINCT 'm', r.name, NULL, NULL, NULL::pg_catalog.int4 FROM routine r
            JOIN pg_catalog.pg_proc p ON p.oid = r.oid JOIN pg_catalog.pg_type t ON t.oid = p.proargtypes[0]
            WHERE p.prokind = 'f' AND p.pronargs - p.pronargdefaults <= 1
                AND (t.typtype = 'c' OR t.typname IN ('record', 'anyelement', 'anynonarray', 'anycompatible',
                    'anycompatiblenonarray')))
        LIMIT \(CatalogueQuery.maximumRows + 1)
        """

    /// Reads the catalogue; nil if it is larger than `maximumRows`.
    static func read(
        from connection: MonitorConnection, deadline: Int64
    ) throws(MonitorConnection.Failure) -> Catalogue? {
        Self.catalogue(try connection.query(self.text, deadline: deadline))
    }

    /// Makes a catalogue of the query's rows.
    static func catalogue(_ rows: [[String?]]) -> Catalogue? {
        guard rows.count <= self.maximumRows else { return nil }
        var catalogue = Catalogue()
        for row in rows where row.count == 5 {
            guard let kind = row[0].flatMap({ Kind(rawValue: $0) }), let name = row[1] else { continue }
            let volatility = Self.volatility(row[4])
            let function = Catalogue.Function(name: name, schema: row[3] ?? "", volatility: volatility)
            switch (kind, row[2]) {
            case (.function, _): catalogue.functions[name] = volatility
            case (.unlogged, _): catalogue.unloggedRelations.insert(name)
            case (.sequence, _): catalogue.sequences.insert(name)
            case (.otherIsolation, _): catalogue.hasOtherDefaultIsolation = true
            case (.rowFunction, _): catalogue.rowFunctions.insert(name)
            case (.calledByRelation, let relation?):
                catalogue.definitions[relation, default: Catalogue.Definition()].functions.append(function)
            case (.relation, let relation?):
                catalogue.definitions[relation, default: Catalogue.Definition()].relations.append(name)
            case (.calledByOperator, let word?): catalogue.operators[word, default: []].append(function)
            case (.calledByType, let type?): catalogue.types[type, default: []].append(function)
            case (.calledByRelation, nil), (.relation, nil), (.calledByOperator, nil), (.calledByType, nil): break
            }
        }
        catalogue.isKnown = true
        catalogue.sort()
        return catalogue
    }

    private static func volatility(_ rank: String?) -> Catalogue.Volatility {
        switch rank {
        case "1": .immutable
        case "2": .stable
        default: .volatile
        }
    }
}
