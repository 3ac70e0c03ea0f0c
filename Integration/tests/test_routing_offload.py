"""How much leaves the primary, and how soon a client that has written gets back to the replicas."""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable

import psycopg
import pytest

from common import wait_until
from routing import REPLICA_READS, WRITES, Crowd, Routed

pytestmark = [pytest.mark.one_loop, pytest.mark.martlet("routing")]

SCHEMA = "CREATE TABLE visits (client int, n int); CREATE INDEX ON visits (client)"
READ = "SELECT count(*), inet_server_port() FROM visits WHERE client = %s"
SAMPLE_INTERVAL = 0.025


def test_most_reads_leave_the_primary(routed: Callable[..., Routed]) -> None:
    """95 % reads, with the time that people take between two clicks, cut short."""
    route = routed(schema=SCHEMA)
    where: Counter[str] = Counter()
    lock = threading.Lock()

    def visit(client: int, ended: threading.Event) -> None:
        dice = random.Random(client)
        with route.connect() as connection:
            while not ended.wait(dice.uniform(0.02, 0.1)):
                if dice.random() < 0.05:
                    connection.execute("INSERT INTO visits VALUES (%s, 1)", (client,))
                    continue
                _, port = connection.execute(READ, (client,)).fetchone()
                with lock:
                    where[route.cluster.name_of(port)] += 1

    before = route.routes()
    with Crowd(30, visit) as crowd:
        crowd.wait(5)
    after = route.routes()
    on_replicas = sum(where[name] for name in route.cluster.replicas)
    print(f"{on_replicas / where.total():.1%} of {where.total()} reads on replicas: {dict(where)}")
    assert on_replicas >= 0.9 * where.total()
    assert all(where[name] for name in route.cluster.replicas), "both replicas take part"
    assert after[REPLICA_READS] - before[REPLICA_READS] == pytest.approx(on_replicas, rel=0.01)
    assert after[WRITES] > before[WRITES]


def test_reads_leave_the_primary_soon_after_the_replica_has_caught_up(routed: Callable[..., Routed]) -> None:
    """Kept reads end within two sample intervals; the median, for a machine that has other things to do as well."""
    route = routed(schema=SCHEMA)
    route.cluster.cut("replica2")
    late = []
    with route.connect() as connection, route.direct("replica1") as replica:
        for n in range(1, 31):
            connection.execute("INSERT INTO visits VALUES (0, 1)")
            wait_until(lambda: replica.execute(READ, (0,)).fetchone()[0] == n, "replayed", interval=0)
            caught_up = time.monotonic()
            wait_until(lambda: route.is_replica(connection), "back on a replica", interval=0)
            late.append(time.monotonic() - caught_up)
            assert connection.execute(READ, (0,)).fetchone()[0] == n
    median = statistics.median(late)
    print(f"median {median * 1000:.1f} ms, most {max(late) * 1000:.1f} ms")
    assert median <= 2 * SAMPLE_INTERVAL


def test_the_primary_takes_its_share_if_told_so(routed: Callable[..., Routed]) -> None:
    route = routed(primary_reads="always", load_balance="round_robin")
    assert set(route.spread(30)) == set(route.cluster.nodes)


def test_weights(routed: Callable[..., Routed]) -> None:
    route = routed(load_balance="random", weights="1,1,4")
    where = route.spread(300)
    print(dict(where))
    assert where["primary"] == 0
    assert 2 < where["replica2"] / where["replica1"] < 8


@pytest.mark.parametrize("mode, expected", [("primary", {"primary"}), ("replica", {"replica1", "replica2"})])
def test_a_role_for_all_statements(routed: Callable[..., Routed], mode: str, expected: set[str]) -> None:
    """routing=primary and routing=replica: always that role, whatever the statement."""
    route = routed(others={"fixed": {"routing": mode, "load_balance": "round_robin", "read_after_write": "off"}})
    with route.connect("fixed") as connection:
        wait_until(lambda: route.where(connection) in expected, "the role is found")
        assert set(route.spread(30, "fixed")) == expected
        with connection.transaction():
            assert route.where(connection) in expected
            assert connection.execute("SELECT pg_is_in_recovery()").fetchone() == (mode == "replica",)


def test_late_replicas_take_no_reads(routed: Callable[..., Routed]) -> None:
    """Out when the lag is over the limit, in again when it is well below."""
    route = routed(schema=SCHEMA, max_replica_lag="1s")
    with route.connect() as reader, route.connect() as writer:
        with Crowd(1, lambda _, ended: keep_writing(writer, ended)):
            with route.standing_still():
                wait_until(lambda: route.where(reader) == "primary", "both replicas are out", 10)
            route.wait_replica(reader)


def test_no_replica_and_no_fallback(routed: Callable[..., Routed]) -> None:
    """primary_reads=never: rather an error than a read on the primary."""
    # With what it has read on one replica the reader would not go to the other, which is out a moment later.
    route = routed(schema=SCHEMA, max_replica_lag="1s", primary_reads="never", read_after_write="off")
    with route.connect() as reader, route.connect() as writer:
        def refused() -> bool:
            try:
                assert route.is_replica(reader)
                return False
            except psycopg.OperationalError as error:
                assert error.sqlstate, error
                return True

        with Crowd(1, lambda _, ended: keep_writing(writer, ended)), route.standing_still():
            wait_until(refused, "reads are refused", 20)


def keep_writing(connection: psycopg.Connection, ended: threading.Event) -> None:
    while not ended.wait(0.02):
        connection.execute("INSERT INTO visits VALUES (1, 1)")
