"""Clients of the chaos test: each does whatever a seed says, knows what must come back, and believes nothing."""

from __future__ import annotations

import random
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from proxy import Proxy
from rawpg import (
    COPY_DONE, FLUSH, PROTOCOL_3_0, SSL_REQUEST, SYNC, TERMINATE, Closed, Connection, Message, bind, cancel, close,
    copy_data, copy_fail, describe, execute, function_call, message, parse, query, request, startup)

# What every answer tells of whose connection it came from.
WHO = "current_setting('application_name'), current_setting('search_path'), " \
    "current_setting('statement_timeout'), current_setting('TimeZone')"
SHARED = [f"SELECT $1::text, 'shared {number}', {WHO}" for number in range(10)]
# Its table gets and loses a column all the time.
CHANGING = "SELECT $1::text, changing.* FROM changing"
ZONES = ["UTC", "Asia/Tokyo", "America/New_York", "Europe/Berlin"]

# A message that must come: its type, and what else must hold for it.
Want = tuple[str, Callable[[Message], bool]]


# How a connection may end when servers die and clients are thrown out.
MAY_END = re.compile("closed|57P0[123] |08006 |08004 .* is disabled")


class Lost(Exception):
    """The connection has ended."""


class Wrong(Exception):
    """Something came that must not, or something that must has not come."""


def of(kind: str) -> Want:
    return kind, lambda _: True


def row(*values: object) -> Want:
    wanted = [value if isinstance(value, bytes) else str(value).encode() for value in values]
    return "D", lambda each: each.values() == wanted


def tag(text: str) -> Want:
    return "C", lambda each: each.body == text.encode() + b"\0"


def ready(status: str) -> Want:
    return "Z", lambda each: each.body == status.encode()


def error(*states: str) -> Want:
    return "E", lambda each: each.sqlstate in states


@dataclass
class World:
    """What the clients share."""

    proxy: Proxy
    database: str
    users: list[str]
    seed: str
    # Clients may be thrown out and servers may die, so that connections end without their own doing.
    may_lose: bool
    stop: threading.Event = field(default_factory=threading.Event)
    failures: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def fail(self, text: str) -> None:
        self.failures.append(text)
        self.stop.set()


