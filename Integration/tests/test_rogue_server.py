"""Servers that misbehave: what they say at login, or while they are idle, may be rubbish too."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from fakeserver import ONE, READY, FakeServer
from hostile import others_work_on
from proxy import Proxy
from rawpg import Closed, Connection, message, query, startup, text


@contextmanager
def rogue(
        start_proxy: Callable[..., Proxy], entry: str = "", **settings: object
) -> Iterator[tuple[Proxy, Connection, socket.socket]]:
    """A proxy, a client that logs in, and us as the server behind: the startup packet has been read. Others are served
    all the while. `entry` is added to the database's line."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        listener.settimeout(5)
        proxy = start_proxy(run=False, settings={"query_wait_timeout": 2} | settings)
        proxy.databases = {
            "rogue": f"host=127.0.0.1 port={listener.getsockname()[1]}{entry}", "app": proxy.server()}
        proxy.start()
        with others_work_on(proxy), Connection(proxy.host, proxy.port) as client:
            client.send(startup({"user": "app", "database": "rogue"}))
            server, _ = listener.accept()
            with server:
                server.settimeout(3)
                server.recv(1000)
                yield proxy, client, server


@pytest.mark.parametrize("answer", [
    b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0" * 100, b"R" + struct.pack("!i", 2**31 - 1) + b"x" * 100,
    b"R" + struct.pack("!i", 0), b"E" + struct.pack("!i", 5) + b"\0", message("E", b"MX\0\0"),
    message("R", struct.pack("!i", 10) + b"\0"), message("R", struct.pack("!i", 99)), message("v", b""),
    message("R", struct.pack("!i", 0)) + message("K", b"x") + message("Z", b"?"),
    message("R", struct.pack("!i", 0)) + message("S", b"name") + message("Z", b"I"),
], ids=lambda answer: ascii(answer[:12]))
def test_rogue_server(start_proxy: Callable[..., Proxy], answer: bytes) -> None:
    """What a server says at login may be rubbish too."""
    with rogue(start_proxy, server_connect_timeout=1) as (_, _, server):
        server.sendall(answer)
        if answer:
            try:
                while server.recv(1000):
                    pass
            except (TimeoutError, ConnectionResetError):
                pass


@pytest.mark.parametrize("iterations", [
    "0", "-1", "99999999", "x", "",
    pytest.param("4294967297", marks=pytest.mark.martlet("in PgBouncer it overflows to 1"))])
def test_rogue_server_demands_iterations(start_proxy: Callable[..., Proxy], iterations: str) -> None:
    """A number that would keep the proxy busy for hours is refused."""
    with rogue(start_proxy, " user=app password=secret") as (proxy, _, server):
        before = proxy.figures.cpu_seconds()
        server.sendall(message("R", struct.pack("!i", 10) + b"SCRAM-SHA-256\0\0"))
        first = server.recv(1000)
        nonce = first.rpartition(b"r=")[2]
        server.sendall(message(
            "R", struct.pack("!i", 11) + b"r=" + nonce + b"xyz,s=c2FsdHNhbHQ=,i=" + iterations.encode()))
        try:
            assert server.recv(1000) == b"", "it was answered"
        except ConnectionResetError:
            pass
        assert proxy.figures.cpu_seconds() - before < 1.5


@pytest.mark.parametrize("rubbish", [
    b"D" + struct.pack("!i", 1), b"\0" * 50, message("K", b"x" * 8), message("E", b"SFATAL\0C57P01\0Mgone\0\0"),
    message("Z", b"I"), message("A", struct.pack("!i", 7) + b"channel\0payload\0"), message("N", b"SNOTICE\0Mx\0\0"),
    message("S", b"TimeZone\0Mars\0")], ids=lambda rubbish: ascii(rubbish[:8]))
def test_idle_server_that_speaks(start_proxy: Callable[..., Proxy], rubbish: bytes) -> None:
    """Nothing that an idle server says may reach the client who gets it next."""
    with rogue(start_proxy, default_pool_size=1) as (_, client, server):
        welcome = b"".join(
            message("S", text(name) + text(value)) for name, value in {
                "server_version": "15.0", "client_encoding": "UTF8", "TimeZone": "UTC",
                "DateStyle": "ISO, MDY", "standard_conforming_strings": "on"}.items())
        server.sendall(
            message("R", struct.pack("!i", 0)) + welcome + message("K", b"12345678") + message("Z", b"I"))
        client.read_until("Z")
        server.sendall(rubbish)
        assert client.silent(0.3)


def long(kind: str, length: int, behind: bytes = b"x" * 20_000_000) -> bytes:
    """The beginning of a message whose length is given."""
    return kind.encode() + struct.pack("!I", length & 0xffff_ffff) + behind


