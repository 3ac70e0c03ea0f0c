"""Who gets in, side by side with Debian's PgBouncer: every way of authentication, with and without a user of the database."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from certificates import Authority
from cluster import Cluster
from common import own, remove, service_directory
from proxy import USERLIST, Program, Proxy
from rawpg import Connection, startup

pytestmark = pytest.mark.martlet("it is compared with PgBouncer")

AUTH_TYPES = ("trust", "any", "plain", "md5", "scram-sha-256", "hba")
# "forced" has a user of its own, "nosuch" does not exist.
DATABASES = ("own", "forced", "nosuch", "pgbouncer")
USERS = ("app", "nobody", "admin", "stats")


def yardstick(cluster: Cluster, settings: dict[str, object]) -> Proxy:
    program = Program.find("pgbouncer")
    if not program.exists():
        pytest.skip("there is no PgBouncer to compare with")
    # The one of Debian 12 does not know it.
    return Proxy(program, cluster, settings={"max_prepared_statements": None} | settings)


def outcome(proxy: Proxy, database: str, user: str, password: str) -> str:
    """"in", or what the refusal says, without the names that PgBouncer leaves out."""
    with Connection(proxy.host, proxy.port) as connection:
        connection.send(startup({"user": user, "database": database}))
        try:
            connection.authenticate(user, password)
        except AssertionError as error:
            fields = eval(str(error).removeprefix("login failed: "))  # A dictionary that rawpg printed.
            # Newer ones say when a refusal is an old one.
            said = re.sub(r"^server login has been failing, cached error: (.*) \(server_login_retry\)$", r"\1", fields["M"])
            return said.removesuffix(f' for user "{user}"')
        return "in"


@pytest.fixture
def both(cluster: Cluster, start_proxy: Callable[..., Proxy]) -> Iterator[Callable[..., tuple[Proxy, Proxy]]]:
    """The same configuration for Martlet and for PgBouncer."""
    made: list[Proxy] = []

    def start(auth_type: str, has_file: bool = True) -> tuple[Proxy, Proxy]:
        settings = {"auth_type": auth_type} | ({} if has_file else {"auth_file": None})
        ours, theirs = start_proxy(run=False, settings=settings), yardstick(cluster, dict(settings))
        made.append(theirs)
        for proxy in (ours, theirs):
            proxy.databases = {"own": proxy.server(dbname="app"), "forced": proxy.server(dbname="app", user="app")}
            if auth_type == "hba":
                proxy.settings["auth_hba_file"] = proxy.directory / "hba.conf"
                (proxy.directory / "hba.conf").write_text("host all all 127.0.0.1/32 trust\n")
            proxy.start()
        return ours, theirs

    yield start
    for proxy in made:
        proxy.stop()


@pytest.mark.parametrize("has_file", [True, False], ids=["auth_file", "no auth_file"])
@pytest.mark.parametrize("auth_type", AUTH_TYPES)
def test_the_same_get_in(
        both: Callable[..., tuple[Proxy, Proxy]], auth_type: str, has_file: bool) -> None:
    ours, theirs = both(auth_type, has_file)
    different = []
    for database, user in itertools.product(DATABASES, USERS):
        for password in (USERLIST.get(user, "x"), "wrong"):
            here, there = (outcome(proxy, database, user, password) for proxy in (ours, theirs))
            if auth_type == "any" and database == "pgbouncer":
                # There everybody is the console's master; here those who are named.
                there = "in" if user in ("admin", "stats") else "not allowed"
            if database == "pgbouncer" and there == "not allowed":
                # PgBouncer says so before it has seen a password: it tells who is known.
                there = here if here != "in" else there
            if here != there:
                different.append((database, user, password, here, there))
    assert different == []


def test_any_gives_nobody_the_console(start_proxy: Callable[..., Proxy]) -> None:
    """admin_users may do everything, stats_users may look, and others are not let in."""
    proxy = start_proxy(run=False, settings={"auth_type": "any"})
    proxy.databases = {"app": proxy.server(user="app")}
    proxy.start()
    assert proxy.command("SET query_timeout = 60") == "SET query_timeout=60"
    with proxy.console("stats") as console:
        assert console.execute("SHOW VERSION").fetchall()
        with pytest.raises(psycopg.Error, match="admin access needed"):
            console.execute("SHUTDOWN")
    for user in ("app", "pgbouncer", "postgres", "Admin"):
        with pytest.raises(psycopg.OperationalError, match="not allowed"), proxy.console(user):
            pass
    assert outcome(proxy, "app", "whoever", "") == "in"


@pytest.mark.parametrize("auth_type", ["trust", "plain", "md5", "scram-sha-256", "hba"])
def test_the_log_says_who_was_refused(
        both: Callable[..., tuple[Proxy, Proxy]], auth_type: str) -> None:
    """In the words that people look for."""
    for proxy in both(auth_type):
        for database, user, password in (("own", "nobody", "x"), ("nosuch", "app", USERLIST["app"])):
            assert outcome(proxy, database, user, password) != "in"
        log = proxy.log_text()
        assert "no such user: nobody" in log and "no such user: app" not in log
        assert "pooler error: no such database: nosuch" in log
        assert "closing because: no such database: nosuch" in log
        assert "login failed: db=nosuch user=app" in log
        assert log.count("closing because: ") == log.count("pooler error: ")


class Certificates:
    """Of people, by what is odd about them."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        stranger = Authority(folder, "stranger")
        self.server = self.authority.issue("server", name="localhost", hosts="DNS:localhost,IP:127.0.0.1")
        self.people = {
            "app": self.authority.issue("app", name="app"),
            "nobody": self.authority.issue("nobody", name="nobody"),
            "app, then trust_user": self.authority.issue("two", name="app/CN=trust_user"),
            "trust_user, then app": self.authority.issue("owt", name="trust_user/CN=app"),
            "*": self.authority.issue("star", name="*"),
            "no name": self.authority.issue("nameless", name="x", subject="/O=app"),
            "zero": self.authority.issue("zero", name="x", raw_name=b"app\0zero"),
            "empty": self.authority.issue("empty", name="x", raw_name=b""),
            "app, of a stranger": stranger.issue("strange", name="app"),
        }


