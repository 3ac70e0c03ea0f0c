"""What a client can say for itself: the route, its own reading of its writes, a position it wants to see."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import asyncpg
import psycopg
import pytest

from common import wait_until
from proxy import Proxy
from routing import WHERE, Routed

pytestmark = [pytest.mark.one_loop, pytest.mark.martlet("routing")]

SCHEMA = "CREATE TABLE notes (n int)"
COUNT = "SELECT count(*), inet_server_port() FROM notes"


@pytest.mark.parametrize("prepare", [False, True])
def test_set_route(routed: Callable[..., Routed], prepare: bool) -> None:
    route = routed()
    with route.connect() as connection:
        assert route.is_replica(connection)
        for command in ("SET martlet.route = 'primary'", "set session MARTLET.route to primary;"):
            assert connection.execute(command).statusmessage == "SET"
            assert connection.execute("SHOW martlet.route").fetchone() == ("primary",)
            assert {route.where(connection, prepare=prepare) for _ in range(8)} == {"primary"}
            assert connection.execute("RESET martlet.route").statusmessage == "RESET"
            assert connection.execute("SHOW martlet.route").fetchone() == ("auto",)
            assert route.is_replica(connection)


def test_set_route_in_the_extended_protocol(routed: Callable[..., Routed]) -> None:
    route = routed()
    with route.connect() as connection:
        for prepare in (False, True):
            connection.execute("SET martlet.route = 'primary'", prepare=prepare, binary=True)
            assert route.where(connection) == "primary"
            connection.execute("SET martlet.route = 'auto'", prepare=prepare, binary=True)
            assert route.is_replica(connection)


def test_route_replica_reads_what_is_there(routed: Callable[..., Routed]) -> None:
    """A client that insists on a replica gets one, own writes or not, and for what a replica can run only."""
    route = routed(schema=SCHEMA)
    with route.connect() as connection, route.standing_still():
        connection.execute("INSERT INTO notes VALUES (1)")
        assert route.where(connection) == "primary"
        connection.execute("SET martlet.route = 'replica'")
        number, port = connection.execute(COUNT).fetchone()
        assert number == 0 and route.cluster.name_of(port) in route.cluster.replicas


def test_wrong_values(routed: Callable[..., Routed]) -> None:
    route = routed()
    with route.connect() as connection:
        for command in ("SET martlet.route = 'moon'", "SET martlet.read_after_write = 'sometimes'",
                        "SET martlet.min_lsn = 'here'"):
            with pytest.raises(psycopg.errors.InvalidParameterValue):
                connection.execute(command)
        with pytest.raises(psycopg.errors.UndefinedObject):
            connection.execute("SHOW martlet.moon")
        assert route.is_replica(connection), "and nothing has changed"


def test_route_as_startup_option(routed: Callable[..., Routed]) -> None:
    route = routed()
    with route.connect(options="-c martlet.route=primary -c work_mem=77MB") as connection:
        assert {route.where(connection) for _ in range(8)} == {"primary"}
        assert connection.execute("SELECT current_setting('work_mem')").fetchone() == ("77MB",)
        connection.execute("SET martlet.route = 'auto'")
        assert route.is_replica(connection)


@pytest.mark.parametrize("text", [
    f"/* martlet: route=primary */ {WHERE}", f"{WHERE} /* martlet: route=primary */",
    f"{WHERE} -- martlet: route=primary"])
@pytest.mark.parametrize("prepare", [False, True])
def test_route_in_a_comment(routed: Callable[..., Routed], text: str, prepare: bool) -> None:
    """For that statement alone."""
    route = routed()
    with route.connect() as connection:
        for _ in range(3):
            assert route.where(connection, text, prepare=prepare) == "primary"
            assert route.where(connection, prepare=prepare) != "primary"


def test_a_comment_wins_over_the_session(routed: Callable[..., Routed]) -> None:
    route = routed()
    with route.connect() as connection:
        connection.execute("SET martlet.route = 'primary'")
        assert route.is_replica(connection, f"/* martlet: route=replica */ {WHERE}")


def test_read_after_write_of_a_client(routed: Callable[..., Routed]) -> None:
    route = routed(schema=SCHEMA)
    with route.connect() as careless, route.connect() as careful, route.standing_still():
        careless.execute("SET martlet.read_after_write = 'off'")
        for connection in (careless, careful):
            connection.execute("INSERT INTO notes VALUES (1)")
        assert careless.execute(COUNT).fetchone()[0] == 0
        assert careful.execute(COUNT).fetchone()[0] == 2
        careless.execute("RESET martlet.read_after_write")
        assert careless.execute(COUNT).fetchone()[0] == 2


def test_read_after_write_as_startup_option(routed: Callable[..., Routed]) -> None:
    route = routed(schema=SCHEMA, read_after_write="off")
    with route.connect(options="-c martlet.read_after_write=lsn") as connection, route.standing_still():
        connection.execute("INSERT INTO notes VALUES (1)")
        number, port = connection.execute(COUNT).fetchone()
        assert (number, route.cluster.name_of(port)) == (1, "primary")


def test_settings_are_the_clients_own(routed: Callable[..., Routed]) -> None:
    """They stay with the client, not with the server connection that it happens to use."""
    route = routed(settings={"default_pool_size": 1})
    with route.connect() as one, route.connect() as other:
        one.execute("SET martlet.route = 'primary'")
        for _ in range(5):
            assert route.where(one) == "primary"
            assert route.is_replica(other)


def test_a_position_carried_to_another_client(routed: Callable[..., Routed]) -> None:
    route = routed(schema=SCHEMA)
    with route.connect() as writer, route.connect() as reader, route.connect() as other:
        for connection in (reader, other):
            route.wait_replica(connection)
        with route.standing_still():
            writer.execute("INSERT INTO notes VALUES (1)")
            token = writer.execute("SHOW martlet.lsn").fetchone()[0]
            reader.execute(f"SET martlet.min_lsn = '{token}'")
            assert reader.execute(COUNT).fetchone()[0] == 1
            assert other.execute(COUNT).fetchone()[0] == 0
        route.wait_replica(reader)
        assert reader.execute(COUNT).fetchone()[0] == 1


def test_a_position_carried_to_another_martlet(
    routed: Callable[..., Routed], start_proxy: Callable[..., Proxy]
) -> None:
    route = routed(schema=SCHEMA)
    entry = route.cluster.entry(dbname=route.database, max_replica_lag="1h")
    second = Routed(route.cluster, start_proxy(route.cluster.primary, databases={"app": entry}), route.database)
    second.wait_known()
    with route.connect() as writer, second.connect() as reader:
        second.wait_replica(reader)
        with route.standing_still():
            for n in range(1, 4):
                writer.execute("INSERT INTO notes VALUES (1)")
                token = writer.execute("SHOW martlet.lsn").fetchone()[0]
                reader.execute(f"SET martlet.min_lsn = '{token}'")
                assert reader.execute(COUNT).fetchone()[0] == n
        second.wait_replica(reader)


def test_asyncpg(routed: Callable[..., Routed]) -> None:
    """The extended protocol with prepared statements; settings come as startup parameters of their own."""
    route = routed(schema=SCHEMA)

    async def where(connection: asyncpg.Connection, query: str = WHERE) -> str:
        return route.cluster.name_of(await connection.fetchval(query))

    async def work() -> None:
        connection = await asyncpg.connect(route.proxy.dsn())
        assert await where(connection) in route.cluster.replicas
        await connection.execute("SET martlet.route = 'primary'")
        assert {await where(connection) for _ in range(5)} == {"primary"}
        assert await connection.fetchval("SHOW martlet.route") == "primary"
        await connection.execute("SET martlet.route TO DEFAULT")
        assert await where(connection) in route.cluster.replicas
        assert await where(connection, f"/* martlet: route=primary */ {WHERE}") == "primary"
        await connection.execute("INSERT INTO notes VALUES (1)")
        assert await connection.fetchval("SELECT count(*) FROM notes") == 1
        await connection.close()

        told = await asyncpg.connect(route.proxy.dsn(), server_settings={"martlet.route": "primary"})
        assert {await where(told) for _ in range(5)} == {"primary"}
        await told.close()

    asyncio.run(work())


def test_asyncpg_session_key(routed: Callable[..., Routed]) -> None:
    route = routed(schema=SCHEMA)

    async def work() -> None:
        key = {"martlet.session_key": "user:42"}
        writer = await asyncpg.connect(route.proxy.dsn(), server_settings=key)
        reader = await asyncpg.connect(route.proxy.dsn(), server_settings=key)
        await writer.execute("INSERT INTO notes VALUES (1)")
        assert await reader.fetchval("SELECT count(*) FROM notes") == 1
        await writer.close()
        await reader.close()

    with route.standing_still():
        asyncio.run(work())


def test_discard_all_ends_them(routed: Callable[..., Routed]) -> None:
    """As it ends the server's settings. A driver that resets a connection gives it away clean."""
    route = routed()
    with route.connect() as connection:
        connection.execute("SET martlet.route = 'primary'")
        connection.execute("DISCARD ALL")
        wait_until(lambda: route.is_replica(connection), "reads go to a replica")


def test_explain_route(routed: Callable[..., Routed]) -> None:
    """The console says of a statement what it is, why, and where it would go."""
    route = routed(schema=SCHEMA)

    def explained(statement: str) -> str:
        with route.proxy.console() as console:
            rows = console.execute(f"EXPLAIN ROUTE {statement}".encode()).fetchall()
        return " ".join(str(value) for row in rows for value in row.values())

    assert "read" in explained("SELECT n FROM notes WHERE n = 1")
    assert "nextval" in explained("SELECT nextval('numbers')")
    assert "write" in explained("INSERT INTO notes VALUES (1)")
    assert "FOR UPDATE" in explained("SELECT * FROM notes FOR UPDATE")
