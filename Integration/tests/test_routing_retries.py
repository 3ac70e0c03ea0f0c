"""Reads that a replica lets down are answered all the same: it dies, is killed, or cancels them for its replay."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable

import psycopg
import pytest

import rawpg
from common import wait_until
from replicated import ReplicatedCluster
from routing import RERUNS, RETRIES, Crowd, Routed

pytestmark = pytest.mark.martlet("routing")

SCHEMA = "CREATE TABLE things (n int); INSERT INTO things SELECT generate_series(1, 100)"
# Holds a snapshot and a lock on the table for a while. Its first column is 100.
SLOW = "SELECT (SELECT count(*) FROM things), pg_sleep({}), inet_server_port()"
READERS = 16


@pytest.fixture
def wanted(request: pytest.FixtureRequest) -> int:
    """How many reads are to be let down and answered."""
    return 1000 if request.config.getoption("--long") else 50


class Readers:
    """Clients that read slowly, in rounds."""

    def __init__(self, route: Routed, seconds: float = 0.5) -> None:
        self.route = route
        self.query = SLOW.format(seconds)
        self.connections = [route.connect() for _ in range(READERS)]

    def __enter__(self) -> Readers:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self.connections:
            connection.close()

    def round(self, let_down: Callable[[], None]) -> None:
        """All read, over and over; when most are at it `let_down` is called; every answer must be right."""
        with Crowd(READERS, self._read) as crowd:
            wait_until(lambda: sum(len(self.running(name)) for name in self.route.cluster.replicas) >= READERS // 2,
                       "most of them are at it")
            let_down()
            crowd.stop()

    def _read(self, number: int, ended: threading.Event) -> None:
        while not ended.is_set():
            assert self.connections[number].execute(self.query).fetchone()[0] == 100

    def running(self, name: str) -> list[int]:
        """The backends of a server that are at it."""
        return [pid for pid, state, query in self.route.cluster.nodes[name].backends(self.route.database)
                if state == "active" and query == self.query]


def counted(route: Routed) -> int:
    return int(route.routes()[RETRIES])


def test_backends_terminated(routed: Callable[..., Routed], wanted: int) -> None:
    """pg_terminate_backend: 57P01, and the connection is gone."""
    route = routed(schema=SCHEMA, settings={"default_pool_size": READERS})
    before = counted(route)
    with Readers(route) as readers, route.direct("replica1") as replica:
        def terminate() -> None:
            # All at once: who is ended after its answer has nothing to be retried.
            pids = readers.running("replica1")
            replica.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) pid", (pids,))

        while counted(route) - before < wanted:
            readers.round(terminate)


def test_replica_killed(
    routed: Callable[..., Routed], own_replicas: Callable[..., ReplicatedCluster], wanted: int
) -> None:
    """The whole server dies, connections break without a word."""
    cluster = own_replicas()
    route = routed(cluster, schema=SCHEMA, settings={"default_pool_size": READERS})
    killed = 0
    with Readers(route) as readers:
        for name in itertools.cycle(("replica1", "replica2")):
            if killed >= wanted:
                break

            def kill() -> None:
                nonlocal killed
                killed += len(readers.running(name))
                cluster.kill(name)

            readers.round(kill)
            cluster.start_node(name)
            route.wait_known()


@pytest.mark.parametrize("how", ["VACUUM", "lock"])
def test_conflict_with_recovery(
    routed: Callable[..., Routed], own_replicas: Callable[..., ReplicatedCluster], wanted: int, how: str
) -> None:
    """40001: the replica cancels what stands in the way of its replay."""
    cluster = own_replicas(settings={"max_standby_streaming_delay": "0"})
    route = routed(cluster, schema=SCHEMA, settings={"default_pool_size": READERS})
    before = counted(route)
    with Readers(route) as readers, route.direct() as primary:
        def conflict() -> None:
            if how == "VACUUM":
                # Whenever a reader takes its snapshot there are 100 rows, and 100 dead ones to be cleaned away.
                primary.execute("UPDATE things SET n = n")
                primary.execute("VACUUM things")
            else:
                primary.execute("BEGIN; LOCK TABLE things; COMMIT")

        while counted(route) - before < wanted:
            readers.round(conflict)


def test_not_after_the_first_byte(routed: Callable[..., Routed]) -> None:
    """A read that has been answered in part fails with its replica: nobody must see rows twice."""
    route = routed(schema=SCHEMA)
    with route.connect() as connection:
        rows = "SELECT repeat('x', 10000), inet_server_port() FROM generate_series(1, 100000)"
        with pytest.raises(psycopg.OperationalError), connection.cursor() as cursor:
            for number, row in enumerate(cursor.stream(rows)):
                if number == 0:
                    name = route.cluster.name_of(row[1])
                    pids = [pid for pid, _, query in route.cluster.nodes[name].backends(route.database)
                            if query == rows]
                    assert len(pids) == 1
                    route.cluster.nodes[name].value("SELECT pg_terminate_backend(%s)", pids[0])


def terminate_all(route: Routed, query: str) -> bool:
    """Ends the backends that run this, wherever; whether there were any."""
    return signal_all(route, query, "SELECT pg_terminate_backend(%s, 5000)")


def cancel_all(route: Routed, query: str) -> bool:
    """Cancels what runs this, wherever; whether there was anything."""
    return signal_all(route, query, "SELECT pg_cancel_backend(%s)")


def signal_all(route: Routed, query: str, signal: str) -> bool:
    # Found before the first is signalled: what is let down here may soon run there, and is not meant.
    found = [
        (node, pid) for node in route.cluster.nodes.values()
        for pid, state, running in node.backends(route.database) if state == "active" and running == query]
    return any([node.value(signal, pid) for node, pid in found])


def test_what_came_behind_is_answered_too(routed: Callable[..., Routed]) -> None:
    """Requests that a client has sent ahead wait for the one that is tried elsewhere, and come in their order."""
    route = routed(schema=SCHEMA)
    query = SLOW.format(20)
    with rawpg.Connection("127.0.0.1", route.proxy.port) as connection:
        connection.login()
        connection.send(rawpg.query(query), rawpg.query("SELECT 1"), rawpg.parse("SELECT 2"), rawpg.bind(),
                        rawpg.execute(), rawpg.SYNC)
        wait_until(lambda: terminate_all(route, query), "terminated")
        connection.send(rawpg.query("SELECT 3"))
        wait_until(lambda: cancel_all(route, query), "cancelled, elsewhere")
        answers = connection.read_until(count=4)
    assert next(message for message in answers if message.type == "E").sqlstate == "57014"
    assert [message.values() for message in answers if message.type == "D"] == [[b"1"], [b"2"], [b"3"]]


def test_a_read_twice_let_down_fails(routed: Callable[..., Routed]) -> None:
    """Once more elsewhere, not for ever."""
    route = routed(schema=SCHEMA)
    query = SLOW.format(20)
    with route.connect() as connection:
        crowd = Crowd(1, lambda *_: connection.execute(query))
        wait_until(lambda: terminate_all(route, query), "terminated once")
        wait_until(lambda: terminate_all(route, query), "terminated again, elsewhere")
        with pytest.raises(psycopg.OperationalError):
            crowd.join(10)


def test_retries_can_be_switched_off(routed: Callable[..., Routed]) -> None:
    route = routed(schema=SCHEMA, settings={"retry_reads": 0})
    query = SLOW.format(20)
    with route.connect() as connection:
        crowd = Crowd(1, lambda *_: connection.execute(query))
        wait_until(lambda: terminate_all(route, query), "terminated")
        with pytest.raises(psycopg.OperationalError):
            crowd.join(10)


# The safety net: what looks like a read and is none

HIDDEN = """
    CREATE SEQUENCE numbers;
    CREATE FUNCTION next() RETURNS bigint STABLE LANGUAGE plpgsql AS 'BEGIN RETURN nextval(''numbers''); END';
    CREATE VIEW next_number AS SELECT next() AS n, inet_server_port();
    CREATE TABLE log (n int);
    CREATE FUNCTION put(n int) RETURNS int LANGUAGE sql AS 'INSERT INTO log VALUES (n) RETURNING n';
    CREATE FUNCTION liar(n int) RETURNS int STABLE LANGUAGE sql AS 'SELECT put(n)';
