"""The same raw messages straight to PostgreSQL and through the proxy: the answers must be the same, byte for byte,
but for what cannot be (process ids, oids of temporary tables) and what tells nothing (source line of an error)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import NamedTuple

import pytest

from cluster import Cluster
from cutting import cut_on_both_sides
from proxy import Program, Proxy
from rawpg import (
    COPY_DONE, FLUSH, SYNC, Connection, Message, bind, close, copy_data, copy_fail, describe, execute, function_call,
    parse, query)


class Round(NamedTuple):
    """What is sent, and which message (and how many of them) ends the answer."""

    send: bytes
    until: str = "Z"
    count: int = 1


def simple(*queries: str) -> list[Round]:
    return [Round(query(each)) for each in queries]


def pipeline(*parts: bytes, ready: int = 1) -> list[Round]:
    return [Round(b"".join(parts), "Z", ready)]


INT4 = 23
TEXT = 25
# int4pl(int4, int4), of PostgreSQL's catalogue.
INT4PL = 177

TABLE = simple("CREATE TEMP TABLE t (a int PRIMARY KEY, b text)")

SCRIPTS: dict[str, list[Round]] = {
    # Simple queries.
    "one row": simple("SELECT 1 AS one, 'x'::text AS two, NULL AS three"),
    "no rows": simple("SELECT 1 WHERE false"),
    "no columns": simple("SELECT"),
    "empty query": simple(""),
    "only a semicolon": simple(";"),
    "only a comment": simple("-- nothing\n"),
    "several statements": simple("SELECT 1; SELECT 2, 3; SELECT 'x'"),
    "several statements with an error in the middle": simple("SELECT 1; SELECT 1/0; SELECT 3", "SELECT 4"),
    "several statements with empty ones": simple("SELECT 1;;SELECT 2;"),
    "syntax error": simple("SELEC 1", "SELECT 2"),
    "error with detail and hint": simple("SELECT nosuchfunction(1)", "SELECT 1"),
    "notice": simple("DO $$ BEGIN RAISE NOTICE 'hello %', 1; END $$"),
    "warning with hint": simple(
        "DO $$ BEGIN RAISE WARNING 'w' USING HINT = 'h', DETAIL = 'd', ERRCODE = '01234'; END $$"),
    "many notices": simple("DO $$ BEGIN FOR i IN 1..300 LOOP RAISE NOTICE '%', repeat('n', i); END LOOP; END $$"),
    "transaction": simple("BEGIN", "SELECT 1", "COMMIT"),
    "failed transaction": simple("BEGIN", "SELECT 1/0", "SELECT 1", "ROLLBACK", "SELECT 2"),
    "failed transaction, committed": simple("BEGIN", "SELECT 1/0", "COMMIT"),
    "begin twice": simple("BEGIN", "BEGIN", "END", "END"),
    "savepoints": simple("BEGIN", "SAVEPOINT a", "SELECT 1/0", "ROLLBACK TO a", "SELECT 1", "COMMIT"),
    "many rows": simple("SELECT i, repeat('x', i % 100) FROM generate_series(1, 5000) i"),
    "wide rows": simple("SELECT " + ", ".join(f"{i} AS c{i}" for i in range(1600))),
    "large row": simple("SELECT repeat('x', 3000000)"),
    "large query": simple("SELECT '" + "x" * 1_000_000 + "'"),
    "odd text": simple("SELECT U&'\\00e4\\2603\\+01f600'", "SELECT 'it''s'"),
    "long transaction in one query": simple("BEGIN; SELECT 1; SELECT 2; COMMIT; SELECT 3"),
    "transaction left open by a query of several": [*simple("SELECT 1; BEGIN; SELECT 2"), *simple("COMMIT")],
    "set and show": simple("BEGIN; SET LOCAL work_mem = '5MB'; SHOW work_mem; COMMIT"),
    "parameter status": simple("BEGIN", "SET LOCAL application_name = 'local'", "COMMIT"),
    "declare and fetch": simple("BEGIN", "DECLARE c CURSOR FOR SELECT generate_series(1, 10)", "FETCH 3 FROM c",
                                "MOVE 2 FROM c", "FETCH ALL FROM c", "CLOSE c", "COMMIT"),
    "two queries in one packet": [Round(query("SELECT 1") + query("SELECT 2"), "Z", 2)],
    "fifty queries in one packet": [Round(b"".join(query(f"SELECT {i}") for i in range(50)), "Z", 50)],
    "queries around a transaction in one packet": [
        Round(query("BEGIN") + query("SELECT 1") + query("COMMIT") + query("SELECT 2"), "Z", 4)],

    # Extended protocol.
    "extended": pipeline(parse("SELECT $1::int + 1"), bind(values=("41",)), describe("P"), execute(), SYNC),
    "extended, binary": pipeline(
        parse("SELECT $1 + 1", types=(INT4,)), bind(values=(b"\0\0\0\x29",), formats=(1,), results=(1,)), describe("P"),
        execute(), SYNC),
    "describe a statement": pipeline(parse("SELECT $1::int, $2::text AS t", "s"), describe("S", "s"), SYNC),
    "describe a statement without rows": pipeline(parse("SET work_mem = '4MB'", "s"), describe("S", "s"), SYNC),
    "parameter types": pipeline(parse("SELECT $1, $2", "s", (INT4, TEXT)), describe("S", "s"), SYNC),
    "lone sync": pipeline(SYNC),
    "three lone syncs": pipeline(SYNC, SYNC, SYNC, ready=3),
    "empty statement": pipeline(parse(""), bind(), describe("P"), execute(), SYNC),
    "flush": [
        Round(parse("SELECT 1", "s") + FLUSH, "1"), Round(bind("s") + FLUSH, "2"), Round(describe("P") + FLUSH, "T"),
        Round(execute() + FLUSH, "C"), Round(SYNC)],
    "flush, then error": [
        Round(parse("SELECT 1/$1::int", "s") + FLUSH, "1"), Round(bind("s", values=("0",)) + execute() + FLUSH, "E"),
        Round(parse("SELECT 1") + bind() + execute() + SYNC)],
    "named statement used twice": [
        *pipeline(parse("SELECT $1::text", "s"), SYNC),
        *pipeline(bind("s", values=("a",)), execute(), SYNC), *pipeline(bind("s", values=("b",)), execute(), SYNC)],
    "named statement, several binds in a pipeline": pipeline(
        parse("SELECT $1::text", "s"), *(bind("s", values=(str(i),)) + execute() for i in range(20)), SYNC),
    "several syncs in a pipeline": pipeline(
        *(parse(f"SELECT {i}") + bind() + describe("P") + execute() + SYNC for i in range(30)), ready=30),
    "errors in a pipeline with many syncs": pipeline(
        *(parse(f"SELECT 1/{i % 3}") + bind() + execute() + SYNC for i in range(30)), ready=30),
    "an error skips to the sync": pipeline(
        parse("SELECT 1/0"), bind(), execute(), parse("SELECT 2"), bind(), execute(), describe("P"), SYNC,
        parse("SELECT 3"), bind(), execute(), SYNC, ready=2),
    "parse error skips bind": pipeline(parse("SELEC"), bind(), execute(), SYNC, parse("SELECT 1"), bind(), execute(),
                                       SYNC, ready=2),
    "row limit": [
        *simple("BEGIN"),
        *pipeline(parse("SELECT generate_series(1, 7)"), bind(portal="p"), execute("p", 3), execute("p", 3), SYNC),
        *pipeline(execute("p", 3), SYNC), *simple("COMMIT")],
    "row limit, portal gone with the transaction": [
        *pipeline(parse("SELECT generate_series(1, 7)"), bind(portal="p"), execute("p", 3), SYNC),
        *pipeline(execute("p", 3), SYNC)],
    "close a portal": [
        *simple("BEGIN"),
        *pipeline(parse("SELECT 1"), bind(portal="p"), close("P", "p"), SYNC), *pipeline(execute("p"), SYNC),
        *simple("ROLLBACK")],
    "close unknown names": pipeline(close("S", "nosuch"), close("P", "nosuch"), SYNC),
    "close a statement, then its name is free": [
        *pipeline(parse("SELECT 1", "s"), SYNC), *pipeline(close("S", "s"), SYNC),
        *pipeline(parse("SELECT 2", "s"), bind("s"), execute(), SYNC)],
    "close and parse in one pipeline": pipeline(
        parse("SELECT 1", "s"), bind("s"), execute(), close("S", "s"), parse("SELECT 'two'", "s"), bind("s"), execute(),
        SYNC),
    "unnamed statement replaced": pipeline(
        parse("SELECT 1"), parse("SELECT 'two'"), bind(), describe("P"), execute(), SYNC),
    "close the unnamed statement": pipeline(parse("SELECT 1"), close("S"), parse("SELECT 2"), bind(), execute(), SYNC),
    "transaction by the extended protocol": [
        *pipeline(parse("BEGIN"), bind(), execute(), SYNC), *pipeline(parse("SELECT 1"), bind(), execute(), SYNC),
        *pipeline(parse("COMMIT"), bind(), execute(), SYNC)],
    "transaction in one pipeline": pipeline(
        parse("BEGIN"), bind(), execute(), parse("SELECT 1"), bind(), execute(), parse("COMMIT"), bind(), execute(),
        SYNC),
    "failed transaction by the extended protocol": [
        *pipeline(parse("BEGIN"), bind(), execute(), SYNC), *pipeline(parse("SELECT 1/0"), bind(), execute(), SYNC),
        *pipeline(parse("SELECT 1"), bind(), execute(), SYNC), *pipeline(parse("ROLLBACK"), bind(), execute(), SYNC)],
    "simple and extended mixed in one packet": [
        Round(query("SELECT 1") + parse("SELECT 2") + bind() + execute() + SYNC + query("SELECT 3"), "Z", 3)],
    "simple query destroys the unnamed statement's portal": [
        *pipeline(parse("SELECT 1"), bind(), SYNC), *simple("SELECT 2"), *pipeline(execute(), SYNC)],
    "simple query while skipping to sync": [
        Round(parse("SELECT 1/0") + bind() + execute() + query("SELECT 1") + SYNC, "Z", 1)],
    "wrong number of parameters": pipeline(parse("SELECT $1::int"), bind(), execute(), SYNC),
    "wrong value": pipeline(parse("SELECT $1::int"), bind(values=("x",)), execute(), SYNC),
    "null value": pipeline(parse("SELECT $1::int"), bind(values=(None,)), execute(), SYNC),
    "large value": pipeline(parse("SELECT length($1)"), bind(values=("x" * 2_000_000,)), execute(), SYNC),
    "large statement": pipeline(parse("SELECT '" + "x" * 700_000 + "'", "s"), bind("s"), execute(), SYNC),
    "many parameters": pipeline(
        parse("SELECT " + "+".join(f"${i + 1}::int" for i in range(1000))), bind(values=("1",) * 1000), execute(),
        SYNC),
    "execute a portal that is not there": pipeline(execute("nosuch"), SYNC),
    "describe a portal that is not there": pipeline(describe("P", "nosuch"), SYNC),
    "statement with a long name": pipeline(parse("SELECT 1", "n" * 5000), bind("n" * 5000), execute(), SYNC),
    "notices in a pipeline": pipeline(
        *(parse("DO $$ BEGIN RAISE NOTICE 'n'; END $$") + bind() + execute() for _ in range(3)), SYNC),

    # FunctionCall.
    "function call": pipeline(function_call(INT4PL, (b"40", b"2"))),
    "function call, binary": pipeline(function_call(INT4PL, (b"\0\0\0\x28", b"\0\0\0\x02"), 1)),
    "function call with an error": [*pipeline(function_call(INT4PL, (b"x", b"2"))), *simple("SELECT 1")],
    "function call of an unknown function": [*pipeline(function_call(4_000_000_000, ())), *simple("SELECT 1")],
    "function call in a transaction": [
        *simple("BEGIN"), *pipeline(function_call(INT4PL, (b"40", b"2"))), *simple("COMMIT")],

    # COPY. Temporary tables live within a transaction, so that one server connection sees them.
    "copy out": simple("COPY (SELECT i, 'x' FROM generate_series(1, 500) i) TO STDOUT"),
    "copy out, binary": simple("COPY (SELECT i FROM generate_series(1, 500) i) TO STDOUT (FORMAT binary)"),
    "copy out with an error": simple("COPY (SELECT 1/(5 - i) FROM generate_series(1, 10) i) TO STDOUT", "SELECT 1"),
    "copy out among other statements": simple("SELECT 1; COPY (SELECT 2) TO STDOUT; SELECT 3"),
    "copy out by the extended protocol": pipeline(parse("COPY (SELECT 1) TO STDOUT"), bind(), execute(), SYNC),
    "copy in": [
        *simple("BEGIN"), *TABLE, Round(query("COPY t FROM STDIN"), "G"),
        Round(copy_data(b"1\tx\n2\ty\n") + copy_data(b"3\t\\N\n") + COPY_DONE), *simple("SELECT * FROM t", "ROLLBACK")],
    "copy in, blind": [
        *simple("BEGIN"), *TABLE, Round(query("COPY t FROM STDIN") + copy_data(b"1\tx\n") + COPY_DONE),
        *simple("SELECT * FROM t", "ROLLBACK")],
    "copy in, row torn over messages": [
        *simple("BEGIN"), *TABLE, Round(query("COPY t FROM STDIN"), "G"),
        Round(b"".join(copy_data(bytes([byte])) for byte in b"17\tabc\n18\tdef\n") + COPY_DONE),
        *simple("SELECT * FROM t", "ROLLBACK")],
    "copy in of nothing": [
        *simple("BEGIN"), *TABLE, Round(query("COPY t FROM STDIN"), "G"), Round(COPY_DONE), *simple("ROLLBACK")],
    "copy fail": [
        *simple("BEGIN"), *TABLE, Round(query("COPY t FROM STDIN"), "G"),
        Round(copy_data(b"1\tx\n") + copy_fail("no more")), *simple("ROLLBACK", "SELECT 1")],
    "copy in with a bad row, data after the error": [
        *simple("BEGIN"), *TABLE, Round(query("COPY t FROM STDIN"), "G"),
        Round(copy_data(b"bad\n") + b"".join(copy_data(b"1\tx\n") for _ in range(2000)) + COPY_DONE),
        *simple("ROLLBACK", "SELECT 1")],
    "copy in with a bad row outside a transaction, data after the error": [
        Round(query("COPY pg_catalog.pg_nosuch FROM STDIN") + copy_data(b"x\n") * 50 + COPY_DONE), *simple("SELECT 1")],
    "two copies in one query": [
        *simple("BEGIN"), *TABLE, Round(query("COPY t FROM STDIN; COPY t FROM STDIN; SELECT count(*) FROM t"), "G"),
        Round(copy_data(b"1\tx\n") + COPY_DONE, "G"), Round(copy_data(b"2\ty\n") + COPY_DONE), *simple("ROLLBACK")],
    "copy in by the extended protocol": [
        *simple("BEGIN"), *TABLE, Round(parse("COPY t FROM STDIN") + bind() + execute() + FLUSH, "G"),
        Round(copy_data(b"1\tx\n") + COPY_DONE + SYNC), *simple("SELECT * FROM t", "ROLLBACK")],
    "copy in by the extended protocol, sync while copying": [
        *simple("BEGIN"), *TABLE, Round(parse("COPY t FROM STDIN") + bind() + execute() + SYNC, "G"),
        Round(copy_data(b"1\tx\n") + COPY_DONE + SYNC), *simple("SELECT * FROM t", "ROLLBACK")],
    "copy in by the extended protocol, blind": [
        *simple("BEGIN"), *TABLE,
        Round(parse("COPY t FROM STDIN") + bind() + execute() + copy_data(b"1\tx\n") + COPY_DONE + SYNC),
        *simple("SELECT * FROM t", "ROLLBACK")],
    "copy in by the extended protocol with an error": [
        *simple("BEGIN"), *TABLE, Round(parse("COPY t FROM STDIN") + bind() + execute() + FLUSH, "G"),
        Round(copy_data(b"bad\n") + copy_data(b"2\ty\n") * 20 + COPY_DONE + SYNC), *simple("ROLLBACK", "SELECT 1")],
    "copy fail by the extended protocol": [
        *simple("BEGIN"), *TABLE, Round(parse("COPY t FROM STDIN") + bind() + execute() + FLUSH, "G"),
        Round(copy_fail("stop") + SYNC), *simple("ROLLBACK", "SELECT 1")],
    "copy messages outside of copy": [
        Round(copy_data(b"x") + COPY_DONE + copy_fail("y") + query("SELECT 1"), "Z", 1)],
}

# Statement names: PostgreSQL's errors about them must come, with the client's names in them.
NAMES = {
    "parse error of a named statement, then the name is free": [
        *pipeline(parse("SELEC", "s"), SYNC), *pipeline(parse("SELECT 1", "s"), bind("s"), execute(), SYNC)],
    "statement parsed behind an error is not there": [
        *pipeline(parse("SELECT 1/0"), bind(), execute(), parse("SELECT 7", "later"), SYNC),
        *pipeline(parse("SELECT 8", "later"), bind("later"), execute(), SYNC)],
    "bind of an unknown statement": [
        *pipeline(bind("nosuch"), execute(), SYNC), *simple("SELECT 1")],
    "describe of an unknown statement": [
        *pipeline(describe("S", "nosuch"), SYNC), *simple("SELECT 1")],
    "bind of a closed statement": [
        *pipeline(parse("SELECT 1", "s"), SYNC), *pipeline(close("S", "s"), SYNC),
        *pipeline(bind("s"), execute(), SYNC), *simple("SELECT 1")],
    "name used twice": [
        *pipeline(parse("SELECT 1", "s"), SYNC), *pipeline(parse("SELECT 2", "s"), bind("s"), execute(), SYNC),
        *pipeline(bind("s"), execute(), SYNC)],
    "name used twice in one pipeline": [
        *pipeline(parse("SELECT 1", "s"), parse("SELECT 2", "s"), SYNC), *pipeline(bind("s"), execute(), SYNC)],
    "unknown statement in a transaction": [
        *simple("BEGIN"), *pipeline(bind("nosuch"), execute(), SYNC), *simple("SELECT 1", "ROLLBACK", "SELECT 2")],
    "unknown statement in the middle of a pipeline": pipeline(
        parse("SELECT 1"), bind(), execute(), bind("nosuch"), execute(), parse("SELECT 2"), bind(), execute(), SYNC,
        parse("SELECT 3"), bind(), execute(), SYNC, ready=2),
    "deallocate all forgets": [
        *pipeline(parse("SELECT 1", "s"), SYNC), *simple("DEALLOCATE ALL"),
        *pipeline(parse("SELECT 2", "s"), bind("s"), execute(), SYNC)],
    "discard all forgets": [
        *pipeline(parse("SELECT 1", "s"), SYNC), *simple("DISCARD ALL"),
        *pipeline(parse("SELECT 2", "s"), bind("s"), execute(), SYNC)],
}


def readable(received: Message) -> str:
    """A message without what may differ between two backends."""
    match received.type:
        case "E" | "N":
            kept = {key: value for key, value in received.fields().items() if key not in "FLR"}
            return f"{received.type} {kept}"
        case "T":
            return f"T {received.columns()}"
        case "A":
            return f"A {received.body[4:]!r}"
        case "Z" | "C" | "G" | "H":
            return f"{received.type} {received.body!r}"
        case _ if len(received.body) > 200:
            return f"{received.type} {len(received.body)} bytes, hash {hash(received.body)}"
        case _:
            return f"{received.type} {received.body!r}"


def play(host: str, port: int, script: list[Round]) -> list[str]:
    heard: list[str] = []
    with Connection(host, port, timeout=8).login() as connection:
        for number, each in enumerate(script):
            connection.send(each.send)
            try:
                answer = connection.read_until(each.until, each.count)
            except Exception as error:  # The account so far tells more than the error alone.
                heard.append(f"round {number}: {type(error).__name__} {error}")
                return heard
            heard += [f"round {number}: {readable(one)}" for one in answer]
        # Nothing may be left over, and the session must be as good as new.
        heard += [f"end: {readable(one)}" for one in connection.ask(query("SELECT 'fence'"))]
    return heard


@pytest.fixture(scope="module", params=["session", "transaction", "transaction, cut"])
def pooler(request: pytest.FixtureRequest, program: Program, cluster: Cluster) -> Iterator[Proxy]:
    """One proxy serves all scripts of a mode: one that spoils a server connection is noticed by those behind it."""
    mode, *cut = request.param.split(", ")
    proxy = Proxy(program, cluster, settings={"pool_mode": mode, "default_pool_size": 3})
    with cut_on_both_sides(proxy, cluster) if cut else nullcontext(proxy.start()):
        yield proxy
    proxy.stop()


def compare(cluster: Cluster, pooler: Proxy, script: list[Round]) -> None:
    assert pooler.alive(), f"the proxy ended:\n{pooler.log_text()[-3000:]}"
    assert play(pooler.host, pooler.port, script) == play(cluster.host, cluster.port, script)


@pytest.mark.parametrize("name", SCRIPTS)
def test_same_answers(cluster: Cluster, pooler: Proxy, name: str) -> None:
    compare(cluster, pooler, SCRIPTS[name])


@pytest.mark.martlet("an unknown or doubled name is an ERROR as from a server, not a disconnect")
@pytest.mark.parametrize("name", NAMES)
def test_same_answers_about_statement_names(cluster: Cluster, pooler: Proxy, name: str) -> None:
    compare(cluster, pooler, NAMES[name])


def test_bytes_one_by_one(cluster: Cluster, proxy: Proxy) -> None:
    """A network may tear messages anywhere."""
    script = query("SELECT 1, 'two'") + parse("SELECT $1::int", "s") + bind("s", values=("5",)) + describe("P") \
        + execute() + SYNC + query("SELECT 'end'")
    answers = []
    for host, port in ((cluster.host, cluster.port), (proxy.host, proxy.port)):
        with Connection(host, port).login() as connection:
            for byte in script:
                connection.send(bytes([byte]))
            answers.append([readable(each) for each in connection.read_until("Z", 3)])
    assert answers[0] == answers[1]
