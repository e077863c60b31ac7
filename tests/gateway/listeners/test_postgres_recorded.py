"""Results that are recorded: whole in the express lane where they are small, and at the pace of their store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.protocols.postgres.server import decode_row_description, encode_row_description
from gateway.upstreams.postgres_execution import KEPT_BYTES
from tests.gateway.listeners.harness import Gateway
from tests.gateway.listeners.raw import SYNC, RawClient, errors, query, rows
from tests.gateway.listeners.test_postgres_express import NAMES, SSN, run
from tests.gateway.listeners.test_postgres_quick import Watched, watched
from tests.gateway.listeners.test_postgres_steps import Watched as WatchedSteps
from tests.gateway.listeners.test_postgres_steps import kept, steps, watched_steps

__all__ = ["watched", "watched_steps"]  # fixtures

LONG = f"select repeat('x', {KEPT_BYTES}) from people where id = 7"


def recorded(gateway: Gateway) -> list[bytes]:
    """What was kept of each result, in the order in which they began, as the log names it."""
    named = {entry.statement_id: entry.body["recording"] for entry in gateway.record.of("statement.completed")}
    found = []
    for entry in gateway.record.of("statement.authorised"):
        recording = gateway.sink.by_statement[entry.statement_id]
        assert named.pop(entry.statement_id) == recording.digest
        found.append(bytes(recording.data))
    assert not named
    return found


def shown(heard: list[tuple[str, bytes]]) -> bytes:
    """The description and the rows among what a client heard."""
    described = [encode_row_description(decode_row_description(body)) for kind, body in heard if kind == "T"]
    return b"".join([*described, *(b"D%b%b" % ((len(body) + 4).to_bytes(4, "big"), body) for kind, body in heard
                                   if kind == "D")])  # fmt: skip


@pytest.mark.parametrize("text", [SSN, NAMES, "select id from people where id < 0"])
@pytest.mark.parametrize("ask", [query, run])
async def test_small_result_is_kept_as_it_was_shown(
    gateway: Gateway, watched: type[Watched], text: str, ask: Any
) -> None:
    raw = await RawClient.connect(gateway)

    heard = [await raw.ask(ask(text)) for _ in range(4)]

    assert watched.answers[-1]
    assert recorded(gateway) == [shown(one) for one in heard]
    assert len(set(gateway.sink.by_statement)) == 4


@pytest.fixture
async def open_gateway() -> AsyncIterator[Gateway]:
    """Nothing is masked."""
    running = await Gateway(phi=False, masking=False).start()
    yield running
    await running.stop()


async def test_long_result_is_recorded_by_an_ordinary_execution(open_gateway: Gateway, watched: type[Watched]) -> None:
    gateway = open_gateway
    raw = await RawClient.connect(gateway)

    heard = [await raw.ask(query(LONG)) for _ in range(4)]

    assert watched.requests[-1]
    assert not watched.answers[-1]
    assert recorded(gateway) == [shown(one) for one in heard]
    assert len(shown(heard[0])) > KEPT_BYTES


@pytest.mark.parametrize("text", [SSN, LONG])
async def test_results_of_a_pipeline_are_kept_one_by_one(
    open_gateway: Gateway, watched_steps: type[WatchedSteps], text: str
) -> None:
    gateway = open_gateway
    raw = await RawClient.connect(gateway)
    await raw.ask(kept(text.replace("id = 7", "id = $1"), "k") + SYNC)
    for _ in range(2):
        await raw.ask(steps("k", 7) + SYNC)
    gateway.record.entries.clear()

    heard = await raw.ask(steps("k", 7, 8, -1, 7) + SYNC)

    assert watched_steps.served >= 4
    ends = recorded(gateway)
    described, lines = ends[2], rows(heard)
    assert [end.removeprefix(described) != b"" for end in ends] == [True, True, False, True]
    assert b"".join(end.removeprefix(described) for end in ends) == shown([one for one in heard if one[0] == "D"])
    assert len(lines) == 3


async def test_statements_wait_for_room_and_no_longer(gateway: Gateway, watched: type[Watched]) -> None:
    raw = await RawClient.connect(gateway)
    for _ in range(3):
        await raw.ask(query(SSN))
    gateway.sink.has_room, gateway.sink.crowded = False, True
    before = len(gateway.record.of("statement.authorised"))

    raw.writer.write(query(SSN))
    await asyncio.sleep(0.3)
    assert len(gateway.record.of("statement.authorised")) == before  # it was not even recorded: nothing ran
    assert not watched.requests[-1]
    gateway.sink.has_room, gateway.sink.crowded = True, False

    assert len(rows(await raw.until_ready())) == 1
    await raw.ask(query(SSN))
    assert watched.requests[-1]


async def test_who_waits_for_room_can_be_ended(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.listeners.postgres_session.ROOM_LOOK_S", 0.05)
    raw = await RawClient.connect(gateway)
    await raw.ask(query(SSN))
    gateway.sink.has_room, gateway.sink.crowded = False, True
    before = len(gateway.record.of("statement.authorised"))
    raw.writer.write(query(SSN))
    await asyncio.sleep(0.1)
    (live,) = gateway.registry.live()

    await asyncio.wait_for(gateway.registry.kill(live.context.session_id), 60)

    async with asyncio.timeout(60):
        while not gateway.record.of("session.closed"):
            await asyncio.sleep(0.01)
    assert len(gateway.record.of("statement.authorised")) == before


@pytest.mark.parametrize("ask", [query, run])
async def test_nothing_runs_whose_result_could_not_be_kept(gateway: Gateway, ask: Any) -> None:
    """The lane, what is remembered and what is new alike; what returns no rows leaves nothing to keep."""
    raw = await RawClient.connect(gateway)
    for _ in range(3):
        await raw.ask(ask(SSN))
    gateway.sink.healthy = gateway.sink.has_room = False
    before = len(gateway.record.of("statement.authorised"))

    await raw.ask(query("rollback"))
    refused = [errors(await raw.ask(ask(text))) for text in (SSN, SSN, NAMES)]

    assert [one[0]["C"] for one in refused] == ["42501"] * 3
    assert {entry.body["code"] for entry in gateway.record.of("statement.denied")} == {"record-unavailable"}
    assert len(gateway.record.of("statement.authorised")) == before + 1  # what returns no rows
    gateway.sink.healthy = gateway.sink.has_room = True
    assert len(rows(await raw.ask(ask(SSN)))) == 1


async def test_connection_that_keeps_no_results_waits_for_nobody(watched: type[Watched]) -> None:
    gateway = await Gateway(recording="metadata").start()
    try:
        raw = await RawClient.connect(gateway)
        gateway.sink.has_room, gateway.sink.crowded = False, True
        for _ in range(3):
            await raw.ask(query(SSN))

        assert watched.answers[-1]
        assert not gateway.sink.by_statement
        assert {entry.body["recording"] for entry in gateway.record.of("statement.completed")} == {""}
    finally:
        await gateway.stop()


async def test_session_ends_in_the_log_when_its_results_are_stored(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a killed process could not store is looked for in the sessions it had not closed."""
    told: list[Any] = []
    monkeypatch.setattr(gateway.sink, "when_stored", told.append)
    raw = await RawClient.connect(gateway)
    await raw.ask(query(SSN))

    raw.close()
    async with asyncio.timeout(60):
        while not told:
            await asyncio.sleep(0.01)
    before = gateway.record.of("session.closed")
    told[0]()

    assert before == []
    assert len(gateway.record.of("session.closed")) == 1
