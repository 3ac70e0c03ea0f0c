"""Users that the auth_file lacks are looked up at the server by auth_query."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from cluster import USERS, Cluster
from common import Background, wait_until
from proxy import Proxy
from rawpg import md5_secret
from test_hba import gets_in
from test_logins import refusal

pytestmark = pytest.mark.one_loop

# Nobody else is in the file: the console's admin, and the one who asks.
FILE = {"admin": "admin-secret", "postgres": ""}


class Lookup:
    """A function to look users up by, that writes down what it was asked and under which settings."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.name = "lookup_" + uuid.uuid4().hex[:12]
        with cluster.connect() as connection:
            connection.execute(f"CREATE TABLE {self.name} (name text, path text, application text, backend int)")
            connection.execute(f"""
                CREATE FUNCTION {self.name}(IN wanted text, OUT name text, OUT secret text) RETURNS SETOF record
                LANGUAGE sql SECURITY DEFINER AS $$
                    INSERT INTO public.{self.name} VALUES (wanted, current_setting('search_path'),
                        current_setting('application_name'), pg_backend_pid());
                    SELECT rolname::text, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END
                    FROM pg_catalog.pg_authid WHERE rolname = wanted AND rolcanlogin
                $$""")

    @property
    def query(self) -> str:
        return f"SELECT name, secret FROM public.{self.name}($1)"

    def asked(self) -> list[tuple]:
        return self.cluster.rows(f"SELECT name, path, application, backend FROM {self.name}", dbname="app")

    def names(self) -> list[str]:
        return [row[0] for row in self.asked()]

    def drop(self) -> None:
        with self.cluster.connect() as connection:
            connection.execute(f"DROP FUNCTION {self.name}; DROP TABLE {self.name}")


@pytest.fixture
def lookup(cluster: Cluster) -> Iterator[Lookup]:
    made = Lookup(cluster)
    yield made
    made.drop()


@pytest.fixture
def asking(start_proxy: Callable[..., Proxy]) -> Callable[..., Proxy]:
    """Starts a proxy that asks as superuser; `settings` go before its own."""

    def make(settings: dict[str, object] | None = None, **more: object) -> Proxy:
        own = {"auth_type": "scram-sha-256", "auth_user": "postgres"}
        return start_proxy(settings=own | (settings or {}), **{"secrets": FILE} | more)

    return make


@pytest.fixture
def role(cluster: Cluster) -> Iterator[Callable[..., str]]:
    """Makes roles that are gone after the test."""
    names: list[str] = []

    def make(options: str, storage: str = "scram-sha-256") -> str:
        names.append("role_" + uuid.uuid4().hex[:12])
        with cluster.connect() as connection:
            connection.execute(f"SET password_encryption = '{storage}'")
            connection.execute(f"CREATE ROLE {names[-1]} LOGIN {options}")
        return names[-1]

    yield make
    with cluster.connect() as connection:
        for name in names:
            connection.execute(f"DROP ROLE {name}")


@pytest.mark.parametrize("auth_type", ["plain", "md5", "scram-sha-256"])
def test_default_query(asking: Callable[..., Proxy], auth_type: str) -> None:
    proxy = asking({"auth_type": auth_type})
    assert gets_in(proxy, password="app-secret")
    assert not gets_in(proxy, password="wrong")
    assert not gets_in(proxy, user="nobody", password="app-secret")


@pytest.mark.parametrize("user,auth_type", [
    ("trust_user", "scram-sha-256"), ("scram_user", "scram-sha-256"), ("scram_user", "md5"), ("scram_user", "plain"),
    ("md5_user", "md5"), ("md5_user", "plain")])
def test_the_secret_serves_at_the_server_too(asking: Callable[..., Proxy], user: str, auth_type: str) -> None:
    """The client's login gives SCRAM keys; an MD5 secret is enough by itself."""
    proxy = asking({"auth_type": auth_type})
    with proxy.connect(user=user, password=USERS[user][0]) as connection:
        assert connection.execute("SELECT current_user").fetchone() == (user,)


def test_the_file_goes_first(asking: Callable[..., Proxy], lookup: Lookup) -> None:
    proxy = asking({"auth_query": lookup.query}, secrets=FILE | {"app": "file-secret"})
    assert gets_in(proxy, password="file-secret")
    assert not gets_in(proxy, password="app-secret")
    assert lookup.names() == []


