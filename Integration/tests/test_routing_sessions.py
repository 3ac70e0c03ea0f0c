"""Transactions, prepared statements, settings, cursors, temporary tables, functions: all work over several nodes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import asyncpg
import psycopg
import pytest

import rawpg
from common import wait_until
from rawpg import FLUSH, SYNC, Connection, bind, describe, execute, parse
from routing import CATALOGUE_READ, WHERE, Crowd, Routed

pytestmark = pytest.mark.martlet("routing")

SCHEMA = """
    CREATE TABLE things (n int NOT NULL);
    INSERT INTO things SELECT generate_series(1, 100);
    CREATE UNLOGGED TABLE fleeting (n int);
    INSERT INTO fleeting VALUES (17);
    CREATE FUNCTION writes(n int) RETURNS int LANGUAGE sql AS
        'INSERT INTO things VALUES (n) RETURNING inet_server_port()';
    CREATE FUNCTION reads() RETURNS int STABLE LANGUAGE sql AS 'SELECT inet_server_port()';
"""


@pytest.fixture
def route(routed: Callable[..., Routed]) -> Routed:
    return routed(schema=SCHEMA)


# Transactions

@pytest.mark.parametrize("begin", [
    ["BEGIN READ ONLY"], ["START TRANSACTION READ ONLY"], ["BEGIN", "SET TRANSACTION READ ONLY"],
    ["BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"], ["BEGIN TRANSACTION READ ONLY; "],
], ids="; ".join)
def test_read_only_transactions_go_to_a_replica(route: Routed, begin: list[str]) -> None:
    with route.connect() as connection:
        for command in begin:
            connection.execute(command)
        names = {route.where(connection) for _ in range(5)}
        assert len(names) == 1 and names <= set(route.cluster.replicas)
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("INSERT INTO things VALUES (1)")
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
        connection.execute("ROLLBACK")
        connection.execute("INSERT INTO things VALUES (1)")


@pytest.mark.parametrize("begin", [
    "BEGIN", "START TRANSACTION", "BEGIN READ WRITE", "BEGIN ISOLATION LEVEL SERIALIZABLE",
    "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY"])
def test_other_transactions_go_to_the_primary(route: Routed, begin: str) -> None:
    with route.connect() as connection:
        connection.execute(begin)
        assert route.where(connection) == "primary"
        connection.execute("COMMIT")


@pytest.mark.parametrize("mode, expected", [("primary", False), ("read_only", True), ("promote", True)])
def test_transaction_routing(routed: Callable[..., Routed], mode: str, expected: bool) -> None:
    route = routed(schema=SCHEMA, transaction_routing=mode)
    with route.connect() as connection:
        connection.execute("BEGIN READ ONLY")
        assert route.is_replica(connection) == expected
        connection.execute("COMMIT")
        assert route.is_replica(connection), "reads outside a transaction as ever"


def test_read_only_by_default(route: Routed) -> None:
    with route.connect(options="-c default_transaction_read_only=on") as connection:
        connection.execute("BEGIN")
        assert route.is_replica(connection)
        connection.execute("COMMIT")


def test_a_read_only_transaction_sees_own_writes(route: Routed) -> None:
    with route.connect() as connection, route.standing_still():
        connection.execute("INSERT INTO things VALUES (200)")
        connection.execute("BEGIN READ ONLY")
        number, port = connection.execute("SELECT max(n), inet_server_port() FROM things").fetchone()
        assert (number, route.cluster.name_of(port)) == (200, "primary")
        connection.execute("COMMIT")


def test_read_only_transaction_of_psycopg(route: Routed) -> None:
    with route.connect(autocommit=False) as connection:
        connection.read_only = True
        assert route.is_replica(connection)
        connection.commit()
        connection.read_only = False
        assert route.where(connection) == "primary"


@pytest.mark.parametrize("how", ["startup", "characteristics"])
def test_serializable_sessions_read_on_the_primary(routed: Callable[..., Routed], how: str) -> None:
    """A standby refuses that level."""
    route = routed(schema=SCHEMA, pool_mode="session")
    options = {"options": "-c default_transaction_isolation=serializable"} if how == "startup" else {}
    with route.connect(**options) as connection:
        if how == "characteristics":
            connection.execute("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        for _ in range(3):
            assert route.where(connection) == "primary"
            assert connection.execute("SELECT current_setting('transaction_isolation')").fetchone() == ("serializable",)


# Texts and batches

def test_texts_of_several_statements(route: Routed) -> None:
    """The strictest decides, and all run on one server."""
    def ports(connection: psycopg.Connection, text: str) -> set[str]:
        cursor = connection.execute(text)
        found = set()
        while True:
            if cursor.description:
                found.add(route.cluster.name_of(cursor.fetchone()[-1]))
            if not cursor.nextset():
                return found

    with route.connect() as connection:
        first = ports(connection, f"{WHERE}; SELECT n, inet_server_port() FROM things LIMIT 1")
        assert len(first) == 1 and first <= set(route.cluster.replicas)
        assert ports(connection, f"{WHERE}; INSERT INTO things VALUES (1); {WHERE}") == {"primary"}
        route.wait_replica(connection)
        assert ports(connection, f"BEGIN; {WHERE}; COMMIT; {WHERE}") == {"primary"}
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_batches_of_the_extended_protocol(route: Routed) -> None:
    """Decided as a whole up to the Sync."""
    with route.connect() as connection:
        with connection.pipeline() as pipeline:
            reads = [connection.execute(WHERE) for _ in range(3)]
            pipeline.sync()
            mixed = [connection.execute(WHERE), connection.execute("INSERT INTO things VALUES (1)"),
                     connection.execute(WHERE)]
            pipeline.sync()
        names = {route.cluster.name_of(cursor.fetchone()[0]) for cursor in reads}
        assert len(names) == 1 and names <= set(route.cluster.replicas)
        assert {route.cluster.name_of(mixed[index].fetchone()[0]) for index in (0, 2)} == {"primary"}


@pytest.mark.parametrize("sql, expected", [(WHERE, "replica"), ("SELECT writes(1)", "primary")])
def test_a_batch_that_is_flushed_first(route: Routed, sql: str, expected: str) -> None:
    """Parse and Describe with a Flush, as asyncpg and others do: what is there by then decides, and is answered."""
    with Connection(route.proxy.host, route.proxy.port, timeout=5) as client:
        client.login()
        client.send(parse(sql, "s"), describe("S", "s"), FLUSH)
        client.read_until("T")
        answers = client.ask(bind("s"), execute(), SYNC)
        row = next(answer for answer in answers if answer.type == "D")
        assert route.cluster.name_of(int(row.values()[0])).startswith(expected)


def test_a_large_batch(route: Routed) -> None:
    """Longer than what is held back to be decided: the primary, and in order."""
    with route.connect() as connection, connection.pipeline():
        cursors = [connection.execute("SELECT %s::text, %s::int", ("x" * 1000, n)) for n in range(300)]
        assert [cursor.fetchone()[1] for cursor in cursors] == list(range(300))


def test_a_statement_over_the_limit(route: Routed) -> None:
    with route.connect() as connection:
        assert route.where(connection, f"SELECT '{'x' * 100_000}', inet_server_port()") == "primary"


# Prepared statements and settings

def test_prepared_statements_on_all_nodes(routed: Callable[..., Routed]) -> None:
    route = routed(schema=SCHEMA, load_balance="round_robin")
    query = "SELECT %s::int, inet_server_port()"
    with route.connect() as connection:
        connection.prepare_threshold = 0
        seen = set()

        def everywhere() -> bool:
            n = random.randrange(1000)
            if n % 4 == 3:
                connection.execute("UPDATE things SET n = n WHERE n = %s", (n,))
            number, port = connection.execute(query, (n,)).fetchone()
            assert number == n
            seen.add(route.cluster.name_of(port))
            return seen == set(route.cluster.nodes)

        wait_until(everywhere, "it has run on every server")


def test_asyncpg_on_all_nodes(routed: Callable[..., Routed]) -> None:
    route = routed(schema=SCHEMA, load_balance="round_robin")

    async def work() -> None:
        pool = await asyncpg.create_pool(route.proxy.dsn(), min_size=4, max_size=8)

        async def one(number: int) -> None:
            async with pool.acquire() as connection:
                await connection.execute("INSERT INTO things VALUES ($1)", 1000 + number)
                assert await connection.fetchval("SELECT n FROM things WHERE n = $1", 1000 + number) == 1000 + number
                async with connection.transaction(readonly=True):
                    assert await connection.fetchval("SELECT n FROM things WHERE n = $1", 1000 + number)

        await asyncio.gather(*(one(number) for number in range(100)))
        await pool.close()

    asyncio.run(work())


def test_asyncpg_prepares_on_replicas(route: Routed) -> None:
    """It asks what a statement is with a Flush, before it binds it."""
    async def work() -> None:
        for size in (0, 100):
            connection = await asyncpg.connect(route.proxy.dsn(), statement_cache_size=size, timeout=20)
            for n in range(5):
                query = f"SELECT n + {n} - {n}, inet_server_port() FROM things WHERE n = $1"
                for _ in range(2):
                    number, port = await connection.fetchrow(query, n + 1, timeout=20)
                    assert number == n + 1 and route.cluster.name_of(port) in route.cluster.replicas
            await connection.close()

    asyncio.run(work())


INSERT = "INSERT INTO things VALUES (1000)"
COUNT_NEW = "SELECT count(*) FROM things WHERE n = 1000"


@pytest.mark.parametrize("name", ["", "named"])
@pytest.mark.parametrize("pieces", ["one", "two", "single messages"])
@pytest.mark.parametrize("flushed", ["PDH BES", "PH DH BES", "PDH DBES", "PDH PBES", "PHBDES"])
def test_batches_with_a_flush(route: Routed, flushed: str, pieces: str, name: str) -> None:
    """Before anything is bound they say what is asked for, not yet what runs: reads still go to a replica, and a write
    in what follows is the client's own."""
    def batch(sql: str) -> list[bytes]:
        made = {"P": rawpg.parse(sql, name), "D": rawpg.describe("S", name), "B": rawpg.bind(name),
                "E": rawpg.execute(), "H": rawpg.FLUSH, "S": rawpg.SYNC}
        # A statement with a name is to be parsed once.
        first = True
        parts = []
        for letter in flushed.replace(" ", ""):
            if letter == "P" and not first and name:
                continue
            first = first and letter != "P"
            parts.append(made[letter])
        return parts

    def run(connection: rawpg.Connection, sql: str) -> list[rawpg.Message]:
        parts = batch(sql)
        if pieces == "one":
            connection.send(*parts)
        elif pieces == "two":
            end = parts.index(rawpg.FLUSH) + 1
            connection.send(*parts[:end])
            assert connection.read().type == "1"
            connection.send(*parts[end:])
        else:
            for part in parts:
                connection.send(part)
        answer = connection.read_until()
        assert not any(message.type == "E" for message in answer), answer
        if name:
            connection.ask(rawpg.close("S", name), rawpg.SYNC)
        return answer

    with rawpg.Connection("127.0.0.1", route.proxy.port) as connection:
        connection.login()
        port = next(message for message in run(connection, WHERE) if message.type == "D").values()[0]
        assert route.cluster.name_of(int(port)) in route.cluster.replicas  # type: ignore[arg-type]
        with route.standing_still():
            assert run(connection, INSERT)[-2].type == "C"
            assert connection.simple(COUNT_NEW) == [[b"1"]]


