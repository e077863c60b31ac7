"""Recordings: what went in comes out, in flat memory, and nothing altered, cut or moved is read back."""

from __future__ import annotations

import asyncio
import resource
import threading
from typing import Any

import pytest
from django.db import connection

from audit import recording, recording_sink
from audit.answers import RecordUnavailable
from audit.domain.box import SealProblem
from audit.domain.chunks import CHUNK_BYTES
from audit.domain.recordings import check_recording, read_recording
from audit.domain.replay import ReplayProblem, read_page
from audit.models import Recording, RecordingChunk
from audit.recording_sink import RecordingSink
from tests.audit.test_admin import data_row, row_description

pytestmark = pytest.mark.django_db(transaction=True)


async def record(*pieces: bytes, statement: str = "a1", format: str = "pgwire") -> str:
    sink = RecordingSink()
    under_way = sink.open(session_id="s1", statement_id=statement, format=format)
    for piece in pieces:
        under_way.write(piece)
        if under_way.behind:
            await under_way.drain()
    digest = await under_way.close()
    await sink.close()
    return digest


@pytest.mark.parametrize("size", [1, 100, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
def test_recording_round_trips_at_every_chunk_edge(size):
    data = bytes(at * 7 % 251 for at in range(size))

    digest = asyncio.run(record(data))

    stored = Recording.objects.get(digest=digest)
    assert b"".join(read_recording(stored)) == data
    assert stored.plain_bytes == size
    check_recording(stored)


def small(sink: RecordingSink, number: int, size: int = 40) -> tuple[str, bytes]:
    data = b"%d" % number * size
    return sink.keep("s1", f"a{number}", "pgwire", data), data


@pytest.mark.parametrize("size", [1, 255, 256, 16_384])
def test_small_results_are_stored_by_the_many_beside_streamed_ones(size: int):
    async def main() -> list[tuple[str, bytes]]:
        sink = RecordingSink()
        streamed = sink.open(session_id="s1", statement_id="long", format="pgwire")
        kept = [small(sink, 1, size), small(sink, 2, size)]
        streamed.write(b"x" * CHUNK_BYTES)
        kept.append(small(sink, 3, size))
        kept.append((await streamed.close(), b"x" * CHUNK_BYTES))
        await sink.close()
        return kept

    for digest, data in asyncio.run(main()):
        stored = Recording.objects.get(digest=digest)
        assert b"".join(read_recording(stored)) == data
        assert (stored.plain_bytes, stored.session_id) == (len(data), "s1")
        assert stored.stored_bytes == sum(len(chunk.data) for chunk in stored.chunk_set.all())
        assert stored.closed_at is not None
        check_recording(stored)
    statements = Recording.objects.order_by("statement_id").values_list("statement_id", flat=True)
    assert list(statements) == ["a1", "a2", "a3", "long"]


def test_batch_whose_answer_was_lost_is_stored_once(monkeypatch: pytest.MonkeyPatch):
    """It is in the database; the worker heard of an error."""
    real, attempts = recording_sink.store_recordings, []

    def lost(*batch: object, again: bool) -> None:
        attempts.append(again)
        real(*batch, again=again)  # type: ignore[arg-type]
        if not again:
            raise ConnectionError

    monkeypatch.setattr(recording_sink, "store_recordings", lost)
    monkeypatch.setattr(recording_sink, "RETRY_S", 0.01)

    async def main() -> list[tuple[str, bytes]]:
        sink = RecordingSink()
        kept = [small(sink, number) for number in range(3)]
        await sink.close()
        return kept

    kept = asyncio.run(main())

    assert attempts == [False, True]
    assert Recording.objects.count() == RecordingChunk.objects.count() == 3
    for digest, data in kept:
        stored = Recording.objects.get(digest=digest)
        assert b"".join(read_recording(stored)) == data
        check_recording(stored)


def test_results_that_come_too_fast_wait_for_room(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recording_sink, "MAX_WAITING", 10)

    async def main() -> None:
        sink = RecordingSink()
        for number in range(10):
            assert sink.has_room
            small(sink, number)
        assert (sink.has_room, sink.crowded) == (False, True)

        await asyncio.wait_for(sink.room(), 60)

        assert (sink.has_room, sink.crowded) == (True, False)
        assert await asyncio.to_thread(Recording.objects.count) >= 5
        await sink.close()

    asyncio.run(main())
    assert Recording.objects.count() == 10


def test_session_ends_when_what_it_recorded_is_stored(monkeypatch: pytest.MonkeyPatch):
    """It is in its last sessions that a killed process's lost recordings are looked for."""
    monkeypatch.setattr(recording_sink, "RETRY_S", 0.01)
    real, broken, tries = recording_sink.store_recordings, True, threading.Event()

    def store(*batch: object, again: bool) -> None:
        tries.set()
        if broken:
            raise ConnectionError
        real(*batch, again=again)  # type: ignore[arg-type]

    monkeypatch.setattr(recording_sink, "store_recordings", store)

    async def main() -> list[str]:
        nonlocal broken
        sink, told = RecordingSink(), []
        sink.when_stored(lambda: told.append("nothing to wait for"))
        assert told == ["nothing to wait for"]
        small(sink, 1)
        sink.when_stored(lambda: told.append("one"))
        small(sink, 2)
        await asyncio.to_thread(tries.wait, 60)
        await asyncio.sleep(0.05)
        assert told == ["nothing to wait for"]
        broken = False
        async with asyncio.timeout(60):
            while len(told) < 2:
                await asyncio.sleep(0.01)
        sink.when_stored(lambda: told.append("two"))
        await sink.close()
        assert await asyncio.to_thread(Recording.objects.count) == 2
        return told

    assert asyncio.run(main()) == ["nothing to wait for", "one", "two"]


@pytest.mark.parametrize("streamed", [False, True])
def test_sealing_that_fails_once_loses_nothing(monkeypatch: pytest.MonkeyPatch, streamed: bool):
    """The worker used to end with it, and whoever waited for room waited for ever."""
    monkeypatch.setattr(recording_sink, "RETRY_S", 0.01)
    module, name = (recording, "seal_chunk") if streamed else (recording_sink, "seal_small")
    real, failed = getattr(module, name), []

    def seal(*given: Any, **named: Any) -> Any:
        if not failed:
            failed.append(True)
            raise MemoryError
        return real(*given, **named)

    monkeypatch.setattr(module, name, seal)
    data = b"x" * CHUNK_BYTES * 2

    async def main() -> str:
        sink = RecordingSink()
        if streamed:
            under_way = sink.open(session_id="s1", statement_id="a1", format="pgwire")
            under_way.write(data)
        digest = small(sink, 1)[0]
        async with asyncio.timeout(60):
            while not (failed and sink.healthy and sink.has_room and not sink._pending):
                await asyncio.sleep(0.01)
        digest = await under_way.close() if streamed else digest
        await sink.close()
        return digest

    digest = asyncio.run(main())

    assert failed
    stored = Recording.objects.get(digest=digest)
    check_recording(stored)
    assert stored.plain_bytes == (len(data) if streamed else 40)


def test_nobody_waits_for_room_where_nothing_can_be_stored(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recording_sink, "MAX_WAITING", 4)
    monkeypatch.setattr(recording_sink, "RETRY_S", 0.05)
    broken = True

    def store(*batch: object, again: bool) -> None:
        if broken:
            raise ConnectionError

    monkeypatch.setattr(recording_sink, "store_recordings", store)

    async def main() -> None:
        nonlocal broken
        sink = RecordingSink()
        for number in range(6):
            small(sink, number)

        await asyncio.wait_for(sink.room(), 60)

        assert (sink.healthy, sink.has_room, sink.crowded) == (False, False, False)
        with pytest.raises(RecordUnavailable):
            sink.open(session_id="s1", statement_id="b", format="pgwire")
        broken = False
        for _ in range(3000):
            if sink.has_room:
                break
            await asyncio.sleep(0.02)
        assert sink.healthy
        await sink.close()

    asyncio.run(main())


def test_empty_recording_leaves_nothing():
    assert asyncio.run(record()) == ""
    assert not Recording.objects.exists()


def test_the_same_result_has_another_digest_every_time():
    """An unkeyed digest of a short result could be guessed for ever; this one is salted."""
    assert asyncio.run(record(b"123-45-6789", statement="a1")) != asyncio.run(record(b"123-45-6789", statement="a2"))


def test_stored_bytes_do_not_hold_the_plaintext():
    asyncio.run(record(b"123-45-6789" * 100))

    assert all(b"123-45-6789" not in bytes(chunk.data) for chunk in RecordingChunk.objects.all())


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE audit_recordingchunk SET data = set_byte(data, 60, 1 + get_byte(data, 60) % 254) WHERE index = 1",
        "DELETE FROM audit_recordingchunk WHERE index = 1",
        "DELETE FROM audit_recordingchunk WHERE index = 2",
        "UPDATE audit_recordingchunk a SET data = b.data FROM audit_recordingchunk b WHERE a.index = 0 AND b.index = 1",
        "UPDATE audit_recording SET chunks = 2",
    ],
)
def test_damaged_recording_is_not_read_back(damage):
    asyncio.run(record(b"x" * (2 * CHUNK_BYTES + 10)))
    with connection.cursor() as cursor:
        cursor.execute(damage)

    with pytest.raises(SealProblem):
        list(read_recording(Recording.objects.get()))


