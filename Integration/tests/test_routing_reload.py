"""RELOAD takes routing away or brings it: what a client was told of its transaction holds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from common import wait_until
from rawpg import SYNC, Connection, Message, bind, cancel, describe, execute, parse, query
from routing import WHERE, Routed

pytestmark = pytest.mark.martlet("routing")

SCHEMA = "CREATE TABLE log (n int);"


def login(route: Routed, **parameters: str) -> Connection:
    return Connection(route.proxy.host, route.proxy.port).login(**parameters)


def direct(route: Routed) -> Connection:
    primary = route.cluster.primary
    return Connection(primary.host, primary.port).login(database=route.database)


def run(*texts: str) -> bytes:
    """Statements as one batch."""
    return b"".join(parse(text) + bind() + describe("P") + execute() for text in texts) + SYNC


def requests(text: str, extended: bool) -> bytes:
    return run(text) if extended else query(text)


def told(answer: list[Message]) -> list[object]:
    """What must be the same as directly."""
    return [
        (each.type, each.sqlstate if each.type == "E" else each.body) for each in answer if each.type not in "NS"]


def errors(answer: list[Message]) -> list[str]:
    return [each.sqlstate for each in answer if each.type == "E"]


def logged(route: Routed) -> list[int]:
    with route.direct() as primary:
        return [n for n, in primary.execute("SELECT n FROM log ORDER BY n")]


def change(route: Routed, how: str) -> None:
    """Another configuration of the entry."""
    proxy = route.proxy
    primary = route.cluster.primary
    proxy.databases["app"] = {
        "plain": f"host={primary.host} port={primary.port} dbname={route.database}",
        "off": f"host={primary.host} port={primary.port} dbname={route.database} routing=off",
        "primary": route.cluster.entry(dbname=route.database, check_dbname="postgres", routing="primary"),
        "split": route.cluster.entry(dbname=route.database, check_dbname="postgres", max_replica_lag="1h"),
    }[how]
    proxy.reload()
    if how == "split":
        route.wait_known(reads=False)


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("how", ["plain", "off", "primary"])
def test_a_begin_that_was_held_back(routed: Callable[..., Routed], how: str, extended: bool) -> None:
    """No server has heard of it when its router goes: what follows is in a transaction all the same."""
    route = routed(schema=SCHEMA)
    with login(route) as client, login(route) as other, direct(route) as expected:
        begin = "BEGIN ISOLATION LEVEL REPEATABLE READ"
        for each in (client, other, expected):
            assert each.ask(requests(begin, extended))[-1].body == b"T"
        change(route, how)
        for text in ("INSERT INTO log VALUES (1)", "SHOW transaction_isolation", "ROLLBACK", "SELECT n FROM log"):
            request = requests(text, extended)
            assert told(client.ask(request)) == told(expected.ask(request)), text
        assert logged(route) == []
        # Ended before anything has happened in it.
        assert other.ask(requests("COMMIT", extended))[-1].body == b"I"
        assert not errors(other.ask(query("INSERT INTO log VALUES (2)")))
    assert logged(route) == [2]


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("how", ["plain", "primary"])
def test_a_transaction_that_has_failed(routed: Callable[..., Routed], how: str, extended: bool) -> None:
    """Nothing runs in it, and its client can end it."""
    route = routed(schema=SCHEMA)
    ends = ["ROLLBACK", "commit;", "/* the end */ END TRANSACTION", "ABORT WORK AND NO CHAIN", "ROLLBACK AND CHAIN"]
    clients = [(login(route), direct(route), end) for end in ends]
    for client, expected, _ in clients:
        client.ask(query("BEGIN"))
        expected.ask(query("BEGIN"))
        assert client.ask(query("SET martlet.route = 'nonsense'"))[-1].body == b"E"
        expected.ask(query("SELECT nothing"))
    change(route, how)
    for client, expected, end in clients:
        texts = ["INSERT INTO log VALUES (1)", "BEGIN", "", end, "INSERT INTO log VALUES (1)", "ROLLBACK"]
        for text in texts[:2] + texts[3:] if extended else texts:
            request = requests(text, extended)
            assert told(client.ask(request)) == told(expected.ask(request)), f"{text} before {end}"
        client.socket.close()
        expected.socket.close()
    # Of each pair that had not begun another transaction.
    assert logged(route) == [1] * (2 * (len(ends) - 1))


def test_settings_of_the_router_come_back_with_it(routed: Callable[..., Routed]) -> None:
    route = routed(schema=SCHEMA)
    with login(route, options="-c martlet.read_after_write=off") as client:
        client.simple("SET martlet.session_key = 'k'")
        client.simple("BEGIN")
        change(route, "plain")
        assert not errors(client.ask(query("INSERT INTO log VALUES (1)")))
        change(route, "split")
        assert client.ask(query("ROLLBACK"))[-1].body == b"I"
        assert client.simple("SHOW martlet.session_key") == [[b"k"]]
        assert client.simple("SHOW martlet.read_after_write") == [[b"off"]]
        client.simple("RESET martlet.session_key")
        assert client.simple("SHOW martlet.session_key") == [[b""]]
    assert logged(route) == []


def test_a_held_transaction_comes_back_to_a_router(routed: Callable[..., Routed]) -> None:
    route = routed(schema=SCHEMA)
    with login(route) as client:
        client.simple("BEGIN")
        change(route, "off")
        change(route, "split")
        client.simple("INSERT INTO log VALUES (1)")
        assert client.ask(query("ROLLBACK"))[-1].body == b"I"
    assert logged(route) == []


def test_a_read_that_waits_for_a_replica(routed: Callable[..., Routed]) -> None:
    """With its BEGIN held back: it runs where there are writes, behind that BEGIN."""
    route = routed(schema=SCHEMA, transaction_routing="promote", settings={"default_pool_size": 1})
    clients = [login(route) for _ in range(len(route.cluster.replicas) + 1)]
    for client in clients:
        client.simple("BEGIN")
        client.send(query(WHERE))
    route.proxy.wait_pool(lambda pool: pool["cl_waiting"] > 0, "one waits for a replica", "app")
    waiting = [client for client in clients if client.silent(0.5)]
    assert waiting
    change(route, "plain")
    while waiting:
        client = wait_until(lambda: next((each for each in waiting if not each.silent()), None), "one has its turn")
        waiting.remove(client)
        answer = client.read_until("Z")
        assert answer[-1].body == b"T"
        assert [each.values() for each in answer if each.type == "D"] == [
            [str(route.cluster.primary.port).encode()]]
        client.simple("INSERT INTO log VALUES (1)")
        client.simple("ROLLBACK")
    for client in clients:
        client.socket.close()
    assert logged(route) == []


def test_a_cancel_behind_the_reload(routed: Callable[..., Routed]) -> None:
    """The first statement waits for a connection and is cancelled: the transaction has failed with it."""
    route = routed(schema=SCHEMA, settings={"default_pool_size": 1})
    with login(route) as client, login(route) as holder:
        client.simple("BEGIN")
        change(route, "plain")
        holder.simple("BEGIN")
        holder.simple("SELECT 1")
        client.send(query("INSERT INTO log VALUES (1)"), query("INSERT INTO log VALUES (2)"), query("COMMIT"))
        route.proxy.wait_pool(lambda pool: pool["cl_waiting"] == 1, "it waits", "app")
        cancel(route.proxy.host, route.proxy.port, client.key)
        answer = client.read_until("Z", 3)
        assert errors(answer) == ["57014", "25P02"] and answer[-1].body == b"I"
        holder.simple("COMMIT")
    assert logged(route) == []


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("how", ["plain", "off", "primary", "plain, split"])
def test_a_transaction_that_may_leave_its_replica(routed: Callable[..., Routed], how: str, extended: bool) -> None:
    """It goes on on the primary, as it would have without the reload; and as directly."""
    route = routed(schema=SCHEMA, transaction_routing="promote")
    endings = [
        ["INSERT INTO log VALUES (1)", "SELECT n FROM log", "COMMIT", "SELECT count(*) FROM log"],
        ["SAVEPOINT a", "INSERT INTO log VALUES (2)", "ROLLBACK TO a", "COMMIT"], ["COMMIT", "INSERT INTO log VALUES (3)"],
        ["ROLLBACK", "BEGIN", "INSERT INTO log VALUES (4)", "ROLLBACK"], ["SELECT 1/0", "INSERT INTO log VALUES (5)", "COMMIT"],
        ["SELECT 1", "SELECT nothing", "ROLLBACK AND CHAIN", "INSERT INTO log VALUES (6)", "COMMIT"]]
    clients = []
    for ending in endings:
        with route.connect() as reader:
            route.wait_replica(reader)
        clients.append((login(route), direct(route), ending))
        assert clients[-1][0].ask(query("BEGIN"))[-1].body == b"T"
        assert clients[-1][0].simple(WHERE) != [[str(route.cluster.primary.port).encode()]]
        clients[-1][1].simple("BEGIN")
        clients[-1][1].simple(WHERE)
    for step in how.split(", "):
        change(route, step)
    for client, expected, ending in clients:
        with route.direct() as primary:
            primary.execute("TRUNCATE log")
        answers = [told(client.ask(requests(text, extended))) for text in ending]
        client.socket.close()
        with route.direct() as primary:
            primary.execute("TRUNCATE log")
        assert answers == [told(expected.ask(requests(text, extended))) for text in ending], ending
        expected.socket.close()


@pytest.mark.parametrize("how", ["plain", "primary"])
def test_read_only_transactions_of_a_router_that_goes(routed: Callable[..., Routed], how: str) -> None:
    """One leaves for what only the primary can show; one that has seen its snapshot stays, with what it is."""
    route = routed(schema=SCHEMA + "CREATE UNLOGGED TABLE fleeting AS SELECT 17 AS n;")
    with login(route) as leaving, login(route) as bound:
        leaving.simple("BEGIN READ ONLY")
        bound.simple("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        replicas = [[[str(route.cluster.nodes[name].port).encode()]] for name in route.cluster.replicas]
        assert leaving.simple(WHERE) in replicas
        seen_at = bound.simple(WHERE)
        assert seen_at in replicas
        change(route, how)
        assert leaving.simple("SELECT n FROM fleeting") == [[b"17"]]
        assert errors(leaving.ask(query("INSERT INTO log VALUES (1)"))) == ["25006"]
        leaving.simple("ROLLBACK")
        assert bound.simple(WHERE) == seen_at
        bound.simple("COMMIT")
        for client in (leaving, bound):
            client.simple("INSERT INTO log VALUES (2)")
    assert logged(route) == [2, 2]


def test_a_request_under_way_when_its_router_goes(routed: Callable[..., Routed]) -> None:
    route = routed(schema=SCHEMA, transaction_routing="promote")
    with login(route) as client:
        client.simple("BEGIN")
        client.send(query("SELECT 1, pg_sleep(1)"))
        wait_until(lambda: any("pg_sleep" in text for name in route.cluster.replicas for _, state, text
                               in route.cluster.nodes[name].backends(route.database) if state == "active"), "it runs")
        change(route, "plain")
        client.send(query("INSERT INTO log VALUES (1)"), query("COMMIT"))
        assert errors(client.read_until("Z", 3)) == []
    assert logged(route) == [1]


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("how", ["plain", "off", "primary"])
def test_a_write_behind_a_read_that_is_under_way(routed: Callable[..., Routed], how: str, extended: bool) -> None:
    """The read is on a replica; the write was sent before the read's answer was there, and behind the reload."""
    route = routed(schema=SCHEMA)
    with login(route) as client:
        client.send(requests("SELECT n, repeat('x', 4000), pg_sleep(0.02) FROM generate_series(1, 80) n", extended))
        wait_until(lambda: any("repeat" in text for name in route.cluster.replicas for _, state, text
                               in route.cluster.nodes[name].backends(route.database) if state == "active"), "it runs")
        change(route, how)
        client.send(requests("INSERT INTO log VALUES (1)", extended), requests("SELECT n FROM log", extended))
        assert errors(client.read_until("Z")) == []
        assert errors(client.read_until("Z")) == []
        assert [each.values() for each in client.read_until("Z") if each.type == "D"] == [[b"1"]]
