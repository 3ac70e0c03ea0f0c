"""Who gets in: every auth_type with every form of secret, and the proxy's own logins at the server."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from cluster import USERS, Cluster
from proxy import USERLIST, Proxy
from rawpg import Connection, md5_secret, scram_secret, startup

PASSWORD = "secret \u00e4 'quoted'"

SECRETS = {"plain": PASSWORD, "md5": md5_secret("app", PASSWORD), "scram": scram_secret(PASSWORD)}

# auth_type, form of the secret in auth_file, and whether the right password can succeed.
MATRIX = [
    ("plain", "plain", True), ("plain", "md5", True), ("plain", "scram", True),
    ("md5", "plain", True), ("md5", "md5", True),
    # As PgBouncer: a SCRAM secret makes auth_type=md5 ask for SCRAM.
    ("md5", "scram", True),
    ("scram-sha-256", "plain", True), ("scram-sha-256", "scram", True),
    # From an md5 secret no SCRAM verifier can be made.
    ("scram-sha-256", "md5", False),
]


def refusal(proxy: Proxy, user: str = "app", database: str = "app", password: str = "") -> dict[str, str]:
    """The fields of the error with which a login is refused."""
    with Connection(proxy.host, proxy.port) as connection:
        connection.send(startup({"user": user, "database": database}))
        try:
            connection.authenticate(user, password)
        except AssertionError as error:
            return eval(str(error).removeprefix("login failed: "))  # The text is a dictionary that rawpg printed.
    raise AssertionError("the login was not refused")


@pytest.mark.parametrize("auth_type,form,works", MATRIX)
def test_password(start_proxy: Callable[..., Proxy], auth_type: str, form: str, works: bool) -> None:
    proxy = start_proxy(settings={"auth_type": auth_type}, secrets=USERLIST | {"app": SECRETS[form]})
    if works:
        with proxy.connect(password=PASSWORD) as connection:
            assert connection.execute("SELECT current_user").fetchone() == ("app",)
    else:
        with pytest.raises(psycopg.OperationalError):
            proxy.connect(password=PASSWORD)
    for wrong in ("wrong", SECRETS[form] if form != "plain" else "", PASSWORD + " "):
        with pytest.raises(psycopg.OperationalError):
            proxy.connect(password=wrong)
    with pytest.raises(psycopg.OperationalError):
        proxy.connect(user="nobody", password=PASSWORD)


@pytest.mark.parametrize("auth_type", ["plain", "md5", "scram-sha-256"])
def test_unknown_user_looks_like_a_wrong_password(start_proxy: Callable[..., Proxy], auth_type: str) -> None:
    proxy = start_proxy(settings={"auth_type": auth_type}, secrets=USERLIST | {"app": PASSWORD})
    wrong, unknown = refusal(proxy, password="wrong"), refusal(proxy, "nobody", password="wrong")
    assert wrong["S"] == "FATAL"
    assert wrong["C"] == ("28P01" if proxy.is_martlet else "08P01")
    assert {key: value.replace("app", "nobody") for key, value in wrong.items()} == unknown


@pytest.mark.parametrize("auth_type", [
    "plain", "md5", pytest.param("scram-sha-256", marks=pytest.mark.martlet("PgBouncer lets an empty one in"))])
def test_empty_password_never_gets_in(start_proxy: Callable[..., Proxy], auth_type: str) -> None:
    proxy = start_proxy(settings={"auth_type": auth_type}, secrets=USERLIST | {"app": ""})
    refusal(proxy, password="")


def test_trust_needs_a_known_user(start_proxy: Callable[..., Proxy]) -> None:
    proxy = start_proxy(settings={"auth_type": "trust"})
    with proxy.connect(password="whatever") as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert refusal(proxy, "nobody")["S"] == "FATAL"


def test_any_lets_everybody_in_as_the_database_s_user(start_proxy: Callable[..., Proxy]) -> None:
    proxy = start_proxy(run=False, settings={"auth_type": "any"})
    proxy.databases = {"app": proxy.server(user="trust_user")}
    proxy.start()
    for user in ("app", "nobody"):
        with proxy.connect(user=user) as connection:
            assert connection.execute("SELECT current_user").fetchone() == ("trust_user",)


@pytest.mark.parametrize("auth_type", ["md5", "scram-sha-256"])
def test_unknown_database_is_told_after_the_password(start_proxy: Callable[..., Proxy], auth_type: str) -> None:
    proxy = start_proxy(run=False, settings={"auth_type": auth_type}, secrets=USERLIST | {"app": PASSWORD})
    proxy.databases = {"app": proxy.server()}
    proxy.start()
    right = refusal(proxy, database="nosuch", password=PASSWORD)
    assert "no such database: nosuch" in right["M"]
    assert refusal(proxy, database="nosuch", password="wrong") == refusal(proxy, database="app", password="wrong")


@pytest.mark.martlet("SQLSTATE 3D000")
def test_unknown_database_sqlstate(start_proxy: Callable[..., Proxy]) -> None:
    proxy = start_proxy(run=False)
    proxy.databases = {"app": proxy.server()}
    proxy.start()
    assert refusal(proxy, database="nosuch")["C"] == "3D000"


@pytest.mark.parametrize("name", ["has space", 'has "quote"', "UPPER", "\u00fcml\u00e4ut", "x" * 63])
def test_odd_user_names(start_proxy: Callable[..., Proxy], name: str) -> None:
    proxy = start_proxy(
        run=False, settings={"auth_type": "scram-sha-256"}, secrets=USERLIST | {name: 'p"w'})
    proxy.databases = {"app": proxy.server(user="app")}
    proxy.start()
    with proxy.connect(user=name, password='p"w') as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("app",)
    with pytest.raises(psycopg.OperationalError):
        proxy.connect(user=name, password="p")


@pytest.mark.parametrize("auth_type", ["plain", "md5", "scram-sha-256"])
def test_long_password(start_proxy: Callable[..., Proxy], auth_type: str) -> None:
    """IAM tokens are some thousand bytes long."""
    password = "0123456789abcdef" * 200
    proxy = start_proxy(settings={"auth_type": auth_type}, secrets=USERLIST | {"app": password})
    with proxy.connect(password=password) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    with pytest.raises(psycopg.OperationalError):
        proxy.connect(password=password[:-1])


def test_changed_auth_file_is_read_on_reload(start_proxy: Callable[..., Proxy]) -> None:
    proxy = start_proxy(settings={"auth_type": "md5"})
    proxy.secrets = USERLIST | {"app": "new"}
    proxy.write_configuration()
    with proxy.console(password="admin-secret") as console:
        console.execute("RELOAD")
    proxy.connect(password="new").close()
    with pytest.raises(psycopg.OperationalError):
        proxy.connect(password="app-secret")


# Logins at the server: the user of the cluster, and the form of its secret that the proxy knows.
SERVER_LOGINS = [
    ("trust_user", "plain"), ("plain_user", "plain"), ("md5_user", "plain"), ("md5_user", "md5"),
    ("scram_user", "plain")]


@pytest.mark.parametrize("user,form", SERVER_LOGINS)
def test_server_login(start_proxy: Callable[..., Proxy], user: str, form: str) -> None:
    password = USERS[user][0]
    secret = {"plain": password, "md5": md5_secret(user, password)}[form]
    proxy = start_proxy(settings={"auth_type": "md5"}, secrets=USERLIST | {user: secret})
    with proxy.connect(user=user, password=password) as connection:
        assert connection.execute("SELECT current_user").fetchone() == (user,)


def stored_secret(cluster: Cluster, user: str) -> str:
    return str(cluster.value("SELECT rolpassword FROM pg_authid WHERE rolname = %s", user))


@pytest.mark.parametrize("auth_type", ["scram-sha-256", "md5"])
def test_scram_keys_pass_through(start_proxy: Callable[..., Proxy], cluster: Cluster, auth_type: str) -> None:
    """With the SCRAM secret alone the server is reached by the keys that the client's own login has shown."""
    proxy = start_proxy(
        settings={"auth_type": auth_type, "default_pool_size": 3, "server_idle_timeout": 3600},
        secrets=USERLIST | {"scram_user": stored_secret(cluster, "scram_user")})
    clients = [proxy.connect(user="scram_user", password="scram-secret") for _ in range(3)]
    for client in clients:
        client.execute("BEGIN")
    assert len({client.execute("SELECT pg_backend_pid()").fetchone()[0] for client in clients}) == 3
    for client in clients:
        client.close()
    with pytest.raises(psycopg.OperationalError):
        proxy.connect(user="scram_user", password="wrong")


