"""Rare moments: what ends, fails or comes late at the wrong time must not touch anybody else."""

from __future__ import annotations

import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from cluster import Cluster
from common import Background, wait_until
from proxy import Proxy
from rawpg import (
    SYNC, TERMINATE, Connection, Message, bind, cancel, close, describe, execute, message, parse, query,
    scram_secret, startup, text)

MEGABYTE = 1024 * 1024


def login(proxy: Proxy, database: str = "app", user: str = "app", **parameters: str) -> Connection:
    return Connection(proxy.host, proxy.port).login(user, database, **parameters)


def errors(answer: list[Message]) -> list[str]:
    return [f"{each.sqlstate} {each.text}" for each in answer if each.type == "E"]


def types(answer: list[Message]) -> str:
    return "".join(each.type for each in answer)


@contextmanager
def stopped(cluster: Cluster, database: str) -> Iterator[int]:
    """The one backend of a database stands still."""
    (pid, _, _), = cluster.backends(database)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass


def wait_stopped(proxy: Proxy, database: str) -> None:
    proxy.wait_pool(lambda pool: pool["sv_active"] == 1, "the server is a client's", database)


# Prepared statements

def test_close_of_an_evicted_statement_that_the_server_skips(
        start_proxy: Callable[..., Proxy], database: str) -> None:
    """Room was made for a statement behind an error: the server has ignored both, and has the old one still."""
    proxy = start_proxy(settings={"default_pool_size": 1, "max_prepared_statements": 1}, threads=1)
    with login(proxy, database) as client:
        assert not errors(client.ask(parse("SELECT 1", "one"), bind("one"), execute(), SYNC))
        answer = client.ask(parse("SELECT 1/0"), bind(), execute(), parse("SELECT 2", "two"), SYNC)
        assert [each.sqlstate for each in answer if each.type == "E"] == ["22012"]
        for _ in range(2):
            assert not errors(client.ask(bind("one"), execute(), SYNC))


def test_answer_behind_a_description_in_pieces(
        start_proxy: Callable[..., Proxy], cluster: Cluster, database: str) -> None:
    """A RowDescription longer than what is read at once, and behind it a Close that is answered by the proxy."""
    with cluster.connect(database) as direct:
        columns = ", ".join(f"{'c' * 58}{number:04d} int" for number in range(1500))
        direct.execute(f"CREATE TABLE wide ({columns}); GRANT ALL ON wide TO public")
    proxy = start_proxy(settings={"default_pool_size": 1})
    with login(proxy, database) as client, login(proxy, database) as other:
        answer = client.ask(parse("SELECT * FROM wide", "w"), describe("S", "w"), close("S", "w"), SYNC)
        assert types(answer) == "1tT3Z"
        assert other.simple("SELECT 1") == [[b"1"]]


def test_bind_in_pieces_of_a_name_like_the_proxy_s_own(start_proxy: Callable[..., Proxy], database: str) -> None:
    """What stands in front of it in the same packet is sent once, and nobody's answers go to somebody else."""
    proxy = start_proxy(settings={"default_pool_size": 1}, threads=1)
    with login(proxy, database) as one, login(proxy, database) as two, login(proxy, database) as three:
        late = bind("martlet_999999", values=(b"x" * 200_000,))
        one.simple("SELECT 1")
        one.send(parse("SELECT pg_sleep(1.5)"), bind(), execute(), SYNC, late[:200])
        one.send(late[200:], SYNC)
        proxy.wait_pool(lambda pool: pool["sv_active"] == 1, "it runs", database)
        for number, client in enumerate((two, three)):
            client.send(query(f"SELECT '{number}'"))
            proxy.wait_pool(lambda pool: pool["cl_waiting"] == number + 1, "it waits", database)
        assert types(one.read_until("Z", 2)) == "12DCZEZ"
        for number, client in enumerate((two, three)):
            answer = client.read_until("Z")
            assert types(answer) == "TDCZ"
            assert answer[1].values() == [b"%d" % number]


@pytest.mark.parametrize("name", ["one", "two"])
def test_failure_before_a_statement_is_prepared_and_a_batch_behind_it(
        start_proxy: Callable[..., Proxy], database: str, name: str) -> None:
    """The server has skipped the Parse, and the Close that made room for it; all of it was sent in one packet."""
    proxy = start_proxy(settings={"default_pool_size": 1, "max_prepared_statements": 1}, threads=1)
    with login(proxy, database) as client:
        client.ask(parse("SELECT 1", "one"), parse("SELECT 2", "two"), bind("two"), execute(), SYNC)
        answer = client.ask(
            execute("no portal"), bind("one"), execute(), SYNC, bind(name), execute(), SYNC, ready=2)
        assert types(answer) == "EZ2DCZ", errors(answer)
        assert answer[-3].values() == [{"one": b"1", "two": b"2"}[name]]


