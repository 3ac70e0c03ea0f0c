"""What demo and bench share: pgbench runs, a crowd of idle clients, tables of text."""

from __future__ import annotations

import re
import resource
import socket
import ssl
import subprocess
from collections.abc import Sequence
from pathlib import Path

from common import environment
from rawpg import SSL_REQUEST, request, startup


def raise_file_limit() -> int:
    """As many open files as this process may have; root may often have more than the limit it was started with."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (max(hard, 65_536), hard):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
            return wanted
        except ValueError:
            continue
    return hard


class Run:
    """The result of one pgbench run."""

    def __init__(self, output: str, status: int) -> None:
        self.output = output
        self.status = status
        self.transactions = self._number(r"number of transactions actually processed: (\d+)")
        self.tps = self._number(r"tps = ([0-9.]+)")
        self.latency = self._number(r"latency average = ([0-9.]+)")
        self.errors = len(re.findall(r"^pgbench: error:", output, re.MULTILINE))

    def _number(self, pattern: str) -> float:
        found = re.search(pattern, self.output)
        return float(found[1]) if found else 0.0


def pgbench(host: str, port: int, dbname: str, *arguments: str, timeout: float = 300, sslmode: str = "prefer",
            password: str = "", cwd: Path | None = None) -> Run:
    secret = {"PGPASSWORD": password} if password else {}
    result = subprocess.run(
        ["pgbench", "-h", host, "-p", str(port), "-U", "app", *arguments, dbname],
        capture_output=True, text=True, timeout=timeout, env=environment(PGSSLMODE=sslmode, **secret), cwd=cwd)
    return Run(result.stdout + result.stderr, result.returncode)


def secure(client: socket.socket) -> ssl.SSLSocket:
    """Asks for TLS and gets it; nothing is verified."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    client.sendall(request(SSL_REQUEST))
    assert client.recv(1) == b"S", "there is no TLS"
    return context.wrap_socket(client)


class IdleClients:
    """Many logged-in clients that do nothing, from several source addresses: one has too few ports for some runs of this."""

    PER_ADDRESS = 2_000

    def __init__(self, host: str, port: int, count: int, dbname: str = "app", user: str = "app",
                 tls: bool = False) -> None:
        self.sockets: list[socket.socket] = []
        packet = startup({"user": user, "database": dbname})
        for begin in range(0, count, 100):
            batch = []
            for number in range(begin, min(begin + 100, count)):
                source = f"127.0.0.{2 + number // self.PER_ADDRESS}"
                client = socket.create_connection((host, port), 10, source_address=(source, 0))
                if tls:
                    client = secure(client)
                client.sendall(packet)
                batch.append(client)
            for client in batch:
                answer = b""
                while not answer.endswith(b"Z\0\0\0\5I"):
                    data = client.recv(4096)
                    assert data, f"a client was refused: {answer!r}"
                    answer += data
            self.sockets += batch

    def close(self) -> None:
        for client in self.sockets:
            client.close()


def table(rows: Sequence[Sequence[object]]) -> str:
    """Columns side by side; the first row is the heading."""
    texts = [[f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    widths = [max(len(row[index]) for row in texts) for index in range(len(texts[0]))]
    lines = []
    for row in texts:
        lines.append("  ".join(
            text.ljust(width) if index == 0 else text.rjust(width)
            for index, (text, width) in enumerate(zip(row, widths))).rstrip())
    lines.insert(1, "-" * (sum(widths) + 2 * (len(widths) - 1)))
    return "\n".join(lines)
