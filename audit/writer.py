"""Group commit: the asyncio door to the log, for one data-plane process.

Everything that queued while a batch was committing goes in the next one, so the price of a commit is shared by
whoever waits for it (`audit.log_commits`).

Entries of durability `os` and `disk` go to this process's journal first and are durable there (`append_now`, or
`append` and `append_soon` with one `fdatasync` for all who wait). A process of its own (`audit.sequencer`) takes them
into the log, usually within a second (`audit.intake`). What waits for what is in `audit.backlog`.
When the log falls far behind, what is about to happen waits for room in the journal (`audit.room`), so that it goes at
the log's pace; for what has happened already there is a reserve. Without a journal, or where its disk is full or fails
(`audit.avoidance`), all wait for the log.

`append` is for what must be durable before something else happens: its waiter gets a receipt or an exception.
`append_later` is for what has happened already: it is kept and written again until it is durable, and as long as it is
not, `append` refuses, because a gateway that cannot record how a statement ended must not start another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from audit.answers import WITHIN_S, RecordUnavailable, Within, resolve
from audit.avoidance import Avoidance
from audit.backlog import MAX_BATCH, MAX_RUN, Backlog, Queued
from audit.domain.append import DURABILITY
from audit.domain.box import Sealer
from audit.domain.canonical import EntryRefused, canonical_text
from audit.domain.chain import Prepared, prepare
from audit.domain.damage import stops_serving
from audit.domain.entry import Answer, Entry, Receipt
from audit.domain.journal import SEGMENT_BYTES
from audit.domain.journaled import pack, unpack
from audit.domain.sealing import evidence_sealer
from audit.domain.state import Run, WriterState
from audit.domain.template import Filling, Template, Whole
from audit.intake import HUNG_S, Intake
from audit.log_commits import LogCommits
from audit.process_journal import IN_JOURNAL, ProcessJournal, open_journal
from audit.room import Room, Waiting, principal_of
from audit.sequencer import Sequencer, SequencerFailed, Taken
from audit.turns import Turns, moved, set_within

logger = logging.getLogger(__name__)

# Journaled entries the log has not taken in, and their bytes. Past them, what is about to happen waits for room.
MAX_BEHIND, MAX_BYTES_BEHIND = 200_000, 24 * SEGMENT_BYTES
# What has happened already is journaled up to here, all the same: it is bounded by what runs.
MAX_KEPT = 250_000
GATHER_S = 0.01  # so long a batch nobody waits for may grow: its entries are nowhere else yet
MAX_QUEUED = 20_000  # entries; some 40 MB of statement text at the usual lengths
RETRY_FIRST_S = 0.1
RETRY_MOST_S = 2.0
_DAMAGED = "the stored log is damaged, and HOOPWEB_ON_LOG_DAMAGE is stop"


class AuditWriter(WriterState):
    """Implements `gateway.session.services.Record`. Start inside the event loop that uses it; close when it ends."""

    def __init__(self, *, gateway_id: str = "", journal_root: Path | None = None) -> None:
        self.gateway_id = gateway_id or str(uuid.uuid4())
        self.most_behind, self.most_kept = MAX_BEHIND, MAX_KEPT
        self._gateway = canonical_text(self.gateway_id)
        self._journal_root = journal_root
        self._sealer = None
        self._journal = None
        self._sequencer: Sequencer | None = None
        self._commits = LogCommits(gateway_id=self.gateway_id, prepare=self._prepare)
        self._backlog, self._room, self._turns = Backlog(), Room(self._gate), Turns()
        self._avoidance = Avoidance(self._avoidance_changed)
        self._overflowed: int | None = None  # of what queued for want of room in the journal, the newest one's number
        self._tasks = []
        self._intake: Intake | None = None
        self._failing = self._closing = False
        self._tried_at: float | None = None  # since when a batch is under way
        self._hung = False  # the last batch that failed took its time

    @property
    def healthy(self) -> bool:
        """Whether the last batch was written, none hangs, and there is room for more."""
        failing = self._failing or (self._intake is not None and self._intake.failing)
        stands_still = self._hangs or any(task.done() for task in self._tasks)
        return not failing and not stands_still and not self._closing and self._backlog.owed < MAX_QUEUED

    @property
    def _hangs(self) -> bool:
        """Whether a batch takes so long that whoever waits for it is about to give up, and to ask again."""
        return self._tried_at is not None and time.monotonic() - self._tried_at > 0.9 * WITHIN_S

    @property
    def _keeps_failing(self) -> bool:
        """Whether who waits for the log would most likely wait in vain: it is looked at again without anybody."""
        return self._hangs or (self._failing and (self._hung or self._backlog.owes))

    @property
    def _stands_still(self) -> bool:
        """The same of what waits for the journal to be taken in before it."""
        return self._keeps_failing or (self._intake is not None and self._intake.hung)

    @property
    def behind(self) -> int:
        """Entries in the journal that the log is not known to have."""
        return self._backlog.behind

    @property
    def written(self) -> int:
        """The place of the newest entry this process wrote; checkpoints are due by it."""
        return self._commits.written

    @property
    def journal_id(self) -> str:
        """The name of this process's journal; empty without one."""
        return "" if self._journal is None else self._journal.directory.name

    async def start(self) -> None:
        """Connect, show the other processes that this one lives, and begin. Raises when the database is not there."""
        await self._commits.connect()
        if self._journal_root is not None:
            journal = await self._commits.in_thread(open_journal, self._journal_root)
            self._journal = ProcessJournal(journal, broke=self._avoidance.for_good)
            self._sequencer = Sequencer(self._journal.directory)
            self._intake = Intake(
                self._sequencer,
                backlog=self._backlog,
                room=self._room,
                commits=self._commits,
                turns=self._turns,
                scarce=self._scarce,
                took=self._took_in,
                failed=lambda error: self._failed([], error),
            )
        self._begin()

    # --- doors ---

    async def append(self, entry: Entry) -> Receipt:
        """Return when `entry` is durable. Raises RecordUnavailable or EntryRefused: no receipt, no execution."""
        receipt: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        place = self._accept(entry, lambda answer: resolve(receipt, answer))
        try:
            return await asyncio.wait_for(receipt, WITHIN_S)
        except TimeoutError:
            # It may still be written when the database answers; what it would have allowed does not run.
            raise RecordUnavailable("the audit log did not answer in time") from None
        finally:
            self._room.leave(place)  # who gave up while it waited for room leaves nothing behind

    def append_soon(self, template: Template, filling: Filling, whole: Whole, answer: Answer) -> None:
        """`append` of an entry of this template (`whole` spells it the ordinary way), answered by a call.

        For what has to wait (`disk`, `database`): `answer` is called once, in a later turn of the event loop, with a
        receipt, or with why there is none and nothing may run. Raises RecordUnavailable or EntryRefused when it will
        not be called.
        """
        self._begin()
        if template.durability == "disk" and not stops_serving():
            kept = append_alike(self, template, filling, self.most_behind)
            if not kept and self._has_room():
                kept = self._kept(self._spelled(template, filling))
            if kept:
                self._when_on_disk(answer)
                return
        within = Within(answer)
        try:
            if template.durability == DURABILITY:
                place = self._accept_like(template, filling, within.tell)
            else:
                place = self._accept(whole(), within.tell)
        except BaseException:
            within.forget()  # what is raised is the answer: a second one would run the statement again
            raise
        within.late = lambda: self._room.leave(place)

    def append_now(self, entry: Entry) -> Receipt | None:
        """Put an `os` entry into the journal and return; None when that is not possible (then `append` waits for it).

        Raises EntryRefused.
        """
        if entry.durability != "os" or stops_serving() or not self._has_room():
            return None
        self._begin()
        return IN_JOURNAL if self._kept(pack(self._prepare(entry))) else None

    def append_like(self, template: Template, filling: Filling) -> Receipt | None:
        """`append_now` of an entry of this template."""
        if template.durability != "os" or stops_serving():
            return None
        if append_alike(self, template, filling, self.most_behind):
            return IN_JOURNAL
        if not self._has_room():
            return None
        self._begin()
        return IN_JOURNAL if self._kept(self._spelled(template, filling), mapped=True) else None

    def append_like_later(self, template: Template, filling: Filling) -> bool:
        """`append_later` of an entry of this template; False: it has to be spelled, and kept, the ordinary way."""
        if append_alike(self, template, filling, self.most_kept):
            return True
        if template.durability == DURABILITY:
            self._begin()
            self._enqueue(unpack(self._spelled(template, filling)), None)
            return True
        if not self._takes(self.most_kept):
            return False
        self._begin()
        return self._kept(self._spelled(template, filling), mapped=template.durability == "os")

    def append_later(self, entry: Entry) -> None:
        """Write `entry` with the next batch, in order, and again until it is written."""
        self._begin()
        if self._room.waiting and not entry.statement_id:
            self._bring_forward(entry.session_id)
        # Not refused when the queue is full: it happened. `append` refuses first, so what can still end is bounded
        # by what is running.
        if entry.durability == DURABILITY or not self._journaled(entry, self.most_kept):
            self._enqueue(entry, None)
            if entry.durability != DURABILITY and self._journal is not None:
                self._overflow()

    def _accept(self, entry: Entry, answer: Answer) -> int:
        """Have `answer` called when it is durable; returns its place in `_room`, or 0. Raises RecordUnavailable."""
        self._begin()
        _refuse_if_damaged()
        if entry.durability != DURABILITY and self._journal is not None and self._is_journaling:
            if not self._has_room():
                if self._overflowed is not None and self._stands_still:
                    raise RecordUnavailable("the audit log cannot be written now")
                payload = self._packed(entry)
                if payload is not None and self._journal.fits(payload):
                    self._turns.urgent.set()
                    who = principal_of(entry)
                    return self._room.wait(Waiting(payload, entry.durability, entry.session_id, answer, who))
            elif self._journaled(entry, self.most_behind):
                self._journal_answers(entry.durability, answer)
                return 0
        self._queue(entry, answer)
        return 0

    def _accept_like(self, template: Template, filling: Filling, answer: Answer) -> int:
        """`_accept` of an entry of durability `database` of this template."""
        self._begin()
        _refuse_if_damaged()
        self._queue(unpack(self._spelled(template, filling)), answer)
        return 0

    def _queue(self, entry: Entry | Prepared, answer: Answer) -> None:
        if self._closing or self._backlog.owed >= MAX_QUEUED or self._keeps_failing:
            raise RecordUnavailable("the audit log cannot be written now")
        waits = entry.entry if isinstance(entry, Prepared) else entry
        if waits.durability != DURABILITY and self._stands_still:
            raise RecordUnavailable("the audit log does not take in the journal now")
        self._enqueue(entry, answer)

    def _enqueue(self, entry: Entry | Prepared, answer: Answer | None) -> None:
        self._backlog.enqueue(entry, answer, after=0 if self._journal is None else self._journal.end)
        if self._backlog.waiting or self._backlog.owed >= MAX_BATCH:
            self._turns.urgent.set()
        self._turns.for_commits.set()

    # --- the journal ---

    @property
    def _is_journaling(self) -> bool:
        return self._journal is not None and not self._closing and not self._avoidance.on

    def _takes(self, most: int) -> bool:
        return self._is_journaling and self._backlog.behind < most

    def _has_room(self) -> bool:
        """Whether something new may go into the journal: nobody waits to, and the log is not too far behind."""
        return not self._room.waiting and self._may_begin()

    def _may_begin(self) -> bool:
        if self._overflowed is not None or not self._takes(MAX_BEHIND):
            return False
        assert self._journal is not None
        return self._journal.end - self._backlog.taken_in < MAX_BYTES_BEHIND

    def _journaled(self, entry: Entry, most: int) -> bool:
        """Whether the journal has it now. What it cannot have (too long, a full disk) the log must, denials too."""
        if not self._takes(most):
            return False
        try:
            return self._kept(pack(self._prepare(entry)))
        except EntryRefused:
            return False  # the log says so in its turn
        except Exception as error:
            logger.error("entry not journaled: kind=%s error=%s", entry.kind, type(error).__name__)
            return False

    def _packed(self, entry: Entry) -> bytes | None:
        try:
            return pack(self._prepare(entry))
        except EntryRefused:
            return None  # the log says so in its turn

    def _kept(self, payload: bytes, *, mapped: bool = False) -> bool:
        """Whether the journal has it now; False where its disk does not take it. Raises RecordUnavailable."""
        assert self._journal is not None
        try:
            end = self._journal.append(payload, mapped=mapped)
        except OSError as error:
            self._avoidance.for_a_while(error)
            return False
        if self._backlog.journaled(end):
            self._turns.for_intake.set()
        return True

    def _journal_answers(self, durability: str, answer: Answer) -> None:
        if durability == "disk":
            self._when_on_disk(answer)
        else:
            answer(IN_JOURNAL)

    def _when_on_disk(self, answer: Answer) -> None:
        assert self._journal is not None
        self._journal.when_on_disk(answer)

    # --- waiting for room in the journal ---

    def _gate(self) -> None:
        """Nothing new begins at once while others wait to, or before the log has what happened."""
        busy = self._avoidance.on or self._room.waiting or self._overflowed is not None
        self.most_behind = 0 if busy else MAX_BEHIND

    def _avoidance_changed(self) -> None:
        self.most_kept = 0 if self._avoidance.on else MAX_KEPT
        self._gate()
        # In a later turn: it may have begun with one of those that are being let in.
        asyncio.get_running_loop().call_soon(self._admit)

    def _admit(self) -> None:
        """Journal what waited, in its order, as far as there is room; what the journal does not take is for the log."""
        if self._room.waiting and stops_serving():
            self._room.refuse(_DAMAGED)
        while self._room.waiting and (self._avoidance.on or self._may_begin()):
            self._let_in(self._room.next())

    def _let_in(self, waiting: Waiting) -> None:
        try:
            if not self._avoidance.on and self._kept(waiting.payload):
                # In a later turn: whoever hears of it may have more to record at once, and others wait before that.
                asyncio.get_running_loop().call_soon(self._journal_answers, waiting.durability, waiting.answer)
            else:
                self._queue(unpack(waiting.payload), waiting.answer)
        except Exception as error:  # fail closed: it does not happen
            logger.error("waiting entry not recorded: error=%s", type(error).__name__)
            waiting.answer(RecordUnavailable("the audit log cannot be written"))

    def _bring_forward(self, session_id: str) -> None:
        """What is said of a session as a whole, its end above all, stands behind what it waits for."""
        for waiting in self._room.leave_session(session_id):
            if self._avoidance.on or self._takes(self.most_kept):
                self._let_in(waiting)
            else:
                waiting.answer(RecordUnavailable("the audit log is behind"))

    def _overflow(self) -> None:
        """Something that happened is in memory alone: nothing new begins before the log has it."""
        self._overflowed = self._backlog.numbered
        self._gate()

    def _written(self) -> None:
        if self._overflowed is not None and self._backlog.has_written(self._overflowed):
            self._overflowed = None
            self._gate()
            self._admit()

    def _spelled(self, template: Template, filling: Filling) -> bytes:
        return template.payload(filling, gateway=self._gateway, sealer=self._sealer or self._seals())

    def _prepare(self, entry: Entry) -> Prepared:
        return prepare(entry, gateway=self.gateway_id, sealer=self._sealer or self._seals())

    def _seals(self) -> Sealer:
        self._sealer = evidence_sealer()
        return self._sealer

    # --- beginning and ending ---

    def _begin(self) -> None:
        if not self._tasks and not self._closing:
            self._tasks = [asyncio.create_task(self._commit_batches(), name="audit-writer")]
            if self._intake is not None:
                self._tasks.append(asyncio.create_task(self._intake.run(), name="audit-intake"))

    async def close(self) -> None:
        """Write what is queued, then stop. What cannot be written within a few tries is counted in the log file."""
        self._closing = True
        self._room.refuse("the gateway is closing")
        self._turns.close()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=10)
            for task in late:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._tasks = []
        self._backlog.fail_waiters("the gateway is closing")
        if self._backlog.owed:
            logger.error("audit entries lost at close: entries=%s", self._backlog.owed)
        if self._sequencer is not None:
            await self._sequencer.close()
        if self._journal is not None:
            await self._journal.close(taken_in=self._backlog.taken_in)
            self._journal = None
        await self._commits.close()

    # --- commits ---

    async def _commit_batches(self) -> None:
        delay = RETRY_FIRST_S
        while self._backlog.queue or not self._closing:
            if not self._backlog.has_batch:
                delay = await self._wait_for_work(delay)
                continue
            await self._gather()
            batch: Sequence[Queued] = ()
            self._tried_at = time.monotonic()
            try:
                await self._commits.get_turn()
                batch = self._backlog.take_batch()
                await self._commits.write(batch)
                delay = RETRY_FIRST_S
                self._failing = False
            except Exception as error:  # fail closed: every waiter of the batch hears it
                self._failing = True
                self._hung = time.monotonic() - self._tried_at > HUNG_S
                self._failed(batch, error)
                if self._overflowed is not None:  # who waits for room waits for what could not be written now
                    self._room.refuse("the audit log could not be written")
                await asyncio.sleep(delay)
                delay = min(2 * delay, RETRY_MOST_S)
            finally:
                self._tried_at = None
                self._backlog.end_batch()
                self._written()
                self._turns.stir()

    async def _wait_for_work(self, delay: float) -> float:
        """Wait for something to commit. After a failure look meanwhile whether the log is there again.

        Who hears that this process cannot write sends it nothing any more: no commit would ever tell that it can.
        Returns after how long to look once more.
        """
        if not self._failing:
            await moved(self._turns.for_commits)
            return RETRY_FIRST_S
        self._turns.for_commits.clear()
        await set_within(self._turns.for_commits, delay)
        if not self._backlog.has_batch and not self._closing:
            try:
                await self._commits.in_thread(self._commits.look)
            except Exception as error:  # fail closed: it is not healthy before it could be
                logger.warning("audit log still not there: error=%s", type(error).__name__)
                return min(2 * delay, RETRY_MOST_S)
            self._failing = False
        return RETRY_FIRST_S

    async def _gather(self) -> None:
        """Let a batch grow that nobody waits for, until somebody does."""
        backlog = self._backlog
        if backlog.waiting or self._closing or backlog.owed >= MAX_BATCH or backlog.runs:
            return
        await self._turns.unless_urgent(GATHER_S)

    # --- the journal's way into the log ---

    def _took_in(self, run: Run, taken: Taken) -> None:
        assert self._journal is not None
        self._commits.written = max(self._commits.written, taken.size)
        self._backlog.took_in(run, place=taken.place, entries=taken.entries)
        self._admit()
        self._turns.for_commits.set()
        self._journal.release(taken.place)

    def _scarce(self) -> bool:
        """Whether somebody waits for room in the journal, or soon will."""
        return bool(self._room.waiting) or self._backlog.behind + MAX_RUN >= self.most_behind

    def _failed(self, batch: Sequence[Queued], error: Exception) -> None:
        logger.error("audit log not written: entries=%s error=%s", len(batch), _problem(error))
        for queued in batch:
            queued.tell(RecordUnavailable("the audit log could not be written"))
        self._backlog.owe(batch)
        # Whoever queued behind a failed batch would be told seconds later; nothing they ask for may start anyway.
        self._backlog.fail_waiters("the audit log could not be written")


def append_alike(writer: AuditWriter, template: Template, filling: Filling, most: int) -> bool:
    """The usual course of putting an entry into the journal, in one step; False: nothing was done.

    Not where the log is `most` entries behind. Uncompiled there is no shorter way than the ordinary one.
    """
    return False


append_alike_python = append_alike
with contextlib.suppress(ImportError):  # nobody compiled it: `gateway.protocols.postgres.compile`
    from audit.domain._fast import append_alike


def _refuse_if_damaged() -> None:
    if stops_serving():
        raise RecordUnavailable(_DAMAGED)


def _problem(error: Exception) -> str:
    return f"sequencer {error}" if isinstance(error, SequencerFailed) else type(error).__name__