READ = message("Z", b"I")
ANSWERS = {
    "nothing": b"",
    "length 0": long("T", 0), "length 3": long("C", 3), "negative length": long("D", -1),
    "smallest integer": long("D", -2**31), "2 GB of a row": long("D", 2**31 - 1),
    "2 GB of an error": long("E", 2**31 - 1), "2 GB of a setting": long("S", 2**31 - 1),
    "2 GB of a tag": long("C", 2**31 - 1), "2 GB of being ready": long("Z", 2**31 - 1),
    "2 GB of a notice": long("N", 2**31 - 1), "2 GB of a type nobody knows": long("?", 2**31 - 1),
    "a type nobody knows": message("?", b"x") + READ,
    "a type of clients": message("Q", text("SELECT 1")) + READ,
    "ready in an unknown state": message("Z", b"?"), "ready without a state": message("Z"),
    "ready with two states": message("Z", b"II"), "ready twice": ONE + READ,
    "an answer that nobody asked for": message("2") + message("3") + message("1") + READ,
    "a login in the middle": message("R", struct.pack("!i", 3)) + READ,
    "another key": message("K", b"87654321") + READ,
    "COPY that nobody asked for": message("W", b"\0\0\0") + message("G", b"\0\0\0") + READ,
    "a setting without a value": message("S", b"TimeZone\0") + READ, "a setting without a name": message("S") + READ,
    "an error without a SQLSTATE": message("E", b"SERROR\0Mno\0\0") + READ,
    "an error without fields": message("E", b"\0") + READ, "an error of nothing": message("E") + READ,
    "an error without an end": message("E", b"SERROR\0Mno") + READ,
    "garbage": bytes(random.Random(3).randrange(128, 256) for _ in range(5000)),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_that_break_the_protocol(start_proxy: Callable[..., Proxy], name: str) -> None:
    """Who asked is answered, by whatever passes for an answer or by the end; nobody else notices, and nothing is held."""
    with FakeServer(None, reply=ANSWERS[name] or b"\0") as server:
        proxy = start_proxy(run=False, settings={"query_wait_timeout": 2, "server_login_retry": 1})
        proxy.databases = {"rogue": f"host=127.0.0.1 port={server.port}", "app": proxy.server()}
        proxy.start()
        with others_work_on(proxy), Connection(proxy.host, proxy.port) as client:
            client.login(database="rogue")
            client.send(query("SELECT 1"))
            try:
                while client.read(timeout=10).type != "Z":
                    pass
            except (Closed, ConnectionResetError, UnicodeDecodeError):
                pass


@pytest.mark.parametrize("answer", [
    pytest.param(lambda nonce: b"r=" + nonce + b"x" * 1_000_000 + b",s=c2FsdA==,i=4096", id="a nonce of a megabyte"),
    pytest.param(lambda nonce: b"r=" + nonce + b"x" * 1500 + b",s=c2FsdA==,i=4096", id="a long nonce"),
    pytest.param(lambda nonce: b"r=" + nonce + b",s=c2FsdA==,i=4096", id="our nonce alone"),
    pytest.param(lambda nonce: b"r=another,s=c2FsdA==,i=4096", id="another nonce"),
    pytest.param(lambda nonce: b"s=c2FsdA==,i=4096", id="no nonce"),
    pytest.param(lambda nonce: b"r=" + nonce + b"x,i=4096", id="no salt"),
    pytest.param(lambda nonce: b"r=" + nonce + b"x,s=,i=4096", id="an empty salt"),
    pytest.param(lambda nonce: b"m=x,r=" + nonce + b"x,s=c2FsdA==,i=4096", id="an extension that must be known"),
    pytest.param(lambda nonce: b"", id="nothing"),
    pytest.param(None, id="OK without proof"),
])
def test_servers_that_do_not_keep_to_scram(
        start_proxy: Callable[..., Proxy], answer: Callable[[bytes], bytes] | None) -> None:
    """They get no proof of the password, and are not believed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        proxy = start_proxy(run=False, settings={"query_wait_timeout": 2})
        proxy.databases = {
            "rogue": f"host=127.0.0.1 port={listener.getsockname()[1]} user=app password=secret", "app": proxy.server()}
        proxy.start()
        with others_work_on(proxy), Connection(proxy.host, proxy.port) as client:
            client.send(startup({"user": "app", "database": "rogue"}))
            server, _ = listener.accept()
            with server:
                server.settimeout(5)
                server.recv(1000)
                server.sendall(message("R", struct.pack("!i", 10) + b"SCRAM-SHA-256\0\0"))
                nonce = server.recv(1000).rpartition(b"r=")[2]
                try:
                    if answer:
                        server.sendall(message("R", struct.pack("!i", 11) + answer(nonce)))
                    else:
                        first = b"r=" + nonce + b"xyz,s=c2FsdHNhbHQ=,i=1"
                        server.sendall(message("R", struct.pack("!i", 11) + first))
                        assert b",p=" in server.recv(1000)
                        server.sendall(READY)
                    assert server.recv(1000) == b"", "it was answered"
                except (ConnectionResetError, BrokenPipeError):
                    pass
            said = client.read_all(timeout=8)
            assert "Z" not in [each.type for each in said], "the client was let in"