def test_secret_of_another_salt_does_not_reach_the_server(start_proxy: Callable[..., Proxy]) -> None:
    """The client is let in, but the server's verifier is another one: an error, not a hang."""
    proxy = start_proxy(
        settings={"auth_type": "scram-sha-256", "query_wait_timeout": 5},
        secrets=USERLIST | {"scram_user": scram_secret("scram-secret")})
    with pytest.raises(psycopg.OperationalError):
        with proxy.connect(user="scram_user", password="scram-secret") as connection:
            connection.execute("SELECT 1")


@pytest.mark.parametrize("user", ["plain_user", "md5_user", "scram_user", "trust_user"])
def test_forced_user(start_proxy: Callable[..., Proxy], user: str) -> None:
    """user= and password= of a database: all its clients share one login at the server."""
    proxy = start_proxy(run=False, settings={"auth_type": "scram-sha-256"})
    proxy.databases = {"shared": proxy.server(dbname="app", user=user, password=USERS[user][0])}
    proxy.start()
    for client in ("app", "scram_other"):
        with proxy.connect("shared", client, password=USERS[client][0]) as connection:
            assert connection.execute("SELECT current_user, current_database()").fetchone() == (user, "app")


@pytest.mark.parametrize("user", ["plain_user", "md5_user", "scram_user"])
def test_server_refuses_the_password(start_proxy: Callable[..., Proxy], user: str) -> None:
    """The client is told why, in the server's own words, and soon."""
    proxy = start_proxy(run=False, settings={"query_wait_timeout": 10})
    proxy.databases = {"app": proxy.server(user=user, password="wrong"), "app2": proxy.server()}
    proxy.start()
    with pytest.raises(psycopg.OperationalError, match=f'password authentication failed for user "{user}"'):
        with proxy.connect() as connection:
            connection.execute("SELECT 1")
    with proxy.connect("app2") as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_server_lacks_the_database(start_proxy: Callable[..., Proxy]) -> None:
    proxy = start_proxy(settings={"query_wait_timeout": 10})
    with pytest.raises(psycopg.OperationalError, match='database "nosuch" does not exist'):
        with proxy.connect("nosuch") as connection:
            connection.execute("SELECT 1")


@pytest.mark.martlet("a login works while the server is away")
def test_login_without_a_server(start_proxy: Callable[..., Proxy], own_cluster: Callable[..., Cluster]) -> None:
    cluster = own_cluster()
    proxy = start_proxy(cluster, settings={"query_wait_timeout": 10})
    proxy.connect().close()
    cluster.stop()
    with proxy.connect() as connection:
        cluster.start()
        assert connection.execute("SELECT 1").fetchone() == (1,)
