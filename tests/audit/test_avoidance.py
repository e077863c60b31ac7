"""A journal whose disk is full: what is about to happen goes to the log meanwhile, none is refused, none is lost."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from functools import partial

import pytest
from django.db import connection, transaction

from audit.answers import RecordUnavailable
from audit.domain.entry import Entry
from audit.domain.integrity import check_chain
from audit.domain.journal import Journal
from audit.domain.keys import log_keys
from audit.domain.template import Filling, Template
from audit.models import LogEntry
from audit.sequencer import SequencerFailed
from audit.writer import AuditWriter
from tests.audit.threads import in_thread

pytestmark = pytest.mark.django_db(transaction=True)
LONG = "x" * (9 << 10)  # no segment holds two of them


def entry(number: int, *, durability: str = "os", kind: str = "statement.authorised", text: str = "select 1") -> Entry:
    return Entry(kind, {"connection": "clinic"}, "s1", f"a{number}", {"statement": text}, durability=durability)


@pytest.fixture
async def full(tmp_path, monkeypatch):
    """A writer whose journal holds one long entry, and cannot make the segment that the next one needs."""
    monkeypatch.setattr("audit.process_journal.Journal", partial(Journal, segment_bytes=16 << 10))
    writer = AuditWriter(gateway_id="g1", journal_root=tmp_path)
    await writer.start()
    (tmp_path / writer.journal_id / "spare").mkdir()
    assert writer.append_now(entry(0, text=LONG)) is not None
    yield writer
    if not writer._closing:
        has_room_again(writer)
        await writer.close()


def has_room_again(writer: AuditWriter) -> None:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        (writer._journal.directory / "spare").rmdir()


@pytest.mark.parametrize("durability", ["os", "disk"])
async def test_what_the_journal_does_not_take_the_log_does(full, durability):
    first = await full.append(entry(1, durability=durability, text=LONG))
    full.append_later(entry(1, durability=durability, kind="statement.completed", text=LONG))
    # Nothing new begins before the log has what happened; it waits for the log, not for room in a journal without any.
    second = await full.append(entry(2, durability=durability, text=LONG))
    third, answers = entry(3, durability=durability, text=LONG), []
    full.append_soon(Template(third), Filling("a3", sensitive=third.sensitive), lambda: third, answers.append)
    while not answers:
        await asyncio.sleep(0.01)
    has_room_again(full)
    await full.close()

    assert [first.durability, second.durability, answers[0].durability] == ["database"] * 3
    found = await in_thread(lambda: list(LogEntry.objects.order_by("seq").values_list("statement_id", flat=True)))
    assert found == ["a0", "a1", "a1", "a2", "a3"]
    assert await in_thread(lambda: check_chain(log_keys())) == []


async def test_doors_that_do_not_wait_leave_it_to_those_that_do(full):
    assert full.append_now(entry(1, text=LONG)) is None

    second = entry(2, text=LONG)
    template, filling = Template(second), Filling("a2", sensitive=second.sensitive)
    assert full.append_like(template, filling) is None
    assert full.append_like_later(template, filling) is False


async def test_what_waited_for_room_goes_to_the_log(full, monkeypatch):
    monkeypatch.setattr("audit.writer.MAX_BEHIND", 0)
    waiting = asyncio.create_task(full.append(entry(1, text=LONG)))
    await asyncio.sleep(0)
    assert len(full._room.waiting) == 1  # a control

    monkeypatch.undo()
    full._admit()

    assert (await waiting).durability == "database"


async def test_journal_is_used_again_when_there_is_room(full):
    assert (await full.append(entry(1, text=LONG))).durability == "database"
    has_room_again(full)

    async with asyncio.timeout(60):
        while (await full.append(entry(2, text=LONG))).durability != "os":
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("durability", ["os", "disk"])
async def test_full_journal_beside_a_locked_log_refuses_once_it_is_known(full, durability):
    """Each used to wait ten seconds for the journal, and ten more for the log."""
    locked, done = threading.Event(), threading.Event()

    def hold_the_log():
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("LOCK audit_logstate, audit_loghead")
            locked.set()
            done.wait(60)

    holding = asyncio.create_task(in_thread(hold_the_log))
    await asyncio.to_thread(locked.wait, 30)
    try:
        full.append_later(entry(0, durability=durability, kind="statement.completed", text=LONG))
        first = await _refused(full, entry(1, durability=durability, text=LONG))
        others = [await _refused(full, entry(number, durability=durability, text=LONG)) for number in range(2, 8)]
        healthy = full.healthy
    finally:
        done.set()
        await holding
    has_room_again(full)
    async with asyncio.timeout(60):
        while not full.healthy or full.behind or full._backlog.owed:
            await asyncio.sleep(0.05)
    assert (await full.append(entry(9, durability=durability))).durability == durability

    assert first < 9
    assert sum(others) < 5
    assert not healthy
    await full.close()
    assert await in_thread(lambda: check_chain(log_keys())) == []


async def test_full_journal_beside_a_database_that_does_not_answer_refuses_once_it_is_known(full, monkeypatch):
    monkeypatch.setattr("audit.writer.WITHIN_S", 1.0)
    monkeypatch.setattr("audit.intake.HANGS_S", 0.9)
    hangs = asyncio.Event()

    async def take_in(*_: object, **__: object) -> None:
        await hangs.wait()
        raise SequencerFailed("ended")

    real = full._sequencer.take_in
    monkeypatch.setattr(full._sequencer, "take_in", take_in)
    full.append_later(entry(0, kind="statement.completed", text=LONG))
    first = await _refused(full, entry(1, text=LONG))
    others = [await _refused(full, entry(number, text=LONG)) for number in range(2, 5)]
    monkeypatch.setattr(full._sequencer, "take_in", real)
    hangs.set()

    assert first < 5
    assert sum(others) < 0.5


async def _refused(writer: AuditWriter, asked: Entry) -> float:
    """After how many seconds it is."""
    began = time.monotonic()
    with pytest.raises(RecordUnavailable):
        await writer.append(asked)
    return time.monotonic() - began
