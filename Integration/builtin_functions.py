"""Writes Sources/SQL/BuiltinFunctions+Table.swift: the functions of pg_catalog, and which of them need the primary.

The names come from the catalogue of a PostgreSQL that is started for it, and of a newer one in Integration/.cache/testing
if that is there; if it is not, what the table has from it stays. The judgement is here: RULES. A function that may change
or that tells something about its node (it is volatile, or its name begins like those of the system) must be named by a
rule; the script fails if one is not, so that each new function is looked at once.
"""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Iterable
from pathlib import Path

from cluster import Cluster, Installation
from common import CACHE, REPOSITORY

OUTPUT = REPOSITORY / "Sources/SQL/BuiltinFunctions+Table.swift"

# Groups of the generated table: kind, whether it binds the transaction to the server, reason behind "calls f, which".
SEQUENCE = ("write", False, "changes a sequence")
SEQUENCE_STATE = ("primary", True, "asks what a sequence gave to this session")
SEQUENCE_READ = ("primary", False, "reads a sequence, of which a replica is ahead")
LARGE_OBJECT = ("write", True, "writes large objects or files")
LARGE_OBJECT_READ = ("primary", True, "opens or reads a large object")
CURSOR = ("primary", True, "reads from a cursor of the session")
XID = ("write", True, "takes a transaction ID")
XID_STATE = ("primary", False, "asks about transactions, of which a replica may know less")
NOTIFY = ("write", False, "notifies")
ANY_QUERY = ("write", False, "runs queries that the statement does not show")
SETTING = ("primary", True, "changes a setting of the session or the transaction")
SESSION = ("primary", False, "tells about its session")
SEED = ("primary", True, "changes the state of the session")
LOCK = ("primary", True, "takes or gives back a lock")
SNAPSHOT = ("primary", True, "exports a snapshot, which only the same server can import")
NODE = ("primary", False, "tells about its own node")
NODE_FILES = ("primary", False, "reads files of its own node")
WAL_POSITION = ("primary", False, "asks for a WAL position of the primary")
CONTROL = ("primary", False, "controls its own node")
STATISTICS = ("primary", False, "changes the statistics of its own node")
WAL = ("write", False, "writes WAL")
BACKUP = ("primary", True, "begins or ends a backup")
SLOT = ("write", True, "works on replication slots or origins")
MAINTENANCE = ("write", False, "changes an index, a catalogue or statistics")
READ = ("read", False, "only reads")

