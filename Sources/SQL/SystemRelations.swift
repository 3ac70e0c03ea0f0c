/// Views of pg_catalog that show the node they are asked on, not the database that is the same everywhere.
/// https://www.postgresql.org/docs/current/views.html, https://www.postgresql.org/docs/current/monitoring-stats.html
enum SystemRelations {
    private static let prefixes = ["pg_stat_", "pg_statio_", "pg_prepared_", "pg_replication_"]

    private static let names: Set<String> = [
        "pg_aios", "pg_available_extension_versions", "pg_available_extensions", "pg_backend_memory_contexts",
        "pg_config", "pg_cursors", "pg_dsm_registry_allocations",
        "pg_file_settings", "pg_hba_file_rules", "pg_ident_file_mappings", "pg_locks", "pg_settings",
        "pg_shmem_allocations", "pg_shmem_allocations_numa", "pg_wait_events",
    ]

    /// Why a relation binds a statement to the primary; nil if it does not.
    static func reason(_ name: String) -> String? {
        // The standby has what was logged of a sequence: up to 32 values ahead of what was given out.
        if name == "pg_sequences" { return "reads pg_sequences, which is ahead of the truth on a replica" }
        guard name.hasPrefix("pg_"), self.names.contains(name) || self.prefixes.contains(where: name.hasPrefix) else {
            return nil
        }
        return "reads \(name), which tells about its own node"
    }
}
