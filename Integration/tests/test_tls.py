"""TLS towards clients: drivers, modes, certificates, reload, large and small messages, and clients that stop half-way."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import psycopg
import pytest

from certificates import Authority, Certificate
from cluster import Cluster
from common import environment, own, remove, service_directory, wait_until
from proxy import Proxy
from rawpg import SSL_REQUEST, query, request, startup

JDBC = Path("/usr/share/java/postgresql.jar")
martlet_only = pytest.mark.martlet("PgBouncer has no channel binding, ALPN or names of its own for this")


class Papers:
    """Certificates of the proxy, of the server behind it, and of clients."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        self.stranger = Authority(folder, "stranger")
        here = "DNS:localhost,IP:127.0.0.1"
        self.proxy = self.authority.issue("proxy", name="localhost", hosts=here)
        self.rsa = self.authority.issue("rsa", name="localhost", hosts=here, kind="rsa", digest="sha384")
        self.server = self.authority.issue("server", name="localhost", hosts=here)
        self.elsewhere = self.authority.issue("elsewhere", name="elsewhere", hosts="DNS:elsewhere.example")
        self.expired = self.authority.issue("expired", name="localhost", hosts=here, days=-1)
        self.app = self.authority.issue("app", name="app")
        self.trust_user = self.authority.issue("trust", name="trust_user")
        self.old_app = self.authority.issue("oldapp", name="app", days=-1)
        self.strange_app = self.stranger.issue("strange", name="app")


@pytest.fixture(scope="module")
def papers() -> Iterator[Papers]:
    folder = service_directory("mc-")
    made = Papers(folder)
    own(folder)
    yield made
    remove(folder)


@pytest.fixture(scope="module")
def strict_cluster(papers: Papers) -> Iterator[Cluster]:
    """A server that takes nobody without TLS and a certificate in the user's name."""
    cluster = Cluster(
        settings={"ssl": "on", "ssl_cert_file": f"'{papers.server.crt}'", "ssl_key_file": f"'{papers.server.key}'",
                  "ssl_ca_file": f"'{papers.authority.crt}'"},
        hba=["local all all trust", "hostnossl all postgres 127.0.0.1/32 trust", "hostssl all postgres 127.0.0.1/32 trust",
             "hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-full"]).start()
    yield cluster
    cluster.remove()


@pytest.fixture
def secure(start_proxy: Callable[..., Proxy], papers: Papers) -> Callable[..., Proxy]:
    """A proxy that offers TLS."""

    def start(behind: Cluster | None = None, mode: str = "require", certificate: Certificate | None = None,
              **settings: object) -> Proxy:
        certificate = certificate or papers.proxy
        threads = settings.pop("threads", None)
        return start_proxy(behind, **({"threads": threads} if threads else {}), settings={
            "client_tls_sslmode": mode, "client_tls_key_file": certificate.key,
            "client_tls_cert_file": certificate.crt, "client_tls_ca_file": papers.authority.crt} | settings)

    return start


@pytest.fixture
def strict(secure: Callable[..., Proxy], papers: Papers, strict_cluster: Cluster) -> Proxy:
    """TLS on both sides, everything verified, SCRAM."""
    proxy = secure(
        strict_cluster, auth_type="scram-sha-256", server_tls_sslmode="verify-full",
        server_tls_ca_file=papers.authority.crt, server_tls_cert_file=papers.app.crt,
        server_tls_key_file=papers.app.key)
    return proxy


def parameters(proxy: Proxy, papers: Papers, **more: object) -> dict[str, object]:
    return {"host": "localhost", "port": proxy.port, "dbname": "app", "user": "app", "password": "app-secret",
            "sslmode": "verify-full", "sslrootcert": str(papers.authority.crt)} | more


def tls_of_clients(proxy: Proxy) -> list[str]:
    with proxy.console(host=str(proxy.directory), password="admin-secret") as console:
        return [row["tls"] for row in console.execute("SHOW CLIENTS") if row["user"] != "admin"]


# Drivers, with everything verified on both sides.

