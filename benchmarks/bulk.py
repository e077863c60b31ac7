"""A million rows of eight columns, read by a client that does nothing with them.

psycopg logs in; then the socket is ours: one Query goes out, and bytes are received into one buffer until
ReadyForQuery. A driver that builds a million tuples would hide the gateway's cost behind its own.
"""

from __future__ import annotations

import os
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from statistics import median

import psycopg

from benchmarks.world import Endpoint, peak_rss_mb, processor_s, reset_peak
from gateway.protocols.postgres.frames import FrameBuffer, frame, split_frames
from gateway.protocols.postgres.scram import MECHANISM, NO_TLS, ScramClient
from gateway.protocols.postgres.server import AUTHENTICATION, ERROR, READY, decode_error
from gateway.protocols.postgres.startup import encode_ssl_request, encode_startup

_READY = b"Z\x00\x00\x00\x05I"
_BUFFER = 1 << 20


@dataclass(frozen=True)
class BulkLine:
    """Medians over the rounds; the first endpoint is the direct one.

    `peak_mb` is the gateway's peak resident memory while this endpoint was read, `cpu_s` what its processor time was.
    """

    what: str
    endpoint: str
    seconds: float
    megabytes: float
    ratio: float
    peak_mb: float = 0.0
    cpu_s: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class Read:
    seconds: float
    size: int


def measure(what: str, sql: str, endpoints: list[Endpoint], *, rounds: int, gateway_pid: int) -> list[BulkLine]:
    reads: dict[str, list[Read | str]] = {endpoint.name: [] for endpoint in endpoints}
    peaks: dict[str, float] = {}
    spent: dict[str, list[float]] = {}
    for _ in range(rounds):
        for endpoint in endpoints:
            reset_peak(gateway_pid)
            before = processor_s(gateway_pid)
            reads[endpoint.name].append(read_all(endpoint, sql))
            if endpoint.name.startswith("gateway"):
                spent.setdefault(endpoint.name, []).append(processor_s(gateway_pid) - before)
                peaks[endpoint.name] = max(peaks.get(endpoint.name, 0.0), peak_rss_mb(gateway_pid))
    return _lines(what, reads, peaks, spent)


def read_all(endpoint: Endpoint, sql: str) -> Read | str:
    """Seconds from the Query to ReadyForQuery, and the bytes between; a sentence when the server refused."""
    with wire(endpoint) as connection:
        return _drain(connection, sql)


@contextmanager
def wire(endpoint: Endpoint) -> Iterator[socket.socket]:
    """A session's socket. psycopg logs in where there is no TLS; inside TLS its socket could not be used by others."""
    if endpoint.authority:
        with closing(secured_socket(endpoint)) as connection:
            yield connection
        return
    session = psycopg.connect(endpoint.dsn(), autocommit=True)
    with session, socket.socket(fileno=os.dup(session.pgconn.socket)) as connection:
        connection.setblocking(True)
        connection.settimeout(300)
        yield connection


def secured_socket(endpoint: Endpoint) -> socket.socket:
    """Log in inside TLS, by password or SCRAM, and return the socket behind ReadyForQuery."""
    context = ssl.create_default_context(cafile=endpoint.authority)
    plain = socket.create_connection((endpoint.host, endpoint.port), 300)
    plain.sendall(encode_ssl_request())
    if plain.recv(1) != b"S":
        raise SystemExit(f"{endpoint.name} does not offer TLS")
    connection = context.wrap_socket(plain, server_hostname=endpoint.host)
    connection.sendall(encode_startup({"user": endpoint.user, "database": endpoint.database}))
    scram = ScramClient(endpoint.password, binding=NO_TLS)
    buffer = FrameBuffer(1 << 20)
    while True:
        for kind, body in split_frames(buffer.feed(connection.recv(65536))):
            code = int.from_bytes(body[:4], "big")
            if kind == ERROR:
                raise SystemExit(f"{endpoint.name} refused the session: {decode_error(body).get('M')}")
            if kind == READY:
                return connection
            if kind != AUTHENTICATION or code in {0, 12}:
                continue
            if code == 3:
                connection.sendall(frame(b"p", endpoint.password.encode() + b"\0"))
            elif code == 10:
                first = scram.first()
                connection.sendall(frame(b"p", MECHANISM.encode() + b"\0" + len(first).to_bytes(4, "big") + first))
            elif code == 11:
                connection.sendall(frame(b"p", scram.final(body[4:])))


def _drain(connection: socket.socket, sql: str) -> Read | str:
    text = sql.encode() + b"\0"
    buffer = memoryview(bytearray(_BUFFER))
    started = time.perf_counter()
    connection.sendall(b"Q" + struct.pack("!i", len(text) + 4) + text)
    size, head, tail = 0, b"", b""
    while not tail.endswith(_READY):
        count = connection.recv_into(buffer)
        if count == 0:
            return "the connection was closed"
        head = head or bytes(buffer[: min(count, 400)])
        tail = (tail + bytes(buffer[max(0, count - 6) : count]))[-6:]
        size += count
    if head[:1] not in {b"T", b"H"}:  # RowDescription, CopyOutResponse
        return head[5:300].replace(b"\0", b" ").decode("utf-8", "replace")
    return Read(time.perf_counter() - started, size)


def _lines(
    what: str, reads: dict[str, list[Read | str]], peaks: dict[str, float], spent: dict[str, list[float]]
) -> list[BulkLine]:
    first = next(iter(reads.values()))
    direct = [read for read in first if isinstance(read, Read)]
    if not direct:
        raise SystemExit(f"the direct read failed: {first[0]}")
    base = median(read.seconds for read in direct)
    lines = []
    for name, results in reads.items():
        good = [read for read in results if isinstance(read, Read)]
        if len(good) < len(results):
            problem = next(read for read in results if isinstance(read, str))
            lines.append(BulkLine(what, name, 0, 0, 0, note=problem))
            continue
        seconds = median(read.seconds for read in good)
        # A ratio of speeds: 1 is as fast as direct, 0.5 takes twice the time.
        cpu_s = median(spent[name]) if name in spent else 0.0
        lines.append(BulkLine(what, name, seconds, good[0].size / 1e6, base / seconds, peaks.get(name, 0.0), cpu_s))
    return lines
