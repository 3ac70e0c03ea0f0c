"""PostgreSQL goes away, comes back, loses single backends; clients go away at bad moments."""

from __future__ import annotations

import os
import signal
import socket
import struct
import time
from collections.abc import Callable

import psycopg
import pytest

from cluster import Cluster
from common import Background, wait_until
from proxy import Proxy
from rawpg import FLUSH, SYNC, TERMINATE, Connection, bind, close, copy_data, describe, execute, parse, query


def works(proxy: Proxy, dbname: str = "app") -> bool:
    try:
        with proxy.connect(dbname, connect_timeout=2) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)
    except psycopg.OperationalError:
        return False


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_restart_of_postgresql(
        start_proxy: Callable[..., Proxy], own_cluster: Callable[..., Cluster], mode: str) -> None:
    """Idle clients do not notice; the pool is back within a second of the server."""
    cluster = own_cluster()
    proxy = start_proxy(cluster, settings={"server_login_retry": 15 if proxy_is_martlet(start_proxy) else 1})
    clients = [proxy.connect() for _ in range(10)]
    for client in clients:
        client.execute("SELECT 1")
    cluster.stop(mode)
    wait_until(lambda: proxy.pool()["sv_idle"] == 0, "the dead servers are noticed")
    attempts = [Background(client.execute, "SELECT 1") for client in clients[:3]]
    time.sleep(0.5)
    cluster.start()
    up = time.monotonic()
    wait_until(lambda: works(proxy), "work goes on", 10)
    if proxy.is_martlet:
        assert time.monotonic() - up < 1.5
    for client in clients[3:]:
        assert client.execute("SELECT 2").fetchone() == (2,)
    for attempt in attempts:
        attempt.error()
    for client in clients:
        client.close()


def proxy_is_martlet(start_proxy: Callable[..., Proxy]) -> bool:
    return start_proxy(run=False).is_martlet


def test_fast_failure(start_proxy: Callable[..., Proxy], own_cluster: Callable[..., Cluster]) -> None:
    """With the server down a client is told within query_wait_timeout, with the reason."""
    cluster = own_cluster()
    proxy = start_proxy(cluster, settings={"query_wait_timeout": 2})
    with proxy.connect() as connection:
        connection.execute("SELECT 1")
        cluster.stop()
        begin = time.monotonic()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
            connection.execute("SELECT 1")
        assert time.monotonic() - begin < 4


def test_server_that_was_never_there(start_proxy: Callable[..., Proxy]) -> None:
    proxy = start_proxy(run=False, settings={"query_wait_timeout": 3})
    proxy.databases = {"app": "host=127.0.0.1 port=1", "app2": proxy.server()}
    proxy.start()
    begin = time.monotonic()
    with pytest.raises(psycopg.OperationalError):
        with proxy.connect() as connection:
            connection.execute("SELECT 1")
    assert time.monotonic() - begin < 5
    assert works(proxy, "app2")


@pytest.mark.martlet("the server's own reason; PgBouncer says server conn crashed?")
@pytest.mark.parametrize("protocol", ["simple", "extended"])
def test_terminated_backend(
        start_proxy: Callable[..., Proxy], cluster: Cluster, database: str, protocol: str) -> None:
    """The client gets the server's FATAL 57P01 and nobody else notices."""
    proxy = start_proxy()
    with Connection(proxy.host, proxy.port).login(database=database) as connection, proxy.connect(database) as other:
        connection.simple("BEGIN")
        pid = int(connection.simple("SELECT pg_backend_pid()")[0][0])
        connection.send(query("SELECT pg_sleep(20)") if protocol == "simple" else parse("SELECT 1") + b"H\0\0\0\4")
        if protocol == "simple":
            wait_until(lambda: (pid, "active") in [each[:2] for each in cluster.backends(database)], "it runs")
        cluster.value("SELECT pg_terminate_backend(%s)", pid)
        errors = [each for each in connection.read_all() if each.type == "E"]
        assert [(each.fields()["S"], each.sqlstate) for each in errors] == [("FATAL", "57P01")]
        assert other.execute("SELECT 1").fetchone() == (1,)


