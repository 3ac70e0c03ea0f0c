"""Bytes that no client should send: whoever sends them is thrown out, everybody else works on."""

from __future__ import annotations

import random
import resource
import socket
import struct
import time
from collections.abc import Callable

import pytest

from cluster import Cluster
from common import wait_until
from hostile import LOGIN, others_work_on, thrown_out
from proxy import Proxy
from rawpg import (
    CANCEL_REQUEST, GSSENC_REQUEST, SSL_REQUEST, SYNC, Closed, Connection, bind, execute, message, parse, query,
    request, startup)

FIRST_PACKETS = {
    "text": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "zeros": b"\0" * 64,
    "ones": b"\xff" * 64,
    "length 0": struct.pack("!ii", 0, 196608),
    "length 4": struct.pack("!ii", 4, 196608),
    "length 7": struct.pack("!ii", 7, 196608) + b"x" * 10,
    "negative length": struct.pack("!ii", -1, 196608) + b"x" * 100,
    "smallest integer": struct.pack("!ii", -2**31, 196608) + b"x" * 100,
    "2 GB": struct.pack("!ii", 2**31 - 1, 196608) + b"user\0app\0",
    "just over the limit": struct.pack("!ii", 10_001, 196608) + b"x" * 10_000,
    "a megabyte of parameters": startup({"user": "app"} | {f"name{i}": "v" * 100 for i in range(10_000)}),
    "version 0": startup({"user": "app"}, 0),
    "version 1": startup({"user": "app"}, 1 << 16),
    "version 2": startup({"user": "app"}, 2 << 16),
    "version 2 as it was": struct.pack("!ii", 296, 2 << 16) + b"app".ljust(64, b"\0") + b"app".ljust(224, b"\0"),
    "version 4": startup({"user": "app", "database": "app"}, 4 << 16),
    "version 65535": startup({"user": "app"}, -1),
    "unknown request": request(80877199),
    "no user": startup({"database": "app"}),
    "no parameters": struct.pack("!ii", 9, 196608) + b"\0",
    "no parameters and no end": struct.pack("!ii", 8, 196608),
    "name without a value": struct.pack("!ii", 13, 196608) + b"user\0",
    "value without an end": struct.pack("!ii", 16, 196608) + b"user\0app",
    "no end": struct.pack("!ii", 17, 196608) + b"user\0app\0",
    "bytes behind the end": struct.pack("!ii", 22, 196608) + b"user\0app\0\0rest"[:14],
    "empty user": startup({"user": "", "database": "app"}),
    "TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 500,
    "cancel that is too short": struct.pack("!iii", 12, CANCEL_REQUEST, 7),
    "a query before the login": query("SELECT 1"),
    "a password before the login": message("p", b"secret\0"),
}


# Lengths that PgBouncer waits for until client_login_timeout.
PATIENCE = {"2 GB", "text", "TLS hello"}


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=[pytest.mark.martlet("thrown out at once")] if name in PATIENCE else [])
    for name in FIRST_PACKETS])
def test_first_packet(proxy: Proxy, name: str) -> None:
    with others_work_on(proxy), Connection(proxy.host, proxy.port) as connection:
        try:
            connection.send(FIRST_PACKETS[name])
        except (BrokenPipeError, ConnectionResetError):
            return
        said = thrown_out(connection)
        assert not [each for each in said if each.type == "Z"], "it was let in"


@pytest.mark.martlet("a FATAL error tells why")
@pytest.mark.parametrize("name", ["version 2", "version 4", "no user", "2 GB", "unknown request"])
def test_first_packet_is_answered_with_an_error(proxy: Proxy, name: str) -> None:
    with Connection(proxy.host, proxy.port) as connection:
        connection.send(FIRST_PACKETS[name])
        said = thrown_out(connection)
        assert [(each.type, each.fields()["S"]) for each in said] == [("E", "FATAL")]


AFTER_LOGIN = {
    "unknown type": b"\x01" + struct.pack("!i", 4),
    "type of a server": b"Z" + struct.pack("!i", 5) + b"I",
    "length 0": b"Q" + struct.pack("!i", 0),
    "length 3": b"Q" + struct.pack("!i", 3),
    "negative length": b"Q" + struct.pack("!i", -5) + b"x" * 100,
    "smallest integer": b"Q" + struct.pack("!i", -2**31) + b"x" * 100,
    "garbage": bytes(random.Random(1).randrange(128, 256) for _ in range(5000)),
    "a startup packet": LOGIN,
    "a password": message("p", b"secret\0"),
}


