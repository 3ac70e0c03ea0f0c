"""A network may cut a stream anywhere: random pipelines through relays that do, compared with PostgreSQL's own answers.

What becomes of a message is decided once, when it begins, and holds to its last byte. So the client's transcript is the
same wherever the pieces end, on either side, for what is passed on, swallowed, answered here and taken elsewhere.
"""

from __future__ import annotations

import os
import random
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from certificates import Authority, Certificate
from cluster import Cluster
from common import own, wait_until
from cutting import CuttingRelay
from proxy import Proxy
from rawpg import (
    COPY_DONE, FLUSH, SYNC, Connection, Message, bind, close, copy_data, copy_fail, describe, execute, function_call,
    parse, query)
from replicated import ReplicatedCluster

INT4, TEXT = 23, 25

# Statements with their parameter types and values, and with answers of all sizes: a RowDescription of 6 bytes to 2 kB.
TEXTS: list[tuple[str, tuple[int, ...], tuple[str, ...]]] = [
    ("SELECT 1", (), ()),
    ("SELECT", (), ()),
    ("SELECT $1::int AS \"a rather long name of a column, cut\", 'text'::text AS t", (INT4,), ("7",)),
    ("SELECT " + ", ".join(f"{n} AS column_{n}" for n in range(60)), (), ()),
    ("SELECT n, repeat('x', n * 7) AS filler FROM generate_series(1, $1::int) n", (INT4,), ("9",)),
    ("SELECT $1::text, $2::text", (TEXT, TEXT), ("one" * 50, "two")),
    ("SELECT n FROM generate_series(1, 0) n", (), ()),
    # Fails when it runs; a plan made for the value would fail at the Bind.
    ("SELECT 1 / ($1::int + (random() * 0)::int)", (INT4,), ("0",)),
    ("", (), ()),
]
# With the client's own name as value. A column as it is would tell its table's oid.
WRITES = ["INSERT INTO cut VALUES ($1) RETURNING v || '', repeat('r', 40)", "DELETE FROM cut WHERE v = $1"]
NAMES = ["s1", "s2", "s3", "s4", "a name of more than eight bytes", ""]


class Pipelines:
    """Makes pipelines of one client; the same seed makes the same ones."""

    def __init__(self, seed: str, writes: bool) -> None:
        self.chance = random.Random(seed)
        self.writes = writes
        self.texts = TEXTS + [(each, (TEXT,), (seed,)) for each in WRITES if writes]
        # What the client has given names to, so that most of what it asks for exists.
        self.known: dict[str, int] = {}

    def next(self) -> tuple[bytes, int]:
        """The bytes of a pipeline, and how many ReadyForQuery it is answered with."""
        if self.chance.random() < 0.12:
            return self.simple()
        parts: list[bytes] = []
        syncs = self.chance.choice([1, 1, 1, 2, 3])
        for _ in range(syncs):
            for _ in range(self.chance.randrange(0, 7)):
                parts += self.unit()
            parts.append(SYNC)
        return b"".join(parts), syncs

    def name(self) -> str:
        known = sorted(self.known)
        return self.chance.choice(known) if known and self.chance.random() < 0.9 else self.chance.choice(NAMES)

    def unit(self) -> list[bytes]:
        kind = self.chance.randrange(12)
        if kind <= 3:
            return self.run(self.name())
        if kind <= 5:
            name = self.chance.choice(NAMES)
            parts = [close("S", name)] if name in self.known and self.chance.random() < 0.95 else []
            return parts + self.prepare(name) + (self.run(name) if self.chance.random() < 0.5 else [])
        if kind <= 8:
            name = self.name()
            return [*self.there(name), describe("S", name)]
        if kind == 9:
            name = self.name()
            self.known.pop(name, None)
            return [close("S", name)]
        if kind == 10:
            return [FLUSH]
        return [self.chance.choice([close("P", "p"), describe("P", "nosuch"), parse("SELEC"), execute("nosuch")])]

    def prepare(self, name: str) -> list[bytes]:
        which = self.known[name] = self.chance.randrange(len(self.texts))
        return [parse(self.texts[which][0], name, self.texts[which][1])]

    def there(self, name: str) -> list[bytes]:
        """What makes sure that a statement is there: only the unnamed one, which the proxy may lose in an error."""
        return self.prepare(name) if name == "" else []

    def run(self, name: str) -> list[bytes]:
        parts = self.there(name)
        values = self.texts[self.known[name]][2] if name in self.known else ()
        portal = self.chance.choice(["", "", "p"])
        parts += [close("P", portal)] if portal else []
        parts.append(bind(name, portal, values))
        if self.chance.random() < 0.4:
            parts.append(describe("P", portal))
        if self.chance.random() < 0.2:
            parts.append(execute(portal, self.chance.randrange(1, 5)))
        parts.append(execute(portal))
        return parts

    def simple(self) -> tuple[bytes, int]:
        lines = b"".join(copy_data(b"%d\tline\n" % n) for n in range(self.chance.randrange(0, 30)))
        copy = "COPY cut_lines FROM STDIN"
        return self.chance.choice(([
            (query(copy) + lines + COPY_DONE, 1),
            (query(copy) + lines + copy_fail("enough"), 1),
            (query(copy) + copy_data(b"not a number\n") + lines + COPY_DONE, 1),
            (parse(copy) + bind() + execute() + lines + COPY_DONE + SYNC, 1),
        ] if self.writes else []) + [
            (query("SELECT 1; SELECT 2, 'three'"), 1),
            (query("SELECT 1; SELECT 1/0; SELECT 2"), 1),
            (query("") + query("SELECT n, repeat('y', 100) FROM generate_series(1, 20) n"), 2),
            (query("COPY (SELECT n, repeat('z', n) FROM generate_series(1, 60) n) TO STDOUT"), 1),
            # A notice for each name that is too long.
            (query("SELECT " + ", ".join(f"{n} AS a{'n' * (70 + n * 40)}" for n in range(9))), 1),
            (function_call(1258, (b"a" * 50, b"b")), 1),
        ])


