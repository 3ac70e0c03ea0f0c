"""A client's settings follow it from server to server, and no other client ever sees them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import psycopg
import pytest

from cluster import Cluster
from common import Background, environment
from proxy import Proxy
from rawpg import SYNC, Closed, Connection, bind, execute, parse, query

pytestmark = pytest.mark.one_loop

FOLLOWS = "Martlet accepts every valid startup parameter; PgBouncer ignores what it does not track"


def login(proxy: Proxy, database: str = "app", **parameters: str) -> Connection:
    return Connection(proxy.host, proxy.port).login(database=database, **parameters)


def value(connection: Connection, name: str) -> str:
    return connection.simple(f"SHOW {name}")[0][0].decode()


@pytest.mark.parametrize("name,one,two", [
    ("application_name", "first", "second"),
    ("application_name", "it's \\ \"odd\"; SELECT 1 --", "x" * 60),
    ("DateStyle", "German, DMY", "SQL, MDY"),
    ("TimeZone", "Asia/Tokyo", "America/New_York"),
    ("IntervalStyle", "iso_8601", "sql_standard"),
    ("client_encoding", "LATIN1", "UTF8"),
    ("standard_conforming_strings", "off", "on"),
])
def test_startup_parameters_follow(
        start_proxy: Callable[..., Proxy], database: str, name: str, one: str, two: str) -> None:
    proxy = start_proxy(settings={"default_pool_size": 1})
    with login(proxy, database, **{name: one}) as first, login(proxy, database, **{name: two}) as second, \
            login(proxy, database) as plain:
        default = value(plain, name)
        for _ in range(3):
            assert value(first, name) == one
            assert value(second, name) == two
            assert value(plain, name) == default
        assert first.parameters[name] == one
        assert second.parameters[name] == two
        assert default not in (one, two) or name in ("client_encoding", "standard_conforming_strings")


@pytest.mark.martlet(FOLLOWS)
@pytest.mark.parametrize("name,one,two", [
    ("extra_float_digits", "3", "0"),
    ("statement_timeout", "12345ms", "54321ms"),
    ("search_path", "one, public", "\"$user\", two"),
    ("work_mem", "5MB", "6MB"),
    ("lock_timeout", "7s", "8s"),
    ("default_transaction_isolation", "serializable", "repeatable read"),
    ("bytea_output", "escape", "hex"),
    ("my.own_setting", "a 'quoted' \\ one", "\u2603"),
])
def test_untracked_startup_parameters_follow(
        start_proxy: Callable[..., Proxy], database: str, name: str, one: str, two: str) -> None:
    proxy = start_proxy(settings={"default_pool_size": 1})
    with login(proxy, database, **{name: one}) as first, login(proxy, database, **{name: two}) as second, \
            login(proxy, database) as plain:
        def shown(connection: Connection) -> str:
            return connection.simple(f"SELECT coalesce(current_setting('{name}', true), '')")[0][0].decode()

        default = shown(plain)
        for _ in range(3):
            assert shown(first) == one
            assert shown(second) == two
            assert shown(plain) == default


@pytest.mark.martlet(FOLLOWS)
def test_options(start_proxy: Callable[..., Proxy], database: str) -> None:
    proxy = start_proxy(settings={"default_pool_size": 1})
    options = "-c statement_timeout=1234 --application_name=odd\\ \\\\name -c work_mem=5MB -c search_path=one,two"
    with login(proxy, database, options=options) as one, login(proxy, database) as two:
        for _ in range(2):
            assert value(one, "statement_timeout") == "1234ms"
            assert value(one, "search_path") == "one,two"
            assert value(one, "application_name") == "odd \\name"
            assert value(one, "work_mem") == "5MB"
            assert value(two, "statement_timeout") == "0"
            assert value(two, "work_mem") == "4MB"


@pytest.mark.parametrize("options", ["-c=", "-c =", "-c", "--", "--=x", "-c x", "-Z", "-c work_mem", "\\", "-c \\"])
def test_bad_options(start_proxy: Callable[..., Proxy], options: str) -> None:
    """An error or none, but an answer, and the proxy lives on."""
    proxy = start_proxy()
    with Connection(proxy.host, proxy.port, timeout=5) as connection:
        try:
            connection.login(options=options)
        except AssertionError as error:
            assert "login failed" in str(error)
    with proxy.connect() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("name,wrong", [("TimeZone", "No/Where"), ("client_encoding", "nosuch"), ("DateStyle", "odd")])
def test_wrong_value(start_proxy: Callable[..., Proxy], database: str, name: str, wrong: str) -> None:
    """It is that client's error; the server connection stays good for the others."""
    proxy = start_proxy(settings={"default_pool_size": 1, "query_wait_timeout": 5})
    with login(proxy, database) as other:
        other.simple("SELECT 1")
        with Connection(proxy.host, proxy.port, timeout=8) as connection:
            try:
                connection.login(database=database, **{name: wrong})
            except AssertionError as error:
                assert "login failed" in str(error)
            else:
                connection.send(query("SELECT 1"))
                try:
                    connection.read_until("Z")
                except Closed:
                    pass
        assert other.simple("SELECT 1") == [[b"1"]]


