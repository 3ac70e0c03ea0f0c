"""RESET goes back to the startup packet's value, as it does where there is no pooler, and before anything else runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import nullcontext

import asyncpg
import psycopg
import pytest

from cluster import Cluster
from proxy import Proxy
from rawpg import FLUSH, SYNC, Connection, Message, bind, cancel, close, execute, parse, query
from routing import Routed

pytestmark = [pytest.mark.one_loop, pytest.mark.martlet("PgBouncer ignores most settings of the startup packet")]

MODES = ["transaction", "session"]
SETTINGS = {"TimeZone": "Asia/Tokyo", "DateStyle": "German, DMY", "application_name": "mine", "search_path": "tenant",
            "options": "-c work_mem=7MB"}
SHOWN = ("SELECT current_setting('TimeZone'), current_setting('DateStyle'), current_setting('application_name'), "
         "current_setting('search_path'), current_setting('work_mem')")
STARTED = [b"Asia/Tokyo", b"German, DMY", b"mine", b"tenant", b"7MB"]


def login(proxy: Proxy | Cluster, database: str, **more: str) -> Connection:
    return Connection(proxy.host, proxy.port).login(database=database, **(SETTINGS | more))


def answers(messages: list[Message]) -> list[object]:
    """What a client sees, without descriptions of rows and without settings."""
    result: list[object] = []
    for each in messages:
        if each.type == "D":
            result.append(each.values())
        elif each.type == "E":
            result.append(each.sqlstate)
        elif each.type in "CZ":
            result.append(each.body.rstrip(b"\0").decode())
        elif each.type not in "TSN":
            result.append(each.type)
    return result


@pytest.fixture
def tenant(cluster: Cluster, database: str) -> str:
    with cluster.connect(database) as connection:
        connection.execute("CREATE SCHEMA tenant AUTHORIZATION app; CREATE TABLE tenant.orders (id int); "
                           "CREATE TABLE public.orders (id int); ALTER TABLE tenant.orders OWNER TO app; "
                           "ALTER TABLE public.orders OWNER TO app")
    return database


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("command", [
    "RESET ALL", "reset all;", "DISCARD ALL", "RESET TimeZone", "SET TIME ZONE DEFAULT", "SET SESSION TIME ZONE LOCAL",
    "SET datestyle TO DEFAULT", "SET search_path = DEFAULT -- all", "RESET \"work_mem\"", "/* x */ RESET application_name",
    "SET NAMES DEFAULT", "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL;"])
def test_the_startup_packet_holds(
        start_proxy: Callable[..., Proxy], cluster: Cluster, tenant: str, mode: str, command: str) -> None:
    proxy = start_proxy(settings={"pool_mode": mode, "default_pool_size": 2}, threads=1)
    with login(proxy, tenant) as client, login(cluster, tenant) as direct, \
            Connection(proxy.host, proxy.port).login(database=tenant) as other:
        for connection in (client, direct):
            for change in ("TimeZone = 'Europe/Rome'", "datestyle = 'SQL'", "application_name = 'changed'"):
                connection.simple(f"SET {change}")
            # What no server reports is lost between transactions.
            for change in ("search_path = public", "work_mem = '9MB'") if mode == "session" else ():
                connection.simple(f"SET {change}")
        results = []
        for connection in (client, direct):
            connection.parameter_log.clear()
            results.append([answers(connection.ask(query(command))), dict(connection.parameters),
                            answers(connection.ask(query(SHOWN))), answers(connection.ask(query(SHOWN)))])
        for key in ("TimeZone", "DateStyle", "application_name"):
            assert results[0][1][key] == results[1][1][key]
        assert results[0][2:] == results[1][2:]
        assert results[0][0] == results[1][0]
        assert other.simple("SHOW TimeZone") != [[b"Asia/Tokyo"]] and other.simple("SHOW work_mem") == [[b"4MB"]]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("requests", [
    [query("BEGIN"), query("SET search_path = public"), query("RESET search_path"), query(SHOWN), query("COMMIT"), query(SHOWN)],
    [query("BEGIN"), query("RESET ALL"), query("ROLLBACK"), query(SHOWN)],
    [query("BEGIN"), query("SET LOCAL search_path TO DEFAULT"), query(SHOWN), query("COMMIT"), query(SHOWN)],
    [query("BEGIN"), query("SAVEPOINT a"), query("RESET timezone"), query("SELECT 1/0"), query("ROLLBACK TO a"), query(SHOWN),
     query("COMMIT"), query(SHOWN)],
    [query("RESET ALL; " + SHOWN)],
    [query("SELECT 1; RESET timezone; SELECT 2; RESET search_path;; " + SHOWN + "; RESET nosuch; SELECT 3"), query(SHOWN)],
    [query("RESET timezone; SELECT 1/0; RESET ALL"), query(SHOWN)],
    [query("BEGIN; RESET ALL; COMMIT; SELECT 1/0"), query(SHOWN)],
    [query("RESET ALL"), query("RESET nosuch"), query(SHOWN)],
    [query("DISCARD ALL"), query(SHOWN), query("DISCARD ALL"), query("INSERT INTO orders VALUES (1)"), query(SHOWN)],
    [query("BEGIN"), query("DISCARD ALL"), query(SHOWN), query("ROLLBACK"), query(SHOWN)],
    [query("DISCARD ALL"), parse(SHOWN) + bind() + execute() + SYNC, query("SELECT 1")],
    [query("DEALLOCATE ALL; RESET ALL"), query(SHOWN)],
    [query("COPY (SELECT 1) TO STDOUT; RESET ALL; SELECT ';'; RESET ALL"), query(SHOWN)],
    [parse("RESET ALL") + bind() + execute() + SYNC, query(SHOWN)],
    [parse("RESET search_path") + bind() + execute() + parse("INSERT INTO orders VALUES (1)") + bind() + execute() + parse(SHOWN)
     + bind() + execute() + SYNC, query(SHOWN)],
    [parse("RESET ALL", "r") + SYNC, bind("r", "p") + execute("p") + execute("p") + SYNC, query(SHOWN),
     close("S", "r") + parse("SELECT 1", "r") + bind("r") + execute() + SYNC],
    [query("BEGIN"), parse("SET timezone TO DEFAULT") + bind() + execute() + SYNC, bind() + execute() + SYNC, query(SHOWN),
     query("ROLLBACK"), query(SHOWN)],
    [parse("DISCARD ALL") + bind() + execute() + SYNC, query(SHOWN)],
    [parse("RESET ALL") + bind("", "a") + parse(SHOWN) + bind("", "b") + execute("a") + execute("b") + SYNC, query(SHOWN)],
    [query("BEGIN"), query("SELECT 1/0"), query("RESET ALL"), parse("RESET ALL") + bind() + execute() + SYNC, query("ROLLBACK"),
     query(SHOWN)],
    [query("CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END"), query("SELECT 'RESET ALL;', $$; RESET ALL$$"),
     query(SHOWN)],
])
def test_what_follows_runs_with_it(
        start_proxy: Callable[..., Proxy], cluster: Cluster, tenant: str, mode: str, requests: list[bytes]) -> None:
    """One request after the other, and all in one packet, as at the server."""
    proxy = start_proxy(settings={"pool_mode": mode, "default_pool_size": 2}, threads=1)
    told = {}
    for place in (cluster, proxy):
        with login(place, tenant) as client, login(place, tenant) as pipelined:
            single = [answers(client.ask(each)) for each in requests]
            client.simple("TRUNCATE orders")
            together = answers(pipelined.ask(*requests, ready=len(requests)))
            told[place is proxy] = single, together, client.parameters["TimeZone"], pipelined.parameters["TimeZone"]
        with cluster.connect(tenant) as connection:
            assert connection.execute("SELECT count(*) FROM public.orders").fetchone() == (0,)
    assert told[True] == told[False]


def test_answers_in_small_pieces(start_proxy: Callable[..., Proxy], tenant: str) -> None:
    """Whatever the reads are, the client sees what it has asked for."""
    proxy = start_proxy(settings={"pkt_buf": 64, "default_pool_size": 1}, threads=1)
    with login(proxy, tenant) as client:
        for count in (1, 7, 50):
            text = "RESET ALL; SELECT repeat('x', 300);" * count + SHOWN
            seen = answers(client.ask(query(text)))
            assert seen == ["RESET", [b"x" * 300], "SELECT 1"] * count + [STARTED, "SELECT 1", "I"]
        client.send(parse("RESET ALL") + bind() + execute() + FLUSH)
        assert [client.read().type for _ in range(3)] == ["1", "2", "C"]
        client.send(SYNC)
        assert client.read().type == "Z"


def test_values_that_are_odd(start_proxy: Callable[..., Proxy], database: str) -> None:
    proxy = start_proxy(settings={"default_pool_size": 1})
    odd = {"application_name": "it's \\ $$ \"odd\"; --", "search_path": "\"A b\", \"it's\"", "my.own": "\u2603 ' \\"}
    with Connection(proxy.host, proxy.port).login(database=database, **odd) as client:
        shown = "SELECT current_setting('application_name'), current_setting('search_path'), current_setting('my.own')"
        before = client.simple(shown)
        assert before == [[value.encode() for value in odd.values()]]
        for command in ("RESET ALL", "DISCARD ALL", "RESET my.own", "RESET search_path; RESET application_name"):
            client.simple(command)
            assert client.simple(shown) == before


def test_pool_of_asyncpg(start_proxy: Callable[..., Proxy], database: str) -> None:
    """It resets each connection that it takes back."""
    proxy = start_proxy(settings={"default_pool_size": 1})

    async def work() -> None:
        pool = await asyncpg.create_pool(
            host=proxy.host, port=proxy.port, user="app", database=database, min_size=1, max_size=1,
            server_settings={"timezone": "Asia/Tokyo", "search_path": "s1", "work_mem": "6MB"})
        for _ in range(4):
            async with pool.acquire() as connection:
                assert connection.get_settings().TimeZone == "Asia/Tokyo"
                assert await connection.fetchval("SELECT '2020-01-01 00:00'::timestamptz::text") == "2020-01-01 00:00:00+09"
                assert await connection.fetchval("SHOW search_path") == "s1"
                assert await connection.fetchval("SHOW work_mem") == "6MB"
                await connection.execute("SET timezone = 'Europe/Rome'")
                await connection.execute("SET search_path = s2")
        await pool.close()

    asyncio.run(work())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("prepare", [False, True])
def test_psycopg(start_proxy: Callable[..., Proxy], tenant: str, mode: str, prepare: bool) -> None:
    proxy = start_proxy(settings={"pool_mode": mode, "default_pool_size": 1})
    with psycopg.connect(proxy.dsn(tenant), options="-c search_path=tenant -c timezone=Asia/Tokyo", autocommit=True) as connection:
        for command in ("RESET ALL", "RESET search_path", "DISCARD ALL"):
            with nullcontext() if command == "DISCARD ALL" else connection.transaction():
                if command != "DISCARD ALL":
                    connection.execute("SET search_path = public")
                connection.execute(command, prepare=prepare and command != "DISCARD ALL")
                connection.execute("INSERT INTO orders VALUES (1)")
            assert connection.info.timezone.key == "Asia/Tokyo"
        assert connection.execute("SELECT count(*) FROM tenant.orders").fetchone() == (3,)
        assert connection.execute("SELECT count(*) FROM public.orders").fetchone() == (0,)


def test_cancelled_discards(start_proxy: Callable[..., Proxy], database: str) -> None:
    """A cancel that comes too late takes nothing away."""
    proxy = start_proxy(settings={"default_pool_size": 1})
    with login(proxy, database) as client:
        for _ in range(20):
            client.send(query("DISCARD ALL"))
            cancel(proxy.host, proxy.port, client.key)
            client.read_until("Z")
        for _ in range(50):
            seen = answers(client.ask(query(SHOWN)))
            if seen[0] != "57014":
                break
        assert seen[0] == STARTED


@pytest.mark.parametrize("requests", [
    [query("RESET ALL"), query(SHOWN), query("SELECT 1; RESET timezone; " + SHOWN)],
    [query("DISCARD ALL"), query(SHOWN), parse(SHOWN) + bind() + execute() + SYNC],
    [query("BEGIN"), query("RESET ALL"), query(SHOWN), query("COMMIT"), query(SHOWN)],
    [query("BEGIN; RESET ALL; " + SHOWN), query("ROLLBACK"), query(SHOWN)],
    [parse("RESET ALL") + bind() + execute() + parse(SHOWN) + bind() + execute() + SYNC, query(SHOWN)],
    [parse("DISCARD ALL") + bind() + execute() + SYNC, query(SHOWN)],
    [query("BEGIN READ ONLY"), query(SHOWN), query("RESET timezone"), query(SHOWN), query("COMMIT"), query(SHOWN)],
])
def test_routed(routed: Callable[..., Routed], requests: list[bytes]) -> None:
    """On every server, whichever has run the command."""
    route = routed()
    told = {}
    for place in (route.cluster.primary, route.proxy):
        database = route.database if place is not route.proxy else "app"
        with login(place, database) as client, login(place, database) as pipelined:
            for _ in range(2):
                single = [answers(client.ask(each)) for each in requests]
            together = answers(pipelined.ask(*requests, ready=len(requests)))
            reads = [pipelined.simple(SHOWN) for _ in range(4)]
            told[place is route.proxy] = single, together, reads, client.parameters["TimeZone"]
    assert told[True] == told[False]


@pytest.mark.parametrize("text", [
    "RESET ALL; SELECT nosuch", "SELECT '\u00e4\u2603'; RESET timezone; RESET datestyle; SELECT '\u2603', nosuch; RESET ALL",
    "SELECT nosuch; RESET ALL", "RESET ALL; RESET ALL; nosuch", "RESET ALL; SELECT 1/0", "RESET timezone; RESET nosuch"])
def test_positions_of_errors(start_proxy: Callable[..., Proxy], cluster: Cluster, database: str, text: str) -> None:
    """They are those in the client's text."""
    proxy = start_proxy()
    told = []
    for place in (cluster, proxy):
        with login(place, database, client_encoding="UTF8") as client:
            errors = [each.fields() for each in client.ask(query(text)) if each.type == "E"]
            assert len(errors) == 1
            told.append(errors[0])
            assert client.simple("SHOW timezone") == [[b"Asia/Tokyo"]]
    assert told[0] == told[1]
