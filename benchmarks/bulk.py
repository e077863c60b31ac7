"""A million rows of eight columns, read by a client that does nothing with them.

psycopg logs in; then the socket is ours: one Query goes out, and bytes are received into one buffer until
ReadyForQuery. A driver that builds a million tuples would hide the gateway's cost behind its own.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from dataclasses import dataclass
from statistics import median

import psycopg

from benchmarks.world import Endpoint, peak_rss_mb, reset_peak

_READY = b"Z\x00\x00\x00\x05I"
_BUFFER = 1 << 20


@dataclass(frozen=True)
class BulkLine:
    """Medians over the rounds. `peak_mb` is the gateway's peak resident memory while this endpoint was read."""

    what: str
    endpoint: str
    seconds: float
    megabytes: float
    ratio: float
    peak_mb: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class Read:
    seconds: float
    size: int


def measure(what: str, sql: str, endpoints: list[Endpoint], *, rounds: int, gateway_pid: int) -> list[BulkLine]:
    reads: dict[str, list[Read | str]] = {endpoint.name: [] for endpoint in endpoints}
    peaks: dict[str, float] = {}
    for _ in range(rounds):
        for endpoint in endpoints:
            reset_peak(gateway_pid)
            reads[endpoint.name].append(read_all(endpoint, sql))
            if endpoint.name.startswith("gateway"):
                peaks[endpoint.name] = max(peaks.get(endpoint.name, 0.0), peak_rss_mb(gateway_pid))
    return _lines(what, reads, peaks)


def read_all(endpoint: Endpoint, sql: str) -> Read | str:
    """Seconds from the Query to ReadyForQuery, and the bytes between; a sentence when the server refused."""
    with psycopg.connect(endpoint.dsn(), autocommit=True) as connection:
        wire = socket.socket(fileno=os.dup(connection.pgconn.socket))
        with wire:
            wire.setblocking(True)
            wire.settimeout(300)
            return _drain(wire, sql)


def _drain(wire: socket.socket, sql: str) -> Read | str:
    text = sql.encode() + b"\0"
    buffer = memoryview(bytearray(_BUFFER))
    started = time.perf_counter()
    wire.sendall(b"Q" + struct.pack("!i", len(text) + 4) + text)
    size, head, tail = 0, b"", b""
    while not tail.endswith(_READY):
        count = wire.recv_into(buffer)
        if count == 0:
            return "the connection was closed"
        head = head or bytes(buffer[: min(count, 400)])
        tail = (tail + bytes(buffer[max(0, count - 6) : count]))[-6:]
        size += count
    if head[:1] != b"T":
        return head[5:300].replace(b"\0", b" ").decode("utf-8", "replace")
    return Read(time.perf_counter() - started, size)


def _lines(what: str, reads: dict[str, list[Read | str]], peaks: dict[str, float]) -> list[BulkLine]:
    direct = [read for read in reads["direct"] if isinstance(read, Read)]
    if not direct:
        raise SystemExit(f"the direct read failed: {reads['direct'][0]}")
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
        lines.append(BulkLine(what, name, seconds, good[0].size / 1e6, base / seconds, peaks.get(name, 0.0)))
    return lines
