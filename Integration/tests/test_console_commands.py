"""The console's commands that change something."""

from __future__ import annotations

import time
from collections.abc import Callable

import psycopg
import pytest

from cluster import Cluster
from common import Background, wait_until
from proxy import Proxy
from rawpg import Connection, cancel, query

pytestmark = pytest.mark.one_loop


def console(proxy: Proxy, user: str = "admin") -> Connection:
    return Connection(proxy.host, proxy.port).login(user=user, database="pgbouncer")


def test_reload(start_proxy: Callable[..., Proxy]) -> None:
    proxy = start_proxy(run=False)
    proxy.databases = {"app": proxy.server()}
    proxy.start()
    with pytest.raises(psycopg.OperationalError):
        proxy.connect("other")
    proxy.databases["other"] = proxy.server(dbname="app2")
    proxy.settings["default_pool_size"] = 7
    proxy.write_configuration()
    assert proxy.command("RELOAD") == "RELOAD"
    with proxy.connect("other") as connection:
        assert connection.execute("SELECT current_database()").fetchone() == ("app2",)
    assert proxy.setting("default_pool_size") == "7"


@pytest.mark.martlet("PgBouncer takes over what it could read")
def test_reload_of_a_bad_file_changes_nothing(start_proxy: Callable[..., Proxy]) -> None:
    proxy = start_proxy()
    with proxy.connect() as connection:
        connection.execute("SELECT 1")
        good = proxy.config.read_text()
        proxy.config.write_text(good.replace("[pgbouncer]", "[pgbouncer]\ndefault_pool_size = 77\nno_such_key = 1"))
        with proxy.console() as console:
            with pytest.raises(psycopg.Error) as caught:
                console.execute("RELOAD")
        assert "RELOAD failed" in str(caught.value)
        assert proxy.setting("default_pool_size") == "10"
        assert connection.execute("SELECT 1").fetchone() == (1,)
        proxy.config.write_text(good)
        proxy.command("RELOAD")


def test_reload_with_another_server(start_proxy: Callable[..., Proxy], own_cluster: Callable[..., Cluster]) -> None:
    """Connections of the old place are closed when they are released, and new ones go to the new place."""
    other = own_cluster()
    proxy = start_proxy(run=False, settings={"default_pool_size": 2})
    proxy.databases = {"app": proxy.server()}
    proxy.start()
    with proxy.connect() as one, proxy.connect() as two:
        one.execute("BEGIN")
        port = "SELECT current_setting('port')::int"
        assert one.execute(port).fetchone() == (proxy.cluster.port,)
        proxy.databases = {"app": f"host={other.host} port={other.port}"}
        proxy.reload()
        assert two.execute(port).fetchone() == (other.port,)
        assert one.execute(port).fetchone() == (proxy.cluster.port,)
        one.execute("COMMIT")
        assert one.execute(port).fetchone() == (other.port,)


def test_reload_without_a_database(start_proxy: Callable[..., Proxy]) -> None:
    proxy = start_proxy(run=False)
    proxy.databases = {"app": proxy.server(), "gone": proxy.server(dbname="app2")}
    proxy.start()
    with proxy.connect("gone"):
        del proxy.databases["gone"]
        proxy.reload()
        with pytest.raises(psycopg.OperationalError, match="no such database: gone"):
            proxy.connect("gone")
    with proxy.connect() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_pause_waits_and_resume_lets_go(proxy: Proxy, cluster: Cluster, database: str) -> None:
    with proxy.connect(database) as one, proxy.connect(database) as two:
        two.execute("SELECT 1")
        one.execute("BEGIN")
        one.execute("SELECT 1")
        pause = Background(proxy.command, f"PAUSE {database}")
        wait_until(lambda: proxy.database(database)["paused"], "it is paused")
        assert not pause.done
        waiting = Background(two.execute, "SELECT 1")
        one.execute("SELECT 2")
        one.execute("COMMIT")
        assert pause.result(5) == "PAUSE"
        wait_until(lambda: not cluster.backends(database), "the servers are closed")
        time.sleep(0.2)
        assert not waiting.done
        assert proxy.command(f"RESUME {database}") == "RESUME"
        waiting.result(5)
        assert one.execute("SELECT 3").fetchone() == (3,)


def test_pause_of_all(proxy: Proxy) -> None:
    with proxy.connect() as connection:
        connection.execute("SELECT 1")
        proxy.command("PAUSE")
        assert proxy.state("paused") == "yes"
        waiting = Background(connection.execute, "SELECT 1")
        time.sleep(0.2)
        assert not waiting.done
        proxy.command("RESUME")
        waiting.result(5)
        assert proxy.state("paused") == "no"


@pytest.mark.parametrize("how", [
    "cancel", pytest.param("leave", marks=pytest.mark.martlet("PgBouncer stays paused when the client is gone"))])
@pytest.mark.parametrize("form", [
    "all", pytest.param("database", marks=pytest.mark.martlet("PgBouncer gives up PAUSE without a name only"))])
