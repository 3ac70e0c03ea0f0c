"""A connection URL in the place of a file: whom it serves, what libpq's parameters do, and who may administer it."""

from __future__ import annotations

import getpass
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from cluster import Cluster
from common import AS_ROOT, as_service_user, environment, free_port, wait_until
from proxy import Program
from test_tls import Papers, papers, strict_cluster  # noqa: F401  (fixtures)

pytestmark = [pytest.mark.one_loop, pytest.mark.martlet("quick start without a file")]


class Started:
    def __init__(self, program: Program, scratch: Path, cluster: Cluster, parameters: dict[str, object], *,
                 user: str = "app", database: str = "app", password: str = "") -> None:
        self.port = free_port()
        self.socket = scratch
        self.log = scratch / f"log-{self.port}"
        parameters = {"listen_port": self.port, "unix_socket_dir": scratch} | parameters
        query = "&".join(f"{key}={quote(str(value), safe='')}" for key, value in parameters.items())
        secret = f":{password}" if password else ""
        url = f"postgresql://{user}{secret}@{cluster.host}:{cluster.port}/{database}?{query}"
        with open(self.log, "wb") as output:
            self.process = subprocess.Popen(
                as_service_user([*program.command, url]), stdout=output, stderr=output, env=environment(), cwd="/")

    def ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return "process up" in self.log.read_text()

    def connect(self, dbname: str = "app", user: str = "whoever", **more: object) -> psycopg.Connection:
        return psycopg.connect(  # type: ignore[call-overload]
            **({"host": "127.0.0.1", "port": self.port, "dbname": dbname, "user": user, "autocommit": True} | more))

    def value(self, sql: str, **more: object) -> object:
        with self.connect(**more) as connection:
            return connection.execute(sql).fetchone()[0]  # type: ignore[index]

    def console(self, host: str, user: str, *command: str, as_service: bool = True) -> subprocess.CompletedProcess[str]:
        arguments = ["psql", "-XAtq", "-h", host, "-p", str(self.port), "-U", user, "-c", *command, "pgbouncer"]
        return subprocess.run(as_service_user(arguments) if as_service else arguments, capture_output=True, text=True,
                              env=environment(), cwd="/", timeout=20)


@pytest.fixture
def start(program: Program, scratch: Path, cluster: Cluster) -> Iterator[Callable[..., Started]]:
    made: list[Started] = []

    def begin(behind: Cluster | None = None, *, wait: bool = True, parameters: dict[str, object] | None = None,
              **more: object) -> Started:
        made.append(Started(program, scratch, behind or cluster, parameters or {}, **more))  # type: ignore[arg-type]
        if wait:
            wait_until(made[-1].ready, "it serves")
        return made[-1]

    yield begin
    for each in made:
        each.process.send_signal(signal.SIGQUIT)
        each.process.wait(10)


def test_it_serves(start: Callable[..., Started]) -> None:
    """Every name on this machine, as the URL's user, in every database of that server."""
    started = start()
    assert started.value("SELECT current_database() || current_user") == "appapp"
    assert started.value("SELECT current_database() || current_user", dbname="app2", user="other") == "app2app"
    assert f"try: psql -h 127.0.0.1 -p {started.port} app" in started.log.read_text()


def test_who_may_administer_it(start: Callable[..., Started]) -> None:
    """Who has started it, on the Unix socket that nobody else can open; names that come over TCP prove nothing."""
    started = start()
    assert f"console: psql -h {started.socket} -p {started.port} -U pgbouncer pgbouncer" in started.log.read_text()
    socket = str(started.socket)
    answer = started.console(socket, "pgbouncer", "SHOW VERSION")
    assert answer.returncode == 0 and "Martlet" in answer.stdout, answer.stderr
    for host in ("127.0.0.1", socket):
        for user in {"app", "postgres", "admin", "root", getpass.getuser(), "pgbouncer"}:
            if (host, user) != (socket, "pgbouncer"):
                refused = started.console(host, user, "SHUTDOWN")
                assert refused.returncode != 0 and "not allowed" in refused.stderr, (host, user)
    assert (started.socket / f".s.PGSQL.{started.port}").stat().st_mode & 0o777 == 0o700
    if AS_ROOT:
        # Root can open it, but is not who has started it.
        assert started.console(socket, "pgbouncer", "SHOW VERSION", as_service=False).returncode != 0
    started.console(socket, "pgbouncer", "SHUTDOWN")
    assert started.process.wait(10) == 0


