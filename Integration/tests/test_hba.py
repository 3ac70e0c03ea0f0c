"""Who gets in by the HBA file: rules by connection, database, user and address, peers, maps, and their reload."""

from __future__ import annotations

import getpass
from collections.abc import Callable

import psycopg
import pytest

from proxy import USERLIST, Proxy
from test_logins import refusal

pytestmark = pytest.mark.one_loop

ADMIN = "host pgbouncer admin 127.0.0.1/32 trust\n"


@pytest.fixture
def with_rules(start_proxy: Callable[..., Proxy]) -> Callable[..., Proxy]:
    """Starts a proxy with these rules, and one more that lets the console's admin in."""

    def make(rules: str, maps: str | None = None, run: bool = True, **more: object) -> Proxy:
        proxy = start_proxy(run=False, **more)
        (proxy.directory / "hba.conf").write_text(ADMIN + rules)
        proxy.settings |= {"auth_type": "hba", "auth_hba_file": proxy.directory / "hba.conf"}
        if maps is not None:
            (proxy.directory / "ident.conf").write_text(maps)
            proxy.settings["auth_ident_file"] = proxy.directory / "ident.conf"
        return proxy.start() if run else proxy

    return make


def change_rules(proxy: Proxy, rules: str) -> None:
    (proxy.directory / "hba.conf").write_text(ADMIN + rules)


def gets_in(proxy: Proxy, **login: object) -> bool:
    try:
        with proxy.connect(**login) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)
    except psycopg.OperationalError:
        return False


def test_methods(with_rules: Callable[..., Proxy]) -> None:
    """Each user logs in by the method of its rule, and by no other."""
    proxy = with_rules(
        "host all app 127.0.0.1/32 trust\n"
        "host all plain_user 127.0.0.1/32 password\n"
        "host all md5_user 127.0.0.1/32 md5\n"
        "host all scram_user,scram_other 127.0.0.1/32 scram-sha-256\n"
        "host all trust_user 127.0.0.1/32 reject\n",
        run=False)
    secret = proxy.cluster.value("SELECT rolpassword FROM pg_authid WHERE rolname = 'scram_user'")
    proxy.secrets = USERLIST | {"scram_user": str(secret)}
    proxy.start()
    assert gets_in(proxy, user="app", password="whatever")
    for user, password in {"plain_user": "plain-secret", "md5_user": "md5-secret", "scram_user": "scram-secret",
                           "scram_other": "other-secret"}.items():
        assert gets_in(proxy, user=user, password=password), user
        wrong = refusal(proxy, user, password="wrong")
        assert wrong["C"] == "28P01"
    assert not gets_in(proxy, user="md5_user", password="md5-secret", require_auth="scram-sha-256")
    assert gets_in(proxy, user="scram_user", password="scram-secret", require_auth="scram-sha-256")


@pytest.mark.martlet("SQLSTATE 28000, as the server has it")
def test_rejected_and_not_mentioned_look_the_same(with_rules: Callable[..., Proxy]) -> None:
    proxy = with_rules("host all app all reject\nhost app2 all all trust\n")
    rejected, unmentioned = refusal(proxy, "app"), refusal(proxy, "trust_user")
    assert rejected == unmentioned
    assert (rejected["S"], rejected["C"], rejected["M"]) == ("FATAL", "28000", "login rejected")
    assert "rejected by the rule at" in proxy.log_text() and "hba.conf:2" in proxy.log_text()
    assert "no rule in auth_hba_file is about this client" in proxy.log_text()


def test_databases_and_users(with_rules: Callable[..., Proxy]) -> None:
    proxy = with_rules("host sameuser all all trust\nhost app2 @users all trust\n", run=False)
    (proxy.directory / "users").write_text("trust_user # and a comment\nplain_user\n")
    proxy.start()
    assert gets_in(proxy, dbname="app", user="app")
    assert not gets_in(proxy, dbname="app2", user="app")
    assert gets_in(proxy, dbname="app2", user="trust_user")
    assert not gets_in(proxy, dbname="app", user="trust_user")


@pytest.mark.parametrize("address,works", [
    ("127.0.0.1/32", True), ("127.0.0.0 255.0.0.0", True), ("10.0.0.0/8", False), ("::/0", False), ("all", True),
    pytest.param("samehost", True, marks=pytest.mark.martlet("samehost")),
    pytest.param("samenet", True, marks=pytest.mark.martlet("samenet")),
    pytest.param("localhost", True, marks=pytest.mark.martlet("host names")),
    pytest.param("elsewhere.example.com", False, marks=pytest.mark.martlet("host names")),
    pytest.param(".example.com", False, marks=pytest.mark.martlet("host names"))])
