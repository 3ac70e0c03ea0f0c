"""CancelRequest: it ends what its own client does, and nothing else."""

from __future__ import annotations

import os
import random
import signal
import struct
import threading
import time
from collections.abc import Callable

import pytest

from cluster import Cluster
from common import Background, wait_until
from proxy import Proxy
from rawpg import CANCEL_REQUEST, SYNC, Connection, bind, cancel, describe, execute, parse, query, request


def login(proxy: Proxy, database: str = "app") -> Connection:
    return Connection(proxy.host, proxy.port).login(database=database)


def cancel_of(proxy: Proxy, connection: Connection) -> None:
    cancel(proxy.host, proxy.port, connection.key)


def is_running(cluster: Cluster, database: str, text: str = "pg_sleep") -> bool:
    return any(state == "active" and text in sql for _, state, sql in cluster.backends(database))


@pytest.mark.parametrize("pool_mode", ["session", "transaction", "statement"])
def test_running_query(start_proxy: Callable[..., Proxy], cluster: Cluster, database: str, pool_mode: str) -> None:
    proxy = start_proxy(settings={"pool_mode": pool_mode})
    with login(proxy, database) as connection:
        connection.send(query("SELECT pg_sleep(30)"))
        wait_until(lambda: is_running(cluster, database), "it runs")
        cancel_of(proxy, connection)
        answer = connection.read_until("Z")
        assert [each.sqlstate for each in answer if each.type == "E"] == ["57014"]
        assert connection.simple("SELECT 1") == [[b"1"]]


def test_in_a_transaction(start_proxy: Callable[..., Proxy], cluster: Cluster, database: str) -> None:
    proxy = start_proxy()
    with login(proxy, database) as connection:
        connection.simple("BEGIN")
        connection.send(parse("SELECT pg_sleep(30)"), bind(), execute(), SYNC)
        wait_until(lambda: is_running(cluster, database), "it runs")
        cancel_of(proxy, connection)
        answer = connection.read_until("Z")
        assert [each.sqlstate for each in answer if each.type == "E"] == ["57014"]
        assert answer[-1].body == b"E"
        connection.simple("ROLLBACK")
        assert connection.simple("SELECT 1") == [[b"1"]]


def test_idle_client(start_proxy: Callable[..., Proxy], database: str) -> None:
    """Nothing to cancel: dropped, and it must not hit what the same server does for another client."""
    proxy = start_proxy(settings={"default_pool_size": 1})
    with login(proxy, database) as idle, login(proxy, database) as busy:
        idle.simple("SELECT 1")
        busy.send(query("SELECT pg_sleep(0.7)"))
        for _ in range(5):
            cancel_of(proxy, idle)
        assert [each.type for each in busy.read_until("Z")] == ["T", "D", "C", "Z"]
        assert idle.simple("SELECT 2") == [[b"2"]]


@pytest.mark.martlet("PgBouncer drops the cancel, and the client waits on")
def test_client_in_the_queue(start_proxy: Callable[..., Proxy], database: str) -> None:
    proxy = start_proxy(settings={"default_pool_size": 1})
    with login(proxy, database) as holder, login(proxy, database) as waiting, login(proxy, database) as next_one:
        holder.simple("CREATE TABLE t (n int)")
        holder.simple("BEGIN")
        waiting.send(query("INSERT INTO t VALUES (1)"))
        proxy.wait_pool(lambda pool: pool["cl_waiting"] == 1, "it waits", database)
        next_one.send(query("INSERT INTO t VALUES (2)"))
        proxy.wait_pool(lambda pool: pool["cl_waiting"] == 2, "so does the next", database)
        cancel_of(proxy, waiting)
        answer = waiting.read_until("Z", timeout=3)
        assert [each.sqlstate for each in answer if each.type == "E"] == ["57014"]
        assert answer[-1].body == b"I"
        proxy.wait_pool(lambda pool: pool["cl_waiting"] == 1, "one has left the queue", database)
        holder.simple("COMMIT")
        next_one.read_until("Z")
        assert waiting.simple("SELECT n FROM t") == [[b"2"]]


@pytest.mark.martlet("PgBouncer drops the cancel, and the client waits on")
def test_pipeline_in_the_queue(start_proxy: Callable[..., Proxy], database: str) -> None:
    """The answer to a cancelled pipeline is one error and the ReadyForQuery of its Sync."""
    proxy = start_proxy(settings={"default_pool_size": 1})
    with login(proxy, database) as holder, login(proxy, database) as waiting:
        holder.simple("BEGIN")
        waiting.send(parse("SELECT $1::int", "s"), bind("s", values=("1",)), execute(), SYNC)
        proxy.wait_pool(lambda pool: pool["cl_waiting"] == 1, "it waits", database)
        cancel_of(proxy, waiting)
        answer = waiting.read_until("Z", timeout=3)
        assert [each.sqlstate for each in answer if each.type == "E"] == ["57014"]
        holder.simple("COMMIT")
        assert waiting.simple("SELECT 1") == [[b"1"]]
        again = waiting.ask(parse("SELECT $1::int", "t"), bind("t", values=("4",)), execute(), SYNC)
        assert [each.values() for each in again if each.type == "D"] == [[b"4"]]


