"""auth_type = ldap and HBA method ldap: a directory says whether a password is right."""

from __future__ import annotations

import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import psycopg
import pytest

from certificates import Authority
from cluster import Cluster
from common import TESTING_SUITE, remove, service_directory, wait_until
from directory import READER, ROOT, SLAPD, Directory
from proxy import USERLIST, Program, Proxy
from rawpg import Connection, startup
from test_logins import refusal

pytestmark = [
    pytest.mark.one_loop,
    pytest.mark.martlet("the PgBouncer of the machine has no LDAP"),
    pytest.mark.skipif(not SLAPD.exists(), reason="no slapd: run Integration/setup")]

# Roles of the cluster; the server asks scram_user and scram_other for the passwords that it knows.
PEOPLE = {"app": "directory-app", "trust_user": "directory-trust", "scram_user": "scram-secret",
          "scram_other": "directory-other"}
TWINS = {"plain_user": "directory-twin"}
REFUSED = ("FATAL", "28000", "LDAP authentication failed")


@pytest.fixture(scope="module")
def authority() -> Iterator[Authority]:
    folder = service_directory("mc-")
    yield Authority(folder)
    remove(folder)


@pytest.fixture(scope="module")
def directory(authority: Authority) -> Iterator[Directory]:
    certificate = authority.issue("directory", name="directory", hosts="IP:127.0.0.1,DNS:localhost")
    directory = Directory(PEOPLE, twins=TWINS, certificate=certificate)
    yield directory.start()
    directory.remove()


@pytest.fixture(scope="module")
def closed_directory() -> Iterator[Directory]:
    """Only the reader may search."""
    directory = Directory(PEOPLE, only_reader=True)
    yield directory.start()
    directory.remove()


# What a directory says to StartTLS: success.
START_TLS = bytes.fromhex("300c02010178070a010004000400")


class Sick:
    """A server that takes connections, says this much to the first request and then nothing more."""

    def __init__(self, words: bytes = b"", host: str = "127.0.0.1", port: int = 0) -> None:
        self._words = words
        self._listening = socket.create_server((host, port), backlog=200)
        self.port = self._listening.getsockname()[1]
        self._clients: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            self._clients.append(client)
            if self._words:
                threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        try:
            client.recv(1000)
            client.sendall(self._words)
        except OSError:
            pass

    def __enter__(self) -> Sick:
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        for each in (self._listening, *self._clients):
            each.close()


@pytest.fixture
def with_options(start_proxy: Callable[..., Proxy]) -> Callable[..., Proxy]:
    """Starts a proxy with auth_type = ldap and these options."""

    def make(options: str, *, env: dict[str, str] | None = None, wait: bool = True, server_user: str = "",
             **settings: object) -> Proxy:
        proxy = start_proxy(
            run=False, settings={"auth_type": "ldap", "auth_ldap_options": options, "auth_file": None} | settings)
        if server_user:
            proxy.databases = {"app": proxy.server(user=server_user)}
        return proxy.start(env=env, wait=wait)

    return make


@pytest.fixture
def with_rules(start_proxy: Callable[..., Proxy]) -> Callable[..., Proxy]:
    """Starts a proxy with these rules, and one more that lets the console's admin in."""

    def make(*rules: str, **settings: object) -> Proxy:
        proxy = start_proxy(run=False, settings=settings)
        proxy.settings |= {"auth_type": "hba", "auth_hba_file": proxy.directory / "hba.conf"}
        write_rules(proxy, *rules)
        return proxy.start()

    return make


def write_rules(proxy: Proxy, *rules: str) -> None:
    (proxy.directory / "hba.conf").write_text(
        "".join(f"{rule}\n" for rule in ("host pgbouncer admin 127.0.0.1/32 trust", *rules)))


def gets_in(proxy: Proxy, user: str = "app", password: str | None = None, **more: object) -> bool:
    try:
        with proxy.connect(user=user, password=PEOPLE[user] if password is None else password, **more) as connection:
            return connection.execute("SELECT current_user").fetchone() == (user,)
    except psycopg.OperationalError:
        return False


def is_refused(proxy: Proxy, user: str = "app", password: str = "wrong") -> bool:
    fields = refusal(proxy, user, password=password)
    return (fields["S"], fields["C"], fields["M"]) == REFUSED