# The first that matches a whole name decides.
RULES = [
    (r"nextval|setval", SEQUENCE),
    (r"currval|lastval", SEQUENCE_STATE),
    (r"pg_sequence_last_value|pg_get_sequence_data", SEQUENCE_READ),
    (r"lo_open|lo_close|loread|lo_lseek(64)?|lo_tell(64)?", LARGE_OBJECT_READ),
    (r"lo_get", READ),
    (r"lo_.*|lowrite", LARGE_OBJECT),
    (r"txid_current|pg_current_xact_id", XID),
    (r"(txid|pg)_current_snapshot|.*_current(_xact_id)?_if_assigned|txid_status|pg_xact_.*|pg_last_committed_xact|"
     r"pg_get_multixact_members", XID_STATE),
    (r"pg_notify", NOTIFY),
    (r"query_to_xml(_and_xmlschema)?|ts_stat|ts_rewrite", ANY_QUERY),
    (r"cursor_to_xml.*", CURSOR),
    (r"(query|table|schema|database)_to_xml.*", READ),
    (r"set_config", SETTING),
    (r"setseed", SEED),
    # Who asks for its node means the one that it takes for its server: so it is with SHOW. Which settings current_setting
    # may show on a replica is the classifier's business.
    (r"current_setting|pg_backend_pid|inet_server_.*|pg_is_in_recovery|pg_last_wal_.*|pg_last_xact_replay_timestamp|"
     r"pg_postmaster_start_time|pg_conf_load_time", NODE),
    (r"pg_listening_channels|pg_cursor|pg_prepared_statement|pg_my_temp_schema|"
     r"pg_is_other_temp_schema|pg_event_trigger_.*", SESSION),
    (r"pg_(try_)?advisory_.*", LOCK),
    (r"pg_export_snapshot", SNAPSHOT),
    (r"pg_stat_(reset.*|clear_snapshot|force_next_flush)", STATISTICS),
    (r"pg_stat_file|pg_ls_.*|pg_read_.*", NODE_FILES),
    (r"pg_current_wal_.*|pg_walfile_.*", WAL_POSITION),
    (r"pg_switch_wal|pg_create_restore_point|pg_logical_emit_message|pg_log_standby_snapshot", WAL),
    (r"pg_backup_.*", BACKUP),
    (r"pg_(copy|create|drop)_(logical_|physical_)?replication_slot|pg_replication_(slot|origin)_.*|pg_logical_slot_.*|"
     r"pg_sync_replication_slots", SLOT),
    (r"brin_(de)?summarize_.*|gin_clean_pending_list|binary_upgrade_.*|pg_nextoid|pg_import_system_collations|"
     r"pg_extension_config_dump|pg_stop_making_pinned_objects|pg_(clear|restore)_.*_stats", MAINTENANCE),
    (r"pg_(cancel|terminate)_backend|pg_promote|pg_reload_conf|pg_rotate_logfile.*|pg_wal_replay_.*|"
     r"pg_log_backend_memory_contexts", CONTROL),
    (r"pg_stat_.*|pg_show_.*|pg_control_.*|pg_lock_status|pg_prepared_xact|pg_(safe_snapshot_)?blocking_pids|"
     r"pg_isolation_test_.*|pg_(hba_file_rules|ident_file_mappings)|pg_notification_queue_usage|pg_current_logfile|"
     r"pg_is_wal_replay_paused|pg_get_wal_replay_pause_state|pg_get_(replication_slots|shmem_allocations.*)|"
     r"pg_get_(backend_memory_contexts|aios|loaded_modules|wait_events|wal_summarizer_state)|pg_config|"
     r"pg_(available_wal_summaries|wal_summary_contents)|pg_available_extension.*|pg_extension_update_paths|"
     r"pg_settings_get_flags|pg_jit_available|pg_numa_available|pg_(collation|database_collation)_actual_version|"
     r"pg_tablespace_size", NODE),
    # Volatile or of the system, and yet the same everywhere and without effect.
    (r"random|random_normal|gen_random_uuid|uuidv[47]|clock_timestamp|timeofday|current_query|array_(sample|shuffle)",
     READ),
    (r"pg_sleep.*|pg_get_wal_resource_managers|pg_.*_size", READ),
    (r"currtid2|amvalidate|bernoulli|system|.*handler|RI_FKey_.*|.*_trigger(_column)?|unique_key_recheck|dsnowball_.*|"
     r"plpgsql_.*", READ),
    (r"pg_partition_.*|pg_get_(keywords|catalog_foreign_keys|publication_tables|userbyid|expr|acl|.*def.*|function_.*)", READ),
    (r"pg_get_(object_address|replica_identity_index|serial_sequence|.*_columns|.*_expressions)", READ),
    (r"pg_(describe|identify)_object.*|pg_.*_is_visible|pg_.*_has_property|pg_.*_is_(updatable|publishable)", READ),
    (r"pg_(typeof|basetype|has_role|trigger_depth|client_encoding|collation_for|char_to_encoding|encoding_to_char)", READ),
    (r"pg_(column|input)_.*|pg_options_to_table|pg_(filenode_relation|relation_file.*)|pg_tablespace_.*|pg_timezone_.*", READ),
    (r"pg_sequence_parameters|pg_split_walfile_name", READ),
    (r"pg_(dependencies|mcv_list|ndistinct|node_tree)_.*", READ),
]

# Functions that show what is in catalogues or tables, which a replica may not have yet.
SHOWS_DATA = (
    r"to_reg.*|has_.*_privilege|pg_has_role|row_security_active|format_type|oidvectortypes|(obj|col|shobj)_description|"
    r"current_schemas?|get_current_ts_config|enum_(first|last|range)|(jsonb?_)?to_tsvector|.*to_tsquery|currtid2|amvalidate|"
    r"ts_(debug|headline|lexize|parse|token_type|stat|rewrite)|pg_get_(?!keywords|catalog_foreign|wal_res|backend|shmem|aios).*|"
    r"pg_.*_is_visible|pg_.*_has_property|pg_.*_is_(updatable|publishable)|pg_(describe|identify)_object.*|pg_.*_size|"
    r"pg_relation_.*|pg_filenode_relation|pg_partition_.*|pg_sequence_.*|pg_tablespace_.*|pg_input_.*|lo_get|loread|"
    r"(query|table|schema|database)_to_xml.*")

# Functions that run queries which the statement does not show, over tables and views that may be anything. They go to a
# replica, which refuses what is a write; on the primary they count as one.
RUNS_QUERIES = r"(table|schema|database)_to_xml(_and_xmlschema)?"

# Settings that show the node and not the session, among those that any session can change, and others that are the same
# on all nodes of a cluster.
NODE_SETTINGS = ("transaction_read_only", "default_transaction_read_only")
FIXED_SETTINGS = (
    "block_size", "integer_datetimes", "is_superuser", "lc_collate", "lc_ctype", "max_function_args", "max_identifier_length",
    "max_index_keys", "role", "segment_size", "server_encoding", "server_version", "server_version_num",
    "session_authorization", "wal_block_size")
# Of versions that may not be at hand.
NEWER_SETTINGS = (
    "createrole_self_grant", "debug_logical_replication_streaming", "debug_parallel_query", "enable_distinct_reordering",
    "enable_group_by_reordering", "enable_presorted_aggregate", "enable_self_join_elimination", "event_triggers",
    "icu_validation_level", "io_combine_limit", "scram_iterations", "transaction_timeout", "vacuum_buffer_usage_limit")

