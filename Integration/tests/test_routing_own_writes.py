"""A client that reads finds what it has just written, however far behind the replicas are."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable

import asyncpg
import psycopg
import pytest

from common import wait_until
from replicated import ReplicatedCluster
from routing import WHERE, Crowd, Routed, Weather

pytestmark = pytest.mark.martlet("routing")

SCHEMA = """
    CREATE TABLE written (client int NOT NULL, n int NOT NULL);
    CREATE INDEX ON written (client, n);
    CREATE FUNCTION put(client int, n int) RETURNS int LANGUAGE sql AS
        'INSERT INTO written VALUES (client, n) RETURNING n';
"""
READ = "SELECT coalesce(max(n), 0), inet_server_port() FROM written WHERE client = %s"
CLIENTS = 50


def autocommit(connection: psycopg.Connection, client: int, n: int) -> None:
    connection.execute("INSERT INTO written VALUES (%s, %s)", (client, n))


def transaction(connection: psycopg.Connection, client: int, n: int) -> None:
    with connection.transaction():
        connection.execute(READ, (client,))
        connection.execute("INSERT INTO written VALUES (%s, %s)", (client, n))


def cte(connection: psycopg.Connection, client: int, n: int) -> None:
    connection.execute(
        "WITH new AS (INSERT INTO written VALUES (%s, %s) RETURNING n) SELECT n FROM new", (client, n))


def function(connection: psycopg.Connection, client: int, n: int) -> None:
    connection.execute("SELECT put(%s, %s)", (client, n))


def copy(connection: psycopg.Connection, client: int, n: int) -> None:
    with connection.cursor().copy("COPY written FROM STDIN") as stream:
        stream.write_row((client, n))


def pipeline(connection: psycopg.Connection, client: int, n: int) -> None:
    with connection.pipeline():
        connection.execute(READ, (client,))
        connection.execute("INSERT INTO written VALUES (%s, %s)", (client, n))
        connection.execute("SELECT 1")


WAYS = [autocommit, transaction, cte, function, copy, pipeline]


class Writers:
    """Clients that write by one of the ways and read at once what they have written."""

    def __init__(self, routed: Routed, *, seconds: float = 0, rounds: int = 0, ways: list = WAYS, **session: object):
        self.routed = routed
        self.ways = ways
        self.session = session
        self.seconds = seconds
        self.per_client = rounds // CLIENTS if rounds else 0
        self.rounds = 0
        self.replica_reads = 0
        self.stale: list[str] = []
        self._lock = threading.Lock()

    def run(self, until_stale: bool = False) -> Writers:
        self.deadline = time.monotonic() + (self.seconds or 1700)
        self.until_stale = until_stale
        Crowd(CLIENTS, self._client).join(self.seconds + 1750)
        return self

    def _client(self, client: int, ended: threading.Event) -> None:
        dice = random.Random(client)
        with self.routed.connect(**self.session) as connection:
            for n in itertools.count(1):
                if ended.is_set() or time.monotonic() > self.deadline or n > (self.per_client or n) or (
                        self.until_stale and self.stale):
                    return
                way = dice.choice(self.ways)
                way(connection, client, n)
                self._read(connection, client, n, f"at once, {way.__name__}")
                if dice.random() < 0.2:
                    pause = dice.uniform(0, 0.06)
                    time.sleep(pause)
                    self._read(connection, client, n, f"after {pause * 1000:.0f} ms, {way.__name__}")
                with self._lock:
                    self.rounds += 1

    def _read(self, connection: psycopg.Connection, client: int, n: int, how: str) -> None:
        found, port = connection.execute(READ, (client,)).fetchone()
        name = self.routed.cluster.name_of(port)
        with self._lock:
            self.replica_reads += name in self.routed.cluster.replicas
            if found != n:
                self.stale.append(f"client {client} wrote {n} and found {found} on {name} {how}")


def check(writers: Writers) -> None:
    print(f"{writers.rounds} rounds, {writers.replica_reads} reads on replicas, {len(writers.stale)} stale")
    assert not writers.stale, f"{len(writers.stale)} of {writers.rounds}, the first: {writers.stale[:3]}"
    assert writers.replica_reads, "no read has gone to a replica: this proves nothing"


# Statement by statement: with replicas that stand still there is nothing to chance.

@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_after_each_kind_of_write(routed: Callable[..., Routed], way: Callable[..., None]) -> None:
    route = routed(schema=SCHEMA)
    with route.connect() as writer, route.connect() as other:
        assert route.is_replica(writer) and route.is_replica(other)
        with route.standing_still():
            way(writer, 1, 7)
            for _ in range(3):
                found, port = writer.execute(READ, (1,)).fetchone()
                assert (found, route.cluster.name_of(port)) == (7, "primary")
            found, port = other.execute(READ, (1,)).fetchone()
            assert found == 0 and route.cluster.name_of(port) in route.cluster.replicas, "others still read replicas"
        route.wait_replica(writer)
        assert writer.execute(READ, (1,)).fetchone()[0] == 7


@pytest.mark.parametrize("texts", [
    ["BEGIN", "INSERT INTO written VALUES (1, 7)", "COMMIT AND CHAIN", "ROLLBACK"],
    ["BEGIN; INSERT INTO written VALUES (1, 7); COMMIT; BEGIN", "ROLLBACK"],
    ["BEGIN; INSERT INTO written VALUES (1, 7); COMMIT; SELECT 1/0"],
    ["BEGIN", "SAVEPOINT a", "INSERT INTO written VALUES (1, 7)", "SAVEPOINT b", "ROLLBACK TO b", "COMMIT"],
    ["DO 'BEGIN INSERT INTO written VALUES (1, 7); COMMIT; RAISE EXCEPTION ''late''; END'"],
    ["PREPARE TRANSACTION"],
    ["/* martlet: route=replica */ INSERT INTO written VALUES (1, 7)"],
    ["EXPLAIN ANALYZE INSERT INTO written VALUES (1, 7)"],
], ids=" | ".join)
def test_after_a_write_with_a_strange_end(
    routed: Callable[..., Routed], own_replicas: Callable[..., ReplicatedCluster], texts: list[str]
) -> None:
    """What was committed was committed, whatever came behind it."""
    prepared = texts == ["PREPARE TRANSACTION"]
    if prepared:
        texts = ["BEGIN", "INSERT INTO written VALUES (1, 7)", "PREPARE TRANSACTION 'x'", "COMMIT PREPARED 'x'"]
    route = routed(own_replicas(settings={"max_prepared_transactions": "2"}) if prepared else None, schema=SCHEMA)
    with route.connect() as connection:
        route.wait_replica(connection)
        with route.standing_still():
            for text in texts:
                try:
                    connection.execute(text)
                except (psycopg.errors.DivisionByZero, psycopg.errors.RaiseException):
                    pass
            for _ in range(3):
                found, port = connection.execute(READ, (1,)).fetchone()
                assert (found, route.cluster.name_of(port)) == (7, "primary")
        route.wait_replica(connection)


def test_after_a_large_answer(routed: Callable[..., Routed]) -> None:
    """With a session key: the other connection, perhaps on another reactor, asks as soon as this one has its answer."""
    route = routed(schema=SCHEMA, settings={"threads": 4})
    for name in route.cluster.replicas:
        route.cluster.lag(name, "50ms")
    pairs = []
    for number in range(8):
        options = f"-c martlet.session_key=pair{number}"
        pairs.append((route.connect(options=options), route.connect(options=options)))
    for n in range(1, 41):
        for number, (writer, reader) in enumerate(pairs):
            writer.execute("INSERT INTO written VALUES (%s, %s) RETURNING repeat('x', 100000)", (number, n))
            assert reader.execute(READ, (number,)).fetchone()[0] == n
    for pair in pairs:
        for connection in pair:
            connection.close()


def test_after_a_write_that_failed(routed: Callable[..., Routed]) -> None:
    """What was rolled back need not be seen, and the client gets back to the replicas."""
    route = routed(schema=SCHEMA)
    with route.connect() as connection:
        with pytest.raises(psycopg.errors.NotNullViolation):
            connection.execute("INSERT INTO written VALUES (1, NULL)")
        with pytest.raises(psycopg.errors.DivisionByZero), connection.transaction():
            connection.execute("INSERT INTO written VALUES (1, 1)")
            connection.execute("SELECT 1/0")
        route.wait_replica(connection)
        assert connection.execute(READ, (1,)).fetchone()[0] == 0


# Under load

@pytest.mark.parametrize("synchronous_commit", ["on", "off"])
def test_under_changing_lag(routed: Callable[..., Routed], synchronous_commit: str) -> None:
    route = routed(schema=SCHEMA)
    with Weather(route.cluster, {"replica1": ["0", "5ms", "50ms", "500ms"], "replica2": ["0"]}, paused="replica2"):
        check(Writers(route, seconds=5, options=f"-c synchronous_commit={synchronous_commit}").run())


CHANGING = {"replica1": ["0", "5ms", "50ms", "500ms"], "replica2": ["0"]}


@pytest.mark.parametrize("seconds", [4, pytest.param(60, marks=pytest.mark.long)])
@pytest.mark.parametrize("threshold", [0, 3])
def test_with_prepared_statements(routed: Callable[..., Routed], threshold: int, seconds: float) -> None:
    route = routed(schema=SCHEMA, settings={"threads": 4})
    with Weather(route.cluster, CHANGING, paused="replica2"):
        check(Writers(route, seconds=seconds, prepare_threshold=threshold).run())


@pytest.mark.parametrize("seconds", [4, pytest.param(60, marks=pytest.mark.long)])
def test_over_two_connections_under_a_key(routed: Callable[..., Routed], seconds: float) -> None:
    """Written on one, read on the other, on whatever reactors they are."""
    route = routed(schema=SCHEMA, settings={"threads": 4})
    stale: list[str] = []
    rounds: Counter[str] = Counter()
    deadline = time.monotonic() + seconds

    def work(client: int, ended: threading.Event) -> None:
        dice = random.Random(client)
        options = f"-c martlet.session_key=client{client}"
        with route.connect(options=options) as one, route.connect(options=options) as other:
            for n in itertools.count(1):
                if ended.is_set() or time.monotonic() > deadline:
                    return
                writer, reader = dice.sample([one, other], 2)
                dice.choice(WAYS)(writer, client, n)
                found, port = reader.execute(READ, (client,)).fetchone()
                rounds[route.cluster.name_of(port)] += 1
                if found != n:
                    stale.append(f"client {client} wrote {n} and found {found} on {route.cluster.name_of(port)}")
                time.sleep(dice.choice([0, 0, 0.03, 0.06]))

    with Weather(route.cluster, CHANGING, paused="replica2"):
        Crowd(20, work).join(seconds + 60)
    print(dict(rounds))
    assert not stale, stale[:3]


@pytest.mark.parametrize("cache", [0, 100])
@pytest.mark.parametrize("seconds", [4, pytest.param(60, marks=pytest.mark.long)])
def test_with_asyncpg(routed: Callable[..., Routed], cache: int, seconds: float) -> None:
    """It prepares with a Flush, binds later, and asks for one row."""
    route = routed(schema=SCHEMA, settings={"threads": 4})
    where: Counter[str] = Counter()
    deadline = time.monotonic() + seconds

    async def write(connection: asyncpg.Connection, client: int, n: int, how: int) -> None:
        if how == 0:
            await connection.execute("INSERT INTO written VALUES ($1, $2)", client, n)
        elif how == 1:
            assert await connection.fetchval("SELECT put($1, $2)", client, n) == n
        elif how == 2:
            async with connection.transaction():
                await connection.fetchrow("SELECT 1")
                await connection.fetchval("INSERT INTO written VALUES ($1, $2) RETURNING n", client, n)
        elif how == 3:
            await connection.executemany("INSERT INTO written VALUES ($1, $2)", [(client, n)])
        elif how == 4:
            await connection.copy_records_to_table("written", records=[(client, n)])
        else:
            await connection.execute(f"INSERT INTO written VALUES ({client}, {n})")

    async def work(client: int) -> None:
        dice = random.Random(client)
        connection = await asyncpg.connect(route.proxy.dsn(), statement_cache_size=cache, timeout=20)
        for n in itertools.count(1):
            if time.monotonic() > deadline:
                break
            how = dice.randrange(6)
            await write(connection, client, n, how)
            for _ in range(dice.randint(1, 2)):
                found, port = await connection.fetchrow(
                    "SELECT coalesce(max(n), 0), inet_server_port() FROM written WHERE client = $1", client, timeout=20)
                where[route.cluster.name_of(port)] += 1
                assert found == n, f"client {client} wrote {n} by way {how} and found {found}"
                await asyncio.sleep(dice.choice([0, 0, 0.03, 0.06]))
        await connection.close()

    async def all_of_them() -> None:
        await asyncio.gather(*(work(client) for client in range(20)))

    with Weather(route.cluster, CHANGING, paused="replica2"):
        asyncio.run(all_of_them())
    print(dict(where))
    assert where.keys() - {"primary"}, "no read has gone to a replica: this proves nothing"


@pytest.mark.long
@pytest.mark.parametrize("synchronous_commit", ["on", "off"])
@pytest.mark.parametrize("delay", ["0", "5ms", "50ms", "500ms"])
def test_25_000_rounds(routed: Callable[..., Routed], delay: str, synchronous_commit: str) -> None:
    """Eight of these are 200,000."""
    route = routed(schema=SCHEMA)
    with Weather(route.cluster, {"replica1": [delay]}, paused="replica2"):
        check(Writers(route, rounds=25_000, options=f"-c synchronous_commit={synchronous_commit}").run())


def test_without_care_it_finds_stale_reads(routed: Callable[..., Routed]) -> None:
    """The same with read_after_write=off: so the tests above can fail."""
    route = routed(schema=SCHEMA, read_after_write="off")
    for name in route.cluster.replicas:
        route.cluster.lag(name, "50ms")
    assert Writers(route, seconds=10, ways=[autocommit]).run(until_stale=True).stale


# Waiting for a replica

def test_a_read_waits_for_a_replica(routed: Callable[..., Routed]) -> None:
    route = routed(schema=SCHEMA, replica_wait="5s")
    for name in route.cluster.replicas:
        route.cluster.lag(name, "100ms")
    with route.connect() as connection:
        for n in range(1, 6):
            autocommit(connection, 1, n)
            found, port = connection.execute(READ, (1,)).fetchone()
            assert found == n and route.cluster.name_of(port) in route.cluster.replicas


def test_a_read_does_not_wait_for_ever(routed: Callable[..., Routed]) -> None:
    route = routed(schema=SCHEMA, replica_wait="300ms")
    with route.connect() as connection, route.standing_still():
        autocommit(connection, 1, 1)
        begin = time.monotonic()
        found, port = connection.execute(READ, (1,)).fetchone()
        waited = time.monotonic() - begin
        assert (found, route.cluster.name_of(port)) == (1, "primary")
        assert 0.29 <= waited < 3


# read_after_write=window: time alone

def test_the_window_is_the_writers_own(routed: Callable[..., Routed]) -> None:
    """Within it the writer reads on the primary and others do not; after it the writer is back on a replica."""
    window = 1.0
    route = routed(schema=SCHEMA, read_after_write="window", read_after_write_window="1s")
    with route.connect() as writer, route.connect() as other:
        assert route.is_replica(writer)
        sent = time.monotonic()
        autocommit(writer, 1, 1)
        done = time.monotonic()
        late = []

        def back() -> bool:
            begun = time.monotonic()
            name = route.where(writer)
            if time.monotonic() < sent + window:
                assert name == "primary", f"a read {begun - sent:.2f} s after the write"
            elif begun > done + window + 0.2:
                late.append(name)
            assert route.is_replica(other)
            return bool(late)

        wait_until(back, "the window is over", 10, interval=0.01)
        assert late[0] in route.cluster.replicas


def test_a_window_shorter_than_the_lag_is_too_short(routed: Callable[..., Routed]) -> None:
    route = routed(schema=SCHEMA, read_after_write="window", read_after_write_window="50ms")
    for name in route.cluster.replicas:
        route.cluster.lag(name, "1s")
    with route.connect() as connection:
        for n in range(1, 11):
            autocommit(connection, 1, n)
            route.wait_replica(connection)
            if connection.execute(READ, (1,)).fetchone()[0] != n:
                return
    pytest.fail("never a stale read: the window seems not to be what decides")


def test_a_window_longer_than_the_lag_is_enough(routed: Callable[..., Routed]) -> None:
    route = routed(schema=SCHEMA, read_after_write="window", read_after_write_window="2s")
    for name in route.cluster.replicas:
        route.cluster.lag(name, "100ms")
    with route.connect() as other:
        writers = Writers(route, seconds=3, ways=[autocommit, transaction]).run()
        assert not writers.stale, writers.stale[:3]
        assert route.is_replica(other)


def test_lsn_mode_with_a_window_needs_both(routed: Callable[..., Routed]) -> None:
    """read_after_write_window is a least time in mode lsn too."""
    route = routed(schema=SCHEMA, read_after_write_window="500ms")
    with route.connect() as connection:
        sent = time.monotonic()
        autocommit(connection, 1, 1)
        while True:
            name = route.where(connection)
            if time.monotonic() >= sent + 0.5:
                break
            assert name == "primary"
        route.wait_replica(connection)
        assert connection.execute(WHERE).fetchone()
