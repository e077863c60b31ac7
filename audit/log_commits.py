"""Commits to the log, one after the other, over a database connection of their own.

There are two ways. The usual batch goes with one statement from the event loop (`audit.one_trip`), behind the head that
this process last saw. Where another process appended meanwhile it is asked for the head and tried again; from then on,
as long as others append, the log is locked before a batch is made, so that it gathers while they commit and is not
outrun. The ordinary way is a transaction in a thread, which locks the log first: for the first batch, for what one
statement cannot say, for batches that were tried before, and where others were quicker over and over.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import psycopg
from django.db import connection, transaction

from audit.backlog import Queued
from audit.domain.append import DURABILITY, append_prepared, was_appended
from audit.domain.canonical import EntryRefused
from audit.domain.chain import Head, Leaf, Prepared, link
from audit.domain.entry import Entry, Receipt
from audit.domain.head import LogShrank, lock_head
from audit.domain.liveness import show_alive
from audit.domain.one_statement import fits
from audit.domain.sending import keep_plans
from audit.one_trip import OneTrip

logger = logging.getLogger(__name__)

T = TypeVar("T")
Committed = list[Receipt | EntryRefused]
Ready = tuple[int, Queued, Prepared]  # an entry of a batch: its place in it, and what the log stores of it

# A batch that takes longer than this has lost its database: give its waiters their error.
LIMITS = "SET lock_timeout = '5s'; SET statement_timeout = '10s'; SET idle_in_transaction_session_timeout = '15s';" + (
    # Its few statements look rows up by their keys: a plan made while the tables were small must not read them whole.
    "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;"
    # They are the same every time: planned once, and never worth compiling.
    "SET plan_cache_mode = force_generic_plan; SET jit = off"
)
# So often one statement is tried behind a head that others move meanwhile; then the log is locked.
TRIES = 4


class LogCommits:
    """`prepare` makes of an entry what the log stores; it may raise EntryRefused."""

    def __init__(self, *, gateway_id: str, prepare: Callable[[Entry], Prepared]) -> None:
        self.written = 0  # the log is known to hold this many entries
        self._gateway_id = gateway_id
        self._prepare = prepare
        self._trip: OneTrip | None = None
        self._head: Head | None = None  # of the log, as this process last left or read it
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="audit-writer")

    async def connect(self) -> None:
        """Connect, and show the other processes that this one lives."""
        await self.in_thread(self._connect)

    async def get_turn(self) -> None:
        """Where others append as well, lock the log before a batch is made: it gathers while one waits for them.

        `write` is what has to come next.
        """
        trip = self._trip
        if trip is None or not trip.is_usable or not trip.has_rivals:
            return
        async with self._given_up_on_trouble():
            self._head = await trip.lock(self._head)

    async def write(self, batch: Sequence[Queued]) -> None:
        """Commit and answer each of `batch`, or raise when none of it could be written."""
        try:
            results = await self._at_once(batch)
        finally:
            await self._leave_turn()
        if results is None:
            results = await self.in_thread(self.commit, batch)
        for queued, result in zip(batch, results, strict=True):
            if isinstance(result, Receipt):
                self.written = max(self.written, result.seq or 0)
            queued.tell(result)

    async def close(self) -> None:
        await self.in_thread(_disconnect)
        self._thread.shutdown(wait=True)

    async def in_thread(self, function: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)

    # --- with one statement ---

    async def _at_once(self, batch: Sequence[Queued]) -> Committed | None:
        """Commit from the event loop. None: nothing was written, and the ordinary way has to be gone."""
        trip = self._trip
        if trip is None or self._head is None or not trip.is_usable:
            return None
        if any(queued.attempt is not None for queued in batch):
            return None  # it may be in the log, or yet get there: only who has locked it can tell
        answers, left = self._made_ready(batch)
        if not fits([prepared for _, _, prepared in left]):
            return None
        async with self._given_up_on_trouble():
            leaves = await self._behind_head(trip, left) if left else []
        if leaves is None:
            return None
        receipts = [Receipt(seq=leaf.seq, durability=DURABILITY) for leaf in leaves]
        answers.update({at: receipt for (at, _, _), receipt in zip(left, receipts, strict=True)})
        return [answers[at] for at in range(len(batch))]

    async def _behind_head(self, trip: OneTrip, batch: Sequence[Ready]) -> Sequence[Leaf] | None:
        """Place the batch behind the head. None: others were quicker every time."""
        prepared = [item for _, _, item in batch]
        head, self._head = self._head, None
        if head is not None and head.size < self.written:
            head = await trip.head()
        for _ in range(TRIES):
            if head is None:
                return None
            if head.size < self.written:
                raise LogShrank(f"the log has {head.size} entries, expected at least {self.written}")
            leaves, after = link(head, prepared)
            _attempted(batch, leaves)
            head = await trip.append(head, after, leaves, prepared)
            if head == after:
                self._head = after
                return leaves
            _attempted(batch, None)
        return None

    async def _leave_turn(self) -> None:
        """What a batch did not need is let go."""
        trip = self._trip
        if trip is not None and trip.has_lock:
            async with self._given_up_on_trouble():
                await trip.let_go()

    @contextlib.asynccontextmanager
    async def _given_up_on_trouble(self) -> AsyncIterator[None]:
        try:
            yield
        except BaseException:
            # An answer may be under way on the connection: nobody may ask anything more on it.
            self._trip = self._head = None
            with contextlib.suppress(Exception):  # what failed is told by whoever calls this
                await self.in_thread(_disconnect)
            raise

    # --- in the thread ---

    def _connect(self) -> None:
        connection.ensure_connection()
        keep_plans()
        with connection.cursor() as cursor:
            cursor.execute(LIMITS)
        show_alive(self._gateway_id)

    def commit(self, batch: Sequence[Queued]) -> Committed:
        """Return an answer for each of `batch`, or raise when none of it could be written."""
        self._head = None
        answers, left = self._made_ready(batch)
        try:
            head = self._append(left, answers)
        except Exception:
            self._trip = None
            connection.close()
            raise
        self._lend(head)
        return [answers[at] for at in range(len(batch))]

    def look(self) -> None:
        """Return when the log could be locked and is as long as this process left it. Raises when it could not."""
        self._head = None
        try:
            if connection.connection is None or connection.connection.closed:
                self._connect()
            with transaction.atomic():
                head = lock_head()
            if head.size < self.written:
                raise LogShrank(f"the log has {head.size} entries, expected at least {self.written}")
        except Exception:
            self._trip = None
            connection.close()
            raise

    def _lend(self, head: Head | None) -> None:
        """Let the next batch go from the event loop, over this connection and behind this head."""
        self._head = head
        if self._trip is not None and self._trip.connection is connection.connection:
            return
        try:
            self._trip = OneTrip(connection.connection)
        except psycopg.Error as error:
            self._trip = None
            logger.warning("entries are committed the long way: error=%s", type(error).__name__)

    def _made_ready(self, batch: Sequence[Queued]) -> tuple[dict[int, Receipt | EntryRefused], list[Ready]]:
        """What can be written, by its place in the batch, and the refusals of what cannot."""
        refused: dict[int, Receipt | EntryRefused] = {}
        ready: list[Ready] = []
        for at, queued in enumerate(batch):
            try:
                queued.prepared = queued.prepared or self._prepare(queued.entry)
            except EntryRefused as refusal:
                refused[at] = refusal  # alone: its neighbours did nothing wrong
            else:
                ready.append((at, queued, queued.prepared))
        return refused, ready

    def _append(self, batch: Sequence[Ready], answers: dict[int, Receipt | EntryRefused]) -> Head | None:
        if connection.connection is None or connection.connection.closed:
            self._connect()
        if not any(queued.attempt for _, queued, _ in batch):
            return self._append_missing(batch, answers)
        with transaction.atomic():
            lock_head()  # a commit whose answer was lost may still be under way: it ends first
            return self._append_missing(batch, answers)

    def _append_missing(self, batch: Sequence[Ready], answers: dict[int, Receipt | EntryRefused]) -> Head | None:
        """Returns the log's head as the commit leaves it, where it is known."""
        left: list[Ready] = []
        for at, queued, prepared in batch:
            # A commit whose answer was lost may have happened: never write its entries twice.
            if queued.attempt is not None and was_appended(queued.attempt):
                answers[at] = Receipt(seq=queued.attempt.seq, durability=DURABILITY)
            else:
                left.append((at, queued, prepared))
        heads: list[Head] = []
        receipts = append_prepared(
            [prepared for _, _, prepared in left],
            at_least=self.written,
            attempted=lambda leaves: _attempted(left, leaves),
            moved=heads.append,
        )
        if len(heads) > 1:
            self._trip = None  # it was undone and tried again: psycopg then drops what is prepared, the trip's as well
        answers.update({at: receipt for (at, _, _), receipt in zip(left, receipts, strict=True)})
        return heads[-1] if heads else None


def _attempted(batch: Sequence[Ready], leaves: Sequence[Leaf] | None) -> None:
    """Note where in the log the batch may be from now on; None: it is known not to be there."""
    for number, (_, queued, _) in enumerate(batch):
        queued.attempt = None if leaves is None else leaves[number]


def _disconnect() -> None:
    connection.close()  # looked up in the calling thread: each has its own
