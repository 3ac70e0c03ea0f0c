"""Limits hold, at the server as well as in the proxy's own eyes, and those who wait are served in turn."""

from __future__ import annotations

import time
from collections.abc import Callable

import psycopg
import pytest

from cluster import BackendSampler, Cluster
from common import Background, wait_until
from proxy import Proxy
from rawpg import Connection, query
from test_logins import refusal


def hammer(proxy: Proxy, dbname: str, users: list[str], clients: int, rounds: int = 15) -> None:
    """Many clients, each with short transactions."""

    def one(user: str) -> None:
        with proxy.connect(dbname, user) as connection:
            for number in range(rounds):
                with connection.transaction():
                    assert connection.execute("SELECT %s::int", (number,)).fetchone() == (number,)

    for each in [Background(one, users[number % len(users)]) for number in range(clients)]:
        each.result(60)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_pool_size(start_proxy: Callable[..., Proxy], cluster: Cluster, database: str, threads: int) -> None:
    proxy = start_proxy(settings={"default_pool_size": 4}, threads=threads)
    with BackendSampler(cluster, database) as sampler:
        hammer(proxy, database, ["app"], 40)
    assert 1 <= sampler.highest <= 4


def test_pool_size_of_a_database(start_proxy: Callable[..., Proxy], cluster: Cluster, database: str) -> None:
    proxy = start_proxy(run=False, settings={"default_pool_size": 10})
    proxy.databases = {database: proxy.server(pool_size=2)}
    proxy.start()
    with BackendSampler(cluster, database) as sampler:
        hammer(proxy, database, ["app"], 20)
    assert 1 <= sampler.highest <= 2


def test_pool_size_of_a_user(start_proxy: Callable[..., Proxy], cluster: Cluster, database: str) -> None:
    proxy = start_proxy(settings={"default_pool_size": 10}, users={"trust_user": "pool_size=2"})
    with BackendSampler(cluster, database) as sampler:
        hammer(proxy, database, ["trust_user"], 20)
    assert 1 <= sampler.highest <= 2


def test_max_db_connections(start_proxy: Callable[..., Proxy], cluster: Cluster, database: str) -> None:
    """Two pools of one database share its limit: idle connections of one make room for the other."""
    proxy = start_proxy(run=False, settings={"default_pool_size": 5})
    proxy.databases = {database: proxy.server(max_db_connections=6)}
    proxy.start()
    hammer(proxy, database, ["app"], 5)
    with BackendSampler(cluster, database) as sampler:
        hammer(proxy, database, ["app", "trust_user"], 30)
    # One more may be seen while a closed backend is on its way out.
    assert 1 <= sampler.highest <= 7
    assert {row["name"]: row["current_connections"] for row in proxy.show("DATABASES")}[database] <= 6


def test_idle_connections_are_evicted_for_another_pool(
        start_proxy: Callable[..., Proxy], cluster: Cluster, database: str) -> None:
    proxy = start_proxy(settings={"max_db_connections": 1, "query_wait_timeout": 5})
    with proxy.connect(database, "app") as one, proxy.connect(database, "trust_user") as two:
        for _ in range(3):
            assert one.execute("SELECT current_user").fetchone() == ("app",)
            assert two.execute("SELECT current_user").fetchone() == ("trust_user",)


def test_max_user_connections(start_proxy: Callable[..., Proxy], cluster: Cluster) -> None:
    """One user's pools of two databases share the limit."""
    proxy = start_proxy(settings={"default_pool_size": 5}, users={"trust_user": "max_user_connections=3"})

    def work(dbname: str) -> None:
        hammer(proxy, dbname, ["trust_user"], 10)

    with BackendSampler(cluster, "app", "trust_user") as one, BackendSampler(cluster, "app2", "trust_user") as two:
        for each in [Background(work, "app"), Background(work, "app2")]:
            each.result(60)
    assert one.highest <= 4 and two.highest <= 4
    proxy.wait_pool(lambda pool: pool["sv_active"] == 0, "all done", user="trust_user")
    assert proxy.pool("app", "trust_user")["sv_idle"] + proxy.pool("app2", "trust_user")["sv_idle"] <= 3


