"""Durability `disk` with a real journal: what a server hears of was on the disk before, on every way to it."""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from audit.domain.journal import Journal, Tail, read_records
from audit.domain.sync_thread import SyncThreadPython
from audit.live import LiveRecord
from audit.process_journal import ProcessJournal
from audit.writer import AuditWriter
from gateway.listeners import postgres_express
from gateway.protocols.postgres.frames import split_frames
from tests.gateway.listeners.harness import Gateway
from tests.gateway.listeners.raw import SYNC, RawClient, bind, describe, errors, execute, kinds, parse, query, rows
from tests.gateway.listeners.test_postgres_holding import cancel, wait_for

SSN = "select ssn from people where id = 7"
KEY, KEY_ID = bytes(32), bytes(8)
WAYS = ["interpreted", "compiled"]


class Disk:
    """A gateway whose record is a journal below `root`; `events` is what happened to the disk and was sent upstream."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.events: list[str] = []
        self.free = threading.Event()
        self.free.set()
        self.writer = AuditWriter()
        self.journal = Journal(root, journal_id="j" * 36, key=KEY, key_id=KEY_ID)
        self.writer._journal = ProcessJournal(self.journal)
        self.writer._tasks = [None]  # type: ignore[list-item]  # nobody takes it into a log
        self.writer._sealer = SimpleNamespace(  # type: ignore[assignment]
            _current=None, seal=lambda plaintext, bound_to: bound_to + plaintext
        )
        self.record: Any = LiveRecord(self.writer)
        self.gateway = Gateway(recording="metadata", durability="disk", record=self.record)

    async def client(self) -> RawClient:
        """A session in which both ways of asking are remembered."""
        raw = await RawClient.connect(self.gateway)
        for _ in range(3):
            for request in (query(SSN), extended(SSN)):
                assert rows(await raw.ask(request)) == [[b"[REDACTED]"]]
        return raw

    @property
    def sessions(self) -> list[Any]:
        return [live.kill.__self__ for live in self.gateway.registry.live()]  # type: ignore[attr-defined]

    def watch(self) -> None:
        """From here on notes what is sent to the server."""
        for session in self.sessions:
            session.upstream._transport = _Noted(session.upstream._transport, self.events)

    def sync(self, file: int) -> None:
        """What an `fdatasync` is here: slow for as long as a test wants."""
        self.free.wait(20)
        _FDATASYNC(file)
        self.events.append("synced")

    def kinds(self) -> list[bytes]:
        """Of the newest entries of statements in the journal."""
        records = read_records(self.journal.directory, key_for={KEY_ID: KEY}.get, tail=Tail())
        return [kind for record in records for kind in _KIND.findall(record.payload)]


class _Noted:
    """An upstream's transport that notes what runs the statement; parsed it may be before it is refused."""

    def __init__(self, real: Any, events: list[str]) -> None:
        self.real, self.events = real, events

    def write(self, data: bytes) -> None:
        spared = data.startswith(b"B")  # the server has its text: questions of ours bring theirs
        if (spared or b"ssn from people" in data) and any(kind in _RUNS for kind, _ in split_frames(data)):
            self.events.append("sent")
        self.real.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


_RUNS = frozenset(b"EQ")  # Execute, Query
_FDATASYNC = os.fdatasync
_KIND = re.compile(rb'"kind":"(statement\.[a-z]+)"')


def extended(text: str) -> bytes:
    return parse(text) + bind() + describe() + execute() + SYNC


@pytest.fixture(params=WAYS)
async def disk(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Disk]:
    if request.param == "interpreted":
        monkeypatch.setattr(postgres_express, "QuickLane", None)
    elif postgres_express.QuickLane is None:
        pytest.skip("nobody compiled it")
    made = Disk(tmp_path)
    await made.gateway.start()
    yield made
    made.free.set()
    await made.gateway.stop()
    await made.record.close()
    assert made.writer._journal is not None
    await made.writer._journal.close(taken_in=0)