def test_simple_bind(with_options: Callable[..., Proxy], directory: Directory) -> None:
    proxy = with_options(directory.simple)
    for user in ("app", "trust_user"):
        assert gets_in(proxy, user)
    # The server asks for the same password by SCRAM.
    assert gets_in(proxy, "scram_user")
    assert is_refused(proxy, password="wrong")
    assert is_refused(proxy, password=PEOPLE["app"] + " ")
    assert is_refused(proxy, "trust_user", PEOPLE["app"])
    assert is_refused(proxy, "nobody", "wrong")
    assert is_refused(proxy, "admin", "admin-secret")
    log = proxy.log_text()
    assert re.search(r"app@127.0.0.1:\d+ LDAP: ldap://127.0.0.1:\d+: bind: Invalid credentials \(49\)", log)
    assert not any(password in log for password in PEOPLE.values())


@pytest.mark.parametrize("mode", ["simple", "search"])
def test_an_empty_password_is_nobodys(with_options: Callable[..., Proxy], directory: Directory, mode: str) -> None:
    """A directory would agree to it: a bind without a password is anonymous."""
    proxy = with_options(getattr(directory, mode))
    for user in ("app", "nobody"):
        fields = refusal(proxy, user, password="")
        assert (fields["C"], fields["M"]) == ("28P01", REFUSED[2])


@pytest.mark.parametrize("options", [
    "", f'ldapsearchattribute=cn', '{searcher}',
    'ldapsearchfilter="(uid=$username)"', 'ldapsearchfilter=(&(objectClass=person)(|(uid=$username)(mail=$username)))'])
def test_search(with_options: Callable[..., Proxy], directory: Directory, options: str) -> None:
    proxy = with_options(f"{directory.search} {options.format(searcher=directory.searcher)}")
    assert gets_in(proxy)
    assert gets_in(proxy, "scram_user")
    assert is_refused(proxy)
    assert is_refused(proxy, "nobody")
    assert "there is nobody of this name" in proxy.log_text()
    # Whichever of the two entries it would be.
    assert is_refused(proxy, "plain_user", TWINS["plain_user"])
    assert "there is more than one of this name" in proxy.log_text()


def test_a_filter_narrows(with_options: Callable[..., Proxy], directory: Directory) -> None:
    proxy = with_options(f'{directory.search} ldapsearchfilter="(&(uid=$username)(!(cn=app)))"')
    assert gets_in(proxy, "trust_user")
    assert is_refused(proxy, "app", PEOPLE["app"])


def test_who_searches(with_options: Callable[..., Proxy], closed_directory: Directory) -> None:
    directory = closed_directory
    proxy = with_options(f"{directory.search} {directory.searcher}")
    assert gets_in(proxy)
    assert is_refused(proxy)
    # Nobody may not search here.
    proxy.settings["auth_ldap_options"] = directory.search
    reload(proxy)
    assert is_refused(proxy, password=PEOPLE["app"])
    proxy.settings["auth_ldap_options"] = f'{directory.search} ldapbinddn="{READER}" ldapbindpasswd=wrong'
    reload(proxy)
    assert is_refused(proxy, password=PEOPLE["app"])
    assert "bind: Invalid credentials" in proxy.log_text()


@pytest.mark.parametrize("tail,works", [
    ("/{root}??sub", True), ("/ou=people,{root}??one", True), ("/{root}?cn?sub", True),
    ("/{root}??sub?(uid=$username)", True), ("/{root}??sub?(uid=%24username)", True),
    # The base alone, which is nobody.
    ("/{root}", False), ("/{root}??one", False), ("/ou=others,{root}??sub", False)])
def test_url(with_options: Callable[..., Proxy], directory: Directory, tail: str, works: bool) -> None:
    url = f"ldap://{directory.host}:{directory.port}" + tail.format(root=ROOT)
    proxy = with_options(f'ldapurl="{url}"')
    assert gets_in(proxy) == works
    assert is_refused(proxy)


def test_url_with_a_simple_bind(with_options: Callable[..., Proxy], directory: Directory) -> None:
    proxy = with_options(f'ldapurl="ldap://{directory.host}:{directory.port}" '
                         f'ldapprefix="uid=" ldapsuffix=",ou=people,{ROOT}"')
    assert gets_in(proxy)
    assert is_refused(proxy)


# TLS


