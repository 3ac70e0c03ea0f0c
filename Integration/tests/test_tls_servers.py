"""TLS towards servers: what each sslmode takes and refuses, and what is said on the connection."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from certificates import Authority, Certificate
from common import own, remove, service_directory, wait_until
from fakeserver import FakeServer
from proxy import Proxy

pytestmark = pytest.mark.martlet("PgBouncer words some of this differently")


class Papers:
    """The certificates of this file's servers."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        stranger = Authority(folder, "stranger")
        here = "DNS:localhost,IP:127.0.0.1"
        self.kinds: dict[str, Certificate] = {
            "good": self.authority.issue("good", name="server", hosts=here),
            "by common name": self.authority.issue("bycn", name="localhost"),
            "wildcard": self.authority.issue("wild", name="x", hosts="DNS:*.localhost"),
            "wrong host": self.authority.issue("wrong", name="server", hosts="DNS:elsewhere.example,IP:127.0.0.2"),
            "unknown authority": stranger.issue("unknown", name="localhost", hosts=here),
            "expired": self.authority.issue("expired", name="localhost", hosts=here, days=-1),
        }
        self.client = self.authority.issue("client", name="app")


@pytest.fixture(scope="module")
def papers() -> Iterator[Papers]:
    folder = service_directory("mc-")
    made = Papers(folder)
    own(folder)
    yield made
    remove(folder)


@pytest.fixture
def reach(start_proxy: Callable[..., Proxy], papers: Papers) -> Callable[..., Proxy]:
    """A proxy in front of a fake server."""

    def start(server: FakeServer, mode: str, *, host: str = "localhost", more: str = "", **settings: object) -> Proxy:
        return start_proxy(
            settings={"server_tls_sslmode": mode, "server_tls_ca_file": papers.authority.crt, "min_pool_size": 0,
                      "server_login_retry": 1, "query_wait_timeout": 10, **settings},
            databases={"app": f"host={host} port={server.port} {more}"})

    return start


def outcome(proxy: Proxy) -> str:
    """"in", or what the client is told."""
    try:
        with proxy.connect() as connection:
            assert connection.execute("SELECT 1", prepare=False).fetchone() == (1,)
        return "in"
    except psycopg.OperationalError as error:
        return str(error)


VERIFICATION = [
    # certificate, host as configured, what require, verify-ca and verify-full say
    ("good", "localhost", "in", "in", "in"),
    ("good", "127.0.0.1", "in", "in", "in"),
    ("by common name", "localhost", "in", "in", "in"),
    ("wildcard", "localhost", "in", "in", "hostname mismatch"),
    ("wrong host", "localhost", "in", "in", "hostname mismatch"),
    ("wrong host", "127.0.0.1", "in", "in", "IP address mismatch"),
    ("unknown authority", "localhost", "in", "unable to get local issuer certificate",
     "unable to get local issuer certificate"),
    ("expired", "localhost", "in", "certificate has expired", "certificate has expired"),
]


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
@pytest.mark.parametrize(("kind", "host", "require", "verify_ca", "verify_full"), VERIFICATION)
def test_certificates(reach: Callable[..., Proxy], papers: Papers, kind: str, host: str, require: str,
                      verify_ca: str, verify_full: str, mode: str) -> None:
    expected = {"require": require, "verify-ca": verify_ca, "verify-full": verify_full}[mode]
    with FakeServer(papers.kinds[kind]) as server:
        assert expected in outcome(reach(server, mode, host=host))
        assert server.startups == len(server.encrypted), "nothing is said in clear"
        if expected != "in":
            assert server.startups == 0, "nothing is said to a server that is not who it should be"


@pytest.mark.parametrize(("mode", "answer", "expected"), [
    ("disable", b"S", "in"), ("allow", b"N", "in"), ("prefer", b"N", "in"), ("allow", b"S", "in"),
    ("prefer", b"S", "in"), ("require", b"N", "server refused SSL"), ("verify-full", b"N", "server refused SSL"),
    ("prefer", b"E\0\0\0\x10SFATAL", "answered SSL request with an error"),
    ("require", b"?", "bad answer to SSL request"),
    # CVE-2021-23222: what stands behind the answer was not sent by who the certificate names.
    ("prefer", b"SR\0\0\0\x08\0\0\0\0", "unencrypted data after SSL response"),
    ("prefer", b"NR\0\0\0\x08\0\0\0\0", "unencrypted data after SSL response"),
])
def test_answers_to_ssl_request(
        reach: Callable[..., Proxy], papers: Papers, mode: str, answer: bytes, expected: str) -> None:
    with FakeServer(papers.kinds["good"], answer=answer) as server:
        assert expected in outcome(reach(server, mode))
        if expected == "in":
            assert len(server.encrypted) == (server.startups if answer == b"S" and mode != "disable" else 0)


def test_a_failed_handshake_is_no_reason_to_go_on_in_clear(reach: Callable[..., Proxy], papers: Papers) -> None:
    with FakeServer(papers.kinds["good"], configure=lambda context: context.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
                    or setattr(context, "maximum_version", ssl.TLSVersion.TLSv1_2)) as server:
        assert "TLS startup failed" in outcome(reach(server, "prefer"))
        assert server.startups == 0


