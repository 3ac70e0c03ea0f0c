"""A server connection changes hands: what one client has left there, or the server still says, is not the next one's."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

import psycopg
import pytest

from cluster import Cluster
from common import wait_until
from fakeserver import READY, FakeServer
from proxy import Proxy
from rawpg import (
    FLUSH, SYNC, TERMINATE, Closed, Connection, bind, close, copy_data, execute, function_call, message, parse, query,
    startup, text)

# What a session may hold that a ROLLBACK does not undo, and how the next user of its connection would find it.
LEFT_BEHIND = {
    "advisory lock": (
        "SELECT pg_advisory_lock(4711)",
        "SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()", "0"),
    "setting of a transaction before": (
        "SELECT 1", "SELECT current_setting('work_mem')", "4MB"),
    "cursor with hold": (
        "SELECT 1", "SELECT count(*)::text FROM pg_cursors", "0"),
    "temporary table": (
        "SELECT 1", "SELECT count(*)::text FROM pg_class WHERE relnamespace = pg_my_temp_schema()", "0"),
    "prepared statement": (
        "SELECT 1", "SELECT count(*)::text FROM pg_prepared_statements WHERE name = 'left_behind'", "0"),
    "channel": (
        "SELECT 1", "SELECT count(*)::text FROM pg_listening_channels()", "0"),
}
BEFORE = {
    "setting of a transaction before": "BEGIN; SELECT set_config('work_mem', '5MB', false); COMMIT; BEGIN",
    "cursor with hold": "BEGIN; DECLARE left_behind CURSOR WITH HOLD FOR SELECT 1; COMMIT; BEGIN",
    "temporary table": "BEGIN; CREATE TEMP TABLE left_behind (a int); COMMIT; BEGIN",
    "prepared statement": "BEGIN; PREPARE left_behind AS SELECT 1; COMMIT; BEGIN",
    "channel": "BEGIN; LISTEN left_behind; COMMIT; BEGIN",
}
WAYS: dict[str, Callable[[Connection], None]] = {
    "politely": lambda client: client.send(TERMINATE),
    "silently": lambda client: None,
    "behind a query": lambda client: client.send(query("SELECT 1"), TERMINATE),
    "behind an error": lambda client: client.send(query("SELECT 1/0"), TERMINATE),
    "in an unsynced batch": lambda client: client.send(parse("SELECT 1"), bind(), execute()),
    "in a copy": lambda client: client.send(query("COPY (SELECT 1) TO STDOUT"), TERMINATE),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_client_that_leaves_in_a_transaction_leaves_nothing(
        start_proxy: Callable[..., Proxy], mode: str, way: str) -> None:
    """Whatever outlives ROLLBACK: the connection is cleaned, or closed."""
    # A reset query of a user's own may clean less than everything.
    proxy = start_proxy(settings={"default_pool_size": 1, "pool_mode": mode, "server_reset_query": ""})
    for name, (inside, probe, expected) in LEFT_BEHIND.items():
        with Connection(proxy.host, proxy.port).login() as leaver:
            leaver.ask(query(BEFORE.get(name, "BEGIN")))
            assert leaver.ask(query(inside))[-1].body == b"T"
            WAYS[way](leaver)
        with Connection(proxy.host, proxy.port).login() as heir:
            assert heir.simple(probe) == [[expected.encode()]], name
            assert heir.simple("SELECT 1") == [[b"1"]]


def test_connection_that_was_left_in_a_transaction_is_kept(
        start_proxy: Callable[..., Proxy], cluster: Cluster, database: str) -> None:
    """A storm of leavers is not a storm of new connections, and prepared statements are prepared again."""
    proxy = start_proxy(settings={"default_pool_size": 1})
    pids = set()
    for number in range(5):
        with Connection(proxy.host, proxy.port).login("app", database) as client:
            client.ask(parse("SELECT pg_backend_pid()::text", "s"), SYNC)
            answer = client.ask(bind("s"), execute(), SYNC)
            pids.add(next(each.values()[0] for each in answer if each.type == "D"))
            client.ask(query("BEGIN"))
            client.ask(bind("s"), execute(), SYNC)
    assert len(pids) == 1


def test_connect_query_survives_clients_that_leave_in_a_transaction(
        start_proxy: Callable[..., Proxy], cluster: Cluster) -> None:
    proxy = start_proxy(run=False, settings={"default_pool_size": 1})
    proxy.databases = {"app": proxy.server(connect_query="'SET work_mem = ''7MB'''")}
    proxy.start()
    for _ in range(3):
        with Connection(proxy.host, proxy.port).login() as leaver:
            leaver.ask(query("BEGIN"))
        with Connection(proxy.host, proxy.port).login() as heir:
            assert heir.simple("SHOW work_mem") == [[b"7MB"]]


# What stands behind ReadyForQuery

def notice(about: bytes) -> bytes:
    return message("N", text("SNOTICE") + text("C00000") + text(b"Mabout " + about) + b"\0")


ASYNCHRONOUS: dict[str, Callable[[bytes], tuple[bytes, bytes]]] = {
    "notice": lambda asked: (notice(asked), b""),
    "several": lambda asked: (
        notice(asked) * 3 + message("A", b"\0\0\0\1" + text("channel") + text(asked)), b""),
    "notice in two pieces": lambda asked: (notice(asked)[:20], notice(asked)[20:]),
    "notice in two pieces, the first of three bytes": lambda asked: (notice(asked)[:3], notice(asked)[3:]),
    "long notice in two pieces": lambda asked: (notice(asked + b"x" * 9000)[:5000], notice(asked + b"x" * 9000)[5000:]),
}


@pytest.mark.martlet("PgBouncer gives the connection away in the middle of what it has read")
@pytest.mark.parametrize("kind", ASYNCHRONOUS)
def test_messages_behind_ready_for_query_are_not_the_next_clients(
        start_proxy: Callable[..., Proxy], kind: str) -> None:
    """They belong to the client just served, or to nobody."""
    def behind(asked: bytes) -> tuple[bytes, bytes]:
        return ASYNCHRONOUS[kind](asked.rstrip(b"\0") or b"login")

    wrong: list[str] = []

    def work(name: str) -> None:
        try:
            with Connection(proxy.host, proxy.port).login() as client:
                for _ in range(60):
                    for each in client.ask(query(f"SELECT '{name}'")):
                        if each.type in "NA" and f"'{name}'".encode() not in each.body:
                            wrong.append(f"{name} gets {each.type} {each.body[:80]!r}")
        except Exception as problem:
            wrong.append(f"{name}: {problem!r}")

    with FakeServer(None, behind=behind) as server:
        proxy = start_proxy(
            databases={"app": f"host=127.0.0.1 port={server.port}"},
            settings={"default_pool_size": 1, "server_check_delay": 0, "server_check_query": "SELECT 'check'"})
        clients = [threading.Thread(target=work, args=(f"client {number}",)) for number in range(4)]
        for each in clients:
            each.start()
        for each in clients:
            each.join(30)
    assert not wrong, wrong[:5]


@pytest.mark.martlet("PgBouncer passes it on")
@pytest.mark.parametrize("behind", [
    message("D", b"\0\1\0\0\0\6secret"), message("C", text("SELECT 1")), message("Z", b"I"), message("1"),
    message("d", b"secret"), message("T", b"\0\0"), message("V", b"\0\0\0\6secret"), message("?", b"secret"),
    message("D", b"\0\1\0\0\0\6secret")[:7],
], ids=repr)
def test_answers_that_nobody_asked_for_are_nobodys(start_proxy: Callable[..., Proxy], behind: bytes) -> None:
    """The connection is closed: what else it would say belongs to nobody. No client hears any of it."""
    with FakeServer(None, behind=lambda asked: (behind if b"'last'" in asked else b"", b"")) as server:
        proxy = start_proxy(
            databases={"app": f"host=127.0.0.1 port={server.port}"}, settings={"default_pool_size": 1})
        with Connection(proxy.host, proxy.port).login() as first, Connection(proxy.host, proxy.port).login() as second:
            for _ in range(3):
                first.send(query("SELECT 'last'"))
                second.send(query("SELECT 'mine'"))
                for client in (first, second):
                    heard = client.read_until("Z") if client is second else None
                    if heard:
                        assert "".join(each.type for each in heard) == "TDCZ"
                        assert b"secret" not in b"".join(each.body for each in heard)
                try:
                    heard = first.read_until("Z")
                    assert b"secret" not in b"".join(each.body for each in heard)
                    break
                except Closed:
                    break
            assert second.simple("SELECT 'again'") == [[b"1"]]


LAST_WORDS = message("E", text("SFATAL") + text("VFATAL") + text("C40001") + text("Mterminating connection") + b"\0")


@pytest.mark.martlet("PgBouncer passes it on")
@pytest.mark.parametrize("at", [None, 3, 20])
def test_a_server_that_goes_behind_ready_for_query(
        start_proxy: Callable[..., Proxy], at: int | None) -> None:
    """What a replica says to a backend that it cancels too late. Nobody hears it, and nobody gets that connection."""
    def behind(asked: bytes) -> tuple[bytes, bytes]:
        if b"'last'" not in asked:
            return b"", b""
        return (LAST_WORDS, b"") if at is None else (LAST_WORDS[:at], LAST_WORDS[at:])

    with FakeServer(None, behind=behind) as server:
        proxy = start_proxy(
            databases={"app": f"host=127.0.0.1 port={server.port}"}, settings={"default_pool_size": 1})
        with Connection(proxy.host, proxy.port).login() as first, Connection(proxy.host, proxy.port).login() as second:
            for number in range(5):
                for client, name in (first, "last"), (second, "mine"):
                    heard = client.ask(query(f"SELECT '{name}'"))
                    assert "".join(each.type for each in heard) == "TDCZ", number
            assert first.simple("SELECT 'again'") == second.simple("SELECT 'again'") == [[b"1"]]


def test_answers_of_the_proxy_do_not_stand_in_a_notice(start_proxy: Callable[..., Proxy]) -> None:
    """The server owes nothing, and is in the middle of a message all the same."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        proxy = start_proxy(databases={"app": f"host=127.0.0.1 port={listener.getsockname()[1]}"})
        with Connection(proxy.host, proxy.port) as client:
            client.send(startup({"user": "app", "database": "app"}))
            server, _ = listener.accept()
            with server:
                server.recv(1000)
                server.sendall(READY)
                client.read_until("Z")
                client.send(parse("SELECT 1", "one"), SYNC)
                server.recv(1000)
                server.sendall(message("1") + message("Z", b"T"))
                client.read_until("Z")
                said = notice(b"nothing in particular" * 20)
                server.sendall(said[:100])
                assert client.socket.recv(100, socket.MSG_PEEK)
                # Both are answered here: there is such a statement.
                client.send(parse("SELECT 1", "two"), close("S", "one"), FLUSH)
                assert not server.recv(1000).strip(FLUSH)
                time.sleep(0.05)
                server.sendall(said[100:])
                assert [client.read().type for _ in range(3)] == ["N", "1", "3"]


