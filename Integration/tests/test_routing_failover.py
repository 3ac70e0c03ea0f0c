"""Servers die, are promoted, come back and hang: Martlet finds out by itself, and never writes to two primaries."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import psycopg
import pytest

from common import remove, wait_until
from rawpg import Connection, query
from replicated import ReplicatedCluster
from routing import Crowd, Routed

pytestmark = pytest.mark.martlet("routing")

SCHEMA = "CREATE TABLE written (writer int, n int)"
WRITERS = 8


class Writers:
    """Clients that write without a break and connect anew after an error, as applications do."""

    def __init__(self, route: Routed) -> None:
        self.route = route
        # When each write was acknowledged, and the errors of each writer.
        self.acknowledged: list[tuple[float, int, int]] = []
        self.errors: dict[int, list[psycopg.Error]] = {number: [] for number in range(WRITERS)}
        self._lock = threading.Lock()
        self._crowd = Crowd(WRITERS, self._write)

    def __enter__(self) -> Writers:
        return self

    def __exit__(self, *details: object) -> None:
        self._crowd.__exit__(*details)

    def _write(self, number: int, ended: threading.Event) -> None:
        n = 0
        while not ended.is_set():
            try:
                with self.route.connect() as connection:
                    while not ended.wait(0.005):
                        n += 1
                        connection.execute("INSERT INTO written VALUES (%s, %s)", (number, n))
                        with self._lock:
                            self.acknowledged.append((time.monotonic(), number, n))
            except psycopg.Error as error:
                self.errors[number].append(error)

    def all_write_since(self, moment: float) -> bool:
        with self._lock:
            return {number for when, number, _ in self.acknowledged if when > moment} == set(range(WRITERS))

    def last_first_write_since(self, moment: float) -> float:
        """When the last of the writers had its first write after that moment."""
        first: dict[int, float] = {}
        for when, number, _ in sorted(self.acknowledged):
            if when > moment:
                first.setdefault(number, when)
        return max(first.values())


def test_primary_killed_under_load(
    routed: Callable[..., Routed], own_replicas: Callable[..., ReplicatedCluster]
) -> None:
    """A replica is promoted: writes go on there, errors only for what was in flight; the old primary gets nothing."""
    cluster = own_replicas()
    route = routed(cluster, schema=SCHEMA, failover_wait="20s")
    with Writers(route) as writers:
        wait_until(lambda: writers.all_write_since(0), "all write")
        cluster.kill("primary")
        killed = time.monotonic()
        with route.connect() as reader:
            for _ in range(20):
                assert route.is_replica(reader), "reads go on without a primary"
        cluster.promote("replica1", follow=False)
        promoted = time.monotonic()
        wait_until(lambda: writers.all_write_since(promoted), "all write again", 15)
        waited = writers.last_first_write_since(promoted) - promoted
        print(f"all write again {waited:.2f} s after the promotion, {promoted - killed:.2f} s after the death")
        assert waited < 5, "2 s is the promise, for a quiet machine"
        for number, errors in writers.errors.items():
            # The server's processes die one after the other: who was cut off by the first may meet the last.
            assert len(errors) <= 2, f"writer {number}: {[str(error) for error in errors]}"
        assert all(error.sqlstate in ("57P01", "57P02", "08006", None)
                   for errors in writers.errors.values() for error in errors), writers.errors

        # The old primary comes back as it was, without knowing of the other.
        cluster.follow()
        with route.direct("replica1") as connection:
            before = connection.execute("SELECT count(*) FROM written").fetchone()[0]
        cluster.start_node("primary")
        wait_until(lambda: route.roles()["primary"] == "fenced", "the old primary is fenced")
        with route.direct("primary") as old:
            count = old.execute("SELECT count(*) FROM written").fetchone()[0]
            again = time.monotonic()
            wait_until(lambda: writers.all_write_since(again + 0.5), "all go on writing")
            assert old.execute("SELECT count(*) FROM written").fetchone()[0] == count
            assert not [query for _, _, query in cluster.nodes["primary"].backends(route.database)
                        if query.startswith("INSERT")]
    with route.direct("replica1") as connection:
        after = connection.execute("SELECT count(*) FROM written").fetchone()[0]
        assert after > before
        acknowledged = {(number, n) for when, number, n in writers.acknowledged if when > promoted}
        there = set(connection.execute("SELECT writer, n FROM written").fetchall())
        assert acknowledged <= there, "no write of the new primary is lost"

    # And when it has become a replica of the new one, it takes reads again.
    cluster.rejoin("primary")
    expected = {"primary": "replica", "replica1": "primary", "replica2": "replica"}
    wait_until(lambda: route.roles() == expected, f"the roles are {expected}")


def test_promotion_beside_a_living_primary(
    routed: Callable[..., Routed], own_replicas: Callable[..., ReplicatedCluster]
) -> None:
    """Two servers out of recovery: the higher timeline is the primary."""
    cluster = own_replicas()
    route = routed(cluster, schema=SCHEMA)
    cluster.promote("replica1")
    wait_until(lambda: route.roles() == {"primary": "fenced", "replica1": "primary", "replica2": "replica"}, "fenced")
    with route.connect() as connection, route.direct("primary") as old, route.direct("replica1") as new:
        for n in range(20):
            connection.execute("INSERT INTO written VALUES (1, %s)", (n,))
        assert old.execute("SELECT count(*) FROM written").fetchone() == (0,)
        assert new.execute("SELECT count(*) FROM written").fetchone() == (20,)
        route.wait_replica(connection)
        assert connection.execute("SELECT count(*) FROM written").fetchone() == (20,)


def test_floor_of_the_old_primary(
    routed: Callable[..., Routed], own_replicas: Callable[..., ReplicatedCluster]
) -> None:
    """A client that wrote just before the change of the primary does not read a state without its write after it."""
    cluster = own_replicas()
    route = routed(cluster, schema=SCHEMA, failover_wait="20s")
    with route.connect() as connection:
        connection.execute("INSERT INTO written VALUES (1, 1)")
        cluster.wait_caught_up("replica1")
        cluster.cut("replica2")
        connection.execute("INSERT INTO written VALUES (1, 2)")
        cluster.wait_caught_up("replica1")
        cluster.kill("primary")
        cluster.promote("replica1", follow=False)
        for _ in range(50):
            assert connection.execute("SELECT count(*) FROM written").fetchone() == (2,)


def test_writes_fail_when_nobody_is_promoted(
    routed: Callable[..., Routed], own_replicas: Callable[..., ReplicatedCluster]
) -> None:
    cluster = own_replicas(1)
    route = routed(cluster, schema=SCHEMA, failover_wait="1s")
    cluster.kill("primary")
    with route.connect() as connection:
        wait_until(lambda: route.is_replica(connection), "reads go on")
        begin = time.monotonic()
        with pytest.raises(psycopg.OperationalError) as caught:
            connection.execute("INSERT INTO written VALUES (1, 1)")
        assert caught.value.sqlstate in ("57P03", "08006")
        assert 0.5 < time.monotonic() - begin < 5
    cluster.start_node("primary")
    route.wait_known()
    with route.connect() as connection:
        connection.execute("INSERT INTO written VALUES (1, 1)")


def test_a_write_waits_for_the_primary_to_come_back(
    routed: Callable[..., Routed], own_replicas: Callable[..., ReplicatedCluster]
) -> None:
    """A restart of the primary is no error for who comes meanwhile."""
    cluster = own_replicas(1)
    route = routed(cluster, schema=SCHEMA, failover_wait="20s")
    with route.connect() as connection:
        cluster.stop_node("primary")
        crowd = Crowd(1, lambda *_: connection.execute("INSERT INTO written VALUES (1, 1)"))
        wait_until(lambda: route.states()["primary"] == "down", "it is known to be down")
        assert not crowd.ended.is_set()
        cluster.start_node("primary")
        crowd.join()
        assert connection.execute("SELECT count(*) FROM written").fetchone() == (1,)


def test_a_replica_without_its_primary_leaves(
    routed: Callable[..., Routed], own_replicas: Callable[..., ReplicatedCluster]
) -> None:
    """It answers on and on with what it has: its lag says that it is of no use any more."""
    cluster = own_replicas()
    route = routed(cluster, schema=SCHEMA, max_replica_lag="1s", load_balance="round_robin")

    with Writers(route):
        wait_until(lambda: {"replica1", "replica2"} == set(route.spread(10)), "both replicas take reads")
        cluster.cut("replica1")
        cut = time.monotonic()
        wait_until(lambda: set(route.spread(10)) == {"replica2"}, "replica1 is out")
        print(f"out after {time.monotonic() - cut:.2f} s")
        assert time.monotonic() - cut < 1 + 3
        assert set(route.spread(50)) == {"replica2"}, "and stays out"
        cluster.reconnect("replica1")
        wait_until(lambda: "replica1" in route.spread(10), "replica1 is back")


def test_a_replica_that_hangs_leaves(
    routed: Callable[..., Routed], own_replicas: Callable[..., ReplicatedCluster]
) -> None:
    """Frozen, it refuses nothing: only that it does not answer tells. Its monitor delays nobody."""
    cluster = own_replicas()
    route = routed(cluster, schema=SCHEMA, load_balance="round_robin", check_timeout="500ms")
    cluster.freeze("replica1")
    try:
        with route.connect() as control:
            # Reads that go to it before it is known to hang do hang: that is their statement_timeout's affair.
            wait_until(lambda: route.states()["replica1"] == "down", "replica1 is known to be down", 5)
            for _ in range(50):
                begin = time.monotonic()
                assert route.where(control) == "replica2"
                assert time.monotonic() - begin < 1
            control.execute("INSERT INTO written VALUES (1, 1)")
    finally:
        cluster.thaw("replica1")
    wait_until(lambda: "replica1" in route.spread(10), "replica1 is back")


def test_a_server_of_another_cluster_takes_nothing(
    routed: Callable[..., Routed], own_replicas: Callable[..., ReplicatedCluster]
) -> None:
    """One that was made by another initdb, on an address where there was a replica before."""
    cluster = own_replicas()
    route = routed(cluster, schema=SCHEMA, load_balance="round_robin")
    stranger = cluster.nodes["replica2"]
    cluster.stop_node("replica2")
    remove(stranger.data)
    stranger.installation.initdb(stranger.data)
    cluster.start_node("replica2")
    wait_until(lambda: route.roles()["replica2"] == "foreign", "it is found out")
    assert route.roles() == {"primary": "primary", "replica1": "replica", "replica2": "foreign"}
    with route.connect() as connection:
        connection.execute("INSERT INTO written VALUES (1, 1)")
        route.wait_replica(connection)
        assert {route.where(connection) for _ in range(20)} == {"replica1"}


def test_a_primary_that_refuses_a_write_is_looked_at_at_once(
    routed: Callable[..., Routed], own_replicas: Callable[..., ReplicatedCluster]
) -> None:
    """25006 tells of a demotion long before the next check would. A client that has asked for READ ONLY tells nothing."""
    route = routed(own_replicas(1), schema=SCHEMA, settings={"check_interval": "600s"})

    def checks() -> list[str]:
        """When each server was checked last, if nothing was asked since."""
        return [node.value("SELECT max(query_start)::text FROM pg_stat_activity WHERE query = 'EXECUTE martlet_check'")
                for node in route.cluster.nodes.values()]

    before = checks()
    refusal = "DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '25006'; END $$"
    with route.connect() as connection:
        for begin in ("BEGIN READ ONLY", "BEGIN; SET TRANSACTION READ ONLY"):
            for statement in [*begin.split("; "), "SELECT pg_try_advisory_xact_lock(1)"]:
                connection.execute(statement)
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                connection.execute(refusal)
            connection.execute("ROLLBACK")
        for _ in range(20):
            connection.execute("SELECT 1 FOR SHARE" if _ % 2 else "SELECT 1")
        assert [new for old, new in zip(before, checks(), strict=True) if new not in (old, None)] == []
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute(refusal)
        wait_until(
            lambda: [new for old, new in zip(before, checks(), strict=True) if new not in (old, None)],
            "the servers are checked")


def test_what_is_sent_ahead_behind_a_begin_that_is_refused(
    routed: Callable[..., Routed], own_replicas: Callable[..., ReplicatedCluster]
) -> None:
    """Without a primary nothing begins: what belongs to the transaction does not wait for one by itself."""
    cluster = own_replicas(1)
    route = routed(cluster, schema=SCHEMA, transaction_routing="primary", failover_wait="1s")
    with Connection(route.proxy.host, route.proxy.port).login() as client:
        cluster.kill("primary")
        wait_until(lambda: route.states()["primary"] != "up", "the primary is known to be down")
        client.send(query("BEGIN"), query("INSERT INTO written VALUES (1, 1)"), query("COMMIT"))
        answer = client.read_until("Z", 3)
        assert [each.sqlstate for each in answer if each.type == "E"] == ["57P03", "25P02"]
        assert [each.body for each in answer if each.type == "Z"] == [b"E", b"E", b"I"]
        # Who waits for the answer knows that there is no transaction.
        assert client.ask(query("BEGIN"))[-1].body == b"I"