"""


@pytest.mark.parametrize("prepare", [False, True])
@pytest.mark.parametrize("query", ["SELECT * FROM next_number", "SELECT liar(1), inet_server_port()"])
def test_a_write_in_disguise(routed: Callable[..., Routed], query: str, prepare: bool) -> None:
    """The replica refuses it, the primary runs it, and the next of its kind goes there at once."""
    route = routed(schema=HIDDEN)
    before = int(route.routes()[RERUNS])
    with route.connect() as connection:
        for _ in range(5):
            assert route.where(connection, query, prepare=prepare) == "primary"
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    assert 1 <= int(route.routes()[RERUNS]) - before <= 2, "once for each reactor that has to learn it"


def test_a_write_in_disguise_counts_as_a_write(routed: Callable[..., Routed]) -> None:
    route = routed(schema=HIDDEN)
    with route.connect() as connection, route.standing_still():
        connection.execute("SELECT liar(7)")
        assert connection.execute("SELECT n FROM log").fetchall() == [(7,)]


def test_after_rows_that_nobody_has_seen(routed: Callable[..., Routed]) -> None:
    """What a server sends of a small answer before an error comes together with it."""
    route = routed(schema=HIDDEN)
    with route.connect() as connection:
        rows = connection.execute(
            "SELECT n, CASE WHEN n = 3 THEN liar(n) END, inet_server_port() FROM generate_series(1, 3) n").fetchall()
        assert [row[0] for row in rows] == [1, 2, 3]
        assert {route.cluster.name_of(row[2]) for row in rows} == {"primary"}


def test_a_refusal_in_a_read_only_transaction_is_an_error(routed: Callable[..., Routed]) -> None:
    """There it is what was asked for, and PostgreSQL's primary says the same."""
    route = routed(schema=HIDDEN)
    with route.connect() as connection:
        connection.execute("BEGIN READ ONLY")
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("SELECT * FROM next_number")
        connection.execute("ROLLBACK")


def test_the_safety_net_can_be_taken_away(routed: Callable[..., Routed]) -> None:
    route = routed(schema=HIDDEN, settings={"rerun_refused": 0})
    with route.connect() as connection, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        connection.execute("SELECT * FROM next_number")