@martlet_only
def test_psql(strict: Proxy, papers: Papers) -> None:
    options = " ".join(f"{key}={value}" for key, value in parameters(strict, papers).items())
    result = subprocess.run(
        ["psql", "-X", "-A", "-t", f"{options} channel_binding=require", "-c",
         "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", "-c", "SELECT count(*) FROM generate_series(1, 9)"],
        capture_output=True, text=True, timeout=60, env=environment())
    assert (result.stdout, result.stderr) == ("t\n9\n", "")


@martlet_only
@pytest.mark.parametrize("more", [{}, {"sslnegotiation": "direct"}, {"ssl_max_protocol_version": "TLSv1.2"}])
def test_psycopg(strict: Proxy, papers: Papers, more: dict[str, str]) -> None:
    with psycopg.connect(**parameters(strict, papers, channel_binding="require", **more)) as connection:
        for number in range(50):
            assert connection.execute("SELECT %s::int", (number,)).fetchone() == (number,)
        version = more.get("ssl_max_protocol_version", "TLSv1.3")
        assert [tls[:7] for tls in tls_of_clients(strict)] == [version]
        with strict.console(host=str(strict.directory), password="admin-secret") as console:
            [server] = console.execute("SHOW SERVERS").fetchall()
            assert server["tls"].startswith("TLSv1.3/TLS_AES_256_GCM_SHA384/ECDH=")


@martlet_only
@pytest.mark.parametrize("certificate", ["proxy", "rsa"])
def test_channel_binding_with_each_digest(
        secure: Callable[..., Proxy], papers: Papers, certificate: str) -> None:
    proxy = secure(certificate=getattr(papers, certificate), auth_type="scram-sha-256")
    psycopg.connect(**parameters(proxy, papers, channel_binding="require")).close()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed|SASL authentication failed"):
        psycopg.connect(**parameters(proxy, papers, channel_binding="require", password="wrong"))


@martlet_only
@pytest.mark.parametrize("direct", [False, True])
def test_asyncpg(strict: Proxy, papers: Papers, direct: bool) -> None:
    async def work() -> None:
        context = ssl.create_default_context(cafile=str(papers.authority.crt))
        context.set_alpn_protocols(["postgresql"])  # asyncpg leaves it to the application; PostgreSQL 17 demands it, too.
        pool = await asyncpg.create_pool(
            host="localhost", port=strict.port, user="app", database="app", password="app-secret", ssl=context,
            direct_tls=direct, min_size=5, max_size=20)
        assert pool
        try:
            found = await asyncio.gather(*(pool.fetchval("SELECT $1::int", number) for number in range(300)))
            assert found == list(range(300))
        finally:
            await pool.close()

    asyncio.run(work())


@martlet_only
@pytest.mark.skipif(not JDBC.exists(), reason="libpostgresql-jdbc-java is not installed")
def test_jdbc(strict: Proxy, papers: Papers, strict_cluster: Cluster) -> None:
    name = strict_cluster.create_database("jdbc_tls")
    try:
        url = (f"jdbc:postgresql://localhost:{strict.port}/{name}?user=app&password=app-secret&sslmode=verify-full"
               f"&sslrootcert={papers.authority.crt}&prepareThreshold=1&channelBinding=require")
        result = subprocess.run(
            ["java", "-XX:TieredStopAtLevel=1", "-cp", str(JDBC),
             str(Path(__file__).parent / "java/JdbcCheck.java"), url, "8", "6"],
            capture_output=True, text=True, timeout=100, env=environment())
        assert result.stdout.strip() == "all well", result.stderr
    finally:
        strict_cluster.drop_database(name)


# Modes and certificates.

@pytest.mark.parametrize(("mode", "plain", "encrypted"), [
    ("disable", True, False), ("allow", True, True), ("prefer", True, True), ("require", False, True)])
