"""What applications use: psql, psycopg, asyncpg, JDBC."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import psycopg
import pytest

from cluster import Cluster
from common import environment
from cutting import cut_on_both_sides
from proxy import Proxy

JDBC = Path("/usr/share/java/postgresql.jar")


@pytest.fixture(params=["whole", "cut"])
def proxy(request: pytest.FixtureRequest, start_proxy: Callable[..., Proxy], cluster: Cluster) -> Iterator[Proxy]:
    """A proxy with the suite's defaults, and once more behind a network that cuts messages anywhere."""
    if request.param == "whole":
        yield start_proxy()
    else:
        with cut_on_both_sides(start_proxy(run=False), cluster) as proxy:
            yield proxy


def psql(proxy: Proxy, script: str, *options: str, dbname: str = "app", user: str = "app", host: str = "") -> str:
    result = subprocess.run(
        ["psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-h", host or proxy.host, "-p", str(proxy.port),
         "-U", user, *options, dbname],
        input=script, capture_output=True, text=True, timeout=60, env=environment())
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_psql_script(proxy: Proxy, database: str) -> None:
    answer = psql(proxy, """
        CREATE TABLE things (id int PRIMARY KEY, name text);
        BEGIN;
        INSERT INTO things SELECT i, 'n' || i FROM generate_series(1, 100) i;
        COMMIT;
        \\copy (SELECT * FROM things ORDER BY id LIMIT 2) TO STDOUT
        SELECT count(*), max(name) FROM things;
        \\d things
        """, dbname=database)
    assert answer.startswith("1\tn1\n2\tn2\n100|n99\n")
    assert "id|integer||not null|" in answer


def test_psql_over_the_unix_socket(start_proxy: Callable[..., Proxy]) -> None:
    proxy = start_proxy()
    assert psql(proxy, "SELECT 'here'", host=str(proxy.directory)) == "here\n"


def test_psql_on_the_console(proxy: Proxy) -> None:
    assert "active|yes" in psql(proxy, "SHOW STATE;", dbname="pgbouncer", user="admin")


def test_psycopg_transactions(proxy: Proxy, database: str) -> None:
    with psycopg.connect(proxy.dsn(database)) as connection:
        connection.execute("CREATE TABLE t (n int)")
        with connection.transaction():
            connection.execute("INSERT INTO t SELECT generate_series(1, 10)")
            with pytest.raises(psycopg.errors.DivisionByZero), connection.transaction():
                connection.execute("INSERT INTO t VALUES (1/0)")
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (10,)
        connection.commit()
        with connection.cursor("server_side") as cursor:
            cursor.itersize = 3
            cursor.execute("SELECT n FROM t ORDER BY n")
            assert [row[0] for row in cursor] == list(range(1, 11))


def test_psycopg_binary_and_types(proxy: Proxy) -> None:
    with proxy.connect() as connection:
        values = (1, 2.5, "text \u2603", b"\x00\xff", True, None, [1, 2, 3])
        for binary in (False, True):
            with connection.cursor(binary=binary) as cursor:
                cursor.execute("SELECT %s::int, %s::float8, %s::text, %s::bytea, %s::bool, %s::text, %s::int[]", values)
                assert cursor.fetchone() == values


def test_psycopg_prepares_after_five_times(proxy: Proxy) -> None:
    """psycopg prepares a query from its sixth run on, under a name of its own."""
    with proxy.connect() as one, proxy.connect() as two:
        for number in range(40):
            for connection in (one, two):
                assert connection.execute("SELECT %s::int * 2", (number,)).fetchone() == (number * 2,)


def test_psycopg_pipeline(proxy: Proxy, database: str) -> None:
    with proxy.connect(database) as connection:
        connection.execute("CREATE TABLE t (n int)")
        with connection.pipeline() as pipeline:
            cursors = [connection.execute("INSERT INTO t VALUES (%s) RETURNING n", (n,)) for n in range(200)]
            pipeline.sync()
            with pytest.raises(psycopg.errors.DivisionByZero):
                connection.execute("SELECT 1/0")
                pipeline.sync()
            last = connection.execute("SELECT count(*) FROM t")
        assert [cursor.fetchone()[0] for cursor in cursors] == list(range(200))
        assert last.fetchone() == (200,)


