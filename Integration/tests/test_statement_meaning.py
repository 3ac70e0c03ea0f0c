"""One text, one meaning: a prepared statement is for each client what it was when it was prepared, on every server."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import psycopg
import pytest

from cluster import Cluster
from common import environment, wait_until
from proxy import Proxy
from rawpg import SYNC, Connection, Message, bind, close, describe, execute, parse, query

JDBC = Path("/usr/share/java/postgresql.jar")

pytestmark = [pytest.mark.one_loop, pytest.mark.martlet("PgBouncer tells statements apart by their text only")]


def errors(answer: list[Message]) -> list[str]:
    return [each.sqlstate for each in answer if each.type == "E"]


def outcome(answer: list[Message]) -> list[object]:
    """Rows, or the error."""
    return errors(answer) or [value for each in answer if each.type == "D" for value in each.values()]


def run(client: Connection, name: str, *values: str | bytes, results: tuple[int, ...] = (),
        formats: tuple[int, ...] = ()) -> list[object]:
    return outcome(client.ask(bind(name, values=values, results=results, formats=formats), execute(), SYNC))


def at(host: str, port: int, database: str, **parameters: str) -> Connection:
    return Connection(host, port).login(database=database, **parameters)


@contextmanager
def busy(proxy: Proxy, database: str, count: int) -> Iterator[None]:
    """So many server connections are somebody else's: in one thread those that were used last."""
    holders = [at(proxy.host, proxy.port, database) for _ in range(count)]
    for each in holders:
        each.simple("BEGIN")
    yield
    for each in holders:
        each.simple("COMMIT")
        each.socket.close()


def pooled(start_proxy: Callable[..., Proxy], size: int, **settings: object) -> Proxy:
    return start_proxy(settings={"default_pool_size": size, **settings}, threads=1)


# Settings.

SETTINGS = {
    "TimeZone": ("UTC", "Asia/Tokyo", "SELECT extract(epoch FROM '2026-01-01 00:00'::timestamptz)::text"),
    "DateStyle": ("ISO, MDY", "SQL, DMY", "SELECT '01/02/2026'::date - '2000-01-01'::date"),
    "IntervalStyle": ("postgres", "sql_standard", "SELECT extract(epoch FROM '-1 02:00:00'::interval)::text"),
    "standard_conforming_strings": ("on", "off", r"SELECT length('a\\b')"),
    "search_path": ("one", "two", "SELECT v FROM t"),
    "client_encoding": ("UTF8", "LATIN1", "SELECT length('\u00e4')"),
    "array_nulls": ("on", "off", "SELECT ('{NULL}'::text[])[1] IS NULL"),
    "transform_null_equals": ("off", "on", "SELECT (NULL = NULL) IS NULL"),
    "lc_monetary": ("C", "C.UTF-8", "SELECT '12'::money::numeric"),
    "timezone_abbreviations": ("Default", "India", "SELECT ('2026-01-01 00:00 IST'::timestamptz AT TIME ZONE 'UTC')::text"),
    # What immutable functions return stands in a plan.
    "bytea_output": ("hex", "escape", r"SELECT '\x41ff'::bytea::text"),
    "extra_float_digits": ("1", "0", "SELECT (1.1::float8 * 3)::text"),
    "quote_all_identifiers": ("off", "on", "SELECT quote_ident('a')"),
}


@pytest.fixture
def tenants(database: str, cluster: Cluster) -> str:
    """Schemas with the same tables of other types."""
    with at(cluster.host, cluster.port, database) as client:
        client.simple("CREATE SCHEMA one; CREATE TABLE one.t AS SELECT 1 AS v; "
                      "CREATE SCHEMA two; CREATE TABLE two.t AS SELECT 'two'::text AS v")
    return database


@pytest.mark.parametrize("how", ["startup", "options", "SET", "SET LOCAL", "set_config", "DO"])
def test_settings_at_parse(cluster: Cluster, start_proxy: Callable[..., Proxy], tenants: str, how: str) -> None:
    """Two clients with other settings and the same texts, each several times, on all servers."""
    proxy = pooled(start_proxy, 2)

    def clients(host: str, port: int, name: str) -> list[Connection]:
        return [at(host, port, tenants, **{
            "startup": {name: value}, "options": {"options": f"-c {name}={value.replace(' ', chr(92) + ' ')}"}
        }.get(how, {})) for value in SETTINGS[name][:2]]

    def begin(client: Connection, name: str, value: str) -> None:
        client.simple("BEGIN")
        if how == "SET LOCAL":
            client.simple(f"SET LOCAL {name} = " + (value if name == "search_path" else f"'{value}'"))
        elif how == "DO":
            # What the block does cannot be seen.
            client.simple(f"DO $$BEGIN PERFORM set_config(convert_from('{name}', 'UTF8'), '{value}', true); END$$")
        else:
            client.simple(f"SELECT set_config('{name}', '{value}', true)")

    def play(host: str, port: int, name: str) -> list[object]:
        *values, text = SETTINGS[name]
        everybody, heard = clients(host, port, name), []
        for turn in range(3):
            for client, value in zip(everybody, values):
                if how == "SET" and turn == 0 and name != "search_path" and name in client.parameters:
                    client.simple(f"SET {name} = '{value}'")
                if how in ("SET LOCAL", "set_config", "DO"):
                    begin(client, name, value)
                heard.append(errors(client.ask(parse(text, f"s{turn}"), SYNC)))
                heard.append([run(client, f"s{number}") for number in range(turn + 1)])
                if how in ("SET LOCAL", "set_config", "DO"):
                    client.simple("COMMIT")
                elif host == proxy.host and port == proxy.port:
                    with busy(proxy, tenants, 1):
                        heard.append(run(client, "s0"))
                else:
                    heard.append(run(client, "s0"))
        for client in everybody:
            client.socket.close()
        return heard

    for name in SETTINGS:
        assert play(proxy.host, proxy.port, name) == play(cluster.host, cluster.port, name), name


SETTERS = {
    "SET": "SET timezone = 'Asia/Tokyo'", "SET LOCAL": "SET LOCAL timezone = 'Asia/Tokyo'",
    "set_config": "SELECT set_config('timezone', 'Asia/Tokyo', false)", "DO": "DO $$BEGIN SET timezone = 'Asia/Tokyo'; END$$",
    "ROLLBACK TO": "ROLLBACK TO a",
}