@pytest.mark.parametrize("auth_type", ["plain", "md5", "scram-sha-256"])
def test_nobody_learns_who_exists(asking: Callable[..., Proxy], lookup: Lookup, auth_type: str) -> None:
    """Unknown, expired, without a password, of an unknown database: the same words after the same question."""
    proxy = asking({"auth_type": auth_type, "auth_query": lookup.query, "auth_query_ttl": 0})
    wrong, unknown = refusal(proxy, password="wrong"), refusal(proxy, "nobody", password="wrong")
    assert {key: value.replace("app", "nobody") for key, value in wrong.items()} == unknown
    assert wrong["C"] == ("28P01" if proxy.is_martlet else "08P01")
    assert lookup.names() == ["app", "nobody"]


@pytest.mark.martlet("another database is asked")
def test_nobody_learns_which_databases_exist(start_proxy: Callable[..., Proxy], lookup: Lookup) -> None:
    proxy = start_proxy(
        run=False, secrets=FILE,
        settings={"auth_type": "scram-sha-256", "auth_user": "postgres", "auth_query": lookup.query})
    proxy.databases = {"app": proxy.server()}
    proxy.start()
    assert refusal(proxy, database="nosuch", password="wrong") == refusal(proxy, database="app", password="wrong")
    assert refusal(proxy, database="nosuch", password="app-secret")["C"] == "3D000"
    assert set(lookup.names()) == {"app"}


def test_valid_until(asking: Callable[..., Proxy], role: Callable[..., str]) -> None:
    proxy = asking({"auth_query_ttl": 0})
    assert gets_in(proxy, user=role("PASSWORD 'x' VALID UNTIL 'tomorrow'"), password="x")
    assert not gets_in(proxy, user=role("PASSWORD 'x' VALID UNTIL 'yesterday'"), password="x")
    assert not gets_in(proxy, user=role(""), password="")


@pytest.mark.martlet("PgBouncer knows bytes only")
def test_names_of_other_bytes_that_count_as_the_same(
        asking: Callable[..., Proxy], cluster: Cluster) -> None:
    """K and the sign for Kelvin, \u00e9 and e with an accent behind it: to Unicode the same, to PostgreSQL two roles."""
    mine = "Kat\u00e9_" + uuid.uuid4().hex[:8]
    others = [mine.replace("K", "\u212a"), mine.replace("\u00e9", "e\u0301")]
    with cluster.connect() as connection:
        for name in (mine, *others):
            connection.execute(f"CREATE ROLE \"{name}\" LOGIN PASSWORD '{name[-4:] + str(len(name))}'")
    try:
        proxy = asking({"default_pool_size": 1})
        with proxy.connect(user=mine, password=mine[-4:] + str(len(mine))) as connection:
            assert connection.execute("SELECT current_user").fetchone() == (mine,)
        for name in others:
            # Not on the connections of the first, whose pool would seem to be its own.
            with pytest.raises(psycopg.OperationalError, match="normal form"):
                proxy.connect(user=name, password=name[-4:] + str(len(name))).close()
            with pytest.raises(psycopg.OperationalError, match="normal form"):
                proxy.connect(name, user=mine, password=mine[-4:] + str(len(mine))).close()
    finally:
        with cluster.connect() as connection:
            for name in (mine, *others):
                connection.execute(f"DROP ROLE \"{name}\"")


@pytest.mark.martlet("auth_query_ttl")
def test_answers_are_kept_for_a_while(asking: Callable[..., Proxy], lookup: Lookup) -> None:
    proxy = asking({"auth_query": lookup.query, "auth_query_ttl": 600})
    for _ in range(5):
        assert gets_in(proxy, password="app-secret")
    assert lookup.names() == ["app"]
    # Who fails is asked for again: the password may be a new one.
    assert not gets_in(proxy, password="wrong")
    assert gets_in(proxy, password="app-secret")
    assert lookup.names() == ["app", "app"]
    # A reload forgets everything.
    proxy.settings["query_timeout"] = 100
    proxy.write_configuration()
    with proxy.console(password="admin-secret") as console:
        console.execute("RELOAD")
    assert gets_in(proxy, password="app-secret")
    assert lookup.names() == ["app", "app", "app"]