def readable(received: Message) -> str:
    """A message without what may differ between two backends."""
    if received.type in "EN":
        kept = {key: value for key, value in received.fields().items() if key not in "FLRW"}
        # The server's own words tell its own name of a statement.
        kept["M"] = re.sub('prepared statement "[^"]*" requires', "it requires", kept.get("M", ""))
        return f"{received.type} {kept}"
    return f"{received.type} {received.body!r}"


def situation(proxy: Proxy) -> str:
    """What the console shows, for a failure."""
    shown = ""
    for what in ("POOLS", "SERVERS", "CLIENTS"):
        rows = [{key: value for key, value in row.items() if value not in (None, "", 0)} for row in proxy.show(what)]
        shown += f"\nSHOW {what}\n" + "".join(f"  {row}\n" for row in rows)
    return shown + proxy.log_text()[-3000:]


def hear(connection: Connection, data: bytes, ready: int, where: str) -> list[str]:
    try:
        connection.send(data)
        return [readable(each) for each in connection.read_until("Z", ready) if each.type != "S"]
    except Exception as problem:
        return [f"{where}: {type(problem).__name__} {str(problem)[-600:]}"]


def compare(direct: tuple[str, int], through: Callable[[], Connection], seed: str, pipelines: int,
            proxy: Proxy, writes: bool) -> None:
    """One client's pipelines, a new session now and then, straight to the server and through the proxy."""
    made = 0
    while made < pipelines:
        session = f"{seed}-{made}"
        source = Pipelines(session, writes)
        with Connection(*direct).login("app", "cut_direct") as plain, through() as proxied:
            for number in range(min(100, pipelines - made)):
                data, ready = source.next()
                wanted = hear(plain, data, ready, "directly")
                got = hear(proxied, data, ready, "through the proxy")
                assert got == wanted, (
                    f"seed {session}, pipeline {number}: {data[:3000]!r}\n  directly: {wanted}\n  proxy:    {got}"
                    + situation(proxy))
                made += 1


