"""Fixtures: a cluster for each worker, proxies for each test."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import allocations
from cluster import Cluster
from common import remove, service_directory
from proxy import Program, Proxy
from replicated import ReplicatedCluster
from routing import KNOWN_FUNCTION, Routed


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--proxy", default="martlet", help="martlet, pgbouncer, or the path of a program")
    parser.addoption("--long", action="store_true", help="also the tests that take minutes, at full size")
    parser.addoption("--cancels", type=int, default=0, help="cancels in the storm (400, or 10000 with --long)")
    parser.addoption("--seed", default="", help="of the random tests of transactions, as a failure has told it")
    parser.addoption("--requests", type=int, default=0, help="of each of them (1000, or 20000 with --long)")
    parser.addoption("--threads", type=int, default=2, help="reactors of Martlet where a test does not say (2)")
    parser.addoption("--event-loop", default="auto", help="event_loop of Martlet where a test does not say (auto)")
    parser.addoption("--strict-timing", action="store_true", help="timeouts must hold to 50 ms: for a quiet machine")


def pytest_configure(config: pytest.Config) -> None:
    program = Program.find(config.getoption("--proxy"))
    config.stash[PROGRAM] = program
    if not program.exists():
        raise pytest.UsageError(f"{program.command[-1]} is not there: build it first (swift build -c release)")


PROGRAM = pytest.StashKey[Program]()


def pytest_report_header(config: pytest.Config) -> str:
    return f"proxy under test: {config.stash[PROGRAM].version()}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    yardstick = config.stash[PROGRAM].kind != "martlet"
    for item in items:
        if yardstick and (marker := item.get_closest_marker("martlet")):
            item.add_marker(pytest.mark.skip(reason=f"Martlet's own: {marker.args[0]}"))
        if item.get_closest_marker("grows") and config.getoption("--long"):
            item.add_marker(pytest.mark.timeout(1800))
        if item.get_closest_marker("long"):
            if config.getoption("--long"):
                item.add_marker(pytest.mark.timeout(1800))
            else:
                item.add_marker(pytest.mark.skip(reason="takes minutes: --long"))


@pytest.fixture(scope="session")
def program(request: pytest.FixtureRequest) -> Iterator[Program]:
    """The proxy's program; Martlet's is copied to a folder that the service user can read."""
    with request.config.stash[PROGRAM].for_service_user() as found:
        yield found


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """One PostgreSQL for all tests of a worker; a test leaves its settings, its roles and its databases as they are."""
    primary = Cluster().start()
    yield primary
    primary.remove()


@pytest.fixture
def own_cluster() -> Iterator[Callable[..., Cluster]]:
    """Makes clusters that a test may stop, restart and configure."""
    made: list[Cluster] = []

    def make(**options: object) -> Cluster:
        made.append(Cluster(**options))  # type: ignore[arg-type]
        return made[-1].start()

    yield make
    for each in made:
        each.remove()


@pytest.fixture(scope="session")
def shared_replicas() -> Iterator[ReplicatedCluster]:
    cluster = ReplicatedCluster().start()
    yield cluster
    cluster.remove()


@pytest.fixture
def replicas(shared_replicas: ReplicatedCluster) -> Iterator[ReplicatedCluster]:
    """A primary and two replicas that have caught up. A test may delay, pause and cut them; roles stay as they are."""
    # What the tests before have made: their proxies have gone. Thousands of databases do not fit into memory.
    for name, in shared_replicas.primary.rows("SELECT datname FROM pg_database WHERE datname ~ '^(db|direct)_'"):
        shared_replicas.primary.drop_database(name)
    yield shared_replicas
    shared_replicas.settle()


@pytest.fixture
def own_replicas() -> Iterator[Callable[..., ReplicatedCluster]]:
    """Makes replicated clusters that a test may kill and promote servers of."""
    made: list[ReplicatedCluster] = []

    def make(replicas: int = 2, **options: object) -> ReplicatedCluster:
        made.append(ReplicatedCluster(replicas, **options))  # type: ignore[arg-type]
        return made[-1].start()

    yield make
    for each in made:
        each.remove()


@pytest.fixture
def database(cluster: Cluster) -> Iterator[str]:
    """A database of the test's own."""
    name = cluster.create_database(f"db_{uuid.uuid4().hex[:10]}")
    yield name
    cluster.drop_database(name)