def test_names_of_a_batch_that_fails_are_free_in_the_next_one(
        start_proxy: Callable[..., Proxy], database: str) -> None:
    proxy = start_proxy(settings={"default_pool_size": 1}, threads=1)
    with login(proxy, database) as client, login(proxy, database) as other:
        other.ask(parse("SELECT 1", "known"), SYNC)
        client.ask(parse("SELECT 3", "closed"), SYNC)
        answer = client.ask(
            execute("no portal"), parse("SELECT 1", "one"), close("S", "closed"), SYNC,
            bind("closed"), execute(), parse("SELECT 2", "one"), bind("one"), execute(), SYNC, ready=2)
        assert types(answer) == "EZ2DC12DCZ", errors(answer)
        assert answer[-3].values() == [b"2"]


def test_unnamed_statement_behind_a_batch_that_failed(start_proxy: Callable[..., Proxy], database: str) -> None:
    """The server has skipped the Parse and has somebody else's unnamed statement."""
    proxy = start_proxy(settings={"default_pool_size": 1}, threads=1)
    with login(proxy, database) as client, login(proxy, database) as other:
        other.ask(parse("SELECT 'secret'"), bind(), execute(), SYNC)
        answer = client.ask(execute("no portal"), parse("SELECT 1"), SYNC, bind(), execute(), SYNC, ready=2)
        assert types(answer) == "EZEZ"
        assert [each.sqlstate for each in answer if each.type == "E"] == ["34000", "26000"]
        # What was parsed before the error stays.
        answer = client.ask(
            parse("SELECT $1::int"), bind(values=("x",)), execute(), SYNC, bind(values=("5",)), execute(), SYNC,
            ready=2)
        assert types(answer) == "1EZ2DCZ"


def test_goodbye_behind_a_batch_that_waits(start_proxy: Callable[..., Proxy], cluster: Cluster, database: str) -> None:
    """What a client has sent before it leaves is carried out, though it had to wait for earlier answers."""
    proxy = start_proxy(settings={"default_pool_size": 1}, threads=1)
    with login(proxy, database) as client:
        client.simple("CREATE TABLE t (i int)")
        client.send(
            parse("SELECT pg_sleep(0.5)", "sleep"), bind("sleep"), execute(), SYNC,
            parse("INSERT INTO t VALUES (1)", "insert"), bind("insert"), execute(), SYNC, TERMINATE)
    wait_until(lambda: cluster.value("SELECT count(*) FROM t", dbname=database) == 1, "it is carried out", 3)


def test_changed_table_within_a_transaction(
        start_proxy: Callable[..., Proxy], cluster: Cluster, database: str) -> None:
    """The statement is prepared anew as soon as the transaction goes on, not when the server is given back."""
    proxy = start_proxy(settings={"default_pool_size": 1}, threads=1)
    with login(proxy, database) as client:
        client.simple("CREATE TABLE t AS SELECT 1 AS one")
        client.ask(parse("SELECT * FROM t", "s"), bind("s"), execute(), SYNC)
        with cluster.connect(database) as direct:
            direct.execute("ALTER TABLE t ADD COLUMN two int")
        client.simple("BEGIN; SAVEPOINT before")
        answer = client.ask(bind("s"), execute(), SYNC)
        assert [each.sqlstate for each in answer if each.type == "E"] == ["0A000"]
        client.simple("ROLLBACK TO before")
        assert not errors(client.ask(bind("s"), execute(), SYNC))
        assert not errors(client.ask(close("S", "s"), parse("SELECT * FROM t", "s"), bind("s"), execute(), SYNC))
        client.simple("COMMIT")
        assert not errors(client.ask(bind("s"), execute(), SYNC))


# Settings

