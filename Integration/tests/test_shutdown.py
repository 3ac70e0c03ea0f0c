"""The end of the process: who is served to the end, who hears of it, and that nobody is connected to what is not there."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable

import psycopg
import pytest

from common import Background, as_service_user, environment, wait_until
from proxy import Proxy
from rawpg import SYNC, Connection, bind, execute, message, parse, query, startup, text

# WAIT_FOR_SERVERS


def goodbye(connection: Connection) -> tuple[str, str]:
    errors = [each.fields() for each in connection.read_all(timeout=5) if each.type == "E"]
    assert len(errors) == 1, errors
    return errors[0]["C"], errors[0]["M"]


@pytest.mark.martlet("PgBouncer's SQLSTATE is 08P01")
@pytest.mark.parametrize("by", ["command", "signal"])
@pytest.mark.parametrize("who", ["waiting", "asking", "asking in a batch", "login", "replication", "paused"])
def test_nobody_hangs_while_servers_are_waited_for(start_proxy: Callable[..., Proxy], who: str, by: str) -> None:
    """A transaction goes on to its end. Who waits for a server connection, or asks for one now, is told so at once."""
    proxy = start_proxy(settings={"default_pool_size": 1, "query_wait_timeout": 60}, threads=2)
    proxy.expect_end = True
    with Connection(proxy.host, proxy.port).login() as holder, Connection(proxy.host, proxy.port) as other:
        holder.simple("BEGIN")
        if who == "login":
            # Another pool, of which no server connection is known, and which may not have one.
            proxy.command("SET max_db_connections = 1")
            other.send(startup({"user": "trust_user", "database": "app"}))
            proxy.wait_pool(lambda pool: pool["cl_waiting"] == 1, "it waits", user="trust_user")
        elif who == "replication":
            other.send(startup({"user": "app", "database": "app", "replication": "database"}))
            proxy.wait_pool(lambda pool: pool["cl_waiting"] == 1, "it waits")
        else:
            other.login()
        if who == "paused":
            pause = Background(proxy.command, "PAUSE app")
            wait_until(lambda: proxy.database("app")["paused"], "it is paused")
        if who in ("waiting", "paused"):
            other.send(query("SELECT 1"))
            proxy.wait_pool(lambda pool: pool["cl_waiting"] == 1, "it waits")
        if by == "command":
            proxy.command("SHUTDOWN WAIT_FOR_SERVERS")
        else:
            proxy.signal(signal.SIGINT)
            wait_until(lambda: "got SIGINT" in proxy.log_text(), "the signal is heard")
            time.sleep(0.3)
        if who == "asking":
            other.send(query("SELECT 1"))
        elif who == "asking in a batch":
            other.send(parse("SELECT 1"), bind(), execute(), SYNC)
        assert goodbye(other) == ("57P01", "server shutting down")
        assert holder.simple("SELECT 1") == [[b"1"]]
        holder.simple("COMMIT")
        if who == "paused":
            pause.error()
        assert proxy.wait_end() == 0


def test_session_ends_before_its_pooler(start_proxy: Callable[..., Proxy]) -> None:
    """In session mode a connection is the client's until it leaves."""
    proxy = start_proxy(settings={"pool_mode": "session"})
    proxy.expect_end = True
    with Connection(proxy.host, proxy.port).login() as session, Connection(proxy.host, proxy.port).login() as idle:
        session.simple("SELECT 1")
        proxy.command("SHUTDOWN WAIT_FOR_SERVERS")
        assert session.simple("SELECT 2") == [[b"2"]]
        idle.send(query("SELECT 1"))
        assert goodbye(idle)[1] == "server shutting down"
        assert proxy.alive()
        session.send(b"X\0\0\0\4")
        assert proxy.wait_end() == 0


# WAIT_FOR_CLIENTS

@pytest.mark.martlet("PgBouncer refuses who has not sent its password yet")
def test_login_under_way_when_the_shutdown_begins(start_proxy: Callable[..., Proxy]) -> None:
    """Who has come before may log in and work; who comes after, over the Unix socket, may not."""
    proxy = start_proxy(settings={"auth_type": "plain", "tcp_defer_accept": 0})
    proxy.expect_end = True
    with Connection(proxy.host, proxy.port) as early, Connection(proxy.host, proxy.port) as stuck:
        early.send(startup({"user": "app", "database": "app"}))
        assert early.read().type == "R"
        stuck.send(b"\0\0")
        proxy.signal(signal.SIGTERM)
        wait_until(lambda: "got SIGTERM" in proxy.log_text(), "the signal is heard")

        def refused() -> bool:
            try:
                with socket.create_connection((proxy.host, proxy.port), 2):
                    return False
            except OSError:
                return True

        wait_until(refused, "nobody new is let in")
        with Connection(str(proxy.directory), proxy.port) as late:
            late.send(startup({"user": "app", "database": "app"}))
            assert goodbye(late) == ("57P01", "pooler is shutting down")
        early.send(message("p", text("app-secret")))
        early.read_until("Z")
        assert early.simple("SELECT 1") == [[b"1"]]
        early.send(b"X\0\0\0\4")
        # A login that goes on for ever does not keep the process.
        assert proxy.wait_end(9) == 0


# Listening sockets

class Crowd:
    """Connects again and again, from threads; notes when it was taken in."""

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        self._connect = connect
        self._stop = threading.Event()
        self.accepted: list[float] = []
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(4)]
        for each in self._threads:
            each.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            begin = time.monotonic()
            try:
                self._connect().close()
                self.accepted.append(begin)
            except OSError:
                pass

    def stop(self) -> None:
        self._stop.set()
        for each in self._threads:
            each.join(5)


