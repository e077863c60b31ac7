"""A report's files, kept in sealed pieces in the control database: written and read a piece at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from audit.domain.sealing import seal, unseal
from audit.models import ReportChunk, ReportFile, ReportRun

PIECE_BYTES = 256 * 1024


def store_file(run: ReportRun, path: Path) -> ReportFile:
    """Seal the file at `path` and store it under its name."""
    row = ReportFile.objects.create(run=run, name=path.name)
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as source:
        for index, piece in enumerate(iter(lambda: source.read(PIECE_BYTES), b"")):
            digest.update(piece)
            size += len(piece)
            ReportChunk.objects.create(file=row, index=index, box=seal(piece, context=_context(row, index)))
    row.bytes, row.sha256 = size, digest.hexdigest()
    row.save(update_fields=["bytes", "sha256"])
    return row


def read_file(row: ReportFile) -> Iterator[bytes]:
    """The file's bytes. Raises SealProblem when a piece was altered or moved."""
    for index, box in row.chunks.order_by("index").values_list("index", "box").iterator(4):
        yield unseal(bytes(box), context=_context(row, index))


def _context(row: ReportFile, index: int) -> str:
    return f"report {row.run_id} {row.pk} {index}"