@pytest.mark.parametrize("named", [False, True], ids=["unnamed", "named"])
@pytest.mark.parametrize("others", ["before", "behind", "none"])
@pytest.mark.parametrize("how", SETTERS)
def test_settings_in_the_same_batch(
        cluster: Cluster, start_proxy: Callable[..., Proxy], database: str, how: str, others: str, named: bool) -> None:
    """Nothing has been answered of the command when the statement is prepared behind it."""
    instant = parse("SELECT extract(epoch FROM timestamptz '2026-01-01 00:00')::bigint", "s")
    name = "setter" if named else ""
    told = {}
    for place in (cluster, pooled(start_proxy, 2)):
        clients = [at(place.host, place.port, database) for _ in range(3)]
        if others == "before":
            clients[1].ask(instant, SYNC)
            run(clients[1], "s")
        if how == "ROLLBACK TO":
            # It goes back to the session's own, and what is in between is Tokyo's.
            clients[0].ask(query("BEGIN"), query("SAVEPOINT a"), query("SET LOCAL timezone = 'Asia/Tokyo'"), ready=3)
        seen = [outcome(clients[0].ask(
            parse(SETTERS[how], name) + bind(name) + execute() + instant + bind("s") + execute() + SYNC))]
        if how == "ROLLBACK TO":
            clients[0].ask(query("COMMIT"))
        for client in clients[1:] if others != "none" else []:
            if client is not clients[1] or others != "before":
                client.ask(instant, SYNC)
            seen.append(run(client, "s"))
        # On another server it is what it was; what SET LOCAL sets without a transaction is over before anybody is told.
        clients[1].ask(query("BEGIN"))
        seen.append(run(clients[0], "s") if how != "SET LOCAL" else None)
        told[place is cluster] = seen
    assert told[True] == told[False]


NULLS = "SELECT ('{NULL}'::text[])[1] IS NULL"
LONG = " /* " + "x" * 70_000 + " */"
CALL = "set_config('array_nulls', 'off', true)"


def batch(text: str, portal: str = "") -> bytes:
    return parse(text) + bind("", portal) + execute(portal)


@pytest.mark.parametrize("named", [False, True], ids=["its first", "another"])
@pytest.mark.parametrize("requests", [
    *([form(text)] for form in (query, lambda text: parse(text) + bind() + describe("P") + execute() + SYNC) for text in (
        f"SELECT {CALL}", f"SELECT  {CALL}", f" SELECT {CALL}", f"/* x */ SELECT {CALL}", f"SELECT\n\t{CALL}",
        f"SELECT 1, {CALL}", f"WITH a AS (SELECT {CALL}) SELECT * FROM a", f"select Pg_Catalog.{CALL.upper()}".replace(
            "ARRAY_NULLS", "array_nulls"), "SET LOCAL array_nulls = off", "SET LOCAL array_nulls = off" + LONG,
        f"SELECT {CALL}" + LONG)),
    [query(f"SELECT 1; SELECT {CALL}")], [query(f"COMMIT; BEGIN; SELECT {CALL}")], [query("SELECT 1; SET LOCAL array_nulls = off")],
    [parse("SELECT set_config($1, $2, true)") + bind(values=("array_nulls", "off")) + execute() + SYNC],
    [parse("SET LOCAL array_nulls = off") + bind("", "p") + SYNC, parse("SELECT 1", "other") + SYNC, execute("p") + SYNC],
    [parse("SELECT 1", "other") + SYNC, parse("SET LOCAL array_nulls = off") + bind("", "p") + SYNC, execute("p") + SYNC],
])
def test_settings_by_whatever_means(
        cluster: Cluster, start_proxy: Callable[..., Proxy], database: str, requests: list[bytes], named: bool) -> None:
    """In a transaction, ahead of a client's first name as well: nobody else gets a statement with them."""
    told = {}
    for place in (cluster, pooled(start_proxy, 1)):
        seen = []
        with at(place.host, place.port, database) as client, at(place.host, place.port, database) as other:
            if named:
                client.ask(parse("SELECT 0", "zero") + SYNC)
            client.ask(query("BEGIN"))
            for each in requests:
                client.ask(each)
            client.ask(parse(NULLS, "s") + SYNC)
            seen.append(run(client, "s"))
            client.ask(query("COMMIT"))
            other.ask(parse(NULLS, "s") + SYNC)
            seen += [run(other, "s"), run(client, "s")]
        told[place is cluster] = seen
    assert told[True] == told[False]


@pytest.mark.parametrize("begin", ["BEGIN; ", "/* x */ BEGIN;", " begin;"])
def test_settings_where_a_transaction_begins(start_proxy: Callable[..., Proxy], database: str, begin: str) -> None:
    proxy = pooled(start_proxy, 1)
    with at(proxy.host, proxy.port, database) as client, at(proxy.host, proxy.port, database) as other:
        client.ask(query(f"{begin}SELECT 1, {CALL}"))
        client.ask(parse(NULLS, "s") + SYNC)
        assert run(client, "s") == [b"f"]
        client.ask(query("COMMIT"))
        other.ask(parse(NULLS, "s") + SYNC)
        assert run(other, "s") == [b"t"]
        # In one batch, too, where the first of it was not looked at.
        third = NULLS + " AS third"
        client.ask(query("DEALLOCATE ALL"))
        client.ask(batch(f"WITH a AS (SELECT {CALL}) SELECT * FROM a") + parse(third, "t") + SYNC)
        other.ask(parse(third, "t") + SYNC)
        assert run(other, "t") == [b"t"]


