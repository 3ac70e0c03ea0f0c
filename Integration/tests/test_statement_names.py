"""DEALLOCATE in SQL, failed transactions and pipelines: a client with statements hears what PostgreSQL would say."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

import psycopg
import pytest

from cluster import Cluster
from proxy import Proxy
from rawpg import SYNC, Connection, Message, bind, close, describe, execute, parse, query

pytestmark = [pytest.mark.one_loop, pytest.mark.martlet("PgBouncer does not follow DEALLOCATE of one statement")]

# What is asked, and how many ReadyForQuery come back.
Script = list[tuple[bytes, int]]


def heard(answer: list[Message]) -> list[str]:
    """Messages as far as they must be the same; texts of errors name servers' statements."""
    result = []
    for each in answer:
        match each.type:
            case "E":
                result.append(f"E {each.sqlstate}")
            case "D":
                result.append(f"D {each.values()}")
            case "T":
                result.append(f"T {each.columns()}")
            case "C" | "Z" | "t":
                result.append(f"{each.type} {each.body!r}")
            case "S" | "N":
                pass
            case _:
                result.append(each.type)
    return result


def play(host: str, port: int, script: Script) -> list[list[str]]:
    with Connection(host, port).login() as connection:
        return [heard(connection.ask(part, ready=count)) for part, count in script]


def one(*parts: bytes) -> tuple[bytes, int]:
    return b"".join(parts) + SYNC, 1


def simple(sql: str) -> tuple[bytes, int]:
    return query(sql), 1


def run(name: str) -> bytes:
    return bind(name) + execute()


A = parse("SELECT 'a'", "a")
B = parse("SELECT 'b'", "b")
FAILED = [simple("BEGIN"), simple("SELECT 1/0")]

