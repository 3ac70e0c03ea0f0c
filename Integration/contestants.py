"""Who takes part in the bench: Martlet in several forms, other poolers, and PostgreSQL by itself."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from cluster import Cluster
from common import (
    REPOSITORY, TESTING_SUITE, ProcessFigures, as_service_user, child_processes, environment, free_port, own, remove,
    service_directory, wait_until)
from proxy import Program, Proxy, ini
from replicated import ReplicatedCluster

# Server connections that every pooler may have, unless a case says otherwise.
POOL = 20

STAND_IN = REPOSITORY / ".build/release/standin"


class StandIn:
    """The server that answers at once (standin/StandIn.swift), with a thread for each core."""

    def __init__(self, folder: Path) -> None:
        self.host, self.port = "127.0.0.1", free_port()
        program = folder / "standin"
        shutil.copy(STAND_IN, program)
        own(folder)
        self._process = subprocess.Popen(
            as_service_user([str(program), str(self.port), str(os.cpu_count())]), stdin=subprocess.DEVNULL, cwd="/",
            env=environment(), start_new_session=True)

        def listens() -> bool:
            assert self._process.poll() is None, "the stand-in ended"
            with socket.socket() as probe:
                return probe.connect_ex((self.host, self.port)) == 0

        wait_until(listens, "the stand-in accepts connections")

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


@dataclass
class Scene:
    """What all contestants stand in front of, and what they may use."""

    cluster: ReplicatedCluster
    files: int
    """Open files that a process may have."""
    folder: Path
    """Copies of the programs, where the service user can read them."""
    stand_in: StandIn | None = None
    """Where a case wishes for it."""


@dataclass
class Wishes:
    """What a case asks of a pooler beside its usual configuration."""

    clients: int
    pool: int = POOL
    settings: dict[str, object] = field(default_factory=dict)
    """Keys of PgBouncer's file; a contestant without them does not fit the case."""
    secrets: dict[str, str] | None = None
    stand_in: bool = False
    """In front of the server that answers at once, in the place of PostgreSQL."""


class Running:
    """A contestant at work, on `host` and `port`; its figures are those of all its processes together."""

    def __init__(self, host: str, port: int, pids: Callable[[], list[int]], stop: Callable[[], None],
                 has_children: bool = False, log: Callable[[], str] = str) -> None:
        self.host, self.port = host, port
        self._pids, self.stop, self._has_children, self.log = pids, stop, has_children, log

    def cpu_seconds(self) -> float:
        """User and system time so far, that of children that have ended included."""
        total = sum(self.threads().values())
        for pid in self._pids() if self._has_children else ():
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            total += sum(map(int, fields[13:15])) / ProcessFigures.TICKS
        return total

    def threads(self) -> dict[int, float]:
        """CPU seconds of each thread that runs, by the scheduler's own clock: a turn has some thirty ticks only."""
        found = {}
        for pid in self._pids():
            for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
                try:
                    found[int(path.parent.name)] = int(path.read_text().split()[0]) / 1e9
                except (FileNotFoundError, ProcessLookupError):
                    continue
        return found

    def memory(self) -> int:
        """Resident memory in bytes; what processes share is counted once (PSS)."""
        total = 0
        for pid in self._pids():
            try:
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            except (FileNotFoundError, ProcessLookupError):
                continue
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
        return total


class Contestant:
    """One line of the tables. `tags` are the words by which cases choose who takes part."""

    def __init__(self, name: str, *tags: str) -> None:
        self.name, self.tags = name, set(tags)

    def unfit(self, wishes: Wishes) -> str:
        """Why it cannot take part in a case; empty when it can."""
        return ""

    def start(self, scene: Scene, wishes: Wishes) -> Running:
        raise NotImplementedError


