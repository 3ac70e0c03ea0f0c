"""A file that says who may come in, and is broken or empty, is refused as a whole: at the start, by --check, RELOAD and SET.

Nobody loses a connection or is kept out by a mistake in a file; what is wrong is told with its place.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from common import as_service_user, environment, own, wait_until
from proxy import Program, Proxy
from rawpg import scram_secret
from test_hba import gets_in

pytestmark = [pytest.mark.one_loop, pytest.mark.martlet("PgBouncer goes on with what it could read")]

VERIFIER = scram_secret("x")
# What is wrong: the files' contents, and what is said. {} is the folder.
SETTING = {"auth_file": "users", "auth_hba_file": "rules", "auth_ident_file": "maps"}
GOOD = {"users": '"app" "app-secret"\n"admin" ""\n', "rules": "host all all 127.0.0.1/32 trust\n", "maps": "m joe app\n"}
BROKEN = [
    ("md5", "users", "", "auth_file: {}/users names no user: nobody could log in"),
    ("md5", "users", "\n; nobody\n# as yet\n", "auth_file: {}/users names no user"),
    ("trust", "users", "", "auth_file: {}/users names no user"),
    ("hba", "users", "", "auth_file: {}/users names no user"),
    ("md5", "users", '"app" "app-secret"\napp2 secret\n', "{}/users:2: user in double quotes expected"),
    ("md5", "users", '"app" "app-secret"\n"admin" "half', "{}/users:2: password has no closing double quote"),
    ("md5", "users", '"app" "app-secret"\n"admin"', "{}/users:2: password in double quotes expected"),
    ("md5", "users", f'"app" "{VERIFIER[:40]}"\n"admin" ""\n', '{}/users:1: secret of user "app" begins with'),
    ("md5", "users", b'"app" "app-secret"\n"ad\xffmin" ""\n', "{}/users:2: user name is not valid UTF-8"),
    ("md5", "users", b'"app" "app-sec\x00ret"\n', "{}/users:1: zero byte in password"),
    ("md5", "users", None, "auth_file: cannot read {}/users: No such file or directory"),
    ("hba", "rules", "", "auth_hba_file: {}/rules has no rules: nobody could log in"),
    ("hba", "rules", "# host all all all trust\n", "auth_hba_file: {}/rules has no rules"),
    ("hba", "rules", "host all all 127.0.0.1/32 trust\nhost all al", "{}/rules:2: the address is missing"),
    ("hba", "rules", 'host all "all 127.0.0.1/32 trust\n', "{}/rules:1: a double quote is not closed"),
    ("hba", "rules", b"host all \xff 127.0.0.1/32 trust\n", "{}/rules:1: is not valid UTF-8"),
    ("hba", "rules", "local all all peer map=m2\n", "{}/rules:1: map=m2: there is no such map"),
    ("hba", "maps", "m joe\n", "{}/maps:1: a line has a map, a system name and a user"),
    ("hba", "maps", None, "auth_ident_file: cannot read {}/maps"),
]


def write(folder: Path, files: dict[str, str | bytes | None]) -> None:
    for name, contents in (GOOD | files).items():
        path = folder / name
        if contents is None:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(contents if isinstance(contents, bytes) else contents.encode())
    own(folder)


@pytest.fixture
def guarded(start_proxy: Callable[..., Proxy]) -> Callable[..., Proxy]:
    def start(auth_type: str, folder: Path, run: bool = True) -> Proxy:
        write(folder, {})
        proxy = start_proxy(run=False, settings={"auth_type": auth_type} | {
            key: folder / name for key, name in SETTING.items()}, secrets={"app": "app-secret", "admin": ""})
        return proxy.start() if run else proxy

    return start


def login(auth_type: str) -> dict[str, object]:
    return {"password": "app-secret"} if auth_type == "md5" else {}


@pytest.mark.parametrize(("auth_type", "file", "contents", "expected"), BROKEN)
def test_broken_files(
        guarded: Callable[..., Proxy], program: Program, scratch: Path, auth_type: str, file: str,
        contents: str | bytes | None, expected: str) -> None:
    proxy = guarded(auth_type, scratch)
    expected = expected.replace("{}", str(scratch))
    # The console's admin has no password; on the Unix socket the user pgbouncer needs none.
    assert gets_in(proxy, **login(auth_type))
    write(scratch, {file: contents})

    def said(command: str) -> str:
        result = subprocess.run(
            as_service_user(["psql", "-XAtq", "-h", str(proxy.directory), "-p", str(proxy.port), "-U", "pgbouncer",
                             "-c", command, "pgbouncer"]),
            capture_output=True, text=True, env=environment(), cwd="/", timeout=20)
        return result.stderr

    assert "RELOAD failed" in (answer := said("RELOAD")) and expected in answer
    assert expected in proxy.log_text()
    proxy.signal(signal.SIGHUP)
    wait_until(lambda: "reload failed, the settings in force stay" in proxy.log_text(), "it says so")
    assert gets_in(proxy, **login(auth_type))
    check = subprocess.run(
        as_service_user([*program.command, "--check", str(proxy.config)]), capture_output=True, text=True,
        env=environment(), cwd="/", timeout=20)
    assert (check.returncode, check.stdout) == (1, "") and expected in check.stderr
    other = scratch / "broken"
    if contents is not None:
        other.write_bytes(contents if isinstance(contents, bytes) else contents.encode())
        own(scratch)
    write(scratch, {})
    answer = said(f"SET {next(key for key, name in SETTING.items() if name == file)} = '{other}'")
    assert expected.replace(f"{scratch}/{file}", str(other)) in answer
    assert gets_in(proxy, **login(auth_type))
    assert said("RELOAD") == ""


def test_all_that_is_wrong_is_told_at_once(guarded: Callable[..., Proxy], program: Program, scratch: Path) -> None:
    proxy = guarded("hba", scratch)
    write(scratch, {"users": "rubbish\nmore\n", "rules": "host\nlocal all all nosuch\n"})
    check = subprocess.run(
        as_service_user([*program.command, "--check", str(proxy.config)]), capture_output=True, text=True,
        env=environment(), cwd="/", timeout=20)
    for line in ("users:1:", "users:2:", "rules:1:", "rules:2:"):
        assert f"{scratch}/{line}" in check.stderr


def test_no_users_where_others_tell(start_proxy: Callable[..., Proxy], scratch: Path) -> None:
    """An empty file is no mistake where the server tells who may come in, or a directory, or everybody may."""
    write(scratch, {"users": "", "rules": "host all all 127.0.0.1/32 ldap ldapserver=localhost ldapprefix=uid=\n"})
    for settings in ({"auth_type": "md5", "auth_user": "postgres"}, {"auth_type": "any"}, {"auth_type": "pam"},
                     {"auth_type": "plain", "auth_passthrough": 1},
                     {"auth_type": "hba", "auth_hba_file": scratch / "rules"}):
        proxy = start_proxy(run=False, secrets={}, settings=settings)
        proxy.databases = {"app": proxy.server(user="app")}
        proxy.start()


def test_nobody_is_locked_out_by_a_setting(start_proxy: Callable[..., Proxy]) -> None:
    """Neither by leaving the file out, nor by asking nobody any more."""
    proxy = start_proxy(settings={"auth_type": "md5"}, secrets={"app": "app-secret", "admin": "admin-secret"})
    with proxy.console(password="admin-secret") as console:
        with pytest.raises(psycopg.Error, match="without auth_file: nobody could log in any more"):
            console.execute("SET auth_file = ''")
    proxy.settings["auth_file"] = None
    proxy.write_configuration()
    with proxy.console(password="admin-secret") as console:
        with pytest.raises(psycopg.Error) as failure:
            console.execute("RELOAD")
    assert "without auth_file: nobody could log in any more" in (failure.value.diag.message_detail or "")
    assert gets_in(proxy, password="app-secret")
