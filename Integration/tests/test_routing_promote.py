"""Drivers that open a transaction around everything: transaction_routing=promote lets their reads leave the primary."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable

import psycopg
import pytest
from sqlalchemy import ForeignKey, String, create_engine, func, literal_column, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from common import wait_until
from routing import CATALOGUE_READ, WHERE, Crowd, Routed

pytestmark = pytest.mark.martlet("routing")

SCHEMA = """
    CREATE TABLE people (id serial PRIMARY KEY, name text NOT NULL);
    CREATE TABLE notes (id serial PRIMARY KEY, person int NOT NULL REFERENCES people, text text NOT NULL);
    INSERT INTO people (name) SELECT 'person ' || n FROM generate_series(1, 100) n;
"""


class Base(DeclarativeBase):
    pass


class Person(Base):
    __tablename__ = "people"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String)
    notes: Mapped[list[Note]] = relationship(back_populates="owner", order_by="Note.id")


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    person: Mapped[int] = mapped_column(ForeignKey("people.id"))
    text: Mapped[str] = mapped_column(String)
    owner: Mapped[Person] = relationship(back_populates="notes")


PORT = literal_column("inet_server_port()")


def dsn(route: Routed) -> str:
    return route.proxy.dsn().replace("postgresql://", "postgresql+psycopg://")


def test_sqlalchemy_reads_on_replicas(routed: Callable[..., Routed]) -> None:
    """Its default transactions, 90 % of them reads; a client finds what it has committed, in all later transactions."""
    route = routed(schema=SCHEMA, transaction_routing="promote")
    engine = create_engine(dsn(route), pool_size=20, max_overflow=0)
    transactions: Counter[str] = Counter()
    lock = threading.Lock()

    def work(number: int, ended: threading.Event) -> None:
        dice = random.Random(number)
        me, texts = 0, []
        # A connection of one's own: what another connection of the pool has written is of no concern to this one.
        with engine.connect() as connection, Session(connection) as session:
            while not ended.wait(dice.uniform(0.005, 0.03)):
                if not me or dice.random() < 0.1:
                    if not me:
                        person = Person(name=f"new {number}")
                        session.add(person)
                        session.commit()
                        me = person.id  # Expired by the commit: read anew, in a new transaction.
                        assert person.name == f"new {number}"
                    else:
                        texts.append(f"note {len(texts)}")
                        session.add(Note(person=me, text=texts[-1]))
                        session.commit()
                    continue
                person = session.scalars(select(Person).where(Person.id == me)).one()
                assert [note.text for note in person.notes] == texts
                port = session.execute(select(func.count(), PORT).select_from(Person)).one()[1]
                with lock:
                    transactions[route.cluster.name_of(port)] += 1
                session.rollback()

    with Crowd(10, work) as crowd:
        crowd.wait(5)
    engine.dispose()
    on_replicas = sum(transactions[name] for name in route.cluster.replicas)
    print(f"{on_replicas / transactions.total():.1%} of {transactions.total()} reading transactions: {transactions}")
    assert on_replicas >= 0.8 * transactions.total()


def test_sqlalchemy_round_trips_with_late_replicas(routed: Callable[..., Routed]) -> None:
    """Objects read, changed, flushed, committed and read again; the replicas stand still meanwhile."""
    route = routed(schema=SCHEMA, transaction_routing="promote")
    engine = create_engine(dsn(route))
    with engine.connect() as connection, Session(connection) as session, route.standing_still():
        for turn in range(5):
            person = session.scalars(select(Person).where(Person.name == "person 7")).one()
            assert [note.text for note in person.notes] == [f"note {number}" for number in range(turn)]
            person.notes.append(Note(text=f"note {turn}"))
            session.flush()
            assert session.scalar(select(func.count()).select_from(Note)) == turn + 1
            session.commit()
            assert [note.text for note in person.notes] == [f"note {number}" for number in range(turn + 1)]
            session.rollback()
    engine.dispose()


def begin(route: Routed) -> psycopg.Connection:
    """A connection that opens transactions by itself, as the DB-API has it."""
    return route.connect(autocommit=False)


def begins_on_a_replica(route: Routed, connection: psycopg.Connection) -> bool:
    """Whether a new transaction has its first read on a replica; if it has, the transaction is left open."""
    connection.rollback()
    return route.is_replica(connection)


def test_the_first_statement_decides(routed: Callable[..., Routed]) -> None:
    route = routed(schema=SCHEMA, transaction_routing="promote")
    with begin(route) as connection:
        assert route.is_replica(connection)
        connection.commit()
        connection.execute("INSERT INTO people (name) VALUES ('new')")
        assert route.where(connection) == "primary"
        connection.rollback()


@pytest.mark.parametrize("prepare", [False, True])
def test_a_write_moves_the_transaction(routed: Callable[..., Routed], prepare: bool) -> None:
    route = routed(schema=SCHEMA, transaction_routing="promote")
    with begin(route) as connection:
        for _ in range(3):
            wait_until(lambda: begins_on_a_replica(route, connection), "back on a replica")
            connection.execute("INSERT INTO people (name) VALUES (%s)", ("new",), prepare=prepare)
            assert route.where(connection) == "primary", "it stays there"
            connection.rollback()
            assert connection.execute("SELECT count(*) FROM people WHERE name = 'new'").fetchone() == (0,)
            connection.rollback()
        connection.execute(WHERE)
        connection.execute("INSERT INTO people (name) VALUES ('new')")
        connection.commit()
        assert connection.execute("SELECT count(*) FROM people WHERE name = 'new'").fetchone() == (1,)


def test_an_error_in_the_replicas_part(routed: Callable[..., Routed]) -> None:
    """The transaction has failed and stays failed until it is ended; nothing moves then."""
    route = routed(schema=SCHEMA, transaction_routing="promote")
    with begin(route) as connection:
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("SELECT 1/0")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            connection.execute("INSERT INTO people (name) VALUES ('new')")
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
        connection.rollback()
        assert route.is_replica(connection)


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_one_snapshot_is_one_server(routed: Callable[..., Routed], level: str) -> None:
    """Above READ COMMITTED all statements see one state, which a move could not give."""
    route = routed(schema=SCHEMA, transaction_routing="promote")
    with begin(route) as connection:
        connection.isolation_level = psycopg.IsolationLevel[level.replace(" ", "_")]
        first = route.where(connection)
        if first == "primary":
            connection.execute("INSERT INTO people (name) VALUES ('new')")
        else:
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                connection.execute("INSERT INTO people (name) VALUES ('new')")
            connection.rollback()
        connection.rollback()


DEFAULTS = {
    "startup": "repeatable read", "startup in capitals": "REPEATABLE READ", "SET": "repeatable read",
    "SESSION CHARACTERISTICS": "repeatable read", "set_config": "serializable", "role": "repeatable read",
    "read committed": "read committed"}


@pytest.mark.parametrize("how", DEFAULTS)
def test_the_default_isolation_level_holds(routed: Callable[..., Routed], how: str) -> None:
    """A transaction that names no isolation level has its session's, and the snapshot that goes with it."""
    # With one server connection SET has an effect on what comes behind it.
    route = routed(
        schema="CREATE TABLE log (n int);", transaction_routing="promote", settings={"default_pool_size": 1})
    level = DEFAULTS[how]
    options = {}
    if how.startswith("startup") or how == "read committed":
        options = {"options": "-c default_transaction_isolation=" + level.replace(" ", "\\ ")}
    role = f"ALTER ROLE app IN DATABASE {route.database}"
    with route.direct() as other, route.connect(**options) as connection:
        try:
            if how == "SET":
                connection.execute(f"SET default_transaction_isolation TO '{level}'")
            elif how == "SESSION CHARACTERISTICS":
                connection.execute(f"SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL {level}")
            elif how == "set_config":
                connection.execute("SELECT set_config('default_transaction_isolation', %s, false)", (level,))
            elif how == "role":
                connection.execute(f"{role} SET default_transaction_isolation TO '{level}'")
                route.proxy.command("RECONNECT app")
                wait_until(
                    lambda: route.explain("SELECT is_known()")["class"] == "read", "the catalogue is known",
                    CATALOGUE_READ)
            route.cluster.wait_caught_up()
            for _ in range(3):
                connection.execute("BEGIN")
                assert connection.execute("SELECT count(*) FROM log").fetchone() == (0,)
                assert connection.execute("SHOW transaction_isolation").fetchone() == (level.lower(),)
                other.execute("INSERT INTO log VALUES (1)")
                seen = 1 if how == "read committed" else 0
                connection.execute("INSERT INTO log VALUES (2)")
                assert connection.execute("SELECT count(*) FROM log").fetchone() == (seen + 1,)
                connection.execute("ROLLBACK")
                other.execute("TRUNCATE log")
                route.cluster.wait_caught_up()
        finally:
            other.execute(f"{role} RESET default_transaction_isolation")


