"""The console of a proxy that routes: SHOW NODES, SHOW ROUTES, EXPLAIN ROUTE; and that all else looks as it does for a
host list of PgBouncer's."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable

import psycopg
import pytest

from common import environment, wait_until
from proxy import Proxy
from rawpg import Connection, query
from routing import WHERE, Routed

pytestmark = [pytest.mark.one_loop, pytest.mark.martlet("routing")]

SCHEMA = "CREATE TABLE notes (n int); CREATE UNLOGGED TABLE scratch (n int)"
TEXT, INT4, INT8 = 25, 23, 20

NODES = {
    "database": TEXT, "host": TEXT, "port": INT4, "addr": TEXT, "role": TEXT, "state": TEXT, "timeline": INT4,
    "lsn": TEXT, "lag_us": INT8, "lag_bytes": INT8, "caught_up": INT8, "weight": INT4, "in_flight": INT4,
    "latency_us": INT8, "error": TEXT}
KEPT = ["own_write", "earlier_read", "lag", "no_replica", "transaction", "statement", "override", "balance"]
ROUTES = {"database": TEXT, "routing": TEXT, "replica_reads": INT8} | {f"primary_{why}": INT8 for why in KEPT} | {
    "writes": INT8, "reruns": INT8, "retries": INT8, "promotions": INT8, "unparsed": INT8, "not_parsed": INT8}


def explain(proxy: Proxy, statement: str, user: str = "admin") -> dict:
    """The line of EXPLAIN ROUTE; the statement may begin with FOR and a database."""
    with proxy.console(user) as console:
        rows = console.execute(f"EXPLAIN ROUTE {statement}".encode()).fetchall()
    assert len(rows) == 1
    return rows[0]


def row(proxy: Proxy, what: str, **keys: str) -> dict:
    """The only line of a SHOW with these values."""
    rows = [row for row in proxy.show(what) if all(row[key] == value for key, value in keys.items())]
    assert len(rows) == 1, f"{len(rows)} lines of {what} with {keys}"
    return rows[0]


# SHOW NODES

@pytest.mark.parametrize("what, columns", [("NODES", NODES), ("ROUTES", ROUTES)])
def test_columns_and_types(routed: Callable[..., Routed], what: str, columns: dict[str, int]) -> None:
    route = routed()
    with Connection(route.proxy.host, route.proxy.port).login(user="stats", database="pgbouncer") as console:
        answer = console.ask(query(f"SHOW {what}"))
    assert answer[0].columns() == list(columns.items())


def test_nodes(routed: Callable[..., Routed]) -> None:
    route = routed(schema=SCHEMA, weights="1,2,5")
    rows = {route.cluster.name_of(row["port"]): row for row in route.proxy.show("NODES")}
    assert list(rows) == list(route.cluster.nodes), "in the order of the file"
    for name, row in rows.items():
        assert (row["database"], row["host"], row["addr"]) == ("app", "127.0.0.1", "127.0.0.1")
        assert (row["state"], row["timeline"], row["in_flight"]) == ("up", rows["primary"]["timeline"], 0)
        assert row["role"] == ("primary" if name == "primary" else "replica")
        high, low = row["lsn"].split("/")
        assert int(high, 16) << 32 | int(low, 16) > 0
    assert [row["weight"] for row in rows.values()] == [1, 2, 5]
    assert rows["primary"]["lag_us"] is None
    assert all(rows[name]["caught_up"] > 0 for name in route.cluster.replicas)


def test_nodes_count_what_is_in_flight(routed: Callable[..., Routed]) -> None:
    route = routed(schema=SCHEMA)
    with route.connect() as writer, route.connect() as reader:
        writer.execute("BEGIN")
        writer.execute("INSERT INTO notes VALUES (1)")
        reader.execute("BEGIN READ ONLY")
        replica = route.where(reader)
        busy = {route.cluster.name_of(row["port"]): row["in_flight"] for row in route.proxy.show("NODES")}
        assert busy == {name: int(name in ("primary", replica)) for name in route.cluster.nodes}
        latency = {route.cluster.name_of(row["port"]): row["latency_us"] for row in route.proxy.show("NODES")}
        assert latency[replica] > 0
    wait_until(lambda: not any(row["in_flight"] for row in route.proxy.show("NODES")), "nothing is in flight")


def test_nodes_tell_of_lag(routed: Callable[..., Routed]) -> None:
    """A replica over the limit stays a replica that is up, and takes no reads."""
    route = routed(schema=SCHEMA, max_replica_lag="1s")
    route.cluster.pause("replica1")

    def late() -> dict:
        with route.connect() as writer:
            writer.execute("INSERT INTO notes VALUES (1)")
        return row(route.proxy, "NODES", port=route.cluster.nodes["replica1"].port)

    last = wait_until(lambda: found if (found := late())["state"] == "lagging" else None, "replica1 lags")
    assert last["role"] == "replica" and last["lag_us"] > 1_000_000 and last["lag_bytes"] > 0
    assert explain(route.proxy, WHERE)["node"] == f"127.0.0.1:{route.cluster.nodes['replica2'].port}"
    route.cluster.pause("replica2")
    answer = wait_until(
        lambda: found if late() and "max_replica_lag" in (found := explain(route.proxy, WHERE))["because"] else None,
        "both lag")
    assert answer["node"] == f"127.0.0.1:{route.cluster.nodes['primary'].port}"


# SHOW ROUTES

def test_routes_count_each_request_once(routed: Callable[..., Routed]) -> None:
    route = routed(schema=SCHEMA, transaction_routing="promote")

    def change(action: Callable[[psycopg.Connection], None]) -> dict[str, int]:
        with route.connect() as connection:
            route.wait_replica(connection)
            before = route.routes()
            action(connection)
            after = route.routes()
        return {name: after[name] - before[name] for name in ROUTES if ROUTES[name] == INT8
                and after[name] != before[name]}

    def run(*texts: str) -> Callable[[psycopg.Connection], None]:
        return lambda connection: [connection.execute(text) for text in texts] and None

    def own_write(connection: psycopg.Connection) -> None:
        with route.standing_still():
            run("INSERT INTO notes VALUES (1)", "SELECT n FROM notes")(connection)

    assert change(run("SELECT 1", "SELECT n FROM notes")) == {"replica_reads": 2}
    assert change(run("INSERT INTO notes VALUES (1)")) == {"primary_statement": 1, "writes": 1}
    assert change(run("SELECT pg_advisory_lock_shared(1)")) == {"primary_statement": 1}
    assert change(run("/* martlet: route=primary */ SELECT 1")) == {"primary_override": 1}
    assert change(run("BEGIN", "SELECT 1", "COMMIT")) == {"replica_reads": 1}
    assert change(run("BEGIN", "SELECT 1", "INSERT INTO notes VALUES (1)", "COMMIT")) == {
        "replica_reads": 1, "promotions": 1, "primary_transaction": 1, "writes": 1}
    assert change(run("SET martlet.route = 'primary'", "SHOW martlet.route", "RESET martlet.route", "BEGIN", "COMMIT")) == {}
    assert change(own_write) == {"primary_statement": 1, "writes": 1, "primary_own_write": 1}
    with pytest.raises(psycopg.errors.SyntaxError):
        change(run("SELEC 1"))
    assert route.routes()["unparsed"] == 1
    assert (route.routes()["reruns"], route.routes()["retries"]) == (0, 0)


def test_routes_of_each_database(routed: Callable[..., Routed]) -> None:
    route = routed(others={"main": {"routing": "primary"}, "copy": {"routing": "replica"}, "plain": {"routing": "off"}})
    for name in ("main", "copy", "plain"):
        with route.connect(name) as connection:
            connection.execute("SELECT 1")
    assert [(row["database"], row["routing"]) for row in route.proxy.show("ROUTES")] == [
        ("app", "split"), ("copy", "replica"), ("main", "primary")]
    assert route.routes("copy")["replica_reads"] == 1
    assert route.routes("main")["replica_reads"] == 0
    assert Counter(row["database"] for row in route.proxy.show("NODES")) == {"app": 3, "copy": 3, "main": 3}


# EXPLAIN ROUTE

def test_explain_route(routed: Callable[..., Routed]) -> None:
    route = routed(schema=SCHEMA)
    ports = {name: f"127.0.0.1:{node.port}" for name, node in route.cluster.nodes.items()}
    before = route.routes()
    wait_until(lambda: explain(route.proxy, "SELECT n FROM scratch")["class"] == "primary", "the catalogue to be read")
    for statement, kind, reason in [
        ("INSERT INTO notes VALUES ($1)", "write", "inserts into notes"),
        ("WITH x AS (DELETE FROM notes RETURNING n) SELECT n FROM x;", "write", "deletes from notes"),
        ("SELECT n FROM notes FOR UPDATE", "primary", "locks rows (FOR UPDATE)"),
        ("SELECT nextval('numbers')", "write", "calls nextval, which changes a sequence"),
        ("SELECT n FROM scratch", "primary", "uses scratch, which is not logged and so empty on replicas"),
        ("SELECT * FROM pg_stat_activity", "primary", "reads pg_stat_activity, which tells about its own node"),
        ("SELECT my_own(1)", "write", "calls my_own, which is not known to be read-only"),
        ("SELEC 1", "write", "is not understood by the parser"),
        ("CREATE TABLE t ()", "write", "is CREATE TABLE, which writes"),
    ]:
        assert explain(route.proxy, statement) == {
            "class": kind, "reason": reason, "node": ports["primary"], "because": "only the primary may run it"}
    for statement in ("SELECT n FROM notes WHERE n = $1", "\n  select 1 -- martlet\n", "VALUES (1);",
                      "/* martlet: route=replica */ INSERT INTO notes VALUES (1)"):
        answer = explain(route.proxy, statement, user="stats")
        assert answer["node"] in (ports["replica1"], ports["replica2"])
        assert answer["because"] == "a replica that is up and near enough"
    assert explain(route.proxy, "/* martlet: route=primary */ SELECT 1") == {
        "class": "read", "reason": "only reads", "node": ports["primary"],
        "because": "the client asked for the primary"}
    for statement in ("BEGIN", "COMMIT", "SET martlet.route = 'primary'"):
        assert explain(route.proxy, statement)["node"] == ""
    assert route.routes() == before, "it is only asked about"


def test_explain_route_of_one_of_several_databases(routed: Callable[..., Routed]) -> None:
    route = routed(others={
        '"all in one"': {"pool_mode": "session"}, "main": {"routing": "primary"}, "plain": {"routing": "off"}})
    primary = f"127.0.0.1:{route.cluster.nodes['primary'].port}"
    assert explain(route.proxy, "FOR app SELECT 1")["node"] != primary
    assert explain(route.proxy, 'FOR "app" SELECT 1')["node"] != primary
    assert explain(route.proxy, "FOR main SELECT 1") == {
        "class": "read", "reason": "only reads", "node": primary, "because": "routing=primary"}
    answer = explain(route.proxy, 'FOR "all in one" SELECT 1')
    assert answer["node"] == primary and "pool_mode=session" in answer["because"]
    for statement, message in [
        ("SELECT 1", "EXPLAIN ROUTE FOR <database> <statement>: one of all in one, app, main"),
        ("FOR plain SELECT 1", 'database "plain" is not routed'),
        ("FOR nosuch SELECT 1", 'database "nosuch" is not routed'),
        ("FOR app", "EXPLAIN ROUTE needs a statement")]:
        with pytest.raises(psycopg.Error) as error:
            explain(route.proxy, statement)
        assert message in str(error.value)


def test_explain_route_without_a_routed_database(proxy: Proxy) -> None:
    with pytest.raises(psycopg.errors.UndefinedObject, match="no database is routed"):
        explain(proxy, "SELECT 1")
    assert proxy.show("NODES") == [] and proxy.show("ROUTES") == []


def test_in_psql(routed: Callable[..., Routed]) -> None:
    """psql takes the answers as tables; a statement may have several lines and a semicolon in a literal."""
    route = routed(schema=SCHEMA)

    def psql(text: str) -> list[str]:
        command = ["psql", "-XqA", "-h", route.proxy.host, "-p", str(route.proxy.port), "-U", "admin", "pgbouncer"]
        result = subprocess.run(command, input=text, capture_output=True, text=True, env=environment(), timeout=30)
        assert result.stderr == "" and result.returncode == 0
        return result.stdout.splitlines()

    nodes = psql("SHOW NODES;\n")
    assert nodes[0].startswith("database|host|port|addr|role|state|") and nodes[-1] == "(3 rows)"
    assert len({line.count("|") for line in nodes[:-1]}) == 1
    assert psql("SHOW ROUTES;\n")[-1] == "(1 row)"
    explained = psql("EXPLAIN ROUTE FOR app\nINSERT INTO notes\nSELECT 1 WHERE 'a;b' <> $$;$$;\n")
    assert explained[1].startswith("write|inserts into notes|127.0.0.1:") and explained[-1] == "(1 row)"


# What PgBouncer shows

def test_a_routed_database_looks_like_a_host_list(routed: Callable[..., Routed]) -> None:
    """Beside each other: a routed database and PgBouncer's host list with the same servers."""
    route = routed(schema=SCHEMA, others={"plain": {"routing": "off"}})
    with route.connect() as one, route.connect("plain") as other:
        one.execute("SELECT 1")
        other.execute("SELECT 1")
        for what, own in [
            ("DATABASES", {"name", "current_connections"}),
            ("POOLS", {"database", "sv_idle", "sv_used"})]:
            name = "name" if what == "DATABASES" else "database"
            found, expected = (row(route.proxy, what, **{name: database}) for database in ("app", "plain"))
            assert list(found) == list(expected)
            assert {key: value for key, value in found.items() if key not in own} == {
                key: value for key, value in expected.items() if key not in own}
        database = row(route.proxy, "DATABASES", name="app")
        assert database["host"] == "127.0.0.1,127.0.0.1,127.0.0.1"
        assert (database["port"], database["load_balance_hosts"]) == (
            route.cluster.nodes["primary"].port, "round-robin")


