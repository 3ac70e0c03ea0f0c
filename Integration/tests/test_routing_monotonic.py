"""What a client sees never goes back, whichever replica answers."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

import pytest

from common import wait_until
from cutting import CuttingRelay
from rawpg import Connection, query
from replicated import ReplicatedCluster
from routing import Crowd, Routed, Weather

pytestmark = pytest.mark.martlet("routing")

SCHEMA = "CREATE TABLE counter (n int NOT NULL); INSERT INTO counter VALUES (0)"
READERS = 20


class Readers:
    """One client counts, others read the number over and over and never write."""

    def __init__(self, route: Routed) -> None:
        self.route = route
        self.where: Counter[str] = Counter()
        self.falls: list[str] = []
        self.fallen = threading.Event()
        self._lock = threading.Lock()

    def run(self, seconds: float) -> Readers:
        """Reads that long, or until a number has fallen."""
        deadline = time.monotonic() + seconds
        with Crowd(1, self._write), Crowd(READERS, self._read) as readers:
            while time.monotonic() < deadline and not readers.ended.is_set() and not self.fallen.wait(0.1):
                pass
        return self

    def _write(self, _: int, ended: threading.Event) -> None:
        with self.route.connect() as connection:
            while not ended.wait(0.002):
                connection.execute("UPDATE counter SET n = n + 1")

    def _read(self, reader: int, ended: threading.Event) -> None:
        highest, before = 0, ""
        with self.route.connect() as connection:
            while not ended.wait(0.001):
                number, port = connection.execute("SELECT n, inet_server_port() FROM counter").fetchone()
                name = self.route.cluster.name_of(port)
                with self._lock:
                    self.where[name] += 1
                    if number < highest:
                        self.falls.append(f"reader {reader}: {highest} on {before}, then {number} on {name}")
                        self.fallen.set()
                if number >= highest:
                    highest, before = number, name


@pytest.mark.parametrize("load_balance", ["round_robin", "random", "least_connections", "latency"])
def test_numbers_never_fall(routed: Callable[..., Routed], load_balance: str) -> None:
    route = routed(schema=SCHEMA, load_balance=load_balance)
    with Weather(route.cluster, {"replica1": ["0", "30ms", "0"], "replica2": ["100ms", "0"]}):
        readers = Readers(route).run(4)
    print(dict(readers.where))
    assert not readers.falls, f"{len(readers.falls)}, the first: {readers.falls[:3]}"
    assert all(readers.where[name] for name in route.cluster.replicas), f"both replicas were read: {readers.where}"


@pytest.mark.long
def test_numbers_never_fall_for_long(routed: Callable[..., Routed]) -> None:
    route = routed(schema=SCHEMA, load_balance="round_robin")
    with Weather(route.cluster, {"replica1": ["0", "5ms", "50ms", "500ms"], "replica2": ["0"]}, paused="replica2"):
        readers = Readers(route).run(120)
    assert not readers.falls, f"{len(readers.falls)}, the first: {readers.falls[:3]}"


def test_without_care_numbers_fall(routed: Callable[..., Routed]) -> None:
    """The same with read_after_write=off: so the tests above can fail."""
    route = routed(schema=SCHEMA, load_balance="round_robin", read_after_write="off")
    route.cluster.lag("replica1", "100ms")
    assert Readers(route).run(10).falls


# What the primary has shown

ON_THE_PRIMARY = {
    "transaction": ["BEGIN", "SELECT n FROM counter", "COMMIT"],
    "extended": ["BEGIN", "SELECT n FROM counter WHERE n > %s", "COMMIT"],
    "override": ["/* martlet: route=primary */ SELECT n FROM counter"],
    "cursor": ["BEGIN", "DECLARE c CURSOR FOR SELECT n FROM counter", "FETCH c", "COMMIT"],
    "function": ["/* martlet: route=primary */ SELECT number()"],
    "lock": ["SELECT n FROM counter FOR SHARE"],
    "with a lock": ["SELECT n, pg_try_advisory_lock_shared(1) FROM counter"],
    "several": ["SELECT 1; SELECT n FROM counter; SELECT pg_try_advisory_lock_shared(1)"],
}


@pytest.mark.parametrize("mode", ["read_only", "primary"])
@pytest.mark.parametrize("how", ON_THE_PRIMARY)
def test_what_the_primary_has_shown_stays_seen(routed: Callable[..., Routed], how: str, mode: str) -> None:
    """Not only what it was asked for by default: nobody who has seen a number there sees a smaller one on a replica."""
    route = routed(
        schema=SCHEMA + "; CREATE FUNCTION number() RETURNS int STABLE LANGUAGE sql AS 'SELECT n FROM counter'",
        transaction_routing=mode)
    with route.connect() as connection, route.connect() as other:
        route.wait_replica(connection)
        route.wait_replica(other)
        with route.standing_still():
            with route.direct() as primary:
                primary.execute("UPDATE counter SET n = 1")
            for statement in ON_THE_PRIMARY[how]:
                connection.execute(statement, (0,) if "%s" in statement else None)
            assert connection.execute("SELECT n FROM counter").fetchone() == (1,)
            # Nothing new for those who have not seen it.
            assert other.execute("SELECT n FROM counter").fetchone() == (0,)
        route.wait_replica(connection)


BEHIND_A_KEPT_READ = {
    "lock": ["SELECT n FROM counter FOR SHARE"],
    "only there": ["SELECT n, pg_try_advisory_lock_shared(1) FROM counter"],
    "several": ["SELECT 1", "SELECT n FROM counter FOR UPDATE"],
}


@pytest.mark.parametrize("transaction", [True, False])
@pytest.mark.parametrize("how", BEHIND_A_KEPT_READ)
def test_what_is_shown_behind_a_read_that_stays_for_a_moment(
    routed: Callable[..., Routed], how: str, transaction: bool
) -> None:
    """The first read is on the primary only until a replica has its client's write, those behind it for good."""
    route = routed(schema=SCHEMA + "; CREATE TABLE own (n int)", transaction_routing="promote")
    with Connection(route.proxy.host, route.proxy.port).login() as client, route.connect() as other:
        route.wait_replica(other)
        route.cluster.lag("replica1", "1s")
        route.cluster.lag("replica2", "1s")
        try:
            client.simple("INSERT INTO own VALUES (1)")
            # So long the replicas have the one commit and not the other; a shorter time would prove less, and fail nothing.
            time.sleep(0.5)
            with route.direct() as primary:
                primary.execute("UPDATE counter SET n = 1")
            texts = ["SELECT n FROM own", *BEHIND_A_KEPT_READ[how]]
            if transaction:
                texts = ["BEGIN", *texts, "COMMIT"]
            client.send(*map(query, texts))
            for _ in texts:
                client.read_until("Z")
            # In between the replicas have the first of the two commits.
            deadline = time.monotonic() + 1.5
            while time.monotonic() < deadline:
                assert client.simple("SELECT n FROM counter") == [[b"1"]]
                time.sleep(0.01)
        finally:
            route.cluster.settle()