def test_definitions_that_say_select(cluster: Cluster, start_proxy: Callable[..., Proxy], database: str) -> None:
    """They shadow what others have prepared, or look different each time."""
    shadow = ["CREATE TABLE tenant.t AS SELECT 'tenant' AS v", "SELECT 'tenant' AS v INTO tenant.t",
              "CREATE MATERIALIZED VIEW tenant.t AS SELECT 'tenant' AS v", "/* x */ WITH a AS (SELECT 'tenant' AS v) SELECT v INTO tenant.t FROM a",
              "PREPARE p AS SELECT 'tenant' AS v; CREATE TABLE tenant.t AS EXECUTE p; DEALLOCATE p"]
    forms = {
        "query": lambda text: query(text), "batch": lambda text: batch(text) + SYNC,
        "described": lambda text: parse(text) + bind() + describe("P") + execute() + SYNC,
        "named": lambda text: parse(text, "n") + bind("n") + execute() + close("S", "n") + SYNC}
    proxy = pooled(start_proxy, 1)
    settings = {"options": "-c search_path=tenant,public"}
    with at(cluster.host, cluster.port, database) as direct:
        direct.simple("CREATE SCHEMA tenant; CREATE TABLE public.t AS SELECT 'public' AS v")
        for text in shadow:
            for name, form in forms.items():
                if "PREPARE" in text and name != "query":
                    continue
                with at(proxy.host, proxy.port, database, **settings) as client, \
                        at(proxy.host, proxy.port, database, **settings) as other:
                    client.ask(parse("SELECT v FROM t", "s") + SYNC)
                    assert run(client, "s") == [b"public"]
                    client.ask(form(text))
                    other.ask(parse("SELECT v FROM t", "s") + SYNC)
                    assert run(other, "s") == [b"tenant"], (text, name)
                    direct.simple("DROP MATERIALIZED VIEW tenant.t" if "VIEW" in text else "DROP TABLE tenant.t")
                    other.simple("CREATE TABLE gone (); DROP TABLE gone")


def test_plain_reads_are_no_definitions(start_proxy: Callable[..., Proxy], database: str) -> None:
    """However they are run, what is prepared stays prepared."""
    proxy = pooled(start_proxy, 1)
    text = "WITH a AS (INSERT INTO t VALUES (1) RETURNING n) SELECT n FROM a"
    with at(proxy.host, proxy.port, database) as client, at(proxy.host, proxy.port, database) as other:
        client.simple("CREATE TABLE t (n int)")
        client.ask(parse("SELECT 1", "s") + parse(text, "w") + parse("INSERT INTO t SELECT 1", "i") + SYNC)
        since = client.simple("SELECT prepare_time FROM pg_prepared_statements WHERE statement = 'SELECT 1'")
        for requests in (query("SELECT 1; SELECT 2"), batch("SELECT 1") + SYNC, batch("SELECT 1") + batch("SELECT 2") + SYNC,
                         bind("w") + execute() + bind("s") + execute() + SYNC, bind("i") + execute() + bind("s") + execute() + SYNC,
                         parse("VALUES (1), (2)") + bind() + execute("", 1) + execute() + SYNC, batch(text) + SYNC,
                         bind("s", "a") + bind("s", "b") + execute("a") + execute("b") + SYNC):
            client.ask(requests)
            other.ask(parse("SELECT 1", "s") + SYNC)
            assert run(other, "s") == run(client, "s") == [b"1"]
            other.ask(close("S", "s") + SYNC)
            now = client.simple("SELECT prepare_time FROM pg_prepared_statements WHERE statement = 'SELECT 1'")
            assert now == since, requests


@pytest.mark.parametrize("definition", [
    "ALTER TABLE t ADD COLUMN more int", "DROP TABLE t", "CREATE TEMP TABLE t (other text) ON COMMIT DROP",
    "ALTER TABLE t ALTER COLUMN n TYPE text"])
def test_definitions_in_the_same_batch(
        cluster: Cluster, start_proxy: Callable[..., Proxy], database: str, definition: str) -> None:
    told = {}
    proxy = pooled(start_proxy, 1)
    for place in (cluster, proxy):
        with cluster.connect(database) as connection:
            connection.execute("DROP TABLE IF EXISTS t; CREATE TABLE t (n int); INSERT INTO t VALUES (1); ALTER TABLE t OWNER TO app")
        with at(place.host, place.port, database) as other, at(place.host, place.port, database) as client:
            other.ask(parse("SELECT * FROM t", "other"), SYNC)
            run(other, "other")
            seen = [outcome(client.ask(
                parse(definition) + bind() + execute() + parse("SELECT * FROM t", "s") + bind("s") + describe("P") + execute()
                + SYNC))]
            with place.connect(database, prepare_threshold=0) as driver:
                with driver.pipeline():
                    driver.execute("DROP TABLE IF EXISTS u")
                    driver.execute("CREATE TABLE u AS SELECT 1 AS n")
                    first = driver.execute("SELECT * FROM u")
                    driver.execute("ALTER TABLE u ADD COLUMN more text")
                    second = driver.execute("SELECT *, 1 FROM u", prepare=True)
                    driver.execute("DROP TABLE u")
                seen += [first.fetchall(), second.fetchall()]
            told[place is cluster] = seen
    assert told[True] == told[False]


def test_settings_changed_after_parse(cluster: Cluster, start_proxy: Callable[..., Proxy], database: str) -> None:
    """The statement stays what it was, also on a server that gets it later, and in the middle of a batch."""
    proxy = pooled(start_proxy, 3)

    def play(host: str, port: int) -> list[object]:
        heard: list[object] = []
        with at(host, port, database) as client:
            for name in ("TimeZone", "DateStyle", "IntervalStyle", "standard_conforming_strings"):
                first, second, text = SETTINGS[name]
                client.simple(f"SET {name} = '{first}'")
                client.ask(parse(text, f"s {name}"), SYNC)
                client.simple(f"SET {name} = '{second}'")
                hold = busy(proxy, database, 1) if port == proxy.port else busy(proxy, database, 0)
                with hold:
                    heard.append(run(client, f"s {name}"))
                    heard.append(client.simple(f"SHOW {name}"))
                    client.simple("BEGIN")
                hold = busy(proxy, database, 1) if port == proxy.port else busy(proxy, database, 0)
                with hold:
                    heard.append(run(client, f"s {name}"))
                    client.simple("COMMIT")
                heard.append(client.simple(f"SHOW {name}"))
        return heard

    assert play(proxy.host, proxy.port) == play(cluster.host, cluster.port)