@pytest.mark.parametrize("how", ["ldaptls", "ldapscheme", "ldapurl"])
def test_tls(with_options: Callable[..., Proxy], directory: Directory, authority: Authority, how: str) -> None:
    options = {
        "ldaptls": f"{directory.simple} ldaptls=1",
        "ldapscheme": directory.simple.replace(str(directory.port), str(directory.tls_port)) + " ldapscheme=ldaps",
        "ldapurl": f'ldapurl="ldaps://{directory.host}:{directory.tls_port}/{ROOT}?uid?sub"'}[how]
    proxy = with_options(options, env={"LDAPTLS_CACERT": str(authority.crt)})
    assert gets_in(proxy)
    assert is_refused(proxy)
    # Who has signed the certificate is not known here.
    stranger = with_options(options)
    assert is_refused(stranger, password=PEOPLE["app"])
    assert re.search(r"LDAP: ldaps?://\S+: (StartTLS|connect): .*\(-1+\)", stranger.log_text())


@pytest.mark.parametrize("how", ["ldaptls=1", "ldapscheme=ldaps"])
def test_the_certificate_of_another_host(
        with_options: Callable[..., Proxy], authority: Authority, how: str) -> None:
    other = Directory(PEOPLE, certificate=authority.issue("other", name="other", hosts="DNS:other.example.net"))
    try:
        other.start()
        options = other.simple if how == "ldaptls=1" else other.simple.replace(str(other.port), str(other.tls_port))
        proxy = with_options(f"{options} {how}", env={"LDAPTLS_CACERT": str(authority.crt)})
        assert is_refused(proxy, password=PEOPLE["app"])
    finally:
        other.remove()


def test_no_password_without_tls_that_was_asked_for(
        with_options: Callable[..., Proxy], closed_directory: Directory) -> None:
    """That directory has none."""
    proxy = with_options(f"{closed_directory.simple} ldaptls=1")
    assert is_refused(proxy, password=PEOPLE["app"])
    assert "StartTLS: " in proxy.log_text()


# Servers that are away


@pytest.mark.parametrize("first", ["dead", "silent"])
def test_the_next_server(with_options: Callable[..., Proxy], directory: Directory, first: str) -> None:
    """The port is the same for all, so the first has another address."""
    proxy = with_options(directory.simple.replace("ldapserver=127.0.0.1", 'ldapserver="127.0.0.9  127.0.0.1"'))
    sick = Sick(host="127.0.0.9", port=directory.port) if first == "silent" else nullcontext()
    with sick:
        assert is_refused(proxy)
        # It is asked last now.
        begin = time.monotonic()
        assert gets_in(proxy)
        assert is_refused(proxy)
        assert time.monotonic() - begin < 2.5
    port = directory.port
    why = r"connect: Can't contact LDAP server \(-1\)" if first == "dead" else r"bind: Timed out \(-5\)"
    refused = rf"ldap://127.0.0.1:{port}: bind: Invalid credentials"
    log = proxy.log_text()
    assert re.search(rf"LDAP: ldap://127.0.0.9:{port}: {why}; {refused}", log)
    # What one server has said is not asked of the next.
    assert re.search(rf"LDAP: {refused} \(49\)$", log, re.MULTILINE)


def test_a_directory_that_is_away(with_options: Callable[..., Proxy]) -> None:
    directory = Directory(PEOPLE)
    try:
        proxy = with_options(directory.simple)
        assert is_refused(proxy, password=PEOPLE["app"])
        assert "connect: Can't contact LDAP server (-1)" in proxy.log_text()
        directory.start()
        assert gets_in(proxy)
        directory.stop()
        assert is_refused(proxy, password=PEOPLE["app"])
    finally:
        directory.remove()


@pytest.mark.parametrize("how,words", [
    ("", b""), ("ldaptls=1", b""), ("ldapscheme=ldaps", b""), ("ldaptls=1", START_TLS), ("", START_TLS[:5]),
    ("ldapscheme=ldaps", b"\x16\x03\x03\x00\x50\x02")])
def test_a_directory_that_hangs_holds_nobody_else_up(
        with_rules: Callable[..., Proxy], directory: Directory, how: str, words: bytes) -> None:
    with Sick(words) as sick:
        proxy = with_rules(
            f'host all app 127.0.0.1/32 ldap ldapserver=127.0.0.1 ldapport={sick.port} ldapprefix="uid=" {how}',
            f"host all scram_user 127.0.0.1/32 ldap {directory.simple}",
            "host all trust_user 127.0.0.1/32 trust", client_login_timeout=5)
        assert gets_in(proxy, "trust_user")
        threads = proxy.figures.threads()
        slowest = 0.0
        with ThreadPoolExecutor(20) as pool:
            waiting = [pool.submit(outcome, proxy) for _ in range(20)]
            while not all(each.done() for each in waiting):
                begin = time.monotonic()
                assert gets_in(proxy, "trust_user")
                assert gets_in(proxy, "scram_user")
                slowest = max(slowest, time.monotonic() - begin)
                time.sleep(0.05)
            answers = [each.result() for each in waiting]
        assert slowest < 2
        assert set(answers) <= {"client_login_timeout", REFUSED[2]}, answers
        # The first four were asked about, for three seconds.
        assert answers.count(REFUSED[2]) >= 4
        wait_until(lambda: proxy.figures.threads() <= threads + 2, "the threads that asked have ended")


