"""COPY in both directions and things of great size: they stream, whatever the speed of either side."""

from __future__ import annotations

import asyncio
import io
import socket
import struct
import threading
import time
from collections.abc import Callable

import asyncpg
import psycopg
import pytest

from cluster import Cluster
from common import Background
from proxy import Proxy
from rawpg import COPY_DONE, SYNC, Connection, bind, copy_data, copy_fail, execute, parse, query

MEGABYTE = 1024 * 1024

# More than this must not be taken for a stream, however long it is.
GROWTH = 16 * MEGABYTE


@pytest.fixture
def table(cluster: Cluster, database: str) -> str:
    with cluster.connect(database) as direct:
        direct.execute("CREATE UNLOGGED TABLE t (n int, s text); GRANT ALL ON t TO public")
    return database


@pytest.fixture
def megabytes(request: pytest.FixtureRequest) -> int:
    return 1024 if request.config.getoption("--long") else 100


class Memory:
    """The highest growth of a proxy's resident memory within a block."""

    def __init__(self, proxy: Proxy) -> None:
        self.figures = proxy.figures
        self.stop = threading.Event()
        self.highest = 0
        self.start = self.figures.rss()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self) -> None:
        while not self.stop.is_set():
            self.highest = max(self.highest, self.figures.rss())
            time.sleep(0.01)

    def __enter__(self) -> Memory:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()

    @property
    def growth(self) -> int:
        return max(self.highest, self.figures.rss()) - self.start


def warmed(proxy: Proxy, database: str) -> Proxy:
    with proxy.connect(database) as connection:
        connection.execute("SELECT repeat('x', 100000)")
    return proxy


@pytest.mark.parametrize("format", ["text", "binary", "csv"])
def test_there_and_back(proxy: Proxy, table: str, format: str) -> None:
    with proxy.connect(table) as connection:
        connection.execute("INSERT INTO t SELECT i, repeat(chr(200 + i % 50), i % 500) FROM generate_series(1, 5000) i")
        with connection.cursor().copy(f"COPY t TO STDOUT (FORMAT {format})") as copy:
            data = b"".join(bytes(block) for block in copy)
        before = connection.execute("SELECT md5(string_agg(n || s, ',' ORDER BY n)) FROM t").fetchone()
        connection.execute("TRUNCATE t")
        with connection.cursor().copy(f"COPY t FROM STDIN (FORMAT {format})") as copy:
            for at in range(0, len(data), 7919):
                copy.write(data[at:at + 7919])
        assert connection.execute("SELECT md5(string_agg(n || s, ',' ORDER BY n)) FROM t").fetchone() == before


def test_asyncpg_copies(proxy: Proxy, table: str) -> None:
    async def work() -> None:
        connection = await asyncpg.connect(proxy.dsn(table))
        await connection.copy_records_to_table("t", records=[(n, "x" * (n % 100)) for n in range(10_000)])
        out = io.BytesIO()
        await connection.copy_from_query("SELECT * FROM t", output=out)
        assert out.getvalue().count(b"\n") == 10_000
        await connection.close()

    asyncio.run(work())


def test_error_in_the_middle_of_copy_in(start_proxy: Callable[..., Proxy], table: str) -> None:
    """psycopg goes on sending for a while; the server and its next client are not confused by that."""
    proxy = start_proxy(settings={"default_pool_size": 1})
    with proxy.connect(table) as one, proxy.connect(table) as two:
        for _ in range(5):
            with pytest.raises(psycopg.errors.InvalidTextRepresentation):
                with one.cursor().copy("COPY t FROM STDIN") as copy:
                    for _ in range(500):
                        copy.write(b"1\tx\n" * 100)
                    copy.write(b"bad\tx\n")
                    for _ in range(500):
                        copy.write(b"2\ty\n" * 100)
            assert two.execute("SELECT count(*) FROM t").fetchone() == (0,)
            assert one.execute("SELECT 1").fetchone() == (1,)


def test_client_gives_up_copy_in(start_proxy: Callable[..., Proxy], table: str) -> None:
    proxy = start_proxy(settings={"default_pool_size": 1})
    with proxy.connect(table) as one:
        with pytest.raises(ZeroDivisionError):
            with one.cursor().copy("COPY t FROM STDIN") as copy:
                copy.write(b"1\tx\n")
                raise ZeroDivisionError
        assert one.execute("SELECT count(*) FROM t").fetchone() == (0,)


