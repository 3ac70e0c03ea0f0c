"""The lag laboratory: called by the script beside it, which explains the commands."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg

from common import environment, remove, wait_until
from measure import table
from proxy import Program, Proxy
from replicated import Mistake, ReplicatedCluster

Say = Callable[[str], None]

# What ends an answer on the control socket: a line of this and the status.
END = "\x04"

# The commands that one method of ReplicatedCluster carries out, with their arguments, and what is said afterwards.
STEPS = {
    "lag": ("SERVER DELAY", ReplicatedCluster.lag, "{0} replays {1} behind"),
    "pause": ("SERVER", ReplicatedCluster.pause, "{0} stands still"),
    "resume": ("SERVER", ReplicatedCluster.resume, "{0} goes on"),
    "cut": ("SERVER", ReplicatedCluster.cut, "{0} has lost the primary"),
    "reconnect": ("SERVER", ReplicatedCluster.reconnect, "{0} may reach the primary again"),
    "freeze": ("SERVER", ReplicatedCluster.freeze, "{0} hangs"),
    "thaw": ("SERVER", ReplicatedCluster.thaw, "{0} answers again"),
    "kill": ("SERVER", ReplicatedCluster.kill, "{0} is dead"),
    "start": ("SERVER", ReplicatedCluster.start_node, "{0} runs"),
    "stop": ("SERVER", ReplicatedCluster.stop_node, "{0} has stopped"),
    "promote": ("SERVER", ReplicatedCluster.promote, "{0} is the primary"),
    "rejoin": ("SERVER", ReplicatedCluster.rejoin, "{0} is a replica"),
}
REPORTS = ("status", "nodes", "routes", "connect")
ENDINGS = ("quit", "exit")


class Laboratory:
    """A replicated cluster with Martlet in front, and the commands of the prompt and the control socket.

    Commands run one after the other. Call it from threads that live as long as the laboratory: its servers end with
    the thread that started them.
    """

    def __init__(
        self, program: Program, *, replicas: int = 2, port: int | None = None, entry: dict[str, str] | None = None,
        settings: dict[str, object] | None = None, say: Say = lambda text: None,
    ) -> None:
        self.cluster = ReplicatedCluster(replicas, say=say)
        self.proxy = Proxy(
            program, self.cluster.primary, databases={"app": self.cluster.entry(**(entry or {}))},
            settings=(settings or {}) | ({"listen_port": port} if port else {}))
        self.proxy.port = port or self.proxy.port
        self._lock = threading.Lock()

    def start(self) -> Laboratory:
        self.cluster.start()
        self.proxy.start()
        return self

    def stop(self) -> None:
        """Stops Martlet and all servers, and removes their files."""
        with self._lock:
            try:
                self.proxy.stop()
            finally:
                self.cluster.remove()

    def how_to_connect(self) -> str:
        lines = [f"   psql -h {self.proxy.host} -p {self.proxy.port} -U app app           through Martlet",
                 f"   psql -h {self.proxy.host} -p {self.proxy.port} -U admin pgbouncer   its console"]
        for name, node in self.cluster.nodes.items():
            lines.append(f"   psql -h {node.host} -p {node.port} -U app app           straight to {name}")
        lines.append(f"   configuration {self.proxy.config}, log {self.proxy.log}")
        return "\n".join(lines)

    def address(self, name: str) -> tuple[str, int, str, str]:
        """Host, port, user and database of a server, of "martlet", or of its "console"."""
        if name == "martlet":
            return self.proxy.host, self.proxy.port, "app", "app"
        if name == "console":
            return self.proxy.host, self.proxy.port, "admin", "pgbouncer"
        node = self.cluster.node(name)
        return node.host, node.port, "app", "app"

    def carry_out(self, words: Sequence[str], say: Say) -> None:
        """Carries out one command and says what came of it; raises Mistake if it cannot be done."""
        command, *arguments = words
        with self._lock:
            self.cluster.say = say
            if command in STEPS:
                usage, step, done = STEPS[command]
                if len(arguments) != len(usage.split()):
                    raise Mistake(f"usage: {command} {usage}")
                try:
                    step(self.cluster, *arguments)
                except (AssertionError, psycopg.Error, subprocess.CalledProcessError) as error:
                    raise Mistake(f"{command} failed: {str(error).strip()}") from error
                say(done.format(*arguments))
            elif command in REPORTS:
                if arguments:
                    raise Mistake(f"usage: {command}")
                say(self._report(command))
            elif command == "where":
                say(" ".join(map(str, self.address(*(arguments or ["martlet"])[:1]))))
            else:
                raise Mistake(f"there is no command {command!r}: lab --help lists them")

    def _report(self, which: str) -> str:
        if which == "connect":
            return self.how_to_connect()
        if which == "status":
            rows: list[Sequence[object]] = [("server", "port", "role", "delay", "replay", "WAL", "bytes behind")]
            rows += [(node.name, node.port, node.role, node.delay, node.replay, node.source,
                      "" if node.behind is None else node.behind) for node in self.cluster.status()]
            return table(rows)
        return shown(self.proxy, which.upper())


def shown(proxy: Proxy, what: str) -> str:
    """A SHOW of Martlet's console as a table."""
    try:
        rows = proxy.show(what)
    except psycopg.Error as error:
        raise Mistake(f"Martlet says: {str(error).strip()}") from error
    if not rows:
        return "(nothing)"
    return table([list(rows[0]), *(["" if cell is None else cell for cell in row.values()] for row in rows)])