def test_fifty_megabytes_in_flat_memory():
    piece = bytes(range(256)) * 256
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    digest = asyncio.run(record(*(piece for _ in range(800))))

    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    stored = Recording.objects.get(digest=digest)
    assert stored.plain_bytes == 800 * 65_536
    assert sum(len(part) for part in read_recording(stored)) == stored.plain_bytes
    assert grown_kib < 25_000


def test_a_store_that_fails_refuses_new_recordings_and_keeps_the_old():
    async def main():
        sink = RecordingSink()
        first = sink.open(session_id="s1", statement_id="a1", format="pgwire")
        first.write(b"kept")
        await asyncio.to_thread(sql, "ALTER TABLE audit_recordingchunk RENAME TO chunk_gone")
        try:
            digest = await first.close()
            for _ in range(3000):
                if not sink.healthy:
                    break
                await asyncio.sleep(0.02)
            with pytest.raises(RecordUnavailable):
                sink.open(session_id="s1", statement_id="a2", format="pgwire")
        finally:
            await asyncio.to_thread(sql, "ALTER TABLE chunk_gone RENAME TO audit_recordingchunk")
        await sink.close()
        return digest

    digest = asyncio.run(main())

    assert b"".join(read_recording(Recording.objects.get(digest=digest))) == b"kept"