@pytest.mark.parametrize("end", [COPY_DONE, copy_fail("enough")], ids=["done", "fail"])
@pytest.mark.parametrize("protocol", [
    pytest.param("simple", marks=pytest.mark.martlet("PgBouncer gives the late data a server and waits for an answer")),
    "extended"])
def test_late_data_after_an_error(
        start_proxy: Callable[..., Proxy], table: str, end: bytes, protocol: str) -> None:
    """The error comes at once, the client notices late: what it still sends is thrown away, by somebody."""
    proxy = start_proxy(settings={"default_pool_size": 1})
    with Connection(proxy.host, proxy.port).login(database=table) as one, \
            Connection(proxy.host, proxy.port).login(database=table) as two:
        for _ in range(3):
            if protocol == "simple":
                one.send(query("COPY t FROM STDIN"))
            else:
                one.send(parse("COPY t FROM STDIN"), bind(), execute(), SYNC)
            one.read_until("G")
            one.send(copy_data(b"bad\n"))
            if protocol == "simple":
                answer = one.read_until("Z")
            else:
                # A Sync sent while copying is ignored by the server.
                answer = one.read_until("E")
            assert [each.sqlstate for each in answer if each.type == "E"] == ["22P02"]
            for _ in range(20):
                one.send(copy_data(b"1\tx\n" * 100))
            one.send(copy_data(b"1\tx\n"), end)
            if protocol == "extended":
                one.send(SYNC)
                one.read_until("Z")
            assert two.simple("SELECT count(*) FROM t") == [[b"0"]]
            assert one.simple("SELECT 17") == [[b"17"]]


@pytest.mark.parametrize("slow", [False, True], ids=["fast", "slow"])
def test_copy_out_streams(
        start_proxy: Callable[..., Proxy], database: str, megabytes: int, slow: bool) -> None:
    """A reader that is slower than the server makes the server wait, not the proxy's memory grow."""
    proxy = warmed(start_proxy(), database)
    with Connection(proxy.host, proxy.port, timeout=20) as connection, Memory(proxy) as memory:
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.login(database=database)
        rows = megabytes * 1024
        connection.send(query(f"COPY (SELECT repeat('x', 1023) FROM generate_series(1, {rows})) TO STDOUT"))
        connection.socket.settimeout(15)
        received, pauses = 0, 0
        connection.read_until("H")
        tail = bytes(connection._buffer)
        received += len(tail)
        while not tail.endswith(b"Z\0\0\0\5I"):
            data = connection.socket.recv(MEGABYTE)
            assert data
            received += len(data)
            tail = (tail + data)[-20:]
            if slow and received > (pauses + 1) * megabytes * MEGABYTE // 10:
                pauses += 1
                time.sleep(0.1)
    assert received > rows * (1024 + 5)
    assert memory.growth < GROWTH, f"{memory.growth / MEGABYTE:.1f} MB"


def test_copy_in_streams(start_proxy: Callable[..., Proxy], cluster: Cluster, table: str, megabytes: int) -> None:
    proxy = warmed(start_proxy(), table)
    block = b"1\t" + b"x" * 1021 + b"\n"
    block = copy_data(block * 64) * 16
    with Connection(proxy.host, proxy.port, timeout=20).login(database=table) as connection, Memory(proxy) as memory:
        connection.send(query("COPY t FROM STDIN"))
        connection.read_until("G")
        connection.socket.settimeout(15)
        for _ in range(megabytes):
            connection.send(block)
        connection.send(COPY_DONE)
        answer = connection.read_until("Z")
    assert [each.body for each in answer if each.type == "C"] == [b"COPY %d\0" % (megabytes * 1024)]
    assert memory.growth < GROWTH, f"{memory.growth / MEGABYTE:.1f} MB"


