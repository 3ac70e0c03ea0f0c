"""What clients and the console are told, side by side with Debian's PgBouncer: people look for these words, and alert on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from cluster import Cluster
from proxy import USERLIST, Program, Proxy
from rawpg import Closed, Connection, Message, md5_secret, message, query, scram_secret, startup
from test_admission import yardstick

pytestmark = [pytest.mark.one_loop, pytest.mark.martlet("it is compared with PgBouncer")]


@pytest.fixture
def both(cluster: Cluster, start_proxy: Callable[..., Proxy]) -> Iterator[Callable[..., list[Proxy]]]:
    made: list[Proxy] = []

    def start(settings: dict[str, object], secrets: dict[str, str] | None = None) -> list[Proxy]:
        secrets = USERLIST | (secrets or {})
        ours = start_proxy(run=False, settings=settings, secrets=secrets)
        theirs = yardstick(cluster, dict(settings))
        theirs.secrets = secrets
        made.append(theirs)
        for proxy in (ours, theirs):
            proxy.databases = {"app": proxy.server(dbname="app"), "nodb": proxy.server(dbname="nosuch")}
            proxy.start()
        return [ours, theirs]

    yield start
    for proxy in made:
        proxy.stop()


def login(proxy: Proxy, user: str = "app", database: str = "app", password: str | None = None) -> Connection:
    connection = Connection(proxy.host, proxy.port)
    connection.send(startup({"user": user, "database": database}))
    connection.authenticate(user, USERLIST.get(user, "") if password is None else password)
    return connection


def rest(connection: Connection) -> list[Message]:
    messages = []
    try:
        while True:
            messages.append(connection.read())
    except Closed:
        return messages


def sends(data: bytes, user: str = "app", database: str = "app") -> Callable[[Proxy], list[Message]]:
    """What comes behind these bytes until the proxy closes."""

    def run(proxy: Proxy) -> list[Message]:
        connection = login(proxy, user, database)
        connection.send(data)
        return rest(connection)

    return run


def logs_in(user: str, password: str | None = None, database: str = "app") -> Callable[[Proxy], str]:
    """What refuses a login."""

    def run(proxy: Proxy) -> str:
        try:
            login(proxy, user, database, password).socket.close()
        except AssertionError as error:
            return str(eval(str(error).removeprefix("login failed: "))["M"])  # A dictionary that rawpg printed.
        raise AssertionError("it is not refused")

    return run


def waits(proxy: Proxy) -> list[Message]:
    holder = login(proxy)
    holder.simple("BEGIN")
    try:
        return sends(query("SELECT 1"))(proxy)
    finally:
        holder.socket.close()


def after(command: str, does: Callable[[Proxy], object]) -> Callable[[Proxy], object]:
    def run(proxy: Proxy) -> object:
        login(proxy).socket.close()
        proxy.command(command)
        return does(proxy)

    return run


def killed(proxy: Proxy) -> list[Message]:
    connection = login(proxy)
    connection.simple("SELECT 1")
    proxy.command("KILL app")
    return rest(connection)


def words(answer: object) -> str:
    if isinstance(answer, str):
        return answer
    return " ".join(each.text for each in answer if each.type == "E")  # type: ignore[attr-defined]


SCRAM = {"md5_user": scram_secret("md5-secret"), "scram_user": scram_secret("scram-secret")}
SITUATIONS: dict[str, tuple[dict[str, object], dict[str, str], Callable[[Proxy], object]]] = {
    "client_idle_timeout": ({"client_idle_timeout": 1}, {}, sends(b"")),
    "idle_transaction_timeout": ({"idle_transaction_timeout": 1}, {}, sends(query("BEGIN"))),
    "query_timeout": ({"query_timeout": 1}, {}, sends(query("SELECT pg_sleep(20)"))),
    "query_wait_timeout": ({"query_wait_timeout": 1, "default_pool_size": 1}, {}, waits),
    "disabled": ({}, {}, after("DISABLE app", logs_in("app"))),
    "killed": ({}, {}, killed),
    "no database": ({}, {}, logs_in("app", database="nosuch")),
    "no database there": ({}, {}, logs_in("app", database="nodb")),
    "no role there": ({}, {}, logs_in("admin")),
    "not allowed": ({}, {}, logs_in("app", database="pgbouncer")),
    "bad header": ({}, {}, sends(b"Q\0\0\0\1")),
    "MD5 for SCRAM": ({"auth_type": "md5"}, {"scram_user": md5_secret("scram_user", "scram-secret")},
                      logs_in("scram_user", "scram-secret")),
    "SCRAM for MD5": ({"auth_type": "scram-sha-256"}, SCRAM, logs_in("md5_user", "md5-secret")),
    "SCRAM, nobody has shown": ({"auth_type": "trust"}, SCRAM, logs_in("scram_user")),
    "extended console": ({}, {}, sends(message("P", b"\0SHOW VERSION\0\0\0"), "admin", "pgbouncer")),
}
# Martlet's, where it says more behind the same words.
MORE = {"MD5 for SCRAM", "SCRAM for MD5", "SCRAM, nobody has shown"}


@pytest.mark.parametrize("name", SITUATIONS)
def test_clients_hear_the_same(both: Callable[..., list[Proxy]], name: str) -> None:
    settings, secrets, does = SITUATIONS[name]
    here, there = (words(does(proxy)) for proxy in both(settings, secrets))
    there = there.removesuffix(" bad packet")  # Its console ends with two errors.
    assert here.startswith(f"{there}: ") if name in MORE else here == there
    if name in MORE:
        assert "give the user a plain-text password in auth_file" in here


COMMANDS = ["KILL nosuch", "PAUSE nosuch", "RESUME", "RESUME app", "DISABLE", "ENABLE nosuch", "RECONNECT nosuch", "FOO",
            "SHOW nosuch", "SET", "KILL pgbouncer", "WAIT_CLOSE nosuch", "SHUTDOWN xx", "PAUSE;PAUSE", "SELECT 1",
            "DISABLE pgbouncer", "RELOAD x", "SET nosuch = 1", "SET default_pool_size = abc"]


def test_the_console_answers_the_same(both: Callable[..., list[Proxy]]) -> None:
    ours, theirs = both({})
    different = []
    for user in ("admin", "stats"):
        # What a command lacks is told before who may give it.
        for command in COMMANDS if user == "admin" else set(COMMANDS) - {"DISABLE"}:
            answers = []
            for proxy in (ours, theirs):
                with login(proxy, user, "pgbouncer") as console:
                    answers.append(words(console.ask(query(command))))
            # Those of before 1.26 know SUSPEND.
            here, there = answers[0], answers[1].replace("paused/suspended", "paused")
            if here != there and not (there == "SET failed" and here.startswith("SET failed: ")):
                different.append((user, command, here, there))
    assert different == []
