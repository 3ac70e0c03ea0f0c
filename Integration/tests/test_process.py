"""The process: signals, command line, files, and that it stands when it should."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from cluster import Cluster
from common import AS_ROOT, Background, as_service_user, environment, own, wait_until
from proxy import Program, Proxy
from rawpg import Connection


def run(program: Program, *arguments: str, as_root: bool = False) -> subprocess.CompletedProcess[str]:
    command = [*program.command, *arguments]
    return subprocess.run(
        command if as_root else as_service_user(command), capture_output=True, text=True, timeout=20,
        env=environment(), cwd="/")


# Signals

def test_hup_reloads(start_proxy: Callable[..., Proxy]) -> None:
    proxy = start_proxy()
    proxy.settings["default_pool_size"] = 3
    proxy.write_configuration()
    proxy.signal(signal.SIGHUP)
    wait_until(lambda: proxy.setting("default_pool_size") == "3", "reloaded")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_graceful_signals(proxy: Proxy, number: int) -> None:
    """TERM waits for clients to leave, INT for servers to be released; nobody new is let in."""
    proxy.expect_end = True
    busy = proxy.connect()
    busy.execute("BEGIN")
    proxy.signal(number)

    def refused() -> bool:
        try:
            proxy.connect(connect_timeout=2).close()
            return False
        except psycopg.OperationalError:
            return True

    wait_until(refused, "newcomers are refused")
    assert busy.execute("SELECT 1").fetchone() == (1,)
    busy.execute("COMMIT")
    if number == signal.SIGTERM:
        assert busy.execute("SELECT 2").fetchone() == (2,)
        assert proxy.alive()
    busy.close()
    assert proxy.wait_end() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_second_signal_ends_at_once(proxy: Proxy, number: int) -> None:
    proxy.expect_end = True
    with Connection(proxy.host, proxy.port).login() as busy:
        busy.simple("BEGIN")
        proxy.signal(number)
        time.sleep(0.3)
        assert proxy.alive()
        proxy.signal(number)
        proxy.wait_end(5)
        busy.read_all()


def test_quit_ends_at_once(proxy: Proxy) -> None:
    with Connection(proxy.host, proxy.port).login() as busy:
        busy.simple("BEGIN")
        proxy.signal(signal.SIGQUIT)
        assert proxy.wait_end(5) in (0, 1)
        busy.read_all()


def test_usr1_pauses_and_usr2_resumes(proxy: Proxy) -> None:
    with proxy.connect() as connection:
        connection.execute("SELECT 1")
        proxy.signal(signal.SIGUSR1)
        wait_until(lambda: proxy.state("paused") == "yes", "paused")
        waiting = Background(connection.execute, "SELECT 1")
        time.sleep(0.2)
        assert not waiting.done
        proxy.signal(signal.SIGUSR2)
        waiting.result(5)


def test_pipe_signal_is_ignored(proxy: Proxy) -> None:
    proxy.signal(signal.SIGPIPE)
    with proxy.connect() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


# Command line

@pytest.mark.parametrize("option", ["--version", "-V"])
def test_version(program: Program, option: str) -> None:
    result = run(program, option)
    assert result.returncode == 0
    assert re.match(r"(Martlet|PgBouncer) \d+\.\d+", result.stdout)


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help(program: Program, option: str) -> None:
    result = run(program, option)
    assert result.returncode == 0
    for word in ("--daemon", "--quiet", "--verbose", "--user", "--version"):
        assert word in result.stdout


def test_unknown_option(program: Program) -> None:
    result = run(program, "--nosuch")
    assert result.returncode != 0
    assert "nosuch" in result.stderr


def test_missing_file(program: Program) -> None:
    result = run(program, "/nonexistent/file.ini")
    assert result.returncode != 0
    assert "/nonexistent/file.ini" in result.stdout + result.stderr


@pytest.mark.skipif(not AS_ROOT, reason="needs root")
def test_refuses_root(start_proxy: Callable[..., Proxy], program: Program) -> None:
    proxy = start_proxy(run=False)
    proxy.write_configuration()
    result = run(program, str(proxy.config), as_root=True)
    assert result.returncode != 0
    assert "root" in result.stdout + result.stderr


@pytest.mark.skipif(not AS_ROOT, reason="needs root")
@pytest.mark.parametrize("by", ["option", "setting"])
def test_user_gives_up_root(start_proxy: Callable[..., Proxy], program: Program, by: str) -> None:
    proxy = start_proxy(run=False)
    if by == "setting":
        proxy.settings["user"] = "postgres"
    proxy.write_configuration()
    command = [*program.command, *(["-u", "postgres"] if by == "option" else []), str(proxy.config)]
    with open(proxy.log, "ab") as log:
        proxy.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment(), cwd="/")
    proxy.wait_ready()
    status = (proxy.figures.proc / "status").read_text()
    uids = re.search(r"^Uid:\s+(\d+)\s+(\d+)\s+(\d+)", status, re.MULTILINE)
    assert uids and "0" not in uids.groups()
    with proxy.connect() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_log_and_pid_file(start_proxy: Callable[..., Proxy]) -> None:
    proxy = start_proxy(run=False)
    logfile, pidfile = proxy.directory / "own.log", proxy.directory / "own.pid"
    proxy.settings |= {"logfile": logfile, "pidfile": pidfile}
    proxy.start()
    assert int(pidfile.read_text()) == proxy.pid
    with proxy.connect() as connection:
        connection.execute("SELECT 1")
    wait_until(
        lambda: re.search(r"C-0x[0-9a-f]+: app/app@127\.0\.0\.1:\d+ ", logfile.read_text()), "the login is logged")
    assert re.search(r"S-0x[0-9a-f]+: app/app@127\.0\.0\.1:\d+ ", logfile.read_text())
    # Rotated away: SIGHUP has it opened anew.
    logfile.rename(proxy.directory / "old.log")
    proxy.signal(signal.SIGHUP)

    def reopened() -> bool:
        proxy.connect().close()  # So that there is something to write.
        return logfile.exists()

    wait_until(reopened, "the log is opened anew")
    proxy.process.send_signal(signal.SIGQUIT)
    proxy.wait_end()
    assert not pidfile.exists()


def test_pid_file_of_a_running_process(start_proxy: Callable[..., Proxy], program: Program) -> None:
    proxy = start_proxy(run=False)
    proxy.settings["pidfile"] = proxy.directory / "own.pid"
    proxy.start()
    result = run(program, str(proxy.config))
    assert result.returncode != 0
    with proxy.connect() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_stale_pid_file(start_proxy: Callable[..., Proxy]) -> None:
    proxy = start_proxy(run=False)
    pidfile = proxy.directory / "own.pid"
    pidfile.write_text("99999999\n")
    own(proxy.directory)
    proxy.settings["pidfile"] = pidfile
    proxy.start()
    assert int(pidfile.read_text()) == proxy.pid


def test_daemon(start_proxy: Callable[..., Proxy], program: Program) -> None:
    proxy = start_proxy(run=False)
    logfile, pidfile = proxy.directory / "own.log", proxy.directory / "own.pid"
    proxy.settings |= {"logfile": logfile, "pidfile": pidfile}
    proxy.write_configuration()
    result = run(program, "-d", str(proxy.config))
    assert result.returncode == 0, result.stderr
    pid = int(wait_until(lambda: pidfile.exists() and pidfile.read_text().strip(), "the pid file is written"))
    try:
        def works() -> bool:
            try:
                with proxy.connect() as connection:
                    return connection.execute("SELECT 1").fetchone() == (1,)
            except psycopg.OperationalError:
                return False

        wait_until(works, "it serves")
        assert os.getsid(pid) != os.getsid(0)
    finally:
        os.kill(pid, signal.SIGQUIT)
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"), "it ends")


def test_port_in_use(start_proxy: Callable[..., Proxy], program: Program) -> None:
    proxy = start_proxy()
    result = run(program, str(proxy.config))
    assert result.returncode != 0
    assert "in use" in (result.stdout + result.stderr).lower()


@pytest.mark.parametrize("address", ["127.0.0.1,127.0.0.2", "*", "localhost", "::1"])
def test_listen_addresses(start_proxy: Callable[..., Proxy], address: str) -> None:
    if ":" in address and not os.path.exists("/proc/net/if_inet6"):
        pytest.skip("no IPv6 here")
    proxy = start_proxy(run=False, settings={"listen_addr": address})
    proxy.host = "::1" if address == "::1" else "127.0.0.1"
    proxy.start()
    for host in {"127.0.0.1,127.0.0.2": ["127.0.0.1", "127.0.0.2"]}.get(address, [proxy.host]):
        with proxy.connect(host=host) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_abstract_socket(start_proxy: Callable[..., Proxy]) -> None:
    name = f"@mx{os.getpid()}-{time.monotonic_ns()}"
    proxy = start_proxy(settings={"unix_socket_dir": name})
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(f"\0{name[1:]}/.s.PGSQL.{proxy.port}")
        raw.sendall(b"\0\0\0\x08\x04\xd2\x16\x2f")
        assert raw.recv(1) == b"N"


def test_unix_socket_mode(start_proxy: Callable[..., Proxy]) -> None:
    proxy = start_proxy(settings={"unix_socket_mode": "0700"})
    assert (proxy.directory / f".s.PGSQL.{proxy.port}").stat().st_mode & 0o777 == 0o700


def test_notifies_systemd(start_proxy: Callable[..., Proxy]) -> None:
    proxy = start_proxy(run=False)
    path = proxy.directory / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        listener.settimeout(10)
        path.chmod(0o777)
        proxy.start(env={"NOTIFY_SOCKET": str(path)})
        assert "READY=1" in listener.recv(4096).decode()
        proxy.signal(signal.SIGHUP)
        said = ""
        while "READY=1" not in said:
            said += listener.recv(4096).decode() + "\n"
        assert "RELOADING=1" in said


# Martlet's own

@pytest.fixture
def check(program: Program, scratch) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Runs martlet --check over a text."""

    def run_check(text: str) -> subprocess.CompletedProcess[str]:
        path = scratch / "martlet.ini"
        path.write_text(text)
        own(scratch)
        return run(program, "--check", str(path))

    return run_check