def test_killed_backend(start_proxy: Callable[..., Proxy], own_cluster: Callable[..., Cluster]) -> None:
    """kill -9 of a backend makes PostgreSQL throw out all; the proxy gets over it."""
    cluster = own_cluster()
    proxy = start_proxy(cluster)
    with Connection(proxy.host, proxy.port).login() as busy, proxy.connect() as idle:
        idle.execute("SELECT 1")
        busy.simple("BEGIN")
        pid = int(busy.simple("SELECT pg_backend_pid()")[0][0])
        busy.send(query("SELECT pg_sleep(30)"))
        wait_until(lambda: "active" in [s for p, s, _ in cluster.backends("app") if p == pid], "it runs")
        os.kill(pid, signal.SIGKILL)
        errors = [each for each in busy.read_all() if each.type == "E"]
        assert [each.fields()["S"] for each in errors] == ["FATAL"]
        if proxy.is_martlet:
            assert errors[0].sqlstate in ("08006", "57P02", "57P01")
        # The other backends live on for a moment, until the postmaster has noticed.
        wait_until(
            lambda: "all server processes terminated; reinitializing" in cluster.log.read_text(), "all are thrown out")
        wait_until(lambda: works(proxy), "work goes on", 15)
        assert idle.execute("SELECT 1").fetchone() == (1,)


def test_idle_backend_terminated(start_proxy: Callable[..., Proxy], cluster: Cluster, database: str) -> None:
    """An idle server connection that dies is dropped without anybody being told."""
    proxy = start_proxy()
    with proxy.connect(database) as connection:
        for _ in range(5):
            pid = connection.execute("SELECT pg_backend_pid()").fetchone()[0]
            wait_until(lambda: proxy.pool(database)["sv_active"] == 0, "released")
            cluster.value("SELECT pg_terminate_backend(%s)", pid)
            wait_until(lambda: not cluster.backends(database), "gone")
            proxy.wait_pool(lambda pool: pool["sv_idle"] == 0, "noticed", database)
            assert connection.execute("SELECT 1").fetchone() == (1,)


def leave(connection: Connection, how: str) -> None:
    if how == "reset":
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    elif how == "terminate":
        connection.send(b"X\0\0\0\4")
    elif how == "half-open":
        connection.socket.shutdown(socket.SHUT_WR)
        connection.read_all()
    connection.socket.close()


@pytest.mark.parametrize("how", ["close", "reset", "terminate", "half-open"])
def test_client_gone_in_a_transaction(
        start_proxy: Callable[..., Proxy], cluster: Cluster, database: str, how: str) -> None:
    """What it had done is rolled back and its locks are gone, soon."""
    with cluster.connect(database) as direct:
        direct.execute("CREATE TABLE t (n int); GRANT ALL ON t TO public")
    proxy = start_proxy(settings={"default_pool_size": 1})
    connection = Connection(proxy.host, proxy.port).login(database=database)
    connection.simple("BEGIN")
    connection.simple("INSERT INTO t VALUES (1)")
    pid = int(connection.simple("SELECT pg_backend_pid()")[0][0])
    leave(connection, how)
    with proxy.connect(database) as other:
        assert other.execute("SELECT count(*) FROM t").fetchone() == (0,)
        now = other.execute("SELECT pg_backend_pid()").fetchone()[0]
    if proxy.is_martlet:
        assert now == pid, "rolled back and kept"


def leave_by(connection: Connection, how: str) -> None:
    """As `leave`, or with an end of what it says before the end of the connection."""
    if how == "half-open":
        connection.socket.shutdown(socket.SHUT_WR)
        connection.socket.close()
    else:
        leave(connection, how)


@pytest.mark.parametrize("how", ["close", "reset", "half-open"])
def test_client_gone_while_its_query_runs(
        start_proxy: Callable[..., Proxy], cluster: Cluster, database: str, how: str) -> None:
    """The query is not left running."""
    proxy = start_proxy(settings={"default_pool_size": 1})
    connection = Connection(proxy.host, proxy.port).login(database=database)
    connection.simple("SELECT 1")
    connection.send(query("BEGIN; SELECT pg_sleep(30)"))
    wait_until(lambda: "active" in [state for _, state, _ in cluster.backends(database)], "it runs")
    leave_by(connection, how)
    with proxy.connect(database) as other:
        assert other.execute("SELECT 1").fetchone() == (1,)
    if proxy.is_martlet:
        wait_until(lambda: "active" not in [state for _, state, _ in cluster.backends(database)], "cancelled", 3)


