"""Prepared statements of the protocol over servers that are shared: a client's names are its own, wherever it lands."""

from __future__ import annotations

import random
from collections.abc import Callable

import psycopg
import pytest

from cluster import Cluster
from common import Background
from proxy import Proxy
from rawpg import FLUSH, SYNC, Connection, Message, bind, close, describe, execute, parse, query


def login(proxy: Proxy, database: str = "app") -> Connection:
    return Connection(proxy.host, proxy.port).login(database=database)


def rows(answer: list[Message]) -> list[list[bytes | None]]:
    errors = [each.fields() for each in answer if each.type == "E"]
    assert not errors, errors
    return [each.values() for each in answer if each.type == "D"]


def run(connection: Connection, name: str, *values: str) -> list[list[bytes | None]]:
    return rows(connection.ask(bind(name, values=values), execute(), SYNC))


def errors(answer: list[Message]) -> list[str]:
    return [each.sqlstate for each in answer if each.type == "E"]


def test_follows_its_client_to_other_servers(start_proxy: Callable[..., Proxy], database: str) -> None:
    # In one thread, so that the holder takes the connection that was released last.
    proxy = start_proxy(settings={"default_pool_size": 4}, threads=1)
    with login(proxy, database) as client:
        client.ask(parse("SELECT $1::int * 2, pg_backend_pid()", "double"), SYNC)
        holders, pids = [], set()
        for number in range(4):
            (value, pid), = run(client, "double", str(number))
            assert value == str(number * 2).encode()
            pids.add(pid)
            # Somebody takes that server for a transaction, so that the next run lands elsewhere.
            holders.append(login(proxy, database))
            holders[-1].simple("BEGIN") if number < 3 else None
        assert len(pids) == 4
        for holder in holders:
            holder.socket.close()


def test_describe_on_another_server(start_proxy: Callable[..., Proxy], database: str) -> None:
    proxy = start_proxy(settings={"default_pool_size": 2})
    with login(proxy, database) as client, login(proxy, database) as holder:
        first = client.ask(parse("SELECT $1::int AS n, 'x'::text AS t", "s"), describe("S", "s"), SYNC)
        holder.simple("BEGIN")
        second = client.ask(describe("S", "s"), SYNC)
        assert [each for each in first if each.type in "tT"] == [each for each in second if each.type in "tT"]


def test_same_name_with_different_texts(start_proxy: Callable[..., Proxy], database: str) -> None:
    proxy = start_proxy(settings={"default_pool_size": 1})
    clients = [login(proxy, database) for _ in range(10)]
    for number, client in enumerate(clients):
        client.ask(parse(f"SELECT {number}, $1::text", "s"), SYNC)
    for _ in range(3):
        for number, client in enumerate(clients):
            assert run(client, "s", "x") == [[str(number).encode(), b"x"]]
    for client in clients:
        client.socket.close()


def test_same_text_is_prepared_once(start_proxy: Callable[..., Proxy], database: str) -> None:
    proxy = start_proxy(settings={"default_pool_size": 1})
    clients = [login(proxy, database) for _ in range(10)]
    for number, client in enumerate(clients):
        client.ask(parse("SELECT 'shared', $1::int", f"name{number}"), SYNC)
        assert run(client, f"name{number}", "5") == [[b"shared", b"5"]]
    assert clients[0].simple(
        "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%shared%' AND from_sql = false") == [[b"1"]]
    for client in clients:
        client.socket.close()


def test_same_text_with_different_parameter_types(start_proxy: Callable[..., Proxy], database: str) -> None:
    proxy = start_proxy(settings={"default_pool_size": 1})
    with login(proxy, database) as one, login(proxy, database) as two:
        one.ask(parse("SELECT pg_typeof($1)::text", "s", (23,)), SYNC)
        two.ask(parse("SELECT pg_typeof($1)::text", "s", (25,)), SYNC)
        for _ in range(2):
            assert run(one, "s", "1") == [[b"integer"]]
            assert run(two, "s", "1") == [[b"text"]]


def test_least_recently_used_goes(start_proxy: Callable[..., Proxy], database: str) -> None:
    """Far more statements than max_prepared_statements: all stay usable, and the server holds no more than that."""
    proxy = start_proxy(settings={"default_pool_size": 1, "max_prepared_statements": 5})
    with login(proxy, database) as client:
        for number in range(40):
            client.ask(parse(f"SELECT {number} + $1::int", f"s{number}"), SYNC)
        for number in [*range(40), *range(39, -1, -1), 0, 0, 20]:
            assert run(client, f"s{number}", "1") == [[str(number + 1).encode()]]
        assert int(client.simple("SELECT count(*) FROM pg_prepared_statements")[0][0]) <= 5


def test_more_statements_than_the_limit_in_one_pipeline(start_proxy: Callable[..., Proxy], database: str) -> None:
    proxy = start_proxy(settings={"default_pool_size": 1, "max_prepared_statements": 3})
    with login(proxy, database) as client:
        for _ in range(2):
            prefix = random.randrange(10**9)
            answer = client.ask(
                *(parse(f"SELECT {number} + $1::int", f"s{prefix}_{number}") for number in range(12)),
                *(bind(f"s{prefix}_{number}", values=("1",)) + execute() for number in range(12)), SYNC)
            assert rows(answer) == [[str(number + 1).encode()] for number in range(12)]