def test_max_client_conn(start_proxy: Callable[..., Proxy]) -> None:
    proxy = start_proxy(settings={"max_client_conn": 20})
    clients = [proxy.connect() for _ in range(20)]
    refused = refusal(proxy)
    assert refused["S"] == "FATAL"
    assert refused["C"] == ("53300" if proxy.is_martlet else "08P01")
    assert "no more connections allowed (max_client_conn)" in refused["M"]
    # The console is let in, so that somebody can look what is going on.
    assert proxy.pool()["cl_active"] == 20
    clients.pop().close()
    proxy.wait_pool(lambda pool: pool["cl_active"] == 19, "one has left")
    clients.append(proxy.connect())
    for client in clients:
        client.close()


@pytest.mark.parametrize("where", ["general", "database", "user"])
def test_client_limits(start_proxy: Callable[..., Proxy], where: str) -> None:
    """max_db_client_connections and max_user_client_connections."""
    proxy = start_proxy(run=False)
    if where == "general":
        proxy.settings["max_db_client_connections"] = 3
    elif where == "database":
        proxy.databases = {"app": proxy.server(max_db_client_connections=3), "app2": proxy.server()}
    else:
        proxy.users = {"app": "max_user_client_connections=3"}
    proxy.start()
    clients = [proxy.connect() for _ in range(3)]
    assert "client connections exceeded" in refusal(proxy)["M"]
    if where == "database":
        proxy.connect("app2").close()
    if where == "user":
        proxy.connect(user="trust_user").close()
    for client in clients:
        client.close()


def test_reserve_pool(start_proxy: Callable[..., Proxy], cluster: Cluster, database: str) -> None:
    """Beyond pool_size, but only for one who has waited reserve_pool_timeout."""
    proxy = start_proxy(settings={
        "default_pool_size": 2, "reserve_pool_size": 1, "reserve_pool_timeout": 0.7, "query_wait_timeout": 20})
    holders = [proxy.connect(database) for _ in range(2)]
    for holder in holders:
        holder.execute("BEGIN")
    with proxy.connect(database) as third, proxy.connect(database) as fourth:
        begin = time.monotonic()
        third.execute("BEGIN")
        assert 0.6 <= time.monotonic() - begin <= 4
        waiting = Background(fourth.execute, "SELECT 1")
        proxy.wait_pool(lambda pool: pool["cl_waiting"] == 1, "the fourth waits", database)
        time.sleep(1)  # More than reserve_pool_timeout: the reserve is used up.
        assert not waiting.done
        assert len(cluster.backends(database)) == 3
        holders[0].execute("COMMIT")
        waiting.result(10)
        third.execute("COMMIT")
    for holder in holders:
        holder.close()


def test_min_pool_size(start_proxy: Callable[..., Proxy], cluster: Cluster, database: str) -> None:
    proxy = start_proxy(settings={"default_pool_size": 6, "min_pool_size": 4})
    with proxy.connect(database) as connection:
        connection.execute("SELECT 1")
        proxy.wait_pool(
            lambda pool: pool["sv_idle"] + pool["sv_used"] + pool["sv_active"] + pool["sv_tested"] >= 4,
            "filled up to min_pool_size", database)
        assert len(cluster.backends(database)) == 4


def test_min_pool_size_of_a_database_with_a_forced_user(
        start_proxy: Callable[..., Proxy], cluster: Cluster, database: str) -> None:
    """There the user is known, so the pool is filled before the first client comes."""
    proxy = start_proxy(run=False)
    proxy.databases = {database: proxy.server(user="app", min_pool_size=3)}
    proxy.start()
    wait_until(lambda: len(cluster.backends(database)) == 3, "three connections without a client")


