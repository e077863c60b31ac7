"""Commits to the log, one after the other in a thread with a database connection of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.db import connection, transaction

from audit.backlog import Queued
from audit.domain.append import DURABILITY, append_prepared, lock_head, was_appended
from audit.domain.canonical import EntryRefused
from audit.domain.chain import Leaf, Prepared
from audit.domain.entry import Entry, Receipt
from audit.domain.liveness import liveness_key

T = TypeVar("T")
Committed = list[Receipt | EntryRefused]

# A batch that takes longer than this has lost its database: give its waiters their error.
LIMITS = "SET lock_timeout = '5s'; SET statement_timeout = '10s'; SET idle_in_transaction_session_timeout = '15s';" + (
    # Its few statements look rows up by their keys: a plan made while the tables were small must not read them whole.
    "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off"
)


class LogCommits:
    """`prepare` makes of an entry what the log stores; it may raise EntryRefused."""

    def __init__(self, *, gateway_id: str, prepare: Callable[[Entry], Prepared]) -> None:
        self.written = 0  # the log is known to hold this many entries
        self._gateway_id = gateway_id
        self._prepare = prepare
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="audit-writer")

    async def connect(self) -> None:
        """Connect, and show the other processes that this one lives."""
        await self.in_thread(self._connect)

    async def write(self, batch: Sequence[Queued]) -> None:
        """Commit and answer each of `batch`, or raise when none of it could be written."""
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

    # --- in the thread ---

    def _connect(self) -> None:
        connection.ensure_connection()
        with connection.cursor() as cursor:
            cursor.execute(LIMITS)
            # Held as long as this process lives: `audit.domain.startup` asks it who is dead.
            cursor.execute("SELECT pg_advisory_lock(%s)", [liveness_key(self._gateway_id)])

    def commit(self, batch: Sequence[Queued]) -> Committed:
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

    def _append(self, batch: Sequence[tuple[int, Queued]], answers: dict[int, Receipt | EntryRefused]) -> None:
        if connection.connection is None or connection.connection.closed:
            self._connect()
        if not any(queued.attempt for _, queued in batch):
            self._append_missing(batch, answers)
            return
        with transaction.atomic(), connection.cursor() as cursor:
            lock_head(cursor)  # a commit whose answer was lost may still be under way: it ends first
            self._append_missing(batch, answers)

    def _append_missing(self, batch: Sequence[tuple[int, Queued]], answers: dict[int, Receipt | EntryRefused]) -> None:
        left: list[tuple[int, Queued]] = []
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
        receipts = append_prepared(prepared, at_least=self.written, attempted=attempted)
        answers.update({at: receipt for (at, _), receipt in zip(left, receipts, strict=True)})


def _disconnect() -> None:
    connection.close()  # looked up in the calling thread: each has its own
