"""Servers that are away for a while, or refuse: one rule for clients that log in and for those with a request."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest

from cluster import Cluster
from common import Background, free_port, wait_until
from proxy import Proxy
from rawpg import Connection, query, startup

pytestmark = pytest.mark.martlet("PgBouncer tells at once, or after query_wait_timeout")


def tries(proxy: Proxy, dbname: str = "app", **more: object) -> str:
    """Connects and asks; gives what was said instead of an answer."""
    try:
        with proxy.connect(dbname, **more) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
            return ""
    except psycopg.OperationalError as error:
        return str(error)


# Other hosts, other addresses

@pytest.mark.parametrize("balance", ["round-robin", "disable"])
@pytest.mark.parametrize("dead", [1, 3])
def test_other_hosts_are_tried_at_once(
        start_proxy: Callable[..., Proxy], cluster: Cluster, dead: int, balance: str) -> None:
    """Whichever is next, no client hears of the dead ones, and none waits for a pause to end."""
    proxy = start_proxy(run=False, threads=1, settings={"server_lifetime": 0, "server_login_retry": 15})
    closed = [free_port() for _ in range(dead)]
    for name, ports in {"first": [*closed, cluster.port], "last": [cluster.port, *closed]}.items():
        proxy.databases[name] = (f"host={','.join(['127.0.0.1'] * len(ports))} port={','.join(map(str, ports))} "
                                 f"dbname=app load_balance_hosts={balance}")
    proxy.start()
    begin = time.monotonic()
    for name in ("first", "last"):
        for _ in range(6):
            assert tries(proxy, name) == ""
    assert time.monotonic() - begin < 5


def test_replication_client_finds_the_other_host(start_proxy: Callable[..., Proxy], cluster: Cluster) -> None:
    proxy = start_proxy(run=False, threads=1)
    proxy.databases = {"app": f"host=127.0.0.1,127.0.0.1 port={free_port()},{cluster.port}"}
    proxy.start()
    for _ in range(3):
        with Connection(proxy.host, proxy.port) as client:
            client.send(startup({"user": "app", "database": "app", "replication": "database"}))
            client.authenticate("app", "")
            client.ask(query("IDENTIFY_SYSTEM"))


def test_other_host_while_one_does_not_answer(start_proxy: Callable[..., Proxy], cluster: Cluster) -> None:
    """A host that takes connections and says nothing does not keep clients for server_connect_timeout."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as silent:
        proxy = start_proxy(run=False, threads=1, settings={"server_connect_timeout": 15})
        proxy.databases = {"app": f"host=127.0.0.1,127.0.0.1 port={silent.getsockname()[1]},{cluster.port}"}
        proxy.start()
        begin = time.monotonic()
        assert tries(proxy) == ""
        assert time.monotonic() - begin < 6


# Away for a while

@pytest.fixture(params=["cold", "warm", "replication"])
def outage(request: pytest.FixtureRequest, start_proxy: Callable[..., Proxy],
           own_cluster: Callable[..., Cluster]) -> Iterator[tuple[Proxy, Cluster, Callable[[], str]]]:
    """A proxy whose server is away, and a client: one that logs in, or has logged in before. It gives what it was told."""
    cluster = own_cluster()
    if request.param == "cold":
        cluster.stop()
    proxy = start_proxy(cluster, settings={
        "query_wait_timeout": 120, "server_login_retry": 15, "server_outage_wait": 3}, threads=1)
    client = None
    if request.param == "warm":
        client = proxy.connect()
        client.execute("SELECT 1")
        cluster.stop()
        proxy.wait_pool(lambda pool: pool["sv_idle"] == 0, "the dead server is noticed")
    elif request.param == "replication":
        cluster.stop()

    def ask() -> str:
        try:
            if client:
                client.execute("SELECT 1")
            elif request.param == "cold":
                return tries(proxy)
            else:
                with Connection(proxy.host, proxy.port) as connection:
                    connection.send(startup({"user": "app", "database": "app", "replication": "database"}))
                    connection.authenticate("app", "")
            return ""
        except (psycopg.OperationalError, AssertionError) as error:
            return str(error)

    yield proxy, cluster, ask
    if client:
        client.close()


