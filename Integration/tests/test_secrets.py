"""What must not be read by others: passwords in the log and in the list of processes; and what strangers may not write there."""

from __future__ import annotations

import re
import signal
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from cluster import Cluster
from common import as_service_user, environment, free_port, wait_until
from proxy import Program, Proxy
from rawpg import Closed, Connection, query, startup

pytestmark = [pytest.mark.one_loop, pytest.mark.martlet("PgBouncer logs commands as they are")]

SECRET = "Geheim-4711"
COMMANDS = [
    "SET check_password = '{}'", "SET check_password TO '{}'", 'SET check_password = "{}"', "set CHECK_PASSWORD={}",
    "SET auth_ldap_options = 'ldapserver=localhost ldapprefix=uid= ldapbindpasswd={}'",
    "SET auth_ldap_options = 'ldapserver=localhost ldapbindpasswd=x {}'",
    # Mistyped.
    "SET check_password '{}'", "SET check_password = '{}' x", "SET check_password == '{}'", "SET chek_password = '{}'",
    "SET password = '{}'", "SETcheck_password = '{}'", "SET check_password = '{}", "SET (check_password = '{}')",
    "SETT check_password = '{}'", "check_password = '{}'", "SHOW '{}'", "SHOW {}", "{}", "ALTER USER app PASSWORD '{}'",
    "SET check_password = '{}'; RELOAD", "-- x\nSET check_password '{}'", "/* x */ SET check_password '{}' y",
    "RELOAD '{}'", "SET check_password = $x${}$x$", "EXPLAIN '{}'", "EXPLAIN ROUTE FOR \"{} SELECT 1", "SET \"{}\" = 1",
    "SET pool_mode = '{}'", "SET default_pool_size = {}",
]


@pytest.mark.parametrize("verbose", [0, 2])
def test_commands_with_a_password(start_proxy: Callable[..., Proxy], verbose: int) -> None:
    """Whatever is made of them: none of them brings it into the log, and none into the answer's tag."""
    proxy = start_proxy(settings={"verbose": verbose})
    with Connection(proxy.host, proxy.port).login(user="admin", database="pgbouncer") as console:
        for command in COMMANDS:
            answer = console.ask(query(command.replace("{}", SECRET)))
            assert answer[-1].type == "Z", command
            tags = [message.body for message in answer if message.type == "C"]
            assert not any(SECRET.encode() in tag for tag in tags), command
        assert proxy.setting("check_password") == "********"
        console.ask(query("RELOAD"))
    log = proxy.log_text()
    assert SECRET.lower() not in log.lower()
    assert "SET check_password=******** command issued" in log
    assert len(re.findall(r"ERROR C-0x[0-9a-f]+: pgbouncer/admin@127\.0\.0\.1:\d+ invalid command '", log)) > 10


def test_files_with_a_password(start_proxy: Callable[..., Proxy]) -> None:
    """Neither a changed password of a file is told, nor a line that cannot be read."""
    proxy = start_proxy(run=False, settings={"check_password": "one"})
    proxy.databases = {"app": proxy.server(user="app", password="two", check_password="three")}
    proxy.start()
    for settings, databases in (
            ({"check_password": SECRET}, {}), ({}, {"app": proxy.server(user="app", password=SECRET)}),
            ({}, {"app": proxy.server(user="app", password=f"'{SECRET}")}),
            ({}, {"app": proxy.server(user="app", password=f"x {SECRET}")}),
            ({}, {"app": f"postgresql://app:{SECRET}/x@127.0.0.1:{proxy.cluster.port}/app"}),
            ({}, {"app": f"postgresql://app:{SECRET}@127.0.0.1:x/app"})):
        proxy.settings |= settings
        proxy.databases |= databases
        proxy.write_configuration()
        proxy.signal(signal.SIGHUP)
        seen = proxy.log_text().count("SIGHUP")
        wait_until(lambda: proxy.log_text().count("SIGHUP") >= seen, "it is read")
        with proxy.console() as console:
            try:
                console.execute("RELOAD")
            except psycopg.Error as error:
                assert SECRET not in str(error) + str(error.diag.message_detail)
    assert SECRET not in proxy.log_text()


def test_errors_name_the_client(start_proxy: Callable[..., Proxy]) -> None:
    """Who has said it, for each command that changes something and each that fails."""
    proxy = start_proxy(run=False)
    proxy.databases = {"app": proxy.server()}
    proxy.start()
    with proxy.console("stats") as console, pytest.raises(psycopg.Error):
        console.execute("RELOAD")
    with proxy.console() as console:
        for command in ("KILL nosuch", "SHOW nosuch", "RESUME", "DISABLE", "SET nosuch = 1", "KILL_CLIENT 999999"):
            with pytest.raises(psycopg.Error):
                console.execute(command)
        console.execute("SET query_timeout = 60")
        console.execute("RELOAD")
    log = proxy.log_text()
    for who, words in (
            ("stats", "ERROR {} admin access needed"), ("admin", "ERROR {} no such database: nosuch"),
            ("admin", "ERROR {} invalid command"), ("admin", "ERROR {} pooler is not paused"),
            ("admin", "ERROR {} a database is required"), ("admin", "ERROR {} SET failed"),
            ("admin", "ERROR {} client not found"), ("admin", "LOG {} SET query_timeout=60 command issued"),
            ("admin", "LOG {} RELOAD command issued")):
        pattern = re.escape(words).replace(r"\{\}", rf"C-0x[0-9a-f]+: pgbouncer/{who}@127\.0\.0\.1:\d+")
        assert re.search(pattern, log), (words, log[-2000:])


