"""How late a replica is: what it could have and has not, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from common import wait_until
from replicated import ReplicatedCluster
from routing import Routed

pytestmark = pytest.mark.martlet("routing")


def lags(route: Routed) -> dict[str, int | None]:
    """Microseconds by server, from SHOW NODES."""
    return {route.cluster.name_of(int(row["port"])): row["lag_us"] and int(row["lag_us"])
            for row in route.proxy.show("NODES") if row["role"] == "replica"}


@pytest.mark.parametrize("limit", [{"max_replica_lag": "1s"}, {"max_replica_lag_bytes": "100", "max_replica_lag": "0"}])
def test_an_open_transaction_on_a_quiet_primary_is_no_lag(
    routed: Callable[..., Routed], replicas: ReplicatedCluster, limit: dict[str, str]
) -> None:
    """What it has written is not flushed before its commit, so no replica can have it."""
    route = routed(schema="CREATE TABLE written (n text)", **limit)
    with route.direct() as writer:
        writer.execute("BEGIN")

        def leaves_it() -> bool:
            writer.execute("INSERT INTO written VALUES (repeat('x', 1000))")
            return writer.execute("SELECT pg_current_wal_insert_lsn() > pg_current_wal_flush_lsn()").fetchone()[0]

        wait_until(leaves_it, "something is not flushed")
        begin = time.monotonic()
        while time.monotonic() - begin < 3:
            assert set(route.spread(4)) <= set(replicas.replicas), "reads stay on the replicas"
            assert all((lag or 0) < 1_000_000 for lag in lags(route).values()), lags(route)
        writer.execute("COMMIT")
    # One that is late indeed still is.
    replicas.pause("replica1")
    with route.direct() as writer:
        writer.execute("INSERT INTO written VALUES (repeat('x', 1000))")
    wait_until(lambda: route.states()["replica1"] == "lagging", "replica1 is out")
    wait_until(lambda: set(route.spread(5)) == {"replica2"}, "replica2 is not")
    replicas.resume("replica1")
    wait_until(lambda: route.states()["replica1"] == "up", "replica1 is back")
