"""Transactions of a routed client: random requests straight to PostgreSQL and through Martlet have the same answers.

A request is a Query of several statements or a batch of the extended protocol; both begin, end and chain transactions
wherever they like. Compared are rows, tags, SQLSTATEs with their texts, notices, the status of each ReadyForQuery, and at
the end what the table holds.
"""

from __future__ import annotations

import itertools
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from rawpg import FLUSH, SYNC, Connection, Message, bind, cancel, describe, execute, parse, query
from routing import REPLICA_READS, WHERE, Routed

pytestmark = pytest.mark.martlet("routing")

CLIENTS = 4
SCHEMA = "".join(
    f"CREATE TABLE t{number} (k int PRIMARY KEY, v int); CREATE UNLOGGED TABLE u{number} AS SELECT 1 AS one;"
    for number in range(CLIENTS))

BEGINS = [
    "BEGIN", "BEGIN READ ONLY", "BEGIN READ ONLY", "START TRANSACTION", "START TRANSACTION READ ONLY", "BEGIN READ WRITE",
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "BEGIN ISOLATION LEVEL REPEATABLE READ",
    "BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY", "BEGIN ISOLATION LEVEL READ COMMITTED"]
ENDS = ["COMMIT", "COMMIT", "ROLLBACK", "END", "ABORT", "COMMIT AND CHAIN", "ROLLBACK AND CHAIN"]
SAVEPOINTS = ["SAVEPOINT a", "ROLLBACK TO a", "RELEASE a", "SAVEPOINT b", "ROLLBACK TO b"]
READS = ["SELECT sum(v), count(*) FROM {t}", "SELECT v FROM {t} WHERE k = 1", "SELECT k, v FROM {t} ORDER BY k", "VALUES (1)"]
WRITES = [
    "UPDATE {t} SET v = v + 1 WHERE k = 1", "INSERT INTO {t} VALUES (7, 0) ON CONFLICT (k) DO UPDATE SET v = 70",
    "DELETE FROM {t} WHERE k = 7", "UPDATE {t} SET v = v * 2 WHERE k = 2 RETURNING v"]
ERRORS = ["SELECT 1/0", "SELECT nothing FROM {t}", "INSERT INTO {t} VALUES (1, 1)"]
SETS = [
    "SET TRANSACTION READ ONLY", "SET TRANSACTION READ WRITE", "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "SET LOCAL work_mem = '5MB'", "SET LOCAL application_name = 'local'", "SET application_name = 'mine'",
    "SHOW work_mem", "SHOW application_name", "SHOW transaction_isolation"]
# Reads that a replica cannot carry out, or that mean something on the primary only.
PRIMARYS = [
    "SELECT one FROM u{n}", "LOCK TABLE {t} IN SHARE MODE", "LOCK TABLE {t} IN ACCESS SHARE MODE", "NOTIFY {t}",
    "SELECT pg_current_xact_id() IS NOT NULL", "SELECT pg_try_advisory_xact_lock({n})", "EXPLAIN (COSTS OFF) TABLE u{n}"]
SORTS = [
    (BEGINS, 20), (ENDS, 22), (READS, 26), (WRITES, 14), (SAVEPOINTS, 7), (ERRORS, 5), (SETS, 6), (PRIMARYS, 4)]
# A transaction that cannot leave its replica says so, or the replica does. Behind the end of one that has failed or is bound
# to its replica, a single statement of the same Query is alone.
DOCUMENTED = re.compile(
    "during recovery|recovery is in progress|in a hot standby|this transaction runs on a replica, which it cannot leave"
    "|(SET TRANSACTION|LOCK TABLE) can only be used in transaction blocks")
PREPARED = sorted({text for texts, _ in SORTS for text in texts if "nothing" not in text})


