"""Logins that break the rules of SCRAM and of the protocol: nobody gets in by them."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

import pytest

from hostile import LOGIN, thrown_out
from proxy import USERLIST, Proxy
from rawpg import (
    SYNC, Connection, ScramClient, bind, execute, message, parse, query, sasl_initial, scram_secret, startup, text)

pytestmark = pytest.mark.one_loop


@pytest.fixture
def scram_proxy(start_proxy: Callable[..., Proxy]) -> Proxy:
    return start_proxy(
        settings={"auth_type": "scram-sha-256", "client_login_timeout": 5},
        secrets=USERLIST | {"app": scram_secret("app-secret")})


def sasl_started(proxy: Proxy) -> Connection:
    connection = Connection(proxy.host, proxy.port)
    connection.send(LOGIN)
    assert connection.read().type == "R"
    return connection


CLIENT_FIRST = {
    "nothing": message("p"),
    "mechanism without an end": message("p", b"SCRAM-SHA-256"),
    "unknown mechanism": sasl_initial(b"n,,n=,r=abc", "SCRAM-MD5"),
    "-PLUS without TLS": sasl_initial(b"p=tls-server-end-point,,n=,r=abc", "SCRAM-SHA-256-PLUS"),
    "negative length": message("p", text("SCRAM-SHA-256") + struct.pack("!i", -1)),
    "length beyond the message": message("p", text("SCRAM-SHA-256") + struct.pack("!i", 1000) + b"n,,n=,r=abc"),
    "huge length": message("p", text("SCRAM-SHA-256") + struct.pack("!i", 2**31 - 1) + b"n,,n=,r=abc"),
    "bytes behind": message("p", text("SCRAM-SHA-256") + struct.pack("!i", 11) + b"n,,n=,r=abcrest"),
    "empty message": sasl_initial(b""),
    "no nonce": sasl_initial(b"n,,n=app"),
    "empty nonce": sasl_initial(b"n,,n=,r="),
    "unprintable nonce": sasl_initial(b"n,,n=,r=\x01\x02\xff"),
    "nonce of a megabyte": sasl_initial(b"n,,n=,r=" + b"x" * 1_000_000),
    "zero inside": sasl_initial(b"n,,n=,r=abc\0def"),
    "channel binding without TLS": sasl_initial(b"p=tls-unique,,n=,r=abc"),
    "unknown flag": sasl_initial(b"z,,n=,r=abc"),
    "mandatory extension": sasl_initial(b"n,,m=x,n=,r=abc"),
    "random": sasl_initial(bytes(random.Random(2).randrange(256) for _ in range(300))),
}


@pytest.mark.parametrize("name", CLIENT_FIRST)
def test_scram_first_message(scram_proxy: Proxy, name: str) -> None:
    with sasl_started(scram_proxy) as connection:
        connection.send(CLIENT_FIRST[name])
        said = thrown_out(connection, 8)
        assert not [each for each in said if each.type in "ZK"]
    with scram_proxy.connect(password="app-secret") as other:
        assert other.execute("SELECT 1").fetchone() == (1,)


def final_messages(server_first: bytes, client: ScramClient) -> dict[str, bytes]:
    good = client.final(server_first)
    without_proof, _, proof = good.partition(b",p=")
    return {
        "nothing": b"",
        "no proof": without_proof,
        "empty proof": without_proof + b",p=",
        "short proof": without_proof + b",p=AAAA",
        "long proof": without_proof + b",p=" + b"A" * 100_000,
        "not base64": without_proof + b",p=!!!!",
        "no nonce": b"c=biws,p=" + proof,
        "no channel binding": without_proof.partition(b",")[2] + b",p=" + proof,
        "other channel binding": b"c=eSws," + without_proof.partition(b",")[2] + b",p=" + proof,
        "other nonce": b"c=biws,r=other,p=" + proof,
        "nonce cut off": without_proof[:-3] + b",p=" + proof,
        "nonce made longer": without_proof + b"x,p=" + proof,
        "zeros for a proof": without_proof + b",p=" + b"A" * 43 + b"=",
    }


@pytest.mark.parametrize("name", list(final_messages(b"r=abc,s=AAAA,i=1", ScramClient("x", "abc"))))
def test_scram_final_message(scram_proxy: Proxy, name: str) -> None:
    with sasl_started(scram_proxy) as connection:
        client = ScramClient("app-secret")
        connection.send(sasl_initial(client.first()))
        server_first = connection.read().body[4:]
        connection.send(message("p", final_messages(server_first, client)[name]))
        said = thrown_out(connection, 8)
        assert not [each for each in said if each.type in "ZK"]


@pytest.mark.parametrize("when", ["before the first message", "after the first message"])
def test_second_startup_packet_in_the_middle_of_scram(scram_proxy: Proxy, when: str) -> None:
    """The exchange of one user must not log in another."""
    with sasl_started(scram_proxy) as connection:
        client = ScramClient("app-secret")
        if when == "after the first message":
            connection.send(sasl_initial(client.first()))
            server_first = connection.read().body[4:]
        try:
            connection.send(startup({"user": "postgres", "database": "postgres"}))
            if when == "after the first message":
                connection.send(message("p", client.final(server_first)))
        except (BrokenPipeError, ConnectionResetError):
            pass
        said = thrown_out(connection, 8)
        assert not [each for each in said if each.type in "ZK"]


def test_query_in_the_middle_of_a_login(scram_proxy: Proxy) -> None:
    with sasl_started(scram_proxy) as connection:
        connection.send(query("SELECT 1"), parse("SELECT 1"), bind(), execute(), SYNC)
        said = thrown_out(connection, 8)
        assert not [each for each in said if each.type in "ZKD"]


def test_query_sent_with_the_password(start_proxy: Callable[..., Proxy]) -> None:
    """A client in a hurry: what follows the password is answered after the login, not lost."""
    proxy = start_proxy(settings={"auth_type": "plain"})
    with Connection(proxy.host, proxy.port) as connection:
        connection.send(LOGIN)
        assert connection.read().type == "R"
        connection.send(message("p", text("app-secret")) + query("SELECT 1"))
        answer = connection.read_until("Z", 2)
        assert [each.values() for each in answer if each.type == "D"] == [[b"1"]]


def test_query_sent_with_the_startup_packet(proxy: Proxy) -> None:
    with Connection(proxy.host, proxy.port) as connection:
        connection.send(LOGIN + query("SELECT 1"))
        answer = connection.read_until("Z", 2)
        assert [each.values() for each in answer if each.type == "D"] == [[b"1"]]
