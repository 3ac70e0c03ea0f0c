"""Replication connections pass through, each with a server connection of its own."""

from __future__ import annotations

import subprocess
import time

import pytest

from cluster import Cluster, Installation
from common import environment, own
from proxy import Proxy


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
