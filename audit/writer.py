"""Group commit: the asyncio door to the log, for one data-plane process.

Everything that queued while a batch was committing goes in the next one, so the price of a commit is shared by
whoever waits for it (`audit.log_commits`).

Entries of durability `os` and `disk` go to this process's journal first and are durable there (`append_now`, or
`append` and `append_soon` with one `fdatasync` for all who wait). A process of its own (`audit.sequencer`) takes them
into the log, usually within a second. What waits for what is in `audit.backlog`. When the log falls far behind, or
without a journal, all wait for the log.

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
from audit.backlog import MAX_BATCH, MAX_RUN, Backlog, Queued
from audit.domain.append import DURABILITY
from audit.domain.box import Sealer
from audit.domain.canonical import EntryRefused, canonical_text
from audit.domain.chain import Prepared, prepare
from audit.domain.damage import stops_serving
from audit.domain.entry import Answer, Entry, Receipt
from audit.domain.journaled import pack
from audit.domain.sealing import evidence_sealer
from audit.domain.state import Run, WriterState
from audit.domain.template import Filling, Template, Whole
from audit.log_commits import LogCommits
from audit.process_journal import IN_JOURNAL, ProcessJournal, open_journal
from audit.sequencer import Sequencer, SequencerFailed

logger = logging.getLogger(__name__)

# Journaled entries the log has not taken in. Past it statements wait for the log itself, which slows them to its pace.
MAX_BEHIND = 200_000
# Entries in the journal are safe and nobody waits for them: while fewer than this are behind, taking them in uses at
# most a quarter of the time, so that a burst is served first and taken into the log right after it.
SMOOTH_BEHIND = 100_000
SMOOTH_PAUSE = 3.0  # times what the last batch took
# Entries the sequencer takes in with one transaction, which holds the log's lock; fewer while others commit as well.
RUN_TRANSACTION, SHORT_TRANSACTION = 2_000, 250
# A batch nobody waits for may grow this long: entries in the journal are safe, and commits are not cheap.
GATHER_S = 0.1
GATHER_OWED_S = 0.01  # with entries in it that are nowhere else yet
MAX_QUEUED = 20_000  # entries; some 40 MB of statement text at the usual lengths
RETRY_FIRST_S = 0.1
RETRY_MOST_S = 2.0


class AuditWriter(WriterState):
    """Implements `gateway.session.services.Record`. Start inside the event loop that uses it; close when it ends."""

    def __init__(self, *, gateway_id: str = "", journal_root: Path | None = None) -> None:
        self.gateway_id = gateway_id or str(uuid.uuid4())
        self.most_behind = MAX_BEHIND
        self._gateway = canonical_text(self.gateway_id)
        self._journal_root = journal_root
        self._sealer = None
        self._journal = None
        self._sequencer: Sequencer | None = None
        self._commits = LogCommits(gateway_id=self.gateway_id, prepare=self._prepare)
        self._backlog = Backlog()
        self._urgent, self._closed = asyncio.Event(), asyncio.Event()
        self._moved = (asyncio.Event(), asyncio.Event())  # something to look at: for the commits, for the taking-in
        self._tasks = []
        self._failing = self._run_failing = False
        self._closing = False

    @property
    def healthy(self) -> bool:
        """Whether the last batch was written and there is room for more."""
        failing = self._failing or self._run_failing
        return not failing and not self._closing and self._backlog.owed < MAX_QUEUED

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
            self._journal = ProcessJournal(await self._commits.in_thread(open_journal, self._journal_root))
            self._sequencer = Sequencer(self._journal.directory)
        self._begin()

    # --- doors ---

    async def append(self, entry: Entry) -> Receipt:
        """Return when `entry` is durable. Raises RecordUnavailable or EntryRefused: no receipt, no execution."""
        receipt: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        self._accept(entry, lambda answer: resolve(receipt, answer))
        try:
            return await asyncio.wait_for(receipt, WITHIN_S)
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
        if template.durability == "disk" and not stops_serving():
            kept = append_alike(self, template, filling)
            if not kept and self._journal_can_take():
                self._journal_payload(self._spelled(template, filling))
                kept = True
            if kept:
                self._when_on_disk(answer)
                return
        self._accept(whole(), Within(answer).tell)

    def append_now(self, entry: Entry) -> Receipt | None:
        """Put an `os` entry into the journal and return; None when that is not possible (then `append` waits for it).

        Raises EntryRefused, and what the journal's file raises.
        """
        if entry.durability != "os" or stops_serving() or not self._journal_can_take():
            return None
        self._begin()
        self._journal_entry(entry)
        return IN_JOURNAL

    def append_like(self, template: Template, filling: Filling) -> Receipt | None:
        """`append_now` of an entry of this template."""
        if template.durability != "os" or stops_serving():
            return None
        if append_alike(self, template, filling):
            return IN_JOURNAL
        if not self._journal_can_take():
            return None
        self._begin()
        self._journal_payload(self._spelled(template, filling), mapped=True)
        return IN_JOURNAL

    def append_like_later(self, template: Template, filling: Filling) -> bool:
        """`append_later` of an entry of this template where a journal has it at once; False: it is not kept."""
        if append_alike(self, template, filling):
            return True
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

    def _accept(self, entry: Entry, answer: Answer) -> None:
        """Have `answer` called when `entry` is durable. Raises RecordUnavailable."""
        self._begin()
        if stops_serving():
            raise RecordUnavailable("the stored log is damaged, and HOOPWEB_ON_LOG_DAMAGE is stop")
        if entry.durability != DURABILITY and self._journaled(entry):
            if entry.durability == "disk":
                self._when_on_disk(answer)
            else:
                answer(IN_JOURNAL)
            return
        if self._closing or self._backlog.owed >= MAX_QUEUED or (self._failing and self._backlog.owes):
            raise RecordUnavailable("the audit log cannot be written now")
        self._enqueue(entry, answer)

    def _enqueue(self, entry: Entry, answer: Answer | None) -> None:
        self._backlog.enqueue(entry, answer, after=0 if self._journal is None else self._journal.end)
        if self._backlog.waiting or self._backlog.owed >= MAX_BATCH:
            self._urgent.set()
        self._moved[0].set()

    # --- the journal ---

    def _journal_can_take(self) -> bool:
        return self._journal is not None and not self._closing and self._backlog.behind < MAX_BEHIND

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
        assert self._journal is not None
        if self._backlog.journaled(self._journal.append(payload, mapped=mapped)):
            self._moved[1].set()

    def _when_on_disk(self, answer: Answer) -> None:
        assert self._journal is not None
        self._journal.when_on_disk(answer)

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
            if self._sequencer is not None:
                self._tasks.append(asyncio.create_task(self._take_in_runs(), name="audit-intake"))

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
                await _next(self._moved[0])
                continue
            await self._gather()
            batch = self._backlog.take_batch()
            try:
                await self._commits.write(batch)
                delay = RETRY_FIRST_S
                self._failing = False
            except Exception as error:  # fail closed: every waiter of the batch hears it
                self._failing = True
                self._failed(batch, error)
                await asyncio.sleep(delay)
                delay = min(2 * delay, RETRY_MOST_S)
            finally:
                self._backlog.end_batch()
                self._stir()

    async def _gather(self) -> None:
        """Let a batch grow that nobody waits for, until somebody does."""
        backlog = self._backlog
        if backlog.waiting or self._closing or backlog.owed >= MAX_BATCH or backlog.runs:
            return
        await self._unless_urgent(GATHER_OWED_S)

    # --- the journal's way into the log ---

    async def _take_in_runs(self) -> None:
        delay = RETRY_FIRST_S
        while self._backlog.runs or not self._closing:
            if not self._backlog.has_run:
                await _next(self._moved[1])
                continue
            await self._gather_run(self._backlog.runs[0])
            run = self._backlog.runs.popleft()
            try:
                await self._take_in(run)
                delay = RETRY_FIRST_S
                self._run_failing = False
            except Exception as error:  # fail closed: whoever waits for what stands behind it hears it
                self._backlog.runs.appendleft(run)
                self._run_failing = True
                self._failed([], error)
                await asyncio.sleep(delay)
                delay = min(2 * delay, RETRY_MOST_S)
            finally:
                self._stir()

    async def _gather_run(self, run: Run) -> None:
        if run.entries < MAX_RUN and not self._backlog.queue and not self._closing:
            await self._unless_urgent(GATHER_S)

    async def _take_in(self, run: Run) -> None:
        """Have the sequencer take a run of the journal into the log."""
        assert self._sequencer is not None
        assert self._journal is not None
        began = time.monotonic()
        entries = SHORT_TRANSACTION if self._backlog.commits_lately else RUN_TRANSACTION
        size = await self._sequencer.take_in(run.end, at_least=self._commits.written, transaction=entries)
        self._commits.written = max(self._commits.written, size)
        self._backlog.took_in(run)
        self._moved[0].set()
        self._journal.release(run.end)
        await self._pause(SMOOTH_PAUSE * (time.monotonic() - began))

    async def _pause(self, seconds: float) -> None:
        """Leave the machine to the sessions for a while, unless somebody waits for this or the log is far behind."""
        if self._closing or self._backlog.behind >= SMOOTH_BEHIND:
            return
        if self._backlog.is_behind:  # then nobody does: commits go beside it, and do not share the machine with it
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), seconds)
        elif not self._backlog.owed:
            await self._unless_urgent(seconds)

    # --- both ---

    async def _unless_urgent(self, seconds: float) -> None:
        self._urgent.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._urgent.wait(), seconds)

    def _stir(self) -> None:
        for moved in self._moved:
            moved.set()

    def _failed(self, batch: Sequence[Queued], error: Exception) -> None:
        logger.error("audit log not written: entries=%s error=%s", len(batch), _problem(error))
        for queued in batch:
            queued.tell(RecordUnavailable("the audit log could not be written"))
        self._backlog.owe(batch)
        # Whoever queued behind a failed batch would be told seconds later; nothing they ask for may start anyway.
        self._backlog.fail_waiters("the audit log could not be written")


def append_alike(writer: AuditWriter, template: Template, filling: Filling) -> bool:
    """The usual course of putting an entry into the journal, in one step; False: nothing was done.

    Uncompiled there is no shorter way than the ordinary one.
    """
    return False


append_alike_python = append_alike
with contextlib.suppress(ImportError):  # nobody compiled it: `gateway.protocols.postgres.compile`
    from audit.domain._fast import append_alike


def _problem(error: Exception) -> str:
    return f"sequencer {error}" if isinstance(error, SequencerFailed) else type(error).__name__


async def _next(moved: asyncio.Event) -> None:
    moved.clear()
    await moved.wait()