@pytest.mark.parametrize("in_transaction", [False, True], ids=["idle", "in a transaction"])
@pytest.mark.parametrize("name", AFTER_LOGIN)
def test_after_login(proxy: Proxy, name: str, in_transaction: bool) -> None:
    with others_work_on(proxy), Connection(proxy.host, proxy.port).login() as connection:
        if in_transaction:
            connection.simple("BEGIN")
        connection.send(AFTER_LOGIN[name])
        said = thrown_out(connection)
        assert not [each for each in said if each.type in "DZ"]


BROKEN_MESSAGES = {
    "query without an end": message("Q", b"SELECT 1"),
    "empty query message": message("Q"),
    "query with a zero inside": message("Q", b"SELECT 1\0SELECT 2\0"),
    "parse of nothing": message("P"),
    "parse without an end": message("P", b"name"),
    "parse without types": message("P", b"name\0SELECT 1\0"),
    "parse with too many types": message("P", b"name\0SELECT 1\0" + struct.pack("!h", 30_000)),
    "parse with a negative number of types": message("P", b"name\0SELECT 1\0" + struct.pack("!h", -1)),
    "bind of nothing": message("B"),
    "bind without an end": message("B", b"portal"),
    "bind cut off": message("B", b"\0\0" + struct.pack("!hh", 0, 5)),
    "bind with a huge value": message("B", b"\0\0" + struct.pack("!hhi", 0, 1, 2**31 - 1)),
    "bind with a negative count": message("B", b"\0\0" + struct.pack("!hh", -1, -1)),
    "describe of nothing": message("D"),
    "describe of an unknown kind": message("D", b"X\0"),
    "describe without an end": message("D", b"Sname"),
    "close of nothing": message("C"),
    "close of an unknown kind": message("C", b"X\0"),
    "close without an end": message("C", b"Sname"),
    "execute of nothing": message("E"),
    "execute without a number": message("E", b"portal\0"),
    "sync with a body": message("S", b"body"),
    "flush with a body": message("H", b"body"),
    "function call of nothing": message("F"),
    "copy fail without an end": message("f", b"reason"),
    "terminate with a body": message("X", b"body"),
}


@pytest.mark.parametrize("pool_mode", ["session", "transaction"])
def test_broken_messages(start_proxy: Callable[..., Proxy], pool_mode: str) -> None:
    """PostgreSQL says "invalid message format"; an error or the end of the connection are both right."""
    proxy = start_proxy(settings={"pool_mode": pool_mode, "default_pool_size": 2, "query_wait_timeout": 5})
    silent = []
    for name, broken in BROKEN_MESSAGES.items():
        for between in (b"", parse("SELECT 1", "s") + bind("s")):
            with others_work_on(proxy), Connection(proxy.host, proxy.port).login() as connection:
                connection.send(between + broken + SYNC)
                try:
                    connection.read_until("Z", timeout=1.5)
                except Closed:
                    pass
                except TimeoutError:
                    silent.append(name + (" behind a bind" if between else ""))
    assert not silent, f"neither an answer nor an end: {silent}"


def test_two_gigabytes_after_login(proxy: Proxy) -> None:
    """A length is not believed: nothing is reserved for it, and a client that stops there harms nobody."""
    for kind in "QPBdFp":
        with others_work_on(proxy), Connection(proxy.host, proxy.port).login() as connection:
            try:
                connection.send(kind.encode() + struct.pack("!i", 2**31 - 1) + b"x" * 1_000_000)
                connection.silent(0.2)
            except (Closed, ConnectionResetError, BrokenPipeError):
                pass


def test_max_packet_size(start_proxy: Callable[..., Proxy]) -> None:
    proxy = start_proxy(settings={"max_packet_size": 10_000})
    with others_work_on(proxy):
        with Connection(proxy.host, proxy.port).login() as connection:
            assert connection.simple("SELECT '" + "x" * 9000 + "'") == [[b"x" * 9000]]
            connection.send(query("SELECT '" + "x" * 20_000 + "'"))
            thrown_out(connection)


@pytest.mark.parametrize("code", [SSL_REQUEST, GSSENC_REQUEST], ids=["SSL", "GSSENC"])
@pytest.mark.parametrize("behind", [LOGIN, b"x", query("SELECT 1")], ids=["startup", "a byte", "a query"])
def test_bytes_behind_an_encryption_request(proxy: Proxy, code: int, behind: bytes) -> None:
    """Plain text that came in one packet with the request must never be taken for what was encrypted."""
    with others_work_on(proxy), Connection(proxy.host, proxy.port) as connection:
        connection.send(request(code) + behind)
        if proxy.is_martlet:
            said = b""
            try:
                while True:
                    said += connection.take(1, timeout=5)
            except Closed:
                pass
            assert b"Z\0\0\0\5I" not in said