def test_role_of_options(cluster: Cluster, start_proxy: Callable[..., Proxy], database: str) -> None:
    """The schema of one's own name, in the default search_path."""
    with cluster.connect(database, "postgres") as admin:
        for role in ("meaning_a", "meaning_b"):
            admin.execute(f"DROP ROLE IF EXISTS {role}")
            admin.execute(f"CREATE ROLE {role}")
            admin.execute(f"GRANT {role} TO app")
            admin.execute(f"CREATE SCHEMA {role} AUTHORIZATION {role}")
        admin.execute("CREATE TABLE meaning_a.t AS SELECT 1 AS v; ALTER TABLE meaning_a.t OWNER TO meaning_a")
        admin.execute("CREATE TABLE meaning_b.t AS SELECT 'b'::text AS v; ALTER TABLE meaning_b.t OWNER TO meaning_b")
    proxy = pooled(start_proxy, 1)
    try:
        with at(proxy.host, proxy.port, database, options="-c role=meaning_a") as one, \
                at(proxy.host, proxy.port, database, options="-c role=meaning_b") as two:
            for turn in range(3):
                for client, value in ((one, b"1"), (two, b"b")):
                    assert errors(client.ask(parse("SELECT v FROM t", f"s{turn}"), SYNC)) == []
                    assert run(client, f"s{turn}") == run(client, "s0") == [value]
    finally:
        with cluster.connect(database, "postgres") as admin:
            for role in ("meaning_a", "meaning_b"):
                admin.execute(f"DROP OWNED BY {role} CASCADE")
                admin.execute(f"DROP ROLE {role}")


def test_same_settings_share(start_proxy: Callable[..., Proxy], database: str) -> None:
    """What changes no meaning does not divide: a server has one statement for all."""
    proxy = pooled(start_proxy, 1)
    clients = [at(proxy.host, proxy.port, database, application_name=f"a{number}", statement_timeout=str(number + 1000))
               for number in range(4)]
    for client in clients:
        client.simple("SET extra_float_digits = 3")
        client.simple("BEGIN")
        client.simple("SET LOCAL lock_timeout = 100")
        client.ask(parse("SELECT 'shared by all'", "s"), SYNC)
        assert run(client, "s") == [b"shared by all"]
        client.simple("COMMIT")
    # They had no statements yet when they used SET LOCAL, and nobody has looked at what it changed; from now on it is.
    for client in clients:
        client.simple("BEGIN")
        client.simple("SET LOCAL lock_timeout = 100")
        client.ask(parse("SELECT 'shared later'", "t"), SYNC)
        assert run(client, "t") == [b"shared later"]
        client.simple("COMMIT")
    count = clients[0].simple("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%shared later%'")
    assert count == [[b"1"]]
    for client in clients:
        client.socket.close()


# The catalogue.

CHANGES = {
    "type of a column": ("CREATE TABLE t (v int); INSERT INTO t VALUES (1065353216)",
                         "ALTER TABLE t ALTER v TYPE real", "SELECT v FROM t"),
    "another column": ("CREATE TABLE t AS SELECT 1 AS v", "ALTER TABLE t ADD w text DEFAULT 'w'", "SELECT * FROM t"),
    "a column less": ("CREATE TABLE t AS SELECT 1 AS v, 2 AS w", "ALTER TABLE t DROP w", "SELECT * FROM t"),
    "a column's name": ("CREATE TABLE t AS SELECT 1 AS v", "ALTER TABLE t RENAME v TO w", "SELECT * FROM t"),
    "another table": ("CREATE TABLE t (v int)", "DROP TABLE t; CREATE TABLE t (v text); INSERT INTO t VALUES ('x')",
                      "SELECT v FROM t"),
    "another view": ("CREATE VIEW t AS SELECT 1 AS v", "DROP VIEW t; CREATE VIEW t AS SELECT 'x'::text AS v",
                     "SELECT v FROM t"),
    "another function": ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
                         "DROP FUNCTION f(); CREATE FUNCTION f() RETURNS text LANGUAGE sql AS 'SELECT ''x''::text'",
                         "SELECT f() AS v"),
    "another type": ("CREATE TYPE e AS ENUM ('a', 'b'); CREATE TABLE t (v e); INSERT INTO t VALUES ('a')",
                     "DROP TABLE t; DROP TYPE e; CREATE TYPE e AS ENUM ('a', 'b'); CREATE TABLE t (v e);"
                     "INSERT INTO t VALUES ('a')", "SELECT v FROM t WHERE v = 'a'"),
    "its search path": ("CREATE SCHEMA s; CREATE TABLE t AS SELECT 1 AS v; ALTER ROLE app SET search_path = s, public",
                        "CREATE TABLE s.t AS SELECT 'x'::text AS v; DROP TABLE IF EXISTS none", "SELECT v FROM t"),
    "nothing that matters": ("CREATE TABLE t AS SELECT 1 AS v", "CREATE INDEX ON t (v); ALTER TABLE t ADD CHECK (v > 0)",
                             "SELECT v FROM t"),
}


@pytest.mark.parametrize("seen", ["seen", "in a transaction", "unseen"])
@pytest.mark.parametrize("name", [name for name in CHANGES if name != "its search path"])
def test_new_clients_after_ddl(
        cluster: Cluster, start_proxy: Callable[..., Proxy], database: str, name: str, seen: str) -> None:
    """Whoever prepares anew gets what is there now, on each server, whatever others had prepared before."""
    proxy = pooled(start_proxy, 3)
    before, change, text = CHANGES[name]
    with at(proxy.host, proxy.port, database) as old, at(cluster.host, cluster.port, database) as direct:
        old.simple(before)
        old.ask(parse(text, "s"), describe("S", "s"), SYNC)
        for number in range(3):
            with busy(proxy, database, number):
                run(old, "s")
        changer = direct if seen == "unseen" else old
        if seen == "in a transaction":
            changer.simple("BEGIN")
        changer.simple(change)
        if seen == "in a transaction":
            changer.simple("COMMIT")
        direct.ask(parse(text, "s"), SYNC)
        right = run(direct, "s", results=(1,))
        for number in (*range(3), *range(3)):
            with busy(proxy, database, number), at(proxy.host, proxy.port, database) as client:
                answer = outcome(client.ask(parse(text, "mine"), describe("S", "mine"), SYNC))
                assert (answer, run(client, "mine", results=(1,))) == ([], right), number


