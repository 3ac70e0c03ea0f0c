"""The suite's own cluster: replicas stream."""

from __future__ import annotations

from collections.abc import Callable

from cluster import Cluster
from common import wait_until


def test_replica_streams(own_cluster: Callable[..., Cluster]) -> None:
    primary = own_cluster()
    replica = primary.replica("one")
    with primary.connect("app") as connection:
        connection.execute("CREATE TABLE t AS SELECT 17 AS n")
    assert replica.value("SELECT pg_is_in_recovery()") is True
    wait_until(lambda: replica.value("SELECT to_regclass('t')", dbname="app"), "the table is there")
    assert replica.value("SELECT n FROM t", dbname="app") == 17
