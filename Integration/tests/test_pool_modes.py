"""Session, transaction and statement pooling: who has a server connection for how long, and what is cleaned between."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from cluster import Cluster
from common import wait_until
from proxy import Proxy
from rawpg import SYNC, Connection, bind, execute, parse, query


def pid(connection: psycopg.Connection) -> int:
    return connection.execute("SELECT pg_backend_pid()").fetchone()[0]


def test_transaction_mode_shares_one_server(start_proxy: Callable[..., Proxy]) -> None:
    proxy = start_proxy(settings={"default_pool_size": 1})
    connections = [proxy.connect() for _ in range(20)]
    assert len({pid(connection) for connection in connections}) == 1
    for connection in connections:
        connection.close()


def test_transaction_keeps_its_server(start_proxy: Callable[..., Proxy]) -> None:
    proxy = start_proxy(settings={"default_pool_size": 2})
    with proxy.connect() as one, proxy.connect() as two:
        with one.transaction():
            mine = pid(one)
            for _ in range(10):
                assert pid(two) != mine
                assert pid(one) == mine


def test_failed_transaction_keeps_its_server(start_proxy: Callable[..., Proxy]) -> None:
    proxy = start_proxy(settings={"default_pool_size": 1})
    with proxy.connect() as connection:
        connection.execute("BEGIN")
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("SELECT 1/0")
        proxy.wait_pool(lambda pool: pool["sv_active"] == 1, "the server stays with its client")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            connection.execute("SELECT 1")
        connection.execute("ROLLBACK")
        proxy.wait_pool(lambda pool: pool["sv_active"] == 0, "the server is released")


def test_last_released_server_is_taken_first(start_proxy: Callable[..., Proxy]) -> None:
    """So that a pool shrinks when the load does. (server_round_robin=1 does the opposite.)"""
    proxy = start_proxy(settings={"default_pool_size": 5}, threads=1)
    holders = [proxy.connect() for _ in range(5)]
    for holder in holders:
        holder.execute("BEGIN")
    pids = [pid(holder) for holder in holders]
    for holder in holders:
        holder.execute("COMMIT")
    assert {pid(holder) for holder in holders} == {pids[-1]}
    for holder in holders:
        holder.close()


def test_server_round_robin(start_proxy: Callable[..., Proxy]) -> None:
    proxy = start_proxy(settings={"default_pool_size": 4, "server_round_robin": 1}, threads=1)
    holders = [proxy.connect() for _ in range(4)]
    for holder in holders:
        holder.execute("BEGIN")
    pids = {pid(holder) for holder in holders}
    for holder in holders:
        holder.execute("COMMIT")
    assert {pid(holders[0]) for _ in range(4)} == pids
    for holder in holders:
        holder.close()


def test_two_reactors_share_a_pool_of_one(start_proxy: Callable[..., Proxy], cluster: Cluster, database: str) -> None:
    """A limit of one is one, whatever the number of threads, and every client is served in its turn."""
    proxy = start_proxy(settings={"default_pool_size": 1}, threads=2)
    connections = [proxy.connect(database) for _ in range(10)]
    assert len({pid(connection) for _ in range(20) for connection in connections}) == 1
    assert len(cluster.backends(database)) == 1
    if proxy.is_martlet:
        # Clients are on either thread, and take turns.
        assert int({row["key"]: row["value"] for row in proxy.show("STATE")}["donations"]) > 0
    for connection in connections:
        connection.close()


def test_session_mode_keeps_the_server(start_proxy: Callable[..., Proxy]) -> None:
    proxy = start_proxy(settings={"pool_mode": "session", "default_pool_size": 2})
    with proxy.connect() as one, proxy.connect() as two:
        first, second = pid(one), pid(two)
        assert first != second
        assert [pid(one), pid(two), pid(one)] == [first, second, first]
    proxy.wait_pool(lambda pool: pool["sv_active"] == 0, "both are released")
    with proxy.connect() as three:
        assert pid(three) in (first, second)


def test_session_mode_resets(start_proxy: Callable[..., Proxy], database: str) -> None:
    """DISCARD ALL is the default server_reset_query: nothing of a session is left to the next."""
    proxy = start_proxy(settings={"pool_mode": "session", "default_pool_size": 1})
    with proxy.connect(database) as one:
        mine = pid(one)
        one.execute("SET work_mem = '7MB'")
        one.execute("CREATE TEMP TABLE leftover (n int)")
        one.execute("PREPARE leftover AS SELECT 1")
        one.execute("SELECT pg_advisory_lock(7)")
        one.execute("LISTEN leftover")
    with proxy.connect(database) as two:
        assert pid(two) == mine
        assert two.execute("SHOW work_mem").fetchone() == ("4MB",)
        assert two.execute("SELECT to_regclass('pg_temp.leftover')").fetchone() == (None,)
        assert two.execute("SELECT count(*) FROM pg_prepared_statements WHERE name = 'leftover'").fetchone() == (0,)
        assert two.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7"
                           " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
                           ).fetchone() == (0,)
        assert two.execute("SELECT count(*) FROM pg_listening_channels()").fetchone() == (0,)


def test_transaction_mode_does_not_reset(start_proxy: Callable[..., Proxy]) -> None:
    proxy = start_proxy(settings={"default_pool_size": 1})
    with proxy.connect() as one, proxy.connect() as two:
        one.execute("SET work_mem = '7MB'")
        assert two.execute("SHOW work_mem").fetchone() == ("7MB",)


def test_server_reset_query_always(start_proxy: Callable[..., Proxy]) -> None:
    proxy = start_proxy(settings={
        "default_pool_size": 1, "server_reset_query_always": 1, "server_reset_query": "RESET work_mem"})
    with proxy.connect() as one, proxy.connect() as two:
        one.execute("SET work_mem = '7MB'")
        assert two.execute("SHOW work_mem").fetchone() == ("4MB",)


@pytest.mark.martlet("PgBouncer hands the connection on as it is")
def test_failing_reset_query_closes_the_server(start_proxy: Callable[..., Proxy]) -> None:
    proxy = start_proxy(settings={
        "pool_mode": "session", "default_pool_size": 1, "server_reset_query": "SELECT 1/0"})
    with proxy.connect() as one:
        mine = pid(one)
    with proxy.connect() as two:
        assert pid(two) != mine


def test_statement_mode(start_proxy: Callable[..., Proxy], cluster: Cluster, database: str) -> None:
    proxy = start_proxy(settings={"pool_mode": "statement", "default_pool_size": 1})
    with proxy.connect(database) as one, proxy.connect(database) as two:
        for connection in (one, two, one):
            assert connection.execute("SELECT %s::int", (1,)).fetchone() == (1,)
        with pytest.raises(psycopg.Error):
            one.execute("BEGIN")
            one.execute("SELECT 1")
        assert two.execute("SELECT 2").fetchone() == (2,)
        assert not [state for _, state, _ in cluster.backends(database) if "in transaction" in state]


def test_statement_mode_allows_a_transaction_within_a_query(start_proxy: Callable[..., Proxy]) -> None:
    proxy = start_proxy(settings={"pool_mode": "statement"})
    with Connection(proxy.host, proxy.port).login() as connection:
        assert connection.simple("BEGIN; SELECT 1; COMMIT") == [[b"1"]]


def test_pool_mode_per_database_and_user(start_proxy: Callable[..., Proxy]) -> None:
    proxy = start_proxy(run=False, settings={"default_pool_size": 1, "query_wait_timeout": 1})
    proxy.databases = {"sessions": proxy.server(dbname="app", pool_mode="session"), "*": proxy.server()}
    proxy.users = {"trust_user": "pool_mode=session"}
    proxy.start()
    for dbname, user in (("sessions", "app"), ("app", "trust_user")):
        with proxy.connect(dbname, user) as one, proxy.connect("app", "app") as other:
            one.execute("SELECT 1")
            assert proxy.pool(dbname, user)["pool_mode"] == "session"
            assert proxy.pool(dbname, user)["sv_active"] == 1
            other.execute("SELECT 1")
            proxy.wait_pool(lambda pool: (pool["sv_active"], pool["pool_mode"]) == (0, "transaction"), "released")


def test_connect_query(start_proxy: Callable[..., Proxy], cluster: Cluster, database: str) -> None:
    """It runs once for each new server connection, before anybody gets it."""
    with cluster.connect(database) as direct:
        direct.execute("CREATE SEQUENCE connects; GRANT ALL ON SEQUENCE connects TO public")
    proxy = start_proxy(run=False, settings={"default_pool_size": 1})
    proxy.databases = {database: proxy.server() + " connect_query='SELECT nextval(''connects'')'"}
    proxy.start()
    with proxy.connect(database) as one, proxy.connect(database) as two:
        for connection in (one, two, one):
            assert connection.execute("SELECT last_value FROM connects").fetchone() == (1,)


def test_failing_connect_query(start_proxy: Callable[..., Proxy]) -> None:
    """An error or, as with PgBouncer, a connection without what the query should have done; but no hanging."""
    proxy = start_proxy(run=False, settings={"query_wait_timeout": 3})
    proxy.databases = {"app": proxy.server() + " connect_query='SELECT nosuchfunction()'"}
    proxy.start()
    try:
        with proxy.connect() as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    except psycopg.OperationalError as error:
        assert "nosuchfunction" in str(error)


def test_server_check_query(start_proxy: Callable[..., Proxy], cluster: Cluster, database: str) -> None:
    """With server_check_delay=0 an idle connection is asked each time before it is handed out."""
    with cluster.connect(database) as direct:
        direct.execute("CREATE SEQUENCE checks; GRANT ALL ON SEQUENCE checks TO public")
    proxy = start_proxy(settings={
        "default_pool_size": 1, "server_check_delay": 0, "server_check_query": "SELECT nextval('checks')"})
    with proxy.connect(database) as connection:
        connection.execute("SELECT 1")
        before = cluster.value("SELECT last_value FROM checks", dbname=database)
        for _ in range(5):
            wait_until(lambda: proxy.pool(database)["sv_active"] == 0, "released")
            connection.execute("SELECT 1")
        assert cluster.value("SELECT last_value FROM checks", dbname=database) >= before + 4


@pytest.mark.martlet("PgBouncer takes an error for a sign of life")
def test_failing_check_query_takes_another_server(
        start_proxy: Callable[..., Proxy], cluster: Cluster, database: str) -> None:
    with cluster.connect(database) as direct:
        direct.execute("CREATE TABLE flags AS SELECT 1 AS divisor; GRANT ALL ON flags TO public")
    proxy = start_proxy(settings={
        "default_pool_size": 1, "server_check_delay": 0, "server_check_query": "SELECT 1/divisor FROM flags"})
    with proxy.connect(database) as connection:
        first = pid(connection)
        wait_until(lambda: proxy.pool(database)["sv_active"] == 0, "released")
        with cluster.connect(database) as direct:
            direct.execute("UPDATE flags SET divisor = 0")
        assert pid(connection) != first


def test_release_waits_for_the_end_of_the_pipeline(start_proxy: Callable[..., Proxy]) -> None:
    """A server that is idle while requests of its client are still on the way is not released to somebody else."""
    proxy = start_proxy(settings={"default_pool_size": 1})
    with Connection(proxy.host, proxy.port).login() as one, Connection(proxy.host, proxy.port).login() as two:
        for _ in range(20):
            one.send(*(parse(f"SELECT {i}") + bind() + execute() + SYNC for i in range(20)))
            two.send(*(query(f"SELECT {i + 100}") for i in range(20)))
            rows = [[each.values()[0] for each in connection.read_until("Z", 20) if each.type == "D"]
                    for connection in (one, two)]
            assert rows == [[str(i + base).encode() for i in range(20)] for base in (0, 100)]