def outcome(proxy: Proxy) -> str:
    try:
        proxy.connect(password=PEOPLE["app"]).close()
        return "in"
    except psycopg.OperationalError as error:
        text = str(error)
        return next((known for known in ("client_login_timeout", REFUSED[2]) if known in text), text)


def test_nothing_is_left_of_a_login(
        with_rules: Callable[..., Proxy], directory: Directory, authority: Authority) -> None:
    """Neither files nor threads, whatever became of it."""
    proxy = with_rules(
        f"host all app 127.0.0.1/32 ldap {directory.search}",
        f"host all trust_user 127.0.0.1/32 ldap {directory.simple} ldaptls=1",
        "host all scram_user 127.0.0.1/32 ldap ldapserver=127.0.0.9 ldapprefix=x")
    assert gets_in(proxy)

    def files() -> int:
        """Without those of server connections."""
        return proxy.figures.open_files() - len(proxy.show("SERVERS"))

    before, threads = files(), proxy.figures.threads()
    with ThreadPoolExecutor(8) as pool:
        logins = [pool.submit(gets_in, proxy, "app", password) for password in [PEOPLE["app"], "wrong"] * 50]
        logins += [pool.submit(gets_in, proxy, user) for user in ["trust_user", "scram_user"] * 20]
        assert [each.result() for each in logins].count(True) == 50
    # At once, not when a time is over.
    wait_until(lambda: files() <= before + 2, "the connections to the directory are closed", 2)
    wait_until(lambda: proxy.figures.threads() <= threads + 2, "the threads that asked have ended")


# Names


NAMES = ["*", "a*", "app)(uid=*", "app)", "(app", "*)(uid=*))(|(uid=*", "app\\", "app\\2c", "\\61pp", "app,ou=people",
         "app+cn=app", "app;", "#0403617070", '"app"', "app ", " app", "app\n", "<app>", "a,\u0338pp", "app/x"]


@pytest.mark.parametrize("mode", ["simple", "search", "upn"])
def test_names_that_say_more_than_a_name(
        with_options: Callable[..., Proxy], directory: Directory, mode: str) -> None:
    options = f'{directory.server} ldapprefix="" ldapsuffix=",ou=people,{ROOT}"' if mode == "upn" \
        else getattr(directory, mode)
    # Whoever gets in works as the same user, so that the role does not have to be there.
    proxy = with_options(options, server_user="app")
    for name in [*NAMES, "uid=app"] if mode == "upn" else NAMES:
        for password in (PEOPLE["app"], "wrong"):
            assert is_refused(proxy, name, password), name


def reload(proxy: Proxy) -> None:
    """By SIGHUP, since the console's users are not in the directory."""
    def count() -> int:
        return proxy.log_text().count("auth_ldap_options changed")

    seen = count()
    proxy.write_configuration()
    proxy.signal(signal.SIGHUP)
    wait_until(lambda: count() > seen, "the proxy has read its files")


# Rules, files, reload


def test_rules_for_some(with_rules: Callable[..., Proxy], directory: Directory) -> None:
    proxy = with_rules(
        f"host all app,scram_other 127.0.0.1/32 ldap {directory.search}",
        "host all scram_user 127.0.0.1/32 scram-sha-256")
    assert gets_in(proxy)
    # What auth_file knows of them is the password for the server, not for the proxy.
    assert gets_in(proxy, "scram_other")
    assert is_refused(proxy, "scram_other", USERLIST["scram_other"])
    assert is_refused(proxy, "app", USERLIST["app"])
    assert gets_in(proxy, "scram_user", require_auth="scram-sha-256")
    assert not gets_in(proxy, "trust_user")