@pytest.mark.parametrize("code", [SSL_REQUEST, GSSENC_REQUEST], ids=["SSL", "GSSENC"])
def test_encryption_is_declined(proxy: Proxy, code: int) -> None:
    with Connection(proxy.host, proxy.port) as connection:
        connection.send(request(code))
        assert connection.take(1) == b"N"
        connection.login()
        assert connection.simple("SELECT 1") == [[b"1"]]


def test_encryption_requests_one_after_the_other(proxy: Proxy) -> None:
    with Connection(proxy.host, proxy.port) as connection:
        connection.send(request(GSSENC_REQUEST))
        assert connection.take(1) == b"N"
        connection.send(request(SSL_REQUEST))
        assert connection.take(1) == b"N"
        connection.login()


def test_encryption_requests_without_end(proxy: Proxy) -> None:
    with others_work_on(proxy), Connection(proxy.host, proxy.port) as connection:
        try:
            for _ in range(2000):
                connection.send(request(SSL_REQUEST))
                connection.take(1, timeout=5)
        except (Closed, BrokenPipeError):
            pass


# Protocol negotiation

@pytest.mark.martlet("protocol 3.2")
@pytest.mark.parametrize("minor", [1, 2, 3, 9999])
def test_newer_minor_versions_are_negotiated(proxy: Proxy, minor: int) -> None:
    with Connection(proxy.host, proxy.port) as connection:
        connection.send(startup({"user": "app", "database": "app", "_pq_.nosuch": "1"}, (3 << 16) + minor))
        answer = connection.read_until("Z")
        negotiation = [each for each in answer if each.type == "v"]
        assert len(negotiation) == 1
        newest, count = struct.unpack_from("!ii", negotiation[0].body)
        assert newest & 0xFFFF <= 2 and count == 1 and b"_pq_.nosuch\0" in negotiation[0].body
        assert connection.simple("SELECT 1") == [[b"1"]]


@pytest.mark.martlet("protocol 3.2")
def test_cancel_key_of_3_2(proxy: Proxy, cluster: Cluster, database: str) -> None:
    with Connection(proxy.host, proxy.port).login(database=database, version=(3 << 16) + 2) as connection:
        assert 8 <= len(connection.key) <= 260
        connection.send(query("SELECT pg_sleep(30)"))
        wait_until(lambda: "active" in [state for _, state, _ in cluster.backends(database)], "it runs")
        with Connection(proxy.host, proxy.port) as other:
            other.send(request(CANCEL_REQUEST, connection.key))
            other.read_all()
        assert [each.sqlstate for each in connection.read_until("Z") if each.type == "E"] == ["57014"]


def test_unknown_protocol_options_do_not_reach_the_server(proxy: Proxy) -> None:
    with Connection(proxy.host, proxy.port) as connection:
        connection.send(startup({"user": "app", "database": "app", "_pq_.nosuch": "1"}))
        connection.read_until("Z")
        assert connection.simple("SELECT count(*) FROM pg_settings WHERE name LIKE '%_pq_%'") == [[b"0"]]


# Many

def test_connections_that_say_nothing(start_proxy: Callable[..., Proxy]) -> None:
    proxy = start_proxy(settings={"max_client_conn": 3000, "client_login_timeout": 2, "tcp_defer_accept": 0})
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with others_work_on(proxy):
        silent = [socket.create_connection((proxy.host, proxy.port), 10) for _ in range(1000)]
        with proxy.connect() as connection:
            begin = time.monotonic()
            for _ in range(50):
                connection.execute("SELECT 1")
            assert time.monotonic() - begin < 3
        for each in silent:
            each.settimeout(10)
            while each.recv(4096):
                pass
            each.close()


def test_random_bytes(proxy: Proxy) -> None:
    chance = random.Random(3)
    with others_work_on(proxy):
        for number in range(200):
            with Connection(proxy.host, proxy.port) as connection:
                data = bytes(chance.randrange(256) for _ in range(chance.randrange(1, 400)))
                try:
                    connection.send(struct.pack("!i", len(data) + 4) + data if number % 2 else data)
                except OSError:
                    pass


def test_mutated_sessions(proxy: Proxy) -> None:
    """Good conversations with a few bytes changed."""
    chance = random.Random(4)
    good = parse("SELECT $1::int", "s") + bind("s", values=("1",)) + execute() + SYNC + query("SELECT 'x'") + SYNC
    with others_work_on(proxy):
        for _ in range(300):
            mutated = bytearray(good)
            for _ in range(chance.randrange(1, 4)):
                mutated[chance.randrange(len(mutated))] = chance.randrange(256)
            with Connection(proxy.host, proxy.port).login() as connection:
                try:
                    connection.send(bytes(mutated))
                    connection.socket.shutdown(socket.SHUT_WR)
                    connection.read_all(timeout=10)
                except (OSError, struct.error, ValueError):
                    pass
                except TimeoutError:
                    raise AssertionError(f"no end: {bytes(mutated)!r}") from None
