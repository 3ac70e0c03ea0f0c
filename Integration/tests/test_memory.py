"""max_memory: with little memory left newcomers are refused in time, who is in goes on, and it recovers by itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from common import wait_until
from proxy import Proxy
from rawpg import Connection, message, text
from test_hba import gets_in
from test_logins import refusal

pytestmark = [
    pytest.mark.martlet("max_memory"),
    pytest.mark.skipif("MARTLET_SANITIZER" in os.environ, reason="most of the memory is the sanitizer's")]


def refused(proxy: Proxy) -> bool:
    try:
        fields = refusal(proxy)
    except AssertionError as error:
        assert "was not refused" in str(error), error
        return False
    assert (fields["S"], fields["C"], fields["M"]) == ("FATAL", "53200", "no more connections allowed (max_memory)")
    return True


def test_newcomers_are_refused(start_proxy: Callable[..., Proxy]) -> None:
    proxy = start_proxy()
    with proxy.connect() as inside, proxy.console() as console:
        inside.execute("BEGIN")
        console.execute("SET max_memory = '1MB'")
        assert proxy.setting("max_memory") == "1048576"
        wait_until(lambda: refused(proxy), "newcomers are refused")
        assert "short of memory: " in proxy.log_text() and "max_memory is 1 MB; new clients are refused" in proxy.log_text()
        # Who is in works, with new server connections too; and the console tells what is going on.
        assert inside.execute("SELECT 1").fetchone() == (1,)
        inside.execute("COMMIT")
        proxy.command("RECONNECT")
        assert inside.execute("SELECT 2").fetchone() == (2,)
        memory = {row["name"]: row for row in proxy.show("MEM")}
        assert abs(memory["resident"]["used"] - proxy.figures.rss()) < 20_000_000
        console.execute("SET max_memory = 0")
        wait_until(lambda: gets_in(proxy), "they are let in again")
        assert "no longer short of memory" in proxy.log_text()


@pytest.mark.parametrize("value", ["", "1 XB", "-1", "lots", "99999999TB"])
def test_sizes_that_are_none(proxy: Proxy, value: str) -> None:
    with proxy.console() as console, pytest.raises(psycopg.Error, match="max_memory"):
        console.execute(f"SET max_memory = '{value}'")


def test_clients_that_hold_memory(start_proxy: Callable[..., Proxy]) -> None:
    """What a crowd of clients has sent and not finished counts, and comes back with them when they leave."""
    proxy = start_proxy(settings={"max_client_conn": 2000})
    before = proxy.figures.rss()
    limit = before + (16 << 20)
    with proxy.console() as console:
        console.execute(f"SET max_memory = {limit}")
    part = message("P", text("s") + text("SELECT '" + "x" * 60_000 + "'") + b"\0\0")[:-1_000]
    crowd: list[Connection] = []

    def come() -> bool:
        """One more client that sends most of a message; false if there is no room for it."""
        try:
            made = Connection(proxy.host, proxy.port).login()
        except AssertionError as error:
            assert "max_memory" in str(error)
            return False
        made.send(part)
        crowd.append(made)
        return True

    def crowd_comes() -> bool:
        # Looked at once a second: as many as come meanwhile get in.
        with ThreadPoolExecutor(4) as pool:
            return not all(pool.map(lambda _: come(), range(100)))

    # With pauses, or all that may come are there before the first look.
    wait_until(crowd_comes, "they are refused", 60, 0.25)
    assert proxy.figures.rss() > limit - limit // 10
    assert len(crowd) * 60_000 > 8 << 20
    for each in crowd:
        each.socket.close()
    wait_until(lambda: gets_in(proxy), "it has recovered", 30)
