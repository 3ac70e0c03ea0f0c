"""A relay that hands a stream on in pieces of any size, so that each message is cut at each of its bytes some time."""

from __future__ import annotations

import fcntl
import os
import random
import select
import socket
import ssl
import struct
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from certificates import Certificate
from cluster import Cluster
from common import free_port, own, remove, service_directory
from proxy import Proxy
from rawpg import SSL_REQUEST

# How large the pieces are; one range is drawn for each run of a few pieces.
SIZES = [(1, 1), (1, 6), (1, 40), (1, 300), (100, 3000)]


class CuttingRelay:
    """Takes connections on a Unix socket and passes them on to `target`, a host or a socket's folder and a port.

    `cuts_requests` and `cuts_answers` say which direction comes in pieces; the other one passes as it comes. A piece
    leaves when the one before has been read: what reads there sees each by itself.

    With `listens_on_tcp` pieces to whoever connects may be read together. With `certificate` it speaks TLS there, with
    `secures` to the target: each piece is a record then, and read by itself again.
    """

    def __init__(self, target: tuple[str, int], *, cuts_requests: bool = False, cuts_answers: bool = False,
                 seed: str = "0", listens_on_tcp: bool = False, certificate: Certificate | None = None,
                 secures: bool = False) -> None:
        self.target = target
        self.cuts_requests, self.cuts_answers = cuts_requests, cuts_answers
        self.seed, self.secures = seed, secures
        self.port = free_port()
        self.pieces = 0
        self._accepted = 0
        self._context: ssl.SSLContext | None = None
        self._directory: Path | None = None
        if certificate:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(certificate.crt, certificate.key)
        if certificate or listens_on_tcp:
            self.host = "127.0.0.1"
            self._listener = socket.create_server((self.host, self.port))
        else:
            self._directory = service_directory("mr-")
            self.host = str(self._directory)
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(f"{self.host}/.s.PGSQL.{self.port}")
            self._listener.listen(100)
            os.chmod(f"{self.host}/.s.PGSQL.{self.port}", 0o777)
            own(self._directory)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listener.close()
        if self._directory:
            remove(self._directory)

    def __enter__(self) -> CuttingRelay:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self._accepted += 1
            chance = random.Random(f"{self.seed}-{self._accepted}")
            threading.Thread(target=self._serve, args=(near, chance), daemon=True).start()

    def _serve(self, near: socket.socket, chance: random.Random) -> None:
        try:
            near.settimeout(30)
            if self._context:
                if near.recv(8, socket.MSG_WAITALL) != struct.pack("!ii", 8, SSL_REQUEST):
                    return
                near.sendall(b"S")
                near = self._context.wrap_socket(near, server_side=True)
            far = self._connect()
        except OSError:
            near.close()
            return
        near.settimeout(None)
        far.settimeout(None)
        if isinstance(near, ssl.SSLSocket) or isinstance(far, ssl.SSLSocket):
            self._relay_encrypted(near, far, chance)
        else:
            # One side may have to be read from before the other one takes more.
            answers = threading.Thread(
                target=self._relay, args=(far, near, self.cuts_answers, random.Random(chance.random())), daemon=True)
            answers.start()
            self._relay(near, far, self.cuts_requests, chance)
            answers.join()
        near.close()
        far.close()

    def _connect(self) -> socket.socket:
        host, port = self.target
        if host.startswith("/"):
            far = socket.socket(socket.AF_UNIX)
            far.connect(f"{host}/.s.PGSQL.{port}")
        else:
            far = socket.create_connection((host, port), 30)
            far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.secures:
            far.sendall(struct.pack("!ii", 8, SSL_REQUEST))
            if far.recv(1) != b"S":
                raise OSError("no TLS")
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            far = context.wrap_socket(far)
        return far

    def _relay(self, source: socket.socket, sink: socket.socket, cuts: bool, chance: random.Random) -> None:
        """One direction, to its end; then both ends hear of it."""
        try:
            while data := source.recv(65536):
                self._pass(sink, data, cuts, chance)
        except OSError:
            pass
        for each in (source, sink):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _relay_encrypted(self, near: socket.socket, far: socket.socket, chance: random.Random) -> None:
        """Both directions in one thread, since a TLS socket takes no two."""
        try:
            while True:
                waiting = [each for each in (near, far) if isinstance(each, ssl.SSLSocket) and each.pending()]
                for source in waiting or select.select([near, far], [], [])[0]:
                    data = source.recv(65536)
                    if not data:
                        return
                    if source is near:
                        self._pass(far, data, self.cuts_requests, chance)
                    else:
                        self._pass(near, data, self.cuts_answers, chance)
        except OSError:
            pass

    def _pass(self, sink: socket.socket, data: bytes, cuts: bool, chance: random.Random) -> None:
        if not cuts or len(data) > 30_000:
            sink.sendall(data)
            return
        at = 0
        while at < len(data):
            low, high = chance.choice(SIZES)
            for _ in range(chance.randrange(1, 8)):
                if at >= len(data):
                    break
                count = chance.randint(low, high)
                sink.sendall(data[at:at + count])
                at += count
                self.pieces += 1
                self._wait_read(sink)

    @staticmethod
    def _wait_read(sink: socket.socket) -> None:
        """Waits until what was sent has been read, as far as the kernel tells: for a Unix socket."""
        if sink.family != socket.AF_UNIX:
            return
        turns = 0
        while struct.unpack("i", fcntl.ioctl(sink.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))[0] > 0:
            turns += 1
            # A reader that pauses may do so for long, and one that has gone reads nothing.
            if turns > 200:
                time.sleep(0.0005)
            if turns > 4000:
                return


@contextmanager
def cut_on_both_sides(proxy: Proxy, cluster: Cluster, seed: str = "0", database: str = "*") -> Iterator[Proxy]:
    """Starts a proxy whose clients and servers speak to it in pieces; its host and port are those of a relay.

    `database` is the entry of [databases] that leads to the cluster.
    """
    with CuttingRelay((cluster.host, cluster.port), cuts_answers=True, seed=seed) as to_server:
        proxy.databases = {database: f"host={to_server.host} port={to_server.port}"}
        proxy.start()
        listens_at = proxy.host, proxy.port
        with CuttingRelay(
                (str(proxy.directory), proxy.port), cuts_requests=True, listens_on_tcp=True, seed=seed) as to_proxy:
            proxy.host, proxy.port = to_proxy.host, to_proxy.port
            try:
                yield proxy
                assert to_server.pieces + to_proxy.pieces > 0
            finally:
                proxy.host, proxy.port = listens_at
