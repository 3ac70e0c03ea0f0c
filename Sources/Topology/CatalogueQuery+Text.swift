import SQL

// The query itself. It consists of tables that are made one from the other; `own` are the schemas of users.
extension CatalogueQuery {
    private static let builtins = Catalogue.builtinsForPrimary.map { "'\($0)'" }.joined(separator: ", ")

    // An aggregate's own volatility is always "immutable"; what it calls decides.
    private static let routines = """
        SELECT p.oid, p.proname AS name, n.nspname AS schema, p.prokind AS kind, CASE p.prokind
            WHEN 'p' THEN 3
            WHEN 'a' THEN (SELECT pg_catalog.max(pg_catalog.strpos('isv', f.provolatile::pg_catalog.text))
                FROM pg_catalog.pg_aggregate a JOIN pg_catalog.pg_proc f ON f.oid IN (a.aggtransfn, a.aggfinalfn,
                    a.aggcombinefn, a.aggserialfn, a.aggdeserialfn, a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn)
                WHERE a.aggfnoid = p.oid)
            ELSE pg_catalog.strpos('isv', p.provolatile::pg_catalog.text) END AS rank
        FROM pg_catalog.pg_proc p JOIN own n ON n.oid = p.pronamespace
        """

    // Users' functions, and those of PostgreSQL that matter.
    private static let called = """
        SELECT r.oid, r.name, r.schema, r.rank FROM routine r
        UNION ALL
        SELECT p.oid, p.proname, 'pg_catalog', pg_catalog.strpos('isv', p.provolatile::pg_catalog.text)
        FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname = 'pg_catalog' AND p.proname <> 'current_setting'
            AND (p.provolatile = 'v' OR p.proname IN (\(CatalogueQuery.builtins)))
        """

    // What a view or a policy calls stands in its tree, as text ":funcid 1574", and nowhere else as far as pg_catalog's
    // functions go: pg_depend knows nothing of those. So it is with a function's defaults, and its body if that is SQL;
    // PostgreSQL 13 has no column for that one.
    private static let trees = """
        SELECT 'c' AS kind, c.oid, c.relname AS name, r.ev_action::pg_catalog.text AS tree
        FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_class c ON c.oid = r.ev_class
            JOIN own n ON n.oid = c.relnamespace
        WHERE r.ev_type = '1' AND c.relkind = 'v'
        UNION ALL
        SELECT CASE p.polcmd WHEN 'w' THEN 'w' ELSE 'c' END, c.oid, c.relname, p.polqual::pg_catalog.text
        FROM pg_catalog.pg_policy p JOIN pg_catalog.pg_class c ON c.oid = p.polrelid
            JOIN own n ON n.oid = c.relnamespace
        WHERE c.relrowsecurity AND p.polcmd IN ('r', 'w', '*') AND p.polqual IS NOT NULL
        UNION ALL
        SELECT 't', t.oid, t.typname, c.conbin::pg_catalog.text
        FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_type t ON t.oid = c.contypid
            JOIN own n ON n.oid = t.typnamespace
        WHERE c.conbin IS NOT NULL
        UNION ALL
        SELECT 'd', p.oid, p.proname, t.tree
        FROM pg_catalog.pg_proc p JOIN own n ON n.oid = p.pronamespace,
            LATERAL (VALUES (p.proargdefaults::pg_catalog.text),
                (CASE WHEN p.prolang = 14 THEN pg_catalog.to_jsonb(p) ->> 'prosqlbody' END)) AS t (tree)
        WHERE t.tree IS NOT NULL
        """

