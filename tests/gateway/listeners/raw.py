"""A client that speaks frames, for what drivers hide: transcripts of `>> sent` and `<< received`."""

from __future__ import annotations

import asyncio
import struct

from gateway.protocols.postgres import client
from gateway.protocols.postgres.client import Bind, Execute, Parse, Target
from gateway.protocols.postgres.datarow import row_values
from gateway.protocols.postgres.frames import frame
from gateway.protocols.postgres.server import decode_error
from gateway.protocols.postgres.startup import encode_startup
from tests.gateway.listeners.harness import TOKEN, Gateway


def parse(text: str, name: str = "") -> bytes:
    return client.encode_parse(Parse(name, text, ()))


def bind(statement: str = "", portal: str = "", formats: tuple[int, ...] = (), values: tuple[bytes, ...] = ()) -> bytes:
    return client.encode_bind(Bind(portal, statement, (), values, formats))


def execute(portal: str = "", rows: int = 0) -> bytes:
    return client.encode_execute(Execute(portal, rows))


def describe(kind: str = "P", name: str = "") -> bytes:
    return client.encode_describe(Target(kind, name))


def close(kind: str, name: str) -> bytes:
    return client.encode_close(Target(kind, name))


def query(text: str) -> bytes:
    return frame(b"Q", text.encode() + b"\0")


SYNC, FLUSH = client.SYNC_FRAME, client.FLUSH_FRAME


class RawClient:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.key: tuple[int, bytes] = (0, b"")

    @classmethod
    async def connect(cls, gateway: Gateway, **settings: str) -> RawClient:
        raw = cls(*await asyncio.open_connection("127.0.0.1", gateway.listener.port))
        raw.writer.write(encode_startup({"user": "demo-agent", "database": "people", **settings}))
        assert await raw.receive() == ("R", struct.pack("!I", 3))
        raw.writer.write(frame(b"p", TOKEN.encode() + b"\0"))
        for kind, body in await raw.until_ready():
            if kind == "K":
                raw.key = (struct.unpack("!i", body[:4])[0], body[4:])
        return raw

    async def receive(self) -> tuple[str, bytes]:
        head = await asyncio.wait_for(self.reader.readexactly(5), 60)
        length = struct.unpack("!I", head[1:])[0]
        return chr(head[0]), await asyncio.wait_for(self.reader.readexactly(length - 4), 60)

    async def until(self, *kinds: str) -> list[tuple[str, bytes]]:
        got = []
        while True:
            got.append(await self.receive())
            if got[-1][0] in kinds:
                return got

    async def until_ready(self) -> list[tuple[str, bytes]]:
        return await self.until("Z")

    async def ask(self, *messages: bytes) -> list[tuple[str, bytes]]:
        self.writer.write(b"".join(messages))
        return await self.until_ready()

    def close(self) -> None:
        self.writer.close()


def kinds(frames: list[tuple[str, bytes]]) -> str:
    return "".join(kind for kind, _ in frames)


def rows(frames: list[tuple[str, bytes]]) -> list[list[bytes | None]]:
    return [row_values(body) for kind, body in frames if kind == "D"]


def errors(frames: list[tuple[str, bytes]]) -> list[dict[str, str]]:
    return [decode_error(body) for kind, body in frames if kind == "E"]


def status(frames: list[tuple[str, bytes]]) -> str:
    return frames[-1][1].decode()
