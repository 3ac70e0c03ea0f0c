"""The console: who gets in, how commands are written, and SHOW with the columns and types that scrapers rely on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable

import psycopg
import pytest

from common import Background, as_service_user, environment, wait_until
from proxy import Proxy
from rawpg import SYNC, Connection, bind, execute, parse, query

pytestmark = pytest.mark.one_loop

TEXT, INT4, INT8, NUMERIC = 25, 23, 20, 1700

SOCKET = ("type user database replication state addr port:i local_addr local_port:i connect_time request_time wait:i "
          "wait_us:i close_needed:i ptr link remote_pid:i tls application_name prepared_statements:i id:i")
SOCKET_BUFFERS = " recv_pos:i pkt_pos:i pkt_remain:i send_pos:i send_remain:i pkt_avail:i send_avail:i"
COUNTS = "server_assignment_count xact_count query_count"
TIMES = "xact_time query_time wait_time"
PARSES = "client_parse_count server_parse_count bind_count"


def each(prefix: str, names: str) -> str:
    return " ".join(f"{prefix}{name}:N" for name in names.split())


# name:type, text if no type is given. i = int4, q = int8, N = numeric.
COLUMNS = {
    "POOLS": "database user cl_active:i cl_waiting:i cl_active_cancel_req:i cl_waiting_cancel_req:i sv_active:i "
             "sv_active_cancel:i sv_being_canceled:i sv_idle:i sv_used:i sv_tested:i sv_login:i maxwait:i maxwait_us:i "
             "pool_mode load_balance_hosts",
    "PEER_POOLS": "peer_id:i cl_active_cancel_req:i cl_waiting_cancel_req:i sv_active_cancel:i sv_login:i",
    "CLIENTS": SOCKET,
    "SERVERS": SOCKET,
    "SOCKETS": SOCKET + SOCKET_BUFFERS,
    "ACTIVE_SOCKETS": SOCKET + SOCKET_BUFFERS,
    "STATS": "database " + each("total_", f"{COUNTS} received sent {TIMES} {PARSES}") + " "
             + each("avg_", f"{COUNTS} recv sent {TIMES} {PARSES}"),
    "STATS_TOTALS": "database " + each("", f"{COUNTS} bytes_received bytes_sent {TIMES} {PARSES}"),
    "STATS_AVERAGES": "database " + each("", f"{COUNTS} bytes_received bytes_sent {TIMES}") + " "
                      + each("avg_", PARSES),
    "TOTALS": "name value:N",
    "DATABASES": "name host port:i database force_user pool_size:i min_pool_size:i reserve_pool_size:i "
                 "server_lifetime:i pool_mode load_balance_hosts max_connections:i current_connections:i "
                 "max_client_connections:i current_client_connections:i paused:i disabled:i",
    "USERS": "name pool_size reserve_pool_size pool_mode max_user_connections:i current_connections:i "
             "max_user_client_connections:i current_client_connections:i",
    "LISTS": "list items:i",
    "PEERS": "peer_id:i host port:i pool_size:i",
    "MEM": "name size:i used:i free:i memtotal:i",
    "STATE": "key value",
    "CONFIG": "key value default changeable",
    "VERSION": "version",
    "DNS_HOSTS": "hostname ttl:q addrs",
    "DNS_ZONES": "zonename serial:q count:i",
}
OIDS = {"": TEXT, "i": INT4, "q": INT8, "N": NUMERIC}


def columns(what: str) -> list[tuple[str, int]]:
    return [(name, OIDS[kind]) for name, _, kind in (column.partition(":") for column in COLUMNS[what].split())]


def console(proxy: Proxy, user: str = "admin") -> Connection:
    return Connection(proxy.host, proxy.port).login(user=user, database="pgbouncer")


def used(proxy: Proxy) -> list[Connection]:
    """Clients in every state, so that SHOW has something to show."""
    clients = [Connection(proxy.host, proxy.port).login(application_name=f"client {n}") for n in range(4)]
    clients[0].simple("SELECT 1")
    clients[1].simple("BEGIN")
    clients[2].ask(parse("SELECT 1", "s"), bind("s"), execute(), SYNC)
    return clients


def leave(connections: list[Connection]) -> None:
    for connection in connections:
        connection.socket.close()


def test_columns_and_types(proxy: Proxy) -> None:
    clients = used(proxy)
    different = {}
    with console(proxy) as connection:
        for what in COLUMNS:
            answer = connection.ask(query(f"SHOW {what};"))
            if not (description := next((message for message in answer if message.type == "T"), None)):
                different[what] = [message.fields() for message in answer if message.type == "E"]
                continue
            found, expected = description.columns(), columns(what)
            # client_login_count is in the newest PgBouncer only; columns of Martlet's own may follow at the end.
            found = [column for column in found if "client_login_count" not in column[0]]
            if found[:len(expected)] != expected:
                different[what] = sorted(set(found) ^ set(expected)) or (found, expected)
            if [message.body for message in answer if message.type == "C"] != [b"SHOW\0"]:
                different[what + " tag"] = [message.body for message in answer if message.type == "C"]
    leave(clients)
    assert not different, different


@pytest.mark.parametrize("text", [
    "SHOW VERSION", "show version;", "  SHOW   VERSION  ;  ", "SELECT VERSION", "Show Version", "SHOW \"version\"",
    "/* c */ SHOW VERSION", "SHOW VERSION -- c"])
def test_ways_to_write_a_command(proxy: Proxy, text: str) -> None:
    if not proxy.is_martlet and ("*" in text or "--" in text or '"' in text):
        pytest.skip("Martlet's own: comments and quotes")
    with console(proxy) as connection:
        assert len(connection.simple(text)) == 1


def test_version_is_that_of_the_program(proxy: Proxy) -> None:
    assert proxy.show("VERSION")[0]["version"] == proxy.program.version()


def test_every_row_of_lists_is_a_number(proxy: Proxy) -> None:
    rows = proxy.show("LISTS")
    assert [row["list"] for row in rows] == [
        "databases", "users", "peers", "pools", "peer_pools", "free_clients", "used_clients", "login_clients",
        "free_servers", "used_servers", "dns_names", "dns_zones", "dns_queries", "dns_pending"]
    assert all(isinstance(row["items"], int) for row in rows)


def test_config_has_what_scrapers_need(proxy: Proxy) -> None:
    rows = {row["key"]: row for row in proxy.show("CONFIG")}
    assert rows["max_client_conn"]["value"] == "1000"
    assert rows["max_client_conn"]["default"] == "100"
    assert rows["max_user_connections"]["value"] == "0"
    assert rows["pool_mode"]["value"] == "transaction"
    assert rows["listen_port"]["changeable"] == "no"
    assert rows["default_pool_size"]["changeable"] == "yes"
    assert {"server_reset_query", "query_wait_timeout", "auth_type", "server_tls_sslmode"} <= rows.keys()


def test_clients_and_servers(proxy: Proxy) -> None:
    clients = used(proxy)
    rows = [row for row in proxy.show("CLIENTS") if row["database"] == "app"]
    assert len(rows) == 4
    assert all(row["type"] == "C" and row["user"] == "app" and row["addr"] == "127.0.0.1" for row in rows)
    assert {row["application_name"] for row in rows} == {f"client {n}" for n in range(4)}
    by_name = {row["application_name"]: row for row in rows}
    assert by_name["client 1"]["state"] == "active"
    assert by_name["client 0"]["state"] in ("idle", "active")
    assert by_name["client 2"]["prepared_statements"] == 1
    assert len({row["id"] for row in rows}) == 4
    servers = proxy.show("SERVERS")
    assert all(row["type"] == "S" for row in servers)
    active = [row for row in servers if row["state"] == "active"]
    assert len(active) == 1
    assert active[0]["port"] == proxy.cluster.port
    pid = int(clients[1].simple("SELECT pg_backend_pid()")[0][0])
    assert active[0]["remote_pid"] == pid
    assert by_name["client 1"]["link"] == active[0]["ptr"]
    assert active[0]["link"] == by_name["client 1"]["ptr"]
    assert by_name["client 1"]["connect_time"][:2] == "20"
    leave(clients)


def test_pools_count(proxy: Proxy, database: str) -> None:
    clients = [Connection(proxy.host, proxy.port).login(database=database) for _ in range(12)]
    for client in clients[:10]:
        client.simple("BEGIN")
    for client in clients[10:]:
        client.send(query("SELECT 1"))
    row = proxy.wait_pool(lambda pool: pool["cl_waiting"] == 2, "two wait", database)
    assert (row["cl_active"], row["sv_active"], row["sv_idle"]) == (10, 10, 0)
    assert row["pool_mode"] == "transaction"
    proxy.wait_pool(lambda pool: pool["maxwait"] * 1_000_000 + pool["maxwait_us"] > 200_000, "they wait on", database)
    for client in clients[:10]:
        client.simple("COMMIT")
    row = proxy.wait_pool(lambda pool: pool["cl_waiting"] == 0 and pool["sv_active"] == 0, "all done", database)
    assert row["cl_active"] == 12
    assert row["sv_idle"] + row["sv_used"] == 10
    assert (row["maxwait"], row["maxwait_us"]) == (0, 0)
    leave(clients)


def test_statistics_count(proxy: Proxy, database: str) -> None:
    def totals() -> dict:
        return {row["database"]: row for row in proxy.show("STATS_TOTALS")}.get(database, {})

    simple = [*(["SELECT 1"] * 10), "BEGIN", "SELECT pg_sleep(0.2)", "SELECT repeat('x', 10000)", "COMMIT"]
    prepare = parse("SELECT $1::int", "s") + SYNC
    run = bind("s", values=("1",)) + execute() + bind("s", values=("1",)) + execute() + SYNC
    sent = sum(len(query(text)) for text in simple) + len(prepare) + len(run)
    with Connection(proxy.host, proxy.port).login(database=database) as client:
        client.simple("SELECT 1")
        before = totals()
        for text in simple:
            client.simple(text)
        client.ask(prepare)
        client.ask(run)
        wait_until(lambda: totals()["query_count"] >= before["query_count"] + 15, "it is counted")
        after = totals()
        change = {name: after[name] - before[name] for name in after if name != "database"}
    assert change["xact_count"] in (12, 13)
    assert change["query_count"] in (15, 16)
    assert 200_000 <= change["query_time"] < 2_000_000
    assert 200_000 <= change["xact_time"] < 2_000_000
    assert 10_000 < change["bytes_sent"] < 12_000
    assert sent * 0.9 < change["bytes_received"] < sent * 1.1
    assert change["client_parse_count"] == 1 and change["server_parse_count"] == 1 and change["bind_count"] == 2


def test_databases_and_users(start_proxy: Callable[..., Proxy]) -> None:
    proxy = start_proxy(run=False, users={"trust_user": "pool_size=3 pool_mode=session max_user_connections=7"})
    proxy.databases = {
        "one": proxy.server(dbname="app", pool_size=3, reserve_pool_size=2, max_db_connections=9, pool_mode="session"),
        "two": proxy.server(dbname="app2", user="app"), "*": proxy.server()}
    proxy.start()
    with proxy.connect("one"):
        rows = {row["name"]: row for row in proxy.show("DATABASES")}
        assert rows["one"]["database"] == "app"
        assert rows["one"]["host"] == "127.0.0.1"
        assert rows["one"]["port"] == proxy.cluster.port
        assert (rows["one"]["pool_size"], rows["one"]["reserve_pool_size"], rows["one"]["max_connections"]) == (3, 2, 9)
        assert rows["one"]["pool_mode"] == "session"
        assert rows["one"]["current_client_connections"] == 1
        assert rows["two"]["force_user"] == "app"
        assert (rows["two"]["paused"], rows["two"]["disabled"]) == (0, 0)
        users = {row["name"]: row for row in proxy.show("USERS")}
        assert users["trust_user"]["pool_mode"] == "session"
        assert users["trust_user"]["max_user_connections"] == 7
        assert users["app"]["current_client_connections"] == 1


def test_help_is_a_notice(proxy: Proxy) -> None:
    with console(proxy) as connection:
        answer = connection.ask(query("SHOW HELP"))
        assert [message.type for message in answer] == ["N", "C", "Z"]
        assert "SHUTDOWN" in answer[0].text + answer[0].fields().get("D", "")


@pytest.mark.parametrize("text", [
    "SHOW NOSUCH", "NOSUCH", "PAUSE nosuch_db_, x", "KILL_CLIENT", "KILL_CLIENT xyz", "KILL_CLIENT 99999999",
    "SET nosuch = 1", "SET default_pool_size = -5", "SET pool_mode = nosuch", "SET listen_port = 5", "SELECT 1 + 1",
    "INSERT INTO t VALUES (1)", "DISABLE", "SHOW", "PAUSE 'unfinished"])
def test_errors_leave_the_console_open(proxy: Proxy, text: str) -> None:
    if not proxy.is_martlet and text == "SET listen_port = 5":
        pytest.skip("Martlet's own: PgBouncer ignores it silently")
    with console(proxy) as connection:
        answer = connection.ask(query(text))
        error = next(message for message in answer if message.type == "E")
        assert error.fields()["S"] == "ERROR"
        assert answer[-1].type == "Z"
        assert len(connection.simple("SHOW VERSION")) == 1


def test_empty_query_on_the_console(proxy: Proxy) -> None:
    with console(proxy) as connection:
        for text in ("", ";", "  "):
            assert connection.ask(query(text))[-1].type == "Z"


def test_extended_protocol_is_refused(proxy: Proxy) -> None:
    with console(proxy) as connection:
        connection.send(parse("SHOW VERSION"), bind(), execute(), SYNC)
        errors = [message for message in connection.read_all() if message.type == "E"]
        assert "extended query protocol not supported by admin console" in errors[0].text


def test_drivers_greetings(proxy: Proxy) -> None:
    """What drivers set or ask on their own is answered."""
    with console(proxy) as connection:
        assert connection.parameters["server_version"].endswith("/bouncer")
        assert connection.parameters["client_encoding"] == "UTF8"
        assert connection.parameters["standard_conforming_strings"] == "on"
        for text in ("SET client_encoding TO 'UTF8'", "SET extra_float_digits = 3", "SHOW client_encoding",
                     "SHOW standard_conforming_strings", "SHOW default_transaction_isolation", "SHOW timezone",
                     "SHOW datestyle"):
            answer = connection.ask(query(text))
            assert not [message.fields() for message in answer if message.type == "E"], text
    with Connection(proxy.host, proxy.port) as connection:
        connection.login(user="admin", database="pgbouncer", extra_float_digits="2")


def test_who_may_do_what(proxy: Proxy) -> None:
    with console(proxy, "stats") as connection:
        assert len(connection.simple("SHOW VERSION")) == 1
        for what in COLUMNS:
            assert connection.ask(query(f"SHOW {what}"))[-1].type == "Z"
        for text in ("RELOAD", "PAUSE", "RESUME", "SHUTDOWN", "KILL app", "SET default_pool_size = 3", "DISABLE app",
                     "RECONNECT", "KILL_CLIENT 1", "SHUTDOWN WAIT_FOR_CLIENTS", "WAIT_CLOSE", "ENABLE app"):
            answer = connection.ask(query(text))
            assert "admin access needed" in next(message.text for message in answer if message.type == "E")
    for user in ("app", "nobody", "postgres"):
        with pytest.raises(AssertionError, match="login failed"), console(proxy, user):
            pass


def test_pgbouncer_user_over_the_unix_socket(proxy: Proxy) -> None:
    """The user pgbouncer with the proxy's own uid is admin without a password; nobody else is."""
    command = ["psql", "-XAtq", "-h", str(proxy.directory), "-p", str(proxy.port), "-U", "pgbouncer", "-c",
               "SHOW VERSION", "pgbouncer"]
    result = subprocess.run(as_service_user(command), capture_output=True, text=True, env=environment(), cwd="/")
    assert result.returncode == 0, result.stderr
    if os.geteuid() == 0:
        assert subprocess.run(command, capture_output=True, env=environment()).returncode != 0
    over_tcp = [*command[:3], proxy.host, *command[4:]]
    assert subprocess.run(over_tcp, capture_output=True, env=environment()).returncode != 0