@pytest.mark.martlet("auth_query_ttl")
def test_no_time_keeps_nothing(asking: Callable[..., Proxy], lookup: Lookup) -> None:
    proxy = asking({"auth_query": lookup.query, "auth_query_ttl": 0})
    for _ in range(3):
        assert gets_in(proxy, password="app-secret")
    assert lookup.names() == ["app"] * 3
    assert len({row[3] for row in lookup.asked()}) == 1, "all over one connection"


def test_a_new_password_counts(asking: Callable[..., Proxy], role: Callable[..., str], cluster: Cluster) -> None:
    proxy = asking()
    user = role("PASSWORD 'old'")
    assert gets_in(proxy, user=user, password="old")
    with cluster.connect() as connection:
        connection.execute(f"ALTER ROLE {user} PASSWORD 'new'")
    wait_until(lambda: gets_in(proxy, user=user, password="new"), "the new password counts", 3)
    assert not gets_in(proxy, user=user, password="old")


def test_no_setting_of_a_client_gets_there(asking: Callable[..., Proxy], lookup: Lookup) -> None:
    proxy = asking({"auth_query": lookup.query})
    with proxy.connect(
            password="app-secret", application_name="evil", options="-c search_path=evil") as connection:
        assert connection.execute("SHOW search_path").fetchone() == ("evil",)
        connection.execute("SET search_path = worse")
    assert not gets_in(proxy, user="nobody", password="x")
    assert {(row[1], row[2]) for row in lookup.asked()} == {('"$user", public', "martlet" if proxy.is_martlet else "")}


@pytest.mark.martlet("the connection is the proxy's own")
def test_names_are_no_sql(asking: Callable[..., Proxy], lookup: Lookup) -> None:
    proxy = asking({"auth_query": lookup.query})
    names = ["o'neil", "x'; DROP TABLE y; --", "$1", "a b", "\u00fcser", "x" * 500]
    for name in names:
        refusal(proxy, name, password="x")
    assert lookup.names() == names


@pytest.mark.martlet("SQLSTATEs")
@pytest.mark.parametrize("query,reason", [
    ("SELECT nonsense FROM nowhere", 'relation "nowhere" does not exist'),
    ("SELECT $1::text", "expected 2 columns from auth_query, not 1"),
    ("SELECT 'app', 'x', $1::text", "expected 2 columns from auth_query, not 3"),
    ("SELECT $1::text, 'x' FROM generate_series(1, 2)", "more than one row"),
    ("SELECT 'postgres', $1::text", "not the user that was asked for"),
    ("COPY (SELECT 1) TO STDOUT", "bind message supplies 1 parameters"),
])
def test_a_query_that_fails(asking: Callable[..., Proxy], query: str, reason: str) -> None:
    proxy = asking({"auth_query": query})
    for user in ("app", "nobody"):
        refused = refusal(proxy, user, password="x")
        assert (refused["C"], refused["M"]) == ("28000", "bouncer config error")
    assert "the query failed: " in proxy.log_text() and reason in proxy.log_text()


@pytest.mark.martlet("SQLSTATEs")
def test_a_server_that_is_away(own_cluster: Callable[..., Cluster], program: object) -> None:
    cluster = own_cluster()
    proxy = Proxy(
        program, cluster, secrets=FILE,  # type: ignore[arg-type]
        settings={"auth_type": "scram-sha-256", "auth_user": "postgres", "auth_query_ttl": 0})
    try:
        proxy.start()
        assert gets_in(proxy, password="app-secret")
        cluster.stop()
        refused = refusal(proxy, password="app-secret")
        assert (refused["C"], refused["M"]) == ("57P03", "authentication is not possible now")
        assert refusal(proxy, "nobody") == refused
        cluster.start()
        wait_until(lambda: gets_in(proxy, password="app-secret"), "logins work again", 10)
    finally:
        proxy.stop()


