"""What is known of a cluster belongs to the process: a reload and, with a state file, a restart keep an old primary fenced."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from common import wait_until
from proxy import Proxy
from replicated import ReplicatedCluster
from routing import Routed

pytestmark = [pytest.mark.one_loop, pytest.mark.martlet("routing")]

SCHEMA = "CREATE TABLE written (n int);"


def entry(cluster: ReplicatedCluster, names: list[str], database: str, host: str = "127.0.0.1", **keys: object) -> str:
    """A value for [databases] with only these servers."""
    ports = ",".join(str(cluster.nodes[name].port) for name in names)
    pairs = {
        "host": ",".join([host] * len(names)), "port": ports, "dbname": database, "routing": "split",
        "check_user": "postgres", "check_dbname": "postgres", "max_replica_lag": "1h", "failover_wait": "300ms",
    } | keys
    return " ".join(f"{key}={value}" for key, value in pairs.items() if value is not None)


def old_and_new(routed: Callable[..., Routed], cluster: ReplicatedCluster, **settings: object) -> Routed:
    """replica1 is promoted beside the old primary, which is fenced; then it is gone, and replica2 has nothing to follow."""
    route = routed(cluster, schema=SCHEMA, failover_wait="300ms", settings=settings)
    cluster.promote("replica1", follow=False)
    wait_until(lambda: route.roles()["primary"] == "fenced", "the old primary is fenced")
    cluster.kill("replica1")
    wait_until(lambda: route.states()["replica1"] == "down", "the new one is down")
    return route


def reload(proxy: Proxy) -> None:
    proxy.write_configuration()
    with proxy.console() as console:
        console.execute("RELOAD")


def never_writes(route: Routed) -> None:
    """A write fails for want of a primary, and nothing has reached the old one, which every client would have found."""
    with route.connect() as client:
        with pytest.raises(psycopg.OperationalError) as caught:
            client.execute("INSERT INTO written VALUES (1)")
        assert caught.value.sqlstate == "57P03", caught.value
    with route.direct("primary") as old:
        assert old.execute("SELECT count(*) FROM written").fetchone() == (0,)


# Each is a change of the entry or of the general settings that a monitor had been made anew for.
CHANGES = {
    "removed": {"names": ["primary", "replica1"]},
    "removed, and the promoted one": {"names": ["primary", "replica2"]},
    "alone": {"names": ["primary"]},
    "reordered": {"names": ["replica2", "primary", "replica1"]},
    "renamed": {"host": "localhost"},
    "check_interval": {"check_interval": "300ms"},
    "check_timeout": {"check_timeout": "3s"},
    "check_dbname": {"check_dbname": "app"},
    "check_dbname by default": {"check_dbname": None},
    "check_user": {"check_user": "app"},
    "max_replica_lag": {"max_replica_lag": "2h"},
    "max_replica_lag_bytes": {"max_replica_lag_bytes": "1000000000"},
    "sslmode": {"sslmode": "disable"},
    "weights": {"weights": "1,2,3"},
    "routing": {"routing": "primary"},
    "general": {"general": {"sample_interval": "50ms", "check_interval": "250ms"}},
}


def test_a_reload_does_not_forget_who_was_fenced(
    routed: Callable[..., Routed], own_replicas: Callable[..., ReplicatedCluster]
) -> None:
    cluster = own_replicas()
    route = old_and_new(routed, cluster)
    names = list(cluster.nodes)
    for what, change in CHANGES.items():
        change = dict(change)
        route.proxy.settings |= change.pop("general", {})  # type: ignore[operator]
        listed = change.pop("names", names)
        route.proxy.databases["app"] = entry(cluster, listed, route.database, **change)  # type: ignore[arg-type]
        reload(route.proxy)
        ports = {str(cluster.nodes[name].port) for name in listed}
        wait_until(
            lambda ports=ports: {str(row["port"]) for row in route.proxy.show("NODES")} == ports, f"{what}: the nodes")
        wait_until(lambda: route.roles()["primary"] == "fenced", f"{what}: still fenced")
        never_writes(route)
    # Added again under another name, when it was not there at all in between.
    del route.proxy.databases["app"]
    reload(route.proxy)
    route.proxy.databases["again"] = entry(cluster, ["primary"], route.database)
    reload(route.proxy)
    with route.connect("again") as client, pytest.raises(psycopg.OperationalError):
        client.execute("INSERT INTO written VALUES (1)")
    route.proxy.databases["app"] = entry(cluster, names, route.database)
    reload(route.proxy)
    never_writes(route)
    assert "primary is now" not in route.proxy.log_text().split("is fenced")[-1]
    # The new primary is back, and takes writes.
    cluster.start_node("replica1")
    with route.connect() as client:
        wait_until(lambda: route.roles()["replica1"] == "primary", "the new primary is known")
        client.execute("INSERT INTO written VALUES (2)")
    # When it is gone for good, somebody may say so.
    cluster.kill("replica1")
    with route.proxy.console() as console:
        console.execute("FORGET app")
    wait_until(lambda: route.roles()["primary"] == "primary", "the old one is the primary")
    with route.connect() as client:
        client.execute("INSERT INTO written VALUES (3)")


def restart(proxy: Proxy) -> None:
    proxy.signal(signal.SIGTERM)
    proxy.wait_end()
    proxy.process = None
    proxy.expect_end = False
    proxy.log.write_text("")
    proxy.start()


def test_a_restart_with_a_state_file_does_not_forget(
    routed: Callable[..., Routed], own_replicas: Callable[..., ReplicatedCluster], scratch: Path
) -> None:
    cluster = own_replicas()
    state = scratch / "state"
    route = old_and_new(routed, cluster, state_file=state)
    proxy = route.proxy
    wait_until(lambda: "fenced" in state.read_text(), "it is written")
    whole = state.read_bytes()
    assert state.stat().st_mode & 0o777 == 0o600
    assert not (scratch / "state.new").exists()

    restart(proxy)
    wait_until(lambda: route.roles()["primary"] == "fenced", "fenced from the start")
    never_writes(route)
    # By other names, as long as it is the same server.
    proxy.databases["app"] = entry(cluster, list(cluster.nodes), route.database, host="localhost")
    restart(proxy)
    wait_until(lambda: route.roles()["primary"] == "fenced", "fenced by another name")
    never_writes(route)
    # What cannot be read as a whole is put aside with a warning, and what it says is not believed in part.
    proxy.databases["app"] = entry(cluster, list(cluster.nodes), route.database)
    for damaged in (whole[:-5], whole[:40], whole.replace(b"timeline 2", b"timeline 3"), b"\0" * 100, b"[databases]\n"):
        state.write_bytes(damaged)
        restart(proxy)
        assert (scratch / "state.damaged").read_bytes() == damaged
        assert "state.damaged now" in proxy.log_text()
        wait_until(lambda: route.roles()["primary"] == "primary", "nothing is known")
        assert state.read_bytes() != damaged
    # Nor is there anything without one. An empty one is a new one.
    state.write_bytes(b"")
    restart(proxy)
    assert "state_file" not in proxy.log_text()
    wait_until(lambda: route.roles()["primary"] == "primary", "nothing is known")
    # One of other clusters says nothing about this one.
    state.write_bytes(whole)
    foreign = "".join(
        "cluster 4711 timeline 9\n" if line.startswith("cluster") else f"{line}\n"
        for line in whole.decode().splitlines()[:-1])
    sum_ = 0xCBF29CE484222325
    for byte in foreign.encode():
        sum_ = (sum_ ^ byte) * 0x100000001B3 % 2**64
    state.write_text(f"{foreign}end {sum_:x}\n")
    restart(proxy)
    wait_until(lambda: route.roles()["primary"] == "primary", "another cluster's timelines say nothing")
    wait_until(lambda: "are of another cluster than before" in proxy.log_text(), "it is told")


@pytest.mark.parametrize("place", ["folder", "unreadable", "nowhere"])
def test_a_state_file_that_cannot_be_used_is_an_error(
    start_proxy: Callable[..., Proxy], scratch: Path, place: str
) -> None:
    state = scratch / "state"
    if place == "folder":
        state.mkdir()
    elif place == "unreadable":
        state.write_text("secret")
        state.chmod(0)
    else:
        state = scratch / "missing" / "state"
    proxy = start_proxy(run=False, settings={"state_file": state})
    proxy.start(wait=False)
    assert proxy.wait_end() == 1
    assert f"state_file: cannot {'write' if place == 'nowhere' else 'read'} {state}" in proxy.log_text()