    // The cheapest way to find these in some hundred parts for each of some thousand trees. A type of a user's has five
    // digits at least.
    private static let parts = """
        SELECT DISTINCT t.kind, t.oid, t.name, pg_catalog.split_part(p.part, ' ', 1) AS field,
            pg_catalog.split_part(p.part, ' ', 2)::pg_catalog.oid AS value
        FROM tree t, pg_catalog.unnest(pg_catalog.string_to_array(t.tree, ' :')) AS p (part)
        WHERE CASE pg_catalog.split_part(p.part, ' ', 1)
            WHEN 'funcid' THEN p.part ~ ' [0-9]+$' WHEN 'opfuncid' THEN p.part ~ ' [0-9]+$'
            WHEN 'aggfnoid' THEN p.part ~ ' [0-9]+$' WHEN 'winfnoid' THEN p.part ~ ' [0-9]+$'
            WHEN 'relid' THEN p.part ~ ' [0-9]+$'
            ELSE pg_catalog.split_part(p.part, ' ', 1) IN ('resulttype', 'funcresulttype', 'opresulttype', 'row_typeid',
                    'vartype', 'consttype', 'paramtype', 'aggtype', 'wintype', 'minmaxtype', 'array_typeid', 'refrestype',
                    'element_typeid', 'casetype', 'coalescetype') AND p.part ~ ' [0-9]{5,10}$' END
        """

    // How a type is compared and cast, and what checks its values, as far as functions of the user's own say so; `checks`:
    // only where a value of the type is made. Then what each type consists of, and which types a function takes and gives.
    private static let edges = """
        SELECT 'f' AS kind, p.oid, 'f' AS below, p.value, false AS checks FROM part p
            WHERE p.kind = 'd' AND p.field IN ('funcid', 'opfuncid', 'aggfnoid', 'winfnoid')
        UNION ALL
        SELECT 't', p.oid, 'f', p.value, true FROM part p WHERE p.kind = 't' AND p.field IN ('funcid', 'opfuncid')
        UNION ALL
        SELECT 't', p.oid, 't', p.value, true FROM part p
            WHERE p.kind = 't' AND p.field IN ('resulttype', 'funcresulttype', 'row_typeid') AND p.value <> p.oid
        UNION ALL
        SELECT 't', t.oid, 'f', k.castfunc, false FROM pg_catalog.pg_cast k CROSS JOIN LATERAL (
            VALUES (k.castsource), (CASE WHEN k.castcontext = 'i' THEN k.casttarget END)) AS x (type)
            JOIN utype t ON t.oid = x.type
        UNION ALL
        SELECT 't', t.oid, 'f', o.oprcode, false FROM pg_catalog.pg_operator o
            CROSS JOIN LATERAL (VALUES (o.oprleft), (o.oprright)) AS x (type) JOIN utype t ON t.oid = x.type
            WHERE o.oprname IN (SELECT b.oprname FROM bop b)
        UNION ALL
        SELECT 't', t.oid, 'f', s.amproc, false FROM opclass s JOIN utype t ON t.oid = s.opcintype
        UNION ALL
        SELECT 't', r.rngtypid, 'f', x.f, false FROM pg_catalog.pg_range r,
            LATERAL (VALUES (r.rngcanonical), (r.rngsubdiff)) AS x (f)
        UNION ALL
        SELECT 't', r.rngtypid, 'f', s.amproc, false FROM pg_catalog.pg_range r JOIN opclass s ON s.oid = r.rngsubopc
        UNION ALL
        SELECT 't', r.rngtypid, 't', r.rngsubtype, false FROM pg_catalog.pg_range r JOIN utype t ON t.oid = r.rngsubtype
        UNION ALL
        SELECT 't', r.rngmultitypid, 't', r.rngtypid, false FROM pg_catalog.pg_range r JOIN utype t ON t.oid = r.rngtypid
        UNION ALL
        SELECT CASE WHEN t.typcategory = 'A' THEN 'a' ELSE 't' END, t.oid, 't', t.typelem, false
            FROM utype t WHERE t.typelem <> 0
        UNION ALL
        SELECT 't', t.oid, 't', t.typbasetype, false FROM utype t WHERE t.typtype = 'd'
        UNION ALL
        SELECT 't', c.reltype, 't', a.atttypid, false FROM pg_catalog.pg_class c
            JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid JOIN utype t ON t.oid = a.atttypid
            WHERE c.reltype <> 0 AND a.attnum > 0 AND NOT a.attisdropped
        UNION ALL
        SELECT 'f', p.oid, 't', t.oid, false FROM pg_catalog.pg_proc p JOIN own n ON n.oid = p.pronamespace
            CROSS JOIN LATERAL pg_catalog.unnest(p.proargtypes || p.prorettype || p.proallargtypes) AS x (type)
            JOIN utype t ON t.oid = x.type
        """

