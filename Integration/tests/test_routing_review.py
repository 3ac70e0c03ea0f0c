"""Rare moments of the router: nothing runs twice, is forgotten, or waits for ever."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import psycopg
import pytest

from common import wait_until
from rawpg import (
    FLUSH, SYNC, Connection, Message, bind, cancel, close, copy_data, describe, execute, parse, query)
from routing import WHERE, Crowd, Routed

pytestmark = [pytest.mark.one_loop, pytest.mark.martlet("routing")]

SCHEMA = """
    CREATE SEQUENCE numbers;
    CREATE FUNCTION next() RETURNS bigint STABLE LANGUAGE plpgsql AS 'BEGIN RETURN nextval(''numbers''); END';
    CREATE VIEW next_number AS SELECT next() AS n, inet_server_port();
    CREATE TABLE log (n int);
    CREATE FUNCTION put(n int) RETURNS int LANGUAGE sql AS 'INSERT INTO log VALUES (n) RETURNING n';
    CREATE FUNCTION liar(n int) RETURNS int STABLE LANGUAGE sql AS 'SELECT put(n)';
"""


def login(route: Routed, **parameters: str) -> Connection:
    return Connection(route.proxy.host, route.proxy.port).login(**parameters)


def types(answer: list[Message]) -> str:
    return "".join(each.type for each in answer)


def errors(answer: list[Message]) -> list[str]:
    return [f"{each.sqlstate} {each.text}" for each in answer if each.type == "E"]


def values(answer: list[Message]) -> list[bytes | None]:
    return [value for each in answer if each.type == "D" for value in each.values()]


def logged(route: Routed) -> list[int]:
    with route.direct() as primary:
        return [n for n, in primary.execute("SELECT n FROM log ORDER BY n")]


# What a client sends in one go

def test_the_position_behind_a_write_in_one_packet(routed: Callable[..., Routed]) -> None:
    """The write is passed on once."""
    route = routed(schema=SCHEMA)
    with login(route) as client:
        answer = client.ask(query("INSERT INTO log VALUES (1)"), query("SHOW martlet.lsn"), ready=2)
        assert types(answer) == "CZTDCZ"
        client.send(query("BEGIN"), query("INSERT INTO log VALUES (2)"), query("SHOW martlet.lsn"), query("COMMIT"))
        assert types(client.read_until("Z", 4)) == "CZCZTDCZCZ"
    assert logged(route) == [1, 2]


@pytest.mark.parametrize("behind", [SYNC, copy_data(b"late") + SYNC, FLUSH + SYNC], ids=["sync", "copy", "flush"])
def test_sync_behind_a_request_that_a_replica_refuses(routed: Callable[..., Routed], behind: bytes) -> None:
    route = routed(schema=SCHEMA)
    with login(route) as client:
        answer = client.ask(query("SELECT n FROM next_number"), behind, ready=2)
        assert types(answer) == "TDCZZ"
        assert client.simple("SELECT 1") == [[b"1"]]


def test_a_piece_of_a_message_behind_a_request_that_a_replica_refuses(routed: Callable[..., Routed]) -> None:
    """The request that is sent again is not taken for the rest of that message."""
    route = routed(schema=SCHEMA)
    with login(route) as client:
        late = copy_data(b"x" * 1000)
        client.send(query("SELECT n FROM next_number"), late[:500])
        assert types(client.read_until()) == "TDCZ"
        client.send(late[500:])
        assert client.simple("SELECT 1") == [[b"1"]]


def test_a_batch_in_pieces_whose_first_message_is_answered_meanwhile(routed: Callable[..., Routed]) -> None:
    """Looked at in part with a server at hand, then the server goes, and Parse is answered without one."""
    route = routed(schema=SCHEMA)
    with login(route) as first, login(route) as client:
        insert = "INSERT INTO log VALUES (1)"
        for each in (first, client):
            # Both reactors know that servers accept it.
            assert not errors(each.ask(parse(insert, "known"), SYNC))
        with route.direct() as primary:
            with primary.transaction():
                primary.execute("LOCK TABLE log")
                client.send(query("INSERT INTO log VALUES (2)"), parse(insert, "again"), bind("again")[:7])
                wait_until(
                    lambda: primary.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone() == (1,),
                    "the first one waits")
        assert types(client.read_until()) == "CZ"
        client.send(bind("again")[7:], execute(), SYNC)
        assert types(client.read_until()) == "12CZ"
    assert logged(route) == [1, 2]


# What must not be forgotten

@pytest.mark.parametrize("kind", ["several", "prepared before"])
def test_hidden_writes_of_a_batch_are_writes(routed: Callable[..., Routed], kind: str) -> None:
    """A replica refuses them, the primary carries them out, and their client sees them."""
    route = routed(schema=SCHEMA)
    with login(route) as client, route.standing_still():
        if kind == "several":
            answer = client.ask(
                parse("SELECT liar(1)"), bind(), execute(), parse("SELECT 1"), bind(), execute(), SYNC)
        else:
            assert not errors(client.ask(parse("SELECT liar(1)"), SYNC))
            answer = client.ask(bind(), execute(), SYNC)
        assert not errors(answer)
        assert client.simple("SELECT n FROM log") == [[b"1"]]


def test_a_statement_that_is_not_followed_may_write(routed: Callable[..., Routed]) -> None:
    """Without max_prepared_statements nobody knows what Bind runs: others of the scope see it all the same."""
    route = routed(schema=SCHEMA, read_after_write_scope="database", settings={"max_prepared_statements": 0})
    with login(route) as client, login(route) as other:
        # Both reactors' clients have nothing to wait for.
        wait_until(lambda: replica(route, other), "reads go to a replica")
        with route.standing_still():
            client.simple("BEGIN")
            client.simple("SELECT 1 FROM log LIMIT 0")
            assert not errors(client.ask(parse("INSERT INTO log VALUES (1)", "s"), SYNC))
            assert not errors(client.ask(bind("s"), execute(), SYNC))
            client.simple("COMMIT")
            assert other.simple("SELECT n FROM log") == [[b"1"]]


def replica(route: Routed, client: Connection) -> bool:
    return route.cluster.name_of(int(client.simple(WHERE)[0][0] or 0)) in route.cluster.replicas


# Changes of the configuration

def test_session_keys_hold_over_a_reload(routed: Callable[..., Routed]) -> None:
    """The servers are watched by another monitor, and clients from before and after go on to have a key in common."""
    route = routed(schema=SCHEMA)
    with route.connect() as before:
        before.execute("SET martlet.session_key = 'k'")
        route.proxy.settings["check_interval"] = "300ms"
        route.proxy.reload()
        route.wait_known()
        with route.connect() as after:
            after.execute("SET martlet.session_key = 'k'")
            wait_until(lambda: route.is_replica(after), "reads go to a replica")
            with route.standing_still():
                before.execute("INSERT INTO log VALUES (1)")
                assert after.execute("SELECT n FROM log").fetchall() == [(1,)]


def test_writes_from_before_routing_are_seen(routed: Callable[..., Routed]) -> None:
    # Another database keeps the monitor, so replicas take reads as soon as there is routing.
    route = routed(schema=SCHEMA, others={"other": {}})
    databases = dict(route.proxy.databases)
    plain = " ".join(
        f"port={route.cluster.primary.port}" if part.startswith("port=") else
        "host=127.0.0.1" if part.startswith("host=") else part
        for part in str(databases["app"]).split() if not part.startswith("routing="))
    route.proxy.databases["app"] = plain + " routing=off"
    route.proxy.reload()
    with route.connect() as connection, route.standing_still():
        connection.execute("INSERT INTO log VALUES (1)")
        route.proxy.databases["app"] = databases["app"]
        route.proxy.reload()
        route.wait_known(reads=False)
        assert connection.execute("SELECT n FROM log").fetchall() == [(1,)]


def test_waiting_for_a_replica_after_a_reload(routed: Callable[..., Routed]) -> None:
    """Who waited while the monitor was changed does not count for the new one: progress goes on to be told."""
    route = routed(schema=SCHEMA, replica_wait="20s")
    with route.connect() as connection, route.connect() as other:
        with route.standing_still():
            connection.execute("INSERT INTO log VALUES (1)")
            crowd = Crowd(1, lambda *_: connection.execute("SELECT n FROM log"))
            route.proxy.wait_pool(lambda pool: pool["cl_waiting"] == 1, "held", "app")
            route.proxy.settings["check_interval"] = "300ms"
            route.proxy.reload()
            route.wait_known(reads=False)
        crowd.join(10)
        route.wait_replica(connection)
        route.wait_replica(other)
        for client in (connection, other) * 5:
            client.execute("INSERT INTO log VALUES (2)")
            # As soon as a replica has caught up, not at the end of replica_wait.
            Crowd(1, lambda *_, client=client: client.execute("SELECT n FROM log")).join(3)


def test_a_database_that_has_left_the_file(routed: Callable[..., Routed]) -> None:
    """Nobody watches its servers any more: what was the primary then may be written to no longer."""
    route = routed(schema=SCHEMA, failover_wait="1s", others={"other": {"check_dbname": "template1"}})
    with route.connect() as connection, route.connect("other") as other:
        connection.execute("INSERT INTO log VALUES (1)")
        del route.proxy.databases["app"]
        route.proxy.reload()
        with pytest.raises(psycopg.Error):
            connection.execute("INSERT INTO log VALUES (2)")
        other.execute("INSERT INTO log VALUES (3)")
    assert logged(route) == [1, 3]


# What waits

def test_servers_that_nobody_can_log_in_to(routed: Callable[..., Routed]) -> None:
    """The monitor finds all well, but no connection of the pool comes about: the client is told in time."""
    route = routed(
        schema=SCHEMA, failover_wait="2s", settings={"query_wait_timeout": 4, "server_login_retry": 0.2})
    clients = [login(route), login(route)]
    route.proxy.databases["app"] = (
        str(route.proxy.databases["app"]) + " connect_query='SELECT pg_terminate_backend(pg_backend_pid())'")
    route.proxy.reload()
    route.proxy.command("RECONNECT app")
    for client, statement in zip(clients, ("INSERT INTO log VALUES (1)", "SELECT n FROM log")):
        with client:
            client.send(query(statement))
            assert errors(client.read_until("E", timeout=10)), statement


def test_databases_that_clients_think_of(routed: Callable[..., Routed]) -> None:
    """Each costs no threads and no connections that watch its servers."""
    route = routed(schema=SCHEMA)
    route.proxy.databases["*"] = route.cluster.entry()
    route.proxy.reload()

    def tasks() -> int:
        assert route.proxy.process
        return len(os.listdir(f"/proc/{route.proxy.process.pid}/task"))

    with route.connect("postgres"):
        before = tasks()
    for number in range(20):
        with pytest.raises(psycopg.OperationalError):
            route.connect(f"none_{number}")
    # Catalogues are read by four threads at most, the second two of which are new.
    assert tasks() <= before + 2


# What one client can make others pay for

def test_new_statements_without_end(routed: Callable[..., Routed]) -> None:
    """Parsing takes its time: beyond a measure what is new goes to the primary unread, and later is read again."""
    route = routed(schema=SCHEMA, settings={"threads": 1})
    before = int(route.routes()["not_parsed"])
    with login(route) as client:
        for number in range(150):
            columns = ", ".join(f"1 AS {'c' * 48}_{number}_{column}" for column in range(700))
            assert not errors(client.ask(query(f"SELECT {columns}")))
    assert int(route.routes()["not_parsed"]) - before > 20
    with route.connect() as connection:
        wait_until(lambda: route.is_replica(connection, WHERE + " AS new"), "what is new is read again", 20)


def test_catalogue_readings_are_bounded(routed: Callable[..., Routed]) -> None:
    """What is not understood may be DDL, but not so often."""
    route = routed(schema=SCHEMA)

    def sessions() -> int:
        with route.direct() as primary:
            return primary.execute(
                "SELECT sessions FROM pg_stat_database WHERE datname = current_database()").fetchone()[0]

    with login(route) as client:
        before, end = sessions(), time.monotonic() + 4
        while time.monotonic() < end:
            assert errors(client.ask(query("THIS IS NO SQL")))
        # One a half second, and this test's own.
        assert sessions() - before < 16


# Answers that are given here

def test_the_first_of_two_portals(routed: Callable[..., Routed]) -> None:
    """BEGIN is bound, then something else, and BEGIN is run: what follows is part of its transaction."""
    route = routed(schema=SCHEMA)
    with login(route) as client:
        answer = client.ask(
            parse("BEGIN", "b"), bind("b", "p"), parse("SELECT 1", "s"), bind("s"), execute("p"), SYNC)
        assert not errors(answer) and answer[-1].body == b"T"
        client.ask(query("SELECT liar(1)"))
        client.ask(query("ROLLBACK"))
    assert logged(route) == []


def test_begin_with_other_messages_in_its_batch(routed: Callable[..., Routed]) -> None:
    """BEGIN is answered here; what else comes with it is done as well."""
    route = routed(schema=SCHEMA)
    with login(route) as client:
        assert not errors(client.ask(parse("SELECT 1", "s"), SYNC))
        answer = client.ask(close("S", "s"), parse("BEGIN"), bind(), execute(), SYNC)
        assert types(answer) == "312CZ"
        assert types(client.ask(query("ROLLBACK"))) == "CZ"
        assert types(client.ask(parse("SELECT 2", "s"), describe("S", "s"), SYNC)) == "1tTZ"
        # The description of another statement is not BEGIN's.
        answer = client.ask(
            parse("BEGIN"), bind(), execute(), parse("SELECT $1::int", "t"), describe("S", "t"), SYNC)
        assert types(answer) == "12C1tTZ" and answer[-1].body == b"T"
        assert types(client.ask(query("INSERT INTO log VALUES (1)"))) == "CZ"
        assert types(client.ask(query("COMMIT"))) == "CZ"
    assert logged(route) == [1]


# Queues

def test_a_client_that_has_left_one_queue_for_another(routed: Callable[..., Routed]) -> None:
    """What is left of it in the first one is not taken for it: it would be served there, and the last one never."""
    route = routed(schema=SCHEMA, settings={"default_pool_size": 1, "threads": 1})

    def wait_waiting(count: int) -> None:
        wait_until(lambda: sum(row["cl_waiting"] for row in route.proxy.show("POOLS")) == count, f"{count} wait")

    clients = [login(route) for _ in range(6)]
    writer, first, leaver, last, *readers = clients
    writer.simple("BEGIN; INSERT INTO log VALUES (1)")
    for reader in readers:
        reader.simple("BEGIN READ ONLY")
        reader.simple("SELECT 1")
    for number, client in enumerate((first, leaver, last)):
        client.send(query(f"INSERT INTO log VALUES ({10 + number})"))
        wait_waiting(number + 1)
    cancel(route.proxy.host, route.proxy.port, leaver.key)
    assert errors(leaver.read_until()) == ["57014 canceling statement due to user request"]
    leaver.send(query(WHERE))
    wait_waiting(3)
    writer.simple("COMMIT")
    for client in (first, last):
        assert types(client.read_until(timeout=5)) == "CZ"
    wait_waiting(1)
    for reader in readers:
        reader.simple("COMMIT")
    assert values(leaver.read_until(timeout=5))[0] != str(route.cluster.primary.port).encode()
    assert logged(route) == [1, 10, 12]
