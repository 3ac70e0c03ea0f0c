"""Instructions for each query, by callgrind. See the script `instructions`."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

from cluster import Cluster
from common import REPOSITORY, own, remove, service_directory, wait_until
from measure import pgbench, table
from proxy import Program, Proxy
from replicated import ReplicatedCluster

CLIENTS = 4
# The difference between two runs leaves out what is done once.
SHORT, LONG = 300, 1500
MODES = ["simple", "extended", "prepared"]
SCRIPT = "\\set a random(1, 1000000)\nSELECT :a::int + 1;\n"
# Callgrind does not survive `dispatchMain`, which ends the main thread in the middle of the process.
MAIN = "#include <unistd.h>\nvoid dispatch_main(void) { for (;;) pause(); }\n"


class Counter:
    def __init__(self, folder: Path, program: Path) -> None:
        if shutil.which("valgrind") is None:
            sys.exit("instructions: there is no valgrind: apt-get install valgrind")
        self.folder = folder
        self.script = folder / "query.sql"
        self.script.write_text(SCRIPT)
        self.library = folder / "main.so"
        (folder / "main.c").write_text(MAIN)
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", self.library, folder / "main.c"], check=True)
        # Valgrind does not read the debugging information that Swift writes.
        self.program = folder / "martlet"
        subprocess.run(["strip", "-g", "-o", self.program, program], check=True)
        for path in (folder, *folder.iterdir()):
            path.chmod(0o755)
        own(folder)

    def each(self, cluster: Cluster | ReplicatedCluster, mode: str, name: str) -> int:
        """Instructions for one query of this kind."""
        totals = [self._total(cluster, mode, number, name) for number in (SHORT, LONG)]
        return round((totals[1] - totals[0]) / ((LONG - SHORT) * CLIENTS))

    def _total(self, cluster: Cluster | ReplicatedCluster, mode: str, number: int, name: str) -> int:
        out = self.folder / f"{name.replace(' ', '-').replace(',', '')}.{number}.callgrind"
        command = ("valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", str(self.program))
        routed = isinstance(cluster, ReplicatedCluster)
        proxy = Proxy(
            Program("martlet", command), cluster.primary if routed else cluster, threads=1, event_loop="epoll",
            databases={"app": cluster.entry(dbname="app", check_interval="60s")
                       if routed else f"host={cluster.host} port={cluster.port}"},
            settings={"default_pool_size": CLIENTS, "sample_interval": "60s"})
        proxy.patience = 60
        proxy.start(env={"LD_PRELOAD": str(self.library)})
        try:
            if routed:
                self._wait_routed(proxy)
            run = pgbench(proxy.host, proxy.port, "app", "-n", "-M", mode, "-c", str(CLIENTS), "-t", str(number),
                          "-f", str(self.script))
            assert run.transactions == number * CLIENTS, run.output
        finally:
            proxy.stop()
        found = re.search(r"^(?:totals|summary): (\d+)", out.read_text(errors="replace"), re.MULTILINE)
        assert found, f"{out} has no total"
        return int(found[1])

    def _wait_routed(self, proxy: Proxy) -> None:
        roles = ["primary", "replica", "replica"]
        wait_until(lambda: sorted(row["role"] for row in proxy.show("NODES") if row["state"] == "up") == roles,
                   "replicas take reads", 60)


def main() -> None:
    parser = argparse.ArgumentParser(prog="instructions")
    parser.add_argument("program", nargs="*", type=Path, default=[REPOSITORY / ".build/release/martlet"])
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    parser.add_argument("--only", default="", metavar="WORD")
    arguments = parser.parse_args()
    rows: list[list[object]] = [["instructions for each query", *(str(program) for program in arguments.program)]]
    folders = [service_directory("mx-instructions-") for _ in arguments.program]
    try:
        counters = [Counter(folder, program) for folder, program in zip(folders, arguments.program)]
        for kind, cluster in (("pool only", Cluster()), ("routed", ReplicatedCluster(2))):
            names = [(mode, f"{mode}, {kind}") for mode in MODES if arguments.only in f"{mode}, {kind}"]
            try:
                if names:
                    cluster.start()
                for mode, name in names:
                    print(f"-- {name}", file=sys.stderr)
                    rows.append([name, *(f"{counter.each(cluster, mode, name):,}" for counter in counters)])
            finally:
                cluster.remove()
        if arguments.keep:
            for number, folder in enumerate(folders, 1):
                place = arguments.keep / str(number)
                place.mkdir(parents=True, exist_ok=True)
                for path in folder.glob("*.callgrind"):
                    shutil.copy(path, place)
    finally:
        for folder in folders:
            remove(folder)
    print(table(rows))


if __name__ == "__main__":
    main()
