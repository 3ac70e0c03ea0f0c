"""Counts what a proxy allocates on the heap and gives back, while it runs."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from common import own, remove, service_directory
from proxy import Proxy

without_sanitizer = pytest.mark.skipif(
    "MARTLET_SANITIZER" in os.environ, reason="the heap is the sanitizer's: nothing can be counted there")


@contextmanager
def library() -> Iterator[Path]:
    """The library that counts, in a folder that the proxy's user can read."""
    folder = service_directory("mc-")
    compiler = next(found for found in map(shutil.which, ("cc", "gcc", "clang")) if found)
    made = folder / "malloc_counter.so"
    subprocess.run(
        [compiler, "-O2", "-shared", "-fPIC", "-o", str(made), str(Path(__file__).with_name("malloc_counter.c"))],
        check=True)
    own(folder)
    yield made
    remove(folder)


class Counts:
    """Reads what the library has counted in a proxy that was started with `environment`."""

    def __init__(self, library: Path) -> None:
        self.library = library
        self.path = library.with_name("counts")
        self.path.write_bytes(b"")
        own(self.path)  # Else it would be its who starts the proxy, and changes its user on the way.

    @property
    def environment(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self.library), "MALLOC_COUNTS": str(self.path)}

    def _threads(self) -> Iterator[tuple[int, int, int]]:
        return struct.iter_unpack("QQQ", self.path.read_bytes())  # type: ignore[return-value]

    def on_reactors(self, proxy: Proxy) -> int:
        """The allocations of the reactors so far; all else does not serve queries."""
        total = 0
        for thread, allocations, _ in self._threads():
            try:
                name = Path(f"/proc/{proxy.pid}/task/{thread}/comm").read_text() if thread else ""
            except FileNotFoundError:
                continue  # A thread that has ended, or one of the program that started the proxy.
            total += allocations if name.startswith("reactor") else 0
        assert total, "nothing was counted"
        return total

    def live(self) -> int:
        """The blocks that all threads have allocated and not given back; from one moment to another the difference counts."""
        return sum(allocations - releases for _, allocations, releases in self._threads())