@pytest.mark.parametrize("routed", ["", "split"])
@pytest.mark.parametrize("name, request_", [
    *((name, "batch") for name in CHANGES if name != "its search path"),
    *(("another column", each) for each in ("pipeline", "flushed", "pieces", "goodbye", "write", "transaction"))])
def test_new_clients_after_unseen_ddl(
        cluster: Cluster, start_proxy: Callable[..., Proxy], database: str, name: str, request_: str, routed: str) -> None:
    """What was changed behind Martlet's back, no new client hears of: its request is carried out once, on each server."""
    databases = {database: f"host={cluster.host} port={cluster.port}"
                 + (f" routing={routed} check_user=postgres" if routed else "")}
    proxy = start_proxy(settings={"default_pool_size": 3}, threads=1, databases=databases)
    before, change, text = CHANGES[name]
    with at(proxy.host, proxy.port, database) as old, at(cluster.host, cluster.port, database) as direct:
        direct.simple(before)
        direct.simple("CREATE TABLE log (n int)")
        if request_ == "write":
            text = f"WITH x AS (INSERT INTO log VALUES (1) RETURNING n) SELECT q.* FROM x, ({text}) q"
        for number in range(3):
            with busy(proxy, database, number):
                old.ask(parse(text, f"s{number}"), bind(f"s{number}"), describe("P", ""), execute(), SYNC)
        direct.simple(change)
        shape = [each.type for each in direct.ask(parse(text, "s"), bind("s"), describe("P", ""), execute(), SYNC)]
        for number in (*range(3), *range(3)):
            with busy(proxy, database, number), at(proxy.host, proxy.port, database) as client:
                direct.simple("TRUNCATE log")
                batch = parse(text, "mine") + bind("mine") + describe("P", "") + execute() + SYNC
                if request_ == "pieces":
                    # The kernel may join them. If not, the batch is not here as a whole: the error is told, once.
                    client.send(batch[:-3])
                    client.send(batch[-3:])
                    heard = [each.type for each in client.read_until()]
                    assert heard == shape or heard == ["1", "E", "Z"], number
                    answer = client.ask(bind("mine"), describe("P", ""), execute(), SYNC)
                    assert [each.type for each in answer] == shape[1:]
                elif request_ == "pipeline":
                    client.send(batch + query("INSERT INTO log VALUES (2)") + query("SELECT n FROM log"))
                    answer = client.read_until()
                    assert [each.type for each in answer] == shape
                    assert errors(client.read_until()) == []
                    assert outcome(client.read_until()) == [b"2"]
                elif request_ == "flushed":
                    client.send(parse(text, "mine"), describe("S", "mine"), b"H\0\0\0\4")
                    told = client.read_until("T")[-1].columns()
                    answer = client.ask(bind("mine"), describe("P", ""), execute(), SYNC)
                    assert [each.type for each in answer] == shape[1:]
                    assert [each.columns() for each in answer if each.type == "T"] == [told]
                elif request_ == "transaction":
                    # Nothing is done twice in a transaction: the error is what there is.
                    client.simple("BEGIN")
                    client.ask(batch)
                    client.simple("ROLLBACK")
                    answer = client.ask(bind("mine"), describe("P", ""), execute(), SYNC)
                    assert [each.type for each in answer] == shape[1:]
                elif request_ == "goodbye":
                    client.send(batch + query("INSERT INTO log VALUES (3)") + b"X\0\0\0\4")
                    wait_until(lambda: direct.simple("SELECT n FROM log") == [[b"3"]], "its last request is carried out")
                else:
                    assert [each.type for each in client.ask(batch)] == shape, number
                if request_ == "write":
                    assert direct.simple("SELECT count(*) FROM log") == [[b"1"]]


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("name", [name for name in CHANGES if name != "its search path"])
def test_ddl_rolled_back(
        cluster: Cluster, start_proxy: Callable[..., Proxy], database: str, name: str, hidden: bool) -> None:
    """What others have prepared goes on as if nothing had been: a plan made in that transaction is nobody's."""
    proxy = pooled(start_proxy, 1)
    before, change, text = CHANGES[name]
    if hidden:
        change = "DO $do$BEGIN EXECUTE $x$" + "$x$; EXECUTE $x$".join(change.split(";")) + "$x$; END$do$"
    with at(proxy.host, proxy.port, database) as changer, at(proxy.host, proxy.port, database) as described, \
            at(proxy.host, proxy.port, database) as plain:
        changer.simple(before)
        described.ask(parse(text, "s"), describe("S", "s"), SYNC)
        plain.ask(parse(text, "s"), SYNC)
        right = run(described, "s", results=(1,))
        assert run(plain, "s", results=(1,)) == right
        for way in ("described", "run"):
            changer.simple("BEGIN")
            changer.simple(change)
            changer.ask(parse(text, way), describe("S", way) if way == "described" else b"", bind(way), execute(), SYNC)
            changer.simple("ROLLBACK")
            for client in (described, plain):
                assert run(client, "s", results=(1,)) == right, way
        with at(proxy.host, proxy.port, database) as newcomer:
            newcomer.ask(parse(text, "mine"), SYNC)
            assert run(newcomer, "mine", results=(1,)) == right


@pytest.mark.parametrize("seen", ["seen", "unseen"])
@pytest.mark.parametrize("name", [name for name in CHANGES if name != "its search path"])
def test_described_statement_after_ddl(
        cluster: Cluster, start_proxy: Callable[..., Proxy], database: str, name: str, seen: str) -> None:
    """A client that was told its columns' types gets rows of those or 0A000, as directly: on servers that had prepared it
    before, on new ones, and on those where somebody has prepared it since."""
    proxy = pooled(start_proxy, 4)
    before, change, text = CHANGES[name]
    with at(proxy.host, proxy.port, database) as old, at(cluster.host, cluster.port, database) as direct:
        direct.simple(before)
        direct.ask(parse(text, "s"), describe("S", "s"), SYNC)
        old.ask(parse(text, "s"), SYNC)
        told = old.ask(describe("S", "s"), SYNC)
        run(direct, "s"), run(old, "s")
        with busy(proxy, database, 1):
            run(old, "s")
        (direct if seen == "unseen" else old).simple(change)
        with busy(proxy, database, 2), at(proxy.host, proxy.port, database) as newcomer:
            newcomer.ask(parse(text, "mine"), describe("S", "mine"), SYNC)
            run(newcomer, "mine")
        right = run(direct, "s", results=(1,))
        for number in (0, 1, 2, 3):
            with busy(proxy, database, number):
                assert run(old, "s", results=(1,)) == right, number
                again = old.ask(describe("S", "s"), SYNC)
                assert errors(again) == (right if right == ["0A000"] else [])
                if not errors(again):
                    kept = [[each.columns() for each in answer if each.type == "T"] for answer in (told, again)]
                    assert kept[0] == kept[1]
        # As drivers do it: closed and prepared anew.
        old.ask(close("S", "s"), parse(text, "s"), describe("S", "s"), SYNC)
        direct.ask(close("S", "s"), parse(text, "s"), describe("S", "s"), SYNC)
        right = run(direct, "s", results=(1,))
        for number in (0, 1, 2, 3):
            with busy(proxy, database, number):
                assert run(old, "s", results=(1,)) == right


