"""Names of servers that lead elsewhere after a while: connections to where they led before are replaced."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from allocations import without_sanitizer
from cluster import Cluster
from common import own, remove, service_directory, wait_until
from proxy import Proxy
from rawpg import Connection, startup

pytestmark = [pytest.mark.one_loop, pytest.mark.martlet("PgBouncer asks by another library"), without_sanitizer]

WHERE = "SELECT host(inet_server_addr()), pg_backend_pid()"


class Names:
    """The names that a proxy knows which is started with `environment`."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "names"
        self.environment = {"LD_PRELOAD": str(folder / "names.so"), "MARTLET_NAMES": str(self.path)}
        self.lead()

    def lead(self, *addresses: str) -> None:
        """To these addresses; without one the name does not exist."""
        fresh = self.path.with_suffix(".new")
        fresh.write_text(" ".join(["db.example", *addresses]) + "\n")
        fresh.chmod(0o644)
        fresh.rename(self.path)

    @property
    def asked(self) -> int:
        noted = Path(f"{self.path}.asked")
        return len(noted.read_text()) if noted.exists() else 0


@pytest.fixture
def names() -> Iterator[Names]:
    folder = service_directory("mn-")
    compiler = next(found for found in map(shutil.which, ("cc", "gcc", "clang")) if found)
    subprocess.run(
        [compiler, "-O2", "-shared", "-fPIC", "-o", str(folder / "names.so"),
         str(Path(__file__).with_name("names.c"))], check=True)
    own(folder)
    yield Names(folder)
    remove(folder)


@pytest.fixture
def listening(own_cluster: Callable[..., Cluster]) -> Cluster:
    """A server with several addresses."""
    return own_cluster(settings={"listen_addresses": "'127.0.0.1,127.0.0.2,127.0.0.3'"}, hba=[
        "local all,replication all trust", "host all,replication all 127.0.0.0/8 trust"])


def start(
        start_proxy: Callable[..., Proxy], cluster: Cluster, names: Names, threads: int = 2, **settings: object) -> Proxy:
    proxy = start_proxy(cluster, run=False, threads=threads, settings={"dns_max_ttl": 1, "dns_nxdomain_ttl": 1} | settings)
    proxy.databases = {"app": f"host=db.example port={cluster.port} dbname=app"}
    return proxy.start(env=names.environment)


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_connections_to_the_old_address_are_replaced(
        start_proxy: Callable[..., Proxy], listening: Cluster, names: Names, mode: str) -> None:
    """Idle ones at once, though nobody asks for a new one; one in use when it is released."""
    names.lead("127.0.0.2")
    proxy = start(start_proxy, listening, names, pool_mode=mode)
    with proxy.connect() as busy, proxy.connect() as idle:
        busy.execute("BEGIN")
        old = busy.execute(WHERE).fetchone()
        assert old[0] == "127.0.0.2"
        if mode == "transaction":
            assert idle.execute(WHERE).fetchone()[0] == "127.0.0.2"
        names.lead("127.0.0.3")
        wait_until(lambda: [row["close_needed"] for row in proxy.show("SERVERS")] == [1], "the busy one is to go", 5)
        assert busy.execute(WHERE).fetchone() == old
        assert idle.execute(WHERE).fetchone()[0] == "127.0.0.3"
        busy.execute("COMMIT")
        if mode == "transaction":
            assert busy.execute(WHERE).fetchone()[0] == "127.0.0.3"


def test_who_keeps_an_address_keeps_its_connection(
        start_proxy: Callable[..., Proxy], listening: Cluster, names: Names) -> None:
    names.lead("127.0.0.1", "127.0.0.2")
    proxy = start(start_proxy, listening, names, threads=1, default_pool_size=2)
    with proxy.connect() as one, proxy.connect() as two:
        one.execute("BEGIN")
        two.execute("BEGIN")
        before = {row[0]: row[1] for row in (each.execute(WHERE).fetchone() for each in (one, two))}
        assert set(before) == {"127.0.0.1", "127.0.0.2"}
        one.execute("COMMIT")
        two.execute("COMMIT")
        names.lead("127.0.0.2", "127.0.0.3")
        wait_until(lambda: [row["addr"] for row in proxy.show("SERVERS")] == ["127.0.0.2"], "one has gone", 5)
        assert one.execute(WHERE).fetchone() == ("127.0.0.2", before["127.0.0.2"])