@pytest.mark.martlet("PgBouncer tells who has not logged in")
@pytest.mark.parametrize("auth_type", ["md5", "scram-sha-256", "plain", "trust"])
def test_a_database_that_the_server_does_not_have(asking: Callable[..., Proxy], cluster: Cluster, auth_type: str) -> None:
    """Who can log in hears so, in the server's own words; who cannot hears nothing of it."""
    proxy = asking({"auth_type": auth_type, "auth_query_ttl": 0})
    closed = cluster.create_database(f"closed_{uuid.uuid4().hex[:8]}")
    with cluster.connect() as connection:
        connection.execute(f"ALTER DATABASE {closed} ALLOW_CONNECTIONS false")
    try:
        for database, code, words in (("nosuchdb", "3D000", 'database "nosuchdb" does not exist'),
                                      (closed, "55000", f'database "{closed}" is not currently accepting connections')):
            right = refusal(proxy, database=database, password="app-secret")
            assert right["C"] == code and words in right["M"]
            if auth_type != "trust":
                assert refusal(proxy, database=database, password="wrong")["C"] == "28P01"
            assert refusal(proxy, "nobody", database=database, password="x")["C"] in ("28P01", "28000")
        assert 'asking in database "postgres"' in proxy.log_text()
        # Elsewhere all is as before.
        assert gets_in(proxy, password="app-secret")
    finally:
        with cluster.connect() as connection:
            connection.execute(f"ALTER DATABASE {closed} ALLOW_CONNECTIONS true")
        cluster.drop_database(closed)


def test_a_lost_connection_is_not_noticed(
        asking: Callable[..., Proxy], lookup: Lookup, cluster: Cluster) -> None:
    proxy = asking({"auth_query": lookup.query, "auth_query_ttl": 0})
    assert gets_in(proxy, password="app-secret")
    with cluster.connect() as connection:
        for pid in {row[3] for row in lookup.asked()}:
            connection.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
    assert gets_in(proxy, password="app-secret")


@pytest.mark.martlet("auth_query_ttl")
def test_many_at_once(asking: Callable[..., Proxy], lookup: Lookup) -> None:
    proxy = asking({"auth_query": lookup.query, "auth_query_ttl": 0, "auth_type": "plain"})
    users = ["app", "trust_user", "scram_other", "nobody"] * 40

    def login(user: str) -> bool:
        return gets_in(proxy, user=user, password=USERS.get(user, ("x",))[0])

    with ThreadPoolExecutor(32) as threads:
        outcomes = list(threads.map(login, users))
    assert outcomes == [user != "nobody" for user in users]
    assert len({row[3] for row in lookup.asked()}) == 1


def test_keys_of_a_database(start_proxy: Callable[..., Proxy], lookup: Lookup) -> None:
    """One database has its own auth_user, query and place to ask; the other asks nobody."""
    proxy = start_proxy(
        run=False, secrets=FILE, settings={"auth_type": "scram-sha-256", "auth_query": lookup.query})
    proxy.databases = {
        "app": proxy.server(), "app2": proxy.server(auth_user="postgres", auth_dbname="app")}
    proxy.start()
    assert gets_in(proxy, dbname="app2", password="app-secret")
    assert not gets_in(proxy, dbname="app", password="app-secret")
    assert lookup.names() == ["app"]


@pytest.mark.parametrize("asker,secret", [
    ("md5_user", md5_secret("md5_user", "md5-secret")), ("md5_user", "md5-secret"), ("scram_user", "scram-secret"),
    ("plain_user", "plain-secret")])
def test_the_asker_logs_in_as_the_server_wants(
        asking: Callable[..., Proxy], lookup: Lookup, asker: str, secret: str) -> None:
    proxy = asking({"auth_user": asker, "auth_query": lookup.query}, secrets={"admin": "admin-secret", asker: secret})
    assert gets_in(proxy, password="app-secret")


@pytest.mark.martlet("the log's words")
def test_an_asker_with_a_wrong_password(asking: Callable[..., Proxy]) -> None:
    proxy = asking({"auth_user": "scram_user"}, secrets={"admin": "admin-secret", "scram_user": "wrong"})
    assert refusal(proxy, password="app-secret")["C"] == "57P03"
    assert 'auth_query: app/scram_user password authentication failed for user "scram_user"' in proxy.log_text()


@pytest.mark.martlet("only auth_dbname opens the console")
def test_the_console_s_users(asking: Callable[..., Proxy], start_proxy: Callable[..., Proxy]) -> None:
    """A role of some database is no admin by its name, unless the file says which database tells."""
    proxy = asking({"admin_users": "admin,app"})
    with pytest.raises(psycopg.OperationalError):
        proxy.connect("pgbouncer", password="app-secret")
    told = asking({"admin_users": "admin,app", "auth_dbname": "app"})
    with told.console("app", password="app-secret") as console:
        assert console.execute("SHOW VERSION").fetchone()


