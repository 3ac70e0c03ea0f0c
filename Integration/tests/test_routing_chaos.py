"""Everything at once: clients of all kinds over servers that lag, hang, die, come back and change their roles.

Every answer is the right one or an honest error; no client ever misses a write of its own, nor sees its past again;
and nothing that was acknowledged is lost.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import psycopg
import pytest

from replicated import ReplicatedCluster
from routing import Crowd, Routed

pytestmark = pytest.mark.martlet("routing")

SCHEMA = """
    CREATE TABLE log (client int NOT NULL, n int NOT NULL);
    CREATE INDEX ON log (client, n);
    CREATE FUNCTION put(client int, n int) RETURNS int LANGUAGE sql AS
        'INSERT INTO log VALUES (client, n) RETURNING n';
"""
LAST = "SELECT %s::int, coalesce(max(n), 0), inet_server_port() FROM log WHERE client = %s"
CLIENTS = 24
# How a request may end when servers die and change their roles: a lost connection, a shutdown, no primary, a conflict
# with recovery within a transaction, a transaction that began on a server that is not the primary any more.
MAY_END = {None, "57P01", "57P02", "57P03", "08006", "08003", "40001", "25006"}


@dataclass
class Client:
    """One client with its own numbers. `certain` was acknowledged; `tried` may have been written too."""

    route: Routed
    number: int
    dice: random.Random
    certain: int = 0
    tried: int = 0
    # What it has seen last: it never sees less.
    seen: int = 0
    acknowledged: list[int] = field(default_factory=list)
    rounds: int = 0
    where: Counter = field(default_factory=Counter)
    errors: Counter = field(default_factory=Counter)

    def work(self, ended: threading.Event) -> None:
        while not ended.is_set():
            try:
                # Under a key it stays the same client when it has to connect anew.
                with self.route.connect(options=f"-c martlet.session_key=client{self.number}") as connection:
                    connection.prepare_threshold = self.dice.choice([None, 0, 3])
                    while not ended.is_set():
                        self.round(connection)
            except psycopg.Error as error:
                assert error.sqlstate in MAY_END, f"client {self.number}: {error.sqlstate} {error}"
                self.errors[error.sqlstate] += 1
                ended.wait(0.02)

    def round(self, connection: psycopg.Connection) -> None:
        if self.dice.random() < 0.5:
            self.tried += 1
            n = self.tried
            self.dice.choice(WAYS)(connection, self.number, n)
            self.certain = n
            self.acknowledged.append(n)
        for _ in range(self.dice.randint(1, 3)):
            self.dice.choice([self.read, self.read_in_transaction, self.read_ahead, self.copy_out])(connection)
        self.rounds += 1
        time.sleep(self.dice.choice([0, 0, 0.005, 0.05]))

    def check(self, found: int, how: str) -> None:
        assert self.certain <= found <= self.tried, \
            f"client {self.number} wrote {self.certain} ({self.tried} at most) and found {found} {how}"
        assert found >= self.seen, f"client {self.number} saw {self.seen}, then {found} {how}"
        self.seen = found

    def read(self, connection: psycopg.Connection) -> None:
        mark = self.dice.randrange(1 << 30)
        answer, found, port = connection.execute(LAST, (mark, self.number)).fetchone()
        assert answer == mark, "somebody else's answer"
        self.where[port] += 1
        self.check(found, f"on {self.route.cluster.name_of(port)}")

    def read_in_transaction(self, connection: psycopg.Connection) -> None:
        connection.execute("BEGIN READ ONLY" if self.dice.random() < 0.7 else "BEGIN")
        self.read(connection)
        self.read(connection)
        connection.execute("COMMIT")

    def read_ahead(self, connection: psycopg.Connection) -> None:
        with connection.pipeline() as pipeline:
            first = connection.execute(LAST, (1, self.number))
            pipeline.sync()
            second = connection.execute(LAST, (2, self.number))
        for mark, cursor in ((1, first), (2, second)):
            answer, found, _ = cursor.fetchone()
            assert answer == mark
            self.check(found, f"in a pipeline, {mark}")

    def copy_out(self, connection: psycopg.Connection) -> None:
        with connection.cursor().copy(
                f"COPY (SELECT coalesce(max(n), 0) FROM log WHERE client = {self.number}) TO STDOUT") as copy:
            found = int(b"".join(copy))
        self.check(found, "by COPY")


def autocommit(connection: psycopg.Connection, client: int, n: int) -> None:
    connection.execute("INSERT INTO log VALUES (%s, %s)", (client, n))


def simple(connection: psycopg.Connection, client: int, n: int) -> None:
    connection.execute(f"SELECT 1; INSERT INTO log VALUES ({client}, {n}); SELECT 2", prepare=False)


def transaction(connection: psycopg.Connection, client: int, n: int) -> None:
    connection.execute("BEGIN")
    connection.execute(LAST, (0, client))
    connection.execute("INSERT INTO log VALUES (%s, %s)", (client, n))
    assert connection.execute(LAST, (0, client)).fetchone()[1] == n
    connection.execute("COMMIT")


def function(connection: psycopg.Connection, client: int, n: int) -> None:
    assert connection.execute("SELECT put(%s, %s)", (client, n)).fetchone() == (n,)


def cte(connection: psycopg.Connection, client: int, n: int) -> None:
    connection.execute("WITH new AS (INSERT INTO log VALUES (%s, %s) RETURNING n) SELECT n FROM new", (client, n))


def copy_in(connection: psycopg.Connection, client: int, n: int) -> None:
    with connection.cursor().copy("COPY log FROM STDIN") as copy:
        copy.write_row((client, n))


def pipeline(connection: psycopg.Connection, client: int, n: int) -> None:
    with connection.pipeline():
        connection.execute(LAST, (0, client))
        connection.execute("INSERT INTO log VALUES (%s, %s)", (client, n))


WAYS = [autocommit, simple, transaction, function, cte, copy_in, pipeline]


class Events:
    """What happens to the servers, one thing after the other, in an order that a seed gives."""

    def __init__(self, route: Routed, seed: int) -> None:
        self.route = route
        self.cluster = route.cluster
        self.dice = random.Random(seed)
        self.happened: Counter[str] = Counter()

    def run(self, seconds: float, ended: threading.Event) -> None:
        """To be called from the test's own thread: a server ends with the thread that has started it."""
        deadline = time.monotonic() + seconds
        events = [self.lag, self.pause, self.cut, self.freeze, self.kill, self.terminate, self.reload,
                  self.restart_primary, self.switch_over]
        # Each of them once, before any comes again.
        for event in itertools.chain.from_iterable(
                self.dice.sample(events, len(events)) for _ in itertools.count()):
            if ended.is_set() or time.monotonic() > deadline:
                return
            event(self.dice.choice(self.cluster.replicas), ended)
            self.happened[event.__name__] += 1
            ended.wait(0.3)

    def lag(self, name: str, ended: threading.Event) -> None:
        self.cluster.lag(name, self.dice.choice(["5ms", "50ms", "500ms"]))
        ended.wait(1.5)
        self.cluster.lag(name, "0")

    def pause(self, name: str, ended: threading.Event) -> None:
        self.cluster.pause(name)
        ended.wait(1)
        self.cluster.resume(name)

    def cut(self, name: str, ended: threading.Event) -> None:
        self.cluster.cut(name)
        ended.wait(1)
        self.cluster.reconnect(name)

    def freeze(self, name: str, ended: threading.Event) -> None:
        self.cluster.freeze(name)
        ended.wait(1.5)
        self.cluster.thaw(name)

    def kill(self, name: str, ended: threading.Event) -> None:
        self.cluster.kill(name)
        ended.wait(self.dice.choice([0, 0.5]))
        self.cluster.start_node(name)

    def terminate(self, name: str, ended: threading.Event) -> None:
        for _ in range(10):
            self.cluster.nodes[name].value(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND random() < 0.3")
            ended.wait(0.1)

    def reload(self, name: str, ended: threading.Event) -> None:
        """A replica leaves the list of nodes and comes back."""
        proxy = self.route.proxy
        before = str(proxy.databases["app"])
        port = str(self.cluster.nodes[name].port)
        pairs = dict(pair.split("=", 1) for pair in before.split())
        ports = pairs["port"].split(",")
        place = ports.index(port)
        for key in ("host", "port"):
            values = pairs[key].split(",")
            pairs[key] = ",".join(values[:place] + values[place + 1:])
        proxy.databases["app"] = " ".join(f"{key}={value}" for key, value in pairs.items())
        proxy.reload()
        ended.wait(0.7)
        proxy.databases["app"] = before
        proxy.reload()

    def restart_primary(self, _: str, ended: threading.Event) -> None:
        """It dies and comes back as what it was: what it has acknowledged is still there."""
        name = self.cluster.primary_name
        self.cluster.kill(name)
        ended.wait(0.2)
        self.cluster.start_node(name)

    def switch_over(self, name: str, _: threading.Event) -> None:
        self.cluster.switch_over(name)


def storm(route: Routed, seconds: float, seed: int) -> None:
    print(f"seed {seed}")
    clients = [Client(route, number, random.Random(seed + number)) for number in range(CLIENTS)]
    crowd = Crowd(CLIENTS, lambda number, ended: clients[number].work(ended))
    events = Events(route, seed)
    events.run(seconds, crowd.ended)
    # In calm weather everybody gets through.
    rounds = [client.rounds for client in clients]
    crowd.wait(5)
    crowd.stop(60)
    for client, before in zip(clients, rounds, strict=True):
        assert client.rounds > before, f"client {client.number} is stuck: {client.errors}"
    with route.direct(route.cluster.primary_name) as primary:
        for client in clients:
            there = {n for n, in primary.execute("SELECT n FROM log WHERE client = %s", (client.number,))}
            lost = set(client.acknowledged) - there
            assert not lost, f"client {client.number} has lost {sorted(lost)}"
            assert there <= set(range(1, client.tried + 1))
    where = sum((client.where for client in clients), Counter())
    errors = sum((client.errors for client in clients), Counter())
    names = {route.cluster.name_of(port): count for port, count in where.items()}
    print(f"{sum(client.rounds for client in clients)} rounds, reads on {names}, errors {dict(errors)}, "
          f"{dict(events.happened)}, {route.routes()}")
    assert len(names) > 1, "no read has gone to a replica: this proves nothing"


BALANCES = pytest.mark.parametrize(
    "load_balance, transactions", [("round_robin", "read_only"), ("least_connections", "promote")])


def start(
    routed: Callable[..., Routed], own_replicas: Callable[..., ReplicatedCluster], load_balance: str, transactions: str
) -> Routed:
    return routed(
        own_replicas(3), schema=SCHEMA, load_balance=load_balance, transaction_routing=transactions,
        failover_wait="20s", check_timeout="1s", settings={"threads": 4})


@BALANCES
@pytest.mark.timeout(240)
def test_all_at_once(
    routed: Callable[..., Routed], own_replicas: Callable[..., ReplicatedCluster], load_balance: str, transactions: str
) -> None:
    storm(start(routed, own_replicas, load_balance, transactions), 20, random.randrange(1 << 30))


@BALANCES
@pytest.mark.long
def test_all_at_once_for_long(
    routed: Callable[..., Routed], own_replicas: Callable[..., ReplicatedCluster], load_balance: str, transactions: str
) -> None:
    storm(start(routed, own_replicas, load_balance, transactions), 300, random.randrange(1 << 30))