def test_no_answer_changes_nothing(start_proxy: Callable[..., Proxy], listening: Cluster, names: Names) -> None:
    """A name server out of order, or a name that is gone for a moment: what works is kept. And the name is asked for when
    its time is over, once."""
    names.lead("127.0.0.2")
    proxy = start(start_proxy, listening, names)
    with proxy.connect() as client:
        before = client.execute(WHERE).fetchone()
        names.lead()
        asked = names.asked
        began = time.monotonic()
        wait_until(lambda: names.asked >= asked + 3, "it was asked for three times", 15)
        assert names.asked - asked <= time.monotonic() - began + 2
        assert client.execute(WHERE).fetchone() == before
        names.lead("127.0.0.3")
        wait_until(lambda: client.execute(WHERE).fetchone()[0] == "127.0.0.3", "it leads elsewhere", 5)


def test_failed_connection_asks_anew(start_proxy: Callable[..., Proxy], listening: Cluster, names: Names) -> None:
    """Where a name has led to nobody listens: its time is not waited for."""
    names.lead("127.0.0.9")
    proxy = start(start_proxy, listening, names, dns_max_ttl=600, server_outage_wait=20)
    with Connection(proxy.host, proxy.port) as client:
        client.send(startup({"user": "app", "database": "app"}))
        wait_until(lambda: "connect failed" in proxy.log_text(), "it fails")
        names.lead("127.0.0.3")
        begin = time.monotonic()
        client.authenticate("app", "")
        assert time.monotonic() - begin < 4
        assert client.simple("SELECT host(inet_server_addr())") == [[b"127.0.0.3"]]


def test_other_addresses_of_a_name_are_tried_at_once(
        start_proxy: Callable[..., Proxy], listening: Cluster, names: Names) -> None:
    names.lead("127.0.0.8", "127.0.0.9", "127.0.0.3", "127.0.0.7")
    proxy = start(start_proxy, listening, names, server_lifetime=0, server_login_retry=15, dns_max_ttl=600)
    begin = time.monotonic()
    for _ in range(6):
        with proxy.connect() as client:
            assert client.execute(WHERE).fetchone()[0] == "127.0.0.3"
    assert time.monotonic() - begin < 5


def test_connection_that_asks_for_users_moves_too(
        start_proxy: Callable[..., Proxy], listening: Cluster, names: Names) -> None:
    names.lead("127.0.0.2")
    proxy = start_proxy(listening, run=False, settings={
        "dns_max_ttl": 1, "auth_type": "scram-sha-256", "auth_user": "postgres", "auth_dbname": "users",
        "auth_query_ttl": 0}, secrets={"admin": "admin-secret", "postgres": ""})
    proxy.databases = {"app": f"host=127.0.0.1 port={listening.port}",
                       "users": f"host=db.example port={listening.port} dbname=postgres"}
    proxy.start(env=names.environment)

    proxy.connect(password="app-secret").close()
    assert [each for each in local_addresses(listening.port) if each != "127.0.0.1"] == ["127.0.0.2"]
    names.lead("127.0.0.3")
    wait_until(lambda: "127.0.0.2" not in local_addresses(listening.port), "it is closed", 5)
    proxy.connect(password="app-secret").close()
    assert "127.0.0.3" in local_addresses(listening.port)


def test_routed_server_moves_too(start_proxy: Callable[..., Proxy], listening: Cluster, names: Names) -> None:
    """It is another node then; a transaction on the old one is brought to its end."""
    names.lead("127.0.0.2")
    proxy = start_proxy(listening, run=False, settings={"dns_max_ttl": 1})
    proxy.databases = {
        "app": f"host=db.example port={listening.port} dbname=app routing=split check_user=postgres failover_wait=10"}
    proxy.start(env=names.environment)
    with proxy.connect() as busy, proxy.connect() as idle:
        busy.execute("BEGIN")
        busy.execute("SELECT pg_advisory_xact_lock(1)")
        assert busy.execute(WHERE).fetchone()[0] == "127.0.0.2"
        names.lead("127.0.0.3")
        wait_until(lambda: [row["addr"] for row in proxy.show("NODES")] == ["127.0.0.3"], "it is another node", 5)
        idle.execute("CREATE TABLE moved (n int)")
        assert idle.execute(WHERE).fetchone()[0] == "127.0.0.3"
        assert busy.execute(WHERE).fetchone()[0] == "127.0.0.2"
        busy.execute("COMMIT")
        assert busy.execute(WHERE).fetchone()[0] == "127.0.0.3"
        wait_until(lambda: "127.0.0.2" not in local_addresses(listening.port), "nothing leads there any more", 5)


def local_addresses(port: int) -> list[str]:
    """The server's ends of the connections to a port."""
    found = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        address, _, state = line.split()[1:4]
        host, _, number = address.partition(":")
        if int(number, 16) == port and state == "01":
            found.append(".".join(str(each) for each in reversed(bytes.fromhex(host))))
    return found