@pytest.mark.martlet("checked at the start")
@pytest.mark.parametrize("name", ["pgbouncer", "nosuch"])
def test_auth_dbname_must_lead_somewhere(start_proxy: Callable[..., Proxy], name: str) -> None:
    proxy = start_proxy(run=False, settings={"auth_user": "postgres", "auth_dbname": name})
    proxy.databases = {"app": proxy.server()}
    proxy.start(wait=False)
    assert proxy.wait_end() == 1
    assert f'auth_dbname is "{name}"' in proxy.log_text() or f'auth_dbname cannot be "{name}"' in proxy.log_text()


@pytest.mark.martlet("routing")
def test_routed_database(asking: Callable[..., Proxy], lookup: Lookup) -> None:
    """The primary is asked, and SCRAM keys serve at the node's own pool."""
    proxy = asking({"auth_query": lookup.query}, run=False)
    proxy.databases = {"app": proxy.server(routing="split", check_user="postgres")}
    proxy.start()
    with proxy.connect(user="scram_user", password="scram-secret") as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("scram_user",)
    assert lookup.names() == ["scram_user"]


# The console's commands

@pytest.mark.parametrize("asked", ["auth_dbname", "its own"])
def test_disabled_database_is_not_asked(asking: Callable[..., Proxy], asked: str) -> None:
    """Neither for those who want in there nor for those of other databases; what is in the file is not asked for."""
    proxy = asking({"auth_dbname": "postgres" if asked == "auth_dbname" else None})
    assert gets_in(proxy, password="app-secret")

    def command(text: str) -> None:
        with proxy.console(password="admin-secret") as console:
            console.execute(text)

    command(f"DISABLE {'postgres' if asked == 'auth_dbname' else 'app'}")
    said = refusal(proxy, "app", password="app-secret")["M"]
    if asked == "auth_dbname":
        assert said == 'authentication database "postgres" is disabled'
    else:
        assert said == 'database "app" is disabled'
        assert gets_in(proxy, dbname="app2", password="app-secret")
    command(f"ENABLE {'postgres' if asked == 'auth_dbname' else 'app'}")
    assert gets_in(proxy, password="app-secret")


@pytest.mark.martlet("PgBouncer's question waits, and so does PAUSE")
@pytest.mark.parametrize("form", ["PAUSE", "PAUSE app2"])
def test_pause_counts_the_connection_that_asks(
        asking: Callable[..., Proxy], cluster: Cluster, form: str) -> None:
    """The server has no connection of ours after PAUSE, gets none, and logins that need one wait."""
    proxy = asking({"auth_dbname": "app2", "auth_query_ttl": 0})
    assert gets_in(proxy, password="app-secret")

    def ours() -> list[tuple]:
        return [row for row in cluster.rows(
            "SELECT pid FROM pg_stat_activity WHERE datname = 'app2' AND application_name = 'martlet'")]

    assert ours()
    with proxy.console(password="admin-secret") as console:
        console.execute(form)
        assert not ours()
        attempt = Background(lambda: gets_in(proxy, password="app-secret"))
        time.sleep(0.5)
        assert not attempt.done and not ours()
        console.execute(form.replace("PAUSE", "RESUME"))
    assert attempt.result(5)


@pytest.mark.parametrize("command", ["RECONNECT app2", "RECONNECT", "KILL app2"])
def test_connection_that_asks_is_replaced(asking: Callable[..., Proxy], command: str) -> None:
    proxy = asking({"auth_dbname": "app2", "auth_query_ttl": 0})

    def backends() -> set[int]:
        return {row[0] for row in proxy.cluster.rows(
            "SELECT pid FROM pg_stat_activity WHERE datname = 'app2' AND application_name = 'martlet'")}

    assert gets_in(proxy, password="app-secret")
    before = backends()
    with proxy.console(password="admin-secret") as console:
        console.execute(command)
        if "KILL" in command:
            console.execute("RESUME app2")
    wait_until(lambda: not before & backends(), "it is closed")
    assert gets_in(proxy, password="app-secret")
    assert backends() and not before & backends()