SCRIPTS: dict[str, Script] = {
    "as close": [one(A), one(run("a")), simple("DEALLOCATE a"), one(run("a")), one(A, run("a"))],
    "twice": [one(A), simple("DEALLOCATE a"), simple("DEALLOCATE a"), one(A)],
    "prepare is noise": [one(A), simple("deallocate Prepare A;"), one(run("a")), one(A)],
    "prepare is the name": [one(parse("SELECT 1", "prepare")), simple("DEALLOCATE prepare"), one(run("prepare"))],
    "all is no name": [one(parse("SELECT 1", "all"), A), simple("DEALLOCATE \"all\""), one(run("a")), one(run("all"))],
    "other case": [one(parse("SELECT 1", "Aa")), simple("DEALLOCATE Aa"), one(run("Aa")), simple("DEALLOCATE \"Aa\""),
                   one(run("Aa"))],
    "quotes": [one(parse("SELECT 1", 'a "b" é;')), simple('DEALLOCATE "a ""b"" é;"'), one(run('a "b" é;'))],
    "comments": [one(A), simple("/* DEALLOCATE b */ -- x\n DEALLOCATE/**/a--\n;;"), one(run("a"))],
    "in a transaction": [one(A), simple("BEGIN"), one(run("a")), simple("DEALLOCATE a"), one(parse("SELECT 2", "a")),
                         one(run("a")), simple("COMMIT"), one(run("a"))],
    "rolled back": [one(A), simple("BEGIN"), simple("DEALLOCATE a"), simple("ROLLBACK"), one(run("a"))],
    "in a failed transaction": [one(A), *FAILED, simple("DEALLOCATE a"), one(parse("DEALLOCATE a"), run("")),
                                simple("ROLLBACK"), one(run("a"))],
    "of an unknown name": [one(A), simple("DEALLOCATE zz"), simple("BEGIN"), simple("DEALLOCATE zz"), simple("COMMIT")],
    "several": [one(A, B), simple("DEALLOCATE a; SELECT 1; DEALLOCATE PREPARE \"b\""), one(run("a")), one(run("b"))],
    "error behind it": [one(A, B), simple("DEALLOCATE a; SELECT 1/0; DEALLOCATE b"), one(run("a")), one(run("b"))],
    "error before it": [one(A), simple("SELECT 1/0; DEALLOCATE a"), one(run("a"))],
    "the same in one query": [one(A), simple("DEALLOCATE a; DEALLOCATE a"), one(run("a"))],
    "with its transaction": [one(A), simple("BEGIN; DEALLOCATE a; COMMIT"), one(run("a"))],
    "with PREPARE of SQL": [one(A), simple("DEALLOCATE a; PREPARE a AS SELECT 'sql'; EXECUTE a; DEALLOCATE a"),
                            one(run("a")), one(A, run("a"))],
    "PREPARE of SQL in its place": [one(A), simple("BEGIN"), simple("DEALLOCATE a"), simple("PREPARE a AS SELECT 'sql'"),
                                    simple("EXECUTE a"), simple("DEALLOCATE a"), simple("COMMIT"), one(A, run("a"))],
    "in a string": [one(A), simple("SELECT 'x; DEALLOCATE a'"), simple("SELECT $$; DEALLOCATE a$$"), one(run("a"))],
    "by the extended protocol": [one(A), one(parse("DEALLOCATE a"), run("")), one(run("a")), one(A)],
    "and prepared anew in the same batch": [one(A), one(parse("DEALLOCATE a"), run(""), parse("SELECT 'new'", "a"), run("a")),
                                            one(run("a"))],
    "by a named statement": [one(A, parse("DEALLOCATE PREPARE a", "d")), one(run("d")), one(run("a")), one(run("d")),
                             one(A), one(run("d")), one(run("a"))],
    "fails in a batch": [one(A), one(parse("SELECT 1/0"), run(""), parse("DEALLOCATE a"), run("")), one(run("a"))],
    "error behind it in a batch": [one(A), one(parse("DEALLOCATE a"), run(""), parse("SELECT 1/0"), run("")),
                                   one(run("a"))],
    "in a pipeline": [one(A), (query("DEALLOCATE a") + parse("SELECT 'new'", "a") + run("a") + SYNC + run("a") + SYNC, 3)],
    "of what is prepared in the pipeline": [(A + SYNC + query("DEALLOCATE a") + run("a") + SYNC, 3)],
    "all": [one(A, B), simple("SELECT 1; DEALLOCATE ALL"), one(run("a")), one(A, B)],
    "all in a batch": [one(A), one(parse("DEALLOCATE ALL"), run(""), parse("SELECT 'new'", "a"), run("a")), one(run("a"))],
    "all, and a new name": [one(A), one(parse(" /**/ DISCARD ALL"), run(""), A.replace(b"a\0", b"n\0", 1), run("n")),
                            one(run("n")), one(run("a"))],
    "all, and the old one": [one(A), one(parse("DEALLOCATE ALL"), run(""), run("a")), one(run("a"))],
    "all before the first name": [one(parse("deallocate all"), run(""), A, run("a")), one(run("a"))],
    "all by a named statement": [one(A, parse("DEALLOCATE ALL", "d")), one(run("d"), A, run("a"), run("d")), one(run("a"))],
    "all behind an error": [one(A), one(parse("SELECT 1/0"), run(""), parse("DEALLOCATE ALL"), run(""), B), one(run("a")),
                            one(run("b"))],
    "all in a pipeline": [(query("DISCARD ALL") + A + run("a") + SYNC + query("DEALLOCATE ALL") + B + run("b") + SYNC, 4),
                          one(run("a")), one(run("b"))],
    "describe": [one(A), simple("DEALLOCATE a"), one(describe("S", "a")), one(close("S", "a")), one(A, describe("S", "a"))],
    # Portals.
    "another portal between": [one(A), simple("BEGIN"), one(parse("DEALLOCATE a", "d"), bind("d", "p"), parse("SELECT 1"), bind("", "q"),
                                                        execute("q"), execute("p")), simple("COMMIT"), one(run("a"))],
    "another portal only": [one(A), simple("BEGIN"), one(parse("SELECT 1"), bind("", "q"), parse("DEALLOCATE a"), bind("", "p"),
                                                     execute("q")), one(run("a")), simple("COMMIT"), one(run("a"))],
    "portal of a later batch": [one(A), simple("BEGIN"), one(parse("SELECT 1"), bind("", "q"), parse("DEALLOCATE a"), bind("", "p")),
                                one(execute("q")), one(run("a")), one(execute("p")), one(run("a")), simple("ROLLBACK"), one(run("a"))],
    "two portals": [one(A, B), simple("BEGIN"), one(parse("DEALLOCATE a"), bind("", "p"), parse("DEALLOCATE b"), bind("", "q"),
                                                execute("p")), one(run("b")), one(execute("q")), simple("COMMIT"), one(run("b"))],
    "portal of all": [one(A), simple("BEGIN"), one(parse("SELECT 1"), bind("", "q"), parse("DEALLOCATE ALL"), bind("", "p")),
                      one(execute("q"), B), one(run("a")), one(execute("p")), one(run("a")), simple("ROLLBACK"), one(run("b"))],
    "portal of a transaction that is over": [one(A), simple("BEGIN"), one(parse("DEALLOCATE a"), bind("", "p")), simple("COMMIT"),
                                             simple("BEGIN"), one(parse("SELECT 1"), bind("", "p"), execute("p")), one(run("a")),
                                             simple("COMMIT"), one(run("a"))],
    "portal that is bound already": [
        one(parse("SELECT 1 AS x", "one"), parse("SELECT 'q' AS y, 2 AS z", "two")), simple("BEGIN"), one(bind("one", "p")),
        simple("SAVEPOINT s"), one(bind("two", "p")), simple("ROLLBACK TO s"), one(describe("P", "p"), execute("p")), simple("COMMIT"),
        simple("CREATE TABLE gone (); DROP TABLE gone"), one(run("two")), one(run("one"))],
    "portal that is bound already from what is described": [
        one(parse("SELECT 1 AS x", "one"), parse("SELECT 'q' AS y, 2 AS z", "two")), one(describe("S", "one")), simple("BEGIN"),
        one(bind("one", "p")), simple("SAVEPOINT s"), one(bind("two", "p")), simple("ROLLBACK TO s"),
        one(describe("P", "p"), execute("p")), simple("COMMIT"), simple("CREATE TABLE gone (); DROP TABLE gone"), one(run("two"))],
    # Failed transactions.
    "known statement": [one(A), *FAILED, one(parse("SELECT 'a'", "again")), one(run("a")), one(describe("S", "a")),
                        one(close("S", "a")), one(A), simple("ROLLBACK"), one(run("a")), one(run("again"))],
    "known name": [one(A), *FAILED, one(A), one(close("S", "zz")), one(run("zz")), one(describe("S", "zz")),
                   simple("ROLLBACK"), one(run("a"))],
    "what ends it": [one(parse("ROLLBACK", "r"), A), *FAILED, one(run("r")), one(run("a"))],
    "prepared there": [*FAILED, one(parse("ROLLBACK", "r")), one(run("r")), one(run("r"))],
    "failed in the pipeline": [one(A), (query("BEGIN") + query("SELECT 1/0") + parse("SELECT 'a'", "x") + SYNC
                                        + run("a") + SYNC + close("S", "a") + SYNC + query("ROLLBACK"), 6),
                               one(run("x")), one(run("a"))],
    "behind an error": [one(A), one(parse("nonsense"), parse("SELECT 'a'", "x"), close("S", "a"), run("a")),
                        one(run("x")), one(run("a"))],
}