def test_pause_given_up(proxy: Proxy, database: str, form: str, how: str) -> None:
    """^C in psql, or the console client gone: as if RESUME had been said."""
    with proxy.connect(database) as holder, proxy.connect(database) as other:
        other.execute("SELECT 1")
        holder.execute("BEGIN")
        with console(proxy) as admin:
            admin.send(query("PAUSE" if form == "all" else f"PAUSE {database}"))
            wait_until(lambda: proxy.show("STATE")[1]["value"] == "yes" if form == "all" else
                       proxy.database(database)["paused"], "paused")
            if how == "cancel":
                cancel(proxy.host, proxy.port, admin.key)
        assert other.execute("SELECT 1", prepare=False).fetchone() == (1,)
        holder.execute("COMMIT")


def test_disable_and_enable(proxy: Proxy, database: str) -> None:
    with proxy.connect(database) as connection:
        connection.execute("SELECT 1")
        assert proxy.command(f"DISABLE {database}") == "DISABLE"
        with pytest.raises(psycopg.OperationalError, match="disabled"):
            proxy.connect(database)
        assert connection.execute("SELECT 1").fetchone() == (1,), "who is in stays in"
        assert proxy.command(f"ENABLE {database}") == "ENABLE"
        proxy.connect(database).close()


def test_reconnect_and_wait_close(proxy: Proxy, cluster: Cluster, database: str) -> None:
    with proxy.connect(database) as one, proxy.connect(database) as two:
        one.execute("BEGIN")
        kept = one.execute("SELECT pg_backend_pid()").fetchone()[0]
        idle = two.execute("SELECT pg_backend_pid()").fetchone()[0]
        assert proxy.command(f"RECONNECT {database}") == "RECONNECT"
        assert two.execute("SELECT pg_backend_pid()").fetchone()[0] != idle
        waiting = Background(proxy.command, f"WAIT_CLOSE {database}")
        time.sleep(0.2)
        assert not waiting.done
        assert one.execute("SELECT pg_backend_pid()").fetchone()[0] == kept
        one.execute("COMMIT")
        assert waiting.result(5) == "WAIT_CLOSE"
        assert kept not in [pid for pid, _, _ in cluster.backends(database)]


def test_kill(proxy: Proxy, cluster: Cluster, database: str) -> None:
    """Clients and servers of the database are dropped at once, and it stays paused; others go on."""
    with Connection(proxy.host, proxy.port).login(database=database) as one, proxy.connect("app2") as other:
        one.simple("BEGIN")
        assert proxy.command(f"KILL {database}") == "KILL"
        errors = [message for message in one.read_all() if message.type == "E"]
        assert not errors or errors[-1].fields()["S"] == "FATAL"
        wait_until(lambda: not cluster.backends(database), "the servers are gone")
        assert other.execute("SELECT 1").fetchone() == (1,)
        assert proxy.database(database)["paused"]
        proxy.command(f"RESUME {database}")
        with proxy.connect(database) as again:
            assert again.execute("SELECT 1").fetchone() == (1,)


def test_kill_client(proxy: Proxy, database: str) -> None:
    with Connection(proxy.host, proxy.port).login(database=database, application_name="victim") as victim, \
            proxy.connect(database) as other:
        victim.simple("BEGIN")
        number = next(row["id"] for row in proxy.show("CLIENTS") if row["application_name"] == "victim")
        assert proxy.command(f"KILL_CLIENT {number}") == "KILL_CLIENT"
        errors = [message for message in victim.read_all() if message.type == "E"]
        assert [message.fields()["S"] for message in errors] == ["FATAL"]
        assert other.execute("SELECT 1").fetchone() == (1,)
        with proxy.console() as admin, pytest.raises(psycopg.Error, match="client not found"):
            admin.execute(f"KILL_CLIENT {number}")


def test_set(proxy: Proxy) -> None:
    for text, key, value in (("SET default_pool_size = 3", "default_pool_size", "3"),
                             ("SET default_pool_size TO '4'", "default_pool_size", "4"),
                             ("set query_wait_timeout=7", "query_wait_timeout", "7"),
                             ("SET pool_mode = session", "pool_mode", "session")):
        assert proxy.command(text).startswith("SET")
        assert proxy.setting(key) == value


def test_shutdown(proxy: Proxy) -> None:
    with proxy.connect() as connection:
        connection.execute("SELECT 1")
        with proxy.console() as admin:
            try:
                admin.execute("SHUTDOWN")
            except psycopg.OperationalError:
                pass
        assert proxy.wait_end() == 0
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


@pytest.mark.parametrize("form", ["WAIT_FOR_SERVERS", "WAIT_FOR_CLIENTS"])
def test_graceful_shutdown(proxy: Proxy, form: str) -> None:
    proxy.expect_end = True
    with proxy.connect() as busy, proxy.connect() as idle:
        idle.execute("SELECT 1")
        busy.execute("BEGIN")
        with proxy.console() as admin:
            admin.execute(f"SHUTDOWN {form}")
        with pytest.raises(psycopg.OperationalError):
            proxy.connect(connect_timeout=2)
        assert busy.execute("SELECT 1").fetchone() == (1,)
        busy.execute("COMMIT")
        if form == "WAIT_FOR_CLIENTS":
            assert idle.execute("SELECT 1").fetchone() == (1,)
            assert proxy.alive()
        busy.close()
        idle.close()
    assert proxy.wait_end() == 0
