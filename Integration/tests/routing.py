"""What the tests of routing share: a proxy in front of a primary with replicas, and where a statement has run."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

from common import wait_until
from proxy import Proxy
from replicated import ReplicatedCluster

# Tells the server that it runs on, and is a read.
WHERE = "SELECT inet_server_port()"

# A function that is a read once the proxy has read the database's catalogue.
KNOWN_FUNCTION = "CREATE FUNCTION is_known() RETURNS int STABLE LANGUAGE sql AS 'SELECT 1';"

# How long DDL may take to be known, seconds: on a slow machine a reading takes long, and the next one comes three times as
# long after it.
CATALOGUE_READ = 60

# Columns of SHOW ROUTES.
REPLICA_READS = "replica_reads"
RERUNS = "reruns"
RETRIES = "retries"
WRITES = "writes"


@dataclass
class Routed:
    """A proxy whose database "app" is routed between the servers of a cluster; `database` is its name there."""

    cluster: ReplicatedCluster
    proxy: Proxy
    database: str

    def connect(self, dbname: str = "app", **more: object) -> psycopg.Connection:
        return self.proxy.connect(dbname, **more)

    @contextmanager
    def direct(self, name: str = "primary") -> Iterator[psycopg.Connection]:
        """A connection straight to a server, as superuser."""
        with self.cluster.nodes[name].connect(self.database) as connection:
            yield connection

    def where(self, connection: psycopg.Connection, query: str = WHERE, **options: object) -> str:
        """The name of the server that a read runs on; the last column of its answer must be the server's port."""
        return self.cluster.name_of(connection.execute(query, **options).fetchone()[-1])  # type: ignore[arg-type]

    def is_replica(self, connection: psycopg.Connection, query: str = WHERE) -> bool:
        return self.where(connection, query) in self.cluster.replicas

    def wait_replica(self, connection: psycopg.Connection, timeout: float = 10) -> str:
        """Waits until a client's reads go to a replica, and says which."""
        return wait_until(
            lambda: next((name for name in [self.where(connection)] if name in self.cluster.replicas), None),
            "reads go to a replica", timeout)

    def routes(self, database: str = "app") -> dict:
        """The line of SHOW ROUTES."""
        return next(row for row in self.proxy.show("ROUTES") if row["database"] == database)

    def explain(self, statement: str, database: str = "app") -> dict:
        """The line of EXPLAIN ROUTE."""
        with self.proxy.console() as console:
            return console.execute(f"EXPLAIN ROUTE FOR {database} {statement}".encode()).fetchone()  # type: ignore[return-value]

    def spread(self, count: int, dbname: str = "app") -> Counter[str]:
        """Where the first reads of so many new clients run.

        One client's reads do not tell: until the next sample it stays with the replica that it has read from.
        """
        where: Counter[str] = Counter()
        for _ in range(count):
            with self.connect(dbname) as connection:
                where[self.where(connection)] += 1
        return where

    def states(self) -> dict[str, str]:
        """Whether the proxy takes each server for up, from SHOW NODES."""
        return {self.cluster.name_of(int(row["port"])): row["state"] for row in self.proxy.show("NODES")}

    def roles(self) -> dict[str, str]:
        """What the proxy takes each server for, from SHOW NODES."""
        return {self.cluster.name_of(int(row["port"])): row["role"] for row in self.proxy.show("NODES")}

    def wait_known(self, timeout: float = 10, reads: bool = True) -> None:
        """Waits until the proxy has found out all roles and knows the catalogue, and reads go to replicas."""
        expected = {
            name: "primary" if name == self.cluster.primary_name else "replica" for name in self.cluster.nodes}
        wait_until(lambda: self.roles() == expected, f"the roles are {expected}", timeout)
        wait_until(lambda: self.explain("SELECT is_known()")["class"] == "read", "the catalogue is known", timeout)
        if reads:
            with self.connect() as connection:
                self.wait_replica(connection, timeout)

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """All replicas pause: what is written meanwhile is on the primary alone."""
        for name in self.cluster.replicas:
            self.cluster.pause(name)
        try:
            yield
        finally:
            for name in self.cluster.replicas:
                self.cluster.resume(name)


class Crowd:
    """Threads that do the same until `stop`, each with its own number; what one of them raises, `stop` raises.

    As a context it stops at the end, whatever has happened.
    """

    def __init__(self, count: int, work: Callable[[int, threading.Event], None]) -> None:
        self.ended = threading.Event()
        self._errors: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._run, args=(work, number), daemon=True) for number in range(count)]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.ended.set()
        if kind is None:
            self.stop()

    def _run(self, work: Callable[[int, threading.Event], None], number: int) -> None:
        try:
            work(number, self.ended)
        except BaseException as error:  # Handed to stop().
            self._errors.append(error)
            self.ended.set()

    def wait(self, timeout: float) -> None:
        """Lets them work that long, or until one of them has failed."""
        self.ended.wait(timeout)

    def stop(self, timeout: float = 30) -> None:
        self.ended.set()
        self.join(timeout)

    def join(self, timeout: float = 30) -> None:
        """Waits for threads that end by themselves."""
        for thread in self._threads:
            thread.join(timeout)
            assert not thread.is_alive(), f"a thread has not ended after {timeout} s"
        if self._errors:
            raise self._errors[0]


class Weather:
    """Changes of the replicas' lag from a thread of its own, over and over in the same order."""

    def __init__(self, cluster: ReplicatedCluster, delays: dict[str, list[str]], paused: str | None = None) -> None:
        self.cluster = cluster
        self.delays = delays
        self.paused = paused
        self.crowd: Crowd | None = None

    def __enter__(self) -> Weather:
        self.crowd = Crowd(1, self._change)
        return self

    def __exit__(self, *_: object) -> None:
        assert self.crowd
        self.crowd.stop()

    def _change(self, _: int, ended: threading.Event) -> None:
        turn = 0
        while not ended.is_set():
            for name, delays in self.delays.items():
                self.cluster.lag(name, delays[turn % len(delays)])
            if self.paused:
                (self.cluster.resume if turn % 2 else self.cluster.pause)(self.paused)
            turn += 1
            ended.wait(0.4)
        if self.paused:
            self.cluster.resume(self.paused)
