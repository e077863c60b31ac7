"""Storing and reading recordings: rows in the control database, chunks there or outside (audit.domain.chunk_store)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection, transaction

from audit.domain.box import SealProblem
from audit.domain.chunk_store import ChunkStore, chunk_store
from audit.domain.chunks import Chunk, open_chunk, open_salt
from audit.domain.commitment import StreamDigest
from audit.domain.sealing import evidence_sealer
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


def store_recordings(rows: Sequence[RecordingRow], chunks: Sequence[Chunk], *, store: ChunkStore | None = None) -> None:
    """Write a batch in one transaction. Writing a batch again only counts `stored_bytes` twice."""
    kept = (store or chunk_store()).put(chunks)
    began = {row.recording_id: row.created_at for row in rows}
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.executemany(_ADD_ROW, [_parameters(row) for row in rows])
        cursor.execute(
            "INSERT INTO audit_recordingchunk (recording_id, index, at, address, data) SELECT * FROM"
            " unnest(%s::text[], %s::int[], %s::timestamptz[], %s::text[], %s::bytea[]) ON CONFLICT DO NOTHING",
            [
                [chunk.recording for chunk in chunks],
                [chunk.index for chunk in chunks],
                [began[chunk.recording] for chunk in chunks],
                [chunk.address for chunk in chunks],
                kept,
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


_ADD_ROW = """
INSERT INTO audit_recording (id, session_id, statement_id, format, created_at, stored_bytes, digest, salt_box,
    plain_bytes, chunks, closed_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (id) DO UPDATE SET stored_bytes = audit_recording.stored_bytes + excluded.stored_bytes,
    digest = excluded.digest, salt_box = excluded.salt_box, plain_bytes = excluded.plain_bytes,
    chunks = excluded.chunks, closed_at = excluded.closed_at
"""


def _parameters(row: RecordingRow) -> list[Any]:
    return [
        row.recording_id, row.session_id[:64], row.statement_id[:64], row.format, row.created_at, row.stored_bytes,
        row.digest, row.salt_box, row.plain_bytes, row.chunks, row.closed_at,
    ]  # fmt: skip
