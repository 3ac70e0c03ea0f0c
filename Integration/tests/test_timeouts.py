"""Every timeout: that it comes, when it comes, and what is said."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from cluster import Cluster
from common import Background, wait_until
from proxy import Proxy
from rawpg import Connection, Message, query, startup
from routing import Routed

# The SQLSTATE that Martlet gives; PgBouncer's is 08P01 for all.
SQLSTATE = {
    "query_wait_timeout": {"57014", "53300", "08P01", "57P03"},
    "query_timeout": {"57014"},
    "idle_transaction_timeout": {"25P03"},
    "transaction_timeout": {"25P04"},
    "client_idle_timeout": {"57P05"},
}


@contextmanager
def takes(seconds: float, tolerance: float) -> Iterator[None]:
    """Never early (but for the clock's own grain), and late by no more than the tolerance."""
    begin = time.monotonic()
    yield
    spent = time.monotonic() - begin
    assert seconds - 0.02 <= spent <= seconds + tolerance, f"{spent:.3f} s instead of {seconds} s"


def fatal(connection: Connection) -> Message:
    """The FATAL error behind which the proxy closes."""
    errors = [each for each in connection.read_all() if each.type == "E"]
    assert errors, "closed without an error"
    assert errors[-1].fields()["S"] == "FATAL"
    return errors[-1]


def check(proxy: Proxy, error: Message, setting: str) -> None:
    # PgBouncer's own spelling, which people look for.
    words = setting if setting in ("query_wait_timeout", "client_idle_timeout") else setting.replace("_", " ")
    assert error.text == words
    if proxy.is_martlet:
        assert error.sqlstate in SQLSTATE[setting]


@pytest.mark.parametrize("where", ["general", "database", "user"])
def test_query_wait_timeout(
        start_proxy: Callable[..., Proxy], database: str, tolerance: float, where: str) -> None:
    seconds = 0.6 if where == "general" else 1  # PgBouncer takes fractions in [pgbouncer] only.
    proxy = start_proxy(run=False, settings={"default_pool_size": 1})
    if where == "general":
        proxy.settings["query_wait_timeout"] = 0.6
    elif where == "database":
        proxy.databases = {database: proxy.server(query_wait_timeout=1)}
    else:
        proxy.users = {"app": "query_wait_timeout=1"}
    proxy.start()
    with Connection(proxy.host, proxy.port).login(database=database) as holder:
        holder.simple("BEGIN")
        with Connection(proxy.host, proxy.port).login(database=database) as waiting:
            with takes(seconds, tolerance):
                waiting.send(query("SELECT 1"))
                error = fatal(waiting)
            check(proxy, error, "query_wait_timeout")
        assert holder.simple("SELECT 2") == [[b"2"]]


@pytest.mark.parametrize("where", ["general", "user"])
def test_query_timeout(
        start_proxy: Callable[..., Proxy], cluster: Cluster, database: str, tolerance: float, where: str) -> None:
    seconds = 0.6 if where == "general" else 1
    proxy = start_proxy(
        settings={"default_pool_size": 2} | ({"query_timeout": 0.6} if where == "general" else {}),
        users={"app": "query_timeout=1"} if where == "user" else {})
    with Connection(proxy.host, proxy.port).login(database=database) as connection:
        connection.simple("SELECT 1")
        with takes(seconds, tolerance):
            connection.send(query("SELECT pg_sleep(20)"))
            error = fatal(connection)
        check(proxy, error, "query_timeout")
    if proxy.is_martlet:  # PgBouncer just closes, and the query runs on.
        wait_until(lambda: not [state for _, state, _ in cluster.backends(database) if state == "active"],
                   "the query is cancelled at the server", 2)
    with Connection(proxy.host, proxy.port).login(database=database) as connection:
        assert connection.simple("SELECT 2") == [[b"2"]]


def test_query_timeout_counts_each_query_anew(start_proxy: Callable[..., Proxy]) -> None:
    proxy = start_proxy(settings={"query_timeout": 0.8})
    with proxy.connect() as connection:
        connection.execute("BEGIN")
        for _ in range(4):
            connection.execute("SELECT pg_sleep(0.3)")
        connection.execute("COMMIT")


@pytest.mark.parametrize("where", ["general", "user"])
def test_idle_transaction_timeout(
        start_proxy: Callable[..., Proxy], cluster: Cluster, database: str, tolerance: float, where: str) -> None:
    seconds = 0.6 if where == "general" else 1
    proxy = start_proxy(
        settings={"idle_transaction_timeout": 0.6} if where == "general" else {},
        users={"app": "idle_transaction_timeout=1"} if where == "user" else {})
    with Connection(proxy.host, proxy.port).login(database=database) as connection:
        connection.simple("BEGIN")
        with takes(seconds, tolerance):
            error = fatal(connection)
        check(proxy, error, "idle_transaction_timeout")
    wait_until(lambda: not [state for _, state, _ in cluster.backends(database) if "transaction" in state],
               "nothing is left in a transaction")


def test_idle_transaction_timeout_spares_the_busy_and_the_idle(start_proxy: Callable[..., Proxy]) -> None:
    proxy = start_proxy(settings={"idle_transaction_timeout": 0.6})
    with proxy.connect() as idle, proxy.connect() as busy:
        idle.execute("SELECT 1")
        busy.execute("BEGIN")
        busy.execute("SELECT pg_sleep(1.5)")
        for _ in range(4):
            busy.execute("SELECT pg_sleep(0.3)")
        busy.execute("COMMIT")
        assert idle.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("where", ["general", "user"])
def test_transaction_timeout(start_proxy: Callable[..., Proxy], tolerance: float, where: str) -> None:
    seconds = 0.8 if where == "general" else 1
    proxy = start_proxy(
        settings={"transaction_timeout": 0.8} if where == "general" else {},
        users={"app": "transaction_timeout=1"} if where == "user" else {})
    with Connection(proxy.host, proxy.port).login() as connection:
        connection.simple("SELECT pg_sleep(0.1)")
        with takes(seconds, tolerance):
            connection.simple("BEGIN")
            connection.simple("SELECT pg_sleep(0.3)")
            connection.send(query("SELECT pg_sleep(20)"))
            error = fatal(connection)
        check(proxy, error, "transaction_timeout")
    with proxy.connect() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("where", ["general", "user"])
def test_client_idle_timeout(start_proxy: Callable[..., Proxy], tolerance: float, where: str) -> None:
    seconds = 0.7 if where == "general" else 1
    proxy = start_proxy(
        settings={"client_idle_timeout": 0.7} if where == "general" else {},
        users={"app": "client_idle_timeout=1"} if where == "user" else {})
    with Connection(proxy.host, proxy.port).login() as connection:
        time.sleep(0.3)
        connection.simple("SELECT 1")
        with takes(seconds, tolerance):
            error = fatal(connection)
        check(proxy, error, "client_idle_timeout")


@pytest.mark.parametrize("what", [
    "says nothing", "stops within the startup packet", "does not answer the password request"])
def test_client_login_timeout(start_proxy: Callable[..., Proxy], tolerance: float, what: str) -> None:
    proxy = start_proxy(settings={"client_login_timeout": 0.7, "auth_type": "md5", "tcp_defer_accept": 0})
    with takes(0.7, tolerance), Connection(proxy.host, proxy.port) as connection:
        if what == "stops within the startup packet":
            connection.send(b"\0\0\0\x50\0\3\0\0user\0ap")
        elif what == "does not answer the password request":
            connection.send(startup({"user": "app", "database": "app"}))
        connection.read_all()


def test_server_idle_timeout(
        start_proxy: Callable[..., Proxy], cluster: Cluster, database: str, tolerance: float) -> None:
    proxy = start_proxy(settings={"server_idle_timeout": 1})
    with proxy.connect(database) as connection:
        connection.execute("SELECT 1")
        with takes(1, tolerance + 1):
            wait_until(lambda: not cluster.backends(database), "the idle server is closed", 5)
        assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("where", ["general", "database"])
def test_server_lifetime(start_proxy: Callable[..., Proxy], database: str, where: str) -> None:
    proxy = start_proxy(run=False, settings={"default_pool_size": 1, "server_idle_timeout": 60})
    if where == "general":
        proxy.settings["server_lifetime"] = 1
    else:
        proxy.databases = {database: proxy.server(server_lifetime=1)}
    proxy.start()
    with proxy.connect(database) as connection:
        def pid() -> int:
            return connection.execute("SELECT pg_backend_pid()").fetchone()[0]

        with connection.transaction():
            first = pid()
            time.sleep(1.5)
            assert pid() == first, "not before the transaction is over"
        wait_until(lambda: pid() != first, "another server", 4)


def test_server_lifetime_zero_uses_each_server_once(start_proxy: Callable[..., Proxy]) -> None:
    proxy = start_proxy(settings={"default_pool_size": 1, "server_lifetime": 0})
    with proxy.connect() as connection:
        pids = [connection.execute("SELECT pg_backend_pid()").fetchone()[0] for _ in range(3)]
        assert len(set(pids)) == 3


def test_server_connect_timeout(start_proxy: Callable[..., Proxy], tolerance: float) -> None:
    """The server accepts and never answers the startup packet: given up after server_connect_timeout."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        proxy = start_proxy(run=False, settings={"server_connect_timeout": 1, "query_wait_timeout": 3})
        proxy.databases = {"app": f"host=127.0.0.1 port={listener.getsockname()[1]}", "app2": proxy.server()}
        proxy.start()

        def use() -> None:
            with proxy.connect() as connection:
                connection.execute("SELECT 1")

        attempt = Background(use)
        listener.settimeout(5)
        server, _ = listener.accept()
        with server, takes(1, tolerance):
            server.settimeout(10)
            while server.recv(1000):
                pass
        assert isinstance(attempt.error(), psycopg.OperationalError)
        with proxy.connect("app2") as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_query_wait_notify(start_proxy: Callable[..., Proxy], database: str, tolerance: float) -> None:
    """Who waits longer than query_wait_notify is told so by a notice."""
    proxy = start_proxy(settings={"default_pool_size": 1, "query_wait_notify": 1})
    with Connection(proxy.host, proxy.port).login(database=database) as holder, \
            Connection(proxy.host, proxy.port).login(database=database) as waiting:
        holder.simple("BEGIN")
        with takes(1, tolerance + 1):
            waiting.send(query("SELECT 1"))
            notice = waiting.read()
        assert notice.type == "N"
        holder.simple("COMMIT")
        assert [each.type for each in waiting.read_until("Z")][-4:] == ["T", "D", "C", "Z"]


def test_timeouts_change_on_reload(start_proxy: Callable[..., Proxy], tolerance: float) -> None:
    proxy = start_proxy()
    with Connection(proxy.host, proxy.port).login() as connection:
        connection.simple("SELECT 1")
        proxy.settings["idle_transaction_timeout"] = 0.6
        proxy.reload()
        with takes(0.6, tolerance):
            connection.simple("BEGIN")
            check(proxy, fatal(connection), "idle_transaction_timeout")


@pytest.mark.martlet("better than 50 ms; PgBouncer looks three times a second")
def test_accuracy(start_proxy: Callable[..., Proxy], tolerance: float) -> None:
    """Of twenty timeouts at once half are on time to 50 ms, however busy the machine."""
    proxy = start_proxy(settings={"idle_transaction_timeout": 0.5, "default_pool_size": 20})
    late = []
    for _ in range(2):
        connections = [Connection(proxy.host, proxy.port).login() for _ in range(10)]
        begins = []
        for connection in connections:
            begins.append(time.monotonic())
            connection.simple("BEGIN")
        for connection, begin in zip(connections, begins):
            fatal(connection)
            late.append(time.monotonic() - begin - 0.5)
            connection.socket.close()
    assert min(late) >= -0.02
    assert sorted(late)[len(late) // 2] < 0.05 or tolerance > 0.05 and sorted(late)[0] < 0.05, late


# A routed client's BEGIN is answered before a server hears of it.

@pytest.mark.martlet("routing")
@pytest.mark.parametrize("setting", ["idle_transaction_timeout", "transaction_timeout"])
@pytest.mark.parametrize("begin", ["BEGIN", "BEGIN; SET martlet.route = 'nonsense'"])
def test_timeouts_of_a_begin_that_is_held_back(
        routed: Callable[..., Routed], tolerance: float, setting: str, begin: str) -> None:
    route = routed(settings={setting: 0.7})
    with Connection(route.proxy.host, route.proxy.port).login() as connection:
        for _ in range(3):
            connection.simple("BEGIN")
            connection.simple("COMMIT")
        with takes(0.7, tolerance):
            for text in begin.split("; "):
                connection.ask(query(text))
            error = fatal(connection)
        check(route.proxy, error, setting)


@pytest.mark.martlet("routing")
@pytest.mark.parametrize("transaction_routing", ["read_only", "promote"])
def test_transaction_timeout_counts_from_begin(
        routed: Callable[..., Routed], tolerance: float, transaction_routing: str) -> None:
    """Whatever servers the transaction runs on."""
    route = routed(
        schema="CREATE TABLE log (n int);", transaction_routing=transaction_routing, settings={"transaction_timeout": 1.2})
    with Connection(route.proxy.host, route.proxy.port).login() as connection:
        connection.simple("SELECT 1")
        with takes(1.2, tolerance):
            connection.simple("BEGIN")
            assert connection.silent(0.3)
            connection.simple("SELECT n FROM log")
            assert connection.silent(0.3)
            connection.simple("INSERT INTO log VALUES (1)")
            error = fatal(connection)
        check(route.proxy, error, "transaction_timeout")
        with Connection(route.proxy.host, route.proxy.port).login() as other:
            # Each transaction by itself.
            for _ in range(5):
                other.simple("BEGIN")
                other.simple("SELECT pg_sleep(0.3)")
                other.simple("COMMIT")


@pytest.mark.martlet("routing")
def test_client_idle_timeout_and_what_is_answered_here(routed: Callable[..., Routed], tolerance: float) -> None:
    """Who is in a transaction is not idle, nor is who says something to the router."""
    route = routed(settings={"client_idle_timeout": 0.7})
    with Connection(route.proxy.host, route.proxy.port).login() as connection:
        connection.simple("BEGIN")
        assert connection.silent(1.5)
        assert connection.ask(query("SELECT 1"))[-1].body == b"T"
        connection.simple("COMMIT")
        for _ in range(4):
            connection.simple("SHOW martlet.route")
            assert connection.silent(0.4)
        connection.simple("BEGIN")
        assert connection.silent(1)
        with takes(0.7, tolerance):
            connection.simple("COMMIT")
            error = fatal(connection)
        check(route.proxy, error, "client_idle_timeout")