def test_modes(secure: Callable[..., Proxy], papers: Papers, mode: str, plain: bool, encrypted: bool) -> None:
    proxy = secure(mode=mode)
    for sslmode, works in (("disable", plain), ("require", encrypted)):
        if works:
            psycopg.connect(**parameters(proxy, papers, sslmode=sslmode)).close()
        else:
            with pytest.raises(psycopg.OperationalError, match="SSL required|does not support SSL"):
                psycopg.connect(**parameters(proxy, papers, sslmode=sslmode))
    psycopg.connect(**parameters(proxy, papers, sslmode="prefer")).close()
    # A Unix socket needs none.
    psycopg.connect(host=str(proxy.directory), port=proxy.port, dbname="app", user="app").close()


@pytest.mark.parametrize(("certificate", "refusal"), [
    ("elsewhere", "does not match host name"), ("expired", "certificate verify failed")])
def test_clients_do_not_take_the_wrong_certificate(
        secure: Callable[..., Proxy], papers: Papers, certificate: str, refusal: str) -> None:
    proxy = secure(certificate=getattr(papers, certificate))
    with pytest.raises(psycopg.OperationalError, match=refusal):
        psycopg.connect(**parameters(proxy, papers))
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        psycopg.connect(**parameters(proxy, papers, sslrootcert=str(papers.stranger.crt)))
    psycopg.connect(**parameters(proxy, papers, sslmode="require", sslrootcert="")).close()


@pytest.mark.parametrize(("protocols", "highest", "works"), [
    ("secure", "TLSv1.2", True), ("secure", "TLSv1.3", True), ("tlsv1.3", "TLSv1.2", False),
    ("tlsv1.2", "TLSv1.3", True), ("secure,!tlsv1.2", "TLSv1.2", False)])
def test_protocol_versions(
        secure: Callable[..., Proxy], papers: Papers, protocols: str, highest: str, works: bool) -> None:
    proxy = secure(client_tls_protocols=protocols)
    if works:
        with psycopg.connect(**parameters(proxy, papers, ssl_max_protocol_version=highest)):
            assert tls_of_clients(proxy)[0][:7] == ("TLSv1.2" if protocols == "tlsv1.2" else highest)
    else:
        with pytest.raises(psycopg.OperationalError, match="protocol version"):
            psycopg.connect(**parameters(proxy, papers, ssl_max_protocol_version=highest))


@martlet_only
def test_ciphers_and_curves(secure: Callable[..., Proxy], papers: Papers) -> None:
    proxy = secure(client_tls_ciphers="ECDHE-ECDSA-AES128-GCM-SHA256", client_tls13_ciphers="TLS_AES_128_GCM_SHA256",
                   client_tls_ecdhcurve="prime256v1", client_tls_dheparams="none")
    for highest, tls in (("TLSv1.2", "TLSv1.2/ECDHE-ECDSA-AES128-GCM-SHA256/ECDH=prime256v1"),
                         ("TLSv1.3", "TLSv1.3/TLS_AES_128_GCM_SHA256/ECDH=prime256v1")):
        with psycopg.connect(**parameters(proxy, papers, ssl_max_protocol_version=highest)):
            assert tls_of_clients(proxy) == [tls]


CLIENT_CERTIFICATES = [("app", True), ("trust_user", True), ("old_app", False), ("strange_app", False), (None, False)]


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
@pytest.mark.parametrize(("certificate", "works"), CLIENT_CERTIFICATES)
def test_client_certificates(
        secure: Callable[..., Proxy], papers: Papers, mode: str, certificate: str | None, works: bool) -> None:
    proxy = secure(mode=mode)
    paper = getattr(papers, certificate) if certificate else None
    shown = {"sslcert": str(paper.crt), "sslkey": str(paper.key)} if paper else {"sslcert": "/nonexistent"}
    if works:
        psycopg.connect(**parameters(proxy, papers, **shown)).close()
    else:
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(**parameters(proxy, papers, **shown))
        assert not tls_of_clients(proxy)


def test_certificate_logins(secure: Callable[..., Proxy], papers: Papers) -> None:
    proxy = secure(mode="verify-full", auth_type="cert")
    shown = {"sslcert": str(papers.app.crt), "sslkey": str(papers.app.key)}
    psycopg.connect(**parameters(proxy, papers, **shown)).close()
    with pytest.raises(psycopg.OperationalError, match="certificate"):
        psycopg.connect(**parameters(proxy, papers, user="trust_user", **shown))


