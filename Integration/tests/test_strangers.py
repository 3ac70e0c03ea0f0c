"""What those meet who have not shown who they are: limits by address, no MD5 where it is switched off, quoted names."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cluster import USERS
from common import wait_until
from proxy import USERLIST, Proxy
from rawpg import Connection, md5_secret, startup
from test_hba import gets_in
from test_logins import refusal

pytestmark = pytest.mark.martlet("settings that PgBouncer lacks")


def test_logins_of_one_address_are_limited(start_proxy: Callable[..., Proxy]) -> None:
    # One reactor, so that they are counted in the order in which they come.
    proxy = start_proxy(threads=1, settings={"max_logins_per_address": 3, "client_login_timeout": 60})
    stuck = [Connection(proxy.host, proxy.port) for _ in range(3)]
    for each in stuck:
        each.send(b"\0\0")  # A connection without a byte is not even accepted (tcp_defer_accept).
    with Connection(proxy.host, proxy.port) as more:
        more.send(b"\0\0")
        fields = more.read().fields()
        assert (fields["C"], fields["M"]) == ("53300", "too many logins under way (max_logins_per_address)")
    # Not so on the Unix socket, where the administrator comes.
    assert gets_in(proxy, host=str(proxy.directory))
    for each in stuck:
        each.socket.close()
    wait_until(lambda: gets_in(proxy), "there is room again", 5)
    # Who is in does not count.
    connected = [proxy.connect() for _ in range(10)]
    for each in connected:
        each.close()


def test_without_md5(start_proxy: Callable[..., Proxy]) -> None:
    proxy = start_proxy(
        settings={"auth_type": "md5", "auth_allow_md5": 0},
        secrets=USERLIST | {"trust_user": md5_secret("trust_user", "trust-secret")})
    assert gets_in(proxy, password="app-secret", require_auth="scram-sha-256")
    assert not gets_in(proxy, user="trust_user", password="trust-secret")
    assert refusal(proxy, "trust_user", password="trust-secret")["C"] == "28P01"


@pytest.mark.parametrize("allowed", [0, 1])
def test_a_server_that_asks_for_md5(start_proxy: Callable[..., Proxy], allowed: int) -> None:
    proxy = start_proxy(settings={"auth_type": "plain", "auth_allow_md5": allowed})
    assert gets_in(proxy, user="md5_user", password=USERS["md5_user"][0]) == bool(allowed)
    assert ("auth_allow_md5 = 0 forbids" in proxy.log_text()) == (not allowed)


def test_names_cannot_forge_a_line(start_proxy: Callable[..., Proxy]) -> None:
    proxy = start_proxy(settings={"auth_type": "scram-sha-256"})
    name = "app@10.0.0.7:1 login attempt: db=app user=app tls=no\n2026-01-01 LOG \x1b[2J\u2028x"
    with Connection(proxy.host, proxy.port) as connection:
        connection.send(startup({"user": name, "database": "a/b"}))
        with pytest.raises(AssertionError):
            connection.authenticate(name, "x")
    lines = proxy.log_text().split("\n")
    ours = [line for line in lines if "app@10.0.0.7" in line]
    assert ours and all('"a/b"/"app@10.0.0.7:1 login attempt' in line or "user \"app@" in line for line in ours)
    assert not any(line.startswith("2026-01-01 LOG") for line in lines)
    assert "\x1b" not in proxy.log_text()
