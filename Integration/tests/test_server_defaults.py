"""What a server has by itself is the server's business: clients follow it, and the proxy sets only what clients have set."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from cluster import Cluster
from common import wait_until
from proxy import Proxy
from rawpg import Connection, query
from replicated import ReplicatedCluster

pytestmark = [pytest.mark.one_loop, pytest.mark.martlet("PgBouncer sets on new servers what it has noted of old ones")]


def login(proxy: Proxy, **parameters: str) -> Connection:
    return Connection(proxy.host, proxy.port).login(**parameters)


def value(connection: Connection, name: str) -> str:
    return connection.simple(f"SHOW {name}")[0][0].decode()


def insert(connection: Connection) -> str:
    """How a write ends: its tag or its SQLSTATE."""
    answer = connection.ask(query("INSERT INTO accounts VALUES (1)"))
    return next(each.sqlstate if each.type == "E" else each.body.rstrip(b"\0").decode() for each in answer if each.type in "CE")


@pytest.fixture
def behind(own_cluster: Callable[..., Cluster]) -> Cluster:
    cluster = own_cluster()
    with cluster.connect("app", user="app") as connection:
        connection.execute("CREATE TABLE accounts (id int)")
    return cluster


@pytest.mark.parametrize("threads", [1, 2])
def test_new_clients_hear_what_the_newest_server_says(
        behind: Cluster, start_proxy: Callable[..., Proxy], threads: int) -> None:
    proxy = start_proxy(behind, threads=threads)
    with login(proxy) as client:
        assert client.parameters["DateStyle"] == "ISO, MDY"
    with behind.connect("postgres") as connection:
        connection.execute("ALTER ROLE app SET datestyle = 'German'")
    proxy.command("RECONNECT")
    for _ in range(4):
        with login(proxy) as client:
            assert client.parameters["DateStyle"] == "German, DMY"
            client.parameter_log.clear()
            assert value(client, "DateStyle") == "German, DMY"
            assert client.parameter_log == []


def test_old_clients_follow_new_servers(behind: Cluster, start_proxy: Callable[..., Proxy]) -> None:
    """They are told; what is a client's own stays, be it from its startup packet, where it was the default, or from SET."""
    proxy = start_proxy(behind)
    with login(proxy) as plain, login(proxy, DateStyle="ISO, MDY") as asked, login(proxy) as changed:
        changed.simple("SET datestyle = 'SQL, DMY'")
        for client in (plain, asked):
            assert value(client, "DateStyle") == "ISO, MDY"
        with behind.connect("postgres") as connection:
            connection.execute("ALTER ROLE app SET datestyle = 'German'")
            connection.execute("ALTER ROLE app SET timezone = 'Asia/Tokyo'")
        proxy.command("RECONNECT")
        for _ in range(3):
            assert value(plain, "DateStyle") == plain.parameters["DateStyle"] == "German, DMY"
            assert value(asked, "DateStyle") == asked.parameters["DateStyle"] == "ISO, MDY"
            assert value(changed, "DateStyle") == changed.parameters["DateStyle"] == "SQL, DMY"
            for client in (plain, asked, changed):
                assert value(client, "TimeZone") == client.parameters["TimeZone"] == "Asia/Tokyo"


def test_what_others_have_set_is_undone(behind: Cluster, start_proxy: Callable[..., Proxy]) -> None:
    """It goes back to what the server has by itself, also when servers have different values."""
    proxy = start_proxy(behind, settings={"default_pool_size": 2}, threads=1)
    with login(proxy) as one, login(proxy) as two, login(proxy) as three:
        # An old connection stays, and a new one is made beside it.
        one.simple("BEGIN")
        with behind.connect("postgres") as connection:
            connection.execute("ALTER ROLE app SET datestyle = 'German'")
        two.simple("BEGIN")
        assert value(one, "DateStyle") == "ISO, MDY" and value(two, "DateStyle") == "German, DMY"
        for client in (one, two):
            client.simple("SET datestyle = 'SQL, DMY'")
        one.simple("COMMIT")
        assert value(three, "DateStyle") == three.parameters["DateStyle"] == "ISO, MDY"
        one.simple("BEGIN")
        two.simple("COMMIT")
        assert value(three, "DateStyle") == three.parameters["DateStyle"] == "German, DMY"
        one.simple("COMMIT")
        for client in (one, two):
            assert value(client, "DateStyle") == client.parameters["DateStyle"] == "SQL, DMY"


@pytest.mark.parametrize("how", ["RECONNECT", "restart"])
def test_a_database_becomes_read_only(behind: Cluster, start_proxy: Callable[..., Proxy], how: str) -> None:
    """ALTER DATABASE … SET default_transaction_read_only holds for new server connections, whoever uses them."""
    proxy = start_proxy(behind)
    with login(proxy) as old:
        assert insert(old) == "INSERT 0 1"
        with behind.connect("postgres") as connection:
            connection.execute("ALTER DATABASE app SET default_transaction_read_only = on")
        if how == "RECONNECT":
            proxy.command("RECONNECT")
            assert insert(old) == "25006"
            assert old.parameters["default_transaction_read_only"] == "on"
        else:
            behind.restart()
            proxy.wait_pool(lambda row: row["sv_idle"] == 0, "its connections are gone")
        for _ in range(2):
            with login(proxy) as client:
                assert insert(client) == "25006"
                assert client.parameters["default_transaction_read_only"] == "on"
                # Who says that it wants to write, may, as it may without a pooler.
                client.simple("SET default_transaction_read_only = off")
                assert insert(client) == "INSERT 0 1"
    with behind.connect("postgres") as connection:
        connection.execute("ALTER DATABASE app RESET default_transaction_read_only")
    proxy.command("RECONNECT")
    with login(proxy) as client:
        assert client.parameters["default_transaction_read_only"] == "off"
        assert insert(client) == "INSERT 0 1"