@pytest.mark.martlet("PgBouncer carries out what was sent ahead")
@pytest.mark.parametrize("how", ["close", "reset", "half-open"])
@pytest.mark.parametrize("behind", [b"", query("SELECT 2") * 100])
def test_client_gone_while_a_name_waits(
        start_proxy: Callable[..., Proxy], cluster: Cluster, database: str, how: str, behind: bytes) -> None:
    """What it has prepared behind its query waits for that; the query is not left running."""
    proxy = start_proxy(settings={"default_pool_size": 1})
    connection = Connection(proxy.host, proxy.port).login(database=database)
    connection.send(query("SELECT pg_sleep(30)") + parse("SELECT 1", "a") + SYNC + behind)
    wait_until(lambda: "active" in [state for _, state, _ in cluster.backends(database)], "it runs")
    leave_by(connection, how)
    with proxy.connect(database) as other:
        assert other.execute("SELECT 1").fetchone() == (1,)
    wait_until(lambda: "active" not in [state for _, state, _ in cluster.backends(database)], "cancelled", 3)


@pytest.mark.parametrize("how", ["terminate", "half-open"])
def test_client_says_goodbye_behind_a_name_that_waits(
        start_proxy: Callable[..., Proxy], cluster: Cluster, database: str, how: str) -> None:
    """All that it has asked for is carried out."""
    with cluster.connect(database) as direct:
        direct.execute("CREATE TABLE t (n int); GRANT ALL ON t TO public")
    proxy = start_proxy(settings={"default_pool_size": 1})
    connection = Connection(proxy.host, proxy.port).login(database=database)
    connection.send(query("SELECT pg_sleep(0.5)") + parse("INSERT INTO t VALUES (1)", "a") + bind("a") + execute() + SYNC
                    + query("INSERT INTO t VALUES (2)") + TERMINATE)
    if how == "half-open":
        connection.socket.shutdown(socket.SHUT_WR)
    connection.socket.close()
    wait_until(lambda: cluster.value("SELECT count(*) FROM t", dbname=database) == 2, "both rows are there")


@pytest.mark.martlet("PgBouncer does not know what belongs to a COPY")
@pytest.mark.parametrize("begins", [
    query("COPY t FROM STDIN"), query("DEALLOCATE ALL; COPY t FROM STDIN"),
    parse("COPY t FROM STDIN") + bind() + execute(), parse("COPY t FROM STDIN") + bind() + execute() + close("S", "a") + SYNC])
@pytest.mark.parametrize("behind", [parse("SELECT 1", "b"), bind("a"), close("S", "a") + bind("a"), describe("S", "a")])
def test_names_in_the_middle_of_copy_in(
        start_proxy: Callable[..., Proxy], cluster: Cluster, database: str, begins: bytes, behind: bytes) -> None:
    """The server ends the session; nobody waits for ever."""
    with cluster.connect(database) as direct:
        direct.execute("CREATE TABLE t (n int); GRANT ALL ON t TO public")
    proxy = start_proxy(settings={"default_pool_size": 1})
    for place in (cluster, proxy):
        connection = Connection(place.host, place.port).login(database=database)
        connection.ask(parse("SELECT 1", "a") + SYNC)
        connection.send(begins + FLUSH)
        connection.read_until("G")
        connection.send(behind + FLUSH + SYNC)
        states = [each.sqlstate for each in connection.read_all() if each.type == "E"]
        assert "08P01" in states
        connection.socket.close()
    proxy.wait_pool(lambda pool: pool["sv_active"] == 0, "free", database)


def test_client_gone_in_copy_in(start_proxy: Callable[..., Proxy], cluster: Cluster, database: str) -> None:
    with cluster.connect(database) as direct:
        direct.execute("CREATE TABLE t (n int); GRANT ALL ON t TO public")
    proxy = start_proxy(settings={"default_pool_size": 1})
    for how in ("close", "reset", "close"):
        connection = Connection(proxy.host, proxy.port).login(database=database)
        connection.send(query("COPY t FROM STDIN"))
        connection.read_until("G")
        connection.send(copy_data(b"1\n") * 10)
        leave(connection, how)
        with proxy.connect(database) as other:
            assert other.execute("SELECT count(*) FROM t").fetchone() == (0,)