@martlet_only
def test_refusals_of_the_configuration(secure: Callable[..., Proxy], papers: Papers) -> None:
    proxy = secure()
    for change, word in (
            ({"client_tls_key_file": papers.app.key}, "does not belong to"),
            ({"client_tls_cert_file": "/nonexistent"}, "cannot read /nonexistent: No such file"),
            ({"client_tls_ciphers": "nonsense"}, "no cipher match"),
            ({"client_tls_ecdhcurve": "nonsense"}, "unknown elliptic curve"),
            ({"auth_type": "cert"}, "needs client_tls_sslmode = verify-full")):
        before = dict(proxy.settings)
        proxy.settings |= change
        with pytest.raises(psycopg.Error, match="RELOAD failed") as failure:
            proxy.reload()
        assert word in (failure.value.diag.message_detail or "")
        proxy.settings = before
        psycopg.connect(**parameters(proxy, papers)).close()


# What happens on the wire.

def test_reload_takes_new_certificates_and_drops_nobody(
        secure: Callable[..., Proxy], papers: Papers, scratch: Path) -> None:
    crt, key = scratch / "proxy.crt", scratch / "proxy.key"

    def install(certificate: Certificate) -> None:
        crt.write_bytes(certificate.crt.read_bytes())
        key.write_bytes(certificate.key.read_bytes())
        own(scratch)

    install(papers.elsewhere)
    proxy = secure(client_tls_cert_file=crt, client_tls_key_file=key)
    with pytest.raises(psycopg.OperationalError, match="does not match host name"):
        psycopg.connect(**parameters(proxy, papers))
    with psycopg.connect(**parameters(proxy, papers, sslmode="require"), autocommit=True) as old:
        old.execute("SELECT 1")
        install(papers.proxy)
        proxy.signal(signal.SIGHUP)

        def renewed() -> bool:
            try:
                psycopg.connect(**parameters(proxy, papers)).close()
                return True
            except psycopg.OperationalError:
                return False

        wait_until(renewed, "the new certificate is shown")
        assert old.execute("SELECT 2").fetchone() == (2,)