@pytest.mark.parametrize("place", ["replica", "primary"])
def test_a_query_behind_a_flush(route: Routed, place: str) -> None:
    """No Sync between them: a statement was only prepared, and the Query is a request of its own."""
    def prepare(connection: rawpg.Connection) -> None:
        connection.send(rawpg.parse("SELECT 1"), rawpg.describe("S"), rawpg.FLUSH)
        assert [connection.read().type for _ in range(3)] == ["1", "t", "T"]

    with rawpg.Connection("127.0.0.1", route.proxy.port) as connection:
        connection.login(options="" if place == "replica" else "-c martlet.route=primary")

        def where() -> str:
            return route.cluster.name_of(int(connection.simple(WHERE)[0][0]))  # type: ignore[arg-type]

        for expected in ("SELECT 1", "SHOW martlet.route"):
            prepare(connection)
            assert connection.simple(expected)
        prepare(connection)
        assert (where() == "primary") == (place == "primary")
        with route.standing_still():
            prepare(connection)
            connection.simple(INSERT)
            assert connection.simple(COUNT_NEW) == [[b"1"]]
            prepare(connection)
            connection.simple("BEGIN")
            prepare(connection)
            connection.simple(INSERT)
            prepare(connection)
            connection.simple("ROLLBACK")
            prepare(connection)
            assert connection.simple(COUNT_NEW) == [[b"1"]]
        prepare(connection)
        connection.simple("BEGIN READ ONLY")
        prepare(connection)
        assert connection.ask(rawpg.query(INSERT))[0].sqlstate == "25006"
        connection.simple("ROLLBACK")
        prepare(connection)
        connection.simple("SET martlet.route = 'primary'")
        assert connection.simple("SHOW martlet.route") == [[b"primary"]]
        assert where() == "primary"


