"""Every statement of corpus.sql that is called a read runs on a standby; what the standby refuses is written there.

The classes themselves are checked by the unit tests, from the same file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest
from psycopg import pq

from cluster import Cluster
from replicated import ReplicatedCluster

CORPUS = Path(__file__).parent / "corpus.sql"
READ_ONLY_SQL_TRANSACTION = "25006"


class Line(NamedTuple):
    number: int
    kind: str
    # The error a standby has to answer with.
    state: str | None
    statement: str


def corpus() -> list[Line]:
    lines = []
    for number, text in enumerate(CORPUS.read_text().splitlines(), 1):
        if " | " not in text or text.startswith("#"):
            continue
        head, statement = text.split(" | ", 1)
        state = re.search(r"\[(\w{5})\]", head)
        lines.append(Line(number, head.split()[0], state[1] if state else None, statement))
    return lines


@pytest.fixture(scope="module")
def standby() -> Iterator[Cluster]:
    cluster = ReplicatedCluster(1)
    try:
        cluster.start()
        with cluster.primary.connect(dbname="app") as connection:
            for line in corpus():
                if line.kind == "setup":
                    connection.execute(line.statement)
        cluster.wait_caught_up()
        yield cluster.nodes["replica1"]
    finally:
        cluster.remove()


def run(connection: psycopg.Connection, statement: str) -> str | None:
    """The SQLSTATE of a statement's error; it runs in a transaction of its own that is rolled back."""
    server = connection.pgconn
    server.exec_(b"BEGIN")
    server.send_query(statement.encode())
    state = None
    while result := server.get_result():
        if result.status == pq.ExecStatus.COPY_OUT:
            while server.get_copy_data(0)[0] > 0:
                pass
        elif result.status == pq.ExecStatus.FATAL_ERROR:
            state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"?").decode()
    server.exec_(b"ROLLBACK")
    return state


def test_reads_run_on_a_standby(standby: Cluster) -> None:
    wrong = []
    count = rescued = 0
    with standby.connect(dbname="app") as connection:
        assert connection.execute("SELECT pg_is_in_recovery()").fetchone() == (True,)
        for line in corpus():
            if line.kind == "read":
                count += 1
                state = run(connection, line.statement)
                rescued += state == READ_ONLY_SQL_TRANSACTION
                if state != line.state:
                    wrong.append((state, *line))
    assert count > 150
    assert not wrong, "\n".join(map(str, wrong))
    print(f"{count} reads run on a standby, {rescued} of them for the safety net")