def run_clients(direct: tuple[str, int], through: Callable[[], Connection], seed: str, pipelines: int,
                proxy: Proxy, clients: int = 2) -> None:
    """Clients that share the pool, so that a connection changes hands between any two pieces."""
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            # Whoever has written reads on the primary for a while: one of them never does.
            compare(direct, through, f"{seed}-{number}", pipelines // clients, proxy, writes=number == 0)
        except BaseException as problem:
            failures.append(problem)

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(clients)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(1500)
        assert not each.is_alive(), f"seed {seed}: a client hangs"
    if failures:
        raise failures[0]


@contextmanager
def databases(cluster: Cluster, *names: str) -> Iterator[None]:
    for name in names:
        cluster.create_database(name)
        with cluster.connect(name) as connection:
            connection.execute("CREATE TABLE cut (v text); CREATE TABLE cut_lines (n int, t text)")
            connection.execute("GRANT ALL ON cut, cut_lines TO public")
    try:
        yield
    finally:
        for name in names:
            cluster.drop_database(name)


# Many more pipelines with --long.
pytestmark = pytest.mark.grows


def size(request: pytest.FixtureRequest) -> int:
    """Pipelines of one run."""
    return int(os.environ.get("CUT_SIZE", "10000")) if request.config.getoption("--long") else 240


def seed() -> str:
    return os.environ.get("CUT_SEED") or f"{random.randrange(10**6)}"


def in_front_of(stack: ExitStack, proxy: Proxy, cut: str, run: str, secures: bool = False) -> CuttingRelay:
    """The relay that clients come by."""
    target = (proxy.host, proxy.port) if secures else (str(proxy.directory), proxy.port)
    return stack.enter_context(CuttingRelay(
        target, cuts_requests=cut in ("requests", "both"), cuts_answers=cut in ("answers", "both"), seed=run,
        secures=secures))


def behind(stack: ExitStack, cluster: Cluster, cut: str, run: str, certificate: Certificate | None = None) -> CuttingRelay:
    """A relay that the proxy takes for a server."""
    return stack.enter_context(CuttingRelay(
        (cluster.host, cluster.port), cuts_answers=cut in ("answers", "both"), cuts_requests=cut in ("requests", "both"),
        seed=run, certificate=certificate))


def through(relay: CuttingRelay) -> Callable[[], Connection]:
    """Logs in with settings that no other client has: each change of hands sets them, and swallows the answer."""
    return lambda: Connection(relay.host, relay.port).login(
        "app", "cut", application_name=f"client {random.random()}", TimeZone=random.choice(["UTC", "Asia/Tokyo"]))


@pytest.mark.martlet("an unknown name is an error, not a disconnect")
@pytest.mark.parametrize("statements", [2, 100, 0])
@pytest.mark.parametrize("cut", ["none", "answers", "requests", "both"])
def test_streams_cut_anywhere(
        request: pytest.FixtureRequest, start_proxy: Callable[..., Proxy], cluster: Cluster, cut: str,
        statements: int) -> None:
    run = seed()
    with databases(cluster, "cut_direct", "cut_proxied"), ExitStack() as stack:
        server = behind(stack, cluster, cut, run)
        proxy = start_proxy(
            behind=cluster, databases={"cut": f"host={server.host} port={server.port} dbname=cut_proxied"},
            settings={"default_pool_size": 2 if statements == 0 else 1, "max_prepared_statements": statements,
                      "pool_mode": "transaction" if statements else "session"})
        relay = in_front_of(stack, proxy, cut, run)
        run_clients((cluster.host, cluster.port), through(relay), run, size(request), proxy)
        assert cut == "none" or server.pieces + relay.pieces > 1000


@pytest.mark.martlet("routing")
@pytest.mark.parametrize("transactions", ["read_only", "promote"])
@pytest.mark.parametrize("cut", ["answers", "requests", "both"])
def test_routed_streams_cut_anywhere(
        request: pytest.FixtureRequest, start_proxy: Callable[..., Proxy], replicas: ReplicatedCluster,
        cut: str, transactions: str) -> None:
    """Answers of replicas are held until they are known to be good, and some requests are taken elsewhere."""
    run = seed()
    primary = replicas.primary
    with databases(primary, "cut_direct", "cut_proxied"), ExitStack() as stack:
        replicas.wait_caught_up()
        servers = [behind(stack, node, cut, run) for node in replicas.nodes.values()]
        proxy = start_proxy(
            behind=primary, settings={"default_pool_size": 1, "max_prepared_statements": 2, "check_interval": "200ms"},
            databases={"cut": replicas.entry(
                host=",".join(each.host for each in servers), port=",".join(str(each.port) for each in servers),
                dbname="cut_proxied", transaction_routing=transactions, check_dbname="postgres",
                max_replica_lag="1h")})
        wait_until(lambda: sorted(row["role"] for row in proxy.show("NODES")) == ["primary", "replica", "replica"],
                   "the roles are known")
        with proxy.console() as console:
            wait_until(
                lambda: console.execute(b"EXPLAIN ROUTE FOR cut SELECT v FROM cut").fetchone()["class"] == "read",
                "the catalogue is known", 60)
        relay = in_front_of(stack, proxy, cut, run)
        # On a slow machine all reads of one run may be too close behind their clients' writes.
        for again in range(5):
            run_clients((primary.host, primary.port), through(relay), f"{run} {again}", size(request), proxy)
            routes = proxy.show("ROUTES")[0]
            if routes["replica_reads"] > 0:
                break
        assert routes["replica_reads"] > 0, str(routes)


@pytest.mark.martlet("an unknown name is an error, not a disconnect")
@pytest.mark.parametrize("cut", ["answers", "both"])
def test_encrypted_streams_cut_anywhere(
        request: pytest.FixtureRequest, start_proxy: Callable[..., Proxy], cluster: Cluster, scratch: Path,
        cut: str) -> None:
    run = seed()
    certificate = Authority(scratch).issue("server", name="server", hosts="DNS:localhost")
    own(scratch)
    with databases(cluster, "cut_direct", "cut_proxied"), ExitStack() as stack:
        server = behind(stack, cluster, cut, run, certificate)
        proxy = start_proxy(
            behind=cluster, databases={"cut": f"host={server.host} port={server.port} dbname=cut_proxied"},
            settings={"default_pool_size": 1, "max_prepared_statements": 2, "server_tls_sslmode": "require",
                      "client_tls_sslmode": "require", "client_tls_key_file": certificate.key,
                      "client_tls_cert_file": certificate.crt})
        relay = in_front_of(stack, proxy, cut, run, secures=True)
        run_clients((cluster.host, cluster.port), through(relay), run, size(request), proxy)
        assert server.pieces > 1000