@pytest.mark.parametrize("threads", [1, 2])
def test_waiting_clients_are_served_in_turn(start_proxy: Callable[..., Proxy], database: str, threads: int) -> None:
    """First come, first served; across reactors roughly."""
    proxy = start_proxy(settings={"default_pool_size": 1}, threads=threads)
    holder = proxy.connect(database)
    holder.execute("BEGIN")
    clients = [Connection(proxy.host, proxy.port).login(database=database) for _ in range(20)]
    for number, client in enumerate(clients):
        client.send(query("SELECT clock_timestamp()::text"))
        proxy.wait_pool(lambda pool, n=number: pool["cl_waiting"] == n + 1, f"{number + 1} wait", database)
    holder.execute("COMMIT")
    times = [next(each.values()[0] for each in client.read_until("Z") if each.type == "D") for client in clients]
    if threads == 1 or not proxy.is_martlet:
        assert times == sorted(times)
    else:
        order = sorted(range(20), key=lambda index: times[index])
        assert all(abs(place - index) <= 12 for place, index in enumerate(order)), order
    for client in clients:
        client.socket.close()
    holder.close()


def test_nobody_starves(start_proxy: Callable[..., Proxy], database: str) -> None:
    """Sixty clients that ask without a pause over one server: the slowest gets a fair share."""
    proxy = start_proxy(settings={"default_pool_size": 1})
    end = time.monotonic() + 3

    def one() -> int:
        done = 0
        with proxy.connect(database) as connection:
            while time.monotonic() < end:
                connection.execute("SELECT 1")
                done += 1
        return done

    counts = [each.result(30) for each in [Background(one) for _ in range(60)]]
    assert min(counts) * 4 >= sum(counts) / len(counts), sorted(counts)


def test_cold_pool_warms_quickly(start_proxy: Callable[..., Proxy], cluster: Cluster, database: str) -> None:
    proxy = start_proxy(settings={"default_pool_size": 20})
    clients = [proxy.connect(database) for _ in range(20)]
    begin = time.monotonic()
    for each in [Background(client.execute, "SELECT pg_sleep(1)") for client in clients]:
        each.result(20)
    assert time.monotonic() - begin < 4
    assert len(cluster.backends(database)) == 20
    for client in clients:
        client.close()


def is_let_in(proxy: Proxy, database: str) -> bool:
    try:
        proxy.connect(database).close()
        return True
    except psycopg.OperationalError:
        return False


@pytest.mark.parametrize("key", ["default_pool_size", "max_client_conn"])
def test_limits_can_be_changed_while_it_runs(start_proxy: Callable[..., Proxy], database: str, key: str) -> None:
    proxy = start_proxy(settings={key: 1, "query_wait_timeout": 20})
    if key == "default_pool_size":
        with proxy.connect(database) as one, proxy.connect(database) as two:
            one.execute("BEGIN")
            waiting = Background(two.execute, "SELECT 1")
            proxy.wait_pool(lambda pool: pool["cl_waiting"] == 1, "the second waits", database)
            proxy.command("SET default_pool_size = 2")
            waiting.result(5)
            one.execute("COMMIT")
    else:
        with proxy.connect(database):
            refusal(proxy, database=database)
            proxy.command("SET max_client_conn = 2")
            # The console's own connection counts until its thread has seen its end.
            wait_until(lambda: is_let_in(proxy, database), "a second one is let in")


def test_server_is_out_of_connections(
        start_proxy: Callable[..., Proxy], own_cluster: Callable[..., Cluster]) -> None:
    """The server's own limit is below the pool's: clients share what there is instead of failing."""
    cluster = own_cluster(max_connections=10)
    proxy = start_proxy(cluster, settings={"default_pool_size": 20, "query_wait_timeout": 20})
    hammer(proxy, "app", ["app"], 4)

    def one() -> bool:
        try:
            with proxy.connect("app") as connection:
                for _ in range(5):
                    connection.execute("SELECT pg_sleep(0.05)")
            return True
        except psycopg.OperationalError:
            return False

    results = [each.result(60) for each in [Background(one) for _ in range(30)]]
    assert any(results)
    if proxy.is_martlet:
        assert all(results)
