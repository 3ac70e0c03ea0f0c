"""Debian's prometheus-pgbouncer-exporter, an old scraper on psycopg2, reads the console.

The program knows PgBouncer before 1.8 only: it asks for the columns total_requests and reserve_pool, which have other
names since. Martlet has them too, behind the others, so there the program itself is run; with a newer PgBouncer its
collectors are run by themselves, without those two columns.
"""

from __future__ import annotations

import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from common import environment, free_port, wait_until
from proxy import Proxy

COLLECT = """
import sys
from prometheus_pgbouncer_exporter.collectors import (
    DatabasesCollector, ListsCollector, PoolsCollector, StatsCollector)
from prometheus_pgbouncer_exporter.utils import get_connection

StatsCollector.metrics.pop("total_requests")
DatabasesCollector.metrics.pop("reserve_pool")
connection = get_connection(sys.argv[1], int(sys.argv[2]), sys.argv[3])
collectors = [
    StatsCollector(connection=connection, databases=None), PoolsCollector(connection=connection, databases=None),
    DatabasesCollector(connection=connection, databases=None), ListsCollector(connection=connection)]
for collector in collectors:
    for metric in collector.collect():
        for sample in metric.samples:
            print(sample.name, sample.labels.get("database", ""), float(sample.value))
"""


EXPORTER = Path("/usr/bin/prometheus-pgbouncer-exporter")
pytestmark = [
    pytest.mark.one_loop,
    # Integration/setup installs it, so CI always runs these.
    pytest.mark.skipif(not EXPORTER.exists(), reason="prometheus-pgbouncer-exporter is not installed")]


@pytest.mark.martlet("the old columns")
def test_exporter_as_it_is(proxy: Proxy) -> None:
    port = free_port()
    exporter = subprocess.Popen(
        [str(EXPORTER), "--host", "127.0.0.1", "--port", str(port), "--pgbouncer-user", "stats",
         "--pgbouncer-host", proxy.host, "--pgbouncer-port", str(proxy.port)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment(), cwd="/")
    try:
        with proxy.connect() as connection:
            connection.execute("SELECT 1")

            def scrape() -> str:
                assert exporter.poll() is None, exporter.stdout.read()
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                        return answer.read().decode()
                except urllib.error.URLError:
                    return ""

            page = wait_until(scrape, "the exporter answers", 20)
    finally:
        exporter.terminate()
        exporter.wait(10)
        exporter.stdout.close()
    for sample in ('pgbouncer_active_clients{database="app",user="app"} 1.0',
                   'pgbouncer_pool_size{database="app"} 10.0',
                   'pgbouncer_reserve_pool{database="app"} 0.0', 'pgbouncer_requests_total{database="app"} ',
                   "pgbouncer_used_clients "):
        assert f"\n{sample}" in page, f"{sample} is missing:\n{page}"


def test_exporter_scrapes(proxy: Proxy) -> None:
    with proxy.connect() as connection:
        for _ in range(5):
            connection.execute("SELECT 1")
        result = subprocess.run(
            ["/usr/bin/python3", "-c", COLLECT, "stats", str(proxy.port), proxy.host],
            capture_output=True, text=True, timeout=30, env=environment(), cwd="/")
    assert result.returncode == 0, result.stderr
    samples = {}
    for line in result.stdout.splitlines():
        name, database, value = line.split(" ")
        samples[name, database] = float(value)
    assert samples["pgbouncer_active_clients", "app"] == 1
    assert samples["pgbouncer_waiting_clients", "app"] == 0
    assert samples["pgbouncer_pool_size", "app"] == 10
    assert samples["pgbouncer_sent_bytes_total", "app"] > 0
    assert samples["pgbouncer_query_microseconds_total", "app"] > 0
    assert samples["pgbouncer_used_clients", ""] >= 2