def test_many_clients_at_random(start_proxy: Callable[..., Proxy], database: str) -> None:
    """Random preparing, running and closing with few servers and a small limit: each answer is the client's own."""
    proxy = start_proxy(settings={"default_pool_size": 3, "max_prepared_statements": 8})

    def one(seed: int) -> None:
        chance = random.Random(seed)
        known: dict[str, int] = {}
        with login(proxy, database) as client:
            for _ in range(150):
                action = chance.random()
                if action < 0.35 or not known:
                    name, number = f"n{chance.randrange(12)}", chance.randrange(20)
                    answer = client.ask(parse(f"SELECT {number}, $1::text", name), SYNC)
                    if name in known and proxy.is_martlet:
                        assert errors(answer) == ["42P05"]
                    elif name not in known:
                        assert not errors(answer)
                        known[name] = number
                elif action < 0.5:
                    name = chance.choice(list(known))
                    client.ask(close("S", name), SYNC)
                    del known[name]
                else:
                    names = [chance.choice(list(known)) for _ in range(chance.randrange(1, 4))]
                    answer = client.ask(*(bind(name, values=(name,)) + execute() for name in names), SYNC)
                    assert rows(answer) == [[str(known[name]).encode(), name.encode()] for name in names]

    if not proxy.is_martlet:
        pytest.skip("PgBouncer disconnects when a name is used twice")
    for each in [Background(one, seed) for seed in range(12)]:
        each.result(60)


@pytest.mark.parametrize("command", ["DEALLOCATE ALL", "DISCARD ALL"])
def test_emptied_by_sql(start_proxy: Callable[..., Proxy], database: str, command: str) -> None:
    """The names are free again; other clients' statements go on, though their server has forgotten them."""
    proxy = start_proxy(settings={"default_pool_size": 1})
    with login(proxy, database) as one, login(proxy, database) as two:
        one.ask(parse("SELECT 'one', $1::int", "s"), SYNC)
        two.ask(parse("SELECT 'two', $1::int", "s"), SYNC)
        run(one, "s", "1"), run(two, "s", "1")
        one.simple(command)
        one.ask(parse("SELECT 'anew', $1::int", "s"), SYNC)
        assert run(one, "s", "2") == [[b"anew", b"2"]]
        assert run(two, "s", "3") == [[b"two", b"3"]]


@pytest.mark.martlet("PgBouncer leaves the statement as it is on the server")
def test_result_type_changed_by_ddl(start_proxy: Callable[..., Proxy], database: str) -> None:
    """The server says 0A000 once; then the statement is prepared anew."""
    proxy = start_proxy(settings={"default_pool_size": 1})
    with login(proxy, database) as client, login(proxy, database) as other:
        client.simple("CREATE TABLE t AS SELECT 1 AS a")
        client.ask(parse("SELECT * FROM t", "s"), SYNC)
        other.ask(parse("SELECT * FROM t", "o"), SYNC)
        assert run(client, "s") == [[b"1"]]
        client.simple("ALTER TABLE t ADD COLUMN b int DEFAULT 2")
        assert errors(client.ask(bind("s"), execute(), SYNC)) in (["0A000"], [])
        assert run(client, "s") == [[b"1", b"2"]]
        assert run(other, "o") == [[b"1", b"2"]]


def test_failed_parse_leaves_nothing(start_proxy: Callable[..., Proxy], database: str) -> None:
    proxy = start_proxy(settings={"default_pool_size": 1})
    with login(proxy, database) as client, login(proxy, database) as other:
        for connection in (client, other):
            assert errors(connection.ask(parse("SELECT * FROM later", "s"), SYNC)) == ["42P01"]
        client.simple("CREATE TABLE later (n int)")
        if proxy.is_martlet:
            for connection in (client, other):
                assert not errors(connection.ask(parse("SELECT * FROM later", "s"), SYNC))
                assert run(connection, "s") == []
        with login(proxy, database) as third:
            assert not errors(third.ask(parse("SELECT * FROM later", "s"), SYNC))
            assert run(third, "s") == []


@pytest.mark.martlet("PgBouncer asks a server each time")
def test_known_statement_needs_no_server(start_proxy: Callable[..., Proxy], database: str) -> None:
    """The pool's only server is in a transaction: Parse of what is known to be good is answered all the same."""
    proxy = start_proxy(settings={"default_pool_size": 1})
    with login(proxy, database) as one, login(proxy, database) as two, login(proxy, database) as holder:
        one.ask(parse("SELECT 1, $1::int", "s"), SYNC)
        run(one, "s", "1")
        holder.simple("BEGIN")
        assert [each.type for each in two.ask(parse("SELECT 1, $1::int", "mine"), SYNC)] == ["1", "Z"]
        two.send(parse("SELECT 1, $1::int", "flushed"), FLUSH)
        assert two.read().type == "1"
        two.ask(SYNC)
        holder.simple("COMMIT")
        assert run(two, "mine", "7") == [[b"1", b"7"]]
        assert run(two, "flushed", "8") == [[b"1", b"8"]]