@pytest.mark.parametrize(("protocols", "version", "expected"), [
    ("secure", ssl.TLSVersion.TLSv1_3, "TLSv1.3"), ("secure", ssl.TLSVersion.TLSv1_2, "TLSv1.2"),
    ("tlsv1.3", ssl.TLSVersion.TLSv1_2, ""), ("secure,!tlsv1.3", ssl.TLSVersion.TLSv1_3, ""),
])
def test_protocol_versions(reach: Callable[..., Proxy], papers: Papers, protocols: str, version: ssl.TLSVersion,
                           expected: str) -> None:
    def only(context: ssl.SSLContext) -> None:
        context.minimum_version = context.maximum_version = version

    with FakeServer(papers.kinds["good"], configure=only) as server:
        said = outcome(reach(server, "require", server_tls_protocols=protocols))
        assert (said == "in") == bool(expected), said
        assert server.encrypted == ([expected] if expected else [])


def test_the_database_has_the_last_word(reach: Callable[..., Proxy], papers: Papers) -> None:
    with FakeServer(papers.kinds["wrong host"]) as server:
        assert outcome(reach(server, "disable", more="sslmode=require")) == "in"
        assert "mismatch" in outcome(reach(server, "disable", more="sslmode=verify-full"))
        assert outcome(reach(server, "verify-full", more="sslmode=verify-ca")) == "in"


def test_server_name_and_own_certificate(reach: Callable[..., Proxy], papers: Papers) -> None:
    def demand(context: ssl.SSLContext) -> None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(papers.authority.crt)

    with FakeServer(papers.kinds["good"], configure=demand) as server:
        proxy = reach(server, "verify-full", server_tls_cert_file=papers.client.crt,
                      server_tls_key_file=papers.client.key)
        assert outcome(proxy) == "in"
        assert server.names == ["localhost"]
        assert server.peers[0] and server.peers[0]["subject"] == ((("commonName", "app"),),)


def test_direct_tls(reach: Callable[..., Proxy], papers: Papers) -> None:
    with FakeServer(papers.kinds["good"], direct=True, alpn=["postgresql"]) as server:
        assert outcome(reach(server, "verify-full", server_tls_sslnegotiation="direct")) == "in"
        assert server.protocols == ["postgresql"]
    with FakeServer(papers.kinds["good"], direct=True) as server:
        assert "ALPN" in outcome(reach(server, "verify-full", server_tls_sslnegotiation="direct"))
        assert server.startups == 0


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_are_resumed(reach: Callable[..., Proxy], papers: Papers, version: ssl.TLSVersion) -> None:
    """A server that hands out tickets is spared the second full handshake."""

    def only(context: ssl.SSLContext) -> None:
        context.minimum_version = context.maximum_version = version

    with FakeServer(papers.kinds["good"], configure=only) as server:
        proxy = reach(server, "verify-full")
        for _ in range(3):
            assert outcome(proxy) == "in"
            proxy.command("RECONNECT")
            wait_until(lambda: not proxy.show("SERVERS"), "the connection has been replaced")
        assert server.resumed == [False, True, True]


@pytest.mark.parametrize(("mechanisms", "expected"), [
    (b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0", b"SCRAM-SHA-256-PLUS\0"), (b"SCRAM-SHA-256\0", b"SCRAM-SHA-256\0"),
])
def test_scram_is_bound_to_the_certificate(
        reach: Callable[..., Proxy], papers: Papers, mechanisms: bytes, expected: bytes) -> None:
    with FakeServer(papers.kinds["good"], ask_for_scram=mechanisms) as server:
        assert outcome(reach(server, "verify-full", server_login_retry=0)) != "in"
        wait_until(lambda: server.sasl, "it has answered")
        assert server.sasl[0].startswith(expected)
        header = b"p=tls-server-end-point,," if expected.endswith(b"PLUS\0") else b"y,,"
        assert server.sasl[0][len(expected) + 4:].startswith(header)


@pytest.mark.parametrize(("mode", "is_tls"), [("disable", False), ("prefer", True), ("verify-full", True)])
def test_cancel_requests_are_as_secret_as_the_connection(
        reach: Callable[..., Proxy], papers: Papers, mode: str, is_tls: bool) -> None:
    with FakeServer(papers.kinds["good"]) as server, reach(server, mode).connect() as client:
        timer = threading.Timer(0.5, client.cancel_safe)
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            client.execute("SELECT wait", prepare=False)
        timer.join()
        assert server.cancels == [is_tls]


def test_changed_settings_replace_connections(reach: Callable[..., Proxy], papers: Papers) -> None:
    with FakeServer(papers.kinds["good"]) as server:
        proxy = reach(server, "disable")
        with proxy.connect() as client:
            assert client.execute("SELECT 1", prepare=False).fetchone() == (1,)
            assert [row["tls"] for row in proxy.show("SERVERS")] == [""]
            proxy.settings["server_tls_sslmode"] = "verify-full"
            proxy.reload()
            wait_until(lambda: not proxy.show("SERVERS"), "the old connection has gone")
            assert client.execute("SELECT 1", prepare=False).fetchone() == (1,)
            [row] = proxy.show("SERVERS")
            assert row["tls"].startswith("TLSv1.3/TLS_AES_256_GCM_SHA384/ECDH=")
        # A file that cannot be read changes nothing.
        proxy.settings["server_tls_ca_file"] = "/nonexistent"
        with pytest.raises(psycopg.Error, match="RELOAD failed") as failure:
            proxy.reload()
        assert "/nonexistent: No such file" in (failure.value.diag.message_detail or "")
        assert outcome(proxy) == "in"


def test_a_server_that_stops_in_the_handshake(reach: Callable[..., Proxy], papers: Papers) -> None:
    with FakeServer(papers.kinds["good"], answer=b"") as server:
        begin = time.monotonic()
        assert "connect timeout" in outcome(
            reach(server, "require", server_connect_timeout=1, query_wait_timeout=2))
        assert time.monotonic() - begin < 6