def test_unix_socket_asks_for_the_password_of_admins(start_proxy: Callable[..., Proxy]) -> None:
    proxy = start_proxy(settings={"auth_type": "scram-sha-256"})
    with pytest.raises(psycopg.OperationalError), proxy.console():
        pass
    with proxy.console(password="admin-secret") as connection:
        assert connection.execute("SHOW VERSION").fetchall()


def test_consoles_at_once(proxy: Proxy, database: str) -> None:
    """Scrapers beside load: nothing is mixed up and the figures stay sane."""

    def load() -> None:
        with proxy.connect(database) as connection:
            for number in range(150):
                assert connection.execute("SELECT %s::int", (number,)).fetchone() == (number,)

    def scrape() -> None:
        for _ in range(5):
            for what in COLUMNS:
                for row in proxy.show(what):
                    assert all(not isinstance(value, int) or value >= 0 for value in row.values()), (what, row)

    for background in [Background(load) for _ in range(8)] + [Background(scrape) for _ in range(3)]:
        background.result(60)


# The console among the databases

def test_console_counts_as_a_database(proxy: Proxy) -> None:
    """Its logins and commands are in SHOW STATS, its clients among those of their users."""
    def counters() -> dict[str, object]:
        return next(row for row in proxy.show("STATS") if row["database"] == "pgbouncer")

    before = counters()
    after = counters()
    assert after["total_query_count"] - before["total_query_count"] == 1
    assert after["total_xact_count"] - before["total_xact_count"] == 1
    if proxy.is_martlet:
        assert after["total_client_login_count"] - before["total_client_login_count"] == 1

    def clients(name: str) -> int:
        return next(row["current_client_connections"] for row in proxy.show("USERS") if row["name"] == name)

    if proxy.is_martlet:
        assert (clients("admin"), clients("stats")) == (1, 0)
        with proxy.console("stats"), proxy.console(), proxy.console():
            wait_until(lambda: (clients("admin"), clients("stats")) == (3, 1), "they are counted")
        wait_until(lambda: (clients("admin"), clients("stats")) == (1, 0), "they are gone")


@pytest.mark.martlet("PgBouncer 1.18 lacks the limits")
@pytest.mark.parametrize("limit", ["max_user_client_connections", "max_db_client_connections"])
def test_limits_hold_on_the_console(start_proxy: Callable[..., Proxy], limit: str) -> None:
    """Except for those who may put things right."""
    proxy = start_proxy(settings={limit: 2})
    with proxy.console("stats"), proxy.console("stats"):
        with pytest.raises(psycopg.OperationalError, match=rf"client connections exceeded \({limit}\)"):
            proxy.connect("pgbouncer", "stats")
        with proxy.console(), proxy.console(), proxy.console() as last:
            assert last.execute("SHOW VERSION").fetchone()
    wait_until(lambda: len(proxy.show("CLIENTS")) == 1, "they are gone")
    with proxy.console("stats") as again:
        assert again.execute("SHOW VERSION").fetchone()
