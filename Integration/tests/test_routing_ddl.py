"""From DDL to the new catalogue the old one judges nothing that the DDL may have changed."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from common import wait_until
from routing import CATALOGUE_READ, RERUNS, Routed

pytestmark = [pytest.mark.one_loop, pytest.mark.martlet("routing")]

SCHEMA = """
    CREATE TABLE log (what text);
    CREATE TABLE things (n int);
    INSERT INTO things VALUES (1);
    CREATE FUNCTION put(what text) RETURNS bool LANGUAGE sql AS 'INSERT INTO log VALUES (what) RETURNING true';
    CREATE VIEW harmless AS SELECT count(*) FROM things;
    CREATE PROCEDURE idle() LANGUAGE sql AS 'SELECT 1';
"""
OUTDATED = "may use what DDL has just changed"

# Before and after: what makes a write of a read.
CHANGES = {
    "new view": ("SELECT 1", "CREATE VIEW {name} AS SELECT put('{name}')", "SELECT * FROM {name}"),
    "replaced view": (
        "CREATE VIEW {name} AS SELECT true AS put", "CREATE OR REPLACE VIEW {name} AS SELECT put('{name}')", "SELECT * FROM {name}"),
    "function": (
        "CREATE FUNCTION {name}() RETURNS bool STABLE LANGUAGE sql AS 'SELECT true'",
        "CREATE OR REPLACE FUNCTION {name}() RETURNS bool LANGUAGE sql AS $$ SELECT put('{name}') $$", "SELECT {name}()"),
    "altered function": (
        "CREATE FUNCTION {name}() RETURNS bool STABLE LANGUAGE sql AS $$ SELECT put('{name}') $$",
        "ALTER FUNCTION {name}() VOLATILE", "SELECT {name}()"),
    "operator": (
        "CREATE FUNCTION {name}(int, int) RETURNS bool LANGUAGE sql AS $$ SELECT put('{name}') $$",
        "CREATE OPERATOR ~{sign}~ (LEFTARG = int, RIGHTARG = int, FUNCTION = {name})", "SELECT 1 ~{sign}~ 2"),
    "domain": (
        "CREATE DOMAIN {name} AS int", "ALTER DOMAIN {name} ADD CHECK (put('{name}'))", "SELECT 1::{name}"),
    "policy": (
        "CREATE TABLE {name} AS SELECT 1 AS n; ALTER TABLE {name} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
        "CREATE POLICY p ON {name} USING (put('{name}'))", "SELECT * FROM {name}"),
}


def plain(connection: psycopg.Connection, ddl: str) -> None:
    connection.execute(ddl)


def transaction(connection: psycopg.Connection, ddl: str) -> None:
    connection.execute("BEGIN")
    connection.execute("SELECT 1")
    connection.execute(ddl)
    connection.execute("SELECT count(*) FROM things")
    connection.execute("COMMIT")


def batch(connection: psycopg.Connection, ddl: str) -> None:
    """Requests before and behind it, which end at other times than it does."""
    with connection.pipeline():
        connection.execute("SELECT count(*) FROM things")
        connection.execute("UPDATE things SET n = n")
        connection.execute(ddl)


def several(connection: psycopg.Connection, ddl: str) -> None:
    connection.execute(f"SELECT 1; {ddl}; SELECT 2")


def block(connection: psycopg.Connection, ddl: str) -> None:
    connection.execute(f"DO $do$ BEGIN EXECUTE $ddl$ {ddl} $ddl$; END $do$")


def long_text(connection: psycopg.Connection, ddl: str) -> None:
    """Longer than classify_limit."""
    connection.execute(f"{ddl} /* {'x' * 70_000} */")


@pytest.mark.parametrize("way", [plain, transaction, batch, several, block, long_text])
def test_what_ddl_has_made_a_write(routed: Callable[..., Routed], way: Callable[[psycopg.Connection, str], None]) -> None:
    """For the client of the DDL, for another one, and for one of another entry that leads to the same database."""
    route = routed(schema=SCHEMA, others={"other": {"check_interval": "1s"}})
    wrong = []
    for number in range(2):
        for kind, templates in CHANGES.items():
            name, sign = f"x{number}_{kind.replace(' ', '_')}", "#" * (number + 1)
            before, ddl, statement = (text.format(name=name, sign=sign) for text in templates)
            with route.direct() as direct:
                direct.execute("SET SESSION AUTHORIZATION app")
                direct.execute(before)
            route.cluster.wait_caught_up()
            with route.connect() as author, route.connect() as neighbour, route.connect("other") as stranger:
                for reader in (neighbour, stranger):
                    route.wait_replica(reader)
                with route.standing_still():
                    way(author, ddl)
                    for who, reader in (("author", author), ("neighbour", neighbour), ("stranger", stranger)):
                        assert reader.execute(statement).fetchone()
                        with route.direct() as direct:
                            expected = direct.execute("SELECT count(*) FROM log").fetchone()
                        if reader.execute("SELECT count(*) FROM log").fetchone() != expected:
                            wrong.append((kind, who))
    assert wrong == []
    assert int(route.routes()[RERUNS]) == int(route.routes("other")[RERUNS]) == 0


def test_new_sequences(routed: Callable[..., Routed]) -> None:
    """What a replica has of one is up to 32 values ahead."""
    route = routed(schema=SCHEMA)
    with route.connect() as author, route.connect() as other:
        route.wait_replica(author)
        for number in range(20):
            author.execute(f"CREATE SEQUENCE s{number}")
            assert author.execute(f"SELECT nextval('s{number}')").fetchone() == (1,)
            for reader in (author, other):
                assert reader.execute(f"SELECT last_value FROM s{number}").fetchone() == (1,)
    assert int(route.routes()[RERUNS]) == 0


def test_materialized_views_that_are_filled(routed: Callable[..., Routed]) -> None:
    """Before that each read of one is an error of the primary's; afterwards replicas have it, too."""
    route = routed(schema=SCHEMA)
    statement = "SELECT port, inet_server_port() FROM blank"
    with route.connect() as connection:
        for _ in range(2):
            connection.execute("CREATE MATERIALIZED VIEW blank AS SELECT 1 AS port WITH NO DATA")
            for _ in range(3):
                with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
                    connection.execute(statement)
            connection.execute("REFRESH MATERIALIZED VIEW blank")
            wait_until(lambda: route.is_replica(connection, statement), "replicas read it", CATALOGUE_READ)
            connection.execute("DROP MATERIALIZED VIEW blank")


