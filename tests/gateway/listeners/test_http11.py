"""The HTTP listener against raw bytes: each attack also at uvicorn's own HTTP/1.1, where it works."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from gateway.listeners import http11
from gateway.listeners.http import http_server

GUARD_S = 20.0


@dataclass(slots=True)
class Server:
    """`seen` has the path and the body of every request that reached the application."""

    port: int = 0
    seen: list[tuple[str, bytes]] = field(default_factory=list)
    answer_now: asyncio.Event = field(default_factory=asyncio.Event)

    async def application(self, request: Request) -> Response:
        early = request.url.path == "/early"
        body = b"" if early else await request.body()
        self.seen.append((request.url.path, body))
        await self.answer_now.wait()
        return PlainTextResponse("served")

    async def ask(self, *pieces: bytes) -> bytes:
        """Everything that comes back until the server closes, or has answered and waits."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        heard = b""
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            with contextlib.suppress(TimeoutError, ConnectionError):
                while data := await asyncio.wait_for(reader.read(65_536), 0.3 if heard else GUARD_S):
                    heard += data
        finally:
            writer.close()
        return heard


@contextlib.asynccontextmanager
async def serving(server: Server, made: uvicorn.Server) -> AsyncIterator[Server]:
    task = asyncio.create_task(made.serve())
    while not made.started:
        await asyncio.sleep(0.01)
    server.port = made.servers[0].sockets[0].getsockname()[1]
    server.answer_now.set()
    try:
        yield server
    finally:
        made.should_exit = True
        await task


def application(server: Server) -> Starlette:
    methods = ["GET", "POST"]
    return Starlette(routes=[Route("/{path:path}", server.application, methods=methods)])


@pytest.fixture
async def strict() -> AsyncIterator[Server]:
    """The listener as the gateway runs it."""
    server = Server()
    made = http_server(application(server))
    made.config.port = 0
    async with serving(server, made):
        yield server


@pytest.fixture
async def lenient() -> AsyncIterator[Server]:
    """The control: uvicorn as it comes."""
    server = Server()
    config = uvicorn.Config(application(server), http="h11", port=0, lifespan="off", log_config=None)
    async with serving(server, uvicorn.Server(config)):
        yield server


HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: g\r\n\r\n"


def post(fields: bytes, body: bytes, path: bytes = b"/") -> bytes:
    return b"POST " + path + b" HTTP/1.1\r\nHost: g\r\n" + fields + b"\r\n" + body


CHUNKED = b"2\r\nok\r\n0\r\n\r\n"
SMUGGLED = {
    "length-and-chunks": post(b"Content-Length: 48\r\nTransfer-Encoding: chunked\r\n", CHUNKED + HIDDEN),
    "empty-chunks": post(b"Content-Length: 39\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n" + HIDDEN),
    "folded-coding": post(b"Content-Length: 48\r\nTransfer-Encoding:\r\n chunked\r\n", CHUNKED + HIDDEN),
    "repeated-length": post(b"Content-Length: 2\r\nContent-Length: 2\r\n", b"ok" + HIDDEN),
    "listed-length": post(b"Content-Length: 2, 2\r\n", b"ok" + HIDDEN),
    "bare-line-feeds": b"POST / HTTP/1.1\nHost: g\nContent-Length: 2\n\nok" + HIDDEN,
    "pipelined": post(b"Content-Length: 2\r\n", b"ok" + HIDDEN),
    "chunk-extension": post(b"Transfer-Encoding: chunked\r\n", b"2;a=b\r\nok\r\n0\r\n\r\n" + HIDDEN),
    "trailers": post(b"Transfer-Encoding: chunked\r\n", b"2\r\nok\r\n0\r\nX-A: b\r\n\r\n" + HIDDEN),
    "in-a-get": b"GET / HTTP/1.1\r\nHost: g\r\nContent-Length: 2\r\n\r\nok" + HIDDEN,
}


@pytest.mark.parametrize("attack", SMUGGLED.values(), ids=SMUGGLED.keys())
@pytest.mark.by_turns(2)
async def test_a_request_behind_another_is_never_run(strict: Server, lenient: Server, attack: bytes) -> None:
    await lenient.ask(attack)
    assert "/hidden" in [path for path, _ in lenient.seen], "the control does not run it: the attack is broken"

    heard = await strict.ask(attack)

    assert [path for path, _ in strict.seen] in ([], ["/"])
    assert len(re.findall(rb"HTTP/1\.1 \d", heard)) == 1