class PgBouncerLike(Contestant):
    """Martlet or PgBouncer, which read the same file."""

    def __init__(self, name: str, program: Program, *tags: str, threads: int = 1, processes: int = 1,
                 routed: bool = False, settings: dict[str, object] | None = None) -> None:
        super().__init__(name, *tags)
        self.program, self.threads, self.processes, self.routed = program, threads, processes, routed
        self.settings = settings or {}

    def start(self, scene: Scene, wishes: Wishes) -> Running:
        server = scene.stand_in if wishes.stand_in and scene.stand_in else scene.cluster.primary
        databases = {"app": scene.cluster.entry(max_replica_lag="1h")} if self.routed else None
        settings = {
            "default_pool_size": max(1, wishes.pool // self.processes),
            "max_client_conn": min(max(2 * wishes.clients, 1_000), scene.files - 1_000), "query_wait_timeout": 120,
            "log_connections": 0, "log_disconnections": 0} | self.settings | wishes.settings
        made: list[Proxy] = []

        def stop() -> None:
            for proxy in made:
                proxy.stop()

        try:
            for _ in range(self.processes):
                proxy = Proxy(self.program, server, threads=self.threads, settings=settings, databases=databases,
                              secrets=wishes.secrets)
                if self.processes > 1:
                    proxy.settings["so_reuseport"] = 1
                    # Stopped without a look at its connections: another process may be the one that is asked.
                    proxy._check_files = lambda: ""  # type: ignore[method-assign]
                if made:
                    proxy.port = made[0].port
                    proxy.settings["listen_port"] = proxy.port
                made.append(proxy)
                proxy.start()
            if self.routed:
                wait_until(lambda: {row["role"] for row in made[0].show("NODES")} == {"primary", "replica"},
                           "the roles are known")
        except BaseException:
            stop()
            raise
        return Running(made[0].host, made[0].port, lambda: [proxy.pid for proxy in made], stop)


class Foreign(Contestant):
    """A pooler of Debian testing with a process for each client, run by its folder's own loader."""

    binary = ""

    @classmethod
    def command(cls) -> list[str]:
        libraries = TESTING_SUITE / f"usr/lib/{os.uname().machine}-linux-gnu"
        loader = next(libraries.glob("ld-linux-*.so.*"))
        return [str(loader), "--library-path", f"{libraries}:{TESTING_SUITE}/usr/lib",
                str(TESTING_SUITE / cls.binary)]

    @classmethod
    def exists(cls) -> bool:
        return (TESTING_SUITE / cls.binary).exists()

    @classmethod
    def version(cls) -> str:
        """The number in what it says of itself."""
        answer = subprocess.run([*cls.command(), "--version"], capture_output=True, text=True)
        words = (answer.stdout + answer.stderr).replace(",", " ").split()
        return next((word for word in words if word[0].isdigit()), "?")

    def unfit(self, wishes: Wishes) -> str:
        if wishes.settings or wishes.secrets:
            return "is not set up for it here"
        if wishes.clients > 400:
            return "a process for each client is too much for this case"
        return ""

    def trial(self, scene: Scene) -> str:
        """Why it does not work at all on this machine; empty if it does."""
        try:
            running = self.start(scene, Wishes(clients=4))
        except AssertionError as error:
            return str(error)
        try:
            with psycopg.connect(host=running.host, port=running.port, user="app", dbname="app") as connection:
                connection.execute("SELECT 1")
            return ""
        except psycopg.Error as error:
            return f"{str(error).splitlines()[0]}; its log: {running.log().strip()[-200:]}"
        finally:
            running.stop()

    def configure(self, folder: Path, port: int, primary: Cluster, wishes: Wishes) -> list[str]:
        """Writes its files; gives its arguments."""
        raise NotImplementedError

    def start(self, scene: Scene, wishes: Wishes) -> Running:
        folder, port = service_directory("mo-"), free_port()
        arguments = self.configure(folder, port, scene.cluster.primary, wishes)
        own(folder)
        with open(folder / "log", "wb") as log:
            process = subprocess.Popen(
                as_service_user([*self.command(), *arguments]), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                env=environment(HOME=str(folder)), cwd=folder, start_new_session=True)

        def stop() -> None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            remove(folder)

        def listens() -> bool:
            assert process.poll() is None, f"{self.name} ended:\n{(folder / 'log').read_text()[-2000:]}"
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return True
            except OSError:
                return False

        try:
            wait_until(listens, f"{self.name} accepts connections", 20)
        except BaseException:
            stop()
            raise

        def family(pid: int) -> list[int]:
            return [pid, *(each for child in child_processes(pid) for each in family(child))]

        return Running("127.0.0.1", port, lambda: family(process.pid), stop, has_children=True,
                       log=lambda: (folder / "log").read_text(errors="replace"))


class Pgpool(Foreign):
    """Pools by session: each client has a server connection of its own."""

    binary = "usr/sbin/pgpool"

    def configure(self, folder: Path, port: int, primary: Cluster, wishes: Wishes) -> list[str]:
        settings = {
            "backend_clustering_mode": "raw", "listen_addresses": "127.0.0.1", "port": port,
            "unix_socket_directories": folder, "pcp_listen_addresses": "", "pcp_port": free_port(),
            "pcp_socket_dir": folder, "pid_file_name": folder / "pid", "logdir": folder, "work_dir": folder,
            "backend_hostname0": primary.host, "backend_port0": primary.port, "backend_weight0": 1,
            "num_init_children": wishes.clients + 8, "max_pool": 1, "reserved_connections": 0,
            "enable_pool_hba": "off", "pool_passwd": "", "load_balance_mode": "off", "sr_check_period": 0,
            "health_check_period": 0, "child_life_time": 0, "listen_backlog_multiplier": 2}
        lines = (f"{key} = {value}\n" if isinstance(value, int) else f"{key} = '{value}'\n"
                 for key, value in settings.items())
        (folder / "pgpool.conf").write_text("".join(lines))
        for name in ("pcp.conf", "pool_hba.conf"):
            (folder / name).touch()
        return ["-n", "-f", str(folder / "pgpool.conf"), "-F", str(folder / "pcp.conf"),
                "-a", str(folder / "pool_hba.conf")]


class Pgagroal(Foreign):
    """Pools by session too, with its `performance` pipeline, its default."""

    binary = "usr/bin/pgagroal"

    def configure(self, folder: Path, port: int, primary: Cluster, wishes: Wishes) -> list[str]:
        (folder / "pgagroal.conf").write_text(ini({
            "pgagroal": {
                "host": "127.0.0.1", "port": port, "unix_socket_dir": folder, "log_type": "file",
                "log_path": folder / "pgagroal.log", "log_level": "warn", "max_connections": wishes.clients + 8,
                "idle_timeout": 600, "validation": "off", "pidfile": folder / "pid", "backlog": 1024,
                # Each of its processes would lock memory for a ring.
                "ev_backend": "epoll",
                # A title is written over the arguments, and those of the loader are too short for it.
                "update_process_title": "never"},
            "primary": {"host": primary.host, "port": primary.port}}))
        (folder / "hba.conf").write_text("host all all all trust\n")
        return ["-c", str(folder / "pgagroal.conf"), "-a", str(folder / "hba.conf")]


class Direct(Contestant):
    """PostgreSQL without a pooler: its own processes are nobody's cost."""

    def unfit(self, wishes: Wishes) -> str:
        if wishes.settings or wishes.secrets:
            return "there is no pooler to set up"
        return "more clients than a server takes" if wishes.clients > 400 else ""

    def start(self, scene: Scene, wishes: Wishes) -> Running:
        primary = scene.cluster.primary
        return Running(primary.host, primary.port, list, lambda: None)


def knows_io_uring(program: Program, scene: Scene) -> str:
    """Why this Martlet cannot run with io_uring; empty if it can."""
    proxy = Proxy(program, scene.cluster.primary, threads=1, settings={"event_loop": "io_uring"})
    try:
        proxy.start()
        rings = [path for path in Path(f"/proc/{proxy.pid}/fd").iterdir() if "io_uring" in os.readlink(path)]
        return "" if rings else "it goes on with epoll"
    except AssertionError:
        last = [line for line in proxy.log_text().splitlines() if line][-1:]
        return last[0] if last else "it does not start"
    finally:
        proxy.expect_end = True
        try:
            proxy.stop()
        except AssertionError:
            pass


def kind_of(threads: int) -> tuple[str, ...]:
    """Which of the cases with PostgreSQL behind them a contestant with so many threads, or processes, takes part in."""
    return ("main",) if threads == 1 else ("threads",) if threads == 2 else ()


def field_of(scene: Scene, martlets: list[str], threads: list[int], say: Callable[[str], None]) -> list[Contestant]:
    """All who take part; the yardstick, one process of PgBouncer, is the one tagged so."""
    found: list[Contestant] = []
    for number, which in enumerate(martlets):
        path = Program.find(which).command[-1]
        copy = scene.folder / f"martlet{number}"
        shutil.copy(path, copy)
        own(scene.folder)
        program = Program("martlet", (str(copy),))
        name = "Martlet" if len(martlets) == 1 else f"Martlet {'ABCDEFGH'[number]}"
        why = knows_io_uring(program, scene)
        if why:
            say(f"{name}, io_uring: skipped ({why})")
        settings = {"event_loop": "epoll"}
        for count in threads:
            tags = ("martlet", "scaling", *kind_of(count))
            suffix = "" if count == 1 else f", {count} threads"
            found.append(PgBouncerLike(f"{name} epoll{suffix}", program, *tags, threads=count, settings=settings))
            if not why:
                found.append(PgBouncerLike(f"{name} io_uring{suffix}", program, *tags, threads=count,
                                           settings={"event_loop": "io_uring"}))
        found.append(PgBouncerLike(f"{name} epoll, routed", program, "routed", routed=True, settings=settings))
        if not why:
            found.append(PgBouncerLike(f"{name} io_uring, routed", program, "routed", routed=True,
                                       settings={"event_loop": "io_uring"}))
    bouncer = Program.find("pgbouncer")
    version = bouncer.version().split()[-1]
    for count in sorted({1, *threads}):
        tags = ("pgbouncer", "scaling", *kind_of(count), *(["yardstick"] if count == 1 else []))
        suffix = "" if count == 1 else f", {count} processes"
        found.append(PgBouncerLike(f"PgBouncer {version}{suffix}", bouncer, *tags, processes=count))
    for kind, name in ((Pgpool, "Pgpool-II"), (Pgagroal, "pgagroal")):
        if not kind.exists():
            say(f"{name}: skipped (not in {TESTING_SUITE})")
            continue
        contestant = kind(f"{name} {kind.version()}", "other")
        why = contestant.trial(scene)
        if why:
            say(f"{contestant.name}: skipped ({why})")
        else:
            found.append(contestant)
    found.append(Direct("PostgreSQL directly", "direct"))
    return found