def test_read_committed_by_the_startup_packet(routed: Callable[..., Routed]) -> None:
    """Who says so himself may read on a replica whatever others begin with."""
    query = "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ"
    route = routed(transaction_routing="promote", connect_query=f"'{query}'")
    with route.connect() as connection:
        connection.execute("BEGIN")
        assert route.where(connection) == "primary"
        connection.execute("COMMIT")
    with route.connect(options="-c default_transaction_isolation=read\\ committed", autocommit=False) as connection:
        wait_until(lambda: begins_on_a_replica(route, connection), "a replica")


def test_a_lock_under_the_default_isolation_level(routed: Callable[..., Routed]) -> None:
    """A transaction on a replica that must keep its snapshot cannot take a lock that counts."""
    route = routed(schema="CREATE TABLE log (n int);")
    with route.connect(options="-c default_transaction_isolation=repeatable\\ read") as connection:
        wait_until(lambda: route.is_replica(connection), "a replica")
        connection.execute("BEGIN READ ONLY")
        assert route.is_replica(connection)
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            connection.execute("SELECT count(*), (SELECT pg_advisory_xact_lock(1)) FROM log")
        connection.execute("ROLLBACK")


def test_savepoints(routed: Callable[..., Routed]) -> None:
    """Whatever binds the transaction to a server: it goes on right, on one server."""
    route = routed(schema=SCHEMA, transaction_routing="promote")
    with begin(route) as connection:
        route.where(connection)
        with pytest.raises(psycopg.errors.UniqueViolation), connection.transaction():
            connection.execute("INSERT INTO people (id, name) VALUES (1, 'twice')")
        with connection.transaction():
            connection.execute("INSERT INTO people (name) VALUES ('new')")
        assert connection.execute("SELECT count(*) FROM people WHERE name = 'new'").fetchone() == (1,)
        connection.commit()


