"""A way to a server that can be cut: no byte passes any more, and neither side is told."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

SO_ATTACH_FILTER = 26  # Linux: asm-generic/socket.h


def vanish(sock: Any) -> None:
    """From now on the system drops whatever arrives at `sock`, without acknowledging it: a cable that was pulled.

    One instruction of the classic packet filter, "accept no byte"; it needs no rights.
    """
    instruction = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0))
    program = struct.pack("@HP", 1, ctypes.addressof(instruction))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


class Way:
    """What connects to `port` reaches the server behind it, until the way is cut or stalled."""

    def __init__(self, server: tuple[str, int]) -> None:
        self._server = server
        self.port = 0
        self.opened = 0
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._near: list[asyncio.StreamWriter] = []

    def cut(self) -> None:
        for writer in self._near:
            vanish(writer.get_extra_info("socket"))

    def stall(self) -> None:
        """The server's host is there, and nobody on it reads or writes any more."""
        self._flowing.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        there, back = await asyncio.open_connection(*self._server)
        self._near.append(writer)
        try:
            await asyncio.gather(self._pass(reader, back), self._pass(there, writer))
        finally:
            back.close()
            writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
            writer.write_eof()


@asynccontextmanager
async def way_to(host: str, port: int) -> AsyncIterator[Way]:
    way = Way((host, port))
    server = await asyncio.start_server(way.serve, "127.0.0.1", 0, limit=1 << 16)
    way.port = server.sockets[0].getsockname()[1]
    try:
        yield way
    finally:
        server.close()