@pytest.mark.martlet("--check")
def test_check_of_a_good_file(check) -> None:
    result = check("[databases]\n* = host=127.0.0.1\n[pgbouncer]\nlisten_port = 6432\nauth_type = trust\n")
    assert result.returncode == 0, result.stderr


@pytest.mark.martlet("--check")
@pytest.mark.parametrize("line,said", [
    ("pool_mod = session", r'martlet\.ini:4: unknown key "pool_mod" in \[pgbouncer\]; did you mean "pool_mode"'),
    ("default_pool_size = many", r"martlet\.ini:4: .*default_pool_size"),
    ("default_pool_size = -1", r"martlet\.ini:4: .*default_pool_size"),
    ("pool_mode = nosuch", r"martlet\.ini:4: .*pool_mode"),
    ("query_timeout = soon", r"martlet\.ini:4: .*query_timeout"),
    ("%include /nonexistent.ini", r"martlet\.ini:4: .*/nonexistent\.ini"),
    ("listen_port = 99999", r"martlet\.ini:4: .*listen_port"),
    ("auth_file = /nonexistent/users", r"/nonexistent/users"),
    ("client_tls_sslmode = require", r"client_tls_sslmode = require needs client_tls_key_file"),
    ("no equals sign here", r"martlet\.ini:4: "),
])
def test_check_of_bad_lines(check, line: str, said: str) -> None:
    result = check(f"[databases]\n* = host=127.0.0.1\n[pgbouncer]\n{line}\nauth_type = trust\n")
    assert result.returncode != 0
    assert re.search(said, result.stdout + result.stderr), result.stdout + result.stderr