def test_the_same_password_for_the_server(with_options: Callable[..., Proxy], directory: Directory) -> None:
    """Without auth_file the server is told what the directory has found right."""
    proxy = with_options(directory.simple)
    assert gets_in(proxy, "scram_user")
    fields = refusal(proxy, "scram_other", password=PEOPLE["scram_other"])
    assert fields["C"] == "28P01"
    assert 'user "scram_other"' in fields["M"]


def test_the_console(with_options: Callable[..., Proxy], directory: Directory) -> None:
    proxy = with_options(directory.simple, admin_users="app", stats_users="trust_user")
    with proxy.console("app", password=PEOPLE["app"]) as console:
        console.execute("RELOAD")
        shown = {row["key"]: row["value"] for row in console.execute("SHOW CONFIG").fetchall()}
        assert shown["auth_type"] == "ldap"
        assert shown["auth_ldap_options"] == "********"
        with pytest.raises(psycopg.Error, match="ldapport must be a number"):
            console.execute("SET auth_ldap_options = 'ldapserver=a ldapport=x ldapprefix=b'")
        console.execute(f"SET auth_ldap_options = '{directory.search}'")
    assert gets_in(proxy)
    assert refusal(proxy, "app", "pgbouncer", password="wrong")["M"] == REFUSED[2]


WRONG = [
    ("", "ldapserver is missing; servers are not looked up in DNS"),
    ("ldapserver=a", "one of ldapbasedn, ldapprefix and ldapsuffix is needed"),
    ("ldapserver=a ldapprefix=b ldapbasedn=c",
     "ldapbasedn is for search, ldapprefix for a simple bind; leave one of the two out"),
    ("ldapserver=a ldapprefix=b ldaptls=yes", "ldaptls must be 0 or 1"),
    ("ldapserver=a ldapbasedn=b ldapsearchfilter=(uid=app)",
     "ldapsearchfilter must contain $username, or one password lets in under any name"),
]


@pytest.mark.parametrize("options,problem", WRONG)
def test_wrong_options_at_start(
        with_options: Callable[..., Proxy], start_proxy: Callable[..., Proxy], options: str, problem: str) -> None:
    proxy = with_options(options, wait=False)
    assert proxy.wait_end() == 1
    expected = f"auth_ldap_options: {problem}" if options else "auth_type = ldap needs auth_ldap_options"
    assert expected in proxy.log_text()
    rules = start_proxy(run=False)
    rules.settings |= {"auth_type": "hba", "auth_hba_file": rules.directory / "hba.conf"}
    write_rules(rules, f"host all all all ldap {options}")
    rules.start(wait=False)
    assert rules.wait_end() == 1
    assert f"hba.conf:2: {problem}" in rules.log_text()


def test_wrong_options_at_reload_keep_the_old_ones(with_rules: Callable[..., Proxy], directory: Directory) -> None:
    proxy = with_rules(f"host all app 127.0.0.1/32 ldap {directory.simple}")
    write_rules(proxy, f"host all app 127.0.0.1/32 ldap {directory.simple} ldapbindpasswd=hush ldapbinddn=x")
    with pytest.raises(psycopg.Error):
        proxy.command("RELOAD")
    assert "hba.conf:2: ldapbinddn is for search" in proxy.log_text()
    assert "hush" not in proxy.log_text()
    assert gets_in(proxy)
    write_rules(proxy, f"host all trust_user 127.0.0.1/32 ldap {directory.search}")
    proxy.command("RELOAD")
    assert not gets_in(proxy)
    assert gets_in(proxy, "trust_user")


# The same by PostgreSQL


ODD = ["a,b", "a*b", "a(b", "a)b", "a/b", "a\\b", "a=b", "a+b", 'a"b', "a;b", "a<b", "a b", "a#b", "#ab", "a$b",
       "\u00e4b", "a:b", "a@b", "a'b", "a%b", "$username", "ab"]


@pytest.fixture(scope="module")
def odd_directory() -> Iterator[Directory]:
    directory = Directory(dict.fromkeys(ODD, "right, \u00e4") | PEOPLE, twins=TWINS)
    yield directory.start()
    directory.remove()


def modes(directory: Directory) -> dict[str, str]:
    url = f"ldap://{directory.host}:{directory.port}"
    return {
        "simple": directory.simple,
        "search": directory.search,
        "attribute": f"{directory.search} ldapsearchattribute=mail",
        "searcher": f"{directory.search} {directory.searcher}",
        "filter": f'{directory.search} ldapsearchfilter="(|(uid=$username)(cn=$username))"',
        "url": f'ldapurl="{url}/{ROOT}?uid?sub"',
        "url_base": f'ldapurl="{url}/{ROOT}?uid"',
        "url_simple": f'ldapurl="{url}" ldapprefix="uid=" ldapsuffix=",ou=people,{ROOT}"',
        "second": directory.simple.replace("ldapserver=127.0.0.1", 'ldapserver="127.0.0.9 127.0.0.1"'),
        "no_tls": f"{directory.simple} ldaptls=1",
    }