def test_settings_follow_from_node_to_node(routed: Callable[..., Routed]) -> None:
    """What a server reports, and what came at startup."""
    route = routed(schema=SCHEMA, load_balance="round_robin")
    with route.connect(options="-c statement_timeout=12345 -c search_path=pg_catalog,public") as connection:
        connection.execute("SET TimeZone = 'Asia/Tokyo'")
        connection.execute("SET DateStyle = 'German'")
        connection.execute("SET application_name = 'wanderer'")
        seen = set()

        def everywhere() -> bool:
            if random.random() < 0.25:
                connection.execute("UPDATE things SET n = n WHERE n = 1")
            *settings, port = connection.execute(
                "SELECT current_setting('TimeZone'), current_setting('DateStyle'), current_setting('application_name'),"
                " current_setting('statement_timeout'), current_setting('search_path'), inet_server_port()").fetchone()
            assert settings == ["Asia/Tokyo", "German, DMY", "wanderer", "12345ms", "pg_catalog,public"]
            seen.add(route.cluster.name_of(port))
            return seen == set(route.cluster.nodes)

        wait_until(everywhere, "it has been on every server")


def test_standard_conforming_strings_off(route: Routed) -> None:
    """A backslash hides the quote then: what looks like a read up to there is a write."""
    with route.connect() as connection:
        connection.execute("SET standard_conforming_strings = off")
        connection.execute("SET backslash_quote = on")
        assert connection.execute(r"SELECT 'a\'; INSERT INTO things VALUES (1000); --'").fetchone() == (
            "a'; INSERT INTO things VALUES (1000); --",)
        connection.execute("SET standard_conforming_strings = on")
        connection.execute(r"SELECT 'a\'; INSERT INTO things VALUES (1001); --'")
        assert connection.execute("SELECT max(n) FROM things").fetchone() == (1001,)


