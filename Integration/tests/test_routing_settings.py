"""martlet.* behave as PostgreSQL's own settings: the same requests with a setting of a server's give the same answers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import asyncpg
import psycopg
import pytest

from common import wait_until
from rawpg import FLUSH, SYNC, Connection, Message, bind, describe, execute, parse, query
from routing import WHERE, Routed

pytestmark = [pytest.mark.one_loop, pytest.mark.martlet("routing")]

SCHEMA = "CREATE TABLE notes (n int)"

# Of the same length: lexers and messages see the same.
OURS = "martlet.session_key"
THEIRS = "fellows.session_key"


def answers(messages: list[Message], name: str) -> list[object]:
    """What is comparable of an answer."""
    result: list[object] = []
    for message in messages:
        match message.type:
            case "T":
                result.append(["T", *(column.replace(name, "?") for column, _ in message.columns())])
            case "D":
                result.append(["D", *message.values()])
            case "C" | "Z" | "t":
                result.append([message.type, message.body])
            case "E":
                result.append(["E", message.sqlstate])
            case "N":
                result.append(["N", message.fields().get("S"), message.sqlstate])
            case "S":
                pass
            case kind:
                result.append([kind])
    return result


class Pair:
    """A client of Martlet and one of a server."""

    def __init__(self, route: Routed, entry: str = "app") -> None:
        self.through = Connection(route.proxy.host, route.proxy.port)
        self.through.login("app", entry, options=f"-c {OURS}=start")
        primary = route.cluster.primary
        self.direct = Connection(primary.host, primary.port)
        self.direct.login("app", route.database, options=f"-c {THEIRS}=start")
        self.log: list[str] = []

    def ask(self, make: Callable[[Callable[[str], str]], list[bytes]]) -> None:
        """Sends what is made of texts whose `?` is the setting's name; ends with ReadyForQuery each Query or Sync."""
        parts = make(lambda text: text.replace("?", OURS))
        theirs = make(lambda text: text.replace("?", THEIRS))
        ready = sum(part[:1] in b"QS" for part in parts)
        if not ready:
            # Up to the answer of a Describe, or an error.
            self.through.send(*parts)
            self.direct.send(*theirs)
            self.compare(self.described(self.through), self.described(self.direct))
            return
        self.compare(self.through.ask(*parts, ready=ready), self.direct.ask(*theirs, ready=ready))

    def described(self, connection: Connection) -> list[Message]:
        messages = []
        while not messages or messages[-1].type not in "TnE":
            messages.append(connection.read())
        return messages

    def compare(self, through: list[Message], direct: list[Message]) -> None:
        ours, theirs = answers(through, OURS), answers(direct, THEIRS)
        assert ours == theirs, "\n".join([*self.log[-12:], f"through {ours}", f"direct  {theirs}"])

    def do(self, shape: str, *texts: str) -> None:
        self.log.append(f"{shape}: {texts}")
        SHAPES[shape](self, *texts)

    def close(self) -> None:
        self.through.socket.close()
        self.direct.socket.close()


def unit(text: str) -> list[bytes]:
    return [parse(text), bind(), describe("P"), execute()]


def described_first(pair: Pair, text: str, end: bytes, name: str) -> None:
    pair.ask(lambda fill: [parse(fill(text), name), describe("S", name), end])
    pair.ask(lambda fill: [bind(name), execute(), SYNC])


def executed_twice(pair: Pair, text: str) -> None:
    name = f"s{len(pair.log)}"
    pair.ask(lambda fill: [parse(fill(text), name), SYNC])
    for _ in range(2):
        pair.ask(lambda fill: [bind(name), describe("P"), execute(), SYNC])


