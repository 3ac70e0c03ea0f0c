"""The proxy under test: Martlet, or a PgBouncer as the yardstick, started with an ini that the fixture writes."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.rows import dict_row

from cluster import USERS, Cluster
from common import (
    AS_ROOT, REPOSITORY, TESTING_SUITE, ProcessFigures, as_service_user, environment, free_port, own, remove,
    service_directory, wait_until)

# Text in a log that no run may leave behind, whatever the test did.
TROUBLE = re.compile(
    r"Fatal error|AddressSanitizer|ThreadSanitizer|Swift runtime failure|Thread \d+ crashed|\*\*\* Signal|"
    r"Illegal instruction|Segmentation fault|Assertion .* failed|stack smashing|double free|corrupted|BUG:",
    re.IGNORECASE)

# Every proxy of the suite lets these in: the roles of the cluster with their passwords, and the console's users.
USERLIST = {name: password for name, (password, _, _) in USERS.items()} | {
    "postgres": "", "admin": "admin-secret", "stats": "stats-secret"}


@dataclass(frozen=True)
class Program:
    """A proxy's program: its kind ("martlet" or "pgbouncer") and the command line in front of its arguments."""

    kind: str
    command: tuple[str, ...]

    @staticmethod
    def find(which: str) -> Program:
        """From the option --proxy: "martlet", "pgbouncer", or the path of a program."""
        if which == "pgbouncer":
            folder = TESTING_SUITE
            if (folder / "usr/sbin/pgbouncer").exists():
                libraries = folder / f"usr/lib/{os.uname().machine}-linux-gnu"
                loader = next(libraries.glob("ld-linux-*.so.*"))
                return Program("pgbouncer", (
                    str(loader), "--library-path", f"{libraries}:{folder}/usr/lib", str(folder / "usr/sbin/pgbouncer")))
            return Program("pgbouncer", (shutil.which("pgbouncer") or "/usr/sbin/pgbouncer",))
        if which == "martlet":
            which = os.environ.get("MARTLET", str(REPOSITORY / ".build/release/martlet"))
        path = Path(which).resolve()
        return Program("pgbouncer" if "pgbouncer" in path.name else "martlet", (str(path),))

    @contextmanager
    def for_service_user(self) -> Iterator[Program]:
        """The same program where the service user can read it: Martlet does not run as root."""
        if self.kind != "martlet" or not AS_ROOT:
            yield self
            return
        folder = service_directory("mb-")
        try:
            shutil.copy(self.command[-1], folder / "martlet")
            own(folder)
            yield Program("martlet", (str(folder / "martlet"),))
        finally:
            remove(folder)

    def exists(self) -> bool:
        return Path(self.command[-1]).exists()

    def version(self) -> str:
        answer = subprocess.run([*self.command, "--version"], capture_output=True, text=True)
        return answer.stdout.splitlines()[0] if answer.stdout else answer.stderr.strip()


def ini(sections: dict[str, dict[str, object]]) -> str:
    return "".join(
        f"[{section}]\n" + "".join(f"{key} = {value}\n" for key, value in values.items()) + "\n"
        for section, values in sections.items() if values or section == "databases")


def userlist(entries: dict[str, str]) -> str:
    return "".join('"{}" "{}"\n'.format(name.replace('"', '""'), secret.replace('"', '""'))
                   for name, secret in entries.items())


