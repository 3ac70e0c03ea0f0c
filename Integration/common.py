"""Small things that all fixtures share: users, ports, waiting with a deadline, figures of a process from /proc."""

from __future__ import annotations

import os
import pwd
import random
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

INTEGRATION = Path(__file__).resolve().parent
REPOSITORY = INTEGRATION.parent
CACHE = INTEGRATION / ".cache"
TESTING_SUITE = CACHE / "testing"

# Servers' data lies in memory where there is room for it: dozens of servers come and go, and a busy disk takes minutes
# to forget them.
MEMORY = Path("/dev/shm")
TEMPORARY = MEMORY if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 8 << 30 else Path("/tmp")

T = TypeVar("T")

# PostgreSQL and the proxy refuse to run as root; without root everything runs as the one who calls.
AS_ROOT = os.geteuid() == 0
SERVICE_USER = "postgres" if AS_ROOT else pwd.getpwuid(os.geteuid()).pw_name


def as_service_user(command: list[str], when_we_die: str = "KILL") -> list[str]:
    """The command, run as the user postgres if we are root; the process id stays the one that Popen gives.

    It gets the signal `when_we_die` when this process ends without having stopped it.
    """
    if not AS_ROOT:
        return ["setpriv", f"--pdeathsig={when_we_die}", *command]
    user = pwd.getpwnam(SERVICE_USER)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--init-groups",
            f"--pdeathsig={when_we_die}", *command]


def own(path: Path) -> None:
    """Gives a folder and all in it to the service user."""
    if AS_ROOT:
        subprocess.run(["chown", "-R", f"{SERVICE_USER}:", str(path)], check=True)


def service_directory(prefix: str) -> Path:
    """A new folder of the service user. Its path is short: a Unix socket's path has at most 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix=prefix, dir=TEMPORARY))
    path.chmod(0o755)
    own(path)
    return path


def remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)


_ports_given: deque[int] = deque(maxlen=400)


def free_port(lowest: int = 10_000, end: int = 32_000) -> int:
    """A port nobody listens on, unless told otherwise from below the range that the kernel takes for outgoing connections.

    Each parallel worker has its own, and none is given out again soon, since a port stays free until the program has
    started that it is meant for.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
    for _ in range(200):
        port = random.randrange(lowest, end, 8) + worker
        if port in _ports_given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            _ports_given.append(port)
            return port
    raise RuntimeError("no free port found")


def wait_until(
    condition: Callable[[], T], what: str, timeout: float = 10.0, interval: float = 0.02
) -> T:
    """Calls `condition` until it answers something true, and returns that; fails after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout} s in vain for: {what} (last answer: {result!r})")
        time.sleep(interval)


def environment(**more: str) -> dict[str, str]:
    """The environment for programs that are started: nothing of the caller's own PostgreSQL settings, plain locale."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    kept.update({"LC_ALL": "C.UTF-8", "TZ": "UTC", "PGCONNECT_TIMEOUT": "20"})
    kept.update(more)
    return kept


def is_running(pid: int) -> bool:
    """Whether the process is there and is more than an entry that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def child_processes(parent: int) -> list[int]:
    """The direct children of a process that run just now."""
    children = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, ppid = path.read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(ppid) == parent and state not in "ZX":
            children.append(int(path.parent.name))
    return children


class ProcessFigures:
    """What /proc tells about a process."""

    TICKS = os.sysconf("SC_CLK_TCK")
    PAGE = os.sysconf("SC_PAGE_SIZE")

    def __init__(self, pid: int) -> None:
        self.proc = Path(f"/proc/{pid}")

    def cpu_seconds(self) -> float:
        """User and system time of all threads so far."""
        fields = (self.proc / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / self.TICKS

    def rss(self) -> int:
        """Resident memory in bytes; 0 in a build with a sanitizer, most of whose memory is the sanitizer's."""
        if "MARTLET_SANITIZER" in os.environ:
            return 0
        return int((self.proc / "statm").read_text().split()[1]) * self.PAGE

    def open_files(self) -> int:
        return len(os.listdir(self.proc / "fd"))

    def threads(self) -> int:
        return len(os.listdir(self.proc / "task"))


class Background:
    """A call in a thread of its own; `result` waits for it and raises what it raised."""

    def __init__(self, call: Callable[..., object], *arguments: object) -> None:
        self.started = time.monotonic()
        self.seconds = 0.0
        self._value: object = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(call, arguments), daemon=True)
        self._thread.start()

    def _run(self, call: Callable[..., object], arguments: tuple[object, ...]) -> None:
        try:
            self._value = call(*arguments)
        except BaseException as error:  # Handed to whoever asks for the result.
            self._error = error
        self.seconds = time.monotonic() - self.started

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def result(self, timeout: float = 30) -> object:
        self._thread.join(timeout)
        assert self.done, f"not done after {timeout} s"
        if self._error:
            raise self._error
        return self._value

    def error(self, timeout: float = 30) -> BaseException | None:
        self._thread.join(timeout)
        assert self.done, f"not done after {timeout} s"
        return self._error