def test_client_leaves_while_its_settings_are_made(
        start_proxy: Callable[..., Proxy], cluster: Cluster, database: str) -> None:
    """The next client must not have the settings of one that has gone."""
    proxy = start_proxy(settings={"default_pool_size": 1}, threads=1)
    with login(proxy, database) as other:
        assert other.simple("SHOW statement_timeout") == [[b"0"]]
        with stopped(cluster, database):
            # The server is asked about them as soon as the client logs in.
            client = Connection(proxy.host, proxy.port)
            client.send(startup({"user": "app", "database": database, "statement_timeout": "54321"}))
            wait_stopped(proxy, database)
            client.socket.close()
            wait_until(lambda: len(proxy.show("CLIENTS")) == 2, "the client is gone")
        assert other.simple("SHOW statement_timeout") == [[b"0"]]


@pytest.mark.parametrize("reset", ["RESET ALL", "RESET ALL; SET SESSION AUTHORIZATION DEFAULT"])
def test_reset_query_that_resets_settings(start_proxy: Callable[..., Proxy], database: str, reset: str) -> None:
    """A client's own settings are made anew when server_reset_query has taken them away."""
    proxy = start_proxy(settings={"default_pool_size": 1, "pool_mode": "session", "server_reset_query": reset})
    for _ in range(2):
        with login(proxy, database, statement_timeout="54321") as client:
            assert client.simple("SHOW statement_timeout") == [[b"54321ms"]]
        proxy.wait_pool(lambda pool: pool["sv_idle"] == 1, "released", database)


def test_query_timeout_while_settings_are_made(
        start_proxy: Callable[..., Proxy], cluster: Cluster, database: str) -> None:
    """A server that does not answer to a client's first settings is a query that takes too long, too."""
    proxy = start_proxy(settings={"default_pool_size": 1, "query_timeout": 1, "cancel_wait_timeout": 1}, threads=1)
    login(proxy, database).simple("SELECT 1")
    with stopped(cluster, database), login(proxy, database, application_name="late") as client:
        client.send(query("SELECT 1"))
        try:
            answer = client.read_all(timeout=6)
        except TimeoutError:
            raise AssertionError("no timeout holds for it") from None
        assert [each.text for each in answer if each.type == "E"] == ["query timeout"]


# Server connections

def test_connect_query_for_a_client_of_another_reactor(
        start_proxy: Callable[..., Proxy], database: str) -> None:
    """The client that a new connection was made for has left: it is handed over to another reactor, once."""
    proxy = start_proxy(run=False, threads=2, settings={"default_pool_size": 1})
    proxy.databases = {database: proxy.server() + " connect_query='SELECT pg_sleep(0.5)'", "app": proxy.server()}
    proxy.start()
    # One after the other, they are on different reactors.
    with login(proxy, database) as one, login(proxy, database) as two:
        assert two.simple("SELECT 1") == [[b"1"]]
        proxy.command(f"RECONNECT {database}")
        wait_until(lambda: not proxy.show("SERVERS"), "no server is there")
        one.send(query("SELECT 1"))
        proxy.wait_pool(lambda pool: pool["cl_waiting"] == 1, "it waits", database)
        two.send(query("SELECT 2"))
        proxy.wait_pool(lambda pool: pool["cl_waiting"] == 2, "both wait", database)
        one.socket.close()
        answer = two.read_until("Z")
        assert answer[1].values() == [b"2"]
    assert proxy.alive()


def test_connect_query_that_does_not_end(start_proxy: Callable[..., Proxy], database: str) -> None:
    """connect_query belongs to the login, and server_connect_timeout holds for it."""
    proxy = start_proxy(run=False, settings={"server_connect_timeout": 1, "query_wait_timeout": 30})
    proxy.databases = {database: proxy.server() + " connect_query='SELECT pg_sleep(30)'", "app": proxy.server()}
    proxy.start()
    with Connection(proxy.host, proxy.port) as client:
        client.send(startup({"user": "app", "database": database}))
        try:
            answer = client.read_all(timeout=6)
        except TimeoutError:
            raise AssertionError("no timeout holds for it") from None
        assert errors(answer)


def test_check_query_that_does_not_end(start_proxy: Callable[..., Proxy], cluster: Cluster, database: str) -> None:
    """A connection that does not answer to server_check_query makes room for another one."""
    proxy = start_proxy(settings={
        "default_pool_size": 1, "server_check_delay": 0, "cancel_wait_timeout": 1, "query_wait_timeout": 8})
    with login(proxy, database) as client:
        client.simple("SELECT 1")
        proxy.wait_pool(lambda pool: pool["sv_active"] == 0, "released", database)
        with stopped(cluster, database):
            assert client.simple("SELECT 2") == [[b"2"]]


