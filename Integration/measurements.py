"""What the bench measures: each takes a pooler at work and gives figures by name."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg.rows import dict_row

from contestants import Running
from measure import IdleClients, Run, pgbench, secure
from rawpg import COPY_DONE, copy_data, query, startup

Figures = dict[str, float]

READY = b"Z\0\0\0\5I"
GIGABYTE = 1e9


class Failed(Exception):
    """A measurement that has not come about; the text says what was in its way."""


def load(running: Running, *arguments: str, **options: object) -> Run:
    """A run of pgbench with two threads that must succeed."""
    run = pgbench(running.host, running.port, "app", "-n", "-j", "2", *arguments, **options)  # type: ignore[arg-type]
    if run.status != 0 or not run.transactions:
        words = [line for line in run.output.splitlines() if "error" in line or "abort" in line]
        raise Failed(f"pgbench: {words[0] if words else run.output[:300]}")
    return run


def transactions(clients: int, seconds: int) -> tuple[str, str]:
    """Transactions for each client that take about so long on two cores: a number and no time, because pgbench's time
    runs while its clients still connect."""
    return "-t", str(max(4, seconds * (5_000 if clients == 1 else 10_000) // clients))


def cpu_per_transaction(
        running: Running, protocol: str, clients: int, seconds: int, sslmode: str = "disable",
        work: tuple[str, ...] = ("-S",)) -> Figures:
    """pgbench -S, each statement with a text of its own in simple mode; the pooler's CPU time for each transaction, which
    is what a run takes more than a short one, since clients come and go in both."""
    select = (*work, "-M", protocol, "-c", str(clients))

    def spent(*arguments: str) -> tuple[float, Run]:
        before = running.cpu_seconds()
        run = load(running, *select, *arguments, sslmode=sslmode)
        return running.cpu_seconds() - before, run

    # Server connections are there, statements prepared.
    load(running, *select, "-t", "20" if clients < 400 else "4", sslmode=sslmode)
    few, short = spent("-t", "1")
    many, run = spent(*transactions(clients, seconds))
    return {"us": (many - few) / (run.transactions - short.transactions) * 1e6, "tps": run.tps}


def scaling(running: Running, protocol: str, clients: int, seconds: int) -> Figures:
    """In front of the server that answers at once, with a thread of pgbench for each core."""
    cores = os.cpu_count() or 1
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write("SELECT 1;\n")
        script.flush()
        return cpu_per_transaction(running, protocol, clients, seconds * max(2, cores // 2),
                                   work=("-f", script.name, "-j", str(cores)))


def donations(running: Running, clients: int, seconds: int) -> Figures:
    """How often a server connection goes to another thread, in terms of how often one is given to a client."""
    def counted() -> tuple[int, int]:
        with psycopg.connect(host=running.host, port=running.port, user="admin", dbname="pgbouncer", autocommit=True,
                             prepare_threshold=None, row_factory=dict_row) as console:
            state = {row["key"]: row["value"] for row in console.execute("SHOW STATE")}
            given = sum(row["server_assignment_count"] for row in console.execute("SHOW STATS_TOTALS"))
            return int(state["donations"]), int(given)

    load(running, "-S", "-c", str(clients), "-t", "4", sslmode="disable")
    moved, given = counted()
    figures = cpu_per_transaction(running, "simple", clients, seconds)
    moved_now, given_now = counted()
    return figures | {"share": (moved_now - moved) / max(given_now - given, 1)}


@contextmanager
def _logged(running: Running, clients: int, *arguments: str) -> Iterator[list[float]]:
    """Latencies of all transactions of a run, sorted, in milliseconds."""
    load(running, "-S", "-c", str(clients), "-t", "20", sslmode="disable")
    with tempfile.TemporaryDirectory(prefix="martlet-bench-") as folder:
        load(running, "-S", "-c", str(clients), "--log", *arguments, sslmode="disable", cwd=Path(folder))
        times = [int(line.split()[2]) / 1000 for path in Path(folder).iterdir() for line in open(path)]
    yield sorted(times)


def latency(running: Running, clients: int, rate: int, seconds: int) -> Figures:
    """At a fixed rate, which all poolers can keep: from when a transaction was due to the end of its answer."""
    with _logged(running, clients, "-R", str(rate), "-T", str(seconds)) as times:
        return {name: times[min(int(len(times) * part), len(times) - 1)]
                for name, part in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999))}


def fairness(running: Running, clients: int, seconds: int) -> Figures:
    """The longest wait in terms of the median one, with many more clients than server connections."""
    with _logged(running, clients, *transactions(clients, seconds)) as times:
        return {"ratio": times[-1] / statistics.median(times), "median": statistics.median(times)}


def logins(running: Running, count: int, at_once: int, password: str = "") -> Figures:
    """Clients that log in and go again, without a query; pgbench has a thread for each of those at once, since a thread of
    its waits for each login."""
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write("\\set x 1\n")
        script.flush()

        def come_and_go(number: int) -> Run:
            return load(running, "-C", "-c", str(at_once), "-j", str(at_once), "-f", script.name, "-t",
                        str(number // at_once), sslmode="disable", password=password)

        load(running, "-S", "-c", "4", "-t", "5", sslmode="disable", password=password)
        come_and_go(4 * at_once)
        before = running.cpu_seconds()
        run = come_and_go(count)
    spent = running.cpu_seconds() - before
    return {"us": spent / run.transactions * 1e6, "per_cpu_second": run.transactions / max(spent, 0.001),
            "per_second": run.tps}


def scram_verifier(password: str, iterations: int = 4096) -> str:
    """What a server stores in the place of a password (PostgreSQL's manual, pg_authid)."""
    salt = os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    salt64, stored64, server64 = (base64.b64encode(part).decode() for part in (salt, stored, server))
    return f"SCRAM-SHA-256${iterations}:{salt64}${stored64}:{server64}"


def handshakes(running: Running, count: int) -> Figures:
    """Clients that agree upon TLS and go again."""
    def one() -> None:
        with secure(socket.create_connection((running.host, running.port), 10)):
            pass

    for _ in range(50):
        one()
    before = running.cpu_seconds()
    for _ in range(count):
        one()
    # What the last ones have left to be done belongs to them.
    time.sleep(0.3)
    return {"us": (running.cpu_seconds() - before) / count * 1e6}


# Memory

def idle_clients(running: Running, count: int, tls: bool = False, idle_seconds: float = 0) -> Figures:
    """Growth of memory for each client that has logged in, and that has run a query; CPU time while all are idle.

    Before each look at the memory there is a moment in which nothing happens: what is given back is given back then.
    """
    IdleClients(running.host, running.port, 50, tls=tls).close()
    time.sleep(0.5)
    before = running.memory()
    crowd = IdleClients(running.host, running.port, count, tls=tls)
    time.sleep(1)
    logged_in = running.memory()
    for client in crowd.sockets:
        client.sendall(query("SELECT 1"))
        _until_ready(client)
    time.sleep(1)
    used = running.memory()
    spent = running.threads()
    time.sleep(idle_seconds)
    spent = sum(seconds - spent.get(thread, 0) for thread, seconds in running.threads().items())
    crowd.close()
    return {"logged_in": (logged_in - before) / count, "after_a_query": (used - before) / count,
            "process": float(used), "cpu_ms": spent / (idle_seconds or 1) * 1000}


def active_clients(running: Running, clients: int, seconds: int) -> Figures:
    """Growth of memory for each client while all of them run queries."""
    load(running, "-S", "-c", "1", "-t", "20", sslmode="disable")
    before = running.memory()
    highest = before
    over = threading.Event()

    def watch() -> None:
        nonlocal highest
        while not over.wait(0.1):
            highest = max(highest, running.memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        load(running, "-S", "-c", str(clients), *transactions(clients, seconds), sslmode="disable")
    finally:
        over.set()
        watcher.join()
    return {"bytes": (highest - before) / clients}


# Bytes

ROW = 8_000
SINK = "CREATE UNLOGGED TABLE IF NOT EXISTS sink (line text)"
_buffer = memoryview(bytearray(1 << 20))


def _connect(running: Running) -> socket.socket:
    client = socket.create_connection((running.host, running.port), 20)
    client.sendall(startup({"user": "app", "database": "app"}))
    _until_ready(client)
    return client


def _until_ready(client: socket.socket) -> int:
    """Reads up to ReadyForQuery; gives the number of bytes."""
    total, end = 0, b""
    while not end.endswith(READY):
        count = client.recv_into(_buffer)
        if not count:
            raise Failed(f"the connection was closed after {total} bytes: {end!r}")
        total += count
        end = (end + bytes(_buffer[max(0, count - 6):count]))[-6:]
    return total


def stream(running: Running, kind: str, size: int) -> Figures:
    """One large result, COPY TO or COPY FROM of about so many bytes; the pooler's CPU time for each gigabyte."""
    rows = size // ROW
    with _connect(running) as client:
        text = {"result": f"SELECT repeat('x', {ROW}) FROM generate_series(1, {rows})",
                "copy out": f"COPY (SELECT repeat('x', {ROW}) FROM generate_series(1, {rows})) TO STDOUT",
                # Thrown away by the server: its disk is not what is measured.
                "copy in": "COPY sink FROM STDIN WHERE false"}[kind]
        client.sendall(query("SELECT 1"))
        _until_ready(client)
        before, begun = running.cpu_seconds(), time.monotonic()
        client.sendall(query(text))
        if kind == "copy in":
            chunk = copy_data(b"x" * ROW + b"\n") * 32
            for _ in range(rows // 32):
                client.sendall(chunk)
            client.sendall(COPY_DONE)
            _until_ready(client)
            total = rows // 32 * len(chunk)
        else:
            total = _until_ready(client)
        seconds = time.monotonic() - begun
    return {"s_per_gb": (running.cpu_seconds() - before) / total * GIGABYTE, "gb_per_second": total / seconds / GIGABYTE}
