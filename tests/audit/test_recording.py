"""Recordings: what went in comes out, in flat memory, and nothing altered, cut or moved is read back."""

from __future__ import annotations

import asyncio
import resource

import pytest
from django.db import connection

from audit.answers import RecordUnavailable
from audit.domain.box import SealProblem
from audit.domain.chunks import CHUNK_BYTES
from audit.domain.recordings import check_recording, read_recording
from audit.domain.replay import ReplayProblem, read_page
from audit.models import Recording, RecordingChunk
from audit.recording import RecordingSink
from tests.audit.test_admin import data_row, row_description

pytestmark = pytest.mark.django_db(transaction=True)


async def record(*pieces: bytes, statement: str = "a1", format: str = "pgwire") -> str:
    sink = RecordingSink()
    recording = sink.open(session_id="s1", statement_id=statement, format=format)
    for piece in pieces:
        recording.write(piece)
        if recording.behind:
            await recording.drain()
    digest = await recording.close()
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