@pytest.fixture(scope="module")
def server(odd_directory: Directory) -> Iterator[Cluster]:
    """PostgreSQL by the same rules; the database chooses the mode."""
    found = modes(odd_directory)
    cluster = Cluster(hba=["host app,postgres all 127.0.0.1/32 trust",
                           *(f"host {mode} all 127.0.0.1/32 ldap {options}" for mode, options in found.items())])
    cluster.start()
    with cluster.connect(dbname="postgres") as connection:
        for role in ODD:
            connection.execute('CREATE ROLE "{}" LOGIN'.format(role.replace('"', '""')))
        for mode in found:
            connection.execute(f"CREATE DATABASE {mode}")
    yield cluster
    cluster.remove()


def answer(host: str, port: int, database: str, user: str, password: str, field: str = "C") -> str:
    """"in", or the SQLSTATE, or another field of the error."""
    with Connection(host, port) as connection:
        connection.send(startup({"user": user, "database": database}))
        try:
            connection.authenticate(user, password)
        except AssertionError as error:
            return str(eval(str(error).removeprefix("login failed: "))[field])  # A dictionary that rawpg printed.
        return "in"


@pytest.mark.parametrize("mode", modes(type("", (), {
    "host": "", "port": 0, "simple": "", "search": "", "searcher": ""})()))  # type: ignore[arg-type]
def test_as_postgresql(
        start_proxy: Callable[..., Proxy], server: Cluster, odd_directory: Directory, mode: str) -> None:
    proxy = start_proxy(server, run=False, secrets={"admin": "", "postgres": ""})
    proxy.databases = {mode: proxy.server(dbname="app")}
    proxy.settings |= {"auth_type": "hba", "auth_hba_file": proxy.directory / "hba.conf"}
    write_rules(proxy, f"host {mode} all 127.0.0.1/32 ldap {modes(odd_directory)[mode]}")
    proxy.start()
    different, seen = [], set()
    for user in [*ODD, "app", "APP", "plain_user", "unknown"]:
        right = "right, \u00e4" if user in ODD else (PEOPLE | TWINS).get(user.lower(), "x")
        for password in (right, "wrong", "", right + " "):
            through = answer(proxy.host, proxy.port, mode, user, password)
            direct = answer(server.host, server.port, mode, user, password)
            seen.add(direct)
            if through != direct:
                different.append((user, password, through, direct))
    assert different == []
    works = mode not in ("attribute", "url_base", "no_tls")
    assert seen == ({"in", "28000", "28P01"} if works else {"28000", "28P01"})


# The same by PgBouncer


@pytest.mark.skipif(not (TESTING_SUITE / "usr/sbin/pgbouncer").exists(), reason="needs Integration/testing-suite")
@pytest.mark.parametrize("way,mode", [
    ("setting", "simple"), ("setting", "search"), ("setting", "attribute"), ("setting", "filter"), ("setting", "url"),
    ("rule", "simple"), ("rule", "url")])
def test_as_pgbouncer(
        program: Program, cluster: Cluster, odd_directory: Directory, mode: str, way: str) -> None:
    """One file for both: the same people get in, the others hear the same."""
    options = modes(odd_directory)[mode]
    answers = []
    for each in (program, Program.find("pgbouncer")):
        proxy = Proxy(each, cluster, settings={"auth_type": "ldap", "auth_ldap_options": options})
        if way == "rule":
            proxy.settings |= {"auth_type": "hba", "auth_hba_file": proxy.directory / "hba.conf"}
            write_rules(proxy, f"host all all 127.0.0.1/32 ldap {options}")
        try:
            proxy.start()
            answers.append({
                (user, password): answer(proxy.host, proxy.port, "app", user, password, "M")
                for user in ("app", "trust_user", "scram_user", "plain_user", "unknown", "a*b", "app)(uid=*")
                for password in (PEOPLE.get(user, "x"), "wrong")})
        finally:
            proxy.stop()
    assert answers[0] == answers[1]
    assert (answers[0]["app", PEOPLE["app"]] == "in") == (mode != "attribute")