class Proxy:
    """One running proxy in front of a cluster.

    By default transaction pooling, every database of the cluster, trust, and no waiting for ever. `settings` are keys
    of [pgbouncer] (None removes one), `databases` and `users` are lines of those sections.
    """

    def __init__(
        self,
        program: Program,
        cluster: Cluster,
        *,
        settings: dict[str, object] | None = None,
        databases: dict[str, str] | None = None,
        users: dict[str, str] | None = None,
        secrets: dict[str, str] | None = None,
        threads: int = 2,
        event_loop: str = "auto",
        open_files: int | None = None,
    ) -> None:
        self.program = program
        self.cluster = cluster
        self.directory = service_directory("mx-")
        self.host = "127.0.0.1"
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.log = self.directory / "proxy.log"
        self.config = self.directory / "proxy.ini"
        self.open_files = open_files
        self.secrets = USERLIST if secrets is None else secrets
        self.databases: dict[str, object] = dict(
            {"*": self.server()} if databases is None else databases)
        self.users: dict[str, object] = dict(users or {})
        self.settings: dict[str, object] = {
            "listen_addr": self.host,
            "listen_port": self.port,
            "unix_socket_dir": self.directory,
            "auth_type": "trust",
            "auth_file": self.directory / "userlist.txt",
            "admin_users": "admin",
            "stats_users": "stats",
            "pool_mode": "transaction",
            "default_pool_size": 10,
            "max_client_conn": 1000,
            "max_prepared_statements": 100,
            "server_login_retry": 1,
            "server_tls_sslmode": "disable",
            "query_wait_timeout": 30,
            "stats_period": 60,
        }
        if program.kind == "martlet":
            self.settings["threads"] = threads
            self.settings["event_loop"] = event_loop
        else:
            self.settings["ignore_startup_parameters"] = "extra_float_digits,options"
        self.settings |= settings or {}
        self.expect_end = False
        self.start_files = 0
        # Seconds that it has to start and to stop.
        self.patience = 10.0

    @property
    def is_martlet(self) -> bool:
        return self.program.kind == "martlet"

    def server(self, **more: object) -> str:
        """A value for [databases] that leads to the cluster; `more` are further keys."""
        pairs = {"host": self.cluster.host, "port": self.cluster.port} | more
        return " ".join(f"{key}={value}" for key, value in pairs.items())

    # Life

    def write_configuration(self) -> None:
        self.config.write_text(ini({
            "databases": self.databases, "users": self.users,
            "pgbouncer": {key: value for key, value in self.settings.items() if value is not None}}))
        if self.settings.get("auth_file"):
            Path(str(self.settings["auth_file"])).write_text(userlist(self.secrets))
        own(self.directory)

    def start(self, *arguments: str, wait: bool = True, env: dict[str, str] | None = None) -> Proxy:
        assert self.process is None
        self.write_configuration()

        def limits() -> None:
            if self.open_files:
                resource.setrlimit(resource.RLIMIT_NOFILE, (self.open_files, self.open_files))

        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                as_service_user([*self.program.command, *arguments, str(self.config)]),
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment(**(env or {})), cwd="/",
                preexec_fn=limits, start_new_session=True)
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self) -> None:
        def accepts() -> bool:
            assert self.process and self.process.poll() is None, f"the proxy ended:\n{self.log_text()[-3000:]}"
            # It says so when it has set up everything; that it can be reached alone may come a little earlier.
            if not any("process up" in path.read_text(errors="replace") for path in logs if path.exists()):
                return False
            try:
                socket.create_connection((self.host, self.port), 1).close()
                return True
            except OSError:
                return False

        logs = [self.log, Path(str(self.settings.get("logfile") or self.log))]

        wait_until(accepts, "the proxy accepts connections", self.patience)
        time.sleep(0.05)  # The probe's own socket is to be gone before files are counted.
        self.start_files = self.figures.open_files()

    @property
    def pid(self) -> int:
        assert self.process
        return self.process.pid

    @property
    def figures(self) -> ProcessFigures:
        return ProcessFigures(self.pid)

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def signal(self, number: int) -> None:
        assert self.process
        self.process.send_signal(number)

    def wait_end(self, timeout: float = 10) -> int:
        """Waits for the process to end by itself, which is expected then, and gives its exit status."""
        assert self.process
        self.expect_end = True
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end within {timeout} s; its log:\n{self.log_text()[-2000:]}") from None

    def stop(self) -> None:
        """Stops it and checks that it had stayed well: running, no trouble in the log, every file closed again."""
        failure = ""
        try:
            if self.process is None:
                return
            status = self.process.poll()
            if status is not None:
                if not self.expect_end or status < 0:
                    failure = f"the proxy ended by itself with status {status}"
            else:
                failure = self._check_files()
                self.process.send_signal(signal.SIGQUIT)
                try:
                    self.process.wait(self.patience)
                except subprocess.TimeoutExpired:
                    failure = failure or f"the proxy did not end within {self.patience:.0f} s of SIGQUIT"
                    self.process.kill()
                    self.process.wait()
                if not failure and self.process.returncode < 0 and self.is_martlet:
                    failure = f"the proxy was ended by signal {-self.process.returncode} when asked to stop"
            if trouble := TROUBLE.search(self.log_text()):
                failure = failure or f"the log says {trouble[0]!r}"
            self.process = None
            assert not failure, f"{failure}\nlast lines of the log:\n{self.log_text()[-3000:]}"
        finally:
            remove(self.directory)

    def _check_files(self) -> str:
        """Every client is gone by now; what is open beyond the start must be server connections."""
        deadline = time.monotonic() + 5
        while True:
            try:
                servers = len(self.show("SERVERS")) + 2 * self._watched_servers()
            except (psycopg.Error, AssertionError):
                servers = -1
            if servers < 0:
                return ""  # The console may be closed to us by the test's own settings or a shutdown.
            extra = self.figures.open_files() - self.start_files - servers
            if extra <= 4:
                return ""
            if time.monotonic() > deadline:
                return f"{extra} files stayed open ({servers} server connections not counted)"
            time.sleep(0.1)

    def _watched_servers(self) -> int:
        """How many servers its router keeps connections of its own to."""
        if not any("routing=" in str(value) for value in self.databases.values()):
            return 0
        return len({(row["addr"], row["port"]) for row in self.show("NODES")})

    # Use

    def connect(self, dbname: str = "app", user: str = "app", **more: object) -> psycopg.Connection:
        more.setdefault("autocommit", True)
        more.setdefault("host", self.host)
        return psycopg.connect(port=self.port, dbname=dbname, user=user, **more)  # type: ignore[arg-type]

    def dsn(self, dbname: str = "app", user: str = "app") -> str:
        return f"postgresql://{user}@{self.host}:{self.port}/{dbname}"

    @contextmanager
    def console(self, user: str = "admin", **more: object) -> Iterator[psycopg.Connection]:
        """The console as a connection of simple queries."""
        connection = self.connect("pgbouncer", user, row_factory=dict_row, prepare_threshold=None, **more)
        try:
            yield connection
        finally:
            connection.close()

    def command(self, text: str, user: str = "admin") -> str:
        """Carries out a console command and gives its command tag."""
        with self.console(user) as console:
            return console.execute(text).statusmessage or ""

    def show(self, what: str) -> list[dict]:
        with self.console() as console:
            return console.execute(f"SHOW {what}").fetchall()

    def setting(self, key: str) -> str:
        """A value of SHOW CONFIG."""
        return {row["key"]: row["value"] for row in self.show("CONFIG")}[key]

    def state(self, key: str) -> str:
        """A value of SHOW STATE."""
        return {row["key"]: row["value"] for row in self.show("STATE")}[key]

    def database(self, name: str) -> dict:
        """A line of SHOW DATABASES."""
        return {row["name"]: row for row in self.show("DATABASES")}[name]

    def pool(self, database: str = "app", user: str = "app") -> dict:
        """The line of SHOW POOLS, or one of zeros as long as the pool does not exist."""
        for row in self.show("POOLS"):
            if row["database"] == database and row["user"] == user:
                return row
        return {name: 0 for name in (
            "cl_active", "cl_waiting", "sv_active", "sv_idle", "sv_used", "sv_tested", "sv_login", "maxwait")}

    def wait_pool(self, check: Callable[[dict], bool], what: str, database: str = "app", user: str = "app",
                  timeout: float = 10) -> dict:
        last: dict = {}

        def look() -> bool:
            last.update(self.pool(database, user))
            return check(last)

        wait_until(look, f"pool {database}/{user}: {what}", timeout)
        return last

    def reload(self) -> None:
        """Writes the configuration as it is now and has it read."""
        self.write_configuration()
        self.command("RELOAD")

    def log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""
