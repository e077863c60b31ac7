"""The service's API: paths that are quoted or never asked for, and a service that does not answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import MappingProxyType

import pytest

from gateway.domain.snapshot import ConnectionSpec
from gateway.upstreams import bigquery_api
from gateway.upstreams.bigquery_api import BigQueryApi, path_of
from gateway.upstreams.registry import UpstreamFailed


def test_segments_are_quoted_whole() -> None:
    assert path_of("projects", "p", "datasets", "a/../b?x#y") == "/projects/p/datasets/a%2F..%2Fb%3Fx%23y"


@pytest.mark.parametrize("segment", ["", ".", ".."])
def test_dot_segments_name_nothing(segment: str) -> None:
    """An HTTP client resolves them: `datasets/d/tables/..` would describe the dataset."""
    with pytest.raises(UpstreamFailed):
        path_of("projects", "p", "datasets", "d", "tables", segment)


class Service:
    """One that takes every request and answers none, or each at once with an empty object."""

    def __init__(self, *, answers: bool) -> None:
        self.answers = answers
        self.asked = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                self.asked += 1
                if self.answers:
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    def spec(self, name: str) -> ConnectionSpec:
        settings = {"api_endpoint": f"http://127.0.0.1:{self.port}", "credentials": "anonymous"}
        return ConnectionSpec(name=name, kind="bigquery", settings=MappingProxyType(settings))


@contextlib.asynccontextmanager
async def service(*, answers: bool) -> AsyncIterator[Service]:
    made = Service(answers=answers)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    async with server:
        yield made


async def no_secret(_: ConnectionSpec) -> dict[str, str]:
    return {}


@pytest.fixture
async def slow() -> AsyncIterator[Service]:
    async with service(answers=False) as made:
        yield made


@pytest.fixture
async def honest() -> AsyncIterator[Service]:
    async with service(answers=True) as made:
        yield made


@pytest.fixture
async def api(slow: Service, honest: Service) -> AsyncIterator[BigQueryApi]:
    """With as many requests under way at the slow service as one connection may have."""
    made = BigQueryApi(no_secret)
    waiting = [asyncio.create_task(made.get(slow.spec("slow"), "/x")) for _ in range(100)]
    while slow.asked < len(waiting):
        await asyncio.sleep(0.01)
    yield made
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await made.close()


async def test_a_service_that_does_not_answer_keeps_no_other_connection_waiting(
    api: BigQueryApi, honest: Service
) -> None:
    assert await asyncio.wait_for(api.get(honest.spec("honest"), "/x"), 25) == {}


async def test_it_is_not_asked_without_end(api: BigQueryApi, slow: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bigquery_api, "PLACE_WITHIN_S", 0.1, raising=False)

    with pytest.raises(UpstreamFailed, match="try again"):
        await api.get(slow.spec("slow"), "/x")

    assert slow.asked == 100


async def test_whoever_gives_up_leaves_its_place(
    api: BigQueryApi, honest: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bigquery_api, "MAX_AT_ONCE", 1)
    spec = honest.spec("honest")

    for _ in range(3):
        given_up = asyncio.create_task(api.get(spec, "/x"))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)

    assert await api.get(spec, "/x") == {}