SHAPES: dict[str, Callable[..., None]] = {
    "simple": lambda pair, text: pair.ask(lambda fill: [query(fill(text))]),
    "extended": lambda pair, text: pair.ask(lambda fill: [*unit(fill(text)), SYNC]),
    "described": lambda pair, text: described_first(pair, text, SYNC, ""),
    "flushed": lambda pair, text: described_first(pair, text, FLUSH, ""),
    "named and flushed": lambda pair, text: described_first(pair, text, FLUSH, f"f{len(pair.log)}"),
    "executed twice": executed_twice,
    # One batch up to its Sync.
    "batch": lambda pair, *texts: pair.ask(
        lambda fill: [*(part for text in texts for part in unit(fill(text))), SYNC]),
    # Behind a Flush the rest of a batch comes as if by itself.
    "behind a flush": lambda pair, *texts: pair.ask(
        lambda fill: [*unit("SELECT 1"), FLUSH, *(part for text in texts for part in unit(fill(text))), SYNC]),
    "behind flushes": lambda pair, *texts: pair.ask(
        lambda fill: [*(part for text in texts for part in (*unit(fill(text)), FLUSH)), SYNC]),
    # Requests that do not wait for each other.
    "pipelined": lambda pair, *texts: pair.ask(
        lambda fill: [part for text in texts for part in (*unit(fill(text)), SYNC)]),
    "pipelined simple": lambda pair, *texts: pair.ask(lambda fill: [query(fill(text)) for text in texts]),
    "one query": lambda pair, *texts: pair.ask(lambda fill: [query(fill("; ".join(texts)))]),
}

# Not SET LOCAL … TO DEFAULT: behind it RESET ALL leaves what the session has, on a server.
COMMANDS = [
    "SET ? = 'a'", "SET SESSION ? TO b", "SET LOCAL ? = 'c'", "SET LOCAL ? = 'd'", "SET ? TO DEFAULT",
    "RESET ?", "SHOW ?", "SELECT set_config('?', 'e', false)",
    "SELECT set_config('?', 'f', true)", "SELECT pg_catalog.current_setting('?')", "SELECT current_setting('?', true) AS x",
    "SELECT set_config('?', NULL, false)", "select SET_CONFIG(E'?', $$g$$, 'on'), current_setting('?'::text)"]
TRANSACTIONS = [
    "BEGIN", "BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT a", "SAVEPOINT b", "ROLLBACK TO a", "ROLLBACK TO SAVEPOINT b",
    "RELEASE a", "COMMIT AND CHAIN", "ROLLBACK AND CHAIN"]
OTHERS = ["SELECT 1", "SELECT 1/0", "RESET ALL", "INSERT INTO notes VALUES (1)", "SELECT pg_advisory_unlock_all()"]


@pytest.mark.parametrize("routing", ["read_only", "promote", "primary"])
def test_as_a_setting_of_the_server(routed: Callable[..., Routed], routing: str) -> None:
    """Random statements in random shapes: the same answers as from a server for a setting that it knows."""
    route = routed(schema=SCHEMA, transaction_routing=routing)
    chance = random.Random(f"settings {routing}")
    for _ in range(10):
        pair = Pair(route)
        for _ in range(30):
            shape = chance.choice(["simple"] * 4 + [*SHAPES])
            if shape in ("batch", "behind a flush", "behind flushes", "pipelined", "pipelined simple", "one query"):
                texts = chance.choices(COMMANDS * 2 + OTHERS[:3], k=chance.randint(1, 4))
                if shape == "one query":
                    # What is said to Martlet stands in front.
                    texts.sort(key=lambda text: "?" not in text)
            else:
                texts = [chance.choice(chance.choice([COMMANDS, COMMANDS, TRANSACTIONS, TRANSACTIONS, OTHERS]))]
            if shape in ("named and flushed", "executed twice"):
                texts = [chance.choice(COMMANDS)]
            pair.do(shape, *texts)
            pair.do("simple", chance.choice(["SHOW ?", "SELECT current_setting('?', true)"]))
        pair.close()