@pytest.mark.martlet("PgBouncer does not keep the unnamed statement")
def test_unnamed_statement_lives_on(start_proxy: Callable[..., Proxy], database: str) -> None:
    """Parse in one transaction, Bind in a later one; somebody else's unnamed statement was on that server between."""
    proxy = start_proxy(settings={"default_pool_size": 1})
    with login(proxy, database) as one, login(proxy, database) as two:
        one.ask(parse("SELECT 'one', $1::int"), SYNC)
        two.ask(parse("SELECT 'two', $1::int"), SYNC)
        for _ in range(2):
            assert run(one, "", "1") == [[b"one", b"1"]]
            assert run(two, "", "2") == [[b"two", b"2"]]


@pytest.mark.martlet("PgBouncer does not keep the unnamed statement")
def test_simple_query_ends_the_unnamed_statement(start_proxy: Callable[..., Proxy], database: str) -> None:
    proxy = start_proxy(settings={"default_pool_size": 1})
    with login(proxy, database) as client:
        client.ask(parse("SELECT $1::int"), SYNC)
        client.simple("SELECT 1")
        assert errors(client.ask(bind(values=("1",)), execute(), SYNC)) == ["26000"]


def test_statement_prepared_in_a_transaction_that_fails(start_proxy: Callable[..., Proxy], database: str) -> None:
    """Preparing is not undone by a rollback."""
    proxy = start_proxy(settings={"default_pool_size": 1})
    with login(proxy, database) as client:
        client.simple("BEGIN")
        client.ask(parse("SELECT $1::int", "s"), SYNC)
        client.ask(query("SELECT 1/0"))
        client.simple("ROLLBACK")
        assert run(client, "s", "4") == [[b"4"]]


def test_error_in_a_transaction_while_a_statement_must_be_prepared(
        start_proxy: Callable[..., Proxy], database: str) -> None:
    """In a failed transaction the server refuses the proxy's own Parse too."""
    proxy = start_proxy(settings={"default_pool_size": 2})
    with login(proxy, database) as client, login(proxy, database) as holder:
        client.ask(parse("SELECT $1::int, 'here'", "s"), SYNC)
        holder.simple("BEGIN")
        client.simple("BEGIN")
        client.ask(query("SELECT 1/0"))
        assert errors(client.ask(bind("s", values=("1",)), execute(), SYNC)) == ["25P02"]
        client.simple("ROLLBACK")
        assert run(client, "s", "1") == [[b"1", b"here"]]


def test_off(start_proxy: Callable[..., Proxy], database: str) -> None:
    """max_prepared_statements=0 passes all as it is: enough for session pooling."""
    proxy = start_proxy(settings={"max_prepared_statements": 0, "pool_mode": "session"})
    with login(proxy, database) as client:
        client.ask(parse("SELECT $1::int", "s"), SYNC)
        assert run(client, "s", "4") == [[b"4"]]
        assert client.simple("SELECT name FROM pg_prepared_statements") == [[b"s"]]
        client.ask(close("S", "s"), SYNC)
        assert client.simple("SELECT count(*) FROM pg_prepared_statements") == [[b"0"]]


def test_psycopg_prepares_at_once(start_proxy: Callable[..., Proxy], database: str) -> None:
    proxy = start_proxy(settings={"default_pool_size": 3, "max_prepared_statements": 10})

    def one(number: int) -> None:
        with psycopg.connect(proxy.dsn(database), prepare_threshold=0) as connection:
            for index in range(60):
                assert connection.execute(
                    f"SELECT {index % 25}, %s::int", (number,)).fetchone() == (index % 25, number)
                if index % 7 == 0:
                    connection.commit()

    for each in [Background(one, number) for number in range(10)]:
        each.result(60)


def test_long_names_and_texts(start_proxy: Callable[..., Proxy], database: str) -> None:
    proxy = start_proxy(settings={"default_pool_size": 1, "max_prepared_statements": 2})
    with login(proxy, database) as client:
        name, text = "n" * 60_000, "SELECT '" + "x" * 500_000 + "', $1::int"
        client.ask(parse(text, name), SYNC)
        for number in range(4):
            client.ask(parse(f"SELECT {number}", f"s{number}"), bind(f"s{number}"), execute(), SYNC)
        assert run(client, name, "3") == [[b"x" * 500_000, b"3"]]


def test_server_dies_with_the_statements(start_proxy: Callable[..., Proxy], cluster: Cluster, database: str) -> None:
    proxy = start_proxy(settings={"default_pool_size": 1})
    with login(proxy, database) as client:
        client.ask(parse("SELECT $1::int, pg_backend_pid()", "s"), SYNC)
        (_, pid), = run(client, "s", "1")
        cluster.value("SELECT pg_terminate_backend(%s)", int(pid))
        proxy.wait_pool(lambda pool: pool["sv_idle"] == 0, "gone", database)
        (value, other), = run(client, "s", "2")
        assert value == b"2" and other != pid
