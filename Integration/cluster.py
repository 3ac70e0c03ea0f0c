"""A throw-away PostgreSQL: initdb once, then a copy for each cluster. With replicas: replicated.py.

PostgreSQL 15 of the machine is taken, or another version by environment:
MARTLET_PG_BIN names a folder with PostgreSQL's programs, MARTLET_PG_ROOT a folder made by `testing-suite`, whose
PostgreSQL runs by chroot (with the machine's /tmp inside, so paths are the same on both sides).
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psycopg
from psycopg import sql

from common import (
    CACHE, as_service_user, child_processes, environment, free_port, is_running, own, remove, service_directory,
    wait_until)

# Users of every cluster: name -> (password, how the password is stored, method in pg_hba.conf).
USERS = {
    "app": ("app-secret", "scram-sha-256", "trust"),
    "trust_user": ("trust-secret", "scram-sha-256", "trust"),
    "plain_user": ("plain-secret", "scram-sha-256", "password"),
    "md5_user": ("md5-secret", "md5", "md5"),
    "scram_user": ("scram-secret", "scram-sha-256", "scram-sha-256"),
    "scram_other": ("other-secret", "scram-sha-256", "scram-sha-256"),
}

DATABASES = ("app", "app2")


class Installation:
    """Where PostgreSQL's programs are and how they are started."""

    def __init__(self) -> None:
        self.root = Path(os.environ["MARTLET_PG_ROOT"]) if "MARTLET_PG_ROOT" in os.environ else None
        if "MARTLET_PG_BIN" in os.environ:
            self.bin = Path(os.environ["MARTLET_PG_BIN"])
        else:
            base = (self.root or Path("/")) / "usr/lib/postgresql"
            versions = sorted(base.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
            if not versions:
                raise RuntimeError(f"no PostgreSQL server in {base}: run Integration/test, which installs it")
            self.bin = Path("/") / versions[-1].parent.relative_to(self.root or "/")

    def command(self, program: str, *arguments: str) -> list[str]:
        """The command line that runs one of PostgreSQL's programs as the service user; its pid is the program's."""
        if self.root is None:
            return as_service_user([str(self.bin / program), *arguments], when_we_die="QUIT")
        user = re.search(r"^postgres:[^:]*:(\d+):(\d+):", (self.root / "etc/passwd").read_text(), re.MULTILINE)
        assert user, f"{self.root} has no user postgres"
        script = 'for place in /tmp /dev; do mount --rbind $place "$1$place"; done; mount -t proc proc "$1/proc"; ' \
            'root=$1; shift; exec chroot "$root" "$@"'
        return ["unshare", "--mount", "--propagation", "private", "sh", "-e", "-c", script, "sh", str(self.root),
                "setpriv", f"--reuid={user[1]}", f"--regid={user[2]}", "--clear-groups", "--pdeathsig=QUIT",
                str(self.bin / program), *arguments]

    def version(self) -> str:
        """As the server prints it, such as "15.18"."""
        text = subprocess.run(self.command("postgres", "--version"), capture_output=True, text=True, check=True).stdout
        return text.split()[2]

    def initdb(self, data: Path) -> None:
        """Makes a data directory of its own history: a cluster that belongs to no other."""
        subprocess.run(
            self.command(
                "initdb", "--no-sync", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8",
                "--pgdata", str(data)),
            check=True, stdout=subprocess.DEVNULL, env=environment(), cwd="/")

    def template(self) -> Path:
        """A data directory with the users and databases above, made once for each version."""
        CACHE.mkdir(exist_ok=True)
        version = self.version()
        template = Path("/tmp") / f"martlet-template-{version}-{os.geteuid()}"
        with open(CACHE / "template.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if (template / "complete").exists():
                return template
            remove(template)
            template.mkdir(mode=0o700)
            own(template)
            data = template / "data"
            self.initdb(data)
            cluster = Cluster(self, directory=template, data=data)
            cluster.start()
            with cluster.connect(dbname="postgres") as connection:
                for name, (password, storage, _) in USERS.items():
                    connection.execute(f"SET password_encryption = '{storage}'")
                    connection.execute(f"CREATE ROLE {name} LOGIN REPLICATION PASSWORD '{password}'")
                for name in DATABASES:
                    connection.execute(f"CREATE DATABASE {name} OWNER app")
            for name in DATABASES:
                with cluster.connect(dbname=name) as connection:
                    connection.execute("GRANT ALL ON SCHEMA public TO public")
            cluster.stop()
            (template / "complete").touch()
        return template


class Cluster:
    """One running PostgreSQL with its own port and socket folder."""

    def __init__(
        self,
        installation: Installation | None = None,
        *,
        max_connections: int = 300,
        settings: dict[str, str] | None = None,
        hba: list[str] | None = None,
        directory: Path | None = None,
        data: Path | None = None,
    ) -> None:
        self.installation = installation or Installation()
        self.max_connections = max_connections
        self.settings = settings or {}
        self.hba = hba
        self.host = "127.0.0.1"
        self.process: subprocess.Popen[bytes] | None = None
        self._temporary = directory is None
        self.directory = directory or service_directory("mp-")
        self.data = data or self.directory / "data"
        self.log = self.directory / "postgresql.log"
        if data is None:
            shutil.copytree(self.installation.template() / "data", self.data)
            self.data.chmod(0o700)
            own(self.directory)
        self.port = free_port()

    # Configuration

    def _write_configuration(self) -> None:
        settings = {
            "listen_addresses": "'127.0.0.1'",
            "port": str(self.port),
            "unix_socket_directories": f"'{self.directory}'",
            "max_connections": str(self.max_connections),
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "shared_buffers": "'64MB'",
            # In its own folder, which is removed with what a killed server leaves behind.
            "dynamic_shared_memory_type": "mmap",
            "max_wal_senders": "10",
            "max_wal_size": "'1GB'",
            "wal_level": "replica",
            "hot_standby": "on",
            "log_min_messages": "warning",
            "log_line_prefix": "'%m [%p] %u@%d '",
            "timezone": "'UTC'",
            "log_timezone": "'UTC'",
            "autovacuum": "off",
            "lc_messages": "'C'",
        } | self.settings
        text = "".join(f"{name} = {value}\n" for name, value in settings.items())
        (self.data / "postgresql.conf").write_text(text)
        hba = self.hba or [
            "local all,replication all trust",
            *(f"host all,replication {name} 127.0.0.1/32 {method}" for name, (_, _, method) in USERS.items()),
            "host all,replication all 127.0.0.1/32 trust",
        ]
        (self.data / "pg_hba.conf").write_text(
            "".join(line.replace("all,replication", "all") + "\n" for line in hba)
            + "".join(
                line.replace("all,replication", "replication") + "\n" for line in hba if "all,replication" in line))
        own(self.data)

    # Life

    def start(self, wait: bool = True) -> Cluster:
        assert self.process is None, "this cluster runs already"
        self._write_configuration()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.installation.command("postgres", "-D", str(self.data)),
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment(), cwd="/",
                start_new_session=True)  # Ctrl-c in a terminal is for us alone.
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self, timeout: float = 30.0) -> None:
        def ready() -> bool:
            assert self.process and self.process.poll() is None, f"PostgreSQL ended:\n{self.log_text()[-3000:]}"
            try:
                self.connect(dbname="postgres", connect_timeout=2).close()
                return True
            except psycopg.OperationalError:
                return False

        wait_until(ready, f"PostgreSQL on port {self.port} accepts connections", timeout)

    def stop(self, mode: str = "fast") -> None:
        """Stops the server; `mode` is PostgreSQL's: smart, fast or immediate."""
        if self.process is None:
            return
        self.process.send_signal(
            {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode])
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def restart(self, mode: str = "fast") -> None:
        self.stop(mode)
        self.start()

    def processes(self) -> list[int]:
        """The postmaster and its children."""
        return [self.process.pid, *child_processes(self.process.pid)] if self.process else []

    def kill(self) -> None:
        """Ends all its processes at once and leaves the files as they are, as a power failure does."""
        if self.process is None:
            return
        everybody = self.processes()
        for pid in everybody:  # The postmaster first, so that it starts no others.
            _send(pid, signal.SIGKILL)
        self.process.wait()
        self.process = None
        wait_until(lambda: not any(is_running(pid) for pid in everybody), "all processes have ended")

    def freeze(self) -> None:
        """Stops all its processes without a word to anybody: connections stay open, and no answer comes."""
        for pid in self.processes():
            _send(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        for pid in self.processes():
            _send(pid, signal.SIGCONT)

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def remove(self) -> None:
        self.thaw()
        self.stop("immediate")
        if self._temporary:
            remove(self.directory)

    # Replication: each as a step of its own; replicated.py has them in their order

    def become_replica(self, of: Cluster, name: str) -> None:
        """From its next start on this stopped server is a replica of the other, if its data go together with those."""
        (self.data / "standby.signal").touch()
        (self.data / "postgresql.auto.conf").write_text("")
        self.settings["primary_conninfo"] = f"'{of.conninfo(name)}'"

    def copy_data_from(self, primary: Cluster) -> None:
        """Replaces the data of this stopped server by a base backup of the other."""
        remove(self.data)
        subprocess.run(
            self.installation.command(
                "pg_basebackup", "--pgdata", str(self.data), "--host", primary.host, "--port", str(primary.port),
                "--username=postgres", "--no-sync", "--checkpoint=fast", "--wal-method=stream"),
            check=True, env=environment(), cwd="/", stdout=subprocess.DEVNULL)

    def conninfo(self, application_name: str) -> str:
        """For a replica's primary_conninfo."""
        return f"host={self.host} port={self.port} user=postgres application_name={application_name}"

    def alter(self, setting: str, value: str) -> None:
        """Sets a setting for good and has it read; works in a replica too, however far it is behind."""
        with self.connect(dbname="postgres") as connection:
            connection.execute(sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(setting), sql.Literal(value)))
            connection.execute("SELECT pg_reload_conf()")

    # Use

    def last_checkpoint(self) -> str:
        """Where the last checkpoint's record begins; in a server that was shut down it is the last record of all."""
        command = self.installation.command("pg_controldata", str(self.data))
        text = subprocess.run(command, env=os.environ | {"LC_ALL": "C"}, capture_output=True, text=True, check=True).stdout
        return re.search(r"^Latest checkpoint location: +(\S+)$", text, re.MULTILINE)[1]

    def connect(self, dbname: str = "app", user: str = "postgres", **more: object) -> psycopg.Connection:
        """A connection straight to the server, by default as superuser, in autocommit mode."""
        more.setdefault("autocommit", True)
        return psycopg.connect(  # type: ignore[arg-type]
            host=self.host, port=self.port, dbname=dbname, user=user, **more)

    def rows(self, query: str, *parameters: object, dbname: str = "postgres") -> list[tuple]:
        with self.connect(dbname=dbname) as connection:
            return connection.execute(query, parameters or None).fetchall()  # type: ignore[arg-type]

    def value(self, query: str, *parameters: object, dbname: str = "postgres") -> object:
        return self.rows(query, *parameters, dbname=dbname)[0][0]

    def backends(self, dbname: str, user: str | None = None) -> list[tuple[int, str, str]]:
        """Process id, state and last query of the client backends of a database."""
        return self.rows(
            "SELECT pid, coalesce(state, ''), query FROM pg_stat_activity "
            "WHERE datname = %s AND backend_type = 'client backend' AND pid <> pg_backend_pid() "
            "AND (%s::text IS NULL OR usename = %s) ORDER BY pid",
            dbname, user, user)

    def create_database(self, name: str) -> str:
        with self.connect(dbname="postgres") as connection:
            connection.execute(f"CREATE DATABASE {name} OWNER app")
        with self.connect(dbname=name) as connection:
            connection.execute("GRANT ALL ON SCHEMA public TO public")
        return name

    def drop_database(self, name: str) -> None:
        with self.connect(dbname="postgres") as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


class BackendSampler:
    """Counts a database's backends from a thread of its own, as often as it can, and keeps the highest count."""

    def __init__(self, cluster: Cluster, dbname: str, user: str | None = None) -> None:
        import threading

        self.highest = 0
        self.samples = 0
        self.pids: set[int] = set()
        self._cluster, self._dbname, self._user = cluster, dbname, user
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        with self._cluster.connect(dbname="postgres") as connection:
            while not self._stop.is_set():
                rows = connection.execute(
                    "SELECT pid FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend' "
                    "AND (%s::text IS NULL OR usename = %s)", (self._dbname, self._user, self._user)).fetchall()
                self.highest = max(self.highest, len(rows))
                self.pids.update(row[0] for row in rows)
                self.samples += 1
                time.sleep(0.005)

    def __enter__(self) -> BackendSampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