# Half a message

HALVES: dict[str, bytes] = {
    "Query": query("SELECT '" + "x" * 200 + "'")[:113],
    "header only": query("SELECT 1")[:5],
    "Parse": parse("SELECT '" + "x" * 200 + "'")[:113],
    "named Parse": parse("SELECT '" + "x" * 200 + "'", "s")[:113],
    "Bind behind a Parse": b"",
    "FunctionCall": function_call(1258, (b"a" * 200, b"b"))[:113],
    "Close": close("S", "x" * 300)[:113],
    "second of two Queries": query("SELECT 1") + query("SELECT '" + "x" * 200 + "'")[:113],
    "behind a Sync": parse("SELECT 1") + bind() + execute() + SYNC + query("SELECT '" + "x" * 200 + "'")[:113],
    "60 KB of 100": query("SELECT '" + "x" * 100_000 + "'")[:60_000],
}


@pytest.mark.martlet("PgBouncer lends a connection to the beginning of a message")
@pytest.mark.parametrize("name", [each for each in HALVES if HALVES[each]])
def test_half_a_message_holds_no_server(start_proxy: Callable[..., Proxy], name: str) -> None:
    proxy = start_proxy(settings={"default_pool_size": 1})
    halves = [Connection(proxy.host, proxy.port).login() for _ in range(3)]
    try:
        for each in halves:
            each.send(HALVES[name])
            if b"SELECT 1\0" in HALVES[name] and len(HALVES[name]) > 20:
                each.read_until("Z")
        with Connection(proxy.host, proxy.port, timeout=5).login() as other:
            for _ in range(3):
                assert other.simple("SELECT 2") == [[b"2"]]
    finally:
        for each in halves:
            each.socket.close()


