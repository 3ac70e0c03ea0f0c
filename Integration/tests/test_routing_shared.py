"""Several connections that are one client, by a session key, a user or a database, also over several entries: what one of
them has written the other sees, however its request came by its server."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from common import wait_until
from rawpg import FLUSH, SYNC, Connection, Message, bind, close, describe, execute, parse, query
from routing import Routed

pytestmark = pytest.mark.martlet("routing")

SCHEMA = "CREATE TABLE notes (n int); GRANT ALL ON notes TO public"
COUNT = "SELECT count(*), inet_server_port() FROM notes"


class Reader:
    """A client that speaks the protocol itself, and so has its request under way when another one writes."""

    def __init__(self, route: Routed, database: str, user: str, **settings: str) -> None:
        self.route = route
        self.connection = Connection(route.proxy.host, route.proxy.port)
        self.connection.login(user, database, **settings)

    def close(self) -> None:
        self.connection.socket.close()

    def ask(self, *parts: bytes) -> tuple[int, str]:
        return self.result(self.connection.ask(*parts))

    def result(self, messages: list[Message]) -> tuple[int, str]:
        """What has been counted, and where; an error is raised."""
        for message in messages:
            if message.type == "E":
                raise Refused(message.sqlstate, message.text)
        number, port = next(message.values() for message in messages if message.type == "D")
        return int(number), self.route.cluster.name_of(int(port))

    def wait_replica(self) -> None:
        replicas = self.route.cluster.replicas
        wait_until(lambda: self.ask(query(COUNT))[1] in replicas, "reads go to a replica")


class Refused(Exception):
    @property
    def sqlstate(self) -> str:
        return self.args[0]


# Each is what comes before the other one's write, then what comes behind it and gives the answer. What comes before runs
# on a replica.

def simple(reader: Reader) -> Iterator[tuple[int, str]]:
    yield reader.ask(query(COUNT))
    yield reader.ask(query(COUNT))


def extended(reader: Reader) -> Iterator[tuple[int, str]]:
    request = (parse(COUNT), bind(), execute(), SYNC)
    yield reader.ask(*request)
    yield reader.ask(*request)


@contextmanager
def prepared(reader: Reader, name: str, end: bytes) -> Iterator[None]:
    """A statement that is prepared and described, as drivers do before they bind it."""
    reader.connection.send(parse(COUNT, name), describe("S", name), end)
    reader.connection.read_until("Z" if end == SYNC else "T")
    yield
    if name:
        reader.connection.ask(close("S", name), SYNC)


def behind_a_flush(reader: Reader, name: str = "") -> Iterator[tuple[int, str] | None]:
    with prepared(reader, name, FLUSH):
        yield None
        yield reader.ask(bind(name), execute(), SYNC)


def behind_a_flush_with_a_name(reader: Reader) -> Iterator[tuple[int, str] | None]:
    yield from behind_a_flush(reader, "mine")


def behind_two_flushes(reader: Reader) -> Iterator[tuple[int, str] | None]:
    with prepared(reader, "mine", FLUSH):
        reader.connection.send(describe("S", "mine"), FLUSH)
        reader.connection.read_until("T")
        yield None
        yield reader.ask(bind("mine"), execute(), SYNC)


def query_behind_a_flush(reader: Reader) -> Iterator[tuple[int, str] | None]:
    with prepared(reader, "", FLUSH):
        yield None
        yield reader.ask(query(COUNT))


def prepared_before(reader: Reader) -> Iterator[tuple[int, str] | None]:
    with prepared(reader, "mine", SYNC):
        yield reader.ask(bind("mine"), execute(), SYNC)
        yield reader.ask(bind("mine"), execute(), SYNC)


def in_transaction(begin: str) -> Callable[[Reader], Iterator[tuple[int, str]]]:
    def run(reader: Reader) -> Iterator[tuple[int, str]]:
        reader.connection.ask(query(begin))
        yield reader.ask(query(COUNT))
        try:
            yield reader.ask(query(COUNT))
        finally:
            reader.connection.ask(query("COMMIT"))
    run.__name__ = begin
    return run


def in_transaction_extended(reader: Reader) -> Iterator[tuple[int, str]]:
    reader.connection.ask(query("BEGIN READ ONLY"))
    with prepared(reader, "mine", SYNC):
        yield reader.ask(bind("mine"), execute(), SYNC)
        yield reader.ask(bind("mine"), execute(), SYNC)
    reader.connection.ask(query("COMMIT"))


def in_transaction_behind_a_flush(reader: Reader) -> Iterator[tuple[int, str]]:
    reader.connection.ask(query("BEGIN READ ONLY"))
    first = reader.ask(query(COUNT))
    with prepared(reader, "", FLUSH):
        yield first
        yield reader.ask(bind(), execute(), SYNC)
    reader.connection.ask(query("COMMIT"))


def begun_with_its_first_read(reader: Reader) -> Iterator[tuple[int, str]]:
    yield reader.ask(parse("BEGIN READ ONLY"), bind(), execute(), parse(COUNT), bind(), execute(), SYNC)
    yield reader.ask(query(COUNT))
    reader.connection.ask(query("COMMIT"))


SHAPES = [
    simple, extended, behind_a_flush, behind_a_flush_with_a_name, behind_two_flushes, query_behind_a_flush,
    prepared_before, in_transaction("BEGIN READ ONLY"), in_transaction("BEGIN READ ONLY ISOLATION LEVEL READ UNCOMMITTED"),
    in_transaction_extended, in_transaction_behind_a_flush, begun_with_its_first_read]
PROMOTE = [in_transaction("BEGIN"), in_transaction("BEGIN ISOLATION LEVEL READ COMMITTED")]

BONDS: dict[str, tuple[dict[str, object], dict[str, str], str]] = {
    # Keys of the reader's entry, startup parameters of both clients, the reader's user.
    "key": ({}, {"martlet.session_key": "user:42"}, "app"),
    "user": ({"read_after_write_scope": "user"}, {}, "app"),
    "database": ({"read_after_write_scope": "database"}, {}, "trust_user"),
    "key and window": ({"read_after_write": "window"}, {"martlet.session_key": "user:42"}, "app"),
    "own window": ({}, {"martlet.session_key": "user:42", "martlet.read_after_write": "window"}, "app"),
}


@pytest.mark.parametrize("bond, writes", [
    ("key", "app"), ("key", "rw"), ("user", "rw"), ("database", "rw"), ("key and window", "rw"), ("own window", "app")])
def test_what_the_other_has_written_is_seen(routed: Callable[..., Routed], bond: str, writes: str) -> None:
    """In each shape, in any order, against replicas that are late; written through the same entry or another one."""
    entry, settings, user = BONDS[bond]
    route = routed(
        schema=SCHEMA, transaction_routing="promote", read_after_write_window="300ms", **entry,
        others={"rw": {"routing": "primary"}})
    for name in route.cluster.replicas:
        route.cluster.lag(name, "120ms")
    shapes = SHAPES + PROMOTE
    random.Random(bond + writes).shuffle(shapes)
    reader = Reader(route, "app", user, **settings)
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    with route.connect(writes, options=options) as writer:
        for written, shape in enumerate(shapes):
            reader.wait_replica()
            request = shape(reader)
            before = next(request)
            assert before is None or before == (written, before[1]) and before[1] in route.cluster.replicas, shape
            writer.execute("INSERT INTO notes VALUES (1)")
            assert next(request)[0] == written + 1, shape.__name__
            assert next(request, None) is None
    reader.close()


@pytest.mark.parametrize("begin, expected", [
    (["BEGIN READ ONLY", "SAVEPOINT a"], "40001"), (["BEGIN READ ONLY ISOLATION LEVEL REPEATABLE READ"], 0)])
def test_a_transaction_that_cannot_leave(routed: Callable[..., Routed], begin: list[str], expected: object) -> None:
    """It is told so, where what it would be shown is not what one server would show."""
    route = routed(schema=SCHEMA)
    reader = Reader(route, "app", "app", **{"martlet.session_key": "user:42"})
    with route.connect(options="-c martlet.session_key=user:42") as writer:
        for written, end in enumerate([SYNC, FLUSH]):
            reader.wait_replica()
            reader.connection.ask(query(begin[0]))
            assert reader.ask(query(COUNT))[1] in route.cluster.replicas
            for command in begin[1:]:
                reader.connection.ask(query(command))
            with prepared(reader, "mine", end), route.standing_still():
                writer.execute("INSERT INTO notes VALUES (1)")
                try:
                    result: object = reader.ask(bind("mine"), execute(), SYNC)[0] - written
                except Refused as error:
                    result = error.sqlstate
                assert result == expected
                reader.connection.ask(query("ROLLBACK"))
                assert reader.ask(query(COUNT))[0] == written + 1
    reader.close()


def test_who_wants_a_replica_stays(routed: Callable[..., Routed]) -> None:
    """`route=replica` is there to read what a replica has."""
    route = routed(schema=SCHEMA)
    settings = {"martlet.session_key": "user:42", "martlet.route": "replica"}
    reader = Reader(route, "app", "app", **settings)
    with route.connect(options="-c martlet.session_key=user:42") as writer, route.standing_still():
        for shape in [behind_a_flush, in_transaction("BEGIN READ ONLY"), simple]:
            request = shape(reader)
            next(request)
            writer.execute("INSERT INTO notes VALUES (1)")
            assert next(request)[0] == 0
            next(request, None)
    reader.close()


def test_the_modes_of_clients_and_entries(routed: Callable[..., Routed]) -> None:
    """A client's own `read_after_write` brings the window that belongs to it, whatever its entry has."""
    modes = ["off", "lsn", "window"]
    entries = {f"{mode}_{window}": {"read_after_write": mode, "read_after_write_window": f"{window}s"}
               for mode in modes for window in (0, 60)}
    route = routed(schema=SCHEMA, others=entries)
    for name, entry in entries.items():
        for own in [None, *modes]:
            with route.connect(name) as connection:
                route.wait_replica(connection)
                if own:
                    connection.execute(f"SET martlet.read_after_write = '{own}'")
                mode = own or entry["read_after_write"]
                connection.execute("INSERT INTO notes VALUES (1)")
                if mode == "window" or mode == "lsn" and name.endswith("_60"):
                    assert route.where(connection) == "primary", (name, own)
                if mode == "off":
                    assert route.is_replica(connection), (name, own)
                elif name.endswith("_0"):
                    # At once, or after the second that is the window where none is given.
                    route.wait_replica(connection)


def test_a_window_of_its_own_on_an_entry_with_lsn(routed: Callable[..., Routed]) -> None:
    route = routed(schema=SCHEMA)
    with route.connect() as connection, route.standing_still():
        connection.execute("SET martlet.read_after_write = 'window'")
        connection.execute("INSERT INTO notes VALUES (1)")
        number, port = connection.execute(COUNT).fetchone()
        assert (number, route.cluster.name_of(port)) == (1, "primary")
        # It is time alone: once the window is over a replica will do that has nothing of it.
        wait_until(lambda: connection.execute(COUNT).fetchone()[0] == 0, "the window ends", 5)
