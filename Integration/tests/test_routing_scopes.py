"""Whose writes a read must see: the client's, its user's, everybody's, or those under the same key."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from routing import Routed

pytestmark = [pytest.mark.one_loop, pytest.mark.martlet("routing")]

SCHEMA = "CREATE TABLE notes (n int); GRANT ALL ON notes TO public"
COUNT = "SELECT count(*), inet_server_port() FROM notes"


def sees(route: Routed, connection: psycopg.Connection) -> bool:
    """Whether a client sees the one note that is there; it is on the primary alone."""
    number, port = connection.execute(COUNT).fetchone()
    name = route.cluster.name_of(port)
    assert (number == 1) == (name == "primary"), f"{number} on {name}"
    return number == 1


@pytest.mark.parametrize(
    "scope, same_user, other_user", [("client", False, False), ("user", True, False), ("database", True, True)])
def test_scope(routed: Callable[..., Routed], scope: str, same_user: bool, other_user: bool) -> None:
    route = routed(schema=SCHEMA, read_after_write_scope=scope)
    with route.connect() as writer, route.connect() as same, route.connect(user="trust_user") as other:
        for connection in (writer, same, other):
            route.wait_replica(connection)
        with route.standing_still():
            writer.execute("INSERT INTO notes VALUES (1)")
            assert sees(route, writer)
            assert sees(route, same) == same_user
            assert sees(route, other) == other_user
        for connection in (writer, same, other):
            route.wait_replica(connection)


def test_scope_of_another_database(routed: Callable[..., Routed]) -> None:
    """Entries that lead to one database of the servers have it in common, others have not."""
    route = routed(schema=SCHEMA, read_after_write_scope="database", others={
        "app2": {"read_after_write_scope": "database"},
        "app3": {"read_after_write_scope": "database", "dbname": "postgres"}})
    with route.connect() as writer, route.connect("app2") as same, route.connect("app3") as other:
        for connection in (same, other):
            route.wait_replica(connection)
        with route.standing_still():
            writer.execute("INSERT INTO notes VALUES (1)")
            assert sees(route, writer) and sees(route, same)
            assert route.is_replica(other)


@pytest.mark.parametrize("how", ["SET", "option"])
def test_session_key(routed: Callable[..., Routed], how: str) -> None:
    """Connections with the same key are one client."""
    route = routed(schema=SCHEMA)

    def connect(key: str) -> psycopg.Connection:
        if how == "option":
            return route.connect(options=f"-c martlet.session_key={key}")
        connection = route.connect()
        connection.execute(f"SET martlet.session_key = '{key}'")
        return connection

    with connect("user:42") as writer, connect("user:42") as same, connect("user:43") as other:
        for connection in (writer, same, other):
            route.wait_replica(connection)
        with route.standing_still():
            writer.execute("INSERT INTO notes VALUES (1)")
            assert sees(route, writer) and sees(route, same) and not sees(route, other)
        route.wait_replica(same)
        assert same.execute(COUNT).fetchone()[0] == 1


def test_session_key_taken_after_the_write(routed: Callable[..., Routed]) -> None:
    """A connection that takes the key of another later sees what that one has written before."""
    route = routed(schema=SCHEMA)
    with route.connect() as writer, route.connect() as late:
        writer.execute("SET martlet.session_key = 'user:42'")
        route.wait_replica(writer)
        route.wait_replica(late)
        with route.standing_still():
            writer.execute("INSERT INTO notes VALUES (1)")
            assert not sees(route, late)
            late.execute("SET martlet.session_key = 'user:42'")
            assert sees(route, late)


def test_a_new_session_key_has_written_nothing(routed: Callable[..., Routed]) -> None:
    """While replicas lag, it reads there all the same."""
    route = routed(schema=SCHEMA)
    with route.connect() as writer, route.connect() as new:
        route.wait_replica(new)
        with route.standing_still():
            writer.execute("INSERT INTO notes VALUES (1)")
            new.execute("SET martlet.session_key = 'new'")
            assert route.is_replica(new)


def test_session_key_does_not_stay_with_the_server(routed: Callable[..., Routed]) -> None:
    """It is the client's: RESET ends it, and another client on the same server connection has none."""
    route = routed(schema=SCHEMA, settings={"default_pool_size": 1})
    with route.connect() as writer, route.connect() as other:
        writer.execute("SET martlet.session_key = 'user:42'")
        other.execute("SET martlet.session_key = 'user:42'")
        other.execute("RESET martlet.session_key")
        route.wait_replica(writer)
        route.wait_replica(other)
        with route.standing_still():
            writer.execute("INSERT INTO notes VALUES (1)")
            assert sees(route, writer) and not sees(route, other)
