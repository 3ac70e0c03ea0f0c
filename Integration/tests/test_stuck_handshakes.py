"""Crowds that stop in the middle of the TLS handshake, or in front of it: queries do not feel them, and they go away."""

from __future__ import annotations

import selectors
import socket
import ssl
import statistics
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from certificates import Authority, Certificate
from common import own, remove, service_directory, wait_until
from proxy import Proxy
from rawpg import SSL_REQUEST, Connection, query, request

pytestmark = pytest.mark.martlet("client_login_timeout in seconds, and a crowd that PgBouncer is slow with")

# What each sends: nothing that counts, a request for TLS, the first or the second half of a message of the handshake.
STAGES = ("silent", "asked", "half a hello", "hello")


@pytest.fixture(scope="module")
def certificate() -> Iterator[Certificate]:
    folder = service_directory("mk-")
    certificate = Authority(Path(folder)).issue("proxy", name="proxy", hosts="DNS:localhost")
    own(folder)
    yield certificate
    remove(folder)


def hello() -> bytes:
    outgoing = ssl.MemoryBIO()
    handshake = ssl._create_unverified_context().wrap_bio(ssl.MemoryBIO(), outgoing)
    try:
        handshake.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


class Crowd:
    """Clients that have come as far as their stage and stay there."""

    def __init__(self, proxy: Proxy, count: int, stage: str) -> None:
        self.selector = selectors.DefaultSelector()
        self.sockets: list[socket.socket] = []
        data = hello()
        first = {"silent": b"\0", "half a hello": data[:100], "hello": data}.get(stage, b"")
        for number in range(count):
            client = socket.create_connection((proxy.host, proxy.port), 30)
            if stage == "silent":
                client.sendall(struct.pack("!i", 100))
            else:
                client.sendall(request(SSL_REQUEST))
                assert client.recv(1) == b"S", f"client {number}"
                client.sendall(first) if first else None
            self.sockets.append(client)
            client.setblocking(False)
            self.selector.register(client, selectors.EVENT_READ)

    def gone(self, deadline: float) -> float:
        """Waits for all of them to be thrown out; when the last was."""
        left = len(self.sockets)
        while left:
            ready = self.selector.select(deadline - time.monotonic())
            assert ready, f"{left} are still there"
            for key, _ in ready:
                try:
                    data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                except ConnectionResetError:
                    data = b""
                if not data:
                    self.selector.unregister(key.fileobj)
                    left -= 1
        return time.monotonic()

    def close(self) -> None:
        for client in self.sockets:
            client.close()
        self.selector.close()


class Pulse:
    """A client that asks one query after the other, and how long each took."""

    def __init__(self, proxy: Proxy) -> None:
        self.times: list[float] = []
        self._stop = False
        self._proxy = proxy
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with Connection(self._proxy.host, self._proxy.port).login() as connection:
            text = query("SELECT 1")
            while not self._stop:
                begin = time.perf_counter()
                connection.ask(text)
                self.times.append(time.perf_counter() - begin)
                time.sleep(0.001)

    def during(self, action: Callable[[], object]) -> list[float]:
        before = len(self.times)
        action()
        return self.times[before:]

    def stop(self) -> None:
        self._stop = True
        self._thread.join(10)


def told(times: list[float]) -> str:
    cuts = statistics.quantiles(times, n=1000)
    return " ".join(f"{name} {cuts[at] * 1000:.2f}" for name, at in (("p50", 499), ("p99", 989), ("p99.9", 998)))


@pytest.mark.parametrize("stage", STAGES)
def test_a_crowd_in_the_handshake(
        start_proxy: Callable[..., Proxy], certificate: Certificate, stage: str, request: pytest.FixtureRequest) -> None:
    isLong = request.config.getoption("--long")
    count = 10_000 if isLong else 500
    timeout = 40 if isLong else 4
    proxy = start_proxy(open_files=20000, settings={
        "client_tls_sslmode": "allow", "client_tls_key_file": certificate.key, "client_tls_cert_file": certificate.crt,
        "client_login_timeout": timeout, "max_client_conn": 15000, "max_logins_per_address": 0})
    pulse = Pulse(proxy)
    crowds: list[Crowd] = []
    try:
        wait_until(lambda: len(pulse.times) > 50, "queries are answered", 10)
        alone = pulse.during(lambda: time.sleep(timeout / 4))
        begin = time.monotonic()
        memory = proxy.figures.rss()
        coming = pulse.during(lambda: crowds.append(Crowd(proxy, count, stage)))
        came = time.monotonic()
        memory = proxy.figures.rss() - memory
        stuck = pulse.during(lambda: time.sleep(max(0.5, min(timeout / 2, timeout - (came - begin) - 1))))
        going = pulse.during(lambda: crowds[0].gone(came + timeout + 10))
        gone = time.monotonic()
        assert gone - begin >= timeout - 0.5, "thrown out too early"
        assert gone - came < timeout + 3, "thrown out too late"
        after = pulse.during(lambda: time.sleep(timeout / 4))
        for name, times in (("alone", alone), ("coming", coming), ("stuck", stuck), ("going", going), ("after", after)):
            print(f"{stage:14} {name:8} {told(times)} ms, {len(times)} queries")
        print(f"{memory / count:.0f} bytes each; all had come after {came - begin:.1f} s")
        assert statistics.median(stuck) < 2 * statistics.median(alone) + 0.002
    finally:
        pulse.stop()
        for crowd in crowds:
            crowd.close()
