"""A primary with streaming replicas that can be delayed, paused, cut off, killed and promoted while they run.

The laboratory (lab.py), the demonstration and the tests use it alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import psycopg

from cluster import Cluster, Installation
from common import wait_until


class Mistake(Exception):
    """What was asked for cannot be done; the text says why, for people."""


@dataclass(frozen=True)
class NodeStatus:
    """What a server says of itself. `behind` is in bytes of write-ahead log, None where it makes no sense."""

    name: str
    port: int
    role: str
    delay: str = ""
    replay: str = ""
    source: str = ""
    behind: int | None = None


class ReplicatedCluster:
    """Servers by name: "primary", "replica1", "replica2", … A server keeps its name whatever its role becomes.

    `primary_name` is the server that the others follow; `say` gets a line for each step that takes long.
    `max_connections` is at least that of the template's server (300): a replica refuses less.
    """

    def __init__(
        self,
        replicas: int = 2,
        *,
        settings: dict[str, str] | None = None,
        max_connections: int = 300,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        common = {
            # Without it a commit reaches the replicas when the WAL writer comes by.
            "synchronous_commit": "on",
            "wal_writer_delay": "'10ms'",
            # In place of replication slots: they would have to be made anew at each promotion.
            "wal_keep_size": "'512MB'",
            "wal_retrieve_retry_interval": "'50ms'",
        }
        self.say = say
        self.primary_name = "primary"
        self.nodes: dict[str, Cluster] = {}
        installation = Installation()
        for name in ("primary", *(f"replica{number + 1}" for number in range(replicas))):
            self.nodes[name] = Cluster(
                installation, max_connections=max_connections, settings=common | (settings or {}))

    # The whole

    def start(self) -> ReplicatedCluster:
        """Starts all servers; the replicas' data are copies of the same template as the primary's, so it is quick."""
        for name in self.replicas:
            self.nodes[name].become_replica(self.primary, name)
        for node in self.nodes.values():
            node.start(wait=False)
        for node in self.nodes.values():
            node.wait_ready()
        for name in self.replicas:
            self._wait_streaming(name)
        return self

    def remove(self) -> None:
        for node in self.nodes.values():
            node.remove()

    def settle(self) -> None:
        """Undoes lag, pauses and cuts; the same server stays primary, and every replica runs and has caught up."""
        for name in self.replicas:
            node = self.nodes[name]
            node.thaw()
            if not node.is_alive:
                self.start_node(name)
            node.alter("recovery_min_apply_delay", "0")
            self.resume(name)
            self._follow(name)
        for name in self.replicas:
            self._wait_streaming(name)
        self.wait_caught_up()

    @property
    def primary(self) -> Cluster:
        return self.nodes[self.primary_name]

    @property
    def replicas(self) -> list[str]:
        """The names of all servers but the primary."""
        return [name for name in self.nodes if name != self.primary_name]

    def node(self, name: str) -> Cluster:
        if name not in self.nodes:
            raise Mistake(f"there is no server {name!r}: the servers are {', '.join(self.nodes)}")
        return self.nodes[name]

    def name_of(self, port: int) -> str:
        """The name of the server on this port, to tell where a statement ran."""
        return next(name for name, node in self.nodes.items() if node.port == port)

    def entry(self, **keys: object) -> str:
        """A value for Martlet's [databases] that routes between all the servers; `keys` are more of it, or None for less."""
        nodes = self.nodes.values()
        pairs = {
            "host": ",".join(node.host for node in nodes), "port": ",".join(str(node.port) for node in nodes),
            "routing": "split", "check_user": "postgres"} | keys
        # What tells about its node is for the primary, and yet it is how one sees where a read has run.
        functions = ["inet_server_port", str(keys.get("read_functions") or "")]
        pairs["read_functions"] = ",".join(filter(None, functions))
        return " ".join(f"{key}={value}" for key, value in pairs.items() if value is not None)

    # Replay

    def lag(self, name: str, delay: str) -> None:
        """The replica replays a commit this long after it was made: "5s", "500ms", "2min", "0"."""
        found = re.fullmatch(r"(\d+) ?(ms|s|min|h)?", delay)
        if not found:
            raise Mistake(f"{delay!r} is no delay: say 500ms, 5s, 2min, or 0")
        self._running_replica(name).alter("recovery_min_apply_delay", found[1] + (found[2] or "ms"))

    def pause(self, name: str) -> None:
        """The replica goes on receiving and replays nothing."""
        node = self._running_replica(name)
        node.value("SELECT pg_wal_replay_pause()::text")
        # While it holds a commit back it says "requested", and will not replay it either.
        wait_until(
            lambda: node.value(
                "SELECT pg_get_wal_replay_pause_state() = 'paused' "
                "OR current_setting('recovery_min_apply_delay') <> '0'"), f"{name} has paused")

    def resume(self, name: str) -> None:
        self._running_replica(name).value("SELECT pg_wal_replay_resume()::text")

    def cut(self, name: str) -> None:
        """The replica loses the primary: its WAL receiver ends, and it goes on answering with what it has."""
        node = self._running_replica(name)
        node.alter("primary_conninfo", "")
        wait_until(lambda: not node.value("SELECT count(*) FROM pg_stat_wal_receiver"), f"{name} receives nothing")

    def reconnect(self, name: str) -> None:
        self._running_replica(name)
        self._follow(name)
        if not self._is_held_back(name):
            self._wait_streaming(name)

    def wait_caught_up(self, *names: str, timeout: float = 20) -> None:
        """Waits until these replicas, or all of them, have replayed what the primary has committed by now."""
        with self.primary.connect(dbname="postgres", autocommit=False) as connection:
            connection.execute("SET LOCAL synchronous_commit = local")
            position = connection.execute("SELECT pg_logical_emit_message(true, 'lab', '')::text").fetchone()[0]
        for name in names or self.replicas:
            wait_until(
                lambda: self.nodes[name].value("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", position),
                f"{name} has replayed {position}", timeout)

    # Life and death

    def promote(self, name: str, follow: bool = True) -> None:
        """Makes a replica the primary. The others follow it; the old primary, if it runs, is left as it is."""
        node = self._running_replica(name)
        self.say(f"promoting {name}")
        node.value("SELECT pg_promote(wait => true, wait_seconds => 30)")
        self.primary_name = name
        if follow:
            self.follow()

    def switch_over(self, name: str) -> None:
        """The primary is shut down, and this replica, which has all that it has written, takes its place."""
        old = self.primary_name
        node = self._running_replica(name)
        # A server hands all it has to those that stream from it before it ends; a replica that has lost it for a moment
        # would be promoted without what was written since.
        self._wait_streaming(name)
        self.stop_node(old)
        end = self.nodes[old].last_checkpoint()
        wait_until(lambda: node.value("SELECT pg_last_wal_replay_lsn() > %s::pg_lsn", end),
                   f"{name} has all of {old}, the end of whose log is at {end}")
        self.promote(name)
        self.rejoin(old)

    def follow(self) -> None:
        """All servers that are replicas and run follow the present primary."""
        followers = [name for name in self.replicas if self._is_running_replica(name)]
        for name in followers:
            self._follow(name)
        for name in followers:
            if self._is_held_back(name):
                self.say(f"{name} follows {self.primary_name} when its replay goes on")
                continue
            try:
                self._wait_streaming(name, timeout=5)
                self.say(f"{name} follows {self.primary_name}")
            except AssertionError:
                self.say(f"{name} cannot follow {self.primary_name}, whose history is another: rejoin {name}")

    def kill(self, name: str) -> None:
        """As a power failure: all processes gone at once."""
        self._running(name).kill()

    def stop_node(self, name: str) -> None:
        self._running(name).stop()

    def start_node(self, name: str) -> None:
        """Starts a server that was killed or stopped, as it is: an old primary comes up as a primary."""
        node = self.node(name)
        if node.is_alive:
            raise Mistake(f"{name} runs already")
        node.process = None
        node.start()
        if name != self.primary_name and self._is_running_replica(name):
            self._follow(name)

    def rejoin(self, name: str) -> None:
        """Throws a server's data away and makes it a replica of the present primary by a base backup."""
        node = self.node(name)
        if name == self.primary_name:
            raise Mistake(f"{name} is the primary: promote another server first")
        if not self.primary.is_alive:
            raise Mistake(f"the primary, {self.primary_name}, does not run")
        node.thaw()
        node.stop("immediate")
        self.say(f"copying the data of {self.primary_name} to {name}")
        node.copy_data_from(self.primary)
        node.become_replica(self.primary, name)
        node.start()
        self._wait_streaming(name)

    def freeze(self, name: str) -> None:
        """The server hangs: its connections stay open, and it answers nothing."""
        self._running(name).freeze()

    def thaw(self, name: str) -> None:
        self._running(name).thaw()

    # Looking

    def status(self) -> list[NodeStatus]:
        """Every server, by asking it."""
        position = None
        if self.primary.is_alive:
            try:
                with self.primary.connect(dbname="postgres", connect_timeout=2) as connection:
                    position = connection.execute("SELECT pg_current_wal_lsn()::text").fetchone()[0]
            except psycopg.Error:
                pass
        return [self._status(name, node, position) for name, node in self.nodes.items()]

    def _status(self, name: str, node: Cluster, position: object) -> NodeStatus:
        if not node.is_alive:
            return NodeStatus(name, node.port, "stopped")
        try:
            with node.connect(dbname="postgres", connect_timeout=2) as connection:
                recovery, delay, paused, receiving, behind = connection.execute(
                    "SELECT pg_is_in_recovery(), current_setting('recovery_min_apply_delay'),"
                    "  CASE WHEN pg_is_in_recovery() THEN pg_get_wal_replay_pause_state() <> 'not paused' END,"
                    "  EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming'),"
                    "  CASE WHEN pg_is_in_recovery() THEN pg_wal_lsn_diff(%s, pg_last_wal_replay_lsn())::bigint END",
                    (position,)).fetchone()
        except psycopg.Error:
            return NodeStatus(name, node.port, "does not answer")
        if not recovery:
            return NodeStatus(name, node.port, "primary" if name == self.primary_name else "old primary")
        return NodeStatus(
            name, node.port, "replica", delay, "paused" if paused else "goes on",
            "streaming" if receiving else "cut off", None if behind is None else max(behind, 0))

    # Common parts

    def _running(self, name: str) -> Cluster:
        node = self.node(name)
        if not node.is_alive:
            raise Mistake(f"{name} does not run: start {name}")
        return node

    def _running_replica(self, name: str) -> Cluster:
        node = self._running(name)
        if name == self.primary_name or not self._is_running_replica(name):
            raise Mistake(f"{name} is no replica: the replicas are "
                          f"{', '.join(each for each in self.replicas if self._is_running_replica(each)) or 'gone'}")
        return node

    def _is_running_replica(self, name: str) -> bool:
        node = self.nodes[name]
        return node.is_alive and bool(node.value("SELECT pg_is_in_recovery()"))

    def _is_held_back(self, name: str) -> bool:
        """Whether its replay is delayed or paused: until it goes on, a replica notices nothing of a new primary."""
        return bool(self.nodes[name].value(
            "SELECT pg_get_wal_replay_pause_state() <> 'not paused' "
            "OR current_setting('recovery_min_apply_delay') <> '0'"))

    def _follow(self, name: str) -> None:
        self.nodes[name].alter("primary_conninfo", self.primary.conninfo(name))

    def _wait_streaming(self, name: str, timeout: float = 20) -> None:
        wait_until(
            lambda: self.primary.value(
                "SELECT count(*) FROM pg_stat_replication WHERE application_name = %s AND state = 'streaming'", name),
            f"{name} streams from {self.primary_name}", timeout)