@pytest.fixture
def shared(start_proxy: Callable[..., Proxy]) -> Proxy:
    """A pool of one, in which the statements of the scripts are known to be good."""
    proxy = start_proxy(settings={"default_pool_size": 1})
    with Connection(proxy.host, proxy.port).login() as neighbour:
        neighbour.ask(A, B, parse("ROLLBACK", "r"), run("a"), SYNC)
    return proxy


def test_same_answers(cluster: Cluster, shared: Proxy) -> None:
    with Connection(shared.host, shared.port).login() as neighbour:
        neighbour.ask(A, SYNC)
        for name, script in SCRIPTS.items():
            assert play(shared.host, shared.port, script) == play(cluster.host, cluster.port, script), name
            assert heard(neighbour.ask(run("a"), SYNC)) == ["2", "D [b'a']", "C b'SELECT 1\\x00'", "Z b'I'"], name


def spelt(part: bytes) -> str:
    """Messages of a client, for people."""
    words, at = [], 0
    while at < len(part):
        length = int.from_bytes(part[at + 1:at + 5], "big")
        words.append(chr(part[at]) + " ".join(re.findall(r"[ -~]+", part[at + 5:at + 1 + length].decode("latin1"))))
        at += length + 1
    return " | ".join(words)


def some_script(chance: random.Random, describes: bool) -> Script:
    """Requests of one client about few names and texts, in transactions, failed ones too, and pipelines."""
    names = ["a", "b", "C"]
    texts = ["SELECT 'a'", "SELECT 'b'", "SELECT 1/0", "nonsense", "ROLLBACK", "DEALLOCATE a", 'DEALLOCATE PREPARE "C"',
             "DEALLOCATE c", "DEALLOCATE ALL", "DISCARD ALL"]
    queries = ["BEGIN", "BEGIN", "COMMIT", "ROLLBACK", "SELECT 1", "SELECT 1/0", "DEALLOCATE a", "DEALLOCATE PREPARE b",
               'SELECT 1; DEALLOCATE "C"', "DEALLOCATE b; SELECT 1/0", "DEALLOCATE ALL", "DISCARD ALL", "SAVEPOINT s",
               "ROLLBACK TO SAVEPOINT s"]
    script: Script = []
    for _ in range(chance.randrange(3, 12)):
        parts, ready = b"", 0
        for _ in range(chance.choice([1, 1, 2, 5])):
            if chance.random() < 0.35:
                parts += query(chance.choice(queries))
                ready += 1
                continue
            for _ in range(chance.choice([1, 1, 2, 4])):
                name = chance.choice(names)
                # Of unnamed statements Martlet does not know the one before one that was skipped.
                parts += chance.choice([
                    parse(chance.choice(texts), name), parse("SELECT 'a'", name), run(name), run(name),
                    describe("S", name) if describes else run(name), close("S", name),
                    parse(chance.choice(texts)) + run("")])
            parts += SYNC
            ready += 1
        script.append((parts, ready))
    return script


