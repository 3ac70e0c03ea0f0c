"""Nothing that clients or the console do again and again leaves memory behind: counted in blocks, not in bytes."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from allocations import Counts, without_sanitizer
from certificates import Authority, Certificate
from cluster import Cluster
from common import own, remove, service_directory, wait_until
from proxy import Proxy
from rawpg import COPY_DONE, SYNC, TERMINATE, Connection, bind, cancel, copy_data, execute, parse, query
from replicated import ReplicatedCluster
from routing import KNOWN_FUNCTION, Routed

pytestmark = [pytest.mark.martlet("it is Martlet's promise"), without_sanitizer]

# First as often as tables, pools and caches need to have their size.
BEFORE = 100
ROUNDS = 200
# The console works on libdispatch's threads, each of which keeps up to 1,024 blocks for the next ones.
CONSOLE_BEFORE = 700
# A block that is lost each time is seen; what statements are known goes up and down by some dozen.
MOST = ROUNDS // 2

numbers = itertools.count()


@pytest.fixture(scope="module")
def certificate() -> Iterator[Certificate]:
    folder = service_directory("mk-")
    certificate = Authority(folder).issue("proxy", name="proxy")
    own(folder)
    yield certificate
    remove(folder)


def raw(proxy: Proxy, **login: str) -> Connection:
    return Connection(proxy.host, proxy.port).login(**login)


def settled(counts: Counts) -> int:
    """The live blocks as soon as all that has ended is gone."""
    readings = [counts.live()]

    def stands_still() -> bool:
        readings.append(counts.live())
        return max(readings[-5:]) - min(readings[-5:]) < 5 < len(readings)

    wait_until(stands_still, "nothing changes any more", 10, interval=0.05)
    return readings[-1]


def leaves_nothing(counts: Counts, action: Callable[[], object], first: int = BEFORE) -> None:
    for _ in range(first):
        action()
    before = settled(counts)
    for _ in range(ROUNDS):
        action()
    # Threads of libdispatch give theirs back 5 s after their last work.
    wait_until(lambda: counts.live() - before < MOST, f"no more live blocks than {before} and {MOST}", 10)


# What a client does

def log_in(proxy: Proxy) -> None:
    with raw(proxy, application_name=f"client {next(numbers)}", options="-c extra_float_digits=2") as client:
        client.simple(f"SELECT {next(numbers)}")
        client.send(TERMINATE)


def log_in_by_scram(proxy: Proxy) -> None:
    with raw(proxy, user="scram_user", password="scram-secret") as client:
        client.simple("SELECT 1")


def give_a_wrong_password(proxy: Proxy) -> None:
    for user in ("scram_user", f"nobody {next(numbers)}"):
        with pytest.raises(AssertionError, match="login failed"):
            raw(proxy, user=user, password="wrong")


def log_in_with_tls(proxy: Proxy) -> None:
    with proxy.connect(sslmode="require") as client:
        client.execute("SELECT 1")


def prepare(proxy: Proxy) -> None:
    with raw(proxy) as client:
        for name in ("", "s"):
            client.ask(parse(f"SELECT {next(numbers)}, $1::text", name), bind(name, values=("a",)), execute(), SYNC)


def cancel_a_query(proxy: Proxy) -> None:
    with raw(proxy) as client:
        client.send(query("DO $$ BEGIN RAISE NOTICE 'it runs'; PERFORM pg_sleep(20); END $$"))
        client.read_until("N")
        cancel(proxy.host, proxy.port, client.key)
        assert client.read_until()[0].sqlstate == "57014"


def vanish(proxy: Proxy) -> None:
    with raw(proxy) as client:
        client.ask(query("BEGIN"))
        client.send(query("SELECT generate_series(1, 100000)"))


def lose_the_server(proxy: Proxy) -> None:
    with raw(proxy) as client:
        client.send(query("SELECT pg_terminate_backend(pg_backend_pid())"))
        client.read_all()


def copy(proxy: Proxy) -> None:
    with raw(proxy) as client:
        client.ask(
            query("CREATE TEMPORARY TABLE t (v text) ON COMMIT DROP; COPY t FROM STDIN"),
            copy_data(b"x" * 9000 + b"\n"), COPY_DONE)
        client.ask(query("COPY (SELECT repeat('x', 100000)) TO STDOUT"))


def send_nonsense(proxy: Proxy) -> None:
    for bytes_ in (b"\0\0\0\x08\0\0\0\0", b"GET / HTTP/1.1\r\n\r\n"):
        with Connection(proxy.host, proxy.port) as client:
            client.send(bytes_)
            client.read_all()
    with raw(proxy) as client:
        client.send(b"!\0\0\0\x04")
        client.read_all()


def look(proxy: Proxy) -> None:
    with raw(proxy, user="admin", database="pgbouncer") as admin:
        for what in ("CLIENTS", "SERVERS", "POOLS", "STATS", "CONFIG", "DATABASES", "MEM", "SOCKETS", "NODES", "ROUTES",
                     "LISTS", "USERS", "nonsense"):
            admin.ask(query(f"SHOW {what}"))


def reload(proxy: Proxy) -> None:
    with raw(proxy, user="admin", database="pgbouncer") as admin:
        admin.simple("RELOAD")
        admin.simple(f"SET default_pool_size = {5 + next(numbers) % 10}")


@dataclass
class Kind:
    action: Callable[[Proxy], None]
    settings: dict[str, object] = field(default_factory=dict)
    secrets: dict[str, str] | None = None
    first: int = BEFORE


SCRAM = {"auth_type": "scram-sha-256"}
LOOKUP = SCRAM | {"auth_user": "postgres"}
ASKED = {"postgres": "", "admin": "admin-secret"}
KINDS = [
    Kind(log_in), Kind(log_in_by_scram, SCRAM), Kind(give_a_wrong_password, SCRAM), Kind(log_in_with_tls),
    Kind(prepare, {"max_prepared_statements": 10}),
    Kind(cancel_a_query), Kind(vanish), Kind(lose_the_server), Kind(copy), Kind(send_nonsense),
    Kind(look, first=CONSOLE_BEFORE), Kind(reload, first=CONSOLE_BEFORE),
    pytest.param(Kind(log_in_by_scram, LOOKUP, ASKED), id="look_a_user_up"),
    # A wrong password has the server asked again, for it may have changed.
    pytest.param(Kind(give_a_wrong_password, LOOKUP, ASKED), id="look_it_up_again"),
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.action.__name__)
def test_nothing_stays_behind(
        start_proxy: Callable[..., Proxy], certificate: Certificate, counts: Counts, kind: Kind) -> None:
    proxy = start_proxy(env=counts.environment, secrets=kind.secrets, settings={
        "client_tls_sslmode": "allow", "client_tls_key_file": certificate.key, "client_tls_cert_file": certificate.crt,
        "max_logins_per_address": 0, "default_pool_size": 2} | kind.settings)
    leaves_nothing(counts, lambda: kind.action(proxy), kind.first)


def test_nor_does_tls_to_a_server(
        own_cluster: Callable[..., Cluster], start_proxy: Callable[..., Proxy], certificate: Certificate,
        counts: Counts) -> None:
    cluster = own_cluster(settings={
        "ssl": "on", "ssl_cert_file": f"'{certificate.crt}'", "ssl_key_file": f"'{certificate.key}'"})
    proxy = start_proxy(cluster, env=counts.environment, settings={"server_tls_sslmode": "require"})
    leaves_nothing(counts, lambda: lose_the_server(proxy))
    assert cluster.value("SELECT 1") == 1 and proxy.log_text().count("TLSv1") >= 0


def read_and_write(routed: Routed) -> None:
    with raw(routed.proxy) as client:
        for text in (f"SELECT {next(numbers)} FROM t", f"INSERT INTO t VALUES ({next(numbers)})", "SELECT count(*) FROM t",
                     "BEGIN READ ONLY", "SELECT 1", "COMMIT"):
            client.simple(text)
        client.ask(parse("SELECT n FROM t WHERE n = $1"), bind(values=("1",)), execute(), SYNC)


def explain(routed: Routed) -> None:
    with raw(routed.proxy, user="admin", database="pgbouncer") as admin:
        for number in range(5):
            admin.ask(query(f"EXPLAIN ROUTE FOR app SELECT f({next(numbers)}) FROM t{number}"))


def see_through_a_key(routed: Routed) -> None:
    with raw(routed.proxy) as client:
        # Keys are remembered, some 100,000 of them.
        client.simple(f"SET martlet.session_key = 'user {next(numbers) % 10}'")
        client.simple("INSERT INTO t VALUES (1)")


@pytest.mark.parametrize("action, first", [
    (read_and_write, BEFORE), (see_through_a_key, BEFORE), (explain, CONSOLE_BEFORE),
    (lambda routed: reload(routed.proxy), CONSOLE_BEFORE),
], ids=["read_and_write", "see_through_a_key", "explain", "reload"])
def test_nor_does_it_where_it_is_routed(
        start_proxy: Callable[..., Proxy], replicas: ReplicatedCluster, counts: Counts,
        action: Callable[[Routed], None], first: int) -> None:
    database = replicas.primary.create_database(f"db_{uuid.uuid4().hex[:10]}")
    with replicas.primary.connect(database, user="app") as connection:
        connection.execute(KNOWN_FUNCTION + "CREATE TABLE t (n int)")
    replicas.wait_caught_up()
    proxy = start_proxy(
        replicas.primary, env=counts.environment, settings={"check_interval": "200ms"},
        databases={"app": replicas.entry(dbname=database, check_dbname="postgres", max_replica_lag="1h")})
    routed = Routed(replicas, proxy, database)
    routed.wait_known()
    leaves_nothing(counts, lambda: action(routed), first)
