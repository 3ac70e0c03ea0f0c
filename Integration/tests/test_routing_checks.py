"""The checks of routed databases: what a refused login says, and how many connections and threads they take."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from common import wait_until
from replicated import ReplicatedCluster
from routing import Routed

pytestmark = [pytest.mark.one_loop, pytest.mark.martlet("routing")]

SCHEMA = "CREATE TABLE written (n int);"
CHECKS = {"check_user": "scram_user", "check_password": "scram-secret"}


def close_checks(cluster: ReplicatedCluster) -> None:
    """All connections of the checks have to be made anew."""
    for node in cluster.nodes.values():
        node.value("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'martlet'")


def checks(cluster: ReplicatedCluster) -> dict[str, int]:
    """Connections of the checks and of those who read catalogues, by server."""
    return {name: node.value("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'martlet'")
            for name, node in cluster.nodes.items()}


def errors(route: Routed) -> dict[str, str]:
    return {route.cluster.name_of(int(row["port"])): row["error"] for row in route.proxy.show("NODES")}


# What somebody may do to the role or the database of the checks; how it is undone; what the server says.
REFUSALS = {
    "password": ("ALTER ROLE scram_user PASSWORD 'x'", "ALTER ROLE scram_user PASSWORD 'scram-secret'", "28P01"),
    "no login": ("ALTER ROLE scram_user NOLOGIN", "ALTER ROLE scram_user LOGIN", "28000"),
    "role is gone": ("ALTER ROLE scram_user RENAME TO x", "ALTER ROLE x RENAME TO scram_user", "28P01"),
    "too many": ("ALTER ROLE scram_user CONNECTION LIMIT 0", "ALTER ROLE scram_user CONNECTION LIMIT -1", "53300"),
    "no database": (
        "ALTER DATABASE app2 ALLOW_CONNECTIONS false;"
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'app2';"
        "ALTER DATABASE app2 RENAME TO app3",
        "ALTER DATABASE app3 RENAME TO app2;ALTER DATABASE app2 ALLOW_CONNECTIONS true", "3D000"),
    "no connect": ("REVOKE CONNECT ON DATABASE app2 FROM public", "GRANT CONNECT ON DATABASE app2 TO public", "42501"),
    "closed": ("ALTER DATABASE app2 ALLOW_CONNECTIONS false", "ALTER DATABASE app2 ALLOW_CONNECTIONS true", "55000"),
    "question": ("REVOKE EXECUTE ON FUNCTION pg_postmaster_start_time() FROM public",
                 "GRANT EXECUTE ON FUNCTION pg_postmaster_start_time() TO public", "42501"),
}


def run(cluster: ReplicatedCluster, statements: str, dbname: str = "app2") -> None:
    with cluster.primary.connect(dbname) as connection:
        for statement in statements.split(";"):
            connection.execute(statement)
    cluster.wait_caught_up()


def test_a_refused_check_is_no_dead_server(
    routed: Callable[..., Routed], own_replicas: Callable[..., ReplicatedCluster]
) -> None:
    """The healthy primary and the replica go on, for all reasons that a server may have to refuse a login."""
    cluster = own_replicas(1)
    route = routed(
        cluster, schema=SCHEMA, check_dbname="app2", max_replica_lag="1s", failover_wait="100ms", **CHECKS)
    written = 0
    for what, (refuse, allow, state) in REFUSALS.items():
        told = route.proxy.log_text().count(f"({state}). It lives")
        run(cluster, refuse, "app2" if what == "question" else "postgres")
        close_checks(cluster)
        wait_until(lambda state=state: all(f"({state})" in error for error in errors(route).values()),
                   f"{what}: the checks are refused")
        with route.connect() as client:
            begin = time.monotonic()
            while time.monotonic() - begin < 0.7:
                written += 1
                client.execute("INSERT INTO written VALUES (%s)", (written,))
                assert route.roles() == {"primary": "primary", "replica1": "replica"}
                assert route.states()["primary"] == "up"
            if what == "password":
                # How late the replica is nobody knows any more.
                wait_until(lambda: route.states()["replica1"] == "lagging", "the replica takes no reads")
        assert route.proxy.log_text().count(f"({state}). It lives") - told == 2, "one warning for each server"
        run(cluster, allow, "app2" if what == "question" else "postgres")
        wait_until(lambda: set(errors(route).values()) == {""}, f"{what}: it is over")
        with route.connect() as client:
            route.wait_replica(client)
            assert client.execute("SELECT count(*) FROM written").fetchone() == (written,)
    # One that is dead indeed is down, whatever the checks were told before.
    run(cluster, REFUSALS["password"][0], "postgres")
    close_checks(cluster)
    wait_until(lambda: all(errors(route).values()), "the checks are refused")
    cluster.kill("primary")
    wait_until(lambda: route.states()["primary"] == "down", "it is known to be dead")
    with route.connect() as client, pytest.raises(psycopg.OperationalError):
        client.execute("INSERT INTO written VALUES (0)")


def test_a_primary_promoted_while_the_checks_are_refused(
    routed: Callable[..., Routed], own_replicas: Callable[..., ReplicatedCluster]
) -> None:
    """A role that goes on is fenced like any other."""
    cluster = own_replicas(1)
    route = routed(cluster, schema=SCHEMA, check_dbname="app2", failover_wait="10s", **CHECKS)
    cluster.cut("replica1")
    run_on_primary = cluster.primary.connect("postgres")
    with run_on_primary as connection:
        connection.execute(REFUSALS["password"][0])
    close_checks(cluster)
    wait_until(lambda: errors(route)["primary"], "the primary's check is refused")
    cluster.promote("replica1", follow=False)
    wait_until(lambda: route.roles() == {"primary": "fenced", "replica1": "primary"}, "the old one is fenced")
    with route.connect() as client, route.direct("primary") as old, route.direct("replica1") as new:
        client.execute("INSERT INTO written VALUES (1)")
        assert old.execute("SELECT count(*) FROM written").fetchone() == (0,)
        assert new.execute("SELECT count(*) FROM written").fetchone() == (1,)


def test_wrong_logins_of_checks_are_refused_by_reload_and_set(
    routed: Callable[..., Routed], own_replicas: Callable[..., ReplicatedCluster]
) -> None:
    cluster = own_replicas(1)
    route = routed(
        cluster, schema=SCHEMA, check_dbname=None, check_user=None,
        settings={"check_dbname": "app2", "failover_wait": "100ms"} | CHECKS)
    proxy = route.proxy

    def reload(**changes: object) -> None:
        proxy.settings |= changes
        proxy.write_configuration()
        with proxy.console() as console:
            console.execute("RELOAD")

    for wrong, state in [({"check_password": "wrong"}, "28P01"), ({"check_user": "nobody"}, "28000"),
                         ({"check_dbname": "nowhere"}, "3D000")]:
        before = dict(proxy.settings)
        with pytest.raises(psycopg.Error) as caught:
            reload(default_pool_size=7, **wrong)
        assert "check_password" in str(caught.value) and state in str(caught.value), caught.value
        assert proxy.setting("default_pool_size") == "10", "all or nothing"
        (name, value), = wrong.items()
        with proxy.console() as console, pytest.raises(psycopg.Error) as caught:
            console.execute(f"SET {name} = '{value}'")
        assert state in str(caught.value)
        proxy.settings = before
        # Nor has a check been made with it.
        close_checks(cluster)
        with route.connect() as client:
            wait_until(lambda: set(route.states().values()) == {"up"}, "all are up")
            client.execute("INSERT INTO written VALUES (1)")
            route.wait_replica(client)
    # The right one is taken over, the connections of before are replaced, and nothing stops meanwhile.
    run(cluster, "ALTER ROLE scram_user PASSWORD 'new'", "postgres")
    reload(check_password="new")
    close_checks(cluster)
    with route.connect() as client:
        client.execute("INSERT INTO written VALUES (1)")
        route.wait_replica(client)
        reload(check_user="scram_other", check_password="other-secret")
        wait_until(
            lambda: all(node.value("SELECT count(*) FROM pg_stat_activity WHERE usename = 'scram_user'") == 0
                        for node in cluster.nodes.values()), "the checks are the other role's")
        assert set(errors(route).values()) == {""} and "primary" in route.roles().values()
    assert "refuses" not in proxy.log_text().split("check_user changed")[-1]


# Few for many


@contextmanager
def open_transaction(route: Routed) -> Iterator[psycopg.Connection]:
    with route.connect(autocommit=False) as connection:
        connection.execute("INSERT INTO written VALUES (1)")
        yield connection
        connection.commit()


def server_connections(route: Routed, name: str) -> set[int]:
    return {pid for pid, in route.cluster.nodes[name].connect("postgres").execute(
        "SELECT pid FROM pg_stat_activity WHERE datname = %s AND application_name <> 'martlet'", (route.database,))}


def test_a_replica_that_a_reload_adds_closes_no_connection(
    routed: Callable[..., Routed], replicas: ReplicatedCluster
) -> None:
    """Added, moved in the list and taken away: what leads to the others stays, and no role is looked for anew."""
    route = routed(schema=SCHEMA, load_balance="round_robin")
    nodes = replicas.nodes

    def list_servers(*names: str, **keys: object) -> None:
        route.proxy.databases["app"] = replicas.entry(
            dbname=route.database, check_dbname="postgres", max_replica_lag="1h",
            host=",".join(nodes[name].host for name in names), port=",".join(str(nodes[name].port) for name in names),
            **keys)
        route.proxy.write_configuration()
        with route.proxy.console() as console:
            console.execute("RELOAD")
        wait_until(lambda: set(route.roles()) == set(names), f"the nodes are {names}")

    list_servers("primary", "replica1", load_balance="round_robin")
    assert set(route.spread(10)) == {"replica1"}
    with open_transaction(route):
        route.spread(10)
    before = {name: server_connections(route, name) for name in ("primary", "replica1")}
    assert all(before.values())
    with open_transaction(route):
        for names in (("primary", "replica1", "replica2"), ("replica2", "replica1", "primary"), ("primary", "replica1"),
                      ("primary", "replica1", "replica2")):
            list_servers(*names, load_balance="round_robin")
            assert route.roles()["primary"] == "primary", "known all the time"
            with route.connect() as client:
                client.execute("INSERT INTO written VALUES (2)")
        wait_until(lambda: set(route.spread(10)) == {"replica1", "replica2"}, "the new one takes reads")
    for name, pids in before.items():
        assert pids <= server_connections(route, name), f"the connections to {name} are the same"
    assert "primary is now" not in route.proxy.log_text().split("RELOAD")[-1]
    # Weights go with the hosts, wherever they stand.
    list_servers("replica1", "primary", "replica2", weights="0,1,5", load_balance="round_robin")
    wait_until(lambda: set(route.spread(10)) == {"replica2"}, "the weights are taken over")
    rows = {row["port"]: row["weight"] for row in route.proxy.show("NODES")}
    assert {replicas.name_of(int(port)): int(weight) for port, weight in rows.items()} == {
        "replica1": 0, "primary": 1, "replica2": 5}


def threads(pid: int) -> Counter[str]:
    found: Counter[str] = Counter()
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            found[(task / "comm").read_text().strip()] += 1
        except OSError:
            pass  # It has ended.
    return found


def test_many_databases_on_the_same_servers_share_their_checks(
    routed: Callable[..., Routed], replicas: ReplicatedCluster
) -> None:
    """Threads and connections are those of the servers, not of the databases; catalogues are each database's own."""
    count = 60
    route = routed(schema=SCHEMA, check_dbname=None, settings={"check_interval": "1s"}, others={
        # Half of them, the first by name, lead to databases that are not there: the checks find one that is.
        ("a" if number < count // 2 else "other") + f"{number:02}":
        {"dbname": "app2" if number >= count // 2 else None, "check_dbname": None} for number in range(count)})
    most = Counter(checks(replicas))

    def watched() -> bool:
        most.update({name: 0 for name in replicas.nodes})
        for name, number in checks(replicas).items():
            most[name] = max(most[name], number)
        return len(route.proxy.show("NODES")) == 3 * (count + 1)

    wait_until(watched, "all are watched")
    begin = time.monotonic()
    while time.monotonic() - begin < 2:
        watched()
    assert all(number <= 1 + 4 for number in most.values()), most
    found = threads(route.proxy.pid)
    assert found["martlet-node"] == 3 and found["martlet-catalog"] <= 4, found
    # What one database has, another has not.
    for name in ("app", "other31"):
        with route.connect(name) as client:
            client.execute("SELECT 1")
    assert route.explain("SELECT is_known()")["class"] == "read"
    assert route.explain("SELECT is_known()", "other31")["class"] == "write"
    # All see the same, and each of its own.
    roles = {(row["database"], row["role"]) for row in route.proxy.show("NODES")}
    assert len(roles) == (count + 1) * 2 and ("a00", "primary") in roles
    # A database with other settings of the checks leaves the others alone.
    route.proxy.databases["other31"] = replicas.entry(dbname="app2", check_interval="300ms")
    route.proxy.write_configuration()
    with route.proxy.console() as console:
        console.execute("RELOAD")
    wait_until(lambda: threads(route.proxy.pid)["martlet-node"] == 6, "it has a monitor of its own")
    wait_until(lambda: route.roles()["primary"] == "primary", "it knows who is primary")
    assert "primary is now" not in route.proxy.log_text().split("check_interval")[-1].split("primary is now", 2)[-1]