class ControlSocket:
    """Where commands of other shells come in: a Unix socket that only the same user can reach."""

    def __init__(self, directory: Path, laboratory: Laboratory) -> None:
        self.laboratory = laboratory
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(directory / "control"))
        self.listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            client, _ = self.listener.accept()
            with client, client.makefile("rw") as stream:
                try:
                    self._answer(shlex.split(stream.readline()), stream)
                except (OSError, ValueError):
                    pass  # The other side has gone.

    def _answer(self, words: list[str], stream: object) -> None:
        def say(text: str) -> None:
            print(text, file=stream, flush=True)

        if words in (["stop"], *([word] for word in ENDINGS)):
            say("the laboratory ends")
            say(f"{END}0")
            os.kill(os.getpid(), signal.SIGTERM)
            return
        try:
            self.laboratory.carry_out(words, say)
            say(f"{END}0")
        except Mistake as mistake:
            say(f"lab: {mistake}")
            say(f"{END}1")


def directory_of(name: str) -> Path:
    return Path(f"/tmp/martlet-lab-{os.geteuid()}-{name}")


def send(name: str, words: Sequence[str], say: Say) -> int:
    """One command to the laboratory of that name; the status for the shell."""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(directory_of(name) / "control"))
        except OSError:
            print("lab: no laboratory runs: start one with `lab`", file=sys.stderr)
            return 1
        with client.makefile("rw") as stream:
            print(shlex.join(words), file=stream, flush=True)
            for line in stream:
                if line.startswith(END):
                    break
                say(line.rstrip("\n"))
            else:
                print("lab: the laboratory has ended", file=sys.stderr)
                return 1
    if words[0] in ("stop", *ENDINGS) and len(words) == 1:
        wait_until(lambda: not directory_of(name).exists(), "the laboratory has ended", 30)
    return int(line[1:])


def psql_command(host: str, port: str | int, user: str, dbname: str) -> list[str]:
    return ["psql", "-h", host, "-p", str(port), "-U", user, dbname]


def run_psql(address: tuple[str, int, str, str]) -> None:
    """psql in this terminal, whose ctrl-c is psql's meanwhile."""
    # Not SIG_IGN, which psql would inherit.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        subprocess.run(psql_command(*address), env=environment())
    finally:
        signal.signal(signal.SIGINT, before)


