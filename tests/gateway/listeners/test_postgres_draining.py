"""A process that is told to stop: what clients have begun finishes, nothing else begins."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import psycopg
import pytest

from gateway.listeners import postgres_express
from gateway.session.draining import drained
from tests.gateway.listeners.harness import Gateway, direct_dsn
from tests.gateway.listeners.raw import SYNC, RawClient, bind, errors, execute, parse, query, rows
from tests.gateway.listeners.test_postgres_express import NAMES, run
from tests.gateway.listeners.test_postgres_quick import Watched, watched
from tests.gateway.listeners.test_postgres_reused import watching

__all__ = ["watched"]  # a fixture


@pytest.fixture
async def plain_gateway() -> AsyncIterator[Gateway]:
    """Nothing of it is recorded but that it ran, as the compiled lane serves."""
    running = await Gateway(recording="metadata").start()
    yield running
    await running.stop()


def draining(gateway: Gateway, *, within_s: float = 60, hurry: asyncio.Event | None = None) -> asyncio.Task[bool]:
    gateway.listener.refuse_new()
    waiting = drained(gateway.registry, answering=lambda: 0, within_s=within_s, hurry=hurry or asyncio.Event())
    return asyncio.create_task(waiting)


async def begun(gateway: Gateway, count: int = 1) -> None:
    async with asyncio.timeout(60):
        while len(gateway.record.of("statement.authorised")) < count:
            await asyncio.sleep(0.01)


async def test_idle_session_ends_at_once(gateway: Gateway) -> None:
    raw = await RawClient.connect(gateway)
    await raw.ask(query("select 1"))

    assert await draining(gateway)

    assert errors([await raw.receive()])[0]["C"] == "57P01"
    assert gateway.record.of("session.closed")[0].body["reason"] == "drained"


async def test_running_statement_completes_and_is_recorded(gateway: Gateway) -> None:
    raw = await RawClient.connect(gateway)
    raw.writer.write(query("select 7, pg_sleep(1)"))
    await begun(gateway)
    ending = draining(gateway)
    got = await raw.until_ready()

    assert rows(got) == [[b"7", b""]]
    assert errors([await raw.receive()])[0]["C"] == "57P01"
    assert await ending
    assert gateway.record.of("statement.completed")[0].body["status"] == "completed"


@pytest.mark.parametrize("asked", [query, run])
@pytest.mark.parametrize("compiled", [True, False])
async def test_session_ends_with_what_its_lane_runs(
    plain_gateway: Gateway,
    watched: type[Watched],
    monkeypatch: pytest.MonkeyPatch,
    asked: Callable[[str], bytes],
    compiled: bool,
) -> None:
    """Told once: nobody else wakes it when the answer has come."""
    if not compiled:
        monkeypatch.setattr(postgres_express, "QuickLane", None)
    raw = (await watching(plain_gateway, watched))[0] if compiled else await RawClient.connect(plain_gateway)
    for _ in range(5):
        await raw.ask(asked(NAMES))
    with psycopg.connect(direct_dsn()) as direct:
        direct.execute("lock table people")
        raw.writer.write(asked(NAMES))
        await begun(plain_gateway, 6)
        assert plain_gateway.registry.retire() == 1
        await asyncio.sleep(0.1)
        direct.rollback()
    heard = await raw.until_ready()

    assert len(rows(heard)) == 3
    assert errors([await raw.receive()])[0]["C"] == "57P01"
    assert watched.requests[-1:] == [True] * compiled


async def test_open_transaction_may_be_committed(gateway: Gateway) -> None:
    raw = await RawClient.connect(gateway)
    await raw.ask(query("begin"))
    ending = draining(gateway)
    await asyncio.sleep(0.3)
    inside = await raw.ask(parse("select 5"), bind(), execute(), SYNC)
    await raw.ask(query("commit"))

    assert rows(inside) == [[b"5"]]
    assert errors([await raw.receive()])[0]["C"] == "57P01"
    assert await ending


async def test_client_that_never_rests_is_ended_between_statements(gateway: Gateway) -> None:
    raw = await RawClient.connect(gateway)
    answered, ending = 0, None
    last: list[tuple[str, bytes]] = []
    async with asyncio.timeout(60):
        while not errors(last):
            raw.writer.write(query("select 3"))
            last = await raw.until("Z", "E")
            answered += not errors(last)
            ending = ending or (draining(gateway) if answered == 50 else None)

    assert ending is not None
    assert await ending
    assert errors(last)[0]["C"] == "57P01"
    completed = [entry.body["status"] for entry in gateway.record.of("statement.completed")]
    assert completed == ["completed"] * answered, "what the client was not told did not run either"


async def test_time_and_hurry_bound_the_wait(gateway: Gateway) -> None:
    raw = await RawClient.connect(gateway)
    raw.writer.write(query("select pg_sleep(60)"))
    await begun(gateway)
    began, hurry = time.monotonic(), asyncio.Event()

    assert not await draining(gateway, within_s=0.3)
    second = draining(gateway, within_s=60, hurry=hurry)
    hurry.set()
    assert not await second

    assert time.monotonic() - began < 50  # not the minute
    await gateway.listener.close()
    assert errors(await raw.until("E"))[0]["C"] == "57P01"
    assert gateway.record.of("statement.completed")[0].body["status"] == "cancelled"


async def test_nobody_new_is_let_in(gateway: Gateway) -> None:
    half_in = await asyncio.open_connection("127.0.0.1", gateway.listener.port)
    dsn = gateway.dsn()
    assert await draining(gateway)

    with pytest.raises(psycopg.OperationalError):
        await psycopg.AsyncConnection.connect(dsn)
    half_in[1].close()


async def test_handshake_under_way_is_sent_elsewhere(gateway: Gateway) -> None:
    authenticate = gateway.door.authenticate

    async def while_it_stops(**words: str) -> object:
        gateway.listener.refuse_new()
        return await authenticate(**words)

    gateway.door.authenticate = while_it_stops  # type: ignore[method-assign,assignment]

    with pytest.raises(psycopg.OperationalError) as refused:
        await psycopg.AsyncConnection.connect(gateway.dsn())

    assert "shutting down; connect again" in str(refused.value)
    assert not gateway.record.of("session.opened")
