"""Checkpoints held outside the database: what makes a cut tail or a rewritten log visible.

The first anchor is an append-only file per log below `HOOPWEB_HOME/anchors`, one note after the other. Its worth grows
with its distance from the database's administrators: copy it, or keep it on storage that cannot be rewritten.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from audit.domain.note import split_notes

_BLOCK = 1 << 16  # of the file at once, from its end; twice as much where a note is longer
# A note's last signature, which no other follows.
_NOTE_ENDS = re.compile("^\u2014 [^\n]*\n(?!\u2014 )".encode(), re.MULTILINE)


def anchor_file(origin: str) -> Path:
    return Path(settings.HOOPWEB_HOME) / "anchors" / f"{origin.replace('/', '-')}.notes"


def publish(note: str, *, origin: str) -> None:
    """Append `note` to the log's anchor file, durably and whole or not at all. Raises OSError."""
    path = anchor_file(origin)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # several processes anchor the same log
        before = os.fstat(descriptor).st_size
        try:
            write_whole(descriptor, (note + "\n").encode())
        except OSError:
            os.ftruncate(descriptor, before)  # half a note would pass for a forged one, and spoil the next
            raise
    finally:
        os.close(descriptor)


def write_whole(descriptor: int, data: bytes) -> None:
    """Write all of it, durably. Raises OSError: a disk that is nearly full takes the beginning without an error."""
    while data:
        data = data[os.write(descriptor, data) :]
    os.fsync(descriptor)


def anchored(origin: str) -> list[str]:
    """Return the notes of the log's anchor file, oldest first, nothing verified."""
    try:
        return split_notes(anchor_file(origin).read_text(encoding="utf-8", errors="replace"))
    except FileNotFoundError:
        return []


@dataclass(frozen=True, slots=True)
class Anchored:
    """The log's anchor file as it was at one moment: what was published since is not in it. Nothing is verified."""

    path: Path
    size: int

    def newest_first(self) -> Iterator[str]:
        """Its notes, from the last one. Reads as much of the file's end as is asked for: it grows with every minute."""
        rest, at, block = b"", self.size, _BLOCK
        with suppress(FileNotFoundError), self.path.open("rb") as file:
            while at:
                start = max(0, at - block)
                file.seek(start)
                rest, at = file.read(at - start) + rest, start
                first = _NOTE_ENDS.search(rest, 1) if at else None  # it may begin in the middle of a line
                if at and first is None:
                    block *= 2
                    continue
                cut = first.end() if first is not None else 0
                yield from reversed(split_notes(rest[cut:].decode("utf-8", "replace")))
                rest = rest[:cut]


def anchored_now(origin: str) -> Anchored:
    """What the log's anchor file holds at this moment."""
    path = anchor_file(origin)
    try:
        return Anchored(path, path.stat().st_size)
    except FileNotFoundError:
        return Anchored(path, 0)
