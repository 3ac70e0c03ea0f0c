"""Statements that name no function and call one all the same: views, policies, operators, casts, domains, `t.f`.

What the catalogue says of them is known before they run for the first time.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from common import wait_until
from routing import CATALOGUE_READ, RERUNS, Routed

pytestmark = [pytest.mark.one_loop, pytest.mark.martlet("routing")]

SCHEMA = """
    CREATE TABLE log (n int);
    CREATE TABLE things (n int);
    INSERT INTO things VALUES (1);
    CREATE FUNCTION put(n int) RETURNS int LANGUAGE sql AS 'INSERT INTO log VALUES (n) RETURNING n';

    CREATE VIEW hidden AS SELECT put(1) AS n;
    CREATE SCHEMA apart;
    CREATE VIEW apart.deeper AS SELECT n FROM (SELECT * FROM hidden) AS h;
    CREATE VIEW deepest AS SELECT (SELECT n FROM apart.deeper) AS n;

    CREATE FUNCTION joined(a int, b int) RETURNS int LANGUAGE sql AS 'SELECT put(a)';
    CREATE OPERATOR #+# (LEFTARG = int, RIGHTARG = int, FUNCTION = joined);
    CREATE VIEW operation AS SELECT n #+# 2 AS n FROM things;

    CREATE TYPE pair AS (n int);
    CREATE FUNCTION as_pair(a int) RETURNS pair LANGUAGE sql AS 'SELECT put(a) UNION ALL SELECT a';
    CREATE CAST (int AS pair) WITH FUNCTION as_pair(int);
    CREATE DOMAIN checked AS int CHECK (put(VALUE) > 0);

    CREATE FUNCTION twice(things) RETURNS int LANGUAGE sql AS 'SELECT put($1.n)';

    CREATE TABLE watched (n int);
    INSERT INTO watched VALUES (1);
    ALTER TABLE watched ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
    CREATE POLICY watching ON watched USING (put(n) > 0);

    CREATE VIEW harmless AS SELECT n, random(), now(), inet_server_port() FROM things;
    CREATE UNLOGGED TABLE cache (n int);
    CREATE VIEW cached AS SELECT count(n), inet_server_port() FROM cache;
    CREATE VIEW backends AS SELECT count(*), inet_server_port() FROM pg_stat_activity;
    CREATE SEQUENCE numbers;
    CREATE MATERIALIZED VIEW kept AS SELECT 1 AS n;