@pytest.fixture(scope="module")
def certificates() -> Iterator[Certificates]:
    folder = service_directory("mc-")
    made = Certificates(folder)
    own(folder)
    yield made
    remove(folder)


@pytest.fixture(scope="module")
def server(certificates: Certificates) -> Iterator[Cluster]:
    """PostgreSQL with the same rules: it asks for certificates in app2."""
    paper = certificates.server
    cluster = Cluster(
        settings={"ssl": "on", "ssl_cert_file": f"'{paper.crt}'", "ssl_key_file": f"'{paper.key}'",
                  "ssl_ca_file": f"'{certificates.authority.crt}'"},
        hba=["local all all trust", "host app,postgres all 127.0.0.1/32 trust",
             "hostssl app2 all 127.0.0.1/32 cert"]).start()
    yield cluster
    cluster.remove()


def gets_in(port: int, user: str, certificate: object) -> str:
    shown = {"sslcert": str(certificate.crt), "sslkey": str(certificate.key)} if certificate else {  # type: ignore
        "sslcert": "/nonexistent"}
    try:
        psycopg.connect(host="127.0.0.1", port=port, dbname="app2", user=user, sslmode="require", **shown).close()
        return "in"
    except psycopg.OperationalError as error:
        assert "timeout" not in str(error)
        return "refused"


@pytest.mark.parametrize(("auth_type", "mode"), [
    ("hba", "allow"), ("hba", "prefer"), ("hba", "require"), ("hba", "verify-ca"), ("hba", "verify-full"),
    ("cert", "verify-full")])
def test_certificates(
        start_proxy: Callable[..., Proxy], server: Cluster, certificates: Certificates, auth_type: str,
        mode: str) -> None:
    """Whom a certificate is for, is for PostgreSQL and for us the same, whatever client_tls_sslmode is."""
    paper = certificates.server
    proxy = start_proxy(server, run=False, settings={
        "auth_type": auth_type, "client_tls_sslmode": mode, "client_tls_key_file": paper.key,
        "client_tls_cert_file": paper.crt, "client_tls_ca_file": certificates.authority.crt})
    if auth_type == "hba":
        proxy.settings["auth_hba_file"] = proxy.directory / "hba.conf"
        (proxy.directory / "hba.conf").write_text(
            "local all all trust\nhostssl app2 all 127.0.0.1/32 cert\nhost pgbouncer all 127.0.0.1/32 trust\n")
    # Whoever gets in works in a database that trusts him.
    proxy.databases = {"app2": proxy.server(dbname="app")}
    proxy.start()
    different = []
    # A role "nobody" is neither on the server nor in the auth_file.
    for (name, paper), user in itertools.product(
            [*certificates.people.items(), ("none", None)], ("app", "trust_user", "nobody", "*")):
        here, there = gets_in(proxy.port, user, paper), gets_in(server.port, user, paper)
        if here != there:
            different.append((name, user, here, there))
    assert different == []
    assert gets_in(proxy.port, "app", certificates.people["app"]) == "in"


def test_certificates_without_an_authority_are_a_warning(start_proxy: Callable[..., Proxy]) -> None:
    """A rule by which nobody can get in is told, as PostgreSQL does."""
    proxy = start_proxy(run=False, settings={"auth_type": "hba"})
    proxy.settings["auth_hba_file"] = proxy.directory / "hba.conf"
    (proxy.directory / "hba.conf").write_text("host all all 127.0.0.1/32 trust\nhostssl all all all cert\n")
    proxy.start()
    assert "hba.conf:2: nobody can log in by this rule: certificates need" in proxy.log_text()
