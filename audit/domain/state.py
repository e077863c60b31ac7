# cython: language_level=3, annotation_typing=False
"""What is looked at and changed with every entry: the fields of the writer, its backlog, its journal and templates.

Whoever owns the fields inherits from these classes and gives them their first values. Compiled (with `state.pxd`
beside it, by `gateway.protocols.postgres.compile`) they are fields of a structure, which compiled code reads without
asking the interpreter; uncompiled they are ordinary attributes. There is no second version of anything here.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    import mmap
    from collections.abc import Callable
    from pathlib import Path

    from audit.backlog import Backlog
    from audit.domain.box import Sealer
    from audit.domain.entry import Json
    from audit.domain.journal import Journal
    from audit.domain.links import Links
    from audit.process_journal import ProcessJournal
    from audit.shared_sync import SharedSync


class Run:
    """Journaled entries, one behind the other, on their way into the log."""

    end: int  # the place in the journal after the last one
    after: int  # how many entries had queued for the log when it began
    entries: int

    def __init__(self, end: int, after: int, entries: int = 1) -> None:
        self.end, self.after, self.entries = end, after, entries


class Segment:
    """One file of a journal."""

    path: Path
    file: int
    view: mmap.mmap
    start: int  # place of its first record
    end: int  # place after its last record
    named: bool  # its name is known to be on the disk

    def __init__(self, path: Path, file: int, view: mmap.mmap, start: int, end: int) -> None:
        self.path, self.file, self.view = path, file, view
        self.start, self.end, self.named = start, end, False


class JournalState:
    """Of `journal.Journal`."""

    _segments: deque[Segment]
    _segment_bytes: int
    _spare: int | None  # a file of zeros
    _links: Links
    _chain: bytes


class SyncState:
    """Of `shared_sync.SharedSync`."""

    _waiting: list[Callable[[bool], None]]
    _begun: bool  # a sync is under way, about to begin, or waits for more to share it
    _enough: int  # so many who wait are enough to begin with; 0: nobody is waited for


class HeldState:
    """Of `process_journal.ProcessJournal`."""

    journal: Journal
    _syncing: SharedSync
    _making_spare: asyncio.Future[None] | None


class BacklogState:
    """Of `backlog.Backlog`."""

    runs: deque[Run]
    behind: int  # journaled entries the log is not known to have
    numbered: int  # entries that ever queued for the log


class WriterState:
    """Of `writer.AuditWriter`."""

    most_behind: int  # how far behind the log may be for something new to begin at once
    most_kept: int  # and for what has happened already to be journaled
    _journal: ProcessJournal | None
    _sealer: Sealer | None  # under the keys this process began with, like its journal
    _backlog: Backlog
    _gateway: bytes
    _tasks: list[asyncio.Task[None]]
    _closing: bool


class LiveState:
    """Of `live.LiveRecord`."""

    _waiting: list[dict[str, Json]]
    _dropped: int


class ServingState:
    """Of `damage.Serving`."""

    stopped: bool


class TemplateState:
    """Of `template.Template`."""

    durability: str
    _body: tuple[bytes, ...]
    _session: bytes
    _around: tuple[bytes, bytes]  # (gateway, what follows the commitment there)