def test_pools_are_summed_over_the_nodes(routed: Callable[..., Routed]) -> None:
    route = routed(schema=SCHEMA)
    writers = [route.connect() for _ in range(3)]
    readers = [route.connect() for _ in range(2)]
    for writer in writers:
        writer.execute("BEGIN")
        writer.execute("INSERT INTO notes VALUES (1)")
    where = Counter({route.cluster.nodes["primary"].port: 3})
    for reader in readers:
        reader.execute("BEGIN READ ONLY")
        where[route.cluster.nodes[route.where(reader)].port] += 1

    pool = route.proxy.pool("app", "app")
    assert (pool["cl_active"], pool["cl_waiting"], pool["sv_active"]) == (5, 0, 5)
    assert len([row for row in route.proxy.show("POOLS") if row["database"] == "app"]) == 1
    servers = [row for row in route.proxy.show("SERVERS") if row["database"] == "app"]
    assert {(row["type"], row["user"], row["addr"]) for row in servers} == {("S", "app", "127.0.0.1")}
    assert Counter(row["port"] for row in servers if row["state"] == "active") == where
    clients = {row["ptr"]: row for row in route.proxy.show("CLIENTS") if row["database"] == "app"}
    assert len(clients) == 5
    for server in servers:
        if server["state"] == "active":
            assert clients[server["link"]]["link"] == server["ptr"]
    assert sum(pool[name] for name in pool if name.startswith("sv_")) == len(servers)
    assert row(route.proxy, "DATABASES", name="app")["current_connections"] == len(servers)
    lists = {row["list"]: row["items"] for row in route.proxy.show("LISTS")}
    assert lists["used_servers"] + lists["free_servers"] == len(servers)
    assert lists["pools"] == len(route.proxy.show("POOLS"))
    assert lists["databases"] == len(route.proxy.show("DATABASES"))
    for connection in writers + readers:
        connection.close()
    route.proxy.wait_pool(lambda pool: pool["cl_active"] == pool["sv_active"] == 0, "all have left")