@pytest.mark.parametrize("limit", [2, 100])
def test_random_scripts(cluster: Cluster, start_proxy: Callable[..., Proxy], limit: int) -> None:
    proxy = start_proxy(settings={"default_pool_size": 1, "max_prepared_statements": limit})
    chance = random.Random(20261130 + limit)
    for number in range(250):
        # In a failed transaction what a server has no room for cannot be described.
        script = some_script(chance, describes=limit > 2)
        ours, theirs = play(proxy.host, proxy.port, script), play(cluster.host, cluster.port, script)
        for part, (mine, right) in enumerate(zip(ours, theirs)):
            assert mine == right, "\n".join(
                [f"script {number}", *(spelt(each) for each, _ in script[:part + 1]), str(mine), str(right)])


def test_psycopg_transaction_with_deallocate(start_proxy: Callable[..., Proxy], database: str) -> None:
    """As PHP's PDO and DBD::Pg do it: prepare, execute and deallocate in the transaction that has to hold."""
    proxy = start_proxy(settings={"default_pool_size": 2})
    with Connection(proxy.host, proxy.port).login(database=database) as client:
        client.simple("CREATE TABLE t (n int)")
        for number in range(3):
            client.simple("BEGIN")
            client.ask(parse("INSERT INTO t VALUES ($1)", f"pdo_stmt_{number}"), SYNC)
            client.ask(bind(f"pdo_stmt_{number}", values=(str(number),)), execute(), SYNC)
            client.simple(f"DEALLOCATE pdo_stmt_{number}")
            client.simple("COMMIT")
        assert client.simple("SELECT n FROM t ORDER BY n") == [[b"0"], [b"1"], [b"2"]]
    with proxy.connect(database, prepare_threshold=0) as connection:
        connection.execute("SELECT 1 + 1")
        name = connection.execute("SELECT '_pg3_0'").fetchone()[0]
        connection.execute(f"DEALLOCATE {name}", prepare=False)
        with pytest.raises(psycopg.errors.InvalidSqlStatementName):
            connection.execute("SELECT 1 + 1")