class Client:
    """One thread: a connection after the other."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.chance = random.Random(f"{world.seed}-{number}")
        self.sessions = 0
        self.trace: list[str] = []

    # Life

    def run(self) -> None:
        self.connection: Connection | None = None
        while not self.world.stop.is_set():
            self.sessions += 1
            self.name = f"c{self.number}.{self.sessions}"
            self.trace = []
            self.requests = 0
            try:
                self.session()
            except Lost as reason:
                self.world.counts[f"lost: {reason}"] += 1
                if not self.world.may_lose or not MAY_END.match(str(reason)):
                    self.world.fail(self.story(f"the connection was lost: {reason}"))
            except (Wrong, TimeoutError, AssertionError, struct.error, ValueError, IndexError) as problem:
                self.world.fail(self.story(f"{type(problem).__name__}: {problem}"))
            except OSError as problem:
                self.world.fail(self.story(f"socket: {problem!r}"))
            finally:
                if self.connection:
                    self.connection.socket.close()

    def story(self, problem: str) -> str:
        return f"{self.name} ({time.strftime('%H:%M:%S')}): {problem}\n  " + "\n  ".join(self.trace[-12:])

    def session(self) -> None:
        if self.chance.random() < 0.04:
            return self.leave_at_the_door()
        self.login()
        actions: list[tuple[Callable[[], None], int]] = [
            (self.simple, 20), (self.pipeline, 30), (self.transaction, 10), (self.copy_in, 6), (self.copy_out, 5),
            (self.large, 2), (self.cancelled, 4), (self.set, 8), (self.small, 8), (self.discard, 1),
            (self.changing, 3)]
        for _ in range(self.chance.randrange(1, 40)):
            if self.world.stop.is_set():
                break
            action, = self.chance.choices([each for each, _ in actions], [weight for _, weight in actions])
            action()
            assert self.status == "I"
            self.world.counts[action.__name__] += 1
            if self.chance.random() < 0.3:
                time.sleep(self.chance.random() * 0.02)
        self.leave()

    def login(self) -> None:
        own = {"application_name": f"{self.name} it's \\"}
        self.search_path, self.timeout = '"$user", public', "0"
        if self.chance.random() < 0.5:
            own["TimeZone"] = self.chance.choice(ZONES)
        if self.chance.random() < 0.5:
            self.search_path = own["search_path"] = f"\"s {self.name}\", public"
        if self.chance.random() < 0.5:
            own["statement_timeout"] = str(100_001 + self.number)
            self.timeout = f"{100_001 + self.number}ms"
        user = self.chance.choice(self.world.users)
        self.trace.append(f"login as {user} {own}")
        self.startup, self.session_name = own, own["application_name"]
        # What the server may report, because it is so or is about to be so.
        self.reported = {"application_name": {own["application_name"]}, "TimeZone": {own.get("TimeZone", "UTC")}}
        self.known: dict[str, str] = {}
        self.is_changing_known = False
        self.unnamed: tuple[str, str] | None = None
        self.rows = 0
        self.status = "I"
        self.is_new = True
        self.connection = Connection(self.world.proxy.host, self.world.proxy.port, timeout=20)
        if self.chance.random() < 0.1:
            self.connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        if self.chance.random() < 0.1:
            self.send(request(SSL_REQUEST))
            if self.connection.take(1) != b"N":
                raise Wrong("SSLRequest")
        self.send(startup({"user": user, "database": self.world.database} | own, PROTOCOL_3_0))
        answer = self.exchange([], [[of("R"), of("K"), ready("I")]])
        self.connection.key = answer[1].body
        self.is_new = False

    def leave_at_the_door(self) -> None:
        """Goes before it is in."""
        self.trace.append("leaves at the door")
        self.connection = Connection(self.world.proxy.host, self.world.proxy.port)
        hello = startup({"user": self.chance.choice(self.world.users), "database": self.world.database})
        self.connection.send(hello[:self.chance.choice([0, 3, 20, len(hello)])])
        self.abandon()

    def leave(self) -> None:
        """Ends the session in one of many ways; what is not committed must be nowhere to be seen."""
        assert self.connection
        never = f"INSERT INTO data VALUES ('never', '{self.name}', 0)"
        token = self.token()
        ways: dict[str, list[bytes]] = {
            "politely": [TERMINATE],
            "silently": [],
            "behind a query": [query(f"SELECT '{token}', pg_sleep(0.02)"), TERMINATE],
            "while a query runs": [query(f"SELECT '{token}', pg_sleep(0.05)")],
            "unsynced": [parse(f"SELECT '{token}'"), bind(), execute()],
            "behind a pipeline": [(parse(f"SELECT '{token}'") + bind() + execute() + SYNC) * 20],
            "in a transaction": [query("BEGIN"), query(never)],
            "in a failed transaction": [query("BEGIN"), query(never), query("SELECT 1/0")],
            "in a transaction, politely": [query("BEGIN"), query(never), TERMINATE],
            "in a copy": [query("COPY data FROM STDIN"), copy_data(b"never\tx\t0\n" * 300)],
            "in a copy out": [query("COPY (SELECT repeat('x', 500) FROM generate_series(1, 5000)) TO STDOUT")],
            "in a large result": [query("SELECT repeat('x', 500) FROM generate_series(1, 5000)")],
            "in a Query": [query(f"SELECT '{token}', '{'x' * 50_000}'")[:self.chance.randrange(1, 50_000)]],
            "in a Parse": [parse(f"SELECT '{token}', '{'x' * 5_000}'", "half")[:self.chance.randrange(1, 5_000)]],
            "in a Bind": [
                parse("SELECT $1::text", "bound"),
                bind("bound", values=("x" * 50_000,))[:self.chance.randrange(1, 50_000)]],
            "in CopyData": [
                query("COPY data FROM STDIN"), copy_data(b"never\tx\t0\n" * 3000)[:self.chance.randrange(1, 30_000)]],
            "with a cancel": [query("SELECT pg_sleep(0.2)")],
        }
        way = self.chance.choice(sorted(ways))
        self.trace.append(f"leaves {way}")
        self.world.counts[f"leaves {way}"] += 1
        try:
            if ways[way]:
                self.send(*ways[way])
            if self.chance.random() < 0.5:
                time.sleep(self.chance.random() * 0.03)
            if way == "with a cancel":
                cancel(self.world.proxy.host, self.world.proxy.port, self.connection.key)
        except Lost:
            pass
        self.abandon()

    def abandon(self) -> None:
        assert self.connection
        if self.chance.random() < 0.4:
            # Closing resets the connection then.
            self.connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif self.chance.random() < 0.3:
            try:
                self.connection.socket.shutdown(socket.SHUT_WR)
                time.sleep(self.chance.random() * 0.02)
            except OSError:
                pass
        self.connection.socket.close()

    # Messages

    def token(self) -> str:
        self.requests += 1
        return f"{self.name}.{self.requests}"

    def send(self, *parts: bytes) -> None:
        assert self.connection
        data = b"".join(parts)
        try:
            if len(data) < 200_000 and self.chance.random() < 0.15:
                while data:
                    count = self.chance.choice([1, 3, 7, 100, 5000, 60_000])
                    self.connection.socket.sendall(data[:count])
                    data = data[count:]
                    if self.chance.random() < 0.2:
                        time.sleep(0.001)
            else:
                self.connection.socket.sendall(data)
        except (ConnectionResetError, BrokenPipeError):
            # Why has been said before.
            while True:
                self.get()

    def get(self) -> Message:
        """The next message that is an answer."""
        assert self.connection
        while True:
            try:
                received = self.connection.read()
            except Closed:
                raise Lost("closed") from None
            if received.type == "S":
                self.note_parameter(received)
            elif received.type == "N":
                # A server tells its clients so when another one of them was killed.
                is_crash = self.world.may_lose and received.sqlstate == "57P02"
                if not is_crash and "client being queued" not in received.text:
                    raise Wrong(f"notice {received.fields()}")
            elif received.type == "E" and received.fields().get("S") != "ERROR":
                said = f"{received.sqlstate} {received.text}"
                try:
                    self.connection.read()
                except Closed:
                    raise Lost(said) from None
                raise Wrong(f"something follows {said}")
            else:
                return received

    def note_parameter(self, status: Message) -> None:
        name, value = (part.decode() for part in status.body.split(b"\0")[:2])
        allowed = self.reported.get(name)
        if allowed is None:
            # Nobody sets it: it must be what it is at login.
            if not self.is_new:
                raise Wrong(f"the server reports {name}={value}")
        elif value not in allowed:
            raise Wrong(f"the server reports {name}={value}, not one of {allowed}")

    def current(self, name: str) -> str:
        assert self.connection
        return self.connection.parameters[name]

    def settle(self) -> None:
        """All that was asked for has been answered: what was reported last holds."""
        self.reported = {name: {self.current(name)} for name in self.reported}
        # What SET LOCAL has changed goes back to what it was.
        self.reported["application_name"].add(self.session_name)

    def me(self) -> tuple[str, ...]:
        """What WHO must say."""
        return self.current("application_name"), self.search_path, self.timeout, self.current("TimeZone")

    def exchange(self, parts: Iterable[bytes], alternatives: list[list[Want]], slow: bool = False) -> list[Message]:
        """Sends, and reads up to the last ReadyForQuery; the answer must be one of those that are given."""
        parts = list(parts)
        if parts:
            self.send(*parts)
        got: list[Message] = []
        left = list(alternatives)
        while True:
            # A finished alternative cannot go on.
            if any(len(got) == len(each) for each in left):
                break
            try:
                received = self.get()
            except TimeoutError:
                raise Wrong(f"no answer; so far {self.brief(got)}, expected {self.types(left)}") from None
            got.append(received)
            index = len(got) - 1
            left = [each for each in left if each[index][0] == received.type and each[index][1](received)]
            if not left:
                raise Wrong(
                    f"got {self.brief(got)}\n  expected {self.types(alternatives)}, settings {self.connection.parameters}")
            if slow and self.chance.random() < 0.02:
                time.sleep(0.01)
        if got[-1].type == "Z":
            self.status = got[-1].body.decode()
            self.settle()
        return got

    @staticmethod
    def brief(messages: list[Message]) -> str:
        return " ".join(
            f"{each.type}{each.body[:100]!r}" if each.type != "E" else f"E({each.sqlstate} {each.text})"
            for each in messages[-8:]) + f" (all: {''.join(each.type for each in messages)[-300:]})"

    @staticmethod
    def types(alternatives: list[list[Want]]) -> str:
        return " or ".join("".join(kind for kind, _ in each)[-300:] for each in alternatives)

    # What a client does. Each begins and ends outside of a transaction.

    def say(self, sql: str, *wants: Want) -> None:
        """A simple query."""
        self.trace.append(sql[:200])
        self.unnamed = None
        self.exchange([query(sql)], [list(wants)])

    def simple(self) -> None:
        token = self.token()
        one = [of("T"), row(token, *self.me()), tag("SELECT 1")]
        text = f"SELECT '{token}', {WHO}"
        kind = self.chance.randrange(4)
        if kind == 0:
            self.say(f"{text}; {text}", *one, *one, ready("I"))
        elif kind == 1:
            self.say(f"{text}; SELECT 1/0; {text}", *one, error("22012"), ready("I"))
        elif kind == 2:
            self.trace.append(f"three times {text[:60]}")
            self.unnamed = None
            self.exchange([query(text)] * 3, [[*one, ready("I")] * 3])
        else:
            self.say(text, *one, ready("I"))

    def small(self) -> None:
        """Messages that ask for little or nothing."""
        self.trace.append("small")
        kind = self.chance.randrange(4)
        if kind == 0:
            self.exchange([SYNC] * 3, [[ready(self.status)] * 3])
        elif kind == 1:
            self.unnamed = None
            self.exchange([query("")], [[of("I"), ready(self.status)]])
        elif kind == 2:
            token = self.token().encode()
            # textcat(text, text)
            self.exchange(
                [function_call(1258, (token, b"!"))],
                [[("V", lambda each: each.body[4:] == token + b"!"), ready(self.status)]])
        else:
            self.exchange([FLUSH, close("S", "nothing"), FLUSH, SYNC], [[of("3"), ready(self.status)]])

    def transaction(self) -> None:
        self.say("BEGIN", tag("BEGIN"), ready("T"))
        self.unnamed = None
        answer = self.exchange([query("SELECT pg_backend_pid()")], [[of("T"), of("D"), tag("SELECT 1"), ready("T")]])
        backend = answer[1].values()[0]
        added, was = 0, self.rows
        for _ in range(self.chance.randrange(1, 6)):
            kind = self.chance.randrange(8)
            if kind <= 2:
                self.say(
                    f"INSERT INTO data VALUES ('{self.name}', '{self.token()}', 0)", tag("INSERT 0 1"), ready("T"))
                added += 1
            elif kind <= 4:
                self.pipeline(commits=False)
                if self.status == "E":
                    break
            elif kind == 5:
                token = self.token()
                self.reported["application_name"].add(token)
                self.say(f"SET LOCAL application_name = '{token}'", tag("SET"), ready("T"))
                self.say(f"SELECT '{token}', {WHO}", of("T"), row(token, *self.me()), tag("SELECT 1"), ready("T"))
                if self.me()[0] != token:
                    raise Wrong(f"SET LOCAL was not reported: {self.me()}")
            elif kind == 6:
                self.small()
            else:
                time.sleep(self.chance.random() * 0.02)
        if self.status == "T":
            self.say(
                "SELECT pg_backend_pid()", of("T"), row(backend), tag("SELECT 1"), ready("T"))
            if self.chance.random() < 0.2:
                self.say("SELECT 1/0", error("22012"), ready("E"))
        if self.status == "E":
            self.say("SELECT 1", error("25P02"), ready("E"))
            self.say(self.chance.choice(["COMMIT", "ROLLBACK"]), tag("ROLLBACK"), ready("I"))
        elif self.chance.random() < 0.3:
            self.say("ROLLBACK", tag("ROLLBACK"), ready("I"))
        else:
            self.say("COMMIT", tag("COMMIT"), ready("I"))
            self.rows = was + added
        self.count_rows()

    def count_rows(self) -> None:
        self.say(
            f"SELECT count(*), {WHO} FROM data WHERE owner = '{self.name}'",
            of("T"), row(self.rows, *self.me()), tag("SELECT 1"), ready("I"))

    def set(self) -> None:
        token = self.token()
        kind = self.chance.randrange(7)
        if kind <= 1:
            self.reported["application_name"].add(token)
            self.say(f"SET application_name = '{token}'", tag("SET"), ready("I"))
        elif kind == 2:
            zone = self.chance.choice(ZONES)
            self.reported["TimeZone"].add(zone)
            self.say(f"SET TimeZone = '{zone}'", tag("SET"), ready("I"))
        elif kind == 3:
            self.reported["application_name"] |= {"", self.startup["application_name"]}
            self.say("RESET application_name", tag("RESET"), ready("I"))
        elif kind == 4:
            self.reported["application_name"] |= {"", self.startup["application_name"]}
            self.reported["TimeZone"] |= {"UTC", self.startup.get("TimeZone", "UTC")}
            self.say("RESET ALL", tag("RESET"), ready("I"))
        elif kind == 5 and "statement_timeout" in self.startup:
            # Not reported, so it ends with the transaction; the next one to see it must not be somebody else.
            self.say("SET statement_timeout = 99999", tag("SET"), ready("I"))
        else:
            self.reported["application_name"].add(token)
            self.exchange(
                [parse(f"SET application_name = '{token}'"), bind(), execute(), SYNC],
                [[of("1"), of("2"), tag("SET"), ready("I")]])
            self.unnamed = None
        self.session_name = self.current("application_name")

    def discard(self) -> None:
        kind = self.chance.randrange(2)
        if kind == 0:
            self.reported["application_name"] |= {"", self.startup["application_name"]}
            self.reported["TimeZone"] |= {"UTC", self.startup.get("TimeZone", "UTC")}
            self.say("DISCARD ALL", tag("DISCARD ALL"), ready("I"))
            self.session_name = self.current("application_name")
        else:
            self.say("DEALLOCATE ALL", tag("DEALLOCATE ALL"), ready("I"))
        self.known, self.is_changing_known = {}, False

    def copy_in(self) -> None:
        token, count = self.token(), self.chance.randrange(0, 400)
        line = f"{self.name}\t{token}\t".encode()
        data = [copy_data(b"".join(line + b"%d\n" % n for n in range(first, min(first + 50, count))))
                for first in range(0, count, 50)]
        kind = self.chance.randrange(5)
        self.trace.append(f"copy in, kind {kind}, {count} rows")
        self.unnamed = None
        copy = "COPY data FROM STDIN"
        done = [of("G"), tag(f"COPY {count}")]
        if kind == 0:
            self.exchange([query(copy), *data, COPY_DONE], [[*done, ready("I")]])
        elif kind == 1:
            self.send(query(copy))
            self.exchange([], [[of("G")]])
            for each in data:
                self.send(each)
            self.exchange([COPY_DONE], [[done[1], ready("I")]])
        elif kind == 2:
            early = [SYNC] if self.chance.random() < 0.5 else []
            self.exchange(
                [parse(copy), bind(), execute(), *early, *data, COPY_DONE, SYNC],
                [[of("1"), of("2"), *done, ready("I")]])
        elif kind == 3:
            self.exchange(
                [query(copy), *data, copy_fail("enough")], [[of("G"), error("57014"), ready("I")]])
        else:
            self.exchange(
                [query(copy), copy_data(b"never\tx\tnot a number\n"), *data, COPY_DONE],
                [[of("G"), error("22P02"), ready("I")]])
        if kind <= 2:
            self.rows += count
        self.count_rows()

    def copy_out(self) -> None:
        token, count = self.token(), self.chance.randrange(0, 2000)
        self.trace.append(f"copy out of {count}")
        self.unnamed = None
        copy = f"COPY (SELECT '{token}', n FROM generate_series(1, {count}) n) TO STDOUT"
        lines: list[Want] = [("d", lambda each, n=n: each.body == f"{token}\t{n}\n".encode())
                             for n in range(1, count + 1)]
        wants = [of("H"), *lines, of("c"), tag(f"COPY {count}"), ready("I")]
        if self.chance.random() < 0.5:
            self.exchange([query(copy)], [wants], slow=True)
        else:
            self.exchange([parse(copy), bind(), execute(), SYNC], [[of("1"), of("2"), *wants]], slow=True)

    def large(self) -> None:
        """A result of up to some megabytes, read slowly."""
        token, count = self.token(), self.chance.randrange(1, 3000)
        self.trace.append(f"large result of {count}")
        filler = "x" * 1000
        rows = [row(token, number, filler) for number in range(1, count + 1)]
        self.unnamed = None
        self.exchange(
            [query(f"SELECT '{token}', n, '{filler}' FROM generate_series(1, {count}) n")],
            [[of("T"), *rows, tag(f"SELECT {count}"), ready("I")]], slow=True)

    def cancelled(self) -> None:
        """A cancel request at any time; it may come too late, and must not hit anybody else."""
        assert self.connection
        token = self.token()
        self.trace.append(f"cancels {token}")
        self.unnamed = None
        is_idle = self.chance.random() < 0.2
        if not is_idle:
            self.send(query(f"SELECT '{token}', pg_sleep({self.chance.random() * 0.1:.3f})"))
        time.sleep(self.chance.random() * 0.1)
        for _ in range(self.chance.randrange(1, 3)):
            cancel(self.world.proxy.host, self.world.proxy.port, self.connection.key)
        wants = [of("T"), row(token, ""), tag("SELECT 1"), ready("I")]
        failed = [error("57014"), ready("I")]
        if not is_idle:
            # It may end before its row or behind it.
            answer = self.exchange([], [wants, failed, [of("T"), *failed], [*wants[:2], *failed]])
            if answer[-2].type == "E":
                self.world.counts["cancelled, and it was"] += 1
        for _ in range(2):
            # It is one of its own next requests that it may hit.
            self.exchange(
                [query(f"SELECT '{token}', ''")], [wants, failed, [of("T"), *failed], [*wants[:2], *failed]])

    def changing(self) -> None:
        """A statement whose result has other columns now and then: an error is all right, a wrong answer is not."""
        token = self.token()
        self.trace.append("changing")
        parts, wants = [bind("changing", values=(token,)), execute(), SYNC], []
        if not self.is_changing_known:
            parts, wants = [parse(CHANGING, "changing"), *parts], [of("1")]
            self.is_changing_known = True
        good = [
            *wants, of("2"), ("D", lambda each: (each.values() or [b""])[0] == token.encode()), tag("SELECT 1"),
            ready("I")]
        self.exchange(parts, [good, [*wants, error("0A000"), ready("I")]])

    # Pipelines of the extended protocol

    def pipeline(self, commits: bool = True) -> None:
        Pipeline(self).run(commits)


class Pipeline:
    """Puts a pipeline together, and what a server would answer to it."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.chance = client.chance
        self.parts: list[bytes] = []
        self.wants: list[Want] = []
        self.status = client.status
        self.skips = False
        self.has_failed = False
        self.known = dict(client.known)
        self.unnamed = client.unnamed
        self.notes: list[str] = []
        self.me = client.me()

    def run(self, commits: bool) -> None:
        units = [
            (self.run_named, 30), (self.prepare, 20), (self.run_unnamed, 15), (self.run_again, 6), (self.close, 5),
            (self.describe, 5), (self.fail, 6), (self.portal, 4), (self.empty, 2), (self.flush, 2), (self.big, 3)]
        if commits:
            units += [(self.begin, 2)]
        for _ in range(self.chance.choice([1, 1, 1, 2, 3, 6, 12])):
            for _ in range(self.chance.randrange(1, 6)):
                unit, = self.chance.choices([each for each, _ in units], [weight for _, weight in units])
                self.notes.append(unit.__name__ + ("-" if self.skips else ""))
                unit()
            self.sync()
        if commits and self.status != "I":
            self.ask("COMMIT", "ROLLBACK" if self.status == "E" else "COMMIT", token=None)
            self.status = "I"
            self.sync()
        client = self.client
        client.trace.append("pipeline: " + " ".join(self.notes))
        client.exchange(self.parts, [self.wants])
        client.known = self.known
        client.unnamed = None if self.has_failed else self.unnamed

    def add(self, part: bytes, *wants: Want) -> bool:
        """True if the server looks at it and it succeeds."""
        self.parts.append(part)
        if self.skips:
            return False
        self.wants += wants
        if wants and wants[-1][0] == "E":
            self.skips = self.has_failed = True
            if self.status == "T":
                self.status = "E"
            return False
        return True

    def sync(self) -> None:
        self.notes.append("|")
        self.parts.append(SYNC)
        self.skips = False
        self.wants.append(ready(self.status))

    def ask(self, sql: str, result: str, token: str | None, name: str = "") -> None:
        """An unnamed statement from Parse to Execute."""
        if self.status == "E" and sql != "COMMIT":
            self.add(parse(sql), error("25P02"))
            return
        wanted = [row(token, *self.me)] if token else []
        if self.add(parse(sql), of("1")):
            self.unnamed = (sql, token) if token else None
            self.add(bind(), of("2"))
            self.add(execute(), *wanted, tag(result))
        else:
            self.add(bind() + execute())

    def token(self) -> str:
        return self.client.token()

    def execute_named(self, name: str) -> None:
        text, value = self.known.get(name), self.token()
        if text is None:
            self.add(bind(name, values=(value,)), error("26000"))
        elif self.status == "E":
            self.add(bind(name, values=(value,)), error("25P02"))
        elif self.add(bind(name, values=(value,)), of("2")):
            if self.chance.random() < 0.3:
                self.add(describe("P"), of("T"))
            # The second column is the statement's own.
            second = text.split("'")[1]
            self.add(execute(), row(value, second, *self.me), tag("SELECT 1"))
        if self.skips:
            self.add(execute())

    def run_named(self) -> None:
        usable = sorted(self.known)
        if usable and self.chance.random() < 0.97:
            self.execute_named(self.chance.choice(usable))
        elif usable or self.chance.random() < 0.1:
            self.execute_named("never prepared")
        else:
            self.prepare()

    def prepare(self) -> None:
        name = f"s{self.chance.randrange(8)}"
        if self.status == "E":
            return
        if name in self.known:
            if self.chance.random() < 0.9:
                self.close(name)
            else:
                self.add(parse(SHARED[0], name), error("42P05"))
                return
        if self.chance.random() < 0.8:
            text = self.chance.choice(SHARED)
        else:
            text = f"SELECT $1::text, 'own {self.client.name} {self.chance.randrange(5)}', {WHO}"
        if self.add(parse(text, name), of("1")):
            self.known[name] = text
            if self.chance.random() < 0.7:
                self.execute_named(name)

    def close(self, name: str | None = None) -> None:
        name = name or f"s{self.chance.randrange(8)}"
        if self.add(close("S", name), of("3")):
            self.known.pop(name, None)

    def describe(self) -> None:
        name = f"s{self.chance.randrange(8)}"
        if name not in self.known:
            if self.chance.random() < 0.1:
                self.add(describe("S", name), error("26000"))
        elif self.status == "E":
            self.add(describe("S", name), error("25P02"))
        else:
            self.add(describe("S", name), of("t"), of("T"))

    def run_unnamed(self) -> None:
        token = self.token()
        self.ask(f"SELECT '{token}', {WHO}", "SELECT 1", token)

    def run_again(self) -> None:
        """What an earlier Parse has made of the unnamed statement, maybe in a transaction before."""
        if not self.unnamed or self.has_failed:
            return
        if self.status == "E":
            self.add(bind() + execute(), error("25P02"))
        elif self.add(bind(), of("2")):
            self.add(execute(), row(self.unnamed[1], *self.me), tag("SELECT 1"))
        else:
            self.add(execute())

    def fail(self) -> None:
        kind = self.chance.randrange(6)
        failed = self.status == "E"
        if kind == 0:
            self.add(parse("SELEC"), error("42601"))
        elif kind == 1:
            self.add(parse("SELEC", "s_bad"), error("42601"))
        elif kind == 2:
            self.add(execute("no portal"), error("34000"))
        elif failed:
            self.add(parse("SELECT 1"), error("25P02"))
        elif kind == 3:
            # Prepared, and then something fails: it stays.
            name = f"x{self.chance.randrange(3)}"
            self.add(close("S", name), of("3"))
            self.add(parse(f"SELECT {self.chance.randrange(5)}", name), of("1"))
            self.add(bind("no such statement"), error("26000"))
        elif kind == 4:
            if self.add(parse("SELECT 1 / (random() * 0)::int"), of("1")):
                self.add(bind(), of("2"))
                self.add(execute(), error("22012"))
        else:
            self.add(parse("SELECT $1::int"), of("1"))
            self.add(bind(values=("not a number",)), error("22P02"))
            self.add(execute())
        if not self.skips:
            self.unnamed = None

    def portal(self) -> None:
        """A portal that is read in parts."""
        if self.status == "E":
            return
        token = self.token()
        name = self.chance.choice(["", "p"])
        rows = [row(token, number) for number in range(5)]
        if self.add(parse(f"SELECT '{token}', n FROM generate_series(0, 4) n"), of("1")):
            self.unnamed = None
            self.add(bind(portal=name), of("2"))
            self.add(execute(name, 2), *rows[:2], of("s"))
            self.add(execute(name, 2), *rows[2:4], of("s"))
            self.add(execute(name), *rows[4:], tag("SELECT 1"))
            if name:
                self.add(close("P", name), of("3"))

    def empty(self) -> None:
        if self.status == "E":
            return
        if self.add(parse("") + bind() + execute(), of("1"), of("2"), of("I")):
            self.unnamed = None

    def flush(self) -> None:
        self.parts.append(FLUSH)

    def big(self) -> None:
        """A Bind that arrives in many pieces."""
        if self.status == "E":
            return
        value = self.token() + "y" * self.chance.randrange(20_000, 150_000)
        if self.add(parse("SELECT $1::text"), of("1")):
            self.unnamed = None
            self.add(bind(values=(value,)), of("2"))
            self.add(execute(), row(value), tag("SELECT 1"))

    def begin(self) -> None:
        if self.status == "I":
            self.ask("BEGIN", "BEGIN", token=None)
            if not self.skips:
                self.status = "T"
        elif self.status == "T" or not self.skips:
            result = "ROLLBACK" if self.status == "E" else "COMMIT"
            self.ask("COMMIT", result, token=None)
            if not self.skips:
                self.status = "I"