@pytest.mark.martlet("its own setting")
@pytest.mark.parametrize("kind", ["Query", "Bind", "in a transaction"])
def test_rest_of_a_large_message_has_a_time_limit(start_proxy: Callable[..., Proxy], kind: str) -> None:
    proxy = start_proxy(settings={"default_pool_size": 1, "client_message_timeout": "300ms"})
    large = query("SELECT '" + "x" * 300_000 + "'")
    if kind == "Bind":
        large = parse("SELECT $1::text") + bind(values=("x" * 300_000,)) + execute() + SYNC
    with Connection(proxy.host, proxy.port).login() as slow, Connection(proxy.host, proxy.port).login() as other:
        if kind == "in a transaction":
            slow.ask(query("BEGIN"))
        # One that goes on, however slowly, may take longer than that.
        for at in range(0, len(large), 30_000):
            slow.send(large[at:at + 30_000])
            time.sleep(0.06)
        assert "D" in [each.type for each in slow.read_until("Z")]
        slow.send(large[:200_000])
        started = time.monotonic()
        assert other.simple("SELECT 2") == [[b"2"]]
        assert time.monotonic() - started < 10
        answer = slow.read_all()
        assert [each.text for each in answer if each.type == "E"] == ["client_message_timeout"]


def test_data_of_a_copy_may_pause(start_proxy: Callable[..., Proxy], database: str) -> None:
    proxy = start_proxy(settings={"client_message_timeout": "200ms"})
    with Connection(proxy.host, proxy.port).login("app", database) as client:
        client.ask(query("CREATE TABLE slow (line text)"))
        client.send(query("COPY slow FROM STDIN"))
        client.read_until("G")
        data = copy_data(b"x" * 100_000 + b"\n")
        client.send(data[:70_000])
        time.sleep(0.5)
        client.send(data[70_000:], message("c"))
        assert client.read_until("Z")[0].body == b"COPY 1\0"


