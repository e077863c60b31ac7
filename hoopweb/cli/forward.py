"""`connect --listen`: a port on this machine for programs that open many connections, each with a ticket of its own.

A program dials the port without a password. For each connection a ticket is bought, and this process signs in at the
gateway with it: over TLS that verifies the server off loopback. From then on bytes are passed through, both ways. Who
may dial the port acts as the signed-in agent, so it listens on loopback only, and other users of this machine are told
from oneself by the socket's owner where the system says so (Linux).
"""

from __future__ import annotations

import asyncio
import os
import ssl
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, TextIO
from urllib.parse import urlsplit

from hoopweb.cli.credentials import is_loopback
from hoopweb.cli.failures import CommandFailed, Exit
from hoopweb.cli.server import Server

# PostgreSQL 18 documentation, "Message Formats".
_SSL_REQUEST, _GSS_REQUEST, _CANCEL = 80877103, 80877104, 80877102
_MAX_STARTUP = 10_000
_SIGN_IN_S = 30.0

Buy = Callable[[], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Gateway:
    """Where connections go, and what is asked before each."""

    host: str
    port: int
    tls: ssl.SSLContext | None  # None on loopback, where the gateway may have no certificate
    buy: Buy


class Refused(Exception):
    """The client hears it as an ErrorResponse."""

    def __init__(self, message: str, sqlstate: str = "08001") -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


def forward(server: Server, *, connection: str, host: str, port: str, listen: str, out: TextIO) -> None:
    """Serve until interrupted."""
    host = host or urlsplit(server.login.server).hostname or ""
    tls = None if is_loopback(host) else ssl.create_default_context(cafile=os.environ.get("PGSSLROOTCERT") or None)
    one_by_one = Lock()  # a token that is over is replaced once

    def buy() -> dict[str, Any]:
        with one_by_one:
            return dict(server.post("tickets", body={"connection": connection}))

    buy()  # whoever may not use the connection hears so now, not at each dial
    gateway = Gateway(host, int(port), tls, buy)
    try:
        asyncio.run(_serve(gateway, connection, listen, out))
    except OSError as error:
        raise CommandFailed(f"cannot listen on 127.0.0.1:{listen}: {error.strerror}", status=Exit.USAGE) from None


async def _serve(gateway: Gateway, connection: str, listen: str, out: TextIO) -> None:
    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _one(gateway, reader, writer)

    listening = await asyncio.start_server(take, "127.0.0.1", int(listen))
    port = listening.sockets[0].getsockname()[1]
    out.write(f"listening: host=127.0.0.1 port={port} dbname={connection}, no password; interrupt to stop\n")
    out.flush()
    async with listening:
        await listening.serve_forever()


async def _one(gateway: Gateway, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One client's connection, from its first byte to its last."""
    upstream: asyncio.StreamWriter | None = None
    try:
        if not _is_ours(writer):
            raise Refused("this port is for the user who opened it", "28000")
        packet = await _startup(reader, writer)
        answer, upstream = await _dial(gateway)
        if packet[4:8] == struct.pack("!i", _CANCEL):
            upstream.write(packet)
            return
        await _sign_in(gateway, packet, answer, upstream)
        await _pass_both_ways(reader, writer, answer, upstream)
    except Refused as refused:
        writer.write(_error(refused))
    except (OSError, asyncio.IncompleteReadError, TimeoutError, CommandFailed) as error:
        words = str(error) if isinstance(error, CommandFailed) else "the gateway cannot be reached"
        writer.write(_error(Refused(words)))
    finally:
        for side in (writer, upstream):
            if side is not None:
                with suppress(OSError, ssl.SSLError):
                    await side.drain()
                    side.close()


async def _startup(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """The client's first packet that is no wish for encryption: between two sockets of one machine there is none."""
    while True:
        head = await reader.readexactly(8)
        length, code = struct.unpack("!ii", head)
        if not 8 <= length <= _MAX_STARTUP:
            raise Refused("this is no PostgreSQL client", "08P01")
        packet = head + await reader.readexactly(length - 8)
        if code not in {_SSL_REQUEST, _GSS_REQUEST}:
            return packet
        writer.write(b"N")
        await writer.drain()


async def _dial(gateway: Gateway) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(gateway.host, gateway.port)
    if gateway.tls is not None:
        writer.write(struct.pack("!ii", 8, _SSL_REQUEST))
        if await reader.readexactly(1) != b"S":
            raise Refused("the gateway offers no TLS")
        await writer.start_tls(gateway.tls, server_hostname=gateway.host)
    return reader, writer


async def _sign_in(gateway: Gateway, packet: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Show the client's own settings with our name and a new ticket; leaves the answer after AuthenticationOk."""
    bought = await asyncio.to_thread(gateway.buy)
    writer.write(startup_packet(packet, user=str(bought["username"]), database=str(bought["connection"])))
    async with asyncio.timeout(_SIGN_IN_S):
        kind, body = await _message(reader)
        if kind != b"R" or struct.unpack_from("!i", body)[0] != 3:  # AuthenticationCleartextPassword
            raise Refused("the gateway asks for something else than a ticket", "28000")
        secret = str(bought["ticket"]).encode() + b"\0"
        writer.write(b"p" + struct.pack("!i", 4 + len(secret)) + secret)
        kind, body = await _message(reader)
    if kind != b"R" or struct.unpack_from("!i", body)[0] != 0:
        raise Refused("the gateway did not take the ticket", "28P01")


async def _pass_both_ways(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    answer: asyncio.StreamReader,
    upstream: asyncio.StreamWriter,
) -> None:
    writer.write(b"R" + struct.pack("!ii", 8, 0))  # AuthenticationOk, ours instead of the one that was taken
    ways = {asyncio.create_task(_pass(reader, upstream)), asyncio.create_task(_pass(answer, writer))}
    _, going = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    for way in going:  # PostgreSQL knows no half-open connections
        way.cancel()
    await asyncio.gather(*ways, return_exceptions=True)


async def _pass(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(65_536):
        target.write(data)
        await target.drain()


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    kind, length = struct.unpack("!ci", await reader.readexactly(5))
    body = await reader.readexactly(length - 4) if 4 <= length <= _MAX_STARTUP else b""
    if kind == b"E":
        fields = {part[:1]: part[1:] for part in body.split(b"\0") if part}
        raise Refused(fields.get(b"M", b"refused").decode(errors="replace"), fields.get(b"C", b"08004").decode())
    return kind, body


def startup_packet(packet: bytes, *, user: str, database: str) -> bytes:
    """The client's StartupMessage with `user` and `database` replaced; what else it asks for stays."""
    words = packet[8:].split(b"\0")
    pairs = dict(zip(words[0::2], words[1::2], strict=False))
    pairs |= {b"user": user.encode(), b"database": database.encode()}
    body = b"".join(name + b"\0" + value + b"\0" for name, value in pairs.items() if name) + b"\0"
    return struct.pack("!i", 8 + len(body)) + packet[4:8] + body


def _error(refused: Refused) -> bytes:
    fields = f"SFATAL\0VFATAL\0C{refused.sqlstate}\0M{refused}\0\0".encode()
    return b"E" + struct.pack("!i", 4 + len(fields)) + fields


def _is_ours(writer: asyncio.StreamWriter) -> bool:
    """Whether the socket at the other end belongs to this user, by /proc/net/tcp; true where there is no such file."""
    host, port = writer.get_extra_info("peername")[:2]
    table = Path("/proc/net/tcp")
    if not table.exists():
        return True
    address = f"{struct.unpack('<I', bytes(map(int, host.split('.'))))[0]:08X}:{port:04X}"
    for line in table.read_text(encoding="ascii").splitlines()[1:]:
        columns = line.split()
        if columns[1] == address:
            return int(columns[7]) == os.getuid()
    return False
