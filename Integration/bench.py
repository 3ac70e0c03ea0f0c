"""Measures poolers by turns; called by the script beside it."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import measurements as measure
from certificates import Authority
from common import CACHE, free_port, own, remove, service_directory
from contestants import Contestant, Running, Scene, StandIn, Wishes, field_of
from measure import pgbench, raise_file_limit, table
from replicated import ReplicatedCluster

PROTOCOLS = ("simple", "extended", "prepared")
CLIENTS = (1, 16, 100, 400, 2_000)
IDLE_CLIENTS = 8_000
IDLE_TLS_CLIENTS = 3_000
THREADS = [count for count in (1, 2, 4, 8, 16) if count <= max(2, os.cpu_count() or 1)]
# So many transactions in a second, which every contestant can keep on two cores.
RATE = 3_000


@dataclass
class Case:
    """One thing that is measured, with what it asks of a pooler and who takes part."""

    name: str
    measure: Callable[[Running], measure.Figures]
    figures: dict[str, str]
    """What it gives: a figure's name and what the tables call it, with its unit."""
    wishes: Wishes
    tags: set[str]
    is_quick: bool = False
    """Of issue 4's table, and of a quick run."""
    has_turns: bool = True
    """Memory needs no repetition."""


@dataclass
class Result:
    """What one contestant has got in one case, by figure; `runs` are the turns."""

    contestant: str
    runs: list[measure.Figures] = field(default_factory=list)

    def median(self, figure: str) -> float:
        return statistics.median(run[figure] for run in self.runs)

    def spread(self, figure: str) -> tuple[float, float]:
        values = [run[figure] for run in self.runs]
        return min(values), max(values)


def cases(options: argparse.Namespace, scene: Scene, paper: dict[str, object]) -> list[Case]:
    quick, seconds = options.quick, options.seconds
    found: list[Case] = []

    def add(name: str, figures: dict[str, str], call: Callable[[Running], measure.Figures], tags: str, *,
            clients: int = 16, quick: bool = False, turns: bool = True, **wishes: object) -> None:
        found.append(Case(name, call, figures, Wishes(clients=clients, **wishes), set(tags.split()), quick, turns))

    for clients in CLIENTS:
        for protocol in PROTOCOLS:
            tags = "main routed other"
            if protocol == "simple":
                tags += " direct"
            if protocol == "simple" and clients == 400:
                tags += " threads"
            if quick:
                tags = "main routed threads" if "threads" in tags else "main"
            add(f"{protocol}, {clients} clients", {"us": "CPU/transaction, us", "tps": "transactions/s"},
                lambda running, protocol=protocol, clients=clients: measure.cpu_per_transaction(
                    running, protocol, clients, seconds),
                tags, clients=clients, quick=clients in (16, 400, 2_000))
    for protocol in PROTOCOLS:
        add(f"scaling, {protocol}, 400 clients, a server that answers at once",
            {"tps": "transactions/s", "us": "CPU/transaction, us"},
            lambda running, protocol=protocol: measure.scaling(running, protocol, 400, seconds), "scaling",
            clients=400, pool=64, stand_in=True)
    for clients in (16, 400):
        add(f"latency at {RATE}/s, {clients} clients", {"p50": "p50, ms", "p99": "p99, ms", "p999": "p99.9, ms"},
            lambda running, clients=clients: measure.latency(running, clients, RATE, 2 * seconds),
            "main" if quick else "main threads routed other direct", clients=clients, quick=clients == 400)
    add("fairness, 400 clients over 4 connections", {"ratio": "longest/median wait", "median": "median, ms"},
        lambda running: measure.fairness(running, 400, seconds), "main threads", clients=400, pool=4)
    for pool in (2, 4, 20):
        for clients in (16, 400):
            add(f"donations, {clients} clients over {pool} connections",
                {"share": "donations/connection given", "us": "CPU/transaction, us", "tps": "transactions/s"},
                lambda running, clients=clients: measure.donations(running, clients, seconds), "martlet",
                clients=clients, pool=pool)
    count = 3_000 if quick else 6_000
    figures = {"us": "CPU/login, us", "per_cpu_second": "logins/CPU second", "per_second": "logins/s"}
    add("logins, trust", figures, lambda running: measure.logins(running, count, 2), "main routed other", clients=8)
    secrets = {"app": measure.scram_verifier("app-secret")}
    # Two make a ping-pong; when a connection storm comes there are many.
    for at_once in (2, 16):
        add(f"logins, SCRAM, {at_once} at a time", figures,
            lambda running, at_once=at_once: measure.logins(running, count, at_once, "app-secret"), "main",
            clients=at_once, quick=True, settings={"auth_type": "scram-sha-256"}, secrets=secrets)
    size = 500_000_000 if quick else 2_000_000_000
    for kind in ("result", "copy out", "copy in"):
        add(f"bytes, {kind}", {"s_per_gb": "CPU s/GB", "gb_per_second": "GB/s"},
            lambda running, kind=kind: measure.stream(running, kind, size),
            "main" if quick else "main routed other direct", clients=4, quick=kind == "result")
    idle = min(IDLE_CLIENTS, scene.files - 2_000)
    memory = {"logged_in": "bytes/client, logged in", "after_a_query": "bytes/client, after a query",
              "process": "bytes, whole process", "cpu_ms": "CPU while idle, ms/s"}
    add(f"idle, {idle} clients", memory,
        lambda running: measure.idle_clients(running, idle, idle_seconds=2 if quick else 10),
        "main" if quick else "main routed", clients=idle, quick=True, turns=False)
    add("active, 400 clients", {"bytes": "bytes/client"},
        lambda running: measure.active_clients(running, 400, min(seconds, 3)), "main routed other", clients=400,
        turns=False)
    both = paper | {"server_tls_sslmode": "require"}
    for where, settings in (("to clients", paper), ("both sides", both)):
        for clients in (16, 400):
            add(f"TLS {where}, simple, {clients} clients", {"us": "CPU/transaction, us", "tps": "transactions/s"},
                lambda running, clients=clients: measure.cpu_per_transaction(
                    running, "simple", clients, seconds, "require"),
                "main", clients=clients, settings=dict(settings))
    add("TLS handshake, P-256", {"us": "CPU, us"}, lambda running: measure.handshakes(running, 1_500), "main",
        settings=dict(paper))
    tls = min(IDLE_TLS_CLIENTS, idle)
    add(f"idle TLS, {tls} clients", memory, lambda running: measure.idle_clients(running, tls, tls=True), "main",
        clients=tls, turns=False, settings=dict(paper))
    return [case for case in found
            if options.only in case.name and (case.is_quick or not quick or options.only)]


