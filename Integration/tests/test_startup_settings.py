"""Settings in the startup packet: what is mistyped there fails the login, as it does straight at the server."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from cluster import Cluster
from common import Background, wait_until
from proxy import Proxy
from rawpg import Connection, query, startup

pytestmark = [pytest.mark.one_loop, pytest.mark.martlet("PgBouncer refuses what it does not know, or finds out at the first query")]

SETTINGS: list[dict[str, str]] = [
    {"nosuch": "1"}, {"options": "-c nosuch=1"}, {"options": "--nosuch=1"}, {"nosuch.setting": "1"}, {"work_mem": "1MB"},
    {"work_mem": "much"}, {"work_mem": "1XB"}, {"options": "-c work_mem=-1"}, {"DateStyle": "nosuch"}, {"DateStyle": "German"},
    {"TimeZone": "Mars/Olympus"}, {"TimeZone": "utc"}, {"timezone": "Europe/Rome"}, {"statement_timeout": "-5"},
    {"statement_timeout": "5s"}, {"geqo": "maybe"}, {"geqo": "off"}, {"search_path": "nosuch, \"$user\""}, {"role": "nosuch"},
    {"session_replication_role": "replica"}, {"log_statement": "all"}, {"default_tablespace": "nosuch"},
    {"client_encoding": "nosuch"}, {"client_encoding": "LATIN2"}, {"client_encoding": "EUC_JP"}, {"bytea_output": "octal"},
    {"bytea_output": "escape"}, {"extra_float_digits": "99"}, {"extra_float_digits": "2"}, {"IntervalStyle": "nosuch"},
    {"IntervalStyle": "iso_8601"}, {"default_transaction_isolation": "strict"}, {"default_transaction_read_only": "perhaps"},
    {"default_transaction_isolation": "serializable"}, {"standard_conforming_strings": "nosuch"}, {"lc_messages": "C"},
    {"max_connections": "5"}, {"block_size": "1"}, {"jit": "off", "nosuch": "1"}, {"application_name": "ä\u2028x"},
    {"lock_timeout": ""}, {"plan_cache_mode": "auto"}, {"options": "-c work_mem=2MB -c nosuch=1"},
]


def outcome(host: str, port: int, settings: dict[str, str]) -> tuple[str, str]:
    """How the login ends: SQLSTATE and text, or "in" and whether a query works then."""
    with Connection(host, port) as connection:
        connection.send(startup({"user": "app", "database": "app"} | settings))
        try:
            connection.authenticate("app", "")
        except AssertionError as error:
            fields = eval(str(error).removeprefix("login failed: "))  # A dictionary that rawpg printed.
            assert fields["S"] == "FATAL"
            return fields["C"], fields["M"]
        answer = connection.ask(query("SELECT 1"))
        return "in", "works" if answer[-1].type == "Z" and not [each for each in answer if each.type == "E"] else "fails"


# What is said otherwise: the settings that are known to be wrong without a server.
OTHER_WORDS = {"client_encoding", "standard_conforming_strings", "default_transaction_read_only", "max_connections", "block_size"}


@pytest.mark.parametrize("mode", ["transaction", "session", "statement"])
def test_logins_end_as_they_do_directly(start_proxy: Callable[..., Proxy], cluster: Cluster, mode: str) -> None:
    proxy = start_proxy(settings={"pool_mode": mode})
    different = []
    for settings in SETTINGS * 2:
        through, direct = (outcome(place.host, place.port, settings) for place in (proxy, cluster))
        if through[0] != direct[0] or through[1].lower() != direct[1].lower() and not OTHER_WORDS & set(settings):
            different.append((settings, through, direct))
    assert different == []


def test_a_server_is_asked_once(start_proxy: Callable[..., Proxy]) -> None:
    """Who begins with settings that have been taken before need not wait for a server connection."""
    proxy = start_proxy(settings={"default_pool_size": 1, "query_wait_timeout": 60}, threads=1)
    settings = {"options": "-c work_mem=3MB", "timezone": "Europe/Rome"}
    with Connection(proxy.host, proxy.port).login(**settings) as first:
        assert first.simple("SHOW work_mem") == [[b"3MB"]]
        first.simple("BEGIN")
        with Connection(proxy.host, proxy.port).login(**settings) as second:
            # Nor does one with settings that need no asking.
            with Connection(proxy.host, proxy.port).login(application_name="x", client_encoding="UTF8", DateStyle="ISO"):
                pass
            waiting = Background(lambda: Connection(proxy.host, proxy.port).login(work_mem="4MB"))
            time.sleep(0.3)
            assert not waiting.done
            first.simple("COMMIT")
            third = waiting.result(10)
            assert second.simple("SHOW work_mem") == [[b"3MB"]]
            assert third.simple("SHOW work_mem") == [[b"4MB"]]
            assert third.parameters["TimeZone"] != "Europe/Rome" and second.parameters["TimeZone"] == "Europe/Rome"
            third.socket.close()


def test_waiting_logins_time_out(start_proxy: Callable[..., Proxy]) -> None:
    for settings, expected in (({"query_wait_timeout": 1}, "query_wait_timeout"),
                               ({"client_login_timeout": 1, "query_wait_timeout": 30}, "client_login_timeout"),
                               ({"client_login_timeout": 1, "query_wait_timeout": 0}, "client_login_timeout")):
        proxy = start_proxy(settings={"default_pool_size": 1, "query_wait_notify": 0} | settings)
        with Connection(proxy.host, proxy.port).login() as holder:
            holder.simple("BEGIN")
            begin = time.monotonic()
            assert outcome(proxy.host, proxy.port, {"work_mem": "5MB"})[1] == expected
            assert time.monotonic() - begin < 5
            assert holder.simple("SELECT 1") == [[b"1"]]
            holder.simple("COMMIT")
        assert outcome(proxy.host, proxy.port, {"work_mem": "5MB"}) == ("in", "works")


def test_leaving_while_a_server_is_asked(start_proxy: Callable[..., Proxy]) -> None:
    """Nothing of them stays behind, and nothing reaches others."""
    proxy = start_proxy(settings={"default_pool_size": 2})

    def leave(number: int) -> None:
        with Connection(proxy.host, proxy.port) as connection:
            connection.send(startup({"user": "app", "database": "app", "work_mem": f"{number % 50 + 1}MB"}))
            time.sleep(number % 7 / 1000)

    def work(number: int) -> None:
        with Connection(proxy.host, proxy.port).login(work_mem=f"{number % 20 + 1}MB") as connection:
            for _ in range(5):
                assert connection.simple("SHOW work_mem") == [[f"{number % 20 + 1}MB".encode()]]

    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(leave if number % 2 else work, number) for number in range(200)]
        for job in jobs:
            job.result()
    proxy.wait_pool(lambda row: row["cl_active"] == 0 and row["cl_waiting"] == 0, "all have left")
    with proxy.connect() as connection:
        assert connection.execute("SHOW work_mem").fetchone() == ("4MB",)


def test_a_server_that_dies_meanwhile(own_cluster: Callable[..., Cluster], start_proxy: Callable[..., Proxy]) -> None:
    """The login fails or waits for another connection, and later ones work."""
    cluster = own_cluster()
    proxy = start_proxy(cluster, settings={"query_wait_timeout": 2})
    outcome(proxy.host, proxy.port, {})
    cluster.stop()
    assert outcome(proxy.host, proxy.port, {"work_mem": "6MB"})[0] not in ("in", "42704")
    cluster.start()
    wait_until(lambda: outcome(proxy.host, proxy.port, {"work_mem": "6MB"}) == ("in", "works"), "it works again", 15)


@pytest.mark.parametrize("routing", ["split", "replica"])
def test_routed(routed: Callable[..., object], routing: str) -> None:
    route = routed(routing=routing)
    proxy = route.proxy  # type: ignore[attr-defined]
    assert outcome(proxy.host, proxy.port, {"nosuch": "1"}) == (
        "42704", 'unrecognized configuration parameter "nosuch"')
    assert outcome(proxy.host, proxy.port, {"work_mem": "7MB"}) == ("in", "works")
    with psycopg.connect(host=proxy.host, port=proxy.port, user="app", dbname="app", options="-c work_mem=8MB") as connection:
        assert connection.execute("SHOW work_mem").fetchone() == ("8MB",)


def test_settings_that_fail_leave_the_books_right(start_proxy: Callable[..., Proxy]) -> None:
    """Somebody's setting that no server reports is still set back, though it was to be with others that failed."""
    proxy = start_proxy(settings={"default_pool_size": 1})
    with Connection(proxy.host, proxy.port).login(options="-c work_mem=7MB") as client:
        client.simple("BEGIN")
        client.simple("SET LOCAL enable_seqscan = off")
        client.simple("COMMIT")
        assert client.simple("SHOW work_mem") == [[b"7MB"]]
        client.simple("SET enable_seqscan = off")
    assert outcome(proxy.host, proxy.port, {"default_text_search_config": "nosuch"})[0] == "22023"
    with proxy.connect() as client:
        assert client.execute("SHOW work_mem").fetchone() == ("4MB",)
