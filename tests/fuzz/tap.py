"""A tap on the line between the gateway and its database: what was sent there, message by message.

Every byte passes unchanged. The tap reads along what the gateway asks for and follows names the way the server does, so
that it can say which texts were *executed*, whoever hid them in whatever stream.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from gateway.protocols.postgres import client
from gateway.protocols.postgres.frames import MAX_CLIENT_MESSAGE, FrameBuffer, split_frames

OWN = "hoopweb_"  # how names of the gateway's own questions begin


@dataclass
class Tap:
    """`executed` counts texts the gateway ran for clients; `forbidden` are messages it must never send."""

    upstream: tuple[str, int]
    port: int = 0
    executed: Counter[str] = field(default_factory=Counter)
    forbidden: list[int] = field(default_factory=list)
    open: int = 0
    chunk_bytes: int = 0  # cut what the server sends into pieces of this size; 0 leaves it whole

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            there, back = await asyncio.open_connection(*self.upstream)
            follower = Follower(self)
            await asyncio.gather(
                _pump(reader, back, follower.sent), _pump(there, writer, None, chunk_bytes=self.chunk_bytes)
            )
        except ConnectionError:
            pass  # either side may leave at any moment
        finally:
            self.open -= 1


class Follower:
    """One connection's names: which text stands behind a statement and a portal."""

    def __init__(self, tap: Tap) -> None:
        self._tap = tap
        self._raw = bytearray()
        self._frames: FrameBuffer | None = None
        self._statements: dict[str, str] = {}
        self._portals: dict[str, str] = {}

    def sent(self, data: bytes) -> None:
        if self._frames is None:
            self._raw += data
            length = int.from_bytes(self._raw[:4], "big")
            if len(self._raw) < max(4, length):
                return
            data, self._frames = bytes(self._raw[length:]), FrameBuffer(MAX_CLIENT_MESSAGE)
        for kind, body in split_frames(self._frames.feed(data)):
            self._follow(kind, body)

    def _follow(self, kind: int, body: bytes) -> None:
        if kind == client.PARSE:
            parse = client.decode_parse(body)
            self._statements[parse.name] = parse.text
        elif kind == client.BIND:
            bind = client.decode_bind(body)
            self._portals[bind.portal] = self._statements.get(bind.statement, "")
        elif kind == client.EXECUTE:
            portal = client.decode_execute(body).portal
            if not portal.startswith(OWN):
                self._tap.executed[self._portals.get(portal, "")] += 1
        elif kind == client.QUERY and b";" not in body.removesuffix(b"\0").removesuffix(b";"):  # one statement
            self._tap.executed[body[:-1].decode()] += 1
        elif kind in (client.QUERY, client.FUNCTION_CALL):
            self._tap.forbidden.append(kind)


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: object, *, chunk_bytes: int = 0
) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            if callable(seen):
                seen(data)
            for at in range(0, len(data), chunk_bytes or len(data)):
                writer.write(data[at : at + (chunk_bytes or len(data))])
                await writer.drain()
                if chunk_bytes:
                    await asyncio.sleep(0)
    writer.close()


@contextlib.asynccontextmanager
async def tapped(host: str, port: int) -> AsyncIterator[Tap]:
    tap = Tap((host, port))
    server = await asyncio.start_server(tap.serve, "127.0.0.1", 0)
    tap.port = server.sockets[0].getsockname()[1]
    try:
        yield tap
    finally:
        server.close()
