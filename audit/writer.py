"""Group commit: the asyncio door to the log, for one data-plane process.

Everything that queued while a batch was committing goes in the next one, so the price of a commit is shared by
whoever waits for it. Batches run one after the other in one thread with a database connection of its own.

Entries of durability `os` and `disk` go to this process's journal first and are durable there (`append_now`, or
`append` with one `fdatasync` for all who wait). A process of its own (`audit.sequencer`) takes them into the log,
usually within a second; batches alternate, so that the log has everything in the order it happened, but for entries
somebody waits for while the log is behind: those go first. When it falls far behind, or without a journal, all wait for
the log.

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
from audit.domain.canonical import EntryRefused, canonical_text
from audit.domain.chain import Leaf, Prepared, prepare
from audit.domain.damage import stops_serving
from audit.domain.entry import Entry, Receipt
from audit.domain.journal import Journal, JournalFull
from audit.domain.journaled import PURPOSE, pack
from audit.domain.liveness import liveness_key
from audit.domain.sealing import evidence_sealer
from audit.domain.template import Filling, Template
from audit.sequencer import Sequencer, SequencerFailed

T = TypeVar("T")
logger = logging.getLogger(__name__)

MAX_BATCH = 512
# Journaled entries the log has not taken in. Past it statements wait for the log itself, which slows them to its pace.
MAX_BEHIND = 200_000
# Entries in the journal are safe and nobody waits for them: while fewer than this are behind, taking them in uses at
# most a quarter of the time, so that a burst is served first and taken into the log right after it.
SMOOTH_BEHIND = 100_000
SMOOTH_PAUSE = 3.0  # times what the last batch took
# Past it, entries that somebody waits for go into the log ahead of journaled ones.
OVERTAKE_BEHIND = 4_000
# Journaled entries the sequencer is asked to take in at once: whoever queues behind waits for so many.
MAX_RUN = 2_000
# A batch nobody waits for may grow this long: entries in the journal are safe, and commits are not cheap.
GATHER_S = 0.1
GATHER_OWED_S = 0.01  # with entries in it that are nowhere else yet
MAX_QUEUED = 20_000  # entries; some 40 MB of statement text at the usual lengths
RETRY_FIRST_S = 0.1
RETRY_MOST_S = 2.0
# A batch that takes longer than this has lost its database: give its waiters their error.
LIMITS = "SET lock_timeout = '5s'; SET statement_timeout = '10s'; SET idle_in_transaction_session_timeout = '15s'"


# A frozen database answers nobody and breaks no connection: a client hears of it after this long.
APPEND_WITHIN_S = 10.0


class RecordUnavailable(RuntimeError):
    """The entry is not durable and its cause must not happen."""


_IN_JOURNAL = Receipt(seq=None, durability="os")


@dataclass(slots=True)
class _Queued:
    """An entry on its way into the log."""

    entry: Entry
    receipt: asyncio.Future[Receipt] | None  # None: append_later
    prepared: Prepared | None = None
    attempt: Leaf | None = None  # the place it had in a commit that was tried


@dataclass(slots=True)
class _Run:
    """Journaled entries, one behind the other, on their way into the log."""

    end: int  # the place in the journal after the last one
    entries: int = 1


class SharedSync:
    """One `fdatasync` for all who wait: whoever comes while one is under way shares the next."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="audit-journal")
        self._waiters: list[asyncio.Future[None]] = []
        self._task: asyncio.Task[None] | None = None

    async def reached(self) -> None:
        """Return when everything journaled so far is on the disk; raises RecordUnavailable when it is not."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="audit-journal")
        await waiter

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiters:
            waiters, self._waiters = self._waiters, []
            try:
                await loop.run_in_executor(self._thread, self._journal.sync)
            except Exception as error:  # fail closed: what may not be on the disk is not acknowledged
                logger.error("journal not synced: error=%s", type(error).__name__)
                problem: Exception | None = RecordUnavailable("the journal cannot be synced")
            else:
                problem = None
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None) if problem is None else waiter.set_exception(problem)


class AuditWriter:
    """Implements `gateway.session.services.Record`. Start inside the event loop that uses it; close when it ends."""

    def __init__(self, *, gateway_id: str = "", journal_root: Path | None = None) -> None:
        self.gateway_id = gateway_id or str(uuid.uuid4())
        self._gateway = canonical_text(self.gateway_id)
        self._journal_root = journal_root
        self._journal: Journal | None = None
        self._syncing: SharedSync | None = None
        self._sequencer: Sequencer | None = None
        self._taken_in = 0  # the place in the journal up to which the log has it
        self._behind = 0  # journaled entries the log is not known to have
        self._owed = 0  # queued entries that are nowhere but in this process's memory
        self._waiting = 0  # queued entries somebody waits for
        self._urgent = asyncio.Event()
        self._queue: deque[_Queued | _Run] = deque()
        self._work = asyncio.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="audit-writer")
        self._task: asyncio.Task[None] | None = None
        self._failing = False
        self._closing = False
        self._written = 0  # the log is known to hold this many entries

    @property
    def healthy(self) -> bool:
        """Whether the last batch was written and there is room for more."""
        return not self._failing and not self._closing and self._owed < MAX_QUEUED

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
        self._task = asyncio.create_task(self._run(), name="audit-writer")

    async def append(self, entry: Entry) -> Receipt:
        """Return when `entry` is durable. Raises RecordUnavailable or EntryRefused: no receipt, no execution."""
        self._begin()
        if stops_serving():
            raise RecordUnavailable("the stored log is damaged, and HOOPWEB_ON_LOG_DAMAGE is stop")
        if entry.durability != DURABILITY and self._journaled(entry) and self._syncing is not None:
            if entry.durability == "disk":
                await self._syncing.reached()
            return Receipt(seq=None, durability=entry.durability)
        if self._closing or self._owed >= MAX_QUEUED or (self._failing and self._owes()):
            raise RecordUnavailable("the audit log cannot be written now")
        receipt: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        self._enqueue(_Queued(entry, receipt))
        try:
            return await asyncio.wait_for(receipt, APPEND_WITHIN_S)
        except TimeoutError:
            # It may still be written when the database answers; what it would have allowed does not run.
            raise RecordUnavailable("the audit log did not answer in time") from None

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
        self._journal_payload(template.payload(filling, gateway=self._gateway, sealer=evidence_sealer()))
        return _IN_JOURNAL

    def append_later(self, entry: Entry) -> None:
        """Write `entry` with the next batch, in order, and again until it is written."""
        self._begin()
        # Not refused when the queue is full: it happened. `append` refuses first, so what can still end is bounded
        # by what is running.
        if entry.durability == DURABILITY or not self._journaled(entry):
            self._enqueue(_Queued(entry, None))

    async def close(self) -> None:
        """Write what is queued, then stop. What cannot be written within a few tries is counted in the log file."""
        self._closing = True
        self._work.set()
        self._urgent.set()
        if self._task is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._task, timeout=10)
            self._task = None
        self._fail_waiters("the gateway is closing")
        if self._owed:
            logger.error("audit entries lost at close: entries=%s", self._owed)
        if self._sequencer is not None:
            await self._sequencer.close()
        if self._journal is not None:  # what the log has not taken in stays for the next process to recover
            self._journal.close(taken_in=self._taken_in == self._journal.end)
            self._journal = None
        await self._in_thread(_disconnect)
        self._thread.shutdown(wait=True)

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

    def _journal_payload(self, payload: bytes) -> None:
        journal = self._journal
        assert journal is not None
        try:
            end = journal.append(payload)
        except JournalFull as full:
            raise RecordUnavailable("the journal is full until the log takes it in") from full
        self._behind += 1
        last = self._queue[-1] if self._queue else None
        if type(last) is _Run and last.entries < MAX_RUN:
            last.end = end
            last.entries += 1
            return
        self._queue.append(_Run(end))
        self._work.set()

    def _enqueue(self, queued: _Queued) -> None:
        self._queue.append(queued)
        self._owed += 1
        if queued.receipt is not None:
            self._waiting += 1
        if self._waiting or self._owed >= MAX_BATCH:
            self._urgent.set()
        self._work.set()

    def _begin(self) -> None:
        if self._task is None and not self._closing:
            self._task = asyncio.create_task(self._run(), name="audit-writer")

    async def _run(self) -> None:
        delay = RETRY_FIRST_S
        while self._queue or not self._closing:
            if not self._queue:
                self._work.clear()
                await self._work.wait()
                continue
            await self._gather()
            run = self._run_ahead()
            batch = self._direct() if run is None else []
            try:
                await (self._write(batch) if run is None else self._take_in(run))
                delay = RETRY_FIRST_S
                self._failing = False
            except Exception as error:  # fail closed: every waiter of the batch hears it
                if run is not None:
                    self._queue.appendleft(run)
                self._failed(batch, error)
                await asyncio.sleep(delay)
                delay = min(2 * delay, RETRY_MOST_S)

    async def _gather(self) -> None:
        """Let a batch grow that nobody waits for, until somebody does."""
        if self._waiting or self._closing or self._owed >= MAX_BATCH or len(self._queue) > 1:
            return
        first = self._queue[0]
        if isinstance(first, _Run) and first.entries >= MAX_RUN:
            return
        self._urgent.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._urgent.wait(), GATHER_OWED_S if self._owed else GATHER_S)

    def _run_ahead(self) -> _Run | None:
        first = self._queue[0]
        if not isinstance(first, _Run) or (self._waiting and self._behind > OVERTAKE_BEHIND):
            return None
        self._queue.popleft()
        return first

    def _direct(self) -> list[_Queued]:
        """The next batch of entries that are not journaled; they may overtake journaled ones while somebody waits."""
        batch: list[_Queued] = []
        passed: list[_Run] = []
        while self._queue and len(batch) < MAX_BATCH:
            queued = self._queue.popleft()
            if isinstance(queued, _Queued):
                batch.append(queued)
                continue
            passed.append(queued)
            if not (self._waiting and self._behind > OVERTAKE_BEHIND):
                break
        self._queue.extendleft(reversed(passed))
        self._owed -= len(batch)
        self._waiting -= sum(queued.receipt is not None for queued in batch)
        return batch

    async def _take_in(self, run: _Run) -> None:
        """Have the sequencer take a run of the journal into the log."""
        assert self._sequencer is not None
        assert self._journal is not None
        began = time.monotonic()
        size = await self._sequencer.take_in(run.end, at_least=self._written)
        self._written = max(self._written, size)
        self._behind -= run.entries
        self._taken_in = run.end
        self._journal.release(run.end)
        await self._pause(SMOOTH_PAUSE * (time.monotonic() - began))

    async def _pause(self, seconds: float) -> None:
        """Leave the machine to the sessions for a while, unless somebody waits or the log is far behind."""
        if self._waiting or self._owed or self._closing or self._behind >= SMOOTH_BEHIND:
            return
        self._urgent.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._urgent.wait(), seconds)

    async def _write(self, batch: Sequence[_Queued]) -> None:
        results = await self._in_thread(self._commit, batch)
        for queued, result in zip(batch, results, strict=True):
            if isinstance(result, Receipt):
                self._written = max(self._written, result.seq or 0)
            _answer(queued, result)

    def _failed(self, batch: Sequence[_Queued], error: Exception) -> None:
        self._failing = True
        logger.error("audit log not written: entries=%s error=%s", len(batch), _problem(error))
        for queued in batch:
            _answer(queued, RecordUnavailable("the audit log could not be written"))
        # What already happened is owed, in its order, before anything newer.
        owed = [queued for queued in batch if queued.receipt is None]
        self._owed += len(owed)
        self._queue.extendleft(reversed(owed))
        # Whoever queued behind a failed batch would be told seconds later; nothing they ask for may start anyway.
        self._fail_waiters("the audit log could not be written")

    def _fail_waiters(self, reason: str) -> None:
        waiting = [queued for queued in self._queue if isinstance(queued, _Queued) and queued.receipt is not None]
        gone = set(map(id, waiting))
        self._queue = deque(queued for queued in self._queue if id(queued) not in gone)
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

    def _prepare(self, entry: Entry) -> Prepared:
        return prepare(entry, gateway=self.gateway_id, sealer=evidence_sealer())


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


def _answer(queued: _Queued, answer: Receipt | Exception) -> None:
    if queued.receipt is None:
        if isinstance(answer, EntryRefused):
            logger.error("audit entry refused: kind=%s error=%s", queued.entry.kind, answer)
        return
    if queued.receipt.done():  # its waiter was cancelled
        return
    if isinstance(answer, Receipt):
        queued.receipt.set_result(answer)
    else:
        queued.receipt.set_exception(answer)
