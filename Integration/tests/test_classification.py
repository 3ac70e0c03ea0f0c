"""Every statement of corpus.sql that is called a read runs on a standby; what the standby refuses is written there.

The classes themselves are checked by the unit tests, from the same file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest
from psycopg import pq

from builtin_functions import READ, RUNS_QUERIES, rule
from cluster import Cluster
from replicated import ReplicatedCluster

pytestmark = pytest.mark.one_loop

CORPUS = Path(__file__).parent / "corpus.sql"
READ_ONLY_SQL_TRANSACTION = "25006"
OBJECT_NOT_IN_PREREQUISITE_STATE = "55000"

# Functions that the table of the classifier calls reading, with a value for each argument. Those that only the server
# itself can call are left out.
CALLS = """
    SELECT format('SELECT %I.%I(%s)', 'pg_catalog', proname, (
        SELECT string_agg(CASE
            WHEN type IN ('int4', 'int8', 'int2', 'oid', 'float8', 'float4', 'numeric', 'xid', 'xid8', 'regclass') THEN '1'
            WHEN type IN ('text', 'name', 'bpchar', 'varchar', 'bytea', 'json', 'jsonb') THEN quote_literal('1')
            WHEN type = 'bool' THEN 'true'
            WHEN type = 'interval' THEN quote_literal('1 millisecond')
            WHEN type LIKE 'timestamp%' OR type = 'date' THEN quote_literal('2024-01-01')
            ELSE 'NULL' END || CASE WHEN type LIKE 'any%' OR type = 'record' THEN '' ELSE '::' || type END, ', ' ORDER BY place)
        FROM (SELECT t.typname AS type, place FROM unnest(proargtypes) WITH ORDINALITY AS a (oid, place) JOIN pg_type t USING (oid)) x
    )), proname
    FROM pg_proc p
    WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind = 'f' AND NOT EXISTS (
        SELECT FROM pg_type t WHERE t.oid = ANY (proargtypes || prorettype) AND t.typtype = 'p'
        AND t.typname IN ('internal', 'cstring', 'trigger', 'event_trigger', 'language_handler', 'fdw_handler', 'index_am_handler',
                          'tsm_handler', 'table_am_handler', 'pg_ddl_command'))
    ORDER BY 1
"""


class Line(NamedTuple):
    number: int
    kind: str
    # The error a standby has to answer with.
    state: str | None
    statement: str


def corpus() -> list[Line]:
    lines = []
    for number, text in enumerate(CORPUS.read_text().splitlines(), 1):
        if " | " not in text or text.startswith("#"):
            continue
        head, statement = text.split(" | ", 1)
        state = re.search(r"\[(\w{5})\]", head)
        lines.append(Line(number, head.split()[0], state[1] if state else None, statement))
    return lines


@pytest.fixture(scope="module")
def standby() -> Iterator[Cluster]:
    cluster = ReplicatedCluster(1)
    try:
        cluster.start()
        with cluster.primary.connect(dbname="app") as connection:
            for line in corpus():
                if line.kind == "setup":
                    connection.execute(line.statement)
        cluster.wait_caught_up()
        yield cluster.nodes["replica1"]
    finally:
        cluster.remove()


def run(connection: psycopg.Connection, statement: str) -> str | None:
    """The SQLSTATE of a statement's error; it runs in a transaction of its own that is rolled back."""
    server = connection.pgconn
    server.exec_(b"BEGIN")
    server.send_query(statement.encode())
    state = None
    while result := server.get_result():
        if result.status == pq.ExecStatus.COPY_OUT:
            while server.get_copy_data(0)[0] > 0:
                pass
        elif result.status == pq.ExecStatus.FATAL_ERROR:
            state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"?").decode()
    server.exec_(b"ROLLBACK")
    return state


def test_reads_run_on_a_standby(standby: Cluster) -> None:
    wrong = []
    count = rescued = 0
    with standby.connect(dbname="app") as connection:
        assert connection.execute("SELECT pg_is_in_recovery()").fetchone() == (True,)
        for line in corpus():
            if line.kind == "read":
                count += 1
                state = run(connection, line.statement)
                rescued += state == READ_ONLY_SQL_TRANSACTION
                if state != line.state:
                    wrong.append((state, *line))
    assert count > 150
    assert not wrong, "\n".join(map(str, wrong))
    print(f"{count} reads run on a standby, {rescued} of them for the safety net")


def test_functions_that_only_read_run_on_a_standby(standby: Cluster) -> None:
    refused = []
    done = 0
    with standby.connect(dbname="app") as connection:
        calls = connection.execute(CALLS, prepare=False).fetchall()
        connection.execute("SET statement_timeout = '2s'")
        for call, name in calls:
            # What those meet is not theirs.
            if (rule(name) or READ) == READ and not re.fullmatch(RUNS_QUERIES, name):
                state = run(connection, call)
                done += state is None
                if state in (READ_ONLY_SQL_TRANSACTION, OBJECT_NOT_IN_PREREQUISITE_STATE):
                    refused.append((state, call))
    assert done > 1000
    assert not refused, "\n".join(map(str, refused))
