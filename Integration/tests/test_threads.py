"""Everything at once on several reactors: load of all kinds, reloads, console commands, lost clients, and the end.

Says little by itself; with a sanitizer (Integration/sanitize) it is what shows races.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from certificates import Authority, Certificate
from common import own, remove, service_directory, wait_until
from proxy import Proxy
from rawpg import Connection, cancel, query


@pytest.fixture(scope="module")
def certificate() -> Iterator[Certificate]:
    folder = service_directory("mt-")
    certificate = Authority(Path(folder)).issue("proxy", name="proxy", hosts="DNS:localhost")
    own(folder)
    yield certificate
    remove(folder)


class Load:
    """Threads that use a proxy until they are told to stop, each in its way. What they may meet is noted, not raised."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.rounds: dict[str, int] = {}
        self.failures: list[str] = []
        self.stopping = False
        self.threads = [threading.Thread(target=self._repeat, args=(call,), daemon=True) for call in (
            self.prepared, self.transactions, self.large, self.short, self.lost, self.cancelled, self.listed, self.prepared,
            self.transactions, self.short)]
        for thread in self.threads:
            thread.start()

    def _repeat(self, call: Callable[[], None]) -> None:
        while not self.stopping:
            try:
                call()
                self.rounds[call.__name__] = self.rounds.get(call.__name__, 0) + 1
            except Exception as error:  # noqa: BLE001
                if not self.stopping:
                    self.failures.append(f"{call.__name__}: {error}")
                    time.sleep(0.05)

    def stop(self) -> None:
        self.stopping = True
        for thread in self.threads:
            thread.join(30)
            assert not thread.is_alive(), "a client hangs"

    def _connect(self, **more: object) -> psycopg.Connection:
        return self.proxy.connect(password="app-secret", connect_timeout=30, **more)

    def prepared(self) -> None:
        with self._connect() as connection:
            for number in range(50):
                value = random.randrange(20)
                row = connection.execute(f"SELECT %s::int + {number % 7}", (value,), prepare=True).fetchone()
                assert row == (value + number % 7,), row

    def transactions(self) -> None:
        with self._connect(autocommit=False) as connection:
            connection.execute("SET TIME ZONE 'Asia/Tokyo'")
            for _ in range(20):
                assert connection.execute("SHOW TimeZone").fetchone() == ("Asia/Tokyo",)
                connection.execute("SELECT 1")
                connection.commit()

    def large(self) -> None:
        with self._connect() as connection:
            rows = connection.execute("SELECT repeat('x', 1000) FROM generate_series(1, 2000)").fetchall()
            assert len(rows) == 2000
            with connection.cursor().copy("COPY (SELECT generate_series(1, 20000)) TO STDOUT") as copy:
                assert sum(1 for _ in copy.rows()) == 20000

    def short(self) -> None:
        with self._connect(sslmode="require") as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)

    def lost(self) -> None:
        """Clients that leave in the middle of something."""
        connection = Connection(self.proxy.host, self.proxy.port)
        connection.login(password="app-secret")
        connection.send(query("BEGIN") + query("SELECT pg_sleep(0.02), repeat('x', 100000)"))
        time.sleep(random.random() * 0.05)
        connection.socket.close()

    def cancelled(self) -> None:
        with Connection(self.proxy.host, self.proxy.port).login(password="app-secret") as connection:
            connection.send(query("SELECT pg_sleep(5)"))
            time.sleep(random.random() * 0.05)
            cancel(self.proxy.host, self.proxy.port, connection.key)
            connection.read_until("Z", timeout=30)

    def listed(self) -> None:
        with self.proxy.console(password="admin-secret") as console:
            for what in ("POOLS", "CLIENTS", "SERVERS", "STATS", "SOCKETS", "LISTS", "MEM", "CONFIG", "STATE"):
                console.execute(f"SHOW {what}").fetchall()


@pytest.mark.martlet("threads")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("end", ["SHUTDOWN", "SHUTDOWN WAIT_FOR_CLIENTS", "SHUTDOWN WAIT_FOR_SERVERS"])
def test_load_reload_and_shutdown(
        start_proxy: Callable[..., Proxy], certificate: Certificate, end: str, request: pytest.FixtureRequest) -> None:
    proxy = start_proxy(threads=4, settings={
        "auth_type": "scram-sha-256", "default_pool_size": 4, "client_tls_sslmode": "allow",
        "client_tls_key_file": certificate.key, "client_tls_cert_file": certificate.crt, "log_connections": 0,
        "log_disconnections": 0})
    load = Load(proxy)
    try:
        deadline = time.monotonic() + (60 if request.config.getoption("--long") else 5)
        with proxy.console(password="admin-secret") as admin:
            turn = 0
            while time.monotonic() < deadline:
                turn += 1
                proxy.settings["default_pool_size"] = 3 + turn % 4
                proxy.settings["server_lifetime"] = 3600 - turn % 3
                proxy.write_configuration()
                admin.execute("RELOAD")
                time.sleep(0.1)
                if turn % 3 == 0:
                    admin.execute("PAUSE app")
                    admin.execute("RESUME app")
                elif turn % 3 == 1:
                    admin.execute("RECONNECT app")
        wait_until(lambda: len(load.rounds) == 7, f"every kind has had its turn: {load.rounds}", 60)
        assert not load.failures, load.failures[:5]
        load.stopping = True
        with proxy.console(password="admin-secret") as admin:
            try:
                admin.execute(end)
            except psycopg.OperationalError:
                assert end == "SHUTDOWN"
        load.stop()
        assert proxy.wait_end(30) == 0
    finally:
        load.stopping = True
