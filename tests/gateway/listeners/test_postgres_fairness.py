"""One bulk read does not starve interactive sessions: its rows come in bounded pieces, with turns in between."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from gateway.upstreams.postgres_execution import MASKED_TURN_BYTES, Execution
from gateway.upstreams.postgres_turns import Turns
from tests.gateway.listeners.harness import Gateway
from tests.gateway.listeners.raw import RawClient, kinds, query, rows

EVERYBODY = "select id, ssn from people a cross join generate_series(1, 30) n"
# Long enough that a machine which is busy with other things still answers somebody before its end.
EVERYBODY_AGAIN_AND_AGAIN = EVERYBODY.replace("30", "200")


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of rows handled at once, in order."""
    sizes: list[int] = []
    take_rows = Execution.take_rows

    def counted(execution: Execution, data: bytes, at: int, end: int) -> tuple[int, bytes]:
        sizes.append(end - at)
        return take_rows(execution, data, at, end)

    monkeypatch.setattr(Execution, "take_rows", counted)
    return sizes


async def test_masked_rows_are_taken_in_bounded_pieces(gateway: Gateway, taken: list[int]) -> None:
    raw = await RawClient.connect(gateway)

    heard = await raw.ask(query(EVERYBODY))

    assert len(rows(heard)) == 30_000
    assert {row[1] for row in rows(heard)} == {b"[REDACTED]"}
    assert max(taken) <= MASKED_TURN_BYTES
    assert sum(taken) > 10 * MASKED_TURN_BYTES


async def test_others_are_served_between_the_pieces(
    gateway: Gateway, taken: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted in turns: from asking to the answer, the bulk read gets a few pieces, not the rest of its result."""
    bulk, other = await RawClient.connect(gateway), await RawClient.connect(gateway)
    await other.ask(query("select 1"))
    reading = asyncio.create_task(bulk.ask(query(EVERYBODY_AGAIN_AND_AGAIN)))
    while not taken:
        await asyncio.sleep(0)
    begun = len(taken)

    assert kinds(await other.ask(query("select 1"))) == "TDCZ"
    between = len(taken) - begun
    heard = await reading

    assert len(rows(heard)) == 200_000
    assert between < len(taken) - begun
    assert gateway.record.of("statement.completed")[-1].body["rows"] == 200_000


async def test_upstream_that_goes_away_leaves_nothing_unhandled() -> None:
    handled: list[bytes] = []
    flow: list[str] = []

    class Relayed:
        turn_bytes = 20

    frames = b"".join(b"D\0\0\0\x0c12345678" for _ in range(1000))
    turns = Turns(Relayed(), handle=handled.append, pause=lambda: flow.append("pause"),  # type: ignore[arg-type]
                  resume=lambda: flow.append("resume"))  # fmt: skip

    turns.take(frames)
    turns.take(frames[:13])
    await asyncio.sleep(0)
    before = list(handled)
    turns.finish()
    await asyncio.sleep(0)

    assert [len(piece) for piece in before] == [13, 13]
    assert b"".join(handled) == frames + frames[:13]
    assert flow == ["pause"]


async def test_pieces_are_whole_frames_and_reading_goes_on_after_the_last() -> None:
    handled: list[bytes] = []
    flow: list[str] = []

    class Relayed:
        turn_bytes = 8 * 1024

    def frames() -> Iterator[bytes]:
        for size in (10, 20_000, 300, 5_000, 5_000, 12):
            yield b"D" + (size + 4).to_bytes(4, "big") + b"x" * size

    data = b"".join(frames())
    turns = Turns(Relayed(), handle=handled.append, pause=lambda: flow.append("pause"),  # type: ignore[arg-type]
                  resume=lambda: flow.append("resume"))  # fmt: skip

    turns.take(data)
    while flow != ["pause", "resume"]:
        await asyncio.sleep(0)

    assert [len(piece) for piece in handled] == [15, 20_005, 305 + 5_005, 5_005 + 17]
    assert b"".join(handled) == data
