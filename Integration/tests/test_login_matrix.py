"""The same logins straight to the server and through the proxy, by the same rules: the same outcome and SQLSTATE."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster import Cluster
from proxy import Program, Proxy
from rawpg import Connection, md5_secret, scram_secret, startup

pytestmark = pytest.mark.one_loop

METHODS = ("trust", "reject", "password", "md5", "scram-sha-256")
PASSWORDS = {"right": "right-\u00e4 'x'", "wrong": "wrong", "empty": "", "longer": "right-\u00e4 'x' "}
# How the role was made; "unknown" was not.
ROLES = {
    "m_scram": "PASSWORD %s", "m_md5": "PASSWORD %s", "m_expired_scram": "PASSWORD %s VALID UNTIL '2001-01-01'",
    "m_expired_md5": "PASSWORD %s VALID UNTIL '2001-01-01'", "m_valid": "PASSWORD %s VALID UNTIL '2100-01-01'",
    "m_none": "", "unknown": None,
}
# The database's name chooses the method.
DATABASES = {method: "db_" + method.replace("-", "_") for method in METHODS} | {"no rule": "db_no_rule"}


def rules() -> list[str]:
    return [f"host {DATABASES[method]} all 127.0.0.1/32 {method}" for method in METHODS]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(hba=["host app,postgres all 127.0.0.1/32 trust", *rules()]).start()
    with cluster.connect(dbname="postgres") as connection:
        for name, options in ROLES.items():
            if options is not None:
                connection.execute(f"SET password_encryption = '{'md5' if 'md5' in name else 'scram-sha-256'}'")
                connection.execute(f"CREATE ROLE {name} LOGIN " + options.replace("%s", _literal(PASSWORDS["right"])))
        for name in DATABASES.values():
            connection.execute(f"CREATE DATABASE {name}")
    yield cluster
    cluster.remove()


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _proxy(program: Program, server: Cluster, secrets: dict[str, str], **settings: object) -> Proxy:
    proxy = Proxy(program, server, secrets=secrets | {"admin": "", "postgres": ""}, settings=settings)
    # Whoever gets in works in a database that trusts him: it is the clients' logins that are compared.
    proxy.databases = {name: proxy.server(dbname="app") for name in DATABASES.values()}
    (proxy.directory / "hba.conf").write_text("".join(f"{rule}\n" for rule in [
        "host pgbouncer admin 127.0.0.1/32 trust", *rules()]))
    proxy.settings |= {"auth_type": "hba", "auth_hba_file": proxy.directory / "hba.conf"}
    return proxy.start()


@pytest.fixture(scope="module")
def asking(program: Program, server: Cluster) -> Iterator[Proxy]:
    """It knows nobody and asks the server."""
    proxy = _proxy(program, server, {}, auth_user="postgres", auth_dbname=DATABASES["trust"])
    yield proxy
    proxy.stop()


def outcome(host: str, port: int, database: str, user: str, password: str) -> str:
    """"in", or the SQLSTATE."""
    with Connection(host, port) as connection:
        connection.send(startup({"user": user, "database": database}))
        try:
            connection.authenticate(user, password)
        except AssertionError as error:
            return str(eval(str(error).removeprefix("login failed: "))["C"])  # A dictionary that rawpg printed.
        return "in"


@pytest.mark.martlet("SQLSTATEs")
@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("method", [*METHODS, "no rule"])
@pytest.mark.parametrize("role", ROLES)
def test_by_auth_query(server: Cluster, asking: Proxy, method: str, role: str, password: str) -> None:
    login = DATABASES[method], role, PASSWORDS[password]
    assert outcome(asking.host, asking.port, *login) == outcome(server.host, server.port, *login)


@pytest.mark.martlet("SQLSTATEs")
@pytest.mark.parametrize("form", ["plain", "md5", "scram"])
def test_by_auth_file(server: Cluster, program: Program, form: str) -> None:
    """Secrets of the file in each form, against a role that is stored in the same form."""
    role = {"plain": "m_scram", "md5": "m_md5", "scram": "m_scram"}[form]
    password = PASSWORDS["right"]
    secret = {"plain": password, "md5": md5_secret(role, password), "scram": scram_secret(password)}[form]
    proxy = _proxy(program, server, {role: secret})
    try:
        different = []
        for method, database in DATABASES.items():
            for user in (role, "unknown"):
                for name, password in PASSWORDS.items():
                    through = outcome(proxy.host, proxy.port, database, user, password)
                    direct = outcome(server.host, server.port, database, user, password)
                    if through != direct:
                        different.append((method, user, name, through, direct))
        assert different == []
    finally:
        proxy.stop()