BEGINNINGS = {
    "Query": [query("BEGIN"), query("INSERT INTO t VALUES (1)"), query("SELECT 1/0"), query("ROLLBACK")],
    "with comments": [query("/* a */ ; START TRANSACTION"), query("INSERT INTO t VALUES (1)"), query("COMMIT")],
    "with its statements": [query("BEGIN; INSERT INTO t VALUES (1)"), query("INSERT INTO t VALUES (2)"), query("END")],
    "pipeline": [
        parse(text) + bind() + describe("P") + execute() + SYNC
        for text in ("BEGIN", "INSERT INTO t VALUES (1)", "COMMIT")],
    "batch": [
        parse("BEGIN") + bind() + execute() + parse("INSERT INTO t VALUES (1)") + bind() + execute() + SYNC,
        parse("INSERT INTO t VALUES (2)") + bind() + execute() + SYNC,
        parse("ABORT", "a") + describe("S", "a") + bind("a") + execute() + SYNC],
    "prepared": [
        bind("begin") + execute() + SYNC, bind("insert") + execute() + SYNC, bind("commit") + execute() + SYNC],
}


@pytest.mark.martlet("PgBouncer drops the cancel, and the client waits on")
@pytest.mark.parametrize("pool_mode", ["session", "transaction"])
@pytest.mark.parametrize("how", BEGINNINGS)
def test_transaction_in_the_queue(start_proxy: Callable[..., Proxy], database: str, how: str, pool_mode: str) -> None:
    """What is sent ahead behind a BEGIN that is cancelled belongs to a transaction, which has failed."""
    if how == "prepared" and pool_mode == "session":
        pytest.skip("it has its server connection already")
    proxy = start_proxy(settings={"default_pool_size": 1, "pool_mode": pool_mode})
    requests = BEGINNINGS[how]
    with login(proxy, database) as holder, login(proxy, database) as waiting:
        holder.simple("CREATE TABLE t (n int)")
        if how == "prepared":
            waiting.ask(
                parse("BEGIN", "begin"), parse("INSERT INTO t VALUES (1)", "insert"), parse("COMMIT", "commit"), SYNC)
        holder.simple("BEGIN")
        holder.simple("SELECT 1")
        waiting.send(*requests)
        proxy.wait_pool(lambda pool: pool["cl_waiting"] == 1, "it waits", database)
        cancel_of(proxy, waiting)
        answer = waiting.read_until("Z", len(requests), timeout=5)
        assert [each.sqlstate for each in answer if each.type == "E"] == ["57014"] + ["25P02"] * (len(requests) - 2)
        assert [each.body for each in answer if each.type == "Z"] == [b"E"] * (len(requests) - 1) + [b"I"]
        assert [each.body for each in answer if each.type == "C"] == [b"ROLLBACK\0"]
        holder.simple("COMMIT")
        holder.socket.close()
        assert waiting.simple("SELECT n FROM t") == []
        waiting.simple("BEGIN")
        waiting.simple("INSERT INTO t VALUES (3)")
        waiting.simple("COMMIT")
        assert waiting.simple("SELECT n FROM t") == [[b"3"]]


@pytest.mark.martlet("PgBouncer drops the cancel, and the client waits on")
def test_a_chain_behind_a_cancelled_begin(start_proxy: Callable[..., Proxy], database: str) -> None:
    proxy = start_proxy(settings={"default_pool_size": 1})
    with login(proxy, database) as holder, login(proxy, database) as waiting:
        holder.simple("CREATE TABLE t (n int)")
        holder.simple("BEGIN")
        waiting.send(query("BEGIN ISOLATION LEVEL SERIALIZABLE"))
        proxy.wait_pool(lambda pool: pool["cl_waiting"] == 1, "it waits", database)
        cancel_of(proxy, waiting)
        assert waiting.read_until("Z")[-1].body == b"E"
        assert waiting.ask(query("ROLLBACK AND CHAIN"))[-1].body == b"T"
        holder.simple("COMMIT")
        assert waiting.simple("SHOW transaction_isolation") == [[b"read committed"]]
        waiting.simple("INSERT INTO t VALUES (1)")
        assert waiting.ask(query("ROLLBACK"))[-1].body == b"I"
        assert waiting.simple("SELECT n FROM t") == []


