"""Reading a journal that its process is still writing: from a place on, up to places the writer has told. No Django."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator
from pathlib import Path

from audit.domain.journal import HEADER, LENGTH, MAGIC, RECORD, JournalCorrupt, KeyFor, Record


class Follower:
    """Every record is checked against the chain, as after a crash: an altered one is never taken into the log."""

    def __init__(self, directory: Path, *, place: int, key_for: KeyFor) -> None:
        """Begin at `place`; what older segments still hold before it is read and passed over. Raises JournalCorrupt."""
        self._directory = directory
        self._key_for = key_for
        self._view: mmap.mmap | None = None
        self._keyed, self._chain = hashlib.blake2b(digest_size=16), b""
        self.place = self._at = 0
        oldest = min(directory.glob("*.journal"), default=None)
        if oldest is None:
            raise JournalCorrupt("the journal has no segment")
        self._open(oldest)
        for _ in self.records(place):
            pass
        if self.place != place:
            raise JournalCorrupt(f"no record ends at {place}")

    def records(self, until: int) -> Iterator[Record]:
        """Yield the records from here to `until`, which all have been written. Raises JournalCorrupt."""
        keyed, view, place, at, chain = self._keyed, self._view, self.place, self._at, self._chain
        while place < until:
            length = self._length(at)
            if not length:  # the writer found no room here and went on in another segment
                self._open(self._directory / f"{place:016x}.journal", follows=(place, chain))
                keyed, view, at = self._keyed, self._view, self._at
                length = self._length(at)
            assert view is not None
            start = at + RECORD
            stop = start + length
            if not length or stop > len(view):
                raise JournalCorrupt(f"no record at {place}")
            payload = view[start:stop]
            link = keyed.copy()
            link.update(chain + payload)
            linked = link.digest()
            if linked != view[at + LENGTH.size : start]:
                raise JournalCorrupt(f"the record at {place} was altered")
            end = place + RECORD + length
            record = Record(place, end, payload)
            self.place, self._at, self._chain = place, at, chain = end, stop, linked
            yield record

    def close(self) -> None:
        if self._view is not None:
            self._view.close()
            self._view = None

    def _length(self, at: int) -> int:
        view = self._view
        assert view is not None
        return int(LENGTH.unpack_from(view, at)[0]) if at + RECORD <= len(view) else 0

    def _open(self, path: Path, *, follows: tuple[int, bytes] | None = None) -> None:
        self.close()
        try:
            with path.open("rb") as file:
                self._view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError):
            raise JournalCorrupt(f"segment {path.name} cannot be read") from None
        magic, _, key_id, start, chain = HEADER.unpack_from(self._view)
        key = self._key_for(key_id) if magic == MAGIC else None
        if key is None or (follows is not None and follows != (start, chain)):
            raise JournalCorrupt(f"segment {path.name} does not follow the one before it, or has an unknown key")
        self._keyed = hashlib.blake2b(key=key, digest_size=16)  # copied for every link: the key is taken in once
        self.place, self._at, self._chain = int(start), HEADER.size, chain