QUERY = """
    SELECT proname, bool_or(provolatile = 'v' OR provolatile = 's' AND proname LIKE 'pg\\_%') FROM pg_proc
    WHERE pronamespace = 'pg_catalog'::regnamespace GROUP BY 1
    UNION ALL -- a type's name is called like a function, too
    SELECT typname, false FROM pg_type
    WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype IN ('b', 'r', 'm') AND typelem = 0
"""
SETTINGS = "SELECT lower(name) FROM pg_settings WHERE context = 'user'"


class Found:
    """What the catalogues of some versions have."""

    def __init__(self) -> None:
        self.versions: set[str] = set()
        # Names, and whether a rule has to name them.
        self.functions: dict[str, bool] = {}
        self.settings = set(FIXED_SETTINGS + NEWER_SETTINGS)

    def add(self, installation: Installation) -> None:
        self.versions.add(installation.version().split(".")[0])
        cluster = Cluster(installation)
        cluster.start()
        try:
            with cluster.connect(dbname="postgres") as connection:
                for name, needs_rule in connection.execute(QUERY).fetchall():
                    self.functions[name] = self.functions.get(name, False) or needs_rule
                self.settings |= {name for name, in connection.execute(SETTINGS).fetchall()}
        finally:
            cluster.stop()

    def keep(self, table: str) -> None:
        """Takes over what the table has from versions that are not at hand."""
        self.versions |= set(re.findall(r"\b\d+\b", table.splitlines()[0]))
        functions, _, others = table.partition("    static let showingData")
        for names in re.findall(r'"""\n(.*?)"""', functions, re.DOTALL):
            for name in names.replace("\\\n", " ").split():
                self.functions.setdefault(name, False)
        _, _, settings = others.partition("static let sessionSettings")
        self.settings |= set(re.findall(r"\w+", settings))


def installations() -> list[Installation]:
    every = [Installation()]
    newer = CACHE / "testing"
    if "MARTLET_PG_ROOT" not in os.environ and os.geteuid() == 0 and (newer / "usr/lib/postgresql").exists():
        os.environ["MARTLET_PG_ROOT"] = str(newer)
        every.append(Installation())
        del os.environ["MARTLET_PG_ROOT"]
    return every


def rule(name: str) -> tuple[str, bool, str] | None:
    return next((group for pattern, group in RULES if re.fullmatch(pattern, name)), None)


def swift_string(names: Iterable[str], indent: int) -> str:
    margin = " " * indent
    lines = textwrap.wrap(
        " ".join(sorted(names)), 119 - indent, break_long_words=False, break_on_hyphens=False)
    return f'"""\n' + " \\\n".join(margin + line for line in lines) + f'\n{margin}"""'


def main() -> None:
    found = Found()
    for installation in installations():
        found.add(installation)
    if len(found.versions) == 1 and OUTPUT.exists():
        found.keep(OUTPUT.read_text())
    unknown = sorted(name for name, needs_rule in found.functions.items() if needs_rule and rule(name) is None)
    if unknown:
        raise SystemExit("builtin-functions: no rule for " + " ".join(unknown))
    groups: dict[tuple[str, bool, str], list[str]] = {}
    for name in sorted(found.functions):
        group = rule(name) or READ
        groups.setdefault(group, []).append(name)
    assert all(re.fullmatch(r"[A-Za-z0-9_]+", name) for name in found.functions if name != "char")
    table = "\n".join(
        f"        Group(\n            kind: .{kind}, binds: {str(binds).lower()}, reason: \"{reason}\",\n"
        f"            names: {swift_string(names, 16)}),"
        for (kind, binds, reason), names in sorted(groups.items()) if kind != "read")
    versions = " and ".join(sorted(found.versions))
    shows_data = [name for name in found.functions if re.fullmatch(SHOWS_DATA, name)]
    runs_queries = [name for name in found.functions if re.fullmatch(RUNS_QUERIES, name)]
    OUTPUT.write_text(f"""\
// Made by Integration/builtin-functions from the catalogues of PostgreSQL {versions}. The rules are there.

extension BuiltinFunctions {{
    /// The functions that need the primary.
    static let groups: [Group] = [
{table}
    ]

    /// All other functions and types, in the order of their bytes, divided by single blanks.
    static let readOnly = {swift_string(groups[READ], 8)}

    /// Functions of any group that show what is in catalogues or tables.
    static let showingData = {swift_string(shows_data, 8)}

    /// Functions that run queries which the statement does not show.
    static let runningQueries = {swift_string(runs_queries, 8)}

    /// Settings that belong to the session, or are the same on all nodes; in lower case.
    static let sessionSettings = {swift_string(found.settings - set(NODE_SETTINGS), 8)}
}}
""")
    print(f"{OUTPUT.name}: {len(found.functions)} functions and types, "
          f"{len(found.functions) - len(groups[READ])} need the primary")


if __name__ == "__main__":
    main()
