"""What the tests with hostile input share."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager

from proxy import Proxy
from rawpg import Connection, Message, startup

LOGIN = startup({"user": "app", "database": "app"})


@contextmanager
def others_work_on(proxy: Proxy) -> Iterator[None]:
    """A client from before goes on, a new one gets in, and neither memory nor files have grown by much."""
    memory = proxy.figures.rss()
    with proxy.connect() as before:
        before.execute("SELECT 1")
        yield
        assert before.execute("SELECT 2").fetchone() == (2,)
        with proxy.connect() as after:
            assert after.execute("SELECT 3").fetchone() == (3,)
    assert proxy.alive()
    assert proxy.figures.rss() - memory < 32 * 1024 * 1024


def thrown_out(connection: Connection, seconds: float = 5) -> list[Message]:
    """What was said before the other side closed; it must close."""
    try:
        return connection.read_all(timeout=seconds)
    except TimeoutError:
        raise AssertionError("the connection stays open") from None
    except (struct.error, ValueError):
        return []
