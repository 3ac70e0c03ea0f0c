"""The demonstration of routing: called by the script beside it."""

from __future__ import annotations

import argparse
import signal
import sys
import time

import psycopg

from lab import Laboratory
from measure import table
from proxy import Program
from replicated import Mistake
from shop import ACTIONS, OWN_READS, SCHEMA, STOCK, Shop

CUSTOMERS = 20
SECONDS = 8.0


def say(text: str = "") -> None:
    print(text, flush=True)


def indented(text: str) -> str:
    return "".join(f"   {line}\n" for line in text.splitlines())


def account(laboratory: Laboratory, shop: Shop) -> str:
    """A line for each thing that customers do: how often on which server, and how often they did not see their own."""
    nodes = laboratory.cluster.nodes
    rows: list[list[object]] = [["", *nodes, "not there yet"]]
    for action in ACTIONS:
        counts = [shop.ran[action, node.port] for node in nodes.values()]
        rows.append([action, *(count or "" for count in counts), shop.stale[action] if action in OWN_READS else ""])
    return table(rows)


def routes(laboratory: Laboratory, database: str) -> str:
    """What SHOW ROUTES counts for a database, the zeros left out."""
    for row in laboratory.proxy.show("ROUTES"):
        if row["database"] == database:
            counted = [pair for pair in row.items() if pair[0] != "database" and pair[1] not in (None, "", 0)]
            return table([("counted", database), *counted])
    raise Mistake(f"SHOW ROUTES does not know {database}")


def nodes(laboratory: Laboratory, database: str) -> str:
    """What SHOW NODES says of a database's servers, in part."""
    columns = ("port", "role", "state", "lag_us", "lag_bytes", "caught_up", "latency_us")
    rows: list[list[object]] = [["server", *columns]]
    for row in laboratory.proxy.show("NODES"):
        if row["database"] == database:
            rows.append([laboratory.cluster.name_of(row["port"]), *(row[name] or "" for name in columns)])
    return table(rows)


def explanations(laboratory: Laboratory, database: str) -> str:
    """What EXPLAIN ROUTE says about statements of the shop: the statement, then class and reason, node and reason."""
    parts = []
    with laboratory.proxy.console() as console:
        for statement in (*ACTIONS.values(), STOCK):
            text = statement
            for number in range(1, statement.count("%s") + 1):
                text = text.replace("%s", f"${number}", 1)
            row = console.execute(f"EXPLAIN ROUTE FOR {database} {text}".encode()).fetchone()
            server = laboratory.cluster.name_of(int(row["node"].rpartition(":")[2]))
            parts.append(f"{text}\n   {row['class']}: {row['reason']} -> {server}: {row['because']}")
    return "\n".join(parts)


def run(laboratory: Laboratory, database: str) -> Shop:
    shop = Shop(laboratory.proxy.dsn(database), CUSTOMERS, SECONDS)
    if shop.errors:
        raise Mistake(f"{len(shop.errors)} customers met an error, the first: {shop.errors[0]}")
    say(indented(account(laboratory, shop)))
    return shop


def wait_for_ctrl_c(laboratory: Laboratory) -> None:
    say(f"Left running until ctrl-c:\n{laboratory.how_to_connect()}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        while laboratory.proxy.alive():
            time.sleep(1)
    except KeyboardInterrupt:
        say()


def show(program: Program, late: str, keep: bool) -> bool:
    say("Starting a primary and two streaming replicas, and Martlet in front ...")
    laboratory = Laboratory(program)
    cluster = laboratory.cluster
    laboratory.proxy.databases = {
        "shop": cluster.entry(dbname="app"),
        "careless": cluster.entry(dbname="app", read_after_write="off")}
    try:
        cluster.start()
        # Before Martlet looks at the catalogue, which it does not do often when nothing there has changed through it.
        with cluster.primary.connect("app", user="app") as connection:
            connection.execute(SCHEMA)
        cluster.wait_caught_up()
        laboratory.proxy.start()
        cluster.lag("replica2", late)

        say(f"\n1. A shop with {CUSTOMERS} customers at a time; replica2 replays {late} late\n")
        careful = run(laboratory, "shop")
        say("   Why? Martlet's console has the answers. SHOW NODES, a part of it:\n")
        say(indented(nodes(laboratory, "shop")))
        say("   SHOW ROUTES, without the zeros:\n")
        say(indented(routes(laboratory, "shop")))
        say("   EXPLAIN ROUTE, where each statement would go now:\n")
        say(indented(explanations(laboratory, "shop")))

        say("2. The same with read_after_write=off: balanced, and nobody takes care\n")
        careless = run(laboratory, "careless")

        say(f"Reads of what the same customer had just written, and did not find:\n"
            f"   {sum(careful.stale.values()):6} of {careful.own_reads} with read_after_write=lsn, the default\n"
            f"   {sum(careless.stale.values()):6} of {careless.own_reads} with read_after_write=off\n")
        if keep:
            wait_for_ctrl_c(laboratory)
        return not careful.stale and bool(careless.stale)
    finally:
        laboratory.stop()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--late", default="300ms")
    parser.add_argument("--proxy", default="martlet")
    options = parser.parse_args()
    try:
        with Program.find(options.proxy).for_service_user() as program:
            worked = show(program, options.late, options.keep)
    except (Mistake, psycopg.Error) as error:
        say(f"\nSomething went wrong: {str(error).strip()}")
        return 1
    say("Done, and everything is cleaned up." if worked else "That is not as it should be.")
    return 0 if worked else 1


if __name__ == "__main__":
    sys.exit(main())