@pytest.mark.parametrize("text", ["ROLLBACK", "ROLLBACK TO a", "COMMIT"])
@pytest.mark.parametrize("routing", ["read_only", "promote", "primary"])
def test_behind_the_end_of_a_failed_transaction(routed: Callable[..., Routed], routing: str, text: str) -> None:
    """Sent in the same packet: whether they are carried out is known when that has been answered."""
    pair = Pair(routed(schema=SCHEMA, transaction_routing=routing))
    for begin in ("BEGIN", "BEGIN READ ONLY"):
        pair.do("simple", begin)
        pair.do("simple", "SAVEPOINT a")
        pair.do("simple", "SELECT 1/0")
        pair.do("pipelined", text, "SET ? = 'b'", "SHOW ?")
        pair.do("simple", "ROLLBACK")
        pair.do("simple", "SHOW ?")
        # In front of that end it fails like everything else.
        pair.do("simple", begin)
        pair.do("simple", "SELECT 1/0")
        pair.do("batch", "SET LOCAL ? = 'c'", "SELECT 1", text)
        pair.do("simple", "ROLLBACK")
    pair.close()


@pytest.mark.parametrize("shape", ["batch", "behind a flush", "behind flushes"])
@pytest.mark.parametrize("routing", ["read_only", "promote", "primary"])
def test_behind_a_begin_that_was_held_back(routed: Callable[..., Routed], routing: str, shape: str) -> None:
    """The transaction is open for the client, whatever its server has heard of it."""
    pair = Pair(routed(schema=SCHEMA, transaction_routing=routing))
    for begin in ("BEGIN", "BEGIN READ ONLY", "BEGIN ISOLATION LEVEL SERIALIZABLE"):
        pair.do("simple", begin)
        pair.do(shape, "SELECT count(*) FROM notes", "SET LOCAL ? = 'b'", "SHOW ?")
        pair.do("simple", "ROLLBACK")
        pair.do("simple", "SHOW ?")
    pair.close()


@pytest.mark.parametrize("routing", ["primary", "replica"])
def test_where_statements_are_not_looked_at(routed: Callable[..., Routed], routing: str) -> None:
    """Also there a client has a session key and a position."""
    route = routed(schema=SCHEMA, others={"whole": {"routing": routing}})
    chance = random.Random(routing)
    for _ in range(8):
        pair = Pair(route, "whole")
        for _ in range(30):
            shape = chance.choice(["simple"] * 4 + [*SHAPES])
            if shape in ("batch", "behind a flush", "behind flushes", "pipelined", "pipelined simple"):
                texts = chance.choices(COMMANDS * 2 + OTHERS[:3], k=chance.randint(1, 4))
            else:
                texts = [chance.choice(chance.choice([COMMANDS, COMMANDS, TRANSACTIONS, OTHERS[:3]]))]
            if shape in ("named and flushed", "executed twice"):
                texts = [chance.choice(COMMANDS)]
            pair.do(shape, *texts)
            pair.do("simple", chance.choice(["SHOW ?", "SELECT current_setting('?', true)"]))
        pair.close()
    with route.connect("whole") as connection:
        assert "/" in connection.execute("SHOW martlet.lsn").fetchone()[0]
        assert "/" in connection.execute("SELECT current_setting('martlet.lsn')", prepare=True).fetchone()[0]


SPELLINGS = [
    "SET martlet.session_key = 'x y'", "set session MARTLET.Session_Key to 'x y' ;", "SET martlet.\"session_key\" = 'x y'",
    "SET \"martlet\".\"session_key\" = 'x y'", "SET \"martlet.session_key\" = 'x y'",
    "SET martlet.session_key = E'x\\x20y'", "SET martlet.session_key = $$x y$$", "SET martlet.session_key = $q$x y$q$",
    "SET martlet.session_key = U&'x\\0020y'", "SET martlet.session_key = 'x '\n'y'", "SET martlet.session_key = \"x y\"",
    "/* a */ SET /* b */ martlet . session_key -- c\n = /* d */ 'x y' -- e", ";; SET martlet.session_key = 'x y';;",
    "SELECT set_config('martlet.session_key', 'x y', false)", "select Set_Config('MARTLET.session_key', 'x y', 'f')",
    "SELECT pg_catalog.set_config('martlet.session_key'::text, E'x y'::text, false) AS x",
    "SET martlet.route = 'primary'; SET martlet.session_key = 'x y'",
    "SET martlet.session_key = 'x y'; SELECT 1", "SET martlet.session_key = 'x y'; SELECT 1; SELECT 2",
]