"""

HIDDEN = {
    "view": "SELECT * FROM hidden",
    "nested view": "SELECT count(*) FROM deepest",
    "schema": "SELECT count(*) FROM apart.deeper",
    "TABLE": "TABLE hidden",
    "COPY": "COPY (SELECT n FROM hidden) TO STDOUT",
    "operator": "SELECT 1 #+# 2",
    "OPERATOR()": "SELECT n FROM things WHERE n OPERATOR(public.#+#) 1 = 1",
    "operator in a view": "SELECT n FROM operation",
    "cast": "SELECT 1::pair",
    "domain": "SELECT CAST(n AS checked) FROM things",
    "t.f": "SELECT things.twice FROM things",
    "policy": "SELECT n FROM watched",
    "COPY of a table with policies": "COPY watched TO STDOUT",
}


def known(route: Routed) -> Routed:
    """The catalogue has been read."""
    wait_until(lambda: route.explain("SELECT * FROM hidden")["class"] == "write", "views are known")
    return route


def run(route: Routed, user: str, statement: str, others: str) -> None:
    """A write that happens to run on the primary; `others` are who must see it."""
    with route.connect(user=user) as connection, route.connect(user=user) as other:
        route.wait_replica(connection)
        route.wait_replica(other)
        with route.standing_still():
            connection.execute("SET martlet.route = primary")
            if statement.startswith("COPY"):
                with connection.cursor().copy(statement) as copy:
                    assert b"".join(copy)
            else:
                assert connection.execute(statement).fetchone()
            connection.execute("RESET martlet.route")
            for reader in (connection, other) if others == "database" else (connection,):
                assert reader.execute("SELECT n FROM log").fetchall() == [(1,)]


@pytest.mark.parametrize("scope", ["client", "database"])
@pytest.mark.parametrize("kind", HIDDEN)
def test_a_hidden_write_counts(routed: Callable[..., Routed], kind: str, scope: str) -> None:
    route = routed(schema=SCHEMA, read_after_write_scope=scope)
    # Be the catalogue known by now or not.
    run(route, "app", HIDDEN[kind], scope)


@pytest.mark.parametrize("kind", HIDDEN)
def test_replicas_are_not_asked(routed: Callable[..., Routed], kind: str) -> None:
    route = known(routed(schema=SCHEMA))
    with route.connect() as connection:
        if HIDDEN[kind].startswith("COPY"):
            with connection.cursor().copy(HIDDEN[kind]) as copy:
                assert b"".join(copy)
        else:
            assert connection.execute(HIDDEN[kind]).fetchone()
    assert int(route.routes()[RERUNS]) == 0


def test_views_that_only_read(routed: Callable[..., Routed]) -> None:
    route = known(routed(schema=SCHEMA))
    with route.connect() as connection:
        assert route.is_replica(connection, "SELECT * FROM harmless")
        assert route.is_replica(connection, "SELECT kept.n, inet_server_port() FROM kept")
        assert route.is_replica(connection, "WITH hidden AS (SELECT 1) SELECT inet_server_port() FROM hidden")
        assert not route.is_replica(connection, "SELECT * FROM cached")
        assert not route.is_replica(connection, "SELECT last_value, inet_server_port() FROM numbers")
        assert not route.is_replica(connection, "SELECT * FROM backends")
    assert int(route.routes()[RERUNS]) == 0


def test_patterns_of_functions_hold_behind_views(routed: Callable[..., Routed]) -> None:
    route = known(routed(
        schema=SCHEMA + "CREATE FUNCTION volatile_reader() RETURNS int LANGUAGE sql AS 'SELECT inet_server_port()';"
        "CREATE VIEW reader AS SELECT volatile_reader();"
        "CREATE FUNCTION stable_liar() RETURNS int LANGUAGE sql STABLE AS 'SELECT put(1)';"
        "CREATE VIEW liar AS SELECT stable_liar(), inet_server_port()",
        read_functions="volatile_reader", write_functions="stable_liar"))
    with route.connect() as connection:
        assert route.is_replica(connection, "SELECT * FROM reader")
        assert not route.is_replica(connection, "SELECT * FROM liar")
    assert int(route.routes()[RERUNS]) == 0


RELATIONS = """
    CREATE TABLE parts (n int) PARTITION BY LIST (n);
    CREATE TABLE parts_low PARTITION OF parts FOR VALUES IN (1) PARTITION BY LIST (n);
    CREATE UNLOGGED TABLE parts_one PARTITION OF parts_low FOR VALUES IN (1);
    CREATE TABLE elders (n int);
    CREATE UNLOGGED TABLE heirs () INHERITS (elders);
    INSERT INTO parts VALUES (1);
    INSERT INTO heirs VALUES (1);
    CREATE VIEW locking AS SELECT n FROM things FOR UPDATE;
    CREATE VIEW sharing AS SELECT n FROM (SELECT * FROM things FOR SHARE) AS t;
    CREATE MATERIALIZED VIEW blank AS SELECT 1 AS n WITH NO DATA;
    CREATE VIEW "fürs" AS SELECT put(1) AS n;
    CREATE FUNCTION stable_put() RETURNS int LANGUAGE sql STABLE AS 'SELECT put(1)';