@pytest.mark.parametrize("name,mine", [
    ("TimeZone", "Asia/Tokyo"), ("DateStyle", "German, DMY"), ("application_name", "mine")])
def test_set_follows(start_proxy: Callable[..., Proxy], database: str, name: str, mine: str) -> None:
    """SET of what the server reports is noticed and kept for that client."""
    proxy = start_proxy(settings={"default_pool_size": 1})
    with login(proxy, database) as one, login(proxy, database) as two:
        default = value(two, name)
        one.simple(f"SET {name} = '{mine}'" if name != "DateStyle" else f"SET {name} = {mine}")
        for _ in range(3):
            assert value(two, name) == default
            assert value(one, name) == mine
        one.simple(f"RESET {name}")
        assert value(one, name) == default
        assert value(two, name) == default


def test_set_in_a_transaction_that_is_rolled_back(start_proxy: Callable[..., Proxy], database: str) -> None:
    proxy = start_proxy(settings={"default_pool_size": 1})
    with login(proxy, database) as one, login(proxy, database) as two:
        default = value(one, "TimeZone")
        for ending, expected in (("ROLLBACK", default), ("COMMIT", "Asia/Tokyo")):
            one.simple("BEGIN")
            one.simple("SET TimeZone = 'Asia/Tokyo'")
            one.simple(ending)
            assert value(two, "TimeZone") == default
            assert value(one, "TimeZone") == expected
        one.simple("BEGIN; SET LOCAL TimeZone = 'Europe/Rome'; COMMIT")
        assert value(one, "TimeZone") == "Asia/Tokyo"


def test_set_local_ends_with_the_transaction(start_proxy: Callable[..., Proxy], database: str) -> None:
    proxy = start_proxy(settings={"default_pool_size": 1})
    with login(proxy, database, TimeZone="Asia/Tokyo") as one, login(proxy, database) as two:
        for _ in range(3):
            one.simple("BEGIN")
            one.simple("SET LOCAL TimeZone = 'Europe/Rome'")
            assert value(one, "TimeZone") == "Europe/Rome"
            one.simple("COMMIT")
            assert value(two, "TimeZone") != "Europe/Rome"
            assert value(one, "TimeZone") == "Asia/Tokyo"


def test_encodings_side_by_side(start_proxy: Callable[..., Proxy], database: str) -> None:
    proxy = start_proxy(settings={"default_pool_size": 1})
    with login(proxy, database, client_encoding="LATIN1") as latin, \
            login(proxy, database, client_encoding="UTF8") as utf8:
        for _ in range(3):
            assert latin.simple("SELECT U&'\\00e4'") == [[b"\xe4"]]
            assert utf8.simple("SELECT U&'\\00e4'") == [[b"\xc3\xa4"]]
            assert latin.simple(b"SELECT length('\xe4\xf6'::text)".decode("latin1").encode("latin1")) == [[b"2"]]


def test_welcome_is_the_server_s(proxy: Proxy, cluster: Cluster) -> None:
    """A client sees the same parameters as from the server itself (and perhaps more)."""
    with login(proxy) as through, Connection(cluster.host, cluster.port).login() as direct:
        through.simple("SELECT 1")
        for name, expected in direct.parameters.items():
            if name not in ("application_name",):
                assert through.parameters.get(name) == expected, name