def test_set_local(routed: Callable[..., Routed]) -> None:
    route = routed(schema=SCHEMA, transaction_routing="promote")
    with begin(route) as connection:
        connection.execute("SET LOCAL work_mem = '77MB'")
        assert connection.execute("SHOW work_mem").fetchone() == ("77MB",)
        connection.execute("INSERT INTO people (name) VALUES ('new')")
        assert connection.execute("SELECT current_setting('work_mem')").fetchone() == ("77MB",)
        connection.rollback()


def test_server_side_cursor(routed: Callable[..., Routed]) -> None:
    route = routed(schema=SCHEMA, transaction_routing="promote")
    with begin(route) as connection:
        route.where(connection)
        with connection.cursor("names") as cursor:
            cursor.itersize = 30
            cursor.execute("SELECT name FROM people ORDER BY id")
            seen = []
            for row in cursor:
                seen.append(row[0])
                if len(seen) == 50:
                    connection.execute("INSERT INTO people (name) VALUES ('new')")
        assert len(seen) == 100
        connection.commit()


def test_begin_and_nothing_else(routed: Callable[..., Routed]) -> None:
    """BEGIN is held back: an empty transaction needs no server, and says what PostgreSQL says."""
    route = routed(schema=SCHEMA, transaction_routing="promote")
    with route.connect() as connection:
        assert connection.execute("BEGIN").statusmessage == "BEGIN"
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
        assert connection.execute("COMMIT").statusmessage == "COMMIT"
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
        assert connection.execute("ROLLBACK").statusmessage == "ROLLBACK"
