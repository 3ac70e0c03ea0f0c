"""What a client sees never goes back, whichever replica answers."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

import pytest

from routing import Crowd, Routed, Weather

pytestmark = pytest.mark.martlet("routing")

SCHEMA = "CREATE TABLE counter (n int NOT NULL); INSERT INTO counter VALUES (0)"
READERS = 20


class Readers:
    """One client counts, others read the number over and over and never write."""

    def __init__(self, route: Routed) -> None:
        self.route = route
        self.where: Counter[str] = Counter()
        self.falls: list[str] = []
        self.fallen = threading.Event()
        self._lock = threading.Lock()

    def run(self, seconds: float) -> Readers:
        """Reads that long, or until a number has fallen."""
        deadline = time.monotonic() + seconds
        with Crowd(1, self._write), Crowd(READERS, self._read) as readers:
            while time.monotonic() < deadline and not readers.ended.is_set() and not self.fallen.wait(0.1):
                pass
        return self

    def _write(self, _: int, ended: threading.Event) -> None:
        with self.route.connect() as connection:
            while not ended.wait(0.002):
                connection.execute("UPDATE counter SET n = n + 1")

    def _read(self, reader: int, ended: threading.Event) -> None:
        highest, before = 0, ""
        with self.route.connect() as connection:
            while not ended.wait(0.001):
                number, port = connection.execute("SELECT n, inet_server_port() FROM counter").fetchone()
                name = self.route.cluster.name_of(port)
                with self._lock:
                    self.where[name] += 1
                    if number < highest:
                        self.falls.append(f"reader {reader}: {highest} on {before}, then {number} on {name}")
                        self.fallen.set()
                if number >= highest:
                    highest, before = number, name


@pytest.mark.parametrize("load_balance", ["round_robin", "random", "least_connections", "latency"])
def test_numbers_never_fall(routed: Callable[..., Routed], load_balance: str) -> None:
    route = routed(schema=SCHEMA, load_balance=load_balance)
    with Weather(route.cluster, {"replica1": ["0", "30ms", "0"], "replica2": ["100ms", "0"]}):
        readers = Readers(route).run(4)
    print(dict(readers.where))
    assert not readers.falls, f"{len(readers.falls)}, the first: {readers.falls[:3]}"
    assert all(readers.where[name] for name in route.cluster.replicas), f"both replicas were read: {readers.where}"


@pytest.mark.long
def test_numbers_never_fall_for_long(routed: Callable[..., Routed]) -> None:
    route = routed(schema=SCHEMA, load_balance="round_robin")
    with Weather(route.cluster, {"replica1": ["0", "5ms", "50ms", "500ms"], "replica2": ["0"]}, paused="replica2"):
        readers = Readers(route).run(120)
    assert not readers.falls, f"{len(readers.falls)}, the first: {readers.falls[:3]}"


def test_without_care_numbers_fall(routed: Callable[..., Routed]) -> None:
    """The same with read_after_write=off: so the tests above can fail."""
    route = routed(schema=SCHEMA, load_balance="round_robin", read_after_write="off")
    route.cluster.lag("replica1", "100ms")
    assert Readers(route).run(10).falls
