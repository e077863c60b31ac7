"""A data-plane process's own journal: entries made durable at once, before the log has taken them. No Django.

    segment  = header record*        header = magic(16) ‖ journal id(36) ‖ key id(8) ‖ start(8) ‖ chain(16)
    record   = length(4) ‖ chain(16) ‖ payload        chain = HMAC-SHA-256(previous chain ‖ payload)[:16]

An append puts a record into the page cache: it survives the process (`os`); `sync` makes it survive the machine
(`disk`). It is a write, or a copy into the mapped file where no sync follows: a third of the price, but pages that were
written to through a mapping are dearer to sync. Segments are written full of zeros before they are used, so that a sync
writes data and no metadata (no block is allocated, no extent converted); the next one is made ahead, beside the data
path (`make_spare`). A length of zero marks the end. The chain is keyed with a key derived from the evidence key: who
can write the file but has no key cannot add or change a record.

A place in a journal is an offset into the whole stream of its records. The log remembers per journal up to which place
it has taken entries in (`audit.models.JournalPosition`), in the transaction that takes them in: none twice.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import NamedTuple

from audit.domain.links import Links
from audit.domain.state import JournalState, Segment

SEGMENT_BYTES = 16 << 20
MAX_SEGMENTS = 32  # half a gigabyte that the log has not taken in: past it nothing is accepted
# Written at once at most: what a crash of the machine may leave half-written at the end.
MAX_RECORD_BYTES = 12 << 20

FAMILY = b"hoopweb journal"
MAGIC = FAMILY + b"2"  # 1 was chained with BLAKE2b
HEADER = Struct("!16s36s8sQ16s")
LENGTH = Struct("!I")
RECORD = LENGTH.size + 16
KeyFor = Callable[[bytes], bytes | None]


class JournalFull(RuntimeError):
    """The log has not taken in enough for more to be accepted."""


class JournalCorrupt(RuntimeError):
    """A record in the middle does not belong there: altered, or another key. Names the place, never the content."""


class Journal(JournalState):
    """Written by one thread; `sync` and `make_spare` may be called from others. Locks its directory while it lives."""

    def __init__(
        self, root: Path, *, journal_id: str, key: bytes, key_id: bytes, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        self.journal_id = journal_id
        self.directory = root / journal_id
        self.directory.mkdir(parents=True, mode=0o700)
        _sync_directory(root)  # or a power failure takes the directory with all that was synced in it
        self._lock = lock_journal(self.directory)
        if self._lock is None:
            raise JournalCorrupt("another process holds this journal")
        self._key_id = key_id
        self._links = Links(key)
        self._segment_bytes = segment_bytes
        self._chain = bytes(16)
        self._segments = deque()
        self._unsynced: deque[Segment] = deque()  # the oldest may hold what is not on the disk, the newest is written
        self._syncing = threading.Lock()
        self._ordered: Segment | None = None  # is being synced by who asked for it (`begin_sync`)
        self._broken = False
        self._spare = None
        self._making = threading.Lock()
        self._begin_segment(0)

    @property
    def end(self) -> int:
        return self._segments[-1].end

    @property
    def is_broken(self) -> bool:
        """Whether a sync has failed, so that none after it is believed."""
        return self._broken

    @property
    def newest(self) -> int:
        """The place where the newest segment begins."""
        return self._segments[-1].start

    def fits(self, payload: bytes) -> bool:
        """Whether one record may be this long: a longer one never finds room."""
        return RECORD + len(payload) <= self._longest

    def append(self, payload: bytes, *, mapped: bool = False) -> int:
        """Put one record behind the last; returns the place after it. It survives this process.

        `mapped`: by the mapped file, for what will not be synced soon. Raises JournalFull or OSError.
        """
        size = RECORD + len(payload)
        segment = self._segments[-1]
        at = HEADER.size + segment.end - segment.start
        if at + size + LENGTH.size > self._segment_bytes:
            segment = self._next_segment(size)
            at = HEADER.size
        chain = self._links.link(self._chain, payload)
        if mapped:
            put_record(segment.view, at, chain, payload)
        else:
            _write_whole(segment.file, LENGTH.pack(len(payload)) + chain + payload, at)
        self._chain = chain
        segment.end += size
        return segment.end

    def read(self, start: int, end: int) -> bytes:
        """The payload of the record between two places, while its segment has not been released."""
        for segment in tuple(self._segments):  # a copy: the writing thread may begin another meanwhile
            if segment.start <= start < segment.end:
                return os.pread(segment.file, end - start - RECORD, HEADER.size + start - segment.start + RECORD)
        raise JournalCorrupt(f"no record at {start}")

    def sync(self) -> None:
        """Return when everything appended before the call is on the disk.

        Raises OSError, and again for ever after: what a failed sync has lost, a later one does not report (the kernel
        takes the pages for written).
        """
        with self._syncing:
            if self._broken:
                raise OSError("an earlier sync of this journal failed")
            newest = self._unsynced[-1]
            try:
                while self._sync_oldest() is not newest:
                    self._unsynced.popleft()
            except OSError:
                self._broken = True
                raise

    def begin_sync(self) -> int | None:
        """The file whose `fdatasync` now is all that `sync` would do; None: `sync` has to be called.

        The file stays open until `end_sync`, which says what became of it, is called by the writing thread as well.
        """
        segment = self._segments[-1]
        if self._broken or len(self._unsynced) != 1 or not segment.named or self._ordered is not None:
            return None
        self._ordered = segment
        return segment.file

    def end_sync(self, *, failed: bool) -> None:
        """The `fdatasync` of what `begin_sync` named has ended. A failed one is as final as one of `sync`."""
        self._ordered = None
        self._broken |= failed

    def _sync_oldest(self) -> Segment:
        segment = self._unsynced[0]
        os.fdatasync(segment.file)
        if not segment.named:
            _sync_directory(self.directory)
            segment.named = True
        return segment

    def release(self, place: int) -> None:
        """The log has everything before `place`: segments wholly before it are not needed any more."""
        if len(self._segments) == 1 or self._segments[0].end > place or not self._syncing.acquire(blocking=False):
            return  # one that is being synced goes with the next release
        try:
            while len(self._segments) > 1 and self._segments[0].end <= place:
                if self._segments[0] is self._ordered:
                    break  # as well: whoever has its file's number may not have reached the disk with it yet
                segment = self._segments.popleft()
                if self._unsynced[0] is segment:
                    self._unsynced.popleft()
                segment.view.close()
                os.close(segment.file)
                segment.path.unlink()
        finally:
            self._syncing.release()

    @property
    def wants_spare(self) -> bool:
        """Whether the newest segment is half full and there is none to follow it."""
        newest = self._segments[-1]
        return self._spare is None and 2 * (newest.end - newest.start) > self._segment_bytes

    def make_spare(self) -> None:
        """Make the next segment's file. Takes some hundredths of a second: for another thread. Raises OSError."""
        with self._making:
            if self._spare is None:
                self._spare = self._zeros()

    def close(self, *, taken_in: bool) -> None:
        """Let go; with `taken_in` everything is in the log and the files go too."""
        self._broken = True  # nothing is synced any more: another file may get the number of one of these
        for segment in self._segments:
            segment.view.close()
        with self._making:
            for file in (*(segment.file for segment in self._segments), self._spare):
                if file is not None:
                    os.close(file)
            (self.directory / _SPARE).unlink(missing_ok=True)
        if taken_in:
            remove_journal(self.directory)
        if self._lock is not None:
            os.close(self._lock)

    @property
    def _longest(self) -> int:
        return min(MAX_RECORD_BYTES, self._segment_bytes - HEADER.size - LENGTH.size)

    def _next_segment(self, needed: int) -> Segment:
        if len(self._segments) >= MAX_SEGMENTS:
            raise JournalFull("the journal is full until the log takes it in")
        if needed > self._longest:
            raise JournalFull(f"an entry of {needed} bytes, expected no more than {MAX_RECORD_BYTES}")
        return self._begin_segment(self.end)

    def _begin_segment(self, start: int) -> Segment:
        path = self.directory / f"{start:016x}.journal"
        with self._making:  # one that is being made right now is waited for
            file, self._spare = self._zeros() if self._spare is None else self._spare, None
            try:
                header = HEADER.pack(MAGIC, self.journal_id.encode(), self._key_id, start, self._chain)
                _write_whole(file, header, 0)
                view = mmap.mmap(file, self._segment_bytes)
                (self.directory / _SPARE).rename(path)
            except BaseException:
                os.close(file)
                raise
        segment = Segment(path, file, view, start, start)
        self._segments.append(segment)
        self._unsynced.append(segment)
        return segment

    def _zeros(self) -> int:
        """A file of zeros, written: a full disk is noticed here."""
        file = os.open(self.directory / _SPARE, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.posix_fallocate(file, 0, self._segment_bytes)
            for at in range(0, self._segment_bytes, _PORTION):
                _write_whole(file, bytes(min(_PORTION, self._segment_bytes - at)), at)
            os.fsync(file)
        except BaseException:
            os.close(file)
            raise
        return file


def put_record(view: mmap.mmap, place: int, chain: bytes, payload: bytes) -> None:
    """Copy one record into a mapped segment."""
    view[place : place + RECORD + len(payload)] = LENGTH.pack(len(payload)) + chain + payload


put_record_python = put_record
with contextlib.suppress(ImportError):  # nobody compiled it: `gateway.protocols.postgres.compile`
    from audit.domain._fast import put_record

_SPARE = "spare"
_PORTION = 1 << 18


def _write_whole(file: int, data: bytes, at: int) -> None:
    written = os.pwrite(file, data, at)
    if written != len(data):
        raise OSError(f"{written} of {len(data)} bytes were written")


class Record(NamedTuple):
    start: int
    end: int
    payload: bytes


@dataclass(slots=True)
class Tail:
    """How a journal ended: `torn` bytes after the last whole record were being written when the machine stopped."""

    torn: int = 0


def read_records(directory: Path, *, key_for: KeyFor, tail: Tail) -> Iterator[Record]:
    """Yield a journal's records in order. Raises JournalCorrupt where one was altered, or a segment is missing."""
    expected: tuple[int, bytes] | None = None
    paths = sorted(directory.glob("*.journal"))
    for number, path in enumerate(paths):
        data = path.read_bytes()
        if len(data) < HEADER.size or not data[:16].strip(b"\0"):
            if number == len(paths) - 1:
                return  # made, and nothing written to it yet
            raise JournalCorrupt(f"segment {path.name} has no header")
        magic, _, key_id, start, chain = HEADER.unpack_from(data)
        if magic != MAGIC and magic.startswith(FAMILY):
            raise JournalCorrupt(f"segment {path.name} is of another version: start that over it once more")
        key = key_for(key_id) if magic == MAGIC else None
        if key is None or (expected is not None and expected != (start, chain)):
            raise JournalCorrupt(f"segment {path.name} does not follow the one before it, or has an unknown key")
        links = Links(key)
        place, at = start, HEADER.size
        while at + RECORD <= len(data) and (length := LENGTH.unpack_from(data, at)[0]):
            stop = at + RECORD + length
            payload = data[at + RECORD : stop]
            linked = links.link(chain, payload)
            if stop > len(data) or linked != data[at + 4 : at + RECORD]:
                # A length past the segment was never written, half or whole.
                if number < len(paths) - 1 or stop > len(data) or data[stop:].strip(b"\0"):
                    raise JournalCorrupt(f"the record at {place} was altered: others follow it")
                tail.torn = len(data[at:].rstrip(b"\0"))  # the last thing written; nobody was told that it is kept
                return
            yield Record(place, place + RECORD + length, payload)
            place, at, chain = place + RECORD + length, stop, linked
        tail.torn = len(data[at:].rstrip(b"\0"))  # behind a length that is not there: told
        expected = (place, chain)


def lock_journal(directory: Path) -> int | None:
    """Take a journal for this process; None when its owner lives (the kernel lets go of a dead one's lock)."""
    file = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        return None
    return file


def lock_intake(directory: Path) -> int:
    """Wait for whoever is taking this journal into the log to end, and be the one; close what is returned to let go.

    A sequencer outlives its process by the transaction it was in.
    """
    file = os.open(directory / "intake", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def remove_journal(directory: Path) -> None:
    for path in directory.glob("*.journal"):
        path.unlink()
    for name in ("lock", "intake", _SPARE):
        (directory / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        directory.rmdir()


def _sync_directory(directory: Path) -> None:
    file = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