@dataclass(frozen=True)
class Request:
    """`kind` is Q for one Query, E for a batch with each statement parsed, F for one with a Flush behind each Describe as
    asyncpg sends it, P for one of statements prepared before."""

    kind: str
    statements: tuple[str, ...]
    # It is sent together with the one before it.
    is_pipelined: bool = False
    # Time for the replicas, so that reads go there again.
    pause: bool = False

    def messages(self, table: str) -> bytes:
        texts = [named(text, table) for text in self.statements]
        if self.kind == "Q":
            return query("; ".join(texts))
        parts = []
        for each, text in zip(self.statements, texts):
            if self.kind == "P" and each in PREPARED:
                parts += [bind(f"s{PREPARED.index(each)}"), describe("P"), execute()]
            elif self.kind == "F":
                parts += [parse(text), describe("S"), FLUSH, bind(), execute()]
            else:
                parts += [parse(text), bind(), describe("P"), execute()]
        return b"".join(parts) + SYNC

    def __str__(self) -> str:
        separator = "; " if self.kind == "Q" else "]["
        text = separator.join(self.statements)
        return (f"{'' if self.pause else 'at once: '}{'with it: ' if self.is_pipelined else ''}{self.kind} "
                + (text if self.kind == "Q" else f"[{text}]"))


def named(text: str, table: str) -> str:
    return text.replace("{t}", table).replace("{n}", table[1:])


def program(dice: random.Random) -> list[Request]:
    requests = []
    for _ in range(dice.randint(3, 9)):
        statements = [
            dice.choice(dice.choices([texts for texts, _ in SORTS], [weight for _, weight in SORTS])[0])
            for _ in range(dice.choice([1, 1, 1, 2, 2, 3, 4, 5]))]
        requests.append(Request(
            dice.choice("QQEEEPPF"), tuple(statements), bool(requests) and dice.random() < 0.2, dice.random() < 0.5))
    return requests


def told(each: Message) -> object:
    """What must be the same of a message; None if it says nothing here."""
    if each.type in "EN":
        return each.type, each.fields().get("S"), each.sqlstate, each.text
    if each.type == "T":
        return each.type, each.columns()
    if each.type == "D":
        return each.type, each.values()
    return None if each.type == "S" else (each.type, each.body)


@dataclass
class Side:
    """One of the two: a client, and what it makes of a program."""

    connect: Callable[[], Connection]
    table: str
    client: Connection = field(init=False)

    def __post_init__(self) -> None:
        self.open()

    def open(self) -> None:
        self.client = self.connect()
        self.client.ask(
            *(parse(named(text, self.table), f"s{number}") for number, text in enumerate(PREPARED)), SYNC)

    def reset(self) -> None:
        """The table as it was, nothing open, the session's settings as they were."""
        status = self.client.ask(query("ROLLBACK"))[-1]
        assert status.body == b"I"
        self.client.simple("RESET ALL")
        self.client.simple(
            f"DELETE FROM {self.table}; INSERT INTO {self.table} VALUES (1, 10), (2, 20), (3, 30)")

    def run(self, requests: list[Request], paused: float) -> Iterator[list[object]]:
        """The answers to requests, as many at a time as are sent together."""
        for group in groups(requests):
            if group[0].pause:
                time.sleep(paused)
            answer = self.client.ask(*(each.messages(self.table) for each in group), ready=len(group))
            yield [said for each in answer if (said := told(each)) is not None]
        yield [told(each) for each in self.client.ask(query("ROLLBACK"))]
        yield [told(each) for each in self.client.ask(query("SHOW application_name"))]

    def contents(self) -> list[list[bytes | None]]:
        return self.client.simple(f"SELECT k, v FROM {self.table} ORDER BY k")


def groups(requests: list[Request]) -> Iterator[list[Request]]:
    group: list[Request] = []
    for each in requests:
        if group and not each.is_pipelined:
            yield group
            group = []
        group.append(each)
    if group:
        yield group


