"""pgbench with many more clients than server connections: no error, and the server never sees more than the pool."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable

import pytest

from cluster import BackendSampler, Cluster
from common import environment, wait_until
from proxy import Proxy

SCRIPTS = ["tpcb-like", "simple-update", "select-only"]
PROTOCOLS = ["simple", "extended", "prepared"]

# A blocking PQprepare in each client and clients that hold transactions, in one thread: PgBouncer never gets out of it.
HANGS_PGBOUNCER = [("tpcb-like", "prepared"), ("simple-update", "prepared")]


def pgbench(host: str, port: int, *arguments: str, timeout: float = 100) -> str:
    result = subprocess.run(
        ["pgbench", "-h", host, "-p", str(port), "-U", "app", *arguments],
        capture_output=True, text=True, timeout=timeout, env=environment())
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout + result.stderr


def initialise(cluster: Cluster, database: str, scale: int = 1) -> None:
    pgbench(cluster.host, cluster.port, "-i", "-s", str(scale), "-q", database)
    wait_until(lambda: not cluster.backends(database), "its own connection is gone")


def matrix(scripts: list[str], protocols: list[str]) -> list:
    return [
        pytest.param(script, protocol, id=f"{script}-{protocol}", marks=[
            pytest.mark.martlet("PgBouncer hangs: Parse needs a server there")
        ] if (script, protocol) in HANGS_PGBOUNCER else [])
        for script in scripts for protocol in protocols]


def run_matrix(proxy: Proxy, cluster: Cluster, database: str, script: str, protocol: str, clients: int,
               *length: str, timeout: float) -> None:
    initialise(cluster, database, 2)
    with BackendSampler(cluster, database) as sampler:
        output = pgbench(
            proxy.host, proxy.port, "-n", "-b", script, "-M", protocol, "-c", str(clients), "-j", "2", *length,
            database, timeout=timeout)
    done = re.search(r"number of transactions actually processed: (\d+)(?:/(\d+))?", output)
    assert done and int(done[1]) > 0 and (done[2] is None or done[1] == done[2]), output
    assert re.search(r"number of failed transactions: 0 ", output), output
    assert "error" not in output.lower() and "abort" not in output.lower(), output
    assert 1 <= sampler.highest <= 10, f"the server saw {sampler.highest} connections in {sampler.samples} samples"
    tables = cluster.rows("SELECT sum(abalance) FROM pgbench_accounts", dbname=database)
    if script == "tpcb-like":
        assert tables == cluster.rows("SELECT sum(delta) FROM pgbench_history", dbname=database)


@pytest.mark.parametrize("script,protocol", matrix(SCRIPTS, PROTOCOLS))
def test_pgbench(
        start_proxy: Callable[..., Proxy], cluster: Cluster, database: str, script: str, protocol: str) -> None:
    proxy = start_proxy(settings={"default_pool_size": 10})
    run_matrix(proxy, cluster, database, script, protocol, 60, "-t", "20", timeout=60)


@pytest.mark.long
@pytest.mark.parametrize("script,protocol", matrix(SCRIPTS, PROTOCOLS))
def test_pgbench_200_clients(
        start_proxy: Callable[..., Proxy], cluster: Cluster, database: str, script: str, protocol: str) -> None:
    proxy = start_proxy(settings={"default_pool_size": 10})
    run_matrix(proxy, cluster, database, script, protocol, 200, "-T", "15", timeout=120)


def test_pgbench_reconnecting(start_proxy: Callable[..., Proxy], cluster: Cluster, database: str) -> None:
    """A new client connection for each transaction (-C) reuses the same few server connections."""
    proxy = start_proxy(settings={"default_pool_size": 5})
    initialise(cluster, database)
    with BackendSampler(cluster, database) as sampler:
        output = pgbench(proxy.host, proxy.port, "-n", "-S", "-C", "-c", "10", "-j", "2", "-t", "50", database)
    assert "number of transactions actually processed: 500/500" in output
    assert len(sampler.pids) <= 5


def test_pgbench_in_session_mode(start_proxy: Callable[..., Proxy], cluster: Cluster, database: str) -> None:
    """Thirty clients over five servers, one after the other: a session ends, the next begins."""
    proxy = start_proxy(settings={"default_pool_size": 5, "pool_mode": "session"})
    initialise(cluster, database)
    with BackendSampler(cluster, database) as sampler:
        output = pgbench(proxy.host, proxy.port, "-n", "-S", "-C", "-c", "30", "-j", "2", "-t", "10", database)
    assert "number of transactions actually processed: 300/300" in output
    assert sampler.highest <= 5


def test_pgbench_pipeline(start_proxy: Callable[..., Proxy], cluster: Cluster, database: str, scratch) -> None:
    script = scratch / "pipeline.sql"
    script.write_text(
        "\\set a random(1, 100000)\n\\startpipeline\nBEGIN;\nUPDATE pgbench_accounts SET abalance = 1 WHERE aid = :a;\n"
        "SELECT abalance FROM pgbench_accounts WHERE aid = :a;\nCOMMIT;\n\\endpipeline\n")
    proxy = start_proxy(settings={"default_pool_size": 5})
    initialise(cluster, database)
    output = pgbench(
        proxy.host, proxy.port, "-n", "-M", "extended", "-f", str(script), "-c", "30", "-j", "2", "-t", "20", database)
    assert "number of transactions actually processed: 600/600" in output