def test_short_outage_is_waited_out(outage: tuple[Proxy, Cluster, Callable[[], str]]) -> None:
    _, cluster, ask = outage
    waiting = Background(ask)
    time.sleep(0.7)
    assert not waiting.done
    cluster.start()
    assert waiting.result(3) == ""


def test_long_outage_is_told(outage: tuple[Proxy, Cluster, Callable[[], str]]) -> None:
    """When waiting has become useless, with the reason; and those who come later do not begin to wait anew."""
    proxy, _, ask = outage
    begin = time.monotonic()
    assert "connect failed" in ask()
    assert 1 < time.monotonic() - begin < 7
    for _ in range(3):
        begin = time.monotonic()
        assert "connect failed" in tries(proxy)
        assert time.monotonic() - begin < 3


def test_back_within_a_second(start_proxy: Callable[..., Proxy], own_cluster: Callable[..., Cluster]) -> None:
    """However long it was away, and however often somebody has tried meanwhile."""
    cluster = own_cluster()
    proxy = start_proxy(cluster, settings={"server_login_retry": 15, "server_outage_wait": 0}, threads=1)
    assert tries(proxy) == ""
    cluster.stop()
    end = time.monotonic() + 5
    while time.monotonic() < end:
        assert tries(proxy)
        time.sleep(0.05)
    cluster.start()
    up = time.monotonic()
    wait_until(lambda: tries(proxy) == "", "it is used again", 10)
    assert time.monotonic() - up < 2