def sql(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)
    connection.close()


def test_replay_pages_rows_and_shows_null_and_binary():
    frames = (
        row_description("id", "note")
        + data_row(b"1", b"a")
        + b"D\x00\x00\x00\x0e\x00\x02\xff\xff\xff\xff\xff\xff\xff\xff"
    )
    frames += data_row(b"3", b"c") + b"C\x00\x00\x00\x0dSELECT 3\x00"

    page = read_page([frames[:20], frames[20:41], frames[41:]], format="pgwire", offset=1, limit=1)

    assert [column.name for column in page.columns] == ["id", "note"]
    assert (page.rows, page.more) == (((None, None),), True)


def test_replay_reads_json_lines():
    lines = b'{"columns":[{"name":"a"}]}\n["x"]\n[nul' + b"l]\n[3]"

    page = read_page([lines[:30], lines[30:]], format="jsonl")

    assert page.rows == (("x",), (None,), ("3",))


@pytest.mark.parametrize(
    "frames", [b"D\x00\x00\x00\x00", b"T\x00\x00\x00\x06\x00\x05", b"D\x00\x00\x00\x08\x00\x03\x00\x00"]
)
def test_replay_refuses_what_is_no_result(frames):
    with pytest.raises(ReplayProblem):
        read_page([frames], format="pgwire")