@pytest.mark.parametrize("by", ["another server", "a newcomer"])
def test_described_portal_after_ddl(
        cluster: Cluster, start_proxy: Callable[..., Proxy], database: str, by: str) -> None:
    """As JDBC does it: the first portal of a statement tells the columns, and those that follow are to have the same ones."""
    proxy = pooled(start_proxy, 2)
    text = "SELECT v FROM t"

    def heard(host: str, port: int) -> tuple[list[object], list[object]]:
        with at(host, port, database) as client, at(host, port, database) as other:
            other.simple("DROP TABLE IF EXISTS t; CREATE TABLE t AS SELECT 1065353216 AS v")
            before = outcome(client.ask(
                parse(text, "s"), bind("s", results=(1,)), describe("P"), execute(), SYNC))
            other.simple("ALTER TABLE t ALTER v TYPE real")
            if by == "a newcomer":
                with at(host, port, database) as newcomer:
                    newcomer.ask(parse(text, "mine"), bind("mine"), execute(), SYNC)
                return before, run(client, "s", results=(1,))
            other.simple("BEGIN")
            after = run(client, "s", results=(1,))
            other.simple("COMMIT")
            return before, after

    right = heard(cluster.host, cluster.port)
    assert right[1] == ["0A000"]
    assert heard(proxy.host, proxy.port) == right


def test_nothing_runs_with_other_types(start_proxy: Callable[..., Proxy], database: str) -> None:
    """A write whose statement returns, or takes, other types by now is an error before it has done anything; in a batch
    what stands before it has been done, as by a server."""
    proxy = pooled(start_proxy, 2)
    with at(proxy.host, proxy.port, database) as client:
        client.simple("CREATE TABLE t (v int); CREATE TABLE log (n int)")
        client.ask(parse("INSERT INTO t VALUES ($1) RETURNING v", "s"), describe("S", "s"), SYNC)
        client.ask(parse("UPDATE t SET v = $1", "u"), describe("S", "u"), SYNC)
        client.simple("ALTER TABLE t ALTER v TYPE real")
        four = (1065353216).to_bytes(4, "big")
        with busy(proxy, database, 1):
            for name in ("s", "u"):
                assert run(client, name, four, formats=(1,)) == ["0A000"]
            answer = client.ask(parse("INSERT INTO log VALUES (1)"), bind(), execute(),
                                bind("s", values=(four,), formats=(1,)), execute(), SYNC)
            assert errors(answer) == ["0A000"] and [each.type for each in answer] == ["1", "2", "C", "E", "Z"]
            client.simple("BEGIN")
            assert run(client, "s", four, formats=(1,)) == ["0A000"]
            assert errors(client.ask(query("SELECT 1"))) == ["25P02"]
            client.simple("ROLLBACK")
        assert client.simple("SELECT count(*), (SELECT count(*) FROM log) FROM t") == [[b"0", b"0"]]


def test_error_is_the_one_of_postgresql(start_proxy: Callable[..., Proxy], database: str) -> None:
    """Drivers know it by its routine."""
    proxy = pooled(start_proxy, 2)
    with at(proxy.host, proxy.port, database) as client:
        client.simple("CREATE TABLE t AS SELECT 1 AS v")
        client.ask(parse("SELECT * FROM t", "s"), describe("S", "s"), SYNC)
        client.simple("ALTER TABLE t ADD w int")
        heard = []
        for number in range(2):
            with busy(proxy, database, number):
                error, = (each.fields() for each in client.ask(bind("s"), execute(), SYNC) if each.type == "E")
                heard.append({key: value for key, value in error.items() if key in "SVCMR"})
        assert heard[0] == heard[1]
        assert heard[0]["M"] == "cached plan must not change result type"


def test_wrong_values_cost_nobody_else(start_proxy: Callable[..., Proxy], database: str) -> None:
    """Errors of a client's own values are no sign of DDL for ever: statements are not prepared anew for each of them."""
    proxy = pooled(start_proxy, 1)
    with at(proxy.host, proxy.port, database) as client:
        client.ask(parse("SELECT $1::int", "s"), SYNC)
        for _ in range(40):
            assert run(client, "s", "x") == ["22P02"]
            assert run(client, "s", "1") == [b"1"]
        prepared, = (row["total_server_parse_count"] for row in proxy.show("STATS") if row["database"] == database)
        assert prepared < 10


# Drivers.

def asyncpg_outcomes(direct: str, through: str, work: Callable[[str], Awaitable[list[object]]]) -> None:
    async def both() -> tuple[list[object], list[object]]:
        return await work(direct), await work(through)

    right, ours = asyncio.run(both())
    assert ours == right


async def attempt(work: Awaitable[object]) -> object:
    try:
        return await work
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        return type(error).__name__


def shown(found: object) -> object:
    if isinstance(found, list):
        return [shown(each) for each in found]
    return dict(found) if isinstance(found, asyncpg.Record) else found