@pytest.mark.martlet("PgBouncer drops the cancel, and the client waits on")
def test_a_cancel_while_the_transaction_is_begun(
        start_proxy: Callable[..., Proxy], cluster: Cluster, database: str) -> None:
    """BEGIN is sent long after its client was told of it: a cancel is about the statement behind it."""
    proxy = start_proxy(settings={"default_pool_size": 1})
    with login(proxy, database) as holder, login(proxy, database) as waiting:
        holder.simple("BEGIN")
        waiting.send(query("BEGIN"))
        proxy.wait_pool(lambda pool: pool["cl_waiting"] == 1, "it waits", database)
        cancel_of(proxy, waiting)
        assert waiting.read_until("Z")[-1].body == b"E"
        assert waiting.ask(query("COMMIT AND CHAIN"))[-1].body == b"T"
        pid = int(holder.simple("SELECT pg_backend_pid()")[0][0] or 0)
        holder.simple("COMMIT")
        os.kill(pid, signal.SIGSTOP)
        try:
            waiting.send(query("SELECT pg_sleep(60)"))
            proxy.wait_pool(lambda pool: pool["sv_active"] == 1, "it has the connection", database)
            cancel_of(proxy, waiting)
        finally:
            os.kill(pid, signal.SIGCONT)
        answer = waiting.read_until("Z", timeout=10)
        assert [each.sqlstate for each in answer if each.type == "E"] == ["57014"] and answer[-1].body == b"E"
        assert waiting.ask(query("ROLLBACK"))[-1].body == b"I"


@pytest.mark.martlet("PgBouncer drops the cancel, and the client waits on")
@pytest.mark.parametrize("request_", [
    query("SELECT 1; BEGIN"), query("COMMIT"), parse("BEGIN") + describe("S") + SYNC,
    parse("SELECT 1") + bind() + execute() + parse("BEGIN") + bind() + execute() + SYNC])
def test_a_cancelled_request_that_begins_nothing(
        start_proxy: Callable[..., Proxy], database: str, request_: bytes) -> None:
    proxy = start_proxy(settings={"default_pool_size": 1})
    with login(proxy, database) as holder, login(proxy, database) as waiting:
        holder.simple("BEGIN")
        waiting.send(request_)
        proxy.wait_pool(lambda pool: pool["cl_waiting"] == 1, "it waits", database)
        cancel_of(proxy, waiting)
        answer = waiting.read_until("Z")
        assert [each.sqlstate for each in answer if each.type == "E"] == ["57014"] and answer[-1].body == b"I"
        holder.simple("COMMIT")


@pytest.mark.parametrize("key", [
    b"\0" * 8, b"\xff" * 8, b"", b"\1", b"\1\2\3\4", b"\1\2\3\4\5\6\7\0", b"x" * 256, b"y" * 5000])
def test_wrong_keys(start_proxy: Callable[..., Proxy], database: str, key: bytes) -> None:
    proxy = start_proxy(settings={"default_pool_size": 1})
    with login(proxy, database) as busy:
        busy.send(query("SELECT pg_sleep(0.5)"))
        with Connection(proxy.host, proxy.port) as connection:
            connection.send(request(CANCEL_REQUEST, key))
            try:
                connection.read_all(timeout=5)
            except TimeoutError:
                pass
        half = busy.key[:4] + bytes(4)
        cancel(proxy.host, proxy.port, half)
        assert [each.type for each in busy.read_until("Z")] == ["T", "D", "C", "Z"]


def test_keys_cannot_be_guessed(proxy: Proxy) -> None:
    keys = []
    for _ in range(50):
        with login(proxy) as connection:
            keys.append(connection.key)
    assert len(set(keys)) == 50
    assert len({key[4:] for key in keys}) == 50
    numbers = [struct.unpack("!I", key[4:8])[0] for key in keys]
    assert len({b - a for a, b in zip(numbers, numbers[1:])}) > 40, "secrets follow each other"


def test_key_of_a_client_that_left(start_proxy: Callable[..., Proxy], database: str) -> None:
    proxy = start_proxy(settings={"default_pool_size": 1})
    with login(proxy, database) as gone:
        gone.simple("SELECT 1")
    with login(proxy, database) as busy:
        busy.send(query("SELECT pg_sleep(0.5)"))
        cancel_of(proxy, gone)
        assert [each.type for each in busy.read_until("Z")] == ["T", "D", "C", "Z"]


