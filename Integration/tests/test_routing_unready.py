"""What a replica refuses while a connection to it is made ready is no client's answer: another server takes the read."""

from __future__ import annotations

import os
import signal
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import psycopg
import pytest

from common import wait_until
from rawpg import FLUSH, SYNC, Closed, Connection, Message, bind, cancel, describe, execute, parse, query
from replicated import ReplicatedCluster
from routing import WHERE, Crowd, Routed

pytestmark = pytest.mark.martlet("routing")

SCHEMA = "CREATE TABLE things (n int); INSERT INTO things VALUES (1);"
READ = "SELECT n, inet_server_port() FROM things"


def login(route: Routed, database: str = "app", **parameters: str) -> Connection:
    return Connection(route.proxy.host, route.proxy.port).login(database=database, **parameters)


def batch(text: str) -> bytes:
    return parse(text) + bind() + describe("P") + execute() + SYNC


def asked_first(text: str) -> list[bytes]:
    """As drivers do that want to know what a statement returns before they bind it."""
    return [parse(text) + describe("S") + FLUSH, bind() + execute() + SYNC]


# How a client may read, in requests; the last one ends with its only row.
WAYS: dict[str, list[bytes | list[bytes]]] = {
    "query": [query(READ)],
    "batch": [batch(READ)],
    "flush": [asked_first(READ)],
    "several": [query(f"SELECT 1 WHERE false; {READ}")],
    "transaction": [query("BEGIN READ ONLY"), query(READ)],
    "transaction in batches": [batch("BEGIN READ ONLY"), batch(READ)],
    "transaction with a flush": [query("BEGIN READ ONLY"), asked_first(READ)],
    "repeatable": [query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"), query(READ)],
    "hint": [query(f"/* martlet: route=replica */ {READ}")],
}


def ran(route: Routed, client: Connection, requests: list[bytes | list[bytes]]) -> str:
    """Where its requests were carried out in the end."""
    answer: list[Message] = []
    for request in requests:
        if isinstance(request, list):
            client.send(request[0])
            client.read_until("T", timeout=5)
            answer = client.ask(request[1])
        else:
            answer = client.ask(request)
        assert [each.text for each in answer if each.type == "E"] == []
    port = next(each.values()[1] for each in answer if each.type == "D")
    if answer[-1].body != b"I":
        client.ask(query("COMMIT"))
    return route.cluster.name_of(int(port or b"0"))


def reconnect(route: Routed) -> None:
    with route.proxy.console() as console:
        console.execute("RECONNECT")


@contextmanager
def rejecting(route: Routed, *names: str, database: str = "all") -> Iterator[None]:
    """These servers' rules let nobody in any more but the superuser."""
    files = {name: route.cluster.nodes[name].data / "pg_hba.conf" for name in names}
    before = {name: file.read_text() for name, file in files.items()}
    try:
        for name, file in files.items():
            file.write_text(f"host {database} app 127.0.0.1/32 reject\n" + before[name])
            route.cluster.nodes[name].value("SELECT pg_reload_conf()")
        yield
    finally:
        for name, file in files.items():
            file.write_text(before[name])
            route.cluster.nodes[name].value("SELECT pg_reload_conf()")


def test_logins_that_one_replica_rejects(routed: Callable[..., Routed]) -> None:
    route = routed(schema=SCHEMA)
    with rejecting(route, "replica1", database=route.database):
        reconnect(route)
        where: Counter[str] = Counter()
        for _ in range(6):
            for way in WAYS.values():
                with login(route) as client:
                    where[ran(route, client, way)] += 1
        assert set(where) == {"replica2"}, "the other replica takes them"
    # It is used again when it lets its clients in.
    reconnect(route)
    with route.connect() as client:
        route.wait_replica(client)
    assert route.spread(20)["replica1"]


@pytest.mark.parametrize("kind", ["split", "replica", "promote"])
def test_logins_that_all_replicas_reject(routed: Callable[..., Routed], kind: str) -> None:
    """Reads go to the primary, also those of many clients at once."""
    keys = {"transaction_routing": "promote"} if kind == "promote" else {"routing": kind}
    route = routed(schema=SCHEMA, others={"other": keys})

    def read(number: int, _: object) -> None:
        with login(route, "other") as client:
            for _ in range(5):
                assert ran(route, client, list(WAYS.values())[number % 3]) == "primary"

    with rejecting(route, *route.cluster.replicas, database=route.database):
        reconnect(route)
        with Crowd(12, read) as crowd:
            crowd.join()
        with login(route, "other") as client:
            assert ran(route, client, [query("BEGIN"), query(READ)]) == "primary"


def test_logins_rejected_where_the_primary_takes_no_reads(routed: Callable[..., Routed]) -> None:
    """An error of the read, which says what the replicas have said; the client stays."""
    route = routed(schema=SCHEMA, others={"other": {"primary_reads": "never"}})
    with rejecting(route, *route.cluster.replicas, database=route.database):
        reconnect(route)
        with login(route, "other") as client:
            for _ in range(2):
                answer = client.ask(query(READ))
                assert [each.sqlstate for each in answer if each.type == "E"] == ["57P03"]
                assert any("pg_hba.conf rejects connection" in each.text for each in answer if each.type == "E")
            assert client.ask(query("INSERT INTO things VALUES (2)"))[-1].body == b"I"


def test_logins_that_the_primary_rejects(routed: Callable[..., Routed]) -> None:
    """What the primary says is the client's answer."""
    route = routed(schema=SCHEMA)
    with login(route) as client, rejecting(route, *route.cluster.nodes, database=route.database):
        reconnect(route)
        with pytest.raises(Closed):
            client.send(query(READ))
            while (answer := client.read()).type == "E":
                assert "pg_hba.conf rejects connection" in answer.text


def test_a_database_that_replicas_have_not_replayed(routed: Callable[..., Routed]) -> None:
    name = f"db_{uuid.uuid4().hex[:10]}"
    route = routed(schema=SCHEMA, others={"new": {"dbname": name}})
    with route.standing_still():
        with route.direct() as primary:
            primary.execute(f"CREATE DATABASE {name} STRATEGY wal_log")
        with route.cluster.primary.connect(name, user="postgres") as primary:
            primary.execute(SCHEMA + "GRANT ALL ON things TO app")
        for way in WAYS.values():
            with login(route, "new") as client:
                assert ran(route, client, way) == "primary"
    route.cluster.wait_caught_up()
    reconnect(route)
    with route.connect("new") as client:
        route.wait_replica(client)


@pytest.mark.parametrize("kind", ["split", "replica", "unsafe"])
def test_settings_that_replicas_cannot_take_yet(routed: Callable[..., Routed], kind: str) -> None:
    """What they name is on the primary only: requests that were sent behind them are carried out there."""
    settings = {"rerun_refused": 0, "retry_reads": 0} if kind == "unsafe" else {}
    route = routed(
        schema=SCHEMA, others={"other": {"routing": "replica" if kind == "replica" else "split"}}, settings=settings)
    with route.standing_still():
        with route.direct() as primary:
            primary.execute("CREATE TEXT SEARCH CONFIGURATION public.ours (COPY = simple)")
        options = {"options": "-c default_text_search_config=public.ours"}
        for _ in range(3):
            for name, way in WAYS.items():
                with login(route, "other", **options) as client:
                    for _ in range(2):
                        assert ran(route, client, way) == "primary", name
                    assert client.simple("SHOW default_text_search_config") == [[b"public.ours"]]
        # Others are not concerned.
        with route.connect() as client:
            assert route.is_replica(client)
    route.cluster.wait_caught_up()
    with route.connect("other", **options) as client:
        route.wait_replica(client)
        assert client.execute("SHOW default_text_search_config").fetchone() == ("public.ours",)


def test_settings_that_fail_leave_nothing(
    routed: Callable[..., Routed], own_replicas: Callable[..., ReplicatedCluster]
) -> None:
    """What others have set on that connection is set back for the next client."""
    route = routed(own_replicas(1), schema=SCHEMA, pool_size=1, settings={"threads": 1})
    with login(route, options="-c work_mem=7MB") as client:
        client.simple("BEGIN READ ONLY")
        client.simple("SET LOCAL enable_seqscan = off")
        client.simple("SET enable_sort = off")
        client.simple("COMMIT")
    for _ in range(3):
        with login(route, options="-c transaction_read_only=off") as client:
            assert ran(route, client, WAYS["query"]) == "primary"
        with login(route) as client:
            answer = client.simple(
                "SELECT current_setting('work_mem'), current_setting('enable_sort'), inet_server_port() FROM things")
            assert answer == [[b"4MB", b"on", str(route.cluster.nodes["replica1"].port).encode()]]


@pytest.mark.parametrize("way", ["query", "flush"])
def test_a_replica_that_is_lost_while_it_is_made_ready(
    routed: Callable[..., Routed], own_replicas: Callable[..., ReplicatedCluster], way: str
) -> None:
    """Its connection has been given to the client, and nothing of the request has run."""
    route = routed(own_replicas(1), schema=SCHEMA, pool_size=1, check_timeout="20s")
    with route.connect() as client:
        route.wait_replica(client)
    with login(route, search_path="public, pg_catalog") as client:
        route.cluster.freeze("replica1")
        requests = WAYS[way][0]
        client.send(*(requests if isinstance(requests, list) else [requests]))
        assert client.silent(0.5)
        route.cluster.kill("replica1")
        answer = client.read_until("Z")
        assert [each.values()[1] for each in answer if each.type == "D"] == [str(route.cluster.primary.port).encode()]
        assert [each.text for each in answer if each.type == "E"] == []


def test_settings_that_one_replica_cannot_take_yet(routed: Callable[..., Routed]) -> None:
    route = routed(schema=SCHEMA)
    route.cluster.pause("replica1")
    with route.direct() as primary:
        primary.execute("CREATE TEXT SEARCH CONFIGURATION public.ours (COPY = simple)")
    route.cluster.wait_caught_up("replica2")
    for way in WAYS.values():
        where = {ran(route, client, way) for client in [
            login(route, options="-c default_text_search_config=public.ours") for _ in range(6)]}
        assert where == {"replica2"}


def test_settings_that_no_replica_takes(routed: Callable[..., Routed]) -> None:
    """A session that is not READ ONLY cannot be on a replica."""
    route = routed(schema=SCHEMA)
    for way in ("query", "batch", "flush", "several"):
        with login(route, options="-c transaction_read_only=off") as client:
            for _ in range(3):
                assert ran(route, client, WAYS[way]) == "primary"


def test_what_a_client_leaves_on_a_replica_costs_nobody_the_connection(
    routed: Callable[..., Routed], own_replicas: Callable[..., ReplicatedCluster]
) -> None:
    """SERIALIZABLE by default, which a replica refuses as soon as it is to read anything."""
    route = routed(own_replicas(1), schema=SCHEMA, pool_size=1)
    for _ in range(3):
        with login(route, default_transaction_isolation="serializable", search_path="public") as client:
            assert ran(route, client, [
                query("BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY"), query(READ)]) == "replica1"
        for path in ("pg_catalog, public", "public"):
            with login(route, search_path=path) as client:
                ran(route, client, WAYS["query"])
                assert client.simple("SHOW search_path") == [[path.encode()]]


def test_sessions_that_are_serializable_by_default(routed: Callable[..., Routed]) -> None:
    """So they are on the primary, and a transaction with another level on a replica. The database says it, not the client."""
    route = routed(schema=SCHEMA)
    with route.direct() as primary:
        primary.execute(f"ALTER DATABASE {route.database} SET default_transaction_isolation = 'serializable'")
        try:
            route.cluster.wait_caught_up()
            reconnect(route)
            for options in ({}, {"application_name": "x"}, {"search_path": "public"}, {"statement_timeout": "9s"}):
                with login(route, **options) as client:
                    for way in ("query", "batch", "flush", "transaction"):
                        ran(route, client, WAYS[way])
                    ran(route, client, [query("BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY"), query(READ)])
        finally:
            # The proxy looks at what is said of any database.
            primary.execute(f"ALTER DATABASE {route.database} RESET default_transaction_isolation")


def test_connections_used_up(routed: Callable[..., Routed], own_replicas: Callable[..., ReplicatedCluster]) -> None:
    """By others, and on every replica; the checks get in as a superuser, so the replica is up."""
    route = routed(own_replicas(1), schema=SCHEMA)
    replica = route.cluster.nodes["replica1"]
    others: list[Connection] = []

    def use_up() -> bool:
        """All that there is, until nobody's connection has become free meanwhile."""
        before = len(others)
        with pytest.raises(AssertionError, match="53300"):
            while True:
                others.append(Connection(replica.host, replica.port).login("trust_user", "postgres"))
        reconnect(route)
        return len(others) == before

    with ExitStack() as stack:
        stack.callback(lambda: [each.socket.close() for each in others])
        wait_until(use_up, "all connections are used up")
        for name, way in WAYS.items():
            with login(route) as client:
                assert ran(route, client, way) == "primary", name
        assert route.states() == {"primary": "up", "replica1": "up"}
    with route.connect() as client:
        route.wait_replica(client)


@pytest.mark.parametrize("primary_reads", ["fallback", "never"])
def test_a_replica_that_refuses_more_than_one_connection(
    routed: Callable[..., Routed], own_replicas: Callable[..., ReplicatedCluster], primary_reads: str
) -> None:
    """While somebody else has that one, others need not wait for it, unless nobody else may take their reads."""
    route = routed(own_replicas(1), schema=SCHEMA, primary_reads=primary_reads)
    replica = str(route.cluster.nodes["replica1"].port).encode()
    reconnect(route)
    with login(route) as first, login(route) as other:
        first.simple("BEGIN READ ONLY")
        assert first.simple("SELECT inet_server_port() FROM things") == [[replica]]
        with rejecting(route, "replica1", database=route.database):
            other.send(query(READ))
            if primary_reads == "never":
                assert other.silent(1)
                first.simple("COMMIT")
            answer = other.read_until("Z")
            assert [each.values()[1] for each in answer if each.type == "D"] == [
                replica if primary_reads == "never" else str(route.cluster.primary.port).encode()]


def test_a_cancel_goes_with_the_request(
    routed: Callable[..., Routed], own_replicas: Callable[..., ReplicatedCluster]
) -> None:
    """Also one that comes while a replica is about to refuse what stands ahead of it."""
    route = routed(own_replicas(1), schema=SCHEMA, check_timeout="20s")
    replica = route.cluster.nodes["replica1"]
    with route.connect() as other:
        route.wait_replica(other)
    with login(route, options="-c transaction_read_only=off") as client:
        backends = [pid for pid, _, _ in replica.backends(route.database, "app")]
        for pid in backends:
            os.kill(pid, signal.SIGSTOP)
        try:
            client.send(query("SELECT 1, pg_sleep(20)"))
            assert client.silent(0.3)
            cancel(route.proxy.host, route.proxy.port, client.key)
        finally:
            for pid in backends:
                os.kill(pid, signal.SIGCONT)
        answer = client.read_until("Z", timeout=10)
        assert [each.sqlstate for each in answer if each.type == "E"] == ["57014"]
        assert ran(route, client, WAYS["query"]) == "primary"
    # It was nobody else's.
    for _ in range(5):
        with login(route) as client:
            assert client.simple("SELECT n, pg_sleep(0.1)::text FROM things") == [[b"1", b""]]


def test_what_connect_query_has_set_stays(
    routed: Callable[..., Routed], own_replicas: Callable[..., ReplicatedCluster]
) -> None:
    """A client whose settings the replica refuses does not undo it for the others."""
    route = routed(own_replicas(1), schema=SCHEMA, pool_size=1, connect_query="'SET work_mem = ''7MB'''")
    for _ in range(3):
        with login(route, application_name="somebody") as client:
            assert client.simple("SELECT current_setting('work_mem') FROM things") == [[b"7MB"]]
        with login(route, options="-c transaction_read_only=off") as client:
            assert ran(route, client, WAYS["query"]) == "primary"


@pytest.mark.parametrize("begin", ["BEGIN READ WRITE", "BEGIN ISOLATION LEVEL SERIALIZABLE"])
@pytest.mark.parametrize("way", ["query", "batch", "flush"])
def test_transactions_that_no_replica_takes(routed: Callable[..., Routed], way: str, begin: str) -> None:
    """The client's wish for a replica does not end it."""
    route = routed(schema=SCHEMA)
    with login(route, options="-c martlet.route=replica") as client:
        for _ in range(2):
            assert ran(route, client, [query(begin), *WAYS[way]]) == "primary"