def test_large_results_and_copy(strict: Proxy, papers: Papers, strict_cluster: Cluster) -> None:
    size = 30_000_000
    with psycopg.connect(**parameters(strict, papers), autocommit=True) as connection:
        [text] = connection.execute("SELECT repeat('0123456789', %s)", (size // 10,)).fetchone()
        assert len(text) == size and text[-10:] == "0123456789"
        [length] = connection.execute("SELECT length(%s)", ("x" * size,)).fetchone()
        assert length == size
        connection.execute("CREATE TEMP TABLE t (n int, s text); BEGIN")
        connection.execute("CREATE TEMP TABLE u (n int, s text)")
        row = "y" * 1000
        with connection.cursor().copy("COPY u FROM STDIN") as copy:
            for number in range(20_000):
                copy.write_row((number, row))
        total = 0
        with connection.cursor().copy("COPY u TO STDOUT") as copy:
            for data in copy:
                total += len(data)
        assert total == sum(len(str(number)) for number in range(20_000)) + 20_000 * 1002
        connection.execute("ROLLBACK")


def test_many_small_queries_in_one_pipeline(strict: Proxy, papers: Papers) -> None:
    with psycopg.connect(**parameters(strict, papers), autocommit=True) as connection, connection.pipeline():
        cursors = [connection.execute("SELECT %s::int", (number,)) for number in range(5000)]
        assert [cursor.fetchone()[0] for cursor in cursors] == list(range(5000))


def socket_queue(port: int) -> int:
    """Bytes that wait in the kernel for the open connection with this local port."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].split(":")[1], 16) == port and fields[3] == "01":
            return int(fields[4].split(":")[1], 16)
    return 0


def test_a_reader_that_stops_holds_the_server_up_and_not_our_memory(secure: Callable[..., Proxy], papers: Papers) -> None:
    proxy = secure()
    with psycopg.connect(**parameters(proxy, papers), autocommit=True) as warm:
        warm.execute("SELECT 1")
    before = proxy.figures.rss()
    with psycopg.connect(**parameters(proxy, papers), autocommit=True) as connection:
        connection.pgconn.send_query(b"SELECT repeat('x', 1000) FROM generate_series(1, 200000)")
        connection.pgconn.flush()
        last, stands = -1, 0
        deadline = time.monotonic() + 20
        while stands < 5:
            assert time.monotonic() < deadline
            time.sleep(0.1)
            [server] = [server for server in proxy.show("SERVERS") if server["state"] == "active"]
            unread = socket_queue(server["local_port"])
            stands, last = (stands + 1, last) if unread == last and unread > 0 else (0, unread)
        assert proxy.figures.rss() - before < 8_000_000
        rows = 0
        while result := connection.pgconn.get_result():
            rows += result.ntuples
        assert rows == 200_000


def test_cancel(strict: Proxy, papers: Papers) -> None:
    with psycopg.connect(**parameters(strict, papers), autocommit=True) as connection:
        timer = threading.Timer(0.5, connection.cancel_safe)
        timer.start()
        begin = time.monotonic()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(30)")
        assert time.monotonic() - begin < 10
        timer.join()
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_connections_move_between_threads(
        secure: Callable[..., Proxy], papers: Papers, strict_cluster: Cluster) -> None:
    """Four reactors share two server connections with TLS: each is handed on with its keys."""
    proxy = secure(
        strict_cluster, threads=4, default_pool_size=2, server_tls_sslmode="verify-full",
        server_tls_ca_file=papers.authority.crt, server_tls_cert_file=papers.app.crt, server_tls_key_file=papers.app.key)
    failures: list[BaseException] = []

    def work(worker: int) -> None:
        try:
            with psycopg.connect(**parameters(proxy, papers), autocommit=True) as connection:
                for number in range(200):
                    assert connection.execute("SELECT %s::int", (worker * 1000 + number,)).fetchone() == (
                        worker * 1000 + number,)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]


def half_way(proxy: Proxy, stage: str) -> socket.socket:
    """A client that stops in the middle of the handshake."""
    client = socket.create_connection((proxy.host, proxy.port), 10)
    client.settimeout(10)
    if stage == "direct":
        client.sendall(b"\x16\x03\x01\x02\x00\x01")
        return client
    client.sendall(request(SSL_REQUEST))
    assert client.recv(1) == b"S"
    if stage == "hello":
        outgoing = ssl.MemoryBIO()
        handshake = ssl._create_unverified_context().wrap_bio(ssl.MemoryBIO(), outgoing)
        with pytest.raises(ssl.SSLWantReadError):
            handshake.do_handshake()
        client.sendall(outgoing.read())
        assert client.recv(1) == b"\x16"
    return client


@pytest.mark.parametrize("stage", ["asked", "direct", "hello"])
def test_who_stops_in_the_handshake_goes_away(secure: Callable[..., Proxy], papers: Papers, stage: str) -> None:
    proxy = secure(client_login_timeout=1, max_client_conn=500)
    crowd = [half_way(proxy, stage) for _ in range(100)]
    with psycopg.connect(**parameters(proxy, papers), autocommit=True) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    begin = time.monotonic()
    for client in crowd:
        with client:
            try:
                while client.recv(4096):
                    pass
            except ConnectionResetError:
                pass
    assert time.monotonic() - begin < 5
    wait_until(lambda: not tls_of_clients(proxy), "all have gone")


@pytest.mark.parametrize("behind", ["a startup packet", "a byte", "a query", "the handshake"])
def test_bytes_behind_the_request_for_tls(secure: Callable[..., Proxy], papers: Papers, behind: str) -> None:
    """They were sent in the clear, by whoever: they are no part of what is said under TLS, and the connection ends."""
    outgoing = ssl.MemoryBIO()
    handshake = ssl._create_unverified_context().wrap_bio(ssl.MemoryBIO(), outgoing)
    with pytest.raises(ssl.SSLWantReadError):
        handshake.do_handshake()
    data = {"a startup packet": startup({"user": "app", "database": "app"}), "a byte": b"x",
            "a query": query("SELECT 1"), "the handshake": outgoing.read()}[behind]
    proxy = secure(auth_type="trust")
    with socket.create_connection((proxy.host, proxy.port), 10) as client:
        client.settimeout(10)
        client.sendall(request(SSL_REQUEST) + data)
        said = b""
        try:
            while part := client.recv(4096):
                said += part
        except ConnectionResetError:
            pass
        # An S may have left before; nothing that needs the handshake, and nothing of a login.
        assert b"\x16\x03" not in said and not said.startswith(b"R"), said
    psycopg.connect(**parameters(proxy, papers)).close()


def garbage() -> list[bytes]:
    return [b"\x16\x03\x01\x00\x05hello", b"\x16\x03\x03\xff\xff" + b"x" * 70_000, b"x" * 100, b"\x15\x03\x01\x00\x02\x02\x28",
            b"\x16\x03\x01\x00\x00" * 1000, os.urandom(5000)]


@pytest.mark.parametrize("number", range(6))
def test_garbage_instead_of_a_handshake(secure: Callable[..., Proxy], papers: Papers, number: int) -> None:
    proxy = secure()
    with half_way(proxy, "asked") as client:
        client.sendall(garbage()[number])
        try:
            while client.recv(4096):
                pass
        except ConnectionResetError:
            pass
    psycopg.connect(**parameters(proxy, papers)).close()


@martlet_only
@pytest.mark.parametrize(("names", "works"), [(["postgresql"], True), (["http/1.1", "postgresql"], True), ([], False),
                                              (["h2"], False)])
def test_direct_tls_must_name_the_protocol(
        secure: Callable[..., Proxy], papers: Papers, names: list[str], works: bool) -> None:
    proxy = secure()
    context = ssl.create_default_context(cafile=str(papers.authority.crt))
    if names:
        context.set_alpn_protocols(names)
    plain = socket.create_connection(("localhost", proxy.port), 10)
    try:
        with context.wrap_socket(plain, server_hostname="localhost") as client:
            client.sendall(startup({"user": "app", "database": "app"}))
            answer = client.recv(4096)
            assert (answer[:1] == b"R") == works
    except (ssl.SSLError, ConnectionResetError):
        assert not works


@martlet_only
@pytest.mark.parametrize("mode", ["require", "verify-full"])
def test_sessions_are_resumed(secure: Callable[..., Proxy], papers: Papers, mode: str) -> None:
    """With them goes the client's name, which its certificate has shown at the first time."""
    proxy = secure(mode=mode, auth_type="trust" if mode == "require" else "cert")
    context = ssl.create_default_context(cafile=str(papers.authority.crt))
    context.load_cert_chain(papers.app.crt, papers.app.key)
    context.set_alpn_protocols(["postgresql"])
    session = None
    for expected in (False, True, True):
        plain = socket.create_connection(("localhost", proxy.port), 10)
        with context.wrap_socket(plain, server_hostname="localhost", session=session) as client:
            client.sendall(startup({"user": "app", "database": "app"}))
            assert client.recv(1) == b"R"
            assert client.session_reused is expected
            session = client.session
    if mode == "verify-full":
        plain = socket.create_connection(("localhost", proxy.port), 10)
        with context.wrap_socket(plain, server_hostname="localhost", session=session) as client:
            client.sendall(startup({"user": "trust_user", "database": "app"}))
            assert client.recv(1) == b"E"


@martlet_only
def test_the_end_is_announced(secure: Callable[..., Proxy], papers: Papers) -> None:
    """After its last words a connection ends as TLS wants it, so that nobody can have cut it short."""
    proxy = secure()
    context = ssl.create_default_context(cafile=str(papers.authority.crt))
    context.set_alpn_protocols(["postgresql"])
    plain = socket.create_connection(("localhost", proxy.port), 10)
    with context.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False) as client:
        client.sendall(startup({"user": "app", "database": "nowhere", "options": "-c bad"}))
        answer = b""
        while data := client.recv(4096):
            answer += data
        assert b"FATAL" in answer
