"""Every setting of TLS, changed in a running proxy by SET and by RELOAD: what the next handshake shows."""

from __future__ import annotations

import shutil
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from certificates import Certificate
from cluster import Cluster
from common import own, wait_until
from proxy import Proxy
from rawpg import SSL_REQUEST, request
from test_tls import Papers, papers, parameters, secure, strict_cluster  # noqa: F401  (fixtures)

pytestmark = [pytest.mark.one_loop, pytest.mark.martlet("SET of these is its own")]

HOW = pytest.mark.parametrize("how", ["SET", "RELOAD"])


def change(proxy: Proxy, how: str, settings: dict[str, object]) -> None:
    if how == "SET":
        with proxy.console(host=str(proxy.directory), password="admin-secret") as console:
            for key, value in settings.items():
                console.execute(f"SET {key} = '{value}'")
    else:
        proxy.settings |= settings
        proxy.write_configuration()
        with proxy.console(host=str(proxy.directory), password="admin-secret") as console:
            console.execute("RELOAD")


def handshake(proxy: Proxy, ciphers: str = "", highest: ssl.TLSVersion | None = None,
              shown: Certificate | None = None) -> str:
    """Version and cipher that are agreed on, and the proxy's certificate's serial number; or that it fails."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if ciphers:
        context.set_ciphers(ciphers)
    if highest:
        context.maximum_version = highest
    if shown:
        context.load_cert_chain(shown.crt, shown.key)
    with socket.create_connection((proxy.host, proxy.port), 10) as plain:
        plain.sendall(request(SSL_REQUEST))
        if plain.recv(1) != b"S":
            return "none"
        try:
            with context.wrap_socket(plain) as secured:
                # With TLS 1.3 a client hears only now that its certificate was not liked.
                secured.settimeout(0.3)
                try:
                    secured.recv(1)
                except TimeoutError:
                    pass
                return f"{secured.version()} {secured.cipher()[0]} {digest(secured.getpeercert(True))}"  # type: ignore
        except (ssl.SSLError, OSError):
            return "fails"


def digest(certificate: bytes | None) -> int:
    return hash(certificate)


def digest_of(paper: Certificate) -> int:
    return digest(ssl.PEM_cert_to_DER_cert(paper.crt.read_text()))


DHE = "DHE-RSA-AES128-GCM-SHA256"
OLD = ssl.TLSVersion.TLSv1_2
CLIENT_SIDE = [
    # settings at first, those that change, how the client begins, and what the handshake says then
    ({}, {"client_tls13_ciphers": "TLS_CHACHA20_POLY1305_SHA256"}, {}, "TLSv1.3 TLS_CHACHA20_POLY1305_SHA256"),
    ({"client_tls13_ciphers": "TLS_CHACHA20_POLY1305_SHA256"}, {"client_tls13_ciphers": "TLS_AES_128_GCM_SHA256"}, {},
     "TLSv1.3 TLS_AES_128_GCM_SHA256"),
    ({"client_tls13_ciphers": "TLS_AES_128_GCM_SHA256"}, {"client_tls13_ciphers": ""}, {},
     "TLSv1.3 TLS_AES_256_GCM_SHA384"),
    ({}, {"client_tls_ciphers": "ECDHE-RSA-AES128-GCM-SHA256"}, {"highest": OLD},
     "TLSv1.2 ECDHE-RSA-AES128-GCM-SHA256"),
    ({}, {"client_tls_protocols": "tlsv1.2"}, {}, "TLSv1.2 "),
    ({"client_tls_protocols": "tlsv1.2"}, {"client_tls_protocols": "secure"}, {}, "TLSv1.3 "),
    ({}, {"client_tls_protocols": "tlsv1.3"}, {"highest": OLD}, "fails"),
    ({}, {"client_tls_dheparams": "none"}, {"highest": OLD, "ciphers": DHE}, "fails"),
    ({"client_tls_dheparams": "none"}, {"client_tls_dheparams": "auto"}, {"highest": OLD, "ciphers": DHE},
     f"TLSv1.2 {DHE}"),
    ({}, {"client_tls_ecdhcurve": "none"}, {"highest": OLD, "ciphers": "ECDHE-RSA-AES128-GCM-SHA256"}, "fails"),
    ({}, {"client_tls_sslmode": "disable"}, {}, "none"),
    ({"client_tls_sslmode": "disable"}, {"client_tls_sslmode": "require"}, {}, "TLSv1.3 "),
    ({}, {"client_tls_sslmode": "verify-ca"}, {}, "fails"),
    ({"client_tls_sslmode": "verify-ca"}, {"client_tls_ca_file": "stranger"}, {"shown": "app"}, "fails"),
    ({"client_tls_sslmode": "verify-ca"}, {"client_tls_ca_file": "stranger"}, {"shown": "strange_app"}, "TLSv1.3 "),
]


@HOW
@pytest.mark.parametrize(("before", "after", "client", "expected"), CLIENT_SIDE)
def test_clients_handshakes(
        secure: Callable[..., Proxy], papers: Papers, before: dict[str, str], after: dict[str, str],  # noqa: F811
        client: dict[str, object], expected: str, how: str) -> None:
    proxy = secure(**({"mode": before["client_tls_sslmode"]} if "client_tls_sslmode" in before else {}),
                   certificate=papers.rsa, **{key: value for key, value in before.items() if key != "client_tls_sslmode"})
    client = {key: getattr(papers, str(value)) if key == "shown" else value for key, value in client.items()}
    after = {key: str(papers.stranger.crt) if value == "stranger" else value for key, value in after.items()}
    assert not handshake(proxy, **client).startswith(expected), "it is so already"  # type: ignore[arg-type]
    change(proxy, how, after)
    assert handshake(proxy, **client).startswith(expected)  # type: ignore[arg-type]


@HOW
def test_curves_of_clients(secure: Callable[..., Proxy], papers: Papers, how: str) -> None:  # noqa: F811
    proxy = secure()
    change(proxy, how, {"client_tls_ecdhcurve": "secp384r1"})
    with psycopg.connect(**parameters(proxy, papers)):
        with proxy.console(host=str(proxy.directory)) as console:
            assert [row["tls"].partition("ECDH=")[2] for row in console.execute("SHOW CLIENTS")
                    if row["user"] == "app"] == ["secp384r1"]


SERVER_SIDE = [
    ({}, {"server_tls13_ciphers": "TLS_CHACHA20_POLY1305_SHA256"}, "TLSv1.3/TLS_CHACHA20_POLY1305_SHA256"),
    ({"server_tls13_ciphers": "TLS_AES_128_GCM_SHA256"}, {"server_tls13_ciphers": ""},
     "TLSv1.3/TLS_AES_256_GCM_SHA384"),
    ({}, {"server_tls_protocols": "tlsv1.2"}, "TLSv1.2/"),
    ({"server_tls_protocols": "tlsv1.2"}, {"server_tls_ciphers": "ECDHE-ECDSA-AES128-GCM-SHA256"},
     "TLSv1.2/ECDHE-ECDSA-AES128-GCM-SHA256"),
    ({}, {"server_tls_ca_file": "stranger"}, "certificate verify failed"),
    ({}, {"server_tls_sslmode": "disable"}, "no pg_hba.conf entry"),
    ({"server_tls_sslmode": "require"}, {"server_tls_sslmode": "verify-full"}, "TLSv1.3/"),
    ({}, {"server_tls_key_file": "trust_user", "server_tls_cert_file": "trust_user"}, "authentication failed"),
]


@HOW
@pytest.mark.parametrize(("before", "after", "expected"), SERVER_SIDE)
def test_servers_handshakes(
        secure: Callable[..., Proxy], papers: Papers, strict_cluster: Cluster, before: dict[str, str],  # noqa: F811
        after: dict[str, str], expected: str, how: str) -> None:
    """Connections that are there are replaced: none goes on under rules that hold no more."""
    proxy = secure(strict_cluster, auth_type="plain", server_login_retry=1, **(
        {"server_tls_sslmode": "verify-full", "server_tls_ca_file": papers.authority.crt,
         "server_tls_cert_file": papers.app.crt, "server_tls_key_file": papers.app.key} | before))

    def seen() -> str:
        try:
            with psycopg.connect(**parameters(proxy, papers), autocommit=True) as connection:
                connection.execute("SELECT 1")
                with proxy.console(host=str(proxy.directory), password="admin-secret") as console:
                    [server] = console.execute("SHOW SERVERS").fetchall()
                    return str(server["tls"])
        except psycopg.OperationalError as error:
            return str(error)

    first = seen()
    assert first.startswith("TLSv1.")
    change(proxy, how, {key: {"stranger": papers.stranger.crt}.get(value) or (
        getattr(papers, value).key if key.endswith("key_file") else getattr(papers, value).crt
        if value == "trust_user" else value) for key, value in after.items()})
    assert expected in seen()


# A key and its certificate.

@pytest.mark.parametrize("order", [("key", "cert"), ("cert", "key")])
@pytest.mark.parametrize("side", ["client", "server"])
def test_a_pair_by_two_sets(
        secure: Callable[..., Proxy], papers: Papers, strict_cluster: Cluster, side: str,  # noqa: F811
        order: tuple[str, str]) -> None:
    """The first waits for the second, nothing changes in between, and the second brings both."""
    proxy = secure(strict_cluster, auth_type="plain", server_tls_sslmode="verify-full",
                   server_tls_ca_file=papers.authority.crt, server_tls_cert_file=papers.trust_user.crt,
                   server_tls_key_file=papers.trust_user.key)
    files = {"key": str(papers.rsa.key), "cert": str(papers.rsa.crt)} if side == "client" else {
        "key": str(papers.app.key), "cert": str(papers.app.crt)}

    def is_changed() -> bool:
        if side == "client":
            return handshake(proxy).endswith(str(digest_of(papers.rsa)))
        try:
            psycopg.connect(**parameters(proxy, papers)).close()
            return True
        except psycopg.OperationalError as error:
            assert "authentication failed" in str(error)
            return False

    assert not is_changed()
    with proxy.console(host=str(proxy.directory), password="admin-secret") as console:
        notices: list[str] = []
        console.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
        first, second = (f"{side}_tls_{word}_file" for word in order)
        before = proxy_setting(console, first)
        console.execute(f"SET {first} = '{files[order[0]]}'")
        assert len(notices) == 1 and f"both take effect with a {second} that fits" in notices[0], notices
        assert proxy_setting(console, first) == before
        assert not is_changed()
        # Neither does a setting that has nothing to do with it bring half of the pair.
        console.execute(f"SET {side}_tls_protocols = 'all'")
        assert not is_changed()
        # One that fits to nothing is not taken in its place.
        console.execute(f"SET {second} = '{papers.stranger.key if order[1] == 'key' else papers.stranger.crt}'")
        assert not is_changed()
        with pytest.raises(psycopg.Error, match="No such file"):
            console.execute(f"SET {second} = '/nonexistent'")
        del notices[:]
        console.execute(f"SET {second} = '{files[order[1]]}'")
        assert notices == []
        assert {key: proxy_setting(console, f"{side}_tls_{key}_file") for key in files} == files
    wait_until(is_changed, "the new pair is used")


def proxy_setting(console: psycopg.Connection, key: str) -> str:
    return next(row["value"] for row in console.execute("SHOW CONFIG") if row["key"] == key)  # type: ignore[index]


def test_a_first_pair_for_servers(secure: Callable[..., Proxy], papers: Papers) -> None:  # noqa: F811
    """Where there was none before, and none afterwards."""
    proxy = secure(server_tls_sslmode="prefer")
    with proxy.console(host=str(proxy.directory)) as console:
        for key, value in (("cert", papers.app.crt), ("key", papers.app.key), ("key", ""), ("cert", "")):
            console.execute(f"SET server_tls_{key}_file = '{value}'")
        assert proxy_setting(console, "server_tls_key_file") == proxy_setting(console, "server_tls_cert_file") == ""


def test_reload_forgets_half_a_pair(secure: Callable[..., Proxy], papers: Papers) -> None:  # noqa: F811
    proxy = secure()
    with proxy.console(host=str(proxy.directory)) as console:
        console.execute(f"SET client_tls_key_file = '{papers.rsa.key}'")
        console.execute("RELOAD")
        console.execute(f"SET client_tls_cert_file = '{papers.rsa.crt}'")
        assert proxy_setting(console, "client_tls_cert_file") == str(papers.proxy.crt)


# Files whose contents change.

@pytest.fixture
def copies(scratch: Path, papers: Papers) -> Iterator[Callable[..., dict[str, Path]]]:  # noqa: F811
    """Copies of a pair and an authority under names that stay."""

    def install(pair: Certificate, authority: Path | None = None) -> dict[str, Path]:
        for source, name in ((pair.crt, "crt"), (pair.key, "key"), (authority or papers.authority.crt, "ca")):
            shutil.copy(source, scratch / name)
        own(scratch)
        return {"cert_file": scratch / "crt", "key_file": scratch / "key", "ca_file": scratch / "ca"}

    yield install


def test_reload_says_which_files_have_changed(
        secure: Callable[..., Proxy], papers: Papers, strict_cluster: Cluster,  # noqa: F811
        copies: Callable[..., dict[str, Path]]) -> None:
    """Also those that server connections were made with, which are replaced then."""
    files = copies(papers.trust_user)
    proxy = secure(strict_cluster, auth_type="plain", server_tls_sslmode="verify-full",
                   **{f"server_tls_{key}": path for key, path in files.items()})
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        psycopg.connect(**parameters(proxy, papers))
    copies(papers.app)
    with proxy.console(host=str(proxy.directory), password="admin-secret") as console:
        notices: list[str] = []
        console.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
        console.execute("RELOAD")
        assert notices == ["server_tls_cert_file: the file has changed"]
        assert "server_tls_cert_file: the file has changed" in proxy.log_text()

        def gets_in() -> bool:
            try:
                with psycopg.connect(**parameters(proxy, papers), autocommit=True) as connection:
                    return connection.execute("SELECT 1").fetchone() == (1,)
            except psycopg.OperationalError:
                return False

        wait_until(gets_in, "the new certificate is shown to the server")
        assert console.execute("SHOW SERVERS").fetchall()
        del notices[:]
        copies(papers.app, papers.stranger.crt)
        console.execute("RELOAD")
        assert notices == ["server_tls_ca_file: the file has changed"]
        wait_until(lambda: not console.execute("SHOW SERVERS").fetchall(), "the old connections are gone")
        del notices[:]
        console.execute("RELOAD")
        assert notices == []
    assert "RELOAD: nothing has changed" in proxy.log_text()


def test_hup_says_so_too(
        secure: Callable[..., Proxy], papers: Papers, copies: Callable[..., dict[str, Path]]) -> None:  # noqa: F811
    files = copies(papers.elsewhere)
    proxy = secure(**{f"client_tls_{key}": path for key, path in files.items()})
    copies(papers.proxy, papers.stranger.crt)
    proxy.signal(signal.SIGHUP)
    wait_until(lambda: "client_tls_cert_file: the file has changed" in proxy.log_text(), "it is said")
    wait_until(lambda: "client_tls_ca_file: the file has changed" in proxy.log_text(), "it is said")
    assert "nothing has changed" not in proxy.log_text()