def test_server_is_held_until_the_cancel_is_through(
        start_proxy: Callable[..., Proxy], cluster: Cluster, database: str) -> None:
    """A query that ends while its cancel is on the way: the cancel must not hit the next one on that server."""
    proxy = start_proxy(settings={"default_pool_size": 1})
    with login(proxy, database) as one, login(proxy, database) as two:
        for number in range(100):
            one.send(query("SELECT pg_sleep(0.002)"))
            canceller = Background(cancel_of, proxy, one)
            two.send(query(f"SELECT {number}, pg_sleep(0.003)"))
            answer = two.read_until("Z")
            errors = [each.fields() for each in answer if each.type == "E"]
            assert [each.type for each in answer] == ["T", "D", "C", "Z"], errors
            canceller.result()
            one.read_until("Z")


def test_storm(start_proxy: Callable[..., Proxy], database: str, request: pytest.FixtureRequest) -> None:
    """Cancels without end against clients on few servers: a client that is not meant never sees one.

    Half of the clients are cancelled again and again; the other half run short queries on the same server
    connections and must never be hit.
    """
    cancels = request.config.getoption("--cancels") or (10_000 if request.config.getoption("--long") else 400)
    proxy = start_proxy(settings={"default_pool_size": 8, "max_client_conn": 2000})
    victims = [login(proxy, database) for _ in range(25)]
    bystanders = [login(proxy, database) for _ in range(25)]
    stop = threading.Event()
    hits = [0] * len(victims)

    def victim(index: int) -> int:
        queries = 0
        while not stop.is_set():
            answer = victims[index].ask(query("SELECT pg_sleep(0.01)"))
            queries += 1
            errors = [each.sqlstate for each in answer if each.type == "E"]
            assert errors in ([], ["57014"]), errors
            hits[index] += len(errors)
        return queries

    def bystander(index: int) -> int:
        queries = 0
        while not stop.is_set():
            number = random.randrange(1_000_000)
            answer = bystanders[index].ask(query(f"SELECT {number}, pg_sleep(0.003)"))
            errors = [each.fields() for each in answer if each.type == "E"]
            assert not errors, f"a bystander was hit: {errors}"
            assert [each.values()[0] for each in answer if each.type == "D"] == [str(number).encode()]
            queries += 1
        return queries

    workers = [Background(victim, index) for index in range(25)] + [Background(bystander, index) for index in range(25)]

    def sender(count: int) -> None:
        for _ in range(count):
            cancel_of(proxy, random.choice(victims))

    senders = [Background(sender, cancels // 4) for _ in range(4)]
    try:
        for each in senders:
            each.result(1500)
        time.sleep(0.1)
    finally:
        stop.set()
    done = [each.result(60) for each in workers]
    assert sum(hits) > 0
    assert all(done[:25]) and all(done[25:])
    for each in victims + bystanders:
        each.socket.close()


def test_cancels_leave_nothing_behind(start_proxy: Callable[..., Proxy]) -> None:
    proxy = start_proxy()
    with login(proxy) as connection:
        connection.simple("SELECT 1")
        for _ in range(300):
            cancel_of(proxy, connection)
        pool = proxy.wait_pool(lambda pool: pool["cl_active_cancel_req"] + pool["cl_waiting_cancel_req"]
                               + pool["sv_active_cancel"] + pool["sv_being_canceled"] == 0, "cancels are through")
        assert pool["cl_active"] == 1


def test_many_cancels_of_one_query(start_proxy: Callable[..., Proxy], cluster: Cluster, database: str) -> None:
    proxy = start_proxy()
    with login(proxy, database) as connection:
        for _ in range(5):
            connection.send(query("SELECT pg_sleep(30)"))
            wait_until(lambda: is_running(cluster, database), "it runs")
            for each in [Background(cancel_of, proxy, connection) for _ in range(10)]:
                each.result()
            assert [each.sqlstate for each in connection.read_until("Z") if each.type == "E"] == ["57014"]
            # Cancels that were late may hit the next query of the same client, never that of another.
            connection.ask(query("SELECT 1"))


def test_cancel_over_the_unix_socket(start_proxy: Callable[..., Proxy], cluster: Cluster, database: str) -> None:
    proxy = start_proxy()
    with login(proxy, database) as connection:
        connection.send(query("SELECT pg_sleep(30)"))
        wait_until(lambda: is_running(cluster, database), "it runs")
        assert os.path.exists(proxy.directory / f".s.PGSQL.{proxy.port}")
        with Connection(str(proxy.directory), proxy.port) as other:
            other.send(request(CANCEL_REQUEST, connection.key))
            other.read_all()
        assert [each.sqlstate for each in connection.read_until("Z") if each.type == "E"] == ["57014"]
