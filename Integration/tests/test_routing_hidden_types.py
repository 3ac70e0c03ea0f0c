"""Writes that stand behind types, default arguments, policies and the like: the statement shows nothing of them at all.

All of them in one database, so that each is found among the others.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from common import wait_until
from routing import RERUNS, Routed

pytestmark = [pytest.mark.one_loop, pytest.mark.martlet("routing")]

SCHEMA = """
    CREATE TABLE log (what text);
    CREATE TABLE things (n int, t text, p point, j json);
    INSERT INTO things SELECT n, n::text, point(n, n), '1' FROM generate_series(1, 3) n;
    CREATE FUNCTION put(what text) RETURNS bool LANGUAGE sql AS 'INSERT INTO log VALUES (what) RETURNING true';

    -- Domains.
    CREATE DOMAIN small AS int CHECK (put('small'));
    CREATE DOMAIN smaller AS small CHECK (VALUE < 10);
    CREATE TYPE two AS (a int, b smaller);
    CREATE TABLE boxes (id int, a small, more smaller[]);
    INSERT INTO boxes VALUES (1, 1, '{1,2}');
    CREATE TABLE counted (n smaller);
    INSERT INTO counted VALUES (1);
    CREATE VIEW casting AS SELECT n::smaller AS n FROM things;
    CREATE VIEW building AS SELECT ROW(n, n)::two AS n FROM things;
    CREATE VIEW casting_arrays AS SELECT ARRAY[n]::small[] AS n FROM things;
    CREATE VIEW populating AS SELECT jsonb_populate_record(NULL::two, '{"b": 1}') AS n;
    CREATE FUNCTION takes(small) RETURNS int LANGUAGE sql STABLE AS 'SELECT $1 + 1';
    CREATE FUNCTION gives(int) RETURNS smaller LANGUAGE plpgsql STABLE AS 'BEGIN RETURN $1; END';
    CREATE FUNCTION small_plus(int, small) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + $2';
    CREATE OPERATOR ~*~ (LEFTARG = int, RIGHTARG = small, FUNCTION = small_plus);
    CREATE FUNCTION same(anyelement, anyelement) RETURNS anyelement LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $2; END';
    CREATE VIEW taking AS SELECT takes(n) AS n FROM things;

    -- Casts.
    CREATE TYPE pair AS (n int);
    CREATE TABLE pairs (p pair);
    INSERT INTO pairs VALUES (ROW(1));
    CREATE FUNCTION pair_text(pair) RETURNS text LANGUAGE sql AS $$ SELECT CASE WHEN put('pair') THEN 'x' END $$;
    CREATE CAST (pair AS text) WITH FUNCTION pair_text(pair) AS IMPLICIT;
    CREATE FUNCTION point_int(point) RETURNS int LANGUAGE sql AS $$ SELECT CASE WHEN put('point') THEN 1 END $$;

    -- Arguments that nobody writes, and bodies that PostgreSQL itself reads.
    CREATE FUNCTION defaults(n int, b bool DEFAULT put('default')) RETURNS int LANGUAGE sql STABLE AS
        'SELECT CASE WHEN b THEN n END';
    CREATE VIEW defaulting AS SELECT defaults(n) AS n FROM things;
    CREATE FUNCTION body() RETURNS bool LANGUAGE sql STABLE BEGIN ATOMIC SELECT put('body'); END;
    CREATE FUNCTION outer_body() RETURNS bool LANGUAGE sql STABLE BEGIN ATOMIC SELECT body(); END;
    CREATE AGGREGATE collected (int) (SFUNC = int4pl, STYPE = int, INITCOND = '0');
    CREATE FUNCTION plus(int, int) RETURNS int LANGUAGE sql AS $$ SELECT $1 + $2 WHERE put('aggregate') $$;
    CREATE AGGREGATE written (int) (SFUNC = plus, STYPE = int, INITCOND = '0');

    -- Comparisons.
    CREATE TYPE colour AS (r int);
    CREATE FUNCTION colour_lt(colour, colour) RETURNS bool LANGUAGE sql AS 'SELECT ($1).r < ($2).r';
    CREATE FUNCTION colour_le(colour, colour) RETURNS bool LANGUAGE sql AS 'SELECT ($1).r <= ($2).r';
    CREATE FUNCTION colour_eq(colour, colour) RETURNS bool LANGUAGE sql AS 'SELECT ($1).r = ($2).r';
    CREATE FUNCTION colour_ge(colour, colour) RETURNS bool LANGUAGE sql AS 'SELECT ($1).r >= ($2).r';
    CREATE FUNCTION colour_gt(colour, colour) RETURNS bool LANGUAGE sql AS 'SELECT ($1).r > ($2).r';
    CREATE FUNCTION colour_cmp(colour, colour) RETURNS int LANGUAGE sql AS
        $$ SELECT CASE WHEN put('compare') THEN ($1).r - ($2).r END $$;
    CREATE OPERATOR < (LEFTARG = colour, RIGHTARG = colour, FUNCTION = colour_lt);
    CREATE OPERATOR <= (LEFTARG = colour, RIGHTARG = colour, FUNCTION = colour_le);
    CREATE OPERATOR = (LEFTARG = colour, RIGHTARG = colour, FUNCTION = colour_eq, HASHES, MERGES);
    CREATE OPERATOR >= (LEFTARG = colour, RIGHTARG = colour, FUNCTION = colour_ge);
    CREATE OPERATOR > (LEFTARG = colour, RIGHTARG = colour, FUNCTION = colour_gt);
    ALTER FUNCTION colour_lt IMMUTABLE; ALTER FUNCTION colour_le IMMUTABLE; ALTER FUNCTION colour_eq IMMUTABLE;
    ALTER FUNCTION colour_ge IMMUTABLE; ALTER FUNCTION colour_gt IMMUTABLE;
    CREATE TABLE paints (c colour, n int);
    INSERT INTO paints SELECT ROW(n % 3)::colour, n FROM generate_series(1, 9) n;
    CREATE FUNCTION favourite(int) RETURNS colour LANGUAGE sql IMMUTABLE AS 'SELECT ROW($1)::colour';

    -- Policies.
    CREATE FUNCTION allowed(small) RETURNS bool LANGUAGE sql STABLE AS 'SELECT $1 > 0';
    CREATE TABLE watched (n int);
    INSERT INTO watched VALUES (1);
    ALTER TABLE watched ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
    CREATE POLICY watching ON watched USING (n::smaller > 0);
    CREATE TABLE guarded (n int);
    INSERT INTO guarded VALUES (1);
    ALTER TABLE guarded ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
    CREATE POLICY reading ON guarded FOR SELECT USING (true);
    CREATE POLICY locking ON guarded FOR UPDATE USING (put('lock'));
    CREATE TABLE admitted (n int);
    INSERT INTO admitted VALUES (1);
    ALTER TABLE admitted ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
    CREATE POLICY admitting ON admitted FOR SELECT USING (allowed(n));
    CREATE VIEW watching AS SELECT count(*) AS n FROM watched;

    -- Names of PostgreSQL's own.
    CREATE SCHEMA shadow;
    CREATE FUNCTION shadow.lower(text) RETURNS text LANGUAGE sql AS $$ SELECT CASE WHEN put('lower') THEN $1 END $$;
    CREATE FUNCTION shadow.add(int, int) RETURNS int LANGUAGE sql AS $$ SELECT CASE WHEN put('+') THEN $1 END $$;
    CREATE OPERATOR shadow.+ (LEFTARG = int, RIGHTARG = int, FUNCTION = shadow.add);
    CREATE VIEW shadow.pg_locks AS SELECT put('pg_locks') AS n;