@contextmanager
def neighbours(proxy: Proxy, database: str, texts: list[str], count: int) -> Iterator[None]:
    """Others run the same texts again and again, prepared once and prepared anew."""
    async def one(stop: asyncio.Event, number: int) -> None:
        while not stop.is_set():
            try:
                connection = await asyncpg.connect(proxy.dsn(database), statement_cache_size=number % 2 * 100)
                for _ in range(5):
                    for text in texts:
                        await attempt(connection.fetch(text))
                await connection.close()
            except (asyncpg.PostgresError, asyncpg.InternalClientError, OSError, AssertionError):
                # asyncpg's idea of a composite type may be older than a row.
                pass

    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def all_of_them() -> None:
        await asyncio.gather(*(one(stop, number) for number in range(count)))

    thread = threading.Thread(target=lambda: loop.run_until_complete(all_of_them()))
    if count:
        thread.start()
    try:
        yield
    finally:
        if count:
            loop.call_soon_threadsafe(stop.set)
            thread.join()
        loop.close()


@pytest.mark.parametrize("crowd", [0, 3])
def test_asyncpg_after_ddl(
        cluster: Cluster, start_proxy: Callable[..., Proxy], database: str, crowd: int) -> None:
    """The cases of asyncpg's own suite about statements and types that have become invalid, and some more."""
    proxy = start_proxy(settings={"default_pool_size": 5})

    async def columns(dsn: str) -> list[object]:
        """A statement in the cache, outside of a transaction and within, prepared by hand, and after DISCARD ALL."""
        heard: list[object] = []
        connection = await asyncpg.connect(dsn)
        other = await asyncpg.connect(dsn)
        for change in ("ALTER TABLE tab1 ADD COLUMN c int DEFAULT 3", "ALTER TABLE tab1 ALTER a TYPE text",
                       "ALTER TABLE tab1 DROP b", "DROP TABLE tab1; CREATE TABLE tab1 AS SELECT 5.5::real AS a"):
            await connection.execute("DROP TABLE IF EXISTS tab1; CREATE TABLE tab1 AS SELECT 1 AS a, 2 AS b")
            heard.append(shown(await attempt(connection.fetchrow("SELECT * FROM tab1"))))
            byhand = await connection.prepare("SELECT * FROM tab1")
            heard.append(shown(await attempt(byhand.fetchrow())))
            await other.execute(change)
            # By hand it stays what it was.
            heard.append(shown(await attempt(byhand.fetchrow())))
            heard.append(shown(await attempt(connection.fetchrow("SELECT * FROM tab1"))))
            await other.execute("DROP TABLE tab1; CREATE TABLE tab1 AS SELECT 'x'::text AS a, 2 AS b")
            try:
                async with connection.transaction():
                    heard.append(shown(await attempt(connection.fetchrow("SELECT * FROM tab1"))))
            except asyncpg.PostgresError as error:
                heard.append(type(error).__name__)
            heard.append(shown(await attempt(connection.fetchrow("SELECT * FROM tab1"))))
        await connection.close()
        await other.close()
        return heard

    async def types(dsn: str) -> list[object]:
        heard: list[object] = []
        connection = await asyncpg.connect(dsn)
        other = await asyncpg.connect(dsn)
        await connection.execute("DROP TABLE IF EXISTS tab2; DROP TYPE IF EXISTS typ; DROP TYPE IF EXISTS enu;"
                                 "CREATE TYPE typ AS (x int, y int); CREATE TABLE tab2 (a int, b typ)")
        await connection.execute("INSERT INTO tab2 VALUES (1, (2, 3))")
        for change in ("ALTER TYPE typ ADD ATTRIBUTE c text", "ALTER TYPE typ DROP ATTRIBUTE x",
                       "DROP TABLE tab2; DROP TYPE typ; CREATE TYPE typ AS (z text); "
                       "CREATE TABLE tab2 AS SELECT 1 AS a, ROW('z')::typ AS b",
                       "ALTER TABLE tab2 ALTER b TYPE text USING 'b'"):
            heard.append(shown(await attempt(connection.fetch("SELECT * FROM tab2"))))
            await other.execute(change)
            heard.append(shown(await attempt(connection.fetch("SELECT * FROM tab2"))))
            heard.append(shown(await attempt(connection.fetch("SELECT * FROM tab2"))))
            newcomer = await asyncpg.connect(dsn)
            heard.append(shown(await attempt(newcomer.fetch("SELECT * FROM tab2"))))
            await newcomer.close()
        for labels in ("'a', 'b'", "'c'"):
            await other.execute(f"DROP TYPE IF EXISTS enu; CREATE TYPE enu AS ENUM ({labels})")
            for value in "ac":
                newcomer = await asyncpg.connect(dsn)
                heard.append(await attempt(newcomer.fetchval("SELECT $1::enu", value)))
                await newcomer.close()
        await connection.close()
        await other.close()
        return heard

    texts = ["SELECT * FROM tab1", "SELECT * FROM tab2"]
    for work in (columns, types):
        with at(cluster.host, cluster.port, database):
            direct = f"postgresql://app@{cluster.host}:{cluster.port}/app"
            with neighbours(proxy, database, texts, crowd):
                asyncpg_outcomes(direct, proxy.dsn(database), work)


@pytest.mark.parametrize("threshold", [0, 2])
def test_psycopg_after_ddl(
        cluster: Cluster, start_proxy: Callable[..., Proxy], database: str, threshold: int) -> None:
    """psycopg never asks for the types ahead; it need not hear of the change where nothing is lost."""
    proxy = start_proxy(settings={"default_pool_size": 5})

    def work(connect: Callable[[], psycopg.Connection]) -> list[object]:
        heard: list[object] = []
        with connect() as old:
            old.prepare_threshold = threshold
            for change in ("ALTER TABLE tab3 ALTER a TYPE text", "ALTER TABLE tab3 ADD b int DEFAULT 7",
                           "DROP TABLE tab3; CREATE TABLE tab3 AS SELECT 1.5::real AS a"):
                old.execute("DROP TABLE IF EXISTS tab3")
                old.execute("CREATE TABLE tab3 AS SELECT 1 AS a")
                for binary in (False, True):
                    for _ in range(3):
                        try:
                            old.execute("SELECT * FROM tab3", binary=binary).fetchall()
                        except psycopg.errors.FeatureNotSupported:
                            pass
                for statement in change.split("; "):
                    old.execute(statement)
                for binary in (False, True):
                    with connect() as new:
                        new.prepare_threshold = 0
                        heard.append([new.execute("SELECT * FROM tab3", binary=binary).fetchall() for _ in range(3)])
        return heard

    with cluster.connect(database) as connection:
        connection.execute("SELECT 1")
    direct = work(lambda: cluster.connect(database, autocommit=True))
    assert work(lambda: proxy.connect(database)) == direct


