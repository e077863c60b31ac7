"""Group commit: the asyncio door to the log, for one data-plane process.

Everything that queued while a batch was committing goes in the next one, so the price of a commit is shared by
whoever waits for it. Batches run one after the other in one thread with a database connection of its own.

Entries of durability `os` and `disk` go to this process's journal first and are durable there (`append_now`, or
`append` and `append_soon` with one `fdatasync` for all who wait). A process of its own (`audit.sequencer`) takes them
into the log, usually within a second. Both wait for what was there before them, so that the log has everything in the
order it happened; but when the log is behind, entries of durability `database` that somebody waits for are committed
beside the taking-in. When it falls far behind, or without a journal, all wait for the log.

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
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from django.db import connection, transaction

from audit.domain.append import DURABILITY, append_prepared, lock_head, was_appended
from audit.domain.box import Sealer
from audit.domain.canonical import EntryRefused, canonical_text
from audit.domain.chain import Leaf, Prepared, prepare
from audit.domain.damage import stops_serving
from audit.domain.entry import Answer, Entry, Receipt
from audit.domain.journal import Journal, JournalFull
from audit.domain.journaled import PURPOSE, pack
from audit.domain.liveness import liveness_key
from audit.domain.sealing import evidence_sealer
from audit.domain.template import Filling, Template, Whole
from audit.sequencer import Sequencer, SequencerFailed
from audit.shared_sync import SharedSync

T = TypeVar("T")
logger = logging.getLogger(__name__)

MAX_BATCH = 512
# Journaled entries the log has not taken in. Past it statements wait for the log itself, which slows them to its pace.
MAX_BEHIND = 200_000
# Entries in the journal are safe and nobody waits for them: while fewer than this are behind, taking them in uses at
# most a quarter of the time, so that a burst is served first and taken into the log right after it.
SMOOTH_BEHIND = 100_000
SMOOTH_PAUSE = 3.0  # times what the last batch took
# Past it, entries that somebody waits for do not wait for journaled ones: a few hundredths of a second's work.
OVERTAKE_BEHIND = 500
# Journaled entries the sequencer is asked to take in at once: whoever queues behind waits for so many.
MAX_RUN = 2_000
# Entries it takes in with one transaction, which holds the log's lock; the smaller ones while others commit as well.
RUN_TRANSACTION, SHORT_TRANSACTION = 2_000, 250
SHORT_AFTER_S = 1.0
# A batch nobody waits for may grow this long: entries in the journal are safe, and commits are not cheap.
GATHER_S = 0.1
GATHER_OWED_S = 0.01  # with entries in it that are nowhere else yet
MAX_QUEUED = 20_000  # entries; some 40 MB of statement text at the usual lengths
RETRY_FIRST_S = 0.1
RETRY_MOST_S = 2.0
# A batch that takes longer than this has lost its database: give its waiters their error.
LIMITS = "SET lock_timeout = '5s'; SET statement_timeout = '10s'; SET idle_in_transaction_session_timeout = '15s';" + (
    # Its few statements look rows up by their keys: a plan made while the tables were small must not read them whole.
    "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off"
)


# A frozen database answers nobody and breaks no connection: a client hears of it after this long.
APPEND_WITHIN_S = 10.0


class RecordUnavailable(RuntimeError):
    """The entry is not durable and its cause must not happen."""


_IN_JOURNAL, _ON_DISK = Receipt(seq=None, durability="os"), Receipt(seq=None, durability="disk")
_NOT_SYNCED = RecordUnavailable("the journal cannot be synced")


@dataclass(slots=True)
class _Queued:
    """An entry on its way into the log."""

    entry: Entry
    answer: Answer | None  # None: append_later
    number: int  # of all that queued
    after: int  # the place in the journal when it queued
    prepared: Prepared | None = None
    attempt: Leaf | None = None  # the place it had in a commit that was tried


@dataclass(slots=True)
class _Run:
    """Journaled entries, one behind the other, on their way into the log."""

    end: int  # the place in the journal after the last one
    after: int  # how many entries had queued for the log when it began
    entries: int = 1


class AuditWriter:
    """Implements `gateway.session.services.Record`. Start inside the event loop that uses it; close when it ends."""

    def __init__(self, *, gateway_id: str = "", journal_root: Path | None = None) -> None:
        self.gateway_id = gateway_id or str(uuid.uuid4())
        self._gateway = canonical_text(self.gateway_id)
        self._journal_root = journal_root
        self._sealer: Sealer | None = None  # under the keys this process began with, like its journal
        self._journal: Journal | None = None
        self._syncing: SharedSync | None = None
        self._sequencer: Sequencer | None = None
        self._making_spare: asyncio.Future[None] | None = None
        self._taken_in = 0  # the place in the journal up to which the log has it
        self._behind = 0  # journaled entries the log is not known to have
        self._owed = 0  # queued entries that are nowhere but in this process's memory
        self._waiting = 0  # queued entries somebody waits for
        self._numbered = 0  # entries that ever queued for the log
        self._direct_at = -SHORT_AFTER_S  # when the last one did
        self._committing: Sequence[_Queued] = ()
        self._queue: deque[_Queued] = deque()
        self._runs: deque[_Run] = deque()
        self._urgent, self._closed = asyncio.Event(), asyncio.Event()
        self._moved = (asyncio.Event(), asyncio.Event())  # something to look at: for the commits, for the taking-in
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="audit-writer")
        self._tasks: list[asyncio.Task[None]] = []
        self._failing = self._run_failing = False
        self._closing = False
        self._written = 0  # the log is known to hold this many entries

    @property
    def healthy(self) -> bool:
        """Whether the last batch was written and there is room for more."""
        failing = self._failing or self._run_failing
        return not failing and not self._closing and self._owed < MAX_QUEUED

    @property
    def behind(self) -> int:
        """Entries in the journal that the log is not known to have."""
        return self._behind

    @property
    def written(self) -> int:
        """The place of the newest entry this process wrote; checkpoints are due by it."""
        return self._written

    async def start(self) -> None:
        """Connect, show the other processes that this one lives, and begin. Raises when the database is not there."""
        await self._in_thread(self._connect)
        if self._journal_root is not None:
            self._journal = await self._in_thread(open_journal, self._journal_root)
            self._syncing = SharedSync(self._journal)
            self._sequencer = Sequencer(self._journal.directory)
        self._begin()

    async def append(self, entry: Entry) -> Receipt:
        """Return when `entry` is durable. Raises RecordUnavailable or EntryRefused: no receipt, no execution."""
        receipt: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        self._accept(entry, lambda answer: _resolve(receipt, answer))
        try:
            return await asyncio.wait_for(receipt, APPEND_WITHIN_S)
        except TimeoutError:
            # It may still be written when the database answers; what it would have allowed does not run.
            raise RecordUnavailable("the audit log did not answer in time") from None

    def append_soon(self, template: Template, filling: Filling, whole: Whole, answer: Answer) -> None:
        """`append` of an entry of this template (`whole` spells it the ordinary way), answered by a call.

        For what has to wait (`disk`, `database`): `answer` is called once, in a later turn of the event loop, with a
        receipt, or with why there is none and nothing may run. Raises RecordUnavailable or EntryRefused when it will
        not be called.
        """
        self._begin()
        if template.durability == "disk" and not stops_serving() and self._journal_can_take():
            self._journal_payload(self._spelled(template, filling))
            self._when_on_disk(answer)
            return
        self._accept(whole(), _Within(answer).tell)

    def _accept(self, entry: Entry, answer: Answer) -> None:
        """Have `answer` called when `entry` is durable. Raises RecordUnavailable."""
        self._begin()
        if stops_serving():
            raise RecordUnavailable("the stored log is damaged, and HOOPWEB_ON_LOG_DAMAGE is stop")
        if entry.durability != DURABILITY and self._journaled(entry):
            if entry.durability == "disk":
                self._when_on_disk(answer)
            else:
                answer(_IN_JOURNAL)
            return
        if self._closing or self._owed >= MAX_QUEUED or (self._failing and self._owes()):
            raise RecordUnavailable("the audit log cannot be written now")
        self._enqueue(entry, answer)

    def _when_on_disk(self, answer: Answer) -> None:
        assert self._syncing is not None
        self._syncing.when_reached(lambda reached: answer(_ON_DISK if reached else _NOT_SYNCED))

    def append_now(self, entry: Entry) -> Receipt | None:
        """Put an `os` entry into the journal and return; None when that is not possible (then `append` waits for it).

        Raises EntryRefused, and what the journal's file raises.
        """
        if entry.durability != "os" or stops_serving() or not self._journal_can_take():
            return None
        self._begin()
        self._journal_entry(entry)
        return _IN_JOURNAL

    def append_like(self, template: Template, filling: Filling) -> Receipt | None:
        """`append_now` of an entry of this template."""
        if template.durability != "os" or stops_serving() or not self._journal_can_take():
            return None
        self._begin()
        self._journal_payload(self._spelled(template, filling), mapped=True)
        return _IN_JOURNAL

    def append_like_later(self, template: Template, filling: Filling) -> bool:
        """`append_later` of an entry of this template where a journal has it at once; False: it is not kept."""
        if template.durability == DURABILITY or not self._journal_can_take():
            return False
        self._begin()
        self._journal_payload(self._spelled(template, filling), mapped=template.durability == "os")
        return True

    def append_later(self, entry: Entry) -> None:
        """Write `entry` with the next batch, in order, and again until it is written."""
        self._begin()
        # Not refused when the queue is full: it happened. `append` refuses first, so what can still end is bounded
        # by what is running.
        if entry.durability == DURABILITY or not self._journaled(entry):
            self._enqueue(entry, None)

    async def close(self) -> None:
        """Write what is queued, then stop. What cannot be written within a few tries is counted in the log file."""
        self._closing = True
        self._closed.set()
        self._stir()
        self._urgent.set()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=10)
            for task in late:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._tasks = []
        self._fail_waiters("the gateway is closing")
        if self._owed:
            logger.error("audit entries lost at close: entries=%s", self._owed)
        if self._sequencer is not None:
            await self._sequencer.close()
        await self._close_journal()
        await self._in_thread(_disconnect)
        self._thread.shutdown(wait=True)

    async def _close_journal(self) -> None:
        """What the log has not taken in stays for the next process to recover."""
        if self._journal is None:
            return
        if self._making_spare is not None:
            await asyncio.wait({self._making_spare})
        if self._syncing is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._syncing.close)
        self._journal.close(taken_in=self._taken_in == self._journal.end)
        self._journal = None

    # --- the journal ---

    def _journal_can_take(self) -> bool:
        return self._journal is not None and not self._closing and self._behind < MAX_BEHIND

    def _journaled(self, entry: Entry) -> bool:
        """Whether the journal has it now. What it cannot have (too long, a full disk) the log must, denials too."""
        if not self._journal_can_take():
            return False
        try:
            self._journal_entry(entry)
        except EntryRefused:
            return False  # the log says so in its turn
        except Exception as error:
            logger.error("entry not journaled: kind=%s error=%s", entry.kind, type(error).__name__)
            return False
        return True

    def _journal_entry(self, entry: Entry) -> None:
        self._journal_payload(pack(self._prepare(entry)))

    def _journal_payload(self, payload: bytes, *, mapped: bool = False) -> None:
        journal = self._journal
        assert journal is not None
        segment = journal.newest
        try:
            end = journal.append(payload, mapped=mapped)
        except JournalFull as full:
            raise RecordUnavailable("the journal is full until the log takes it in") from full
        self._behind += 1
        if journal.newest != segment and self._syncing is not None:
            self._syncing.when_reached(_told_nobody)  # a machine that stops leaves at most the newest one in pieces
        if journal.wants_spare and self._making_spare is None:
            self._making_spare = asyncio.get_running_loop().run_in_executor(None, journal.make_spare)
            self._making_spare.add_done_callback(self._spare_made)
        last = self._runs[-1] if self._runs else None
        if last is not None and last.entries < MAX_RUN and last.after == self._numbered:
            last.end = end
            last.entries += 1
            return
        self._runs.append(_Run(end, self._numbered))
        self._moved[1].set()

    def _spare_made(self, made: asyncio.Future[None]) -> None:
        self._making_spare = None
        if not made.cancelled() and (error := made.exception()) is not None:  # the journal makes it when it needs it
            logger.error("the journal's next segment was not made: error=%s", type(error).__name__)

    def _enqueue(self, entry: Entry, answer: Answer | None) -> None:
        self._numbered += 1
        self._direct_at = time.monotonic()
        self._queue.append(_Queued(entry, answer, self._numbered, 0 if self._journal is None else self._journal.end))
        self._owed += 1
        if answer is not None:
            self._waiting += 1
        if self._waiting or self._owed >= MAX_BATCH:
            self._urgent.set()
        self._moved[0].set()

    def _begin(self) -> None:
        if not self._tasks and not self._closing:
            self._tasks = [asyncio.create_task(self._commits(), name="audit-writer")]
            if self._sequencer is not None:
                self._tasks.append(asyncio.create_task(self._takes_in(), name="audit-intake"))

    def _stir(self) -> None:
        for moved in self._moved:
            moved.set()

    @property
    def _is_behind(self) -> bool:
        return self._behind > OVERTAKE_BEHIND

    # --- commits ---

    async def _commits(self) -> None:
        delay = RETRY_FIRST_S
        while self._queue or not self._closing:
            if not any(map(self._may_commit, self._queue)):
                await _next(self._moved[0])
                continue
            await self._gather()
            batch = self._committing = self._direct()
            try:
                await self._write(batch)
                delay = RETRY_FIRST_S
                self._failing = False
            except Exception as error:  # fail closed: every waiter of the batch hears it
                self._failing = True
                self._failed(batch, error)
                await asyncio.sleep(delay)
                delay = min(2 * delay, RETRY_MOST_S)
            finally:
                self._committing = ()
                self._stir()

    def _may_commit(self, queued: _Queued) -> bool:
        """Entries wait for those that were journaled before.

        Those of durability `database` do not while somebody waits and the log is behind: nothing they follow is in a
        journal. What a journal could not have (too long, a full disk) always waits: what it follows may be there.
        """
        if queued.after <= self._taken_in or self._journal is None:
            return True
        return self._is_behind and self._waiting > 0 and queued.entry.durability == DURABILITY

    async def _gather(self) -> None:
        """Let a batch grow that nobody waits for, until somebody does."""
        if self._waiting or self._closing or self._owed >= MAX_BATCH or self._runs:
            return
        await self._unless_urgent(GATHER_OWED_S)

    async def _unless_urgent(self, seconds: float) -> None:
        self._urgent.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._urgent.wait(), seconds)

    def _direct(self) -> list[_Queued]:
        batch: list[_Queued] = []
        left: list[_Queued] = []
        while self._queue and len(batch) < MAX_BATCH:
            queued = self._queue.popleft()
            (batch if self._may_commit(queued) else left).append(queued)
        self._queue.extendleft(reversed(left))
        self._owed -= len(batch)
        self._waiting -= sum(queued.answer is not None for queued in batch)
        return batch

    # --- the journal's way into the log ---

    async def _takes_in(self) -> None:
        delay = RETRY_FIRST_S
        while self._runs or not self._closing:
            if not self._runs or not self._may_take_in(self._runs[0]):
                await _next(self._moved[1])
                continue
            await self._gather_run(self._runs[0])
            run = self._runs.popleft()
            try:
                await self._take_in(run)
                delay = RETRY_FIRST_S
                self._run_failing = False
            except Exception as error:  # fail closed: whoever waits for what stands behind it hears it
                self._runs.appendleft(run)
                self._run_failing = True
                self._failed([], error)
                await asyncio.sleep(delay)
                delay = min(2 * delay, RETRY_MOST_S)
            finally:
                self._stir()

    def _may_take_in(self, run: _Run) -> bool:
        """Journaled entries wait for those that queued for the log before them, unless the log is behind."""
        oldest = next(iter(self._committing or self._queue), None)
        return oldest is None or oldest.number > run.after or self._is_behind

    async def _gather_run(self, run: _Run) -> None:
        if run.entries < MAX_RUN and not self._queue and not self._closing:
            await self._unless_urgent(GATHER_S)

    async def _take_in(self, run: _Run) -> None:
        """Have the sequencer take a run of the journal into the log."""
        assert self._sequencer is not None
        assert self._journal is not None
        began = time.monotonic()
        short = began - self._direct_at < SHORT_AFTER_S
        size = await self._sequencer.take_in(
            run.end, at_least=self._written, transaction=SHORT_TRANSACTION if short else RUN_TRANSACTION
        )
        self._written = max(self._written, size)
        self._behind -= run.entries
        self._taken_in = run.end
        self._moved[0].set()
        self._journal.release(run.end)
        await self._pause(SMOOTH_PAUSE * (time.monotonic() - began))

    async def _pause(self, seconds: float) -> None:
        """Leave the machine to the sessions for a while, unless somebody waits for this or the log is far behind."""
        if self._closing or self._behind >= SMOOTH_BEHIND:
            return
        if self._is_behind:  # then nobody does: commits go beside it, and do not share the machine with it
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), seconds)
        elif not self._owed:
            await self._unless_urgent(seconds)

    async def _write(self, batch: Sequence[_Queued]) -> None:
        results = await self._in_thread(self._commit, batch)
        for queued, result in zip(batch, results, strict=True):
            if isinstance(result, Receipt):
                self._written = max(self._written, result.seq or 0)
            _answer(queued, result)

    def _failed(self, batch: Sequence[_Queued], error: Exception) -> None:
        logger.error("audit log not written: entries=%s error=%s", len(batch), _problem(error))
        for queued in batch:
            _answer(queued, RecordUnavailable("the audit log could not be written"))
        # What already happened is owed, in its order, before anything newer.
        owed = [queued for queued in batch if queued.answer is None]
        self._owed += len(owed)
        self._queue.extendleft(reversed(owed))
        # Whoever queued behind a failed batch would be told seconds later; nothing they ask for may start anyway.
        self._fail_waiters("the audit log could not be written")

    def _fail_waiters(self, reason: str) -> None:
        waiting = [queued for queued in self._queue if queued.answer is not None]
        self._queue = deque(queued for queued in self._queue if queued.answer is None)
        self._owed -= len(waiting)
        self._waiting = 0
        for queued in waiting:
            _answer(queued, RecordUnavailable(reason))

    def _owes(self) -> bool:
        return self._owed > self._waiting

    # --- in the writer's thread ---

    async def _in_thread(self, function: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)

    def _connect(self) -> None:
        connection.ensure_connection()
        with connection.cursor() as cursor:
            cursor.execute(LIMITS)
            # Held as long as this process lives: `audit.domain.startup` asks it who is dead.
            cursor.execute("SELECT pg_advisory_lock(%s)", [liveness_key(self.gateway_id)])

    def _commit(self, batch: Sequence[_Queued]) -> list[Receipt | EntryRefused]:
        """Return an answer for each of `batch`, or raise when none of it could be written."""
        answers: dict[int, Receipt | EntryRefused] = {}
        for at, queued in enumerate(batch):
            try:
                queued.prepared = queued.prepared or self._prepare(queued.entry)
            except EntryRefused as refusal:
                answers[at] = refusal  # alone: its neighbours did nothing wrong
        try:
            self._append([(at, queued) for at, queued in enumerate(batch) if at not in answers], answers)
        except Exception:
            connection.close()
            raise
        return [answers[at] for at in range(len(batch))]

    def _append(self, batch: Sequence[tuple[int, _Queued]], answers: dict[int, Receipt | EntryRefused]) -> None:
        if connection.connection is None or connection.connection.closed:
            self._connect()
        if not any(queued.attempt for _, queued in batch):
            self._append_missing(batch, answers)
            return
        with transaction.atomic(), connection.cursor() as cursor:
            lock_head(cursor)  # a commit whose answer was lost may still be under way: it ends first
            self._append_missing(batch, answers)

    def _append_missing(self, batch: Sequence[tuple[int, _Queued]], answers: dict[int, Receipt | EntryRefused]) -> None:
        left: list[tuple[int, _Queued]] = []
        for at, queued in batch:
            # A commit whose answer was lost may have happened: never write its entries twice.
            if queued.attempt is not None and was_appended(queued.attempt):
                answers[at] = Receipt(seq=queued.attempt.seq, durability=DURABILITY)
            else:
                left.append((at, queued))

        def attempted(leaves: Sequence[Leaf]) -> None:
            for (_, queued), leaf in zip(left, leaves, strict=True):
                queued.attempt = leaf

        prepared = [queued.prepared for _, queued in left if queued.prepared is not None]
        receipts = append_prepared(prepared, at_least=self._written, attempted=attempted)
        answers.update({at: receipt for (at, _), receipt in zip(left, receipts, strict=True)})

    def _spelled(self, template: Template, filling: Filling) -> bytes:
        return template.payload(filling, gateway=self._gateway, sealer=self._sealer or self._seals())

    def _seals(self) -> Sealer:
        self._sealer = evidence_sealer()
        return self._sealer

    def _prepare(self, entry: Entry) -> Prepared:
        return prepare(entry, gateway=self.gateway_id, sealer=self._sealer or self._seals())


def open_journal(root: Path) -> Journal:
    """Begin this process's journal below `root`, chained under the newest evidence key."""
    sealer = evidence_sealer()
    key = sealer.subkey(PURPOSE)
    assert key is not None
    return Journal(root, journal_id=str(uuid.uuid4()), key=key, key_id=sealer.key_id)