"""

# Only a superuser may do so.
SUPERUSER_SCHEMA = """
    CREATE CAST (point AS int) WITH FUNCTION point_int(point);
    CREATE OPERATOR CLASS colours DEFAULT FOR TYPE colour USING btree AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =,
        OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 colour_cmp(colour, colour);
    CREATE VIEW sorted AS SELECT c FROM paints ORDER BY c;
    ALTER VIEW sorted OWNER TO app;
"""

HIDDEN = {
    "domain over domain": "SELECT 1::smaller",
    "domain in an array": "SELECT ARRAY[1]::small[]",
    "domain's array by its other name": "SELECT '{1}'::_small",
    "domain by a call": "SELECT small('1')",
    "domain in a composite type": "SELECT ROW(1, 1)::two",
    "domain in a row": "SELECT ROW(1, 1, '{1}')::boxes",
    "record of a type": "SELECT jsonb_populate_record(NULL::two, '{\"b\": 1}')",
    "record of a row": "SELECT json_populate_record(b, '{\"a\": 1}') FROM boxes b",
    "columns of a function": "SELECT * FROM json_to_record('{\"a\": 1}') AS r (a small)",
    "columns of XML": "SELECT * FROM XMLTABLE('/r' PASSING xml '<r>1</r>' COLUMNS n small PATH '.')",
    "a literal as an argument's twin": "SELECT same(a, '2') FROM boxes",
    "a literal behind the last row": "SELECT lag(a, 1, '2') OVER () FROM boxes",
    "a literal in an array": "SELECT array_append(more, '2') FROM boxes",
    "view with a domain": "SELECT n FROM casting",
    "view with a composite type": "SELECT n FROM building",
    "view with an array of a domain": "SELECT n FROM casting_arrays",
    "view with a record of a type": "SELECT n FROM populating",
    "domain as an argument": "SELECT takes(1)",
    "operator with a domain": "SELECT 1 ~*~ 2",
    "domain as a result": "SELECT gives(1)",
    "view with a domain as an argument": "SELECT n FROM taking",
    "cast to a built-in type": "SELECT p::text FROM pairs",
    "implicit cast": "SELECT lower(p) FROM pairs",
    "implicit cast of a row": "SELECT repeat(ROW(1)::pair, 2)",
    "cast of a built-in type": "SELECT p::int FROM things",
    "CAST of a built-in type": "SELECT CAST(point(1, 1) AS integer)",
    "default argument": "SELECT defaults(1)",
    "view with a default argument": "SELECT n FROM defaulting",
    "body in SQL": "SELECT body()",
    "body in a body": "SELECT outer_body()",
    "aggregate": "SELECT written(n) FROM things",
    "window": "SELECT written(n) OVER (ORDER BY n) FROM things",
    "ORDER BY": "SELECT n FROM paints ORDER BY c",
    "DISTINCT": "SELECT DISTINCT c FROM paints",
    "GROUP BY": "SELECT c, count(*) FROM paints GROUP BY c",
    "UNION": "SELECT c FROM paints UNION SELECT c FROM paints",
    "PARTITION BY": "SELECT row_number() OVER (PARTITION BY c) FROM paints",
    "greatest": "SELECT greatest(c, ROW(1)::colour) FROM paints",
    "comparison of arrays": "SELECT ARRAY[favourite(1)] < ARRAY[favourite(2)]",
    "results of a function": "SELECT DISTINCT favourite(n) FROM things",
    "ORDER BY in a view": "SELECT c FROM sorted",
    "policy with a domain": "SELECT n FROM watched",
    "policy with a function of a domain": "SELECT n FROM admitted",
    "view of a table with a policy": "SELECT n FROM watching",
    "policy for FOR UPDATE": "SELECT n FROM guarded FOR UPDATE",
    "function of a built-in's name": "SELECT lower('A')",
    "operator of a built-in's name": "SELECT n + 1 FROM things",
    "view of a built-in's name": "SELECT n FROM pg_locks",
}

READS = (
    "SELECT n FROM counted ORDER BY n", "SELECT t, j FROM things ORDER BY n", "SELECT collected(n) FROM things",
    "SELECT max(n) - 1, upper('a') FROM things WHERE n > 1")


def known(route: Routed) -> Routed:
    wait_until(lambda: route.explain("SELECT small('1')")["class"] == "write", "the catalogue is known")
    return route


def search_path(kind: str) -> str:
    return "shadow, pg_catalog, public" if "of a built-in's name" in kind else "public"


def test_hidden_writes_are_known(routed: Callable[..., Routed]) -> None:
    """No replica is asked, and a write that stays on the primary for another reason counts as one."""
    route = known(routed(schema=SCHEMA, superuser_schema=SUPERUSER_SCHEMA, max_db_connections=2))
    classes = {kind: (route.explain(statement)["class"], route.explain(statement)["reason"])
               for kind, statement in HIDDEN.items()}
    assert {kind: found for kind, found in classes.items() if found[0] != "write"} == {}
    stale, harmless = [], []
    for kind, statement in HIDDEN.items():
        with route.connect(options=f"-c search_path={search_path(kind).replace(' ', '')}") as connection:
            route.wait_replica(connection)
            with route.direct() as direct:
                before = direct.execute("SELECT count(*) FROM log").fetchone()
            with route.standing_still():
                connection.execute(statement).fetchall()
                with route.direct() as direct:
                    after = direct.execute("SELECT count(*) FROM log").fetchone()
                if after == before:
                    harmless.append(kind)
                if connection.execute("SELECT count(*) FROM public.log").fetchone() != after:
                    stale.append(kind)
    assert not harmless, f"nothing was written, so they are no examples: {harmless}"
    assert not stale, f"{stale}"
    assert int(route.routes()[RERUNS]) == 0


def test_reads_beside_them(routed: Callable[..., Routed]) -> None:
    """Columns of such a domain are read like others, as long as nothing makes a value of it."""
    route = known(routed(schema=SCHEMA.partition("-- Names of")[0], superuser_schema=SUPERUSER_SCHEMA))
    assert {text: route.explain(text)["class"] for text in READS} == dict.fromkeys(READS, "read")
    with route.connect() as connection:
        route.wait_replica(connection)
        for text in READS:
            before = int(route.routes()["replica_reads"])
            connection.execute(text).fetchall()
            assert int(route.routes()["replica_reads"]) == before + 1, text
    assert int(route.routes()[RERUNS]) == 0


def test_functions_that_are_named_as_reading(routed: Callable[..., Routed]) -> None:
    """`read_functions` holds wherever the function stands."""
    route = known(routed(
        schema=SCHEMA.partition("-- Names of")[0], superuser_schema=SUPERUSER_SCHEMA,
        read_functions="colour_cmp,put,written,pair_text,point_int"))
    # But for a domain called by its name, which the catalogue does not have among the functions.
    statements = [text for kind, text in HIDDEN.items() if kind != "domain by a call" and "of a built-in's name" not in kind
                  and "FOR UPDATE" not in kind]
    classes = {text: route.explain(text) for text in statements}
    assert {text: found["reason"] for text, found in classes.items() if found["class"] == "write"} == {}