@dataclass
class Pair:
    """Both sides of one client's table."""

    route: Routed
    direct: Side
    routed: Side

    documented: int = 0

    # A round of the samples and of replay.
    pause = 0.02

    def difference(self, requests: list[Request]) -> str | None:
        """How the two differ in a program; nil if they do not."""
        for side in (self.direct, self.routed):
            side.reset()
        deadline = time.monotonic() + 10
        while self.route.cluster.name_of(int(self.routed.client.simple(WHERE)[0][0] or 0)) == "primary":
            assert time.monotonic() < deadline, "reads go to a replica"
            time.sleep(0.003)
        sides = [self.direct.run(requests, 0), self.routed.run(requests, self.pause)]
        for number, (expected, got) in enumerate(zip(*sides)):
            if expected != got and any(DOCUMENTED.search(str(each)) for each in got if each not in expected):
                self.documented += 1
                return None
            if expected != got:
                return f"answer {number}\n  directly: {expected}\n  routed:   {got}"
        contents = [side.contents() for side in (self.direct, self.routed)]
        return None if contents[0] == contents[1] else f"the table: {contents[0]} and {contents[1]}"

    def fails(self, requests: list[Request]) -> str | None:
        """The same on new connections: for the search for the smallest program."""
        for side in (self.direct, self.routed):
            side.client.socket.close()
            side.open()
        try:
            return self.difference(requests)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a difference.
            return repr(error)

    def shrink(self, requests: list[Request]) -> list[Request]:
        """The shortest program found that still differs."""
        for _ in range(3):
            before = requests
            for smaller in smallers(requests):
                if len(text(smaller)) < len(text(requests)) and self.fails(smaller):
                    requests = smaller
            if requests == before:
                break
        return requests


def smallers(requests: list[Request]) -> Iterator[list[Request]]:
    """Programs with one request or statement less, each relative to the program as given."""
    for index in range(len(requests) - 1, -1, -1):
        yield requests[:index] + requests[index + 1:]
    for index, each in enumerate(requests):
        for number in range(len(each.statements)):
            if len(each.statements) > 1:
                fewer = each.statements[:number] + each.statements[number + 1:]
                yield [
                    *requests[:index],
                    Request(each.kind, fewer, each.is_pipelined, each.pause), *requests[index + 1:]]


def text(requests: list[Request]) -> str:
    return "\n".join(f"  {each}" for each in requests)


def pairs(route: Routed) -> list[Pair]:
    """The direct side is a database of its own on the same primary."""
    primary = route.cluster.primary
    database = primary.create_database(route.database.replace("db_", "direct_"))
    with primary.connect(database, user="app") as connection:
        connection.execute(SCHEMA)

    def directly() -> Connection:
        return Connection("127.0.0.1", primary.port).login(database=database)

    def routed() -> Connection:
        return Connection(route.proxy.host, route.proxy.port).login()

    return [Pair(route, Side(directly, f"t{number}"), Side(routed, f"t{number}")) for number in range(CLIENTS)]