def test_a_new_column_is_seen_everywhere(routed: Callable[..., Routed]) -> None:
    """DDL through Martlet: its client finds the table as it is now, with a plan that was prepared before."""
    route = routed(schema=SCHEMA, load_balance="round_robin")
    with route.connect() as connection:
        for _ in range(4):
            connection.execute("SELECT count(*) FROM things", prepare=True)
        connection.execute("ALTER TABLE things ADD m int")
        for _ in range(6):
            connection.execute("SELECT m FROM things LIMIT 1")
            assert connection.execute("SELECT count(*) FROM things", prepare=True).fetchone() == (100,)


def test_a_plan_that_is_outdated(routed: Callable[..., Routed]) -> None:
    """"cached plan must not change result type" is an error to who was told the old columns, as directly, and no refusal:
    the statement is a read as before."""
    route = routed(schema=SCHEMA)
    query = "SELECT *, inet_server_port() FROM things WHERE n = 1"
    with route.connect() as connection, route.connect() as other:
        for _ in range(3):
            assert route.is_replica(connection, query) and connection.execute(query, prepare=True).fetchone()[0] == 1
        other.execute("ALTER TABLE things ADD m int")
        route.cluster.wait_caught_up()
        route.wait_replica(connection)
        for _ in range(3):
            with pytest.raises(psycopg.errors.FeatureNotSupported):
                connection.execute(query, prepare=True)
    with route.connect() as newcomer:
        route.wait_replica(newcomer)
        for _ in range(3):
            assert route.is_replica(newcomer, query)
            row = newcomer.execute(query, prepare=True).fetchone()
            assert len(row) == 3
            route.cluster.name_of(row[-1])