def test_clients_that_wait_are_counted(routed: Callable[..., Routed]) -> None:
    """Those that wait for a connection to one node, though other nodes have free ones."""
    route = routed(schema=SCHEMA, pool_size=1)
    with route.connect() as first, route.connect() as reader, Connection(
            route.proxy.host, route.proxy.port).login() as second:
        first.execute("BEGIN")
        first.execute("INSERT INTO notes VALUES (1)")
        second.send(query("INSERT INTO notes VALUES (2)"))
        pool = route.proxy.wait_pool(lambda pool: pool["cl_waiting"] == 1, "one waits")
        assert (pool["cl_active"], pool["sv_active"]) == (2, 1)
        assert route.is_replica(reader)
        first.execute("COMMIT")
        route.proxy.wait_pool(lambda pool: pool["cl_waiting"] == 0, "nobody waits")
        assert second.read_until()[-1].type == "Z"


def test_clients_that_wait_for_a_node_are_counted(routed: Callable[..., Routed]) -> None:
    """Those that no node can serve yet: here a read that waits for a replica to catch up."""
    route = routed(schema=SCHEMA, replica_wait="1min")
    with Connection(route.proxy.host, route.proxy.port).login() as client, route.standing_still():
        client.simple("INSERT INTO notes VALUES (1)")
        client.send(query("SELECT n FROM notes"))
        pool = route.proxy.wait_pool(lambda pool: pool["maxwait"] >= 1, "it waits on")
        assert (pool["cl_waiting"], pool["sv_active"]) == (1, 0)
    route.proxy.wait_pool(lambda pool: pool["cl_waiting"] == 0, "it has left")
