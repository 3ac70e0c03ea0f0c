"""server_check_query and the proxy's other queries of its own: a connection on which one runs is on its way to a client, and
no other is made in its place."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cluster import BackendSampler, Cluster
from common import Background, wait_until
from proxy import Proxy

ALWAYS_RESET = {"server_reset_query_always": 1, "server_reset_query": "SELECT pg_sleep(0.01)"}
CHECKED = {"server_check_delay": 0, "server_check_query": "SELECT pg_sleep(0.01)"}
LATE = {"server_check_delay": "0.05", "server_check_query": "SELECT pg_sleep(0.01)"}


@pytest.mark.parametrize("order", [0, 1], ids=["last-used", "round-robin"])
@pytest.mark.parametrize("own", [CHECKED, LATE, ALWAYS_RESET], ids=["check", "late-check", "reset"])
def test_one_client_needs_one_connection(
        start_proxy: Callable[..., Proxy], cluster: Cluster, database: str, own: dict[str, object], order: int) -> None:
    proxy = start_proxy(settings={"default_pool_size": 20, "server_round_robin": order} | own, threads=1)
    with BackendSampler(cluster, database) as sampler, proxy.connect(database) as connection:
        for number in range(20):
            assert connection.execute("SELECT %s::int", (number,), prepare=False).fetchone() == (number,)
            if own is LATE:
                wait_until(lambda: proxy.pool(database)["sv_used"] > 0, "it is due for a check")
    assert len(sampler.pids) == 1 and sampler.highest == 1


@pytest.mark.parametrize("own", [CHECKED, ALWAYS_RESET], ids=["check", "reset"])
def test_as_many_as_there_are_clients(
        start_proxy: Callable[..., Proxy], cluster: Cluster, database: str, own: dict[str, object]) -> None:
    """Clients at the same time have a connection each, and idle ones beyond that are not asked."""
    proxy = start_proxy(settings={"default_pool_size": 20} | own, threads=1)
    clients = [proxy.connect(database) for _ in range(4)]

    def work(number: int) -> None:
        for _ in range(10):
            assert clients[number].execute("SELECT %s::int", (number,), prepare=False).fetchone() == (number,)

    with BackendSampler(cluster, database) as sampler:
        for each in [Background(work, number) for number in range(4)]:
            each.result(30)
    assert sampler.highest <= 4
    for client in clients:
        client.close()


def test_check_that_hangs_keeps_nobody(start_proxy: Callable[..., Proxy], database: str) -> None:
    """After a second it does not count as coming any more."""
    proxy = start_proxy(settings={
        "default_pool_size": 2, "server_check_delay": 0, "cancel_wait_timeout": 20,
        "server_check_query": "SELECT pg_sleep(CASE WHEN current_setting('application_name') = 'slow' THEN 15 ELSE 0 END)"},
        threads=1)
    with proxy.connect(database, application_name="slow") as connection:
        connection.execute("SELECT 1")
        begin = Background(connection.execute, "SELECT 2")
        begin.result(8)