def test_server_that_does_not_answer_is_told_of(start_proxy: Callable[..., Proxy]) -> None:
    """Who comes while an attempt hangs waits for as long as others, not for the end of the attempt."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as silent:
        proxy = start_proxy(run=False, threads=1, settings={"server_connect_timeout": 4, "server_outage_wait": 1})
        proxy.databases = {"app": f"host=127.0.0.1 port={silent.getsockname()[1]}"}
        proxy.start()
        assert "connect timeout" in tries(proxy)
        begin = time.monotonic()
        assert "connect timeout" in tries(proxy)
        assert time.monotonic() - begin < 3.5


# Refusals

@pytest.fixture
def checking(own_cluster: Callable[..., Cluster]) -> Cluster:
    """A server that asks everybody but postgres for a password, and speaks no TLS."""
    cluster = own_cluster(hba=[
        "local all all trust", "host all postgres 127.0.0.1/32 trust", "host all all 127.0.0.1/32 scram-sha-256"])
    with cluster.connect("postgres") as direct:
        direct.execute("CREATE ROLE late LOGIN PASSWORD 'right'")
    return cluster


def entry(cluster: Cluster, password: str) -> str:
    return f"host={cluster.host} port={cluster.port} dbname=app user=late password={password}"


def change_password(cluster: Cluster, password: str) -> None:
    with cluster.connect("postgres") as direct:
        direct.execute(f"ALTER ROLE late PASSWORD '{password}'")


@pytest.mark.parametrize("who", ["waiting", "login"])
def test_refusal_is_told_while_the_old_connection_is_busy(
        start_proxy: Callable[..., Proxy], checking: Cluster, who: str) -> None:
    """The last connection will not be lent again, so there is nothing to wait for."""
    proxy = start_proxy(run=False, threads=1, settings={"query_wait_timeout": 60, "server_login_retry": 15})
    proxy.databases = {"app": entry(checking, "right") + " pool_size=1"}
    proxy.start()
    with proxy.connect() as holder, proxy.connect() as other:
        holder.execute("BEGIN")
        change_password(checking, "changed")
        proxy.command("RECONNECT")
        proxy.databases = {"app": entry(checking, "right") + " pool_size=2"}
        if who == "waiting":
            waiting = Background(other.execute, "SELECT 1")
            proxy.wait_pool(lambda pool: pool["cl_waiting"] == 1, "it waits", user="late")
            proxy.reload()
            error = waiting.error(5)
        else:
            proxy.reload()
            begin = Background(tries, proxy)
            error = begin.result(5)
        assert "password authentication failed" in str(error)
        assert holder.execute("SELECT 1").fetchone() == (1,)
        holder.execute("COMMIT")
        proxy.databases = {"app": entry(checking, "changed") + " pool_size=2"}
        proxy.reload()
        assert tries(proxy) == ""


@pytest.mark.parametrize("end", ["released", "lost"])
def test_refusal_while_another_connection_will_be_free(
        start_proxy: Callable[..., Proxy], checking: Cluster, end: str) -> None:
    """A busy connection that will be lent again is worth waiting for, as long as it is there."""
    proxy = start_proxy(run=False, threads=1, settings={"query_wait_timeout": 60, "server_login_retry": 15})
    proxy.databases = {"app": entry(checking, "right") + " pool_size=2"}
    proxy.start()
    with proxy.connect() as holder, proxy.connect() as other:
        holder.execute("BEGIN")
        pid = holder.execute("SELECT pg_backend_pid()").fetchone()[0]
        change_password(checking, "changed")
        waiting = Background(other.execute, "SELECT 1")
        wait_until(lambda: "password authentication failed" in proxy.log_text(), "the login is refused")
        # The pauses grow: the next try may be far away.
        wait_until(lambda: proxy.log_text().count("password authentication failed") >= 6, "it is refused again", 15)
        assert not waiting.done
        if end == "released":
            holder.execute("COMMIT")
            assert waiting.result(5).fetchone() == (1,)
        else:
            checking.value("SELECT pg_terminate_backend(%s)", pid)
            assert "password authentication failed" in str(waiting.error(2.5))
            holder.close()


@pytest.mark.parametrize("change", ["password", "auth_file", "tls", "SET tls", "address", "RECONNECT", "RESUME"])
def test_change_ends_the_pause(start_proxy: Callable[..., Proxy], checking: Cluster, change: str) -> None:
    """What has failed before is tried at once, not told from memory."""
    proxy = start_proxy(run=False, threads=2, settings={"server_login_retry": 15, "query_wait_timeout": 20})
    wrong: dict[str, object] = {}
    if change == "auth_file":
        proxy.databases = {"app": f"host={checking.host} port={checking.port} dbname=app user=late"}
        proxy.secrets = proxy.secrets | {"late": "wrong"}
    elif "tls" in change:
        proxy.databases = {"app": entry(checking, "right")}
        wrong = {"server_tls_sslmode": "require"}
    elif change == "address":
        proxy.databases = {"app": entry(checking, "right") + "x"}
    else:
        proxy.databases = {"app": entry(checking, "wrong")}
    proxy.settings |= wrong
    proxy.start()
    for _ in range(8):
        assert tries(proxy)
    assert "server login has been failing, cached error" in tries(proxy)
    match change:
        case "auth_file":
            proxy.secrets = proxy.secrets | {"late": "right"}
            proxy.reload()
        case "tls":
            proxy.settings["server_tls_sslmode"] = "disable"
            proxy.reload()
        case "SET tls":
            proxy.command("SET server_tls_sslmode = disable")
        case "RECONNECT" | "RESUME":
            change_password(checking, "wrong")
            if change == "RESUME":
                proxy.command("PAUSE")
            proxy.command(change)
        case _:
            proxy.databases = {"app": entry(checking, "right")}
            proxy.reload()
    for _ in range(6):  # On either reactor.
        assert tries(proxy) == ""


def test_new_password_of_a_client_ends_the_pause(start_proxy: Callable[..., Proxy], checking: Cluster) -> None:
    """Its login shows new keys, and with these the server lets us in."""
    proxy = start_proxy(run=False, threads=2, settings={
        "server_login_retry": 15, "auth_type": "scram-sha-256", "auth_user": "postgres", "auth_query_ttl": 0})
    proxy.secrets = {"admin": "admin-secret", "postgres": ""}
    proxy.databases = {"app": f"host={checking.host} port={checking.port} dbname=app"}
    proxy.start()

    def log_in(password: str) -> str:
        return tries(proxy, user="late", password=password)

    assert log_in("right") == ""
    old = proxy.connect(user="late", password="right")
    change_password(checking, "changed")
    with proxy.console(password="admin-secret") as console:
        console.execute("RECONNECT")
    with pytest.raises(psycopg.OperationalError):
        old.execute("SELECT 1")
    for _ in range(4):
        assert log_in("changed") == ""