def test_addresses(with_rules: Callable[..., Proxy], address: str, works: bool) -> None:
    proxy = with_rules(f"host all all {address} trust\n")
    assert gets_in(proxy) == works


def test_types_of_connection(with_rules: Callable[..., Proxy]) -> None:
    proxy = with_rules("local all app trust\nhostssl all trust_user all trust\nhostnossl all plain_user all trust\n")
    assert gets_in(proxy, host=str(proxy.directory), user="app")
    assert not gets_in(proxy, user="app")
    assert not gets_in(proxy, user="trust_user")
    assert gets_in(proxy, user="plain_user")
    assert not gets_in(proxy, host=str(proxy.directory), user="plain_user")


def test_replication_needs_its_word(with_rules: Callable[..., Proxy]) -> None:
    proxy = with_rules("host all app all trust\nhost replication trust_user all trust\n")
    with pytest.raises(psycopg.OperationalError):
        proxy.connect(user="app", replication="true")
    # Of one database it is like any other connection.
    proxy.connect(user="app", replication="database").close()


def test_peer(with_rules: Callable[..., Proxy]) -> None:
    me = getpass.getuser()
    proxy = with_rules("local all all peer\n", secrets=USERLIST | {me: ""}, run=False)
    proxy.databases = {"app": proxy.server(user="app")}
    proxy.start()
    socket = str(proxy.directory)
    assert gets_in(proxy, host=socket, user=me)
    assert not gets_in(proxy, host=socket, user="trust_user", password="trust-secret")
    assert f'system user "{me}" may not log in as this user' in proxy.log_text()


@pytest.mark.martlet("regular expressions in maps")
def test_peer_with_a_map(with_rules: Callable[..., Proxy]) -> None:
    me = getpass.getuser()
    proxy = with_rules(
        "local app all peer map=staff\nlocal app2 all peer map=pattern\n",
        maps=f"staff {me} app\nstaff nosuch all\npattern /^(.){me[1:]}$ t\\1ust_user\npattern /^{me}x plain_user\n")
    socket = str(proxy.directory)
    assert gets_in(proxy, host=socket, user="app")
    assert not gets_in(proxy, host=socket, user="trust_user")
    assert gets_in(proxy, host=socket, dbname="app2", user=f"t{me[0]}ust_user") == (me[0] == "r")
    assert not gets_in(proxy, host=socket, dbname="app2", user="plain_user")


def test_reload(with_rules: Callable[..., Proxy]) -> None:
    proxy = with_rules("host all app all trust\n")
    assert gets_in(proxy)
    with proxy.connect() as connected:
        change_rules(proxy, "host all app all reject\nhost all trust_user all trust\n")
        proxy.command("RELOAD")
        assert not gets_in(proxy)
        assert gets_in(proxy, user="trust_user")
        # Who is in stays in.
        assert connected.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.martlet("PgBouncer leaves wrong lines out")
@pytest.mark.parametrize("rules,problem", [
    ("host all +staff all trust\n", ":2: +staff: membership in a role is not known here"),
    ("host all all all pam\n", ":2: method pam is not supported"),
    (None, "auth_hba_file: cannot read"),
])
def test_wrong_rules_at_reload_keep_the_old_ones(
        with_rules: Callable[..., Proxy], rules: str | None, problem: str) -> None:
    proxy = with_rules("host all app all trust\n")
    if rules is None:
        (proxy.directory / "hba.conf").unlink()
    else:
        change_rules(proxy, rules)
    with pytest.raises(psycopg.Error):
        proxy.command("RELOAD")
    assert problem in proxy.log_text()
    assert gets_in(proxy)
    assert not gets_in(proxy, user="trust_user")


@pytest.mark.martlet("PgBouncer leaves wrong lines out")
def test_wrong_rules_at_start_are_an_error(with_rules: Callable[..., Proxy]) -> None:
    proxy = with_rules("host samerole all all trust\nhost all all 10.0.0.1 trust\n", run=False)
    proxy.start(wait=False)
    assert proxy.wait_end() == 1
    log = proxy.log_text()
    assert "hba.conf:2: samerole: membership in a role is not known here" in log
    assert "hba.conf:3: 10.0.0.1 needs the number of its bits" in log


@pytest.mark.martlet("SET reads the files")
def test_rules_by_set(with_rules: Callable[..., Proxy]) -> None:
    proxy = with_rules("host all app all trust\n")
    (proxy.directory / "other.conf").write_text(ADMIN)
    with proxy.console() as console:
        console.execute(f"SET auth_hba_file = '{proxy.directory}/other.conf'")
        with pytest.raises(psycopg.Error, match="cannot read"):
            console.execute("SET auth_hba_file = '/nonexistent'")
    assert not gets_in(proxy)