def test_admins_by_name(start: Callable[..., Started]) -> None:
    """Who wants names to do has to say so."""
    started = start(parameters={"admin_users": "me", "stats_users": "you", "unix_socket_dir": ""})
    with started.connect("pgbouncer", "me") as console:
        console.execute("SET query_timeout = 60")
    with started.connect("pgbouncer", "you") as console:
        with pytest.raises(psycopg.Error, match="admin access needed"):
            console.execute("RELOAD")


def test_parameters_for_the_session(start: Callable[..., Started]) -> None:
    started = start(parameters={
        "application_name": "my app", "options": "-c search_path=pg_catalog -c work_mem=7MB", "client_encoding": "LATIN1",
        "connect_timeout": 5, "keepalives_idle": 30, "target_session_attrs": "any", "gssencmode": "disable"})
    assert started.value("SHOW search_path") == "pg_catalog"
    assert started.value("SHOW work_mem") == "7MB"
    with started.connect(application_name=None) as connection:
        # libpq itself says nothing of these, so the server connection's hold.
        assert connection.execute("SHOW application_name").fetchone() == ("my app",)
    # They come back after whatever a client has made of them.
    with started.connect() as connection:
        connection.execute("RESET ALL")
        assert connection.execute("SHOW work_mem").fetchone() == ("7MB",)


@pytest.mark.parametrize("parameters", [
    {"sslmode": "verify-full"}, {"sslmode": "require"}, {"sslmode": "verify-ca", "channel_binding": "require"},
    {"channel_binding": "require", "sslmode": "verify-full", "ssl_min_protocol_version": "TLSv1.3"}])
def test_tls(start: Callable[..., Started], papers: Papers, strict_cluster: Cluster,  # noqa: F811
             parameters: dict[str, str]) -> None:
    """The server wants a certificate of the client, which is shown; and its own is verified."""
    files = {"sslrootcert": papers.authority.crt, "sslcert": papers.app.crt, "sslkey": papers.app.key}
    started = start(strict_cluster, password="app-secret", parameters=parameters | files)
    assert started.value("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") is True
    # Named is an authority that has not signed it: as in libpq `require` is then verify-ca.
    other = start(strict_cluster, password="app-secret", parameters=parameters | files | {
        "sslrootcert": papers.stranger.crt})
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        other.value("SELECT 1")


def test_channel_binding_that_is_not_to_be_had(start: Callable[..., Started]) -> None:
    """A server without TLS, or one that trusts whoever comes, is not the one that is meant."""
    started = start(parameters={"channel_binding": "require"})
    with pytest.raises(psycopg.OperationalError, match="server does not offer channel binding, which channel_binding"):
        started.value("SELECT 1")
    assert start(parameters={"channel_binding": "disable"}).value("SELECT 1") == 1


def test_target_session_attrs(start: Callable[..., Started]) -> None:
    """The only server is the primary: writes go there, and who wants a standby is not sent to it."""
    started = start(parameters={"target_session_attrs": "read-write", "check_interval": "100ms"})
    assert wait_until(lambda: started.value("SELECT pg_is_in_recovery()") is False, "the primary is found")


@pytest.mark.parametrize(("query", "expected"), [
    ("pool_siz=3", 'unknown key "pool_siz" of the connection URL; did you mean "pool_size"?'),
    ("hostaddr=127.0.0.1", 'unknown key "hostaddr" of the connection URL'),
    ("gssencmode=require", "the connection URL has gssencmode=require, which is not supported here"),
    ("sslrootcert=/nosuch", "server_tls_ca_file: cannot read /nosuch"),
    ("sslcert=/nosuch", "server_tls_key_file is not set"), ("listen_port=0", "listen_port must be from 1 to 65535")])
def test_mistakes(program: Program, query: str, expected: str) -> None:
    for arguments in ((), ("--check",)):
        result = subprocess.run(
            as_service_user([*program.command, *arguments, f"postgresql://app:geheim@127.0.0.1:1/app?{query}"]),
            capture_output=True, text=True, env=environment(), cwd="/", timeout=20)
        assert result.returncode == 1 and expected in result.stderr
        assert "geheim" not in result.stdout + result.stderr
