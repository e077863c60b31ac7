"""Reading a journal that its process is still writing: from a place on, up to places the writer has told. No Django."""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Iterator
from pathlib import Path

from audit.domain.journal import HEADER, LENGTH, MAGIC, RECORD, JournalCorrupt, KeyFor, Record
from audit.domain.links import Links


def read_record(view: mmap.mmap, at: int, links: Links, chain: bytes, place: int) -> tuple[bytes, bytes] | None:
    """The payload of a segment's record behind the link `chain`, and its own link; None where no record begins.

    Raises JournalCorrupt, which names `place`.
    """
    length = int(LENGTH.unpack_from(view, at)[0]) if at >= 0 and at + RECORD <= len(view) else 0
    if not length:
        return None
    start, stop = at + RECORD, at + RECORD + length
    if stop > len(view):
        raise JournalCorrupt(f"no record at {place}")
    payload = view[start:stop]
    linked = links.link(chain, payload)
    if linked != view[at + LENGTH.size : start]:
        raise JournalCorrupt(f"the record at {place} was altered")
    return payload, linked


read_record_python = read_record
with contextlib.suppress(ImportError):  # nobody compiled it: `gateway.protocols.postgres.compile`
    from audit.domain._intake import read_record


class Follower:
    """Every record is checked against the chain, as after a crash: an altered one is never taken into the log."""

    def __init__(self, directory: Path, *, place: int, key_for: KeyFor) -> None:
        """Begin at `place`; what older segments still hold before it is read and passed over. Raises JournalCorrupt."""
        self._directory = directory
        self._key_for = key_for
        self._view: mmap.mmap | None = None
        self._links: Links  # of the segment that is open
        self._chain = b""
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
        links, view, place, at, chain = self._links, self._view, self.place, self._at, self._chain
        while place < until:
            assert view is not None
            found = read_record(view, at, links, chain, place)
            if found is None:  # the writer found no room here and went on in another segment
                self._open(self._directory / f"{place:016x}.journal", follows=(place, chain))
                links, view, at = self._links, self._view, self._at
                assert view is not None
                found = read_record(view, at, links, chain, place)
                if found is None:
                    raise JournalCorrupt(f"no record at {place}")
            payload, linked = found
            size = RECORD + len(payload)
            record = Record(place, place + size, payload)
            self.place, self._at, self._chain = place, at, chain = place + size, at + size, linked
            yield record

    def close(self) -> None:
        if self._view is not None:
            self._view.close()
            self._view = None

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
        self._links = Links(key)
        self.place, self._at, self._chain = int(start), HEADER.size, chain