def test_a_new_log_is_its_owners(start_proxy: Callable[..., Proxy], scratch: Path) -> None:
    log = scratch / "martlet.log"
    start_proxy(settings={"logfile": log})
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def command_line(pid: int) -> str:
    """What every user of the machine can read."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


@pytest.mark.parametrize("url", [
    f"postgresql://app:{SECRET}@127.0.0.1:{{}}/app", f"postgresql://app@127.0.0.1:{{}}/app?password={SECRET}&pool_size=3",
    f"postgres://127.0.0.1:{{}}/app?user=app&check_password={SECRET}&password={SECRET}"])
def test_a_password_on_the_command_line(program: Program, cluster: Cluster, scratch: Path, url: str) -> None:
    """It is taken off before anybody can connect, and is used all the same."""
    port = free_port()
    url = url.replace("{}", str(cluster.port)) + ("&" if "?" in url else "?") + f"listen_port={port}"
    log = scratch / "log"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            as_service_user([*program.command, url]), stdout=output, stderr=output, env=environment(), cwd=str(scratch))
    try:
        def serves() -> bool:
            assert process.poll() is None, log.read_text()
            return "process up" in log.read_text()

        wait_until(serves, "it serves")
        shown = command_line(process.pid)
        assert SECRET not in shown and "127.0.0.1" in shown and "xxxxxx" in shown
        assert SECRET not in log.read_text()
        with psycopg.connect(host="127.0.0.1", port=port, dbname="app", user="app") as connection:
            assert connection.execute("SELECT current_user").fetchone() == ("app",)
    finally:
        process.send_signal(signal.SIGQUIT)
        process.wait(10)
    check = subprocess.run(
        as_service_user([*program.command, "--check", url]), capture_output=True, text=True, env=environment(), cwd="/")
    assert check.returncode == 0 and SECRET not in check.stdout + check.stderr and ": ok" in check.stdout


# Strangers' words.

EVIL = {"newline": "a\nb", "escape": "a\x1b[2Jb", "delete": "a\x7fb", "c1": "a\u009bb", "line": "a\u2028b", "paragraph": "a\u2029b",
        "override": "a\u202eb\u202c", "isolate": "a\u2066b\u2069", "mark": "a\u200fb", "arabic mark": "a\u061cb"}
HIDDEN = {"zero width": "a\u200bb", "byte order mark": "a\ufeffb", "tag": "a\U000e0041b", "soft hyphen": "a\u00adb"}
HARMLESS = "größe-ação-日本-💡"


def harmful(text: str, words: dict[str, str]) -> list[str]:
    """Characters of these words in a text that are not letters."""
    return [character for word in words.values() for character in word if character not in "ab[2J" and character in text]


def test_strangers_in_the_log_and_on_the_console(start_proxy: Callable[..., Proxy]) -> None:
    """As names of users, of databases, of applications, in settings and in errors, before and after the login."""
    names = EVIL | HIDDEN | {"harmless": HARMLESS}
    proxy = start_proxy(run=False, settings={"auth_type": "any", "verbose": 2, "log_connections": 1})
    proxy.databases = {"*": proxy.server(dbname="app", user="app")}
    proxy.start()
    open_ones = []
    for word in names.values():
        made = Connection(proxy.host, proxy.port).login(user=f"u{word}", database=f"d{word}", application_name=f"p{word}")
        made.simple("SELECT 1")
        open_ones.append(made)
        for parameters in ({"user": "app", "database": "app", f"x{word}": "1"}, {"user": f"v{word}", "database": "pgbouncer"},
                           {"user": "app", "database": "app", "client_encoding": word},
                           {"user": "app", "database": "app", "options": f"-c {word}"}):
            with Connection(proxy.host, proxy.port) as refused:
                refused.send(startup(parameters))
                try:
                    while refused.read().type != "Z":
                        pass
                except Closed:
                    pass
    shown = ""
    with Connection(proxy.host, proxy.port).login(user="admin", database="pgbouncer") as console:
        for word in names.values():
            console.ask(query(f"KILL \"{word}\""))
            console.ask(query(f"FOO {word}"))
        for table in ("CLIENTS", "SERVERS", "POOLS", "DATABASES", "USERS", "STATS", "STATS_TOTALS", "SOCKETS", "TOTALS",
                      "STATS_AVERAGES", "ACTIVE_SOCKETS", "CONFIG", "LISTS"):
            shown += "\t".join(
                value.decode() for message in console.ask(query(f"SHOW {table}")) if message.type == "D"
                for value in message.values() if value is not None)
    for each in open_ones:
        each.socket.close()
    log = "".join(re.sub(r"^\S+ \S+ \w+ \[\d+\] \w+ ", "", line) for line in proxy.log_text().split("\n"))
    assert harmful(log, EVIL | HIDDEN) == []
    assert harmful(shown, EVIL) == []
    # What is there is told, and what is harmless is as it was.
    assert "u" + HARMLESS in shown and "d" + HARMLESS in log
    assert "a\\u{202e}b" in shown and "a\\u{202e}b" in log and "a\\u{200b}b" in log and "a\u200bb" in shown
