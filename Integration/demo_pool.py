"""The demonstration of pooling: called by the script demo."""

from __future__ import annotations

import argparse
import signal
import sys
import time

import psycopg

from cluster import BackendSampler, Cluster
from common import Background
from measure import Run, pgbench, raise_file_limit, table
from proxy import Program, Proxy

CLIENTS = 500
POOL = 10
MAX_CONNECTIONS = 50
SECONDS = 8


def say(text: str = "") -> None:
    print(text, flush=True)


def account(run: Run, sampler: BackendSampler) -> None:
    refused = run.output.count("too many clients already") + run.output.count("remaining connection slots")
    say(f"   the server saw {sampler.highest} connections at most")
    if run.transactions:
        say(f"   {int(run.transactions)} transactions, {run.tps:.0f} per second, {run.latency:.1f} ms each")
    else:
        say("   not one transaction: pgbench gives up when a connection is refused")
    say(f"   {run.errors} errors" + (f", {refused} of them \"too many clients already\"" if refused else ""))


def refused_directly(cluster: Cluster) -> int:
    """How many of the clients the server turns away when each opens a connection."""
    connections, refused = [], 0
    for _ in range(CLIENTS):
        try:
            connections.append(cluster.connect("app", user="app"))
        except psycopg.OperationalError:
            refused += 1
    for connection in connections:
        connection.close()
    return refused


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--proxy", default="martlet")
    options = parser.parse_args()
    raise_file_limit()

    with Program.find(options.proxy).for_service_user() as program:
        return show(program, options.keep)


def show(program: Program, keep: bool) -> int:
    say(f"Starting a PostgreSQL with max_connections={MAX_CONNECTIONS} ...")
    cluster = Cluster(max_connections=MAX_CONNECTIONS).start()
    proxy = Proxy(program, cluster, settings={
        "default_pool_size": POOL, "max_client_conn": 5000, "query_wait_timeout": 60})
    try:
        pgbench(cluster.host, cluster.port, "app", "-i", "-q", "-s", "2")
        load = ("-n", "-S", "-c", str(CLIENTS), "-j", "2", "-T", str(SECONDS))

        say(f"\n1. {CLIENTS} clients straight to the server")
        refused = refused_directly(cluster)
        say(f"   {CLIENTS - refused} get in, {refused} are told \"too many clients already\"")
        with BackendSampler(cluster, "app") as sampler:
            account(pgbench(cluster.host, cluster.port, "app", *load), sampler)
        say("   as many as fit, 40 clients:")
        with BackendSampler(cluster, "app") as sampler:
            account(pgbench(
                cluster.host, cluster.port, "app", "-n", "-S", "-c", "40", "-j", "2", "-T", str(SECONDS // 2)), sampler)

        say(f"\n2. {CLIENTS} clients through {program.version()}, {POOL} server connections, transaction pooling")
        proxy.start()
        before = proxy.figures.cpu_seconds()
        with BackendSampler(cluster, "app") as sampler:
            load_run = Background(pgbench, proxy.host, proxy.port, "app", *load)
            time.sleep(SECONDS / 2)
            rows = proxy.show("POOLS")
            run = load_run.result(120)
        account(run, sampler)
        if run.transactions:
            spent = (proxy.figures.cpu_seconds() - before) / run.transactions
            memory = proxy.figures.rss() / 2**20
            say(f"   the proxy took {spent * 1e6:.1f} us of CPU for each, and has {memory:.1f} MB of memory")
        stats = {row["database"]: row for row in proxy.show("STATS_TOTALS")}["app"]
        say(f"   by its own count: {stats['xact_count']} transactions, {stats['query_count']} queries, "
            f"{stats['server_assignment_count']} times a server connection was lent to a client")
        names = ["database", "user", "cl_active", "cl_waiting", "sv_active", "sv_idle", "maxwait", "pool_mode"]
        say("\n   SHOW POOLS on its console said in the middle of it:")
        for line in table([names, *([row[name] for name in names] for row in rows)]).splitlines():
            say("   " + line)

        if keep:
            say(f"""
Left running until ctrl-c:
   psql -h {proxy.host} -p {proxy.port} -U app app                  through the proxy
   psql -h {cluster.host} -p {cluster.port} -U app app                  straight to the server
   psql -h {proxy.host} -p {proxy.port} -U admin pgbouncer           the console (SHOW HELP)
   configuration: {proxy.config}
   log:           {proxy.log}""")
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            try:
                while proxy.alive():
                    time.sleep(1)
            except KeyboardInterrupt:
                say()
        worked = run.status == 0 and not run.errors and sampler.highest <= POOL
        say("\nDone, and everything is cleaned up." if worked else "\nSomething went wrong:\n" + run.output[-2000:])
        return 0 if worked else 1
    finally:
        proxy.stop()
        cluster.remove()


if __name__ == "__main__":
    sys.exit(main())