@pytest.fixture
def slow(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Its disk can be stopped."""
    monkeypatch.setattr("audit.shared_sync.SyncThread", SyncThreadPython)
    monkeypatch.setattr(os, "fdatasync", disk.sync)
    return disk


async def stopped(disk: Disk, raw: RawClient, request: bytes) -> None:
    """`request` waits for a disk that does nothing."""
    disk.watch()
    disk.free.clear()
    disk.events.clear()
    before = len(disk.kinds())
    raw.writer.write(request)
    await wait_for(lambda: len(disk.kinds()) > before)
    await asyncio.sleep(0.05)
    assert disk.events == []
    assert disk.kinds()[-1] == b"statement.authorised"


@pytest.mark.parametrize("asked", [query, extended])
async def test_nothing_is_sent_before_its_entry_is_on_the_disk(slow: Disk, asked: Any) -> None:
    raw = await slow.client()
    await stopped(slow, raw, asked(SSN))

    slow.free.set()
    heard = await raw.until_ready()

    assert rows(heard) == [[b"[REDACTED]"]]
    assert slow.events[:2] == ["synced", "sent"]
    assert slow.kinds()[-1] == b"statement.completed"


async def test_one_sync_is_shared_by_all_who_came_before_it(slow: Disk) -> None:
    clients = [await slow.client() for _ in range(5)]
    await stopped(slow, clients[0], query(SSN))
    before = len(slow.kinds())
    for raw in clients[1:]:
        raw.writer.write(extended(SSN))
    await wait_for(lambda: len(slow.kinds()) == before + 4)

    slow.free.set()
    for raw in clients:
        assert rows(await raw.until_ready()) == [[b"[REDACTED]"]]

    # The second one begins as soon as the first has ended, whenever the loop hears of that.
    assert slow.events in (["synced", "sent", "synced", *["sent"] * 4], ["synced", "synced", *["sent"] * 5])


async def kept(disk: Disk) -> tuple[RawClient, bytes]:
    """A session that keeps a statement which is remembered, and a pipeline of five executions of it."""
    raw = await RawClient.connect(disk.gateway)
    await raw.ask(parse(SSN, "k") + SYNC)
    for _ in range(3):
        await raw.ask(bind("k") + describe() + execute() + SYNC)
    return raw, (bind("k") + describe() + execute()) * 5 + SYNC


@pytest.mark.parametrize("disk", ["compiled"], indirect=True)
async def test_one_sync_is_shared_by_a_pipeline(slow: Disk) -> None:
    raw, pipeline = await kept(slow)
    await stopped(slow, raw, pipeline)

    slow.free.set()
    heard = await raw.until_ready()

    assert rows(heard) == [[b"[REDACTED]"]] * 5
    assert slow.events[:2] == ["synced", "sent"]
    assert slow.events.count("synced") <= 2
    assert slow.events.count("sent") == 1


@pytest.mark.parametrize("disk", ["compiled"], indirect=True)
async def test_pipeline_that_is_cancelled_meanwhile_is_never_sent(slow: Disk) -> None:
    raw, pipeline = await kept(slow)
    await stopped(slow, raw, pipeline)

    await cancel(slow.gateway, raw.key)
    slow.free.set()
    heard = await raw.until_ready()

    assert [error["C"] for error in errors(heard)] == ["57014"]
    assert rows(heard) == []
    assert "sent" not in slow.events
    begun, ended = (slow.kinds().count(b"statement." + kind) for kind in (b"authorised", b"completed"))
    assert begun == ended


async def test_what_comes_meanwhile_is_served_behind_it(slow: Disk) -> None:
    raw = await slow.client()
    await stopped(slow, raw, query(SSN))
    raw.writer.write(query("select 1") + extended(SSN))
    await asyncio.sleep(0.05)

    slow.free.set()
    heard = [await raw.until_ready() for _ in range(3)]

    assert [rows(one) for one in heard] == [[[b"[REDACTED]"]], [[b"1"]], [[b"[REDACTED]"]]]


async def test_cancelled_meanwhile_it_is_never_sent(slow: Disk) -> None:
    raw = await slow.client()
    await stopped(slow, raw, query(SSN))

    await cancel(slow.gateway, raw.key)
    slow.free.set()
    heard = await raw.until_ready()

    assert [error["C"] for error in errors(heard)] == ["57014"]
    assert "sent" not in slow.events
    assert slow.kinds()[-2:] == [b"statement.authorised", b"statement.completed"]
    assert rows(await raw.ask(query(SSN))) == [[b"[REDACTED]"]]


async def test_of_a_client_that_left_meanwhile_nothing_is_sent(slow: Disk) -> None:
    raw = await slow.client()
    await stopped(slow, raw, query(SSN))
    (session,) = slow.sessions

    raw.writer.transport.abort()
    await wait_for(lambda: bool(session.reason))
    slow.free.set()
    await wait_for(lambda: not slow.sessions)

    assert "sent" not in slow.events
    assert slow.kinds()[-2:] == [b"statement.authorised", b"statement.completed"]


async def test_disk_that_failed_once_lets_nothing_through_any_more(disk: Disk) -> None:
    raw = await disk.client()
    disk.watch()
    (segment,) = disk.journal._segments
    kept = os.dup(segment.file)
    with Path(os.devnull).open("r+b") as nothing:  # takes every write, and cannot be synced
        os.dup2(nothing.fileno(), segment.file)
        first = await raw.ask(query(SSN))
        os.dup2(kept, segment.file)
        os.close(kept)

    pipeline = parse(SSN) + (bind() + describe() + execute()) * 3 + SYNC
    others = [await raw.ask(request) for request in (query(SSN), extended(SSN), query("select 1"), pipeline)]

    assert [kinds(one) for one in (first, *others)] == ["EZ", "EZ", "12TEZ", "EZ", "12TEZ"]
    assert all("audit log" in errors(one)[0]["M"] for one in (first, *others))
    assert disk.events == []