def test_client_gone_in_copy_out(start_proxy: Callable[..., Proxy], database: str) -> None:
    proxy = start_proxy(settings={"default_pool_size": 1})
    for how in ("close", "reset"):
        connection = Connection(proxy.host, proxy.port).login(database=database)
        connection.send(query("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 1000000)) TO STDOUT"))
        connection.read_until("d", 10)
        leave(connection, how)
        with proxy.connect(database) as other:
            assert other.execute("SELECT 1").fetchone() == (1,)


def test_client_gone_in_the_middle_of_a_message(start_proxy: Callable[..., Proxy], database: str) -> None:
    proxy = start_proxy(settings={"default_pool_size": 1})
    for torn in (query("SELECT 1")[:3], query("SELECT 1")[:9], query("SELECT '" + "x" * 100_000 + "'")[:50_000],
                 parse("SELECT " + "1," * 50_000 + "1")[:70_000]):
        connection = Connection(proxy.host, proxy.port).login(database=database)
        connection.simple("BEGIN")
        connection.send(torn)
        connection.socket.close()
        with proxy.connect(database) as other:
            assert other.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.martlet("PgBouncer does not look at a client that waits, and runs its query")
def test_client_gone_while_it_waits(start_proxy: Callable[..., Proxy], database: str) -> None:
    """Its place in the queue goes to the next one, and its query is never run."""
    proxy = start_proxy(settings={"default_pool_size": 1})
    with proxy.connect(database) as holder:
        holder.execute("CREATE TABLE t (n int)")
        holder.execute("BEGIN")
        waiting = [Connection(proxy.host, proxy.port).login(database=database) for _ in range(5)]
        for number, each in enumerate(waiting):
            each.send(query(f"INSERT INTO t VALUES ({number})"))
        proxy.wait_pool(lambda pool: pool["cl_waiting"] == 5, "five wait", database)
        for each in waiting[:4]:
            each.socket.close()
        proxy.wait_pool(lambda pool: pool["cl_waiting"] == 1, "four have left", database)
        holder.execute("COMMIT")
        waiting[4].read_until("Z")
        assert holder.execute("SELECT array_agg(n) FROM t").fetchone() == ([4],)
        waiting[4].socket.close()


def test_clients_come_and_go(start_proxy: Callable[..., Proxy], database: str, request: pytest.FixtureRequest) -> None:
    """Files and memory stay flat over many sessions that end in all ways."""
    rounds = 10_000 if request.config.getoption("--long") else 400
    proxy = start_proxy(settings={"default_pool_size": 4})

    def one(number: int) -> None:
        connection = Connection(proxy.host, proxy.port).login(database=database)
        match number % 6:
            case 0:
                connection.simple("SELECT 1")
            case 1:
                connection.simple("BEGIN")
            case 2:
                connection.send(query("SELECT repeat('x', 100000)"))
            case 3:
                connection.ask(query("BEGIN; SELECT 1/0"))
            case 4:
                connection.ask(parse("SELECT $1::int", f"name{number}") + b"S\0\0\0\4")
            case 5:
                connection.send(query("SELECT 1")[:7])
        leave(connection, ["close", "reset", "terminate"][number % 3])

    def many(count: int) -> None:
        for number in range(count):
            one(number)

    many(200)
    proxy.wait_pool(lambda pool: pool["cl_active"] + pool["cl_waiting"] == 0, "all have left", database)
    memory, files = proxy.figures.rss(), proxy.figures.open_files()
    for each in [Background(many, rounds // 4) for _ in range(4)]:
        each.result(1000)
    proxy.wait_pool(lambda pool: pool["cl_active"] + pool["cl_waiting"] == 0, "all have left", database)
    wait_until(lambda: proxy.figures.open_files() <= files + 6, "files are closed")
    assert proxy.figures.rss() - memory < 4 * 1024 * 1024