@pytest.mark.parametrize("statement", [
    "SHOW work_mem", "SET work_mem = '1MB'", "DEALLOCATE ALL", "/* martlet: route=primary */ SELECT version()"])
def test_what_is_in_no_table_shows_nothing(routed: Callable[..., Routed], statement: str) -> None:
    route = routed(schema=SCHEMA)
    with route.connect() as connection:
        route.wait_replica(connection)
        with route.standing_still():
            connection.execute(statement)
            assert route.is_replica(connection)


def test_a_replica_that_comes_back_older(
    routed: Callable[..., Routed], own_replicas: Callable[..., ReplicatedCluster]
) -> None:
    """What it has shown once its readers do not miss later, be it started again before what it had replayed."""
    cluster = own_replicas(1)
    route = routed(cluster, schema=SCHEMA)
    name = "replica1"
    number = "SELECT n, inet_server_port() FROM counter"

    def read_anew() -> object:
        with route.connect() as other:
            return other.execute(number).fetchone()

    with route.connect() as connection:
        # From here it starts again.
        with route.direct() as primary:
            primary.execute("CHECKPOINT")
        cluster.wait_caught_up()
        with cluster.nodes[name].connect(route.database) as replica:
            replica.execute("CHECKPOINT")
        wait_until(
            lambda: cluster.nodes[name].value("SELECT redo_lsn FROM pg_control_checkpoint()")
            == cluster.primary.value("SELECT redo_lsn FROM pg_control_checkpoint()"), "the replica can start from there")
        with route.direct() as primary:
            primary.execute("UPDATE counter SET n = 1")
        cluster.wait_caught_up()
        wait_until(
            lambda: connection.execute(number).fetchone() == (1, cluster.nodes[name].port), "the replica has shown it")
        cluster.lag(name, "1h")
        cluster.kill(name)
        cluster.start_node(name)
        assert cluster.nodes[name].value("SELECT n FROM counter", dbname=route.database) == 0
        wait_until(
            lambda: read_anew() == (0, cluster.nodes[name].port), "the replica takes reads of who has read nothing yet")
        for _ in range(5):
            assert connection.execute(number).fetchone() == (1, cluster.primary.port)


def test_another_server_behind_the_same_address(
    routed: Callable[..., Routed], own_replicas: Callable[..., ReplicatedCluster]
) -> None:
    """New connections lead to it while the checks still see the one of before: an address that has moved, a balancer."""
    cluster = own_replicas(2)
    route = routed(cluster, schema=SCHEMA)
    first, second = (cluster.nodes[name] for name in ("replica1", "replica2"))
    with CuttingRelay((first.host, first.port), listens_on_tcp=True) as relay:
        pairs = dict(pair.split("=", 1) for pair in route.proxy.databases["app"].split())
        pairs |= {"host": f"{cluster.primary.host},{relay.host}", "port": f"{cluster.primary.port},{relay.port}"}
        route.proxy.databases["app"] = " ".join(f"{key}={value}" for key, value in pairs.items())
        route.proxy.reload()
        number = "SELECT n, inet_server_port() FROM counter"
        with route.connect() as client:
            wait_until(lambda: client.execute(number).fetchone() == (0, first.port), "reads are on the first replica")
            cluster.pause("replica2")
            client.execute("UPDATE counter SET n = 1")
            wait_until(lambda: client.execute(number).fetchone() == (1, first.port), "reads are there again")
            relay.target = (second.host, second.port)
            with route.proxy.console() as console:
                console.execute("RECONNECT")
            deadline = time.monotonic() + 2
            while time.monotonic() < deadline:
                assert client.execute(number).fetchone() == (1, cluster.primary.port)
            cluster.resume("replica2")
            wait_until(lambda: client.execute(number).fetchone() == (1, second.port), "the other one is as far")
