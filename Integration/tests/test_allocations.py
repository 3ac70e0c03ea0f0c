"""Warm, a query costs the proxy no heap allocation: counted, not timed."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable

import pytest

from allocations import Counts, without_sanitizer
from cluster import Cluster
from common import wait_until
from measure import pgbench
from proxy import Proxy
from replicated import ReplicatedCluster
from routing import KNOWN_FUNCTION, REPLICA_READS, Routed

pytestmark = [pytest.mark.martlet("it is Martlet's promise"), without_sanitizer]

CLIENTS = 8
TRANSACTIONS = 250


def run(proxy: Proxy, database: str, protocol: str, transactions: int) -> None:
    """Clients that come, run so many transactions each, and go."""
    done = pgbench(
        proxy.host, proxy.port, database, "-n", "-S", "-M", protocol, "-c", str(CLIENTS), "-j", "1",
        "-t", str(transactions), timeout=50, sslmode="disable")
    assert done.status == 0 and done.transactions == CLIENTS * transactions, done.output[-2000:]
    proxy.wait_pool(lambda pool: pool["cl_active"] == 0, "the clients have gone", database)


def per_query(proxy: Proxy, counts: Counts, database: str, protocol: str) -> float:
    """Two runs that differ in their length only: what the coming and going of clients costs falls out.

    The least of some tries: a server connection more in one of them (on a busy machine) is no query's doing.
    """
    run(proxy, database, protocol, 50)
    least = math.inf
    for _ in range(4):
        taken = []
        for transactions in (TRANSACTIONS, 3 * TRANSACTIONS):
            before = counts.on_reactors(proxy)
            run(proxy, database, protocol, transactions)
            taken.append(counts.on_reactors(proxy) - before)
        least = min(least, abs(taken[1] - taken[0]) / (2 * TRANSACTIONS * CLIENTS))
        if least < LITTLE:
            break
    return least


def initialise(cluster: Cluster, database: str) -> None:
    made = pgbench(cluster.host, cluster.port, database, "-i", "-q", "-s", "1")
    assert made.status == 0, made.output[-2000:]


# A few for what comes by the second and not by the query (timers, pools that are looked after, the console).
LITTLE = 0.05


@pytest.mark.parametrize("protocol", ["simple", "extended", "prepared"])
def test_a_query_allocates_nothing(
        counts: Counts, cluster: Cluster, database: str, start_proxy: Callable[..., Proxy], protocol: str) -> None:
    initialise(cluster, database)
    proxy = start_proxy(threads=1, env=counts.environment)
    assert per_query(proxy, counts, database, protocol) < LITTLE


@pytest.mark.parametrize("protocol", ["simple", "extended", "prepared"])
def test_nor_does_a_routed_one(
        counts: Counts, replicas: ReplicatedCluster, start_proxy: Callable[..., Proxy], protocol: str) -> None:
    database = replicas.primary.create_database(f"db_{uuid.uuid4().hex[:10]}")
    initialise(replicas.primary, database)
    with replicas.primary.connect(database) as connection:
        connection.execute(KNOWN_FUNCTION)
    replicas.wait_caught_up()
    proxy = start_proxy(
        replicas.primary, threads=1, env=counts.environment, settings={"check_interval": "200ms"},
        databases={"app": replicas.entry(dbname=database, check_dbname="postgres", max_replica_lag="1h")})
    routed = Routed(replicas, proxy, database)
    routed.wait_known()
    before = routed.routes()[REPLICA_READS]
    assert per_query(proxy, counts, "app", protocol) < LITTLE
    assert routed.routes()[REPLICA_READS] - before >= 4 * TRANSACTIONS * CLIENTS


def test_a_new_connection_is_counted(counts: Counts, cluster: Cluster, start_proxy: Callable[..., Proxy]) -> None:
    """The count can be other than zero."""
    proxy = start_proxy(threads=1, env=counts.environment)
    before = counts.on_reactors(proxy)
    for _ in range(20):
        proxy.connect().close()
    wait_until(lambda: counts.on_reactors(proxy) > before + 20, "logins are counted")