@pytest.mark.martlet("in PgBouncer a batch without Sync is no transaction")
def test_batch_without_sync_counts_as_a_transaction(start_proxy: Callable[..., Proxy]) -> None:
    """A client that never sends the Sync holds its server connection as one does that never sends COMMIT."""
    proxy = start_proxy(settings={"default_pool_size": 1, "idle_transaction_timeout": "300ms"})
    with Connection(proxy.host, proxy.port).login() as holder:
        holder.send(parse("SELECT 1"), bind(), execute(), message("H"))
        holder.read_until("C")
        with proxy.connect() as other:
            assert other.execute("SELECT 2").fetchone() == (2,)
        answer = holder.read_all()
        assert [each.text for each in answer if each.type == "E"] == ["idle transaction timeout"]


def test_server_is_lent_when_the_message_is_whole(proxy: Proxy) -> None:
    """Byte by byte, and large ones beyond what is waited for."""
    with Connection(proxy.host, proxy.port).login() as client:
        for size in (1, 3000, 65_535, 65_536, 65_540, 1_000_000):
            sent = query("SELECT length('" + "x" * size + "')")
            for at in range(0, len(sent), max(1, len(sent) // 7)):
                client.send(sent[at:at + max(1, len(sent) // 7)])
            answer = client.read_until("Z")
            assert [each.values() for each in answer if each.type == "D"] == [[str(size).encode()]]
    wait_until(lambda: all(row["state"] == "idle" for row in proxy.show("SERVERS")), "servers are idle")


def test_psycopg_leaves_in_a_transaction(start_proxy: Callable[..., Proxy]) -> None:
    proxy = start_proxy(settings={"default_pool_size": 1})
    for _ in range(10):
        connection = psycopg.connect(host=proxy.host, port=proxy.port, dbname="app", user="app")
        connection.execute("SELECT pg_advisory_lock(1)")
        connection.close()
    with proxy.connect() as heir:
        assert heir.execute("SELECT pg_try_advisory_lock(1), pg_advisory_unlock(1)").fetchone() == (True, True)
        assert heir.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()").fetchone() == (0,)
