"""A tiny client of PostgreSQL's protocol v3: messages go out as the test makes them and come back one by one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import socket
import struct
import time
from typing import NamedTuple

PROTOCOL_3_0 = 196608
SSL_REQUEST = 80877103
GSSENC_REQUEST = 80877104
CANCEL_REQUEST = 80877102


class Closed(Exception):
    """The other side closed the connection."""


class Message(NamedTuple):
    type: str
    body: bytes

    def fields(self) -> dict[str, str]:
        """The fields of an ErrorResponse or NoticeResponse."""
        parts = (part for part in self.body.split(b"\0") if part)
        return {chr(part[0]): part[1:].decode("utf-8", "replace") for part in parts}

    @property
    def sqlstate(self) -> str:
        return self.fields().get("C", "")

    @property
    def text(self) -> str:
        return self.fields().get("M", "")

    def columns(self) -> list[tuple[str, int]]:
        """Name and type oid of the columns of a RowDescription."""
        count, at, result = struct.unpack_from("!h", self.body)[0], 2, []
        for _ in range(count):
            end = self.body.index(b"\0", at)
            result.append((self.body[at:end].decode(), struct.unpack_from("!I", self.body, end + 7)[0]))
            at = end + 19
        return result

    def values(self) -> list[bytes | None]:
        """The values of a DataRow."""
        count, at, result = struct.unpack_from("!h", self.body)[0], 2, []
        for _ in range(count):
            length = struct.unpack_from("!i", self.body, at)[0]
            at += 4
            result.append(None if length < 0 else self.body[at:at + length])
            at += max(length, 0)
        return result


# Messages of a client.

def message(kind: str, body: bytes = b"") -> bytes:
    return kind.encode() + struct.pack("!i", len(body) + 4) + body


def text(value: str | bytes) -> bytes:
    return (value if isinstance(value, bytes) else value.encode()) + b"\0"


def startup(parameters: dict[str, str], version: int = PROTOCOL_3_0) -> bytes:
    body = struct.pack("!i", version) + b"".join(text(k) + text(v) for k, v in parameters.items()) + b"\0"
    return struct.pack("!i", len(body) + 4) + body


def request(code: int, body: bytes = b"") -> bytes:
    """SSLRequest, GSSENCRequest or CancelRequest."""
    return struct.pack("!ii", len(body) + 8, code) + body


def query(sql: str | bytes) -> bytes:
    return message("Q", text(sql))


def parse(sql: str, name: str = "", types: tuple[int, ...] = ()) -> bytes:
    return message("P", text(name) + text(sql) + struct.pack(f"!h{len(types)}I", len(types), *types))


def bind(statement: str = "", portal: str = "", values: tuple[str | bytes | None, ...] = (),
         formats: tuple[int, ...] = (), results: tuple[int, ...] = ()) -> bytes:
    body = text(portal) + text(statement) + struct.pack(f"!h{len(formats)}h", len(formats), *formats)
    body += struct.pack("!h", len(values))
    for value in values:
        data = value.encode() if isinstance(value, str) else value
        body += struct.pack("!i", -1) if data is None else struct.pack("!i", len(data)) + data
    return message("B", body + struct.pack(f"!h{len(results)}h", len(results), *results))


def describe(kind: str, name: str = "") -> bytes:
    return message("D", kind.encode() + text(name))


def close(kind: str, name: str = "") -> bytes:
    return message("C", kind.encode() + text(name))


def execute(portal: str = "", rows: int = 0) -> bytes:
    return message("E", text(portal) + struct.pack("!i", rows))


def function_call(oid: int, values: tuple[bytes | None, ...], format: int = 0) -> bytes:
    body = struct.pack("!Ihhh", oid, 1, format, len(values))
    for value in values:
        body += struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value
    return message("F", body + struct.pack("!h", format))


def copy_data(data: bytes) -> bytes:
    return message("d", data)


SYNC = message("S")
FLUSH = message("H")
COPY_DONE = message("c")
TERMINATE = message("X")


def copy_fail(reason: str) -> bytes:
    return message("f", text(reason))


class Connection:
    """One socket. `login` does the whole start-up; without it the test speaks from the first byte."""

    def __init__(self, host: str, port: int, timeout: float = 15.0) -> None:
        if host.startswith("/"):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(timeout)
            self.socket.connect(f"{host}/.s.PGSQL.{port}")
        else:
            self.socket = socket.create_connection((host, port), timeout)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.timeout = timeout
        self.parameters: dict[str, str] = {}
        self.parameter_log: list[tuple[str, str]] = []
        self.key = b""
        self._buffer = bytearray()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *parts: bytes) -> None:
        self.socket.sendall(b"".join(parts))

    def _fill(self, count: int, deadline: float) -> None:
        while len(self._buffer) < count:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"no answer within {self.timeout} s; so far {bytes(self._buffer)!r}")
            self.socket.settimeout(left)
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                raise Closed from None
            if not data:
                raise Closed
            self._buffer += data

    def take(self, count: int, timeout: float | None = None) -> bytes:
        """So many raw bytes."""
        self._fill(count, time.monotonic() + (timeout or self.timeout))
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    def read(self, timeout: float | None = None) -> Message:
        deadline = time.monotonic() + (timeout or self.timeout)
        self._fill(5, deadline)
        kind, length = chr(self._buffer[0]), struct.unpack_from("!i", self._buffer, 1)[0]
        self._fill(length + 1, deadline)
        body = bytes(self._buffer[5:length + 1])
        del self._buffer[:length + 1]
        received = Message(kind, body)
        if kind == "S":
            name, value = body.split(b"\0")[:2]
            self.parameters[name.decode()] = value.decode("utf-8", "replace")
            self.parameter_log.append((name.decode(), value.decode("utf-8", "replace")))
        return received

    def read_until(self, kind: str = "Z", count: int = 1, timeout: float | None = None) -> list[Message]:
        """All messages up to the `count`th of a type."""
        messages: list[Message] = []
        while count > 0:
            messages.append(self.read(timeout))
            count -= messages[-1].type == kind
        return messages

    def read_all(self, timeout: float | None = None) -> list[Message]:
        """All messages until the other side closes."""
        messages: list[Message] = []
        try:
            while True:
                messages.append(self.read(timeout))
        except Closed:
            return messages

    def silent(self, seconds: float = 0.1) -> bool:
        """Whether nothing comes for so long."""
        try:
            self._fill(len(self._buffer) + 1, time.monotonic() + seconds)
        except (TimeoutError, socket.timeout):
            return True
        return False

    def ask(self, *parts: bytes, ready: int = 1) -> list[Message]:
        self.send(*parts)
        return self.read_until("Z", ready)

    def simple(self, sql: str) -> list[list[bytes | None]]:
        """The rows of a simple query."""
        answer = self.ask(query(sql))
        for each in answer:
            if each.type == "E":
                raise AssertionError(f"{sql!r}: {each.fields()}")
        return [each.values() for each in answer if each.type == "D"]

    def login(self, user: str = "app", database: str = "app", password: str | None = None,
              version: int = PROTOCOL_3_0, **parameters: str) -> Connection:
        self.send(startup({"user": user, "database": database} | parameters, version))
        self.authenticate(user, password or "")
        return self

    def authenticate(self, user: str, password: str) -> None:
        """Answers what the other side asks for, up to ReadyForQuery."""
        while True:
            received = self.read()
            if received.type == "E":
                raise AssertionError(f"login failed: {received.fields()}")
            if received.type == "K":
                self.key = received.body
            if received.type == "Z":
                return
            if received.type != "R":
                continue
            code, payload = struct.unpack_from("!i", received.body)[0], received.body[4:]
            if code == 3:
                self.send(message("p", text(password)))
            elif code == 5:
                inner = hashlib.md5(password.encode() + user.encode()).hexdigest()
                outer = hashlib.md5(inner.encode() + payload[:4]).hexdigest()
                self.send(message("p", text("md5" + outer)))
            elif code == 10:
                self.scram = ScramClient(password)
                self.send(sasl_initial(self.scram.first()))
            elif code == 11:
                self.send(message("p", self.scram.final(payload)))


def sasl_initial(first: bytes, mechanism: str = "SCRAM-SHA-256") -> bytes:
    return message("p", text(mechanism) + struct.pack("!i", len(first)) + first)


class ScramClient:
    """RFC 5802's client, without checks: it is the other side that is tested."""

    def __init__(self, password: str, nonce: str | None = None) -> None:
        self.password = password.encode()
        self.nonce = nonce if nonce is not None else base64.b64encode(os.urandom(18)).decode()
        self.bare = f"n=,r={self.nonce}"

    def first(self) -> bytes:
        return f"n,,{self.bare}".encode()

    def final(self, server_first: bytes) -> bytes:
        parts = dict(part.split("=", 1) for part in server_first.decode().split(","))
        salted = hashlib.pbkdf2_hmac("sha256", self.password, base64.b64decode(parts["s"]), int(parts["i"]))
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        without_proof = f"c=biws,r={parts['r']}"
        auth = f"{self.bare},{server_first.decode()},{without_proof}".encode()
        signature = hmac.digest(hashlib.sha256(client_key).digest(), auth, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature))
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()


def scram_secret(password: str, salt: bytes = b"0123456789abcdef", iterations: int = 4096) -> str:
    """The SCRAM secret of a password, as PostgreSQL stores it."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    encode = lambda data: base64.b64encode(data).decode()  # noqa: E731
    return f"SCRAM-SHA-256${iterations}:{encode(salt)}${encode(stored)}:{encode(server)}"


def md5_secret(user: str, password: str) -> str:
    return "md5" + hashlib.md5(password.encode() + user.encode()).hexdigest()


def cancel(host: str, port: int, key: bytes, timeout: float = 10) -> None:
    """Sends a CancelRequest for the given BackendKeyData and waits until the other side has closed."""
    with socket.create_connection((host, port), timeout) as connection:
        connection.sendall(request(CANCEL_REQUEST, key))
        try:
            while connection.recv(100):
                pass
        except ConnectionResetError:
            pass