def welcome(server: socket.socket) -> None:
    """Logs a client in without asking for anything."""
    server.recv(1000)
    server.sendall(message("R", struct.pack("!i", 0)) + b"".join(
        message("S", text(name) + text(value)) for name, value in {
            "server_version": "15.0", "client_encoding": "UTF8", "TimeZone": "UTC", "DateStyle": "ISO, MDY",
            "standard_conforming_strings": "on"}.items()) + message("K", b"12345678") + message("Z", b"I"))


def test_server_dies_in_the_middle_of_a_row(start_proxy: Callable[..., Proxy]) -> None:
    """The proxy's own error must not become the rest of the row."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        listener.settimeout(5)
        proxy = start_proxy(run=False, settings={"default_pool_size": 1})
        proxy.databases = {"rogue": f"host=127.0.0.1 port={listener.getsockname()[1]}", "app": proxy.server()}
        proxy.start()
        with Connection(proxy.host, proxy.port) as client:
            client.send(startup({"user": "app", "database": "rogue"}))
            server, _ = listener.accept()
            with server:
                welcome(server)
                client.read_until("Z")
                client.send(query("SELECT value FROM accounts"))
                server.recv(1000)
                column = text("value") + struct.pack("!IhIhih", 0, 0, 25, -1, -1, 0)
                server.sendall(message("T", struct.pack("!h", 1) + column))
                row = message("D", struct.pack("!hi", 1, 40) + b"1" * 40)
                server.sendall(row[:-30])
                assert client.read().type == "T"
                wait_until(
                    lambda: client._buffer or client.socket.recv(100, socket.MSG_PEEK), "the beginning of the row is there")
            assert "D" not in types(client.read_all()), "half a row was made whole with something else"


# Cancel

@contextmanager
def relay(cluster: Cluster, delay: float) -> Iterator[int]:
    """A way to the server that is slow for cancel requests. Gives its port."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(100)

    def copy(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass
        for each in (source, target):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def serve(client: socket.socket) -> None:
        first = client.recv(65536)
        if len(first) == 16:
            time.sleep(delay)
        server = socket.create_connection((cluster.host, cluster.port))
        server.sendall(first)
        threading.Thread(target=copy, args=(server, client), daemon=True).start()
        copy(client, server)

    def accept() -> None:
        try:
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
        except OSError:
            pass

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_cancel_that_arrives_after_cancel_wait_timeout(
        start_proxy: Callable[..., Proxy], cluster: Cluster, database: str) -> None:
    """A server whose cancel request was given up on is nobody's any more: the request may arrive yet."""
    with relay(cluster, delay=2.5) as port:
        proxy = start_proxy(run=False, settings={"default_pool_size": 1, "cancel_wait_timeout": 1}, threads=1)
        proxy.databases = {database: f"host=127.0.0.1 port={port}", "app": proxy.server()}
        proxy.start()
        with login(proxy, database) as one, login(proxy, database) as two:
            one.send(query("SELECT pg_sleep(0.5)"))
            wait_until(lambda: [1 for _, state, _ in cluster.backends(database) if state == "active"], "it runs")
            cancel(proxy.host, proxy.port, one.key)
            assert types(one.read_until("Z")) == "TDCZ"
            two.send(query("SELECT pg_sleep(4)"))
            answer = two.read_until("Z")
            assert not errors(answer)


def test_deadline_of_a_client_whose_waiting_was_cancelled(
        start_proxy: Callable[..., Proxy], database: str) -> None:
    """It does not wait any more: what was due then does not end it as an idle client."""
    proxy = start_proxy(settings={
        "default_pool_size": 1, "client_idle_timeout": 30, "query_wait_timeout": 1.5, "query_wait_notify": 1},
        threads=1)
    with login(proxy, database) as holder, login(proxy, database) as client:
        holder.simple("BEGIN")
        client.send(query("SELECT 1"))
        proxy.wait_pool(lambda pool: pool["cl_waiting"] == 1, "it waits", database)
        cancel(proxy.host, proxy.port, client.key)
        assert [each.sqlstate for each in client.read_until("Z") if each.type == "E"] == ["57014"]
        holder.simple("COMMIT")
        time.sleep(2.5)
        assert client.simple("SELECT 2") == [[b"2"]]


def test_raised_client_idle_timeout_holds_for_idle_clients(start_proxy: Callable[..., Proxy]) -> None:
    proxy = start_proxy(settings={"client_idle_timeout": 2})
    with login(proxy) as client:
        client.simple("SELECT 1")
        proxy.command("SET client_idle_timeout = 60")
        time.sleep(3)
        assert client.simple("SELECT 2") == [[b"2"]]


# Replication

def test_replication_client_that_sends_ahead(start_proxy: Callable[..., Proxy], database: str) -> None:
    """It has one server connection, which ends with it."""
    proxy = start_proxy(settings={"default_pool_size": 3}, threads=1)
    with login(proxy, database) as other:
        other.simple("SELECT 1")
        with Connection(proxy.host, proxy.port) as client:
            client.send(
                startup({"user": "app", "database": database, "replication": "database"}), query("IDENTIFY_SYSTEM"))
            assert not errors(client.read_until("Z", 2))
        wait_until(lambda: len(proxy.show("CLIENTS")) == 2, "the client is gone")
        proxy.wait_pool(lambda pool: pool["sv_active"] == 0, "its server connection is gone", database, timeout=5)


def test_refused_replication_login_is_not_everybody_s(
        start_proxy: Callable[..., Proxy], cluster: Cluster, database: str) -> None:
    """Who may not replicate may query."""
    with cluster.connect("postgres") as direct:
        direct.execute("DROP ROLE IF EXISTS plain_role; CREATE ROLE plain_role LOGIN")
    try:
        proxy = start_proxy(run=False, settings={"server_login_retry": 15}, threads=1)
        proxy.secrets = proxy.secrets | {"plain_role": "x"}
        proxy.start()
        end = time.monotonic() + 2
        while time.monotonic() < end:
            with Connection(proxy.host, proxy.port) as client:
                client.send(startup({"user": "plain_role", "database": database, "replication": "database"}))
                assert errors(client.read_all())
            time.sleep(0.05)
        with login(proxy, database, "plain_role") as client:
            assert client.simple("SELECT 1") == [[b"1"]]
    finally:
        with cluster.connect(database) as direct:
            direct.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'plain_role'")
            direct.execute("DROP ROLE plain_role")


# Reload, pause

def test_waiting_client_leaves_after_a_reload_with_another_user(
        start_proxy: Callable[..., Proxy], database: str) -> None:
    """It waited in the pool of the user before; the new pool works."""
    proxy = start_proxy(run=False, settings={"default_pool_size": 1, "query_wait_timeout": 20}, threads=1)
    proxy.databases = {database: proxy.server(user="app"), "app": proxy.server()}
    proxy.start()
    with login(proxy, database) as holder:
        holder.simple("BEGIN")
        waiting = login(proxy, database)
        waiting.send(query("SELECT 1"))
        proxy.wait_pool(lambda pool: pool["cl_waiting"] == 1, "it waits", database)
        proxy.databases[database] = proxy.server(user="postgres")
        proxy.reload()
        waiting.socket.close()
        wait_until(lambda: len(proxy.show("CLIENTS")) == 2, "the waiting client is gone")
        with Connection(proxy.host, proxy.port, timeout=5) as client:
            client.login("app", database)
            assert client.simple("SELECT current_user") == [[b"postgres"]]
        holder.simple("COMMIT")


def test_pause_opens_no_server_connection(start_proxy: Callable[..., Proxy], database: str) -> None:
    """Not even for the first client of a database."""
    proxy = start_proxy()
    proxy.command("PAUSE")
    attempt = Background(proxy.connect, database)
    time.sleep(1)
    assert "new connection to server" not in proxy.log_text()
    proxy.command("RESUME")
    attempt.result().close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("form", ["", "database"])
def test_pause_ended_by_somebody_else_s_resume(
        start_proxy: Callable[..., Proxy], database: str, form: str) -> None:
    """New server connections come then: waiting until there is none would never end."""
    proxy = start_proxy()
    name = f" {database}" if form else ""
    with login(proxy, database) as holder:
        holder.simple("BEGIN")
        paused = Background(proxy.command, f"PAUSE{name}")
        wait_until(lambda: proxy.database(database)["paused"], "it is paused")
        proxy.command(f"RESUME{name}")
        assert isinstance(paused.error(5), psycopg.Error)
        holder.simple("COMMIT")
        assert holder.simple("SELECT 1") == [[b"1"]]


def test_statistics_of_a_database_whose_other_pool_is_forgotten(
        start_proxy: Callable[..., Proxy], database: str) -> None:
    """A database made by `*` goes on counting as long as one of its users is there."""
    proxy = start_proxy(settings={"autodb_idle_timeout": 1, "server_idle_timeout": 1}, threads=1)
    with login(proxy, database, "trust_user") as stays:
        stays.simple("SELECT 1")
        login(proxy, database).simple("SELECT 1")
        wait_until(lambda: [row for row in proxy.show("POOLS") if row["user"] == "app"], "the pool is there")
        wait_until(lambda: not [row for row in proxy.show("POOLS") if (row["database"], row["user"]) == (
            database, "app")], "the pool is forgotten", 15)
        for _ in range(5):
            stays.simple("SELECT 1")
        counts = {row["database"]: row["query_count"] for row in proxy.show("STATS_TOTALS")}
        assert counts.get(database, 0) >= 6


# Clients

def test_query_of_a_client_that_says_goodbye_at_once(
        start_proxy: Callable[..., Proxy], cluster: Cluster, database: str) -> None:
    """Terminate behind a query: PostgreSQL carries the query out, however long it takes."""
    proxy = start_proxy(settings={"cancel_wait_timeout": 1})
    with login(proxy, database) as client:
        client.simple("CREATE TABLE t (i int)")
        client.send(query("INSERT INTO t SELECT 1 FROM pg_sleep(2.5)"), TERMINATE)
    wait_until(lambda: cluster.value("SELECT count(*) FROM t", dbname=database) == 1, "it has been carried out")


def push(client: Connection, block: bytes, most: int) -> int:
    """Sends without reading until nobody takes it any more, or `most` bytes have left."""
    client.socket.setblocking(False)
    sent, pending, idle = 0, b"", time.monotonic()
    while sent < most and time.monotonic() < idle + 1:
        pending = pending or block
        try:
            count = client.socket.send(pending)
            pending, sent, idle = pending[count:], sent + count, time.monotonic()
        except BlockingIOError:
            time.sleep(0.005)
    return sent


@pytest.mark.parametrize("what", ["Sync", "Close", "Parse", "Close behind a running query"])
def test_client_that_never_reads_its_answers(start_proxy: Callable[..., Proxy], database: str, what: str) -> None:
    """Answers that the proxy makes by itself are not piled up without end."""
    proxy = start_proxy(threads=1)
    with login(proxy, database) as client:
        client.ask(parse("SELECT 1", "known"), bind("known"), execute(), SYNC)
        with Connection(proxy.host, proxy.port) as greedy:
            greedy.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            greedy.login(database=database)
            if what == "Close behind a running query":
                greedy.send(query("SELECT pg_sleep(20)"))
            block = {
                "Sync": SYNC, "Close": close("S", "x"), "Parse": parse("SELECT 1", "known") + close("S", "known"),
                "Close behind a running query": parse("SELECT 1", "known") + close("S", "known")}[what] * 2000
            memory = proxy.figures.rss()
            push(greedy, block, 48 * MEGABYTE)
            growth = proxy.figures.rss() - memory
        assert client.simple("SELECT 1") == [[b"1"]]
        assert growth < 16 * MEGABYTE, f"{growth / MEGABYTE:.1f} MB"


def test_query_sent_to_the_console_with_the_startup_packet(proxy: Proxy) -> None:
    with Connection(proxy.host, proxy.port, timeout=5) as client:
        client.send(startup({"user": "admin", "database": "pgbouncer"}), query("SHOW VERSION"))
        client.read_until("Z")
        assert types(client.read_until("Z")) == "TDCZ"


def test_wrong_passwords_are_not_kept(start_proxy: Callable[..., Proxy]) -> None:
    """Whoever guesses passwords fills no memory with them."""
    secret = scram_secret("secret", iterations=1)
    proxy = start_proxy(run=False, settings={"auth_type": "plain"}, threads=1)
    proxy.secrets = proxy.secrets | {"guessed": secret}
    proxy.start()

    def guess(number: int) -> None:
        with Connection(proxy.host, proxy.port) as client:
            client.send(startup({"user": "guessed", "database": "app"}))
            client.read()
            client.send(message("p", text(f"{number:06d}" + "x" * 65_000)))
            assert errors(client.read_all())

    for number in range(50):
        guess(number)
    memory = proxy.figures.rss()
    for number in range(50, 550):
        guess(number)
    growth = proxy.figures.rss() - memory
    assert growth < 8 * MEGABYTE, f"{growth / MEGABYTE:.1f} MB"
