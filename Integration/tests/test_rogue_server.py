"""Servers that misbehave: what they say at login, or while they are idle, may be rubbish too."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable

import pytest

from hostile import others_work_on
from proxy import Proxy
from rawpg import Connection, message, startup, text


@pytest.mark.parametrize("answer", [
    b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0" * 100, b"R" + struct.pack("!i", 2**31 - 1) + b"x" * 100,
    b"R" + struct.pack("!i", 0), b"E" + struct.pack("!i", 5) + b"\0", message("E", b"MX\0\0"),
    message("R", struct.pack("!i", 10) + b"\0"), message("R", struct.pack("!i", 99)), message("v", b""),
    message("R", struct.pack("!i", 0)) + message("K", b"x") + message("Z", b"?"),
    message("R", struct.pack("!i", 0)) + message("S", b"name") + message("Z", b"I"),
], ids=lambda answer: ascii(answer[:12]))
def test_rogue_server(start_proxy: Callable[..., Proxy], answer: bytes) -> None:
    """What a server says at login may be rubbish too."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        listener.settimeout(5)
        proxy = start_proxy(run=False, settings={"query_wait_timeout": 2, "server_connect_timeout": 1})
        proxy.databases = {"rogue": f"host=127.0.0.1 port={listener.getsockname()[1]}", "app": proxy.server()}
        proxy.start()
        with others_work_on(proxy), Connection(proxy.host, proxy.port) as client:
            client.send(startup({"user": "app", "database": "rogue"}))
            server, _ = listener.accept()
            with server:
                server.recv(1000)
                server.sendall(answer)
                if answer:
                    server.settimeout(3)
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
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        listener.settimeout(5)
        proxy = start_proxy(run=False, settings={"query_wait_timeout": 2})
        proxy.databases = {
            "rogue": f"host=127.0.0.1 port={listener.getsockname()[1]} user=app password=secret", "app": proxy.server()}
        proxy.start()
        before = proxy.figures.cpu_seconds()
        with others_work_on(proxy), Connection(proxy.host, proxy.port) as client:
            client.send(startup({"user": "app", "database": "rogue"}))
            server, _ = listener.accept()
            with server:
                server.settimeout(3)
                server.recv(1000)
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
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        listener.settimeout(5)
        proxy = start_proxy(run=False, settings={"query_wait_timeout": 2, "default_pool_size": 1})
        proxy.databases = {"rogue": f"host=127.0.0.1 port={listener.getsockname()[1]}", "app": proxy.server()}
        proxy.start()
        with others_work_on(proxy), Connection(proxy.host, proxy.port) as client:
            client.send(startup({"user": "app", "database": "rogue"}))
            server, _ = listener.accept()
            with server:
                server.recv(1000)
                welcome = b"".join(
                    message("S", text(name) + text(value)) for name, value in {
                        "server_version": "15.0", "client_encoding": "UTF8", "TimeZone": "UTC",
                        "DateStyle": "ISO, MDY", "standard_conforming_strings": "on"}.items())
                server.sendall(
                    message("R", struct.pack("!i", 0)) + welcome + message("K", b"12345678") + message("Z", b"I"))
                client.read_until("Z")
                server.sendall(rubbish)
                assert client.silent(0.3)
