"""RESET goes back to the startup packet's value, as it does where there is no pooler, before the client hears that it is done."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import asyncpg
import psycopg
import pytest

from cluster import Cluster
from proxy import Proxy
from rawpg import (
    COPY_DONE, FLUSH, SYNC, Connection, Message, bind, cancel, close, copy_data, execute, parse, query)
from routing import Routed

pytestmark = [pytest.mark.one_loop, pytest.mark.martlet("PgBouncer ignores most settings of the startup packet")]

MODES = ["transaction", "session"]
SETTINGS = {"TimeZone": "Asia/Tokyo", "DateStyle": "German, DMY", "application_name": "mine", "search_path": "tenant",
            "options": "-c work_mem=7MB"}
SHOWN = ("SELECT current_setting('TimeZone'), current_setting('DateStyle'), current_setting('application_name'), "
         "current_setting('search_path'), current_setting('work_mem')")
REPORTED = "SELECT current_setting('TimeZone'), current_setting('DateStyle'), current_setting('application_name')"
# Too long to be looked at.
LONG = "RESET timezone /* " + "x" * 70_000 + " */"
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


@pytest.fixture
def role(cluster: Cluster, tenant: str) -> Iterator[str]:
    name = f"role_{uuid.uuid4().hex[:10]}"
    with cluster.connect(tenant) as connection:
        connection.execute(f"CREATE ROLE {name}; GRANT {name} TO app")
        yield name
        connection.execute(f"DROP ROLE {name}")


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
    [query("RESET ALL; SELECT 1"), query(SHOWN)],
    [query("SELECT 1; RESET timezone; SELECT 2; RESET search_path;; RESET nosuch; SELECT 3"), query(SHOWN)],
    [query("SELECT 1 AS atomic; RESET TimeZone; SELECT (')')"), query(SHOWN)],
    [query("SET search_path = public"), query("RESET timezone; RESET search_path; SELECT 1/0"), query("SHOW timezone")],
    [query("SET timezone = 'Europe/Rome'"), query("RESET timezone; SELECT 1/0"), query("SHOW timezone"), query("RESET timezone"),
     query("SHOW timezone"), query("RESET ALL; SET timezone = 'Europe/Rome'"), query("SHOW timezone")],
    [query("SET timezone = 'Europe/Rome'"), query("DISCARD ALL; SELECT 1"), query("SHOW timezone"), query("SELECT 1; DISCARD ALL"),
     query("SHOW timezone"), query('DISCARD "ALL"'), query("SHOW timezone"), query("DISCARD ALL"), query("SHOW timezone")],
    [query("BEGIN ISOLATION LEVEL REPEATABLE READ"), query("RESET timezone"), query("SET TRANSACTION READ ONLY"), query("COMMIT")],
    [query("RESET ALL; BEGIN ISOLATION LEVEL SERIALIZABLE"), query(SHOWN), query("COMMIT"), query(SHOWN)],
    [query("RESET ALL"), query("BEGIN"), query("RESET search_path"), query("SET LOCAL timezone TO DEFAULT"),
     query("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"), query(SHOWN), query("COMMIT"), query(SHOWN)],
    [query("SET timezone = 'Europe/Rome'"), query("BEGIN"), query("SET LOCAL timezone TO DEFAULT"), query("SHOW timezone"),
     query("COMMIT"), query("SHOW timezone")],
    [query("RESET timezone; SELECT 1/0; RESET ALL"), query(SHOWN)],
    [query("BEGIN; RESET ALL; COMMIT; SELECT 1/0"), query(SHOWN)],
    [query("RESET ALL"), query("RESET nosuch"), query(SHOWN)],
    [query("DISCARD ALL"), query(SHOWN), query("DISCARD ALL"), query("INSERT INTO orders VALUES (1)"), query(SHOWN)],
    [query("BEGIN"), query("DISCARD ALL"), query(SHOWN), query("ROLLBACK"), query(SHOWN)],
    [query("DISCARD ALL"), parse(SHOWN) + bind() + execute() + SYNC, query("SELECT 1")],
    [query("DEALLOCATE ALL; RESET ALL"), query(SHOWN)],
    [query("COPY (SELECT 1) TO STDOUT; RESET ALL; SELECT ';'; RESET ALL"), query(SHOWN)],
    [query("COPY orders FROM STDIN; RESET ALL; SELECT 7") + copy_data(b"7\n") + COPY_DONE, query(SHOWN)],
    [parse("RESET ALL") + bind() + execute() + SYNC, query(SHOWN)],
    [parse("RESET search_path") + bind() + execute() + parse("SELECT 1") + bind() + execute() + SYNC, query(SHOWN)],
    [parse("RESET ALL", "r") + SYNC, bind("r", "p") + execute("p") + execute("p") + SYNC, query(SHOWN),
     close("S", "r") + parse("SELECT 1", "r") + bind("r") + execute() + SYNC],
    [parse("RESET ALL", "r") + SYNC, parse("SELECT 1", "r") + SYNC, query("SET timezone = 'Europe/Rome'"),
     bind("r") + execute() + SYNC, query("SHOW timezone")],
    [parse("SELECT 1", "r") + SYNC, parse("RESET ALL", "r") + SYNC, query("SET timezone = 'Europe/Rome'"),
     bind("r") + execute() + SYNC, query("SHOW timezone")],
    [query("BEGIN"), parse("SET timezone TO DEFAULT", "r") + bind("r") + execute() + SYNC, bind("r") + execute() + SYNC,
     query(SHOWN), query("ROLLBACK"), query(SHOWN)],
    [parse("DISCARD ALL") + bind() + execute() + SYNC, query(SHOWN)],
    [parse("DISCARD ALL") + bind() + execute() + parse("SELECT 1/0") + bind() + execute() + SYNC, query(SHOWN)],
    [parse("DISCARD ALL") + bind() + execute() + parse("nonsense") + SYNC, query(SHOWN)],
    [parse("SELECT 1", "a") + SYNC, parse("DISCARD ALL") + bind() + execute() + parse("SELECT 2", "a") + bind("a") + execute()
     + SYNC, bind("a") + execute() + SYNC],
    [parse("RESET ALL") + bind() + execute() + parse("BEGIN READ WRITE") + bind() + execute()
     + parse("INSERT INTO tenant.orders VALUES (1)") + bind() + execute() + SYNC, query(SHOWN), query("COMMIT")],
    [parse("RESET ALL") + bind("", "a") + parse("SELECT 1") + bind("", "b") + execute("a") + execute("b") + SYNC, query(SHOWN)],
    [query("BEGIN"), query("SELECT 1/0"), query("RESET ALL"), parse("RESET ALL") + bind() + execute() + SYNC, query("ROLLBACK"),
     query(SHOWN)],
    # What comes behind it is answered behind it.
    [parse("SELECT 1", "a") + SYNC, query("RESET ALL"), close("S", "a") + SYNC, query(SHOWN)],
    [parse("SELECT 1", "a") + SYNC, query("BEGIN"), query("RESET ALL"), close("S", "a") + close("S", "b") + SYNC,
     parse("RESET ALL") + bind() + execute() + SYNC, SYNC, query("COMMIT")],
    # An error stands behind it.
    [query("BEGIN"), query("RESET ALL; SAVEPOINT a; SELECT 1/0"), query("ROLLBACK TO a"), query(REPORTED), query("COMMIT"),
     query(REPORTED)],
    [query("BEGIN"), parse("RESET ALL") + bind() + execute() + parse("SAVEPOINT a") + bind() + execute() + parse("nonsense") + SYNC,
     query("ROLLBACK TO a; SELECT 1"), query("COMMIT"), query(REPORTED)],
    [query("BEGIN"), query("RESET ALL; SAVEPOINT a"), query("ROLLBACK TO a"), query(REPORTED), query("COMMIT"), query(REPORTED)],
    [parse("DISCARD ALL") + bind() + execute() + parse("BEGIN") + bind() + execute() + parse("SELECT 1/0") + bind() + execute() + SYNC,
     query("ROLLBACK"), query(SHOWN)],
    [query("BEGIN"), query("RESET ALL; COMMIT; BEGIN; SELECT 1/0"), query("ROLLBACK"), query(SHOWN)],
    # It is rolled back.
    [query("BEGIN"), query("SET work_mem = '9MB'; SAVEPOINT a; RESET work_mem; ROLLBACK TO a"), query(SHOWN), query("COMMIT")],
    [query("SET timezone = 'UTC'"), query("BEGIN"), query("SAVEPOINT a; RESET timezone; ROLLBACK TO a"), query(REPORTED),
     query("COMMIT"), query(REPORTED)],
    [query("SET timezone = 'UTC'"), query("BEGIN; RESET timezone; ROLLBACK"), query(REPORTED), query("RESET timezone; SELECT 1/0"),
     query(REPORTED)],
    # The transaction has a value of its own.
    [query("BEGIN"), query("RESET ALL; SET LOCAL timezone = 'Europe/Paris'"), query(SHOWN), query(SHOWN), query("COMMIT"),
     query(SHOWN)],
    [query("BEGIN"), query("RESET timezone; SET LOCAL timezone = 'Europe/Paris'"), query(SHOWN), query("ROLLBACK"), query(SHOWN)],
    [query("RESET timezone; SET LOCAL timezone = 'Europe/Paris'; SELECT 1"), query(SHOWN)],
    [query("RESET timezone; SET LOCAL timezone TO DEFAULT; SELECT 1"), query(SHOWN)],
    [query("BEGIN; RESET ALL; SET LOCAL work_mem = '9MB'"), query(SHOWN), query("COMMIT"), query(SHOWN)],
    # A name is given twice.
    [query("BEGIN"), query("SELECT 1/0"), parse("RESET timezone", "r") + SYNC, query("ROLLBACK"),
     parse("SET timezone = 'UTC'", "r") + bind("r") + execute() + SYNC, query(REPORTED)],
    [parse("RESET timezone", "r") + SYNC, query("DEALLOCATE r"), parse("RESET datestyle", "r") + bind("r") + execute() + SYNC,
     query(REPORTED)],
    [parse("RESET timezone", "r") + SYNC, query("DISCARD ALL"), parse("RESET datestyle", "r") + bind("r") + execute() + SYNC,
     query(SHOWN)],
    [parse("SET datestyle = 'ISO, MDY'", "r") + SYNC, parse("RESET datestyle", "r") + SYNC, bind("r") + execute() + SYNC,
     query(REPORTED)],
    [parse("SELECT 1/0") + bind() + execute() + parse("RESET timezone", "r") + SYNC,
     parse("RESET datestyle", "r") + bind("r") + execute() + SYNC, query(REPORTED)],
    [query(LONG), query("SELECT 1"), query(LONG), parse("SELECT 2") + bind() + execute() + SYNC],
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
            text = "RESET ALL; SELECT repeat('x', 300);" * count
            seen = answers(client.ask(query(text)))
            assert seen == ["RESET", [b"x" * 300], "SELECT 1"] * count + ["I"]
            assert client.simple(SHOWN) == [STARTED]
        client.send(parse("RESET ALL") + bind() + execute() + FLUSH)
        assert [client.read().type for _ in range(3)] == ["1", "2", "C"]
        client.send(SYNC)
        assert {each.type for each in client.read_until("Z")} <= {"S", "Z"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("begun, rest", [
    (parse("SELECT 5") + bind(), execute() + SYNC),
    (query("COPY orders FROM STDIN"), copy_data(b"1\n") + COPY_DONE),
])
def test_nothing_is_set_in_the_middle(
        start_proxy: Callable[..., Proxy], tenant: str, mode: str, begun: bytes, rest: bytes) -> None:
    """A RESET that nobody has seen, and behind it a request that has begun when it is answered."""
    proxy = start_proxy(settings={"pool_mode": mode, "default_pool_size": 1}, threads=1)
    with login(proxy, tenant) as client:
        for before, after in ((b"", b""), (query("BEGIN"), query("COMMIT"))):
            client.send(before + query(LONG) + begun)
            seen = [each for _ in range(2 if before else 1) for each in client.read_until("Z")]
            client.send(rest + after)
            seen += [each for _ in range(2 if after else 1) for each in client.read_until("Z")]
            assert not [each.sqlstate for each in seen if each.type == "E"]
            assert client.simple(REPORTED) == [STARTED[:3]]


@pytest.mark.parametrize("text", ["RESET ALL;" * 6_000, "RESET ALL;RESET a.b;" * 3_000, "RESET ALL;" * 20_000])
def test_any_number_of_them(start_proxy: Callable[..., Proxy], database: str, text: str) -> None:
    """In one query, by a client with as many settings as there may be; what is not looked at is seen by its tags."""
    proxy = start_proxy(settings={"default_pool_size": 1}, threads=1)
    many = {f"a.b{number}": "x" for number in range(200)} | {"a.b": "y", "TimeZone": "Asia/Tokyo"}
    with Connection(proxy.host, proxy.port).login(database=database, **many) as client:
        for _ in range(2):
            assert sum(each.type == "C" for each in client.ask(query(text))) == text.count(";")
            assert client.simple("SHOW timezone") == [[b"Asia/Tokyo"]]
        assert client.simple("SELECT current_setting('a.b'), current_setting('a.b199')") == [[b"y", b"x"]]


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


def test_cancelled_resets(start_proxy: Callable[..., Proxy], database: str) -> None:
    """A cancel that comes late for the command, and hits what sets them again, costs nobody the connection."""
    proxy = start_proxy(settings={"default_pool_size": 1}, threads=1)
    many = " ".join(f"-c my.v{number}={number}" for number in range(200))
    with login(proxy, database, options=many) as client:
        for number in range(300):
            client.send(query("DISCARD ALL" if number % 2 else "SELECT 1; RESET ALL"))
            # Each time a little later: some hit the command, some what sets again.
            time.sleep(number % 20 / 10_000)
            cancel(proxy.host, proxy.port, client.key)
            client.read_until("Z")
        for _ in range(50):
            seen = answers(client.ask(query("SELECT current_setting('TimeZone'), current_setting('my.v7')")))
            if seen[0] != "57014":
                break
        assert seen[0] == [b"Asia/Tokyo", b"7"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("command", ["RESET ALL", "DISCARD ALL", "SET search_path TO DEFAULT", "RESET ROLE"])
@pytest.mark.parametrize("extended", [False, True])
def test_the_next_client_gets_none_of_it(
        start_proxy: Callable[..., Proxy], tenant: str, role: str, mode: str, command: str, extended: bool) -> None:
    proxy = start_proxy(settings={"pool_mode": mode, "default_pool_size": 1}, threads=1)
    shown = SHOWN + ", current_setting('statement_timeout'), current_user"
    with login(proxy, tenant, options=f"-c role={role} -c statement_timeout=77s") as client:
        mine = client.simple(shown)
        client.ask(parse(command) + bind() + execute() + SYNC if extended else query(command))
        assert client.simple(shown) == mine
    with Connection(proxy.host, proxy.port).login(database=tenant) as next_one:
        assert next_one.simple(shown) == [
            [b"UTC", b"ISO, MDY", b"", b'"$user", public', b"4MB", b"0", b"app"]]


def test_snapshots_are_the_clients_own(start_proxy: Callable[..., Proxy], tenant: str) -> None:
    """What is set again behind a RESET takes none."""
    proxy = start_proxy(settings={"default_pool_size": 1})
    with login(proxy, tenant) as client:
        client.ask(query("BEGIN ISOLATION LEVEL REPEATABLE READ"))
        client.ask(query("RESET search_path"))
        client.ask(query("SET LOCAL timezone TO DEFAULT"))
        with Connection(proxy.cluster.host, proxy.cluster.port).login(database=tenant) as direct:
            direct.simple("INSERT INTO public.orders VALUES (1)")
        assert client.simple("SELECT count(*) FROM public.orders") == [[b"1"]]
        client.ask(query("COMMIT"))


@pytest.mark.parametrize("requests", [
    [query("RESET ALL"), query(SHOWN), query("SELECT 1; RESET timezone; SELECT 2"), query(SHOWN)],
    [query("DISCARD ALL"), query(SHOWN), parse(SHOWN) + bind() + execute() + SYNC],
    [query("BEGIN"), query("RESET ALL"), query(SHOWN), query("COMMIT"), query(SHOWN)],
    [query("BEGIN; RESET ALL; SELECT 1"), query(SHOWN), query("ROLLBACK"), query(SHOWN)],
    [parse("RESET ALL") + bind() + execute() + parse("SELECT 1") + bind() + execute() + SYNC, query(SHOWN)],
    [parse("DISCARD ALL") + bind() + execute() + SYNC, query(SHOWN)],
    [query("BEGIN READ ONLY"), query(SHOWN), query("RESET timezone"), query(SHOWN), query("COMMIT"), query(SHOWN)],
    [query("BEGIN READ ONLY"), query("SELECT 1"), query("COMMIT; RESET timezone; SELECT 2"), query(SHOWN), query("RESET ALL")],
    [query("BEGIN READ ONLY"), query("SELECT 1"), query("RESET ALL; COMMIT; RESET datestyle"), query(SHOWN)],
    [query("BEGIN READ ONLY"), query("SELECT 1"), parse("RESET ALL") + bind() + execute() + parse("COMMIT") + bind() + execute()
     + parse(SHOWN) + bind() + execute() + SYNC, query(SHOWN)],
    [query("BEGIN READ ONLY"), query("SELECT 1"), query("RESET ALL; COMMIT; SELECT 5; SELECT 6"), query(SHOWN)],
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
