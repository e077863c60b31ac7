"""Checkpoints held outside the database: what makes a cut tail or a rewritten log visible.

The first anchor is an append-only file per log below `HOOPWEB_HOME/anchors`, one note after the other. Its worth grows
with its distance from the database's administrators: copy it, or keep it on storage that cannot be rewritten.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from django.conf import settings

from audit.domain.note import split_notes


def anchor_file(origin: str) -> Path:
    return Path(settings.HOOPWEB_HOME) / "anchors" / f"{origin.replace('/', '-')}.notes"


def publish(note: str, *, origin: str) -> None:
    """Append `note` to the log's anchor file, durably. Raises OSError."""
    path = anchor_file(origin)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # several processes anchor the same log
        os.write(descriptor, (note + "\n").encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def anchored(origin: str) -> list[str]:
    """Return the notes of the log's anchor file, oldest first, nothing verified."""
    try:
        return split_notes(anchor_file(origin).read_text(encoding="utf-8", errors="replace"))
    except FileNotFoundError:
        return []