def _problem(error: Exception) -> str:
    return f"sequencer {error}" if isinstance(error, SequencerFailed) else type(error).__name__


def _disconnect() -> None:
    connection.close()  # looked up in the calling thread: each has its own


def _told_nobody(_: bool) -> None:
    """Of a sync nobody waits for."""


async def _next(moved: asyncio.Event) -> None:
    moved.clear()
    await moved.wait()


class _Within:
    """Passes one answer on: the first, or that there was none in time."""

    def __init__(self, answer: Answer) -> None:
        self._answer: Answer | None = answer
        self._timer = asyncio.get_running_loop().call_later(APPEND_WITHIN_S, self.tell, _LATE)

    def tell(self, answer: Receipt | Exception) -> None:
        told, self._answer = self._answer, None
        self._timer.cancel()
        if told is not None:
            told(answer)


# The entry may still be written when the database answers; what it would have allowed does not run.
_LATE = RecordUnavailable("the audit log did not answer in time")


def _resolve(receipt: asyncio.Future[Receipt], answer: Receipt | Exception) -> None:
    if receipt.done():  # its waiter was cancelled
        return
    if isinstance(answer, Receipt):
        receipt.set_result(answer)
    else:
        receipt.set_exception(answer)


def _answer(queued: _Queued, answer: Receipt | Exception) -> None:
    if queued.answer is not None:
        queued.answer(answer)
    elif isinstance(answer, EntryRefused):
        logger.error("audit entry refused: kind=%s error=%s", queued.entry.kind, answer)
