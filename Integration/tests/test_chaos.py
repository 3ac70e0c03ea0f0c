"""Everything at once: clients that do whatever a seed says, while servers die and the console commands.

Each answer carries its client's own token and is compared with what PostgreSQL would have said (`chaos.Client`). At the
end nothing is left over: no client, no server connection in use, no file, no memory.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext

import psycopg
import pytest

from chaos import Client, World
from cluster import Cluster
from common import Background, wait_until
from cutting import cut_on_both_sides
from proxy import Proxy
from rawpg import Closed, Connection

MEGABYTE = 1024 * 1024
USERS = ["app", "trust_user"]
POOL_SIZE, MOST_CONNECTIONS = 5, 8
CLIENTS = 40


class Watch:
    """Looks at the server and the console all the time: limits hold."""

    # A connection that the proxy has closed may be seen for a while yet; one that it holds, for longer.
    PATIENCE = 3.0

    def __init__(self, world: World, cluster: Cluster) -> None:
        self.world, self.cluster = world, cluster
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self) -> None:
        seen: dict[tuple[str, int], float] = {}
        while not self.world.stop.is_set():
            time.sleep(0.1)
            try:
                with self.cluster.connect("postgres") as direct:
                    backends = direct.execute(
                        "SELECT usename, pid FROM pg_stat_activity WHERE datname = %s "
                        "AND backend_type = 'client backend' AND usename <> 'postgres'",
                        (self.world.database,)).fetchall()
            except psycopg.OperationalError:
                seen = {}
                continue
            now = time.monotonic()
            seen = {each: seen.get(each, now) for each in backends}
            old = Counter(user for (user, _), since in seen.items() if now - since > self.PATIENCE)
            if max(old.values(), default=0) > POOL_SIZE or old.total() > MOST_CONNECTIONS:
                self.world.fail(f"too many server connections: {old}")
            try:
                count = self.world.proxy.database(self.world.database)["current_connections"]
            except (psycopg.Error, KeyError):
                continue
            if count > MOST_CONNECTIONS:
                self.world.fail(f"the proxy counts {count} server connections")


class Chaos:
    """What happens to the clients from outside. Without `world.may_lose` only what nobody may notice."""

    def __init__(self, world: World, cluster: Cluster, seed: str) -> None:
        self.world, self.cluster, self.proxy = world, cluster, world.proxy
        self.chance = random.Random(f"{seed}-chaos")
        self.killed = 0
        self.columns = 1
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self) -> None:
        actions: list[tuple[Callable[[], None], int]] = [
            (self.pause, 3), (self.reconnect, 3), (self.reload, 3), (self.look, 3), (self.alter, 3)]
        if self.world.may_lose:
            actions += [(self.terminate, 10), (self.kill_client, 4), (self.disable, 1), (self.kill, 1), (self.crash, 1)]
        while not self.world.stop.is_set():
            time.sleep(self.chance.random() * 0.3)
            action, = self.chance.choices([each for each, _ in actions], [weight for _, weight in actions])
            try:
                action()
                self.world.counts[f"chaos: {action.__name__}"] += 1
            except psycopg.OperationalError:
                # The server is starting up again.
                self.world.counts[f"chaos: {action.__name__} in vain"] += 1
            except (AssertionError, psycopg.Error) as problem:
                self.world.fail(f"chaos: {action.__name__}: {problem!r}")

    def backends(self) -> list[int]:
        return [pid for pid, _, _ in self.cluster.backends(self.world.database)]

    def terminate(self) -> None:
        for pid in self.backends():
            if self.chance.random() < 0.3:
                self.cluster.value("SELECT pg_terminate_backend(%s)", pid)

    def crash(self) -> None:
        """All backends go down with one that is killed, and the server is not there for a moment."""
        if self.killed < 2 and (pids := self.backends()):
            self.killed += 1
            try:
                os.kill(self.chance.choice(pids), signal.SIGKILL)
            except ProcessLookupError:
                pass

    def pause(self) -> None:
        name = self.chance.choice(["", f" {self.world.database}"])
        paused = Background(self.proxy.command, f"PAUSE{name}")
        time.sleep(self.chance.random() * 0.3)
        self.proxy.command(f"RESUME{name}")
        paused.error(20)

    def reconnect(self) -> None:
        self.proxy.command(self.chance.choice(["RECONNECT", f"RECONNECT {self.world.database}"]))

    def reload(self) -> None:
        self.proxy.settings |= {
            "default_pool_size": self.chance.randrange(2, POOL_SIZE + 1),
            "max_db_connections": self.chance.randrange(4, MOST_CONNECTIONS + 1),
            "max_prepared_statements": self.chance.choice([1, 3, 3, 5]),
            "server_check_delay": self.chance.choice([0, 30]),
            "server_lifetime": self.chance.choice([1, 3600]),
            "server_idle_timeout": self.chance.choice([1, 600]),
            "server_reset_query_always": self.chance.choice([0, 0, 1]),
            "server_round_robin": self.chance.choice([0, 1]),
        }
        self.proxy.reload()

    def look(self) -> None:
        for what in ("CLIENTS", "SERVERS", "POOLS", "SOCKETS", "USERS", "LISTS", "STATS", "MEM"):
            self.proxy.show(what)

    def alter(self) -> None:
        with self.cluster.connect(self.world.database) as direct:
            if self.columns == 1:
                direct.execute("ALTER TABLE changing ADD COLUMN IF NOT EXISTS more int")
                self.columns = 2
            else:
                direct.execute("ALTER TABLE changing DROP COLUMN IF EXISTS more")
                self.columns = 1

    def kill_client(self) -> None:
        with self.proxy.console() as console:
            rows = console.execute("SHOW CLIENTS").fetchall()
            numbers = [row["id"] for row in rows if row["database"] == self.world.database]
            for number in self.chance.sample(numbers, min(len(numbers), 2)):
                try:
                    console.execute(f"KILL_CLIENT {number}")
                except psycopg.Error as error:
                    assert "client not found" in str(error)

    def disable(self) -> None:
        self.proxy.command(f"DISABLE {self.world.database}")
        time.sleep(self.chance.random() * 0.2)
        self.proxy.command(f"ENABLE {self.world.database}")

    def kill(self) -> None:
        self.proxy.command(f"KILL {self.world.database}")
        time.sleep(self.chance.random() * 0.1)
        self.proxy.command(f"RESUME {self.world.database}")


def situation(proxy: Proxy) -> str:
    """What the console shows, for a failure."""
    text = ""
    for what in ("POOLS", "DATABASES", "SERVERS", "CLIENTS"):
        try:
            rows = proxy.show(what)
        except (psycopg.Error, AssertionError) as problem:
            return f"{text}\nSHOW {what}: {problem!r}"
        text += f"\nSHOW {what}\n" + "".join(
            "  " + " ".join(f"{key}={value}" for key, value in row.items() if value not in (None, "", 0)) + "\n"
            for row in rows if what != "CLIENTS" or row["state"] != "idle")
    return text + proxy.log_text()[-2000:]


def check_drained(proxy: Proxy, cluster: Cluster, database: str) -> None:
    """Nobody is there: the counts say so, and the server agrees."""
    last: list[object] = []

    def drained() -> bool:
        pools = [row for row in proxy.show("POOLS") if row["database"] == database]
        servers = [row for row in proxy.show("SERVERS") if row["database"] == database]
        shown = proxy.database(database)
        users = {row["name"]: row for row in proxy.show("USERS") if row["name"] in USERS}
        lists = {row["list"]: row["items"] for row in proxy.show("LISTS")}
        idle = Counter({row["user"]: row["sv_idle"] + row["sv_used"] for row in pools})
        busy = {(row["user"], key): value for row in pools for key, value in row.items()
                if key.startswith(("cl_", "sv_")) and key not in ("sv_idle", "sv_used") and value}
        backends = Counter(user for user, in cluster.rows(
            "SELECT usename FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend' "
            "AND usename <> 'postgres'", database))
        last[:] = [pools, servers, shown, users, lists, backends]
        return not busy and all((
            shown["current_connections"] == idle.total() == len(servers) == lists["used_servers"],
            shown["current_client_connections"] == 0,
            lists["used_clients"] == 1,
            lists["login_clients"] == 0,
            all(row["current_connections"] == idle[name] for name, row in users.items()),
            all(row["current_client_connections"] == 0 for row in users.values()),
            +backends == +idle,
        ))

    try:
        wait_until(drained, "nothing is left over", 15)
    except AssertionError:
        raise AssertionError("left over:\n" + "\n".join(str(each) for each in last)) from None


def run_round(proxy: Proxy, cluster: Cluster, database: str, seed: str, seconds: float, chaos: str) -> Counter[str]:
    """Clients at work for so long, and what must hold when they are gone."""
    world = World(proxy, database, USERS, seed, may_lose=chaos == "storm")
    helpers: list[threading.Thread] = [Watch(world, cluster).thread]
    if chaos != "none":
        helpers.append(Chaos(world, cluster, seed).thread)
    clients = [threading.Thread(target=Client(world, number).run, daemon=True) for number in range(CLIENTS)]
    for each in [*clients, *helpers]:
        each.start()
    world.stop.wait(seconds)
    shown = situation(proxy) if world.failures else ""
    world.stop.set()
    for each in [*helpers, *clients]:
        each.join(40)
        if each.is_alive():
            world.fail("a thread does not end")
            shown = shown or situation(proxy)
    if not proxy.alive():
        world.fail(f"the proxy has ended with status {proxy.process.poll() if proxy.process else None}")
    story = f"seed {seed}, chaos {chaos}\n" + "\n".join(world.failures[:3]) + shown
    if world.failures:
        pytest.fail(story, pytrace=False)
    try:
        with Connection(proxy.host, proxy.port, timeout=5).login("app", database) as fresh:
            assert fresh.simple("SELECT 1, current_setting('statement_timeout')") == [[b"1", b"0"]]
        check_drained(proxy, cluster, database)
        assert cluster.value("SELECT count(*) FROM data WHERE owner = 'never'", dbname=database) == 0
        assert proxy.alive()
    except (AssertionError, Closed, OSError) as problem:
        pytest.fail(f"seed {seed}, chaos {chaos}: {problem}\n{situation(proxy)}", pytrace=False)
    with cluster.connect(database) as direct:
        direct.execute("TRUNCATE data")
    return world.counts


def run_chaos(
        start_proxy: Callable[..., Proxy], cluster: Cluster, seed: str, seconds: float, rounds: int,
        chaos: str, cut: bool = False) -> Counter[str]:
    database = "chaos"
    with cluster.connect("postgres") as direct:
        direct.execute("DROP DATABASE IF EXISTS chaos WITH (FORCE)")
    cluster.create_database(database)
    with cluster.connect(database) as direct:
        direct.execute("CREATE TABLE data (owner text, token text, n int); CREATE INDEX ON data (owner)")
        direct.execute("CREATE TABLE changing (one int); INSERT INTO changing VALUES (1)")
        direct.execute("GRANT ALL ON data, changing TO public")
    proxy = start_proxy(behind=cluster, run=False, threads=4, settings={
        "default_pool_size": POOL_SIZE, "max_db_connections": MOST_CONNECTIONS, "max_prepared_statements": 3,
        "cancel_wait_timeout": 5})
    with cut_on_both_sides(proxy, cluster, seed, database) if cut else nullcontext(proxy):
        if not cut:
            proxy.databases = {database: proxy.server()}
            proxy.start()
        return run_rounds(proxy, cluster, database, seed, seconds, rounds, chaos)


def run_rounds(
        proxy: Proxy, cluster: Cluster, database: str, seed: str, seconds: float, rounds: int,
        chaos: str) -> Counter[str]:
    counts: Counter[str] = Counter()
    memory, files = [], []
    for number in range(rounds):
        counts += run_round(proxy, cluster, database, f"{seed}.{number}", seconds, chaos)
        memory.append(proxy.figures.rss())
        files.append(proxy.figures.open_files() - len(proxy.show("SERVERS")))
    print(f"seed {seed}, chaos {chaos}: memory {[f'{each / MEGABYTE:.1f}' for each in memory]}, files {files}")
    for what, count in sorted(counts.items()):
        print(f"  {count:7} {what}")
    assert max(files) <= proxy.start_files + 4, f"seed {seed}: files {files}, {proxy.start_files} at the start"
    assert memory[-1] - memory[0] < 8 * MEGABYTE, f"seed {seed}: memory {memory}"
    return counts


@pytest.mark.martlet("settings and statements that PgBouncer does not follow")
@pytest.mark.parametrize("stream", ["whole", "cut"])
def test_chaos(start_proxy: Callable[..., Proxy], own_cluster: Callable[..., Cluster], stream: str) -> None:
    seed = os.environ.get("CHAOS_SEED") or f"{random.randrange(10**6)}"
    # What is answered must have been written down, for a server that is killed.
    cluster = own_cluster(settings={"synchronous_commit": "on"})
    run_chaos(start_proxy, cluster, seed, 3.0, 2, "none", cut=stream == "cut")


@pytest.mark.long
@pytest.mark.martlet("settings and statements that PgBouncer does not follow")
@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("chaos", ["none", "console", "storm"])
def test_chaos_for_long(
        start_proxy: Callable[..., Proxy], own_cluster: Callable[..., Cluster], chaos: str, number: int) -> None:
    seed = os.environ.get("CHAOS_SEED") or f"{random.randrange(10**6)}"
    cluster = own_cluster(settings={"synchronous_commit": "on"})
    counts = run_chaos(start_proxy, cluster, seed, 5.0, 4, chaos)
    assert counts["pipeline"] > 100