def run_case(case: Case, field: list[Contestant], scene: Scene, rounds: int) -> list[Result]:
    """A B C A B C …: each turn with a fresh process, so that none lives off another's warmth."""
    taking_part = []
    for contestant in field:
        if not contestant.tags & case.tags:
            continue
        why = contestant.unfit(case.wishes)
        if why:
            print(f"    {contestant.name}: not measured, {why}")
        else:
            taking_part.append((contestant, Result(contestant.name)))
    for _ in range(rounds if case.has_turns else 1):
        for contestant, result in taking_part:
            try:
                running = contestant.start(scene, case.wishes)
                try:
                    result.runs.append(case.measure(running))
                finally:
                    running.stop()
            except (measure.Failed, AssertionError, OSError) as error:
                # One that fails under this load does not take the others' figures along.
                print(f"    {contestant.name}: failed: {str(error).strip()[-300:]}", flush=True)
    return [result for _, result in taking_part if result.runs]


def show(case: Case, results: list[Result], yardstick: str) -> None:
    """A case's figures, each with the turns' lowest and highest, and its ratio to the yardstick's."""
    base = next((result for result in results if result.contestant == yardstick), None)
    rows: list[list[object]] = [["    ", *case.figures.values()]]
    for result in results:
        cells: list[object] = []
        for figure in case.figures:
            value, (low, high) = result.median(figure), result.spread(figure)
            text = number(value)
            if len(result.runs) > 1:
                text += f" ({number(low)}-{number(high)})"
            if base and base.median(figure):
                text += f"  {value / base.median(figure):.2f}"
            cells.append(text)
        rows.append([f"    {result.contestant}", *cells])
    print(table(rows), flush=True)


def number(value: float) -> str:
    """Three digits are as many as a measurement is good for."""
    if value == 0 or 1 <= abs(value) < 10:
        return f"{value:.2f}"
    return f"{value:.1f}" if abs(value) < 100 and abs(value) >= 10 else f"{value:.3g}" if abs(value) < 1 else f"{value:.0f}"


def summary(done: list[tuple[Case, list[Result]]], names: list[str], yardstick: str) -> str:
    """One line for each figure, one column for each contestant: its median's ratio to the yardstick's."""
    columns = [name for name in names if any(result.contestant == name for _, results in done for result in results)]
    rows: list[list[object]] = [["ratios to " + yardstick, *(chr(ord("A") + index) for index in range(len(columns)))]]
    for case, results in done:
        by_name = {result.contestant: result for result in results}
        if yardstick not in by_name:
            continue
        for figure, title in case.figures.items():
            base = by_name[yardstick].median(figure)
            rows.append([f"{case.name}: {title}", *(
                f"{by_name[name].median(figure) / base:.2f}" if name in by_name and base else "" for name in columns)])
    legend = "; ".join(f"{chr(ord('A') + index)} = {name}" for index, name in enumerate(columns))
    return f"{table(rows)}\n{legend}"


