"""auth_type = pam: the operating system's modules say whether a password is right."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from cluster import Cluster
from common import AS_ROOT, own, remove, service_directory
from proxy import Proxy
from test_logins import refusal

pytestmark = [
    pytest.mark.one_loop,
    pytest.mark.martlet("auth_pam_service"),
    pytest.mark.skipif(not AS_ROOT, reason="services of PAM are root's to define")]

SERVICES = Path("/etc/pam.d")


@pytest.fixture
def service() -> Iterator[Callable[..., str]]:
    """Defines services of PAM: of lines of a file in /etc/pam.d, where {folder} is one that the proxy can read."""
    folder = Path(service_directory("mp-"))
    made: list[Path] = []

    def make(*lines: str, script: str = "") -> str:
        made.append(SERVICES / f"martlet-test-{uuid.uuid4().hex[:12]}")
        if script:
            program = folder / "check"
            program.write_text("#!/bin/sh\n" + script)
            program.chmod(0o755)
            own(folder)
        made[-1].write_text("".join(line.format(folder=folder) + "\n" for line in lines))
        return made[-1].name

    yield make
    for path in made:
        path.unlink()
    remove(folder)


# pam_exec gives the password on standard input, ended by a NUL.
ASK = "auth required pam_exec.so quiet expose_authtok {folder}/check"


def test_the_right_password_and_the_wrong_one(
        start_proxy: Callable[..., Proxy], service: Callable[..., str], cluster: Cluster) -> None:
    name = service(ASK, "account required pam_permit.so",
                   script='[ "$PAM_USER:$PAM_RHOST:$(tr -d "\\000")" = scram_user:127.0.0.1:scram-secret ]\n')
    proxy = start_proxy(settings={"auth_type": "pam", "auth_pam_service": name}, secrets={"admin": "x"})
    # The server asks for the same password by SCRAM.
    with proxy.connect(user="scram_user", password="scram-secret") as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("scram_user",)
    fields = refusal(proxy, "scram_user", password="wrong")
    assert (fields["C"], fields["M"]) == ("28000", "PAM authentication failed")
    # Nobody else, and not for auth_file either.
    assert refusal(proxy, "app", password="scram-secret")["C"] == "28000"
    assert refusal(proxy, "admin", "pgbouncer", password="x")["M"] == "PAM authentication failed"
    fields = refusal(proxy, "scram_user", password="")
    assert (fields["C"], fields["M"]) == ("28P01", "PAM authentication failed")
    # In the words of the module.
    assert re.search(r"scram_user@127.0.0.1:\d+ PAM: \w+", proxy.log_text())


@pytest.mark.parametrize("lines", [
    pytest.param(("auth required pam_deny.so", "account required pam_permit.so"), id="auth"),
    pytest.param(("auth required pam_permit.so", "account required pam_deny.so"), id="account"),
    pytest.param((), id="no such module"),
])
def test_what_the_modules_deny(
        start_proxy: Callable[..., Proxy], service: Callable[..., str], lines: tuple[str, ...]) -> None:
    name = service(*lines) if lines else "martlet-test-" + uuid.uuid4().hex
    proxy = start_proxy(settings={"auth_type": "pam", "auth_pam_service": name})
    assert refusal(proxy, "app", password="app-secret")["M"] == "PAM authentication failed"


def test_slow_modules_hold_nobody_up(start_proxy: Callable[..., Proxy], service: Callable[..., str]) -> None:
    """Who is in works on; logins wait for each other, and no longer than client_login_timeout."""
    slow = service(ASK, "account required pam_permit.so", script='[ "$PAM_USER" != app ] || sleep 2\n')
    proxy = start_proxy(settings={
        "auth_type": "pam", "auth_pam_service": slow, "client_login_timeout": 5})
    with proxy.connect(user="trust_user", password="trust-secret") as connection:
        with ThreadPoolExecutor(20) as pool:
            begin = time.monotonic()
            waiting = [pool.submit(refused_or_in, proxy) for _ in range(20)]
            while not all(each.done() for each in waiting):
                before = time.monotonic()
                assert connection.execute("SELECT 1").fetchone() == (1,)
                assert time.monotonic() - before < 1.5
                time.sleep(0.02)
            answers = [each.result() for each in waiting]
    # Four at a time, two seconds each, for five seconds.
    assert answers.count("in") >= 8
    assert answers.count("in") < 20 and all(each in ("in", "client_login_timeout") for each in answers), answers
    assert time.monotonic() - begin < 15


def refused_or_in(proxy: Proxy) -> str:
    try:
        proxy.connect(password="app-secret").close()
        return "in"
    except psycopg.OperationalError as error:
        return "client_login_timeout" if "client_login_timeout" in str(error) else str(error)
