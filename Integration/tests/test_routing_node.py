"""What tells about the node is asked of the primary, in every form; settings of the session are shown by any node."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from common import wait_until
from routing import RERUNS, Routed

pytestmark = [pytest.mark.one_loop, pytest.mark.martlet("routing")]

# Each is false, or another value, on a replica.
NODE = """
    SELECT pg_is_in_recovery()
    SELECT pg_catalog.pg_is_in_recovery()
    SELECT * FROM pg_is_in_recovery()
    SELECT CASE WHEN pg_is_in_recovery() THEN 1 ELSE 0 END
    SELECT current_setting('transaction_read_only')
    SELECT current_setting('in_hot_standby')
    SELECT current_setting('In_Hot_Standby', true)
    SELECT current_setting('in_hot_' || 'standby')
    SELECT current_setting(name) FROM (VALUES ('transaction_read_only')) AS v (name)
    SELECT setting FROM pg_settings WHERE name = 'in_hot_standby'
    SELECT setting FROM pg_show_all_settings() WHERE name = 'transaction_read_only'
    SELECT current_setting('port')
    SELECT pg_postmaster_start_time()
    SELECT pg_last_wal_replay_lsn()
    SELECT pg_last_xact_replay_timestamp() IS NULL
    SELECT pg_current_wal_lsn() IS NOT NULL
    SELECT min_recovery_end_lsn FROM pg_control_recovery()
    SHOW transaction_read_only
    SHOW in_hot_standby
    SHOW port
    SELECT * FROM told
    SELECT * FROM computed
    SELECT n FROM watched
    SELECT 1::checked
""".strip().splitlines()

SCHEMA = """
    CREATE VIEW told AS SELECT pg_is_in_recovery(), current_setting('in_hot_standby');
    CREATE VIEW computed AS SELECT current_setting(n) FROM (VALUES ('in_hot_standby')) AS v (n);
    CREATE VIEW own AS SELECT current_setting('app.tenant', true) AS t, current_setting('work_mem'), current_user;
    CREATE TABLE watched (n int);
    INSERT INTO watched VALUES (1);
    ALTER TABLE watched ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
    CREATE POLICY watching ON watched USING (NOT pg_is_in_recovery());
    CREATE TABLE rented (n int);
    INSERT INTO rented VALUES (1);
    ALTER TABLE rented ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
    CREATE POLICY renting ON rented USING (COALESCE(current_setting('app.tenant', true), '') = '');
    CREATE DOMAIN checked AS int CHECK (NOT pg_is_in_recovery());
    CREATE UNLOGGED TABLE cache (n int);
    INSERT INTO cache SELECT generate_series(1, 5);
"""

SESSION = """
    SHOW work_mem
    SHOW TimeZone
    SHOW search_path
    SHOW TRANSACTION ISOLATION LEVEL
    SHOW server_version
    SELECT current_setting('work_mem')
    SELECT current_setting('app.tenant', true)
    SELECT t FROM own
    SELECT n FROM rented
    SELECT version()
    SELECT table_to_xml('pg_am', true, false, '')
    SELECT query_to_xmlschema('SELECT 1', true, false, '')
    EXPLAIN INSERT INTO watched VALUES (1)
    EXPLAIN DELETE FROM rented
""".strip().splitlines()


@contextmanager
def both(routed: Callable[..., Routed]) -> Iterator[tuple[Routed, psycopg.Connection, psycopg.Connection]]:
    """A client of the router, and one of the primary."""
    route = routed(schema=SCHEMA)
    wait_until(lambda: route.explain("SELECT 1::checked")["class"] == "primary", "the catalogue is known")
    with route.connect() as connection, route.direct() as direct:
        direct.execute("SET SESSION AUTHORIZATION app")
        yield route, connection, direct


def test_the_node_is_the_primary(routed: Callable[..., Routed]) -> None:
    wrong = {}
    with both(routed) as (route, connection, direct):
        for statement in map(str.strip, NODE):
            answer = connection.execute(statement).fetchall()
            if answer != (expected := direct.execute(statement).fetchall()):
                wrong[statement] = (answer, expected)
            assert route.explain(statement)["class"] == "primary", statement
    assert wrong == {}
    assert int(route.routes()["replica_reads"]) < len(NODE)


@pytest.mark.parametrize("behind", [[], ["SELECT 1"]], ids=["first", "behind a read"])
def test_the_node_is_the_primary_in_a_transaction(routed: Callable[..., Routed], behind: list[str]) -> None:
    """In a READ ONLY one, too, be it on a replica already."""
    wrong = {}
    with both(routed) as (route, connection, direct):
        for statement in map(str.strip, NODE):
            found = []
            for each in (connection, direct):
                for text in ("BEGIN READ ONLY", *behind):
                    each.execute(text)
                found.append(each.execute(statement).fetchall())
                each.execute("COMMIT")
            if found[0] != found[1]:
                wrong[statement] = found
        route.wait_replica(connection)
        connection.execute("BEGIN READ ONLY")
        for statement in map(str.strip, SESSION):
            connection.execute(statement).fetchall()
        assert route.is_replica(connection), "what is about the session has not sent it away"
    assert wrong == {}


def test_the_session_is_anywhere(routed: Callable[..., Routed]) -> None:
    route = routed(schema=SCHEMA)
    with route.connect() as connection:
        route.wait_replica(connection)
        for statement in map(str.strip, SESSION):
            before = int(route.routes()["replica_reads"])
            connection.execute(statement).fetchall()
            assert int(route.routes()["replica_reads"]) == before + 1, (statement, route.explain(statement))
    assert int(route.routes()[RERUNS]) == 0


@pytest.mark.parametrize("change", [
    "SET work_mem = '7MB'", "SELECT set_config('work_mem', '7MB', false)",
    "UPDATE pg_settings SET setting = '7MB' WHERE name = 'work_mem'"])
@pytest.mark.parametrize("question", ["SHOW work_mem", "SELECT current_setting('work_mem')"])
def test_a_setting_is_shown_where_it_was_changed(routed: Callable[..., Routed], change: str, question: str) -> None:
    """With one connection to each server, as directly, until DISCARD ALL."""
    route = routed(pool_size=1)
    with route.connect() as connection:
        route.wait_replica(connection)
        connection.execute(change)
        assert [connection.execute(question).fetchone() for _ in range(5)] == [("7MB",)] * 5
        connection.execute("DISCARD ALL")
        assert connection.execute(question).fetchone() == ("4MB",)


def test_pg_dump_dumps_unlogged_tables(routed: Callable[..., Routed]) -> None:
    """It asks whether the server is a standby, and leaves them out on one."""
    route = routed(schema=SCHEMA + "CREATE SEQUENCE ids; SELECT nextval('ids')")
    with route.connect() as connection:
        route.wait_replica(connection)

    def dump(host: str, port: int, dbname: str) -> str:
        command = route.cluster.primary.installation.command(
            "pg_dump", "--no-owner", "--enable-row-security", "-U", "app", "-h", host, "-p", str(port), dbname)
        found = subprocess.run(command, text=True, capture_output=True, timeout=60)
        assert found.returncode == 0, found.stderr
        # Of newer versions each dump has a key of its own.
        return "\n".join(line for line in found.stdout.splitlines() if "restrict" not in line)

    primary = route.cluster.primary
    expected = dump(primary.host, primary.port, route.database)
    assert "COPY public.cache" in expected
    assert dump("127.0.0.1", route.proxy.port, "app") == expected