REFUSED = [
    "SELECT 1; SET martlet.session_key = 'x'", "SELECT set_config('martlet.session_key', 'x', false) FROM notes",
    "SELECT * FROM set_config('martlet.session_key', 'x', false)", "SET martlet.session_key FROM CURRENT",
    "SELECT set_config('martlet.session_key', 'x', false), set_config('search_path', 'public', false)",
    "INSERT INTO notes SELECT length(current_setting('martlet.session_key', true))",
    "UPDATE notes SET n = length(set_config('martlet.session_key', 'x', true))",
    "SET martlet.session_key = 'x', 'y'", "ALTER ROLE app SET martlet.session_key = 'x'",
    "SELECT length(current_setting('martlet.lsn', true))", "SHOW martlet.lsn; SHOW martlet.lsn",
    "SELECT set_config('martlet.session_key', 'x' || 'y', false)",
    "EXPLAIN SELECT current_setting('martlet.session_key')"]


def test_spellings(routed: Callable[..., Routed]) -> None:
    """However it is written that PostgreSQL understands; what no server could do is an error, and never silence."""
    route = routed(schema=SCHEMA)
    with route.connect() as connection:
        for text in SPELLINGS:
            for prepare in ([None] if text.count(";") == 1 and not text.endswith(";") or "SELECT 2" in text else [False, True]):
                connection.execute("RESET martlet.session_key")
                connection.execute(text, prepare=prepare)  # type: ignore[arg-type]
                assert connection.execute("SHOW martlet.session_key").fetchone() == ("x y",), text
        connection.execute("RESET martlet.session_key")
        for text in REFUSED:
            for prepare in (None, True):
                if prepare and ";" in text:
                    continue
                with pytest.raises(psycopg.errors.FeatureNotSupported):
                    connection.execute(text, prepare=prepare)  # type: ignore[arg-type]
        assert connection.execute("SHOW martlet.session_key").fetchone() == ("",)
        # Not the router's: schemas, columns and settings of that name.
        connection.execute("SELECT set_config('app.martlet', 'martlet.x', false), current_setting('app.martlet')")
        connection.execute("SELECT 'set_config(''martlet.session_key''', current_setting('search_path')")


def test_names_as_parameters(routed: Callable[..., Routed]) -> None:
    route = routed(schema=SCHEMA)
    with route.connect() as connection:
        for binary in (False, True):
            key = f"key {binary}"
            set_config = "SELECT set_config(%s::text, %s::text, %s)"
            value = connection.execute(set_config, ("martlet.session_key", key, False), binary=binary).fetchone()
            assert value == (key,)
            current = "SELECT current_setting(%s::text, %s) AS mine"
            assert connection.execute(current, ("Martlet.session_key", True), binary=binary).fetchone() == (key,)
            assert connection.execute(current, ("martlet.nothing", True), binary=binary).fetchone() == (None,)
            assert connection.execute(current, ("server_encoding", True), binary=binary).fetchone() == ("UTF8",)
            with pytest.raises(psycopg.errors.UndefinedObject):
                connection.execute(current, ("martlet.nothing", False), binary=binary)
            with pytest.raises(psycopg.errors.FeatureNotSupported):
                connection.execute("SELECT n, current_setting(%s) FROM notes", ("martlet.session_key",), binary=binary)
            assert connection.execute("SHOW martlet.session_key").fetchone() == (key,)


