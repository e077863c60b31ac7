"""Syncs that wait for others to share them: when, for how many, and never for good."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import audit.gathering
from audit.domain.journal import Journal
from audit.gathering import MOST_S, Gathering
from audit.shared_sync import SharedSync

compiled = pytest.mark.skipif(audit.gathering._Alarm is None, reason="no C compiler or no Cython on this machine")
LONG_S = 600.0  # an alarm that no test lives to hear


@pytest.fixture
async def rung() -> asyncio.Event:
    return asyncio.Event()


@pytest.fixture
async def gathering(rung: asyncio.Event) -> AsyncIterator[Gathering]:
    made = Gathering(rung.set)
    yield made
    made.close()


@pytest.fixture
async def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal", journal_id="j" * 36, key=bytes(32), key_id=bytes(8))


@pytest.fixture
async def sync(journal: Journal) -> AsyncIterator[SharedSync]:
    """One that has synced once: what comes seldom lies behind it."""
    made = SharedSync(journal)
    journal.append(b"zero")
    assert await reached(made)
    yield made
    made._gathering.most_s = MOST_S
    if made._enough:
        made._gathered()
    await made.close()


def expecting(sync: SharedSync, sessions: int, *, within_s: float) -> None:
    sync._gathering.most_s = within_s
    sync._gathering.learn(told=sessions, waiting=0, took_s=8 * within_s)


def reached(sync: SharedSync) -> asyncio.Future[bool]:
    told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    sync.when_reached(told.set_result)
    return told


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many waited for each that was begun."""
    begun: list[int] = []
    order = SharedSync._order

    def counted(self: SharedSync, file: int) -> None:
        begun.append(len(self._in_flight))
        order(self, file)

    monkeypatch.setattr(SharedSync, "_order", counted)
    return begun


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@compiled
async def test_it_waits_for_those_who_were_there_last_and_no_longer(gathering: Gathering, rung: asyncio.Event) -> None:
    assert gathering.begin(1) == 0  # nobody was there yet

    gathering.learn(told=3, waiting=1, took_s=0.001)

    assert gathering.begin(1) == 4
    await asyncio.wait_for(rung.wait(), 60)


@compiled
async def test_whoever_is_alone_waits_for_nobody(gathering: Gathering) -> None:
    gathering.learn(told=5, waiting=0, took_s=0.001)
    gathering.learn(told=1, waiting=0, took_s=0.001)

    assert gathering.begin(1) == 0


@compiled
async def test_nobody_waits_where_all_are_there(gathering: Gathering) -> None:
    gathering.learn(told=2, waiting=1, took_s=0.001)

    assert gathering.begin(3) == gathering.begin(4) == 0


@compiled
async def test_stopped_it_does_not_ring(gathering: Gathering, rung: asyncio.Event) -> None:
    gathering.learn(told=2, waiting=0, took_s=0.001)
    gathering.begin(1)

    gathering.stop()
    await asyncio.sleep(0.05)

    assert not rung.is_set()


@compiled
async def test_a_slow_disk_is_not_waited_for_as_long_as_it_takes(
    gathering: Gathering, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    monkeypatch.setattr(audit.gathering, "_Alarm", lambda: Ringing(asked))
    gathering.learn(told=2, waiting=0, took_s=80.0)

    gathering.begin(1)

    assert asked == [MOST_S]


class Ringing:
    """An alarm that only notes what it is set to."""

    def __init__(self, asked: list[float]) -> None:
        self.file, self._other = os.pipe()
        self._asked = asked

    def set(self, seconds: float) -> None:
        self._asked.append(seconds)

    def rang(self) -> bool:
        return False

    def close(self) -> None:
        os.close(self.file)
        os.close(self._other)


async def test_where_there_can_be_no_alarm_nobody_waits(
    gathering: Gathering, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> None:
        raise OSError(24, "canary-4711")

    monkeypatch.setattr(audit.gathering, "_Alarm", refuse)
    gathering.learn(told=2, waiting=0, took_s=0.001)

    assert [gathering.begin(1), gathering.begin(1)] == [0, 0]
    assert len(caplog.records) == 1
    assert "canary-4711" not in caplog.text


@compiled
async def test_one_sync_serves_all_who_were_waited_for(sync: SharedSync, syncs: list[int], journal: Journal) -> None:
    expecting(sync, 3, within_s=LONG_S)
    waiters = []
    for _ in range(3):
        assert syncs == []
        journal.append(b"entry")
        waiters.append(reached(sync))
        await turns()

    assert await asyncio.wait_for(asyncio.gather(*waiters), 60) == [True] * 3
    assert syncs == [3]


@compiled
async def test_who_is_waited_for_in_vain_is_not_expected_again(
    sync: SharedSync, syncs: list[int], journal: Journal
) -> None:
    expecting(sync, 3, within_s=0.001)
    for _ in range(2):
        journal.append(b"entry")
        assert await asyncio.wait_for(reached(sync), 60)

    assert syncs == [1, 1]
    assert sync._gathering.begin(1) == 0


@compiled
async def test_an_alarm_that_cannot_be_set_keeps_nobody_waiting(
    sync: SharedSync, syncs: list[int], journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    expecting(sync, 3, within_s=5_000.0)  # more than it can be set to
    journal.append(b"entry")

    assert await asyncio.wait_for(reached(sync), 60)
    assert syncs == [1]
    assert "does not wait for others: error=ValueError" in caplog.text


@compiled
async def test_what_comes_with_the_last_one_goes_with_it(sync: SharedSync, syncs: list[int], journal: Journal) -> None:
    expecting(sync, 2, within_s=LONG_S)
    journal.append(b"entry")
    first = reached(sync)
    await turns()

    others = [reached(sync) for _ in range(3)]  # the first of them is enough; all come in one turn

    assert await asyncio.wait_for(asyncio.gather(first, *others), 60) == [True] * 4
    assert syncs == [4]


@compiled
async def test_one_that_is_closed_tells_whoever_waits(sync: SharedSync, journal: Journal) -> None:
    expecting(sync, 3, within_s=0.001)
    journal.append(b"entry")
    waiting = reached(sync)
    await turns()

    await asyncio.wait_for(sync.close(), 60)

    assert waiting.result() is True


async def test_uncompiled_it_begins_at_once(
    sync: SharedSync, syncs: list[int], journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit.gathering, "_Alarm", None)
    if sync._gathering._alarm is not None:
        sync._gathering._alarm = None
    expecting(sync, 3, within_s=LONG_S)
    journal.append(b"entry")

    assert await asyncio.wait_for(reached(sync), 60)
    assert syncs == [1]


async def test_one_that_failed_tells_so_those_who_gathered(
    sync: SharedSync, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    expecting(sync, 2, within_s=LONG_S)
    first = reached(sync)
    await turns()
    failing: Any = lambda *_: (_ for _ in ()).throw(OSError(5, "x"))  # noqa: E731
    monkeypatch.setattr(journal, "begin_sync", failing)

    second = reached(sync)

    assert await asyncio.wait_for(asyncio.gather(first, second), 60) == [False, False]