# Cursors and tables of a session

def test_cursors_stay_with_their_transaction(route: Routed) -> None:
    with route.connect() as connection:
        for begin in ("BEGIN", "BEGIN READ ONLY"):
            connection.execute(begin)
            connection.execute("DECLARE c CURSOR FOR SELECT n FROM things ORDER BY n")
            assert connection.execute("FETCH 2 FROM c").fetchall() == [(1,), (2,)]
            route.where(connection)
            assert connection.execute("FETCH 1 FROM c").fetchall() == [(3,)]
            connection.execute("COMMIT")


def test_temporary_tables(route: Routed) -> None:
    with route.connect() as connection, connection.transaction():
        connection.execute("CREATE TEMP TABLE scratch ON COMMIT DROP AS SELECT 5 AS n")
        assert connection.execute("SELECT n FROM scratch").fetchone() == (5,)


def test_temporary_tables_of_a_session(routed: Callable[..., Routed]) -> None:
    """In session mode they outlive the transaction, and reads of them go where they are."""
    route = routed(schema=SCHEMA, pool_mode="session")
    with route.connect() as connection:
        connection.execute("CREATE TEMP TABLE scratch AS SELECT 5 AS n")
        for _ in range(20):
            assert connection.execute("SELECT n FROM scratch").fetchone() == (5,)
            assert connection.execute("SELECT n FROM pg_temp.scratch").fetchone() == (5,)


def test_session_mode(routed: Callable[..., Routed]) -> None:
    """A session is one server's: the primary's, since it may write later on."""
    route = routed(schema=SCHEMA, pool_mode="session")
    with route.connect() as connection:
        pids = set()
        for n in range(300, 305):
            assert route.where(connection) == "primary"
            connection.execute("INSERT INTO things VALUES (%s)", (n,))
            found, pid = connection.execute("SELECT max(n), pg_backend_pid() FROM things").fetchone()
            assert found == n
            pids.add(pid)
            connection.execute("BEGIN READ ONLY")
            assert route.where(connection) == "primary"
            connection.execute("COMMIT")
        assert len(pids) == 1


def test_statement_mode(routed: Callable[..., Routed]) -> None:
    route = routed(schema=SCHEMA, pool_mode="statement")
    with route.connect() as connection:
        assert route.is_replica(connection)
        connection.execute("INSERT INTO things VALUES (300)")
        assert connection.execute("SELECT max(n) FROM things").fetchone() == (300,)


def test_unlogged_tables(route: Routed) -> None:
    """A standby has none of their rows and refuses to read them."""
    with route.connect() as connection:
        for _ in range(3):
            number, port = connection.execute("SELECT n, inet_server_port() FROM fleeting").fetchone()
            assert (number, route.cluster.name_of(port)) == (17, "primary")
        connection.execute("CREATE UNLOGGED TABLE newer AS SELECT 18 AS n")
        for _ in range(3):
            assert connection.execute("SELECT n FROM newer").fetchone() == (18,)


# Functions

def test_functions_of_the_catalogue(route: Routed) -> None:
    with route.connect() as connection:
        assert route.where(connection, "SELECT writes(1)") == "primary"
        route.wait_replica(connection)
        assert route.is_replica(connection, "SELECT reads()")
        assert route.is_replica(connection, "SELECT public.reads()")
        assert route.where(connection, "SELECT reads(), writes(2)") == "primary"