"""
FOREIGN = """
    CREATE EXTENSION file_fdw;
    CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
    CREATE FOREIGN TABLE outside (line text) SERVER files OPTIONS (filename '/etc/hostname');
    CREATE TABLE mixed (line text) PARTITION BY LIST (line);
    CREATE FOREIGN TABLE mixed_one PARTITION OF mixed FOR VALUES IN ('a') SERVER files OPTIONS (filename '/etc/hostname');
    ALTER TABLE mixed OWNER TO app;
    ALTER FOREIGN TABLE outside OWNER TO app;
    GRANT USAGE ON FOREIGN SERVER files TO app;
"""


def test_relations_that_only_the_primary_has(routed: Callable[..., Routed]) -> None:
    route = known(routed(schema=SCHEMA + RELATIONS, superuser_schema=FOREIGN))
    classes = {
        text: route.explain(text)["class"] for text in (
            "SELECT n FROM parts", "SELECT n FROM parts_low", "TABLE elders", "SELECT n FROM locking",
            "SELECT n FROM sharing", "SELECT n FROM blank", "SELECT line FROM outside", "SELECT line FROM mixed",
            "SELECT n FROM things")}
    assert list(classes.values()) == ["primary"] * 6 + ["write"] * 2 + ["read"]
    with route.connect() as connection:
        route.wait_replica(connection)
        for text in ("SELECT n FROM parts", "TABLE elders", "SELECT n FROM locking", "SELECT n FROM sharing"):
            assert connection.execute(text).fetchall() == [(1,)]
    assert int(route.routes()[RERUNS]) == 0


@pytest.mark.parametrize("encoding", ["LATIN1", "WIN1252", "UTF8", "SJIS"])
def test_names_in_other_encodings(routed: Callable[..., Routed], encoding: str) -> None:
    """What cannot be compared with the catalogue's names is a write; literals are not looked at."""
    name, literal = ("fürs", "ü") if encoding != "SJIS" else ("表", "表")
    route = known(routed(schema=SCHEMA + RELATIONS + 'CREATE VIEW "表" AS SELECT put(1) AS n;'))
    with route.connect(client_encoding=encoding) as connection:
        route.wait_replica(connection)
        for text in (f'SELECT n FROM "{name}"', f'SELECT count(*) FROM "{name}" WHERE n = 1'):
            with route.standing_still():
                connection.execute(text).fetchall()
                with route.direct() as direct:
                    expected = direct.execute("SELECT count(*) FROM log").fetchone()
                assert connection.execute("SELECT count(*) FROM log").fetchone() == expected
            route.wait_replica(connection)
        assert int(route.routes()[RERUNS]) == 0
        if encoding != "SJIS":
            assert route.is_replica(connection, f"SELECT '{literal}', inet_server_port() FROM things")
        else:
            assert not route.is_replica(connection, f"SELECT '{literal}', inet_server_port() FROM things")


def test_patterns_with_a_schema(routed: Callable[..., Routed]) -> None:
    """`write_functions=public.f` holds for an unqualified `f()`."""
    route = known(routed(schema=SCHEMA + RELATIONS, write_functions="public.stable_put"))
    for call in ("stable_put()", "public.stable_put()"):
        assert route.explain(f"SELECT {call}")["reason"] == "calls stable_put, one of write_functions"
    assert route.explain("SELECT apart.stable_put()")["class"] == "read"


def test_a_view_that_is_new(routed: Callable[..., Routed]) -> None:
    """CREATE VIEW and CREATE RULE are noticed as they pass."""
    route = routed(schema=SCHEMA)
    known(route)
    statement = "SELECT * FROM late"
    with route.connect() as connection:
        assert route.explain(statement)["class"] == "read"
        connection.execute("CREATE VIEW late AS SELECT put(1)")
        assert route.explain(statement)["class"] == "write"
        reason = "reads late, which calls put, which is VOLATILE"
        wait_until(lambda: route.explain(statement)["reason"] == reason, "the view is known", CATALOGUE_READ)
        connection.execute("CREATE OR REPLACE VIEW late AS SELECT 1 AS put")
        wait_until(lambda: route.explain(statement)["class"] == "read", "the view is known to only read", CATALOGUE_READ)
