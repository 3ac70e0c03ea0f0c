"""Measures two proxies by turns; called by the script beside it."""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from certificates import Authority
from cluster import Cluster
from common import AS_ROOT, CACHE, own, remove, service_directory
from measure import IdleClients, pgbench, raise_file_limit, secure, table
from proxy import Program, Proxy
from rawpg import query

PROTOCOLS = ("simple", "extended", "prepared")
CLIENTS = (16, 400)
POOL = 20
IDLE_CLIENTS = 8_000
IDLE_TLS_CLIENTS = 3_000


def start(program: Program, cluster: Cluster, threads: int, files: int, settings: dict[str, object]) -> Proxy:
    return Proxy(program, cluster, threads=threads, settings={
        "default_pool_size": POOL, "max_client_conn": min(20_000, files - 1_000), "query_wait_timeout": 120,
        "log_connections": 0, "log_disconnections": 0} | settings).start()


def cpu_per_transaction(
        proxy: Proxy, protocol: str, clients: int, seconds: int, sslmode: str = "disable") -> dict[str, float]:
    """One run of pgbench -S; the proxy's CPU time in microseconds for each transaction."""
    load = ("-n", "-S", "-M", protocol, "-c", str(clients), "-j", "2")
    pgbench(proxy.host, proxy.port, "app", *load, "-t", "20", sslmode=sslmode)  # Server connections are there, statements prepared.
    before = proxy.figures.cpu_seconds()
    run = pgbench(proxy.host, proxy.port, "app", *load, "-T", str(seconds), sslmode=sslmode)
    spent = proxy.figures.cpu_seconds() - before
    if run.status != 0 or not run.transactions:
        raise RuntimeError(f"pgbench failed:\n{run.output[-2000:]}")
    return {"cpu_us": spent / run.transactions * 1e6, "tps": run.tps}


def cpu_per_handshake(proxy: Proxy, count: int = 1_500) -> dict[str, float]:
    """Clients that agree upon TLS and go again; the proxy's CPU time in microseconds for each."""
    def one() -> None:
        with secure(socket.create_connection((proxy.host, proxy.port), 10)):
            pass

    for _ in range(50):
        one()
    before = proxy.figures.cpu_seconds()
    for _ in range(count):
        one()
    time.sleep(0.3)
    return {"cpu_us": (proxy.figures.cpu_seconds() - before) / count * 1e6}


def memory_per_client(proxy: Proxy, count: int, tls: bool = False) -> dict[str, float]:
    """Growth of resident memory in bytes for each client that is logged in, and for each that has run a query too."""
    warm = IdleClients(proxy.host, proxy.port, 50, tls=tls)
    warm.close()
    time.sleep(0.5)
    before = proxy.figures.rss()
    crowd = IdleClients(proxy.host, proxy.port, count, tls=tls)
    time.sleep(1)
    logged_in = proxy.figures.rss()
    for client in crowd.sockets:
        client.sendall(query("SELECT 1"))
        answer = b""
        while not answer.endswith(b"Z\0\0\0\5I"):
            data = client.recv(4096)
            assert data, "a client was thrown out"
            answer += data
    time.sleep(1)
    used = proxy.figures.rss()
    crowd.close()
    proxy.wait_pool(lambda pool: pool["cl_active"] == 0, "the crowd has left", timeout=30)
    return {"logged_in_bytes": (logged_in - before) / count, "after_a_query_bytes": (used - before) / count,
            "whole_process_bytes": float(used)}


class Contestant:
    """A program as it takes part: Martlet with a number of threads, or the yardstick."""

    def __init__(self, program: Program, threads: int) -> None:
        self.program, self.threads = program, threads
        self.name = program.version().splitlines()[0]
        if program.kind == "martlet":
            self.name += f", {threads} thread{'s' if threads > 1 else ''}"

    def start(self, cluster: Cluster, files: int, settings: dict[str, object]) -> Proxy:
        return start(self.program, cluster, self.threads, files, settings)


def contestants(which: list[str], threads: list[int], folder: Path) -> list[Contestant]:
    """The yardstick comes last: ratios are to it."""
    found: list[Contestant] = []
    for number, name in enumerate(which):
        program = Program.find(name)
        if program.kind == "martlet" and AS_ROOT:
            copy = folder / f"{number}-martlet"
            shutil.copy(program.command[-1], copy)
            program = Program("martlet", (str(copy),))
        found += [Contestant(program, count) for count in (threads if program.kind == "martlet" else [1])]
    own(folder)
    return found


def by_turns(field: list[Contestant], rounds: int, cluster: Cluster, files: int,
             measure: Callable[[Proxy], dict[str, float]], **settings: object) -> list[list[dict[str, float]]]:
    """A B C A B C ...: each turn with a fresh process, so that none lives off another's warmth."""
    results: list[list[dict[str, float]]] = [[] for _ in field]
    for _ in range(rounds):
        for index, contestant in enumerate(field):
            proxy = contestant.start(cluster, files, settings)
            try:
                results[index].append(measure(proxy))
            finally:
                proxy.stop()
    return results


