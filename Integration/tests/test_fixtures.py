"""The suite's own clusters: replicas stream, lag, stand still, and follow a promoted one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from common import wait_until
from replicated import Mistake, ReplicatedCluster

pytestmark = pytest.mark.one_loop


def count(cluster: ReplicatedCluster, name: str) -> object:
    return cluster.nodes[name].value("SELECT count(*) FROM t", dbname="app")


def test_replay_can_be_delayed_paused_and_cut(own_replicas: Callable[..., ReplicatedCluster]) -> None:
    cluster = own_replicas()
    with cluster.primary.connect("app") as connection:
        connection.execute("CREATE TABLE t (n int)")
        cluster.wait_caught_up()
        cluster.lag("replica1", "1min")
        cluster.pause("replica2")
        connection.execute("INSERT INTO t VALUES (1)")
        wait_until(lambda: {node.name: node.behind for node in cluster.status()}["replica2"], "replica2 is behind")
        assert (count(cluster, "replica1"), count(cluster, "replica2")) == (0, 0)
        cluster.lag("replica1", "0")
        cluster.wait_caught_up("replica1")
        assert (count(cluster, "replica1"), count(cluster, "replica2")) == (1, 0)
        cluster.cut("replica1")
        connection.execute("INSERT INTO t VALUES (2)")
        cluster.resume("replica2")
        cluster.wait_caught_up("replica2")
        assert (count(cluster, "replica1"), count(cluster, "replica2")) == (1, 2)
        assert [node.source for node in cluster.status()] == ["", "cut off", "streaming"]
        cluster.settle()
        assert (count(cluster, "replica1"), count(cluster, "replica2")) == (2, 2)


def test_promotion_and_rejoining(own_replicas: Callable[..., ReplicatedCluster]) -> None:
    cluster = own_replicas()
    cluster.kill("primary")
    with pytest.raises(Mistake, match="does not run"):
        cluster.lag("primary", "1s")
    cluster.promote("replica1")
    with cluster.primary.connect("app") as connection:
        connection.execute("CREATE TABLE t AS SELECT 17 AS n")
    cluster.wait_caught_up("replica2")
    assert count(cluster, "replica2") == 1
    cluster.start_node("primary")
    assert [node.role for node in cluster.status()] == ["old primary", "primary", "replica"]
    cluster.rejoin("primary")
    cluster.wait_caught_up()
    assert count(cluster, "primary") == 1


def test_switching_over_to_a_replica_that_has_lost_the_primary(own_replicas: Callable[..., ReplicatedCluster]) -> None:
    """Nothing that was acknowledged is lost."""
    cluster = own_replicas()
    cluster.nodes["replica1"].alter("wal_retrieve_retry_interval", "2s")
    cluster.kill("primary")
    cluster.start_node("primary")
    with cluster.primary.connect("app") as connection:
        connection.execute("CREATE TABLE t AS SELECT 17 AS n")
    cluster.switch_over("replica1")
    assert cluster.primary_name == "replica1"
    cluster.wait_caught_up()
    assert [count(cluster, name) for name in ("replica1", "primary", "replica2")] == [1, 1, 1]


def test_a_frozen_server_does_not_answer(own_replicas: Callable[..., ReplicatedCluster]) -> None:
    cluster = own_replicas(1)
    cluster.freeze("replica1")
    assert [node.role for node in cluster.status()] == ["primary", "does not answer"]
    cluster.thaw("replica1")
    assert [node.role for node in cluster.status()] == ["primary", "replica"]
