"""A PostgreSQL frontend that keeps every byte it is sent, so that "no canary" means no canary anywhere.

A driver shows its caller rows and hides the rest; an attacker reads the socket. This client speaks just enough of
protocol 3.0 (PostgreSQL documentation, chapter "Frontend/Backend Protocol") to drive both query protocols, COPY and the
fast path, waits for nobody's approval, and returns the raw answer beside the parsed one.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import re
import socket
import ssl
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

REVIEW_URL = re.compile(rb"https?://[^\s\x00]*review[^\s\x00]*")
MAX_MESSAGE = 64 * 1024 * 1024


class ConnectionLost(Exception):
    """The server closed the socket."""


@dataclass(frozen=True)
class Target:
    """Where to connect and as whom; the gateway and a direct connection differ in nothing else."""

    host: str
    port: int
    database: str
    user: str
    password: str = field(repr=False)
    tls: bool = False
    options: tuple[tuple[str, str], ...] = ()


@dataclass
class Answer:
    """What came back for one request, up to ReadyForQuery (or the end of the connection)."""

    # A whole table comes in ten thousand pieces: appended in place, not copied for each.
    received: bytearray = field(default_factory=bytearray)
    columns: list[tuple[str, ...]] = field(default_factory=list)  # one per result set
    rows: list[tuple[bytes | None, ...]] = field(default_factory=list)
    copied: bytearray = field(default_factory=bytearray)
    tags: list[str] = field(default_factory=list)
    errors: list[dict[str, str]] = field(default_factory=list)
    notices: list[dict[str, str]] = field(default_factory=list)
    notified: list[tuple[str, str]] = field(default_factory=list)  # channel, payload
    review_url: str | None = None
    lost: bool = False
    status: str = ""  # I, T or E of the last ReadyForQuery

    @property
    def sqlstate(self) -> str:
        return self.errors[0].get("C", "") if self.errors else ""

    @property
    def refused(self) -> bool:
        """Denied, or held and then withdrawn: nothing ran. A database error is not a refusal."""
        return self.review_url is not None or any(error.get("C") == "42501" for error in self.errors)

    def __add__(self, other: Answer) -> Answer:
        return Answer(
            received=self.received + other.received,
            columns=self.columns + other.columns,
            rows=self.rows + other.rows,
            copied=self.copied + other.copied,
            tags=self.tags + other.tags,
            errors=self.errors + other.errors,
            notices=self.notices + other.notices,
            notified=self.notified + other.notified,
            review_url=self.review_url or other.review_url,
            lost=self.lost or other.lost,
            status=other.status,
        )


class Wire:
    """One connection. A held statement is cancelled as soon as its notice arrives."""

    def __init__(self, target: Target, *, timeout_s: float = 60.0, cancel_holds: bool = True) -> None:
        self.target = target
        self.timeout_s = timeout_s
        self.cancel_holds = cancel_holds
        self.key = b""
        self.greeting = Answer()
        self.copy_in = b""
        self._extended = False
        self.socket = _dial(target, timeout_s)
        self._start()

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):  # already gone: nothing to take leave of
            self.socket.sendall(message(b"X"))
        self.socket.close()

    # --- requests ----------------------------------------------------------------------------------------------------

    def simple(self, sql: str) -> Answer:
        return self.request(message(b"Q", sql.encode() + b"\0"))

    def extended(
        self, sql: str, parameters: Sequence[bytes | None] = (), *, binary: bool = False, max_rows: int = 0
    ) -> Answer:
        """Parse, Describe, Bind, Execute, Sync in one write, unnamed statement and portal."""
        return self.request(
            parse(sql) + bind(parameters, binary=binary) + describe_portal() + execute(max_rows=max_rows) + SYNC
        )

    def request(self, data: bytes) -> Answer:
        """Send bytes, then read until ReadyForQuery."""
        answer = Answer()
        self._extended = not data.startswith((b"Q", b"F"))
        try:
            self.socket.sendall(data)
            self.read_until_ready(answer)
        except (ConnectionLost, ConnectionError, ssl.SSLError):
            answer.lost = True
        return answer

    def cancel(self) -> None:
        """A CancelRequest on a second connection, with the key this session was given."""
        side = _dial(self.target, self.timeout_s)
        with contextlib.closing(side), contextlib.suppress(OSError):
            side.sendall(struct.pack("!ii", 8 + len(self.key), 80877102) + self.key)
            side.recv(1)  # the server closes without an answer, by specification

    # --- reading -----------------------------------------------------------------------------------------------------

    def read_until_ready(self, answer: Answer) -> None:
        while True:
            kind, body = self.read_message()
            answer.received += kind + body
            if kind == b"Z":
                answer.status = body.decode()
                return
            self._note(kind, body, answer)

    def _note(self, kind: bytes, body: bytes, answer: Answer) -> None:
        match kind:
            case b"T":
                answer.columns.append(_column_names(body))
            case b"D":
                answer.rows.append(_values(body))
            case b"d":
                answer.copied += body
            case b"C":
                answer.tags.append(body[:-1].decode())
            case b"E":
                answer.errors.append(_fields(body))
            case b"N":
                answer.notices.append(_fields(body))
                self._maybe_cancel(body, answer)
            case b"A":
                channel, payload, _ = body[4:].split(b"\0")
                answer.notified.append((channel.decode(), payload.decode()))
            case b"G":
                # A Sync sent before the data is ignored while copying in (protocol-flow, "COPY operations").
                end = message(b"c") if self.copy_in else message(b"f", b"no data\0")
                data = message(b"d", self.copy_in) if self.copy_in else b""
                self.socket.sendall(data + end + (SYNC if self._extended else b""))

    def _maybe_cancel(self, body: bytes, answer: Answer) -> None:
        found = REVIEW_URL.search(body)
        if found is None or answer.review_url is not None:
            return
        answer.review_url = found.group().decode()
        if self.cancel_holds:
            self.cancel()

    def read_message(self) -> tuple[bytes, bytes]:
        header = self._exactly(5)
        length = int.from_bytes(header[1:], "big")
        assert 4 <= length <= MAX_MESSAGE, f"server sent {header!r}: {length} bytes, expected 4 to {MAX_MESSAGE}"
        return header[:1], self._exactly(length - 4)

    def _exactly(self, count: int) -> bytes:
        chunks = []
        while count:
            chunk = self.socket.recv(min(count, 1 << 16))
            if not chunk:
                raise ConnectionLost
            chunks.append(chunk)
            count -= len(chunk)
        return b"".join(chunks)

    # --- start-up ----------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        settings = {"user": self.target.user, "database": self.target.database, **dict(self.target.options)}
        body = b"".join(key.encode() + b"\0" + value.encode() + b"\0" for key, value in settings.items()) + b"\0"
        self.socket.sendall(struct.pack("!ii", 8 + len(body), 196608) + body)
        while True:
            kind, body = self.read_message()
            # The key is random: what it spells is nobody's.
            self.greeting.received += kind + (body if kind != b"K" else b"")
            if kind == b"Z":
                return
            if kind == b"R":
                self._authenticate(body)
            elif kind == b"K":
                self.key = body
            elif kind == b"E":
                self.greeting.errors.append(_fields(body))
                raise ConnectionLost(self.greeting.errors[0].get("M", ""))

    def _authenticate(self, body: bytes) -> None:
        code = int.from_bytes(body[:4], "big")
        if code == 3:
            self.socket.sendall(message(b"p", self.target.password.encode() + b"\0"))
        elif code == 10:
            self._scram()
        else:
            assert code == 0, f"authentication request {code}, expected 0, 3 or 10"

    def _scram(self) -> None:
        """SCRAM-SHA-256 (RFC 5802, RFC 7677), without channel binding."""
        nonce = base64.b64encode(os.urandom(18)).decode()
        bare = f"n=,r={nonce}"
        first = f"n,,{bare}".encode()
        self.socket.sendall(message(b"p", b"SCRAM-SHA-256\0" + struct.pack("!i", len(first)) + first))
        _, body = self.read_message()
        server_first = body[4:].decode()
        parts = dict(part.split("=", 1) for part in server_first.split(","))
        salted = _salted(self.target.password, parts["s"], int(parts["i"]))
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        final = f"c=biws,r={parts['r']}"
        signed = f"{bare},{server_first},{final}".encode()
        signature = hmac.digest(hashlib.sha256(client_key).digest(), signed, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        self.socket.sendall(message(b"p", f"{final},p={base64.b64encode(proof).decode()}".encode()))
        self.read_message()


@lru_cache
def _salted(password: str, salt: str, iterations: int) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(salt), iterations)


# --- messages --------------------------------------------------------------------------------------------------------


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def parse(sql: str, *, name: str = "", types: Sequence[int] = ()) -> bytes:
    oids = struct.pack(f"!h{len(types)}i", len(types), *types)
    return message(b"P", name.encode() + b"\0" + sql.encode() + b"\0" + oids)


def bind(
    parameters: Sequence[bytes | None] = (), *, portal: str = "", statement: str = "", binary: bool = False
) -> bytes:
    values = b"".join(struct.pack("!i", -1) if p is None else struct.pack("!i", len(p)) + p for p in parameters)
    names = portal.encode() + b"\0" + statement.encode() + b"\0"
    formats = struct.pack("!hh", 1, int(binary))
    return message(b"B", names + struct.pack("!hh", 0, len(parameters)) + values + formats)


def describe_portal(portal: str = "") -> bytes:
    return message(b"D", b"P" + portal.encode() + b"\0")


def describe_statement(name: str = "") -> bytes:
    return message(b"D", b"S" + name.encode() + b"\0")


def execute(portal: str = "", *, max_rows: int = 0) -> bytes:
    return message(b"E", portal.encode() + b"\0" + struct.pack("!i", max_rows))


def function_call(oid: int, arguments: Sequence[bytes], *, binary: bool = False) -> bytes:
    body = struct.pack("!ihh", oid, 0, len(arguments))
    body += b"".join(struct.pack("!i", len(argument)) + argument for argument in arguments)
    return message(b"F", body + struct.pack("!h", int(binary)))


SYNC = message(b"S")
FLUSH = message(b"H")


def _dial(target: Target, timeout_s: float) -> socket.socket:
    plain = socket.create_connection((target.host, target.port), timeout_s)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not target.tls:
        return plain
    plain.sendall(struct.pack("!ii", 8, 80877103))
    assert plain.recv(1) == b"S", "the server refused TLS, expected it to accept"
    context = ssl.create_default_context()
    # The channel is not what these tests prove; whether TLS is verified is tested with the listeners.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(plain)


def _fields(body: bytes) -> dict[str, str]:
    return {part[:1].decode(): part[1:].decode("utf-8", "replace") for part in body.split(b"\0") if part}


def _column_names(body: bytes) -> tuple[str, ...]:
    names, at = [], 2
    for _ in range(int.from_bytes(body[:2], "big")):
        end = body.index(b"\0", at)
        names.append(body[at:end].decode("utf-8", "replace"))
        at = end + 19
    return tuple(names)


def _values(body: bytes) -> tuple[bytes | None, ...]:
    values: list[bytes | None] = []
    at = 2
    for _ in range(int.from_bytes(body[:2], "big")):
        length = int.from_bytes(body[at : at + 4], "big", signed=True)
        at += 4
        values.append(None if length < 0 else body[at : at + length])
        at += max(length, 0)
    return tuple(values)