@pytest.mark.parametrize("cache", [0, 100])
def test_asyncpg_and_its_pool(routed: Callable[..., Routed], cache: int) -> None:
    """A released connection is as it was at its start, whoever used it; the position is there in each shape."""
    route = routed(schema=SCHEMA)

    async def work() -> None:
        pool = await asyncpg.create_pool(
            route.proxy.dsn(), min_size=1, max_size=1, statement_cache_size=cache, command_timeout=10,
            server_settings={"martlet.read_after_write": "off"})
        async with pool.acquire() as connection:
            for read in ("SHOW martlet.lsn", "SELECT current_setting('martlet.lsn', true)"):
                for _ in range(3):
                    assert "/" in await connection.fetchval(read)
                async with connection.transaction(readonly=True):
                    assert route.cluster.name_of(await connection.fetchval(WHERE)) in route.cluster.replicas
                    assert "/" in await connection.fetchval(read)
                async with connection.transaction(readonly=True):
                    assert "/" in await connection.fetchval(read)
            await connection.execute("SET martlet.session_key = 'mine'; SET martlet.route = 'primary'")
            await connection.execute("SET martlet.read_after_write = 'lsn'")
            assert await connection.fetchval("SELECT set_config('martlet.session_key', $1, false)", "other") == "other"
            assert await connection.fetchval("SHOW martlet.session_key") == "other"
        async with pool.acquire() as connection:
            for name, value in [("route", "auto"), ("session_key", ""), ("read_after_write", "off")]:
                assert await connection.fetchval(f"SHOW martlet.{name}") == value
                assert await connection.fetchval(f"SELECT current_setting('martlet.{name}')") == value
        await pool.close()

    asyncio.run(work())


def test_a_released_connection_has_no_effect_on_the_next(routed: Callable[..., Routed]) -> None:
    """The route ends with RESET ALL, ROLLBACK and SET LOCAL: where reads go tells."""
    route = routed(schema=SCHEMA)
    with route.connect(autocommit=True) as connection:
        for end in ["RESET ALL", "DISCARD ALL", "SELECT 1; RESET ALL"]:
            connection.execute("SET martlet.route = 'primary'")
            assert route.where(connection) == "primary"
            connection.execute(end)  # type: ignore[arg-type]
            wait_until(lambda: route.is_replica(connection), "reads go to a replica")
        for change, end in [("SET", "ROLLBACK"), ("SET LOCAL", "COMMIT")]:
            with connection.transaction(force_rollback=end == "ROLLBACK"):
                connection.execute(f"{change} martlet.route = 'primary'")  # type: ignore[arg-type]
                assert route.where(connection) == "primary"
            wait_until(lambda: route.is_replica(connection), "reads go to a replica")


@pytest.mark.parametrize("text", [
    f"/* martlet: rute=replica */ {WHERE}", f"{WHERE} -- martlet: route=bogus", f"/* MARTLET:route = primary */ {WHERE}",
    f"/* martlet: */ {WHERE}", f"/* martlet: route=primary, now */ {WHERE}"])
def test_a_mistaken_comment_is_told(routed: Callable[..., Routed], text: str) -> None:
    route = routed()
    with route.connect() as connection:
        told: list[str | None] = []
        connection.add_notice_handler(lambda notice: told.append(notice.severity_nonlocalized))
        for count, prepare in enumerate((None, False, True), 1):
            connection.execute(text, prepare=prepare)  # type: ignore[arg-type]
            assert told == ["WARNING"] * count
        for quiet in (f"/* martlet: route=primary */ {WHERE}", f"/* a martlet: x */ {WHERE}", f"SELECT '/* martlet: x */'"):
            connection.execute(quiet)  # type: ignore[arg-type]
        assert told == ["WARNING"] * 3


def test_what_only_a_server_could_do_behind_a_flush(routed: Callable[..., Routed]) -> None:
    """An error, and no setting of the server's that nobody reads."""
    route = routed(schema=SCHEMA)
    with Connection(route.proxy.host, route.proxy.port).login(options="-c martlet.session_key=ours") as client:
        for text, state in [
            ("SET martlet.session_key = 'x', 'y'", "0A000"), ("SHOW martlet.lsn", "0A000"),
            ("SELECT length(set_config('martlet.session_key', 'x', false))", "0A000"),
            ("SET martlet.route = 'nonsense'", "22023"), ("SET martlet.nothing = 1", "42704"),
        ]:
            client.send(*unit("SELECT 1"), FLUSH)
            client.read_until("C")
            answer = client.ask(*unit(text), *unit("SELECT 2"), SYNC)
            assert [each.sqlstate for each in answer if each.type == "E"] == [state], text
            assert not any(each.type == "D" for each in answer)
            assert client.simple("SHOW martlet.session_key") == [[b"ours"]]