def test_copy_in_with_a_server_that_stands_still(
        start_proxy: Callable[..., Proxy], cluster: Cluster, table: str) -> None:
    """The server waits for a lock while the client pushes: the client is made to wait."""
    proxy = warmed(start_proxy(), table)
    with cluster.connect(table) as locker, Connection(proxy.host, proxy.port).login(database=table) as client:
        client.simple("SELECT 1")
        locker.execute("CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS "
                       "'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NEW; END'")
        locker.execute("CREATE TRIGGER hold BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION hold()")
        locker.execute("SELECT pg_advisory_lock(1)")
        with Memory(proxy) as memory:
            client.send(query("COPY t FROM STDIN"))
            client.read_until("G")
            client.socket.setblocking(False)
            sent, end = 0, time.monotonic() + 3
            block = copy_data(b"1\t" + b"x" * 1021 + b"\n") * 64
            whole = len(block)
            pending = b""
            while time.monotonic() < end and sent < 200 * MEGABYTE:
                pending = pending or block
                try:
                    count = client.socket.send(pending)
                    pending, sent = pending[count:], sent + count
                except BlockingIOError:
                    time.sleep(0.01)
            assert sent < 60 * MEGABYTE, "nobody slowed the client down"
            locker.execute("SELECT pg_advisory_unlock(1)")
            client.socket.settimeout(60)
            client.socket.sendall(pending + COPY_DONE)
            rows = (sent + len(pending)) // whole * 64
            answer = client.read_until("Z")
        assert [each.body for each in answer if each.type == "C"] == [b"COPY %d\0" % rows]
    assert memory.growth < GROWTH, f"{memory.growth / MEGABYTE:.1f} MB"


def test_large_rows_with_a_slow_reader(start_proxy: Callable[..., Proxy], database: str, request) -> None:
    """One row is larger than all the memory that may be used."""
    size = 64 if request.config.getoption("--long") else 24
    proxy = warmed(start_proxy(), database)
    with Connection(proxy.host, proxy.port, timeout=20) as connection, Memory(proxy) as memory:
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.login(database=database)
        rows = 16 if request.config.getoption("--long") else 4
        connection.send(query(f"SELECT repeat('x', {size * MEGABYTE}) FROM generate_series(1, {rows})"))
        left = 0
        assert connection.read().type == "T"
        for _ in range(rows):
            header = connection.take(5)
            assert header[:1] == b"D"
            left = struct.unpack("!i", header[1:])[0] - 4
            time.sleep(0.2)
            left -= len(connection.take(min(left, len(connection._buffer)))) if connection._buffer else 0
            while left:
                data = connection.socket.recv(min(left, MEGABYTE))
                assert data
                left -= len(data)
        assert [each.type for each in connection.read_until("Z")] == ["C", "Z"]
    assert memory.growth < GROWTH, f"{memory.growth / MEGABYTE:.1f} MB"


def test_large_query_streams(start_proxy: Callable[..., Proxy], table: str) -> None:
    """A value of 40 MB in a Bind, and one of 20 MB in the text of a query."""
    proxy = warmed(start_proxy(), table)
    with Connection(proxy.host, proxy.port, timeout=60).login(database=table) as connection, Memory(proxy) as memory:
        answer = connection.ask(
            parse("SELECT length($1)"), bind(values=(b"x" * 40 * MEGABYTE,)), execute(), SYNC)
        assert [each.values() for each in answer if each.type == "D"] == [[str(40 * MEGABYTE).encode()]]
    assert memory.growth < GROWTH, f"{memory.growth / MEGABYTE:.1f} MB"
    with Connection(proxy.host, proxy.port, timeout=60).login(database=table) as connection:
        assert connection.simple("SELECT length('" + "x" * 20 * MEGABYTE + "')") == [[str(20 * MEGABYTE).encode()]]


def test_slow_readers_do_not_hold_up_others(start_proxy: Callable[..., Proxy], database: str) -> None:
    proxy = warmed(start_proxy(settings={"default_pool_size": 20}), database)
    sleepers = []
    with Memory(proxy) as memory:
        for _ in range(15):
            sleeper = Connection(proxy.host, proxy.port)
            sleeper.login(database=database)
            sleeper.send(query("SELECT repeat('x', 1000) FROM generate_series(1, 100000)"))
            sleepers.append(sleeper)
        with proxy.connect(database) as connection:
            begin = time.monotonic()
            for _ in range(200):
                connection.execute("SELECT 1")
            assert time.monotonic() - begin < 5
    assert memory.growth < GROWTH
    for sleeper in sleepers:
        sleeper.socket.close()


def test_many_large_answers_at_once(start_proxy: Callable[..., Proxy], database: str) -> None:
    proxy = start_proxy(settings={"default_pool_size": 4})

    def one(number: int) -> None:
        with proxy.connect(database) as connection:
            for _ in range(3):
                rows = connection.execute(
                    "SELECT md5((%s + i)::text) FROM generate_series(1, 20000) i", (number,)).fetchall()
                assert len(rows) == 20_000

    for each in [Background(one, number) for number in range(12)]:
        each.result(60)