    // From each function that writes upwards. Those in C are trusted behind types: extensions forget to say that they
    // are IMMUTABLE. A literal may become an element of an array, so that the checks of arrays count everywhere.
    private static let behind = """
        SELECT 'f' AS kind, c.oid, c.oid AS function, false AS checks
        FROM called c JOIN pg_catalog.pg_proc p ON p.oid = c.oid JOIN pg_catalog.pg_language l ON l.oid = p.prolang
        WHERE c.schema = 'pg_catalog' AND c.name IN (\(CatalogueQuery.builtins)) OR c.schema <> 'pg_catalog' AND c.rank = 3
            AND (p.prokind = 'a' OR l.lanname NOT IN ('c', 'internal'))
        UNION
        SELECT CASE e.kind WHEN 'a' THEN 't' ELSE e.kind END, e.oid, b.function,
            e.kind = 't' AND (e.checks OR b.checks AND e.below = 't')
        FROM behind b JOIN edge e ON e.below = b.kind AND e.value = b.oid
        """

    // Of relations: those of which anything is said, so that a view of them is told of it.
    private static let noted = """
        SELECT l.parent AS oid FROM lineage l JOIN pg_catalog.pg_class c ON c.oid = l.child
            WHERE c.relpersistence = 'u' OR c.relkind IN ('v', 'S', 'f', 'm') OR c.relrowsecurity
        UNION
        SELECT a.attrelid FROM pg_catalog.pg_attribute a JOIN behind b ON b.kind = 't' AND b.oid = a.atttypid
        UNION
        SELECT i.relation FROM indexed i
        """

