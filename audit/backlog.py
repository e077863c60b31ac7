"""What is on its way into the log, and what waits for what.

There are two ways. Entries queue for a commit of this process; what the journal has is taken in by the sequencer, a run
of it at a time. Both wait for what was there before them, so that the log has everything in the order it happened; but
when the log is behind, entries of durability `database` that somebody waits for are committed beside the taking-in.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from audit.answers import RecordUnavailable
from audit.domain.append import DURABILITY
from audit.domain.canonical import EntryRefused
from audit.domain.chain import Leaf, Prepared
from audit.domain.entry import Answer, Entry, Receipt
from audit.domain.state import BacklogState, Run

logger = logging.getLogger(__name__)

MAX_BATCH = 512
# Past it, entries that somebody waits for do not wait for journaled ones: a few hundredths of a second's work.
OVERTAKE_BEHIND = 500
# Journaled entries the sequencer is asked to take in at once: whoever queues behind waits for so many.
MAX_RUN = 2_000
SHORT_AFTER_S = 1.0


@dataclass(slots=True)
class Queued:
    """An entry on its way into the log."""

    entry: Entry
    answer: Answer | None  # None: append_later
    number: int  # of all that queued
    after: int  # the place in the journal when it queued
    prepared: Prepared | None = None
    attempt: Leaf | None = None  # the place it had in a commit that was tried

    def tell(self, answer: Receipt | Exception) -> None:
        if self.answer is not None:
            self.answer(answer)
        elif isinstance(answer, EntryRefused):
            logger.error("audit entry refused: kind=%s error=%s", self.entry.kind, answer)


class Backlog(BacklogState):
    """Used by one event loop."""

    def __init__(self) -> None:
        self.queue: deque[Queued] = deque()
        self.runs = deque()
        self.behind = 0
        self.took = 0  # journaled entries the log is known to have
        self.taken_in = 0  # the place in the journal up to which the log has it
        self.owed = 0  # queued entries that are nowhere but in this process's memory
        self.waiting = 0  # queued entries somebody waits for
        self.numbered = 0
        self._queued_at = -SHORT_AFTER_S  # when the last one did
        self._committing: Sequence[Queued] = ()

    @property
    def is_behind(self) -> bool:
        return self.behind > OVERTAKE_BEHIND

    @property
    def grown(self) -> int:
        """Entries that were ever journaled."""
        return self.behind + self.took

    @property
    def owes(self) -> bool:
        """Whether something is queued, or being committed, that happened already."""
        return self.owed > self.waiting or any(queued.answer is None for queued in self._committing)

    @property
    def commits_lately(self) -> bool:
        """Whether somebody else has wanted the log's lock within the last moment."""
        return time.monotonic() - self._queued_at < SHORT_AFTER_S

    # --- entries for a commit ---

    def enqueue(self, entry: Entry | Prepared, answer: Answer | None, *, after: int) -> None:
        """`after`: the place in the journal that stands before it."""
        self.numbered += 1
        self._queued_at = time.monotonic()
        if isinstance(entry, Prepared):
            self.queue.append(Queued(entry.entry, answer, self.numbered, after, entry))
        else:
            self.queue.append(Queued(entry, answer, self.numbered, after))
        self.owed += 1
        if answer is not None:
            self.waiting += 1

    @property
    def has_batch(self) -> bool:
        return any(map(self._may_commit, self.queue))

    def take_batch(self) -> Sequence[Queued]:
        """What may be committed now; `end_batch` when that was tried."""
        batch: list[Queued] = []
        left: list[Queued] = []
        while self.queue and len(batch) < MAX_BATCH:
            queued = self.queue.popleft()
            (batch if self._may_commit(queued) else left).append(queued)
        self.queue.extendleft(reversed(left))
        self.owed -= len(batch)
        self.waiting -= sum(queued.answer is not None for queued in batch)
        self._committing = batch
        return batch

    def end_batch(self) -> None:
        self._committing = ()

    def owe(self, batch: Sequence[Queued]) -> None:
        """Of a batch that failed: what already happened is owed, in its order, before anything newer."""
        owed = [queued for queued in batch if queued.answer is None]
        self.owed += len(owed)
        # The batch may have overtaken what is still in the queue.
        self.queue = deque(sorted([*owed, *self.queue], key=lambda queued: queued.number))

    def fail_waiters(self, reason: str) -> None:
        """Tell everybody who waits in the queue; what nobody waits for stays."""
        waiting = [queued for queued in self.queue if queued.answer is not None]
        self.queue = deque(queued for queued in self.queue if queued.answer is None)
        self.owed -= len(waiting)
        self.waiting = 0
        for queued in waiting:
            queued.tell(RecordUnavailable(reason))

    def _may_commit(self, queued: Queued) -> bool:
        """Entries wait for those that were journaled before.

        Those of durability `database` do not while somebody waits and the log is behind: nothing they follow is in a
        journal. What a journal could not have (too long, a full disk) always waits: what it follows may be there.
        """
        if queued.after <= self.taken_in:
            return True
        return self.is_behind and self.waiting > 0 and queued.entry.durability == DURABILITY

    def has_written(self, number: int) -> bool:
        """Whether all that queued up to this number is in the log."""
        return not any(queued.number <= number for queued in self._unwritten())

    def _unwritten(self) -> Iterator[Queued]:
        return chain(self._committing, self.queue)

    # --- runs of the journal ---

    def journaled(self, end: int) -> bool:
        """One more entry is in the journal, up to `end`. Says whether a run began with it."""
        self.behind += 1
        last = self.runs[-1] if self.runs else None
        if last is not None and last.entries < MAX_RUN and last.after == self.numbered:
            last.end = end
            last.entries += 1
            return False
        self.runs.append(Run(end, self.numbered))
        return True

    @property
    def has_run(self) -> bool:
        """Whether a run may be taken in: it waits for what queued before it.

        When the log is behind, not for entries of durability `database`, which are committed beside it: nothing they
        follow or precede is in a journal. What queued for want of room in the journal, it always waits for: what it
        holds may be of the same session.
        """
        if not self.runs:
            return False
        after, behind = self.runs[0].after, self.is_behind
        return not any(
            queued.number <= after and not (behind and queued.entry.durability == DURABILITY)
            for queued in self._unwritten()
        )

    def took_in(self, run: Run, *, place: int, entries: int) -> None:
        """The log has the journal up to `place` in this run, by so many more entries."""
        # A transaction whose answer was lost is in nobody's count: at the end of the run nothing of it is left.
        taken = run.entries if place >= run.end else min(entries, run.entries)
        run.entries -= taken
        self.behind -= taken
        self.took += taken
        self.taken_in = place
