"""Writes Sources/SQL/BuiltinFunctions+Table.swift: the functions of pg_catalog, and which of them need the primary.

The names come from the catalogue of a PostgreSQL that is started for it, and of a newer one in Integration/.cache/testing
if that is there. The judgement is here: RULES. A function that may change or that tells something about its node (it is
volatile, or its name begins like those of the system) must be named by a rule; the script fails if one is not, so that
each new function is looked at once.
"""

from __future__ import annotations

import os
import re
import textwrap
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
    (r"lo_get|lo_open|lo_close|loread|lo_lseek(64)?|lo_tell(64)?", LARGE_OBJECT_READ),
    (r"lo_.*|lowrite", LARGE_OBJECT),
    (r"txid_current|pg_current_xact_id", XID),
    (r"(txid|pg)_current_snapshot|.*_current(_xact_id)?_if_assigned|txid_status|pg_xact_.*|pg_last_committed_xact|"
     r"pg_get_multixact_members", XID_STATE),
    (r"pg_notify", NOTIFY),
    (r"(query|cursor|table|schema|database)_to_xml.*|ts_stat|ts_rewrite", ANY_QUERY),
    (r"set_config", SETTING),
    (r"setseed", SEED),
    # Of the server that happens to run it: with a pooler in between nobody may rely on which one that is.
    (r"current_setting|pg_backend_pid|inet_server_.*|pg_is_in_recovery|pg_last_wal_.*|pg_last_xact_replay_timestamp|"
     r"pg_postmaster_start_time|pg_conf_load_time", READ),
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
     r"pg_settings_get_flags", NODE),
    # Volatile or of the system, and yet the same everywhere and without effect.
    (r"random|random_normal|gen_random_uuid|uuidv[47]|clock_timestamp|timeofday|current_query|array_(sample|shuffle)",
     READ),
    (r"pg_sleep.*|pg_jit_available|pg_numa_available|pg_get_wal_resource_managers|pg_.*_actual_version|pg_.*_size", READ),
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

QUERY = """
    SELECT proname, bool_or(provolatile = 'v' OR provolatile = 's' AND proname LIKE 'pg\\_%') FROM pg_proc
    WHERE pronamespace = 'pg_catalog'::regnamespace GROUP BY 1
    UNION ALL -- a type's name is called like a function, too
    SELECT typname, false FROM pg_type
    WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype IN ('b', 'r', 'm') AND typelem = 0
"""


def functions(installation: Installation) -> dict[str, bool]:
    """Names, and whether a rule has to name them."""
    cluster = Cluster(installation)
    cluster.start()
    try:
        with cluster.connect(dbname="postgres") as connection:
            found: dict[str, bool] = {}
            for name, needs_rule in connection.execute(QUERY).fetchall():
                found[name] = found.get(name, False) or needs_rule
            return found
    finally:
        cluster.stop()


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


def swift_string(names: list[str], indent: int) -> str:
    margin = " " * indent
    lines = textwrap.wrap(" ".join(names), 119 - indent, break_long_words=False, break_on_hyphens=False)
    return f'"""\n' + " \\\n".join(margin + line for line in lines) + f'\n{margin}"""'


def main() -> None:
    found: dict[str, bool] = {}
    versions = []
    for installation in installations():
        versions.append(installation.version().split(".")[0])
        for name, needs_rule in functions(installation).items():
            found[name] = found.get(name, False) or needs_rule
    unknown = sorted(name for name, needs_rule in found.items() if needs_rule and rule(name) is None)
    if unknown:
        raise SystemExit("builtin-functions: no rule for " + " ".join(unknown))
    groups: dict[tuple[str, bool, str], list[str]] = {}
    for name in sorted(found):
        group = rule(name) or READ
        groups.setdefault(group, []).append(name)
    assert all(re.fullmatch(r"[A-Za-z0-9_]+", name) for name in found if name != "char")
    table = "\n".join(
        f"        Group(\n            kind: .{kind}, binds: {str(binds).lower()}, reason: \"{reason}\",\n"
        f"            names: {swift_string(names, 16)}),"
        for (kind, binds, reason), names in sorted(groups.items()) if kind != "read")
    OUTPUT.write_text(f"""\
// Made by Integration/builtin-functions from the catalogues of PostgreSQL {" and ".join(versions)}. The rules are there.

extension BuiltinFunctions {{
    /// The functions that need the primary.
    static let groups: [Group] = [
{table}
    ]

    /// All other functions and types, in the order of their bytes, divided by single blanks.
    static let readOnly = {swift_string(groups[READ], 8)}
}}
""")
    print(f"{OUTPUT.name}: {len(found)} functions and types, {len(found) - len(groups[READ])} need the primary")


if __name__ == "__main__":
    main()
