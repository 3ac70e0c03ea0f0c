"""A server that speaks just enough of PostgreSQL's protocol and of TLS to be logged in to, and can be told to misbehave."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable

from certificates import Certificate
from rawpg import message, text

READY = (message("R", struct.pack("!i", 0)) + message("S", text("server_version") + text("15.0"))
         + message("S", text("client_encoding") + text("UTF8")) + message("K", struct.pack("!ii", 1, 2))
         + message("Z", b"I"))
ONE = (message("T", struct.pack("!h", 1) + text("one") + struct.pack("!ihihih", 0, 0, 23, 4, -1, 0))
       + message("D", struct.pack("!hi", 1, 1) + b"1") + message("C", text("SELECT 1")) + message("Z", b"I"))
CANCELLED = message("E", text("SERROR") + text("C57014") + text("Mcancelled") + b"\0") + message("Z", b"I")


class FakeServer:
    """Lets everybody in and answers every query with 1, one that says "wait" only when it is cancelled.

    `behind` makes what it says behind a ReadyForQuery without being asked, from the query (nothing for the login): one part
    in the same packet, the other one a moment later. `answer` is what it says to SSLRequest; `direct` expects TLS at once; `reply` answers a query in the place of 1, and then
    it leaves. What it sees is noted.
    """

    def __init__(self, certificate: Certificate | None, *, answer: bytes = b"S", direct: bool = False,
                 alpn: list[str] | None = None, configure: Callable[[ssl.SSLContext], None] | None = None,
                 ask_for_scram: bytes = b"", reply: bytes = b"", ready: bytes = READY,
                 behind: Callable[[bytes], tuple[bytes, bytes]] | None = None) -> None:
        self.answer, self.direct, self.ask_for_scram, self.reply = answer, direct, ask_for_scram, reply
        self.ready = ready
        self.behind = behind
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if certificate:
            self.context.load_cert_chain(certificate.crt, certificate.key)
        if alpn:
            self.context.set_alpn_protocols(alpn)
        if configure:
            configure(self.context)
        self.startups = 0
        self.encrypted: list[str] = []
        self.resumed: list[bool] = []
        self.names: list[str | None] = []
        self.protocols: list[str | None] = []
        self.peers: list[dict | None] = []
        self.sasl: list[bytes] = []
        self.cancels: list[bool] = []
        self._cancelled = threading.Event()
        self.context.sni_callback = lambda _socket, name, _context: self.names.append(name)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def __enter__(self) -> FakeServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve_quietly, args=(client,), daemon=True).start()

    def _serve_quietly(self, client: socket.socket) -> None:
        try:
            client.settimeout(20)
            self._serve(client)
        except (OSError, EOFError):
            pass
        finally:
            client.close()

    @staticmethod
    def _take(client: socket.socket, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = client.recv(count - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def _packet(self, client: socket.socket) -> bytes:
        return self._take(client, struct.unpack("!i", self._take(client, 4))[0] - 4)

    def _serve(self, client: socket.socket) -> None:
        if self.direct:
            client = self._secure(client)
            packet = self._packet(client)
        else:
            packet = self._packet(client)
            if packet == struct.pack("!i", 80877103):
                client.sendall(self.answer)
                if self.answer[:1] == b"S":
                    client = self._secure(client)
                packet = self._packet(client)
        is_tls = isinstance(client, ssl.SSLSocket)
        if packet[:4] == struct.pack("!i", 80877102):
            self.cancels.append(is_tls)
            self._cancelled.set()
            return
        self.startups += 1
        if is_tls:
            self.encrypted.append(client.version() or "")
            self.resumed.append(bool(client.session_reused))
            self.protocols.append(client.selected_alpn_protocol())
            self.peers.append(client.getpeercert())
        if self.ask_for_scram:
            client.sendall(message("R", struct.pack("!i", 10) + self.ask_for_scram + b"\0"))
            self._take(client, 1)
            self.sasl.append(self._packet(client))
            return
        self._say(client, self.ready, b"")
        while True:
            kind = self._take(client, 1)
            body = self._packet(client)
            if kind == b"Q" and b"wait" in body:
                self._cancelled.wait(20)
                client.sendall(CANCELLED)
            elif kind == b"Q" and self.reply:
                client.sendall(self.reply)
                return
            elif kind == b"Q":
                self._say(client, ONE, body)
            elif kind == b"X":
                return

    def _say(self, client: socket.socket, said: bytes, query: bytes) -> None:
        at_once, later = self.behind(query) if self.behind else (b"", b"")
        client.sendall(said + at_once)
        if later:
            time.sleep(0.002)
            client.sendall(later)

    def _secure(self, client: socket.socket) -> ssl.SSLSocket:
        return self.context.wrap_socket(client, server_side=True)