# `setup` installs it; machines of other kinds may do without.
@pytest.mark.skipif(not JDBC.exists(), reason="libpostgresql-jdbc-java is not installed")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("crowd", [0, 3])
@pytest.mark.parametrize("options", ["prepareThreshold=1&autosave=never", "prepareThreshold=5&autosave=conservative"])
def test_jdbc_after_ddl(
        cluster: Cluster, start_proxy: Callable[..., Proxy], database: str, options: str, crowd: int) -> None:
    """JDBC asks for a statement's columns once, with its first portal, and takes values in binary as what they were then."""
    proxy = start_proxy(settings={"default_pool_size": 5})
    source = Path(__file__).parent / "java/JdbcDefinitions.java"
    urls = [f"jdbc:postgresql://{each.host}:{each.port}/{database}?user=app&{options}" for each in (cluster, proxy)]
    result = subprocess.run(
        ["java", "-XX:TieredStopAtLevel=1", "-cp", str(JDBC), str(source), *urls, str(crowd)],
        stdout=subprocess.PIPE, text=True, timeout=280, env=environment(), check=True)
    heard: dict[str, dict[str, list[tuple[str, str]]]] = {"direct": {}, "proxied": {}}
    for line in result.stdout.splitlines():
        which, change, when, what = line.split("\t")
        heard[which].setdefault(change, []).append((when, what))
    assert heard["direct"] and heard["direct"].keys() == heard["proxied"].keys()
    for change, right in heard["direct"].items():
        # Of a type that is gone PostgreSQL has an internal error for ever; here the statement may be prepared anew.
        lost = any(what == "XX000" for _, what in right)
        different = [(one, two) for one, two in zip(right, heard["proxied"][change], strict=True)
                     if one != two and not (lost and one[0] == "after")]
        assert not different, change


# Limits.

def test_bytes_of_one_client(start_proxy: Callable[..., Proxy], database: str) -> None:
    limit = 4 << 20
    proxy = pooled(start_proxy, 1, max_prepared_statement_memory=limit)

    def bytes_of_all() -> int:
        row, = (row for row in proxy.show("MEM") if row["name"] == "prepared_statements")
        return row["size"] * row["used"]

    with at(proxy.host, proxy.port, database) as client, at(proxy.host, proxy.port, database) as other:
        other.ask(parse("SELECT 'other'", "o"), SYNC)
        refused = 0
        for number in range(40):
            size = 5 << 20 if number % 10 == 5 else 500_000
            answer = client.ask(parse(f"SELECT {number} /* {'x' * size} */", f"s{number}"), bind(f"s{number}"), execute(),
                                SYNC)
            if errors(answer):
                assert errors(answer) == ["54000"]
                refused += 1
        assert refused == 40 - 8
        assert bytes_of_all() < 2 * limit
        # In a transaction it fails it, as any error does; afterwards there is room for others again.
        client.simple("BEGIN")
        assert errors(client.ask(parse(f"SELECT /* {'x' * (5 << 20)} */ 1", "large"), SYNC)) == ["54000"]
        assert errors(client.ask(query("SELECT 1"))) == ["25P02"]
        client.simple("ROLLBACK")
        assert [run(client, f"s{number}") for number in (0, 7, 8)] == [[b"0"], [b"7"], [b"8"]]
        client.ask(close("S", "s0"), SYNC)
        assert errors(client.ask(parse(f"SELECT 'again' /* {'x' * 500_000} */", "again"), SYNC)) == []
        assert run(other, "o") == [b"other"]
        client.simple("DEALLOCATE ALL")
        assert run(client, "again") == ["26000"]
    with at(proxy.host, proxy.port, database) as client:
        for number in range(60):
            with at(proxy.host, proxy.port, database) as passing:
                passing.ask(parse(f"SELECT {number} -- {'y' * 400_000}", "s"), SYNC)
    wait_until(lambda: bytes_of_all() < limit + (1 << 20), "the server connection keeps no more than the limit", 5)


@pytest.mark.parametrize("how", ["SET", "RELOAD"])
def test_limit_changes_while_in_use(
        start_proxy: Callable[..., Proxy], database: str, how: str) -> None:
    """More, fewer, none and some again: clients that have statements keep them, and nobody gets another's."""
    proxy = pooled(start_proxy, 2, max_prepared_statements=20)

    def change(limit: int) -> None:
        if how == "SET":
            proxy.command(f"SET max_prepared_statements = {limit}")
        else:
            proxy.settings["max_prepared_statements"] = limit
            proxy.write_configuration()
            proxy.command("RELOAD")

    def prepared(client: Connection) -> int:
        return int(client.simple("SELECT count(*) FROM pg_prepared_statements")[0][0])

    with at(proxy.host, proxy.port, database) as client, at(proxy.host, proxy.port, database) as other:
        for number in range(15):
            client.ask(parse(f"SELECT {number}", f"s{number}"), SYNC)
            other.ask(parse(f"SELECT 'other {number}'", f"s{number}"), SYNC)

        def check() -> None:
            for number in itertools.chain(range(15), range(0, 15, 4)):
                assert run(client, f"s{number}") == [str(number).encode()]
                assert run(other, f"s{number}") == [f"other {number}".encode()]

        check()
        for limit in (5, 40, 0, 3, 0, 30):
            client.simple("BEGIN")
            run(client, "s3")
            change(limit)
            assert run(client, "s4") == [b"4"]
            client.simple("COMMIT")
            check()
            assert prepared(client) <= max(limit, 1), limit
            with at(proxy.host, proxy.port, database) as newcomer:
                newcomer.ask(parse(f"SELECT 'new {limit}'", "n"), bind("n"), execute(), SYNC)
                if limit:
                    assert run(newcomer, "n") == [f"new {limit}".encode()]
        # A name that a client had while it was the server's is nobody's now.
        with at(proxy.host, proxy.port, database) as newcomer:
            change(0)
            newcomer.ask(parse("SELECT 'mine'", "raw"), SYNC)
            change(10)
            with at(proxy.host, proxy.port, database) as stranger:
                assert run(stranger, "raw") == ["26000"]