def judged(route: Routed) -> bool:
    """The new catalogue has been read."""
    return route.explain("SELECT * FROM harmless")["reason"] != OUTDATED


def test_reads_go_back_to_replicas(routed: Callable[..., Routed]) -> None:
    route = routed(schema=SCHEMA)
    with route.connect() as connection, route.connect() as other:
        route.wait_replica(other)
        for number in range(5):
            connection.execute(f"CREATE TABLE t{number} (n int)")
            wait_until(lambda: judged(route), "the catalogue is read", CATALOGUE_READ)
            wait_until(lambda: route.is_replica(other, "SELECT n, inet_server_port() FROM things"), "a replica reads")


def test_what_changes_nothing(routed: Callable[..., Routed]) -> None:
    """Failed DDL, temporary things, DROP: nobody else is kept from the replicas by a client that goes on with them."""
    route = routed(schema=SCHEMA)
    with route.connect() as connection:
        wait_until(lambda: judged(route), "the catalogue is read", CATALOGUE_READ)
        for _ in range(5):
            with pytest.raises(psycopg.errors.DuplicateTable):
                connection.execute("CREATE TABLE things (n int)")
            assert judged(route)
            connection.execute("CREATE TEMP TABLE temporary AS SELECT 1")
            connection.execute("DROP TABLE IF EXISTS temporary, nothing")
            connection.execute("SELECT 1 INTO TEMP temporary")
            connection.execute("DROP TABLE temporary")
            assert judged(route)
            connection.execute("BEGIN")
            connection.execute("CREATE TABLE undone (n int)")
            connection.execute("ROLLBACK")
            assert judged(route)


@pytest.mark.parametrize("code", ["CALL idle()", "DO $$ BEGIN END $$", "SELEC 1"])
def test_code_that_changes_nothing(routed: Callable[..., Routed], code: str) -> None:
    """The first time it might; then it is trusted for a while."""
    route = routed(schema=SCHEMA)
    with route.connect() as connection:

        def run() -> bool:
            try:
                connection.execute(code)
            except psycopg.errors.SyntaxError:
                pass
            return judged(route)

        wait_until(run, "the code is trusted", CATALOGUE_READ)
        assert all(run() for _ in range(20))


def test_reading_what_is_newest(routed: Callable[..., Routed]) -> None:
    """Names that the primary has found are found from then on: looking them up is a read."""
    route = routed(schema=SCHEMA, primary_reads="always", load_balance="round_robin")
    lookups = {
        "to_regclass": "SELECT to_regclass('{name}')::text", "cast": "SELECT '{name}'::regclass::text",
        "privilege": "SELECT has_table_privilege('{name}', 'SELECT')",
        "CAST": "SELECT CAST('{name}'::text AS regclass)::text", "EXPLAIN": "EXPLAIN SELECT * FROM {name}",
    }
    with route.connect() as author:
        for number, (kind, template) in enumerate(lookups.items()):
            name = f"looked_{number}"
            statement = template.format(name=name)
            # Behind DDL all of this is the primary's; that it is so later, too, is what this is about.
            with route.standing_still():
                author.execute(f"CREATE TABLE {name} (n int)")
                wait_until(lambda: judged(route), "the catalogue is read", CATALOGUE_READ)
                for _ in range(6):
                    with route.connect() as reader:
                        reader.execute(f"/* martlet: route=primary */ {statement}")
                        for _ in range(4):
                            found = reader.execute(statement).fetchone()
                            assert found and found[0] is not None, kind
