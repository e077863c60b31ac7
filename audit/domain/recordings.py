"""Storing and reading recordings: rows in the control database, chunks there or outside (audit.domain.chunk_store)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from django.db import connection, transaction

from audit.domain import copy_rows
from audit.domain.box import Sealer, SealProblem
from audit.domain.chunk_store import ChunkStore, chunk_store
from audit.domain.chunks import Chunk, open_chunk, open_salt, seal_chunk, seal_salt
from audit.domain.commitment import StreamDigest
from audit.domain.sealing import evidence_sealer
from audit.domain.sending import copy
from audit.models import Recording


@dataclass(frozen=True, slots=True)
class RecordingRow:
    """What a batch adds to one recording; `digest` and what follows only with its last chunk."""

    recording_id: str
    session_id: str
    statement_id: str
    format: str
    created_at: datetime
    stored_bytes: int
    digest: str
    salt_box: bytes
    plain_bytes: int
    chunks: int
    closed_at: datetime | None


class SmallRecording(NamedTuple):
    """A whole result that becomes one chunk. `digest` is the commitment to `plaintext` under `salt`."""

    recording_id: str
    session_id: str
    statement_id: str
    format: str
    at_us: int
    digest: str
    salt: bytes
    plaintext: bytes


class SealedSmall(NamedTuple):
    """The same as it is stored."""

    of: SmallRecording
    chunk: Chunk
    salt_box: bytes


def seal_small(small: SmallRecording, sealer: Sealer) -> SealedSmall:
    key = small.recording_id
    chunk = seal_chunk(small.plaintext, recording=key, index=0, last=True, sealer=sealer)
    return SealedSmall(small, chunk, seal_salt(small.salt, recording=key, sealer=sealer))


def store_recordings(
    rows: Sequence[RecordingRow],
    chunks: Sequence[Chunk],
    small: Sequence[SealedSmall] = (),
    *,
    again: bool = False,
    store: ChunkStore | None = None,
) -> None:
    """Write a batch in one transaction: pieces of recordings under way, and `small` ones whole.

    `again`: it may be there already, of an attempt whose answer was lost; that only counts `stored_bytes` twice.
    """
    if again:
        rows, chunks, small = [*rows, *map(_small_row, small)], [*chunks, *(each.chunk for each in small)], ()
    keeper = store or chunk_store()
    kept, kept_small = keeper.put(chunks), keeper.put([each.chunk for each in small])
    with transaction.atomic():
        if rows:
            _add(rows, chunks, kept)
        if small:
            copy("audit_recording", _COLUMNS, map(_row_to_copy, small))
            copy("audit_recordingchunk", _CHUNK_COLUMNS, map(_chunk_to_copy, small, kept_small))


def _add(rows: Sequence[RecordingRow], chunks: Sequence[Chunk], kept: Sequence[bytes | None]) -> None:
    began = {row.recording_id: row.created_at for row in rows}
    with connection.cursor() as cursor:
        cursor.executemany(_ADD_ROW, [_parameters(row) for row in rows])
        cursor.execute(
            _ADD_CHUNKS,
            [
                [chunk.recording for chunk in chunks],
                [chunk.index for chunk in chunks],
                [began[chunk.recording] for chunk in chunks],
                [chunk.address for chunk in chunks],
                list(kept),
            ],
        )


def read_recording(recording: Recording, *, store: ChunkStore | None = None) -> Iterator[bytes]:
    """Yield the plaintext chunk by chunk. Raises SealProblem where a chunk is missing or altered, StoreUnavailable."""
    keeper, sealer = store or chunk_store(), evidence_sealer()
    index = -1
    for index, row in enumerate(recording.chunk_set.filter(at=recording.created_at).order_by("index").iterator(8)):
        if row.index != index:
            raise SealProblem(f"chunk {index} is missing")
        last = recording.closed_at is not None and index == recording.chunks - 1
        yield open_chunk(keeper.get(row), recording=recording.id, index=index, last=last, sealer=sealer)
    if recording.closed_at is not None and index + 1 != recording.chunks:
        raise SealProblem(f"the recording has {index + 1} chunks, expected {recording.chunks}")


def recording_salt(recording: Recording) -> bytes:
    """The salt that lets a reader of the plaintext check the digest in the log. Raises SealProblem."""
    return open_salt(bytes(recording.salt_box), recording=recording.id, sealer=evidence_sealer())


def check_recording(recording: Recording) -> None:
    """Raises SealProblem unless the stored recording is the one the log names."""
    digest = StreamDigest(recording_salt(recording))
    for piece in read_recording(recording):
        digest.update(piece)
    if digest.name != recording.digest:
        raise SealProblem("the recording does not have the digest it is stored under")


_COLUMNS = (
    "id, session_id, statement_id, format, created_at, stored_bytes, digest, salt_box, plain_bytes, chunks, closed_at"
)
_CHUNK_COLUMNS = "recording_id, index, at, address, data"
_ADD_ROW = f"""
INSERT INTO audit_recording ({_COLUMNS})
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (id) DO UPDATE SET stored_bytes = audit_recording.stored_bytes + excluded.stored_bytes,
    digest = excluded.digest, salt_box = excluded.salt_box, plain_bytes = excluded.plain_bytes,
    chunks = excluded.chunks, closed_at = excluded.closed_at
"""  # noqa: S608
_ADD_CHUNKS = f"""
INSERT INTO audit_recordingchunk ({_CHUNK_COLUMNS})
SELECT * FROM unnest(%s::text[], %s::int[], %s::timestamptz[], %s::text[], %s::bytea[]) ON CONFLICT DO NOTHING
"""  # noqa: S608


def _parameters(row: RecordingRow) -> list[Any]:
    return [
        row.recording_id, row.session_id[:64], row.statement_id[:64], row.format, row.created_at, row.stored_bytes,
        row.digest, row.salt_box, row.plain_bytes, row.chunks, row.closed_at,
    ]  # fmt: skip


def _small_row(small: SealedSmall) -> RecordingRow:
    of = small.of
    at = _EPOCH + timedelta(microseconds=of.at_us)
    return RecordingRow(
        recording_id=of.recording_id,
        session_id=of.session_id,
        statement_id=of.statement_id,
        format=of.format,
        created_at=at,
        stored_bytes=len(small.chunk.data),
        digest=of.digest,
        salt_box=small.salt_box,
        plain_bytes=len(of.plaintext),
        chunks=1,
        closed_at=at,
    )


_EPOCH = datetime.fromtimestamp(0, UTC)
_ROW_HEAD, _CHUNK_HEAD = copy_rows.row_head(11), copy_rows.row_head(5)
_ONE, _FIRST = copy_rows.int4(1), copy_rows.int4(0)


def _row_to_copy(small: SealedSmall) -> bytes:
    of, text, int8 = small.of, copy_rows.text, copy_rows.int8
    at = copy_rows.moment(of.at_us)
    return b"".join((
        _ROW_HEAD, text(of.recording_id), text(of.session_id[:64]), text(of.statement_id[:64]), text(of.format), at,
        int8(len(small.chunk.data)), text(of.digest), copy_rows.raw(small.salt_box), int8(len(of.plaintext)), _ONE, at,
    ))  # fmt: skip


def _chunk_to_copy(small: SealedSmall, kept: bytes | None) -> bytes:
    data = copy_rows.NULL if kept is None else copy_rows.raw(kept)
    at = copy_rows.moment(small.of.at_us)
    return b"".join((
        _CHUNK_HEAD, copy_rows.text(small.of.recording_id), _FIRST, at, copy_rows.text(small.chunk.address), data,
    ))  # fmt: skip
