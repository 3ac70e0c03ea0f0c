"""auth_passthrough: nobody is listed, passwords are tried at the server."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest

from cluster import USERS, Cluster
from proxy import Program, Proxy
from rawpg import Connection, startup
from test_hba import gets_in

pytestmark = pytest.mark.martlet("auth_passthrough")

FILE = {"admin": "admin-secret"}


@pytest.fixture
def passing(own_cluster: Callable[..., Cluster], program: Program) -> Iterator[Callable[..., tuple[Proxy, str]]]:
    """A proxy that knows nobody, before a server that wants SCRAM of everybody; with the folder of its socket."""
    made: list[Proxy] = []

    def make(hba: list[str] | None = None, **settings: object) -> tuple[Proxy, str]:
        cluster = own_cluster(hba=hba or [
            "host all postgres 127.0.0.1/32 trust", "host all,replication all 127.0.0.1/32 scram-sha-256"])
        own = {"auth_type": "plain", "auth_passthrough": 1, "auth_query_ttl": 600}
        made.append(Proxy(program, cluster, secrets=FILE, settings=own | settings))
        made[-1].start()
        return made[-1], str(made[-1].directory)

    yield make
    for each in made:
        each.stop()


def outcome(host: str, port: int, user: str, password: str, database: str = "app") -> tuple[str, str]:
    with Connection(host, port) as connection:
        connection.send(startup({"user": user, "database": database}))
        try:
            connection.authenticate(user, password)
        except AssertionError as error:
            fields = eval(str(error).removeprefix("login failed: "))  # A dictionary that rawpg printed.
            return fields["C"], fields["M"]
        return "in", ""


def test_the_server_decides(passing: Callable[..., tuple[Proxy, str]]) -> None:
    proxy, socket = passing()
    with proxy.connect(host=socket, user="scram_user", password="scram-secret") as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("scram_user",)
    for user, password in (("scram_user", "wrong"), ("scram_user", ""), ("nobody", "x"), ("scram_user", "x" * 5000)):
        through = outcome(socket, proxy.port, user, password)
        if password:
            assert through == outcome(proxy.cluster.host, proxy.cluster.port, user, password)
        assert through == ("28P01", f'password authentication failed for user "{user}"')
    assert outcome(socket, proxy.port, "scram_user", "scram-secret", "nosuch")[0] == "3D000"


def test_not_where_it_could_be_overheard(passing: Callable[..., tuple[Proxy, str]]) -> None:
    proxy, socket = passing()
    assert outcome(proxy.host, proxy.port, "scram_user", "scram-secret")[0] == "28P01"
    assert gets_in(proxy, host=socket, user="scram_user", password="scram-secret")


def test_what_is_remembered_spares_another_try(passing: Callable[..., tuple[Proxy, str]]) -> None:
    proxy, socket = passing()
    proxy.cluster.alter("log_connections", "on")
    for _ in range(10):
        assert gets_in(proxy, host=socket, user="scram_user", password="scram-secret")
    # One for the try, and the pool's own.
    said = proxy.cluster.log_text().count("connection authorized: user=scram_user")
    assert 1 <= said <= 2
    assert outcome(socket, proxy.port, "scram_user", "wrong")[0] == "28P01"


@pytest.mark.parametrize("ttl", [0, 600])
def test_a_new_password_counts_at_once(passing: Callable[..., tuple[Proxy, str]], ttl: int) -> None:
    proxy, socket = passing(auth_query_ttl=ttl)
    assert gets_in(proxy, host=socket, user="scram_user", password="scram-secret")
    with proxy.cluster.connect() as connection:
        connection.execute("ALTER ROLE scram_user PASSWORD 'new'")
    assert gets_in(proxy, host=socket, user="scram_user", password="new")
    # The old one is forgotten together with its keys.
    assert not gets_in(proxy, host=socket, user="scram_user", password="scram-secret")
    with proxy.connect(host=socket, user="scram_user", password="new") as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("method", ["trust", "md5", "password"])
def test_only_scram_shows_anything(passing: Callable[..., tuple[Proxy, str]], method: str) -> None:
    """A server that trusts everybody is no proof, and one that wants the password itself does not get it."""
    proxy, socket = passing(hba=[
        "host all postgres 127.0.0.1/32 trust", f"host all,replication all 127.0.0.1/32 {method}"])
    assert outcome(socket, proxy.port, "md5_user", "md5-secret")[0] == "28P01"
    assert "server does not ask for SCRAM" in proxy.log_text()


def test_a_server_that_is_away(passing: Callable[..., tuple[Proxy, str]]) -> None:
    proxy, socket = passing()
    proxy.cluster.stop()
    assert outcome(socket, proxy.port, "scram_user", "scram-secret") == (
        "57P03", "authentication is not possible now")


def test_passwords_are_not_in_the_log(passing: Callable[..., tuple[Proxy, str]]) -> None:
    proxy, socket = passing(verbose=2)
    gets_in(proxy, host=socket, user="scram_user", password="scram-secret")
    outcome(socket, proxy.port, "scram_user", "wrong-secret")
    assert "-secret" not in proxy.log_text()


def test_without_the_setting_nothing_is_tried(passing: Callable[..., tuple[Proxy, str]]) -> None:
    proxy, socket = passing(auth_passthrough=0)
    with pytest.raises(psycopg.OperationalError):
        proxy.connect(host=socket, user="scram_user", password=USERS["scram_user"][0])
