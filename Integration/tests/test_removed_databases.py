"""Databases that a RELOAD takes out of the configuration, and puts in."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from cluster import Cluster
from common import Background, wait_until
from proxy import Proxy
from rawpg import Connection, query, startup

pytestmark = [pytest.mark.one_loop, pytest.mark.martlet("PgBouncer ends transactions too")]

REMOVED = ("57P01", "database removed")


def goodbye(connection: Connection) -> tuple[str, str]:
    errors = [each.fields() for each in connection.read_all(timeout=5) if each.type == "E"]
    assert len(errors) == 1 and errors[0]["S"] == "FATAL", errors
    return errors[0]["C"], errors[0]["M"]


def start(start_proxy: Callable[..., Proxy], mode: str = "transaction", **settings: object) -> Proxy:
    proxy = start_proxy(run=False, settings={"pool_mode": mode, "query_wait_timeout": 60} | settings)
    proxy.databases = {"app": proxy.server(), "gone": proxy.server(dbname="app2")}
    return proxy.start()


def remove(proxy: Proxy) -> None:
    del proxy.databases["gone"]
    proxy.reload()


def client(proxy: Proxy, user: str = "app") -> Connection:
    return Connection(proxy.host, proxy.port).login(database="gone", user=user)


@pytest.mark.parametrize("mode", ["session", "transaction", "statement"])
@pytest.mark.parametrize("fallback", [False, True], ids=["nothing", "*"])
def test_clients_go(start_proxy: Callable[..., Proxy], cluster: Cluster, mode: str, fallback: bool) -> None:
    """Idle ones at once, one in a transaction or a query when that has ended; nobody lands in the database that the
    name stands for now."""
    proxy = start(start_proxy, mode)
    with client(proxy) as fresh, client(proxy) as used, client(proxy) as holder, client(proxy) as running, \
            Connection(proxy.host, proxy.port).login() as other:
        used.simple("SELECT 1")
        if mode != "statement":
            holder.simple("BEGIN")
        running.send(query("SELECT pg_sleep(1.5)"))
        wait_until(lambda: "active" in [state for _, state, _ in cluster.backends("app2")], "it runs")
        if fallback:
            proxy.databases["*"] = proxy.server(dbname="postgres")
        remove(proxy)
        assert goodbye(fresh) == REMOVED
        assert goodbye(used) == REMOVED
        if mode != "statement":
            assert holder.simple("SELECT current_database()") == [[b"app2"]]
            holder.send(query("COMMIT"))
            assert goodbye_behind(holder, "COMMIT") == REMOVED
        assert goodbye_behind(running, "SELECT 1") == REMOVED
        assert other.simple("SELECT current_database()") == [[b"app"]]
        wait_until(lambda: not cluster.backends("app2"), "its connections are closed")
        if not fallback:
            with pytest.raises(psycopg.OperationalError, match="no such database: gone"):
                proxy.connect("gone")


def goodbye_behind(connection: Connection, tag: str) -> tuple[str, str]:
    messages = connection.read_all(timeout=8)
    assert [each.body[:-1].decode() for each in messages if each.type == "C"] == [tag]
    kinds = [each.type for each in messages]
    assert kinds.index("Z") < kinds.index("E")
    error = messages[kinds.index("E")].fields()
    return error["C"], error["M"]


@pytest.mark.parametrize("who", ["waiting", "login", "replication", "replicating"])
def test_those_who_wait_go_too(start_proxy: Callable[..., Proxy], who: str) -> None:
    proxy = start(start_proxy, default_pool_size=1, max_db_connections=1)
    with Connection(proxy.host, proxy.port) as other:
        if who == "replicating":
            other.send(startup({"user": "app", "database": "gone", "replication": "database"}))
            other.authenticate("app", "")
            remove(proxy)
            assert goodbye(other) == REMOVED
            return
        with client(proxy) as holder:
            holder.simple("BEGIN")
            if who == "waiting":
                other.login(database="gone")
                other.send(query("SELECT 1"))
                user = "app"
            else:
                user = "trust_user" if who == "login" else "app"
                more = {"replication": "database"} if who == "replication" else {}
                other.send(startup({"user": user, "database": "gone"} | more))
            proxy.wait_pool(lambda pool: pool["cl_waiting"] == 1, "it waits", "gone", user)
            remove(proxy)
            assert goodbye(other) == REMOVED
            holder.send(query("COMMIT"))
            assert goodbye_behind(holder, "COMMIT") == REMOVED


@pytest.mark.parametrize("how", ["KILL gone", "KILL_CLIENT"])
def test_console_reaches_what_is_left(start_proxy: Callable[..., Proxy], cluster: Cluster, how: str) -> None:
    """Somebody who does not end his transaction can be thrown out; and the name is as good as new afterwards."""
    proxy = start(start_proxy)
    with client(proxy) as holder:
        holder.simple("BEGIN")
        remove(proxy)
        left = [row for row in proxy.show("CLIENTS") if row["database"] == "gone"]
        assert len(left) == 1
        assert [row["database"] for row in proxy.show("SERVERS")] == ["gone"]
        proxy.command("RECONNECT gone")
        proxy.command(how if " " in how else f"{how} {left[0]['id']}")
        assert goodbye(holder)[0] == "57P01"
        wait_until(lambda: not cluster.backends("app2"), "its connections are closed")
    wait_until(lambda: not [row for row in proxy.show("POOLS") if row["database"] == "gone"], "its pool is gone")
    with pytest.raises(psycopg.Error, match="no such database: gone"):
        proxy.command("PAUSE gone")
    proxy.databases["gone"] = proxy.server(dbname="app2")
    proxy.reload()
    with client(proxy) as again:
        assert again.simple("SELECT current_database()") == [[b"app2"]]


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_added_again_elsewhere(start_proxy: Callable[..., Proxy], mode: str) -> None:
    """A transaction from before ends where it began, and with it its client; new clients are where the name leads now."""
    proxy = start(start_proxy, mode)
    with client(proxy) as holder:
        holder.simple("BEGIN")
        remove(proxy)
        proxy.databases["gone"] = proxy.server(dbname="postgres")
        proxy.reload()
        with client(proxy) as new:
            assert new.simple("SELECT current_database()") == [[b"postgres"]]
            assert holder.simple("SELECT current_database()") == [[b"app2"]]
            holder.send(query("COMMIT"))
            assert goodbye_behind(holder, "COMMIT") == REMOVED
            assert new.simple("SELECT current_database()") == [[b"postgres"]]


@pytest.mark.parametrize("way", ["* to an entry", "an entry to *"])
def test_other_meaning_of_a_name(start_proxy: Callable[..., Proxy], way: str) -> None:
    """A name that `*` stood for gets an entry of its own, or loses it."""
    proxy = start_proxy(run=False)
    star, entry = {"*": proxy.server()}, {"app2": proxy.server(dbname="postgres")}
    proxy.databases = star | (entry if way == "an entry to *" else {})
    proxy.start()
    with Connection(proxy.host, proxy.port).login(database="app2") as idle, \
            Connection(proxy.host, proxy.port).login(database="app") as other:
        idle.simple("SELECT 1")
        proxy.databases = star | (entry if way == "* to an entry" else {})
        proxy.reload()
        assert goodbye(idle) == REMOVED
        assert other.simple("SELECT 1") == [[b"1"]]


def test_commands_for_a_removed_database_are_forgotten(start_proxy: Callable[..., Proxy]) -> None:
    proxy = start(start_proxy)
    client(proxy).socket.close()
    proxy.command("PAUSE gone")
    proxy.command("DISABLE gone")
    remove(proxy)
    proxy.databases["gone"] = proxy.server(dbname="app2")
    proxy.reload()
    with client(proxy) as again:
        assert again.simple("SELECT 1") == [[b"1"]]


# What a RELOAD adds

@pytest.mark.martlet("at once")
@pytest.mark.parametrize("way", ["reload", "SET", "user added"])
def test_min_pool_size_of_what_is_added(
        start_proxy: Callable[..., Proxy], cluster: Cluster, database: str, way: str) -> None:
    """As at the start: connections of a database with a user of its own do not wait for a client."""
    proxy = start_proxy(run=False, threads=2)
    line = proxy.server(dbname=database, min_pool_size=3)
    proxy.databases = {"app": proxy.server()} | (
        {"warm": proxy.server(dbname=database, user="app")} if way == "SET" else
        {"warm": line} if way == "user added" else {})
    proxy.start()
    if way == "SET":
        proxy.command("SET min_pool_size = 3")
    else:
        proxy.databases["warm"] = f"{line} user=app"
        proxy.reload()
    wait_until(lambda: len(cluster.backends(database)) == 3, "three connections are there", 5)


@pytest.mark.parametrize("threads", [1, 4])
def test_min_pool_size_on_any_reactor(
        start_proxy: Callable[..., Proxy], cluster: Cluster, database: str, threads: int) -> None:
    """It holds for a database that has a client, wherever the client is, and over all reactors."""
    proxy = start_proxy(run=False, threads=threads)
    proxy.databases = {"app": proxy.server(), "warm": proxy.server(dbname=database, min_pool_size=3)}
    proxy.start()
    others = [proxy.connect() for _ in range(threads - 1)]
    clients = [proxy.connect("warm") for _ in range(threads)]
    for each in clients[1:]:
        each.close()
    wait_until(lambda: len(cluster.backends(database)) == 3, "three connections are there", 5)
    for each in [*others, clients[0]]:
        each.close()
