"""Who may log in, where there is TLS: rules for it, certificates with maps, and the proxy's own questions to servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest

from cluster import USERS, Cluster
from proxy import Proxy
from test_tls import Papers, papers, secure  # noqa: F401  (fixtures)

pytestmark = pytest.mark.martlet("TLS of its own")


@pytest.fixture(scope="module")
def scram_cluster(papers: Papers) -> Iterator[Cluster]:  # noqa: F811
    """A server that speaks TLS only, and wants SCRAM of all but the superuser."""
    cluster = Cluster(
        settings={"ssl": "on", "ssl_cert_file": f"'{papers.server.crt}'", "ssl_key_file": f"'{papers.server.key}'"},
        hba=["local all all trust", "hostssl all postgres 127.0.0.1/32 trust",
             "hostssl all all 127.0.0.1/32 scram-sha-256"]).start()
    yield cluster
    cluster.remove()


def verified(papers: Papers, authority: str = "authority") -> dict[str, object]:  # noqa: F811
    return {"server_tls_sslmode": "verify-full", "server_tls_ca_file": getattr(papers, authority).crt}


def test_passthrough(secure: Callable[..., Proxy], papers: Papers, scram_cluster: Cluster) -> None:  # noqa: F811
    proxy = secure(
        scram_cluster, mode="allow", auth_type="plain", auth_passthrough=1, auth_file=None, **verified(papers))
    login = {"user": "scram_user", "password": USERS["scram_user"][0]}
    with proxy.connect(sslmode="require", **login) as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("scram_user",)
    # In clear text nobody is heard.
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        proxy.connect(sslmode="disable", **login)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        proxy.connect(sslmode="require", user="scram_user", password="wrong")


def test_passthrough_to_an_impostor(
        secure: Callable[..., Proxy], papers: Papers, scram_cluster: Cluster) -> None:  # noqa: F811
    proxy = secure(
        scram_cluster, auth_type="plain", auth_passthrough=1, auth_file=None, **verified(papers, "stranger"))
    with pytest.raises(psycopg.OperationalError, match="authentication is not possible now"):
        proxy.connect(sslmode="require", user="scram_user", password=USERS["scram_user"][0])
    assert "auth_passthrough: TLS startup failed" in proxy.log_text()


def asking(secure: Callable[..., Proxy], cluster: Cluster, **settings: object) -> Proxy:  # noqa: F811
    return secure(cluster, mode="allow", **{"auth_type": "scram-sha-256", "auth_user": "postgres", "auth_file": None} | settings)


def test_auth_query(secure: Callable[..., Proxy], papers: Papers, scram_cluster: Cluster) -> None:  # noqa: F811
    proxy = asking(secure, scram_cluster, **verified(papers))
    with proxy.connect(user="scram_other", password="other-secret") as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("scram_other",)
        secured = connection.execute(
            "SELECT 1 FROM pg_stat_activity WHERE usename = 'postgres' AND application_name = 'martlet'").fetchall()
    assert len(secured) == 1


def test_auth_query_of_an_impostor(
        secure: Callable[..., Proxy], papers: Papers, scram_cluster: Cluster) -> None:  # noqa: F811
    proxy = asking(secure, scram_cluster, **verified(papers, "stranger"))
    with pytest.raises(psycopg.OperationalError, match="authentication is not possible now"):
        proxy.connect(user="scram_other", password="other-secret")


def with_rules(secure: Callable[..., Proxy], rules: str, maps: str = "") -> Proxy:  # noqa: F811
    proxy = secure(mode="verify-ca" if "cert" in rules else "allow")
    (proxy.directory / "hba.conf").write_text("host pgbouncer admin all trust\nlocal all all trust\n" + rules)
    (proxy.directory / "ident.conf").write_text(maps)
    with proxy.console(host=str(proxy.directory)) as console:
        console.execute(f"SET auth_ident_file = '{proxy.directory}/ident.conf'")
        console.execute(f"SET auth_hba_file = '{proxy.directory}/hba.conf'")
        console.execute("SET auth_type = 'hba'")
    return proxy


def test_rules_for_tls(secure: Callable[..., Proxy]) -> None:  # noqa: F811
    proxy = with_rules(secure, "hostssl all app all trust\nhostnossl all trust_user all trust\n")
    for user, sslmode, works in (
            ("app", "require", True), ("app", "disable", False), ("trust_user", "require", False),
            ("trust_user", "disable", True)):
        try:
            proxy.connect(user=user, sslmode=sslmode).close()
            assert works, (user, sslmode)
        except psycopg.OperationalError as error:
            assert not works and "login rejected" in str(error)


def test_certificates_with_a_map(secure: Callable[..., Proxy], papers: Papers) -> None:  # noqa: F811
    """The map decides, also against a certificate in the user's own name."""
    proxy = with_rules(
        secure, "hostssl app all all cert map=m\nhostssl app2 all all cert\n", "m trust_user app\n")
    for database, user, certificate, works in (
            ("app", "app", papers.trust_user, True), ("app", "app", papers.app, False),
            ("app", "trust_user", papers.trust_user, False), ("app2", "app", papers.app, True),
            ("app2", "app", papers.trust_user, False)):
        try:
            proxy.connect(
                dbname=database, user=user, sslmode="require", sslcert=str(certificate.crt),
                sslkey=str(certificate.key)).close()
            assert works, (database, user)
        except psycopg.OperationalError as error:
            assert not works and "certificate authentication failed" in str(error), error