def test_parameter_status_comes_to_who_set_it(start_proxy: Callable[..., Proxy], database: str) -> None:
    """And not to the next client of that server, who gets his own setting back silently."""
    proxy = start_proxy(settings={"default_pool_size": 1})
    with login(proxy, database) as one, login(proxy, database) as two:
        two.simple("SELECT 1")
        one.simple("SET TimeZone = 'Asia/Tokyo'")
        assert one.parameters["TimeZone"] == "Asia/Tokyo"
        before = two.parameters["TimeZone"]
        assert value(two, "TimeZone") == before
        assert two.parameters["TimeZone"] == before


def test_settings_at_random(start_proxy: Callable[..., Proxy], database: str) -> None:
    """Many clients with settings of their own over few servers, in all protocols at once."""
    proxy = start_proxy(settings={"default_pool_size": 2})
    zones = ["UTC", "Asia/Tokyo", "Europe/Rome", "America/New_York"]

    def one(number: int) -> None:
        zone = zones[number % 4]
        with login(proxy, database, TimeZone=zone, application_name=f"app{number}") as client:
            for _ in range(60):
                answer = client.ask(
                    parse("SELECT current_setting('TimeZone'), current_setting('application_name')"), bind(), execute(),
                    SYNC)
                row = next(each.values() for each in answer if each.type == "D")
                assert row == [zone.encode(), f"app{number}".encode()]
                if number % 5 == 0:
                    zone = zones[(zones.index(zone) + 1) % 4]
                    client.simple(f"SET TimeZone = '{zone}'")

    for each in [Background(one, number) for number in range(16)]:
        each.result(60)


def test_application_name_add_host(start_proxy: Callable[..., Proxy], cluster: Cluster, database: str) -> None:
    proxy = start_proxy(settings={"application_name_add_host": 1})
    with login(proxy, database, application_name="mine") as client:
        shown = value(client, "application_name")
        assert shown.startswith("mine - 127.0.0.1:")


def test_settings_of_a_database(start_proxy: Callable[..., Proxy], database: str) -> None:
    """timezone=, datestyle= and application_name= of [databases] hold where the client says nothing."""
    proxy = start_proxy(run=False, settings={"default_pool_size": 1})
    proxy.databases = {database: proxy.server(timezone="Asia/Tokyo", application_name="from_ini")}
    proxy.start()
    with login(proxy, database) as client:
        assert value(client, "TimeZone") == "Asia/Tokyo"
        assert value(client, "application_name") == "from_ini"


def test_psql_with_pgoptions(start_proxy: Callable[..., Proxy], database: str) -> None:
    """PGOPTIONS of the environment must not keep anybody out."""
    proxy = start_proxy()
    result = subprocess.run(
        ["psql", "-XAtq", "-h", proxy.host, "-p", str(proxy.port), "-U", "app", "-c", "SHOW statement_timeout",
         database],
        capture_output=True, text=True, env=environment(PGOPTIONS="-c statement_timeout=4321"))
    assert result.returncode == 0, result.stderr
    if proxy.is_martlet:
        assert result.stdout.strip() == "4321ms"


def test_ignored_startup_parameters(start_proxy: Callable[..., Proxy], database: str) -> None:
    """What is listed in ignore_startup_parameters is not applied."""
    proxy = start_proxy(settings={"ignore_startup_parameters": "extra_float_digits, work_mem,options"})
    with login(proxy, database, work_mem="9MB", extra_float_digits="3") as client:
        assert value(client, "work_mem") == "4MB"


def test_unknown_startup_parameter_is_refused(start_proxy: Callable[..., Proxy], database: str) -> None:
    proxy = start_proxy(settings={"ignore_startup_parameters": "", "query_wait_timeout": 5})
    with Connection(proxy.host, proxy.port) as connection, pytest.raises((AssertionError, Closed)) as caught:
        connection.login(database=database, no_such_setting="1")
        connection.simple("SELECT 1")
    assert "no_such_setting" in str(caught.value) or caught.type is Closed
    with proxy.connect(database) as other:
        assert other.execute("SELECT 1").fetchone() == (1,)


def test_connection_of_psycopg_with_settings(proxy: Proxy, database: str) -> None:
    with psycopg.connect(proxy.dsn(database), application_name="test", client_encoding="latin1") as connection:
        assert connection.execute("SHOW application_name").fetchone() == ("test",)
        assert connection.execute("SELECT '\u00e4'").fetchone() == ("\u00e4",)
