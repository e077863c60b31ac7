"""Group commit: the asyncio door to the log, for one data-plane process.

Everything that queued while a batch was committing goes in the next one, so the price of a commit is shared by
whoever waits for it. Batches run one after the other in one thread with a database connection of its own.

`append` is for what must be durable before something else happens: its waiter gets a receipt or an exception.
`append_later` is for what has happened already: it is kept and written again until it is durable, and as long as it is
not, `append` refuses, because a gateway that cannot record how a statement ended must not start another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from django.db import connection

from audit.domain.append import DURABILITY, append_prepared, was_appended
from audit.domain.canonical import EntryRefused
from audit.domain.chain import Leaf, Prepared, prepare
from audit.domain.damage import stops_serving
from audit.domain.entry import Entry, Receipt
from audit.domain.liveness import liveness_key
from audit.domain.sealing import evidence_sealer

T = TypeVar("T")
logger = logging.getLogger(__name__)

MAX_BATCH = 512
MAX_QUEUED = 20_000  # entries; some 40 MB of statement text at the usual lengths
RETRY_FIRST_S = 0.1
RETRY_MOST_S = 2.0
# A batch that takes longer than this has lost its database: give its waiters their error.
_LIMITS = "SET lock_timeout = '5s'; SET statement_timeout = '10s'; SET idle_in_transaction_session_timeout = '15s'"


class RecordUnavailable(RuntimeError):
    """The entry is not durable and its cause must not happen."""


@dataclass(slots=True)
class _Queued:
    entry: Entry
    receipt: asyncio.Future[Receipt] | None  # None: append_later
    prepared: Prepared | None = None
    attempt: Leaf | None = None  # the place it had in a commit that was tried


class AuditWriter:
    """Implements `gateway.session.services.Record`. Start inside the event loop that uses it; close when it ends."""

    def __init__(self, *, gateway_id: str = "") -> None:
        self.gateway_id = gateway_id or str(uuid.uuid4())
        self._queue: deque[_Queued] = deque()
        self._work = asyncio.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="audit-writer")
        self._task: asyncio.Task[None] | None = None
        self._failing = False
        self._closing = False
        self._written = 0  # the log is known to hold this many entries

    @property
    def healthy(self) -> bool:
        """Whether the last batch was written and there is room for more."""
        return not self._failing and not self._closing and len(self._queue) < MAX_QUEUED

    @property
    def written(self) -> int:
        """The place of the newest entry this process wrote; checkpoints are due by it."""
        return self._written

    async def start(self) -> None:
        """Connect, show the other processes that this one lives, and begin. Raises when the database is not there."""
        await self._in_thread(self._connect)
        self._task = asyncio.create_task(self._run(), name="audit-writer")

    async def append(self, entry: Entry) -> Receipt:
        """Return when `entry` is durable. Raises RecordUnavailable or EntryRefused: no receipt, no execution."""
        self._begin()
        if stops_serving():
            raise RecordUnavailable("the stored log is damaged, and HOOPWEB_ON_LOG_DAMAGE is stop")
        if self._closing or len(self._queue) >= MAX_QUEUED or (self._failing and self._owes()):
            raise RecordUnavailable("the audit log cannot be written now")
        receipt: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        self._queue.append(_Queued(entry, receipt))
        self._work.set()
        return await receipt

    def append_later(self, entry: Entry) -> None:
        """Write `entry` with the next batch, in order, and again until it is written."""
        self._begin()
        # Not refused when the queue is full: it happened. `append` refuses first, so what can still end is bounded
        # by what is running.
        self._queue.append(_Queued(entry, None))
        self._work.set()

    async def close(self) -> None:
        """Write what is queued, then stop. What cannot be written within a few tries is counted in the log file."""
        self._closing = True
        self._work.set()
        if self._task is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._task, timeout=10)
            self._task = None
        self._fail_waiters("the gateway is closing")
        if self._queue:
            logger.error("audit entries lost at close: entries=%s", len(self._queue))
        await self._in_thread(_disconnect)
        self._thread.shutdown(wait=True)

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
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), MAX_BATCH))]
            try:
                await self._write(batch)
                delay = RETRY_FIRST_S
            except Exception as error:  # fail closed: every waiter of the batch hears it
                self._failed(batch, error)
                await asyncio.sleep(delay)
                delay = min(2 * delay, RETRY_MOST_S)

    async def _write(self, batch: Sequence[_Queued]) -> None:
        results = await self._in_thread(self._commit, batch)
        self._failing = False
        for queued, result in zip(batch, results, strict=True):
            if isinstance(result, Receipt):
                self._written = max(self._written, result.seq or 0)
            _answer(queued, result)

    def _failed(self, batch: Sequence[_Queued], error: Exception) -> None:
        self._failing = True
        logger.error("audit log not written: entries=%s error=%s", len(batch), type(error).__name__)
        for queued in batch:
            _answer(queued, RecordUnavailable("the audit log could not be written"))
        # What already happened is owed, in its order, before anything newer.
        self._queue.extendleft(reversed([queued for queued in batch if queued.receipt is None]))
        # Whoever queued behind a failed batch would be told seconds later; nothing they ask for may start anyway.
        self._fail_waiters("the audit log could not be written")

    def _fail_waiters(self, reason: str) -> None:
        waiting = [queued for queued in self._queue if queued.receipt is not None]
        self._queue = deque(queued for queued in self._queue if queued.receipt is None)
        for queued in waiting:
            _answer(queued, RecordUnavailable(reason))

    def _owes(self) -> bool:
        return any(queued.receipt is None for queued in self._queue)

    # --- in the writer's thread ---

    async def _in_thread(self, function: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)

    def _connect(self) -> None:
        connection.ensure_connection()
        with connection.cursor() as cursor:
            cursor.execute(_LIMITS)
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