def prompt(laboratory: Laboratory) -> None:
    """Takes commands from standard input until it is told to end; without a terminal, until it is stopped."""
    interactive = sys.stdin.isatty()
    if interactive:
        import readline  # noqa: F401 -- editing and history for input()
    while True:
        try:
            words = shlex.split(input("lab> " if interactive else ""))
        except EOFError:
            if interactive:
                print()
                return
            signal.pause()
            return
        except ValueError as error:
            print(f"lab: {error}")
            continue
        if not words:
            continue
        if words in (["stop"], *([word] for word in ENDINGS)):
            return
        try:
            if words[0] == "help":
                subprocess.run([str(Path(__file__).with_name("lab")), "--help"])
            elif words[0] == "psql":
                run_psql(laboratory.address(*(words[1:] or ["martlet"])[:1]))
            else:
                laboratory.carry_out(words, lambda text: print(text, flush=True))
        except Mistake as mistake:
            print(f"lab: {mistake}", flush=True)


@contextmanager
def own_directory(name: str) -> Iterator[Path]:
    """The laboratory's folder, which also says that it runs."""
    path = directory_of(name)
    if path.exists():
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path / "control")) == 0:
                raise Mistake("a laboratory runs already: end it with `lab stop`, or give this one a --name")
        remove(path)
    path.mkdir(mode=0o700)
    try:
        yield path
    finally:
        remove(path)


def usual_port() -> int | None:
    """6432 if nobody listens there."""
    with socket.socket() as probe:
        return None if probe.connect_ex(("127.0.0.1", 6432)) == 0 else 6432


def run(options: argparse.Namespace) -> int:
    def end(*_: object) -> None:
        raise KeyboardInterrupt

    entry = dict(pair.split("=", 1) for pair in options.set)
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGHUP, end)
    begin = time.monotonic()
    with ExitStack() as stack:
        directory = stack.enter_context(own_directory(options.name))
        program = stack.enter_context(Program.find(options.martlet).for_service_user())
        if not program.exists():
            raise Mistake(f"there is no program {options.martlet}")
        print(f"starting a primary and {options.replicas} streaming replica(s) ...", flush=True)
        laboratory = Laboratory(
            program, replicas=options.replicas, port=options.port or usual_port(), entry=entry)
        stack.callback(laboratory.stop)
        try:
            laboratory.start()
        except AssertionError as error:
            raise Mistake(str(error)) from error
        ControlSocket(directory, laboratory)
        print(f"ready after {time.monotonic() - begin:.1f} s\n\n{laboratory.how_to_connect()}\n\n"
              "Commands here, or from another shell as `lab COMMAND`: "
              "status, lag replica1 5s, pause replica1, promote replica1, kill primary, ..., help, stop", flush=True)
        try:
            prompt(laboratory)
        except KeyboardInterrupt:
            print()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("stopping", flush=True)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="lab")
    parser.add_argument("--replicas", type=int, default=2, choices=range(9), metavar="0..8")
    parser.add_argument("--port", type=int)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--martlet", default="martlet", metavar="PROGRAM")
    parser.add_argument("--name", default="default")
    parser.add_argument("--only-command", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if any("=" not in pair for pair in options.set):
        parser.error("--set wants KEY=VALUE")

    words = options.command
    try:
        if not words:
            return 3 if options.only_command else run(options)
        if words[0] == "psql":
            answer: list[str] = []
            status = send(options.name, ["where", *words[1:2]], answer.append)
            if status == 0:
                command = psql_command(*answer[0].split())
                os.execvpe(command[0], [*command, *words[2:]], environment())
            print("\n".join(answer), end="\n" if answer else "", file=sys.stderr)
            return status
        return send(options.name, words, lambda text: print(text, flush=True))
    except Mistake as mistake:
        print(f"lab: {mistake}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