@pytest.fixture
def start_proxy(request: pytest.FixtureRequest, program: Program, cluster: Cluster) -> Iterator[Callable[..., Proxy]]:
    """Starts proxies; at the end each is stopped and checked (proxy.Proxy.stop)."""
    made: list[Proxy] = []

    def start(
        behind: Cluster | None = None, *, wait: bool = True, run: bool = True, env: dict[str, str] | None = None,
        **options: object,
    ) -> Proxy:
        options.setdefault("threads", request.config.getoption("--threads"))
        options.setdefault("event_loop", request.config.getoption("--event-loop"))
        proxy = Proxy(program, behind or cluster, **options)  # type: ignore[arg-type]
        made.append(proxy)
        return proxy.start(wait=wait, env=env) if run else proxy

    yield start
    failures = []
    for each in made:
        try:
            each.stop()
        except AssertionError as error:
            failures.append(str(error))
    assert not failures, "\n".join(failures)


@pytest.fixture
def proxy(start_proxy: Callable[..., Proxy]) -> Proxy:
    """A proxy with the suite's defaults: transaction pooling, 10 server connections, trust."""
    return start_proxy()


@pytest.fixture
def tolerance(request: pytest.FixtureRequest) -> float:
    """How many seconds late a timeout may be: 50 ms is the promise, a shared two-core machine needs more."""
    if request.config.stash[PROGRAM].kind != "martlet":
        return 1.0
    return 0.05 if request.config.getoption("--strict-timing") else 0.5


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """A folder that the service user can write to."""
    folder = service_directory("ms-")
    yield folder
    remove(folder)


@pytest.fixture(scope="session")
def counting_library() -> Iterator[Path]:
    with allocations.library() as made:
        yield made


@pytest.fixture
def counts(counting_library: Path) -> allocations.Counts:
    """What a proxy allocates that is started with its environment."""
    return allocations.Counts(counting_library)


@pytest.fixture
def routed(start_proxy: Callable[..., Proxy], request: pytest.FixtureRequest) -> Callable[..., Routed]:
    """Starts a proxy that routes between servers, by default those of `replicas`, in a database of the test's own.

    `schema` is run in it first, then `superuser_schema` as what it says; `settings` are the proxy's; `others` are further databases of the proxy, each with
    its keys; all else are keys of the entry "app".
    """
    def start(
        cluster: ReplicatedCluster | None = None, *, schema: str = "", superuser_schema: str = "",
        settings: dict[str, object] | None = None, others: dict[str, dict[str, object]] | None = None, **entry: object,
    ) -> Routed:
        cluster = cluster or request.getfixturevalue("replicas")
        database = cluster.primary.create_database(f"db_{uuid.uuid4().hex[:10]}")
        with cluster.primary.connect(database, user="app") as connection:
            connection.execute(KNOWN_FUNCTION + schema)
        with cluster.primary.connect(database) as connection:
            connection.execute(superuser_schema)
        cluster.wait_caught_up()
        # A replica is out for being late only where a test says so.
        keys = {"dbname": database, "check_dbname": "postgres", "max_replica_lag": "1h"}
        databases = {name: cluster.entry(**(keys | more)) for name, more in ({"app": entry} | (others or {})).items()}
        proxy = start_proxy(
            cluster.primary, settings={"check_interval": "200ms"} | (settings or {}), databases=databases)
        made = Routed(cluster, proxy, database)
        made.wait_known(reads=entry.get("pool_mode") != "session")
        return made

    return start
