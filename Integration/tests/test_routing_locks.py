"""Advisory locks are the primary's, in READ ONLY transactions too: on a replica they would lock nobody out."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from rawpg import SYNC, Connection, bind, execute, parse
from routing import WHERE, Routed

pytestmark = pytest.mark.martlet("routing")

SCHEMA = """
    CREATE TABLE things (n int);
    CREATE FUNCTION taken() RETURNS bool LANGUAGE sql AS 'SELECT pg_try_advisory_xact_lock(1)';
    CREATE VIEW taking AS SELECT pg_try_advisory_xact_lock(1) AS taken;
"""
LOCKS = ["SELECT pg_try_advisory_xact_lock(1)", "SELECT taken()", "SELECT taken FROM taking"]


@pytest.fixture
def route(routed: Callable[..., Routed]) -> Routed:
    return routed(schema=SCHEMA)


def is_locked(route: Routed) -> bool:
    with route.direct() as primary:
        return primary.execute(
            "SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database "
            "WHERE locktype = 'advisory' AND datname = current_database()").fetchone()[0] > 0


@pytest.mark.parametrize("lock", LOCKS)
@pytest.mark.parametrize("begin", ["BEGIN READ ONLY", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"])
def test_a_transaction_that_begins_with_a_lock(route: Routed, begin: str, lock: str) -> None:
    with route.connect() as connection:
        connection.execute(begin)
        assert connection.execute(lock).fetchone() == (True,)
        assert is_locked(route)
        assert not route.is_replica(connection)
        connection.execute("COMMIT")
        assert not is_locked(route)


@pytest.mark.parametrize("prepare", [False, True])
@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_behind_a_read(route: Routed, lock: str, prepare: bool) -> None:
    """The transaction goes on on the primary."""
    with route.connect() as connection:
        connection.execute("BEGIN READ ONLY")
        assert route.is_replica(connection)
        assert connection.execute(lock, prepare=prepare).fetchone() == (True,)
        assert is_locked(route)
        assert not route.is_replica(connection)
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("INSERT INTO things VALUES (1)")
        connection.execute("ROLLBACK")
        assert not is_locked(route)


@pytest.mark.parametrize("begin, bind_it", [
    ("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", None), ("BEGIN READ ONLY", "SAVEPOINT s"),
    ("BEGIN READ ONLY", "SET LOCAL work_mem = '1MB'"), ("BEGIN READ ONLY", "DECLARE c CURSOR FOR SELECT 1")])
@pytest.mark.parametrize("prepare", [False, True])
def test_a_transaction_that_cannot_leave(route: Routed, begin: str, bind_it: str | None, prepare: bool) -> None:
    """An error is better than a lock that is none."""
    with route.connect() as connection:
        connection.execute(begin)
        assert route.is_replica(connection)
        if bind_it:
            connection.execute(bind_it)
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="SET martlet.route = 'primary'"):
            connection.execute(LOCKS[0], prepare=prepare)
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            connection.execute("SELECT 1")
        connection.execute("ROLLBACK")
        assert route.where(connection)
        connection.execute("SET martlet.route = primary")
        connection.execute(begin)
        assert connection.execute(LOCKS[0]).fetchone() == (True,)
        assert is_locked(route)
        connection.execute("ROLLBACK")


def test_who_insists_on_a_replica_gets_its_lock(route: Routed) -> None:
    with route.connect() as connection:
        connection.execute("SET martlet.route = replica")
        connection.execute("BEGIN READ ONLY")
        assert route.is_replica(connection)
        assert connection.execute("SELECT pg_try_advisory_xact_lock(1)").fetchone() == (True,)
        assert route.is_replica(connection)
        connection.execute("COMMIT")


def test_a_lock_in_a_batch(route: Routed) -> None:
    with Connection(route.proxy.host, route.proxy.port).login() as connection:
        assert connection.simple("BEGIN READ ONLY") == []
        assert route.cluster.name_of(int(connection.simple(WHERE)[0][0])) in route.cluster.replicas
        answer = connection.ask(
            parse("SELECT 1"), bind(), execute(), parse(LOCKS[0]), bind(), execute(), SYNC)
        assert [each.values() for each in answer if each.type == "D"] == [[b"1"], [b"t"]]
        assert is_locked(route)
        connection.simple("COMMIT")