def unix(path: str) -> Callable[[], socket.socket]:
    def connect() -> socket.socket:
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(2)
        try:
            made.connect(path)
        except OSError:
            made.close()
            raise
        return made
    return connect


@pytest.mark.parametrize("how", ["QUIT", "TERM", "SHUTDOWN"])
@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_nobody_is_taken_in_after_the_end(start_proxy: Callable[..., Proxy], kind: str, how: str) -> None:
    """What listened is closed when the process has ended, and not some time after it."""
    proxy = start_proxy(settings={"tcp_defer_accept": 0, "listen_backlog": 1000, "log_connections": 0})
    proxy.expect_end = True
    path = f"{proxy.directory}/.s.PGSQL.{proxy.port}"
    crowd = Crowd((lambda: socket.create_connection((proxy.host, proxy.port), 2)) if kind == "tcp" else unix(path))
    wait_until(lambda: len(crowd.accepted) > 50, "they are taken in")
    if how == "SHUTDOWN":
        try:
            proxy.command("SHUTDOWN")
        except psycopg.OperationalError:
            pass
    else:
        proxy.signal(signal.SIGQUIT if how == "QUIT" else signal.SIGTERM)
    proxy.wait_end(20)
    ended = time.monotonic()
    time.sleep(0.3)
    crowd.stop()
    late = [each - ended for each in crowd.accepted if each > ended]
    assert not late, f"{len(late)} connected up to {max(late)} s after the end"
    assert not os.path.exists(path)


@pytest.mark.martlet("io_uring")
def test_killed_process_is_replaced_at_once(start_proxy: Callable[..., Proxy]) -> None:
    """What the kernel clears up behind a crash does not keep the next one from its address."""
    proxy = start_proxy()
    for _ in range(3):
        proxy.process.kill()
        proxy.process.wait()
        proxy.process = None
        proxy.start()
    with proxy.connect() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_rolling_restart(start_proxy: Callable[..., Proxy]) -> None:
    """Two processes on one port, and one after the other is replaced: no client notices that comes meanwhile."""
    quiet = {"so_reuseport": 1, "log_connections": 0, "log_disconnections": 0}
    old = start_proxy(settings=quiet)
    port = old.port
    stop = threading.Event()
    failures: list[str] = []
    count = [0, 0]

    def work(number: int) -> None:
        while not stop.is_set():
            try:
                with psycopg.connect(
                        host="127.0.0.1", port=port, dbname="app", user="app", connect_timeout=5) as connection:
                    connection.execute("SELECT 1")
                count[number] += 1
            except psycopg.OperationalError as error:
                failures.append(str(error))

    def works() -> None:
        before = sum(count)
        wait_until(lambda: sum(count) > before + 5, "work goes on")

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(2)]
    for each in threads:
        each.start()
    try:
        for _ in range(4):
            new = start_proxy(run=False, settings=quiet | {"listen_port": port})
            new.port = port
            new.start()
            works()
            old.expect_end = True
            old.signal(signal.SIGTERM)
            old.wait_end(20)
            works()
            old = new
    finally:
        stop.set()
        for each in threads:
            each.join(10)
    assert not failures, failures[:3]


@pytest.mark.martlet("the same for PgBouncer, but it is started otherwise")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGQUIT], ids=["TERM", "QUIT"])
@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_sockets_of_the_service_manager(start_proxy: Callable[..., Proxy], kind: str, how: int) -> None:
    """It goes on to hold them: who connects between two processes is served by the second one."""
    proxy = start_proxy(run=False)
    path = str(proxy.directory / "given")
    if kind == "tcp":
        given = socket.create_server(("127.0.0.1", proxy.port), backlog=100)
    else:
        given = socket.socket(socket.AF_UNIX)
        given.bind(path)
        os.chmod(path, 0o777)
        given.listen(100)

    def begin() -> None:
        proxy.write_configuration()
        descriptor = given.fileno()

        def hand_over() -> None:
            if descriptor != 3:
                os.dup2(descriptor, 3)
            os.set_inheritable(3, True)

        command = ["/bin/sh", "-c", 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@"', *proxy.program.command, str(proxy.config)]
        with open(proxy.log, "ab") as log:
            proxy.process = subprocess.Popen(
                as_service_user(command), stdout=log, stderr=log, env=environment(), cwd="/", pass_fds=(3,),
                preexec_fn=hand_over, start_new_session=True)

    def connect() -> Connection:
        return Connection("127.0.0.1", proxy.port) if kind == "tcp" else at(path)

    def at(name: str) -> Connection:
        made = Connection.__new__(Connection)
        made.socket = unix(name)()
        made.timeout, made.parameters, made.parameter_log, made.key, made._buffer = 15.0, {}, [], b"", bytearray()
        return made

    try:
        for _ in range(3):
            begin()
            with connect() as client:
                client.login()
                assert client.simple("SELECT 1") == [[b"1"]]
                client.send(b"X\0\0\0\4")
            proxy.signal(how)
            proxy.process.wait(10)
            waiting = [connect() for _ in range(5)]
            for each in waiting:
                each.send(startup({"user": "app", "database": "app"}))
            begin()
            for each in waiting:
                each.authenticate("app", "")
                assert each.simple("SELECT 1") == [[b"1"]]
                each.send(b"X\0\0\0\4")
                each.socket.close()
            proxy.signal(signal.SIGQUIT)
            proxy.process.wait(10)
        if kind == "unix":
            assert os.path.exists(path)
    finally:
        if proxy.process and proxy.process.poll() is None:
            proxy.process.kill()
            proxy.process.wait()
        proxy.process = None
        given.close()
