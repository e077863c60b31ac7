"""The relay's door as anybody on its port finds it: nobody but the control plane is listened to for long."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from gateway.listeners import relay_endpoint
from gateway.listeners.http import build_app, http_server
from gateway.listeners.relay_endpoint import RelayEndpoint, relay_routes
from tests.gateway.listeners.test_http11 import Server, serving

KEY = "the-key-of-the-control-plane"
CALLS = ["statements", "statements/7/resume", "sight", "reanalyses"]


@pytest.fixture
async def door() -> AsyncIterator[Server]:
    endpoint = RelayEndpoint(relay=None, services=None, verifier=None, relay_key=KEY)  # type: ignore[arg-type]
    made = http_server(build_app(relay_routes(endpoint)))
    made.config.port = 0
    async with serving(Server(), made) as server:
        yield server


def begun(call: str, key: str) -> bytes:
    """A request whose body does not come."""
    head = f"POST /relay/v1/{call} HTTP/1.1\r\nHost: x\r\nX-Hoopweb-Relay: {key}\r\nContent-Length: 16000000\r\n\r\n"
    return head.encode() + b"{"


async def answer_to(door: Server, request: bytes) -> bytes:
    """Its status line and headers; the request is never gone on with."""
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    writer.write(request)
    try:
        return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
    finally:
        writer.close()


@pytest.mark.parametrize("key", ["", "guessed"])
@pytest.mark.parametrize("call", CALLS)
async def test_who_is_not_the_control_plane_is_refused_before_any_body(door: Server, call: str, key: str) -> None:
    assert b" 403 " in await answer_to(door, begun(call, key))


@pytest.mark.parametrize("call", CALLS)
async def test_body_that_does_not_come_is_not_waited_for(
    door: Server, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_endpoint, "BODY_WITHIN_S", 0.1)

    assert b" 408 " in await answer_to(door, begun(call, KEY))


@pytest.mark.parametrize("call", CALLS)
async def test_control_plane_that_leaves_amid_its_body_is_one_line_of_the_log(
    door: Server, call: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    _, writer = await asyncio.open_connection("127.0.0.1", door.port)
    writer.write(begun(call, KEY) + b'"statement": "select 987-65-4321')
    await writer.drain()
    await asyncio.sleep(0.1)

    writer.close()
    async with asyncio.timeout(60):
        while not caplog.records:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)

    assert [(record.name, record.exc_info) for record in caplog.records] == [("gateway.listeners.relay_endpoint", None)]
    assert "987-65" not in caplog.text