def write(options: argparse.Namespace, yardstick: str, done: list[tuple[Case, list[Result]]]) -> None:
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({
        "machine": {"cores": os.cpu_count(), "kernel": platform.release(), "load": os.getloadavg(),
                    "is_grouped": is_grouped()},
        "rounds": options.rounds, "seconds": options.seconds, "yardstick": yardstick,
        "cases": [{"case": case.name, "figures": case.figures, "results": [asdict(result) for result in results]}
                  for case, results in done]}, indent=2) + "\n")


GROUPING = Path("/proc/sys/kernel/sched_autogroup_enabled")


def is_grouped() -> bool:
    return GROUPING.exists() and GROUPING.read_text().strip() != "0"


@contextmanager
def ungrouped(wanted: bool) -> Iterator[None]:
    """Has the kernel give each thread its share of the cores, and not each session (sched(7), "The autogroup feature").

    With groups two processes have twice the share of one with two threads.
    """
    if not is_grouped():
        yield
    elif not wanted:
        print("each process has one share of the cores, however many threads it has: see --ungrouped")
        yield
    else:
        GROUPING.write_text("0")
        try:
            yield
        finally:
            GROUPING.write_text("1")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=int)
    parser.add_argument("--threads", type=int, nargs="+", default=THREADS)
    parser.add_argument("--ungrouped", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--field", nargs="+", default=[])
    parser.add_argument("--martlet", nargs="+", default=["martlet"])
    parser.add_argument("--json", type=Path, default=CACHE / "bench.json")
    options = parser.parse_args()
    options.rounds = options.rounds or (2 if options.quick else 3)
    options.seconds = options.seconds or (3 if options.quick else 6)
    # Ends as after Control-C: servers and the kernel's setting are put back.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with ungrouped(options.ungrouped):
        return compare(options)


def compare(options: argparse.Namespace) -> int:
    """Runs all cases and prints and writes their figures."""
    begun = time.monotonic()
    files = raise_file_limit()
    folder = service_directory("me-")
    paper = Authority(folder).issue("localhost", name="localhost")
    own(folder)
    to_clients = {"client_tls_sslmode": "allow", "client_tls_key_file": paper.key, "client_tls_cert_file": paper.crt}
    cluster = ReplicatedCluster(2, max_connections=600, settings={
        "ssl": "on", "ssl_cert_file": f"'{paper.crt}'", "ssl_key_file": f"'{paper.key}'", "max_wal_senders": "10"})
    # pgagroal 2.1.0 has room for four digits (issue 926 of its project), and dies of a fifth.
    cluster.primary.port = free_port(2_000, 10_000)
    stand_in = None
    try:
        cluster.start()
        primary = cluster.primary
        pgbench(primary.host, primary.port, "app", "-i", "-q", "-s", "10")
        with primary.connect("app", user="app") as connection:
            connection.execute(measure.SINK)
        cluster.wait_caught_up()
        scene = Scene(cluster, files, folder)
        field = [each for each in field_of(scene, options.martlet, options.threads, print)
                 if not options.field or each.tags & {"yardstick", *options.field}]
        yardstick = next(each.name for each in field if "yardstick" in each.tags)
        chosen = cases(options, scene, to_clients)
        if any(case.wishes.stand_in for case in chosen):
            scene.stand_in = stand_in = StandIn(folder)
        print(f"{len(chosen)} cases, {options.rounds} rounds by turns, {options.seconds} s each; load of the machine "
              f"{os.getloadavg()[0]:.1f}\nmedian (lowest-highest)  ratio to {yardstick}\n", flush=True)
        done: list[tuple[Case, list[Result]]] = []
        for index, case in enumerate(chosen):
            print(f"[{index + 1}/{len(chosen)}, {time.monotonic() - begun:.0f} s] {case.name}", flush=True)
            results = run_case(case, field, scene, options.rounds)
            if results:
                show(case, results, yardstick)
            done.append((case, results))
            # A run of hours may be ended early.
            write(options, yardstick, done)
    finally:
        if stand_in:
            stand_in.stop()
        cluster.remove()
        remove(folder)
    print("\n" + summary(done, [each.name for each in field], yardstick))
    print(f"\nwritten to {options.json}, {time.monotonic() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
