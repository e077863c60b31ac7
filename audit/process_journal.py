"""A data-plane process's own journal, as its event loop uses it: appends, shared syncs, segments made ahead."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from pathlib import Path

from audit.answers import RecordUnavailable
from audit.avoidance import RETRY_S
from audit.domain.entry import Answer, Receipt
from audit.domain.journal import Journal, JournalFull
from audit.domain.journaled import PURPOSE
from audit.domain.sealing import evidence_sealer
from audit.domain.state import HeldState
from audit.shared_sync import SharedSync

logger = logging.getLogger(__name__)

IN_JOURNAL, ON_DISK = Receipt(seq=None, durability="os"), Receipt(seq=None, durability="disk")
_NOT_SYNCED = RecordUnavailable("the journal cannot be synced")


def open_journal(root: Path) -> Journal:
    """Begin this process's journal below `root`, chained under the newest evidence key."""
    sealer = evidence_sealer()
    key = sealer.subkey(PURPOSE)
    assert key is not None
    return Journal(root, journal_id=str(uuid.uuid4()), key=key, key_id=sealer.key_id)


class ProcessJournal(HeldState):
    """Made, used and closed inside one event loop. `broke` is told when its disk has failed."""

    def __init__(self, journal: Journal, *, broke: Callable[[], None] = lambda: None) -> None:
        self.journal = journal
        self._syncing = SharedSync(journal, broke=broke)
        self._making_spare: asyncio.Future[None] | None = None

    @property
    def directory(self) -> Path:
        return self.journal.directory

    @property
    def end(self) -> int:
        """The place after the newest entry."""
        return self.journal.end

    def fits(self, payload: bytes) -> bool:
        """Whether one entry may be this long."""
        return self.journal.fits(payload)

    def append(self, payload: bytes, *, mapped: bool = False) -> int:
        """Return the place after this entry, which is in the journal now. Raises RecordUnavailable when it is full."""
        journal = self.journal
        segment = journal.newest
        try:
            end = journal.append(payload, mapped=mapped)
        except JournalFull as full:
            raise RecordUnavailable("the journal is full until the log takes it in") from full
        if journal.newest != segment:
            self._syncing.when_reached(_told_nobody)  # a machine that stops leaves at most the newest one in pieces
        if journal.wants_spare and self._making_spare is None:
            self._making_spare = asyncio.get_running_loop().run_in_executor(None, journal.make_spare)
            self._making_spare.add_done_callback(self._spare_made)
        return end

    def when_on_disk(self, answer: Answer) -> None:
        """Have `answer` called when everything journaled so far is on the disk, or is known not to be."""
        self._syncing.when_reached(lambda reached: answer(ON_DISK if reached else _NOT_SYNCED))

    def release(self, end: int) -> None:
        """The log has everything up to `end`."""
        self.journal.release(end)

    async def close(self, *, taken_in: int) -> None:
        """What the log has not taken in stays for the next process to recover."""
        if self._making_spare is not None:
            await asyncio.wait({self._making_spare})
        await self._syncing.close()
        self.journal.close(taken_in=taken_in == self.journal.end)

    def _spare_made(self, made: asyncio.Future[None]) -> None:
        if not made.cancelled() and (error := made.exception()) is not None:  # the journal makes it when it needs it
            logger.error("the journal's next segment was not made: error=%s", type(error).__name__)
            asyncio.get_running_loop().call_later(RETRY_S, self._may_make_spare)
        else:
            self._may_make_spare()

    def _may_make_spare(self) -> None:
        self._making_spare = None


def _told_nobody(_: bool) -> None:
    """Of a sync nobody waits for."""