@pytest.mark.martlet("--check")
def test_check_tells_all_errors_at_once(check) -> None:
    result = check("[databases]\npgbouncer = host=x\n[pgbouncer]\nnosuch = 1\npool_mode = 2\n[odd]\nx = 1\n")
    output = result.stdout + result.stderr
    assert result.returncode != 0
    for line in (2, 4, 5, 6):
        assert f"martlet.ini:{line}:" in output, output


@pytest.mark.martlet("--check")
@pytest.mark.parametrize("arguments", [(), ("--check",)])
@pytest.mark.parametrize("how", ["none", "folder", "include", "section"])
def test_a_file_that_cannot_be_read(program: Program, scratch: Path, how: str, arguments: tuple[str, ...]) -> None:
    """It is the only complaint: nothing is said of what would have stood in it."""
    path = scratch / "martlet.ini"
    expected = f'cannot read "{path}": No such file or directory\n'
    if how == "folder":
        path.mkdir()
        expected = f'cannot read "{path}": Is a directory\n'
    elif how == "include":
        path.write_text("[databases]\n%include /nosuch.ini\n")
        expected = f'{path}:2: cannot read "/nosuch.ini": No such file or directory\n'
    elif how == "section":
        path.write_text("[databases]\n[pgbouncr]\nauth_file = x\n")
        expected = f'{path}:2: unknown section [pgbouncr]; did you mean "pgbouncer"?\n'
    own(scratch)
    result = run(program, *arguments, str(path))
    assert (result.returncode, result.stdout, result.stderr) == (1, "", expected)