def test_a_reload_of_the_server(behind: Cluster, start_proxy: Callable[..., Proxy]) -> None:
    """What a server reports after a reload is nobody's own: everybody has it, and everybody loses it."""
    proxy = start_proxy(behind, settings={"default_pool_size": 2}, threads=1)
    with login(proxy) as one, login(proxy) as two, login(proxy) as three:
        clients = (one, two, three)
        for command in ("BEGIN", "COMMIT"):
            for client in (one, two):
                client.simple(command)
        for setting, expected in (("on", "25006"), ("off", "INSERT 0 1")) * 2:
            with behind.connect("postgres") as connection:
                connection.execute("SET default_transaction_read_only = off")
                connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {setting}")
                connection.execute("SELECT pg_reload_conf()")
            wait_until(lambda: behind.value("SHOW default_transaction_read_only") == setting, "the server is reloaded")
            for _ in range(3):
                for client in clients:
                    assert insert(client) == expected
            for client in clients:
                assert client.parameters["default_transaction_read_only"] == setting
            for _ in range(2):
                with login(proxy) as client:
                    assert client.parameters["default_transaction_read_only"] == setting
                    assert insert(client) == expected


def test_a_promoted_standby(own_replicas: Callable[..., ReplicatedCluster], start_proxy: Callable[..., Proxy]) -> None:
    """Clients that want a server that takes writes find it at once, though nobody has asked it anything since."""
    cluster = own_replicas(1)
    node = cluster.nodes["replica1"]
    proxy = start_proxy(node)

    def connect(attributes: str) -> None:
        psycopg.connect(
            host=proxy.host, port=proxy.port, user="app", dbname="app", target_session_attrs=attributes).close()

    connect("standby")
    with pytest.raises(psycopg.OperationalError):
        connect("read-write")
    with login(proxy) as client:
        assert client.parameters["in_hot_standby"] == value(client, "in_hot_standby") == "on"
        cluster.promote("replica1", follow=False)
        wait_until(lambda: node.value("SELECT pg_is_in_recovery()") is False, "it is promoted")
        connect("read-write")
        connect("primary")
        with pytest.raises(psycopg.OperationalError):
            connect("standby")
        assert value(client, "in_hot_standby") == client.parameters["in_hot_standby"] == "off"
    node.restart()
    connect("read-write")


def test_a_promoted_standby_without_connections(
        own_replicas: Callable[..., ReplicatedCluster], start_proxy: Callable[..., Proxy]) -> None:
    cluster = own_replicas(1)
    node = cluster.nodes["replica1"]
    proxy = start_proxy(node, settings={"server_idle_timeout": 1})
    with login(proxy) as client:
        assert client.parameters["in_hot_standby"] == "on"
    proxy.wait_pool(lambda row: row["sv_idle"] == 0 and row["sv_used"] == 0, "its connections are gone")
    cluster.promote("replica1", follow=False)
    wait_until(lambda: node.value("SELECT pg_is_in_recovery()") is False, "it is promoted")
    with login(proxy) as client:
        assert client.parameters["in_hot_standby"] == "off"


@pytest.mark.parametrize("mode", ["session", "statement"])
def test_other_modes(behind: Cluster, start_proxy: Callable[..., Proxy], mode: str) -> None:
    proxy = start_proxy(behind, settings={"pool_mode": mode})
    with login(proxy) as client:
        assert value(client, "TimeZone") == client.parameters["TimeZone"]
    with behind.connect("postgres") as connection:
        connection.execute("ALTER DATABASE app SET timezone = 'Asia/Tokyo'")
    proxy.command("RECONNECT")
    for _ in range(2):
        with login(proxy) as client:
            assert client.parameters["TimeZone"] == value(client, "TimeZone") == "Asia/Tokyo"
            client.simple("SET timezone = 'Europe/Rome'")
    with login(proxy) as client:
        assert value(client, "TimeZone") == "Asia/Tokyo"


def test_connect_query_stays(behind: Cluster, start_proxy: Callable[..., Proxy]) -> None:
    """What it has set is what clients have by default, also behind one that had another value."""
    proxy = start_proxy(
        behind, settings={"default_pool_size": 1},
        databases={"app": f"host={behind.host} port={behind.port} connect_query='SET datestyle = German'"})
    with login(proxy) as one, login(proxy) as two:
        for _ in range(2):
            one.simple("SET datestyle = 'SQL, DMY'")
            assert value(two, "DateStyle") == two.parameters["DateStyle"] == "German, DMY"
            assert value(one, "DateStyle") == "SQL, DMY"