    // Machine code for it takes longer than the query.
    static let text = """
        SET jit = off;
        WITH RECURSIVE own AS (SELECT n.oid, n.nspname FROM pg_catalog.pg_namespace n
            WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')),
        bop AS (SELECT DISTINCT o.oprname FROM pg_catalog.pg_operator o
            JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace WHERE n.nspname = 'pg_catalog'),
        utype AS MATERIALIZED (SELECT t.oid, t.typname, t.typelem, t.typcategory, t.typbasetype, t.typtype FROM pg_catalog.pg_type t JOIN own n ON n.oid = t.typnamespace),
        opclass AS (SELECT c.oid, c.opcintype, c.opcdefault, p.amproc FROM pg_catalog.pg_opclass c
            JOIN own n ON n.oid = c.opcnamespace JOIN pg_catalog.pg_amproc p ON p.amprocfamily = c.opcfamily
            UNION
            SELECT c.oid, c.opcintype, c.opcdefault, o.oprcode FROM pg_catalog.pg_opclass c
            JOIN own n ON n.oid = c.opcnamespace JOIN pg_catalog.pg_amop a ON a.amopfamily = c.opcfamily
            JOIN pg_catalog.pg_operator o ON o.oid = a.amopopr),
        lineage AS (SELECT c.oid AS child, c.oid AS parent FROM pg_catalog.pg_class c
            WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
            UNION
            SELECT l.child, i.inhparent FROM lineage l JOIN pg_catalog.pg_inherits i ON i.inhrelid = l.parent),
        routine AS (\(CatalogueQuery.routines)),
        called AS MATERIALIZED (\(CatalogueQuery.called)),
        tree AS (\(CatalogueQuery.trees)),
        part AS MATERIALIZED (\(CatalogueQuery.parts)),
        edge AS MATERIALIZED (\(CatalogueQuery.edges)),
        behind AS (\(CatalogueQuery.behind)),
        writer AS (SELECT DISTINCT b.oid, b.function FROM behind b WHERE b.kind = 'f'),
        indexed AS (SELECT DISTINCT l.parent AS relation, w.function FROM pg_catalog.pg_index i
            JOIN opclass s ON s.oid = ANY (i.indclass)
            JOIN writer w ON w.oid = s.amproc JOIN lineage l ON l.child = i.indrelid),
        noted AS (\(CatalogueQuery.noted))
        (SELECT 'f', r.name, NULL, r.schema, pg_catalog.max(r.rank) FROM routine r GROUP BY r.name, r.schema)
        UNION ALL
        (SELECT DISTINCT 'u', p.relname, NULL, NULL, NULL::pg_catalog.int4 FROM pg_catalog.pg_class c
            JOIN lineage l ON l.child = c.oid JOIN pg_catalog.pg_class p ON p.oid = l.parent WHERE c.relpersistence = 'u')
        UNION ALL
        (SELECT DISTINCT 'x', p.relname, NULL, NULL, NULL::pg_catalog.int4 FROM pg_catalog.pg_class c
            JOIN lineage l ON l.child = c.oid JOIN pg_catalog.pg_class p ON p.oid = l.parent WHERE c.relkind = 'f')
        UNION ALL
        SELECT 's', c.relname, NULL, NULL, NULL FROM pg_catalog.pg_class c WHERE c.relkind = 'S'
        UNION ALL
        SELECT 'n', c.relname, NULL, NULL, NULL FROM pg_catalog.pg_class c WHERE c.relkind = 'm' AND NOT c.relispopulated
        UNION ALL
        SELECT 'l', t.name, NULL, NULL, NULL FROM tree t
        WHERE t.kind = 'c' AND pg_catalog.strpos(t.tree, ' ({ROWMARKCLAUSE ') > 0
        UNION ALL
        SELECT 'i', 'default_transaction_isolation', NULL, NULL, NULL
        WHERE pg_catalog.current_setting('default_transaction_isolation') <> 'read committed' OR EXISTS (
            SELECT FROM pg_catalog.pg_db_role_setting s, pg_catalog.unnest(s.setconfig) AS t (setting)
            WHERE pg_catalog.lower(t.setting) LIKE 'default_transaction_isolation=%'
                AND pg_catalog.lower(t.setting) <> 'default_transaction_isolation=read committed')
        UNION ALL
        (SELECT DISTINCT p.kind, c.name, p.name, c.schema, c.rank FROM part p JOIN called c ON c.oid = p.value
            WHERE p.kind IN ('c', 'w', 't') AND p.field IN ('funcid', 'opfuncid', 'aggfnoid', 'winfnoid'))
        UNION ALL
        (SELECT DISTINCT p.kind, c.name, p.name, c.schema, c.rank
            FROM part p JOIN behind b ON b.kind = 't' AND b.oid = p.value JOIN called c ON c.oid = b.function
            WHERE p.kind IN ('c', 'w') AND (p.field IN ('resulttype', 'funcresulttype', 'row_typeid')
                OR p.field NOT IN ('funcid', 'opfuncid', 'aggfnoid', 'winfnoid', 'relid') AND NOT b.checks))
        UNION ALL
        (SELECT DISTINCT 'g', COALESCE(pg_catalog.substring(x.call,
                '^(?:2077|3294) [^{}]*:args [(]{CONST [^{}]*:constvalue [0-9]+ [[] ([-0-9 ]*)[]]'), ''), t.name, NULL,
                CASE t.kind WHEN 't' THEN 2 ELSE 1 END
            FROM tree t, pg_catalog.unnest(pg_catalog.string_to_array(t.tree, ':funcid ')) AS x (call)
            WHERE t.kind IN ('c', 't') AND x.call ~ '^(2077|3294) ')
        UNION ALL
        (SELECT DISTINCT 'r', c.relname, p.name, NULL, NULL::pg_catalog.int4
            FROM part p JOIN pg_catalog.pg_class c ON c.oid = p.value JOIN noted n ON n.oid = c.oid
            WHERE p.field = 'relid' AND p.kind IN ('c', 'w') AND p.oid <> c.oid)
        UNION ALL
        (SELECT DISTINCT CASE WHEN b.checks THEN 'p' ELSE 'c' END, c.name, r.relname, c.schema, c.rank
            FROM behind b JOIN pg_catalog.pg_attribute a ON a.atttypid = b.oid
            JOIN pg_catalog.pg_class r ON r.oid = a.attrelid JOIN called c ON c.oid = b.function
            WHERE b.kind = 't' AND r.relkind IN ('r', 'p', 'v', 'm', 'f') AND a.attnum > 0)
        UNION ALL
        (SELECT DISTINCT 'c', c.name, r.relname, c.schema, c.rank FROM indexed i JOIN called c ON c.oid = i.function
            JOIN pg_catalog.pg_class r ON r.oid = i.relation)
        UNION ALL
        (SELECT DISTINCT 't', c.name, t.typname, c.schema, c.rank FROM behind b JOIN utype t ON t.oid = b.oid
            JOIN called c ON c.oid = b.function WHERE b.kind = 't')
        UNION ALL
        (SELECT DISTINCT 'd', c.name, p.proname, c.schema, c.rank FROM behind b JOIN pg_catalog.pg_proc p ON p.oid = b.oid
            JOIN called c ON c.oid = b.function WHERE b.kind = 'f' AND b.oid <> b.function)
        UNION ALL
        (SELECT DISTINCT 'o', c.name, o.oprname, c.schema, c.rank FROM pg_catalog.pg_operator o
            JOIN own n ON n.oid = o.oprnamespace JOIN called c ON c.oid = o.oprcode
            WHERE o.oprname NOT IN (SELECT b.oprname FROM bop b) OR o.oprcode IN (SELECT w.oid FROM writer w)
                    AND o.oprleft NOT IN (SELECT t.oid FROM utype t) AND o.oprright NOT IN (SELECT t.oid FROM utype t))
        UNION ALL
        (SELECT DISTINCT 'o', c.name, o.oprname, c.schema, c.rank FROM pg_catalog.pg_operator o
            JOIN own n ON n.oid = o.oprnamespace JOIN pg_catalog.pg_amop a ON a.amopopr = o.oid
            JOIN opclass s ON s.oid IN (SELECT f.oid FROM pg_catalog.pg_opclass f WHERE f.opcfamily = a.amopfamily)
            JOIN writer w ON w.oid = s.amproc JOIN called c ON c.oid = w.function
            WHERE o.oprname NOT IN (SELECT b.oprname FROM bop b)
                OR o.oprleft NOT IN (SELECT t.oid FROM utype t) AND o.oprright NOT IN (SELECT t.oid FROM utype t))
        UNION ALL
        (SELECT DISTINCT 't', c.name, t.typname, c.schema, c.rank FROM pg_catalog.pg_cast k
            JOIN called c ON c.oid = k.castfunc JOIN pg_catalog.pg_type t ON t.oid = k.casttarget
            WHERE t.typnamespace IN (SELECT n.oid FROM own n) OR k.castfunc IN (SELECT w.oid FROM writer w))
        UNION ALL
        (SELECT DISTINCT 'e', c.name, NULL, c.schema, c.rank FROM (
            SELECT k.castfunc AS f FROM pg_catalog.pg_cast k WHERE k.castcontext = 'i'
                AND k.castsource NOT IN (SELECT t.oid FROM utype t) AND k.casttarget NOT IN (SELECT t.oid FROM utype t)
            UNION
            SELECT o.oprcode FROM pg_catalog.pg_operator o WHERE o.oprname IN ('=', '<>', '<', '<=', '>', '>=')
                AND o.oprleft NOT IN (SELECT t.oid FROM utype t) AND o.oprright NOT IN (SELECT t.oid FROM utype t)
            UNION
            SELECT s.amproc FROM opclass s
                WHERE s.opcdefault AND s.opcintype NOT IN (SELECT t.oid FROM utype t)) AS x
            JOIN writer w ON w.oid = x.f JOIN called c ON c.oid = w.function)
        UNION ALL
        (SELECT DISTINCT 'm', r.name, NULL, NULL, NULL::pg_catalog.int4 FROM routine r
            JOIN pg_catalog.pg_proc p ON p.oid = r.oid JOIN pg_catalog.pg_type t ON t.oid = p.proargtypes[0]
            WHERE p.prokind = 'f' AND p.pronargs - p.pronargdefaults <= 1
                AND (t.typtype = 'c' OR EXISTS (SELECT FROM pg_catalog.pg_type b
                    WHERE b.oid = t.typbasetype AND b.typtype = 'c') OR t.typname IN ('any', 'record', 'anyelement', 'anynonarray',
                    'anycompatible', 'anycompatiblenonarray')))
        LIMIT \(CatalogueQuery.maximumRows + 1)
        """
}
