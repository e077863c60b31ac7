"""Servers that are not ours answer with more than was asked for: packed bombs, endless bodies, drops of a body."""

from __future__ import annotations

import contextlib
import gzip
import threading
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType

import httpx
import pytest
import zstandard

from audit.foreign_answers import AnswerRefused, read_plain
from audit.sinks.sending import NotDelivered, Way, post
from audit.sinks.targets import parse_networks, parse_target
from gateway.domain.jwks import KeysUnavailable, fetch_key_set
from gateway.domain.snapshot import ConnectionSpec
from gateway.upstreams.bigquery_api import BigQueryApi, new_client
from gateway.upstreams.google_credentials import GoogleCredentials
from gateway.upstreams.registry import UpstreamFailed

Ask = Callable[[str], Awaitable[None]]
UNPACKED = 32 * 1024 * 1024
KEPT = 8 * 1024 * 1024  # of a bomb that was not unpacked nothing is left but pieces off the wire
BOMBS: dict[str, Callable[[bytes], bytes]] = {
    "zstd": zstandard.compress,
    "gzip, gzip": lambda content: gzip.compress(gzip.compress(content, 1)),
}


@pytest.fixture(scope="module", params=BOMBS)
def bomb(request: pytest.FixtureRequest) -> tuple[str, bytes]:
    """How it is packed, and what goes over the wire."""
    return request.param, BOMBS[request.param](bytes(UNPACKED))


class Hostile:
    """Answers everything with `body`, said to be packed as `coding`, and keeps what it was asked to pack in."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.coding = ""
        self.body = b"{}"
        self.asked: list[str | None] = []


@pytest.fixture
def hostile() -> Iterator[Hostile]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            there.asked.append(self.headers.get("Accept-Encoding"))
            self.send_response(200)
            self.send_header("Metadata-Flavor", "Google")
            if there.coding:
                self.send_header("Content-Encoding", there.coding)
            self.send_header("Content-Length", str(len(there.body)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(there.body)

        do_POST = do_GET

        def log_message(self, format: str, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    there = Hostile(server.server_port)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield there
    server.shutdown()
    server.server_close()


async def no_secret(_: ConnectionSpec) -> dict[str, str]:
    return {}


def spec(**settings: str) -> ConnectionSpec:
    return ConnectionSpec(name="warehouse", kind="bigquery", settings=MappingProxyType(settings))


async def ask_bigquery(url: str) -> None:
    api = BigQueryApi(no_secret)
    try:
        await api.get(spec(api_endpoint=url, credentials="anonymous"), "/projects/p/datasets")
    finally:
        await api.close()


async def ask_token(url: str) -> None:
    async with new_client() as client:
        await GoogleCredentials(no_secret, client, metadata_url=url).authorization(spec(credentials="metadata"))


async def ask_keys(url: str) -> None:
    fetch_key_set(url)


async def ask_receiver(url: str) -> None:
    post(Way(parse_target(url), parse_networks(["127.0.0.0/8"])), b"{}", content_type="application/json")


DOORS = [
    (ask_bigquery, UpstreamFailed),
    (ask_token, UpstreamFailed),
    (ask_keys, KeysUnavailable),
    (ask_receiver, NotDelivered),
]


async def kept_while_refusing(ask: Ask, url: str, refused: type[Exception]) -> int:
    """The most bytes this process held at once while it asked, and refused the answer."""
    tracemalloc.start()
    try:
        with pytest.raises(refused):
            await ask(url)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return peak


@pytest.mark.parametrize(("ask", "refused"), DOORS)
async def test_no_bomb_is_unpacked(
    hostile: Hostile, bomb: tuple[str, bytes], ask: Ask, refused: type[Exception]
) -> None:
    hostile.coding, hostile.body = bomb

    peak = await kept_while_refusing(ask, hostile.url, refused)

    assert peak < KEPT
    assert hostile.asked == ["identity"]


@pytest.mark.parametrize(("ask", "refused"), DOORS[1:])
async def test_no_more_is_read_than_such_an_answer_has(hostile: Hostile, ask: Ask, refused: type[Exception]) -> None:
    hostile.body = bytes(2 * KEPT)

    peak = await kept_while_refusing(ask, hostile.url, refused)

    assert peak < KEPT


def test_a_server_that_trickles_is_left() -> None:
    """A drop now and then is an answer in time, each by itself."""
    with pytest.raises(AnswerRefused, match="not whole within 0 s"):
        read_plain(httpx.Response(200, stream=Drops()), max_bytes=1000, within_s=0)


class Drops(httpx.SyncByteStream):
    def __iter__(self) -> Iterator[bytes]:
        return iter([b"."] * 100)
