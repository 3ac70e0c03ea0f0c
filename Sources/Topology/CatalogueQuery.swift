import SQL

/// How a database's catalogue is asked for what the classes of statements need.
enum CatalogueQuery {
    /// Of a larger catalogue nothing is known: memory is bounded.
    static let maximumRows = 200_000

    // An aggregate's own volatility is always "immutable"; what it calls decides.
    private static let functions = """
        SELECT v.proname, max(v.rank) FROM (
            SELECT p.proname, pg_catalog.strpos('isv', p.provolatile::pg_catalog.text) AS rank
            FROM pg_catalog.pg_proc p JOIN own n ON n.oid = p.pronamespace WHERE p.prokind IN ('f', 'w')
            UNION ALL
            SELECT p.proname, 3 FROM pg_catalog.pg_proc p JOIN own n ON n.oid = p.pronamespace WHERE p.prokind = 'p'
            UNION ALL
            SELECT p.proname, pg_catalog.strpos('isv', f.provolatile::pg_catalog.text)
            FROM pg_catalog.pg_proc p JOIN own n ON n.oid = p.pronamespace
                JOIN pg_catalog.pg_aggregate a ON a.aggfnoid = p.oid
                JOIN pg_catalog.pg_proc f ON f.oid IN (a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggserialfn,
                    a.aggdeserialfn, a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn)
            WHERE p.prokind = 'a') AS v
        GROUP BY v.proname
        """

    private static let text = """
        WITH own AS (SELECT n.oid FROM pg_catalog.pg_namespace n
            WHERE n.nspname NOT IN ('pg_catalog', 'information_schema'))
        (\(CatalogueQuery.functions))
        UNION ALL
        SELECT c.relname, 0 FROM pg_catalog.pg_class c
        WHERE c.relpersistence = 'u' AND c.relkind IN ('r', 'p', 'S', 'm')
        UNION ALL
        SELECT 'default_transaction_isolation', 4
        WHERE pg_catalog.current_setting('default_transaction_isolation') <> 'read committed' OR EXISTS (
            SELECT FROM pg_catalog.pg_db_role_setting s, pg_catalog.unnest(s.setconfig) AS t (setting)
            WHERE pg_catalog.lower(t.setting) LIKE 'default_transaction_isolation=%'
                AND pg_catalog.lower(t.setting) <> 'default_transaction_isolation=read committed')
        LIMIT \(CatalogueQuery.maximumRows + 1)
        """

    /// Reads the catalogue; nil if it is larger than `maximumRows`.
    static func read(
        from connection: MonitorConnection, deadline: Int64
    ) throws(MonitorConnection.Failure) -> Catalogue? {
        Self.catalogue(try connection.query(self.text, deadline: deadline))
    }

    /// Rows of a name and 1 to 3 for functions from immutable to volatile, 0 for unlogged relations, 4 if some sessions
    /// do not begin with READ COMMITTED.
    static func catalogue(_ rows: [[String?]]) -> Catalogue? {
        guard rows.count <= self.maximumRows else { return nil }
        var catalogue = Catalogue()
        for row in rows where row.count == 2 {
            guard let name = row[0], let rank = row[1] else { continue }
            switch rank {
            case "0": catalogue.unloggedRelations.insert(name)
            case "1": catalogue.functions[name] = .immutable
            case "2": catalogue.functions[name] = .stable
            case "4": catalogue.hasOtherDefaultIsolation = true
            default: catalogue.functions[name] = .volatile
            }
        }
        return catalogue
    }
}