def test_psycopg_executemany_and_notify(proxy: Proxy, database: str) -> None:
    with proxy.connect(database) as connection:
        connection.execute("CREATE TABLE t (n int)")
        connection.cursor().executemany("INSERT INTO t VALUES (%s)", [(n,) for n in range(500)])
        connection.execute("NOTIFY somebody, 'hello'")
        assert connection.execute("SELECT sum(n) FROM t").fetchone() == (sum(range(500)),)


def test_psycopg_async(proxy: Proxy) -> None:
    async def one(number: int) -> int:
        async with await psycopg.AsyncConnection.connect(proxy.dsn(), autocommit=True) as connection:
            total = 0
            for _ in range(5):
                async with connection.transaction():
                    cursor = await connection.execute("SELECT %s::int", (number,))
                    total += (await cursor.fetchone())[0]
            return total

    async def all_of_them() -> list[int]:
        return await asyncio.gather(*(one(number) for number in range(60)))

    assert asyncio.run(all_of_them()) == [number * 5 for number in range(60)]


def test_asyncpg(proxy: Proxy, database: str) -> None:
    """asyncpg prepares every query, reads types from the catalogue and pipelines."""

    async def work() -> None:
        pool = await asyncpg.create_pool(proxy.dsn(database), min_size=5, max_size=40)
        assert pool
        try:
            await pool.execute("CREATE TABLE t (n int, m numeric[], j jsonb)")

            async def one(number: int) -> None:
                async with pool.acquire() as connection:
                    async with connection.transaction():
                        await connection.execute(
                            "INSERT INTO t VALUES ($1, $2, $3)", number, [number, 1], '{"n": 1}')
                        found = await connection.fetchval("SELECT m FROM t WHERE n = $1", number)
                        assert found == [number, 1]
                    async with connection.transaction():
                        seen = 0
                        async for _ in connection.cursor("SELECT generate_series(1, 120)", prefetch=50):
                            seen += 1
                        assert seen == 120

            await asyncio.gather(*(one(number) for number in range(200)))
            await pool.executemany("INSERT INTO t (n) VALUES ($1)", [(number,) for number in range(1000)])
            assert await pool.fetchval("SELECT count(*) FROM t") == 1200
            copied = await pool.copy_records_to_table("t", records=[(1, None, None)] * 100)
            assert copied == "COPY 100"
            try:
                await pool.execute("SELECT 1/$1::int", 0)
                raise AssertionError("no error")
            except asyncpg.DivisionByZeroError:
                pass
        finally:
            await pool.close()

    asyncio.run(work())


def test_asyncpg_timeout_cancels(proxy: Proxy) -> None:
    """asyncpg ends a query that takes too long by a CancelRequest, and uses the connection on."""

    async def work() -> None:
        connection = await asyncpg.connect(proxy.dsn())
        with pytest.raises(asyncio.TimeoutError):
            await connection.fetchval("SELECT pg_sleep(30)", timeout=0.3)
        assert await connection.fetchval("SELECT 5") == 5
        await connection.close()

    asyncio.run(work())


@pytest.mark.skipif(not JDBC.exists(), reason="libpostgresql-jdbc-java is not installed")
@pytest.mark.parametrize("options", ["prepareThreshold=1", "prepareThreshold=0", "preferQueryMode=simple",
                                     "prepareThreshold=1&binaryTransfer=true&reWriteBatchedInserts=true"])
def test_jdbc(start_proxy: Callable[..., Proxy], database: str, options: str) -> None:
    proxy = start_proxy(settings={"default_pool_size": 4})
    source = Path(__file__).parent / "java/JdbcCheck.java"
    url = f"jdbc:postgresql://{proxy.host}:{proxy.port}/{database}?user=app&{options}"
    result = subprocess.run(
        ["java", "-XX:TieredStopAtLevel=1", "-cp", str(JDBC), str(source), url, "12", "10"],
        capture_output=True, text=True, timeout=100, env=environment())
    assert result.stdout.strip() == "all well", result.stderr
