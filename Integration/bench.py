"""Measures two proxies by turns; called by the script beside it."""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import time
from pathlib import Path

from cluster import Cluster
from common import AS_ROOT, CACHE, own, remove, service_directory
from measure import IdleClients, pgbench, raise_file_limit, table
from proxy import Program, Proxy
from rawpg import query

PROTOCOLS = ("simple", "extended", "prepared")
CLIENTS = (16, 400)
POOL = 20
IDLE_CLIENTS = 8_000


def start(program: Program, cluster: Cluster, threads: int, files: int) -> Proxy:
    return Proxy(program, cluster, threads=threads, settings={
        "default_pool_size": POOL, "max_client_conn": min(20_000, files - 1_000), "query_wait_timeout": 120,
        "log_connections": 0, "log_disconnections": 0}).start()


def cpu_per_transaction(proxy: Proxy, protocol: str, clients: int, seconds: int) -> dict[str, float]:
    """One run of pgbench -S; the proxy's CPU time in microseconds for each transaction."""
    load = ("-n", "-S", "-M", protocol, "-c", str(clients), "-j", "2")
    pgbench(proxy.host, proxy.port, "app", *load, "-t", "20")  # Server connections are there, statements prepared.
    before = proxy.figures.cpu_seconds()
    run = pgbench(proxy.host, proxy.port, "app", *load, "-T", str(seconds))
    spent = proxy.figures.cpu_seconds() - before
    if run.status != 0 or not run.transactions:
        raise RuntimeError(f"pgbench failed:\n{run.output[-2000:]}")
    return {"cpu_us": spent / run.transactions * 1e6, "tps": run.tps}


def memory_per_client(proxy: Proxy, count: int) -> dict[str, float]:
    """Growth of resident memory in bytes for each client that is logged in, and for each that has run a query too."""
    warm = IdleClients(proxy.host, proxy.port, 50)
    warm.close()
    time.sleep(0.5)
    before = proxy.figures.rss()
    crowd = IdleClients(proxy.host, proxy.port, count)
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


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="")
    parser.add_argument("--proxy", nargs=2, default=["martlet", "pgbouncer"])
    parser.add_argument("--json", type=Path, default=CACHE / "bench.json")
    options = parser.parse_args()
    files = raise_file_limit()
    idle_clients = min(IDLE_CLIENTS, files - 2_000)

    folder = service_directory("me-")
    programs = []
    for number, which in enumerate(options.proxy):
        program = Program.find(which)
        if program.kind == "martlet" and AS_ROOT:
            copy = folder / f"{number}-martlet"
            shutil.copy(program.command[-1], copy)
            program = Program("martlet", (str(copy),))
        programs.append(program)
    own(folder)
    names = [program.version() for program in programs]
    print(f"A = {names[0]}, B = {names[1]}; pool of {POOL}, {options.rounds} rounds of {options.seconds} s by turns\n",
          flush=True)

    cluster = Cluster(max_connections=100).start()
    lines: list[dict] = []
    try:
        pgbench(cluster.host, cluster.port, "app", "-i", "-q", "-s", "10")
        cases = [f"{protocol}, {clients} clients" for clients in CLIENTS for protocol in PROTOCOLS]
        for case, (clients, protocol) in zip(cases, [(c, p) for c in CLIENTS for p in PROTOCOLS]):
            if options.only not in case:
                continue
            # A B A B ...: each turn with a fresh process, so that neither lives off the other's warmth.
            results: list[list[dict]] = [[], []]
            for _ in range(options.rounds):
                for index, program in enumerate(programs):
                    proxy = start(program, cluster, options.threads, files)
                    try:
                        results[index].append(cpu_per_transaction(proxy, protocol, clients, options.seconds))
                    finally:
                        proxy.stop()
            a, b = ({name: statistics.median(run[name] for run in runs) for name in runs[0]} for runs in results)
            lines.append({"case": case, "unit": "us of CPU for each transaction", "A": a["cpu_us"], "B": b["cpu_us"],
                          "ratio": a["cpu_us"] / b["cpu_us"], "A_tps": a["tps"], "B_tps": b["tps"], "runs": results})
            print(f"  {case}: A {a['cpu_us']:.2f} us, B {b['cpu_us']:.2f} us, ratio {a['cpu_us'] / b['cpu_us']:.2f}",
                  flush=True)

        if options.only in f"idle, {idle_clients} clients":
            results = [[], []]
            for _ in range(2):
                for index, program in enumerate(programs):
                    proxy = start(program, cluster, options.threads, files)
                    try:
                        results[index].append(memory_per_client(proxy, idle_clients))
                    finally:
                        proxy.stop()
            a, b = ({name: statistics.median(run[name] for run in runs) for name in runs[0]} for runs in results)
            for name, words in (("logged_in_bytes", "logged in"), ("after_a_query_bytes", "after a query"),
                                ("whole_process_bytes", "whole process")):
                unit = "bytes" if name.startswith("whole") else "bytes for each client"
                lines.append({"case": f"{idle_clients} idle clients, {words}", "unit": unit, "A": a[name], "B": b[name], "ratio": a[name] / b[name], "runs": results})
    finally:
        cluster.remove()
        remove(folder)

    rows: list[list[object]] = [["", "A", "B", "A/B", "A tps", "B tps"]]
    for line in lines:
        unit = {"us of CPU for each transaction": "us CPU/transaction", "bytes": "bytes"}.get(
            line["unit"], "bytes/client")
        rows.append([f"{line['case']} ({unit})", line["A"], line["B"], line["ratio"],
                     f"{line.get('A_tps', 0):.0f}" if "A_tps" in line else "",
                     f"{line.get('B_tps', 0):.0f}" if "B_tps" in line else ""])
    print("\n" + table(rows))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({"A": names[0], "B": names[1], "lines": lines}, indent=2) + "\n")
    print(f"\nwritten to {options.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
