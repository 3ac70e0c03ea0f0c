"""Replication connections pass through, each with a server connection of its own."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable

import pytest

from cluster import BackendSampler, Cluster, Installation
from common import Background, environment, own
from proxy import Proxy
from rawpg import Connection, query, startup


def run(*command: str, timeout: float = 60) -> str:
    result = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment(), cwd="/")
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("kind", ["database", "true"])
def test_identify_system(proxy: Proxy, cluster: Cluster, kind: str) -> None:
    query = ("psql", "-XAtq", "-c", "IDENTIFY_SYSTEM")
    through = run(*query, f"host={proxy.host} port={proxy.port} user=app dbname=app replication={kind}")
    direct = run(*query, f"host={cluster.host} port={cluster.port} user=app dbname=app replication={kind}")
    assert through.split("|")[0] == direct.split("|")[0]


@pytest.mark.martlet("PgBouncer has words of its own")
@pytest.mark.parametrize("value", ["bogus", "", "2", "o", "tru", "OFF", "Database", "yes please", "n"])
def test_what_is_asked_for(proxy: Proxy, cluster: Cluster, value: str) -> None:
    """A boolean as PostgreSQL reads one, or "database"."""
    def told(host: str, port: int) -> tuple[str, ...]:
        with Connection(host, port) as connection:
            connection.send(startup({"user": "app", "database": "app", "replication": value}))
            heard = connection.read()
            while heard.type not in "ZE":
                heard = connection.read()
            return ("ready",) if heard.type == "Z" else tuple(heard.fields()[key] for key in "SCM")

    assert told(proxy.host, proxy.port) == told(cluster.host, cluster.port)


def test_sql_on_a_replication_connection(proxy: Proxy) -> None:
    """With replication=database ordinary SQL works too, and ordinary clients do not get that connection."""
    dsn = f"host={proxy.host} port={proxy.port} user=app dbname=app replication=database"
    assert run("psql", "-XAtq", "-c", "SELECT 17", dsn) == "17\n"
    with proxy.connect() as connection:
        assert connection.execute("SELECT count(*) FROM pg_stat_activity WHERE pid = pg_backend_pid()"
                                  " AND backend_type = 'client backend'").fetchone() == (1,)


def test_logical_slot(proxy: Proxy) -> None:
    dsn = f"host={proxy.host} port={proxy.port} user=app dbname=app replication=database"
    answer = run("psql", "-XAtq", "-c", "CREATE_REPLICATION_SLOT here TEMPORARY PHYSICAL", dsn)
    assert answer.startswith("here|")


def test_pg_receivewal(proxy: Proxy, cluster: Cluster, scratch) -> None:
    """WAL streams through: CopyBoth, with status messages in both directions."""
    cluster.value("SELECT pg_switch_wal()")
    with cluster.connect("app") as direct:
        direct.execute("CREATE TABLE IF NOT EXISTS wal (t text)")
    begin = subprocess.Popen(
        Installation().command(
            "pg_receivewal", "-D", str(scratch), "-h", proxy.host, "-p", str(proxy.port), "-U", "app", "--no-loop",
            "--synchronous", "--status-interval=1"),
        stderr=subprocess.PIPE, text=True, env=environment(), cwd="/")
    try:
        deadline = time.monotonic() + 20
        while not list(scratch.glob("*")):
            assert begin.poll() is None, begin.stderr.read()
            assert time.monotonic() < deadline, "nothing received"
            with cluster.connect("app") as direct:
                direct.execute("INSERT INTO wal SELECT repeat('x', 1000) FROM generate_series(1, 1000)")
                direct.execute("SELECT pg_switch_wal()")
            time.sleep(0.1)
        assert begin.poll() is None
    finally:
        begin.terminate()
        begin.wait(10)


def test_pg_basebackup(proxy: Proxy, scratch) -> None:
    """Two replication connections at once: the backup, and the WAL beside it."""
    target = scratch / "backup"
    target.mkdir(mode=0o700)
    own(target)
    result = subprocess.run(
        Installation().command(
            "pg_basebackup", "-D", str(target), "-h", proxy.host, "-p", str(proxy.port), "-U", "app",
            "--checkpoint=fast", "--wal-method=stream", "--no-sync"),
        capture_output=True, text=True, timeout=90, env=environment(), cwd="/")
    assert result.returncode == 0, result.stderr
    assert (target / "PG_VERSION").exists()
    assert (target / "backup_manifest").exists()


# Room for its own connection

def replicating(proxy: Proxy, database: str) -> Connection:
    connection = Connection(proxy.host, proxy.port)
    connection.send(startup({"user": "app", "database": database, "replication": "database"}))
    assert connection.read().type == "R"
    return connection


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("what", ["idle", "busy", "session"])
def test_replication_client_waits_for_room(
        start_proxy: Callable[..., Proxy], cluster: Cluster, database: str, what: str, threads: int) -> None:
    """In a full pool it waits; an idle connection is closed for it, and so is one that becomes free."""
    proxy = start_proxy(threads=threads, settings={
        "default_pool_size": 1, "pool_mode": "session" if what == "session" else "transaction"})
    holder = Connection(proxy.host, proxy.port).login(database=database)
    holder.simple("SELECT 1" if what == "idle" else "BEGIN")
    if what == "idle":
        proxy.wait_pool(lambda pool: pool["sv_idle"] == 1, "it is idle", database)
    with BackendSampler(cluster, database) as sampler, replicating(proxy, database) as client:
        if what != "idle":
            proxy.wait_pool(lambda pool: pool["cl_waiting"] == 1, "it waits", database)
            holder.simple("COMMIT")
            if what == "session":
                assert client.silent(0.3)
                holder.send(b"X\0\0\0\4")
        client.authenticate("app", "")
        assert client.ask(query("IDENTIFY_SYSTEM"))
    assert sampler.highest <= 2  # One may be seen while it is on its way out.
    holder.socket.close()


def test_replication_clients_take_turns(start_proxy: Callable[..., Proxy], database: str) -> None:
    """In the order of their arrival; one that has left is forgotten; others are served meanwhile and afterwards."""
    proxy = start_proxy(threads=1, settings={"default_pool_size": 2})
    with proxy.connect(database) as other:
        other.execute("SELECT 1")
        first, second = replicating(proxy, database), None
        first.authenticate("app", "")
        second = replicating(proxy, database)
        second.authenticate("app", "")
        waiting = []
        for number in range(3):
            waiting.append(replicating(proxy, database))
            proxy.wait_pool(lambda pool: pool["cl_waiting"] == number + 1, "it waits", database)
        waiting[0].socket.close()
        proxy.wait_pool(lambda pool: pool["cl_waiting"] == 2, "one has left", database)
        first.socket.close()
        waiting[1].authenticate("app", "")
        assert waiting[2].silent(0.2)
        second.socket.close()
        waiting[2].authenticate("app", "")
        for each in waiting[1:]:
            each.socket.close()
        assert other.execute("SELECT 1").fetchone() == (1,)


def test_replication_client_in_a_busy_pool(start_proxy: Callable[..., Proxy], database: str) -> None:
    """A queue of others that never ends does not keep it out for ever."""
    proxy = start_proxy(settings={"default_pool_size": 2}, threads=2)
    stop = threading.Event()

    def work() -> None:
        with proxy.connect(database) as connection:
            while not stop.is_set():
                connection.execute("SELECT pg_sleep(0.005)")

    busy = [Background(work) for _ in range(6)]
    proxy.wait_pool(lambda pool: pool["cl_waiting"] >= 2, "it is busy", database)
    try:
        with replicating(proxy, database) as client:
            client.authenticate("app", "")
            assert client.ask(query("IDENTIFY_SYSTEM"))
    finally:
        stop.set()
    for each in busy:
        each.result()