def medians(runs: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=6)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", default="")
    parser.add_argument("--proxy", nargs=2, default=["martlet", "pgbouncer"])
    parser.add_argument("--json", type=Path, default=CACHE / "bench.json")
    options = parser.parse_args()
    files = raise_file_limit()
    idle_clients = min(IDLE_CLIENTS, files - 2_000)

    folder = service_directory("me-")
    field = contestants(options.proxy, options.threads, folder)
    print("; ".join(f"{letter} = {each.name}" for letter, each in zip("ABCDEFGH", field)))
    print(f"pool of {POOL}, {options.rounds} rounds of {options.seconds} s by turns; ratios are to the last\n", flush=True)

    lines: list[dict] = []

    def note(case: str, unit: str, key: str, results: list[list[dict[str, float]]]) -> None:
        middle = [medians(runs) for runs in results]
        values = [each[key] for each in middle]
        spread = [(min(run[key] for run in runs), max(run[key] for run in runs)) for runs in results]
        lines.append({"case": case, "unit": unit, "values": values, "ratios": [value / values[-1] for value in values],
                      "tps": [each.get("tps") for each in middle], "spread": spread, "runs": results})
        print(f"  {case}: " + ", ".join(f"{value:.2f} ({value / values[-1]:.2f})" for value in values) + f" {unit}",
              flush=True)

    paper = Authority(folder).issue("localhost", name="localhost")
    own(folder)
    to_clients = {"client_tls_sslmode": "allow", "client_tls_key_file": paper.key, "client_tls_cert_file": paper.crt}
    cluster = Cluster(max_connections=100, settings={
        "ssl": "on", "ssl_cert_file": f"'{paper.crt}'", "ssl_key_file": f"'{paper.key}'"}).start()
    try:
        pgbench(cluster.host, cluster.port, "app", "-i", "-q", "-s", "10")
        for clients in CLIENTS:
            for protocol in PROTOCOLS:
                case = f"{protocol}, {clients} clients"
                if options.only not in case:
                    continue
                note(case, "us CPU/transaction", "cpu_us", by_turns(
                    field, options.rounds, cluster, files,
                    lambda proxy: cpu_per_transaction(proxy, protocol, clients, options.seconds)))
        if options.only in f"idle, {idle_clients} clients":
            results = by_turns(field, 2, cluster, files, lambda proxy: memory_per_client(proxy, idle_clients))
            note(f"{idle_clients} idle clients, logged in", "bytes/client", "logged_in_bytes", results)
            note(f"{idle_clients} idle clients, after a query", "bytes/client", "after_a_query_bytes", results)
            note(f"{idle_clients} idle clients, whole process", "bytes", "whole_process_bytes", results)
        for where, settings in (("to clients", to_clients), ("both sides", to_clients | {"server_tls_sslmode": "require"})):
            for clients in CLIENTS:
                case = f"TLS {where}, simple, {clients} clients"
                if options.only in case:
                    note(case, "us CPU/transaction", "cpu_us", by_turns(
                        field, options.rounds, cluster, files,
                        lambda proxy: cpu_per_transaction(proxy, "simple", clients, options.seconds, "require"),
                        **settings))
        if options.only in "TLS handshake, P-256":
            note("TLS handshake, P-256", "us CPU", "cpu_us", by_turns(
                field, options.rounds, cluster, files, cpu_per_handshake, **to_clients))
        if options.only in f"idle TLS, {IDLE_TLS_CLIENTS} clients":
            results = by_turns(field, 1, cluster, files, lambda proxy: memory_per_client(proxy, IDLE_TLS_CLIENTS, True),
                               **to_clients)
            note(f"{IDLE_TLS_CLIENTS} idle TLS clients, logged in", "bytes/client", "logged_in_bytes", results)
            note(f"{IDLE_TLS_CLIENTS} idle TLS clients, after a query", "bytes/client", "after_a_query_bytes", results)
    finally:
        cluster.remove()
        remove(folder)

    letters = "ABCDEFGH"[:len(field)]
    last = letters[-1]
    rows: list[list[object]] = [
        ["", *letters, *(f"{letter}/{last}" for letter in letters[:-1]), *(f"{letter} tps" for letter in letters)]]
    for line in lines:
        rows.append([f"{line['case']} ({line['unit']})", *line["values"], *line["ratios"][:-1],
                     *(f"{tps:.0f}" if tps else "" for tps in line["tps"])])
    print("\n" + table(rows))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({"contestants": [each.name for each in field], "lines": lines}, indent=2) + "\n")
    print(f"\nwritten to {options.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