async def test_ordinary_requests_share_a_connection(strict: Server) -> None:
    """The catalogue would pass on a listener that closes after every request: this one does not."""
    reader, writer = await asyncio.open_connection("127.0.0.1", strict.port)
    for sent in (
        post(b"Content-Length: 2\r\n", b"ok", b"/a"),
        post(b"Transfer-Encoding: chunked\r\n", CHUNKED, b"/b"),
        HIDDEN,
    ):
        for part in (sent[:7], sent[7:20], sent[20:]):
            writer.write(part)
            await writer.drain()
        assert b"served" in await asyncio.wait_for(reader.readuntil(b"served"), GUARD_S)
    writer.close()

    assert strict.seen == [("/a", b"ok"), ("/b", b"ok"), ("/hidden", b"")]


async def test_the_next_request_may_follow_a_body_that_was_not_waited_for(strict: Server) -> None:
    """Answered before its body came, as an expired token is: the connection goes on, what hides in it does not."""
    reader, writer = await asyncio.open_connection("127.0.0.1", strict.port)
    writer.write(post(b"Content-Length: 6\r\n", b"abc", b"/early"))
    await asyncio.wait_for(reader.readuntil(b"served"), GUARD_S)
    writer.write(b"def")
    await writer.drain()
    await asyncio.sleep(0.05)
    writer.write(HIDDEN)
    assert b"served" in await asyncio.wait_for(reader.readuntil(b"served"), GUARD_S)
    writer.close()

    reader, writer = await asyncio.open_connection("127.0.0.1", strict.port)
    writer.write(post(b"Content-Length: 6\r\n", b"abc", b"/early"))
    await asyncio.wait_for(reader.readuntil(b"served"), GUARD_S)
    writer.write(b"def" + HIDDEN)
    assert await asyncio.wait_for(reader.read(), GUARD_S) == b""
    writer.close()

    assert [path for path, _ in strict.seen] == ["/early", "/hidden", "/early"]


async def test_expectations_are_met_when_the_body_is_wanted(strict: Server) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", strict.port)
    writer.write(post(b"Expect: 100-continue\r\nContent-Length: 2\r\n", b""))
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), GUARD_S)).startswith(b"HTTP/1.1 100")
    writer.write(b"ok")
    assert b"served" in await asyncio.wait_for(reader.readuntil(b"served"), GUARD_S)
    writer.close()


@pytest.mark.parametrize("protocol", [b"websocket", b"h2c"])
async def test_upgrades_are_ignored(strict: Server, protocol: bytes) -> None:
    asked = b"GET /a HTTP/1.1\r\nHost: g\r\nConnection: Upgrade\r\nUpgrade: " + protocol + b"\r\n\r\n"

    assert (await strict.ask(asked)).startswith(b"HTTP/1.1 200")
    assert strict.seen == [("/a", b"")]


async def test_http2_is_not_spoken(strict: Server) -> None:
    assert (await strict.ask(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")).startswith(b"HTTP/1.1 505")


async def test_large_heads_are_refused(strict: Server) -> None:
    large = b"GET / HTTP/1.1\r\nHost: g\r\nX-A: " + b"a" * http11.MAX_HEAD_BYTES + b"\r\n\r\n"
    endless = b"GET / HTTP/1.1\r\nHost: g\r\nX-A: " + b"a" * (2 * http11.MAX_HEAD_BYTES)

    for sent in (large, endless):
        assert (await strict.ask(sent)).startswith(b"HTTP/1.1 431")
    assert strict.seen == []


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: g\r\n"])
async def test_a_head_that_does_not_come_frees_the_connection(
    strict: Server, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(http11, "HEAD_WITHIN_S", 0.2)

    assert (await strict.ask(sent)).startswith(b"HTTP/1.1 408")


async def test_a_body_that_does_not_end_frees_the_connection(strict: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http11, "LEFTOVER_WITHIN_S", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", strict.port)

    writer.write(post(b"Content-Length: 600\r\n", b"abc", b"/early"))
    await asyncio.wait_for(reader.readuntil(b"served"), GUARD_S)

    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), GUARD_S) == b""
    writer.close()


async def test_a_broken_body_ends_the_connection_and_not_the_server(strict: Server) -> None:
    heard = await strict.ask(post(b"Transfer-Encoding: chunked\r\n", b"zz\r\nok"))
    again = await strict.ask(HIDDEN)

    assert heard.startswith(b"HTTP/1.1 400")
    assert again.startswith(b"HTTP/1.1 200")