@pytest.mark.martlet("--check")
def test_bad_file_keeps_it_from_starting(program: Program, scratch) -> None:
    path = scratch / "martlet.ini"
    path.write_text("[databases]\n[pgbouncer]\nnosuch = 1\n")
    own(scratch)
    result = run(program, str(path))
    assert result.returncode != 0
    assert "martlet.ini:3:" in result.stdout + result.stderr


@pytest.mark.martlet("says so; PgBouncer does too, in other words")
def test_file_limit_is_too_low(start_proxy: Callable[..., Proxy]) -> None:
    proxy = start_proxy(settings={"max_client_conn": 5000}, open_files=1000)
    assert re.search(r"max_client_conn", proxy.log_text())
    with proxy.connect() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_out_of_files(start_proxy: Callable[..., Proxy]) -> None:
    """More clients than files: the newcomers wait or are refused, the others work, and it recovers."""
    proxy = start_proxy(settings={"max_client_conn": 5000, "default_pool_size": 5}, open_files=120)
    with proxy.connect() as inside:
        inside.execute("SELECT 1")
        raw = []
        for _ in range(250):
            raw.append(socket.create_connection((proxy.host, proxy.port), 5))
        for _ in range(20):
            assert inside.execute("SELECT 1").fetchone() == (1,)
        for each in raw:
            each.close()

        def works() -> bool:
            try:
                with proxy.connect(connect_timeout=2) as connection:
                    return connection.execute("SELECT 2").fetchone() == (2,)
            except psycopg.OperationalError:
                return False

        wait_until(works, "it has recovered", 15)


def test_statistics_line(start_proxy: Callable[..., Proxy]) -> None:
    proxy = start_proxy(settings={"stats_period": 1})
    with proxy.connect() as connection:
        connection.execute("SELECT 1")
        wait_until(lambda: re.search(
            r"stats: \d+ xacts/s, \d+ queries/s, .*in \d+ B/s, out \d+ B/s, xact \d+ us, query \d+ us, wait \d+ us",
            proxy.log_text()), "a line of statistics")


def test_idle_proxy_does_nothing(start_proxy: Callable[..., Proxy]) -> None:
    """With clients and servers idle there is nothing to wake up for."""
    proxy = start_proxy(settings={"stats_period": 60})
    clients = [proxy.connect() for _ in range(20)]
    for client in clients:
        client.execute("SELECT 1")
    before = proxy.figures.cpu_seconds()
    time.sleep(2)
    assert proxy.figures.cpu_seconds() - before <= 0.05
    for client in clients:
        client.close()