def test_functions_made_just_now(route: Routed) -> None:
    with route.connect() as connection:
        connection.execute("CREATE FUNCTION mine() RETURNS int STABLE LANGUAGE sql AS 'SELECT inet_server_port()'")
        wait_until(lambda: route.is_replica(connection, "SELECT mine()"), "it is known to be stable", CATALOGUE_READ)
        connection.execute("ALTER FUNCTION mine() VOLATILE")
        wait_until(lambda: route.where(connection, "SELECT mine()") == "primary", "it is known to be volatile", CATALOGUE_READ)


@pytest.mark.parametrize("statement", [
    "SELECT nextval('numbers')", "SELECT * FROM things LIMIT 1 FOR UPDATE", "SELECT pg_advisory_xact_lock(1)",
    "WITH gone AS (DELETE FROM things WHERE n = 1 RETURNING n) SELECT n FROM gone", "SELECT n INTO copied FROM things",
    "SELECT txid_current()", "EXPLAIN ANALYZE DELETE FROM things WHERE n = 2", "LOCK TABLE things",
    "SELECT count(*) FROM pg_stat_activity", "NOTIFY here", "DO 'BEGIN END'", "VACUUM things"])
def test_what_a_replica_cannot_run(route: Routed, statement: str) -> None:
    """None of these is an error through Martlet."""
    with route.connect() as connection:
        connection.execute("CREATE SEQUENCE numbers")
        route.wait_replica(connection)
        if statement.startswith("LOCK"):
            statement = f"BEGIN; {statement}; COMMIT"
        connection.execute(statement)


def test_copy(route: Routed) -> None:
    with route.connect() as connection:
        with connection.cursor().copy("COPY (SELECT inet_server_port()) TO STDOUT") as copy:
            port = int(b"".join(copy))
        assert route.cluster.name_of(port) in route.cluster.replicas
        with connection.cursor().copy("COPY things FROM STDIN") as copy:
            copy.write_row((500,))
        with connection.cursor().copy("COPY (SELECT max(n) FROM things) TO STDOUT") as copy:
            assert b"".join(copy) == b"500\n"


def test_cancel_reaches_the_replica(route: Routed) -> None:
    with route.connect() as connection:
        query = "SELECT pg_sleep(30)"
        crowd = Crowd(1, lambda *_: connection.execute(query))
        wait_until(lambda: any(
            running == query and state == "active" for name in route.cluster.replicas
            for _, state, running in route.cluster.nodes[name].backends(route.database)), "it runs on a replica")
        connection.cancel_safe()
        with pytest.raises(psycopg.errors.QueryCanceled):
            crowd.join(10)
        assert route.is_replica(connection)


def test_names_of_statements_that_are_answered_here(route: Routed) -> None:
    """A name that is taken, and one whose Parse was skipped behind an error."""
    primary = route.cluster.primary
    answers = []
    for host, port, database in (
        (route.proxy.host, route.proxy.port, "app"), (primary.host, primary.port, route.database),
    ):
        with Connection(host, port).login(database=database) as client:
            client.ask(parse("SELECT 1", "taken"), SYNC)
            asked = [
                client.ask(parse("BEGIN", "taken"), bind("taken"), execute(), SYNC),
                client.ask(bind("taken"), execute(), SYNC),
                client.ask(parse("BEGIN", "begin"), bind("begin"), execute(), SYNC),
                client.ask(parse("COMMIT", "begin"), bind("begin"), execute(), SYNC),
                client.ask(rawpg.query("COMMIT")),
                client.ask(rawpg.close("S", "begin"), parse("BEGIN", "begin"), bind("begin"), execute(), SYNC),
                client.ask(parse("ROLLBACK"), bind(), execute(), SYNC),
                client.ask(describe("S", "nothing"), parse("SET application_name = 'x'", "skipped"), SYNC),
                client.ask(bind("skipped"), SYNC),
                client.ask(describe("S", "nothing"), parse("RESET martlet.session_key", "ours"), SYNC),
                client.ask(bind("ours"), SYNC),
            ]
            answers.append([[(each.type, each.sqlstate if each.type == "E" else each.body) for each in answer
                             if each.type not in "SN"] for answer in asked])
    assert answers[0] == answers[1]