@pytest.mark.grows
@pytest.mark.parametrize("transaction_routing", ["read_only", "promote", "primary"])
def test_transactions_as_directly(
    routed: Callable[..., Routed], request: pytest.FixtureRequest, transaction_routing: str
) -> None:
    route = routed(schema=SCHEMA, transaction_routing=transaction_routing, settings={"sample_interval": "5ms"})
    seed = request.config.getoption("--seed") or random.SystemRandom().randrange(1 << 32)
    count = request.config.getoption("--requests") or (20_000 if request.config.getoption("--long") else 1_000)
    found: list[str] = []
    done = [0] * CLIENTS
    before = int(route.routes()[REPLICA_READS])

    def work(number: int, pair: Pair) -> None:
        dice = random.Random(f"{seed} {transaction_routing} {number}")
        while sum(done) < count and not found:
            requests = program(dice)
            try:
                difference = pair.difference(requests)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a difference.
                difference = repr(error)
            done[number] += len(requests)
            if difference and not found:
                found.append("")
                smallest = pair.shrink(requests)
                found[0] = (
                    f"--seed {seed}: after {done[number]} requests of client {number}\n{text(requests)}\n{difference}\n"
                    f"in short\n{text(smallest)}\n{pair.fails(smallest)}")

    made = pairs(route)
    threads = [threading.Thread(target=work, args=(number, pair)) for number, pair in enumerate(made)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    for each in made:
        each.direct.client.socket.close()
        each.routed.client.socket.close()
    assert not found, found[0]
    on_replicas = int(route.routes()[REPLICA_READS]) - before
    documented = sum(each.documented for each in made)
    print(f"--seed {seed}: {sum(done)} requests, {on_replicas} reads on replicas, {documented} times it could not leave")
    assert on_replicas > sum(done) / 50 or transaction_routing == "primary"
    assert documented < sum(done) / 50


# What the random ones do not reach, or do not look at.

ON_REPLICA = "BEGIN READ ONLY"
LIAR = """
    CREATE TABLE log (n int);
    CREATE FUNCTION put(n int) RETURNS int LANGUAGE sql AS 'INSERT INTO log VALUES (n) RETURNING n';
    CREATE FUNCTION liar(n int) RETURNS int STABLE LANGUAGE sql AS 'SELECT put(n)';
    CREATE SEQUENCE numbers;
    CREATE UNLOGGED TABLE fast AS SELECT 1 AS one;
"""


def run(*texts: str) -> bytes:
    """Statements as one batch."""
    return b"".join(parse(text) + bind() + describe("P") + execute() for text in texts) + SYNC


def login(route: Routed, **parameters: str) -> Connection:
    return Connection(route.proxy.host, route.proxy.port).login(**parameters)


def on_replica(route: Routed, client: Connection) -> bool:
    return route.cluster.name_of(int(client.simple(WHERE)[0][0] or 0)) in route.cluster.replicas


def begin_on_replica(route: Routed, client: Connection, begin: str = ON_REPLICA) -> None:
    """Opens a transaction whose first read runs on a replica."""
    deadline = time.monotonic() + 10
    while True:
        client.simple(begin)
        if on_replica(route, client):
            return
        assert time.monotonic() < deadline, "reads go to a replica"
        client.simple("ROLLBACK")


def errors(answer: list[Message]) -> list[str]:
    return [each.sqlstate for each in answer if each.type == "E"]


def values(answer: list[Message]) -> list[bytes | None]:
    return [value for each in answer if each.type == "D" for value in each.values()]


def logged(route: Routed) -> list[int]:
    with route.direct() as primary:
        return [n for n, in primary.execute("SELECT n FROM log ORDER BY n")]


@pytest.mark.parametrize("routing, begin", [
    ("promote", "BEGIN"), ("read_only", "BEGIN READ ONLY"),
    ("read_only", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")])
@pytest.mark.parametrize("last", ["SELECT 1/0", "SET LOCAL application_name = 'local'", "SAVEPOINT a"])
def test_behind_a_flush_and_the_end_of_a_transaction(
    routed: Callable[..., Routed], last: str, routing: str, begin: str
) -> None:
    """It has failed on a replica, or is bound to it. What comes behind is for the primary, and not known when its end is."""
    pair = pairs(routed(schema=SCHEMA, transaction_routing=routing))[0]
    read, write = READS[0], "UPDATE {t} SET v = v + 1 RETURNING v"
    for end in sorted(set(ENDS)):
        for rest in ([write], ["COMMIT", write], ["BEGIN", write], ["VALUES (1)", write], [read, write, "SELECT 1/0"]):
            difference = pair.difference([
                Request("Q", (begin,), pause=True), Request("Q", (read,)), Request("Q", (last,)), Request("F", (end, *rest))])
            assert difference is None, f"{end}, {rest}: {difference}"


def test_a_write_behind_a_batch_of_transactions_is_undone(routed: Callable[..., Routed]) -> None:
    """The batch leaves a transaction open, which is the one that ROLLBACK ends."""
    route = routed(schema=LIAR)
    with login(route) as client:
        answer = client.ask(run(ON_REPLICA, "SELECT 1", "COMMIT", "BEGIN", "SELECT 2"))
        assert not errors(answer) and answer[-1].body == b"T"
        assert not errors(client.ask(query("INSERT INTO log VALUES (1)")))
        assert client.ask(query("ROLLBACK"))[-1].body == b"I"
        answer = client.ask(run(ON_REPLICA, "SELECT 1", "COMMIT AND CHAIN"))
        assert not errors(answer) and answer[-1].body == b"T"
        assert errors(client.ask(query("INSERT INTO log VALUES (2)"))) == ["25006"]
        client.ask(query("ROLLBACK"))
    assert logged(route) == []


ENDING = {
    "query": query("SELECT 1; COMMIT; INSERT INTO log VALUES (1)"),
    "batch": run("SELECT 1", "COMMIT", "INSERT INTO log VALUES (1)"),
    "rollback": query("ROLLBACK; INSERT INTO log VALUES (1)"),
    "another transaction": run("ROLLBACK", "BEGIN", "INSERT INTO log VALUES (1)", "COMMIT"),
}


@pytest.mark.parametrize("begin", [ON_REPLICA, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"])
def test_what_comes_behind_the_end(shared: Routed, begin: str) -> None:
    """Whatever binds the transaction to its replica, and whether it has failed."""
    for before in [[], ["SAVEPOINT a"], ["SET LOCAL work_mem = '5MB'"], ["SELECT 1/0"], ["SAVEPOINT a", "SELECT 1/0"]]:
        for name, request in ENDING.items():
            with shared.direct() as primary:
                primary.execute("TRUNCATE log")
            with login(shared) as client:
                begin_on_replica(shared, client, begin)
                for each in before:
                    client.ask(query(each))
                answer = client.ask(request)
                if "SELECT 1/0" in before and name in ("query", "batch"):
                    assert errors(answer) == ["25P02"] and answer[-1].body == b"E", (before, name)
                    assert logged(shared) == [], (before, name)
                else:
                    assert not errors(answer) and answer[-1].body == b"I", (before, name)
                    assert logged(shared) == [1], (before, name)
                assert client.ask(query("ROLLBACK"))[-1].body == b"I"


@pytest.mark.parametrize("rest", [
    "LOCK TABLE log", "SAVEPOINT a", "DECLARE c CURSOR FOR SELECT 1", "SET LOCAL work_mem = '1MB'", "VACUUM log",
    "CREATE DATABASE behind", "INSERT INTO log VALUES (1);", "INSERT INTO log VALUES (1); SELECT 1/0", "SELECT 1/0",
    "SELECT n FROM log", "SELECT 1; LOCK TABLE log", "COMMIT", "BEGIN; INSERT INTO log VALUES (1)",
    "SET TRANSACTION READ ONLY", "ROLLBACK TO a", "PREPARE TRANSACTION 'behind'", "LISTEN log", "SELECT nextval('numbers')",
    "BEGIN; LOCK TABLE log; COMMIT", "LOCK TABLE log; SAVEPOINT b"])
def test_what_is_behind_the_end_in_one_query(shared: Routed, rest: str) -> None:
    """PostgreSQL runs it in the implicit transaction of the query: what needs a transaction has one, what may not has one, too."""
    primary = shared.cluster.primary
    for end in ("COMMIT", "ROLLBACK", "/* a; */ end ;"):
        answers = []
        for is_direct in (False, True):
            with shared.direct() as superuser:
                superuser.execute("TRUNCATE log; SELECT setval('numbers', 1)")
            with Connection(primary.host, primary.port).login(database=shared.database) if is_direct else login(
                shared) as client:
                if is_direct:
                    client.simple(ON_REPLICA)
                else:
                    begin_on_replica(shared, client)
                answer = client.ask(query(f"{end}; {rest}"))
                # Positions are those in the client's text.
                answers.append([
                    (each.type, {key: each.fields().get(key) for key in "CMP"} if each.type in "EN" else each.body)
                    for each in answer if each.type != "S"] + [client.ask(query("ROLLBACK"))[-1].body, logged(shared)])
        assert answers[0] == answers[1], end


@pytest.fixture
def shared(routed: Callable[..., Routed]) -> Routed:
    return routed(schema=LIAR)


PRIMARYS_ANSWERS = {
    "SELECT one FROM fast": b"1", "SELECT last_value FROM numbers": b"1", "SELECT pg_current_xact_id() IS NOT NULL": b"t",
    "LOCK TABLE log IN SHARE MODE": None, "NOTIFY log": None, "LISTEN log": None,
    "SELECT setting FROM pg_settings WHERE name = 'port'": b"port",
}


@pytest.mark.parametrize("how", ["first", "later", "with BEGIN", "batch", "prepared", "flushed"])
def test_what_a_read_only_transaction_needs_the_primary_for(shared: Routed, how: str) -> None:
    with login(shared) as client:
        client.simple("SELECT nextval('numbers')")
        for number, (statement, expected) in enumerate(PRIMARYS_ANSWERS.items()):
            if how in ("first", "with BEGIN", "prepared"):
                # Where replicas may be used.
                begin_on_replica(shared, client)
                client.simple("COMMIT")
            else:
                begin_on_replica(shared, client)
            if how == "first":
                client.simple(ON_REPLICA)
            if how == "prepared":
                client.ask(parse(statement, f"s{number}"), SYNC)
                answer = client.ask(parse(ON_REPLICA) + bind() + execute() + bind(f"s{number}") + execute() + SYNC)
            elif how == "with BEGIN":
                answer = client.ask(run(ON_REPLICA, statement))
            elif how == "batch":
                answer = client.ask(run("SELECT 'x'", statement))
            elif how == "flushed":
                answer = client.ask(parse(statement), describe("S"), FLUSH, bind(), execute(), SYNC)
            else:
                answer = client.ask(query(statement))
            assert not errors(answer), statement
            assert answer[-1].body == b"T", statement
            if expected:
                if expected == b"port":
                    expected = str(shared.cluster.primary.port).encode()
                assert values(answer)[-1] == expected, statement
            assert not on_replica(shared, client), statement
            client.simple("COMMIT")


@pytest.mark.parametrize("routing, begin", [("promote", "BEGIN"), ("read_only", ON_REPLICA)])
def test_wishes_within_a_transaction(routed: Callable[..., Routed], routing: str, begin: str) -> None:
    route = routed(schema=LIAR, transaction_routing=routing)
    with login(route) as client:
        for how, extended in itertools.product(["hint", "set", "min_lsn"], [False, True]):
            client.simple("RESET martlet.route")
            client.simple("RESET martlet.min_lsn")
            begin_on_replica(route, client, begin)
            text = wish(route, client, how)
            answer = client.ask(run(text) if extended else query(text))
            assert values(answer) == [str(route.cluster.primary.port).encode()], how
            client.simple("COMMIT")


def wish(route: Routed, client: Connection, how: str) -> str:
    """Asks for the primary, or for more than replicas have; returns the read with which that counts."""
    if how == "hint":
        return f"/* martlet: route=primary */ {WHERE}"
    client.simple("SET martlet.route = 'primary'" if how == "set" else "SET martlet.min_lsn = 'FF/0'")
    return WHERE


def test_wishes_that_cannot_be_granted(shared: Routed) -> None:
    for binding in ["", "SAVEPOINT a", "DECLARE c CURSOR FOR SELECT 1"]:
        for how in ["hint", "set", "min_lsn"]:
            with login(shared) as client:
                begin_on_replica(
                    shared, client, ON_REPLICA if binding else "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                client.ask(query(binding))
                answer = client.ask(query(wish(shared, client, how)))
                assert errors(answer) == ["0A000"] and answer[-1].body == b"E", (binding, how)
                assert "cannot leave" in answer[0].text
                assert client.ask(query("ROLLBACK"))[-1].body == b"I"


def test_a_lock_behind_a_flush(shared: Routed) -> None:
    """As asyncpg asks for it."""
    with login(shared) as client:
        begin_on_replica(shared, client, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        client.ask(parse("SELECT 1", "other"), SYNC)
        client.send(parse("SELECT pg_advisory_xact_lock(1)"), describe("S"), FLUSH)
        answer = client.ask(bind(), execute(), SYNC)
        assert errors(answer) == ["0A000"] and answer[-1].body == b"E"


@pytest.mark.parametrize("extended", [False, True])
def test_serializable_by_default_of_the_role(routed: Callable[..., Routed], extended: bool) -> None:
    """A standby refuses the query behind BEGIN READ ONLY: the primary carries both out, and it is remembered."""
    route = routed(schema=LIAR)
    role = f"ALTER ROLE app IN DATABASE {route.database}"
    with route.direct() as primary:
        primary.execute(f"{role} SET default_transaction_isolation = serializable")
        try:
            route.cluster.wait_caught_up()
            route.proxy.command("RECONNECT app")
            with login(route) as client:
                for turn in range(3):
                    if extended:
                        answer = client.ask(run(ON_REPLICA, WHERE))
                    else:
                        client.simple(ON_REPLICA)
                        answer = client.ask(query(WHERE))
                    assert not errors(answer), turn
                    assert values(answer) == [str(route.cluster.primary.port).encode()]
                    client.simple("COMMIT")
                assert int(route.routes()["reruns"]) == 1
        finally:
            primary.execute(f"{role} RESET default_transaction_isolation")


def test_primary_holds_for_a_batch_of_begin_and_a_read(routed: Callable[..., Routed]) -> None:
    route = routed(schema=LIAR, transaction_routing="primary")
    with login(route) as client:
        answer = client.ask(run(ON_REPLICA, WHERE, "COMMIT"))
        assert values(answer) == [str(route.cluster.primary.port).encode()]
        answer = client.ask(run("/* martlet: route=replica */ BEGIN READ ONLY", WHERE, "COMMIT"))
        assert values(answer) != [str(route.cluster.primary.port).encode()]


REFUSED = {
    "first of a batch": run("SELECT liar(1)", "SELECT 1"), "second of a batch": run("SELECT 1", "SELECT liar(1)"),
    "COPY": query("COPY (SELECT liar(1)) TO STDOUT"), "behind BEGIN": run(ON_REPLICA, "SELECT liar(1)"),
    "later behind BEGIN": run(ON_REPLICA, "SELECT 1", "SELECT liar(1)"),
    "behind a Flush": parse("SELECT liar(1)") + describe("S") + FLUSH + bind() + execute() + SYNC,
    "behind BEGIN and a Flush": run(ON_REPLICA) + parse("SELECT liar(1)") + describe("S") + FLUSH + bind() + execute() + SYNC,
}


@pytest.mark.parametrize("refused", REFUSED)
def test_what_was_refused_is_remembered(shared: Routed, refused: str) -> None:
    """Also where nobody can run it elsewhere any more; and only what was refused."""
    text = "COPY (SELECT liar(1)) TO STDOUT" if refused == "COPY" else "SELECT liar(1)"
    with login(shared, options="-c martlet.read_after_write=off") as client:
        # On the reactor that EXPLAIN ROUTE asks, and the others.
        for each in [client, *(login(shared) for _ in range(5))]:
            begin_on_replica(shared, each)
            each.simple("COMMIT")
            each.ask(REFUSED[refused], ready=REFUSED[refused].count(SYNC) or 1)
            each.ask(query("ROLLBACK"))
        assert shared.explain(text)["class"] == "write"
        assert shared.explain("SELECT 1")["class"] == "read"
        assert not errors(client.ask(query(text)))


def test_tags_of_what_is_answered_here(shared: Routed) -> None:
    texts = [
        "START TRANSACTION", "START TRANSACTION READ ONLY", "BEGIN", "BEGIN WORK", "COMMIT AND CHAIN", "END", "ABORT",
        "ROLLBACK AND CHAIN", "SET TRANSACTION READ ONLY"]
    with login(shared) as client, Connection("127.0.0.1", shared.cluster.primary.port).login(
            database=shared.database) as direct:
        for text in texts:
            for each in (
                    query(text), run(text), query("COMMIT"), query("BEGIN"), run(text), run("SELECT 1"), query("ROLLBACK")):
                expected = [told(said) for said in direct.ask(each)]
                assert [told(said) for said in client.ask(each)] == expected, text


def test_positions_of_errors_behind_the_end(shared: Routed) -> None:
    """They count in the text that the client has sent."""
    with login(shared) as client:
        begin_on_replica(shared, client)
        client.ask(query("SAVEPOINT a"))
        text = "SELECT 'äöü'; COMMIT; SELECT 1, nothing"
        answer = client.ask(query(text))
        fields = next(each for each in answer if each.type == "E").fields()
        assert int(fields["P"]) == text.index("nothing") + 1


def test_a_cancelled_part_ends_the_request(routed: Callable[..., Routed]) -> None:
    """Of a request that is taken in two parts nothing runs behind the one that is cancelled."""
    route = routed(schema=LIAR)
    with login(route) as client:
        begin_on_replica(route, client)
        client.ask(query("SAVEPOINT a"))
        client.send(query("SELECT pg_sleep(60); COMMIT; INSERT INTO log VALUES (1)"), query("SELECT 1"))
        while client.silent():
            cancel(route.proxy.host, route.proxy.port, client.key)
        answer = client.read_until("Z", 2)
        assert errors(answer) == ["57014", "25P02"]
    assert logged(route) == []


def test_who_asks_for_serializable_is_not_so_by_default(shared: Routed) -> None:
    """A replica's refusal of a transaction's modes says nothing of later ones."""
    with login(shared) as client:
        begin_on_replica(shared, client)
        client.ask(query("SAVEPOINT a"))
        assert errors(client.ask(query("BEGIN ISOLATION LEVEL SERIALIZABLE")))
        client.ask(query("ROLLBACK"))
        assert on_replica(shared, client)
